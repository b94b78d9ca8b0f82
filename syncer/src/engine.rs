//! What all parts share.

use crate::{
    budget::Budgets,
    ceiling::Ceiling,
    client::Cluster,
    fleet::Fleet,
    guard::Guard,
    isolation::Isolation,
    metrics::Metrics,
    offered::Offered,
    pending::Room,
    proof::Proofs,
    queue::{Direction, Queue},
    reserve::Platform,
    rounds::Rounds,
    slices::Slices,
    table::Table,
    tenants::Tenant,
};
use dashmap::{DashMap, DashSet};
use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tenancy::{
    kind::{KINDS, SuperWatch},
    tenant::TenantId,
};
use tokio::sync::watch;

/// Bytes of text that the objects of events have at most, of all tenants: parsed they take about twice as much.
const MOST_WAITING: usize = 64 << 20;
/// The same, of super objects that were listed at the start and nobody compared yet.
const MOST_UNJUDGED: usize = 64 << 20;

/// The engine's shared state.
pub(crate) struct Engine {
    /// The super cluster.
    pub(crate) cluster: Cluster,
    /// This process among other syncers.
    pub(crate) fleet: Arc<Fleet>,
    /// Tenants that are served.
    pub(crate) tenants: DashMap<TenantId, Arc<Tenant>>,
    /// What is known of every tenant that has objects in the super cluster, served or not.
    pub(crate) tables: DashMap<TenantId, Arc<Table>>,
    /// Room for objects of events that wait to be worked.
    pub(crate) waiting: Arc<Room>,
    /// Room for objects of the first lists that wait to be compared.
    unjudged: Arc<Room>,
    /// How much may be remembered of tenants' objects.
    ceiling: Arc<Ceiling>,
    /// Tenants whose work in progress is still ending.
    pub(crate) stopping: DashSet<TenantId>,
    /// Super namespaces that are twins, and whose.
    pub(crate) twins: DashMap<String, (TenantId, Arc<str>)>,
    /// The admission policies that hold this process's identity.
    pub(crate) guard: Arc<Guard>,
    /// The NetworkPolicies that isolate tenants, as they stand.
    pub(crate) isolation: Isolation,
    /// The budgets of groups, as they were last seen.
    pub(crate) budgets: Budgets,
    /// Objects that are published to tenants.
    pub(crate) offered: Arc<Offered>,
    /// Addresses of the super cluster's own Services.
    pub(crate) platform: Platform,
    /// The addresses that tenants' slices in the super cluster lead to.
    pub(crate) slices: Slices,
    /// Kinds whose list of super objects is complete.
    complete: watch::Sender<HashSet<u8>>,
    /// UID of the super cluster's kube-system namespace, as it was at the start.
    pub(crate) super_proof: OnceLock<String>,
    /// Looks whether it still is.
    pub(crate) super_proofs: Proofs,
    /// Highest version seen of the super cluster's pods.
    super_version: AtomicU64,
    pub(crate) down: Queue,
    pub(crate) up: Queue,
    pub(crate) metrics: Metrics,
    /// When and how many tenants are patrolled.
    pub(crate) rounds: Rounds,
    /// How long a ConfigMap or Secret that nothing refers to any more stays.
    pub(crate) unneeded_period: Duration,
}

impl Engine {
    pub(crate) fn new(
        cluster: Cluster,
        fleet: Arc<Fleet>,
        metrics: Metrics,
        rounds: Rounds,
        unneeded_period: Duration,
        ceiling: Arc<Ceiling>,
    ) -> Self {
        Self {
            cluster,
            fleet,
            tenants: DashMap::new(),
            tables: DashMap::new(),
            waiting: Room::of(MOST_WAITING),
            unjudged: Room::of(MOST_UNJUDGED),
            ceiling,
            stopping: DashSet::new(),
            twins: DashMap::new(),
            guard: Arc::default(),
            isolation: Isolation::default(),
            budgets: Budgets::default(),
            offered: Arc::default(),
            platform: Platform::default(),
            slices: Slices::default(),
            complete: watch::Sender::new(HashSet::new()),
            super_proof: OnceLock::new(),
            super_proofs: Proofs::default(),
            super_version: AtomicU64::new(0),
            down: Queue::new(),
            up: Queue::new(),
            metrics,
            rounds,
            unneeded_period,
        }
    }

    /// The tenant, if it is served.
    pub(crate) fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.get(id).map(|entry| entry.value().clone())
    }

    /// All tenants that are served.
    pub(crate) fn served(&self) -> Vec<Arc<Tenant>> {
        self.tenants
            .iter()
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// The memory of a tenant, made when it is first heard of.
    pub(crate) fn table(&self, id: &TenantId) -> Arc<Table> {
        let table = || Arc::new(Table::within(&self.unjudged, &self.ceiling));
        self.tables.entry(id.clone()).or_insert_with(table).clone()
    }

    /// Whether work of a tenant that is no longer served is still ending.
    pub(crate) fn is_stopping(&self, id: &TenantId) -> bool {
        self.stopping.contains(id)
    }

    /// All tenants that are remembered.
    pub(crate) fn known(&self) -> Vec<TenantId> {
        self.tables
            .iter()
            .map(|entry| entry.key().clone())
            .collect()
    }

    /// Drops the objects of the first lists that nobody asked for.
    pub(crate) fn drop_unjudged(&self) {
        for table in &self.tables {
            table.drop_unjudged();
        }
    }

    /// Drops the memory of a tenant that is gone.
    pub(crate) fn forget(&self, id: &TenantId) {
        self.tables.remove(id);
        for queue in [&self.down, &self.up] {
            queue.remove(id);
        }
        self.twins.retain(|_, (owner, _)| owner != id);
    }

    /// Works at once what may have waited because too little was known: what is missing on either side.
    pub(crate) fn work_missing(&self, tenant: &Tenant) {
        for key in tenant.table.all_keys(|_, entry| {
            entry.tenant.is_none() != entry.twin.is_none() || entry.is_outlived()
        }) {
            self.down.add(&tenant.id, key.clone());
            self.up.add(&tenant.id, key);
        }
    }

    /// Judges everything anew, both sides read live: what was seen may be of a state that a store has lost. What is
    /// missing stays as held as it is.
    pub(crate) fn work_anew(&self, tenant: &Tenant) {
        tenant.table.doubt_twins();
        self.read_anew(tenant);
    }

    /// Works every key in both directions, and reads both sides for it.
    fn read_anew(&self, tenant: &Tenant) {
        for key in tenant.table.all_keys(|_, _| true) {
            tenant.down.take(&key);
            tenant.up.take(&key);
            self.down.add(&tenant.id, key.clone());
            self.up.add(&tenant.id, key);
        }
    }

    /// Highest version seen of the super cluster's pods.
    pub(crate) fn super_version(&self) -> u64 {
        self.super_version.load(Ordering::Relaxed)
    }

    /// A version of the super cluster's pods was seen.
    pub(crate) fn super_seen(&self, version: u64) {
        self.super_version.fetch_max(version, Ordering::Relaxed);
    }

    /// The super cluster's pods were listed at a version; an older one than before means that it went back, and then
    /// its every object is news, and every status (R5).
    pub(crate) fn super_pods_listed(&self, version: u64) {
        let known = self.super_version.swap(version, Ordering::Relaxed);
        if version < known {
            tracing::warn!(
                known,
                found = version,
                "the super cluster went back to an older state"
            );
            for table in &self.tables {
                table.doubt_twins();
            }
            for tenant in self.served() {
                self.read_anew(&tenant);
            }
        }
        for tenant in self.served() {
            tenant.marks.look_again();
        }
    }

    /// A complete list of a kind's super objects arrived.
    pub(crate) fn super_listed(&self, kind: u8) {
        self.complete
            .send_if_modified(|complete| complete.insert(kind));
    }

    /// Waits until the super cluster's objects are known, so that nothing is created that exists.
    pub(crate) async fn super_known(&self) {
        let mut complete = self.complete.subscribe();
        let all = |complete: &HashSet<u8>| watched().all(|kind| complete.contains(&kind));
        // The sender lives as long as the engine.
        let _ = complete.wait_for(all).await;
    }

    /// Waits until the super objects of one kind are known.
    pub(crate) async fn super_knows(&self, kind: u8) {
        let mut complete = self.complete.subscribe();
        // The sender lives as long as the engine.
        let _ = complete.wait_for(|complete| complete.contains(&kind)).await;
    }

    /// Whether [`Engine::super_known`] would return at once.
    pub(crate) fn is_ready(&self) -> bool {
        let complete = self.complete.borrow();
        watched().all(|kind| complete.contains(&kind))
    }

    /// The queue of a direction.
    pub(crate) fn queue(&self, direction: Direction) -> &Queue {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }
}

/// Kinds that are watched in the super cluster.
pub(crate) fn watched() -> impl Iterator<Item = u8> {
    (0u8..)
        .zip(KINDS)
        .filter(|(_, kind)| kind.super_watch() != SuperWatch::Never)
        .map(|(index, _)| index)
}
