//! The zones that a control plane may run in, which are a Cluster's failure domains; pure.
//!
//! Its pods are spread over them by the super cluster's scheduler ([`crate::provision`]), so nobody has to choose one.

use crate::object::Object;
use api::FailureDomain;
use std::collections::BTreeMap;

/// Label of a node that names its zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a node that names its region.
const REGION: &str = "topology.kubernetes.io/region";
/// Taints that come and go with a node's state begin so: they don't say what the node is for.
const STATE: &str = "node.kubernetes.io/";
/// So many may be told.
const MOST: usize = 100;

/// The zones of nodes that have all labels of `selector` and take pods, by name.
pub(crate) fn of(nodes: &[Object], selector: &BTreeMap<String, String>) -> Vec<FailureDomain> {
    let may_run = |node: &&Object| {
        let selected = selector
            .iter()
            .all(|(key, value)| node.label(key) == Some(value.as_str()));
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

/// Whether a taint keeps pods of control planes out for good: they tolerate none.
fn keeps_out(taint: &serde_json::Value) -> bool {
    let is_state = |key: &str| key.starts_with(STATE);
    taint["effect"] != "PreferNoSchedule" && !taint["key"].as_str().is_some_and(is_state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{endpoint, object::NODE};
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
                json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]),
            ),
            node(json!({ZONE: "e", "pool": "b"}), json!([])),
            node(json!({"pool": "a"}), json!([])),
        ];
        let names = |selector: &[(&str, &str)]| -> Vec<String> {
            let selector = selector
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let zones = of(&nodes, &selector.collect());
            zones.into_iter().map(|zone| zone.name).collect()
        };
        assert_eq!(names(&[]), ["a", "b", "c", "e"]);
        assert_eq!(names(&[("pool", "a")]), ["a", "b", "c"]);
        assert!(names(&[("pool", "none")]).is_empty());
        let told = serde_json::to_value(of(&nodes[..1], &BTreeMap::new())).unwrap();
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
        assert_eq!(of(&nodes, &BTreeMap::new()).len(), MOST);
    }
}
