//! `ControlPlaneClass`: what a super-cluster admin offers to tenants; defaults and ceilings.

use crate::{
    Ceilings, CustomResource as SyncedCustomResource, EtcdStorage, Offer, OfferedAnnotation,
    PodNetwork, PodRules, PodSecurity, PublishedService, Quantities, ShownNodes, StorageRules,
    Sync, SyncRate, ToSuper, Toleration, virtual_control_plane::IS_HOST,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tenants' CoreDNS where a class says nothing else; the shipped class names the same.
const COREDNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.15.0";

/// Defaults and ceilings for the VirtualControlPlanes that name this class; they can only be stricter.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sublet.dev",
    version = "v1alpha1",
    kind = "ControlPlaneClass",
    plural = "controlplaneclasses",
    shortname = "cpc",
    category = "sublet",
    derive = "PartialEq",
    doc = "What an admin offers to tenants: versions, images, sizes and the ceiling of their policy.",
    printcolumn(
        name = "Versions",
        type_ = "string",
        json_path = ".spec.versions[*].version"
    ),
    printcolumn(
        name = "Pod Security",
        type_ = "string",
        json_path = ".spec.podSecurity"
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.namespaces",
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
    validation = Rule::new("!has(self.endpointPort) || has(self.endpointHost)")
        .message("endpointPort is a port of endpointHost: set both, or neither"),
    validation = Rule::new("!has(self.storage) || !has(self.storage.default) || (has(self.offers) && self.offers.exists(o, o.resource == 'storageclasses.storage.k8s.io' && self.storage.default in o.names))")
        .message("storage.default names a StorageClass that isn't in offers: add it to the names of storageclasses.storage.k8s.io there, also if it is labelled for all tenants")
)]
pub struct ControlPlaneClassSpec {
    /// Super namespaces whose VirtualControlPlanes may have this class; all when empty. One of another namespace is refused, and
    /// nothing is synced for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,

    /// Versions offered, the default first.
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["version".into()])
    )]
    #[schemars(length(min = 1, max = 32))]
    pub versions: Vec<Version>,

    /// Image of the tenants' own CoreDNS.
    #[serde(default = "default_coredns")]
    pub coredns_image: String,

    /// Where etcd members keep their data when the VCP doesn't say.
    #[serde(default)]
    pub etcd_storage: EtcdStorage,

    /// The most that a VirtualControlPlane may ask for of its own control plane. What isn't named isn't limited.
    #[serde(default, skip_serializing_if = "Ceilings::is_empty")]
    pub max: Ceilings,

    /// The loosest Pod Security level that a tenant may ask for, and what it gets when it asks for none.
    #[serde(default)]
    pub pod_security: PodSecurity,

    /// Turns that each tenant of this class gets from the syncer, compared with tenants of other classes: 1 to 100.
    #[serde(default = "default_weight")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("spec.syncWeight is 1 to 100; a tenant with 2 gets twice the turns of one with 1"))]
    #[schemars(extend("format" = "int32"))]
    pub sync_weight: u8,

    /// How fast the syncer writes to the super cluster for each tenant of this class. Who asks for more waits; no other
    /// tenant does.
    #[serde(default, skip_serializing_if = "SyncRate::is_empty")]
    pub sync_rate: SyncRate,

    /// Nodes that each tenant of this class is shown at most: all that its selector matches, or those of them that its pods
    /// run on. DaemonSets have no pods in a tenant of the latter kind.
    #[serde(default)]
    pub sync_nodes: ShownNodes,

    /// How much of these resources goes down at most for each tenant of this class, and goes down when the tenant doesn't say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["resource".into()]))]
    pub to_super: Vec<ToSuper>,

    /// Host that clients outside the super cluster reach the front door's NodePort at; the first ready node's address
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(IS_HOST).message("spec.endpointHost is a DNS name in lower case or an IP address, without scheme and port"))]
    #[schemars(length(max = 253))]
    pub endpoint_host: Option<String>,

    /// Port at that host, where something of your own leads to the front door, such as a Gateway; without it the front
    /// door's own NodePort or load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub endpoint_port: Option<u16>,

    /// Prefix length of a tenant's Service slice: 16 to 27; /22 (1,024 addresses) when left out.
    #[serde(default = "default_slice")]
    #[x_kube(validation = Rule::new("self >= 16 && self <= 27").message("spec.serviceSlicePrefix is 16 to 27; 22 gives 1,024 addresses"))]
    #[schemars(extend("format" = "int32"))]
    pub service_slice_prefix: u8,

    /// Where tenants' API servers may go beside the tenant's own pods and Services: webhooks by URL, above all. Nowhere
    /// when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub api_server_egress: Vec<Egress>,

    /// What tenants' pods may reach beside their own tenant, and who may reach them.
    #[serde(default, skip_serializing_if = "PodNetwork::is_empty")]
    pub pod_network: PodNetwork,

    /// Services of the super cluster that tenants are shown under a name of their own, and may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub services: Vec<PublishedService>,

    /// What tenants' pods are made with, whatever they ask for.
    #[serde(default, skip_serializing_if = "PodRules::is_empty")]
    pub pods: PodRules,

    /// What each tenant may use in the super cluster, over all of its namespaces: names as in a ResourceQuota, such as
    /// `pods`, `requests.cpu`, `requests.storage`, `services.nodeports` or `count/ingresses.networking.k8s.io`. What isn't
    /// named isn't limited.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub quota: Quantities,

    /// What each tenant may keep in its own etcd: `size` in bytes, and numbers of objects by resource, such as
    /// `configmaps` or `widgets.example.com`. What isn't named isn't limited.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub stored: Quantities,

    /// Where the pods of control planes run, and with what. Tenants' own pods go by `pods`.
    #[serde(default, skip_serializing_if = "ControlPlanePods::is_empty")]
    pub control_plane: ControlPlanePods,

    /// What tenants' API servers write of requests into their logs.
    #[serde(default)]
    pub audit: Audit,

    /// What tenants' PodDisruptionBudgets may ask of a drain.
    #[serde(default)]
    pub budgets: Budgets,

    /// Features of Kubernetes that API server and controller-manager switch on or off against their default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,

    /// How often the control plane does its periodic work.
    #[serde(default, skip_serializing_if = "Intervals::is_empty")]
    pub intervals: Intervals,

    /// Objects of the super cluster that the tenants of this class are shown, beside those labelled
    /// `sublet.dev/published: "true"`, which all tenants are shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub offers: Vec<Offer>,

    /// Which of the StorageClasses that these tenants are offered is their default, and whether volumes may outlive their
    /// claims.
    #[serde(default, skip_serializing_if = "StorageRules::is_empty")]
    pub storage: StorageRules,

    /// Custom resources that a tenant of this class may name in `spec.sync.customResources`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub custom_resources: Vec<SyncedCustomResource>,

    /// Host names that Ingresses and routes of a tenant may use: exact, or `*.SUFFIX` for all below a suffix, or `*` for
    /// any. `{name}` and `{namespace}` stand for the VirtualControlPlane's. None when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub ingress_hosts: Vec<String>,

    /// Host names as in `ingressHosts`, of which a tenant may take wildcards, too: whoever takes one has every name below it
    /// that nobody has. Patterns with `{name}` or `{namespace}`, and `*`, need no place here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub wildcard_hosts: Vec<String>,

    /// Annotations of pods, Services, Ingresses, Gateways and routes that cross, so that controllers of the super cluster obey
    /// them. Others are left out, or refused where that would open what they close. None when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub annotations: Vec<OfferedAnnotation>,

    /// What `spec.loadBalancerClass` of a tenant's Service may say. A Service that says anything else is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub load_balancer_classes: Vec<String>,
}

impl Default for ControlPlaneClassSpec {
    fn default() -> Self {
        Self {
            namespaces: vec![],
            versions: vec![],
            coredns_image: default_coredns(),
            etcd_storage: EtcdStorage::default(),
            max: Ceilings::default(),
            pod_security: PodSecurity::default(),
            sync_weight: default_weight(),
            sync_rate: SyncRate::default(),
            sync_nodes: ShownNodes::default(),
            to_super: vec![],
            endpoint_host: None,
            endpoint_port: None,
            service_slice_prefix: default_slice(),
            api_server_egress: vec![],
            pod_network: PodNetwork::default(),
            services: vec![],
            pods: PodRules::default(),
            quota: Quantities::default(),
            stored: Quantities::default(),
            control_plane: ControlPlanePods::default(),
            audit: Audit::default(),
            budgets: Budgets::default(),
            feature_gates: BTreeMap::new(),
            intervals: Intervals::default(),
            offers: vec![],
            storage: StorageRules::default(),
            custom_resources: vec![],
            ingress_hosts: vec![],
            wildcard_hosts: vec![],
            annotations: vec![],
            load_balancer_classes: vec![],
        }
    }
}

impl ControlPlaneClassSpec {
    /// Whether VirtualControlPlanes of a super namespace may have this class.
    pub fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|named| named == namespace)
    }

    /// The nodes that a tenant of this class is shown: its own wish where that is stricter.
    pub fn shown_nodes(&self, own: &Sync) -> ShownNodes {
        own.nodes.unwrap_or(self.sync_nodes).min(self.sync_nodes)
    }
}

fn default_coredns() -> String {
    COREDNS_IMAGE.into()
}

fn default_weight() -> u8 {
    1
}

fn default_slice() -> u8 {
    22
}

/// What an API server writes of requests into its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Audit {
    /// Nothing.
    #[default]
    None,
    /// Of each write and each way into a pod, a line of JSON: who, what, when and with which answer; never a body.
    Metadata,
}

/// What a PodDisruptionBudget of a tenant may ask of whoever drains a node of the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Budgets {
    /// To wait while too few pods are well. One that lets none of its pods go at all holds in the tenant alone.
    #[default]
    Yielding,
    /// To wait for ever, too.
    Blocking,
}

/// Intervals of periodic work, such as `30s` or `5m`; Kubernetes' own where left out.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intervals {
    /// How long etcd keeps what was overwritten: lists and watches from older resource versions end after one to two of
    /// it. 5m when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"))]
    pub etcd_compaction: Option<String>,
    /// How often the usage of every ResourceQuota is counted anew, whatever events said. 5m when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"))]
    pub resource_quota_sync: Option<String>,
}

impl Intervals {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Addresses that tenants' API servers or pods may connect to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// Such as `203.0.113.0/24`. A wide one opens public addresses only; a private network must be named itself.
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr is a network such as 203.0.113.0/24"))]
    #[schemars(length(max = 64))]
    pub cidr: String,
    /// The one port; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: Option<u16>,
}

/// One Kubernetes version and the images that make it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Such as `1.36.3`.
    #[x_kube(validation = Rule::new("self.matches('^1\\\\.[0-9]+\\\\.[0-9]+$')").message("a version is written in full and without v, such as 1.36.3"))]
    #[schemars(length(max = 32))]
    pub version: String,
    /// Images of its parts.
    pub images: Images,
}

/// Image references of a control plane.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// etcd.
    pub etcd: String,
    /// kube-apiserver.
    pub kube_apiserver: String,
    /// kube-controller-manager.
    pub kube_controller_manager: String,
}

/// What the pods of etcd, API servers and controller-managers are made with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlanePods {
    /// Labels of the nodes that they run on; all nodes when empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that they tolerate: of nodes that are kept for control planes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Requests and limits of each part.
    #[serde(default, skip_serializing_if = "PartResources::is_empty")]
    pub resources: PartResources,
}

impl ControlPlanePods {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests and limits by part.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartResources {
    /// etcd.
    #[serde(default)]
    pub etcd: PodResources,
    /// kube-apiserver.
    #[serde(default)]
    pub kube_apiserver: PodResources,
    /// kube-controller-manager.
    #[serde(default)]
    pub kube_controller_manager: PodResources,
}

impl PartResources {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests and limits of one container, as Kubernetes quantities by resource name.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodResources {
    /// What is set aside.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub requests: Quantities,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub limits: Quantities,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_shown_the_fewest_nodes_that_its_class_or_itself_asks_for() {
        let shown = |class, own| {
            let class = ControlPlaneClassSpec {
                sync_nodes: class,
                ..ControlPlaneClassSpec::default()
            };
            let own = Sync {
                nodes: own,
                ..Sync::default()
            };
            class.shown_nodes(&own)
        };
        let (all, used) = (ShownNodes::Selected, ShownNodes::Used);
        assert_eq!(shown(all, None), all);
        assert_eq!(shown(all, Some(used)), used);
        assert_eq!(shown(used, None), used);
        assert_eq!(shown(used, Some(all)), used);
    }

    #[test]
    fn a_class_is_for_the_namespaces_that_it_names_or_for_all() {
        let mut class = ControlPlaneClassSpec::default();
        assert!(class.is_for("anywhere"));
        class.namespaces = vec!["platform".into()];
        assert!(class.is_for("platform"));
        assert!(!class.is_for("platform-2") && !class.is_for(""));
    }

    #[test]
    fn the_shipped_class_names_the_default_coredns() {
        assert_eq!(shipped().coredns_image, COREDNS_IMAGE);
    }

    fn shipped() -> ControlPlaneClassSpec {
        let class = include_str!("../../manifests/class.yaml");
        let class: ControlPlaneClass = serde_saphyr::from_str(class).unwrap();
        class.spec
    }

    /// T16: ports and load balancers are the cluster's, and whoever takes many takes them from the others.
    #[test]
    fn t16_the_shipped_class_limits_node_ports_and_load_balancers() {
        let quota = shipped().quota;
        for name in ["services.nodeports", "services.loadbalancers"] {
            assert!(quota.0.contains_key(name), "{name}");
        }
    }

    /// T43: each of these ends in the super cluster's etcd, and most of them at every node.
    #[test]
    fn t43_the_shipped_class_limits_what_a_tenant_makes_in_the_super_cluster() {
        let quota = shipped().quota;
        for name in [
            "configmaps",
            "count/endpointslices.discovery.k8s.io",
            "count/ingresses.networking.k8s.io",
            "count/namespaces",
            "count/networkpolicies.networking.k8s.io",
            "count/pods",
            "persistentvolumeclaims",
            "pods",
            "requests.storage",
            "services",
        ] {
            assert!(quota.0.contains_key(name), "{name}");
        }
        // Pods that say nothing of these would be refused, and most say nothing.
        for name in [
            "limits.cpu",
            "limits.memory",
            "requests.cpu",
            "requests.memory",
        ] {
            assert!(!quota.0.contains_key(name), "{name}");
        }
    }

    /// T40: the syncer knows each of these objects, whether it goes down or not.
    #[test]
    fn t40_the_shipped_class_limits_what_a_tenant_keeps_and_its_control_plane_s_memory() {
        let spec = shipped();
        for name in [
            "configmaps",
            "namespaces",
            "persistentvolumeclaims",
            "pods",
            "secrets",
            "services",
        ] {
            assert!(spec.stored.0.contains_key(name), "{name}");
        }
        let parts = spec.control_plane.resources;
        for part in [
            parts.etcd,
            parts.kube_apiserver,
            parts.kube_controller_manager,
        ] {
            assert!(part.limits.0.contains_key("memory"), "{part:?}");
            // A CPU is given back at once, and a start uses all that are free.
            assert!(!part.limits.0.contains_key("cpu"), "{part:?}");
        }
    }

    /// Of what doesn't go down a tenant may keep more than of what does, or the second number would be none.
    #[test]
    fn the_shipped_class_lets_a_tenant_keep_more_than_goes_down() {
        let spec = shipped();
        for name in ["configmaps", "persistentvolumeclaims", "pods", "services"] {
            let [kept, used] = [&spec.stored, &spec.quota]
                .map(|limits| limits.0.get(name).and_then(|text| text.parse::<u32>().ok()));
            assert!(kept > used && used.is_some(), "{name}: {kept:?}, {used:?}");
        }
    }
}
