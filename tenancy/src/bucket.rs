//! A token bucket: so much at once, and then one in each period; and one that many draw from.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How much may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a rest that was long enough.
    pub burst: u32,
    /// Until there is one more.
    pub period: Duration,
}

impl Rate {
    /// So many a second over a longer time, and so many at once; one of each at least.
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self {
            burst: burst.max(1),
            period: Duration::from_secs(1) / count.max(1),
        }
    }
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

    /// Whether one can be taken out.
    pub fn has_room(&self, now: Instant) -> bool {
        self.wait(1, now) == Some(Duration::ZERO)
    }

    /// Whether it is as good as new.
    pub fn is_full(&self, now: Instant) -> bool {
        self.missing(now).is_zero()
    }

    /// Takes one out; false if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let may = self.has_room(now);
        if may {
            self.charge(1, now);
        }
        may
    }

    /// Takes out what was used already, whether there is so much or not: what is missing is owed.
    pub fn charge(&mut self, count: u32, now: Instant) {
        self.full = Some(now + self.missing(now) + self.rate.period * count);
    }

    /// Puts back what was taken out for nothing; a full one gets no fuller.
    pub fn give_back(&mut self, count: u32) {
        let given = self.rate.period * count;
        self.full = self.full.and_then(|full| full.checked_sub(given));
    }

    /// How long it takes until there are `count`; for ever, and so none, if a full one holds fewer.
    pub fn wait(&self, count: u32, now: Instant) -> Option<Duration> {
        let rest = self.rate.burst.checked_sub(count)?;
        let wait = self.missing(now).saturating_sub(self.rate.period * rest);
        Some(wait)
    }

    /// Takes up another rate. What is in it stays, as far as there is room, and what is owed is owed on: changing a rate
    /// back and forth fills nothing.
    pub fn change(&mut self, rate: Rate, now: Instant) {
        if rate == self.rate {
            return;
        }
        let missing = self.missing(now).as_nanos();
        let missing = missing.div_ceil(self.rate.period.as_nanos().max(1));
        // The same is in it, so it lacks as much more as it grew.
        let missing = (missing + u128::from(rate.burst)).saturating_sub(self.rate.burst.into());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        self.rate = rate;
        self.full = Some(now + rate.period * missing);
    }

    /// Until it is full.
    fn missing(&self, now: Instant) -> Duration {
        self.full
            .map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }
}

/// A bucket of which a part is kept for those who have taken little, so that whoever takes much leaves something for them.
/// The time is an argument.
///
/// It isn't kept for one of them: so many that each take little at once can empty it.
#[derive(Debug)]
pub struct Shared {
    whole: Bucket,
    kept: u32,
    little: Rate,
    /// What each of those that took something a while ago may still take of what is kept.
    own: HashMap<Box<str>, Bucket>,
}

impl Shared {
    /// A full one that keeps `kept` for those who haven't taken more than `little`.
    pub fn of(whole: Rate, kept: u32, little: Rate) -> Self {
        Self {
            whole: Bucket::of(whole),
            kept,
            little,
            own: HashMap::new(),
        }
    }

    /// Takes one out for somebody; false if there is none for them.
    pub fn take(&mut self, who: &str, now: Instant) -> bool {
        let own = self.own.get(who);
        let took_little = own.is_none_or(|own| own.has_room(now));
        let needed = if took_little { 1 } else { self.kept + 1 };
        if self.whole.wait(needed, now) != Some(Duration::ZERO) {
            return false;
        }
        self.whole.charge(1, now);
        if took_little {
            // Whoever has rested is as good as new. So there are no more of them than can be taken out in that time.
            self.own.retain(|_, own| !own.is_full(now));
            let own = self.own.entry(who.into());
            own.or_insert_with(|| Bucket::of(self.little))
                .charge(1, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
        Instant::now()
    }

    #[test]
    fn it_gives_a_burst_and_then_one_in_each_period_and_is_full_again_after_a_rest() {
        let began = start();
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
        let at = |after: u64| began + Duration::from_secs(after);
        assert!(!bucket.has_room(at(1_001)) && bucket.has_room(at(1_002)));
        assert!(!bucket.is_full(at(1_009)) && bucket.is_full(at(1_010)));
    }

    #[test]
    fn what_is_used_beyond_it_is_owed() {
        let now = start();
        let mut bucket = Bucket::of(Rate::per_second(10, 20));
        let tenths = |count: u64| Some(Duration::from_millis(100 * count));
        assert_eq!(bucket.wait(20, now), tenths(0));
        assert_eq!(bucket.wait(21, now), None, "it never holds so many");
        bucket.charge(50, now);
        assert_eq!(bucket.wait(0, now), tenths(30));
        assert_eq!(bucket.wait(1, now), tenths(31));
        assert!(!bucket.take(now + Duration::from_secs(3)));
        assert!(bucket.take(now + Duration::from_millis(3_100)));
    }

    #[test]
    fn another_rate_neither_fills_it_nor_takes_what_is_owed() {
        let now = start();
        let left = |bucket: &Bucket| {
            let counts = 0..=bucket.rate.burst;
            counts
                .rev()
                .find(|count| bucket.wait(*count, now) == Some(Duration::ZERO))
        };
        let (large, small) = (Rate::per_second(100, 1_000), Rate::per_second(1, 10));
        let mut bucket = Bucket::of(large);
        bucket.charge(400, now);
        for (rate, holds) in [(large, 600), (small, 10), (large, 10)] {
            bucket.change(rate, now);
            assert_eq!(left(&bucket), Some(holds));
        }
        bucket.charge(13, now);
        bucket.change(small, now);
        assert_eq!(bucket.wait(0, now), Some(Duration::from_secs(3)));
    }

    #[test]
    fn whoever_takes_much_leaves_something_for_those_who_take_little() {
        let second = Duration::from_secs(1);
        let rate = |burst, period| Rate { burst, period };
        let mut shared = Shared::of(rate(20, second), 8, rate(3, second * 10));
        let began = start();
        let mut taken = |who: &str, after: u32| {
            let now = began + second * after;
            (0..50).filter(|_| shared.take(who, now)).count()
        };
        assert_eq!(taken("loud", 0), 12);
        assert_eq!(taken("loud", 2), 2);
        assert_eq!(taken("quiet", 2), 3);
        assert_eq!(taken("other", 2), 3);
        assert_eq!(taken("late", 2), 2, "never more than all of it");
        assert_eq!(taken("later", 2), 0);
        assert_eq!(taken("later", 3), 1);
        assert_eq!(taken("loud", 1_000), 12);
    }

    #[test]
    fn those_who_rested_are_forgotten() {
        let second = Duration::from_secs(1);
        let rate = |burst, period| Rate { burst, period };
        let mut shared = Shared::of(rate(20, second), 8, rate(3, second * 10));
        let began = start();
        for number in 0..10_000 {
            shared.take(&number.to_string(), began + second * number / 2);
        }
        // Those of the last ten seconds.
        assert!(shared.own.len() <= 11, "{}", shared.own.len());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let (rate, now) = (
            Rate {
                burst: 2,
                period: Duration::from_secs(10),
            },
            start(),
        );
        let mut bucket = Bucket::of(rate);
        assert!(bucket.take(now) && bucket.take(now) && !bucket.take(now));
        bucket.give_back(1);
        assert!(bucket.take(now) && !bucket.take(now));
        bucket.give_back(100);
        assert!(bucket.is_full(now));
        assert!(bucket.take(now) && bucket.take(now) && !bucket.take(now));
    }
}
