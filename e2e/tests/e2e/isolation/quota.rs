//! T43: one quota over all of a tenant's namespaces, which no number of creators gets around.

use super::group::never_more;
use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, POD, SERVICE},
    make, oracle,
    read::{event, name, text, uid},
    rig::{Rig, Wish, on_rig},
    side::PatchType,
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

const NAMESPACES: usize = 5;
const CREATORS: usize = 50;
const LIMIT: usize = 20;

pub(super) fn pod(namespace: &str, name: &str, requests: Value) -> Value {
    let mut container = make::idle();
    container["resources"] = json!({"requests": requests});
    json!({"metadata": {"name": name, "namespace": namespace}, "spec": make::pod_spec(container)})
}

pub(super) async fn limit(rig: &Rig, quota: Value) -> anyhow::Result<()> {
    let name = &rig.tenants[0].name;
    let patch = json!({"spec": {"policy": {"quota": quota}}});
    rig.side
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, name, patch)
        .await?;
    Ok(())
}

/// The tenant's super pods.
async fn twins(rig: &Rig) -> anyhow::Result<Vec<Value>> {
    let selector = format!("{}={}", keys::TENANT, rig.tenants[0].id);
    Ok(rig.side.list(POD, "", &selector).await?)
}

pub(super) async fn exactly(rig: &Rig, count: usize) -> anyhow::Result<Vec<Value>> {
    super::exactly(count, async || twins(rig).await).await
}

async fn shown(rig: &Rig, name: &str, expected: &str) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    eventually(
        SOON,
        &format!("{name} is shown as {expected}"),
        async || {
            let map = guest
                .side
                .get(CONFIG_MAP, "kube-system", api::QUOTA_NAME)
                .await?;
            // A key of a ConfigMap has no slashes.
            let shown = &map["data"][name.replace('/', "_")];
            ensure!(shown == expected, "{}", map["data"]);
            let vcp = rig.vcp(0).await?;
            let status = &vcp["status"]["quota"];
            let both = format!(
                "{} of {}",
                status["used"][name].as_str().unwrap_or_default(),
                status["hard"][name].as_str().unwrap_or_default()
            );
            ensure!(both == expected, "{status}");
            Ok(())
        },
    )
    .await
}

async fn namespaces(rig: &Rig) -> anyhow::Result<()> {
    for number in 0..NAMESPACES {
        rig.tenants[0].namespace(&format!("n{number}")).await?;
    }
    Ok(())
}

/// Fifty creators at once, in all namespaces in turn.
async fn create(rig: &Rig, round: usize) -> anyhow::Result<Vec<Value>> {
    let creators = stream::iter(0..CREATORS).map(async |number| {
        let namespace = format!("n{}", number % NAMESPACES);
        let pod = pod(&namespace, &format!("r{round}-p{number}"), json!({}));
        rig.tenants[0].side.create(POD, pod).await
    });
    Ok(creators.buffer_unordered(CREATORS).try_collect().await?)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t43_fifty_creators_get_exactly_what_the_quota_allows_in_20_runs() {
    on_rig(Wish::default(), async |rig| {
        limit(rig, json!({"pods": LIMIT.to_string()})).await?;
        shown(rig, "pods", "0 of 20").await?;
        namespaces(rig).await?;
        for round in 0..20 {
            let made = create(rig, round).await?;
            exactly(rig, LIMIT).await?;
            shown(rig, "pods", "20 of 20").await?;
            for pod in &made {
                let place = text(pod, "/metadata/namespace");
                rig.tenants[0].side.delete(POD, place, name(pod)).await?;
            }
            exactly(rig, 0).await?;
            shown(rig, "pods", "0 of 20").await?;
        }
        never_more(rig, LIMIT)?;
        oracle::deeds::are_lawful(rig).await
    });
}

#[test]
fn t43_fifty_creators_get_exactly_what_the_quota_allows() {
    on_rig(Wish::default(), async |rig| {
        limit(rig, json!({"pods": LIMIT.to_string()})).await?;
        shown(rig, "pods", "0 of 20").await?;
        let guest = &rig.tenants[0];
        namespaces(rig).await?;
        let made = create(rig, 0).await?;
        let mut twins = exactly(rig, LIMIT).await?;
        shown(rig, "pods", "20 of 20").await?;

        // Whoever waits is told, and what to do.
        let is_made = |pod: &Value, twins: &[Value]| {
            twins
                .iter()
                .any(|twin| e2e::read::annotation(twin, keys::UID) == Some(uid(pod)))
        };
        let waits: Vec<&Value> = made.iter().filter(|pod| !is_made(pod, &twins)).collect();
        ensure!(waits.len() == CREATORS - LIMIT);
        for pod in waits {
            let event = event(&guest.side, POD, pod, "QuotaExceeded").await?;
            let says = text(&event, "/message");
            ensure!(says.contains("pods: 1 more of at most 20"), "{says}");
        }

        // A syncer that dies forgets nothing.
        for round in 0..3 {
            rig.syncer.kill();
            rig.syncer.start().await?;
            rig.synced(0).await?;
            for twin in twins.iter().take(3) {
                let place = e2e::read::annotation(twin, keys::NAMESPACE).unwrap_or_default();
                let name = e2e::read::annotation(twin, keys::NAME).unwrap_or_default();
                guest.side.delete(POD, place, name).await?;
            }
            let before: Vec<String> = twins
                .iter()
                .take(3)
                .map(|twin| uid(twin).to_owned())
                .collect();
            twins = eventually(
                PODS,
                &format!("round {round}: room is used again"),
                async || {
                    let now = self::twins(rig).await?;
                    ensure!(now.len() == LIMIT, "{} pods", now.len());
                    ensure!(
                        !now.iter()
                            .any(|twin| before.iter().any(|old| old == uid(twin)))
                    );
                    Ok(now)
                },
            )
            .await?;
        }

        never_more(rig, LIMIT)?;

        // A higher limit lets the rest in, a lower one takes nothing away.
        limit(rig, json!({"pods": "25"})).await?;
        exactly(rig, 25).await?;
        limit(rig, json!({"pods": "10"})).await?;
        shown(rig, "pods", "25 of 10").await?;
        exactly(rig, 25).await?;
        oracle::deeds::are_lawful(rig).await?;
        Ok(())
    });
}

/// A super pod ends once it runs.
pub(super) async fn end(rig: &Rig, twin: &str, name: &str) -> anyhow::Result<()> {
    eventually(SOON, &format!("{name} runs"), async || {
        let pod = rig.side.get(POD, twin, name).await?;
        ensure!(
            text(&pod, "/status/phase") == "Running",
            "{}",
            pod["status"]
        );
        Ok(())
    })
    .await?;
    let ended = json!({"phase": "Succeeded"});
    rig.side.merge_status(POD, twin, name, ended).await?;
    Ok(())
}

/// What ends at once takes nothing of `pods`; what it leaves behind is limited all the same.
#[test]
fn t43_pods_that_ended_count_until_they_are_deleted() {
    on_rig(Wish::default(), async |rig| {
        limit(rig, json!({"pods": "1", "count/pods": "3"})).await?;
        shown(rig, "count/pods", "0 of 3").await?;
        let guest = &rig.tenants[0];
        let twin = rig.twin_of(0, "work").await?;
        for number in 0..3 {
            let own = format!("p{number}");
            let made = pod("work", &own, json!({}));
            guest.side.create(POD, made).await?;
            end(rig, &twin, &own).await?;
            // The next one has room among those that run.
            shown(rig, "pods", "0 of 1").await?;
            shown(rig, "count/pods", &format!("{} of 3", number + 1)).await?;
        }
        let last = pod("work", "last", json!({}));
        let last = guest.side.create(POD, last).await?;
        let told = event(&guest.side, POD, &last, "QuotaExceeded").await?;
        let says = text(&told, "/message");
        ensure!(says.contains("count/pods: 1 more of at most 3"), "{says}");
        exactly(rig, 3).await?;

        guest.side.delete(POD, "work", "p0").await?;
        eventually(SOON, "what waited is made", async || {
            Ok(rig.side.get(POD, &twin, "last").await?)
        })
        .await?;
        shown(rig, "count/pods", "3 of 3").await?;
        oracle::deeds::are_lawful(rig).await
    });
}

#[test]
fn a_quota_counts_resources_ports_and_what_the_class_says() {
    on_rig(Wish::default(), async |rig| {
        let patch = json!({"spec": {"quota": {"requests.cpu": "1", "services.nodeports": "1"}}});
        rig.side
            .merge(e2e::kind::CLASS, "", "default", patch)
            .await?;
        // Looser than the class: the class counts.
        limit(rig, json!({"requests.cpu": "8"})).await?;
        shown(rig, "requests.cpu", "0 of 1").await?;
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let create = async |pod: Value| guest.side.create(POD, pod).await;
        create(pod("work", "half", json!({"cpu": "600m"}))).await?;
        exactly(rig, 1).await?;
        let second = create(pod("work", "other", json!({"cpu": "500m"}))).await?;
        event(&guest.side, POD, &second, "QuotaExceeded").await?;
        create(pod("work", "rest", json!({"cpu": "400m"}))).await?;
        exactly(rig, 2).await?;
        // A pod that runs grows within the same limit.
        let grows = guest.side.get(POD, "work", "rest").await?;
        let more = json!([{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "2"}]);
        let door = POD.path("work", "rest") + "/resize";
        guest.side.patch(&door, PatchType::Json, more).await?;
        event(&guest.side, POD, &grows, "QuotaExceeded").await?;
        shown(rig, "requests.cpu", "1 of 1").await?;
        let same = rig.side.get(POD, &guest.twin("work"), "rest").await?;
        let asks = text(&same, "/spec/containers/0/resources/requests/cpu");
        ensure!(asks == "400m", "{asks}");
        let silent = create(pod("work", "silent", json!({}))).await?;
        event(&guest.side, POD, &silent, "QuotaNeedsResources").await?;

        for (name, reason) in [("one", None), ("two", Some("QuotaExceeded"))] {
            let mut service = make::service(name);
            service["metadata"]["namespace"] = "work".into();
            service["spec"]["type"] = "NodePort".into();
            let service = guest.side.create(SERVICE, service).await?;
            let twin = guest.twin("work");
            match reason {
                Some(reason) => drop(event(&guest.side, SERVICE, &service, reason).await?),
                None => {
                    eventually(SOON, "the first Service crosses", async || {
                        Ok(rig.side.get(SERVICE, &twin, name).await?)
                    })
                    .await?;
                }
            }
        }
        shown(rig, "services.nodeports", "1 of 1").await?;

        // What the tenant writes into what it is shown counts nothing, and goes.
        let forged = json!({"data": {"requests.cpu": "0 of 100"}});
        guest
            .side
            .merge(CONFIG_MAP, "kube-system", api::QUOTA_NAME, forged)
            .await?;
        shown(rig, "requests.cpu", "1 of 1").await?;
        ensure!(twins(rig).await?.len() == 2);
        guest.side.delete(POD, "work", "half").await?;
        eventually(SOON, "what waited is made", async || {
            let twin = guest.twin("work");
            Ok(rig.side.get(POD, &twin, "other").await?)
        })
        .await?;
        Ok(())
    });
}
