//! Places for questions from addresses that aren't known to be anybody's yet.

use parking_lot::Mutex;
use std::{collections::HashMap, net::IpAddr, sync::Arc};

/// Questions that wait at once.
const ALL: usize = 512;
/// Of one address: a pod asks for a few names at once, twice each.
const OF_ONE: usize = 16;

/// How many wait, by address.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<IpAddr, usize>>);

/// A place, held while a question waits.
pub(super) struct WaitingPermit {
    of: Arc<Waiting>,
    address: IpAddr,
}

impl Waiting {
    /// A place for a question from that address; `None` if too many wait.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<WaitingPermit> {
        let mut waiting = self.0.lock();
        if waiting.values().sum::<usize>() >= ALL {
            return None;
        }
        let own = waiting.entry(address).or_default();
        if *own >= OF_ONE {
            return None;
        }
        *own += 1;
        Some(WaitingPermit {
            of: self.clone(),
            address,
        })
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().values().sum()
    }
}

impl Drop for WaitingPermit {
    fn drop(&mut self) {
        let mut waiting = self.of.0.lock();
        if let Some(own) = waiting.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T40: one address takes few places, and gives them back.
    #[test]
    fn t40_one_address_takes_few_of_the_places() {
        let waiting = Arc::new(Waiting::default());
        let address = |n: u32| IpAddr::V4(n.into());
        let enter = |n| std::iter::from_fn(|| waiting.enter(address(n))).collect::<Vec<_>>();
        let first = enter(1);
        assert_eq!(first.len(), OF_ONE);
        let others: Vec<_> = (2..100).flat_map(enter).collect();
        assert_eq!(first.len() + others.len(), ALL);
        drop(first);
        assert_eq!(enter(1).len(), OF_ONE);
        drop(others);
        assert_eq!(waiting.len(), 0);
    }
}
