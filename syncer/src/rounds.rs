//! When and how many tenants are patrolled.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Rounds at once, over all tenants: each holds a page of objects and the names of one kind.
const AT_ONCE: usize = 4;
/// The same of tenants whose API servers take long.
const SLOW_AT_ONCE: usize = 2;
/// For whose API server a round waits longer waits for others of the kind from then on, and no other waits for it (T40, T42).
const SWIFT: Duration = Duration::from_secs(60);
/// No round takes longer: one that is answered slowly for ever would keep its place.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// Among whom a tenant is patrolled, by how long its API server took in its last round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Less than a minute, or it wasn't asked yet.
    #[default]
    Swift,
    /// A minute and more.
    Slow,
}

/// How long a tenant's API server was waited for in a round.
#[derive(Default)]
pub(crate) struct Waited {
    inner: Mutex<(Duration, Option<Instant>)>,
}

impl Waited {
    /// Waits for an answer, which counts.
    pub(crate) async fn during<T>(&self, answer: impl Future<Output = T>) -> T {
        self.inner.lock().1 = Some(Instant::now());
        let answer = answer.await;
        let so_far = self.so_far();
        *self.inner.lock() = (so_far, None);
        answer
    }

    fn so_far(&self) -> Duration {
        let (before, since) = *self.inner.lock();
        before + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Where the next round is made.
    pub(crate) fn lane(&self) -> Lane {
        if self.so_far() < SWIFT {
            Lane::Swift
        } else {
            Lane::Slow
        }
    }

    /// Ends once a round in this lane has waited too long.
    pub(crate) async fn too_long(&self, lane: Lane) {
        let limit = match lane {
            Lane::Swift => SWIFT,
            Lane::Slow => LONGEST,
        };
        loop {
            let left = limit.saturating_sub(self.so_far());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// How the tenants are patrolled.
pub(crate) struct Rounds {
    /// From the end of one round of a tenant to its next one.
    period: Duration,
    /// Held during a round.
    swift: Semaphore,
    /// Held during a round that takes long.
    slow: Semaphore,
}

impl Rounds {
    /// One round of each tenant in every `period`.
    pub(crate) fn every(period: Duration) -> Self {
        Self {
            period,
            swift: Semaphore::new(AT_ONCE),
            slow: Semaphore::new(SLOW_AT_ONCE),
        }
    }

    /// Waits for the right to make a round.
    pub(crate) async fn place(&self, lane: Lane) -> Option<SemaphorePermit<'_>> {
        let places = match lane {
            Lane::Swift => &self.swift,
            Lane::Slow => &self.slow,
        };
        // They are never closed.
        places.acquire().await.ok()
    }

    /// Waits from the end of one round until the next.
    pub(crate) async fn rest(&self) {
        tokio::time::sleep(self.period).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A super API server that is slow makes no tenant a slow one.
    #[tokio::test(start_paused = true)]
    async fn only_what_the_tenants_api_server_takes_counts() {
        let waited = Waited::default();
        waited
            .during(tokio::time::sleep(Duration::from_secs(50)))
            .await;
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert_eq!(waited.lane(), Lane::Swift);
        let began = Instant::now();
        tokio::select! {
            () = waited.during(tokio::time::sleep(Duration::from_secs(50))) => panic!("it isn't cut"),
            () = waited.too_long(Lane::Swift) => {}
        }
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(waited.lane(), Lane::Slow);
    }
}
