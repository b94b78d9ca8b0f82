//! From what was seen to figures: a JSON object for each run.

use crate::{
    load::{Route, Run},
    requests::{Counts, Requests},
    times::Seen,
};
use e2e::bench::numbers::round;
use serde_json::{Map, Value, json};
use std::{ops::Range, time::Duration};

/// The figures of one run.
pub(crate) fn of(run: &Run, route: Route) -> Value {
    let pods = run.pods();
    let span = run.times.span(pods.clone()).as_secs_f64();
    let count = pods.len() as f64;
    let per_pod = |all: Duration| round(all.as_secs_f64() * 1000.0 / count);
    let cpu: Map<String, Value> = run
        .cpu
        .iter()
        .map(|(part, cpu)| ((*part).to_owned(), per_pod(*cpu).into()))
        .collect();
    let mut figures = json!({
        "pods": pods.len(),
        "seconds": round(span),
        "podsPerSecond": round(count / span),
        "milliseconds": latencies(run, pods),
        "cpuMillisecondsPerPod": cpu,
        "cpuOfOthers": round(run.others),
    });
    if route == Route::Synced {
        figures["requestsPerPod"] = requests(run, |requests| &requests.per_pod);
        figures["requestsPerTenantAndMinute"] =
            requests(run, |requests| &requests.per_tenant_and_minute);
        if let Some(pss) = run.pss {
            figures["syncerPssMiB"] = round(pss).into();
        }
    }
    figures
}

/// Counts of requests by direction, and by what they are.
fn requests(run: &Run, counts: impl Fn(&Requests) -> &Counts) -> Value {
    let mut all = Map::new();
    for (direction, requests) in &run.requests {
        let counts: Map<String, Value> = counts(requests)
            .iter()
            .map(|(what, count)| (what.clone(), round(*count).into()))
            .collect();
        all.insert((*direction).to_owned(), counts.into());
    }
    all.into()
}

/// The latencies of some pods of a run.
pub(crate) fn latencies(run: &Run, pods: Range<usize>) -> Value {
    let between = |from, to| spread(&run.times.between(pods.clone(), from, to));
    let mut all = json!({
        "createToPod": between(Seen::Sent, Seen::Pod),
        "podToSuperPod": between(Seen::Pod, Seen::SuperPod),
        "createToSuperPod": between(Seen::Sent, Seen::SuperPod),
        "superPodToBound": between(Seen::SuperPod, Seen::SuperBound),
        "superPodToReady": between(Seen::SuperPod, Seen::SuperReady),
        "statusUp": between(Seen::SuperReady, Seen::Ready),
        "createToReady": between(Seen::Sent, Seen::Ready),
    });
    if run.times.missing(pods.clone(), Seen::Token) < pods.len() {
        all["superPodToToken"] = between(Seen::SuperPod, Seen::Token);
    }
    all
}

/// Percentiles of sorted times, in milliseconds.
fn spread(sorted: &[Duration]) -> Value {
    // The smallest value that so many per cent don't exceed.
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        let took = sorted.get(rank - 1).copied().unwrap_or_default();
        round(took.as_secs_f64() * 1000.0)
    };
    json!({"p50": at(50), "p90": at(90), "p99": at(99), "max": at(100)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let expected = json!({"p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0});
        assert_eq!(spread(&sorted), expected);
        assert_eq!(
            spread(&[]),
            json!({"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0})
        );
    }
}
