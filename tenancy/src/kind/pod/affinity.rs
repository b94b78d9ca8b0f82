//! Affinity to other pods and spreading among them: kept inside the tenant.
//!
//! A selector that reaches other tenants' pods tells where they run, one scheduling decision at a time (T12). So every
//! selector also asks for the tenant's label, namespaces become their twins, and a namespace selector becomes the list
//! of the tenant's namespaces that it matches now. That list is not followed: affinity can't be changed on a pod.

use super::{
    fields::{Fields, Rule, items, items_mut, text},
    placement::{NODE_AFFINITY, REQUIREMENT},
};
use crate::{kind::Cx, meta, object::Object, selector};
use api::keys;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Affinity.
pub(super) const AFFINITY: Fields = &[
    ("nodeAffinity", Rule::Object(NODE_AFFINITY)),
    ("podAffinity", Rule::Object(POD_AFFINITY)),
    ("podAntiAffinity", Rule::Object(POD_AFFINITY)),
];

/// TopologySpreadConstraint.
pub(super) const SPREAD: Fields = &[
    ("labelSelector", Rule::Object(LABEL_SELECTOR)),
    ("matchLabelKeys", RESOLVED),
    ("maxSkew", Rule::Pass),
    ("minDomains", Rule::Pass),
    ("nodeAffinityPolicy", Rule::Pass),
    ("nodeTaintsPolicy", Rule::Pass),
    ("topologyKey", Rule::Translated(&Rule::Pass)),
    ("whenUnsatisfiable", Rule::Pass),
];

const POD_AFFINITY: Fields = &[
    (
        "preferredDuringSchedulingIgnoredDuringExecution",
        Rule::List(&[
            ("podAffinityTerm", Rule::Object(TERM)),
            ("weight", Rule::Pass),
        ]),
    ),
    (
        "requiredDuringSchedulingIgnoredDuringExecution",
        Rule::List(TERM),
    ),
];

const TERM: Fields = &[
    ("labelSelector", Rule::Object(LABEL_SELECTOR)),
    ("matchLabelKeys", RESOLVED),
    ("mismatchLabelKeys", RESOLVED),
    (
        "namespaceSelector",
        Rule::Translated(&Rule::Object(NAMESPACE_SELECTOR)),
    ),
    ("namespaces", Rule::Translated(&Rule::Pass)),
    ("topologyKey", Rule::Translated(&Rule::Pass)),
];

/// Label keys that become requirements of the label selector.
const RESOLVED: Rule = Rule::Translated(&Rule::Pass);

const LABEL_SELECTOR: Fields = &[
    ("matchExpressions", Rule::List(REQUIREMENT)),
    ("matchLabels", Rule::Translated(&Rule::Pass)),
];

/// A LabelSelector of which nothing is left but the names that it matches.
const NAMESPACE_SELECTOR: Fields = &[
    (
        "matchExpressions",
        Rule::Translated(&Rule::List(&[
            ("key", Rule::Translated(&Rule::Pass)),
            ("operator", Rule::Translated(&Rule::Pass)),
            ("values", Rule::Translated(&Rule::Pass)),
        ])),
    ),
    ("matchLabels", Rule::Translated(&Rule::Pass)),
];

/// Confines every affinity term and spread constraint of the pod to its tenant.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec
            .get_mut("affinity")
            .and_then(|affinity| affinity.get_mut(kind))
        else {
            continue;
        };
        for term in items_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            confine_term(term, pod, cx);
        }
        for weighted in items_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            weighted
                .get_mut("podAffinityTerm")
                .into_iter()
                .for_each(|term| confine_term(term, pod, cx));
        }
    }
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        confine_selector(constraint, pod, cx);
    }
}

fn confine_term(term: &mut Value, pod: &Object, cx: &Cx<'_>) {
    confine_selector(term, pod, cx);
    let selected = term
        .as_object_mut()
        .and_then(|term| term.remove("namespaceSelector"));
    let mut namespaces: BTreeSet<String> = items(term, "namespaces")
        .filter_map(Value::as_str)
        .map(|name| meta::super_namespace(name, cx))
        .collect();
    if let Some(selector) = &selected {
        namespaces.extend(
            cx.facts
                .namespaces(selector)
                .iter()
                .map(|name| meta::super_namespace(name, cx)),
        );
        if namespaces.is_empty() {
            // An empty list would mean the pod's own namespace. No tenant namespace has an empty name, so no super
            // namespace is ever called this.
            namespaces.insert(meta::super_namespace("", cx));
        }
    }
    if !namespaces.is_empty() {
        term["namespaces"] = namespaces.into_iter().collect();
    }
}

/// Adds the tenant's label to `labelSelector`, and what `matchLabelKeys` and `mismatchLabelKeys` stand for; all other keys
/// become those of super pods.
///
/// A missing selector matches no pod and stays missing. The API server resolves the label keys into the selector when a
/// pod is made and refuses a selector that holds them already, so the tenant's resolved form crosses without the keys.
fn confine_selector(term: &mut Value, pod: &Object, cx: &Cx<'_>) {
    let resolved: Vec<Value> = [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")]
        .into_iter()
        .flat_map(|(field, operator)| {
            items(term, field)
                .filter_map(Value::as_str)
                .map(move |key| (key, operator))
        })
        .filter_map(|(key, operator)| {
            Some(json!({"key": key, "operator": operator, "values": [pod.label(key)?]}))
        })
        .collect();
    let Some(term) = term.as_object_mut() else {
        return;
    };
    term.remove("matchLabelKeys");
    term.remove("mismatchLabelKeys");
    let Some(selector) = term.get_mut("labelSelector") else {
        return;
    };
    let mut expressions: Vec<Value> = items(selector, "matchExpressions").cloned().collect();
    for requirement in resolved {
        let same = |other: &Value| {
            text(other, "key") == text(&requirement, "key")
                && text(other, "operator") == text(&requirement, "operator")
                && other.get("values") == requirement.get("values")
        };
        if !expressions.iter().any(same) {
            expressions.push(requirement);
        }
    }
    if !expressions.is_empty() {
        selector["matchExpressions"] = expressions.into();
    }
    selector::carry(selector);
    if !selector["matchLabels"].is_object() {
        selector["matchLabels"] = json!({});
    }
    selector["matchLabels"][keys::TENANT] = cx.rules.id.as_str().into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        pod::tests::{down, down_as, pod, yaml},
        testing::{Answers, tenant},
    };

    fn super_name(namespace: &str) -> String {
        let (tenant, facts) = (tenant(), Answers::default());
        meta::super_namespace(
            namespace,
            &Cx {
                rules: &tenant,
                facts: &facts,
            },
        )
    }

    /// One required term of pod anti-affinity, translated, with these namespaces matching any selector.
    fn term(term: &str, matching: &[&str]) -> Value {
        let spec = format!(
            "affinity: {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}"
        );
        let down = down_as(&pod(&spec), |_, facts| {
            facts.namespaces = matching.iter().map(|name| (*name).to_owned()).collect();
        });
        down.unwrap()
            .at("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0")
            .unwrap()
            .clone()
    }

    #[test]
    fn every_selector_asks_for_the_tenant() {
        let id = tenant().id;
        let confined = json!({keys::TENANT: id.as_str()});
        let forged = meta::selected(keys::TENANT).unwrap();
        for (selector, labels) in [
            ("{}", confined),
            (
                "{matchLabels: {sublet.dev/tenant: other}}",
                json!({forged: "other", keys::TENANT: id.as_str()}),
            ),
            (
                "{matchLabels: {app: db}}",
                json!({"app": "db", keys::TENANT: id.as_str()}),
            ),
        ] {
            let translated = term(
                &format!("{{topologyKey: k, labelSelector: {selector}}}"),
                &[],
            );
            assert_eq!(
                translated["labelSelector"]["matchLabels"], labels,
                "{selector}"
            );
            assert_eq!(translated.get("namespaces"), None);
        }
        // A missing selector matches nothing; an added one would match.
        assert_eq!(term("{topologyKey: k}", &[]).get("labelSelector"), None);
    }

    #[test]
    fn preferred_terms_and_spread_constraints_are_confined_too() {
        let down = down(&pod("
          affinity:
            podAffinity:
              preferredDuringSchedulingIgnoredDuringExecution:
              - {weight: 1, podAffinityTerm: {topologyKey: k, labelSelector: {}, namespaces: [other]}}
          topologySpreadConstraints:
          - {maxSkew: 1, topologyKey: k, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}
          - {maxSkew: 1, topologyKey: l, whenUnsatisfiable: DoNotSchedule}"));
        let at = |pointer: &str| down.at(&format!("/spec/{pointer}")).cloned();
        let confined = json!({"matchLabels": {keys::TENANT: tenant().id.as_str()}});
        let term = "affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
        assert_eq!(at(&format!("{term}/labelSelector")), Some(confined.clone()));
        assert_eq!(
            at(&format!("{term}/namespaces")),
            Some(json!([super_name("other")]))
        );
        assert_eq!(
            at("topologySpreadConstraints/0/labelSelector"),
            Some(confined)
        );
        assert_eq!(at("topologySpreadConstraints/1/labelSelector"), None);
    }

    #[test]
    fn a_namespace_selector_becomes_a_list_of_the_tenants_own() {
        let both = term(
            "{topologyKey: k, namespaces: [a], namespaceSelector: {}}",
            &["a", "b"],
        );
        let mut wanted = [super_name("a"), super_name("b")];
        wanted.sort();
        assert_eq!(both["namespaces"], json!(wanted));
        assert_eq!(both.get("namespaceSelector"), None);
        // Matching nothing must not come to mean the pod's own namespace.
        let none = term(
            "{topologyKey: k, namespaceSelector: {matchLabels: {a: b}}}",
            &[],
        );
        assert_eq!(
            none["namespaces"],
            json!([super_name("")]),
            "{}",
            yaml(&none)
        );
    }

    #[test]
    fn pods_are_meant_by_the_labels_that_super_pods_have() {
        let (job, index) = (
            "jobset.sigs.k8s.io/jobset-name",
            "leaderworkerset.sigs.k8s.io/group-index",
        );
        let selector = format!("{{matchLabels: {{{job}: j}}}}");
        let alike = format!("matchLabelKeys: [{index}]");
        let terms = ["podAffinity", "podAntiAffinity"].map(|kind| {
            format!(
                "{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: k, labelSelector: {selector}, {alike}}}]}}"
            )
        });
        let mut pod = pod(&format!(
            "
          topologySpreadConstraints:
          - {{maxSkew: 1, topologyKey: k, whenUnsatisfiable: DoNotSchedule, labelSelector: {selector}, {alike}}}
          affinity: {{{}}}",
            terms.join(", ")
        ));
        pod.value_mut()["metadata"]["labels"] = json!({job: "j", index: "1"});
        let down = down(&pod);
        let carried = [job, index].map(|key| meta::pod_label(key).unwrap());
        assert_eq!(
            carried.each_ref().map(|key| down.label(key)),
            [Some("j"), Some("1")]
        );
        let [job, index] = carried;
        let same_index = json!([{"key": index, "operator": "In", "values": ["1"]}]);
        let asked = json!({
            "matchLabels": {job: "j", keys::TENANT: tenant().id.as_str()}, "matchExpressions": same_index,
        });
        for place in [
            "topologySpreadConstraints/0",
            "affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0",
            "affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0",
        ] {
            let found = down.at(&format!("/spec/{place}/labelSelector"));
            assert_eq!(found, Some(&asked), "{place}");
        }
    }

    #[test]
    fn label_keys_cross_resolved() {
        let mut pod = pod("
          topologySpreadConstraints:
          - {maxSkew: 1, topologyKey: k, whenUnsatisfiable: DoNotSchedule, labelSelector: {}, matchLabelKeys: [hash, absent]}
          affinity:
            podAntiAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
              - topologyKey: k
                matchLabelKeys: [hash]
                mismatchLabelKeys: [team]
                labelSelector:
                  matchExpressions: [{key: hash, operator: In, values: [x1]}]");
        pod.value_mut()["metadata"]["labels"] = json!({"hash": "x1", "team": "a"});
        let down = down(&pod);
        let hash = json!({"key": "hash", "operator": "In", "values": ["x1"]});
        let team = json!({"key": "team", "operator": "NotIn", "values": ["a"]});
        let spread = down.at("/spec/topologySpreadConstraints/0").unwrap();
        assert_eq!(
            (
                &spread["labelSelector"]["matchExpressions"],
                spread.get("matchLabelKeys")
            ),
            (&json!([hash]), None)
        );
        let term = down
            .at("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0")
            .unwrap();
        assert_eq!(
            term["labelSelector"]["matchExpressions"],
            json!([hash, team])
        );
        assert_eq!(
            (term.get("matchLabelKeys"), term.get("mismatchLabelKeys")),
            (None, None)
        );
    }
}
