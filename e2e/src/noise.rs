//! One tenant makes all the noise that it can, while the starts of another tenant's pods are timed.
//!
//! The noise is what a tenant has at hand: events, large ConfigMaps that come and go, edits of one that pods refer to,
//! watches, and pods that fail. What its API server refuses is tried again; what it takes is counted, since a tenant that is
//! refused everything makes no noise.

mod watches;

use crate::{
    daemon::SYNCER,
    kind::{CONFIG_MAP, DEPLOYMENT, EVENT, POD, POD_METRICS},
    make,
    read::{items, name, text},
    side::{Problem, Side},
    space::Space,
    wait::PODS,
};
use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, future, stream};
use serde_json::json;
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tenancy::quota::amount;
use tokio::time::Instant;

/// How often a pod is looked at.
const GLANCE: Duration = Duration::from_millis(25);
/// Writers of each kind of noise.
const WRITERS: usize = 8;
/// Watches.
const WATCHES: usize = 1000;
/// Of which so many must be open at the end: a server ends one now and then.
const OPEN: usize = WATCHES * 9 / 10;
/// Writes that must have succeeded, however slow the machine is.
const WRITES: u64 = 2000;
/// How often the syncers' memory is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Pods that fail.
const FAILING: u32 = 10;
/// Bytes of a ConfigMap that comes and goes.
const LARGE: usize = 10_000;

/// How many pods are timed.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// In each half: first without noise, then beside it.
    pub pods: usize,
    /// So many at once.
    pub at_once: usize,
    /// Beside the noise more pods are timed until it has lasted so long.
    pub least: Duration,
}

/// How long pods took from their create until their tenant saw them run.
#[derive(Clone, Copy, Debug)]
pub struct Starts {
    /// How many were timed.
    pub pods: usize,
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
    /// Writes of the noisy tenant that succeeded meanwhile.
    pub writes: u64,
    /// Those that didn't.
    pub refused: u64,
    /// Its watches that were open at the end.
    pub watches: usize,
    /// The most memory that a syncer was seen to hold meanwhile, in MiB.
    pub memory: f64,
}

impl Figures {
    /// p99 beside noise, in times of the quiet one.
    pub fn ratio(&self) -> f64 {
        self.loud.p99.as_secs_f64() / self.quiet.p99.as_secs_f64()
    }

    /// Writes of the noisy tenant that succeeded, in a second.
    pub fn writes_per_second(&self) -> f64 {
        self.writes as f64 / self.loud.all.as_secs_f64()
    }

    /// Whether there was as much noise as there should be, and somebody looked.
    fn is_loud(&self) -> anyhow::Result<()> {
        ensure!(self.restarts > 0, "no pod of the noisy tenant failed");
        ensure!(
            self.writes >= WRITES && self.refused <= self.writes,
            "the noisy tenant made only {} writes in {:?}, and {} were refused",
            self.writes,
            self.loud.all,
            self.refused
        );
        ensure!(
            self.watches >= OPEN,
            "only {} watches are open",
            self.watches
        );
        ensure!(self.memory > 0.0, "nothing is told of the syncers' memory");
        Ok(())
    }
}

/// Times pods of one tenant, first alone and then beside the noise of another.
///
/// # Errors
/// A pod doesn't start within [`PODS`], or the noisy tenant wasn't noisy: its pods didn't fail, its API server refused most of
/// what it wrote, or watches didn't stay open.
pub async fn measure(timed: &Space, noisy: &Space, extent: Extent) -> anyhow::Result<Figures> {
    // Images are there, and both have started pods.
    for space in [timed, noisy] {
        start(space, "first").await?;
    }
    let alone = Extent {
        least: Duration::ZERO,
        ..extent
    };
    let quiet = starts(timed, "quiet", alone).await?;
    prepare(noisy).await?;
    let (written, open, held) = (Tally::default(), AtomicUsize::new(0), AtomicU64::new(0));
    let writers = (0..WRITERS).map(|writer| write(noisy.side(), &noisy.name, writer, &written));
    let noise = async {
        let watches = watches::keep(&noisy.tenant.kubeconfig, &noisy.name, WATCHES, &open);
        future::join(future::join_all(writers), watches).await.1
    };
    let loud = tokio::select! {
        ended = noise => anyhow::bail!("the noise ended: {ended:?}"),
        () = look(timed.above(), &held) => anyhow::bail!("nobody looks at the syncers"),
        loud = starts(timed, "loud", extent) => loud?,
    };
    let figures = Figures {
        quiet,
        loud,
        restarts: restarts(noisy).await?,
        writes: written.succeeded.into_inner(),
        refused: written.refused.into_inner(),
        watches: open.into_inner(),
        memory: held.into_inner() as f64 / 1024.0 / 1024.0,
    };
    eprintln!(
        "{} writes, {:.0} a second, and {} refused, beside {} watches; a syncer held {:.0} MiB at most",
        figures.writes,
        figures.writes_per_second(),
        figures.refused,
        figures.watches,
        figures.memory
    );
    figures.is_loud()?;
    Ok(figures)
}

/// Looks at the syncers' memory, as the super cluster's metrics tell it, until it is dropped; keeps the most bytes of one.
async fn look(above: &Side, held: &AtomicU64) {
    loop {
        // Metrics have gaps.
        let all = above.list(POD_METRICS, api::SYSTEM_NAMESPACE, "").await;
        let all = all.unwrap_or_default();
        let of_syncers = all.iter().filter(|pod| name(pod).starts_with(SYNCER));
        for container in of_syncers.flat_map(|pod| items(pod, "/containers")) {
            // In thousandths of a byte.
            let used = amount::parse(text(container, "/usage/memory")).unwrap_or_default() / 1000;
            held.fetch_max(used.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK).await;
    }
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
    let starts = stream::iter(0..)
        .take_while(|number| future::ready(*number < extent.pods || begun.elapsed() < extent.least))
        .map(async |number: usize| start(space, &format!("{half}-{number}")).await);
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
            pods: took.len(),
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

/// What became of writes.
#[derive(Default)]
struct Tally {
    succeeded: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// Counts one; says whether it succeeded.
    fn count<T>(&self, answer: &Result<T, Problem>) -> bool {
        let kind = match answer {
            Ok(_) => &self.succeeded,
            Err(_) => &self.refused,
        };
        kind.fetch_add(1, Ordering::Relaxed);
        answer.is_ok()
    }
}

/// Writes as fast as it is let, until it is dropped, and counts what becomes of it.
async fn write(side: &Side, namespace: &str, writer: usize, written: &Tally) {
    for number in 0u64.. {
        let name = format!("noise-{writer}-{number}");
        let metadata = json!({"name": name, "namespace": namespace});
        let event = json!({
            "metadata": metadata, "type": "Normal", "reason": "Noise", "message": "noise",
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": name},
        });
        let map = json!({"metadata": metadata, "data": {"noise": "x".repeat(LARGE)}});
        written.count(&side.create(EVENT, event).await);
        let is_made = written.count(&side.create(CONFIG_MAP, map).await);
        // One that pods refer to crosses each time.
        let changed = json!({"data": {"k": number.to_string()}});
        let edited = side.merge(CONFIG_MAP, namespace, "referenced", changed);
        written.count(&edited.await);
        // To delete what isn't there is no noise.
        if is_made {
            written.count(&side.delete(CONFIG_MAP, namespace, &name).await);
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

    #[test]
    fn a_tenant_that_is_refused_everything_makes_no_noise() {
        let half = Starts::of(vec![Duration::from_secs(1)], Duration::from_secs(120));
        let loud = Figures {
            quiet: half,
            loud: half,
            restarts: 1,
            writes: 5000,
            refused: 10,
            watches: WATCHES,
            memory: 1.0,
        };
        assert!(loud.is_loud().is_ok());
        for refused in [
            Figures {
                writes: 1000,
                ..loud
            },
            Figures {
                refused: 9000,
                ..loud
            },
            Figures {
                watches: WATCHES / 2,
                ..loud
            },
            Figures {
                restarts: 0,
                ..loud
            },
        ] {
            assert!(refused.is_loud().is_err(), "{refused:?}");
        }
    }
}
