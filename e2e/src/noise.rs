//! One tenant makes all the noise that it can, while the starts of another tenant's pods are timed.
//!
//! The noise is what a tenant has at hand: events, large ConfigMaps that come and go, edits of one that pods refer to,
//! watches, and pods that fail. What its API server refuses is tried again.

use crate::{
    kind::{CONFIG_MAP, DEPLOYMENT, EVENT, POD},
    make,
    read::{items, text},
    side::Side,
    space::Space,
    wait::PODS,
};
use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, future, stream};
use serde_json::json;
use std::{pin::pin, time::Duration};
use tokio::time::Instant;

/// How often a pod is looked at.
const GLANCE: Duration = Duration::from_millis(25);
/// Writers of each kind of noise.
const WRITERS: usize = 8;
/// Watches.
const WATCHES: usize = 100;
/// Pods that fail.
const FAILING: u32 = 10;
/// Bytes of a ConfigMap that comes and goes.
const LARGE: usize = 10_000;

/// How many pods are timed.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// In each half: first without noise, then beside it.
    pub pods: usize,
    /// A few at once, so that the half lasts as long as it should.
    pub at_once: usize,
}

/// How long pods took from their create until their tenant saw them run.
#[derive(Clone, Copy, Debug)]
pub struct Starts {
    /// Of the middle one.
    pub median: Duration,
    /// Of the slowest but one in a hundred.
    pub p99: Duration,
    /// Of all of them together, from the first create.
    pub all: Duration,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Without noise.
    pub quiet: Starts,
    /// Beside it.
    pub loud: Starts,
    /// Restarts of the noisy tenant's failing pods meanwhile.
    pub restarts: i64,
}

impl Figures {
    /// p99 beside noise, in times of the quiet one.
    pub fn ratio(&self) -> f64 {
        self.loud.p99.as_secs_f64() / self.quiet.p99.as_secs_f64()
    }
}

/// Times pods of one tenant, first alone and then beside the noise of another.
///
/// # Errors
/// A pod doesn't start within [`PODS`], or the noisy tenant's pods didn't fail.
pub async fn measure(timed: &Space, noisy: &Space, extent: Extent) -> anyhow::Result<Figures> {
    // Images are there, and both have started pods.
    for space in [timed, noisy] {
        start(space, "first").await?;
    }
    let quiet = starts(timed, "quiet", extent).await?;
    prepare(noisy).await?;
    let writers = (0..WRITERS).map(|writer| write(noisy.side(), &noisy.name, writer));
    let watches = (0..WATCHES).map(|_| listen(noisy.side(), &noisy.name));
    let noise = future::join(future::join_all(writers), future::join_all(watches));
    let loud = tokio::select! {
        _ = noise => anyhow::bail!("the noise ended"),
        loud = starts(timed, "loud", extent) => loud?,
    };
    let restarts = restarts(noisy).await?;
    ensure!(restarts > 0, "no pod of the noisy tenant failed");
    Ok(Figures {
        quiet,
        loud,
        restarts,
    })
}

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

async fn starts(space: &Space, half: &str, extent: Extent) -> anyhow::Result<Starts> {
    let begun = Instant::now();
    let pods = (0..extent.pods).map(|number| format!("{half}-{number}"));
    let starts = stream::iter(pods).map(async |name| start(space, &name).await);
    let took: Vec<Duration> = starts
        .buffer_unordered(extent.at_once)
        .try_collect()
        .await?;
    let starts = Starts::of(took, begun.elapsed());
    eprintln!("{half}: median {:?}, p99 {:?}", starts.median, starts.p99);
    Ok(starts)
}

impl Starts {
    /// Of those that took so long each, and so long all together.
    pub fn of(mut took: Vec<Duration>, all: Duration) -> Self {
        took.sort_unstable();
        let at = |place: usize| took.get(place).copied().unwrap_or_default();
        Self {
            median: at(took.len() / 2),
            p99: at((took.len() * 99).div_ceil(100).saturating_sub(1)),
            all,
        }
    }
}

/// A ConfigMap that is edited, and pods that refer to it and fail.
async fn prepare(noisy: &Space) -> anyhow::Result<()> {
    let map = make::config_map("referenced", "k", "v");
    noisy.create(CONFIG_MAP, map).await?;
    let mut failing = make::shell("false");
    failing["envFrom"] = make::env_from("referenced");
    let failing = make::deployment("failing", FAILING, make::pod_spec(failing));
    noisy.create(DEPLOYMENT, failing).await?;
    Ok(())
}

async fn restarts(noisy: &Space) -> anyhow::Result<i64> {
    let pods = noisy.side().list(POD, &noisy.name, "app=failing").await?;
    let containers = pods
        .iter()
        .flat_map(|pod| items(pod, "/status/containerStatuses"));
    Ok(containers
        .map(|status| status["restartCount"].as_i64().unwrap_or_default())
        .sum())
}

/// Writes as fast as it is let, until it is dropped.
async fn write(side: &Side, namespace: &str, writer: usize) {
    for number in 0u64.. {
        let name = format!("noise-{writer}-{number}");
        let metadata = json!({"name": name, "namespace": namespace});
        let event = json!({
            "metadata": metadata, "type": "Normal", "reason": "Noise", "message": "noise",
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": name},
        });
        let map = json!({"metadata": metadata, "data": {"noise": "x".repeat(LARGE)}});
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p99_is_the_slowest_but_one_in_a_hundred() {
        let seconds = |count: u64| (1..=count).map(Duration::from_secs).collect::<Vec<_>>();
        let of = |count| Starts::of(seconds(count), Duration::ZERO).p99.as_secs();
        assert_eq!(
            [of(1), of(10), of(100), of(101), of(200)],
            [1, 10, 99, 100, 198]
        );
    }
}
