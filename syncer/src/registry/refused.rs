//! VirtualControlPlanes that aren't served since they have no class that they may have.
//!
//! The manager makes nothing for them, but of one that runs, or whose API server runs elsewhere, the class would be gone by here.

use super::{RegistryState, classes::Refused, is_resting, is_told};
use crate::verdict::ControlPlane;

impl RegistryState {
    /// Those that haven't been told yet, and what to tell them. A twin's class is looked at where the twin is.
    pub(super) fn refused(&self) -> Vec<(ControlPlane, Refused)> {
        if !self.is_complete() {
            return vec![];
        }
        let all = self.control_planes.iter();
        let awake = all.filter(|(_, vcp)| !is_resting(vcp) && vcp.spec.super_cluster.is_none());
        let untold = awake.filter_map(|((namespace, name), vcp)| {
            let id = self.identity(namespace, name, vcp)?;
            let refused = self.class(namespace, &id, vcp).err()?;
            let is_told = is_told(vcp, refused.reason);
            let control_plane = ControlPlane {
                id,
                namespace: namespace.clone(),
                name: name.clone(),
            };
            (!is_told).then_some((control_plane, refused))
        });
        untold.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tenancy::tenant::TenantId;

    /// All lists are complete, and there is a class for the namespace `platform` alone.
    fn state(spec: Value, status: Value) -> RegistryState {
        let id = TenantId::from_bits([7; 16]);
        let mut vcp = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"}, "spec": spec, "status": status,
        });
        vcp["spec"]["identity"] = id.as_str().into();
        let class = json!({"versions": [], "namespaces": ["platform"]});
        let mut state = RegistryState {
            complete: (1 << super::super::SOURCES.len()) - 1,
            ..RegistryState::default()
        };
        let class = serde_json::from_value(class).unwrap();
        state.classes.take("gold", class);
        let place = ("n".to_owned(), "a".to_owned());
        let vcp = serde_json::from_value(vcp).unwrap();
        state.control_planes.insert(place, vcp);
        state
    }

    #[test]
    fn whoever_has_a_class_of_other_namespaces_is_told_so_once() {
        let gold = json!({"className": "gold"});
        let told = |spec: &Value, status| state(spec.clone(), status).refused().len();
        let refused = state(gold.clone(), json!({})).refused();
        let [(of, Refused { message, .. })] = &refused[..] else {
            panic!("it is told");
        };
        assert_eq!((&*of.namespace, &*of.name), ("n", "a"));
        assert!(message.contains("gold isn't for namespace n"), "{message}");
        let condition = |kind: &str, reason: &str| json!({"conditions": [{"type": kind, "status": "False", "reason": reason, "lastTransitionTime": ""}]});
        assert_eq!(told(&gold, condition("Synced", "ClassNotAllowed")), 0);
        assert_eq!(told(&gold, condition("Ready", "ClassNotAllowed")), 1);
        assert_eq!(told(&gold, condition("Synced", "Stopped")), 1);
        assert_eq!(
            told(&json!({"className": "gold", "paused": true}), json!({})),
            0
        );
        let missing = condition("Synced", "ClassMissing");
        assert_eq!(told(&gold, missing.clone()), 1);
        assert_eq!(told(&json!({"className": "default"}), missing), 0);
        let elsewhere =
            json!({"className": "gold", "superCluster": {"kubeconfigSecretRef": {"name": "x"}}});
        assert_eq!(told(&elsewhere, json!({})), 0);
    }
}
