//! What waits for a time, in the order of times.

use std::{cmp::Ordering, time::Instant};

/// Something of a tenant that happens at a time.
#[derive(Debug)]
pub(super) struct Delayed<T, K> {
    pub(super) at: Instant,
    pub(super) sequence: u64,
    pub(super) tenant: T,
    /// Nothing: a hold of the tenant ends, or its rate lets it go on.
    pub(super) key: Option<K>,
}

impl<T: Eq, K: Eq> PartialEq for Delayed<T, K> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<T: Eq, K: Eq> Eq for Delayed<T, K> {}

impl<T: Eq, K: Eq> PartialOrd for Delayed<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Eq, K: Eq> Ord for Delayed<T, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
