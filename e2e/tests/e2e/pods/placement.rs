//! Where pods run: affinity over namespaces, spreading, priorities, DaemonSets.

use anyhow::{Context, ensure};
use e2e::{
    kind::{DAEMON_SET, DEPLOYMENT, NAMESPACE, NODE, POD, PRIORITY_CLASS},
    make,
    read::{condition, event, items, name, text},
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn node(pod: &Value) -> &str {
    text(pod, "/spec/nodeName")
}

/// Affinity to pods `app: other` of the namespaces that a label selects.
fn affinity(kind: &str, team: &str) -> Value {
    json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}},
        "namespaceSelector": {"matchLabels": {"team": team}},
    }]}})
}

#[test]
fn affinity_reaches_the_namespaces_that_its_selector_matches() {
    within(A, "near", async |space| {
        let second = Space::open(space.tenant.clone(), &format!("{}-2", space.name)).await?;
        let outcome = affinity_over(space, &second).await;
        space.side().delete(NAMESPACE, "", &second.name).await?;
        outcome
    });
}

async fn affinity_over(space: &Space, second: &Space) -> anyhow::Result<()> {
    let label = json!({"metadata": {"labels": {"team": second.name}}});
    space
        .side()
        .merge(NAMESPACE, "", &second.name, label)
        .await?;
    let other = json!({"metadata": {"name": "other", "labels": {"app": "other"}}, "spec": make::pod_spec(make::idle())});
    second.create(POD, other).await?;
    let other = second.ready("other").await?;
    let place = async |name: &str, affinity: Value| {
        let mut spec = make::pod_spec(make::idle());
        spec["affinity"] = affinity;
        space.pod(name, spec).await
    };
    // Several, so that chance alone would fail.
    for n in 0..3 {
        place(&format!("near-{n}"), affinity("podAffinity", &second.name)).await?;
        place(
            &format!("far-{n}"),
            affinity("podAntiAffinity", &second.name),
        )
        .await?;
    }
    let lost = place("lost", affinity("podAffinity", "no-such-team")).await?;
    for n in 0..3 {
        let (near, far) = (
            space.ready(&format!("near-{n}")).await?,
            space.ready(&format!("far-{n}")).await?,
        );
        ensure!(
            node(&near) == node(&other) && node(&far) != node(&other),
            "{} and {}, not {}",
            node(&near),
            node(&far),
            node(&other)
        );
    }
    event(space.side(), POD, &lost, "FailedScheduling").await?;
    // The scheduler tells the event before it writes the condition.
    let unscheduled = |pod: &Value| condition(pod, "PodScheduled") == "False";
    space
        .like(POD, "lost", "isn't scheduled", SOON, unscheduled)
        .await?;
    Ok(())
}

#[test]
fn pods_spread_over_nodes() {
    within(A, "spread", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["pod-template-hash"],
        }]);
        space
            .create(DEPLOYMENT, make::deployment("web", 4, spec))
            .await?;
        space.rolled_out(DEPLOYMENT, "web", 4).await?;
        let pods = space.pods("app=web").await?;
        let nodes: BTreeSet<&str> = pods.iter().map(node).collect();
        for node_name in &nodes {
            let count = pods.iter().filter(|pod| node(pod) == *node_name).count();
            ensure!(count == 4 / nodes.len(), "{count} pods on {node_name}");
        }
        ensure!(nodes.len() > 1, "all run on {nodes:?}");
        Ok(())
    });
}

#[test]
fn a_tenants_own_priority_stays_in_the_tenant() {
    within(A, "first", async |space| {
        let class = format!("{}-high", space.name);
        let object = json!({"metadata": {"name": class}, "value": 1_000_000});
        space.side().create(PRIORITY_CLASS, object).await?;
        let mut spec = make::pod_spec(make::idle());
        spec["priorityClassName"] = class.as_str().into();
        let pod = async {
            let what = "the API server's admission has heard of the class";
            let make = async || Ok(space.pod("web", spec.clone()).await?);
            eventually(SOON, what, make).await?;
            space.ready("web").await
        }
        .await;
        space.side().delete(PRIORITY_CLASS, "", &class).await?;
        let pod = pod?;
        let twin = space.twin(POD, "web").await?;
        ensure!(pod["spec"]["priority"] == 1_000_000, "{}", pod["spec"]);
        ensure!(
            twin["spec"]["priority"] == 0 && text(&twin, "/spec/priorityClassName") != class,
            "{}",
            twin["spec"]
        );
        e2e::read::event(space.side(), POD, &pod, "LeftOut").await?;
        Ok(())
    });
}

#[test]
fn a_daemon_set_runs_on_every_node_that_the_tenant_has() {
    within(A, "daemon", async |space| {
        let mut set = make::deployment("agent", 0, make::pod_spec(make::idle()));
        set["spec"]
            .as_object_mut()
            .context("a spec")?
            .remove("replicas");
        set["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        space.create(DAEMON_SET, set).await?;
        let nodes = space.side().list(NODE, "", "").await?;
        let ready = |node: &&Value| {
            condition(node, "Ready") == "True" && items(node, "/spec/taints").is_empty()
        };
        let wanted: BTreeSet<&str> = nodes.iter().filter(ready).map(name).collect();
        eventually(PODS, "each node has its pod", async || {
            let pods = space.pods("app=agent").await?;
            let on: BTreeSet<&str> = pods
                .iter()
                .filter(|pod| condition(pod, "Ready") == "True")
                .map(node)
                .collect();
            ensure!(
                on == wanted && !wanted.is_empty() && pods.len() == wanted.len(),
                "pods on {on:?}, not {wanted:?}"
            );
            let set = space.get(DAEMON_SET, "agent").await?;
            ensure!(
                set["status"]["numberReady"] == wanted.len(),
                "{}",
                set["status"]
            );
            Ok(())
        })
        .await
    });
}
