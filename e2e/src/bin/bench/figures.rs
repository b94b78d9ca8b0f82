//! From what was seen to figures: a JSON object for each run, and medians over rounds.

use crate::{
    load::{Route, Run},
    times::Seen,
};
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
        figures["requestsPerPod"] = run
            .requests
            .iter()
            .map(|(direction, counts)| {
                let counts: Map<String, Value> = counts
                    .iter()
                    .map(|(what, count)| (what.clone(), round(*count).into()))
                    .collect();
                ((*direction).to_owned(), counts.into())
            })
            .collect::<Map<String, Value>>()
            .into();
        if let Some(pss) = run.pss {
            figures["syncerPssMiB"] = round(pss).into();
        }
    }
    figures
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

/// The median of each number that all rounds have, in the shape of the rounds.
pub(crate) fn median(rounds: &[Value]) -> Value {
    match rounds.first() {
        Some(Value::Object(first)) => {
            let of_key = |key: &String| {
                let values: Option<Vec<Value>> =
                    rounds.iter().map(|round| round.get(key).cloned()).collect();
                values.map(|values| (key.clone(), median(&values)))
            };
            Value::Object(first.keys().filter_map(of_key).collect())
        }
        Some(Value::Number(_)) => {
            let mut numbers: Vec<f64> = rounds.iter().filter_map(Value::as_f64).collect();
            numbers.sort_by(f64::total_cmp);
            let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
            round(f64::midpoint(low, high)).into()
        }
        other => other.cloned().unwrap_or_default(),
    }
}

/// To hundredths: more digits would claim more than was measured.
pub(crate) fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
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

    #[test]
    fn medians_keep_the_shape() {
        let rounds = [
            json!({"a": {"b": 3, "only here": 1}, "name": "x"}),
            json!({"a": {"b": 1}, "name": "x"}),
            json!({"a": {"b": 2}, "name": "x"}),
        ];
        assert_eq!(median(&rounds), json!({"a": {"b": 2.0}, "name": "x"}));
        assert_eq!(median(&[json!(1), json!(4)]), json!(2.5));
    }
}
