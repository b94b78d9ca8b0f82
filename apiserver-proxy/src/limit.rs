//! How much of the proxy one tenant may use, so that none takes it from the others.

use crate::{list::Turns, lookup::Lookups, metrics::Plane, shares::Shares, wake::Places};
use clap::{Args, value_parser};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tenancy::bucket::{Bucket, Rate};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Logs, exec, attach and port-forward, by default so many: each holds two connections and the buffers between them.
const PODS: Most = Most::new(500, 300, 50);
/// Lists of metrics cost the super API server more than a connection does.
const FIGURES_OPEN: usize = 8;
/// Questions that the index answers cost little.
const DNS: Most = Most::new(1000, 4000, 2000);
/// Questions that go outside: each holds a port for as long as it is open.
const DNS_OUTSIDE: Most = Most::new(100, 400, 200);
const DNS_STREAMS: Most = Most::new(100, 100, 50);
/// Between two lines about the same that a tenant was refused.
const SILENCE: Duration = Duration::from_secs(30);

/// What an admin may change of the limits that each tenant has at one replica.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Connections that a tenant may hold at a replica's front door, and as many at its way out; each client half of them
    #[arg(long = "tenant-connections", value_name = "NUMBER", default_value_t = Caps::default().connections,
        value_parser = value_parser!(u32).range(2..=100_000))]
    connections: u32,

    /// Connections that a tenant may open there in a second, after a burst of five times as many; each client half of them
    #[arg(long = "tenant-connection-rate", value_name = "NUMBER", default_value_t = Caps::default().connection_rate,
        value_parser = value_parser!(u32).range(2..=10_000))]
    connection_rate: u32,

    /// Logs, exec, attach and port-forward that a tenant may have open at a replica
    #[arg(long = "tenant-pod-requests", value_name = "NUMBER", default_value_t = Caps::default().pod_requests,
        value_parser = value_parser!(u32).range(1..=100_000))]
    pod_requests: u32,

    /// Questions for metrics that a tenant may ask a replica in a second, after a burst of five times as many
    #[arg(long = "tenant-metrics-rate", value_name = "NUMBER", default_value_t = Caps::default().metrics_rate,
        value_parser = value_parser!(u32).range(1..=10_000))]
    metrics_rate: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            connections: 2000,
            connection_rate: 100,
            pod_requests: 500,
            // Each HorizontalPodAutoscaler asks every 15 seconds, and a few hundred of them are no flood.
            metrics_rate: 40,
        }
    }
}

/// The limits of one tenant.
pub(crate) struct Limits {
    /// At the front door.
    pub(crate) door: Limit,
    /// Of that each client.
    pub(crate) clients: Shares,
    /// Connections at the front door that are held while the tenant wakes.
    pub(crate) held: Places,
    /// At the way out, the kubelet's among it.
    pub(crate) out: Limit,
    /// On names that its API servers have looked up.
    pub(crate) lookups: Lookups,
    /// On requests to its pods, as long as their answers last.
    pub(crate) pods: Limit,
    /// On questions to the super cluster's metrics API.
    pub(crate) figures: Limit,
    /// Among them, those with large answers.
    pub(crate) large_lists: Turns,
    /// On questions to the DNS server.
    pub(crate) dns: Limit,
    /// On those of them that it must ask outside.
    pub(crate) dns_outside: Limit,
    /// On streams to it.
    pub(crate) dns_streams: Limit,
    /// On log lines about what is refused.
    pub(crate) noise: Noise,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(Caps::default())
    }
}

impl Limits {
    /// All that is free to be taken.
    pub(crate) fn of(caps: Caps) -> Self {
        let Caps {
            connections,
            connection_rate,
            pod_requests,
            metrics_rate,
        } = caps;
        let all = Most::new(connections as usize, 5 * connection_rate, connection_rate);
        let pods = Most {
            open: pod_requests as usize,
            ..PODS
        };
        Self {
            door: Limit::new(all),
            clients: Shares::new(
                all.open / 2,
                Rate::per_second(connection_rate / 2, all.rate.burst / 2),
            ),
            held: Places::of_one(),
            out: Limit::new(all),
            lookups: Lookups::default(),
            pods: Limit::new(pods),
            figures: Limit::new(Most::new(FIGURES_OPEN, 5 * metrics_rate, metrics_rate)),
            large_lists: Arc::new(Semaphore::new(1)),
            dns: Limit::new(DNS),
            dns_outside: Limit::new(DNS_OUTSIDE),
            dns_streams: Limit::new(DNS_STREAMS),
            noise: Noise::default(),
        }
    }
}

/// One line in a while: what is refused is counted, and a tenant can't fill the log.
#[derive(Default)]
pub(crate) struct Noise(Mutex<HashMap<(Plane, &'static str), Instant>>);

impl Noise {
    /// Whether a line about that may be written now.
    pub(crate) fn may_speak(&self, plane: Plane, why: &'static str) -> bool {
        let (mut lines, now) = (self.0.lock(), Instant::now());
        let last = lines.get(&(plane, why));
        let may = last.is_none_or(|last| now.duration_since(*last) >= SILENCE);
        if may {
            lines.insert((plane, why), now);
        }
        may
    }
}

/// How many may be open, and how fast they may begin.
#[derive(Clone, Copy)]
struct Most {
    open: usize,
    rate: Rate,
}

impl Most {
    /// So many open, so many at once, and so many in a second thereafter.
    const fn new(open: usize, burst: u32, per_second: u32) -> Self {
        let rate = Rate {
            burst,
            period: Duration::from_nanos(1_000_000_000 / per_second as u64),
        };
        Self { open, rate }
    }
}

/// A limit on connections or requests, on their number and on their rate.
pub(crate) struct Limit {
    most: Most,
    slots: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

/// A place that is held while a connection lasts.
pub(crate) type Slot = OwnedSemaphorePermit;

/// No place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Limit {
    fn new(most: Most) -> Self {
        Self {
            most,
            slots: Arc::new(Semaphore::new(most.open)),
            bucket: Mutex::new(Bucket::of(most.rate)),
        }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.most.open - self.slots.available_permits()
    }

    /// Takes all places.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> Slot {
        let all = u32::try_from(self.most.open).unwrap();
        self.slots.clone().try_acquire_many_owned(all).unwrap()
    }

    /// Takes a place for a new connection or request.
    pub(crate) fn take(&self) -> Result<Slot, Full> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Full)?;
        let may = self.bucket.lock().take(Instant::now().into_std());
        may.then_some(slot).ok_or(Full)
    }

    /// What was taken turned out to cost as much as so many more.
    pub(crate) fn charge(&self, more: u32) {
        self.bucket.lock().charge(more, Instant::now().into_std());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_in_and_then_so_many_a_second() {
        let limit = Limits::default().door;
        let taken = || (0..10_000).take_while(|_| limit.take().is_ok()).count();
        assert_eq!(taken(), 500);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(taken(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn an_admin_sets_how_much_each_tenant_has() {
        let caps = Caps {
            connections: 20,
            connection_rate: 2,
            pod_requests: 7,
            metrics_rate: 1,
        };
        let limits = Limits::of(caps);
        let begun = |limit: &Limit| (0..100).take_while(|_| limit.take().is_ok()).count();
        assert_eq!([&limits.door, &limits.out].map(begun), [10, 10]);
        assert_eq!(begun(&limits.figures), 5);
        let held: Vec<_> = (0..100).map_while(|_| limits.pods.take().ok()).collect();
        assert_eq!(held.len(), 7);
        let from: Option<std::net::IpAddr> = "192.0.2.1".parse().ok();
        let held: Vec<_> = (0..100)
            .map_while(|_| limits.clients.take(from).ok())
            .collect();
        assert_eq!(held.len(), 5);
    }

    /// A controller-manager asks for each of its autoscalers every 15 seconds.
    #[tokio::test(start_paused = true)]
    async fn some_hundred_autoscalers_are_answered_at_one_replica() {
        let limit = Limits::default().figures;
        for question in 0..5_000 {
            assert!(limit.take().is_ok(), "question {question}");
            // 500 of them in 15 seconds.
            tokio::time::advance(Duration::from_millis(30)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_is_refused_one_line_is_written_in_a_while() {
        let noise = Noise::default();
        let lines = |plane, why| (0..1000).filter(|_| noise.may_speak(plane, why)).count();
        assert_eq!(lines(Plane::Out, "refused"), 1);
        // A scan at one plane hides nothing at another.
        assert_eq!(lines(Plane::Kubelet, "refused"), 1);
        assert_eq!(lines(Plane::Kubelet, "path"), 1);
        tokio::time::advance(SILENCE).await;
        assert_eq!(lines(Plane::Out, "refused"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_counts() {
        let limit = Limits::default().door;
        let mut held = vec![];
        while held.len() < 2000 {
            match limit.take() {
                Ok(slot) => held.push(slot),
                Err(Full) => tokio::time::advance(Duration::from_secs(1)).await,
            }
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(limit.take().is_err());
        held.pop();
        assert!(limit.take().is_ok());
    }
}
