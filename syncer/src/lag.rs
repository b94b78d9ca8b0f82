//! Tells on each VirtualControlPlane how far its sync lags behind. What is told, and when, is decided in [`tenancy::lag`].
//!
//! One task does it for all tenants: it looks at what waits, which costs no request, and few of them need one.
//!
//! What is not promised: that a lag is told while the super cluster's API server, which keeps the VirtualControlPlanes, is in
//! trouble itself, or that one is remembered by a syncer that takes a tenant over. That counts from when it began.

use crate::{
    engine::Engine,
    queue::Direction,
    tenants::Tenant,
    verdict::{self, ControlPlane, Saying, SyncField},
};
use api::{SyncBacklog, SyncStatus};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tenancy::{
    circuit::Advice,
    lag::{BEHIND, Backlog, Lag, Telling},
};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Tenants that are told of after each look, those first that lag the most: all at once may fall behind.
const MOST_TOLD: usize = 8;

/// Looks, and tells, until cancelled.
pub(crate) async fn keep(engine: Arc<Engine>, cancel: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = looks.tick() => {}
        }
        // To its end: what is being told is noted.
        look(&engine).await;
    }
}

async fn look(engine: &Engine) {
    // It has better things to do.
    if engine.cluster.pace().advice() != Advice::Ask {
        return;
    }
    let mut all: Vec<(Arc<Tenant>, Lag)> = vec![];
    for tenant in engine.served() {
        let now = Instant::now();
        if !tenant.telling.lock().has_room(now.into_std()) {
            continue;
        }
        let lag = of(engine, &tenant, now);
        let due = tenant.telling.lock().due(lag, now.into_std());
        all.extend(due.map(|lag| (tenant, lag)));
        // Of a tenant with very many keys that takes a moment.
        tokio::task::yield_now().await;
    }
    all.sort_by_key(|(_, lag)| (lag.since().is_none(), lag.since()));
    // One after another: the sync needs the places of the super API server more.
    for (tenant, lag) in all.into_iter().take(MOST_TOLD) {
        tell(engine, &tenant, lag).await;
    }
}

/// What waits of a tenant now.
fn of(engine: &Engine, tenant: &Tenant, now: Instant) -> Lag {
    let Some(before) = now.into_std().checked_sub(BEHIND) else {
        return Lag::default();
    };
    let waits = |direction: Direction| {
        let queued = engine.queue(direction).overdue(&tenant.id, before);
        queued.and(tenant.parked.overdue(direction, before))
    };
    Lag {
        to_super: waits(Direction::Down),
        from_super: waits(Direction::Up),
        unwatched: tenant.gate.unwatched(),
    }
}

async fn tell(engine: &Engine, tenant: &Tenant, lag: Lag) {
    let now = Instant::now().into_std();
    // Whatever comes of it: what can't be said isn't said all the time either.
    tenant.telling.lock().tried(now);
    // Part of what must end before the tenant counts as stopped.
    let activity = tenant.activity.token();
    let status = status(lag, now, Timestamp::now());
    let saying = Saying {
        conditions: &[],
        sync: SyncField::Is(status),
    };
    let (control_plane, permit) = (ControlPlane::of(tenant), tenant.permit());
    let is_said = verdict::say(engine, &control_plane, &saying, &permit).await;
    drop(activity);
    if is_said {
        tenant.telling.lock().note(lag);
    }
}

/// A lag as it is told, at a time of this process's clock that is `clock` for people.
fn status(lag: Lag, now: std::time::Instant, clock: Timestamp) -> SyncStatus {
    let text = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let told = |since: std::time::Instant| {
        let age = now.saturating_duration_since(since);
        text(clock.checked_sub(age).unwrap_or(clock))
    };
    let backlog = |of: Backlog| SyncBacklog {
        waiting: of.waiting.try_into().unwrap_or(i64::MAX),
        oldest_since: of.oldest.map(told),
    };
    SyncStatus {
        observed_time: text(clock),
        behind_since: lag.since().map(told),
        unwatched_since: lag.unwatched.map(told),
        to_super: backlog(lag.to_super),
        from_super: backlog(lag.from_super),
    }
}

/// What needn't be told of a tenant that begins to be served, by what its VirtualControlPlane says.
pub(crate) fn begin(said: Option<&SyncStatus>) -> Telling {
    match said {
        Some(said) if said.behind_since.is_none() => Telling::in_step(),
        _ => Telling::default(),
    }
}

/// Whether what was told last of a tenant is what its VirtualControlPlane says; what it says may be a little older.
pub(crate) fn stands(telling: &Telling, said: Option<&SyncStatus>) -> bool {
    let Some(told) = telling.told() else {
        return true;
    };
    let count = |of: Backlog| of.waiting.try_into().unwrap_or(i64::MAX);
    let is_it = |said: &SyncStatus| {
        said.behind_since.is_some() == told.since().is_some()
            && said.unwatched_since.is_some() == told.unwatched.is_some()
            && said.to_super.waiting == count(told.to_super)
            && said.from_super.waiting == count(told.from_super)
    };
    said.is_some_and(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Server, fake, numbered_tenant};
    use serde_json::{Value, json};
    use tenancy::{kind, tenant::Key};

    fn engine() -> (Engine, Server) {
        let (above, server) = fake();
        (fake::engine(&above), server)
    }

    /// Several that are served, whose API servers nobody asks.
    fn tenants(engine: &Engine, count: u8, telling: impl Fn() -> Telling) -> Vec<Arc<Tenant>> {
        let (own, _) = fake();
        let tenant = |number| {
            let tenant = Arc::new(numbered_tenant(number, &own));
            fake::list_all(&tenant);
            *tenant.telling.lock() = telling();
            engine.tenants.insert(tenant.id.clone(), tenant.clone());
            tenant
        };
        (1..=count).map(tenant).collect()
    }

    fn vcp(tenant: &Tenant, sync: &Value) -> Value {
        json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "acme", "namespace": "tenants", "uid": "v", "resourceVersion": "5"},
            "spec": {"identity": tenant.id.as_str()}, "status": {"sync": sync},
        })
    }

    fn key(number: usize) -> Key {
        Key::new(kind::index("ConfigMap"), "work", &format!("c{number}"))
    }

    /// What is written of the tenant in one look, which must write.
    async fn told(engine: &Engine, server: &mut Server, vcp: &Value) -> Value {
        let answers = async {
            server.answer("GET", 200, vcp).await;
            let said = server.answer("PATCH", 200, vcp).await;
            let said = said.body.as_array().unwrap().clone();
            let is_it = |step: &&Value| step["path"] == "/status/sync" && step["op"] == "add";
            said.iter().find(is_it).unwrap()["value"].clone()
        };
        let ((), said) = tokio::join!(look(engine), answers);
        said
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_falls_behind_is_told_so_once_and_once_that_it_is_in_step_again() {
        let (engine, mut server) = engine();
        let tenant = tenants(&engine, 1, Telling::in_step).remove(0);
        let vcp = vcp(&tenant, &Value::Null);
        tokio::time::sleep(BEHIND).await;
        (0..3).for_each(|number| engine.up.add(&tenant.id, key(number)));
        for _ in 0..2 {
            look(&engine).await;
            assert!(server.is_silent(), "it is on its way");
            tokio::time::sleep(BEHIND / 2).await;
        }
        let said = told(&engine, &mut server, &vcp).await;
        assert_eq!(said["fromSuper"]["waiting"], 3);
        assert_eq!(said["toSuper"], json!({"waiting": 0}));
        assert!(said["behindSince"].is_string(), "{said}");
        assert_eq!(said["behindSince"], said["fromSuper"]["oldestSince"]);
        for _ in 0..100 {
            tokio::time::sleep(LOOK).await;
            // It is tried, again and again.
            let taken = engine.up.next().await;
            engine.up.retry(&taken.tenant, &taken.key);
            look(&engine).await;
            assert!(server.is_silent(), "what stands there is still so");
        }
        for _ in 0..3 {
            let taken = engine.up.next().await;
            engine.up.done(&taken.tenant, &taken.key);
        }
        let said = told(&engine, &mut server, &vcp).await;
        assert!(said["behindSince"].is_null(), "{said}");
        tokio::time::sleep(LOOK).await;
        look(&engine).await;
        assert!(server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_of_tenants_in_step_cost_no_request() {
        let (engine, mut server) = engine();
        let all = tenants(&engine, 250, Telling::in_step);
        for _ in 0..100 {
            // At work all the time.
            for tenant in &all {
                engine.down.add(&tenant.id, key(0));
            }
            look(&engine).await;
            for _ in &all {
                let taken = engine.down.next().await;
                engine.down.done(&taken.tenant, &taken.key);
            }
            tokio::time::sleep(LOOK).await;
        }
        assert!(server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_there_is_not_written_again_by_another_syncer() {
        let (engine, mut server) = engine();
        let tenant = tenants(&engine, 1, Telling::default).remove(0);
        let in_step = status(Lag::default(), Instant::now().into_std(), Timestamp::now());
        let vcp = vcp(&tenant, &json!(in_step));
        for _ in 0..2 {
            look(&engine).await;
            assert!(server.is_silent(), "nobody can know it yet");
            tokio::time::sleep(LOOK).await;
        }
        let answers = async {
            server.answer("GET", 200, &vcp).await;
        };
        tokio::join!(look(&engine), answers);
        tokio::time::sleep(LOOK).await;
        look(&engine).await;
        assert!(server.is_silent());
        let now = Instant::now().into_std();
        assert_eq!(begin(Some(&in_step)).due(Lag::default(), now), None);
    }

    #[test]
    fn what_was_told_stands_only_where_the_same_is_said() {
        let now = Instant::now().into_std() + Duration::from_secs(1000);
        let since = Some(now - Duration::from_secs(90));
        let behind = Lag {
            to_super: Backlog {
                waiting: 7,
                oldest: since,
            },
            ..Lag::default()
        };
        let unwatched = Lag {
            unwatched: since,
            ..Lag::default()
        };
        let says = |lag| status(lag, now, Timestamp::now());
        let told = |lag| {
            let mut telling = Telling::default();
            telling.note(lag);
            telling
        };
        for lag in [Lag::default(), behind, unwatched] {
            assert!(stands(&Telling::default(), Some(&says(lag))));
            assert!(!stands(&told(lag), None));
            for other in [Lag::default(), behind, unwatched] {
                assert_eq!(stands(&told(lag), Some(&says(other))), lag == other);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn deletions_that_are_held_wait_too_for_as_long_as_they_are() {
        let (engine, mut server) = engine();
        let tenant = tenants(&engine, 1, Telling::in_step).remove(0);
        tokio::time::sleep(BEHIND).await;
        tenant
            .gate
            .hold(crate::gate::Hold::WentBack, Some("older".into()));
        engine.down.add(&tenant.id, key(0));
        for _ in 0..5 {
            // Whatever happens to another hold.
            crate::parked::free(&engine, &tenant);
            let taken = engine.down.next().await;
            let since = engine.down.since(&taken.tenant, &taken.key);
            assert!(crate::parked::park(
                &tenant,
                Direction::Down,
                &taken.key,
                since
            ));
            engine.down.done(&taken.tenant, &taken.key);
            tokio::time::sleep(BEHIND / 4).await;
        }
        let said = told(&engine, &mut server, &vcp(&tenant, &Value::Null)).await;
        assert_eq!(said["toSuper"]["waiting"], 1);
    }

    #[test]
    fn times_are_told_as_people_read_them() {
        let now = Instant::now().into_std() + Duration::from_secs(1000);
        let clock: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let ago = |seconds| now - Duration::from_secs(seconds);
        let lag = Lag {
            to_super: Backlog {
                waiting: 7,
                oldest: Some(ago(90)),
            },
            unwatched: Some(ago(600)),
            ..Lag::default()
        };
        assert_eq!(
            json!(status(lag, now, clock)),
            json!({
                "observedTime": "2026-01-01T00:10:00Z", "behindSince": "2026-01-01T00:00:00Z",
                "unwatchedSince": "2026-01-01T00:00:00Z",
                "toSuper": {"waiting": 7, "oldestSince": "2026-01-01T00:08:30Z"}, "fromSuper": {"waiting": 0},
            })
        );
    }
}
