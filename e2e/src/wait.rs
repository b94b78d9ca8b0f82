//! Waiting for a condition, never for time.

use anyhow::Context;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What needs no pod to start: longer than the pause between two tries of anything in Sublet, on a machine that is slow.
pub const SOON: Duration = Duration::from_secs(60);
/// What needs pods to start or end, on a busy machine.
pub const PODS: Duration = Duration::from_secs(180);
/// How many times as long as a specification says something may take in a test. Its limits are for a machine that does
/// nothing else, where benchmarks measure; here a few rigs run side by side, and looking at both sides is part of what takes
/// time. Who waits for something that comes only with the next patrol, or never, is longer still.
const BUSY: u32 = 4;

/// The longest that a test waits for what must be done within `specified`.
pub fn busy(specified: Duration) -> Duration {
    BUSY * specified
}

/// No wait grows by more, whatever another test does meanwhile.
const MOST_ADDED: Duration = Duration::from_secs(180);

/// Between two looks: as long as the last one took, so that looking isn't most of what the machine does.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How many daemons tests have stopped, since when there is any, and for how long there were some before.
static STOPPED: Mutex<(usize, Option<Instant>, Duration)> = Mutex::new((0, None, Duration::ZERO));

/// A test has stopped a daemon that others need as well: until this is dropped no wait runs out of time.
pub(crate) struct Stopped;

impl Stopped {
    /// From now on.
    pub(crate) fn begin() -> Self {
        let (count, since, _) = &mut *STOPPED.lock();
        *count += 1;
        since.get_or_insert_with(Instant::now);
        Self
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let (count, since, before) = &mut *STOPPED.lock();
        *count -= 1;
        if *count == 0 {
            *before += since.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }
}

/// For how long daemons were stopped, in all.
fn stopped() -> Duration {
    let (_, since, before) = *STOPPED.lock();
    before + since.map_or(Duration::ZERO, |since| since.elapsed())
}

/// Asks until `check` succeeds; an error says what it saw instead.
///
/// When `limit` is over, the error says what was waited for and what was seen last. While another test has a daemon
/// stopped it doesn't run.
pub async fn eventually<T>(
    limit: Duration,
    what: &str,
    check: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (least, most) = INTERVALS;
    until(limit, what, check, |took| took.clamp(least, most)).await
}

/// The same with a second between two looks, for what answers only so many questions.
pub async fn seldom<T>(
    limit: Duration,
    what: &str,
    check: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    until(limit, what, check, |_| INTERVALS.1).await
}

async fn until<T>(
    limit: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<T>,
    rest: impl Fn(Duration) -> Duration,
) -> anyhow::Result<T> {
    let (end, before) = (Instant::now() + limit, stopped());
    loop {
        let began = Instant::now();
        // A check that hangs must not outlast the limit by much.
        let seen = match tokio::time::timeout(limit, check()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => seen,
            Err(_) => anyhow::anyhow!("no answer"),
        };
        if Instant::now() >= end + (stopped() - before).min(MOST_ADDED) {
            return Err(seen)
                .with_context(|| format!("after {} s still waiting: {what}", limit.as_secs()));
        }
        tokio::time::sleep(rest(began.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_runs_out_but_not_while_a_test_has_a_daemon_stopped() {
        let limit = Duration::from_secs(10);
        let took = async || {
            let began = Instant::now();
            let never = eventually(limit, "it never comes", async || anyhow::bail!("not there"));
            never
                .await
                .map_or_else(|_: anyhow::Error| began.elapsed(), |()| Duration::ZERO)
        };
        let usual = limit..limit + INTERVALS.1;
        assert!(usual.contains(&took().await));
        let stopping = async {
            let _stopped = Stopped::begin();
            tokio::time::sleep(3 * limit).await;
        };
        let (longer, ()) = tokio::join!(took(), stopping);
        assert!(longer >= 4 * limit, "{longer:?}");
        // What was stopped before doesn't count.
        assert!(usual.contains(&took().await));
        // Who waits for something himself while it is stopped isn't kept for ever.
        let _stopped = Stopped::begin();
        let longest = took().await;
        assert!(
            longest < limit + MOST_ADDED + 2 * INTERVALS.1,
            "{longest:?}"
        );
    }
}
