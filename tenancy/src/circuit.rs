//! Whether an API server is worth asking: a circuit breaker over the outcomes of its requests.
//!
//! While it is *closed*, everything is asked. A few failures in a row *open* it: nothing is asked for a while that
//! doubles each time. Then one request is let through as a probe; its answer closes the circuit again. A 429 opens it for
//! as long as the server asked, without counting as a failure. Time is an argument.

use std::time::{Duration, Instant};

/// Failures in a row that open the circuit: fewer may be one broken connection and the requests it carried.
const FAILURES: u32 = 3;
/// First pause.
const PAUSE_BASE: Duration = Duration::from_millis(500);
/// Longest pause: a server that is back is noticed after that at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(10);

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
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    /// Failures since the last answer.
    failures: u32,
    /// Pauses since the last answer.
    pauses: u32,
    /// Nothing is asked before then.
    until: Option<Instant>,
}

impl Circuit {
    /// Takes up how a request ended. Returns whether the circuit opened or closed with it.
    pub fn observe(&mut self, outcome: Outcome, now: Instant) -> bool {
        let was_open = self.is_open();
        match outcome {
            Outcome::Answered if self.pauses > 0 || self.failures > 0 => {
                *self = Self {
                    // Somebody else's 429 holds, whoever is answered meanwhile.
                    until: self.until.filter(|_| self.pauses == 0),
                    ..Self::default()
                };
            }
            Outcome::Answered => {}
            Outcome::Throttled(wait) => self.hold(now + wait),
            Outcome::Unreachable => {
                self.failures += 1;
                // Requests that were under way when it opened tell nothing new.
                let pausing = self.until.is_some_and(|until| now < until);
                if self.failures >= FAILURES && !pausing {
                    let pause = PAUSE_BASE
                        .saturating_mul(1 << self.pauses.min(8))
                        .min(PAUSE_MAX);
                    self.pauses += 1;
                    self.hold(now + pause);
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
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES {
            assert!(!circuit.observe(Outcome::Unreachable, now));
            assert_eq!(circuit.advice(now), Advice::Ask);
        }
        assert!(circuit.observe(Outcome::Unreachable, now));
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let mut now = start();
        let mut circuit = opened(now);
        assert_eq!(circuit.advice(now), Advice::Wait(now + PAUSE_BASE));
        now += PAUSE_BASE;
        assert_eq!(circuit.advice(now), Advice::Probe);
        assert!(circuit.observe(Outcome::Answered, now));
        assert_eq!(circuit.advice(now), Advice::Ask);
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let (mut circuit, now) = (Circuit::default(), start());
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
        let mut last = PAUSE_BASE;
        for _ in 0..12 {
            let Advice::Wait(until) = circuit.advice(now) else {
                panic!("open")
            };
            now = until;
            assert_eq!(circuit.advice(now), Advice::Probe);
            assert!(!circuit.observe(Outcome::Unreachable, now));
            let Advice::Wait(until) = circuit.advice(now) else {
                panic!("still open")
            };
            assert!(until - now >= last && until - now <= PAUSE_MAX);
            last = until - now;
        }
        assert_eq!(last, PAUSE_MAX);
    }

    #[test]
    fn requests_under_way_when_it_opens_make_the_pause_no_longer() {
        let now = start();
        let mut circuit = opened(now);
        for _ in 0..24 {
            circuit.observe(Outcome::Unreachable, now);
        }
        assert_eq!(circuit.advice(now), Advice::Wait(now + PAUSE_BASE));
    }

    #[test]
    fn a_429_holds_as_long_as_asked_and_opens_nothing() {
        let (mut circuit, now) = (Circuit::default(), start());
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
            let (mut circuit, mut now) = (Circuit::default(), start());
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
