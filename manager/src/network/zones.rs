//! The zones that a control plane may run in, which are a Cluster's failure domains; pure.
//!
//! Its pods are spread over them by the super cluster's scheduler ([`crate::provision`]), so nobody has to choose one.

use crate::object::Object;
use api::{ControlPlanePods, FailureDomain};
use std::collections::BTreeMap;
use tenancy::taint;

/// Label of a node that names its zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a node that names its region.
const REGION: &str = "topology.kubernetes.io/region";
/// So many may be told.
const MOST: usize = 100;

/// The zones of nodes that have all labels that `pods` ask for and whose taints they tolerate, by name.
pub(crate) fn of(nodes: &[Object], pods: &ControlPlanePods) -> Vec<FailureDomain> {
    let may_run = |node: &&Object| {
        let selected = pods
            .node_selector
            .iter()
            .all(|(key, value)| node.label(key) == Some(value.as_str()));
        let keeps_out = |taint: &_| taint::keeps_out(taint, &pods.tolerations);
        selected && !node.items("/spec/taints").iter().any(keeps_out)
    };
    let mut zones: BTreeMap<&str, FailureDomain> = BTreeMap::new();
    for node in nodes.iter().filter(may_run) {
        let Some(name) = node.label(ZONE).filter(|name| !name.is_empty()) else {
            continue;
        };
        let zone = zones.entry(name).or_default();
        zone.name = name.to_owned();
        zone.control_plane = Some(true);
        if let Some(region) = node.label(REGION) {
            zone.attributes.insert("region".into(), region.to_owned());
        }
    }
    zones.into_values().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{network::endpoint, object::NODE};
    use serde_json::{Value, json};

    fn node(labels: Value, taints: Value) -> Object {
        let body = json!({"metadata": {"labels": labels}, "spec": {"taints": taints}});
        endpoint::essence(&Object::new(NODE, None, "n", body))
    }

    #[test]
    fn zones_are_those_of_nodes_that_control_planes_may_run_on() {
        let zone = |name: &str| json!({ZONE: name, REGION: "west", "pool": "a"});
        let nodes = [
            node(zone("b"), json!([])),
            node(zone("a"), Value::Null),
            node(zone("b"), json!([])),
            // A node that isn't ready is in its zone still.
            node(
                zone("c"),
                json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            ),
            node(
                zone("d"),
                json!([{"key": "kept-for", "value": "platform", "effect": "NoSchedule"}]),
            ),
            node(json!({ZONE: "e", "pool": "b"}), json!([])),
            node(json!({"pool": "a"}), json!([])),
        ];
        let names = |pods: Value| -> Vec<String> {
            let zones = of(&nodes, &serde_json::from_value(pods).unwrap());
            zones.into_iter().map(|zone| zone.name).collect()
        };
        let on = |pool: &str| json!({"nodeSelector": {"pool": pool}});
        let tolerant = |toleration: Value| json!({"tolerations": [toleration]});
        assert_eq!(names(json!({})), ["a", "b", "c", "e"]);
        assert_eq!(names(on("a")), ["a", "b", "c"]);
        assert!(names(on("none")).is_empty());
        for toleration in [
            json!({"key": "kept-for"}),
            json!({"key": "kept-for", "value": "platform", "effect": "NoSchedule"}),
        ] {
            let zones = names(tolerant(toleration));
            assert_eq!(zones, ["a", "b", "c", "d", "e"], "tainted ones, too");
        }
        for toleration in [
            json!({"key": "kept"}),
            json!({"key": "kept-for", "value": "others"}),
            json!({"key": "kept-for", "effect": "NoExecute"}),
        ] {
            assert_eq!(names(tolerant(toleration)), ["a", "b", "c", "e"]);
        }
        let told = serde_json::to_value(of(&nodes[..1], &ControlPlanePods::default())).unwrap();
        assert_eq!(
            told,
            json!([{"name": "b", "controlPlane": true, "attributes": {"region": "west"}}])
        );
    }

    #[test]
    fn no_more_are_told_than_may_be() {
        let nodes: Vec<Object> = (0..120)
            .map(|n| node(json!({ZONE: format!("z{n}")}), json!([])))
            .collect();
        assert_eq!(of(&nodes, &ControlPlanePods::default()).len(), MOST);
    }
}
