//! How many may start at the same time: as many as was said, or as the nodes have cores for.

use crate::{network::endpoint, object::Object};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Cores for each that starts. It takes one, and what it makes others do another: the super cluster's API server and
/// kubelets. Where more start than there are cores for, each asks all the longer whether it is ready, and all are later.
const CORES: usize = 2;
/// So many even on the smallest node: one that waits for a disk or a probe leaves its core to another.
const LEAST: usize = 2;
/// So many even on the largest cluster, whose API server makes their objects.
const MOST: usize = 32;

/// The number, for those who ask.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    said: Option<usize>,
    by_cores: Arc<AtomicUsize>,
}

impl Limit {
    /// `said` by a person, if anything was.
    pub(crate) fn new(said: Option<u16>) -> Self {
        Self {
            said: said.map(usize::from),
            by_cores: Arc::new(AtomicUsize::new(LEAST)),
        }
    }

    /// Takes note of the nodes that there are.
    pub(crate) fn learn(&self, nodes: &[Object]) {
        self.by_cores.store(by_cores(nodes), Ordering::Relaxed);
    }

    /// The number now.
    pub(crate) fn now(&self) -> usize {
        self.said
            .unwrap_or_else(|| self.by_cores.load(Ordering::Relaxed))
    }
}

/// What the ready nodes have cores for.
fn by_cores(nodes: &[Object]) -> usize {
    let ready = nodes.iter().filter(|node| endpoint::is_ready(node));
    let milli: usize = ready.map(|node| milli(node.text(CPU))).sum();
    (milli / 1000 / CORES).clamp(LEAST, MOST)
}

/// Where a node tells what it has for pods.
const CPU: &str = "/status/allocatable/cpu";

/// Thousandths of a core; 0 when it has a form that nodes don't write.
fn milli(quantity: &str) -> usize {
    match quantity.strip_suffix('m') {
        Some(milli) => milli.parse().unwrap_or(0),
        None => quantity
            .parse::<usize>()
            .map_or(0, |cores| cores.saturating_mul(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::NODE;
    use serde_json::json;

    fn node(cpu: &str, ready: &str) -> Object {
        let status = json!({
            "allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}],
        });
        endpoint::essence(&Object::new(NODE, None, "n", json!({"status": status})))
    }

    #[test]
    fn as_many_start_as_ready_nodes_have_cores_for_unless_somebody_says_another_number() {
        let limit = Limit::new(None);
        for (nodes, expected) in [
            (vec![], 2),
            (vec![node("2", "True"), node("2", "True")], 2),
            (vec![node("7900m", "True"), node("8", "True")], 7),
            (vec![node("16", "True"), node("16", "False")], 8),
            (vec![node("what", "True")], 2),
            (vec![node("640", "True")], 32),
        ] {
            limit.learn(&nodes);
            assert_eq!(limit.now(), expected, "{nodes:?}");
        }
        let said = Limit::new(Some(1));
        said.learn(&[node("64", "True")]);
        assert_eq!(said.now(), 1);
    }
}
