//! One tenant as the engine serves it: its client, its memory, and whether deletions may be inferred for it.

use crate::{
    breakers::Breakers,
    client::Cluster,
    companions::Refusals,
    facts::{Answers, Index},
    gate::Gate,
    guard::Guard,
    marks::Marks,
    namespace_quota::Listed,
    offered::Offered,
    parked::Parked,
    pending::{Pending, Room},
    proof::Proofs,
    quota::Quota,
    refusals::Tellings,
    table::Table,
    term::{Permit, Term},
    untaken::Untaken,
};
use api::CustomResource;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tenancy::{
    kind::{self, Cx, KINDS},
    lag::Telling,
    sharing::Opened,
    tenant::{Key, TenantId, TenantRules},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What else the VirtualControlPlane says of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// UID of the tenant's kube-system.
    pub(crate) proof: Option<String>,
    /// The API server wasn't made by Sublet: nobody else records its proof.
    pub(crate) is_external: bool,
    /// An operator's wish to let go of what is held.
    pub(crate) release: Option<String>,
}

/// A tenant that is served.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    rules: RwLock<Arc<TenantRules>>,
    record: RwLock<Record>,
    pub(crate) cluster: Cluster,
    pub(crate) table: Arc<Table>,
    pub(crate) index: Index,
    /// What the super cluster has to offer.
    pub(crate) offered: Arc<Offered>,
    /// Objects of the tenant's events.
    pub(crate) down: Pending,
    /// Objects of the super cluster's events.
    pub(crate) up: Pending,
    pub(crate) gate: Gate,
    pub(crate) breakers: Breakers,
    /// Keys that wait for the end of a hold.
    pub(crate) parked: Parked,
    pub(crate) marks: Marks,
    pub(crate) proofs: Proofs,
    pub(crate) quota: Quota,
    /// The ResourceQuotas of its super namespaces when the first was worked.
    pub(crate) listed: Listed,
    /// Events that may still be written for it.
    pub(crate) tellings: Tellings,
    /// Writes to the super API server that weren't charged yet.
    writes: AtomicU32,
    /// What is shared with others may have changed.
    pub(crate) sharing: Notify,
    /// Pods and claims whose binding is being written: whether they are bound is known once that is answered.
    pub(crate) binding: Mutex<HashSet<Key>>,
    /// Events that came before the object they are about was known.
    pub(crate) early_events: Mutex<HashSet<Key>>,
    /// What the patrol queued in its last round and wasn't found right yet.
    pub(crate) suspected: Mutex<HashSet<Key>>,
    /// What its VirtualControlPlane was last made to say of the syncer.
    said: Mutex<Vec<(String, String, String)>>,
    /// What it was last made to say of the lag.
    pub(crate) telling: Mutex<Telling>,
    /// Somebody made it say something else.
    pub(crate) unsaid: Notify,
    /// Namespaces in which a right or an account seems to be missing.
    pub(crate) companions: Refusals,
    /// One namespace is made at a time.
    pub(crate) namespaces: tokio::sync::Mutex<()>,
    /// This process's leadership of it.
    pub(crate) term: Arc<Term>,
    /// What of it isn't taken in, since there is too much.
    pub(crate) untaken: Untaken,
    /// What must stand for anything of it to go down.
    pub(crate) guard: Arc<Guard>,
    /// Cancelled when the tenant is no longer served; checked before every write.
    pub(crate) cancel: CancellationToken,
    /// Work in progress, awaited before the tenant counts as stopped.
    pub(crate) activity: TaskTracker,
}

impl Tenant {
    pub(crate) fn new(
        rules: TenantRules,
        record: Record,
        cluster: Cluster,
        table: Arc<Table>,
        offered: Arc<Offered>,
        term: Arc<Term>,
        room: &Arc<Room>,
    ) -> Self {
        Self {
            id: rules.id.clone(),
            rules: RwLock::new(Arc::new(rules)),
            record: RwLock::new(record),
            cluster,
            table,
            index: Index::default(),
            offered,
            down: Pending::within(room),
            up: Pending::within(room),
            gate: Gate::new(),
            breakers: Breakers::default(),
            parked: Parked::default(),
            marks: Marks::default(),
            proofs: Proofs::default(),
            quota: Quota::default(),
            listed: Listed::default(),
            tellings: Tellings::default(),
            writes: AtomicU32::new(0),
            sharing: Notify::new(),
            binding: Mutex::default(),
            early_events: Mutex::default(),
            suspected: Mutex::default(),
            said: Mutex::default(),
            telling: Mutex::default(),
            unsaid: Notify::new(),
            companions: Refusals::default(),
            namespaces: tokio::sync::Mutex::new(()),
            term,
            untaken: Untaken::default(),
            // No policy stands until the engine's own guard says so.
            guard: Arc::default(),
            cancel: CancellationToken::new(),
            activity: TaskTracker::new(),
        }
    }

    /// The right to send a write for it to its own API server, or of what Sublet itself says of it.
    pub(crate) fn permit(&self) -> Permit {
        Permit::of(&self.term, &self.cancel)
    }

    /// The right to write its objects in the super cluster.
    pub(crate) fn permit_down(&self) -> Permit {
        self.permit().under(&self.guard)
    }

    /// A write to the super API server is about to be sent for it.
    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes to the super API server since this was asked last, whoever made them.
    pub(crate) fn take_writes(&self) -> u32 {
        self.writes.swap(0, Ordering::Relaxed)
    }

    /// What translation must know.
    pub(crate) fn rules(&self) -> Arc<TenantRules> {
        self.rules.read().clone()
    }

    /// Takes up a changed VirtualControlPlane; returns whether translation is affected.
    pub(crate) fn revise(&self, mut rules: TenantRules, record: Record) -> bool {
        let news = std::mem::replace(&mut *self.record.write(), record.clone()) != record;
        if news {
            self.marks.look_again();
        }
        let mut current = self.rules.write();
        // That follows what is shared, a moment later.
        rules.opened = current.opened.clone();
        let changed = **current != rules;
        if changed {
            *current = Arc::new(rules);
            self.sharing.notify_one();
            self.unsaid.notify_one();
        }
        changed
    }

    /// Takes up what is opened for shared Services; returns whether that is news.
    pub(crate) fn open(&self, opened: Opened) -> bool {
        let mut current = self.rules.write();
        let changed = current.opened != opened;
        if changed {
            Arc::make_mut(&mut *current).opened = opened;
        }
        changed
    }

    /// Notes what the VirtualControlPlane was made to say of the syncer.
    pub(crate) fn said(&self, said: Vec<(String, String, String)>) {
        *self.said.lock() = said;
    }

    /// Takes up what it says now: if it isn't what it was made to say, it is said again.
    pub(crate) fn heed(&self, told: &[(String, String, String)]) {
        let said = self.said.lock();
        if !said.iter().all(|said| told.contains(said)) {
            self.unsaid.notify_one();
        }
    }

    /// The kinds that cross for this tenant: those of the table and the custom ones that it named.
    pub(crate) fn kinds(&self) -> Vec<u8> {
        kinds(&self.rules())
    }

    /// What else the VirtualControlPlane says.
    pub(crate) fn record(&self) -> Record {
        self.record.read().clone()
    }

    /// The recorded UID of the tenant's kube-system namespace.
    pub(crate) fn proof(&self) -> Option<String> {
        self.record.read().proof.clone()
    }

    /// The proof was recorded just now.
    pub(crate) fn set_proof(&self, uid: &str) {
        self.record.write().proof = Some(uid.to_owned());
    }

    /// Runs a pure rule with this tenant's context.
    pub(crate) fn with_cx<R>(&self, rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let rules = self.rules();
        let facts = Answers {
            index: &self.index,
            table: &self.table,
            offered: &self.offered,
            offers: &rules.offers,
            tenant: &self.id,
        };
        rule(&Cx {
            rules: &rules,
            facts: &facts,
        })
    }
}

/// The kinds that cross under these rules.
pub(crate) fn kinds(rules: &TenantRules) -> Vec<u8> {
    let table = (0u8..).zip(KINDS).map(|(kind, _)| kind);
    table
        .chain(rules.custom.iter().filter_map(kind::intern))
        .collect()
}

/// Names of the custom resources that would cross under these rules and that this process has no room for.
pub(crate) fn unknown(rules: &TenantRules) -> impl Iterator<Item = &str> {
    let unknown = |custom: &&CustomResource| kind::intern(custom).is_none();
    let custom = rules.custom.iter().filter(unknown);
    custom.map(|custom| custom.name.as_str())
}
