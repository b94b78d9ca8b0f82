//! When the super API server was last heard of, by one watch: what is known by a watch that hears nothing is of any age.

use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Whether one watch has listed all, and when it last told something.
#[derive(Default)]
pub(crate) struct Freshness {
    is_listed: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Freshness {
    /// A page, an event, a bookmark, or that a watch begins.
    pub(crate) fn renew(&self) {
        *self.last.lock() = Some(Instant::now());
    }

    /// The end of a complete list.
    pub(crate) fn complete(&self) {
        self.renew();
        self.is_listed.store(true, Ordering::Relaxed);
    }

    /// Whether a list was complete yet.
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }

    /// For how long nothing was heard; none as long as nothing ever was.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.last.lock().map(|last| last.elapsed())
    }
}
