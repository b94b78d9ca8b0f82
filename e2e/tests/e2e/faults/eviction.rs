//! F21: the super cluster ends pods, one by one or with their node.

use super::{Fill, each, fill, pod, same};
use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{NODE, POD, SECRET},
    oracle,
    read::{annotation, condition, text, uid},
    rig::{
        Guest, Rig, Wish,
        audit::{Deed, deeds},
        on_rig,
        player::{self, THE_NODE},
    },
    wait::{PODS, SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The node that is drained, or that vanishes.
const ANOTHER: &str = "rig-node-b";
/// Pods on it.
const PODS_ON_IT: usize = 12;

/// A tenant's pod that is to run on the other node.
fn pod_on_it(name: &str) -> Value {
    let mut pod = pod("work", name);
    player::select_node(&mut pod["spec"], ANOTHER);
    pod
}

/// Makes pods on the other node and waits until the tenant sees them run there; their UIDs by name.
async fn run_on_it(rig: &Rig, names: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let side = &rig.tenants[0].side;
    each(0..names.len(), async |number| {
        side.create(POD, pod_on_it(&names[number])).await?;
        Ok(())
    })
    .await?;
    eventually(PODS, "all pods run on the other node", async || {
        let pods = side.list(POD, "work", "").await?;
        let running = pods.iter().filter(|pod| {
            text(pod, "/spec/nodeName") == ANOTHER && condition(pod, "Ready") == "True"
        });
        let running: BTreeMap<String, String> = running
            .map(|pod| (text(pod, "/metadata/name").to_owned(), uid(pod).to_owned()))
            .filter(|(name, _)| names.contains(name))
            .collect();
        ensure!(running.len() == names.len(), "{} run", running.len());
        Ok(running)
    })
    .await
    .with_context(|| rig.syncer.tail())
}

/// In its life each of the tenant's pods had one super pod and was bound once, by the audit logs of both sides. The node
/// of each, by its UID.
fn one_life_each(rig: &Rig, guest: &Guest) -> anyhow::Result<BTreeMap<String, String>> {
    let mut nodes = BTreeMap::new();
    let is_binding = |deed: &&Deed| deed.verb == "create" && deed.resource == "pods/binding";
    for deed in deeds(&guest.server.audit_log())?.iter().filter(is_binding) {
        let node = text(&deed.request, "/target/name").to_owned();
        let owner = text(&deed.request, "/metadata/uid").to_owned();
        let before = nodes.insert(owner, node);
        ensure!(before.is_none(), "{} was bound again", deed.name);
    }
    let mut made = BTreeSet::new();
    for deed in deeds(&rig.above.audit_log())? {
        if deed.is_syncers() && deed.verb == "create" && deed.resource == "pods" {
            let owner = annotation(&deed.response, api::keys::UID).unwrap_or_default();
            ensure!(made.insert(owner.to_owned()), "{} had two", deed.name);
        }
    }
    Ok(nodes)
}

#[test]
fn f21_a_super_pod_that_is_deleted_ends_the_tenants_pod_once_and_for_all() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 2, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        let twin = guest.twin("work");
        let stays = guest.side.get(POD, "work", "o1").await?;
        rig.side.delete(POD, &twin, "o0").await?;
        eventually(SOON, "the tenant's pod has ended", async || {
            let left = guest.side.find(POD, "work", "o0").await?;
            ensure!(left.is_none(), "{}", left.unwrap_or_default());
            Ok(())
        })
        .await?;
        oracle::all(rig).await?;
        let made = rig.side.list(POD, &twin, "").await?;
        same("super pods", &made.len(), &1)?;
        ensure!(uid(&guest.side.get(POD, "work", "o1").await?) == uid(&stays));
        Ok(())
    });
}

/// Its token Secret has the name of the one before, which is collected with the super pod that owned it, and nobody watches
/// Secrets in the super cluster.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f21_a_super_pod_that_never_ran_is_made_again_with_a_token_secret_of_its_own() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let mut waiting = pod("work", "waits");
        waiting["spec"]["schedulingGates"] = json!([{"name": "example.com/later"}]);
        let token = json!({"serviceAccountToken": {"path": "token"}});
        waiting["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [token]}}]);
        guest.side.create(POD, waiting).await?;
        let twin = guest.twin("work");
        let selector = format!("{}={}", keys::ROLE, keys::ROLE_TOKEN);
        let mut before = String::new();
        for _ in 0..10 {
            let made = eventually(SOON, "it has another super pod", async || {
                let super_pod = rig.side.get(POD, &twin, "waits").await?;
                ensure!(uid(&super_pod) != before, "it is the one before");
                Ok(uid(&super_pod).to_owned())
            })
            .await?;
            eventually(SOON, "the token Secret is that super pod's", async || {
                let secrets = rig.side.list(SECRET, &twin, &selector).await?;
                let owners = secrets
                    .iter()
                    .map(|secret| text(secret, "/metadata/ownerReferences/0/uid"));
                let owners: Vec<&str> = owners.collect();
                ensure!(owners == [made.as_str()], "{owners:?} instead of {made}");
                Ok(())
            })
            .await
            .with_context(|| rig.syncer.tail())?;
            let path = POD.path(&twin, "waits") + "?gracePeriodSeconds=0";
            rig.side.request(Method::DELETE, &path, None).await?;
            before = made;
        }
        oracle::all(rig).await
    });
}

#[test]
fn f21_pods_of_a_drained_node_end_once_and_never_run_elsewhere() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        player::add_node(&rig.side, ANOTHER).await?;
        guest.namespace("work").await?;
        let names: Vec<String> = (0..PODS_ON_IT).map(|number| format!("o{number}")).collect();
        let before = run_on_it(rig, &names).await?;
        let began = Instant::now();
        // As kubectl drains.
        let cordon = json!({"spec": {"unschedulable": true}});
        rig.side.merge(NODE, "", ANOTHER, cordon).await?;
        let twin = guest.twin("work");
        each(0..names.len(), async |number| {
            let path = POD.path(&twin, &names[number]) + "/eviction";
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": names[number], "namespace": twin},
            });
            rig.side
                .request(Method::POST, &path, Some(eviction))
                .await?;
            Ok(())
        })
        .await?;
        // As a StatefulSet's controller does: the next one of the name, once there is none.
        for name in &names {
            let gone = eventually(SOON, "an evicted pod is gone in the tenant", async || {
                let left = guest.side.find(POD, "work", name).await?;
                ensure!(left.is_none(), "{}", left.unwrap_or_default());
                Ok(())
            });
            gone.await.with_context(|| rig.syncer.tail())?;
            guest.side.create(POD, pod("work", name)).await?;
        }
        let took = began.elapsed();
        oracle::all(rig).await?;
        let node = guest.side.get(NODE, "", ANOTHER).await?;
        ensure!(node["spec"]["unschedulable"] == true, "{}", node["spec"]);
        let nodes = one_life_each(rig, guest)?;
        same("bindings", &nodes.len(), &(2 * names.len()))?;
        for owner in before.values() {
            same("node of an evicted pod", &nodes[owner], &ANOTHER.to_owned())?;
        }
        let elsewhere = nodes.values().filter(|node| *node == THE_NODE).count();
        same("new pods elsewhere", &elsewhere, &names.len())?;
        e2e::told!(
            "F21: {} pods of a drained node ended and were replaced within {:.1} s",
            names.len(),
            took.as_secs_f64()
        );
        Ok(())
    });
}

/// What the super cluster's garbage collector of pods does to one whose node is gone.
async fn collect(rig: &Rig, twin: &str, name: &str, has_ended: bool) -> anyhow::Result<()> {
    if !has_ended {
        let status = json!({"phase": "Failed", "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }]});
        rig.side.merge_status(POD, twin, name, status).await?;
    }
    let now = json!({"gracePeriodSeconds": 0});
    let path = POD.path(twin, name);
    rig.side.request(Method::DELETE, &path, Some(now)).await?;
    Ok(())
}

/// Whether the syncer sees a node go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syncer {
    Runs,
    IsDown,
}

/// The node vanishes with all its pods, and with it all that the tenant knows of it but the records of what had ended.
async fn vanishes(rig: &Rig, syncer: Syncer) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    let twin = guest.twin("work");
    player::add_node(&rig.side, ANOTHER).await?;
    let own = |part: &str| format!("{part}-{syncer:?}").to_lowercase();
    let names = ["collected", "forced", "done"].map(own);
    let before = run_on_it(rig, &names).await?;
    let [collected, forced, done] = &names;
    let ended = json!({"phase": "Succeeded"});
    rig.side.merge_status(POD, &twin, done, ended).await?;
    eventually(SOON, "the tenant sees that one has ended", async || {
        let pod = guest.side.get(POD, "work", done).await?;
        ensure!(text(&pod, "/status/phase") == "Succeeded");
        Ok(())
    })
    .await?;
    if syncer == Syncer::IsDown {
        rig.syncer.stop()?;
    }
    let lost = json!({"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]});
    rig.side.merge_status(NODE, "", ANOTHER, lost).await?;
    rig.side.delete(NODE, "", ANOTHER).await?;
    if syncer == Syncer::Runs {
        // It is looked at while its pods still run, and waits for them.
        let looked = eventually(SOON, "the tenant sees that the node is lost", async || {
            let node = guest.side.get(NODE, "", ANOTHER).await?;
            ensure!(condition(&node, "Ready") == "Unknown", "{}", node["status"]);
            Ok(())
        });
        looked.await?;
    }
    let began = Instant::now();
    collect(rig, &twin, collected, false).await?;
    rig.side.delete(POD, &twin, forced).await?;
    collect(rig, &twin, done, true).await?;
    if syncer == Syncer::IsDown {
        rig.syncer.start().await?;
    }
    eventually(PODS, "the virtual node is gone", async || {
        let left = guest.side.find(NODE, "", ANOTHER).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default());
        Ok(())
    })
    .await
    .with_context(|| rig.syncer.tail())?;
    let took = began.elapsed();
    for name in &names {
        let pod = guest.side.find(POD, "work", name).await?;
        let phase = pod.as_ref().map(|pod| text(pod, "/status/phase"));
        let is_right = match phase {
            None => name != done,
            Some("Failed") => name == collected,
            Some("Succeeded") => name == done,
            Some(_) => false,
        };
        ensure!(is_right, "{name}: {}", pod.unwrap_or_default());
    }
    oracle::all(rig).await?;
    let nodes = one_life_each(rig, guest)?;
    for owner in before.values() {
        same(
            "node of a pod that ended",
            &nodes[owner],
            &ANOTHER.to_owned(),
        )?;
    }
    e2e::told!(
        "F21: a vanished node went from the tenant {:.1} s after its pods ({syncer:?})",
        took.as_secs_f64()
    );
    Ok(())
}

/// vcluster#3756.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f21_a_node_that_vanishes_goes_from_the_tenant_and_its_pods_end() {
    on_rig(Wish::default(), async |rig| {
        rig.tenants[0].namespace("work").await?;
        vanishes(rig, Syncer::Runs).await?;
        // It joins again, and pods run on it.
        vanishes(rig, Syncer::IsDown).await
    });
}
