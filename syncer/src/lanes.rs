//! As many connections for watches as their number needs.
//!
//! An API server limits the requests that go on at once on one HTTP/2 connection: kube-apiserver takes 100 unless it is
//! told otherwise. A watch goes on for minutes, and there is one for the kubeconfig of each external tenant, so a single
//! connection would leave some of them waiting for ever.

use parking_lot::Mutex;
use std::sync::Arc;

/// Watches on one connection. Fewer than an API server takes: it may count one that has ended a little longer.
const EACH: usize = 64;

/// The right to one watch on a connection; it is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct WatchPermit {
    _watches: Arc<()>,
}

/// What opens connections, one for each lane.
pub(crate) struct Lanes<S> {
    open: Box<dyn Fn() -> S + Send + Sync>,
    /// The count of an [`Arc`] is that of the lane's watches, and one more.
    lanes: Mutex<Vec<(S, Arc<()>)>>,
}

impl<S: Clone> Lanes<S> {
    /// One lane; more are opened when they are needed.
    pub(crate) fn new(open: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let first = (open(), Arc::default());
        Self {
            open: Box::new(open),
            lanes: Mutex::new(vec![first]),
        }
    }

    /// The lane that is always there, for a request that ends soon.
    pub(crate) fn first(&self) -> S {
        self.lanes.lock()[0].0.clone()
    }

    /// A lane with room for one more watch, and the right to it.
    pub(crate) fn take(&self) -> (S, WatchPermit) {
        let mut lanes = self.lanes.lock();
        let has_room = |(_, watches): &&(S, Arc<()>)| Arc::strong_count(watches) <= EACH;
        if let Some((lane, watches)) = lanes.iter().find(has_room) {
            let place = WatchPermit {
                _watches: watches.clone(),
            };
            return (lane.clone(), place);
        }
        let (lane, watches) = ((self.open)(), Arc::default());
        let place = WatchPermit {
            _watches: Arc::clone(&watches),
        };
        lanes.push((lane.clone(), watches));
        (lane, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_connection_has_more_watches_than_an_api_server_takes() {
        let opened = AtomicUsize::new(0);
        let lanes = Lanes::new(move || opened.fetch_add(1, Ordering::Relaxed));
        let mut taken: Vec<(usize, WatchPermit)> = (0..130).map(|_| lanes.take()).collect();
        let on = |taken: &[(usize, WatchPermit)], lane: usize| {
            taken.iter().filter(|(of, _)| *of == lane).count()
        };
        assert_eq!([0, 1, 2].map(|lane| on(&taken, lane)), [EACH, EACH, 2]);
        taken.remove(0);
        assert_eq!(lanes.take().0, 0, "what ends makes room");
    }
}
