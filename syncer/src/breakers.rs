//! The breakers of one tenant: how many deletions were only inferred, and what that opens.

use crate::{
    gate::{Gate, Held, Hold},
    queue::Direction,
    table::Table,
};
use parking_lot::Mutex;
use tenancy::{breaker::Breaker, kind, tenant::Key};
use tokio::time::Instant;

/// Keys that a message names.
const NAMED: usize = 5;

/// Both directions.
#[derive(Default)]
pub(crate) struct Breakers {
    down: Mutex<Breaker<Key>>,
    up: Mutex<Breaker<Key>>,
}

impl Breakers {
    /// The tenant's list lacks these, and each has a twin. All of a list at once.
    pub(crate) fn missing_in_tenant(&self, keys: Vec<Key>) {
        let mut down = self.down.lock();
        let keys: Vec<Key> = keys
            .into_iter()
            .filter(|key| !in_deleted_namespace(&down, key))
            .collect();
        down.suspect(keys);
    }

    /// The tenant's API told that the object is gone, or on its way.
    pub(crate) fn deleted_in_tenant(&self, key: Key, gate: &Gate) {
        closing(&self.down, gate, Hold::Breaker, |down| down.saw(key));
    }

    /// Whether it did.
    pub(crate) fn is_told(&self, key: &Key) -> bool {
        self.down.lock().has_seen(key)
    }

    /// The tenant's object is the one that its twin was made for, or it has no twin.
    pub(crate) fn is_in_tenant(&self, key: &Key, gate: &Gate) {
        closing(&self.down, gate, Hold::Breaker, |down| down.exonerate(key));
    }

    /// The super cluster lacks these pods, and each is bound.
    pub(crate) fn missing_in_super(&self, keys: Vec<Key>) {
        self.up.lock().suspect(keys);
    }

    /// The super cluster's API told that the pod is gone.
    pub(crate) fn deleted_in_super(&self, key: Key, gate: &Gate) {
        closing(&self.up, gate, Hold::UpwardBreaker, |up| up.saw(key));
    }

    /// The pod is there on both sides, or on neither.
    pub(crate) fn is_in_super(&self, key: &Key, gate: &Gate) {
        closing(&self.up, gate, Hold::UpwardBreaker, |up| up.exonerate(key));
    }

    /// Whether the twin may be deleted since the tenant lacks its object.
    pub(crate) fn judge_down(&self, key: &Key, table: &Table, gate: &Gate) -> Result<(), Held> {
        let mut breaker = self.down.lock();
        if in_deleted_namespace(&breaker, key) {
            return Ok(());
        }
        // Of a kind that can't be listed nobody knows how much is missing.
        let all = || {
            let trusted = gate.trusted();
            table.count(|key, entry| entry.twin.is_some() && trusted.contains(&key.kind))
        };
        let judged = breaker.judge(key, all, Instant::now().into_std());
        judged.map_err(|open| {
            held(
                &breaker,
                &open.to_string(),
                "in the tenant",
                gate,
                Hold::Breaker,
            )
        })
    }

    /// Whether the tenant's bound pod may be ended since the super cluster lacks its twin.
    pub(crate) fn judge_up(&self, key: &Key, table: &Table, gate: &Gate) -> Result<(), Held> {
        let pods = kind::index("Pod");
        let mut breaker = self.up.lock();
        let bound = |key: &Key, node: bool| key.kind == pods && node;
        let all = || {
            table.count(|key, entry| {
                bound(
                    key,
                    entry
                        .tenant
                        .as_ref()
                        .is_some_and(|side| side.node.is_some()),
                )
            })
        };
        let judged = breaker.judge(key, all, Instant::now().into_std());
        judged.map_err(|open| {
            let place = "in the super cluster";
            held(
                &breaker,
                &open.to_string(),
                place,
                gate,
                Hold::UpwardBreaker,
            )
        })
    }

    /// Whether a breaker is open and the key's deletion one of those that wait for its end.
    pub(crate) fn holds(&self, direction: Direction, key: &Key) -> bool {
        let breaker = match direction {
            Direction::Down => self.down.lock(),
            Direction::Up => self.up.lock(),
        };
        breaker.open().is_some() && breaker.is_waiting(key)
    }

    /// The twin was deleted.
    pub(crate) fn done_down(&self, key: &Key) {
        self.down.lock().done(key, Instant::now().into_std());
    }

    /// The tenant's pod was ended.
    pub(crate) fn done_up(&self, key: &Key) {
        self.up.lock().done(key, Instant::now().into_std());
    }

    /// An operator has looked; the answer is what may be deleted now.
    pub(crate) fn release(&self) -> Vec<Key> {
        let mut keys = self.down.lock().release();
        keys.extend(self.up.lock().release());
        keys
    }

    /// Whether each is open, and how many deletions wait, downward and upward.
    pub(crate) fn state(&self) -> [(bool, usize); 2] {
        [&self.down, &self.up].map(|breaker| {
            let breaker = breaker.lock();
            (breaker.open().is_some(), breaker.waiting().count())
        })
    }
}

/// What is learnt of a key may leave nothing that waits: then the breaker is closed, and what it held is told no more.
fn closing(
    breaker: &Mutex<Breaker<Key>>,
    gate: &Gate,
    hold: Hold,
    learn: impl FnOnce(&mut Breaker<Key>),
) {
    let mut breaker = breaker.lock();
    let was_open = breaker.open().is_some();
    learn(&mut breaker);
    if was_open && breaker.open().is_none() {
        tracing::info!(
            reason = hold.reason(),
            "nothing is missing any more without a word"
        );
        gate.hold(hold, None);
    }
}

/// A namespace whose deletion was told takes its objects along.
fn in_deleted_namespace(breaker: &Breaker<Key>, key: &Key) -> bool {
    let namespace = Key::new(kind::index("Namespace"), "", &key.namespace);
    !key.namespace.is_empty() && breaker.has_seen(&namespace)
}

fn held(breaker: &Breaker<Key>, open: &str, place: &str, gate: &Gate, hold: Hold) -> Held {
    let mut names: Vec<String> = breaker.waiting().take(NAMED).map(Key::to_string).collect();
    names.sort_unstable();
    let why = format!("{open} {place}, among them {}", names.join(", "));
    if !gate.holds().contains_key(&hold) {
        tracing::warn!(reason = hold.reason(), %why, "deletions are held");
        gate.hold(hold, Some(why.clone()));
    }
    Held(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};

    #[test]
    fn what_a_breaker_held_is_told_no_more_once_the_api_told_of_each_deletion() {
        let (cluster, _server) = fake();
        let tenant = tenant(&cluster);
        fake::list_all(&tenant);
        let missing: Vec<Key> = (0..30)
            .map(|number| Key::new(kind::index("ConfigMap"), "work", &format!("o{number}")))
            .collect();
        for key in &missing {
            tenant.table.update(key, |entry| {
                entry.twin = Some(fake::super_side("s", "u"));
            });
        }
        let (breakers, gate) = (&tenant.breakers, &tenant.gate);
        breakers.missing_in_tenant(missing.clone());
        assert!(
            breakers
                .judge_down(&missing[0], &tenant.table, gate)
                .is_err()
        );
        for key in &missing {
            assert!(gate.holds().contains_key(&Hold::Breaker), "{key}");
            breakers.deleted_in_tenant(key.clone(), gate);
        }
        assert!(!gate.holds().contains_key(&Hold::Breaker));
    }

    #[test]
    fn r2_how_much_is_missing_is_judged_among_the_kinds_that_are_known() {
        let (cluster, _server) = fake();
        let tenant = tenant(&cluster);
        fake::list_all(&tenant);
        let keys = |kind: &str, count: usize| -> Vec<Key> {
            let kind = kind::index(kind);
            let key = |number| Key::new(kind, "work", &format!("o{number}"));
            (0..count).map(key).collect()
        };
        let missing = keys("ConfigMap", 30);
        for key in missing.iter().chain(&keys("Gateway", 40)) {
            tenant.table.update(key, |entry| {
                entry.twin = Some(fake::super_side("s", "u"));
            });
        }
        let judge = || {
            let breakers = Breakers::default();
            breakers.missing_in_tenant(missing.clone());
            breakers.judge_down(&missing[0], &tenant.table, &tenant.gate)
        };
        assert_eq!(judge(), Ok(()), "30 of 70");
        tenant.gate.interrupted(kind::index("Gateway"), "refused");
        assert!(judge().is_err(), "30 of 30");
    }
}
