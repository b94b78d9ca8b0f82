//! `ControlPlaneGroup`: several VirtualControlPlanes that belong together, such as a customer's.

use crate::{Quantities, QuotaStatus};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Several VirtualControlPlanes held together: one budget over all of them, and labels on all their super namespaces.
///
/// Who may create VirtualControlPlanes in its namespaces may create them in the group.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sublet.dev",
    version = "v1alpha1",
    kind = "ControlPlaneGroup",
    plural = "controlplanegroups",
    shortname = "cpg",
    category = "sublet",
    status = "ControlPlaneGroupStatus",
    derive = "PartialEq",
    doc = "VirtualControlPlanes that belong together (a customer, a business unit).",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(name = "Quota", type_ = "string", json_path = ".spec.quota"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.quota.used"),
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
    /// What all tenants of the group together may use in the super cluster: names as in a class's `quota`. Each tenant is
    /// held to its own quota beside it. What isn't named isn't limited.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub quota: Quantities,
}

/// What was observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneGroupStatus {
    /// The budget and what is used of it; none when there is no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaStatus>,
    /// What each tenant has of the budget, by identity: what its objects take, or are about to. The syncers that lead the
    /// tenants agree on the budget by this map; a share that somebody takes out is counted anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, Share>,
}

/// What one tenant has of its group's budget.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// `NAMESPACE/NAME` of the VirtualControlPlane.
    pub control_plane: String,
    /// Amounts, for every name that the budget limits.
    #[serde(default)]
    pub used: Quantities,
}
