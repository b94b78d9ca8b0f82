//! When what a tenant uses is told on its VirtualControlPlane; time is an argument.
//!
//! Each time all who watch it hear of it, and whoever writes with the version in hand must read it again. So counts are told
//! now and then, and at once only that a limit is reached or left, and what the limits are.

use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tenancy::bucket::{Bucket, Rate};
use tokio::time::Instant;

/// Counts are told so often.
const EVERY: Duration = Duration::from_secs(10);
/// So many times at once: a limit may be reached and left without end.
const AT_ONCE: u32 = 3;

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UsageReport {
    /// The status; null where nothing is limited.
    pub(super) status: Value,
    /// Limits that are reached.
    pub(super) reached: BTreeSet<String>,
    /// Whether somebody waits for room.
    pub(super) is_waited_for: bool,
}

/// What was told last, and when.
pub(super) struct LastReport {
    last: Option<(UsageReport, Instant)>,
    at_once: Bucket,
}

impl Default for LastReport {
    fn default() -> Self {
        let (burst, period) = (AT_ONCE, EVERY);
        Self {
            last: None,
            at_once: Bucket::of(Rate { burst, period }),
        }
    }
}

impl LastReport {
    /// In how long it is to be told; never, if it was.
    pub(super) fn due(&mut self, said: &UsageReport, now: Instant) -> Option<Duration> {
        let Some((last, at)) = &self.last else {
            return (!said.status.is_null()).then_some(Duration::ZERO);
        };
        if last.status == said.status {
            return None;
        }
        let is_urgent = last.status["hard"] != said.status["hard"]
            || last.reached != said.reached
            || last.is_waited_for != said.is_waited_for;
        if is_urgent && self.at_once.take(now.into_std()) {
            return Some(Duration::ZERO);
        }
        Some(EVERY.saturating_sub(now.duration_since(*at)))
    }

    /// It was told.
    pub(super) fn note(&mut self, said: UsageReport, now: Instant) {
        self.last = Some((said, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(pods: u32, is_waited_for: bool) -> UsageReport {
        let is_reached = pods >= 5;
        UsageReport {
            status: json!({"hard": {"pods": "5"}, "used": {"pods": pods.to_string()}}),
            reached: is_reached.then(|| "pods".into()).into_iter().collect(),
            is_waited_for,
        }
    }

    /// As a tenant does that makes and deletes pods without end: how often it is told in a minute.
    fn times(said: impl Fn(u32) -> UsageReport) -> usize {
        let (mut told, began) = (LastReport::default(), Instant::now());
        let steps = (0..200).filter(|step| {
            let (said, now) = (said(*step), began + Duration::from_millis(300) * *step);
            let is_due = told.due(&said, now) == Some(Duration::ZERO);
            if is_due {
                told.note(said, now);
            }
            is_due
        });
        steps.count()
    }

    #[test]
    fn counts_that_change_all_the_time_are_told_now_and_then() {
        assert_eq!(times(|step| said(step % 3, false)), 6);
        assert!(times(|step| said(4 + step % 2, false)) <= 6 + AT_ONCE as usize * 2);
    }

    #[test]
    fn that_a_limit_is_reached_or_left_is_told_at_once_and_the_rest_later() {
        let (mut told, now) = (LastReport::default(), Instant::now());
        assert_eq!(
            told.due(&UsageReport::default(), now),
            None,
            "nothing is limited"
        );
        assert_eq!(told.due(&said(1, false), now), Some(Duration::ZERO));
        told.note(said(1, false), now);
        assert_eq!(told.due(&said(1, false), now), None);
        let soon = now + Duration::from_secs(1);
        assert_eq!(
            told.due(&said(2, false), soon),
            Some(EVERY - Duration::from_secs(1))
        );
        assert_eq!(told.due(&said(2, true), soon), Some(Duration::ZERO));
        assert_eq!(told.due(&said(5, false), soon), Some(Duration::ZERO));
        told.note(said(5, false), soon);
        assert_eq!(
            told.due(&UsageReport::default(), soon),
            Some(Duration::ZERO),
            "unlimited now"
        );
        assert_eq!(
            told.due(&said(2, false), soon + EVERY),
            Some(Duration::ZERO)
        );
    }
}
