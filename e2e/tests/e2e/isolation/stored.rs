//! T40, T43: what a tenant keeps in its own etcd is limited where it can't reach it.

use anyhow::{Context, ensure};
use e2e::{
    kind::{
        CLASS, CONFIG_MAP, CONTROL_PLANE, CONTROLLER_REVISION, DEPLOYMENT, NAMESPACE, SECRET,
        STATEFUL_SET,
    },
    make,
    read::{condition, items, text},
    side::{Problem, Side},
    space::run,
    tenant::{A, NAMESPACE_OF_TESTS, Tenant, super_cluster},
    wait::{PODS, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const CLASS_NAME: &str = "e2e-stored";
const NAME: &str = "e2e-stored";
/// ConfigMaps that the tenant may have; a new one has some ten.
const MOST: usize = 40;
/// It makes so many more than it has.
const MADE: usize = 60;
/// Mebibytes that its etcd may hold.
const SIZE: usize = 48;

fn map(number: usize) -> Value {
    let mut map = make::config_map(&format!("m{number}"), "k", "v");
    map["metadata"]["namespace"] = "default".into();
    map
}

/// Waits until the VirtualControlPlane says whether there is room, and why.
async fn says(tenant: &Tenant, status: &str, words: &str) -> anyhow::Result<()> {
    eventually(PODS, &format!("it is told: {words}"), async || {
        said(tenant, status, words).await
    })
    .await
}

async fn said(tenant: &Tenant, status: &str, words: &str) -> anyhow::Result<()> {
    let vcp = tenant
        .above
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
        .await?;
    let conditions = vcp["status"]["conditions"].to_string();
    ensure!(
        condition(&vcp, "StoredWithinLimits") == status && conditions.contains(words),
        "{conditions}"
    );
    Ok(())
}

/// Fills the tenant's etcd, whose objects are counted in `made`; the refusal at its end.
async fn fill(side: &Side, made: &AtomicUsize) -> anyhow::Result<Problem> {
    while made.load(Ordering::Relaxed) < 4 * SIZE {
        let number = made.fetch_add(1, Ordering::Relaxed);
        // Random, so that it takes what it says however it is stored.
        let noise: Vec<u32> = (0..60_000).map(|_| rand::random()).collect();
        let metadata = json!({"name": format!("large{number}"), "namespace": "default"});
        let revision = json!({"metadata": metadata, "revision": 1, "data": {"noise": noise}});
        if let Err(problem) = side.create(CONTROLLER_REVISION, revision).await {
            return Ok(problem);
        }
    }
    anyhow::bail!("the tenant's etcd takes all that it is given")
}

#[test]
fn t43_a_tenant_that_nobody_limited_has_an_end_for_what_it_could_take_from_others() {
    run(async || {
        let tenant = A.get().await?;
        let class = tenant.above.get(CLASS, "", "default").await?;
        eventually(PODS, "it is told how much it may have", async || {
            let vcp = tenant
                .above
                .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
                .await?;
            for of in ["quota", "stored"] {
                let limits = class["spec"][of].as_object();
                let status = &vcp["status"][of];
                for name in limits.context("the class limits nothing")?.keys() {
                    let is_told = ["hard", "used"].map(|part| status[part][name].is_string());
                    ensure!(is_told == [true; 2], "{of} {name}: {status}");
                }
            }
            Ok(())
        })
        .await?;
        says(tenant, "True", "Room").await?;
        let place = tenant.control_plane_namespace();
        for (kind, part, of) in [
            (STATEFUL_SET, "etcd", "etcd"),
            (DEPLOYMENT, "kube-apiserver", "kubeApiserver"),
            (
                DEPLOYMENT,
                "kube-controller-manager",
                "kubeControllerManager",
            ),
        ] {
            let workload = tenant.above.get(kind, &place, part).await?;
            let container = &workload["spec"]["template"]["spec"]["containers"][0];
            let limit = &class["spec"]["controlPlane"]["resources"][of]["limits"]["memory"];
            ensure!(
                limit.is_string() && container["resources"]["limits"]["memory"] == *limit,
                "{part}: {container}"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t43_what_a_tenant_stores_is_limited_where_it_cannot_reach_it() {
    run(async || {
        let above = super_cluster().await?;
        let mut class = above.get(CLASS, "", "default").await?;
        class["metadata"] = json!({"name": CLASS_NAME});
        class["spec"]["stored"] =
            json!({"configmaps": MOST.to_string(), "size": format!("{SIZE}Mi")});
        above.delete(CLASS, "", CLASS_NAME).await?;
        above.create(CLASS, class).await?;
        let result = Tenant::within(NAME, json!({"className": CLASS_NAME}), limited).await;
        above.delete(CLASS, "", CLASS_NAME).await?;
        result
    });
}

async fn limited(tenant: &Tenant) -> anyhow::Result<()> {
    let side = &tenant.side;
    says(tenant, "True", "Room").await?;
    // Until they are counted, more can be made.
    let makers =
        stream::iter(0..MADE).map(async |number| side.create(CONFIG_MAP, map(number)).await);
    let made: Vec<_> = makers.buffer_unordered(8).collect().await;
    let made = made.into_iter().filter(Result::is_ok).count();
    ensure!(made + 10 > MOST, "only {made} were made");
    says(tenant, "False", "configmaps").await?;
    let refused = eventually(2 * PODS, "no more are made", async || {
        let one_more = map(MADE + rand::random::<u32>() as usize);
        side.create(CONFIG_MAP, one_more)
            .await
            .err()
            .context("it was made")
    })
    .await?;
    ensure!(
        refused
            .message
            .contains("this tenant stores all configmaps that it may"),
        "{refused:?}"
    );
    // Nothing else is refused, nor what frees room.
    let secret = json!({"metadata": {"name": "s", "namespace": "default"}});
    side.create(SECRET, secret).await?;
    side.merge(CONFIG_MAP, "default", "m0", json!({"data": {"k": "w"}}))
        .await?;
    // Whom the API server asks no authorizer about, nobody becomes.
    let master = Side::acting(&tenant.kubeconfig, "somebody").await?;
    let answer = master.list(NAMESPACE, "", "").await;
    ensure!(answer.is_err(), "a tenant acts as system:masters");
    // The tenant sees how much it has.
    eventually(PODS, "it is shown to the tenant", async || {
        let shown = side.get(CONFIG_MAP, "kube-system", "sublet-stored").await?;
        let said = text(&shown, "/data/configmaps");
        ensure!(said.ends_with(&format!("of {MOST}")), "{said}");
        Ok(())
    })
    .await?;
    let all = side.list(CONFIG_MAP, "default", "").await?;
    let names = all.iter().map(|map| text(map, "/metadata/name").to_owned());
    let ours: Vec<String> = names.filter(|name| name.starts_with('m')).collect();
    stream::iter(ours)
        .map(|name| async move { side.delete(CONFIG_MAP, "default", &name).await })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    says(tenant, "True", "Room").await?;
    eventually(2 * PODS, "there is room again", async || {
        side.create(CONFIG_MAP, map(rand::random::<u32>() as usize))
            .await?;
        Ok(())
    })
    .await?;

    // Bytes are etcd's own affair.
    let made = AtomicUsize::new(0);
    eventually(2 * PODS, "it is told: size", async || {
        // What etcd wrote besides is compacted first, and then there is a little room once more.
        let problem = fill(side, &made).await?;
        ensure!(problem.message.contains("space exceeded"), "{problem:?}");
        said(tenant, "False", "size").await
    })
    .await?;
    let vcp = tenant
        .above
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
        .await?;
    ensure!(
        text(&vcp, "/status/stored/hard/size") == format!("{SIZE}Mi"),
        "{}",
        vcp["status"]["stored"]
    );
    ensure!(!items(&vcp, "/status/conditions").is_empty());

    // Once it has deleted enough there is room again, and no admin is needed.
    for number in 0..made.into_inner() {
        let name = format!("large{number}");
        side.delete(CONTROLLER_REVISION, "default", &name).await?;
    }
    // Its file may keep the size that it had when it was last too large.
    says(tenant, "True", "").await?;
    let metadata = json!({"name": "large-again", "namespace": "default"});
    let revision = json!({"metadata": metadata, "revision": 1, "data": {}});
    eventually(PODS, "there is room for bytes again", async || {
        side.create(CONTROLLER_REVISION, revision.clone()).await?;
        Ok(())
    })
    .await?;
    Ok(())
}
