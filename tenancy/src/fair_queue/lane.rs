//! One tenant in the fair queue: its keys, and whether one of them may be taken.

use crate::bucket::Bucket;
use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

/// What is known of one tenant.
#[derive(Debug)]
pub(super) struct Lane<K> {
    pub(super) weight: u32,
    /// Keys that may be in flight.
    pub(super) places: usize,
    /// No key is taken before then.
    pub(super) held: Option<Instant>,
    /// Writes that its keys may cause; as many as they like if none.
    pub(super) writes: Option<Bucket>,
    /// When its writes are looked at again.
    pub(super) looked_at: Option<Instant>,
    /// Keys that this turn may still take.
    pub(super) credit: u32,
    pub(super) has_turn: bool,
    pub(super) in_flight: usize,
    pub(super) ready: VecDeque<(K, Instant)>,
    pub(super) states: HashMap<K, Standing>,
    pub(super) failures: HashMap<K, u32>,
    /// Since when nothing but its writes keeps a key from being taken.
    limited_since: Option<Instant>,
    /// How long that was, since a key was taken.
    limited: Duration,
}

/// A key that isn't done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) state: State,
    /// Since when there is something to be done, however often it was tried; none while that is only planned.
    pub(super) since: Option<Instant>,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waits for the entry of this sequence number.
    Delayed(u64),
    Working,
    /// Being worked, and changed meanwhile.
    Changed,
}

/// When a tenant may have a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Then, if nothing else happens.
    At(Instant),
    /// Something must happen first.
    Later,
}

impl<K: Clone + Eq + Hash> Lane<K> {
    pub(super) fn new(places: usize) -> Self {
        Self {
            weight: 1,
            places,
            held: None,
            writes: None,
            looked_at: None,
            credit: 0,
            has_turn: false,
            in_flight: 0,
            ready: VecDeque::new(),
            states: HashMap::new(),
            failures: HashMap::new(),
            limited_since: None,
            limited: Duration::ZERO,
        }
    }

    /// When a key may be taken. Each key in flight has a write set aside until it is done.
    pub(super) fn turn(&self, now: Instant) -> Turn {
        if self.ready.is_empty() || self.in_flight >= self.places || self.held.is_some() {
            return Turn::Later;
        }
        let Some(writes) = &self.writes else {
            return Turn::Now;
        };
        let aside = u32::try_from(self.in_flight + 1).unwrap_or(u32::MAX);
        match writes.wait(aside, now) {
            None => Turn::Later,
            Some(Duration::ZERO) => Turn::Now,
            Some(wait) => Turn::At(now + wait),
        }
    }

    /// Counts the time in which its writes alone keep it waiting.
    pub(super) fn count(&mut self, turn: Turn, now: Instant) {
        if let Turn::At(_) = turn {
            self.limited_since.get_or_insert(now);
        } else if let Some(since) = self.limited_since.take() {
            self.limited += now.saturating_duration_since(since);
        }
    }

    /// Takes a key out to be worked: the key, since when it was ready, and how long the tenant was limited before.
    pub(super) fn take(&mut self) -> Option<(K, Instant, Duration)> {
        let (key, ready) = self.ready.pop_front()?;
        self.in_flight += 1;
        self.set(&key, State::Working, Some(ready));
        Some((key, ready, std::mem::take(&mut self.limited)))
    }

    /// Ends what lasts until now at most.
    pub(super) fn ripen(&mut self, now: Instant) {
        for until in [&mut self.held, &mut self.looked_at] {
            until.take_if(|until| *until <= now);
        }
    }

    /// The key is ready; there is something to be done for it since `since`, unless that is known to be so for longer.
    pub(super) fn push(&mut self, key: K, since: Instant, now: Instant) {
        self.set(&key, State::Ready, Some(since));
        self.ready.push_back((key, now));
    }

    /// How the key stands from now on.
    pub(super) fn set(&mut self, key: &K, state: State, since: Option<Instant>) {
        let standing = self.states.entry(key.clone());
        let standing = standing.or_insert(Standing { state, since });
        standing.state = state;
        standing.since = [standing.since, since].into_iter().flatten().min();
    }

    pub(super) fn state(&self, key: &K) -> Option<State> {
        self.states.get(key).map(|standing| standing.state)
    }

    /// Takes the key out of work; how it stood, if it was in work.
    pub(super) fn release(&mut self, key: &K) -> Option<Standing> {
        // A key that was taken before the tenant was forgotten and known again isn't in work here.
        let standing = *self.states.get(key)?;
        if !matches!(standing.state, State::Working | State::Changed) {
            return None;
        }
        self.states.remove(key);
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(standing)
    }
}
