//! A token bucket: so much at once, and then one in each period.

use std::time::{Duration, Instant};

/// How much may be done.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once, after a rest that was long enough.
    pub burst: u32,
    /// Until there is one more.
    pub period: Duration,
}

/// What is left of a rate. The time is an argument.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// When it is full again; it is full if none.
    full: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub fn of(rate: Rate) -> Self {
        Self { rate, full: None }
    }

    /// Takes one out; false if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let missing = self
            .full
            .map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        let after = missing + self.rate.period;
        let may = after <= self.rate.period * self.rate.burst;
        if may {
            self.full = Some(now + after);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_a_burst_and_then_one_in_each_period_and_is_full_again_after_a_rest() {
        #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
        let began = Instant::now();
        let period = Duration::from_secs(2);
        let mut bucket = Bucket::of(Rate { burst: 5, period });
        let mut taken = |after: u64, tries: usize| {
            let now = began + Duration::from_secs(after);
            (0..tries).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(0, 20), 5);
        assert_eq!(taken(1, 20), 0);
        assert_eq!(taken(2, 20), 1);
        assert_eq!(taken(6, 20), 2);
        assert_eq!(taken(1_000, 20), 5, "never more than a burst");
    }
}
