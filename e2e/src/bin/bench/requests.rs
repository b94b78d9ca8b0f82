//! Requests that API servers counted, by verb and resource, as their own metrics tell.

use anyhow::Context;
use e2e::side::Side;
use std::collections::BTreeMap;

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

/// What came after `before` and isn't the load program's own, for each pod; what happens to fewer than one pod in two
/// hundred is left out.
pub(crate) fn per_pod(
    before: &Counts,
    after: &Counts,
    own: &[(&str, usize)],
    pods: usize,
) -> Counts {
    let mut left: Counts = after.clone();
    for (what, count) in before {
        *left.entry(what.clone()).or_default() -= count;
    }
    for (what, count) in own {
        *left.entry((*what).to_owned()).or_default() -= *count as f64;
    }
    left.into_iter()
        .map(|(what, count)| (what, count / pods as f64))
        .filter(|(_, share)| *share >= 0.005)
        .collect()
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
"#;

    #[test]
    fn requests_of_others_are_what_is_left() {
        let (before, after) = (read(BEFORE).unwrap(), read(AFTER).unwrap());
        let left = per_pod(&before, &after, &[("POST pods", 100)], 100);
        let expected = [("POST pods", 1.0), ("POST pods/binding", 2.0)];
        assert_eq!(left, expected.map(|(what, n)| (what.to_owned(), n)).into());
    }
}
