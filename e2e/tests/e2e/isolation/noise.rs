//! T40: one tenant makes all the noise that it can, and another's pods start as fast as before.

use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, DEPLOYMENT, EVENT, POD},
    make,
    read::{items, text},
    side::Side,
    space::{Space, within},
    tenant::{A, B},
    wait::PODS,
};
use futures::{StreamExt, TryStreamExt, future, stream};
use serde_json::json;
use std::{pin::pin, time::Duration};
use tokio::time::Instant;

/// Pods that are timed in each half, a few at once, so that two minutes are filled.
const TIMED: usize = 100;
const AT_ONCE: usize = 2;
/// How often a pod is looked at.
const GLANCE: Duration = Duration::from_millis(25);
/// How much slower the slowest of a hundred may be.
const MOST: f64 = 1.5;

/// Writers of each kind of noise, and watches.
const WRITERS: usize = 8;
const WATCHES: usize = 100;
const FAILING: u32 = 10;

/// From the create of a pod until its tenant sees it run.
async fn start(space: &Space, name: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    space.pod(name, make::once(make::idle())).await?;
    loop {
        let pod = space.get(POD, name).await?;
        if text(&pod, "/status/phase") == "Running" {
            break;
        }
        ensure!(
            begun.elapsed() < PODS,
            "{name} doesn't run: {}",
            pod["status"]
        );
        tokio::time::sleep(GLANCE).await;
    }
    let took = begun.elapsed();
    space.delete(POD, name).await?;
    Ok(took)
}

/// The 99th of a hundred pods.
async fn slowest(space: &Space, half: &str) -> anyhow::Result<Duration> {
    let pods = (0..TIMED).map(|number| format!("{half}-{number}"));
    let starts = stream::iter(pods).map(async |name| start(space, &name).await);
    let mut took: Vec<Duration> = starts.buffer_unordered(AT_ONCE).try_collect().await?;
    took.sort_unstable();
    let (median, last) = (took[TIMED / 2], took[TIMED * 99 / 100 - 1]);
    eprintln!("{half}: median {median:?}, p99 {last:?}");
    Ok(last)
}

/// Writes as fast as it is let, until it is dropped; what is refused is tried again.
async fn write(side: &Side, namespace: &str, writer: usize) {
    for number in 0u64.. {
        let name = format!("noise-{writer}-{number}");
        let metadata = json!({"name": name, "namespace": namespace});
        let event = json!({
            "metadata": metadata, "type": "Normal", "reason": "Noise", "message": "noise",
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": name},
        });
        let map = json!({"metadata": metadata, "data": {"noise": "x".repeat(10_000)}});
        let _ = side.create(EVENT, event).await;
        let _ = side.create(CONFIG_MAP, map).await;
        // One that pods refer to crosses each time.
        let changed = json!({"data": {"k": number.to_string()}});
        let _ = side
            .merge(CONFIG_MAP, namespace, "referenced", changed)
            .await;
        let _ = side.delete(CONFIG_MAP, namespace, &name).await;
    }
}

async fn listen(side: &Side, namespace: &str) {
    let path = CONFIG_MAP.path(namespace, "") + "?watch=true";
    loop {
        if let Ok(events) = side.watch(&path).await {
            let mut events = pin!(events);
            while events.next().await.is_some() {}
        }
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t40_a_noisy_tenant_slows_no_pods_of_another() {
    within(A, "noise", async |a| {
        let b = Space::open(B.get().await?.clone(), &a.name).await?;
        // Images are there, and both have started pods.
        for space in [a, &b] {
            start(space, "first").await?;
        }
        let quiet = slowest(a, "quiet").await?;
        b.create(CONFIG_MAP, make::config_map("referenced", "k", "v"))
            .await?;
        let mut failing = make::shell("false");
        failing["envFrom"] = make::env_from("referenced");
        b.create(
            DEPLOYMENT,
            make::deployment("failing", FAILING, make::pod_spec(failing)),
        )
        .await?;
        let writers = (0..WRITERS).map(|writer| write(b.side(), &b.name, writer));
        let watches = (0..WATCHES).map(|_| listen(b.side(), &b.name));
        let noise = future::join(future::join_all(writers), future::join_all(watches));
        let loud = tokio::select! {
            _ = noise => anyhow::bail!("the noise ended"),
            loud = slowest(a, "loud") => loud?,
        };
        let pods = b.side().list(POD, &b.name, "app=failing").await?;
        let fails = pods
            .iter()
            .flat_map(|pod| items(pod, "/status/containerStatuses"));
        let restarts: i64 = fails
            .map(|status| status["restartCount"].as_i64().unwrap_or_default())
            .sum();
        b.side().delete(e2e::kind::NAMESPACE, "", &b.name).await?;
        ensure!(restarts > 0, "no pod failed");
        let ratio = loud.as_secs_f64() / quiet.as_secs_f64();
        eprintln!("p99 beside noise: {ratio:.2} times the quiet one");
        ensure!(
            ratio <= MOST,
            "p99 {loud:?} beside noise, {quiet:?} without: {ratio:.2} times"
        );
        Ok(())
    });
}
