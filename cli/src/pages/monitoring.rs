//! Laws over alerts and dashboard: they go by metrics that there are, with labels that these have, and every alert has an
//! entry in the runbook.

use super::{METRICS, page_named, text::repository};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Labels that no daemon sets: Prometheus itself does.
const OF_PROMETHEUS: [&str; 2] = ["le", "pod"];

fn rules() -> Vec<Value> {
    let text = fs::read_to_string(repository().join("manifests/alerts.yaml")).unwrap();
    let rule: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(rule["kind"], "PrometheusRule");
    let groups = rule["spec"]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array());
    rules.flatten().cloned().collect()
}

fn dashboard() -> Value {
    let text = fs::read_to_string(repository().join("manifests/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What the panels of the dashboard ask for, and what their lines are named after.
fn targets() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    targets
        .map(|target| (text(&target["expr"]), text(&target["legendFormat"])))
        .collect()
}

/// Metrics of docs/metrics.md with their labels: `name{label,label}` in a table.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = page_named("docs/metrics.md");
    let rows = page.text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let named = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let metrics = named.filter(|said| said.starts_with("sublet_"));
    let metrics = metrics.map(|said| {
        let (name, labels) = said.split_once('{').unwrap_or((said, ""));
        let labels = labels.trim_end_matches('}').split(',');
        (name.to_owned(), labels.map(str::to_owned).collect())
    });
    metrics.collect()
}

/// The metrics of an expression, each with the labels that it selects by.
fn selected(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = expression.match_indices("sublet_").map(|(at, _)| at);
    let selectors = begins.map(|at| {
        let rest = &expression[at..];
        let (name, rest) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let matchers = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let matchers = matchers.unwrap_or_default().split("\",");
        let labels = matchers.filter_map(|matcher| matcher.split(['=', '!']).next());
        let labels = labels.filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(str::to_owned).collect())
    });
    selectors.collect()
}

/// What an expression groups by.
fn grouped(expression: &str) -> Vec<&str> {
    let groups = expression.split(" by (").skip(1);
    let groups = groups.filter_map(|rest| rest.split(')').next());
    groups.flat_map(|group| group.split(", ")).collect()
}

/// What a text for people names: `{{ $labels.x }}` in alerts, `{{x}}` in legends.
fn named(text: &str) -> Vec<&str> {
    let places = text.split("{{").skip(1);
    let places = places.filter_map(|rest| rest.split("}}").next());
    let names = places.map(|place| place.trim().trim_start_matches("$labels."));
    names.filter(|name| !name.starts_with("$value")).collect()
}

/// Fails unless each metric is one that is documented, with the labels that are asked for. A histogram is asked for by its
/// parts.
fn judge(place: &str, expression: &str, shown: &str) {
    let known = documented();
    let metrics = selected(expression);
    assert!(
        !metrics.is_empty(),
        "{place}: {expression} asks for no metric"
    );
    let mut labels: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for (name, selected) in metrics {
        let ends = ["_bucket", "_count", "_sum"];
        let bare = ends.iter().find_map(|end| name.strip_suffix(*end));
        let of = known.get(bare.unwrap_or(&name));
        let of = of.unwrap_or_else(|| panic!("{place}: {name} isn't in docs/metrics.md"));
        for label in selected {
            assert!(of.contains(&label), "{place}: {name} has no label {label}");
        }
        labels.extend(of.iter().cloned());
    }
    for label in grouped(expression).into_iter().chain(named(shown)) {
        assert!(labels.contains(label), "{place}: {label} of {expression}?");
    }
    let rest = METRICS
        .iter()
        .fold(expression.to_owned(), |rest, (prefix, _)| {
            rest.replace(prefix, "")
        });
    assert!(!rest.contains("sublet_"), "{place}: {expression}");
}

#[test]
fn alerts_go_by_metrics_that_there_are() {
    let rules = rules();
    assert!(rules.len() > 15);
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        judge(name, rule["expr"].as_str().unwrap(), summary);
        let severity = rule["labels"]["severity"].as_str().unwrap();
        let known = ["critical", "warning", "info"];
        assert!(known.contains(&severity), "{name}: {severity}");
    }
}

#[test]
fn the_dashboard_goes_by_metrics_that_there_are_and_shows_all_of_them() {
    let mut shown = BTreeSet::new();
    for (expression, legend) in targets() {
        judge("dashboard", &expression, &legend);
        shown.extend(selected(&expression).into_iter().map(|(name, _)| name));
    }
    for metric in documented().keys() {
        let parts = ["", "_bucket"].map(|end| format!("{metric}{end}"));
        assert!(
            parts.iter().any(|part| shown.contains(part)),
            "the dashboard shows nothing of {metric}"
        );
    }
}

#[test]
fn the_panels_lie_beside_each_other() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in side("x")..side("x") + side("w") {
            assert!(x < 24, "{}", panel["title"]);
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_no_entry_is_of_another() {
    let page = page_named("docs/runbook.md");
    let entries = page.text.split("\n## ").skip(1);
    let entries: BTreeMap<&str, &str> =
        entries.filter_map(|entry| entry.split_once('\n')).collect();
    let rules = rules();
    let alerts: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    let told: BTreeSet<&str> = entries.keys().copied().collect();
    assert_eq!(alerts, told);
    for (name, entry) in entries {
        for part in ["**Means**: ", "**Look**: ", "**Do**: "] {
            assert!(entry.contains(part), "{name} lacks {part}");
        }
    }
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let place = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], place);
    }
}

/// An alert names the least that the syncer ever sends at once.
#[test]
fn the_least_that_is_sent_at_once_is_the_syncers() {
    let source = fs::read_to_string(repository().join("syncer/src/pace.rs")).unwrap();
    let least = source.split("const LEAST: usize = ").nth(1).unwrap();
    let least = least.split(';').next().unwrap();
    let rules = rules();
    let slow = rules
        .iter()
        .find(|rule| rule["alert"] == "SubletSuperClusterSlow");
    let expression = slow.unwrap()["expr"].as_str().unwrap();
    assert!(expression.starts_with(&format!(
        "min(sublet_syncer_super_request_limit) <= {least} "
    )));
}
