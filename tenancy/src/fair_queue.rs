//! Whose key is worked next: weighted deficit round-robin over tenants, retries included.
//!
//! The queue holds keys, never objects. A key stands in it once, whatever happens to its object meanwhile; one that is
//! added while it is being worked is worked again afterwards. A tenant has a bounded number of keys in flight, so a slow
//! one never holds the workers that others need; fewer, or none for a while, when its API server is in trouble. Time is an
//! argument.
//!
//! What is not promised: order among keys of one tenant beyond first come, first served of ready ones.

use crate::pause::Pauses;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
    time::{Duration, Instant},
};

/// Delays of a key that failed.
const BACKOFF: Pauses = Pauses {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(60),
};

/// A queue of keys `K` of tenants `T`.
#[derive(Debug)]
pub struct FairQueue<T, K> {
    lanes: HashMap<T, Lane<K>>,
    /// Tenants that have a ready key and a free place, in the order of their turns.
    turns: VecDeque<T>,
    /// Keys that wait for a time; stale entries are recognised by the lane's own record.
    delayed: BinaryHeap<Reverse<Delayed<T, K>>>,
    in_flight_cap: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Lane<K> {
    weight: u32,
    /// Keys that may be in flight.
    places: usize,
    /// No key is taken before then.
    held: Option<Instant>,
    /// Keys that this turn may still take.
    credit: u32,
    has_turn: bool,
    in_flight: usize,
    ready: VecDeque<(K, Instant)>,
    states: HashMap<K, State>,
    failures: HashMap<K, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Waits for the entry of this sequence number.
    Delayed(u64),
    Working,
    /// Being worked, and changed meanwhile.
    Changed,
}

#[derive(Debug)]
struct Delayed<T, K> {
    at: Instant,
    sequence: u64,
    tenant: T,
    /// Nothing: the tenant's own hold ends.
    key: Option<K>,
}

/// A key to work, and how long it was ready before it got its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<T, K> {
    /// Whose.
    pub tenant: T,
    /// What.
    pub key: K,
    /// From ready to taken.
    pub waited: Duration,
}

impl<T: Clone + Eq + Hash, K: Clone + Eq + Hash> FairQueue<T, K> {
    /// An empty queue that lets each tenant have `in_flight_cap` keys worked at once.
    pub fn new(in_flight_cap: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            delayed: BinaryHeap::new(),
            in_flight_cap,
            sequence: 0,
        }
    }

    /// Sets how many keys a tenant may take in one turn, compared with others; 1 when never set.
    pub fn set_weight(&mut self, tenant: &T, weight: u32) {
        self.lane(tenant).weight = weight.max(1);
    }

    /// Says how many of the tenant's keys may be in flight, up to the queue's own cap, and until when none is taken.
    /// Returns whether that is news.
    pub fn govern(&mut self, tenant: &T, places: usize, held: Option<Instant>) -> bool {
        let places = places.min(self.in_flight_cap);
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return false;
        };
        if (lane.places, lane.held) == (places, held) {
            return false;
        }
        lane.places = places;
        if lane.held != held {
            lane.held = held;
            if let Some(at) = held {
                self.delay(tenant, None, at);
            }
        }
        self.give_turn(tenant);
        true
    }

    /// Adds a key. One that waits for a retry becomes ready: the change may be the cure.
    pub fn add(&mut self, tenant: &T, key: K, now: Instant) {
        let lane = self.lane(tenant);
        match lane.states.get(&key) {
            Some(State::Ready | State::Changed) => {}
            Some(State::Working) => drop(lane.states.insert(key, State::Changed)),
            Some(State::Delayed(_)) | None => {
                lane.push(key, now);
                self.give_turn(tenant);
            }
        }
    }

    /// Adds a key that becomes ready at `at`; one that is already ready or being worked stays so.
    pub fn add_at(&mut self, tenant: &T, key: K, at: Instant) {
        let sequence = self.sequence + 1;
        match self.lane(tenant).states.entry(key.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => entry.insert(State::Delayed(sequence)),
        };
        self.delay(tenant, Some(key), at);
    }

    /// Whether [`FairQueue::take`] may find a key without time passing.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next key to work, if any is ready and its tenant has a free place.
    pub fn take(&mut self, now: Instant) -> Option<Taken<T, K>> {
        self.ripen(now);
        loop {
            let tenant = self.turns.front()?.clone();
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                self.turns.pop_front();
                continue;
            };
            if !lane.may_work() {
                lane.has_turn = false;
                lane.credit = 0;
                self.turns.pop_front();
                continue;
            }
            if lane.credit == 0 {
                lane.credit = lane.weight;
            }
            lane.credit -= 1;
            lane.in_flight += 1;
            let (key, since) = lane.ready.pop_front().expect("checked above");
            lane.states.insert(key.clone(), State::Working);
            if lane.credit == 0 {
                self.turns.rotate_left(1);
            }
            return Some(Taken {
                tenant,
                key,
                waited: now.saturating_duration_since(since),
            });
        }
    }

    /// The work of a taken key begins only now: it finds all that was told until here, which brings it back no more.
    pub fn begin(&mut self, tenant: &T, key: &K) {
        let state = self
            .lanes
            .get_mut(tenant)
            .and_then(|lane| lane.states.get_mut(key));
        if let Some(state) = state.filter(|state| **state == State::Changed) {
            *state = State::Working;
        }
    }

    /// The key's work is done.
    pub fn done(&mut self, tenant: &T, key: &K, now: Instant) {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return;
        };
        lane.failures.remove(key);
        if lane.release(key) == Some(State::Changed) {
            lane.push(key.clone(), now);
        }
        self.give_turn(tenant);
    }

    /// The key's work failed: it comes again after a delay that doubles with each failure, at once if it was changed
    /// meanwhile. Returns the delay.
    pub fn retry(&mut self, tenant: &T, key: &K, now: Instant) -> Duration {
        let sequence = self.sequence + 1;
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return Duration::ZERO;
        };
        let failures = lane.failures.entry(key.clone()).or_default();
        *failures += 1;
        let delay = BACKOFF.after(*failures, key);
        if lane.release(key) == Some(State::Changed) {
            lane.push(key.clone(), now);
            self.give_turn(tenant);
            return Duration::ZERO;
        }
        lane.states.insert(key.clone(), State::Delayed(sequence));
        self.delay(tenant, Some(key.clone()), now + delay);
        self.give_turn(tenant);
        delay
    }

    /// The key wasn't worked for a reason that isn't its own: it is ready again, and no failure is counted.
    pub fn put_back(&mut self, tenant: &T, key: &K, now: Instant) {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return;
        };
        if lane.release(key).is_some() {
            lane.push(key.clone(), now);
        }
        self.give_turn(tenant);
    }

    /// When the next delayed key becomes ready.
    pub fn next_wake(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse(entry)| entry.at)
    }

    /// Forgets a tenant with all its keys.
    pub fn remove(&mut self, tenant: &T) {
        self.lanes.remove(tenant);
        self.turns.retain(|other| other != tenant);
    }

    /// Keys of a tenant that are ready or wait.
    pub fn depth(&self, tenant: &T) -> usize {
        self.lanes
            .get(tenant)
            .map_or(0, |lane| lane.states.len() - lane.in_flight)
    }

    /// Moves keys whose time has come.
    fn ripen(&mut self, now: Instant) {
        while self
            .delayed
            .peek()
            .is_some_and(|Reverse(entry)| entry.at <= now)
        {
            let Some(Reverse(entry)) = self.delayed.pop() else {
                return;
            };
            let Some(lane) = self.lanes.get_mut(&entry.tenant) else {
                continue;
            };
            match entry.key {
                Some(key) if lane.states.get(&key) == Some(&State::Delayed(entry.sequence)) => {
                    lane.push(key, now);
                }
                None if lane.held.is_some_and(|until| until <= now) => lane.held = None,
                Some(_) | None => continue,
            }
            self.give_turn(&entry.tenant);
        }
    }

    /// Notes that something of a tenant happens at `at`, under the next sequence number.
    fn delay(&mut self, tenant: &T, key: Option<K>, at: Instant) {
        self.sequence += 1;
        self.delayed.push(Reverse(Delayed {
            at,
            sequence: self.sequence,
            tenant: tenant.clone(),
            key,
        }));
    }

    fn give_turn(&mut self, tenant: &T) {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return;
        };
        if !lane.has_turn && lane.may_work() {
            lane.has_turn = true;
            self.turns.push_back(tenant.clone());
        }
    }

    fn lane(&mut self, tenant: &T) -> &mut Lane<K> {
        let places = self.in_flight_cap;
        let lane = self.lanes.entry(tenant.clone());
        lane.or_insert_with(|| Lane::new(places))
    }
}

impl<K: Clone + Eq + Hash> Lane<K> {
    fn new(places: usize) -> Self {
        Self {
            weight: 1,
            places,
            held: None,
            credit: 0,
            has_turn: false,
            in_flight: 0,
            ready: VecDeque::new(),
            states: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Whether a key is ready and may be taken.
    fn may_work(&self) -> bool {
        !self.ready.is_empty() && self.in_flight < self.places && self.held.is_none()
    }

    fn push(&mut self, key: K, now: Instant) {
        self.states.insert(key.clone(), State::Ready);
        self.ready.push_back((key, now));
    }

    /// Takes the key out of work; what it was, if it was in work.
    fn release(&mut self, key: &K) -> Option<State> {
        let state = self.states.remove(key)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(state)
    }
}

impl<T: Eq, K: Eq> PartialEq for Delayed<T, K> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<T: Eq, K: Eq> Eq for Delayed<T, K> {}

impl<T: Eq, K: Eq> PartialOrd for Delayed<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Eq, K: Eq> Ord for Delayed<T, K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Queue = FairQueue<&'static str, u32>;

    /// Some instant; tests only ever add to it.
    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
        Instant::now()
    }

    fn keys(queue: &mut Queue, now: Instant, count: usize) -> Vec<(&'static str, u32)> {
        (0..count)
            .map_while(|_| queue.take(now))
            .map(|taken| (taken.tenant, taken.key))
            .collect()
    }

    #[test]
    fn tenants_take_turns_whoever_came_first() {
        let (mut queue, now) = (Queue::new(100), start());
        (0..50).for_each(|key| queue.add(&"noisy", key, now));
        queue.add(&"quiet", 1, now);
        let served = keys(&mut queue, now, 2);
        assert!(served.contains(&("quiet", 1)), "{served:?}");
    }

    #[test]
    fn weight_gives_more_keys_in_a_turn() {
        let (mut queue, now) = (Queue::new(100), start());
        queue.set_weight(&"paid", 3);
        (0..9).for_each(|key| queue.add(&"paid", key, now));
        (0..9).for_each(|key| queue.add(&"free", key, now));
        let served = keys(&mut queue, now, 8);
        assert_eq!(
            served
                .iter()
                .filter(|(tenant, _)| *tenant == "paid")
                .count(),
            6
        );
    }

    #[test]
    fn a_key_stands_once_and_a_change_during_work_is_not_lost() {
        let (mut queue, now) = (Queue::new(9), start());
        queue.add(&"a", 1, now);
        queue.add(&"a", 1, now);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.add(&"a", 1, now);
        assert_eq!(queue.take(now), None);
        queue.done(&"a", &1, now);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.done(&"a", &1, now);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.depth(&"a"), 0);
    }

    #[test]
    fn a_change_before_the_work_begins_is_part_of_it() {
        let (mut queue, now) = (Queue::new(9), start());
        queue.add(&"a", 1, now);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        queue.add(&"a", 1, now);
        queue.begin(&"a", &1);
        queue.done(&"a", &1, now);
        assert_eq!(queue.take(now), None);
        // A key that isn't being worked has nothing to begin.
        queue.add(&"a", 1, now);
        queue.begin(&"a", &1);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    }

    #[test]
    fn a_tenant_holds_no_more_than_its_places() {
        let (mut queue, now) = (Queue::new(2), start());
        (0..5).for_each(|key| queue.add(&"slow", key, now));
        queue.add(&"fast", 9, now);
        assert_eq!(keys(&mut queue, now, 9).len(), 3);
        queue.done(&"slow", &0, now);
        assert_eq!(keys(&mut queue, now, 9), [("slow", 2)]);
    }

    #[test]
    fn failures_wait_longer_each_time_and_a_change_ends_the_wait() {
        let (mut queue, mut now) = (Queue::new(2), start());
        queue.add(&"a", 1, now);
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            assert_eq!(keys(&mut queue, now, 2).len(), 1);
            let delay = queue.retry(&"a", &1, now);
            assert!(delay > last && delay <= BACKOFF.longest);
            last = delay;
            assert_eq!(queue.take(now), None);
            assert_eq!(queue.next_wake(), Some(now + delay));
            now += delay;
        }
        assert_eq!(keys(&mut queue, now, 2).len(), 1);
        queue.retry(&"a", &1, now);
        queue.add(&"a", 1, now);
        assert_eq!(keys(&mut queue, now, 2).len(), 1);
        queue.done(&"a", &1, now);
        now += BACKOFF.longest;
        assert_eq!(queue.take(now), None, "the stale delay brings nothing back");
    }

    #[test]
    fn a_removed_tenant_leaves_nothing() {
        let (mut queue, now) = (Queue::new(2), start());
        queue.add(&"a", 1, now);
        queue.add_at(&"a", 2, now);
        queue.remove(&"a");
        assert_eq!(queue.take(now), None);
        queue.done(&"a", &1, now);
        assert_eq!(queue.take(now), None);
    }

    #[test]
    fn a_held_tenant_waits_and_the_others_go_on() {
        let (mut queue, mut now) = (Queue::new(9), start());
        (0..3).for_each(|key| queue.add(&"dead", key, now));
        queue.add(&"fine", 7, now);
        let until = now + Duration::from_secs(1);
        queue.govern(&"dead", 1, Some(until));
        assert_eq!(keys(&mut queue, now, 9), [("fine", 7)]);
        assert_eq!(queue.next_wake(), Some(until));
        now = until;
        assert_eq!(keys(&mut queue, now, 9), [("dead", 0)], "one probe");
        queue.put_back(&"dead", &0, now);
        queue.govern(&"dead", 9, None);
        assert_eq!(keys(&mut queue, now, 9).len(), 3);
    }

    #[test]
    fn a_hold_that_is_lifted_early_or_made_longer_counts_as_it_is() {
        let (mut queue, mut now) = (Queue::new(9), start());
        queue.add(&"a", 1, now);
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(5));
        queue.govern(&"a", 9, Some(soon));
        queue.govern(&"a", 9, Some(late));
        now = soon;
        assert_eq!(queue.take(now), None);
        queue.govern(&"a", 9, None);
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
    }

    #[test]
    fn a_key_that_is_put_back_has_not_failed() {
        let (mut queue, now) = (Queue::new(9), start());
        queue.add(&"a", 1, now);
        for _ in 0..5 {
            assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
            queue.put_back(&"a", &1, now);
        }
        assert_eq!(keys(&mut queue, now, 9), [("a", 1)]);
        assert!(queue.retry(&"a", &1, now) <= BACKOFF.first);
    }

    proptest! {
        /// A quiet tenant's key is served within one round, however much the others have waiting.
        #[test]
        fn one_round_bounds_the_wait(noisy in prop::collection::vec(1usize..40, 1..8)) {
            const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let (mut queue, now) = (Queue::new(1000), start());
            for (tenant, count) in NAMES.iter().zip(&noisy) {
                (0..*count).for_each(|key| queue.add(tenant, key as u32, now));
            }
            queue.add(&"quiet", 0, now);
            let served = keys(&mut queue, now, noisy.len() + 1);
            prop_assert!(served.contains(&("quiet", 0)));
        }

        /// Whatever is added comes out exactly once.
        #[test]
        fn nothing_is_lost_or_doubled(added in prop::collection::vec((0usize..4, 0u32..20), 0..200)) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let (mut queue, now) = (Queue::new(1000), start());
            for (tenant, key) in &added {
                queue.add(&NAMES[*tenant], *key, now);
            }
            let mut want: Vec<_> = added.iter().map(|(tenant, key)| (NAMES[*tenant], *key)).collect();
            want.sort_unstable();
            want.dedup();
            let mut served = keys(&mut queue, now, 1000);
            served.sort_unstable();
            prop_assert_eq!(served, want);
        }
    }
}
