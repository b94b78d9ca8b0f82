//! Waiting for a condition, never for time.

use anyhow::Context;
use std::time::Duration;
use tokio::time::Instant;

/// What needs no pod to start.
pub const SOON: Duration = Duration::from_secs(30);
/// What needs pods to start or end, on a busy machine.
pub const PODS: Duration = Duration::from_secs(120);

/// Between two looks: as long as the last one took, so that looking isn't most of what the machine does.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Asks until `check` succeeds; an error says what it saw instead.
///
/// When `limit` is over, the error says what was waited for and what was seen last.
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
    let end = Instant::now() + limit;
    loop {
        let began = Instant::now();
        // A check that hangs must not outlast the limit by much.
        let seen = match tokio::time::timeout(limit, check()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => seen,
            Err(_) => anyhow::anyhow!("no answer"),
        };
        if Instant::now() >= end {
            return Err(seen)
                .with_context(|| format!("after {} s still waiting: {what}", limit.as_secs()));
        }
        tokio::time::sleep(rest(began.elapsed())).await;
    }
}
