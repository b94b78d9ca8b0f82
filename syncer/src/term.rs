//! The right to write: this process's own, which ends by a monotonic clock, and that for one tenant.
//!
//! It is asked for three times on the way of a write: before it is made, when its turn has come, and when the connection
//! takes its body, after which it can't be held up in this process any more ([`crate::client`]).

use crate::guard::Guard;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tenancy::fleet::{Replica, Tenure};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Whether this process may write at all.
pub(crate) struct Standing {
    /// This process, as Leases name it.
    me: String,
    tenure: Mutex<Tenure>,
    /// Counts renewals.
    renewals: watch::Sender<u64>,
}

impl Standing {
    pub(crate) fn new(me: &Replica) -> Arc<Self> {
        Arc::new(Self {
            me: me.identity(),
            tenure: Mutex::default(),
            renewals: watch::Sender::new(0),
        })
    }

    /// This process, as Leases name it.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// Its Lease was renewed by a request that was sent then. Returns whether its titles still count.
    pub(crate) fn renewed(&self, sent: Instant) -> bool {
        let goes_on = self
            .tenure
            .lock()
            .renewed(sent.into_std(), Instant::now().into_std());
        self.renewals.send_modify(|count| *count += 1);
        goes_on
    }

    /// Nothing may be written from now on.
    pub(crate) fn lost(&self) {
        self.tenure.lock().lost();
    }

    /// The generation that titles are claimed in now, if any may be.
    pub(crate) fn generation(&self) -> Option<u64> {
        let tenure = self.tenure.lock();
        let generation = tenure.generation();
        tenure
            .allows(generation, Instant::now().into_std())
            .then_some(generation)
    }

    /// Waits until this process may write.
    pub(crate) async fn held(&self) {
        let mut renewals = self.renewals.subscribe();
        while self.generation().is_none() {
            if renewals.changed().await.is_err() {
                return;
            }
        }
    }

    fn allows(&self, generation: u64) -> bool {
        self.tenure
            .lock()
            .allows(generation, Instant::now().into_std())
    }
}

/// This process's leadership of one tenant.
pub(crate) struct Term {
    standing: Arc<Standing>,
    /// The epoch that its title was taken with.
    epoch: AtomicU64,
    /// The generation in which it was taken.
    generation: AtomicU64,
    /// Another one has the title.
    revoked: AtomicBool,
}

impl Term {
    pub(crate) fn new(standing: &Arc<Standing>, epoch: u64, generation: u64) -> Arc<Self> {
        Arc::new(Self {
            standing: standing.clone(),
            epoch: epoch.into(),
            generation: generation.into(),
            revoked: false.into(),
        })
    }

    /// One that doesn't end while the test runs.
    #[cfg(test)]
    pub(crate) fn of_test() -> Arc<Self> {
        let me = Replica {
            name: "test".into(),
            instance: "1".into(),
        };
        let standing = Standing::new(&me);
        standing.renewed(Instant::now() + std::time::Duration::from_secs(100_000));
        Self::new(&standing, 1, 1)
    }

    /// The title was claimed anew.
    pub(crate) fn renew(&self, epoch: u64, generation: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.generation.store(generation, Ordering::SeqCst);
    }

    /// The epoch that its title was taken with.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// This process, as Leases name it.
    pub(crate) fn me(&self) -> &str {
        self.standing.me()
    }

    /// Ends it for good.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// Whether it was ended for good.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    /// Whether its title was claimed in this generation.
    pub(crate) fn is_of(&self, generation: u64) -> bool {
        self.generation.load(Ordering::SeqCst) == generation
    }

    /// Whether something may be written for the tenant at this very moment.
    pub(crate) fn holds(&self) -> bool {
        !self.revoked.load(Ordering::SeqCst)
            && self.standing.allows(self.generation.load(Ordering::SeqCst))
    }
}

/// The right to send one write.
#[derive(Clone)]
pub(crate) struct Permit {
    /// None for this process's own Leases, whose writes are guarded by what they say.
    term: Option<Arc<Term>>,
    /// For what goes down: nothing does while a policy of layer B is missing.
    guard: Option<Arc<Guard>>,
    cancel: CancellationToken,
}

impl Permit {
    /// For a tenant's objects, until it is no longer served.
    pub(crate) fn of(term: &Arc<Term>, cancel: &CancellationToken) -> Self {
        Self {
            term: Some(term.clone()),
            guard: None,
            cancel: cancel.clone(),
        }
    }

    /// The same for the super cluster, while its admission policies hold this process.
    pub(crate) fn under(self, guard: &Arc<Guard>) -> Self {
        Self {
            guard: Some(guard.clone()),
            ..self
        }
    }

    /// For what the leader of a tenant says of it, served or not.
    pub(crate) fn by(term: &Arc<Term>) -> Self {
        Self::of(term, &CancellationToken::new())
    }

    /// For Leases, by which leadership comes and goes.
    pub(crate) fn own() -> Self {
        Self {
            term: None,
            guard: None,
            cancel: CancellationToken::new(),
        }
    }

    /// Whether the write may be sent at this very moment.
    pub(crate) fn holds(&self) -> bool {
        !self.cancel.is_cancelled()
            && self.term.as_ref().is_none_or(|term| term.holds())
            && self.guard.as_ref().is_none_or(|guard| guard.is_intact())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tenancy::fleet::WRITE_LIMIT;

    fn standing() -> Arc<Standing> {
        Standing::new(&Replica {
            name: "a".into(),
            instance: "1".into(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn r7_writes_end_by_the_clock_and_titles_of_before_never_count_again() {
        let standing = standing();
        assert!(!standing.renewed(Instant::now()));
        let term = Term::new(&standing, 1, standing.generation().unwrap());
        let permit = Permit::by(&term);
        assert!(permit.holds());
        tokio::time::advance(WRITE_LIMIT).await;
        assert!(!permit.holds() && standing.generation().is_none());
        assert!(!standing.renewed(Instant::now()));
        assert!(!permit.holds(), "its title may be another's by now");
        term.renew(2, standing.generation().unwrap());
        assert!(permit.holds());
        term.revoke();
        assert!(!permit.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_right_to_write_is_told() {
        let standing = standing();
        let waiting = tokio::spawn({
            let standing = standing.clone();
            async move { standing.held().await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!waiting.is_finished());
        standing.renewed(Instant::now());
        waiting.await.unwrap();
    }
}
