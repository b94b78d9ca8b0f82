//! Labels of nodes that a pod asks for: those that the tenant sees on its nodes, and no others.
//!
//! The super cluster's scheduler goes by the super cluster's nodes, which bear more labels: whose a node is, say, in which rack
//! it stands. A pod that could ask for one of those would learn of it by where it runs or that it doesn't, and could be put
//! beside others. So what isn't shown is asked for under a key that no node bears, and means what it means to the tenant,
//! whose nodes don't have it: a pod that must have it waits, one that must not runs anywhere.

use super::fields::{items_mut, text};
use crate::{
    kind::{Cx, Refused},
    naming,
    object::Object,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Domain of keys that no node bears.
const HIDDEN: &str = "hidden.sublet.dev";

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Puts what the tenant doesn't see out of the pod's reach.
pub(super) fn step(spec: &mut Value, cx: &Cx<'_>) {
    each(spec, &mut |key| hidden(key, cx));
}

/// Tells of it.
pub(super) fn shortfall(pod: &Object, cx: &Cx<'_>) -> Option<Refused> {
    let spec = pod.at("/spec")?;
    let parts = ["nodeSelector", "affinity", "topologySpreadConstraints"];
    let asking = parts
        .iter()
        .filter_map(|part| Some(((*part).to_owned(), spec.get(part)?.clone())));
    let mut spec = Value::Object(asking.collect::<Map<_, _>>());
    let mut keys = BTreeSet::new();
    each(&mut spec, &mut |key| {
        if hidden(key, cx).is_some() {
            keys.insert(key.to_owned());
        }
        None
    });
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    (!keys.is_empty()).then(|| {
        let text = format!(
            "nodes are chosen by labels that yours don't show, and so as if no node had them: {}; choose by those that `kubectl \
             get nodes --show-labels` shows, or ask the platform's admins for more (pods.nodeLabels of your ControlPlaneClass)",
            keys.join(", ")
        );
        Refused::new("NodeLabelNotShown", text)
    })
}

/// What stands for a key that the tenant doesn't see. Two such keys stay two.
fn hidden(key: &str, cx: &Cx<'_>) -> Option<String> {
    // What names none isn't Kubernetes' to take.
    let is_shown = key.is_empty() || cx.rules.sees_label_of_nodes(key);
    (!is_shown).then(|| format!("{HIDDEN}/{}", naming::hash(&[key.as_bytes()])))
}

/// Visits every key of a node's label, which becomes what `replace` gives.
fn each(spec: &mut Value, replace: &mut dyn FnMut(&str) -> Option<String>) {
    if let Some(selector) = spec.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        let asked = std::mem::take(selector).into_iter();
        *selector = asked
            .map(|(key, value)| (replace(&key).unwrap_or(key), value))
            .collect();
    }
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        one(constraint, "topologyKey", replace);
    }
    let Some(affinity) = spec.get_mut("affinity") else {
        return;
    };
    if let Some(to_nodes) = affinity.get_mut("nodeAffinity") {
        if let Some(required) = to_nodes.get_mut(REQUIRED) {
            items_mut(required, "nodeSelectorTerms").for_each(|term| expressions(term, replace));
        }
        for weighted in items_mut(to_nodes, PREFERRED) {
            let preference = weighted.get_mut("preference");
            preference
                .into_iter()
                .for_each(|term| expressions(term, replace));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(to_pods) = affinity.get_mut(kind) else {
            continue;
        };
        items_mut(to_pods, REQUIRED).for_each(|term| one(term, "topologyKey", replace));
        for weighted in items_mut(to_pods, PREFERRED) {
            let term = weighted.get_mut("podAffinityTerm");
            term.into_iter()
                .for_each(|term| one(term, "topologyKey", replace));
        }
    }
}

/// The keys of a term; its `matchFields` know no label.
fn expressions(term: &mut Value, replace: &mut dyn FnMut(&str) -> Option<String>) {
    items_mut(term, "matchExpressions").for_each(|asked| one(asked, "key", replace));
}

fn one(asked: &mut Value, field: &str, replace: &mut dyn FnMut(&str) -> Option<String>) {
    if let Some(new) = replace(text(asked, field)) {
        asked[field] = new.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        pod::tests::{down_as, pod},
        testing::{Answers, tenant},
    };
    use serde_json::json;

    /// Every place in which a pod can ask for a label of nodes, with this key.
    fn places(key: &str) -> Vec<String> {
        let affinity = |text: String| format!("affinity: {{{text}}}");
        let term = format!("{{matchExpressions: [{{key: {key}, operator: In, values: [v]}}]}}");
        let beside = format!("{{topologyKey: {key}, labelSelector: {{}}}}");
        let of_pods = ["podAffinity", "podAntiAffinity"]
            .into_iter()
            .flat_map(|kind| {
                [
                    affinity(format!("{kind}: {{{REQUIRED}: [{beside}]}}")),
                    affinity(format!(
                        "{kind}: {{{PREFERRED}: [{{weight: 1, podAffinityTerm: {beside}}}]}}"
                    )),
                ]
            });
        let of_nodes = [
            format!("nodeSelector: {{{key}: v}}"),
            affinity(format!(
                "nodeAffinity: {{{REQUIRED}: {{nodeSelectorTerms: [{term}]}}}}"
            )),
            affinity(format!(
                "nodeAffinity: {{{PREFERRED}: [{{weight: 1, preference: {term}}}]}}"
            )),
            format!(
                "topologySpreadConstraints: [{{maxSkew: 1, whenUnsatisfiable: DoNotSchedule, topologyKey: {key}}}]"
            ),
        ];
        of_nodes.into_iter().chain(of_pods).collect()
    }

    fn told(spec: &str, shown: &[&str]) -> (Value, Option<Refused>) {
        let asking = pod(spec);
        let shown: Vec<String> = shown.iter().map(|key| (*key).to_owned()).collect();
        let (mut tenant, facts) = (tenant(), Answers::default());
        tenant.pods.node_labels.clone_from(&shown);
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let told = shortfall(&asking, &cx);
        let twin = down_as(&asking, |tenant, _| tenant.pods.node_labels = shown).unwrap();
        (twin.at("/spec").cloned().unwrap(), told)
    }

    #[test]
    fn a_label_that_nodes_do_not_show_is_asked_for_in_vain_and_that_is_told() {
        for spec in places("customer.example/owner") {
            let (twin, told) = told(&spec, &["rack"]);
            assert!(
                !twin.to_string().contains("customer.example"),
                "{spec}: {twin}"
            );
            assert!(twin.to_string().contains(HIDDEN), "{spec}: {twin}");
            let told = told.unwrap();
            assert_eq!(told.reason, "NodeLabelNotShown", "{spec}");
            assert!(
                told.message.contains(": customer.example/owner;"),
                "{spec}: {}",
                told.message
            );
        }
    }

    #[test]
    fn what_nodes_show_is_asked_for_as_it_is() {
        let of_all = [
            "kubernetes.io/hostname",
            "kubernetes.io/os",
            "topology.kubernetes.io/zone",
            "beta.kubernetes.io/arch",
        ];
        for key in of_all.into_iter().chain(["rack"]) {
            for spec in places(key) {
                let (twin, told) = told(&spec, &["rack"]);
                assert!(
                    twin.to_string().contains(key) && !twin.to_string().contains(HIDDEN),
                    "{spec}: {twin}"
                );
                assert_eq!(told, None, "{spec}");
            }
        }
    }

    #[test]
    fn the_labels_by_which_the_tenant_has_its_nodes_may_be_asked_for() {
        let pod = pod("{nodeSelector: {pool: tenants}}");
        let twin = down_as(&pod, |tenant, _| {
            tenant.node_selector.insert("pool".into(), "tenants".into());
        });
        assert_eq!(
            twin.unwrap().at("/spec/nodeSelector"),
            Some(&json!({"pool": "tenants"}))
        );
    }

    /// The API server takes no two spread constraints with the same key.
    #[test]
    fn keys_that_are_not_shown_stay_different() {
        let (twin, _) = told("nodeSelector: {a: x, b: y}", &[]);
        assert_eq!(twin["nodeSelector"].as_object().unwrap().len(), 2, "{twin}");
    }

    #[test]
    fn a_node_that_is_named_is_no_label() {
        let by_name = "{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}";
        let spec = format!(
            "affinity: {{nodeAffinity: {{{REQUIRED}: {{nodeSelectorTerms: [{by_name}]}}}}}}"
        );
        let (twin, told) = told(&spec, &[]);
        assert!(
            twin.to_string().contains("metadata.name") && told.is_none(),
            "{twin}"
        );
    }
}
