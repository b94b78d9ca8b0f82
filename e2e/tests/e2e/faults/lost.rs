//! F11, the other half: lost events of the super cluster, and of what a tenant is shown. What tenants ask for: `downtime`.

use super::{Fill, fill};
use anyhow::ensure;
use api::keys;
use e2e::{
    faultproxy::{
        Faultproxy,
        rule::{Action, Rule, Times},
    },
    kind::{Kind, NODE, POD, PRIORITY_CLASS},
    oracle,
    read::{condition, text},
    rig::{Wish, on_rig, player, syncer::Periods},
    side::Side,
    wait::{PODS, SOON, eventually},
};
use http::Method;
use serde_json::{Value, json};

/// A node that no pod is on.
const ANOTHER: &str = "rig-node-b";

/// Loses all such events from now on.
fn lose(proxy: &Faultproxy, event: &'static str, kind: Kind) -> Rule {
    let rule = Rule::new(
        move |asked| asked.verb == event && asked.resource == kind.plural,
        Times::All,
        Action::Drop,
    );
    proxy.add(rule.clone());
    rule
}

/// Waits until an event is lost and an object of the tenant's, or its absence, is as it must be all the same.
async fn made_good(
    rule: &Rule,
    side: &Side,
    (kind, namespace, name): (Kind, &str, &str),
    is_right: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<()> {
    let what = format!("an event is lost, and {} {name} is right", kind.name);
    eventually(PODS, &what, async || {
        let found = side.find(kind, namespace, name).await?;
        ensure!(rule.met() > 0, "no event came");
        ensure!(is_right(found.as_ref()), "{}", found.unwrap_or_default());
        Ok(())
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f11_events_of_the_super_cluster_that_never_come_are_made_good_by_the_patrol() {
    let wish = Wish {
        periods: Periods {
            patrol: 3,
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[0];
        let twin = guest.twin("work");
        let class =
            json!({"metadata": {"name": "lost", "labels": {keys::PUBLISHED: "true"}}, "value": 7});
        rig.side.create(PRIORITY_CLASS, class).await?;
        player::add_node(&rig.side, ANOTHER).await?;
        fill(rig, 0, "work", 3, Fill::Pods).await?;
        for name in ["o0", "o1", "o2"] {
            eventually(PODS, "the tenant's pods run", async || {
                let pod = guest.side.get(POD, "work", name).await?;
                ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
                Ok(())
            })
            .await?;
        }
        eventually(SOON, "the class and the node are shown", async || {
            guest.side.get(PRIORITY_CLASS, "", "lost").await?;
            Ok(guest.side.get(NODE, "", ANOTHER).await?)
        })
        .await?;
        oracle::pairs::agree(rig, guest).await?;

        // A pod that fails.
        let lost = lose(&rig.proxy, "MODIFIED", POD);
        let failed =
            json!({"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]});
        rig.side.merge_status(POD, &twin, "o0", failed).await?;
        made_good(&lost, &guest.side, (POD, "work", "o0"), |pod| {
            pod.is_some_and(|pod| {
                text(pod, "/status/phase") == "Failed" && condition(pod, "Ready") == "False"
            })
        })
        .await?;
        oracle::pairs::agree(rig, guest).await?;

        // A pod that vanishes.
        let lost = lose(&rig.proxy, "DELETED", POD);
        let path = POD.path(&twin, "o1") + "?gracePeriodSeconds=0";
        rig.side.request(Method::DELETE, &path, None).await?;
        made_good(&lost, &guest.side, (POD, "work", "o1"), |pod| pod.is_none()).await?;
        oracle::pairs::agree(rig, guest).await?;

        // A status that the tenant forges.
        let lost = lose(&guest.proxy, "MODIFIED", POD);
        let forged = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        guest.side.merge_status(POD, "work", "o2", forged).await?;
        made_good(&lost, &guest.side, (POD, "work", "o2"), |pod| {
            pod.is_some_and(|pod| condition(pod, "Ready") == "True")
        })
        .await?;
        oracle::pairs::agree(rig, guest).await?;

        // A node that has less, and then vanishes.
        let lost = lose(&rig.proxy, "MODIFIED", NODE);
        let less = json!({"allocatable": {"cpu": "3"}});
        rig.side.merge_status(NODE, "", ANOTHER, less).await?;
        made_good(&lost, &guest.side, (NODE, "", ANOTHER), |node| {
            node.is_some_and(|node| text(node, "/status/allocatable/cpu") == "3")
        })
        .await?;
        let lost = lose(&rig.proxy, "DELETED", NODE);
        rig.side.delete(NODE, "", ANOTHER).await?;
        made_good(&lost, &guest.side, (NODE, "", ANOTHER), |node| {
            node.is_none()
        })
        .await?;

        // A class that the platform withdraws.
        let lost = lose(&rig.proxy, "DELETED", PRIORITY_CLASS);
        rig.side.delete(PRIORITY_CLASS, "", "lost").await?;
        made_good(&lost, &guest.side, (PRIORITY_CLASS, "", "lost"), |class| {
            class.is_none()
        })
        .await?;

        let id = guest.id.to_string();
        for metric in ["drifted", "repaired"] {
            let name = format!("sublet_syncer_patrol_{metric}_total");
            let count = rig.syncer.metric(&name, &[&id]).await?;
            ensure!(count >= 6.0, "{name} is {count}");
        }
        rig.proxy.clear();
        guest.proxy.clear();
        oracle::all(rig).await
    });
}
