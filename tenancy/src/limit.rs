//! How many requests may be in flight to an API server: additive increase, multiplicative decrease.
//!
//! Answers are judged in rounds of as many as may be in flight. A round whose median latency is far above what the server
//! has shown to be its own takes a fifth away; a round that used what it may adds one, and before the first that was slow
//! as many as there are; a 429 takes half away, once a round. The base latency is the lowest median of a round, forgotten slowly, so a server that has become slower for
//! good is believed after a while.

use std::time::Duration;

/// A round is slow when its median is above the base times this…
const SLOWER: u32 = 3;
/// …and by at least this: below it, differences are noise.
const NOISE: Duration = Duration::from_millis(15);
/// How much of the base latency is forgotten with each round: one part in so many.
const FORGETTING: u32 = 100;
/// Fewest answers that make a round.
const ROUND_MIN: usize = 16;

/// A limit that learns.
#[derive(Clone, Debug)]
pub struct Limit {
    places: f64,
    least: usize,
    most: usize,
    base: Option<Duration>,
    round: Vec<Duration>,
    /// Most requests that were in flight during the round.
    used: usize,
    throttled: bool,
    /// Nothing was slow yet, so the server's measure is still sought.
    seeking: bool,
}

impl Limit {
    /// A limit between `least` and `most` that begins with twice `least`.
    pub fn new(least: usize, most: usize) -> Self {
        Self {
            places: as_float((2 * least).min(most)),
            least: least.max(1),
            most: most.max(1),
            base: None,
            round: Vec::with_capacity(most.max(ROUND_MIN)),
            used: 0,
            throttled: false,
            seeking: true,
        }
    }

    /// Requests that may be in flight now.
    pub fn places(&self) -> usize {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between `least` and `most`, which came from usize"
        )]
        let whole = self.places as usize;
        whole.clamp(self.least, self.most)
    }

    /// An answer came after `latency`, while so many requests were in flight.
    pub fn answered(&mut self, latency: Duration, in_flight: usize) {
        self.round.push(latency);
        self.used = self.used.max(in_flight);
        if self.round.len() >= self.places().max(ROUND_MIN) {
            self.conclude();
        }
    }

    /// The server answered 429.
    pub fn throttled(&mut self) {
        if !self.throttled {
            self.throttled = true;
            self.seeking = false;
            self.set(self.places / 2.0);
        }
    }

    fn conclude(&mut self) {
        let middle = self.round.len() / 2;
        let (_, median, _) = self.round.select_nth_unstable(middle);
        let median = *median;
        let base = self
            .base
            .map_or(median, |base| median.min(base + base / FORGETTING));
        self.base = Some(base);
        if median > base * SLOWER && median > base + NOISE {
            self.seeking = false;
            self.set(self.places * 0.8);
        } else if !self.throttled && self.used >= self.places() {
            let more = if self.seeking { self.places } else { 1.0 };
            self.set(self.places + more);
        }
        self.round.clear();
        self.used = 0;
        self.throttled = false;
    }

    fn set(&mut self, places: f64) {
        self.places = places.clamp(as_float(self.least), as_float(self.most));
    }
}

fn as_float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_millis(4);
    const SLOW: Duration = Duration::from_millis(60);

    fn rounds(limit: &mut Limit, count: usize, latency: Duration) {
        for _ in 0..count {
            let places = limit.places();
            (0..places.max(ROUND_MIN)).for_each(|_| limit.answered(latency, places));
        }
    }

    #[test]
    fn rising_latency_takes_places_and_falling_latency_gives_them_back() {
        let mut limit = Limit::new(4, 40);
        assert_eq!(limit.places(), 8);
        rounds(&mut limit, 3, QUICK);
        assert_eq!(limit.places(), 40);
        rounds(&mut limit, 30, SLOW);
        assert_eq!(limit.places(), 4);
        rounds(&mut limit, 40, QUICK);
        assert_eq!(limit.places(), 40);
    }

    #[test]
    fn a_429_halves_once_a_round() {
        let mut limit = Limit::new(4, 40);
        rounds(&mut limit, 3, QUICK);
        (0..10).for_each(|_| limit.throttled());
        assert_eq!(limit.places(), 20);
        rounds(&mut limit, 1, QUICK);
        limit.throttled();
        assert_eq!(limit.places(), 10);
    }

    #[test]
    fn a_server_that_has_become_slower_for_good_is_believed() {
        let mut limit = Limit::new(4, 40);
        rounds(&mut limit, 5, QUICK);
        rounds(&mut limit, 500, SLOW);
        assert_eq!(limit.places(), 40);
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut limit = Limit::new(4, 40);
        (0..8).for_each(|_| {
            limit.throttled();
            rounds(&mut limit, 1, QUICK);
        });
        let places = limit.places();
        (0..500).for_each(|_| limit.answered(QUICK, 1));
        assert_eq!(limit.places(), places);
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(answers in prop::collection::vec((0u64..500, 0usize..90, any::<bool>()), 0..2000)) {
            let mut limit = Limit::new(4, 40);
            for (millis, in_flight, throttled) in answers {
                if throttled {
                    limit.throttled();
                }
                limit.answered(Duration::from_millis(millis), in_flight);
                prop_assert!((4..=40).contains(&limit.places()));
            }
        }
    }
}
