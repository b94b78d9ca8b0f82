//! How often something may happen; pure: time is an argument.

use std::net::{IpAddr, Ipv6Addr};
use tokio::time::Instant;

/// What may happen at once, and in a second thereafter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// What is used of it now.
    pub(crate) fn used(&self, rate: Rate, now: Instant) -> f64 {
        let gone = self.at.map_or(0.0, |at| {
            now.saturating_duration_since(at).as_secs_f64() * rate.per_second
        });
        (self.used - gone).max(0.0)
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self, rate: Rate, now: Instant) -> bool {
        self.used(rate, now) + 1.0 <= rate.burst
    }

    /// One more has happened.
    pub(crate) fn charge(&mut self, rate: Rate, now: Instant) {
        self.charge_all(1.0, rate, now);
    }

    /// So many have happened: more than there was room for, if need be.
    pub(crate) fn charge_all(&mut self, count: f64, rate: Rate, now: Instant) {
        self.used = self.used(rate, now) + count;
        self.at = Some(now);
    }
}

/// All addresses that one client may have: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}
