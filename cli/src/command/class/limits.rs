//! What a class limits and prescribes, for its page: nothing of what it leaves open.

use api::{ControlPlaneClassSpec, PodRules, Quantities};

/// Lines of the page: what, and how much.
pub(super) fn lines(spec: &ControlPlaneClassSpec) -> Vec<(&'static str, String)> {
    let PodRules {
        images,
        runtime_class_name,
        priority_class_name,
        tolerations,
        bandwidth,
        containers,
    } = &spec.pods;
    let from = match images.registries.as_slice() {
        [] => None,
        registries => Some(format!("from {}", registries.join(", "))),
    };
    let pulled = images.always_pull.then(|| "pulled each time".to_owned());
    let tolerations = tolerations.iter().map(|toleration| {
        let value = toleration.value.as_deref();
        let value = value.map(|value| format!("={value}")).unwrap_or_default();
        format!("{}{value}", toleration.key)
    });
    let up_to = |word: &str, rate: &Option<String>| {
        let rate = rate.as_deref();
        rate.map(|rate| format!("{word} {rate}"))
    };
    let part = |word: &str, amounts: &Quantities| {
        (!amounts.is_empty()).then(|| format!("{word} {}", list(amounts)))
    };
    let lines = [
        ("Quota:", list(&spec.quota)),
        ("Hosts:", spec.ingress_hosts.join(", ")),
        ("Images:", joined([from, pulled])),
        ("Runtime:", runtime_class_name.clone().unwrap_or_default()),
        ("Priority:", priority_class_name.clone().unwrap_or_default()),
        ("Tolerations:", tolerations.collect::<Vec<_>>().join(", ")),
        (
            "Bandwidth:",
            joined([
                up_to("in", &bandwidth.ingress),
                up_to("out", &bandwidth.egress),
            ]),
        ),
        (
            "Containers:",
            joined([
                part("requests", &containers.requests),
                part("limits", &containers.limits),
                part("at most", &containers.max),
            ]),
        ),
    ];
    let said = lines.into_iter().filter(|(_, value)| !value.is_empty());
    said.collect()
}

fn list(amounts: &Quantities) -> String {
    let amounts = amounts.0.iter();
    let amounts = amounts.map(|(name, amount)| format!("{name} {amount}"));
    amounts.collect::<Vec<_>>().join(", ")
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts = parts.into_iter().flatten();
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_limited_is_shown() {
        assert!(lines(&ControlPlaneClassSpec::default()).is_empty());
        let spec: ControlPlaneClassSpec = serde_json::from_value(json!({
            "versions": [], "quota": {"pods": "20"},
            "pods": {
                "images": {"registries": ["a.example"], "alwaysPull": true}, "priorityClassName": "paid",
                "tolerations": [{"key": "customer", "value": "acme"}, {"key": "gpu"}],
                "bandwidth": {"egress": "10M"}, "containers": {"limits": {"memory": "1Gi"}, "max": {"cpu": "4"}},
            },
        }))
        .unwrap();
        let shown = lines(&spec).into_iter();
        let shown: Vec<String> = shown
            .map(|(what, value)| format!("{what} {value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "Quota: pods 20",
                "Images: from a.example; pulled each time",
                "Priority: paid",
                "Tolerations: customer=acme, gpu",
                "Bandwidth: out 10M",
                "Containers: limits memory 1Gi; at most cpu 4",
            ]
        );
    }
}
