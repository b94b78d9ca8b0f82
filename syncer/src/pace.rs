//! How hard one API server is pressed: the async shell of the circuit breaker and of the learning limit.

use crate::{answer::MOST_BYTES, error::Error};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenancy::{
    bucket::{Bucket, Rate},
    circuit::{Advice, Circuit, Outcome},
    limit::Limit,
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

/// Requests in flight to the super API server: a connection carries 100 streams by default, and some stay in reserve.
const MOST: usize = 72;
/// So few keep an API server busy that has two processors, and what else it is asked, by its own scheduler above all,
/// doesn't wait behind more. With 24, pods were made faster than they could be bound, and quiet tenants stood in that
/// line; throughput was the same.
const LEAST: usize = 4;
/// A request that takes longer gives its place to another: it waits for something that need not concern others, as a
/// webhook. All together are never more than [`MOST`].
const PATIENCE: Duration = Duration::from_secs(1);

/// What is read of the events of a tenant's API server, in KiB: so much at once, and then so much a second. Reading takes the
/// process's one thread, so that nobody's large objects hold up what others are told (T40). A burst of a few thousand pods
/// is within. Lists have their own limits: how many go on at once, and how often.
const READING: (u32, u32) = (64 << 10, 8 << 10);

/// Bytes of events that have begun to arrive, in all watches of a tenant's API server: twice the largest event.
const MOST_BEGUN: usize = 2 * MOST_BYTES;

/// What is learned of one API server from how its requests end.
pub(crate) struct Pace {
    /// The server, as logs call it.
    name: String,
    /// What may be read of a tenant's.
    reading: Option<Mutex<Bucket>>,
    /// Bytes of events that have begun to arrive.
    begun: AtomicUsize,
    state: Mutex<State>,
    /// Who waits for a place stands in it, and the first one alone looks for one.
    line: tokio::sync::Mutex<()>,
    freed: Notify,
    /// What may be asked may have changed.
    changed: Notify,
    /// Watches that are interrupted.
    interrupted: AtomicUsize,
}

/// A watch that is interrupted, until it goes on or is no longer wanted.
pub(crate) struct Interruption<'a> {
    pace: &'a Pace,
}

impl Interruption<'_> {
    /// The watch goes on; the answer is whether all of the server do.
    pub(crate) fn end(self) -> bool {
        let pace = self.pace;
        drop(self);
        pace.interrupted.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Interruption<'_> {
    fn drop(&mut self) {
        self.pace.interrupted.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State {
    circuit: Circuit,
    /// For the super API server, which all tenants press; a tenant's own has a fixed number of places in the queue.
    limit: Option<Limit>,
    /// When each request in flight began, oldest first.
    in_flight: VecDeque<Instant>,
}

/// What has begun to arrive in one watch, until it is whole or the watch ends.
pub(crate) struct Begun<'a> {
    pace: &'a Pace,
    bytes: usize,
}

impl Begun<'_> {
    /// So many bytes have arrived of an event that isn't whole.
    ///
    /// # Errors
    ///
    /// All watches of the server together have too many.
    pub(crate) fn are(&mut self, bytes: usize) -> Result<(), Error> {
        let (before, begun) = (self.bytes, &self.pace.begun);
        self.bytes = bytes;
        let of_others = begun.fetch_sub(before, Ordering::Relaxed) - before;
        begun.fetch_add(bytes, Ordering::Relaxed);
        if self.pace.reading.is_some() && bytes > 0 && of_others + bytes > MOST_BEGUN {
            return Err(Error::Malformed(format!(
                "more than {MOST_BEGUN} bytes of events that aren't whole"
            )));
        }
        Ok(())
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.pace.begun.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The right to have one request in flight.
pub(crate) struct Pass {
    pace: Arc<Pace>,
    since: Instant,
}

impl Pace {
    /// For the API server that all tenants share.
    pub(crate) fn shared(name: &str) -> Arc<Self> {
        Self::new(name, Some(Limit::new(LEAST, MOST)), None)
    }

    /// For a tenant's own API server.
    pub(crate) fn own(name: &str) -> Arc<Self> {
        let (burst, a_second) = READING;
        let reading = Bucket::of(Rate::per_second(a_second, burst));
        Self::new(name, None, Some(reading))
    }

    fn new(name: &str, limit: Option<Limit>, reading: Option<Bucket>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            reading: reading.map(Mutex::new),
            begun: AtomicUsize::new(0),
            state: Mutex::new(State {
                circuit: Circuit::of(name),
                limit,
                in_flight: VecDeque::new(),
            }),
            line: tokio::sync::Mutex::new(()),
            freed: Notify::new(),
            changed: Notify::new(),
            interrupted: AtomicUsize::new(0),
        })
    }

    /// The server, as logs call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A watch is interrupted; the second answer is whether it is the only one of the server.
    pub(crate) fn interrupted(&self) -> (Interruption<'_>, bool) {
        let others = self.interrupted.fetch_add(1, Ordering::Relaxed);
        (Interruption { pace: self }, others == 0)
    }

    /// For what begins to arrive in a watch.
    pub(crate) fn begin(&self) -> Begun<'_> {
        Begun {
            pace: self,
            bytes: 0,
        }
    }

    /// So many bytes of events were read, in so many parts: waits until more may be. The answer is how long that was.
    pub(crate) async fn read(&self, bytes: usize, parts: usize) -> Duration {
        let wait = self.reading.as_ref().map_or(Duration::ZERO, |reading| {
            let (mut reading, now) = (reading.lock(), Instant::now().into_std());
            let size = u32::try_from(bytes / 1024 + parts).unwrap_or(u32::MAX);
            reading.charge(size, now);
            reading.wait(1, now).unwrap_or_default()
        });
        if !wait.is_zero() {
            // Boxed, since every watch holds this step and few ever wait in it.
            Box::pin(tokio::time::sleep(wait)).await;
        }
        wait
    }

    /// Waits for a free place. Every request that holds one has a time limit, so the wait has one too.
    pub(crate) async fn enter(self: &Arc<Self>) -> Pass {
        let _first = self.line.lock().await;
        loop {
            let freed = self.freed.notified();
            let taken = self.state.lock().take_place(Instant::now());
            match taken {
                Ok(since) => {
                    let pace = self.clone();
                    return Pass { pace, since };
                }
                Err(Some(until)) => {
                    let _ = tokio::time::timeout_at(until, freed).await;
                }
                Err(None) => freed.await,
            }
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
        let in_flight = state.in_flight.len();
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
    /// Takes a place: since when it is held.
    ///
    /// # Errors
    ///
    /// There is none, and when there may be one though no request ends.
    fn take_place(&mut self, now: Instant) -> Result<Instant, Option<Instant>> {
        let Some(limit) = &self.limit else {
            self.in_flight.push_back(now);
            return Ok(now);
        };
        if self.in_flight.len() >= MOST {
            return Err(None);
        }
        let patient = self
            .in_flight
            .partition_point(|since| *since + PATIENCE <= now);
        let counted = self.in_flight.len() - patient;
        if counted >= limit.places() {
            return Err(self.in_flight.get(patient).map(|since| *since + PATIENCE));
        }
        self.in_flight.push_back(now);
        Ok(now)
    }

    fn free_place(&mut self, since: Instant) {
        let at = self.in_flight.partition_point(|other| *other < since);
        self.in_flight.remove(at);
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
        self.pace.state.lock().free_place(self.since);
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

    async fn full(pace: &Arc<Pace>) -> Vec<Pass> {
        let mut passes = vec![];
        for _ in 0..pace.places().unwrap() {
            passes.push(pace.enter().await);
        }
        passes
    }

    fn enter(pace: &Arc<Pace>) -> tokio::task::JoinHandle<Pass> {
        let pace = pace.clone();
        tokio::spawn(async move { pace.enter().await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_server_is_waited_for_and_each_place_serves_one() {
        let pace = Pace::shared("super");
        let mut passes = full(&pace).await;
        let waiting = enter(&pace);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        passes.pop().unwrap().end(&Ok(()));
        let _pass = waiting.await.unwrap();
        assert_eq!(pace.state.lock().in_flight.len(), passes.len() + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn more_places_are_taken_by_those_who_wait() {
        let pace = Pace::shared("super");
        let before = pace.places().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 * before {
            let pace = pace.clone();
            tasks.spawn(async move {
                let pass = pace.enter().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                let in_flight = pace.state.lock().in_flight.len();
                pass.end(&Ok(()));
                in_flight
            });
        }
        let most = tasks.join_all().await.into_iter().max();
        assert!(most > Some(before), "{most:?}");
        assert!(pace.state.lock().in_flight.is_empty());
    }

    /// A webhook of the super cluster that hangs holds those who wait for it, and nobody else.
    #[tokio::test(start_paused = true)]
    async fn slow_requests_give_their_places_to_others_up_to_a_bound() {
        let (pace, began) = (Pace::shared("super"), Instant::now());
        let mut slow = full(&pace).await;
        let other = enter(&pace).await.unwrap();
        assert!(began.elapsed() >= PATIENCE);
        other.end(&Ok(()));
        while slow.len() < MOST {
            slow.push(pace.enter().await);
        }
        let waiting = enter(&pace);
        tokio::time::sleep(100 * PATIENCE).await;
        assert!(!waiting.is_finished());
        slow.pop();
        waiting.await.unwrap();
    }

    #[test]
    fn of_many_watches_that_a_server_interrupts_the_first_and_the_last_to_go_on_are_known() {
        let pace = Pace::own("tenant");
        let (first, is_alone) = pace.interrupted();
        assert!(is_alone);
        let (second, is_alone) = pace.interrupted();
        assert!(!is_alone);
        assert!(!first.end());
        drop(pace.interrupted());
        assert!(second.end(), "one that nobody wants any more doesn't count");
        assert!(pace.interrupted().1);
    }

    #[tokio::test(start_paused = true)]
    async fn t40_who_is_told_of_much_is_read_ever_as_fast_as_it_may_be_and_others_are_not_held_up()
    {
        let (loud, quiet, began) = (Pace::own("loud"), Pace::own("quiet"), Instant::now());
        let (burst, a_second) = READING;
        // All that is in it goes at once, however it is cut.
        for _ in 0..burst / 1024 - 1 {
            assert_eq!(loud.read(1024 << 10, 0).await, Duration::ZERO);
        }
        for _ in 0..10 * a_second / 1024 {
            loud.read(1024 << 10, 0).await;
        }
        let took = began.elapsed();
        assert!((8..=10).contains(&took.as_secs()), "{took:?}");
        assert_eq!(quiet.read(1024 << 10, 1).await, Duration::ZERO);
        // Small parts count too.
        assert!(loud.read(0, 8 << 10).await >= Duration::from_millis(900));
        assert_eq!(Pace::shared("super").read(1 << 30, 1).await, Duration::ZERO);
    }

    #[test]
    fn t40_what_has_begun_to_arrive_of_one_server_is_bounded_over_all_watches() {
        let pace = Pace::own("tenant");
        let mut watches: Vec<Begun<'_>> = (0..3).map(|_| pace.begin()).collect();
        assert!(watches[0].are(MOST_BYTES).is_ok());
        assert!(watches[1].are(MOST_BYTES).is_ok());
        assert!(watches[2].are(1).is_err());
        watches.pop();
        // It is whole.
        assert!(watches[0].are(0).is_ok());
        assert!(pace.begin().are(MOST_BYTES).is_ok());
        drop(watches);
        assert_eq!(pace.begun.load(Ordering::Relaxed), 0);
        assert!(Pace::shared("super").begin().are(1 << 30).is_ok());
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
