//! When and how many tenants are patrolled.

use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Rounds at once, over all tenants: each holds a page of objects and the names of one kind.
const AT_ONCE: usize = 4;

/// How the tenants are patrolled.
pub(crate) struct Rounds {
    /// From the end of one round of a tenant to its next one.
    period: Duration,
    /// Held during a round.
    places: Semaphore,
}

impl Rounds {
    /// One round of each tenant in every `period`.
    pub(crate) fn every(period: Duration) -> Self {
        Self {
            period,
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Waits for the right to make a round.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // They are never closed.
        self.places.acquire().await.ok()
    }

    /// Waits from the end of one round until the next.
    pub(crate) async fn rest(&self) {
        tokio::time::sleep(self.period).await;
    }
}
