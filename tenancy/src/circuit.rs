//! Whether an API server is worth asking: a circuit breaker over the outcomes of its requests.
//!
//! While it is *closed*, everything is asked. A few failures in a row *open* it: nothing is asked for a while that
//! doubles each time. Then one request is let through as a probe; its answer closes the circuit again. A 429 opens it for
//! as long as the server asked, without counting as a failure. Of many that all wait for the server, as its watches do,
//! one at a time gets a [`turn`](Circuit::turn): its probe is that of all. Time is an argument.

use crate::pause::Pauses;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

/// Failures in a row that open the circuit: fewer may be one broken connection and the requests it carried.
const FAILURES: u32 = 3;
/// Pauses; a server that is back is noticed after the longest at the latest. They are spread: API servers that went
/// together, as on one machine, aren't all asked at the same moments.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(10),
};
/// How long the others wait for one that asks on their behalf. It may hang on a connection that died, and they may get
/// another one; and a server that hangs is asked by a few at most before the first of them gives up.
const PROBE_PATIENCE: Duration = PAUSES.longest;

/// How a request ended, as far as the server's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered; a refusal is an answer.
    Answered,
    /// The server asked to wait so long.
    Throttled(Duration),
    /// No answer: no connection, a broken one, a time limit, or a server that says that it can't serve.
    Unreachable,
}

/// What may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Everything.
    Ask,
    /// One request at a time, to see whether the server is back.
    Probe,
    /// Nothing before then.
    Wait(Instant),
}

/// The state of one API server's circuit.
#[derive(Clone, Debug)]
pub struct Circuit {
    /// The server's own number, by which its pauses are spread.
    server: u64,
    /// Failures since the last answer.
    failures: u32,
    /// Pauses since the last answer.
    pauses: u32,
    /// Nothing is asked before then.
    until: Option<Instant>,
    /// Somebody asks on behalf of all who wait, and is waited for until then.
    probed: Option<Instant>,
}

impl Circuit {
    /// That of the server with this name, closed.
    pub fn of(server: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        server.hash(&mut hasher);
        Self {
            server: hasher.finish(),
            failures: 0,
            pauses: 0,
            until: None,
            probed: None,
        }
    }

    /// Takes up how a request ended. Returns whether the circuit opened or closed with it.
    pub fn observe(&mut self, outcome: Outcome, now: Instant) -> bool {
        let was_open = self.is_open();
        self.probed = None;
        match outcome {
            Outcome::Answered => {
                // Somebody else's 429 holds, whoever is answered meanwhile.
                self.until = self.until.filter(|_| self.pauses == 0);
                (self.failures, self.pauses) = (0, 0);
            }
            Outcome::Throttled(wait) => self.hold(now + wait),
            Outcome::Unreachable => {
                self.failures += 1;
                // Requests that were under way when it opened tell nothing new.
                let pausing = self.until.is_some_and(|until| now < until);
                if self.failures >= FAILURES && !pausing {
                    self.pauses += 1;
                    self.hold(now + PAUSES.after(self.pauses, &self.server));
                }
            }
        }
        was_open != self.is_open()
    }

    /// What may be asked now.
    pub fn advice(&self, now: Instant) -> Advice {
        match self.until.filter(|until| now < *until) {
            Some(until) => Advice::Wait(until),
            None if self.is_open() => Advice::Probe,
            None => Advice::Ask,
        }
    }

    /// The turn of one among many that wait for the server. Who is told to probe asks on behalf of all: the others are
    /// told to wait, for how that ends or until it has taken too long.
    pub fn turn(&mut self, now: Instant) -> Advice {
        match (self.advice(now), self.probed.filter(|until| now < *until)) {
            (Advice::Probe, Some(until)) => Advice::Wait(until),
            (Advice::Probe, None) => {
                self.probed = Some(now + PROBE_PATIENCE);
                Advice::Probe
            }
            (other, _) => other,
        }
    }

    /// Whether the server is taken for unreachable.
    pub fn is_open(&self) -> bool {
        self.pauses > 0
    }

    fn hold(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test's origin of time")]
        Instant::now()
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::of("tenant");
        for _ in 1..FAILURES {
            assert!(!circuit.observe(Outcome::Unreachable, now));
            assert_eq!(circuit.advice(now), Advice::Ask);
        }
        assert!(circuit.observe(Outcome::Unreachable, now));
        circuit
    }

    /// When the pause ends.
    fn pausing(circuit: &Circuit, now: Instant) -> Instant {
        match circuit.advice(now) {
            Advice::Wait(until) => until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let mut now = start();
        let mut circuit = opened(now);
        now = pausing(&circuit, now);
        assert_eq!(circuit.advice(now), Advice::Probe);
        assert!(circuit.observe(Outcome::Answered, now));
        assert_eq!(circuit.advice(now), Advice::Ask);
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let (mut circuit, now) = (Circuit::of("tenant"), start());
        for _ in 0..10 {
            assert!(!circuit.observe(Outcome::Unreachable, now));
            assert!(!circuit.observe(Outcome::Unreachable, now));
            assert!(!circuit.observe(Outcome::Answered, now));
        }
        assert_eq!(circuit.advice(now), Advice::Ask);
    }

    #[test]
    fn each_failed_probe_waits_longer_up_to_a_limit() {
        let mut now = start();
        let mut circuit = opened(now);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            now = pausing(&circuit, now);
            assert_eq!(circuit.advice(now), Advice::Probe);
            assert!(!circuit.observe(Outcome::Unreachable, now));
            let pause = pausing(&circuit, now) - now;
            assert!(pause > last || pause >= PAUSES.longest * 3 / 4);
            assert!(pause <= PAUSES.longest);
            last = pause;
        }
    }

    #[test]
    fn of_all_who_wait_one_asks_and_its_answer_is_that_of_all() {
        let mut now = start();
        let mut circuit = opened(now);
        let until = pausing(&circuit, now);
        assert_eq!(circuit.turn(now), Advice::Wait(until));
        now = until;
        assert_eq!(circuit.turn(now), Advice::Probe);
        for _ in 0..30 {
            assert_eq!(circuit.turn(now), Advice::Wait(now + PROBE_PATIENCE));
        }
        circuit.observe(Outcome::Unreachable, now);
        now = pausing(&circuit, now);
        assert_eq!(circuit.turn(now), Advice::Probe, "the next one's turn");
        circuit.observe(Outcome::Answered, now);
        for _ in 0..30 {
            assert_eq!(circuit.turn(now), Advice::Ask);
        }
    }

    #[test]
    fn one_who_asks_and_never_tells_holds_the_others_up_no_longer_than_a_pause() {
        let began = start();
        let mut circuit = opened(began);
        let now = pausing(&circuit, began);
        assert_eq!(circuit.turn(now), Advice::Probe);
        assert_eq!(
            circuit.turn(now + PROBE_PATIENCE / 2),
            Advice::Wait(now + PROBE_PATIENCE)
        );
        assert_eq!(circuit.turn(now + PROBE_PATIENCE), Advice::Probe);
    }

    #[test]
    fn within_twenty_seconds_a_dead_server_is_tried_a_few_times_however_many_wait() {
        let begin = start();
        let (mut circuit, mut now, mut tries) = (opened(begin), begin, 0);
        while now - begin < Duration::from_secs(20) {
            for _ in 0..40 {
                if circuit.turn(now) == Advice::Probe {
                    tries += 1;
                    circuit.observe(Outcome::Unreachable, now);
                }
            }
            now += Duration::from_millis(100);
        }
        assert!((4..=7).contains(&tries), "{tries}");
    }

    #[test]
    fn servers_that_went_together_are_asked_at_different_times() {
        let now = start();
        let pause = |name: &str| {
            let mut circuit = Circuit::of(name);
            for _ in 0..FAILURES {
                circuit.observe(Outcome::Unreachable, now);
            }
            pausing(&circuit, now)
        };
        assert_ne!(pause("a"), pause("b"));
    }

    #[test]
    fn requests_under_way_when_it_opens_make_the_pause_no_longer() {
        let now = start();
        let mut circuit = opened(now);
        for _ in 0..24 {
            circuit.observe(Outcome::Unreachable, now);
        }
        assert!(pausing(&circuit, now) <= now + PAUSES.first);
    }

    #[test]
    fn a_429_holds_as_long_as_asked_and_opens_nothing() {
        let (mut circuit, now) = (Circuit::of("tenant"), start());
        let wait = Duration::from_secs(3);
        assert!(!circuit.observe(Outcome::Throttled(wait), now));
        circuit.observe(Outcome::Answered, now);
        assert_eq!(circuit.advice(now), Advice::Wait(now + wait));
        assert_eq!(circuit.advice(now + wait), Advice::Ask);
    }

    proptest! {
        /// Whatever happened, an answer to a probe makes everything be asked again.
        #[test]
        fn a_server_that_answers_is_asked(steps in prop::collection::vec((0u8..3, 0u64..20_000), 0..60)) {
            let (mut circuit, mut now) = (Circuit::of("tenant"), start());
            for (kind, millis) in steps {
                now += Duration::from_millis(millis);
                let outcome = match kind {
                    0 => Outcome::Answered,
                    1 => Outcome::Throttled(Duration::from_millis(millis)),
                    _ => Outcome::Unreachable,
                };
                circuit.observe(outcome, now);
            }
            if let Advice::Wait(until) = circuit.advice(now) {
                prop_assert!(until - now <= Duration::from_secs(20));
                now = until;
            }
            circuit.observe(Outcome::Answered, now);
            prop_assert_eq!(circuit.advice(now), Advice::Ask);
        }
    }
}
