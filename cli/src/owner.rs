//! Sublet's marks on super-cluster objects, read.

use api::keys;
use kube::core::ObjectMeta;

/// Which tenant object a super object says it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Identity of the tenant.
    pub(crate) tenant: String,
    /// Namespace in the tenant; empty for cluster-scoped objects.
    pub(crate) namespace: String,
    /// Name in the tenant; empty on objects without a twin.
    pub(crate) name: String,
    /// UID in the tenant; empty on objects without a twin.
    pub(crate) uid: String,
    /// What an object without a twin is for.
    pub(crate) role: String,
    /// `NAMESPACE/NAME` of the VirtualControlPlane, as written on namespaces.
    pub(crate) control_plane: String,
}

/// The marks on an object; `None` when Sublet didn't make it.
pub(crate) fn marks(metadata: &ObjectMeta) -> Option<Marks> {
    let label = |key: &str| {
        metadata
            .labels
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
    };
    let annotation = |key: &str| {
        metadata
            .annotations
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default()
    };
    Some(Marks {
        tenant: label(keys::TENANT)?,
        namespace: annotation(keys::NAMESPACE),
        name: annotation(keys::NAME),
        uid: annotation(keys::UID),
        role: label(keys::ROLE).unwrap_or_default(),
        control_plane: annotation(keys::CONTROL_PLANE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marks_are_read_or_absent() {
        let metadata: ObjectMeta = serde_json::from_value(json!({
            "name": "web", "labels": {keys::TENANT: "t"}, "annotations": {keys::NAMESPACE: "default", keys::NAME: "web", keys::UID: "u"},
        }))
        .unwrap();
        let found = marks(&metadata).unwrap();
        assert_eq!(
            (
                found.tenant.as_str(),
                found.namespace.as_str(),
                found.uid.as_str()
            ),
            ("t", "default", "u")
        );
        assert_eq!(marks(&ObjectMeta::default()), None);
    }
}
