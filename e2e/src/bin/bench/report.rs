//! Tables for people, made from the document for programs.

use serde_json::Value;
use std::fmt::Write;

/// Columns of figures, by where they are in a run's figures.
const ROWS: &[(&str, &str)] = &[
    ("pods/s to Ready", "/podsPerSecond"),
    (
        "create to super pod, p50 ms",
        "/milliseconds/createToSuperPod/p50",
    ),
    (
        "create to super pod, p99 ms",
        "/milliseconds/createToSuperPod/p99",
    ),
    (
        "super pod to token, p50 ms",
        "/milliseconds/superPodToToken/p50",
    ),
    (
        "super pod to token, p99 ms",
        "/milliseconds/superPodToToken/p99",
    ),
    ("create to pod, p50 ms", "/milliseconds/createToPod/p50"),
    (
        "pod to super pod, p50 ms",
        "/milliseconds/podToSuperPod/p50",
    ),
    (
        "super pod to Ready, p50 ms",
        "/milliseconds/superPodToReady/p50",
    ),
    ("status up, p50 ms", "/milliseconds/statusUp/p50"),
    ("status up, p99 ms", "/milliseconds/statusUp/p99"),
    ("create to Ready, p50 ms", "/milliseconds/createToReady/p50"),
    ("create to Ready, p99 ms", "/milliseconds/createToReady/p99"),
    ("CPU per pod, syncer, ms", "/cpuMillisecondsPerPod/syncer"),
    (
        "CPU per pod, super API server and etcd, ms",
        "/cpuMillisecondsPerPod/superServer",
    ),
    (
        "CPU per pod, tenants' API servers and etcds, ms",
        "/cpuMillisecondsPerPod/tenantServers",
    ),
    (
        "CPU per pod, load program, ms",
        "/cpuMillisecondsPerPod/load",
    ),
    ("syncer's memory (PSS), MiB", "/syncerPssMiB"),
    ("share of the machine that others used", "/cpuOfOthers"),
];

/// Routes of a run, in the order of columns.
const COLUMNS: &[(&str, &str)] = &[
    ("direct", "/direct"),
    ("synced", "/synced"),
    ("quiet, direct", "/direct/quiet"),
    ("quiet, synced", "/synced/quiet"),
    ("quiet, one stopped", "/oneStopped/quiet"),
    ("busy, synced", "/synced/busy"),
    ("1 tenant", "/tenants1"),
    ("10 tenants", "/tenants10"),
    ("50 tenants", "/tenants50"),
];

/// Groups of figures that are a list rather than a column.
const LISTS: &[(&str, &str)] = &[
    ("1 tenant", "/tenants1"),
    ("10 tenants", "/tenants10"),
    ("50 tenants", "/tenants50"),
    ("idle", "/crowd"),
    ("down", "/ceiling/down"),
    ("up", "/ceiling/up"),
    ("both", "/ceiling/both"),
    ("ceiling", "/ceiling"),
    ("reads", "/reads"),
    ("handover", "/handover"),
];

/// Requests by what they are.
const REQUESTS: [(&str, &str); 2] = [
    ("requests per pod", "requestsPerPod"),
    ("per tenant and minute", "requestsPerTenantAndMinute"),
];

/// A table of the medians of one scenario.
pub(crate) fn table(measured: &Value) -> String {
    let median = &measured["figures"]["median"];
    let mut text = format!(
        "\n{}, tokens {}, {} tenants\n",
        plain(&measured["scenario"]),
        plain(&measured["tokens"]),
        measured["tenants"],
    );
    let columns: Vec<(&str, &Value)> = COLUMNS
        .iter()
        .filter_map(|(title, place)| Some((*title, median.pointer(place)?)))
        .collect();
    let rows: Vec<(&str, Vec<String>)> = ROWS
        .iter()
        .map(|(title, place)| {
            let cells = columns.iter().map(|(_, run)| cell(run.pointer(place)));
            (*title, cells.collect())
        })
        .filter(|(_, cells): &(&str, Vec<String>)| cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    if !rows.is_empty() {
        text += &line("", columns.iter().map(|(title, _)| *title));
    }
    for (title, cells) in &rows {
        text += &line(title, cells.iter().map(String::as_str));
    }
    for (title, figure) in single(median) {
        let _ = writeln!(text, "{title:<48} {figure:>18}");
    }
    text
}

fn line<'a>(title: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:>18}")).collect();
    format!("{title:<48}{cells}\n")
}

/// Figures that are one number, and requests by what they are.
fn single(median: &Value) -> Vec<(String, String)> {
    let mut lines = vec![];
    let own = median.as_object().into_iter().flatten();
    for (name, value) in own.filter(|(_, value)| value.is_number()) {
        lines.push((name.clone(), cell(Some(value))));
    }
    for (title, figure) in REQUESTS {
        for direction in ["down", "up"] {
            let counts = median["synced"][figure][direction].as_object();
            for (what, count) in counts.into_iter().flatten() {
                lines.push((format!("{title} {direction}: {what}"), cell(Some(count))));
            }
        }
    }
    for (title, place) in LISTS {
        let look = median.pointer(place).and_then(Value::as_object);
        let numbers = look.into_iter().flatten();
        for (what, figure) in numbers.filter(|(_, figure)| figure.is_number()) {
            lines.push((format!("{title}: {what}"), cell(Some(figure))));
        }
    }
    lines
}

fn cell(value: Option<&Value>) -> String {
    value
        .and_then(Value::as_f64)
        .map_or_else(String::new, |figure| figure.to_string())
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_shows_what_there_is() {
        let median = json!({
            "direct": {"podsPerSecond": 300.0}, "shareOfDirect": 0.5,
            "synced": {
                "podsPerSecond": 150.0, "requestsPerPod": {"down": {"POST pods": 1.0}},
                "requestsPerTenantAndMinute": {"up": {"GET configmaps": 6.0}},
            },
        });
        let measured = json!({"scenario": "burst", "tokens": "off", "tenants": 10, "figures": {"median": median}});
        let table = table(&measured);
        for words in [
            "burst, tokens off, 10 tenants",
            "pods/s to Ready",
            "300",
            "150",
            "shareOfDirect",
            "down: POST pods",
            "per tenant and minute up: GET configmaps",
        ] {
            assert!(table.contains(words), "{table}");
        }
        assert!(!table.contains("status up"), "{table}");
    }

    #[test]
    fn figures_of_a_group_are_listed() {
        let down = json!({"podsPerSecondAndCore": 6000.0});
        let median = json!({"ceiling": {"pods": 10.0, "down": down}});
        let measured = json!({"scenario": "ceiling", "tokens": "off", "tenants": 10, "figures": {"median": median}});
        let table = table(&measured);
        for words in ["ceiling: pods", "down: podsPerSecondAndCore"] {
            assert!(table.contains(words), "{table}");
        }
    }
}
