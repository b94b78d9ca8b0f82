//! What all parts share, and the loops that work the queues.

use crate::{
    apply::Failure, client::Cluster, downward, queue::Queue, table::Table, telemetry::Metrics,
    tenants::Tenant, upward,
};
use dashmap::{DashMap, DashSet};
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};
use tenancy::{
    kind::{KINDS, SuperWatch},
    tenant::{Key, TenantId},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Keys worked at once in each direction, over all tenants: the streams that one HTTP/2 connection to the super API
/// server carries besides its reserve.
const WORKERS: usize = 40;

/// The engine's shared state.
pub(crate) struct Engine {
    /// The super cluster.
    pub(crate) cluster: Cluster,
    /// Tenants that are served.
    pub(crate) tenants: DashMap<TenantId, Arc<Tenant>>,
    /// What is known of every tenant that has objects in the super cluster, served or not.
    tables: DashMap<TenantId, Arc<Table>>,
    /// Tenants whose work in progress is still ending.
    pub(crate) stopping: DashSet<TenantId>,
    /// Super namespaces that are twins, and whose.
    pub(crate) twins: DashMap<String, (TenantId, Arc<str>)>,
    /// Names of objects that are published to tenants, by kind.
    pub(crate) published: Mutex<HashSet<Key>>,
    /// Kinds whose list of super objects is complete.
    complete: watch::Sender<HashSet<u8>>,
    /// UID of the super cluster's kube-system namespace, as it was at the start.
    pub(crate) super_proof: OnceLock<String>,
    pub(crate) down: Queue,
    pub(crate) up: Queue,
    pub(crate) metrics: Metrics,
}

/// A direction of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

impl Engine {
    pub(crate) fn new(cluster: Cluster, metrics: Metrics) -> Self {
        Self {
            cluster,
            tenants: DashMap::new(),
            tables: DashMap::new(),
            stopping: DashSet::new(),
            twins: DashMap::new(),
            published: Mutex::default(),
            complete: watch::Sender::new(HashSet::new()),
            super_proof: OnceLock::new(),
            down: Queue::new(),
            up: Queue::new(),
            metrics,
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
        self.tables.entry(id.clone()).or_default().clone()
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

    /// Drops the memory of a tenant that is gone.
    pub(crate) fn forget(&self, id: &TenantId) {
        self.tables.remove(id);
        self.twins.retain(|_, (owner, _)| owner != id);
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

    /// Whether [`Engine::super_known`] would return at once.
    pub(crate) fn is_ready(&self) -> bool {
        let complete = self.complete.borrow();
        watched().all(|kind| complete.contains(&kind))
    }

    /// Starts the workers of both directions.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, cancel: &CancellationToken) {
        for direction in [Direction::Down, Direction::Up] {
            for _ in 0..WORKERS {
                tasks.spawn(self.clone().work(direction, cancel.clone()));
            }
        }
    }

    async fn work(self: Arc<Self>, direction: Direction, cancel: CancellationToken) {
        let queue = match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        };
        loop {
            let taken = tokio::select! {
                () = cancel.cancelled() => return,
                taken = queue.next() => taken,
            };
            self.metrics.waited(&taken.tenant, direction, taken.waited);
            let Some(tenant) = self.tenant(&taken.tenant) else {
                queue.remove(&taken.tenant);
                continue;
            };
            let activity = tenant.activity.token();
            let result = match direction {
                Direction::Down => downward::work(&self, &tenant, &taken.key).await,
                Direction::Up => upward::work(&self, &tenant, &taken.key).await,
            };
            drop(activity);
            self.metrics
                .worked(&taken.tenant, direction, result.is_ok());
            match result {
                Ok(()) => queue.done(&taken.tenant, &taken.key),
                Err(failure) => {
                    report(&tenant, &taken.key, direction, &failure);
                    queue.retry(&taken.tenant, &taken.key);
                }
            }
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

fn report(tenant: &Tenant, key: &Key, direction: Direction, failure: &Failure) {
    if matches!(failure, Failure::Stopped) || failure.is_race() {
        tracing::debug!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    } else {
        tracing::warn!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    }
}
