//! `VirtualControlPlane`: one tenant, as the super cluster's admin or a platform asks for it.

use crate::{
    Authentication, Backup, Condition, Egress, FailureDomain, NodeAffinity, Offer, PodWishes,
    Quantities, Restore, Restored, Sharing, ShownNodes, Sleep, Snapshot, StorageWishes, SyncRate,
    SyncStatus, ToSuper,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One tenant: its control plane, its network and what it may do in the super cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sublet.dev",
    version = "v1alpha1",
    kind = "VirtualControlPlane",
    plural = "virtualcontrolplanes",
    shortname = "vcp",
    category = "sublet",
    namespaced,
    status = "VirtualControlPlaneStatus",
    derive = "PartialEq",
    doc = "A tenant of the super cluster: its own Kubernetes API, with pods that run in the super cluster.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label: at most 63 lower-case letters, digits and '-', beginning with a letter"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className", priority = 1),
    printcolumn(name = "Identity", type_ = "string", json_path = ".spec.identity", priority = 1),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status",
        priority = 1
    ),
    printcolumn(name = "Behind", type_ = "date", json_path = ".status.sync.behindSince", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.identity) || (has(self.identity) && self.identity == oldSelf.identity)")
        .message("spec.identity can't change: every super-cluster object of the tenant carries it; leave it as it was"),
    validation = Rule::new("!has(oldSelf.external) == !has(self.external)")
        .message("spec.external can't be added or removed: create another VirtualControlPlane instead"),
    validation = Rule::new("!has(self.external) || (!has(self.version) && !has(self.replicas) && !has(self.etcd))")
        .message("with spec.external Sublet provisions nothing: leave out version, replicas and etcd"),
    validation = Rule::new("!has(self.external) || !has(self.network) || !has(self.network.dns) || self.network.dns != 'shared'")
        .message("the shared DNS server serves control planes that Sublet runs: with spec.external set spec.network.dns to none"),
    validation = Rule::new("!has(self.external) || !has(self.sleep)")
        .message("Sublet puts only control planes to sleep that it runs: leave out spec.sleep with spec.external"),
    validation = Rule::new("!has(self.external) || !has(self.backup)")
        .message("Sublet makes snapshots of etcds only that it runs: leave out spec.backup with spec.external"),
    validation = Rule::new("!has(self.external) || !has(self.restore)")
        .message("Sublet restores etcds only that it runs: leave out spec.restore with spec.external"),
    validation = Rule::new("has(self.external) || !has(oldSelf.network) || (has(self.network) && self.network.clusterDomain == oldSelf.network.clusterDomain)")
        .message("spec.network.clusterDomain can't change: pods keep the names that they were made with"),
    validation = Rule::new("!has(oldSelf.superCluster) == !has(self.superCluster)")
        .message("spec.superCluster can't be added or removed: create another VirtualControlPlane instead"),
    validation = Rule::new("!has(self.superCluster) || !has(self.external)")
        .message("spec.superCluster and spec.external exclude each other: attach the tenant in its super cluster"),
    validation = Rule::new("!has(self.external) || !has(self.authentication)")
        .message("with spec.external Sublet doesn't start the API server: leave out spec.authentication and give that server an AuthenticationConfiguration of its own"),
    validation = Rule::new("!has(self.identity) || !has(self.authentication) || !has(self.authentication.jwt) || self.authentication.jwt.all(one, one.issuer.url != 'https://' + self.identity + '.kubernetes.default.svc.' + self.network.clusterDomain)")
        .message("this issuer.url is that of the tenant's own ServiceAccounts, whose tokens are taken already: leave that entry of spec.authentication.jwt out")
)]
pub struct VirtualControlPlaneSpec {
    /// 128 random bits in lower-case base32 (26 characters). The manager sets it when it is left out; it can't change
    /// afterwards. It is part of the spec so that it survives a move to another management cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z2-7]{26}$')")
        .message("spec.identity is 26 characters of lower-case base32 (a-z, 2-7); leave it out and one is made"))]
    #[schemars(length(max = 26))]
    pub identity: Option<String>,

    /// The ControlPlaneClass that gives defaults and ceilings.
    #[serde(default = "default_class")]
    pub class_name: String,

    /// Kubernetes version of the tenant, such as `1.36.3`. When it is left out, the manager writes the class's first one
    /// here as it makes the control plane; only a person changes it then. `1.36` follows the class's first `1.36` one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^v?1\\\\.[0-9]+(\\\\.[0-9]+)?$')")
        .message("spec.version is a Kubernetes version: write 1.36 or 1.36.3"))]
    #[schemars(length(max = 32))]
    pub version: Option<String>,

    /// Number of API servers, 1 to 3; 1 when left out. Its class's `max` is the ceiling, as of `etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3").message("spec.replicas is 1, 2 or 3"))]
    pub replicas: Option<i32>,

    /// The tenant's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,

    /// When API servers and controller-manager are started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// Service addresses and DNS.
    #[serde(default)]
    pub network: Network,

    /// Where clients reach the API; chosen by the manager when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,

    /// An API server that already runs: Sublet provisions nothing and only syncs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,

    /// Another cluster than this one that the tenant runs in: Sublet there does all the work on a twin of this object,
    /// and its status is shown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_cluster: Option<SuperCluster>,

    /// Who may log in by tokens of an issuer outside of the tenant.
    #[serde(default, skip_serializing_if = "Authentication::is_empty")]
    pub authentication: Authentication,

    /// Which objects cross.
    #[serde(default)]
    pub sync: Sync,

    /// What the tenant may do in the super cluster.
    #[serde(default)]
    pub policy: Policy,

    /// Services that it shares with other tenants.
    #[serde(default, skip_serializing_if = "Sharing::is_empty")]
    pub sharing: Sharing,

    /// While true, neither the manager nor the syncer changes anything for this tenant.
    #[serde(default)]
    pub paused: bool,

    /// When the control plane sleeps: etcd, API servers and controller-manager have no pods then. What the tenant runs in
    /// the super cluster goes on, or ends first.
    #[serde(default, skip_serializing_if = "Sleep::is_empty")]
    pub sleep: Sleep,

    /// Snapshots of the tenant's etcd, by schedule and on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,

    /// A snapshot that the tenant's etcd is set back to. `sublet snapshot restore` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

impl Default for VirtualControlPlaneSpec {
    fn default() -> Self {
        Self {
            identity: None,
            class_name: default_class(),
            version: None,
            replicas: None,
            etcd: None,
            rollout: None,
            network: Network::default(),
            endpoint: None,
            external: None,
            super_cluster: None,
            authentication: Authentication::default(),
            sync: Sync::default(),
            policy: Policy::default(),
            sharing: Sharing::default(),
            paused: false,
            sleep: Sleep::default(),
            backup: None,
            restore: None,
        }
    }
}

fn default_class() -> String {
    "default".into()
}

/// The tenant's etcd.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    /// Members: 1 or 3; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == 1 || self == 3").message("spec.etcd.replicas is 1 or 3"))]
    pub replicas: Option<i32>,
    /// Where members keep their data; the class's choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<EtcdStorage>,
}

/// Storage of one etcd member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.ephemeral || !has(self.storageClassName)")
    .message("ephemeral storage has no storageClassName: leave one of the two out"))]
pub struct EtcdStorage {
    /// An emptyDir: the data end with the pod. For throw-away tenants only.
    #[serde(default)]
    pub ephemeral: bool,
    /// StorageClass of the claim; the super cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Size of the claim, a Kubernetes quantity.
    #[serde(default = "default_etcd_size")]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("size is a quantity of bytes such as 8Gi"))]
    #[schemars(length(max = 32))]
    pub size: String,
}

impl Default for EtcdStorage {
    fn default() -> Self {
        Self {
            ephemeral: false,
            storage_class_name: None,
            size: default_etcd_size(),
        }
    }
}

fn default_etcd_size() -> String {
    "8Gi".into()
}

/// When a control plane is started anew, without another change.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Rollout {
    /// At this time and never before: API servers one after the other, then the controller-manager. etcd isn't touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub after: Option<String>,
}

/// Service addresses and DNS of the tenant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The tenant's slice of the super cluster's Service range, in CIDR notation; the manager takes a free one.
    #[serde(
        default,
        rename = "serviceCIDR",
        skip_serializing_if = "Option::is_none"
    )]
    #[x_kube(
        validation = Rule::new("isCIDR(self)").message("spec.network.serviceCIDR is in CIDR notation, such as 10.96.4.0/22; leave it out and a free slice is taken"),
        validation = Rule::new("self == oldSelf").message("spec.network.serviceCIDR can't change: Services have their addresses from it")
    )]
    #[schemars(length(max = 43))]
    pub service_cidr: Option<String>,
    /// DNS suffix of the tenant's Services.
    #[serde(default = "default_domain")]
    #[x_kube(validation = Rule::new("!format.dns1123Subdomain().validate(self).hasValue()")
        .message("spec.network.clusterDomain is a DNS name such as cluster.local"))]
    #[schemars(length(max = 180))]
    pub cluster_domain: String,
    /// How the tenant's names are resolved.
    #[serde(default)]
    pub dns: Dns,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            service_cidr: None,
            cluster_domain: default_domain(),
            dns: Dns::default(),
        }
    }
}

fn default_domain() -> String {
    "cluster.local".into()
}

/// Who answers DNS for the tenant's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dns {
    /// Stock CoreDNS in the tenant's kube-system.
    #[default]
    Dedicated,
    /// Sublet's server for all tenants that have none: no pod in the tenant.
    Shared,
    /// None by Sublet: the tenant brings its own `kube-dns` Service.
    None,
}

/// Of a text in CEL: whether certificates and URLs may name it as a host.
pub(crate) const IS_HOST: &str =
    "isIP(self) || !format.dns1123Subdomain().validate(self).hasValue()";

/// Host and port of an API server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// DNS name or IP address.
    #[x_kube(validation = Rule::new(IS_HOST).message("host is a DNS name in lower case or an IP address, without scheme and port"))]
    #[schemars(length(max = 253))]
    pub host: String,
    /// TCP port.
    #[schemars(extend("format" = "int32"), range(min = 1, max = 65535))]
    pub port: u16,
}

/// An existing API server as a tenant.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Secret beside the VirtualControlPlane that holds a kubeconfig for the tenant.
    pub kubeconfig_secret_ref: SecretRef,
    /// Where that API server reaches the way out of Sublet's proxy, and by it the kubelets of virtual nodes. All files that
    /// it takes for that are then in the Secret `NAME-way-out`; without it `kubectl logs`, `exec`, `attach`,
    /// `port-forward` and `top` don't work in the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<Endpoint>,
}

/// A super cluster that is another one than the cluster that this object is in.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)")
    .message("superCluster.namespace can't change: the tenant would be left behind; set it back"))]
pub struct SuperCluster {
    /// Secret in the same namespace that holds a kubeconfig for it. Its user may get, create, patch and delete
    /// VirtualControlPlanes and get Secrets in the namespace.
    pub kubeconfig_secret_ref: SecretRef,
    /// Namespace of the twin, which must exist; this object's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    #[serde(default = "default_secret_key")]
    pub key: String,
}

fn default_secret_key() -> String {
    "value".into()
}

/// Which objects cross.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// How much of these resources goes down; its class's `toSuper` is the ceiling. Of ConfigMaps and Secrets those that a
    /// synced object refers to, and all of everything else, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["resource".into()]))]
    pub to_super: Vec<ToSuper>,
    /// Turns that the tenant gets from the syncer, compared with others; its class's weight is the ceiling, and what it
    /// gets when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("spec.sync.weight is 1 to 100; leave it out for the class's own"))]
    #[schemars(extend("format" = "int32"))]
    pub weight: Option<u8>,
    /// How fast the syncer writes to the super cluster for the tenant; its class's rate is the ceiling.
    #[serde(default, skip_serializing_if = "SyncRate::is_empty")]
    pub rate: SyncRate,
    /// Nodes that the tenant is shown; its class's `syncNodes` is the ceiling, and what it gets when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<ShownNodes>,
    /// Of the resources named here the tenant is shown only these objects, as far as its class offers them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub from_super: Vec<Offer>,
    /// Custom resources that cross, as `PLURAL.GROUP`; the class says how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub custom_resources: Vec<String>,
}

/// What the tenant may do in the super cluster; a class sets the ceiling.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Pod Security level that the tenant's pods are held to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// Labels that a node must carry to be seen and used by the tenant, beside those that its class asks for; all nodes
    /// of its class when empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// The same by terms: which of the nodes of its class the tenant sees and uses.
    #[serde(default, skip_serializing_if = "NodeAffinity::is_empty")]
    pub node_affinity: NodeAffinity,
    /// Where the tenant's pods may go outside of the cluster, as far as its class opens it; all that the class opens when
    /// left out, nowhere when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub egress: Option<Vec<Egress>>,
    /// What the tenant may use in the super cluster, over all of its namespaces, where that is less than its class allows.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub quota: Quantities,
    /// What the tenant may keep in its own etcd, where that is less than its class allows.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub stored: Quantities,
    /// What the tenant's pods are made with, where that is stricter than its class.
    #[serde(default, skip_serializing_if = "PodWishes::is_empty")]
    pub pods: PodWishes,
    /// Which StorageClass is the tenant's default, and whether volumes may outlive their claims, as far as its class allows.
    #[serde(default, skip_serializing_if = "StorageWishes::is_empty")]
    pub storage: StorageWishes,
}

/// Pod Security Standards level, from the strictest to the loosest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// `restricted`.
    Restricted,
    /// `baseline`, the default.
    #[default]
    Baseline,
    /// `privileged`: for trusted tenants only.
    Privileged,
}

/// What was observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualControlPlaneStatus {
    /// Summary for people; programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One line for people: what is waited for, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `https://HOST:PORT` of the tenant's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The Secret with the tenant's kubeconfig, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretRef>,
    /// Kubernetes version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Image that all members of etcd ran last: what it wrote isn't given to an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub etcd_image: Option<String>,
    /// The API servers that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_servers: Option<ApiServers>,
    /// Zones of the super cluster that the control plane may run in; told of Clusters of Cluster API alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub failure_domains: Vec<FailureDomain>,
    /// Super namespace of the control plane's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_namespace: Option<String>,
    /// Address of the DNS server that answers for the tenant's pods, when that is the shared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_address: Option<String>,
    /// Proof that the API server reached is the tenant's own; deletions freeze when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<TenantProof>,
    /// The quota that counts, the stricter of class and VirtualControlPlane, and what the tenant's objects in the super
    /// cluster take of it; none when nothing is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaStatus>,
    /// What the tenant may keep in its own etcd, and what it keeps; none when nothing is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<QuotaStatus>,
    /// How far the sync lags behind, as the syncer that serves the tenant knows; none while nobody does. A syncer that takes
    /// the tenant over counts from when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    /// The last visit at the front door that was known when the control plane fell asleep; another one may wake it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub visit: Option<String>,
    /// Snapshots of the tenant's etcd that there are, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub snapshots: Vec<Snapshot>,
    /// What came of the last wish to restore a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restored>,
    /// `metadata.generation` that this status was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type: `Ready`, `ControlPlaneReady`, `EtcdReady`, `APIServerReady`, `DNSReady`, `ServiceCIDRReady`, `Synced`,
    /// `IdentityConflict`, `DeletionsHeld`, `TenantIdentityChanged`, `CertificatesAvailable`, `SuperClusterReachable`, `StoredWithinLimits`,
    /// `Starting`, `WaitingToStart`, `StoppingWorkload`, `Sleeping`, `SleepRefused`, `UpgradeWaiting`, `WayOutOffered`, `VersionOffered`,
    /// `EtcdKept`, `RolloutStuck`, `BackupFailing`, `Restoring`, `RestoreFailed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A quota and what is used of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaStatus {
    /// The limits that hold here.
    #[serde(default)]
    pub hard: BTreeMap<String, String>,
    /// What counts towards each of them.
    #[serde(default)]
    pub used: BTreeMap<String, String>,
}

/// How many API servers there are; pods that are ending count as long as they run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServers {
    /// Pods.
    pub replicas: i32,
    /// Of them those that are ready.
    pub ready_replicas: i32,
    /// Of them those that count as available.
    pub available_replicas: i32,
    /// Of them those that are as the spec wants them.
    pub up_to_date_replicas: i32,
    /// Whether all are, and no others are left.
    pub rolled_out: bool,
    /// The versions that run, the oldest first.
    #[serde(default)]
    pub versions: Vec<RunningVersion>,
}

/// How many API servers run a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningVersion {
    /// Kubernetes version, such as `1.36.3`; with a leading `v` where Cluster API reads it.
    #[schemars(length(min = 1, max = 256))]
    pub version: String,
    /// Number of API servers.
    pub replicas: i32,
}

/// Summary of a tenant's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Accepted; nothing runs yet.
    Pending,
    /// The control plane is being started.
    Provisioning,
    /// The API answers and objects are synced.
    Ready,
    /// It ran and something of it doesn't now.
    Degraded,
    /// `spec.paused` is set.
    Paused,
    /// The control plane has no pods, as `spec.sleep` says, or is on the way there.
    Sleeping,
    /// Being deleted.
    Deleting,
    /// Can't go on without a person; the message says why.
    Failed,
}

/// What identifies the tenant's store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantProof {
    /// UID of the tenant's `kube-system` namespace.
    #[serde(rename = "kubeSystemUID")]
    pub kube_system_uid: String,
    /// How often the tenant was restored from a snapshot by Sublet.
    #[serde(default)]
    pub restore_counter: i64,
}

impl VirtualControlPlane {
    /// Which of several with one identity goes first while nobody claimed it: the smallest. One whose tenant is proven to be
    /// itself goes before one that was never served, and the older before the younger; all of them have their time of
    /// creation from the same API server.
    pub fn precedence(&self) -> impl Ord + use<> {
        let is_proven = self.status.iter().any(|status| status.proof.is_some());
        (!is_proven, self.metadata.creation_timestamp.clone())
    }
}
