//! A Cluster that moves from one management cluster to another, and a namespace that goes as a whole; its tenant runs in a
//! third cluster.
//!
//! The management clusters are a rig's plain API servers. The test does what Cluster API's core and clusterctl would do.

use super::{
    beyond,
    beyond::{Management, definitions, gone, twin_like},
    is_paused, without_a_lost_answer,
};
use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    account,
    kind::{
        CLUSTER, CONTROL_PLANE, Kind, NAMESPACE, ROLE_BINDING, SECRET, SUBLET_CLUSTER,
        SUBLET_CONTROL_PLANE,
    },
    read::{condition, items, label, text, uid},
    rig::{self, Wish, ending::hasten, on_rig},
    settings,
    side::Side,
    tenant::{self, NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenancy::tenant::TenantId;

/// By which nothing is taken along yet.
const BLOCK: &str = "/metadata/annotations/clusterctl.cluster.x-k8s.io~1block-move";

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_cluster_moves_between_two_management_clusters_and_its_tenant_never_notices() {
    on_rig(Wish::default(), async |rig| {
        let there = tenant::super_cluster().await?;
        let space = json!({"metadata": {"name": NAMESPACE_OF_TESTS}});
        account::present(there.create(NAMESPACE, space).await)?;
        let admin = std::fs::read_to_string(settings::kubeconfig()?)?;
        let kubeconfig = beyond::visitor(&there, &admin).await?;
        let guest = &rig.tenants[0];
        let old = Management::start(rig, &kubeconfig).await?;
        rig::install(&guest.side).await?;
        let name = e2e::make::unique("e2e-moves");
        create(old.side, &name).await?;
        ready(old.side, &name).await?;
        let tenant = tenant_of(old.side, &there, &name).await?;
        let twin = there.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;

        let new = without_a_lost_answer(&tenant, async {
            let paused = json!({"spec": {"paused": true}});
            old.side
                .merge(CLUSTER, NAMESPACE_OF_TESTS, &name, paused)
                .await?;
            for kind in [SUBLET_CONTROL_PLANE, SUBLET_CLUSTER] {
                like(old.side, kind, &name, "is paused and may go", |object| {
                    is_paused(object, "True") && object.pointer(BLOCK).is_none()
                })
                .await?;
            }
            definitions(&guest.side).await?;
            take_along(old.side, &guest.side, &name).await?;
            forget(old.side, &name).await?;
            let folder = rig.folder().join("new");
            std::fs::create_dir_all(&folder)?;
            let admin = guest.server.admin_kubeconfig();
            let new = Management::of(&guest.side, &folder, &admin).await?;
            let goes_on = json!({"spec": {"paused": false}});
            new.side
                .merge(CLUSTER, NAMESPACE_OF_TESTS, &name, goes_on)
                .await?;
            ready(new.side, &name).await?;
            let now = there.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name).await?;
            ensure!(uid(&now) == uid(&twin), "another twin was made");
            ensure!(now["spec"] == twin["spec"], "{}", now["spec"]);
            Ok(new)
        })
        .await?;
        // The way there is kept where the tenant is looked after, and nowhere else.
        let kept = format!("super-cluster-{}", tenant.id);
        let find = async |side: &Side| side.find(SECRET, api::SYSTEM_NAMESPACE, &kept).await;
        eventually(
            SOON,
            "the old one knows no way there any more",
            async || {
                ensure!(find(old.side).await?.is_none(), "it is kept");
                Ok(())
            },
        )
        .await?;
        ensure!(find(&guest.side).await?.is_some(), "it isn't kept");

        for kind in [SUBLET_CONTROL_PLANE, SUBLET_CLUSTER] {
            new.side.delete(kind, NAMESPACE_OF_TESTS, &name).await?;
            let what = format!("{} is gone", kind.name);
            eventually(3 * PODS, &what, async || {
                match new.side.find(kind, NAMESPACE_OF_TESTS, &name).await? {
                    None => Ok(()),
                    Some(object) => anyhow::bail!("{}", conditions(&object)),
                }
            })
            .await?;
        }
        gone(new.side, &name).await?;
        gone(&there, &name).await?;
        let left = crate::lifecycle::leftovers(&there, &tenant).await?;
        ensure!(left.is_empty(), "{left:?}");
        ensure!(find(&guest.side).await?.is_none(), "the way there is left");
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_namespace_that_goes_as_a_whole_takes_the_twin_along() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let there = &guest.side;
        rig::install(there).await?;
        let kubeconfig = beyond::visitor(there, &guest.server.admin_kubeconfig()).await?;
        let here = Management::start(rig, &kubeconfig).await?;
        let home = e2e::make::unique("e2e-home");
        here.side
            .create(NAMESPACE, json!({"metadata": {"name": home}}))
            .await?;
        let secret = json!({
            "metadata": {"name": "west", "namespace": home}, "stringData": {"value": kubeconfig},
        });
        here.side.create(SECRET, secret).await?;
        let vcp = json!({
            "metadata": {"name": "east", "namespace": home},
            "spec": {"superCluster": {
                "kubeconfigSecretRef": {"name": "west", "key": "value"}, "namespace": NAMESPACE_OF_TESTS,
            }},
        });
        here.side.create(CONTROL_PLANE, vcp).await?;
        twin_like(there, "east", "is made", |_| true).await?;

        here.side.delete(NAMESPACE, "", &home).await?;
        // As the namespace's controller does, in an order that it may take.
        for (kind, name) in [(SECRET, "west"), (ROLE_BINDING, "sublet-manager-east")] {
            here.side.delete(kind, &home, name).await?;
        }
        here.side.delete(CONTROL_PLANE, &home, "east").await?;
        gone(there, "east").await?;
        eventually(PODS, "the namespace goes", async || {
            hasten(here.side, &home).await?;
            let left = here.side.find(NAMESPACE, "", &home).await?;
            ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
            Ok(())
        })
        .await
        .with_context(|| here.tail())
    });
}

/// A Cluster with its two objects, as core leaves them.
async fn create(side: &Side, name: &str) -> anyhow::Result<()> {
    let labels = json!({"cluster.x-k8s.io/cluster-name": name});
    let leads = json!({"kubeconfigSecretRef": {"name": beyond::WEST, "key": "value"}});
    beyond::create(side, name, labels, json!({"superCluster": leads})).await
}

async fn like(
    side: &Side,
    kind: Kind,
    name: &str,
    what: &str,
    check: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let what = format!("{} {name} in {}: {what}", kind.name, side.name());
    eventually(4 * PODS, &what, async || {
        let object = side.get(kind, NAMESPACE_OF_TESTS, name).await?;
        ensure!(check(&object), "{} {}", object["spec"], conditions(&object));
        Ok(object)
    })
    .await
}

async fn ready(side: &Side, name: &str) -> anyhow::Result<()> {
    for kind in [SUBLET_CONTROL_PLANE, SUBLET_CLUSTER, CONTROL_PLANE] {
        like(side, kind, name, "is Ready and may go", |object| {
            condition(object, "Ready") == "True" && object.pointer(BLOCK).is_none()
        })
        .await?;
    }
    Ok(())
}

async fn tenant_of(side: &Side, above: &Side, name: &str) -> anyhow::Result<Tenant> {
    let vcp = side.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
    let secret = format!("{name}-kubeconfig");
    let secret = side.get(SECRET, NAMESPACE_OF_TESTS, &secret).await?;
    let data = secret["data"]["value"].as_str().context("no kubeconfig")?;
    let kubeconfig = String::from_utf8(BASE64_STANDARD.decode(data)?)?;
    Ok(Tenant {
        name: name.to_owned(),
        id: TenantId::parse(text(&vcp, "/spec/identity"))?,
        side: Side::connect(name, &kubeconfig).await?,
        kubeconfig,
        above: above.clone(),
    })
}

/// All that belongs to the Cluster or is marked, without status and under new UIDs, owners first.
async fn take_along(from: &Side, to: &Side, name: &str) -> anyhow::Result<()> {
    let mut uids = BTreeMap::<String, String>::new();
    let secrets = from.list(SECRET, NAMESPACE_OF_TESTS, "").await?;
    let mut all = vec![];
    for kind in [CLUSTER, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, CONTROL_PLANE] {
        all.push((kind, from.get(kind, NAMESPACE_OF_TESTS, name).await?));
    }
    all.extend(secrets.into_iter().map(|secret| (SECRET, secret)));
    for (kind, mut object) in all {
        let old = uid(&object).to_owned();
        let mut owners = items(&object, "/metadata/ownerReferences").to_vec();
        let is_ours = owners
            .iter()
            .all(|owner| uids.contains_key(text(owner, "/uid")));
        let is_marked = label(&object, beyond::TAKEN_ALONG).is_some();
        if kind == SECRET && !is_marked && (owners.is_empty() || !is_ours) {
            continue;
        }
        ensure!(is_ours, "{owners:?}");
        for owner in &mut owners {
            owner["uid"] = json!(uids[text(owner, "/uid")]);
        }
        let metadata = &object["metadata"];
        let mut moved = json!({"ownerReferences": owners});
        for field in ["name", "namespace", "labels", "annotations", "finalizers"] {
            moved[field] = metadata[field].clone();
        }
        object["metadata"] = moved;
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        let made = to.create(kind, object).await?;
        uids.insert(old, uid(&made).to_owned());
    }
    Ok(())
}

/// What was taken along goes, and nothing is torn down for it.
async fn forget(side: &Side, name: &str) -> anyhow::Result<()> {
    for kind in [CONTROL_PLANE, SUBLET_CONTROL_PLANE, SUBLET_CLUSTER, CLUSTER] {
        let free = json!({"metadata": {"finalizers": null}});
        side.delete(kind, NAMESPACE_OF_TESTS, name).await?;
        if side.find(kind, NAMESPACE_OF_TESTS, name).await?.is_some() {
            side.merge(kind, NAMESPACE_OF_TESTS, name, free).await?;
        }
        let left = side.find(kind, NAMESPACE_OF_TESTS, name).await?;
        ensure!(left.is_none(), "{} is left", kind.name);
    }
    Ok(())
}
