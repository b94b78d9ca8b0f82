//! The async shell of the fair queue: wake-ups and timers.

use parking_lot::Mutex;
use std::time::Duration;
use tenancy::{
    bucket::Rate,
    circuit::Advice,
    fair_queue::{FairQueue, Taken},
    lag::Backlog,
    tenant::{Key, TenantId},
};
use tokio::{sync::Notify, time::Instant};

/// Keys of one tenant that are worked at once, in one direction: enough to keep an API server busy, few enough that a dead
/// one holds a fraction of the workers and that others don't wait behind them.
const IN_FLIGHT: usize = 8;

/// A direction of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

/// A fair queue that workers wait on.
pub(crate) struct Queue {
    keys: Mutex<FairQueue<TenantId, Key>>,
    ready: Notify,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            keys: Mutex::new(FairQueue::new(IN_FLIGHT)),
            ready: Notify::new(),
        }
    }

    /// Adds a key.
    pub(crate) fn add(&self, tenant: &TenantId, key: Key) {
        self.keys.lock().add(tenant, key, Instant::now().into_std());
        self.ready.notify_one();
    }

    /// Adds a key that waited elsewhere since `since`.
    pub(crate) fn add_since(&self, tenant: &TenantId, key: Key, since: std::time::Instant) {
        let now = Instant::now().into_std();
        self.keys.lock().add_since(tenant, key, since, now);
        self.ready.notify_one();
    }

    /// Adds a key that becomes ready after `delay`.
    pub(crate) fn add_after(&self, tenant: &TenantId, key: Key, delay: Duration) {
        self.keys
            .lock()
            .add_at(tenant, key, (Instant::now() + delay).into_std());
        self.ready.notify_one();
    }

    /// The next key, once there is one.
    pub(crate) async fn next(&self) -> Taken<TenantId, Key> {
        loop {
            let ready = self.ready.notified();
            let (taken, wake) = {
                let mut keys = self.keys.lock();
                let taken = keys.take(Instant::now().into_std());
                // Others may be ready too, and a notification wakes one worker only.
                self.wake(&keys);
                (taken, keys.next_wake())
            };
            if let Some(taken) = taken {
                return taken;
            }
            match wake {
                Some(at) => {
                    let _ = tokio::time::timeout_at(Instant::from_std(at), ready).await;
                }
                None => ready.await,
            }
        }
    }

    /// The work of a taken key begins, and finds all that was told until now.
    pub(crate) fn begin(&self, tenant: &TenantId, key: &Key) {
        self.keys.lock().begin(tenant, key);
    }

    /// The key's work is done.
    pub(crate) fn done(&self, tenant: &TenantId, key: &Key) {
        let mut keys = self.keys.lock();
        let wake = keys.next_wake();
        keys.done(tenant, key, Instant::now().into_std());
        if keys.next_wake() == wake {
            self.wake(&keys);
        } else {
            // Whoever waits must wait less long.
            self.ready.notify_one();
        }
    }

    /// Wakes a worker if there is something for it: most keys that are done make room for none.
    fn wake(&self, keys: &FairQueue<TenantId, Key>) {
        if keys.has_turns() {
            self.ready.notify_one();
        }
    }

    /// The key's work failed; it comes again.
    pub(crate) fn retry(&self, tenant: &TenantId, key: &Key) {
        self.keys
            .lock()
            .retry(tenant, key, Instant::now().into_std());
        self.ready.notify_one();
    }

    /// The key rests as it should, and is looked at again later.
    pub(crate) fn rest(&self, tenant: &TenantId, key: &Key) {
        self.keys
            .lock()
            .rest(tenant, key, Instant::now().into_std());
        self.ready.notify_one();
    }

    /// The key wasn't worked because an API server can't be reached; it is ready again.
    pub(crate) fn put_back(&self, tenant: &TenantId, key: &Key) {
        self.keys
            .lock()
            .put_back(tenant, key, Instant::now().into_std());
        self.ready.notify_one();
    }

    /// Takes as many of a tenant's keys as its API server is worth asking, and no more than `most`.
    pub(crate) fn govern(&self, tenant: &TenantId, advice: Advice, most: usize) {
        let (places, held) = match advice {
            Advice::Ask => (IN_FLIGHT.min(most), None),
            Advice::Probe => (1, None),
            Advice::Wait(until) => (1, Some(until)),
        };
        let now = Instant::now().into_std();
        if self.keys.lock().govern(tenant, places, held, now) {
            self.ready.notify_one();
        }
    }

    /// Gives a tenant more turns than others.
    pub(crate) fn set_weight(&self, tenant: &TenantId, weight: u32) {
        self.keys.lock().set_weight(tenant, weight);
    }

    /// Limits what is written for a tenant.
    pub(crate) fn set_rate(&self, tenant: &TenantId, rate: Rate) {
        let now = Instant::now().into_std();
        self.keys.lock().set_rate(tenant, rate, now);
        self.ready.notify_one();
    }

    /// Writes were made for a tenant, by keys that aren't done yet.
    pub(crate) fn charge(&self, tenant: &TenantId, writes: u32) {
        let now = Instant::now().into_std();
        self.keys.lock().charge(tenant, writes, now);
    }

    /// Forgets a tenant.
    pub(crate) fn remove(&self, tenant: &TenantId) {
        self.keys.lock().remove(tenant);
    }

    /// Whether a key waits or is being worked.
    pub(crate) fn has(&self, tenant: &TenantId, key: &Key) -> bool {
        self.keys.lock().has(tenant, key)
    }

    /// Since when there is something to be done for a key.
    pub(crate) fn since(&self, tenant: &TenantId, key: &Key) -> Option<std::time::Instant> {
        self.keys.lock().since(tenant, key)
    }

    /// Keys of a tenant for which there is since `before` or longer.
    pub(crate) fn overdue(&self, tenant: &TenantId, before: std::time::Instant) -> Backlog {
        self.keys.lock().overdue(tenant, before)
    }

    /// Keys of a tenant that wait.
    pub(crate) fn depth(&self, tenant: &TenantId) -> usize {
        self.keys.lock().depth(tenant)
    }
}
