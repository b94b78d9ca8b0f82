//! One tenant in the fair queue: its keys, and whether one of them may be taken.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Instant,
};

/// What is known of one tenant.
#[derive(Debug)]
pub(super) struct Lane<K> {
    pub(super) weight: u32,
    /// Keys that may be in flight.
    pub(super) places: usize,
    /// No key is taken before then.
    pub(super) held: Option<Instant>,
    /// Keys that this turn may still take.
    pub(super) credit: u32,
    pub(super) has_turn: bool,
    pub(super) in_flight: usize,
    pub(super) ready: VecDeque<(K, Instant)>,
    pub(super) states: HashMap<K, State>,
    pub(super) failures: HashMap<K, u32>,
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

impl<K: Clone + Eq + Hash> Lane<K> {
    pub(super) fn new(places: usize) -> Self {
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
    pub(super) fn may_work(&self) -> bool {
        !self.ready.is_empty() && self.in_flight < self.places && self.held.is_none()
    }

    pub(super) fn push(&mut self, key: K, now: Instant) {
        self.states.insert(key.clone(), State::Ready);
        self.ready.push_back((key, now));
    }

    /// Takes the key out of work; what it was, if it was in work.
    pub(super) fn release(&mut self, key: &K) -> Option<State> {
        let state = self.states.remove(key)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(state)
    }
}
