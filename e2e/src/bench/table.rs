//! What was wanted and what was measured, as a table.

use super::{
    numbers,
    requests::are_of_pods,
    results::{letter, median, origins},
};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// No limit is set.
    Anything,
}

/// How a figure follows from the median of a scenario, by JSON pointers.
#[derive(Clone, Copy)]
enum Figure {
    At(&'static str),
    /// What the first is more than the second.
    Over(&'static str, &'static str),
    /// The first as a multiple of the second.
    Times(&'static str, &'static str),
    /// All numbers of an object together.
    Sum(&'static str),
    /// Requests for each pod together, without those that come as time passes: older documents hold them, too.
    PerPod(&'static str),
}

/// A line of the table: title, unit, scenario, tokens, the figure, what is wanted of it.
struct Line(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Figure,
    Wanted,
);

use Figure::{At, Over, PerPod, Sum, Times};
use Wanted::{Anything, AtLeast, AtMost};

const LINES: &[Line] = &[
    Line(
        "burst: pods/s as a share of direct",
        "",
        "burst",
        "off",
        At("/shareOfDirect"),
        AtLeast(0.45),
    ),
    Line(
        "burst of default pods, with tokens: share of direct",
        "",
        "burst",
        "on",
        At("/shareOfDirect"),
        AtLeast(0.3),
    ),
    Line(
        "burst: create to Ready, p99",
        "ms",
        "burst",
        "off",
        At("/synced/milliseconds/createToReady/p99"),
        AtMost(9_000.0),
    ),
    Line(
        "burst: CPU of the syncer per pod",
        "ms",
        "burst",
        "off",
        At("/synced/cpuMillisecondsPerPod/syncer"),
        AtMost(0.6),
    ),
    Line(
        "burst: requests per pod down",
        "",
        "burst",
        "off",
        PerPod("/synced/requestsPerPod/down"),
        AtMost(1.0),
    ),
    Line(
        "burst: requests per pod up",
        "",
        "burst",
        "off",
        PerPod("/synced/requestsPerPod/up"),
        AtMost(2.0),
    ),
    Line(
        "steady: create to super pod, p50, over direct's",
        "ms",
        "steady",
        "off",
        Over(
            "/synced/milliseconds/createToSuperPod/p50",
            "/direct/milliseconds/createToSuperPod/p50",
        ),
        AtMost(1.5),
    ),
    Line(
        "steady: create to Ready, p50",
        "ms",
        "steady",
        "off",
        At("/synced/milliseconds/createToReady/p50"),
        AtMost(12.0),
    ),
    Line(
        "steady: create to Ready, p99",
        "ms",
        "steady",
        "off",
        At("/synced/milliseconds/createToReady/p99"),
        AtMost(24.0),
    ),
    Line(
        "steady, default pods, with tokens: create to Ready, p50",
        "ms",
        "steady",
        "on",
        At("/synced/milliseconds/createToReady/p50"),
        Anything,
    ),
    Line(
        "steady, default pods, with tokens: create to Ready, p99",
        "ms",
        "steady",
        "on",
        At("/synced/milliseconds/createToReady/p99"),
        Anything,
    ),
    Line(
        "fair: create to Ready of the quiet tenants, p99",
        "ms",
        "fair",
        "off",
        At("/synced/quiet/milliseconds/createToReady/p99"),
        AtMost(400.0),
    ),
    Line(
        "fair: the same with a stopped tenant, by that without",
        "",
        "fair",
        "off",
        Times(
            "/oneStopped/quiet/milliseconds/createToReady/p99",
            "/synced/quiet/milliseconds/createToReady/p99",
        ),
        AtMost(1.2),
    ),
    Line(
        "idle: memory of the syncer, 10 tenants",
        "MiB",
        "idle",
        "off",
        At("/tenants10/syncerPssMiB"),
        AtMost(16.0),
    ),
    Line(
        "idle: memory of the syncer, 50 tenants",
        "MiB",
        "idle",
        "off",
        At("/tenants50/syncerPssMiB"),
        Anything,
    ),
    Line(
        "idle: memory of a tenant's control plane",
        "MiB",
        "control-plane",
        "on",
        Sum("/pssMiB"),
        AtMost(220.0),
    ),
    Line(
        "idle: of it kube-apiserver",
        "MiB",
        "control-plane",
        "on",
        At("/pssMiB/kube-apiserver"),
        Anything,
    ),
    Line(
        "idle: of it etcd",
        "MiB",
        "control-plane",
        "on",
        At("/pssMiB/etcd"),
        Anything,
    ),
    Line(
        "idle: of it kube-controller-manager",
        "MiB",
        "control-plane",
        "on",
        At("/pssMiB/kube-controller-manager"),
        Anything,
    ),
    Line(
        "idle: memory of the syncer, 500 simulated tenants",
        "MiB",
        "idle",
        "off",
        At("/crowd/syncerPssMiB"),
        AtMost(150.0),
    ),
    Line(
        "idle: CPU of the syncer, 500 simulated tenants",
        "% of a core",
        "idle",
        "off",
        At("/crowd/syncerPercentOfACore"),
        AtMost(5.0),
    ),
    Line(
        "reads: memory of the syncer, 10 simulated tenants and 6,000 pods",
        "MiB",
        "reads",
        "off",
        At("/reads/syncerPssMiB6000Pods"),
        AtMost(24.0),
    ),
    Line(
        "reads: memory of the syncer after a start with 10,000 pods",
        "MiB",
        "reads",
        "off",
        At("/reads/syncerPssMiB"),
        Anything,
    ),
    Line(
        "reads: of it for each object",
        "bytes",
        "reads",
        "off",
        At("/reads/bytesPerObject"),
        Anything,
    ),
    Line(
        "reads: CPU of a start for each object",
        "µs",
        "reads",
        "off",
        At("/reads/cpuMicrosecondsPerObject"),
        Anything,
    ),
    Line(
        "ceiling: pods/s and core, down and up",
        "",
        "ceiling",
        "off",
        At("/ceiling/both/podsPerSecondAndCore"),
        AtLeast(6_000.0),
    ),
    Line(
        "restart with 10,000 objects and 200 edits",
        "s",
        "restart",
        "off",
        At("/secondsToAgree"),
        AtMost(3.0),
    ),
    Line(
        "handover: the last tenant of a killed syncer",
        "s",
        "handover",
        "off",
        At("/handover/secondsToLast"),
        AtMost(12.0),
    ),
    Line(
        "handover: doubled writes",
        "",
        "handover",
        "off",
        At("/handover/doubledWrites"),
        AtMost(0.0),
    ),
    Line(
        "proxy: front door, 1 connection: share of direct",
        "",
        "door",
        "on",
        At("/shareOfDirect1/value"),
        AtLeast(0.95),
    ),
    Line(
        "proxy: front door, 1 connection: p50 over direct's",
        "ms",
        "door",
        "on",
        At("/p50OverDirect1/value"),
        AtMost(0.3),
    ),
    Line(
        "proxy: front door, 64 connections: share of direct",
        "",
        "door",
        "on",
        At("/shareOfDirect64/value"),
        AtLeast(0.95),
    ),
    Line(
        "proxy: front door, 64 connections: p50 over direct's",
        "ms",
        "door",
        "on",
        At("/p50OverDirect64/value"),
        AtMost(0.3),
    ),
    Line(
        "proxy: 5,000 idle connections: memory",
        "MB",
        "door",
        "on",
        At("/idle/value"),
        AtMost(60.0),
    ),
    Line(
        "proxy: 10,000 half-open handshakes: p99 of others, more",
        "ms",
        "door",
        "on",
        At("/halfOpen/value"),
        AtMost(20.0),
    ),
    Line(
        "proxy: logs of 100 MB: share of the native rate",
        "",
        "kubelet",
        "on",
        At("/logs/value"),
        AtLeast(0.9),
    ),
    Line(
        "proxy: start of exec, p50 over native",
        "ms",
        "kubelet",
        "on",
        At("/exec/value"),
        AtMost(15.0),
    ),
    Line(
        "proxy: 200 exec sessions at once: share that end well",
        "",
        "kubelet",
        "on",
        At("/sessions/value"),
        AtLeast(1.0),
    ),
    Line(
        "noise: create to Running beside a noisy tenant, p99, by that without",
        "",
        "noise",
        "on",
        At("/ratio"),
        AtMost(1.5),
    ),
    Line(
        "dns: memory of a tenant with 40 Services, of 500",
        "KiB",
        "dns",
        "on",
        At("/memoryKiBPerTenant"),
        Anything,
    ),
    Line(
        "dns: answers a second",
        "",
        "dns",
        "on",
        At("/answersPerSecond"),
        Anything,
    ),
    Line(
        "dns: time of an answer, p99",
        "ms",
        "dns",
        "on",
        At("/milliseconds/p99"),
        Anything,
    ),
    Line(
        "dns: wrong answers",
        "",
        "dns",
        "on",
        At("/wrong"),
        AtMost(0.0),
    ),
];

impl Figure {
    /// The figure, or the first of those that it is made of.
    fn pointer(self) -> &'static str {
        match self {
            At(pointer) | Over(pointer, _) | Times(pointer, _) | Sum(pointer) | PerPod(pointer) => {
                pointer
            }
        }
    }
}

impl Line {
    fn measured(&self, results: &Value) -> Option<f64> {
        let at = |pointer| median(results, self.2, self.3, pointer);
        let number = |pointer| at(pointer)?.as_f64();
        match self.4 {
            At(pointer) => number(pointer),
            Over(one, other) => Some(number(one)? - number(other)?),
            Times(one, other) => Some(number(one)? / number(other)?),
            Sum(pointer) => {
                let numbers = at(pointer)?.as_object()?.values();
                Some(numbers.filter_map(Value::as_f64).sum())
            }
            PerPod(pointer) => {
                let all = at(pointer)?.as_object()?.iter();
                let numbers = all.filter_map(|(what, count)| Some((what, count.as_f64()?)));
                let of_pods = numbers.filter(|(what, count)| are_of_pods(what, *count));
                Some(of_pods.map(|(_, count)| count).sum())
            }
        }
    }
}

impl Wanted {
    /// Whether a figure is as wanted.
    pub fn is_met(self, figure: f64) -> bool {
        match self {
            AtLeast(least) => figure >= least,
            AtMost(most) => figure <= most,
            Anything => true,
        }
    }

    /// In words.
    pub fn shown(self) -> String {
        match self {
            AtLeast(least) => format!("at least {least}"),
            AtMost(most) => format!("at most {most}"),
            Anything => "–".to_owned(),
        }
    }
}

/// What is wanted of a figure of a scenario, if anything is.
pub fn wanted(scenario: &str, pointer: &str) -> Option<Wanted> {
    let mut lines = LINES.iter();
    let line = lines.find(|line| line.2 == scenario && line.4.pointer() == pointer)?;
    Some(line.5)
}

/// The table, as a page of its own.
pub fn draw(results: &Value) -> String {
    let mut text = String::from(
        "# What was measured\n\nMade by `cargo xtask bench chart` from [results.json](results.json), which holds every round. \
         What the figures mean is told in [bench.md](../bench.md).\n\n| figure | wanted | measured | reached | [of](#of) |\n|---|---|---|---|---|\n",
    );
    for line in LINES {
        let (measured, reached) = match line.measured(results) {
            Some(figure) => {
                let rounded = numbers::round(figure);
                let reached = match line.5 {
                    Anything => "–",
                    wanted if wanted.is_met(rounded) => "yes",
                    _ => "no",
                };
                (rounded.to_string(), reached)
            }
            None => ("not measured".to_owned(), "–"),
        };
        let title = match line.1 {
            "" => line.0.to_owned(),
            unit => format!("{}, {unit}", line.0),
        };
        let of = letter(results, line.2, line.3, line.4.pointer());
        let of = of.map_or("–".to_owned(), String::from);
        let _ = writeln!(
            text,
            "| {title} | {} | {measured} | {reached} | {of} |",
            line.5.shown()
        );
    }
    let origins = origins(results);
    if !origins.is_empty() {
        text += "\n## Of\n\n";
    }
    for (letter, origin) in ('A'..='Z').zip(origins) {
        let _ = writeln!(text, "- {letter}: {origin}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::with;
    use super::*;
    use serde_json::json;

    fn one(scenario: &str, median: &Value) -> Value {
        json!({"scenario": scenario, "tokens": "off", "tenants": 10, "figures": {"median": median}})
    }

    #[test]
    fn memory_of_fifty_tenants_and_of_many_pods_has_rows() {
        let idle = json!({"tenants1": {"syncerPssMiB": 15.0}, "tenants50": {"syncerPssMiB": 30.0}});
        let reads = json!({"reads": {
            "syncerPssMiB6000Pods": 23.0, "syncerPssMiB": 90.0, "bytesPerObject": 300, "cpuMicrosecondsPerObject": 400,
        }});
        let table = draw(&with(
            with(json!({}), one("idle", &idle)),
            one("reads", &reads),
        ));
        for line in [
            "| idle: memory of the syncer, 50 tenants, MiB | – | 30 | – | – |",
            "| reads: memory of the syncer, 10 simulated tenants and 6,000 pods, MiB | at most 24 | 23 | yes | – |",
            "| reads: memory of the syncer after a start with 10,000 pods, MiB | – | 90 | – | – |",
            "| reads: of it for each object, bytes | – | 300 | – | – |",
            "| reads: CPU of a start for each object, µs | – | 400 | – | – |",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }

    #[test]
    fn looks_that_come_as_time_passes_are_no_requests_of_pods_in_older_documents_either() {
        let burst = json!({"synced": {"requestsPerPod": {
            "down": {"LIST limitranges": 0.01, "POST pods": 1.0},
            "up": {"GET configmaps": 0.5, "GET namespaces": 0.02, "PATCH pods/status": 1.0},
        }}});
        let table = draw(&with(json!({}), one("burst", &burst)));
        for line in [
            "| burst: requests per pod down | at most 1 | 1 | yes | – |",
            "| burst: requests per pod up | at most 2 | 1.5 | yes | – |",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }

    #[test]
    fn the_table_says_what_is_reached_and_what_is_not_measured() {
        let burst = json!({
            "shareOfDirect": 0.5, "synced": {"requestsPerPod": {"up": {"POST binding": 1.0, "PATCH status": 1.5}}},
        });
        let quiet = |p99: f64| json!({"quiet": {"milliseconds": {"createToReady": {"p99": p99}}}});
        let fair = json!({"synced": quiet(200.0), "oneStopped": quiet(220.0)});
        let results = with(with(json!({}), one("burst", &burst)), one("fair", &fair));
        let table = draw(&results);
        for line in [
            "| burst: pods/s as a share of direct | at least 0.45 | 0.5 | yes | – |",
            "| burst: requests per pod up | at most 2 | 2.5 | no | – |",
            "| fair: the same with a stopped tenant, by that without | at most 1.2 | 1.1 | yes | – |",
            "| ceiling: pods/s and core, down and up | at least 6000 | not measured | – | – |",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }
}
