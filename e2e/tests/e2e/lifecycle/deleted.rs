//! Whole tenants that are deleted while others, or they themselves, are busy.

use super::leftovers;
use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, Kind, NAMESPACE, SECRET, SERVICE},
    make,
    read::{name, uid},
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant},
    wait::{PODS, SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Requests at a time.
const AT_ONCE: usize = 16;
/// Of each kind.
const COUNT: usize = 100;
const KINDS: [Kind; 3] = [CONFIG_MAP, SECRET, SERVICE];

/// All ConfigMaps and Secrets go down.
fn spec() -> Value {
    let all = |resource: &str| json!({"resource": resource, "objects": "All"});
    json!({"sync": {"toSuper": [all("configmaps"), all("secrets")]}})
}

fn object(kind: Kind, number: usize) -> Value {
    let name = format!("same-{number}");
    if kind == SERVICE {
        let ports = json!([{"port": 80}]);
        return json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": ports}});
    }
    let mut object = make::config_map(&name, "k", "v");
    object["data"]["k"] = "dg==".into();
    object
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_that_is_deleted_takes_nothing_of_one_with_the_same_300_names() {
    run(async || {
        let (goes, stays) = (make::unique("e2e-goes"), make::unique("e2e-stays"));
        Tenant::within(&stays, spec(), async |stays| {
            Tenant::within(&goes, spec(), async |goes| {
                let left = fill(stays).await?;
                fill(goes).await?;
                let before = twins(&left).await?;
                goes.delete().await?;
                eventually(PODS, "nothing of the tenant is left", async || {
                    let left = leftovers(&goes.above, goes).await?;
                    ensure!(left.is_empty(), "{left:?}");
                    Ok(())
                })
                .await?;
                let after = twins(&left).await?;
                ensure!(after == before, "{before:?}\n{after:?}");
                // It is served as before.
                left.create(CONFIG_MAP, make::config_map("after", "k", "v"))
                    .await?;
                left.twin(CONFIG_MAP, "after").await.map(drop)
            })
            .await
        })
        .await
    });
}

/// A namespace with all of them, once they are in the super cluster.
async fn fill(tenant: &Tenant) -> anyhow::Result<Space> {
    let space = Space::open(tenant.clone(), "work").await?;
    let all = KINDS
        .iter()
        .flat_map(|kind| (0..COUNT).map(|number| (*kind, number)));
    let made = stream::iter(all).map(|(kind, number)| space.create(kind, object(kind, number)));
    made.buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    eventually(PODS, "all are in the super cluster", async || {
        let there = twins(&space).await?.len();
        ensure!(there == KINDS.len() * COUNT, "{there}");
        Ok(())
    })
    .await?;
    Ok(space)
}

/// UIDs of the super objects, by kind and name.
async fn twins(space: &Space) -> anyhow::Result<BTreeMap<(&'static str, String), String>> {
    let selector = format!("{}={}", keys::TENANT, space.tenant.id);
    let mut twins = BTreeMap::new();
    for kind in KINDS {
        let all = space.above().list(kind, &space.twin, &selector).await?;
        let same = all.iter().filter(|twin| name(twin).starts_with("same-"));
        twins.extend(same.map(|twin| ((kind.name, name(twin).to_owned()), uid(twin).to_owned())));
    }
    Ok(twins)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f14_a_tenant_that_is_deleted_in_a_burst_leaves_no_super_namespace_after_two_minutes() {
    run(async || {
        let name = make::unique("e2e-burst");
        Tenant::within(&name, spec(), deleted_in_a_burst).await
    });
}

async fn deleted_in_a_burst(tenant: &Tenant) -> anyhow::Result<()> {
    let mut spaces = vec![];
    for number in 0..4 {
        spaces.push(Space::open(tenant.clone(), &format!("burst-{number}")).await?);
    }
    let made = AtomicUsize::new(0);
    let (spaces, made) = (&spaces, &made);
    let burst = async {
        let all = stream::iter(0..1_000_usize);
        all.for_each_concurrent(AT_ONCE, |number| async move {
            let space = &spaces[number % spaces.len()];
            // Sooner or later there is no API server any more.
            if space
                .create(CONFIG_MAP, object(CONFIG_MAP, number))
                .await
                .is_ok()
            {
                made.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;
        pending().await
    };
    let end = async {
        eventually(SOON, "the burst is under way", async || {
            let made = made.load(Ordering::Relaxed);
            ensure!(made >= 300, "{made}");
            Ok(())
        })
        .await?;
        let above = &tenant.above;
        above
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
            .await?;
        let selector = format!("{}={}", keys::TENANT, tenant.id);
        let limit = Duration::from_secs(120);
        eventually(limit, "its super namespaces are gone", async || {
            let left = above.list(NAMESPACE, "", &selector).await?;
            let left: Vec<&str> = left.iter().map(name).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    };
    tokio::select! {
        ended = end => ended,
        never = burst => never,
    }?;
    eventually(PODS, "nothing of the tenant is left", async || {
        let vcp = tenant
            .above
            .find(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name);
        ensure!(vcp.await?.is_none(), "it is there");
        let left = leftovers(&tenant.above, tenant).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
