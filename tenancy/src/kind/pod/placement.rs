//! Placement: which nodes a pod may run on.
//!
//! Virtual nodes carry the names of the super cluster's and some of their labels; by no others may pods ask for nodes
//! (`node_labels.rs`), so node selectors and node affinity mean the same on both sides. Whatever the tenant writes, the selector of its VirtualControlPlane is added, and taints that keep nodes
//! for others stay in force.

use super::fields::{Fields, Rule, items, text};
use crate::{
    kind::{Cx, Refused},
    left_out,
    object::Object,
};
use api::ShownNodes;
use serde_json::{Map, Value, json};

/// Whether the pod says on which node it runs.
///
/// Before the pod exists in the super cluster that is the tenant going around the scheduler (T9), which the engine
/// refuses; afterwards it is the binding that went up. Neither goes down.
pub fn pins_node(pod: &Object) -> bool {
    pod.text("/spec/nodeName")
        .is_some_and(|node| !node.is_empty())
}

/// Whether the pod was bound to its node, which the API server notes as a condition: one that was made with a node wasn't.
pub fn was_bound(pod: &Object) -> bool {
    let status = pod.at("/status").unwrap_or(&Value::Null);
    let is_noted = |condition: &Value| {
        text(condition, "type") == "PodScheduled" && text(condition, "status") == "True"
    };
    pins_node(pod) && items(status, "conditions").any(is_noted)
}

/// Toleration.
pub(super) const TOLERATION: Fields = &[
    ("effect", Rule::Translated(&Rule::Pass)),
    ("key", Rule::Translated(&Rule::Pass)),
    ("operator", Rule::Pass),
    ("tolerationSeconds", Rule::Pass),
    ("value", Rule::Translated(&Rule::Pass)),
];

/// Taints that say how a node is doing, with the one effect that may be tolerated: what the DaemonSet controller and the
/// DefaultTolerationSeconds plugin write. Every other taint says whom a node is for, and isn't the tenant's to judge
/// (T10).
const TOLERABLE: [(&str, &str); 7] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/network-unavailable", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// Adds the tenant's node selector and leaves out tolerations that aren't the tenant's to have.
///
/// Left out, not refused: DaemonSets of every vendor tolerate everything, and still run where they may.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    if cx.rules.nodes == ShownNodes::Used && is_of_daemon_set(pod) {
        return Err(Refused::new(
            "DaemonSetsNotServed",
            "this tenant sees only the nodes that its pods run on, so a DaemonSet has no pods: use a Deployment, or ask the \
             platform for a tenant that sees its nodes",
        ));
    }
    if cx.rules.nodes == ShownNodes::Used
        && let Some(node) = named_nodes(spec).find(|node| !cx.facts.runs_on(node))
    {
        return Err(Refused::new(
            "NodeNotShown",
            format!(
                "node {node:?} isn't one that this tenant sees: name one of `kubectl get nodes`, or leave it to the scheduler"
            ),
        ));
    }
    let own = items(spec, "tolerations").filter_map(|asked| crossing(spec, asked));
    let tolerations: Vec<Value> = own.collect();
    let given = cx.rules.pods.tolerations.iter();
    let given = given.map(api::Toleration::of_pod);
    let tolerations: Vec<Value> = tolerations.into_iter().chain(given).collect();
    if spec.get("tolerations").is_some() || !tolerations.is_empty() {
        spec["tolerations"] = tolerations.into();
    }
    let mut selector: Map<String, Value> = spec
        .get("nodeSelector")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (key, value) in &cx.rules.node_selector {
        match selector.insert(key.clone(), value.as_str().into()) {
            Some(other) if other.as_str() != Some(value) => {
                return Err(Refused::new(
                    "NodeSelectorConflict",
                    format!(
                        "spec.nodeSelector asks for {key}={other}, but the tenant's nodes have {key}={value:?}: leave it out"
                    ),
                ));
            }
            _ => {}
        }
    }
    if !selector.is_empty() {
        spec["nodeSelector"] = selector.into();
    }
    Ok(())
}

/// Nodes that a pod asks for by their names.
fn named_nodes(spec: &Value) -> impl Iterator<Item = &str> {
    const HOSTNAME: &str = "kubernetes.io/hostname";
    let affinity = spec
        .pointer("/affinity/nodeAffinity")
        .unwrap_or(&Value::Null);
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let required = required
        .into_iter()
        .flat_map(|all| items(all, "nodeSelectorTerms"));
    let preferred = items(affinity, "preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = preferred.filter_map(|term| term.get("preference"));
    let values = required.chain(preferred).flat_map(|term| {
        let labels = items(term, "matchExpressions").filter(|one| text(one, "key") == HOSTNAME);
        let asked = labels.chain(items(term, "matchFields"));
        let named = asked.filter(|one| text(one, "operator") == "In");
        named.flat_map(|one| items(one, "values"))
    });
    let selected = spec.get("nodeSelector").and_then(|all| all.get(HOSTNAME));
    selected.into_iter().chain(values).filter_map(Value::as_str)
}

/// Whether a DaemonSet made the pod. Were it to run where the tenant's pods happen to be, it would itself keep the node
/// shown for ever.
fn is_of_daemon_set(pod: &Object) -> bool {
    items(
        pod.at("/metadata").unwrap_or(&Value::Null),
        "ownerReferences",
    )
    .any(|owner| text(owner, "kind") == "DaemonSet" && owner["controller"] == true)
}

/// Which of a pod's tolerations are left out, but for those that the class gives.
pub(super) fn left_out(spec: &Value, cx: &Cx<'_>) -> Option<String> {
    let given = |asked: &Value| {
        cx.rules.pods.tolerations.iter().any(|given| {
            let value = given.value.as_deref().unwrap_or_default();
            given.key == text(asked, "key") && (value.is_empty() || value == text(asked, "value"))
        })
    };
    let left = items(spec, "tolerations").filter(|asked| crossing(spec, asked).is_none());
    let names = left
        .filter(|asked| !given(asked))
        .map(|asked| match text(asked, "key") {
            "" => "of all taints",
            key => key,
        });
    left_out::named("tolerations", names)
}

/// A toleration as it crosses. A pod that may run anywhere isn't put on a node that is being emptied or in need; one that is
/// meant for one node, a DaemonSet's for instance, is.
fn crossing(spec: &Value, asked: &Value) -> Option<Value> {
    let narrowed = tolerated(asked)?;
    (narrowed["effect"] == "NoExecute" || is_for_one_node(spec)).then_some(narrowed)
}

/// Whether it can run on one node alone, by its name: all nodes but one are many.
fn is_for_one_node(spec: &Value) -> bool {
    const TERMS: &str =
        "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    if spec
        .pointer("/nodeSelector/kubernetes.io~1hostname")
        .is_some()
    {
        return true;
    }
    let terms = spec.pointer(TERMS).and_then(Value::as_array);
    let mut nodes = terms.into_iter().flatten().map(only_node);
    let Some(Some(first)) = nodes.next() else {
        return false;
    };
    nodes.all(|node| node == Some(first))
}

/// The one node that a term lets a pod run on.
fn only_node(term: &Value) -> Option<&str> {
    items(term, "matchFields").find_map(|field| {
        let is_name = text(field, "key") == "metadata.name" && text(field, "operator") == "In";
        match field.get("values")?.as_array()?.as_slice() {
            [node] if is_name => node.as_str(),
            _ => None,
        }
    })
}

/// The toleration as it may cross: narrowed to the effect that is allowed for its key.
fn tolerated(toleration: &Value) -> Option<Value> {
    let (_, effect) = TOLERABLE
        .iter()
        .find(|(key, _)| *key == text(toleration, "key"))?;
    let asked = text(toleration, "effect");
    if !text(toleration, "value").is_empty() || !(asked.is_empty() || asked == *effect) {
        return None;
    }
    let mut narrowed = toleration.clone();
    narrowed["effect"] = json!(effect);
    Some(narrowed)
}

/// NodeAffinity.
pub(super) const NODE_AFFINITY: Fields = &[
    (
        "preferredDuringSchedulingIgnoredDuringExecution",
        Rule::List(&[
            ("preference", Rule::Object(NODE_TERM)),
            ("weight", Rule::Pass),
        ]),
    ),
    (
        "requiredDuringSchedulingIgnoredDuringExecution",
        Rule::Object(&[("nodeSelectorTerms", Rule::List(NODE_TERM))]),
    ),
];

const NODE_TERM: Fields = &[
    (
        "matchExpressions",
        Rule::List(&[
            ("key", Rule::Translated(&Rule::Pass)),
            ("operator", Rule::Pass),
            ("values", Rule::Pass),
        ]),
    ),
    ("matchFields", Rule::List(REQUIREMENT)),
];

/// LabelSelectorRequirement, and the NodeSelectorRequirement of a field.
pub(super) const REQUIREMENT: Fields = &[
    ("key", Rule::Pass),
    ("operator", Rule::Pass),
    ("values", Rule::Pass),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down_as, field, pod};
    use expect_test::expect;

    #[test]
    fn only_tolerations_of_a_nodes_condition_cross() {
        let spec = "
          tolerations:
          - {operator: Exists}
          - {operator: Exists, effect: NoExecute}
          - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
          - {key: customer, operator: Equal, value: globex, effect: NoSchedule}
          - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
          - {key: node.kubernetes.io/not-ready, operator: Exists}
          - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoSchedule}
          - {key: node.kubernetes.io/unschedulable, operator: Exists, effect: NoSchedule}
          - {key: node.kubernetes.io/out-of-service, operator: Exists, effect: NoExecute}";
        expect![[r#"
            - effect: NoExecute
              key: node.kubernetes.io/unreachable
              operator: Exists
              tolerationSeconds: 5
            - effect: NoExecute
              key: node.kubernetes.io/not-ready
              operator: Exists
        "#]]
        .assert_eq(&field(spec, "/tolerations"));
    }

    #[test]
    fn what_is_meant_for_one_node_is_put_there_though_the_node_is_being_emptied() {
        let cordoned = "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists, effect: NoSchedule}]";
        let affinity = |term: &str| {
            format!(
                "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}}}"
            )
        };
        let by_name = "{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}";
        let by_label = "{matchExpressions: [{key: a, operator: Exists}]}";
        let tolerates = |more: &str| {
            let tolerations = field(&format!("{{{cordoned}, {more}}}"), "/tolerations");
            tolerations.contains("unschedulable")
        };
        assert!(tolerates(&affinity(by_name)));
        assert!(tolerates("nodeSelector: {kubernetes.io/hostname: n1}"));
        assert!(!tolerates(&affinity(&format!("{by_name}, {by_label}"))));
        assert!(!tolerates(&affinity("")) && !tolerates("nodeSelector: {a: b}"));
        // Two terms that name the same node are one node.
        assert!(tolerates(&affinity(&format!("{by_name}, {by_name}"))));
    }

    /// T10: all nodes but one that isn't are all nodes, those that are being emptied among them.
    #[test]
    fn t10_what_may_run_on_several_nodes_is_put_on_none_that_is_being_emptied() {
        let cordoned = "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists, effect: NoSchedule}]";
        let name = |operator: &str, nodes: &str| {
            format!(
                "{{matchFields: [{{key: metadata.name, operator: {operator}, values: [{nodes}]}}]}}"
            )
        };
        for terms in [
            name("NotIn", "none-such"),
            name("In", "n1, n2"),
            name("In", ""),
            format!("{}, {}", name("In", "n1"), name("In", "n2")),
            format!("{}, {}", name("In", "n1"), name("NotIn", "n1")),
        ] {
            let spec = format!(
                "{{{cordoned}, affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}}}"
            );
            let tolerations = field(&spec, "/tolerations");
            assert!(
                !tolerations.contains("unschedulable"),
                "{spec}: {tolerations}"
            );
        }
    }

    #[test]
    fn tolerations_of_the_class_are_added() {
        let given = |value: Option<&str>| api::Toleration {
            key: "customer".into(),
            value: value.map(str::to_owned),
            effect: value.map(|_| "NoSchedule".to_owned()),
        };
        let twin = down_as(&pod("{tolerations: [{operator: Exists}]}"), |tenant, _| {
            tenant.pods.tolerations = vec![given(Some("acme")), given(None)];
        });
        assert_eq!(
            twin.unwrap().at("/spec/tolerations"),
            Some(&json!([
                {"key": "customer", "operator": "Equal", "value": "acme", "effect": "NoSchedule"},
                {"key": "customer", "operator": "Exists"},
            ]))
        );
    }

    #[test]
    fn the_tenants_nodes_are_added_and_cannot_be_replaced() {
        let down = |spec| {
            down_as(&pod(spec), |tenant, _| {
                tenant.node_selector.insert("pool".into(), "tenants".into());
            })
        };
        let both = down("{nodeSelector: {kubernetes.io/hostname: n1, pool: tenants}}").unwrap();
        assert_eq!(
            both.at("/spec/nodeSelector"),
            Some(&json!({"kubernetes.io/hostname": "n1", "pool": "tenants"}))
        );
        assert_eq!(
            down("{}").unwrap().at("/spec/nodeSelector"),
            Some(&json!({"pool": "tenants"}))
        );
        assert_eq!(
            down("{nodeSelector: {pool: control-plane}}")
                .unwrap_err()
                .reason,
            "NodeSelectorConflict"
        );
    }

    #[test]
    fn pods_of_daemon_sets_run_where_all_nodes_are_shown_and_nowhere_else() {
        let down = |kind: &str, nodes| {
            let mut pod = pod("{}");
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": "d", "uid": "x", "controller": true});
            pod.value_mut()["metadata"]["ownerReferences"] = json!([owner]);
            down_as(&pod, |tenant, _| tenant.nodes = nodes)
        };
        let refused = down("DaemonSet", ShownNodes::Used).unwrap_err();
        assert_eq!(refused.reason, "DaemonSetsNotServed");
        assert!(down("DaemonSet", ShownNodes::Selected).is_ok());
        assert!(down("ReplicaSet", ShownNodes::Used).is_ok());
    }

    /// T9: whoever isn't shown the others could look for a victim's node by name.
    #[test]
    fn t9_who_sees_the_nodes_in_use_alone_names_no_other() {
        let affinity = |wish: &str| format!("{{affinity: {{nodeAffinity: {{{wish}}}}}}}");
        let required = |term: &str| {
            let terms = format!("nodeSelectorTerms: [{{{term}}}]");
            affinity(&format!(
                "requiredDuringSchedulingIgnoredDuringExecution: {{{terms}}}"
            ))
        };
        let label = |operator: &str, node: &str| {
            format!(
                "matchExpressions: [{{key: kubernetes.io/hostname, operator: {operator}, values: [n1, {node}]}}]"
            )
        };
        let field = |node: &str| {
            format!("matchFields: [{{key: metadata.name, operator: In, values: [{node}]}}]")
        };
        let preferred = |term: &str| {
            let term = format!("[{{weight: 1, preference: {{{term}}}}}]");
            affinity(&format!(
                "preferredDuringSchedulingIgnoredDuringExecution: {term}"
            ))
        };
        let down = |spec: &str, nodes| {
            let twin = down_as(&pod(spec), |tenant, facts| {
                tenant.nodes = nodes;
                facts.nodes = vec!["n1"];
            });
            twin.err().map(|refused| refused.reason)
        };
        for node in ["n1", "n2"] {
            let expected = (node == "n2").then_some("NodeNotShown");
            for spec in [
                format!("{{nodeSelector: {{kubernetes.io/hostname: {node}}}}}"),
                required(&label("In", node)),
                required(&field(node)),
                preferred(&label("In", node)),
                preferred(&field(node)),
            ] {
                assert_eq!(down(&spec, ShownNodes::Used), expected, "{spec}");
                assert_eq!(down(&spec, ShownNodes::Selected), None, "{spec}");
            }
        }
        assert_eq!(
            down(&required(&label("NotIn", "n2")), ShownNodes::Used),
            None
        );
    }

    #[test]
    fn node_affinity_means_the_same_on_both_sides() {
        let spec = "{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                    [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}}";
        let term = field(
            spec,
            "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0",
        );
        assert_eq!(
            term,
            "matchFields:\n- key: metadata.name\n  operator: In\n  values:\n  - n1\n"
        );
    }

    #[test]
    fn a_pod_says_whether_it_chose_its_node() {
        assert!(pins_node(&pod("{nodeName: n1}")));
        assert!(!pins_node(&pod("{nodeName: ''}")) && !pins_node(&pod("{}")));
    }

    #[test]
    fn a_pod_was_bound_if_the_api_server_noted_that() {
        let with = |spec: &str, status: &str| {
            let mut pod = pod(spec);
            let condition = json!({"type": "PodScheduled", "status": status});
            pod.value_mut()["status"] = json!({"conditions": [condition]});
            was_bound(&pod)
        };
        assert!(with("{nodeName: n1}", "True"));
        assert!(!with("{nodeName: n1}", "False") && !with("{}", "True"));
        assert!(!was_bound(&pod("{nodeName: n1}")));
    }
}
