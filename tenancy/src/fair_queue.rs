//! Whose key is worked next: weighted deficit round-robin over tenants, retries included.
//!
//! The queue holds keys, never objects. A key stands in it once, whatever happens to its object meanwhile; one that is
//! added while it is being worked is worked again afterwards. A tenant has a bounded number of keys in flight, so a slow
//! one never holds the workers that others need; fewer, or none for a while, when its API server is in trouble. Time is an
//! argument.
//!
//! A tenant may have a rate ([`FairQueue::set_rate`]). What it counts are writes that were made and not keys that were taken:
//! a key may cost many writes or none, and what is only looked at, after a restart or by a patrol, shall wait for nothing.
//! Writes are known when a key has been worked, so they are told afterwards ([`FairQueue::charge`]) and may be owed; a write
//! is set aside for each key in flight, so that only what keys cost beyond one is. A tenant that owes has no turn, and
//! holds nobody up: no worker waits for it, and [`FairQueue::next_wake`] says when it has one again. All of its keys wait so,
//! those to be deleted or tried again as well; else whoever makes failures would be the one without a limit.
//!
//! What is not promised: order among keys of one tenant beyond first come, first served of ready ones.

mod delayed;
mod lane;

use crate::{
    bucket::{Bucket, Rate},
    lag::Backlog,
    pause::Pauses,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
    time::{Duration, Instant},
};

use delayed::Delayed;
use lane::{Lane, Standing, State, Turn};

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

/// A key to work, and how long it was ready before it got its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<T, K> {
    /// Whose.
    pub tenant: T,
    /// What.
    pub key: K,
    /// From ready to taken.
    pub waited: Duration,
    /// How long nothing but its rate kept the tenant from a turn, since its key before this one was taken.
    pub limited: Duration,
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

    /// Sets how many writes a tenant's keys may cost; any number when never set. Another rate than before doesn't make good
    /// what was used.
    pub fn set_rate(&mut self, tenant: &T, rate: Rate, now: Instant) {
        let writes = &mut self.lane(tenant).writes;
        writes
            .get_or_insert_with(|| Bucket::of(rate))
            .change(rate, now);
        self.give_turn(tenant, now);
    }

    /// Writes were made for a tenant; to be told before the key that cost them is done.
    pub fn charge(&mut self, tenant: &T, writes: u32, now: Instant) {
        let lane = self.lanes.get_mut(tenant);
        if let Some(bucket) = lane.and_then(|lane| lane.writes.as_mut()) {
            bucket.charge(writes, now);
        }
    }

    /// Says how many of the tenant's keys may be in flight, up to the queue's own cap, and until when none is taken.
    /// Returns whether that is news.
    pub fn govern(
        &mut self,
        tenant: &T,
        places: usize,
        held: Option<Instant>,
        now: Instant,
    ) -> bool {
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
        self.give_turn(tenant, now);
        true
    }

    /// Adds a key. One that waits for a retry becomes ready: the change may be the cure.
    pub fn add(&mut self, tenant: &T, key: K, now: Instant) {
        self.add_since(tenant, key, now, now);
    }

    /// The same for a key that waited elsewhere since `since`.
    pub fn add_since(&mut self, tenant: &T, key: K, since: Instant, now: Instant) {
        let lane = self.lane(tenant);
        match lane.state(&key) {
            // What comes later than what is known changes nothing.
            Some(State::Ready | State::Changed) if since >= now => {}
            Some(state @ (State::Ready | State::Changed)) => lane.set(&key, state, Some(since)),
            Some(State::Working) => lane.set(&key, State::Changed, Some(since)),
            Some(State::Delayed(_)) | None => {
                lane.push(key, since, now);
                self.give_turn(tenant, now);
            }
        }
    }

    /// Adds a key that becomes ready at `at`; one that is already ready or being worked stays so.
    pub fn add_at(&mut self, tenant: &T, key: K, at: Instant) {
        let sequence = self.sequence + 1;
        match self.lane(tenant).states.entry(key.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => entry.insert(Standing {
                state: State::Delayed(sequence),
                since: None,
            }),
        };
        self.delay(tenant, Some(key), at);
    }

    /// Whether [`FairQueue::take`] may find a key without time passing.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next key to work, if any is ready and its tenant has a free place and owes nothing.
    pub fn take(&mut self, now: Instant) -> Option<Taken<T, K>> {
        self.ripen(now);
        loop {
            let tenant = self.turns.front()?.clone();
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                self.turns.pop_front();
                continue;
            };
            if lane.turn(now) != Turn::Now {
                lane.has_turn = false;
                lane.credit = 0;
                self.turns.pop_front();
                self.give_turn(&tenant, now);
                continue;
            }
            if lane.credit == 0 {
                lane.credit = lane.weight;
            }
            lane.credit -= 1;
            let (key, since, limited) = lane.take().expect("checked above");
            if lane.credit == 0 {
                self.turns.rotate_left(1);
            }
            return Some(Taken {
                tenant,
                key,
                waited: now.saturating_duration_since(since),
                limited,
            });
        }
    }

    /// The work of a taken key begins only now: it finds all that was told until here, which brings it back no more.
    pub fn begin(&mut self, tenant: &T, key: &K) {
        let standing = self
            .lanes
            .get_mut(tenant)
            .and_then(|lane| lane.states.get_mut(key));
        if let Some(standing) = standing.filter(|standing| standing.state == State::Changed) {
            standing.state = State::Working;
        }
    }

    /// The key's work is done.
    pub fn done(&mut self, tenant: &T, key: &K, now: Instant) {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return;
        };
        lane.failures.remove(key);
        let was = lane.release(key).map(|standing| standing.state);
        if was == Some(State::Changed) {
            lane.push(key.clone(), now, now);
        }
        self.give_turn(tenant, now);
    }

    /// The key's work failed: it comes again after a delay that doubles with each failure, at once if it was changed
    /// meanwhile. Returns the delay.
    pub fn retry(&mut self, tenant: &T, key: &K, now: Instant) -> Duration {
        self.again(tenant, key, now, |since| since)
    }

    /// As [`FairQueue::retry`]; but it rests as it should, so that nothing is to be done for it until then.
    pub fn rest(&mut self, tenant: &T, key: &K, now: Instant) -> Duration {
        self.again(tenant, key, now, |_| None)
    }

    fn again(
        &mut self,
        tenant: &T,
        key: &K,
        now: Instant,
        age: impl Fn(Option<Instant>) -> Option<Instant>,
    ) -> Duration {
        let sequence = self.sequence + 1;
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return Duration::ZERO;
        };
        let Some(Standing { state, since }) = lane.release(key) else {
            return Duration::ZERO;
        };
        let since = age(since);
        let failures = lane.failures.entry(key.clone()).or_default();
        *failures += 1;
        let delay = BACKOFF.after(*failures, key);
        if state == State::Changed {
            lane.push(key.clone(), since.unwrap_or(now), now);
            self.give_turn(tenant, now);
            return Duration::ZERO;
        }
        lane.set(key, State::Delayed(sequence), since);
        self.delay(tenant, Some(key.clone()), now + delay);
        self.give_turn(tenant, now);
        delay
    }

    /// The key wasn't worked for a reason that isn't its own: it is ready again, and no failure is counted.
    pub fn put_back(&mut self, tenant: &T, key: &K, now: Instant) {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return;
        };
        if let Some(Standing { since, .. }) = lane.release(key) {
            lane.push(key.clone(), since.unwrap_or(now), now);
        }
        self.give_turn(tenant, now);
    }

    /// When the next delayed key becomes ready, or the next tenant that waits has a turn.
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
            .map_or(0, |lane| lane.states.len().saturating_sub(lane.in_flight))
    }

    /// Keys of a tenant for which something is to be done since `before` or longer; those in work, too.
    pub fn overdue(&self, tenant: &T, before: Instant) -> Backlog {
        let standings = self.lanes.get(tenant).into_iter();
        let standings = standings.flat_map(|lane| lane.states.values());
        Backlog::of(standings.filter_map(|standing| standing.since), before)
    }

    /// Since when something is to be done for a key, as far as that isn't only planned.
    pub fn since(&self, tenant: &T, key: &K) -> Option<Instant> {
        self.lanes.get(tenant)?.states.get(key)?.since
    }

    /// Whether a key is ready, waits, or is being worked.
    pub fn has(&self, tenant: &T, key: &K) -> bool {
        let lane = self.lanes.get(tenant);
        lane.is_some_and(|lane| lane.states.contains_key(key))
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
                Some(key) if lane.state(&key) == Some(State::Delayed(entry.sequence)) => {
                    lane.push(key, now, now);
                }
                Some(_) => continue,
                None => lane.ripen(now),
            }
            self.give_turn(&entry.tenant, now);
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

    /// Gives a tenant a turn if it may have one, or sees to it that it is looked at when it may.
    fn give_turn(&mut self, tenant: &T, now: Instant) {
        let Some(lane) = self.lanes.get_mut(tenant).filter(|lane| !lane.has_turn) else {
            return;
        };
        let turn = lane.turn(now);
        lane.count(turn, now);
        match turn {
            Turn::Now => {
                lane.has_turn = true;
                self.turns.push_back(tenant.clone());
            }
            Turn::At(at) if lane.looked_at.is_none_or(|planned| at < planned) => {
                lane.looked_at = Some(at);
                self.delay(tenant, None, at);
            }
            Turn::At(_) | Turn::Later => {}
        }
    }

    fn lane(&mut self, tenant: &T) -> &mut Lane<K> {
        let places = self.in_flight_cap;
        let lane = self.lanes.entry(tenant.clone());
        lane.or_insert_with(|| Lane::new(places))
    }
}

#[cfg(test)]
mod tests;
