//! Which Clusters an object belongs to, by its owner references; pure.
//!
//! Neither the place in the list nor `controller` counts: Cluster API sets the latter with a ClusterClass only. Any version
//! of the group is as good as another.

use api::capi;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Names of the Clusters that own the object.
pub(super) fn clusters(metadata: &ObjectMeta) -> Vec<&str> {
    names(metadata, capi::GROUP, "Cluster")
}

/// Names of the owners of a kind.
pub(super) fn names<'a>(metadata: &'a ObjectMeta, group: &str, kind: &str) -> Vec<&'a str> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .filter(|owner| {
            owner.kind == kind && owner.api_version.rsplit_once('/').map(|(g, _)| g) == Some(group)
        })
        .map(|owner| owner.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Pitfall 4.
    #[test]
    fn the_owner_is_found_by_kind_and_group_at_any_place_in_any_version() {
        let owner = |api: &str, kind: &str, name: &str| json!({"apiVersion": api, "kind": kind, "name": name, "uid": name});
        let metadata: ObjectMeta = serde_json::from_value(json!({"ownerReferences": [
            owner("example.com/v1", "Cluster", "other-group"),
            owner("cluster.x-k8s.io/v1beta1", "Machine", "other-kind"),
            owner("cluster.x-k8s.io/v1beta7", "Cluster", "ours"),
        ]}))
        .unwrap();
        assert_eq!(clusters(&metadata), ["ours"]);
        assert!(clusters(&ObjectMeta::default()).is_empty());
    }
}
