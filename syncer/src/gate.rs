//! Whether what is missing may be inferred to be gone (R2, R5), and what the VirtualControlPlane says of it.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time,
};
use tenancy::kind::{self, KINDS};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Characters of an error that are told.
const LONGEST_CAUSE: usize = 300;

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
    /// Kinds whose watch broke, and why it last did.
    interrupted: BTreeMap<u8, String>,
    /// Kinds that the tenant doesn't serve and may have objects of.
    unserved: BTreeSet<u8>,
    /// Kinds whose last list was empty though it wasn't before, until that is confirmed.
    emptied: BTreeSet<u8>,
    /// Those of them that another look has found objects of.
    contradicted: BTreeSet<u8>,
    holds: BTreeMap<Hold, String>,
    examined: bool,
    /// Since when not all is watched.
    unwatched: Option<time::Instant>,
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
    /// What every API server has is known and watched.
    pub(crate) is_known: bool,
    /// What stands in the way.
    pub(crate) blocker: Option<String>,
    /// The kind that can't be watched, of which that tells.
    pub(crate) broken: Option<u8>,
    /// Why deletions are held until somebody looks.
    pub(crate) holds: BTreeMap<Hold, String>,
    /// The marks and the proof were looked at: only then can it be said that nothing is held.
    pub(crate) examined: bool,
}

/// What a deletion is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// The tenant's API told of it: by a deletion timestamp, or by an event of a healthy watch.
    Told,
    /// A list lacks the object.
    Inferred,
}

/// Why deletions are held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deletions are held: {0}")]
pub(crate) struct Held(pub(crate) String);

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                unwatched: Some(Instant::now().into_std()),
                ..Inner::default()
            }),
            contradicted: Notify::new(),
            health: watch::Sender::new(Health::default()),
        }
    }

    /// A complete list of a kind arrived; `emptied` when it had objects before and has none now.
    ///
    /// Returns whether deletions of that kind may be decided now that couldn't before, or beyond doubt that couldn't before.
    pub(crate) fn listed(&self, kind: u8, emptied: bool) -> bool {
        let mut inner = self.inner.lock();
        let (was_known, was_sure) = inner.knows(kind);
        inner.complete.insert(kind);
        inner.interrupted.remove(&kind);
        inner.unserved.remove(&kind);
        inner.contradicted.remove(&kind);
        if emptied {
            inner.emptied.insert(kind);
        } else {
            inner.emptied.remove(&kind);
        }
        self.tell(&mut inner);
        let (is_known, is_sure) = inner.knows(kind);
        !was_known && is_known || !was_sure && is_sure
    }

    /// Whether a complete list of a kind has arrived since the tenant is served.
    pub(crate) fn has_listed(&self, kind: u8) -> bool {
        self.inner.lock().complete.contains(&kind)
    }

    /// The tenant doesn't serve the kind: there is nothing of it.
    ///
    /// Returns what [`Gate::listed`] does.
    pub(crate) fn absent(&self, kind: u8) -> bool {
        self.listed(kind, false)
    }

    /// Whether a kind that the tenant doesn't serve may have objects there. It holds no other, and who decides its own
    /// deletions asks anew.
    pub(crate) fn unserved(&self, kind: u8, may_have: bool) {
        let mut inner = self.inner.lock();
        let is_news = if may_have {
            inner.unserved.insert(kind)
        } else {
            inner.unserved.remove(&kind)
        };
        if is_news {
            self.tell(&mut inner);
        }
    }

    /// Kinds that the tenant doesn't serve and may have objects of.
    pub(crate) fn all_unserved(&self) -> BTreeSet<u8> {
        self.inner.lock().unserved.clone()
    }

    /// A watch broke.
    pub(crate) fn interrupted(&self, kind: u8, error: &str) {
        let mut inner = self.inner.lock();
        // All of it is told, and of a webhook's long answer the beginning says enough.
        let why = error.chars().take(LONGEST_CAUSE).collect();
        inner.interrupted.insert(kind, why);
        self.tell(&mut inner);
    }

    /// Kinds whose emptiness isn't confirmed yet by another look at the tenant, of those by which deletions of a kind are
    /// decided.
    pub(crate) fn emptied(&self, kind: u8) -> Vec<u8> {
        let inner = self.inner.lock();
        let emptied = inner.emptied.iter().copied();
        emptied
            .filter(|other| concerns(*other, kind, Basis::Inferred))
            .collect()
    }

    /// Kinds of which all is known.
    pub(crate) fn trusted(&self) -> HashSet<u8> {
        let inner = self.inner.lock();
        let complete = inner.complete.iter().copied();
        complete
            .filter(|kind| !inner.interrupted.contains_key(kind))
            .collect()
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
            self.tell(&mut inner);
        }
    }

    /// The marks and the proof were looked at.
    pub(crate) fn examined(&self) {
        let mut inner = self.inner.lock();
        if !std::mem::replace(&mut inner.examined, true) {
            self.tell(&mut inner);
        }
    }

    /// What is held.
    pub(crate) fn holds(&self) -> BTreeMap<Hold, String> {
        self.inner.lock().holds.clone()
    }

    /// Whether the tenant is known well enough to decide deletions of a kind (R2): nothing is until the first lists of all
    /// kinds that every API server has are complete. What can't be watched holds its own kind, and namespaces, which take
    /// along what is in them; a kind that every API server has holds also what is only inferred.
    ///
    /// A kind that a tenant defines itself, or that the super cluster publishes, so holds no other: its conversion webhook
    /// may be down, and mending that may need a pod's end.
    pub(crate) fn known(&self, kind: u8, basis: Basis) -> Result<(), Held> {
        self.inner.lock().known(kind, basis)
    }

    /// Whether deletions of a kind in the super cluster may be decided now.
    pub(crate) fn check(&self, kind: u8, basis: Basis) -> Result<(), Held> {
        let inner = self.inner.lock();
        inner.known(kind, basis)?;
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

    /// Since when not all of the tenant is watched; all is if none.
    pub(crate) fn unwatched(&self) -> Option<time::Instant> {
        self.inner.lock().unwatched
    }

    fn tell(&self, inner: &mut Inner) {
        let missing = down_kinds().find(|kind| !inner.complete.contains(kind));
        let broken = inner.worst(self.health.borrow().broken);
        let health = Health {
            synced: missing.is_none() && broken.is_none() && inner.unserved.is_empty(),
            is_known: inner.known(kind::index("Pod"), Basis::Inferred).is_ok(),
            blocker: broken
                .map(|(kind, why)| format!("watching {}: {why}{}", plural(*kind), waits(*kind)))
                .or(missing
                    .map(|kind| format!("the first list of {} isn't complete", plural(kind))))
                .or(inner.unserved.first().map(|kind| kept(*kind))),
            broken: broken.map(|(kind, _)| *kind),
            holds: inner.holds.clone(),
            examined: inner.examined,
        };
        if health.synced {
            inner.unwatched = None;
        } else {
            let now = || Instant::now().into_std();
            inner.unwatched.get_or_insert_with(now);
        }
        // Errors differ from try to try; only the state is news, and of which kind it is.
        self.health.send_if_modified(|current| {
            let news = current.synced != health.synced
                || current.is_known != health.is_known
                || current.blocker.is_some() != health.blocker.is_some()
                || current.broken != health.broken
                || current.holds != health.holds
                || current.examined != health.examined;
            *current = health;
            news
        });
    }
}

impl Inner {
    fn known(&self, kind: u8, basis: Basis) -> Result<(), Held> {
        let needed = |other: &u8| is_everywhere(*other) || concerns(*other, kind, basis);
        let mut needed = down_kinds().chain([kind]).filter(needed);
        if let Some(kind) = needed.find(|kind| !self.complete.contains(kind)) {
            let plural = plural(kind);
            return Err(Held(format!("the first list of {plural} isn't complete")));
        }
        let mut interrupted = self.interrupted.keys();
        if let Some(kind) = interrupted.find(|other| concerns(**other, kind, basis)) {
            let plural = plural(*kind);
            return Err(Held(format!("the tenant's {plural} can't be watched")));
        }
        Ok(())
    }

    /// The broken watch that is to be told of, and why it broke: one that holds most, and as long as it does the same as
    /// before, since dozens end and begin at once.
    fn worst(&self, told: Option<u8>) -> Option<(&u8, &String)> {
        let rank = |kind: &u8| (is_everywhere(*kind), told == Some(*kind), *kind);
        self.interrupted.iter().max_by_key(|(kind, _)| rank(kind))
    }

    /// Whether a kind is known as far as it can be, and whether that is beyond doubt.
    fn knows(&self, kind: u8) -> (bool, bool) {
        let is_known = self.known(kind, Basis::Inferred).is_ok();
        (is_known, is_known && self.emptied.is_empty())
    }

    fn check(&self, holds: &[Hold]) -> Result<(), Held> {
        match holds.iter().find_map(|hold| self.holds.get(hold)) {
            Some(why) => Err(Held(why.clone())),
            None => Ok(()),
        }
    }
}

/// Whether what is known of `other` matters to deletions of `kind`.
fn concerns(other: u8, kind: u8, basis: Basis) -> bool {
    let namespaces = kind::index("Namespace");
    let is_own = other == kind || other == namespaces || kind == namespaces;
    is_own || basis == Basis::Inferred && is_everywhere(other)
}

/// That what crossed of a kind stays, since the tenant may have it.
fn kept(kind: u8) -> String {
    let resource = kind::rule(kind).resource();
    format!(
        "the tenant doesn't serve its {} in version {}; until it does, or doesn't define them any more, what crossed of them \
         is kept as it is",
        resource.plural, resource.version
    )
}

/// What waits while a kind can't be watched, as an end of the sentence that tells of it.
fn waits(kind: u8) -> &'static str {
    if is_everywhere(kind) {
        "; until then nothing is deleted that only a list lacks"
    } else if kind::rule(kind).goes_down() {
        "; until then none of them is deleted in the super cluster, and no namespace"
    } else {
        ""
    }
}

/// Whether every API server has the kind, and its objects go down.
fn is_everywhere(kind: u8) -> bool {
    let rule = kind::rule(kind);
    rule.goes_down() && !rule.is_optional()
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
            gate.listed(kind, false);
        }
        gate
    }

    fn check(gate: &Gate, kind: &str, basis: Basis) -> bool {
        gate.check(kind::index(kind), basis).is_ok()
    }

    #[test]
    fn r2_deletions_are_held_until_all_is_known_and_while_it_is_doubtful() {
        let gate = complete();
        let config_maps = kind::index("ConfigMap");
        let check = || gate.check(config_maps, Basis::Inferred);
        assert_eq!(check(), Ok(()));
        let first = down_kinds().next().unwrap();
        gate.interrupted(first, "refused");
        assert!(check().is_err());
        assert!(gate.listed(first, true), "all is known again");
        let emptied = || gate.emptied(config_maps);
        assert_eq!(emptied(), [first], "an empty list is doubtful");
        assert!(gate.listed(first, false), "what was held may be worked");
        assert!(emptied().is_empty(), "a later list says otherwise");
        assert!(!gate.listed(first, true), "nothing is known that wasn't");
        gate.confirmed(first);
        assert_eq!((check(), emptied()), (Ok(()), vec![]));
    }

    #[test]
    fn r2_nothing_is_deleted_until_what_every_api_server_has_was_listed() {
        let gate = Gate::new();
        for kind in down_kinds().filter(|kind| is_everywhere(*kind)) {
            for basis in [Basis::Told, Basis::Inferred] {
                assert!(!check(&gate, "Pod", basis));
            }
            gate.listed(kind, false);
        }
        assert!(check(&gate, "Pod", Basis::Inferred));
        assert!(!check(&gate, "Gateway", Basis::Told), "its own list");
        assert!(
            !check(&gate, "Namespace", Basis::Told),
            "takes gateways along"
        );
    }

    #[test]
    fn r2_a_kind_of_the_tenants_own_that_cannot_be_listed_holds_itself_and_namespaces() {
        let gate = complete();
        for kind in ["Gateway", "Node"] {
            gate.interrupted(kind::index(kind), "conversion webhook failed");
        }
        for basis in [Basis::Told, Basis::Inferred] {
            assert!(check(&gate, "Pod", basis) && check(&gate, "ConfigMap", basis));
            assert!(!check(&gate, "Gateway", basis) && !check(&gate, "Namespace", basis));
        }
        assert!(
            gate.listed(kind::index("Gateway"), false),
            "it is tried again"
        );
        assert!(check(&gate, "Gateway", Basis::Inferred));
        assert!(!gate.trusted().contains(&kind::index("Node")));
    }

    #[test]
    fn r2_of_what_every_api_server_has_a_broken_watch_holds_what_is_inferred_and_nothing_told() {
        let gate = complete();
        gate.interrupted(kind::index("Service"), "refused");
        assert!(check(&gate, "Pod", Basis::Told) && !check(&gate, "Pod", Basis::Inferred));
        gate.interrupted(kind::index("Namespace"), "refused");
        assert!(!check(&gate, "Pod", Basis::Told));
    }

    /// Else a deletion would be held by what nobody can find.
    #[test]
    fn r2_what_holds_deletions_is_told_with_its_cause_whatever_else_becomes_known() {
        let gate = complete();
        let mut health = gate.health();
        let told = |health: &mut watch::Receiver<Health>| {
            let is_news = health.has_changed().unwrap();
            let blocker = health.borrow_and_update().blocker.clone();
            (is_news, blocker.unwrap_or_default())
        };
        let [services, gateways] = ["Service", "Gateway"].map(kind::index);
        gate.interrupted(gateways, "conversion webhook failed");
        assert!(told(&mut health).0);
        // Another kind is listed anew, and something else is news.
        gate.listed(services, false);
        gate.examined();
        let (is_news, blocker) = told(&mut health);
        let says = ["watching gateways", "webhook failed", "none of them"];
        assert!(
            is_news && says.iter().all(|it| blocker.contains(it)),
            "{blocker}"
        );
        gate.interrupted(services, &"x".repeat(1_000));
        let (is_news, blocker) = told(&mut health);
        assert!(is_news && blocker.contains("only a list lacks") && blocker.len() < 500);
        gate.listed(services, false);
        assert!(told(&mut health).1.contains("gateways"));
        gate.interrupted(kind::index("HTTPRoute"), "conversion webhook failed");
        assert!(!told(&mut health).0, "what was told is still so");
        gate.listed(gateways, false);
        let (is_news, blocker) = told(&mut health);
        assert!(
            is_news && blocker.contains("watching httproutes"),
            "{blocker}"
        );
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
            assert!(!check(&gate, "Pod", Basis::Told) && gate.check_upward(0).is_ok());
            let health = gate.health().borrow().clone();
            assert!(health.synced && health.holds.contains_key(&hold));
            gate.hold(hold, None);
        }
        gate.hold(Hold::SuperWentBack, Some("older".into()));
        assert!(check(&gate, "Pod", Basis::Inferred) && gate.check_upward(0).is_err());
    }
}
