//! T43, the second layer: the super cluster's own API server holds each super namespace to the tenant's limits.

use super::quota::{end, exactly, limit, pod};
use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{CONTROL_PLANE, POD, RESOURCE_QUOTA},
    make, oracle,
    read::{event, name, text},
    rig::{Rig, Wish, on_rig, syncer::Periods},
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: usize = 20;
/// How long writes are counted.
const WATCHED: Duration = Duration::from_secs(5);

/// A pod that the syncer may write, which it doesn't know of.
fn direct(twin: &str, name: &str) -> Value {
    let mut spec = make::pod_spec(make::idle());
    spec["containers"][0]["securityContext"] = json!({"capabilities": {"drop": ["NET_RAW"]}});
    spec["serviceAccountName"] = keys::POD_SERVICE_ACCOUNT.into();
    spec["automountServiceAccountToken"] = false.into();
    spec["dnsPolicy"] = "Default".into();
    json!({"metadata": {"name": name, "namespace": twin}, "spec": spec})
}

/// Waits until the super namespace has a ResourceQuota with these limits.
async fn says(rig: &Rig, twin: &str, hard: Value) -> anyhow::Result<Value> {
    let what = format!("the ResourceQuota says {hard}");
    eventually(SOON, &what, async || {
        let quota = rig.side.get(RESOURCE_QUOTA, twin, api::QUOTA_NAME).await?;
        ensure!(quota["spec"] == json!({"hard": hard}), "{}", quota["spec"]);
        Ok(quota)
    })
    .await
}

/// Waits until its limits are in force and so much is used of them.
async fn counts(rig: &Rig, twin: &str, what: &str, hard: &str, used: &str) -> anyhow::Result<()> {
    let expected = json!({"hard": {what: hard}, "used": {what: used}});
    let what = format!("the ResourceQuota counts {used} of {hard} {what}");
    eventually(PODS, &what, async || {
        let quota = rig.side.get(RESOURCE_QUOTA, twin, api::QUOTA_NAME).await?;
        ensure!(quota["status"] == expected, "{}", quota["status"]);
        Ok(())
    })
    .await
}

#[test]
fn t43_the_super_cluster_itself_refuses_what_exceeds_the_quota_in_a_namespace() {
    on_rig(Wish::default(), async |rig| {
        let _counting = rig.above.start_quota_controller()?;
        limit(rig, json!({"pods": LIMIT.to_string()})).await?;
        let twin = rig.twin_of(0, "work").await?;
        counts(rig, &twin, "pods", "20", "0").await?;
        // The ledger knows nothing of them, as if it had a bug.
        for number in 0..LIMIT {
            let pod = direct(&twin, &format!("d{number}"));
            rig.side.create(POD, pod).await?;
        }
        let own = rig.above.syncer_kubeconfig(rig.above.port);
        let syncer = Side::connect("the super cluster", &own).await?;
        for side in [&syncer, &rig.side] {
            let answer = side.try_create(POD, direct(&twin, "one-more")).await;
            let is_refused = answer.as_ref().is_err_and(|problem| {
                problem.code == 403 && problem.message.contains("exceeded quota: sublet-quota")
            });
            ensure!(is_refused, "{answer:?}");
        }

        // What the first layer grants all the same is told, and tried ever less often.
        let guest = &rig.tenants[0];
        drop(rig.proxy.take_trace());
        let made = guest
            .side
            .create(POD, pod("work", "web", json!({})))
            .await?;
        let told = event(&guest.side, POD, &made, "QuotaExceeded").await?;
        let message = text(&told, "/message");
        ensure!(message.contains("pods: 1 more of at most 20"), "{message}");
        tokio::time::sleep(WATCHED).await;
        let trace = rig.proxy.take_trace();
        let tried = trace.iter().filter(|record| {
            record.asked.verb == "create" && record.asked.resource == "pods" && record.code == 403
        });
        let tried = tried.count();
        ensure!((1..=12).contains(&tried), "{tried} times");

        rig.side.delete(POD, &twin, "d0").await?;
        eventually(PODS, "it is made once there is room", async || {
            Ok(rig.side.get(POD, &twin, "web").await?)
        })
        .await?;
        Ok(())
    });
}

#[test]
fn t43_the_super_cluster_itself_counts_pods_that_ended() {
    on_rig(Wish::default(), async |rig| {
        let _counting = rig.above.start_quota_controller()?;
        limit(rig, json!({"count/pods": "2"})).await?;
        let twin = rig.twin_of(0, "work").await?;
        counts(rig, &twin, "count/pods", "2", "0").await?;
        for name in ["one", "two"] {
            rig.side.create(POD, direct(&twin, name)).await?;
            end(rig, &twin, name).await?;
        }
        let answer = rig.side.try_create(POD, direct(&twin, "three")).await;
        let is_refused = answer.as_ref().is_err_and(|problem| {
            problem.code == 403 && problem.message.contains("requested: count/pods=1")
        });
        ensure!(is_refused, "{answer:?}");
        Ok(())
    });
}

#[test]
fn what_the_first_layer_grants_is_made_though_the_second_counts_a_moment_later() {
    on_rig(Wish::default(), async |rig| {
        let _counting = rig.above.start_quota_controller()?;
        limit(rig, json!({"pods": LIMIT.to_string(), "requests.cpu": "2"})).await?;
        let guest = &rig.tenants[0];
        rig.twin_of(0, "work").await?;
        for number in 0..LIMIT + 10 {
            let pod = pod("work", &format!("p{number}"), json!({"cpu": "100m"}));
            guest.side.create(POD, pod).await?;
        }
        for _ in 0..2 {
            let twins = exactly(rig, LIMIT).await?;
            for twin in twins.iter().take(5) {
                guest.side.delete(POD, "work", name(twin)).await?;
            }
            let gone: Vec<&str> = twins.iter().take(5).map(name).collect();
            eventually(PODS, "others take their place", async || {
                let now = exactly(rig, LIMIT).await?;
                ensure!(now.iter().all(|twin| !gone.contains(&name(twin))));
                Ok(())
            })
            .await?;
        }
        // A higher limit lets the rest in.
        limit(rig, json!({"pods": "30", "requests.cpu": "3"})).await?;
        let all = LIMIT + 10 - 2 * 5;
        let more = pod("work", "more", json!({"cpu": "100m"}));
        guest.side.create(POD, more).await?;
        exactly(rig, all + 1).await?;
        oracle::deeds::are_lawful(rig).await
    });
}

#[test]
fn the_quota_of_a_super_namespace_follows_the_limits_and_is_put_back() {
    let periods = Periods {
        patrol: 1,
        ..Periods::default()
    };
    let wish = Wish {
        periods,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let twin = rig.twin_of(0, "work").await?;
        ensure!(
            rig.side
                .find(RESOURCE_QUOTA, &twin, api::QUOTA_NAME)
                .await?
                .is_none(),
            "without limits"
        );
        limit(rig, json!({"pods": "20", "secrets": "3"})).await?;
        says(rig, &twin, json!({"pods": "20"})).await?;
        // It stands before anything can be made in a new namespace.
        let second = rig.twin_of(0, "second").await?;
        says(rig, &second, json!({"pods": "20"})).await?;

        let wider = json!({"spec": {"hard": {"pods": "1000", "services": "9"}}});
        rig.side
            .merge(RESOURCE_QUOTA, &twin, api::QUOTA_NAME, wider)
            .await?;
        says(rig, &twin, json!({"pods": "20"})).await?;
        rig.side
            .delete(RESOURCE_QUOTA, &twin, api::QUOTA_NAME)
            .await?;
        says(rig, &twin, json!({"pods": "20"})).await?;

        // What the super cluster writes into it is nothing to answer.
        drop(rig.proxy.take_trace());
        for used in 0..20 {
            let status = json!({"hard": {"pods": "20"}, "used": {"pods": used.to_string()}});
            rig.side
                .merge_status(RESOURCE_QUOTA, &twin, api::QUOTA_NAME, status)
                .await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let trace = rig.proxy.take_trace();
        let written = trace
            .iter()
            .find(|record| record.asked.resource == "resourcequotas" && record.asked.is_write());
        ensure!(written.is_none(), "{written:?}");

        limit(rig, json!({"pods": "25"})).await?;
        says(rig, &twin, json!({"pods": "25"})).await?;
        // The patch that limits is a merge: null takes a limit away.
        let none = json!({"spec": {"policy": {"quota": null}}});
        let vcp = &rig.tenants[0].name;
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, vcp, none)
            .await?;
        for twin in [&twin, &second] {
            eventually(SOON, "it goes with the last limit", async || {
                let quota = rig.side.find(RESOURCE_QUOTA, twin, api::QUOTA_NAME).await?;
                quota.is_none().then_some(()).context("it stands")
            })
            .await?;
        }
        oracle::deeds::are_lawful(rig).await
    });
}
