//! Where clients outside the super cluster reach a tenant: the address of a node.

use crate::{
    network::zones::ZONE,
    object::{NODE, Object},
};

/// Host of a URL such as `https://HOST:PORT`.
pub(crate) fn host(url: &str) -> Option<&str> {
    let (host, _port) = url.strip_prefix("https://")?.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Address of the node that clients are sent to: `current` while a node has it, else the first ready node's.
pub(crate) fn node_address(nodes: &[Object], current: Option<&str>) -> Option<String> {
    let address = |node: &Object| {
        let internal = node
            .items("/status/addresses")
            .iter()
            .find(|address| address["type"] == "InternalIP")?;
        internal["address"].as_str().map(str::to_owned)
    };
    let kept = nodes
        .iter()
        .filter_map(address)
        .find(|address| Some(address.as_str()) == current);
    let mut ready = nodes.iter().filter(|node| is_ready(node));
    kept.or_else(|| ready.find_map(address))
}

/// Whether a node says that it is ready.
pub(crate) fn is_ready(node: &Object) -> bool {
    let mut conditions = node.items("/status/conditions").iter();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// What is kept of a node between two lists; labels only where they tell of zones.
pub(crate) fn essence(node: &Object) -> Object {
    let pick = |pointer: &str| node.body.pointer(pointer).cloned().unwrap_or_default();
    let body = serde_json::json!({
        "metadata": {
            "name": node.name(),
            "labels": node.label(ZONE).map(|_| pick("/metadata/labels")),
        },
        "spec": {"taints": pick("/spec/taints")},
        "status": {
            "addresses": pick("/status/addresses"),
            "allocatable": {"cpu": pick("/status/allocatable/cpu")},
            "conditions": pick("/status/conditions"),
        },
    });
    Object::observed(NODE, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clients_stay_with_a_node_as_long_as_it_exists() {
        let node = |name: &str, address: &str, ready: &str| {
            let status = json!({
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": ready}],
            });
            Object::new(NODE, None, name, json!({"status": status}))
        };
        let nodes = [
            node("a", "10.0.0.1", "False"),
            node("b", "10.0.0.2", "True"),
        ];
        assert_eq!(node_address(&nodes, None).as_deref(), Some("10.0.0.2"));
        assert_eq!(
            node_address(&nodes, Some("10.0.0.1")).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(
            node_address(&nodes, Some("10.0.0.9")).as_deref(),
            Some("10.0.0.2")
        );
        assert_eq!(node_address(&[], None), None);
        assert_eq!(host("https://10.0.0.2:30001"), Some("10.0.0.2"));
        assert_eq!(host("https://[fd00::1]:30001"), Some("fd00::1"));
    }
}
