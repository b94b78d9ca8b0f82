//! The loops that work the queues: a key is taken when there is a place for it and both API servers are worth asking.

use crate::{apply::Failure, downward, engine::Engine, queue::Direction, tenants::Tenant, upward};
use std::{sync::Arc, time::Duration};
use tenancy::{
    circuit::Advice,
    fair_queue::Taken,
    tenant::{Key, TenantId},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Keys worked at once in each direction, over all tenants: enough to keep the super API server busy.
const WORKERS: usize = 40;
/// A key that takes longer gives its place among the workers to another: it waits for an API server that is slow, and
/// no other tenant shall wait with it. How many such keys a tenant can have is bounded by the queue.
const PATIENCE: Duration = Duration::from_millis(500);

/// Starts working both directions.
pub(crate) fn start(engine: &Arc<Engine>, tasks: &TaskTracker, cancel: &CancellationToken) {
    for direction in [Direction::Down, Direction::Up] {
        tasks.spawn(run(
            engine.clone(),
            direction,
            tasks.clone(),
            cancel.clone(),
        ));
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
            if direction == Direction::Down {
                engine.guard.intact().await;
            }
            let place = places.clone().acquire_owned().await;
            let taken = engine.queue(direction).next().await;
            engine.fleet.standing.held().await;
            // Asked last, since all this time the super cluster may have come and gone.
            let is_probe = engine.cluster.pace().worth_asking().await;
            (place, taken, is_probe)
        };
        let (place, taken, is_probe) = tokio::select! {
            () = cancel.cancelled() => return,
            next = next => next,
        };
        let engine = engine.clone();
        let work = async move {
            let work = work(&engine, direction, taken);
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
async fn work(engine: &Engine, direction: Direction, taken: Taken<TenantId, Key>) {
    let Taken {
        tenant: id,
        key,
        waited,
        limited: _,
    } = taken;
    let queue = engine.queue(direction);
    let Some(tenant) = engine.tenant(&id) else {
        queue.remove(&id);
        return;
    };
    // What is counted ends with it.
    let activity = tenant.activity.token();
    engine.metrics.waited(&id, direction, waited);
    queue.begin(&id, &key);
    let result = match direction {
        Direction::Down => downward::work(engine, &tenant, &key).await,
        Direction::Up => upward::work(engine, &tenant, &key).await,
    };
    engine.metrics.worked(&id, direction, result.is_ok());
    drop(activity);
    let advice = tenant.cluster.pace().advice();
    match result {
        Ok(()) => queue.done(&id, &key),
        Err(failure) => {
            report(&tenant, &key, direction, &failure);
            let paused = advice != Advice::Ask || engine.cluster.pace().advice() != Advice::Ask;
            if paused && failure.is_unreachable() {
                queue.put_back(&id, &key);
            } else {
                queue.retry(&id, &key);
            }
        }
    }
    engine.down.govern(&id, advice);
    engine.up.govern(&id, advice);
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
        start(&engine, &tasks, &cancel);
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
