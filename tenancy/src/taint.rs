//! Which taints say whom a node is for, and so keep pods off it for good.
//!
//! Taints that come and go with a node's state say nothing of that: a node that isn't ready, or is being emptied, is for
//! the same pods as before.

use crate::object::Object;
use api::Toleration;
use serde_json::Value;

/// Taints that come and go with a node's state begin so.
const STATE: &str = "node.kubernetes.io/";

/// Whether a taint keeps pods out for good that have these tolerations, and no others but of a node's state.
pub fn keeps_out(taint: &Value, tolerations: &[Toleration]) -> bool {
    let (key, value, effect) = parts(taint);
    let is_tolerated = |toleration: &Toleration| toleration.tolerates(key, value, effect);
    lasts(taint) && !tolerations.iter().any(is_tolerated)
}

/// Those of a node's taints that keep pods out which don't tolerate them, whatever its state.
pub fn lasting(node: &Object) -> impl Iterator<Item = &Value> {
    let all = node.at("/spec/taints").and_then(Value::as_array);
    all.into_iter().flatten().filter(|taint| lasts(taint))
}

fn lasts(taint: &Value) -> bool {
    let (key, _, effect) = parts(taint);
    effect != "PreferNoSchedule" && !key.starts_with(STATE)
}

/// Key, value and effect.
fn parts(taint: &Value) -> (&str, &str, &str) {
    let part = |name: &str| taint[name].as_str().unwrap_or_default();
    (part("key"), part("value"), part("effect"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_whom_a_node_is_for_keeps_others_out_and_its_state_does_not() {
        let taint = |key: &str, effect: &str| json!({"key": key, "value": "a", "effect": effect});
        let tolerations = [Toleration {
            key: "mine".into(),
            value: Some("a".into()),
            effect: None,
        }];
        for (key, effect, expected) in [
            ("theirs", "NoSchedule", true),
            ("theirs", "NoExecute", true),
            ("theirs", "PreferNoSchedule", false),
            ("mine", "NoSchedule", false),
            ("node-role.kubernetes.io/control-plane", "NoSchedule", true),
            ("node.kubernetes.io/not-ready", "NoExecute", false),
            ("node.kubernetes.io/unschedulable", "NoSchedule", false),
            ("node.kubernetes.io/memory-pressure", "NoSchedule", false),
        ] {
            let kept = keeps_out(&taint(key, effect), &tolerations);
            assert_eq!(kept, expected, "{key} {effect}");
        }
        let other = json!({"key": "mine", "value": "b", "effect": "NoSchedule"});
        assert!(keeps_out(&other, &tolerations));
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [
            taint("node.kubernetes.io/not-ready", "NoExecute"), taint("soft", "PreferNoSchedule"), taint("mine", "NoSchedule"),
        ]}});
        let node = Object::from_value(node).unwrap();
        let keys: Vec<&Value> = lasting(&node).map(|taint| &taint["key"]).collect();
        assert_eq!(keys, ["mine"]);
        let plain = Object::from_value(json!({"metadata": {"name": "n"}})).unwrap();
        assert_eq!(lasting(&plain).count(), 0);
    }
}
