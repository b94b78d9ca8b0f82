//! What each client may have of a tenant's connections, so that one that proves nothing keeps the others out of nothing.
//!
//! Behind nodes or balancers that replace addresses by their own many clients are one source: what a source may have is
//! therefore half of what the tenant has.

use crate::{limit::Full, source::network};
use parking_lot::Mutex;
use std::{collections::HashMap, net::IpAddr, sync::Arc};
use tenancy::bucket::{Bucket, Rate};
use tokio::time::Instant;

/// Sources that are remembered of one tenant; all further ones are one.
const SOURCES: usize = 1024;

/// What sources have.
pub(crate) struct Shares {
    open: usize,
    rate: Rate,
    taken: Arc<Taken>,
}

type Taken = Mutex<HashMap<Option<IpAddr>, Share>>;

struct Share {
    open: usize,
    bucket: Bucket,
}

/// A place of a source, held while its connection lasts.
pub(crate) struct SharePermit {
    taken: Arc<Taken>,
    source: Option<IpAddr>,
}

impl Shares {
    /// Each source may have so many open, and begin them at that rate.
    pub(crate) fn new(open: usize, rate: Rate) -> Self {
        Self {
            open,
            rate,
            taken: Arc::default(),
        }
    }

    /// A place for a connection from there.
    pub(crate) fn take(&self, source: Option<IpAddr>) -> Result<SharePermit, Full> {
        let (mut taken, now) = (self.taken.lock(), Instant::now().into_std());
        let mut source = source.map(network);
        if !taken.contains_key(&source) && taken.len() >= SOURCES {
            taken.retain(|_, share| share.open > 0 || !share.bucket.is_full(now));
            source = source.filter(|_| taken.len() < SOURCES);
        }
        let share = taken.entry(source).or_insert_with(|| Share {
            open: 0,
            bucket: Bucket::of(self.rate),
        });
        if share.open >= self.open || !share.bucket.take(now) {
            return Err(Full);
        }
        share.open += 1;
        Ok(SharePermit {
            taken: self.taken.clone(),
            source,
        })
    }
}

impl Drop for SharePermit {
    fn drop(&mut self) {
        if let Some(share) = self.taken.lock().get_mut(&self.source) {
            share.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shares() -> Shares {
        Shares::new(2, Rate::per_second(1, 3))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// T40: a source has its places and its rate, and takes none of another's.
    #[tokio::test(start_paused = true)]
    async fn t40_a_source_has_its_share_and_no_more() {
        let shares = shares();
        let take = |source: &str| shares.take(ip(source));
        let held = [take("192.0.2.1"), take("192.0.2.1")];
        assert!(held.iter().all(Result::is_ok));
        assert!(take("192.0.2.1").is_err(), "two are open");
        drop(held);
        assert!(take("192.0.2.1").is_ok());
        assert!(take("192.0.2.1").is_err(), "three came at once");
        assert!(take("192.0.2.2").is_ok() && shares.take(None).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(take("192.0.2.1").is_ok());
        // One client has all of an IPv6 network.
        let held: Vec<_> = (0..9).map(|n| take(&format!("2001:db8::{n}"))).collect();
        assert_eq!(held.iter().filter(|place| place.is_ok()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn t40_sources_take_no_memory_without_end() {
        let shares = shares();
        let one = shares.take(ip("192.0.2.1")).ok();
        for n in 0..10_000 {
            let _ = shares.take(Some(IpAddr::V4(n.into())));
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(shares.taken.lock().len() <= SOURCES + 1);
        }
        // What is open isn't forgotten.
        let second = shares.take(ip("192.0.2.1"));
        assert!(one.is_some() && second.is_ok() && shares.take(ip("192.0.2.1")).is_err());
    }
}
