//! The Cluster API provider's kinds, by contract v1beta2: a control plane, an infrastructure cluster, and their templates.
//!
//! A platform makes tenants as `Cluster` objects with them. Both kinds are needed: Cluster API reads two different status
//! contracts, and a ClusterClass demands a template for each. The CRDs are in files of their own under `manifests/capi`,
//! since a super cluster without Cluster API has no use for them.

mod control_plane;
mod infrastructure;

pub use control_plane::{
    ControlPlaneEndpoint, ControlPlaneInitialization, SubletControlPlane, SubletControlPlaneSpec,
    SubletControlPlaneStatus, SubletControlPlaneTemplate, SubletControlPlaneTemplateResource,
    SubletControlPlaneTemplateSpec, TenantSettings,
};
pub use infrastructure::{
    InfrastructureInitialization, PlaceSettings, SubletCluster, SubletClusterSpec,
    SubletClusterStatus, SubletClusterTemplate, SubletClusterTemplateResource,
    SubletClusterTemplateSpec,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Group of Cluster API's own kinds.
pub const GROUP: &str = "cluster.x-k8s.io";
/// Group of control planes.
pub const CONTROL_PLANE_GROUP: &str = "controlplane.cluster.x-k8s.io";
/// Group of infrastructure clusters.
pub const INFRASTRUCTURE_GROUP: &str = "infrastructure.cluster.x-k8s.io";
/// Label on each CRD that names the versions which speak the contract; without it Cluster API takes the kind for unknown.
pub const CONTRACT: (&str, &str) = ("cluster.x-k8s.io/v1beta2", crate::VERSION);
/// Label on CRDs and other objects of a provider that names it.
pub const PROVIDER: &str = "cluster.x-k8s.io/provider";
/// Label on the CRDs whose objects `clusterctl move` takes along.
pub const CLUSTERCTL: &str = "clusterctl.cluster.x-k8s.io";
/// Name of the control plane provider.
pub const CONTROL_PLANE_PROVIDER: &str = "control-plane-sublet";
/// Name of the infrastructure provider.
pub const INFRASTRUCTURE_PROVIDER: &str = "infrastructure-sublet";
/// Label on all objects of a Cluster: its name.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Annotation on an object that its controller must leave alone.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Annotation on an object that `clusterctl move` must not take along yet.
pub const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";
/// Label or annotation on an infrastructure cluster that somebody else looks after.
pub const MANAGED_BY: &str = "cluster.x-k8s.io/managed-by";
/// Label by which several providers in one management cluster share out the objects.
pub const WATCH_FILTER: &str = "cluster.x-k8s.io/watch-filter";
/// Type of all Secrets of a Cluster.
pub const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";
/// Finalizer of both kinds.
pub const FINALIZER: &str = "sublet.dev/cluster-api";

/// The provider's CustomResourceDefinitions, those of the control plane first.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        (SubletControlPlane::crd(), CONTROL_PLANE_PROVIDER),
        (SubletControlPlaneTemplate::crd(), CONTROL_PLANE_PROVIDER),
        (SubletCluster::crd(), INFRASTRUCTURE_PROVIDER),
        (SubletClusterTemplate::crd(), INFRASTRUCTURE_PROVIDER),
    ]
    .into_iter()
    .map(|(mut crd, provider)| {
        let labels = [CONTRACT, (PROVIDER, provider), (CLUSTERCTL, "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        crd.metadata.labels = Some(labels.into());
        crd
    })
    .collect()
}

/// Labels and annotations that a template gives to what is made from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
