//! The results that the repository keeps of a release, and what is made of them: a chart for the README, and a table of
//! what was wanted and what was measured.

use crate::{chart, table};
use anyhow::Context;
use e2e::document;
use serde_json::{Value, json};
use std::path::Path;

/// Where they are, below the root of the repository.
const FILE: &str = "docs/bench/results.json";
const CHART: &str = "docs/bench/results.svg";
const TABLE: &str = "docs/bench/results.md";

/// Takes what was measured into the results of the repository, and draws chart and table anew.
pub(crate) fn keep(root: &Path, machine: &Value, measured: &Value) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let results = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {FILE}"))?,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(err) => return Err(err).with_context(|| format!("reading {FILE}")),
    };
    let mut measured = measured.clone();
    measured["version"] = env!("CARGO_PKG_VERSION").into();
    measured["machine"] = machine.clone();
    let text = serde_json::to_string_pretty(&with(results, measured))?;
    document::write(&path, &format!("{text}\n"))?;
    redraw(root)
}

/// Draws chart and table from the results of the repository.
pub(crate) fn redraw(root: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(root.join(FILE)).with_context(|| format!("reading {FILE}"))?;
    let results = serde_json::from_str(&text).with_context(|| format!("reading {FILE}"))?;
    document::write(&root.join(CHART), &chart::draw(&results))?;
    document::write(&root.join(TABLE), &table::draw(&results))
}

/// Results with what was measured in place of what was measured before of the same.
pub(crate) fn with(mut results: Value, measured: Value) -> Value {
    let what = |one: &Value| ["scenario", "tokens", "tenants"].map(|field| one[field].to_string());
    let mut all = match results["measured"].take() {
        Value::Array(all) => all,
        _ => vec![],
    };
    match all.iter_mut().find(|one| what(one) == what(&measured)) {
        Some(one) => *one = measured,
        None => all.push(measured),
    }
    all.sort_by_key(what);
    json!({"measured": all})
}

/// The newest figure of a scenario that has it.
pub(crate) fn median<'a>(
    document: &'a Value,
    scenario: &str,
    tokens: &str,
    pointer: &str,
) -> Option<&'a Value> {
    let measured = document["measured"].as_array()?.iter().rev();
    measured
        .filter(|one| one["scenario"] == scenario && one["tokens"] == tokens)
        .find_map(|one| one["figures"]["median"].pointer(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(scenario: &str, median: &Value) -> Value {
        json!({"scenario": scenario, "tokens": "off", "tenants": 10, "figures": {"median": median}})
    }

    #[test]
    fn chart_and_table_are_those_of_the_results() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            redraw(root).unwrap();
        }
        let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
        let results: Value = serde_json::from_str(&read(FILE)).unwrap();
        assert_eq!(
            read(CHART),
            chart::draw(&results),
            "cargo xtask bench chart"
        );
        assert_eq!(
            read(TABLE),
            table::draw(&results),
            "cargo xtask bench chart"
        );
        let gaps = |one: &Value| {
            let gaps = one["figures"]["notSimulated"].as_array();
            gaps.is_some_and(|gaps| !gaps.is_empty())
        };
        let measured = results["measured"].as_array().unwrap();
        assert!(
            !measured.iter().any(gaps),
            "a figure with gaps counts nothing"
        );
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_what_was() {
        let results = with(json!({}), one("steady", &json!({"a": 1})));
        let results = with(results, one("burst", &json!({"a": 2})));
        let results = with(results, one("steady", &json!({"a": 3})));
        assert_eq!(results["measured"].as_array().unwrap().len(), 2);
        let at = |scenario| median(&results, scenario, "off", "/a");
        assert_eq!(
            (at("burst"), at("steady")),
            (Some(&json!(2)), Some(&json!(3)))
        );
    }
}
