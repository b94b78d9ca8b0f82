//! Requests that API servers counted, by verb and resource, as their own metrics tell.

use anyhow::Context;
use e2e::{bench::requests::are_of_pods, side::Side};
use std::{collections::BTreeMap, time::Duration};

/// Resources that API servers and controllers write to for themselves, however few pods there are.
const OWN: &[&str] = &[
    "leases",
    "endpoints",
    "endpointslices",
    "apiservices",
    "flowschemas",
    "prioritylevelconfigurations",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "tokenreviews",
    "servicecidrs",
    "",
];

/// Numbers of requests by what they are, such as `PATCH pods/status`.
pub(crate) type Counts = BTreeMap<String, f64>;

/// All requests but watches that the servers have answered so far.
pub(crate) async fn counted(servers: &[&Side]) -> anyhow::Result<Counts> {
    let mut all = Counts::new();
    for side in servers {
        let page = side.text("/metrics").await?;
        for (what, count) in read(&page).with_context(|| format!("metrics of {}", side.name()))? {
            *all.entry(what).or_default() += count;
        }
    }
    Ok(all)
}

fn read(page: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for line in page.lines() {
        let Some(series) = line.strip_prefix("apiserver_request_total{") else {
            continue;
        };
        let (labels, count) = series.rsplit_once("} ").context("a series has a number")?;
        let of = |name: &str| label(labels, name).unwrap_or_default();
        if matches!(of("verb"), "WATCH" | "CONNECT") || OWN.contains(&of("resource")) {
            continue;
        }
        let (resource, subresource) = (of("resource"), of("subresource"));
        let slash = if subresource.is_empty() { "" } else { "/" };
        let what = format!("{} {resource}{slash}{subresource}", of("verb"));
        *counts.entry(what).or_default() += count.trim().parse::<f64>()?;
    }
    Ok(counts)
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let start = labels
        .split(',')
        .find_map(|label| label.trim().strip_prefix(name)?.strip_prefix("=\""))?;
    start.strip_suffix('"')
}

/// What requests are divided by.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) pods: usize,
    pub(crate) tenants: usize,
    pub(crate) time: Duration,
}

/// Requests that aren't the load program's own.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Requests {
    /// For each pod.
    pub(crate) per_pod: Counts,
    /// What comes as time passes, for each tenant and minute.
    pub(crate) per_tenant_and_minute: Counts,
}

/// What came after `before` and isn't the load program's own; fewer than one for two hundred pods, or in two hundred
/// minutes, are left out.
pub(crate) fn between(
    before: &Counts,
    after: &Counts,
    own: &[(&str, usize)],
    extent: Extent,
) -> Requests {
    let mut left: Counts = after.clone();
    for (what, count) in before {
        *left.entry(what.clone()).or_default() -= count;
    }
    for (what, count) in own {
        *left.entry((*what).to_owned()).or_default() -= *count as f64;
    }
    let minutes = extent.tenants as f64 * extent.time.as_secs_f64() / 60.0;
    let mut requests = Requests::default();
    for (what, count) in left {
        let share = count / extent.pods as f64;
        let (counts, figure) = if are_of_pods(&what, share) {
            (&mut requests.per_pod, share)
        } else {
            (&mut requests.per_tenant_and_minute, count / minutes)
        };
        if figure >= 0.005 {
            counts.insert(what, figure);
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 10
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"} 3
"#;
    const AFTER: &str = r#"apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 210
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="binding",verb="POST",version="v1"} 199
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="binding",verb="POST",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 99
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} 6
"#;
    const EXTENT: Extent = Extent {
        pods: 100,
        tenants: 2,
        time: Duration::from_secs(30),
    };

    fn counts<const N: usize>(all: [(&str, f64); N]) -> Counts {
        all.map(|(what, n)| (what.to_owned(), n)).into()
    }

    #[test]
    fn requests_of_others_are_what_is_left() {
        let (before, after) = (read(BEFORE).unwrap(), read(AFTER).unwrap());
        let left = between(&before, &after, &[("POST pods", 100)], EXTENT);
        assert_eq!(
            left.per_pod,
            counts([("POST pods", 1.0), ("POST pods/binding", 2.0)])
        );
    }

    #[test]
    fn looks_that_come_as_time_passes_are_counted_apart_from_pods() {
        let after = read(AFTER).unwrap();
        let left = between(&Counts::new(), &after, &[], EXTENT);
        assert_eq!(
            left.per_tenant_and_minute,
            counts([("GET configmaps", 6.0)])
        );
        let few = Extent { pods: 10, ..EXTENT };
        let left = between(&Counts::new(), &after, &[], few);
        assert_eq!(left.per_tenant_and_minute, Counts::new());
        assert!(left.per_pod.contains_key("GET configmaps"), "{left:?}");
    }
}
