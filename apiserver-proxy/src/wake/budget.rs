//! How much may be woken; pure: time is an argument.
//!
//! A wake is charged once, to its tenant, to its source and to all together; connections that come while it goes on are
//! not. One that nobody could be told of is given back: that the super API server can't be reached is nobody's doing. A source is an IPv4 address or an IPv6 network of 64 bits, as one client may have all of that. Behind a node that
//! replaces addresses by its own, or a load balancer without the PROXY protocol, many clients are one source: what a source
//! may is therefore enough for a morning.

use crate::source::network;
use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{self, Duration},
};
use tenancy::bucket::{Bucket, Rate};
use tokio::time::Instant;

/// A wake that didn't lead anywhere for so long is over: the next connection wakes again.
const UNDER_WAY: Duration = Duration::from_secs(300);
/// Sources that are remembered; all further ones share a budget.
const SOURCES: usize = 4096;

/// One tenant: four times in a row, then every ten minutes.
const TENANT: Rate = Rate {
    burst: 4,
    period: Duration::from_secs(600),
};
/// One source: ten tenants at once, then six a minute.
const SOURCE: Rate = Rate {
    burst: 10,
    period: Duration::from_secs(10),
};
/// All: thirty at once, then as many a minute.
const ALL: Rate = Rate {
    burst: 30,
    period: Duration::from_secs(2),
};

/// What a connection to a tenant that sleeps does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// It wakes the tenant.
    Wakes,
    /// Another one did so.
    UnderWay,
    /// Too much was woken already.
    Refused,
}

/// What is left for all.
pub(super) struct Budget {
    tenants: HashMap<String, Bucket>,
    sources: HashMap<Option<IpAddr>, Bucket>,
    all: Bucket,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tenants: HashMap::new(),
            sources: HashMap::new(),
            all: Bucket::of(ALL),
        }
    }
}

impl Budget {
    /// A connection asks for a tenant that sleeps, and that was woken at `asked` since it fell asleep.
    pub(super) fn knock(
        &mut self,
        tenant: &str,
        source: Option<IpAddr>,
        asked: Option<Instant>,
        now: Instant,
    ) -> Knock {
        let goes_on = |began: Instant| now.saturating_duration_since(began) < UNDER_WAY;
        if asked.is_some_and(goes_on) {
            return Knock::UnderWay;
        }
        let now = now.into_std();
        let source = self.known(source.map(network), now);
        let of = |bucket: Option<&Bucket>| bucket.is_none_or(|bucket| bucket.has_room(now));
        let may =
            self.all.has_room(now) && of(self.tenants.get(tenant)) && of(self.sources.get(&source));
        if !may {
            return Knock::Refused;
        }
        let tenant = self.tenants.entry(tenant.to_owned());
        let source = self.sources.entry(source);
        for bucket in [
            &mut self.all,
            tenant.or_insert_with(|| Bucket::of(TENANT)),
            source.or_insert_with(|| Bucket::of(SOURCE)),
        ] {
            bucket.charge(1, now);
        }
        prune(&mut self.tenants, now);
        Knock::Wakes
    }

    /// A wake of this tenant by this source was charged, and nobody could be told of it.
    pub(super) fn give_back(&mut self, tenant: &str, source: Option<IpAddr>) {
        let source = source.map(network);
        let source = source.filter(|_| self.sources.contains_key(&source));
        self.all.give_back(1);
        let (tenant, source) = (self.tenants.get_mut(tenant), self.sources.get_mut(&source));
        for bucket in tenant.into_iter().chain(source) {
            bucket.give_back(1);
        }
    }

    /// The source, or the one that all share for whom there is no room.
    fn known(&mut self, source: Option<IpAddr>, now: time::Instant) -> Option<IpAddr> {
        if self.sources.contains_key(&source) || self.sources.len() < SOURCES {
            return source;
        }
        prune(&mut self.sources, now);
        source.filter(|_| self.sources.len() < SOURCES)
    }
}

/// Drops what is as good as new.
fn prune<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, now: time::Instant) {
    buckets.retain(|_, bucket| !bucket.is_full(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn t40_a_tenant_is_woken_only_so_often() {
        let (mut budget, began) = (Budget::default(), Instant::now());
        let mut wakes = |at: u64, source: &str| {
            budget.knock("a", ip(source), None, began + Duration::from_secs(at))
        };
        for n in 0..4 {
            assert_eq!(wakes(0, &format!("192.0.2.{n}")), Knock::Wakes);
        }
        assert_eq!(wakes(0, "192.0.2.9"), Knock::Refused, "whoever asks");
        assert_eq!(wakes(599, "192.0.2.9"), Knock::Refused);
        assert_eq!(wakes(601, "192.0.2.9"), Knock::Wakes);
    }

    #[test]
    fn t40_a_source_wakes_only_so_much_and_all_together_do() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let mut wake =
            |n: usize, source: &str| budget.knock(&format!("t{n}"), ip(source), None, now);
        let woken = (0..20).filter(|n| wake(*n, "192.0.2.1") == Knock::Wakes);
        assert_eq!(woken.count(), 10);
        // One client has all of an IPv6 network.
        let woken = (20..40).filter(|n| wake(*n, &format!("2001:db8::{n}")) == Knock::Wakes);
        assert_eq!(woken.count(), 10);
        let woken = (40..90).filter(|n| wake(*n, &format!("198.51.100.{n}")) == Knock::Wakes);
        assert_eq!(woken.count(), 10, "of thirty in all");
    }

    #[test]
    fn those_who_wait_for_the_same_are_charged_once() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let mut knock = |asked, at| budget.knock("a", ip("192.0.2.1"), asked, at);
        assert_eq!(knock(None, now), Knock::Wakes);
        for _ in 0..1000 {
            assert_eq!(knock(Some(now), now), Knock::UnderWay);
        }
        // It led nowhere, or the tenant fell asleep again.
        assert_eq!(knock(Some(now), now + UNDER_WAY), Knock::Wakes);
        assert_eq!(knock(None, now + UNDER_WAY), Knock::Wakes);
    }

    #[test]
    fn t40_what_nobody_could_be_told_of_uses_up_nothing() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(budget.knock("a", ip("192.0.2.1"), None, now), Knock::Wakes);
            budget.give_back("a", ip("192.0.2.1"));
        }
        for _ in 0..4 {
            assert_eq!(budget.knock("a", ip("192.0.2.1"), None, now), Knock::Wakes);
        }
        assert_eq!(
            budget.knock("a", ip("192.0.2.1"), None, now),
            Knock::Refused
        );
    }

    #[test]
    fn t40_sources_take_no_memory_without_end() {
        let (mut budget, began) = (Budget::default(), Instant::now());
        for n in 0..10_000u32 {
            let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
            // Slow enough for the budget of all.
            let now = began + Duration::from_millis(2100) * n;
            budget.knock(&format!("t{n}"), Some(source), None, now);
        }
        assert!(budget.sources.len() <= SOURCES + 1);
        assert!(budget.tenants.len() <= SOURCES);
    }
}
