//! Many Clusters at once.

use super::{cluster, control_plane_of, place_of, with_clusters};
use anyhow::bail;
use e2e::{
    kind::{CLASS, CLUSTER, CONTROL_PLANE, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{condition, name},
    side::Side,
    wait::PODS,
};
use futures::{StreamExt, future::try_join_all};
use serde_json::json;
use std::{collections::BTreeSet, pin::pin, time::Duration};
use tokio::time::Instant;

/// How many.
const MANY: usize = 20;
/// How many the manager lets start at once.
const AT_ONCE: usize = 4;
/// Until then all are Available.
const LIMIT: Duration = Duration::from_secs(300);

/// Ends when more control planes start than may, and says which.
async fn too_many_start(above: &Side, namespace: &str) -> anyhow::Result<BTreeSet<String>> {
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
            if starting.len() > AT_ONCE {
                return Ok(starting);
            }
        }
        starting.clear();
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn twenty_clusters_at_once_are_available_in_five_minutes() {
    with_clusters(async |place| {
        // What is tried is the manager and its waits, not how many pods a small node may promise room to.
        let class = format!("many-{}", &place.namespace[place.namespace.len() - 6..]);
        let default = place.above.get(CLASS, "", "default").await?;
        let mut spec = default["spec"].clone();
        for part in ["etcd", "kubeApiserver", "kubeControllerManager"] {
            spec["resources"][part]["requests"] = json!({"cpu": "1m", "memory": "16Mi"});
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
            let available = try_join_all(names.iter().map(async |name| {
                place.available(name, LIMIT).await?;
                anyhow::Ok(began.elapsed())
            }));
            let times = tokio::select! {
                times = available => times?,
                most = too_many_start(&place.above, &place.namespace) => {
                    bail!("{:?} start at once", most?)
                }
            };
            let seconds = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64);
            eprintln!(
                "{MANY} Clusters at once: the first was Available after {:.0} s, all after {:.0} s",
                seconds(times.iter().min()),
                seconds(times.iter().max())
            );
            let began = Instant::now();
            for name in &names {
                place.delete(CLUSTER, name).await?;
            }
            try_join_all(names.iter().map(|name| place.gone(CLUSTER, name, 3 * PODS))).await?;
            eprintln!("all were gone after {:.0} s", began.elapsed().as_secs_f64());
            Ok(())
        };
        let outcome: anyhow::Result<()> = outcome.await;
        place.above.delete(CLASS, "", &class).await?;
        outcome
    });
}
