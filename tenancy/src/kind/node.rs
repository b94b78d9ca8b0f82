//! Virtual nodes: what a tenant sees of the super cluster's nodes.
//!
//! A node is published by allow-list: no provider ID, no images, and addresses of the real host only to tenants that may use
//! its network anyhow and whose class says where nodes are. Heartbeats are left
//! out, so that a node that only says it is alive costs no write in any tenant.
//!
//! A node whose taints keep all of the tenant's pods out isn't shown: the tenant's controllers would make pods for it, one of
//! each DaemonSet, that wait for ever. While one of its pods is there all the same, from before the taint, it is shown with a
//! taint of ours, by which DaemonSets make none; the platform's taints say whom its nodes are for, which is nobody's to know.

use super::{Cx, Kind, Refused, Resource, SuperWatch, Upward, UpwardVerb};
use crate::{
    naming,
    object::{Object, pick},
    plan::holds,
    taint,
};
use api::ShownNodes;
use serde_json::{Map, Value, json};

pub(super) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    namespaced: false,
};

/// Labels that scheduling terms of tenants name, and the older names of the same.
const LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Conditions that a tenant can act upon.
const CONDITIONS: [&str; 5] = [
    "Ready",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
];

/// What of nodeInfo tells about the software a pod meets; boot, machine and system IDs identify the host.
const NODE_INFO: [&str; 6] = [
    "architecture",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeletVersion",
    "operatingSystem",
    "osImage",
];

/// Whether a label of nodes is shown to every tenant.
pub fn is_shown_of_nodes(key: &str) -> bool {
    LABELS.contains(&key)
}

/// Label of every virtual node.
const VIRTUAL: &str = "sublet.dev/virtual";
/// Taint of a virtual node whose super node keeps new pods of the tenant out.
const KEPT: &str = "sublet.dev/kept-for-others";

/// The kind.
#[derive(Debug)]
pub(super) struct Node;

impl Kind for Node {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn goes_down(&self) -> bool {
        false
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Published
    }

    fn down(&self, _object: &Object, _cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        Ok(None)
    }

    fn publish(&self, node: &Object, _namespace: &str, cx: &Cx<'_>) -> Option<Object> {
        let selected = cx
            .rules
            .node_selector
            .iter()
            .all(|(key, value)| node.label(key) == Some(value))
            && cx
                .rules
                .node_affinity
                .iter()
                .all(|asked| asked.allows(|key| node.label(key)));
        let is_kept =
            taint::lasting(node).any(|taint| taint::keeps_out(taint, &cx.rules.pods.tolerations));
        let is_shown = match cx.rules.nodes {
            ShownNodes::Selected if !is_kept => true,
            _ => cx.facts.runs_on(node.name()),
        };
        if !(selected && is_shown) {
            return None;
        }
        let mut labels: Map<String, Value> = node
            .labels()
            .filter(|(key, _)| cx.rules.sees_label_of_nodes(key))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        labels.insert(VIRTUAL.into(), "true".into());
        let status = node.at("/status").unwrap_or(&Value::Null);
        let mut seen = pick(status, &["capacity", "allocatable"]);
        seen.insert("conditions".into(), conditions(status));
        seen.insert("addresses".into(), addresses(node, status, cx));
        seen.insert(
            "daemonEndpoints".into(),
            json!({"kubeletEndpoint": {"Port": naming::KUBELET_PORT}}),
        );
        seen.insert("nodeInfo".into(), node_info(status));
        let mut spec = Map::new();
        if node.at("/spec/unschedulable") == Some(&Value::Bool(true)) {
            spec.insert("unschedulable".into(), true.into());
        }
        if is_kept {
            let taint = json!({"key": KEPT, "effect": "NoSchedule"});
            spec.insert("taints".into(), json!([taint]));
        }
        let virtual_node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name(), "labels": labels},
            "spec": spec, "status": seen,
        });
        Some(Object::from_value(virtual_node).expect("metadata is a map"))
    }

    fn published_source(&self, node: &Object) -> Value {
        let status = node.at("/status").unwrap_or(&Value::Null);
        let mut source = pick(status, &["addresses", "allocatable", "capacity"]);
        source.insert("conditions".into(), conditions(status));
        source.insert("nodeInfo".into(), node_info(status));
        for pointer in ["/metadata/uid", "/metadata/labels", "/spec/unschedulable"] {
            source.insert(pointer.into(), node.at(pointer).cloned().into());
        }
        let taints = taint::lasting(node).map(|taint| pick(taint, &["key", "value", "effect"]));
        source.insert("taints".into(), taints.map(Value::Object).collect());
        source.into()
    }

    fn published_state(&self, node: &Object) -> Value {
        // Annotations of nodes are written by controllers of the tenant.
        json!({
            "labels": node.at("/metadata/labels"), "spec": node.at("/spec"), "status": node.at("/status"),
        })
    }

    fn published_changes(&self, want: &Object, have: &Object) -> Vec<Upward> {
        changes(want, have)
    }

    fn is_published_copy(&self, node: &Object) -> bool {
        node.label(VIRTUAL).is_some()
    }

    fn takes_over(&self) -> bool {
        true
    }
}

/// The patches that make `have` say what `want` says; server defaults are no difference.
fn changes(want: &Object, have: &Object) -> Vec<Upward> {
    let merge = |subresource, body| Upward {
        subresource,
        verb: UpwardVerb::Merge,
        body,
        shows: None,
    };
    let part = |object: &Object, pointer| object.at(pointer).cloned().unwrap_or_default();
    let mut writes = vec![];
    let same_labels = part(want, "/metadata/labels") == part(have, "/metadata/labels");
    let taints = part(want, "/spec/taints");
    let unschedulable =
        |object: &Object| object.at("/spec/unschedulable") == Some(&Value::Bool(true));
    if !same_labels
        || unschedulable(want) != unschedulable(have)
        || taints != part(have, "/spec/taints")
    {
        // A merge patch keeps what it doesn't name, so keys that must go are named with null.
        let mut labels = part(want, "/metadata/labels");
        for (key, _) in have.labels() {
            if labels.get(key).is_none() {
                labels[key] = Value::Null;
            }
        }
        let spec = json!({"unschedulable": if unschedulable(want) { Value::Bool(true) } else { Value::Null }, "taints": taints});
        writes.push(merge(
            None,
            json!({"metadata": {"labels": labels}, "spec": spec}),
        ));
    }
    let (wanted, now) = (part(want, "/status"), part(have, "/status"));
    if !holds(&now, &wanted) || now.get("images").is_some() {
        let mut status = wanted;
        status["images"] = Value::Null;
        writes.push(merge(Some("status"), json!({"status": status})));
    }
    writes
}

fn conditions(status: &Value) -> Value {
    let all = status
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let known = all.filter(|condition| CONDITIONS.iter().any(|name| condition["type"] == **name));
    let scrubbed = known.map(|condition| {
        let mut kept = pick(
            condition,
            &["type", "status", "reason", "message", "lastTransitionTime"],
        );
        if let Some(time) = condition.get("lastTransitionTime") {
            kept.insert("lastHeartbeatTime".into(), time.clone());
        }
        Value::Object(kept)
    });
    scrubbed.collect()
}

/// Where the proxy serves its kubelet, which comes first, and where its ports are for a tenant that may know.
fn addresses(node: &Object, status: &Value, cx: &Cx<'_>) -> Value {
    let own = [
        json!({"type": "Hostname", "address": naming::node_host(node.name())}),
        json!({"type": "InternalDNS", "address": naming::node_address(node.name()).to_string()}),
    ];
    let all = status.get("addresses").and_then(Value::as_array);
    let is_shown = |address: &&Value| {
        let text = address["address"].as_str().unwrap_or_default();
        let ip = text.parse::<std::net::IpAddr>().ok();
        let ranges = cx.rules.node_ranges();
        ["InternalIP", "ExternalIP"]
            .iter()
            .any(|kind| address["type"] == *kind)
            && ip.is_some_and(|ip| ranges.iter().any(|range| range.has(ip)))
    };
    let shown = all.into_iter().flatten().filter(is_shown);
    let shown = shown.map(|address| Value::Object(pick(address, &["type", "address"])));
    own.into_iter().chain(shown).collect()
}

fn node_info(status: &Value) -> Value {
    // The API's validation asks for all fields of nodeInfo; what isn't published is empty.
    let mut info = pick(status.get("nodeInfo").unwrap_or(&Value::Null), &NODE_INFO);
    for field in ["bootID", "machineID", "systemUUID", "kubeProxyVersion"] {
        info.insert(field.into(), "".into());
    }
    info.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::testing::{Answers, object, tenant},
        tenant::TenantRules,
    };

    fn node() -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "uid": "x", "labels": {"kubernetes.io/os": "linux", "secret": "y", "pool": "a"}},
            "spec": {"providerID": "aws:///i-1", "podCIDR": "10.1.0.0/24", "taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
            "status": {
                "capacity": {"cpu": "2"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "images": [{"names": ["secret/image"]}], "nodeInfo": {"machineID": "m", "kubeletVersion": "v1.36.3"},
                "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": "t1", "lastHeartbeatTime": "t2"},
                    {"type": "Vendor", "status": "True"},
                ],
            },
        }))
    }

    #[test]
    fn what_identifies_the_host_is_not_published() {
        let (tenant, facts) = (tenant(), Answers::default());
        let seen = Node
            .publish(
                &node(),
                "",
                &Cx {
                    rules: &tenant,
                    facts: &facts,
                },
            )
            .unwrap();
        let text = seen.value().to_string();
        for hidden in [
            "aws", "10.0.0.1", "secret", "10.1.0.0", "\"m\"", "Vendor", "t2",
        ] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        assert_eq!(seen.at("/status/capacity/cpu"), Some(&json!("2")));
        // Where the proxy serves its kubelet.
        assert_eq!(
            seen.text("/status/addresses/0/address"),
            Some("n1.nodes.sublet.internal")
        );
        let address = naming::node_address("n1").to_string();
        assert_eq!(seen.text("/status/addresses/1/address"), Some(&*address));
        assert_eq!(
            seen.at("/status/daemonEndpoints/kubeletEndpoint/Port"),
            Some(&json!(10250))
        );
        assert_eq!(
            seen.at("/status/conditions/0/lastHeartbeatTime"),
            Some(&json!("t1"))
        );
    }

    #[test]
    fn a_heartbeat_is_no_news_and_all_that_is_shown_is() {
        let changed = |pointer: &str, value: Value| {
            let mut node = node();
            *node.value_mut().pointer_mut(pointer).unwrap() = value;
            Node.published_source(&node)
        };
        let before = Node.published_source(&node());
        for (pointer, value) in [
            ("/status/conditions/0/lastHeartbeatTime", json!("t3")),
            ("/status/conditions/1/status", json!("False")),
            ("/status/images", json!([])),
            ("/spec/taints", json!([])),
        ] {
            assert_eq!(changed(pointer, value), before, "{pointer}");
        }
        for (pointer, value) in [
            ("/metadata/uid", json!("y")),
            ("/metadata/labels/pool", json!("b")),
            (
                "/spec/taints",
                json!([{"key": "k", "effect": "NoSchedule"}]),
            ),
            ("/status/capacity/cpu", json!("3")),
            ("/status/addresses/0/address", json!("10.0.0.2")),
            ("/status/conditions/0/status", json!("False")),
            ("/status/nodeInfo/kubeletVersion", json!("v1.37.0")),
        ] {
            assert_ne!(changed(pointer, value), before, "{pointer}");
        }
    }

    #[test]
    fn addresses_of_nodes_are_shown_where_the_class_says_and_the_tenant_may_use_them_anyhow() {
        let facts = Answers::default();
        let shown = |level, ranges: &[&str]| {
            let mut tenant = tenant();
            tenant.pod_security = level;
            let network = api::PodNetwork {
                node_ranges: ranges.iter().map(|range| (*range).to_owned()).collect(),
                ..api::PodNetwork::default()
            };
            tenant.reach = crate::reach::Reach::of(&network, None);
            let mut node = node();
            node.value_mut()["status"]["addresses"] = json!([
                {"type": "Hostname", "address": "real-name"},
                {"type": "InternalIP", "address": "10.0.0.1", "more": "x"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "InternalIP", "address": "no address"},
            ]);
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let seen = Node.publish(&node, "", &cx).unwrap();
            let all = seen.at("/status/addresses").unwrap().as_array().unwrap();
            assert_eq!(
                all[0]["type"], "Hostname",
                "where its kubelet is comes first"
            );
            assert_eq!(all[1]["type"], "InternalDNS");
            all[2..].to_vec()
        };
        let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let external = json!({"type": "ExternalIP", "address": "198.51.100.1"});
        let (privileged, baseline) = (api::PodSecurity::Privileged, api::PodSecurity::Baseline);
        let both = [internal, external];
        assert_eq!(shown(privileged, &["10.0.0.0/24"]), both[..1]);
        let ranges = ["10.0.0.0/8", "198.51.100.0/24"];
        assert_eq!(shown(privileged, &ranges), both);
        let none: [Value; 0] = [];
        assert_eq!(shown(privileged, &[]), none);
        assert_eq!(shown(privileged, &["10.1.0.0/24", "nonsense"]), none);
        assert_eq!(shown(baseline, &["10.0.0.0/24"]), none);
    }

    #[test]
    fn only_selected_nodes_are_seen() {
        let (mut tenant, facts) = (tenant(), Answers::default());
        tenant.node_selector.insert("pool".into(), "b".into());
        assert_eq!(
            Node.publish(
                &node(),
                "",
                &Cx {
                    rules: &tenant,
                    facts: &facts
                }
            ),
            None
        );
        tenant.node_selector.insert("pool".into(), "a".into());
        assert!(
            Node.publish(
                &node(),
                "",
                &Cx {
                    rules: &tenant,
                    facts: &facts
                }
            )
            .is_some()
        );
    }

    /// What no pod of the tenant may be put on it doesn't see either.
    #[test]
    fn only_nodes_that_meet_a_term_of_each_side_are_seen() {
        let facts = Answers::default();
        let pool = |operator: &str, values: &[&str]| -> api::NodeAffinity {
            let asked = json!({"key": "pool", "operator": operator, "values": values});
            serde_json::from_value(json!({"required": [{"matchExpressions": [asked]}]})).unwrap()
        };
        let preferred: api::NodeAffinity = serde_json::from_value(json!({"preferred": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}},
        ]}))
        .unwrap();
        for (asked, is_seen) in [
            (vec![pool("In", &["a", "b"])], true),
            (vec![pool("In", &["b"])], false),
            (vec![pool("NotIn", &["a"])], false),
            (vec![pool("In", &["a", "b"]), pool("NotIn", &["b"])], true),
            (vec![pool("In", &["a", "b"]), pool("In", &["b"])], false),
            (vec![preferred], true),
        ] {
            let mut tenant = tenant();
            tenant.node_affinity = asked;
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let seen = Node.publish(&node(), "", &cx);
            assert_eq!(seen.is_some(), is_seen, "{:?}", tenant.node_affinity);
        }
    }

    #[test]
    fn of_the_selected_nodes_only_those_in_use_are_seen_where_that_is_asked_for() {
        let mut tenant = tenant();
        tenant.nodes = ShownNodes::Used;
        let is_seen = |tenant: &TenantRules, nodes: &[&'static str]| {
            let facts = Answers {
                nodes: nodes.to_vec(),
                ..Answers::default()
            };
            let cx = Cx {
                rules: tenant,
                facts: &facts,
            };
            Node.publish(&node(), "", &cx).is_some()
        };
        assert!(!is_seen(&tenant, &[]) && !is_seen(&tenant, &["n2"]));
        assert!(is_seen(&tenant, &["n2", "n1"]));
        tenant.node_selector.insert("pool".into(), "b".into());
        assert!(
            !is_seen(&tenant, &["n1"]),
            "its selector holds all the same"
        );
    }

    /// Else each DaemonSet of the tenant would wait for a pod that is never put there.
    #[test]
    fn a_node_that_keeps_the_tenants_pods_out_is_seen_while_one_is_there() {
        let mut tenant = tenant();
        let seen = |tenant: &TenantRules, taints: &Value, nodes: &[&'static str]| {
            let facts = Answers {
                nodes: nodes.to_vec(),
                ..Answers::default()
            };
            let cx = Cx {
                rules: tenant,
                facts: &facts,
            };
            let mut node = node();
            node.value_mut()["spec"]["taints"] = taints.clone();
            let seen = Node.publish(&node, "", &cx)?;
            Some(seen.at("/spec/taints").cloned().unwrap_or_default())
        };
        let kept = |effect: &str| json!([{"key": "customer", "value": "globex", "effect": effect}]);
        let without = Some(Value::Null);
        assert_eq!(seen(&tenant, &json!([]), &[]), without);
        assert_eq!(seen(&tenant, &kept("PreferNoSchedule"), &[]), without);
        for effect in ["NoSchedule", "NoExecute"] {
            let taints = kept(effect);
            assert_eq!(seen(&tenant, &taints, &[]), None);
            assert_eq!(seen(&tenant, &taints, &["n2"]), None);
            // Whom it is kept for isn't told.
            let ours = json!([{"key": "sublet.dev/kept-for-others", "effect": "NoSchedule"}]);
            assert_eq!(seen(&tenant, &taints, &["n1"]), Some(ours));
        }
        let toleration = json!([{"key": "customer", "value": "globex"}]);
        tenant.pods.tolerations = serde_json::from_value(toleration).unwrap();
        assert_eq!(seen(&tenant, &kept("NoSchedule"), &[]), without);
    }

    #[test]
    fn labels_that_the_class_names_are_shown_beside_those_that_scheduling_needs() {
        let facts = Answers::default();
        let shown = |more: &[&str]| {
            let mut tenant = tenant();
            tenant.pods.node_labels = more.iter().map(|key| (*key).to_owned()).collect();
            let cx = Cx {
                rules: &tenant,
                facts: &facts,
            };
            let node = Node.publish(&node(), "", &cx).unwrap();
            node.at("/metadata/labels").cloned().unwrap()
        };
        let of_all = json!({"kubernetes.io/os": "linux", VIRTUAL: "true"});
        assert_eq!(shown(&[]), of_all);
        let more = json!({"kubernetes.io/os": "linux", "pool": "a", VIRTUAL: "true"});
        assert_eq!(shown(&["pool", "absent"]), more);
    }

    fn virtual_node(labels: Value, spec: Value, status: Value) -> Object {
        object(json!({"metadata": {"name": "n", "labels": labels}, "spec": spec, "status": status}))
    }

    #[test]
    fn what_the_tenant_changed_on_a_virtual_node_is_undone() {
        let want = virtual_node(
            json!({"a": "1"}),
            json!({}),
            json!({"capacity": {"cpu": "2"}}),
        );
        let same = virtual_node(
            json!({"a": "1"}),
            json!({}),
            json!({"capacity": {"cpu": "2"}, "daemonEndpoints": {}}),
        );
        assert_eq!(changes(&want, &same), vec![]);
        let edited = virtual_node(
            json!({"a": "1", "mine": "x"}),
            json!({"taints": [{"key": "k"}]}),
            json!({"capacity": {"cpu": "9"}}),
        );
        let writes = changes(&want, &edited);
        assert_eq!(
            writes[0].body["metadata"]["labels"],
            json!({"a": "1", "mine": null})
        );
        assert_eq!(writes[0].body["spec"]["taints"], Value::Null);
        assert_eq!(writes[1].body["status"]["capacity"]["cpu"], "2");
    }

    #[test]
    fn a_virtual_node_has_our_taint_and_no_other() {
        let node = |spec| virtual_node(json!({}), spec, json!({}));
        let ours = json!([{"key": KEPT, "effect": "NoSchedule"}]);
        let kept = node(json!({"taints": ours}));
        assert_eq!(changes(&kept, &kept), vec![]);
        // As the API server makes it.
        let new = node(
            json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}),
        );
        for (want, have, taints) in [(&kept, &new, ours), (&node(json!({})), &kept, Value::Null)] {
            let writes = changes(want, have);
            assert_eq!(writes.len(), 1);
            assert_eq!(writes[0].body["spec"]["taints"], taints);
        }
    }
}
