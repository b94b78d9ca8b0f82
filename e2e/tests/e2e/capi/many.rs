//! Many Clusters at once.

use super::{alone_with_clusters, cluster, control_plane_of, place_of};
use anyhow::{Context, bail};
use e2e::{
    figure,
    kind::{CLASS, CLUSTER, CONTROL_PLANE, NODE, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{condition, name, text},
    side::Side,
    wait::PODS,
};
use futures::{StreamExt, future::try_join_all};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How many.
const MANY: usize = 20;
/// Until then all are Available.
const LIMIT: Duration = Duration::from_secs(300);

/// How many the manager lets start at once: one for two cores that nodes have, from 2 to 32.
async fn at_once(above: &Side) -> anyhow::Result<usize> {
    let nodes = above.list(NODE, "", "").await?;
    let cores = nodes.iter().map(|node| {
        let cores = text(node, "/status/allocatable/cpu").parse::<usize>();
        cores.context("a node of the development cluster tells whole cores")
    });
    let cores: usize = cores.sum::<anyhow::Result<usize>>()?;
    Ok((cores / 2).clamp(2, 32))
}

/// When each of them was Available. By one watch: to ask for every one of them, over and over, takes from them what they
/// need to start.
async fn all_available(
    above: &Side,
    namespace: &str,
    began: Instant,
) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    loop {
        let path = CLUSTER.path(namespace, "") + "?watch=true";
        let mut events = pin!(above.watch(&path).await?);
        while let Some(event) = events.next().await {
            let cluster = &event["object"];
            let is_provisioned = text(cluster, "/status/phase") == "Provisioned";
            if is_provisioned && condition(cluster, "Available") == "True" {
                let name = name(cluster).to_owned();
                times.entry(name).or_insert_with(|| began.elapsed());
            }
            if times.len() == MANY {
                return Ok(times);
            }
        }
    }
}

/// Ends when more control planes start than may, and says which.
async fn too_many_start(
    above: &Side,
    namespace: &str,
    at_once: usize,
) -> anyhow::Result<BTreeSet<String>> {
    let mut starting = BTreeSet::new();
    loop {
        let path = CONTROL_PLANE.path(namespace, "") + "?watch=true";
        let mut events = pin!(above.watch(&path).await?);
        while let Some(event) = events.next().await {
            let vcp = &event["object"];
            if condition(vcp, "Starting") == "True" && event["type"] != "DELETED" {
                starting.insert(name(vcp).to_owned());
            } else {
                starting.remove(name(vcp));
            }
            if starting.len() > at_once {
                return Ok(starting);
            }
        }
        starting.clear();
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn twenty_clusters_at_once_are_available_in_five_minutes() {
    alone_with_clusters(async |place| {
        // What is tried is the manager and its waits, not how many pods a small node may promise room to.
        let class = format!("many-{}", &place.namespace[place.namespace.len() - 6..]);
        let default = place.above.get(CLASS, "", "default").await?;
        let mut spec = default["spec"].clone();
        for part in ["etcd", "kubeApiserver", "kubeControllerManager"] {
            spec["controlPlane"]["resources"][part]["requests"] =
                json!({"cpu": "1m", "memory": "16Mi"});
        }
        let body = json!({"metadata": {"name": class}, "spec": spec});
        place.above.create(CLASS, body).await?;
        let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
        let began = Instant::now();
        let outcome = async {
            try_join_all(names.iter().map(async |name| {
                let (control_plane, own) = (control_plane_of(name), place_of(name));
                place.create(SUBLET_CLUSTER, &own, json!({})).await?;
                let spec = json!({
                    "version": super::VERSION, "className": class, "etcd": {"storage": {"ephemeral": true}},
                });
                place.create(SUBLET_CONTROL_PLANE, &control_plane, spec).await?;
                place.create(CLUSTER, name, cluster(&control_plane, &own)).await
            }))
            .await?;
            let at_once = at_once(&place.above).await?;
            let available = all_available(&place.above, &place.namespace, began);
            let times = tokio::select! {
                times = timeout(LIMIT, available) => times.context("not all are Available")??,
                most = too_many_start(&place.above, &place.namespace, at_once) => {
                    bail!("{:?} start at once", most?)
                }
            };
            let last = times.values().max().copied().unwrap_or_default();
            figure::keep(
                "twenty Clusters at once, until all are Available",
                last,
                LIMIT,
            )?;
            for name in &names {
                place.delete(CLUSTER, name).await?;
            }
            try_join_all(names.iter().map(|name| place.gone(CLUSTER, name, 3 * PODS))).await?;
            Ok(())
        };
        let outcome: anyhow::Result<()> = outcome.await;
        place.above.delete(CLASS, "", &class).await?;
        outcome
    });
}
