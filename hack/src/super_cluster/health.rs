//! What state the cluster is in: its processes and its nodes.

use anyhow::{Result, bail};
use serde_json::Value;

use super::layout::Node;
use super::{Phase, Record, client, process};
use crate::kube_api::KubeApi;

/// Prints a table of processes and nodes. True when all is well.
pub(crate) fn print(record: Record) -> Result<bool> {
    let mut well = record.phase == Phase::Running;
    say!("{:<26} {:>8}  STATE", "COMPONENT", "PID");
    for (name, identity) in process::all_recorded() {
        let alive = identity.is_alive();
        well &= alive;
        say!(
            "{name:<26} {:>8}  {}",
            identity.pid,
            if alive { "running" } else { "ended" }
        );
    }
    say!("");
    say!("{:<26} {:>8}  VERSION", "NODE", "READY");
    match client().and_then(|api| api.get("/api/v1/nodes")) {
        Ok(list) => {
            for item in items(&list) {
                let ready = is_ready(item);
                let name = item["metadata"]["name"].as_str().unwrap_or("?");
                let version = item["status"]["nodeInfo"]["kubeletVersion"]
                    .as_str()
                    .unwrap_or("?");
                well &= ready;
                say!(
                    "{name:<26} {:>8}  {version}",
                    if ready { "yes" } else { "no" }
                );
            }
            well &= items(&list).count() >= usize::from(record.nodes);
        }
        Err(error) => {
            say!("the API server does not answer: {error:#}");
            well = false;
        }
    }
    if record.phase == Phase::Starting {
        say!("\nits start did not finish; `cargo xtask super up` starts it anew");
    } else if !well {
        say!("\n`cargo xtask super up` repairs it");
    }
    Ok(well)
}

/// An error that names the nodes which aren't Ready.
pub(crate) fn require_nodes(api: &KubeApi, nodes: &[Node]) -> Result<()> {
    let list = api.get("/api/v1/nodes")?;
    let ready: Vec<&str> = items(&list)
        .filter(|item| is_ready(item) && !has_taints(item))
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    let missing: Vec<String> = nodes
        .iter()
        .map(|node| node.name())
        .filter(|name| !ready.contains(&name.as_str()))
        .collect();
    if !missing.is_empty() {
        bail!("not Ready: {}", missing.join(", "));
    }
    Ok(())
}

/// The items of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// True when the object has the condition Ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn has_taints(node: &Value) -> bool {
    node["spec"]["taints"]
        .as_array()
        .is_some_and(|taints| !taints.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readiness_is_a_true_condition() {
        let node =
            |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")));
        assert!(!is_ready(&json!({})));
    }
}
