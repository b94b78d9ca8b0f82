//! `ControlPlaneGroup`: several VirtualControlPlanes that belong together, such as a customer's.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Several VirtualControlPlanes held together: labels stamped on all their super namespaces.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sublet.dev",
    version = "v1alpha1",
    kind = "ControlPlaneGroup",
    plural = "controlplanegroups",
    shortname = "cpg",
    category = "sublet",
    derive = "PartialEq",
    doc = "VirtualControlPlanes that belong together (a customer, a business unit).",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneGroupSpec {
    /// Super namespaces whose VirtualControlPlanes belong to the group.
    #[x_kube(
        merge_strategy = ListMerge::Set
    )]
    #[schemars(length(min = 1, max = 256), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// Labels put on every super namespace of the group's tenants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('sublet.dev/') && !key.startsWith('pod-security.kubernetes.io/'))")
        .message("spec.labels can't hold sublet.dev/ or pod-security.kubernetes.io/ keys: Sublet sets those itself"))]
    #[schemars(length(max = 32))]
    pub labels: BTreeMap<String, String>,
}
