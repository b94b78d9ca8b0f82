//! VirtualControlPlanes that aren't served since their class is for other namespaces.
//!
//! The manager makes nothing for them, but of one that runs, or whose API server runs elsewhere, the class would be gone by here.

use super::{Heard, is_resting};
use crate::verdict::ControlPlane;
use api::VirtualControlPlane;

/// Reason of `Synced` for them.
pub(super) const REASON: &str = "ClassNotAllowed";

impl Heard {
    /// Whether the class of a VirtualControlPlane is for other namespaces. That of a twin is looked at where the twin is.
    pub(super) fn is_refused(&self, namespace: &str, vcp: &VirtualControlPlane) -> bool {
        let class = self.classes.get(&vcp.spec.class_name);
        vcp.spec.super_cluster.is_none() && class.is_some_and(|class| !class.is_for(namespace))
    }

    /// Those that haven't been told yet, and what to tell them.
    pub(super) fn refused(&self) -> Vec<(ControlPlane, String)> {
        if !self.is_complete() {
            return vec![];
        }
        let all = self.control_planes.iter();
        let untold = all.filter(|((namespace, _), vcp)| {
            let conditions = vcp.status.iter().flat_map(|status| &status.conditions);
            let is_told = conditions
                .into_iter()
                .any(|condition| condition.type_ == "Synced" && condition.reason == REASON);
            !is_resting(vcp) && self.is_refused(namespace, vcp) && !is_told
        });
        let told = untold.filter_map(|((namespace, name), vcp)| {
            let control_plane = ControlPlane {
                id: self.identity(namespace, name, vcp)?,
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let text = format!(
                "ControlPlaneClass {} isn't for namespace {namespace}: nothing is synced",
                vcp.spec.class_name
            );
            Some((control_plane, text))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tenancy::tenant::TenantId;

    /// All lists are complete, and there is a class for the namespace `platform` alone.
    fn heard(spec: Value, status: Value) -> Heard {
        let id = TenantId::from_bits([7; 16]);
        let mut vcp = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"}, "spec": spec, "status": status,
        });
        vcp["spec"]["identity"] = id.as_str().into();
        let class = json!({"versions": [], "namespaces": ["platform"]});
        let mut heard = Heard {
            complete: (1 << super::super::SOURCES.len()) - 1,
            ..Heard::default()
        };
        let class = serde_json::from_value(class).unwrap();
        heard.classes.insert("gold".into(), class);
        let place = ("n".to_owned(), "a".to_owned());
        let vcp = serde_json::from_value(vcp).unwrap();
        heard.control_planes.insert(place, vcp);
        heard
    }

    #[test]
    fn whoever_has_a_class_of_other_namespaces_is_told_so_once() {
        let gold = json!({"className": "gold"});
        let told = |spec: &Value, status| heard(spec.clone(), status).refused().len();
        let refused = heard(gold.clone(), json!({})).refused();
        let [(of, text)] = &refused[..] else {
            panic!("it is told");
        };
        assert_eq!((&*of.namespace, &*of.name), ("n", "a"));
        assert!(text.contains("gold isn't for namespace n"), "{text}");
        let condition = |kind: &str, reason: &str| json!({"conditions": [{"type": kind, "status": "False", "reason": reason, "lastTransitionTime": ""}]});
        assert_eq!(told(&gold, condition("Synced", REASON)), 0);
        assert_eq!(told(&gold, condition("Ready", REASON)), 1);
        assert_eq!(told(&gold, condition("Synced", "Stopped")), 1);
        assert_eq!(
            told(&json!({"className": "gold", "paused": true}), json!({})),
            0
        );
        assert_eq!(told(&json!({"className": "default"}), json!({})), 0);
        let elsewhere =
            json!({"className": "gold", "superCluster": {"kubeconfigSecretRef": {"name": "x"}}});
        assert_eq!(told(&elsewhere, json!({})), 0);
    }
}
