//! One tenant as the engine serves it: its client, its memory, and whether deletions may be inferred for it.

use crate::{
    client::Cluster,
    facts::{Answers, Index},
    offered::Offered,
    table::{Pending, Table},
};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tenancy::{
    kind::{self, Cx, KINDS},
    tenant::{Key, Tenant as Rules, TenantId},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After a list that came back empty though it wasn't before, nothing is deleted for so long; a later list of the same
/// content ends it.
const EMPTY_LIST_HOLD: Duration = Duration::from_secs(60);

/// A tenant that is served.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    rules: RwLock<Arc<Rules>>,
    /// UID of the tenant's kube-system, as the VirtualControlPlane records it.
    proof: RwLock<Option<String>>,
    pub(crate) cluster: Cluster,
    pub(crate) table: Arc<Table>,
    pub(crate) index: Index,
    /// What the super cluster has to offer.
    offered: Arc<Offered>,
    /// Objects of the tenant's events.
    pub(crate) down: Pending,
    /// Objects of the super cluster's events.
    pub(crate) up: Pending,
    pub(crate) gate: Gate,
    /// Events that came before the object they are about was known.
    pub(crate) early_events: Mutex<HashSet<Key>>,
    /// One namespace is made at a time.
    pub(crate) namespaces: tokio::sync::Mutex<()>,
    /// Cancelled when the tenant is no longer served; checked before every write.
    pub(crate) cancel: CancellationToken,
    /// Work in progress, awaited before the tenant counts as stopped.
    pub(crate) activity: TaskTracker,
}

impl Tenant {
    pub(crate) fn new(
        rules: Rules,
        proof: Option<String>,
        cluster: Cluster,
        table: Arc<Table>,
        offered: Arc<Offered>,
    ) -> Self {
        Self {
            id: rules.id.clone(),
            rules: RwLock::new(Arc::new(rules)),
            proof: RwLock::new(proof),
            cluster,
            table,
            index: Index::default(),
            offered,
            down: Pending::default(),
            up: Pending::default(),
            gate: Gate::new(),
            early_events: Mutex::default(),
            namespaces: tokio::sync::Mutex::new(()),
            cancel: CancellationToken::new(),
            activity: TaskTracker::new(),
        }
    }

    /// What translation must know.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    /// Takes up a changed VirtualControlPlane; returns whether translation is affected.
    pub(crate) fn revise(&self, rules: Rules, proof: Option<String>) -> bool {
        *self.proof.write() = proof;
        let mut current = self.rules.write();
        let changed = **current != rules;
        if changed {
            *current = Arc::new(rules);
        }
        changed
    }

    /// The kinds that cross for this tenant: those of the table and the custom ones that it named.
    pub(crate) fn kinds(&self) -> Vec<u8> {
        kinds(&self.rules())
    }

    /// The recorded UID of the tenant's kube-system namespace.
    pub(crate) fn proof(&self) -> Option<String> {
        self.proof.read().clone()
    }

    /// Runs a pure rule with this tenant's context.
    pub(crate) fn with_cx<R>(&self, rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let rules = self.rules();
        let facts = Answers {
            index: &self.index,
            table: &self.table,
            offered: &self.offered,
            offers: &rules.offers,
        };
        rule(&Cx {
            tenant: &rules,
            facts: &facts,
        })
    }
}

/// The kinds that cross under these rules.
pub(crate) fn kinds(rules: &Rules) -> Vec<u8> {
    let table = (0u8..).zip(KINDS).map(|(kind, _)| kind);
    table
        .chain(rules.custom.iter().filter_map(kind::intern))
        .collect()
}

/// Whether the tenant's state is known well enough to infer that something is gone (R2).
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    /// Whether all lists are complete and no watch is interrupted; for the condition on the VirtualControlPlane.
    health: watch::Sender<Health>,
}

#[derive(Default)]
struct Inner {
    complete: HashSet<u8>,
    interrupted: HashSet<u8>,
    emptied: Option<Instant>,
}

/// What the `Synced` condition says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) synced: bool,
    /// What stands in the way.
    pub(crate) blocker: Option<String>,
}

/// Why deletions are held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deletions are held: {0}")]
pub(crate) struct Held(pub(crate) String);

impl Gate {
    fn new() -> Self {
        Self {
            inner: Mutex::default(),
            health: watch::Sender::new(Health::default()),
        }
    }

    /// A complete list of a kind arrived; `emptied` when it had objects before and has none now.
    pub(crate) fn listed(&self, kind: u8, emptied: bool) {
        let mut inner = self.inner.lock();
        inner.complete.insert(kind);
        inner.interrupted.remove(&kind);
        inner.emptied = emptied.then(Instant::now);
        self.tell(&inner, None);
    }

    /// The tenant doesn't serve the kind: there is nothing of it.
    pub(crate) fn absent(&self, kind: u8) {
        let mut inner = self.inner.lock();
        inner.complete.insert(kind);
        inner.interrupted.remove(&kind);
        self.tell(&inner, None);
    }

    /// A watch broke.
    pub(crate) fn interrupted(&self, kind: u8, error: &str) {
        let mut inner = self.inner.lock();
        inner.interrupted.insert(kind);
        self.tell(&inner, Some(error));
    }

    /// Whether deletions may be decided now.
    pub(crate) fn check(&self) -> Result<(), Held> {
        let inner = self.inner.lock();
        if let Some(kind) = down_kinds().find(|kind| !inner.complete.contains(kind)) {
            return Err(Held(format!(
                "the first list of {} isn't complete",
                plural(kind)
            )));
        }
        if let Some(kind) = inner.interrupted.iter().next() {
            return Err(Held(format!(
                "the tenant's {} can't be watched",
                plural(*kind)
            )));
        }
        if inner
            .emptied
            .is_some_and(|since| since.elapsed() < EMPTY_LIST_HOLD)
        {
            return Err(Held(
                "a list came back empty that wasn't empty before".into(),
            ));
        }
        Ok(())
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
        };
        // Errors differ from try to try; only the state is news.
        self.health.send_if_modified(|current| {
            let news = current.synced != health.synced
                || current.blocker.is_some() != health.blocker.is_some();
            *current = health;
            news
        });
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

    #[tokio::test(start_paused = true)]
    async fn r2_deletions_are_held_until_all_is_known_and_while_it_is_doubtful() {
        let gate = Gate::new();
        assert!(gate.check().is_err());
        for kind in down_kinds() {
            assert!(gate.check().is_err());
            gate.listed(kind, false);
        }
        assert_eq!(gate.check(), Ok(()));
        let first = down_kinds().next().unwrap();
        gate.interrupted(first, "refused");
        assert!(gate.check().is_err());
        gate.listed(first, true);
        assert!(gate.check().unwrap_err().to_string().contains("empty"));
        tokio::time::advance(EMPTY_LIST_HOLD).await;
        assert_eq!(gate.check(), Ok(()));
    }
}
