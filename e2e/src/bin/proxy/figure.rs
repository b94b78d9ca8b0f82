//! Figures, what is wanted of them, and the table for people.

use e2e::bench::{
    numbers,
    table::{self, Wanted},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{fmt::Write, time::Duration};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is called in the results that are kept.
    #[serde(skip)]
    key: String,
    /// What it is.
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What is wanted of it, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<Wanted>,
    /// Whether it is as wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
    /// What it is made of.
    pub(crate) detail: Value,
}

/// How a figure is told.
pub(crate) struct Told {
    /// What it is called in the results that are kept.
    pub(crate) key: String,
    /// What people read.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
}

impl Told {
    pub(crate) fn new(key: impl Into<String>, name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            unit,
        }
    }
}

impl Figure {
    /// A figure of a scenario, judged by what the results' table wants of it.
    pub(crate) fn new(scenario: &str, told: Told, value: f64, detail: Value) -> Self {
        let wanted = table::wanted(scenario, &format!("/{}/value", told.key));
        Self {
            key: told.key,
            name: told.name,
            value,
            unit: told.unit,
            wanted,
            met: wanted.map(|wanted| wanted.is_met(value)),
            detail,
        }
    }
}

/// The figures of one scenario in the shape in which they are kept: each with what it is made of.
pub(crate) fn kept(figures: &[Figure]) -> Value {
    let of = |figure: &Figure| {
        let mut one = figure.detail.clone();
        one["value"] = figure.value.into();
        (figure.key.clone(), one)
    };
    let all = Value::Object(figures.iter().map(of).collect());
    json!({"median": numbers::median(&[all])})
}

/// All figures, one a line.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figure in figures {
        let wanted = figure.wanted.map_or_else(String::new, Wanted::shown);
        let verdict = match figure.met {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let value = format!("{:.3} {}", figure.value, figure.unit);
        let _ = writeln!(
            text,
            "{:<58} {value:>16}  {wanted:<14} {verdict}",
            figure.name
        );
    }
    text
}

/// The time that this share of all didn't exceed; `sorted` is.
pub(crate) fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    let found = sorted.get(index).or(sorted.last());
    found.copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(key: &str, value: f64) -> Figure {
        Figure::new("door", Told::new(key, "x", "ms"), value, json!({"p50": 1}))
    }

    #[test]
    fn a_figure_is_judged_by_the_line_of_the_table() {
        let met = |key, value| figure(key, value).met;
        assert_eq!(met("shareOfDirect64", 0.96), Some(true));
        assert_eq!(met("shareOfDirect64", 0.94), Some(false));
        assert_eq!(met("p50OverDirect1", 0.3), Some(true));
        assert_eq!(met("unheardOf", 0.3), None);
        assert!(table(&[figure("idle", 61.0)]).contains("MISSED"));
    }

    #[test]
    fn what_is_kept_has_each_figure_at_its_key_with_what_it_is_made_of() {
        let kept = kept(&[figure("idle", 61.239), figure("halfOpen", 2.0)]);
        assert_eq!(
            kept["median"],
            json!({"idle": {"value": 61.24, "p50": 1.0}, "halfOpen": {"value": 2.0, "p50": 1.0}})
        );
    }

    #[test]
    fn shares_of_times_are_read_off_the_sorted_list() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(milliseconds(at(&times, 0.5)), 51.0);
        assert_eq!(milliseconds(at(&times, 0.99)), 100.0);
        assert_eq!(at(&[], 0.5), Duration::ZERO);
    }
}
