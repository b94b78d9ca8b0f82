//! What a namespace that is being ended waits for; pure.
//!
//! Its own conditions name finalizers, kinds and what isn't served. What of its pods and Services is there still is looked at
//! as well, so that those are named; of other kinds the manager may read nothing, and says how they are found.

use crate::object::{Object, POD, SERVICE};
use serde_json::Value;

/// Kinds whose objects are named.
pub(crate) const NAMED: [crate::object::Kind; 2] = [POD, SERVICE];
/// So many objects of a namespace are named.
const MOST: usize = 3;
/// Conditions of a namespace, the first cause first: what isn't served can't even be listed.
const SAID: [&str; 5] = [
    NOT_SERVED,
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceFinalizersRemaining",
    LEFT,
    "NamespaceDeletionContentFailure",
];
const NOT_SERVED: &str = "NamespaceDeletionDiscoveryFailure";
const LEFT: &str = "NamespaceContentRemaining";

/// Whether it says that it waits for something.
pub(crate) fn is_held_up(namespace: &Object) -> bool {
    namespace.is_going() && SAID.iter().any(|kind| said(namespace, kind).is_some())
}

/// What it waits for, when it says so, or when something in it has a finalizer: while pods end, it may say nothing. `left`
/// is what is known to be in it and its like.
pub(super) fn of(namespace: &Object, left: &[Object]) -> Option<String> {
    let first = SAID.iter().find_map(|kind| said(namespace, kind));
    let unserved = said(namespace, NOT_SERVED)
        .map(services)
        .unwrap_or_default();
    let mut words: Vec<String> = unserved
        .iter()
        .map(|service| {
            format!(
                "APIService {service} isn't served, and without it nobody knows what is left: mend it or delete it"
            )
        })
        .collect();
    let inside = left
        .iter()
        .filter(|object| object.namespace() == Some(namespace.name()))
        .filter(|object| first.is_some() || !object.items("/metadata/finalizers").is_empty());
    words.extend(inside.filter_map(holds).take(MOST));
    if words.is_empty() {
        words.push(first?.to_owned());
    }
    let others: Vec<&str> = said(namespace, LEFT)
        .map(resources)
        .unwrap_or_default()
        .into_iter()
        .filter(|resource| !NAMED.iter().any(|kind| kind.plural == *resource))
        .collect();
    if !others.is_empty() {
        words.push(format!(
            "`kubectl -n {} get {}` shows what else is left",
            namespace.name(),
            others.join(",")
        ));
    }
    Some(format!(
        "namespace {}: {}",
        namespace.name(),
        words.join("; ")
    ))
}

/// How an object that is to go is there still; `None` when it isn't even asked to go.
pub(crate) fn holds(object: &Object) -> Option<String> {
    if !object.is_going() {
        return None;
    }
    let what = format!("{} {}", object.kind.kind, object.name());
    let finalizers = object.items("/metadata/finalizers").iter();
    let finalizers: Vec<&str> = finalizers.filter_map(Value::as_str).collect();
    let node = object.text("/spec/nodeName");
    Some(match (finalizers.as_slice(), node) {
        ([], "") => format!("{what} ends"),
        ([], node) => format!("{what} ends, if its node {node} is alive"),
        (held, _) => format!("{what} is held by the finalizer {}", held.join(", ")),
    })
}

fn said<'a>(namespace: &'a Object, kind: &str) -> Option<&'a str> {
    let mut all = namespace.items("/status/conditions").iter();
    all.find(|said| said["type"] == kind && said["status"] == "True")?["message"].as_str()
}

/// The APIServices of `…: metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1, …`.
fn services(message: &str) -> Vec<String> {
    let mut found = vec![];
    for word in message.split([' ', ',']) {
        let Some((group, version)) = word.trim_end_matches(':').split_once('/') else {
            continue;
        };
        let is_version = version.starts_with('v')
            && version
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let service = format!("{version}.{group}");
        if group.contains('.') && is_version && !found.contains(&service) {
            found.push(service);
        }
    }
    found
}

/// The resources of `…: configmaps. has 1 resource instances, foos.example.com has 2 resource instances`.
fn resources(message: &str) -> Vec<&str> {
    let parts = message.split([',', ':']);
    let named = parts.filter_map(|part| part.trim().split_once(" has "));
    named
        .map(|(resource, _)| resource.trim_end_matches('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::NAMESPACE;
    use serde_json::json;

    fn namespace(conditions: &[(&str, &str)]) -> Object {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, message)| json!({"type": kind, "status": "True", "message": message}))
            .collect();
        let body = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": conditions},
        });
        Object::new(NAMESPACE, None, "work", body)
    }

    fn left(kind: crate::object::Kind, name: &str, finalizers: &[&str], node: &str) -> Object {
        let body = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers},
            "spec": {"nodeName": node},
        });
        Object::new(kind, Some("work"), name, body)
    }

    #[test]
    fn what_is_not_served_comes_first_and_is_named_as_its_api_service() {
        let held = namespace(&[
            (
                LEFT,
                "Some resources are remaining: pods. has 1 resource instances",
            ),
            (
                NOT_SERVED,
                "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: \
                 custom.metrics.k8s.io/v1beta2: the server is currently unable to handle the request, \
                 metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1",
            ),
        ]);
        let said = of(&held, &[]).unwrap();
        assert!(
            said.starts_with(
                "namespace work: APIService v1beta2.custom.metrics.k8s.io isn't served"
            ),
            "{said}"
        );
        assert_eq!(
            said.matches("APIService v1beta1.metrics.k8s.io").count(),
            1,
            "{said}"
        );
        assert!(!said.contains("kubectl"), "{said}");
    }

    #[test]
    fn pods_and_services_are_named_with_their_finalizers_and_others_by_how_to_find_them() {
        let held = namespace(&[
            (
                LEFT,
                "Some resources are remaining: configmaps. has 1 resource instances, foos.example.com has 2 resource \
                 instances, pods. has 2 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: example.com/audit in 2 resource instances",
            ),
        ]);
        let mut inside = vec![
            left(POD, "one", &["example.com/audit"], "n1"),
            left(POD, "two", &[], "n2"),
            left(
                SERVICE,
                "lb",
                &["service.kubernetes.io/load-balancer-cleanup"],
                "",
            ),
        ];
        let mut elsewhere = left(POD, "elsewhere", &["example.com/x"], "");
        elsewhere.body["metadata"]["namespace"] = json!("other");
        inside.insert(0, elsewhere);
        assert_eq!(
            of(&held, &inside).unwrap(),
            "namespace work: Pod one is held by the finalizer example.com/audit; Pod two ends, if its node n2 is alive; \
             Service lb is held by the finalizer service.kubernetes.io/load-balancer-cleanup; \
             `kubectl -n work get configmaps,foos.example.com` shows what else is left"
        );
        let said = of(&held, &[]).unwrap();
        assert!(
            said.contains("example.com/audit in 2 resource instances"),
            "{said}"
        );
    }

    /// The namespace controller says nothing of what is left while there are pods (KEP-5080).
    #[test]
    fn a_pod_that_a_finalizer_holds_is_named_before_its_namespace_says_anything() {
        let inside = [
            left(POD, "one", &["example.com/audit"], "n1"),
            left(POD, "two", &[], "n2"),
        ];
        assert_eq!(
            of(&namespace(&[]), &inside).unwrap(),
            "namespace work: Pod one is held by the finalizer example.com/audit"
        );
    }

    #[test]
    fn one_that_says_nothing_waits_for_nothing() {
        assert_eq!(of(&namespace(&[]), &[]), None);
        assert_eq!(of(&namespace(&[]), &[left(POD, "one", &[], "n1")]), None);
        assert!(!is_held_up(&namespace(&[("NamespaceOther", "x")])));
        let mut held = namespace(&[(LEFT, "x")]);
        assert!(is_held_up(&held));
        held.body["metadata"] = json!({});
        assert!(!is_held_up(&held));
    }
}
