//! Services that tenants are shown beside their own: of the platform, and of other tenants that agree.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Service of the super cluster that the tenants of a class are shown and may reach.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedService {
    /// Its namespace in the super cluster.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name. It must have a cluster IP.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What it is called in tenants that have the namespace.
    pub shown_as: ServiceRef,
}

/// Services that tenants share when both name each other.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// Services of this tenant that others may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exports: Vec<Export>,
    /// Services of others that this tenant is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub imports: Vec<Import>,
}

/// A Service of this tenant, and who may reach it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// The Service, as this tenant calls it. It must have a cluster IP and a selector.
    pub service: ServiceRef,
    /// VirtualControlPlanes that may reach it, if they import it.
    #[schemars(length(min = 1, max = 64))]
    pub to: Vec<ControlPlaneRef>,
}

/// A Service of another tenant.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The VirtualControlPlane whose Service it is.
    pub from: ControlPlaneRef,
    /// The Service, as that tenant calls it.
    pub service: ServiceRef,
    /// What it is called in this tenant, in a namespace that the tenant has.
    pub shown_as: ServiceRef,
}

/// A Service by namespace and name.
#[derive(
    KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A VirtualControlPlane by namespace and name.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneRef {
    /// Namespace in the super cluster.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

impl Sharing {
    /// Whether nothing is shared.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
