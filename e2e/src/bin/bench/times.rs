//! When what was first seen of each pod, on one clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// What can be seen of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The request that makes it is sent.
    Sent,
    /// The API server in which it was made has it.
    Pod,
    /// The super cluster has it.
    SuperPod,
    /// It is bound in the super cluster.
    SuperBound,
    /// Its token Secret is in the super cluster.
    Token,
    /// It is ready, says the super cluster.
    SuperReady,
    /// It is ready, says the API server in which it was made.
    Ready,
}

const STAGES: usize = 7;

/// First times by the number of the pod.
pub(crate) struct Times {
    began: Instant,
    /// Nanoseconds after the beginning; 0 is never.
    first: Vec<[AtomicU64; STAGES]>,
}

impl Times {
    pub(crate) fn new(pods: usize) -> Self {
        let never = || [const { AtomicU64::new(0) }; STAGES];
        Self {
            began: now(),
            first: (0..pods).map(|_| never()).collect(),
        }
    }

    /// Notes that something is seen now; whether it is the first time.
    pub(crate) fn note(&self, pod: usize, seen: Seen) -> bool {
        let at = u64::try_from((now() - self.began).as_nanos()).unwrap_or(u64::MAX);
        let Some(stages) = self.first.get(pod) else {
            return false;
        };
        stages[seen as usize]
            .compare_exchange(0, at.max(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// When it was seen, after the beginning.
    pub(crate) fn at(&self, pod: usize, seen: Seen) -> Option<Duration> {
        let nanos = self.first.get(pod)?[seen as usize].load(Ordering::Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    /// How many of the pods lack it.
    pub(crate) fn missing(&self, pods: impl IntoIterator<Item = usize>, seen: Seen) -> usize {
        pods.into_iter()
            .filter(|pod| self.at(*pod, seen).is_none())
            .count()
    }

    /// How long each pod took from one sight to another, shortest first; 0 where the second came first. Pods that lack
    /// either are left out.
    pub(crate) fn between(
        &self,
        pods: impl IntoIterator<Item = usize>,
        from: Seen,
        to: Seen,
    ) -> Vec<Duration> {
        let mut took: Vec<Duration> = pods
            .into_iter()
            .filter_map(|pod| Some(self.at(pod, to)?.saturating_sub(self.at(pod, from)?)))
            .collect();
        took.sort_unstable();
        took
    }

    /// From the first request to the last pod that is ready.
    pub(crate) fn span(&self, pods: impl Iterator<Item = usize> + Clone) -> Duration {
        let first = pods
            .clone()
            .filter_map(|pod| self.at(pod, Seen::Sent))
            .min();
        let last = pods.filter_map(|pod| self.at(pod, Seen::Ready)).max();
        last.unwrap_or_default()
            .saturating_sub(first.unwrap_or_default())
    }
}

/// Now, on the one clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_sight_counts() {
        let times = Times::new(2);
        tokio::time::advance(Duration::from_millis(5)).await;
        assert!(times.note(0, Seen::Sent));
        tokio::time::advance(Duration::from_millis(7)).await;
        assert!(times.note(0, Seen::Ready) && !times.note(0, Seen::Sent));
        assert!(!times.note(9, Seen::Sent), "there is no such pod");
        let took = times.between(0..2, Seen::Sent, Seen::Ready);
        assert_eq!(took, [Duration::from_millis(7)]);
        assert_eq!(times.missing(0..2, Seen::Ready), 1);
        assert_eq!(times.span(0..2), Duration::from_millis(7));
    }
}
