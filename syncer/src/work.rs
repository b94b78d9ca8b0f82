//! The loops that work the queues: a key is taken when there is a place for it and both API servers are worth asking.

use crate::{
    apply::Failure, downward, engine::Engine, lasting, parked, queue::Direction, tenants::Tenant,
    upward,
};
use std::{sync::Arc, time::Duration};
use tenancy::{
    circuit::Advice,
    fair_queue::Taken,
    tenant::{Key, TenantId},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info_span;

/// Keys worked at once in each direction, over all tenants: enough to keep the super API server busy.
const WORKERS: usize = 40;
/// A key that takes longer gives its place among the workers to another: it waits for an API server that is slow, and
/// no other tenant shall wait with it. How many such keys a tenant can have is bounded by the queue.
const PATIENCE: Duration = Duration::from_millis(500);

/// So long one key that probes the super API server is waited for: its tenant may be dead itself, and a server that hangs
/// is asked by a few at most before the first of them gives up.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Starts working both directions.
pub(crate) fn start(engine: &Arc<Engine>, tasks: &TaskTracker, cancel: &CancellationToken) {
    for direction in [Direction::Down, Direction::Up] {
        let span = match direction {
            Direction::Down => info_span!("work down"),
            Direction::Up => info_span!("work up"),
        };
        let work = run(engine.clone(), direction, tasks.clone(), cancel.clone());
        lasting::spawn(tasks, span, cancel, work);
    }
}

/// Takes keys as long as there are places, and works each in a task of its own.
async fn run(
    engine: Arc<Engine>,
    direction: Direction,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(WORKERS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            let taken = engine.queue(direction).next().await;
            // Asked with the key at hand, since all this time policies and the super cluster may have come and gone.
            engine.fleet.standing.held().await;
            if direction == Direction::Down {
                engine.guard.intact().await;
            }
            let is_probe = engine.cluster.pace().worth_asking().await;
            (place, taken, is_probe)
        };
        let (place, taken, is_probe) = tokio::select! {
            () = cancel.cancelled() => return,
            next = next => next,
        };
        let worker = engine.clone();
        let changed = engine.cluster.pace().changed();
        let work = async move {
            let work = work(&worker, direction, taken);
            tokio::pin!(work);
            if tokio::time::timeout(PATIENCE, &mut work).await.is_err() {
                drop(place);
                work.await;
            }
        };
        let worked = tasks.spawn(work);
        if is_probe {
            tokio::select! {
                _ = worked => {}
                () = changed => {}
                () = tokio::time::sleep(PROBE_PATIENCE) => {}
            }
        }
    }
}

/// Works one key.
async fn work(engine: &Engine, direction: Direction, taken: Taken<TenantId, Key>) {
    let Taken {
        tenant: id,
        key,
        waited,
        limited,
    } = taken;
    let queue = engine.queue(direction);
    let Some(tenant) = engine.tenant(&id) else {
        // The key alone: what the queue was told of the tenant may be for one that is just being served anew.
        queue.done(&id, &key);
        return;
    };
    // What is counted ends with it.
    let activity = tenant.activity.token();
    engine.metrics.waited(&id, direction, waited);
    engine.metrics.limited(&id, limited);
    queue.begin(&id, &key);
    let result = match direction {
        Direction::Down => downward::work(engine, &tenant, &key).await,
        Direction::Up => upward::work(engine, &tenant, &key).await,
    };
    engine.metrics.worked(&id, direction, result.is_ok());
    let writes = tenant.take_writes();
    engine.metrics.wrote(&id, writes);
    engine.down.charge(&id, writes);
    drop(activity);
    let advice = tenant.cluster.pace().advice();
    match result {
        Ok(()) => {
            tenant.parked.done(direction, &key);
            queue.done(&id, &key);
        }
        Err(failure) => {
            report(&tenant, &key, direction, &failure);
            let paused = advice != Advice::Ask || engine.cluster.pace().advice() != Advice::Ask;
            let park = || parked::park(&tenant, direction, &key, queue.since(&id, &key));
            if matches!(failure, Failure::Held(_)) && park() {
                queue.done(&id, &key);
            } else if matches!(failure, Failure::Rests(_)) {
                queue.rest(&id, &key);
            } else if paused && failure.is_unreachable() {
                queue.put_back(&id, &key);
            } else {
                queue.retry(&id, &key);
            }
        }
    }
    // What doesn't fit into the super API server would stand there before other tenants' keys.
    let most = engine.cluster.pace().places().unwrap_or(usize::MAX);
    engine.down.govern(&id, advice, most);
    engine.up.govern(&id, advice, usize::MAX);
}

fn report(tenant: &Tenant, key: &Key, direction: Direction, failure: &Failure) {
    // What holds deletions was told when it began.
    if matches!(failure, Failure::Stopped | Failure::Held(_)) || failure.is_race() {
        tracing::debug!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    } else {
        tracing::warn!(tenant = %tenant.id, %key, ?direction, err = %failure, "will be worked again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::fake::{self, fake, numbered_tenant};
    use serde_json::json;
    use std::collections::HashMap;
    use tenancy::{bucket::Rate, kind::index, object::Object};

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
        start(&engine, &tasks, &cancel);
        let began = tokio::time::Instant::now();
        for key in 0..10 {
            engine.down.add(&quiet.id, config_map(key));
            answering.answer("GET", 404, &json!({})).await;
        }
        assert!(began.elapsed() < 8 * PATIENCE, "{:?}", began.elapsed());
        cancel.cancel();
    }

    /// One key at a time is worked while nobody knows whether the super API server is back.
    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_hangs_does_not_keep_others_from_finding_the_super_cluster_back() {
        let (cluster, mut super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        engine.guard.let_pass();
        for _ in 0..3 {
            let failed: Result<(), _> = Err(Error::Unavailable("gone".into()));
            cluster.pace().observe(&failed);
        }
        let (own, _silent) = fake();
        let hanging = Arc::new(numbered_tenant(3, &own));
        engine.tenants.insert(hanging.id.clone(), hanging.clone());
        engine.down.add(&hanging.id, config_map(0));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        start(&engine, &tasks, &cancel);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _quiet = with_config_maps(&engine, 1, 1);
        let made = super_server.answer("POST", 201, &json!({})).await;
        assert!(made.path.ends_with("/configmaps"), "{}", made.path);
        cancel.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn not_even_the_first_key_goes_down_that_comes_when_an_admission_policy_is_missing() {
        let (cluster, mut super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        engine.guard.let_pass();
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        start(&engine, &tasks, &cancel);
        // It waits for something to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        engine.guard.lack(api::ADMISSION_POLICIES[0]);
        let _tenant = with_config_maps(&engine, 1, 2);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(super_server.is_silent(), "it was written down");
        engine.guard.let_pass();
        for _ in 0..2 {
            super_server.answer("POST", 201, &json!({})).await;
        }
        cancel.cancel();
    }

    /// A tenant whose ConfigMaps all cross, and so many of them that are new.
    fn with_config_maps(engine: &Engine, number: u8, count: usize) -> Arc<Tenant> {
        let (own, _server) = fake();
        let tenant = Arc::new(numbered_tenant(number, &own));
        let mut rules = (*tenant.rules()).clone();
        rules.to_super = fake::all_config_maps();
        tenant.revise(rules, tenant.record());
        let namespace = Key::new(index("Namespace"), "", "default");
        tenant.table.update(&namespace, |entry| {
            entry.twin = Some(fake::super_side("n", "own"));
        });
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        for number in 0..count {
            let key = config_map(number);
            let object = Object::from_value(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": &*key.name, "namespace": "default", "uid": format!("u{number}"), "resourceVersion": "7"},
            }));
            tenant.down.put(key.clone(), Arc::new(object.unwrap()));
            engine.down.add(&tenant.id, key);
        }
        tenant
    }

    #[tokio::test(start_paused = true)]
    async fn t40_a_tenant_beyond_its_rate_waits_and_no_other_does() {
        let (cluster, mut super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        engine.guard.let_pass();
        let noisy = with_config_maps(&engine, 1, 8);
        engine.down.set_rate(&noisy.id, Rate::per_second(2, 5));
        let quiet = with_config_maps(&engine, 2, 8);
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        start(&engine, &tasks, &cancel);
        let began = tokio::time::Instant::now();
        let mut times: HashMap<String, Vec<Duration>> = HashMap::new();
        for number in 0..16 {
            let stored = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "namespace": "s", "uid": format!("s{number}"), "resourceVersion": "9"},
            });
            let made = super_server.answer("POST", 201, &stored).await;
            let owner = made.body["metadata"]["labels"][api::keys::TENANT].as_str();
            let of = times.entry(owner.unwrap().to_owned()).or_default();
            of.push(began.elapsed());
        }
        let limit = Duration::from_millis(100);
        assert!(times[quiet.id.as_str()].iter().all(|time| *time < limit));
        let waited = times[noisy.id.as_str()].iter();
        let waited: Vec<u128> = waited.map(|time| time.as_millis() / 100).collect();
        assert_eq!(waited, [0, 0, 0, 0, 0, 5, 10, 15]);
        tokio::time::sleep(limit).await;
        let text = engine.metrics.text(&telemetry::Gauges::default()).unwrap();
        for (tenant, limited) in [(&noisy, true), (&quiet, false)] {
            let labels = format!("{{tenant=\"{}\"}}", tenant.id);
            let writes = format!("sublet_syncer_super_writes_total{labels} 8");
            assert!(text.contains(&writes), "{text}");
            let seconds = format!("sublet_syncer_rate_limited_seconds_total{labels} 1.5");
            assert_eq!(text.contains(&seconds), limited, "{text}");
        }
        cancel.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn t40_a_key_from_before_a_tenants_restart_takes_its_rate_from_nobody() {
        let (cluster, _super_server) = fake();
        let engine = fake::engine(&cluster);
        let id = TenantId::from_bits([1; 16]);
        engine.down.add(&id, config_map(0));
        let of_before = engine.down.next().await;
        engine.down.set_rate(&id, Rate::per_second(1, 1));
        work(&engine, Direction::Down, of_before).await;
        engine.down.charge(&id, 100);
        engine.down.add(&id, config_map(1));
        let next = tokio::time::timeout(Duration::from_secs(10), engine.down.next());
        assert!(next.await.is_err(), "it owes writes");
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
        start(&engine, &tasks, &cancel);
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
