//! How hard one API server is pressed: the async shell of the circuit breaker and of the learning limit.

use crate::error::Error;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tenancy::{
    circuit::{Advice, Circuit, Outcome},
    limit::Limit,
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

/// Requests in flight to the super API server: a connection carries 100 streams by default, and some stay in reserve.
const MOST: usize = 72;
/// Fewer wouldn't keep the super API server busy where it is slow for a reason that isn't ours, and no API server suffers
/// from so many: a busy machine's latency took the limit down to what had been 4 here, and throughput with it.
const LEAST: usize = 24;

/// What is learned of one API server from how its requests end.
pub(crate) struct Pace {
    /// The server, as logs call it.
    name: String,
    state: Mutex<State>,
    freed: Notify,
    /// What may be asked may have changed.
    changed: Notify,
}

struct State {
    circuit: Circuit,
    /// For the super API server, which all tenants press; a tenant's own has a fixed number of places in the queue.
    limit: Option<Limit>,
    in_flight: usize,
}

/// The right to have one request in flight.
pub(crate) struct Pass {
    pace: Arc<Pace>,
    since: Instant,
}

impl Pace {
    /// For the API server that all tenants share.
    pub(crate) fn shared(name: &str) -> Arc<Self> {
        Self::new(name, Some(Limit::new(LEAST, MOST)))
    }

    /// For a tenant's own API server.
    pub(crate) fn own(name: &str) -> Arc<Self> {
        Self::new(name, None)
    }

    fn new(name: &str, limit: Option<Limit>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(State {
                circuit: Circuit::of(name),
                limit,
                in_flight: 0,
            }),
            freed: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// Waits for a free place. Every request that holds one has a time limit, so the wait has one too.
    pub(crate) async fn enter(self: &Arc<Self>) -> Pass {
        loop {
            let freed = self.freed.notified();
            if self.state.lock().take_place() {
                return Pass {
                    pace: self.clone(),
                    since: Instant::now(),
                };
            }
            freed.await;
        }
    }

    /// What may be asked now.
    pub(crate) fn advice(&self) -> Advice {
        self.state.lock().circuit.advice(Instant::now().into_std())
    }

    /// Waits until the server may be asked at all; the answer is whether only to see if it is back.
    pub(crate) async fn worth_asking(&self) -> bool {
        loop {
            let changed = self.changed();
            match self.advice() {
                Advice::Ask => return false,
                Advice::Probe => return true,
                Advice::Wait(until) => wait(changed, until).await,
            }
        }
    }

    /// What one of many may do who all wait for the server: one of them probes for all ([`Circuit::turn`]).
    pub(crate) fn turn(&self) -> Advice {
        self.state.lock().circuit.turn(Instant::now().into_std())
    }

    /// Tells, from now on, that what may be asked may have changed: above all that the server answers again.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether the server is taken for unreachable.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().circuit.is_open()
    }

    /// Requests that may be in flight now, for a shared server.
    pub(crate) fn places(&self) -> Option<usize> {
        self.state.lock().limit.as_ref().map(Limit::places)
    }

    /// Takes up how a request or a watch ended.
    pub(crate) fn observe<T>(&self, result: &Result<T, Error>) {
        self.note(outcome(result), None);
    }

    fn note(&self, outcome: Outcome, latency: Option<Duration>) {
        let mut state = self.state.lock();
        let in_flight = state.in_flight;
        if let Some(limit) = &mut state.limit {
            match (outcome, latency) {
                (Outcome::Answered, Some(latency)) => limit.answered(latency, in_flight),
                (Outcome::Throttled(_), _) => limit.throttled(),
                _ => {}
            }
        }
        let has_turned = state.circuit.observe(outcome, Instant::now().into_std());
        if has_turned || outcome != Outcome::Answered {
            self.changed.notify_waiters();
        }
        if !has_turned {
            return;
        }
        if state.circuit.is_open() {
            tracing::warn!(server = %self.name, "the API server can't be reached: it is asked now and then until it answers");
        } else {
            tracing::info!(server = %self.name, "the API server answers again");
        }
    }
}

/// Waits for a change, until then.
pub(crate) async fn wait(changed: Notified<'_>, until: std::time::Instant) {
    // Its error says that the time has come.
    let _ = tokio::time::timeout_at(Instant::from_std(until), changed).await;
}

impl State {
    fn take_place(&mut self) -> bool {
        let free = self
            .limit
            .as_ref()
            .is_none_or(|limit| self.in_flight < limit.places());
        self.in_flight += usize::from(free);
        free
    }
}

impl Pass {
    /// The request ended so.
    pub(crate) fn end<T>(self, result: &Result<T, Error>) {
        self.pace.note(outcome(result), Some(self.since.elapsed()));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.pace.state.lock().in_flight -= 1;
        self.pace.freed.notify_one();
    }
}

fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Err(Error::Throttled(wait)) => Outcome::Throttled(*wait),
        Err(Error::Unavailable(_)) => Outcome::Unreachable,
        _ => Outcome::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_server_is_waited_for_and_each_place_serves_one() {
        let pace = Pace::shared("super");
        let mut passes = vec![];
        for _ in 0..MOST {
            passes.push(pace.enter().await);
        }
        let waiting = tokio::spawn({
            let pace = pace.clone();
            async move { pace.enter().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        passes.pop().unwrap().end(&Ok(()));
        waiting.await.unwrap();
        assert_eq!(pace.state.lock().in_flight, MOST - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured() {
        let (pace, began) = (Pace::own("tenant"), Instant::now());
        let wait = Duration::from_secs(7);
        pace.enter().await.end::<()>(&Err(Error::Throttled(wait)));
        assert!(!pace.worth_asking().await);
        assert!(began.elapsed() >= wait);
    }
}
