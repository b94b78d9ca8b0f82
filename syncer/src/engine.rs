//! What all parts share, and the loops that work the queues.

use crate::{
    apply::Failure, budget::Budgets, client::Cluster, downward, fleet::Fleet, guard::Guard,
    isolation::Isolation, metrics::Metrics, offered::Offered, patrol::Rounds, queue::Queue,
    table::Table, tenants::Tenant, upward,
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
    circuit::Advice,
    fair_queue::Taken,
    kind::{KINDS, SuperWatch},
    tenant::{Key, TenantId},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Keys worked at once in each direction, over all tenants: enough to keep the super API server busy.
const WORKERS: usize = 40;
/// A key that takes longer gives its place among the workers to another: it waits for an API server that is slow, and
/// no other tenant shall wait with it. How many such keys a tenant can have is bounded by the queue.
const PATIENCE: Duration = Duration::from_millis(500);

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
    /// Tenants whose work in progress is still ending.
    pub(crate) stopping: DashSet<TenantId>,
    /// Super namespaces that are twins, and whose.
    pub(crate) twins: DashMap<String, (TenantId, Arc<str>)>,
    /// The admission policies that hold this process's identity.
    pub(crate) guard: Guard,
    /// The NetworkPolicies that isolate tenants, as they stand.
    pub(crate) isolation: Isolation,
    /// The budgets of groups, as they were last seen.
    pub(crate) budgets: Budgets,
    /// Objects that are published to tenants.
    pub(crate) offered: Arc<Offered>,
    /// Kinds whose list of super objects is complete.
    complete: watch::Sender<HashSet<u8>>,
    /// UID of the super cluster's kube-system namespace, as it was at the start.
    pub(crate) super_proof: OnceLock<String>,
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

/// A direction of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

impl Engine {
    pub(crate) fn new(
        cluster: Cluster,
        fleet: Arc<Fleet>,
        metrics: Metrics,
        rounds: Rounds,
        unneeded_period: Duration,
    ) -> Self {
        Self {
            cluster,
            fleet,
            tenants: DashMap::new(),
            tables: DashMap::new(),
            stopping: DashSet::new(),
            twins: DashMap::new(),
            guard: Guard::default(),
            isolation: Isolation::default(),
            budgets: Budgets::default(),
            offered: Arc::default(),
            complete: watch::Sender::new(HashSet::new()),
            super_proof: OnceLock::new(),
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

    /// Drops the objects of the first lists that nobody asked for.
    pub(crate) fn drop_unjudged(&self) {
        for table in &self.tables {
            table.drop_unjudged();
        }
    }

    /// Drops the memory of a tenant that is gone.
    pub(crate) fn forget(&self, id: &TenantId) {
        self.tables.remove(id);
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

    /// Highest version seen of the super cluster's pods.
    pub(crate) fn super_version(&self) -> u64 {
        self.super_version.load(Ordering::Relaxed)
    }

    /// A version of the super cluster's pods was seen.
    pub(crate) fn super_seen(&self, version: u64) {
        self.super_version.fetch_max(version, Ordering::Relaxed);
    }

    /// The super cluster's pods were listed at a version; an older one than before means that it went back, and then
    /// its every status is news (R5).
    pub(crate) fn super_pods_listed(&self, version: u64) {
        let known = self.super_version.swap(version, Ordering::Relaxed);
        if version < known {
            tracing::warn!(
                known,
                found = version,
                "the super cluster went back to an older state"
            );
            for table in &self.tables {
                table.forget_mirrored();
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

    /// Starts working both directions.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, cancel: &CancellationToken) {
        for direction in [Direction::Down, Direction::Up] {
            tasks.spawn(self.clone().run(direction, tasks.clone(), cancel.clone()));
        }
    }

    /// Takes keys as long as there are places, and works each in a task of its own.
    async fn run(
        self: Arc<Self>,
        direction: Direction,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(WORKERS));
        loop {
            let next = async {
                if direction == Direction::Down {
                    self.guard.intact().await;
                }
                let place = places.clone().acquire_owned().await;
                let taken = self.queue(direction).next().await;
                self.fleet.standing.held().await;
                // Asked last, since all this time the super cluster may have come and gone.
                let is_probe = self.cluster.pace().worth_asking().await;
                (place, taken, is_probe)
            };
            let (place, taken, is_probe) = tokio::select! {
                () = cancel.cancelled() => return,
                next = next => next,
            };
            let engine = self.clone();
            let work = async move {
                let work = engine.work(direction, taken);
                tokio::pin!(work);
                if tokio::time::timeout(PATIENCE, &mut work).await.is_err() {
                    drop(place);
                    work.await;
                }
            };
            if is_probe {
                work.await;
            } else {
                tasks.spawn(work);
            }
        }
    }

    /// Works one key.
    async fn work(&self, direction: Direction, taken: Taken<TenantId, Key>) {
        let Taken {
            tenant: id,
            key,
            waited,
        } = taken;
        let queue = self.queue(direction);
        self.metrics.waited(&id, direction, waited);
        let Some(tenant) = self.tenant(&id) else {
            queue.remove(&id);
            return;
        };
        let activity = tenant.activity.token();
        let result = match direction {
            Direction::Down => downward::work(self, &tenant, &key).await,
            Direction::Up => upward::work(self, &tenant, &key).await,
        };
        drop(activity);
        self.metrics.worked(&id, direction, result.is_ok());
        let advice = tenant.cluster.pace().advice();
        match result {
            Ok(()) => queue.done(&id, &key),
            Err(failure) => {
                report(&tenant, &key, direction, &failure);
                let paused = advice != Advice::Ask || self.cluster.pace().advice() != Advice::Ask;
                if paused && failure.is_unreachable() {
                    queue.put_back(&id, &key);
                } else {
                    queue.retry(&id, &key);
                }
            }
        }
        self.down.govern(&id, advice);
        self.up.govern(&id, advice);
    }

    fn queue(&self, direction: Direction) -> &Queue {
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

fn report(tenant: &Tenant, key: &Key, direction: Direction, failure: &Failure) {
    if matches!(failure, Failure::Stopped) || failure.is_race() {
        tracing::debug!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    } else {
        tracing::warn!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, numbered_tenant};
    use serde_json::json;
    use tenancy::kind::index;

    fn config_map(number: usize) -> Key {
        Key::new(index("ConfigMap"), "default", &format!("c{number}"))
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_whose_api_servers_hang_hold_no_worker_that_another_needs() {
        let (cluster, _super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        engine.guard.let_pass();
        let mut servers = vec![];
        // Together they could hold more places than there are.
        for number in 0..6 {
            let (cluster, server) = fake();
            let tenant = Arc::new(numbered_tenant(number, &cluster));
            engine.tenants.insert(tenant.id.clone(), tenant.clone());
            (0..WORKERS).for_each(|key| engine.down.add(&tenant.id, config_map(key)));
            servers.push(server);
        }
        let (cluster, mut answering) = fake();
        let quiet = Arc::new(numbered_tenant(9, &cluster));
        engine.tenants.insert(quiet.id.clone(), quiet.clone());
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        engine.start(&tasks, &cancel);
        let began = tokio::time::Instant::now();
        for key in 0..10 {
            engine.down.add(&quiet.id, config_map(key));
            answering.answer("GET", 404, &json!({})).await;
        }
        assert!(began.elapsed() < 8 * PATIENCE, "{:?}", began.elapsed());
        cancel.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_hangs_is_asked_one_request_at_a_time() {
        let (cluster, _super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        engine.guard.let_pass();
        let (cluster, _silent) = fake();
        let tenant = Arc::new(numbered_tenant(1, &cluster));
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        (0..100).for_each(|key| engine.down.add(&tenant.id, config_map(key)));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        engine.start(&tasks, &cancel);
        let mut most = 0;
        // Two time limits of a request later, what was under way at first has ended.
        tokio::time::sleep(Duration::from_secs(65)).await;
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            most = most.max(100 - engine.down.depth(&tenant.id));
        }
        assert_eq!(most, 1);
        let waiting = engine.down.depth(&tenant.id);
        assert!((99..=100).contains(&waiting), "no key is lost: {waiting}");
        cancel.cancel();
    }
}
