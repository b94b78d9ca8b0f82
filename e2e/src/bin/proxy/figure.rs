//! Figures, what is wanted of them, and the table for people.

use serde::Serialize;
use serde_json::Value;
use std::{fmt::Write, time::Duration};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
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

/// A limit.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub(crate) fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        wanted: Wanted,
        detail: Value,
    ) -> Self {
        let met = match wanted {
            Wanted::AtLeast(limit) => value >= limit,
            Wanted::AtMost(limit) => value <= limit,
        };
        Self {
            name: name.into(),
            value,
            unit,
            wanted: Some(wanted),
            met: Some(met),
            detail,
        }
    }
}

/// All figures, one a line.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figure in figures {
        let wanted = match figure.wanted {
            Some(Wanted::AtLeast(limit)) => format!(">= {limit}"),
            Some(Wanted::AtMost(limit)) => format!("<= {limit}"),
            None => String::new(),
        };
        let verdict = match figure.met {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let value = format!("{:.3} {}", figure.value, figure.unit);
        let _ = writeln!(
            text,
            "{:<58} {value:>16}  {wanted:<10} {verdict}",
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

    #[test]
    fn a_figure_is_judged_by_its_limit() {
        let met = |value, wanted| Figure::new("x", value, "ms", wanted, Value::Null).met;
        assert_eq!(met(0.96, Wanted::AtLeast(0.95)), Some(true));
        assert_eq!(met(0.94, Wanted::AtLeast(0.95)), Some(false));
        assert_eq!(met(0.3, Wanted::AtMost(0.3)), Some(true));
        let figure = Figure::new("logs", 0.5, "", Wanted::AtLeast(0.9), Value::Null);
        assert!(table(&[figure]).contains("MISSED"));
    }

    #[test]
    fn shares_of_times_are_read_off_the_sorted_list() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(milliseconds(at(&times, 0.5)), 51.0);
        assert_eq!(milliseconds(at(&times, 0.99)), 100.0);
        assert_eq!(at(&[], 0.5), Duration::ZERO);
    }
}
