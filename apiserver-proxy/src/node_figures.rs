//! What a virtual node's kubelet tells of the node: `/stats/summary` and `/metrics/resource`; pure.
//!
//! Both are made of the figures of the tenant's own pods on the node, and of nothing else. The super cluster's metrics
//! API knows rates where a kubelet counts: seconds of CPU are counted up here, from when they are first asked for.

use crate::{
    index::Tenant,
    usage::{PodUsage, Sum},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::HashMap, fmt::Write, net::Ipv6Addr, time::Duration};
use tenancy::naming;
use tokio::time::Instant;

/// Counters that nobody asks for are forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Seconds of CPU that were counted.
#[derive(Default)]
pub(crate) struct Counters(Mutex<HashMap<Counted, Counter>>);

/// What is counted: tenant, UID of the pod (of a node: its name), container (of a pod and a node: none).
type Counted = (String, String, String);

struct Counter {
    /// Seconds since 1970 at which it was zero.
    since: f64,
    /// Up to when it was counted.
    until: f64,
    seconds: f64,
    asked: Instant,
}

/// The tenant's pods on the node that is called so.
pub(crate) fn on_node(pods: Vec<PodUsage>, called: &str) -> Vec<PodUsage> {
    let is_here = |pod: &PodUsage| is_node(&pod.node, called);
    pods.into_iter().filter(is_here).collect()
}

/// Whether `called` is the label of the node's host name, or its address.
pub(crate) fn is_node(node: &str, called: &str) -> bool {
    match called.parse::<Ipv6Addr>() {
        Ok(address) => naming::node_address(node) == address,
        Err(_) => naming::node_of_host(&naming::node_host(node)) == Some(called),
    }
}

/// `/stats/summary`, without what would tell of the machine: file systems, network, processes.
pub(crate) fn summary(node: &str, pods: &[PodUsage], now: Timestamp) -> Value {
    let figures = |sum: Sum, time: &str| {
        let (cores, bytes) = (number(sum.nanocores), number(sum.bytes));
        (
            json!({"time": time, "usageNanoCores": cores}),
            json!({"time": time, "usageBytes": bytes, "workingSetBytes": bytes}),
        )
    };
    let pods_of_all = pods.iter().map(|pod| {
        let time = pod.timestamp.as_str();
        let containers = pod.containers.iter().map(|container| {
            let (cpu, memory) = figures(container.sum(), time);
            json!({"name": container.name, "startTime": time, "cpu": cpu, "memory": memory})
        });
        let containers: Vec<Value> = containers.collect();
        let (cpu, memory) = figures(pod.sum(), time);
        json!({
            "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "startTime": time, "containers": containers, "cpu": cpu, "memory": memory,
        })
    });
    let pods_of_all: Vec<Value> = pods_of_all.collect();
    let now = now.to_string();
    let (cpu, memory) = figures(pods.iter().map(PodUsage::sum).sum(), &now);
    json!({
        "node": {"nodeName": node, "startTime": now, "cpu": cpu, "memory": memory},
        "pods": pods_of_all,
    })
}

fn number(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

impl Counters {
    /// `/metrics/resource`: one text, as Prometheus reads it.
    pub(crate) fn resource(
        &self,
        tenant: &Tenant,
        node: &str,
        pods: &[PodUsage],
        now: Timestamp,
    ) -> String {
        let id = tenant.id.as_str();
        let mut families = FAMILIES.map(|(name, kind, help)| {
            format!("# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n")
        });
        for pod in pods {
            let at = pod.timestamp.parse().unwrap_or(now);
            for container in &pod.containers {
                let labels = format!(
                    "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                    container.name, pod.namespace, pod.name
                );
                let of = (id.to_owned(), pod.uid.clone(), container.name.clone());
                let (sum, lines) = (container.sum(), &mut families[..3]);
                let (seconds, since) = self.count(of, sum, at);
                line(&mut lines[0], &labels, seconds, Some(at));
                line(&mut lines[1], &labels, sum.bytes as f64, Some(at));
                line(&mut lines[2], &labels, since, None);
            }
            let labels = format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.namespace, pod.name);
            let of = (id.to_owned(), pod.uid.clone(), String::new());
            let (seconds, _) = self.count(of, pod.sum(), at);
            line(&mut families[3], &labels, seconds, Some(at));
            line(&mut families[4], &labels, pod.sum().bytes as f64, Some(at));
        }
        let whole: Sum = pods.iter().map(PodUsage::sum).sum();
        let newest = pods
            .iter()
            .filter_map(|pod| pod.timestamp.parse::<Timestamp>().ok());
        let at = newest.max().unwrap_or(now);
        let of = (id.to_owned(), format!("node {node}"), String::new());
        let (seconds, _) = self.count(of, whole, at);
        line(&mut families[5], "", seconds, Some(at));
        line(&mut families[6], "", whole.bytes as f64, Some(at));
        line(&mut families[7], "", 0.0, None);
        families.concat()
    }

    /// Seconds counted, and since when.
    fn count(&self, of: Counted, sum: Sum, at: Timestamp) -> (f64, f64) {
        let (mut counters, asked) = (self.0.lock(), Instant::now());
        let at = at.as_millisecond() as f64 / 1000.0;
        let counter = counters.entry(of).or_insert(Counter {
            since: at,
            until: at,
            seconds: 0.0,
            asked,
        });
        if at > counter.until {
            counter.seconds += sum.nanocores as f64 / 1e9 * (at - counter.until);
            counter.until = at;
        }
        counter.asked = asked;
        (counter.seconds, counter.since)
    }

    /// Forgets what nobody has asked for in a while.
    pub(crate) fn forget(&self) {
        let now = Instant::now();
        let mut counters = self.0.lock();
        counters.retain(|_, counter| now.duration_since(counter.asked) < FORGOTTEN);
        counters.shrink_to_fit();
    }
}

/// Names, kinds and meanings, as kubelets have them.
const FAMILIES: [(&str, &str, &str); 8] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    ),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container's counters since unix epoch in seconds",
    ),
    (
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    ),
    (
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
    ),
    (
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the tenant's pods on the node in core-seconds",
    ),
    (
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the tenant's pods on the node in bytes",
    ),
    (
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    ),
];

fn line(family: &mut String, labels: &str, value: f64, at: Option<Timestamp>) {
    let mut name = family.split(' ').nth(2).unwrap_or_default().to_owned();
    name.push_str(labels);
    let written = match at {
        Some(at) => writeln!(family, "{name} {value} {}", at.as_millisecond()),
        None => writeln!(family, "{name} {value}"),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::tests::{PEM_AUTHORITY, route},
        usage::ContainerUsage,
    };

    fn pod(name: &str, node: &str, time: &str) -> PodUsage {
        let usage = [("cpu", "500m"), ("memory", "2Ki")];
        let usage = usage.map(|(name, amount)| (name.to_owned(), amount.to_owned()));
        PodUsage {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            node: node.into(),
            labels: Default::default(),
            timestamp: time.into(),
            window: "15s".into(),
            containers: vec![ContainerUsage {
                name: "main".into(),
                usage: usage.into(),
            }],
        }
    }

    /// T31: pods of other nodes aren't told of, and what a host name hides is found again.
    #[test]
    fn t31_a_node_tells_of_its_own_pods() {
        let pods = || {
            let time = "2026-01-01T00:00:00Z";
            vec![pod("a", "n1", time), pod("b", "ip-10.example", time)]
        };
        let names = |label: &str| -> Vec<String> {
            let here = on_node(pods(), label).into_iter();
            here.map(|pod| pod.name).collect()
        };
        assert_eq!(names("n1"), ["a"]);
        let host = naming::node_host("ip-10.example");
        assert_eq!(names(naming::node_of_host(&host).unwrap()), ["b"]);
        assert_eq!(names(&naming::node_address("n1").to_string()), ["a"]);
        assert!(names("n2").is_empty());
    }

    #[test]
    fn a_summary_has_what_autoscalers_read() {
        let now: Timestamp = "2026-01-01T00:00:09Z".parse().unwrap();
        let pods = [pod("a", "n1", "2026-01-01T00:00:00Z")];
        let summary = summary("n1", &pods, now);
        assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 500_000_000);
        let pod = &summary["pods"][0];
        assert_eq!(
            pod["podRef"],
            json!({"name": "a", "namespace": "shop", "uid": "uid-a"})
        );
        assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 2048);
    }

    #[tokio::test(start_paused = true)]
    async fn seconds_are_counted_up_from_rates() {
        let tenant = Tenant::read(&route(1, "acme", &PEM_AUTHORITY)).unwrap();
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let counters = Counters::default();
        let ask = |time: &str| counters.resource(&tenant, "n1", &[pod("a", "n1", time)], now);
        let labels = "{container=\"main\",namespace=\"shop\",pod=\"a\"}";
        let first = ask("2026-01-01T00:00:00Z");
        let line = format!("container_cpu_usage_seconds_total{labels} 0 1767225600000\n");
        assert!(first.contains(&line), "{first}");
        // Half a core over ten seconds; the same measurement counts once.
        ask("2026-01-01T00:00:10Z");
        let third = ask("2026-01-01T00:00:10Z");
        for line in [
            format!("container_cpu_usage_seconds_total{labels} 5 1767225610000\n"),
            format!("container_memory_working_set_bytes{labels} 2048 1767225610000\n"),
            format!("container_start_time_seconds{labels} 1767225600\n"),
            "node_cpu_usage_seconds_total 5 1767225610000\n".into(),
            "# TYPE pod_cpu_usage_seconds_total counter\n".into(),
            "resource_scrape_error 0\n".into(),
        ] {
            assert!(third.contains(&line), "{line}in\n{third}");
        }
        tokio::time::advance(FORGOTTEN).await;
        counters.forget();
        assert!(counters.0.lock().is_empty());
    }
}
