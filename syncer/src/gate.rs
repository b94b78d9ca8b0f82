//! Whether what is missing may be inferred to be gone (R2, R5), and what the VirtualControlPlane says of it.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use tenancy::kind::{self, KINDS};
use tokio::sync::{Notify, watch};

/// Whether the tenant's state, and the super cluster's, are known well enough to infer that something is gone.
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    /// Another look contradicted a list.
    contradicted: Notify,
    /// For the conditions on the VirtualControlPlane.
    health: watch::Sender<Health>,
}

#[derive(Default)]
struct Inner {
    complete: HashSet<u8>,
    interrupted: HashSet<u8>,
    /// Kinds whose last list was empty though it wasn't before, until that is confirmed.
    emptied: BTreeSet<u8>,
    /// Those of them that another look has found objects of.
    contradicted: BTreeSet<u8>,
    holds: BTreeMap<Hold, String>,
    examined: bool,
}

/// What a person, or the tenant's own return, must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// The API server that is reached isn't the tenant's, or its store is another one.
    Identity,
    /// The tenant's store is older than it was.
    WentBack,
    /// Too much of the tenant is missing at once.
    Breaker,
    /// Objects from before a restore of the tenant are missing in it.
    Quarantine,
    /// The super cluster's store is older than it was, or another one.
    SuperWentBack,
    /// Too many of the tenant's pods are missing in the super cluster at once.
    UpwardBreaker,
    /// The tenant refuses its mark, by which it would be found out that it went back.
    MarkRefused,
}

impl Hold {
    /// Reason of the condition `DeletionsHeld`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Identity => "TenantIdentityChanged",
            Self::WentBack => "TenantWentBack",
            Self::Breaker => "BreakerOpen",
            Self::Quarantine => "Quarantined",
            Self::SuperWentBack => "SuperClusterWentBack",
            Self::UpwardBreaker => "UpwardBreakerOpen",
            Self::MarkRefused => "MarkRefused",
        }
    }
}

/// What the conditions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) synced: bool,
    /// What stands in the way.
    pub(crate) blocker: Option<String>,
    /// Why deletions are held until somebody looks.
    pub(crate) holds: BTreeMap<Hold, String>,
    /// The marks and the proof were looked at: only then can it be said that nothing is held.
    pub(crate) examined: bool,
}

/// Why deletions are held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deletions are held: {0}")]
pub(crate) struct Held(pub(crate) String);

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            contradicted: Notify::new(),
            health: watch::Sender::new(Health::default()),
        }
    }

    /// A complete list of a kind arrived; `emptied` when it had objects before and has none now.
    ///
    /// Returns whether all is known now that wasn't before, or beyond doubt that wasn't before.
    pub(crate) fn listed(&self, kind: u8, emptied: bool) -> bool {
        let (was_known, was_sure) = (self.known().is_ok(), self.is_sure());
        let mut inner = self.inner.lock();
        inner.complete.insert(kind);
        inner.interrupted.remove(&kind);
        inner.contradicted.remove(&kind);
        if emptied {
            inner.emptied.insert(kind);
        } else {
            inner.emptied.remove(&kind);
        }
        self.tell(&inner, None);
        drop(inner);
        !was_known && self.known().is_ok() || !was_sure && self.is_sure()
    }

    fn is_sure(&self) -> bool {
        self.known().is_ok() && self.inner.lock().emptied.is_empty()
    }

    /// Whether a complete list of a kind has arrived since the tenant is served.
    pub(crate) fn has_listed(&self, kind: u8) -> bool {
        self.inner.lock().complete.contains(&kind)
    }

    /// The tenant doesn't serve the kind: there is nothing of it.
    ///
    /// Returns whether all is known now that wasn't before.
    pub(crate) fn absent(&self, kind: u8) -> bool {
        self.listed(kind, false)
    }

    /// A watch broke.
    pub(crate) fn interrupted(&self, kind: u8, error: &str) {
        let mut inner = self.inner.lock();
        inner.interrupted.insert(kind);
        self.tell(&inner, Some(error));
    }

    /// Kinds whose emptiness isn't confirmed yet by another look at the tenant.
    pub(crate) fn emptied(&self) -> Vec<u8> {
        self.inner.lock().emptied.iter().copied().collect()
    }

    /// Whether the last list of a kind was empty though it wasn't before, and nothing has confirmed that yet.
    pub(crate) fn is_emptied(&self, kind: u8) -> bool {
        self.inner.lock().emptied.contains(&kind)
    }

    /// Another look found objects of that kind: its list was wrong, and only a new one says what is there.
    pub(crate) fn contradicted(&self, kind: u8) {
        self.inner.lock().contradicted.insert(kind);
        self.contradicted.notify_waiters();
    }

    /// Waits until the last list of a kind is contradicted.
    pub(crate) async fn contradiction(&self, kind: u8) {
        loop {
            let told = self.contradicted.notified();
            if self.inner.lock().contradicted.contains(&kind) {
                return;
            }
            told.await;
        }
    }

    /// The tenant really has no object of that kind.
    pub(crate) fn confirmed(&self, kind: u8) {
        self.inner.lock().emptied.remove(&kind);
    }

    /// Begins, renews or ends a hold.
    pub(crate) fn hold(&self, hold: Hold, why: Option<String>) {
        let mut inner = self.inner.lock();
        let before = match &why {
            Some(why) => inner.holds.insert(hold, why.clone()),
            None => inner.holds.remove(&hold),
        };
        if before != why {
            self.tell(&inner, None);
        }
    }

    /// The marks and the proof were looked at.
    pub(crate) fn examined(&self) {
        let mut inner = self.inner.lock();
        if !std::mem::replace(&mut inner.examined, true) {
            self.tell(&inner, None);
        }
    }

    /// What is held.
    pub(crate) fn holds(&self) -> BTreeMap<Hold, String> {
        self.inner.lock().holds.clone()
    }

    /// Whether the tenant is known completely, so that what is missing can be counted.
    pub(crate) fn known(&self) -> Result<(), Held> {
        let inner = self.inner.lock();
        if let Some(kind) = down_kinds().find(|kind| !inner.complete.contains(kind)) {
            let plural = plural(kind);
            return Err(Held(format!("the first list of {plural} isn't complete")));
        }
        if let Some(kind) = inner.interrupted.iter().next() {
            let plural = plural(*kind);
            return Err(Held(format!("the tenant's {plural} can't be watched")));
        }
        Ok(())
    }

    /// Whether deletions in the super cluster may be decided now.
    pub(crate) fn check(&self) -> Result<(), Held> {
        self.known()?;
        let inner = self.inner.lock();
        inner.check(&[Hold::Identity, Hold::WentBack, Hold::MarkRefused])
    }

    /// Whether it may be decided now that a pod of the tenant has ended because its super pod is missing.
    pub(crate) fn check_upward(&self, pods: u8) -> Result<(), Held> {
        let inner = self.inner.lock();
        if !inner.complete.contains(&pods) {
            return Err(Held("the first list of pods isn't complete".into()));
        }
        inner.check(&[Hold::SuperWentBack])
    }

    /// Changes of health.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn tell(&self, inner: &Inner, error: Option<&str>) {
        let missing = down_kinds()
            .find(|kind| !inner.complete.contains(kind))
            .map(plural);
        let broken = inner.interrupted.iter().next().map(|kind| plural(*kind));
        let health = Health {
            synced: missing.is_none() && broken.is_none(),
            blocker: broken
                .map(|name| format!("watching {name}: {}", error.unwrap_or("interrupted")))
                .or(missing.map(|name| format!("the first list of {name} isn't complete"))),
            holds: inner.holds.clone(),
            examined: inner.examined,
        };
        // Errors differ from try to try; only the state is news.
        self.health.send_if_modified(|current| {
            let news = current.synced != health.synced
                || current.blocker.is_some() != health.blocker.is_some()
                || current.holds != health.holds
                || current.examined != health.examined;
            *current = health;
            news
        });
    }
}

impl Inner {
    fn check(&self, holds: &[Hold]) -> Result<(), Held> {
        match holds.iter().find_map(|hold| self.holds.get(hold)) {
            Some(why) => Err(Held(why.clone())),
            None => Ok(()),
        }
    }
}

fn down_kinds() -> impl Iterator<Item = u8> {
    (0u8..)
        .zip(KINDS)
        .filter(|(_, kind)| kind.goes_down())
        .map(|(index, _)| index)
}

fn plural(kind: u8) -> &'static str {
    kind::rule(kind).resource().plural
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Gate {
        let gate = Gate::new();
        for kind in down_kinds() {
            assert!(gate.check().is_err());
            gate.listed(kind, false);
        }
        gate
    }

    #[test]
    fn r2_deletions_are_held_until_all_is_known_and_while_it_is_doubtful() {
        let gate = complete();
        assert_eq!(gate.check(), Ok(()));
        let first = down_kinds().next().unwrap();
        gate.interrupted(first, "refused");
        assert!(gate.check().is_err());
        assert!(gate.listed(first, true), "all is known again");
        assert_eq!(gate.emptied(), [first], "an empty list is doubtful");
        assert!(gate.listed(first, false), "what was held may be worked");
        assert!(gate.emptied().is_empty(), "a later list says otherwise");
        assert!(!gate.listed(first, true), "nothing is known that wasn't");
        gate.confirmed(first);
        assert_eq!((gate.check(), gate.emptied()), (Ok(()), vec![]));
    }

    #[test]
    fn r2_a_contradiction_is_of_one_kind_and_lasts_until_its_next_list() {
        use futures::FutureExt;
        let gate = complete();
        let is_told = |kind| gate.contradiction(kind).now_or_never().is_some();
        gate.listed(0, true);
        assert!(!is_told(0));
        let mut waiting = Box::pin(gate.contradiction(0));
        assert!((&mut waiting).now_or_never().is_none());
        gate.contradicted(0);
        assert!(waiting.now_or_never().is_some(), "who waits is told");
        assert!(is_told(0) && !is_told(1));
        gate.listed(0, true);
        assert!(!is_told(0), "the next list was not contradicted yet");
    }

    #[test]
    fn r2_a_tenant_that_went_back_or_is_another_one_freezes_deletions_and_nothing_else() {
        let gate = complete();
        for hold in [Hold::WentBack, Hold::Identity, Hold::MarkRefused] {
            gate.hold(hold, Some("older".into()));
            assert!(gate.check().is_err() && gate.check_upward(0).is_ok());
            let health = gate.health().borrow().clone();
            assert!(health.synced && health.holds.contains_key(&hold));
            gate.hold(hold, None);
        }
        gate.hold(Hold::SuperWentBack, Some("older".into()));
        assert!(gate.check().is_ok() && gate.check_upward(0).is_err());
    }
}
