//! `SubletCluster`: what outlives the control plane of a Cluster.

use super::TemplateMetadata;
use crate::{Condition, Dns, FailureDomain, SuperCluster};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant's place in the super cluster: its identity, its keys and its Service addresses. They stay while the control
/// plane goes, and end with this object.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "SubletCluster",
    plural = "subletclusters",
    shortname = "scl",
    category = "cluster-api",
    category = "sublet",
    namespaced,
    status = "SubletClusterStatus",
    derive = "PartialEq",
    doc = "The place of a Cluster in the super cluster: identity, keys and Service addresses.",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']"
    ),
    printcolumn(
        name = "Provisioned",
        type_ = "string",
        json_path = ".status.initialization.provisioned"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
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
#[x_kube(
    validation = Rule::new("!has(oldSelf.identity) || (has(self.identity) && self.identity == oldSelf.identity)")
        .message("spec.identity can't change: every super-cluster object of the tenant carries it; leave it as it was"),
    validation = Rule::new("!has(oldSelf.superCluster) == !has(self.superCluster)")
        .message("spec.superCluster can't be added or removed: the tenant would be left behind; create another Cluster instead")
)]
pub struct SubletClusterSpec {
    /// 128 random bits in lower-case base32 (26 characters). It is made when it is left out and can't change afterwards;
    /// it is part of the spec so that it survives a move to another management cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z2-7]{26}$')")
        .message("spec.identity is 26 characters of lower-case base32 (a-z, 2-7); leave it out and one is made"))]
    #[schemars(length(max = 26))]
    pub identity: Option<String>,

    /// The tenant's slice of the super cluster's Service range, in CIDR notation; a free one is taken and written here.
    #[serde(
        default,
        rename = "serviceCIDR",
        skip_serializing_if = "Option::is_none"
    )]
    #[x_kube(
        validation = Rule::new("isCIDR(self)").message("spec.serviceCIDR is in CIDR notation, such as 10.96.4.0/22; leave it out and a free slice is taken"),
        validation = Rule::new("self == oldSelf").message("spec.serviceCIDR can't change: Services have their addresses from it")
    )]
    #[schemars(length(max = 43))]
    pub service_cidr: Option<String>,

    /// What a template may say too.
    #[serde(flatten)]
    pub place: PlaceSettings,
}

/// Settings of a tenant's place that templates and clusters share.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceSettings {
    /// DNS suffix of the tenant's Services; `cluster.local` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster_domain: Option<String>,
    /// How the tenant's names are resolved; `dedicated` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// The super cluster, when it is another one than the management cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_cluster: Option<SuperCluster>,
}

/// What was observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubletClusterStatus {
    /// How far the first start is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<InfrastructureInitialization>,
    /// Zones of the super cluster that the control plane may run in; Cluster API shows them in the Cluster's status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub failure_domains: Vec<FailureDomain>,
    /// `metadata.generation` that this status was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type: `Ready`, `Deleting`, `Paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far the first start is; left out until there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct InfrastructureInitialization {
    /// True once a control plane can be reached; never false again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<bool>,
}

/// A template of infrastructure clusters, for a ClusterClass.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "SubletClusterTemplate",
    plural = "subletclustertemplates",
    shortname = "sclt",
    category = "cluster-api",
    namespaced,
    derive = "PartialEq",
    doc = "What a ClusterClass makes SubletClusters from.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SubletClusterTemplateSpec {
    /// The template.
    pub template: SubletClusterTemplateResource,
}

/// Metadata and spec of what is made from the template.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubletClusterTemplateResource {
    /// Labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Settings.
    #[serde(default)]
    pub spec: PlaceSettings,
}
