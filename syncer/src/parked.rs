//! Keys whose deletions are held by what lasts until somebody or something ends it: they wait for that end and are not
//! tried meanwhile. What is held for a moment only is tried again as all that fails.

use crate::{
    engine::Engine,
    gate::{Basis, Hold},
    queue::Direction,
    tenants::Tenant,
};
use parking_lot::Mutex;
use std::{collections::HashMap, time::Instant};
use tenancy::{kind, lag::Backlog, tenant::Key};

/// Those of one tenant.
#[derive(Default)]
pub(crate) struct Parked {
    down: Mutex<Keys>,
    up: Mutex<Keys>,
}

/// Each with since when there is something to be done for it.
type Keys = HashMap<Key, Instant>;

impl Parked {
    fn of(&self, direction: Direction) -> &Mutex<Keys> {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }

    /// Those for which there is something to be done since `before` or longer.
    pub(crate) fn overdue(&self, direction: Direction, before: Instant) -> Backlog {
        Backlog::of(self.of(direction).lock().values().copied(), before)
    }

    /// The key was worked, and not held.
    pub(crate) fn done(&self, direction: Direction, key: &Key) {
        let mut keys = self.of(direction).lock();
        if !keys.is_empty() {
            keys.remove(key);
        }
    }
}

/// Parks a key that was held, if that lasts; returns whether it does. There is something to be done for it since `since`.
pub(crate) fn park(
    tenant: &Tenant,
    direction: Direction,
    key: &Key,
    since: Option<Instant>,
) -> bool {
    let since = since.unwrap_or_else(|| tokio::time::Instant::now().into_std());
    // Before it is asked: whatever ends from now on finds it here.
    let parked = tenant.parked.of(direction);
    let known = *parked.lock().entry(key.clone()).or_insert(since);
    if since < known {
        parked.lock().insert(key.clone(), since);
    }
    let lasts = lasts(tenant, direction, key);
    if !lasts {
        tenant.parked.of(direction).lock().remove(key);
    }
    lasts
}

fn lasts(tenant: &Tenant, direction: Direction, key: &Key) -> bool {
    let gate = &tenant.gate;
    // What is only inferred is held by more, and tried again: another kind's trouble is no end to wait for.
    let is_held = || gate.check(key.kind, Basis::Told).is_err();
    if tenant.breakers.holds(direction, key) {
        return true;
    }
    match direction {
        Direction::Down => {
            let is_quarantined = || {
                let counter = tenant.table.get(key).twin.map(|twin| twin.counter);
                let now = tenant.rules().restore_counter;
                counter.is_some_and(|counter| tenant.marks.quarantines(counter, now))
            };
            is_held() || gate.holds().contains_key(&Hold::Quarantine) && is_quarantined()
        }
        Direction::Up if key.kind == kind::index("Pod") => gate.check_upward(key.kind).is_err(),
        Direction::Up => is_held(),
    }
}

/// Something that held has ended: all that is parked is worked, and parked again if another hold goes on.
pub(crate) fn free(engine: &Engine, tenant: &Tenant) {
    for direction in [Direction::Down, Direction::Up] {
        let keys = std::mem::take(&mut *tenant.parked.of(direction).lock());
        for (key, since) in keys {
            engine.queue(direction).add_since(&tenant.id, key, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};

    #[test]
    fn what_is_held_for_a_moment_is_not_parked_and_what_lasts_is_worked_at_its_end() {
        let (own, _server) = fake();
        let (above, _super_server) = fake();
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("ConfigMap"), "work", "a");
        fake::list_all(&tenant);
        assert!(!park(&tenant, Direction::Down, &key, None), "nothing lasts");
        free(&engine, &tenant);
        assert_eq!(engine.down.depth(&tenant.id), 0);
        tenant.gate.hold(Hold::WentBack, Some("older".into()));
        assert!(park(&tenant, Direction::Down, &key, None));
        let pod = Key::new(kind::index("Pod"), "work", "a");
        assert!(
            !park(&tenant, Direction::Up, &pod, None),
            "pods may be ended"
        );
        tenant.gate.hold(Hold::WentBack, None);
        free(&engine, &tenant);
        assert!(engine.down.has(&tenant.id, &key));
    }

    #[test]
    fn a_key_that_a_breaker_judged_waits_and_another_one_does_not() {
        let (own, _server) = fake();
        let tenant = tenant(&own);
        fake::list_all(&tenant);
        let key = |number: usize| Key::new(kind::index("ConfigMap"), "work", &number.to_string());
        for number in 0..30 {
            tenant.table.update(&key(number), |entry| {
                entry.twin = Some(fake::super_side("s", "u"));
            });
        }
        let held = (0..30).filter(|number| {
            let judged = tenant
                .breakers
                .judge_down(&key(*number), &tenant.table, &tenant.gate);
            judged.is_err() && park(&tenant, Direction::Down, &key(*number), None)
        });
        assert_eq!(held.count(), 5);
        assert!(!park(&tenant, Direction::Down, &key(99), None));
    }
}
