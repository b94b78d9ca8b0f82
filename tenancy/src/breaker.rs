//! When so much of a tenant is missing that a person must look before anything is deleted (R2, R5).
//!
//! A deletion is *seen* when the API told of it: by a deletion timestamp, or by an event of a healthy watch. Else it is
//! *inferred*: a list lacks what was there. One wiped or mixed-up store looks like thousands of inferred deletions, so
//! these are counted: those that wait, and those carried out within [`WINDOW`]. When they are more than [`NUMBER`] and
//! more than [`PERCENT`] of all that there is, the breaker opens, and none of them is carried out until a person
//! releases them, or what was missing is there again. Time is an argument.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

/// So many inferred deletions are nothing unusual.
pub const NUMBER: usize = 25;
/// Nor is so large a part of all objects, in percent: a tenant may well have deleted half of them meanwhile.
pub const PERCENT: usize = 50;
/// How long a deletion that was carried out counts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The inferred deletions of one tenant, in one direction.
#[derive(Debug)]
pub struct Breaker<K> {
    suspects: HashMap<K, Suspect>,
    /// How many of the suspects wait.
    waits: usize,
    /// When which deletions were carried out; a key that became a suspect again since counts as that.
    done: VecDeque<(Instant, K)>,
    seen: HashSet<K>,
    released: HashSet<K>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspect {
    /// Missing, and not deleted on the other side.
    Waits,
    /// Deleted at that time.
    Done(Instant),
}

/// The breaker is open: so many of so many objects are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} of {all} objects are missing at once")]
pub struct Open {
    /// Missing ones.
    pub missing: usize,
    /// All that there were.
    pub all: usize,
}

impl<K> Default for Breaker<K> {
    fn default() -> Self {
        Self {
            suspects: HashMap::new(),
            waits: 0,
            done: VecDeque::new(),
            seen: HashSet::new(),
            released: HashSet::new(),
            open: None,
        }
    }
}

impl<K: Clone + Eq + Hash> Breaker<K> {
    /// A list lacks these. All are told before the first of them is judged.
    pub fn suspect(&mut self, keys: impl IntoIterator<Item = K>) {
        for key in keys {
            if !self.seen.contains(&key) && !self.released.contains(&key) {
                let before = self.suspects.insert(key, Suspect::Waits);
                self.waits += usize::from(before != Some(Suspect::Waits));
            }
        }
    }

    /// It is no suspect any more.
    fn clear(&mut self, key: &K) {
        if self.suspects.remove(key) == Some(Suspect::Waits) {
            self.waits -= 1;
        }
    }

    /// Forgets what was carried out before the window.
    fn age(&mut self, now: Instant) {
        while let Some((at, key)) = self.done.front() {
            if now.saturating_duration_since(*at) < WINDOW {
                return;
            }
            if self.suspects.get(key) == Some(&Suspect::Done(*at)) {
                self.suspects.remove(key);
            }
            self.done.pop_front();
        }
    }

    /// The API told that this object was deleted.
    pub fn saw(&mut self, key: K) {
        self.clear(&key);
        self.seen.insert(key);
        self.close_if_idle();
    }

    /// Whether the object's deletion waits.
    pub fn is_waiting(&self, key: &K) -> bool {
        self.suspects.get(key) == Some(&Suspect::Waits)
    }

    /// Whether the API told that this object was deleted.
    pub fn has_seen(&self, key: &K) -> bool {
        self.seen.contains(key)
    }

    /// The object exists, or there is nothing to delete for it.
    pub fn exonerate(&mut self, key: &K) {
        self.seen.remove(key);
        self.released.remove(key);
        if self.suspects.get(key) == Some(&Suspect::Waits) {
            self.clear(key);
            self.close_if_idle();
        }
    }

    /// Whether the object's twin may be deleted; `all` counts what there is.
    pub fn judge(
        &mut self,
        key: &K,
        all: impl FnOnce() -> usize,
        now: Instant,
    ) -> Result<(), Open> {
        if self.seen.contains(key) || self.released.contains(key) {
            return Ok(());
        }
        self.suspect([key.clone()]);
        self.age(now);
        if let Some(open) = &mut self.open {
            open.missing = open.missing.max(self.suspects.len());
            return Err(*open);
        }
        let missing = self.suspects.len();
        if missing <= NUMBER {
            return Ok(());
        }
        let all = all() + (missing - self.waits);
        if missing * 100 <= all * PERCENT {
            return Ok(());
        }
        let open = Open { missing, all };
        self.open = Some(open);
        Err(open)
    }

    /// The twin was deleted.
    pub fn done(&mut self, key: &K, now: Instant) {
        self.seen.remove(key);
        if self.released.remove(key) {
            return;
        }
        if let Some(suspect) = self.suspects.get_mut(key) {
            let before = std::mem::replace(suspect, Suspect::Done(now));
            self.waits -= usize::from(before == Suspect::Waits);
            self.done.push_back((now, key.clone()));
        }
    }

    /// A person has looked: what waits may be deleted. The answer is what that is.
    pub fn release(&mut self) -> Vec<K> {
        self.open = None;
        self.waits = 0;
        self.done.clear();
        let waiting = std::mem::take(&mut self.suspects)
            .into_iter()
            .filter(|(_, suspect)| *suspect == Suspect::Waits);
        let keys: Vec<K> = waiting.map(|(key, _)| key).collect();
        self.released.extend(keys.iter().cloned());
        keys
    }

    /// Why nothing is deleted, while it is open.
    pub fn open(&self) -> Option<Open> {
        self.open
    }

    /// What waits.
    pub fn waiting(&self) -> impl Iterator<Item = &K> {
        self.suspects
            .iter()
            .filter(|(_, suspect)| **suspect == Suspect::Waits)
            .map(|(key, _)| key)
    }

    /// What was missing is there again: nobody need look.
    fn close_if_idle(&mut self) {
        if self.waits == 0 {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some time to begin with"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// How many of `missing` suspects may go, of `all` objects, one after the other.
    fn may_go(breaker: &mut Breaker<u32>, missing: u32, all: usize, now: Instant) -> usize {
        breaker.suspect(0..missing);
        let mut gone = 0;
        for key in 0..missing {
            if breaker.judge(&key, || all - gone, now).is_ok() {
                breaker.done(&key, now);
                gone += 1;
            }
        }
        gone
    }

    #[test]
    fn r2_a_wiped_tenant_of_any_size_opens_it_before_the_first_deletion() {
        for size in [26, 50, 5_000] {
            let mut breaker = Breaker::default();
            let gone = may_go(&mut breaker, size, size as usize, start());
            assert_eq!(gone, 0, "of {size}");
            assert_eq!(breaker.open().map(|open| open.missing), Some(size as usize));
        }
    }

    #[test]
    fn r2_what_a_tenant_deleted_while_nobody_looked_passes() {
        let mut breaker = Breaker::default();
        assert_eq!(may_go(&mut breaker, 500, 1_100, start()), 500);
        let mut breaker = Breaker::default();
        assert_eq!(may_go(&mut breaker, 20, 20, start()), 20);
    }

    #[test]
    fn r2_deletions_that_were_seen_do_not_count() {
        let mut breaker = Breaker::default();
        let now = start();
        for key in 0..5_000u32 {
            breaker.saw(key);
            assert_eq!(breaker.judge(&key, || 5_000, now), Ok(()));
            breaker.done(&key, now);
        }
        assert_eq!(breaker.open(), None);
    }

    #[test]
    fn deletions_in_drops_count_for_a_minute() {
        let now = start();
        let drops = |pause: Duration| {
            let mut breaker = Breaker::default();
            let mut gone = 0;
            for key in 0..100u32 {
                let at = now + pause * key;
                let left = 100 - gone;
                if breaker.judge(&key, || left, at).is_ok() {
                    breaker.done(&key, at);
                    gone += 1;
                }
            }
            gone
        };
        assert_eq!(drops(Duration::from_millis(100)), 50);
        assert_eq!(drops(Duration::from_secs(3)), 100);
    }

    #[test]
    fn a_release_lets_go_of_what_waited_and_of_nothing_else() {
        let (mut breaker, now) = (Breaker::default(), start());
        assert_eq!(may_go(&mut breaker, 100, 100, now), 0);
        let mut released = breaker.release();
        released.sort_unstable();
        assert_eq!(released, (0..100).collect::<Vec<u32>>());
        for key in 0..100 {
            assert_eq!(breaker.judge(&key, || 100, now), Ok(()));
            breaker.done(&key, now);
        }
        breaker.suspect(200..300);
        assert!(breaker.judge(&200, || 100, now).is_err());
    }

    #[test]
    fn it_closes_when_all_is_there_again() {
        let (mut breaker, now) = (Breaker::default(), start());
        may_go(&mut breaker, 100, 100, now);
        for key in 0..100 {
            assert!(breaker.open().is_some());
            breaker.exonerate(&key);
        }
        assert_eq!(breaker.open(), None);
        assert_eq!(breaker.judge(&1, || 100, now), Ok(()));
    }

    proptest! {
        #[test]
        fn what_waits_is_counted_right(deeds in proptest::collection::vec((0u8..6, 0u32..8, 0u64..90), 0..200)) {
            let (mut breaker, mut now) = (Breaker::default(), start());
            for (deed, key, later) in deeds {
                now += Duration::from_secs(later);
                match deed {
                    0 => breaker.suspect([key]),
                    1 => breaker.saw(key),
                    2 => breaker.exonerate(&key),
                    3 => drop(breaker.judge(&key, || 100, now)),
                    4 => breaker.done(&key, now),
                    _ => drop(breaker.release()),
                }
                prop_assert_eq!(breaker.waits, breaker.waiting().count());
                breaker.age(now);
                let carried_out = breaker.suspects.values().filter_map(|suspect| match suspect {
                    Suspect::Done(at) => Some(*at),
                    Suspect::Waits => None,
                });
                for at in carried_out {
                    prop_assert!(now - at < WINDOW);
                }
            }
        }

        #[test]
        fn at_most_the_larger_of_both_bounds_is_ever_deleted(missing in 0u32..400, more in 0usize..400) {
            let all = missing as usize + more;
            let gone = may_go(&mut Breaker::default(), missing, all, start());
            prop_assert!(gone <= NUMBER.max(all * PERCENT / 100), "{gone} of {all}");
        }
    }
}
