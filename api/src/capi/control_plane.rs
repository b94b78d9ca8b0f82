//! `SubletControlPlane`: a tenant's control plane as Cluster API asks for it.

use super::TemplateMetadata;
use crate::{Authentication, Condition, Etcd, Policy, Rollout, RunningVersion, Sync};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant's control plane; it owns a VirtualControlPlane that is named after the Cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "controlplane.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "SubletControlPlane",
    plural = "subletcontrolplanes",
    shortname = "scp",
    category = "cluster-api",
    category = "sublet",
    namespaced,
    status = "SubletControlPlaneStatus",
    derive = "PartialEq",
    doc = "The control plane of a Cluster that is a tenant of the super cluster.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(
        name = "Up-to-date",
        type_ = "integer",
        json_path = ".status.upToDateReplicas"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(
        name = "Paused",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Paused\")].status",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SubletControlPlaneSpec {
    /// Where clients reach the API server. Leave it out: it is filled in once it is known, and Cluster API copies it to
    /// the Cluster. It can't change afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.controlPlaneEndpoint can't change: Cluster API copies it once and never again"))]
    pub control_plane_endpoint: Option<ControlPlaneEndpoint>,

    /// Kubernetes version, such as `v1.36.3`; when left out, the class's first one at the time when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^v?1\\\\.[0-9]+(\\\\.[0-9]+)?$')")
        .message("spec.version is a Kubernetes version: write v1.36.3"))]
    #[schemars(length(min = 1, max = 256))]
    pub version: Option<String>,

    /// Number of API servers, 1 to 3; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3").message("spec.replicas is 1, 2 or 3"))]
    pub replicas: Option<i32>,

    /// When API servers and controller-manager are started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// What a template may say too.
    #[serde(flatten)]
    pub tenant: TenantSettings,
}

/// Settings of a tenant that templates and control planes share.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantSettings {
    /// The ControlPlaneClass that gives defaults and ceilings; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// The tenant's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// Who may log in by tokens of an issuer outside of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Which objects cross.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
    /// What the tenant may do in the super cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Host and port of the API server, as Cluster API reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneEndpoint {
    /// DNS name or IP address.
    #[schemars(length(min = 1, max = 512))]
    pub host: String,
    /// TCP port.
    #[schemars(extend("format" = "int32"), range(min = 1, max = 65535))]
    pub port: u16,
}

/// What was observed. Counts are of API servers; all of it can be worked out anew, so that a move may lose it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubletControlPlaneStatus {
    /// How far the first start is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<ControlPlaneInitialization>,
    /// The lowest version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// All versions that run, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<RunningVersion>,
    /// Label selector of the API servers' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Of them those that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Of them those that have been ready long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// Of them those that are as the spec wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_date_replicas: Option<i32>,
    /// True: API servers aren't Nodes of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_managed_control_plane: Option<bool>,
    /// `metadata.generation` that this status was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type: `Available`, `Ready`, `CertificatesAvailable`, `EtcdClusterAvailable`, `RollingOut`,
    /// `ScalingUp`, `ScalingDown`, `Deleting`, `Paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far the first start is; left out until there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct ControlPlaneInitialization {
    /// True once the API server answered; never false again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_initialized: Option<bool>,
}

/// A template of control planes, for a ClusterClass.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "controlplane.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "SubletControlPlaneTemplate",
    plural = "subletcontrolplanetemplates",
    shortname = "scpt",
    category = "cluster-api",
    namespaced,
    derive = "PartialEq",
    doc = "What a ClusterClass makes SubletControlPlanes from. Version, replicas and endpoint come from the Cluster.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SubletControlPlaneTemplateSpec {
    /// The template.
    pub template: SubletControlPlaneTemplateResource,
}

/// Metadata and spec of what is made from the template.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubletControlPlaneTemplateResource {
    /// Labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Settings.
    #[serde(default)]
    pub spec: TenantSettings,
}
