//! Sublet's API: the custom resources and every label and annotation key.
//!
//! Nothing here talks to a cluster. A type or key that two crates share lives in this crate, so that a name is spelled
//! once. The CRDs in `manifests/crds.yaml` and `manifests/capi` are generated from these types by `cargo xtask crds`.

// KubeSchema repeats each struct, `pub` included, inside a function.
#![allow(unreachable_pub)]
// Two printer columns may have the same type.
#![allow(clippy::duplicated_attributes)]

pub mod capi;
pub mod keys;

mod annotation;
mod authentication;
mod backup;
mod ceilings;
mod condition;
mod control_plane_class;
mod control_plane_group;
mod crossing;
mod failure_domain;
mod node_affinity;
mod pod_network;
mod pod_rules;
mod quantities;
mod sharing;
mod sleep;
mod storage;
mod sync_rate;
mod sync_status;
mod virtual_control_plane;

pub use annotation::{AnnotatedKind, OfferedAnnotation};
pub use authentication::{
    AudienceMatchPolicy, Authentication, ClaimMappings, ClaimOrExpression, ClaimValidationRule,
    ExtraMapping, Issuer, JwtAuthenticator, PrefixedClaimOrExpression, UserValidationRule,
};
pub use backup::{
    Backup, Restore, RestoreState, Restored, SCHEDULED, Snapshot, SnapshotState, Trigger,
};
pub use ceilings::{Ceilings, EtcdCeilings, EtcdStorageCeilings};
pub use condition::{Condition, set_condition};
pub use control_plane_class::{
    Audit, Budgets, ControlPlaneClass, ControlPlaneClassSpec, ControlPlanePods, Egress, Images,
    Intervals, PartResources, PodResources, Version,
};
pub use control_plane_group::{
    ControlPlaneGroup, ControlPlaneGroupSpec, ControlPlaneGroupStatus, Share,
};
pub use crossing::{
    CustomResource, Direction, MAY_STAY, Offer, ReferenceKind, ReferencePath, ShownNodes,
    StatusPlace, SyncObjects, ToSuper,
};
pub use failure_domain::FailureDomain;
pub use node_affinity::{NodeAffinity, NodeOperator, NodeRequirement, NodeTerm, PreferredNodes};
pub use pod_network::PodNetwork;
pub use pod_rules::{
    Bandwidth, ContainerRules, ImageRules, PodRules, PodWishes, RawSockets, Toleration,
};
pub use quantities::Quantities;
pub use sharing::{ControlPlaneRef, Export, Import, PublishedService, ServiceRef, Sharing};
pub use sleep::{Sleep, SleepingWorkload};
pub use storage::{Retain, StorageRules, StorageWishes};
pub use sync_rate::SyncRate;
pub use sync_status::{SyncBacklog, SyncStatus};
pub use virtual_control_plane::{
    ApiServers, Dns, Endpoint, Etcd, EtcdStorage, External, Network, Phase, PodSecurity, Policy,
    QuotaStatus, Rollout, RunningVersion, SecretRef, SuperCluster, Sync, TenantProof,
    VirtualControlPlane, VirtualControlPlaneSpec, VirtualControlPlaneStatus,
};

/// The API group of Sublet's own resources.
pub const GROUP: &str = "sublet.dev";
/// The served version of [`GROUP`].
pub const VERSION: &str = "v1alpha1";
/// The namespace that holds Sublet's own daemons, identity claims and tenants' client credentials.
pub const SYSTEM_NAMESPACE: &str = "sublet-system";
/// Name of the ConfigMap in [`SYSTEM_NAMESPACE`] whose keys are the identities of tenants that may have more than the Pod
/// Security level `baseline`.
pub const TRUSTED_TENANTS: &str = "sublet-trusted-tenants";
/// Name of the ConfigMap in a tenant's kube-system by which the syncer sees that the tenant went back in time.
pub const MARK_NAME: &str = "sublet-mark";

/// Name of the ConfigMap in a tenant's kube-system that shows its quota and what is used of it, and of the ResourceQuota in
/// each of its super namespaces.
pub const QUOTA_NAME: &str = "sublet-quota";

/// The ValidatingAdmissionPolicies, and their bindings of the same names, that hold the identities of Sublet's daemons, and
/// the one that holds those who write VirtualControlPlanes.
pub const ADMISSION_POLICIES: [&str; 10] = [
    "sublet-daemons",
    "sublet-daemons-pods",
    "sublet-identities",
    "sublet-syncer-bindings",
    "sublet-syncer-claims",
    "sublet-syncer-levels",
    "sublet-syncer-namespaces",
    "sublet-syncer-pods",
    "sublet-syncer-reach",
    "sublet-syncer-services",
];

/// All CustomResourceDefinitions, in the order in which they are written to `manifests/crds.yaml`.
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>
{
    use kube::CustomResourceExt;
    vec![
        VirtualControlPlane::crd(),
        ControlPlaneClass::crd(),
        ControlPlaneGroup::crd(),
    ]
}
