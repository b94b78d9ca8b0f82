//! A VirtualControlPlane read once, with its class's answers filled in; provisioning sees nothing else of it.

use crate::{
    lifecycle::{restore::Record, sleep::Stage},
    store::stored::Limits,
};
use api::{
    Audit, ControlPlaneClass, ControlPlaneClassSpec, ControlPlaneGroup, ControlPlanePods, Dns,
    Endpoint, EtcdStorage, Images, Intervals, NodeAffinity, ShownNodes, Version,
    VirtualControlPlane, capi, keys,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenancy::{meta, naming, reach, slice::Slice, tenant::TenantId};

mod refusal;

pub(crate) use refusal::Refusal;

/// Longest prefix that holds the `kubernetes` and DNS Services and some of the tenant's own.
const MAX_PREFIX: u8 = 27;

/// What a control plane is made of.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Super namespace of its pods.
    pub(crate) namespace: String,
    /// Kubernetes version, in full.
    pub(crate) version: String,
    /// Images of its parts.
    pub(crate) images: Images,
    /// Image of the tenant's CoreDNS.
    pub(crate) coredns_image: String,
    /// Where its pods run, and with what.
    pub(crate) pods: ControlPlanePods,
    /// Features that differ from their default.
    pub(crate) feature_gates: BTreeMap<String, bool>,
    /// What its API servers write of requests into their logs.
    pub(crate) audit: Audit,
    /// How often it does its periodic work.
    pub(crate) intervals: Intervals,
    /// Number of API servers.
    pub(crate) replicas: i32,
    /// When API servers and controller-manager are started anew; of a past time they bear a mark.
    pub(crate) rollout: Option<Timestamp>,
    /// Number of etcd members.
    pub(crate) members: i32,
    /// Storage of an etcd member.
    pub(crate) storage: EtcdStorage,
    /// Which of its volumes etcd's data are in: the first, or those of a restore.
    pub(crate) store: u32,
    /// The last restore, as it is noted in its namespace.
    pub(crate) restore: Option<Record>,
    /// What the tenant may keep there.
    pub(crate) stored: Limits,
    /// How its API servers tell who may do what, where that depends on what is kept.
    pub(crate) authorizers: Option<String>,
    /// Whom its API servers believe, where there are issuers outside of the tenant.
    pub(crate) authentication: Option<String>,
    /// The tenant's slice of the Service range.
    pub(crate) slice: Slice,
    /// DNS suffix of the tenant's Services.
    pub(crate) domain: String,
    /// Who answers its DNS.
    pub(crate) dns: Dns,
    /// Networks of the super cluster that its class names.
    pub(crate) ranges: Vec<String>,
    /// Those and the networks of its nodes: what its class lets API servers reach opens nothing in them.
    pub(crate) closed: Vec<String>,
    /// Where clients reach it, when the VCP says so.
    pub(crate) endpoint: Option<Endpoint>,
    /// Host of the NodePort, when the class says so.
    pub(crate) endpoint_host: Option<String>,
    /// Port at that host, when the class says so.
    pub(crate) endpoint_port: Option<u16>,
    /// Where its API server may go beside its own pods and Services: `CIDR` or `CIDR PORT`.
    pub(crate) egress: Vec<String>,
    /// Labels of the nodes that the tenant sees.
    pub(crate) visible_nodes: BTreeMap<String, String>,
    /// What else must hold of them.
    pub(crate) node_affinity: Vec<NodeAffinity>,
    /// Which of them it sees.
    pub(crate) shown_nodes: ShownNodes,
    /// Labels of nodes that the tenant sees beside those that all do.
    pub(crate) node_labels: Vec<String>,
    /// Labels that its groups put on its super namespaces.
    pub(crate) group_labels: BTreeMap<String, String>,
    /// Custom resources that cross, as `PLURAL.GROUP`.
    pub(crate) custom_resources: Vec<String>,
    /// The upgrade under way, as it is noted in its namespace.
    pub(crate) upgrade: Option<String>,
    /// Whether it sleeps, or is on the way there or back.
    pub(crate) stage: Stage,
    /// Whether a connection to the front door wakes it.
    pub(crate) wakes: bool,
}

/// A VirtualControlPlane as its objects refer to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    /// Identity of the tenant.
    pub(crate) id: TenantId,
    /// Namespace of the VirtualControlPlane.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// The Cluster of Cluster API that it is the control plane of.
    pub(crate) cluster: Option<Membership>,
}

/// What a VirtualControlPlane has to do with Cluster API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Membership {
    /// Name of the Cluster, in the same namespace.
    pub(crate) cluster: String,
    /// Reference to the SubletControlPlane that made it, while there is one.
    pub(crate) control_plane: Option<Value>,
}

impl Owner {
    /// The owner; `None` while the VirtualControlPlane has no identity.
    pub(crate) fn of(vcp: &VirtualControlPlane) -> Option<Result<Self, Refusal>> {
        let identity = vcp.spec.identity.as_deref()?;
        Some(
            TenantId::parse(identity)
                .map_err(Refusal::from)
                .map(|id| Self {
                    id,
                    namespace: vcp.metadata.namespace.clone().unwrap_or_default(),
                    name: vcp.metadata.name.clone().unwrap_or_default(),
                    uid: vcp.metadata.uid.clone().unwrap_or_default(),
                    cluster: Membership::of(vcp),
                }),
        )
    }

    /// `NAMESPACE/NAME`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Super namespace of the control plane's own pods.
    pub(crate) fn control_plane_namespace(&self) -> String {
        naming::control_plane_namespace(&self.id, &self.name)
    }

    /// Name of the Secret beside the VirtualControlPlane that its users get.
    pub(crate) fn kubeconfig_secret(&self) -> String {
        match self.cluster {
            // What Cluster API and operators get has this name then.
            Some(_) => format!("{}-user-kubeconfig", self.name),
            None => format!("{}-kubeconfig", self.name),
        }
    }

    /// Name of a Secret of Cluster API's contract, when the tenant is a Cluster.
    pub(crate) fn cluster_secret(&self, suffix: &str) -> Option<String> {
        let membership = self.cluster.as_ref()?;
        Some(format!("{}-{suffix}", membership.cluster))
    }

    /// Labels of every object made for the tenant.
    pub(crate) fn labels(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([(keys::TENANT, self.id.to_string())])
    }
}

impl Membership {
    fn of(vcp: &VirtualControlPlane) -> Option<Self> {
        let cluster = vcp.metadata.labels.as_ref()?.get(capi::CLUSTER_NAME)?;
        let made_it = |owner: &&OwnerReference| {
            owner.kind == "SubletControlPlane"
                && owner.api_version.split('/').next() == Some(capi::CONTROL_PLANE_GROUP)
        };
        let owners = vcp.metadata.owner_references.as_deref().unwrap_or_default();
        Some(Self {
            cluster: cluster.clone(),
            control_plane: owners.iter().find(made_it).map(|owner| {
                json!({
                    "apiVersion": owner.api_version, "kind": owner.kind,
                    "name": owner.name, "uid": owner.uid,
                })
            }),
        })
    }
}

impl ControlPlane {
    /// Reads the spec; `version` is what was chosen for it to run, and `slice` the one that was claimed for it.
    pub(crate) fn read(
        owner: &Owner,
        vcp: &VirtualControlPlane,
        class: &ControlPlaneClass,
        version: &Version,
        slice: Slice,
        groups: &[ControlPlaneGroup],
    ) -> Self {
        let spec = &vcp.spec;
        let offer = &class.spec;
        let etcd = spec.etcd.clone().unwrap_or_default();
        Self {
            namespace: owner.control_plane_namespace(),
            owner: owner.clone(),
            version: version.version.clone(),
            images: version.images.clone(),
            coredns_image: offer.coredns_image.clone(),
            pods: offer.control_plane.clone(),
            feature_gates: offer.feature_gates.clone(),
            audit: offer.audit,
            intervals: offer.intervals.clone(),
            replicas: spec.replicas.unwrap_or(1),
            // The schema lets nothing through that is no time.
            rollout: spec
                .rollout
                .as_ref()
                .and_then(|rollout| rollout.after.as_deref()?.parse().ok()),
            members: etcd.replicas.unwrap_or(1),
            storage: etcd.storage.unwrap_or_else(|| offer.etcd_storage.clone()),
            store: 0,
            restore: None,
            stored: Limits::of(&offer.stored, &spec.policy.stored),
            authorizers: None,
            authentication: None,
            slice,
            domain: spec.network.cluster_domain.clone(),
            dns: spec.network.dns,
            ranges: offer.pod_network.cluster_ranges.clone(),
            closed: [
                &*offer.pod_network.cluster_ranges,
                &offer.pod_network.node_ranges,
            ]
            .concat(),
            endpoint: spec.endpoint.clone(),
            endpoint_host: offer.endpoint_host.clone(),
            endpoint_port: offer.endpoint_port,
            egress: egress(offer),
            visible_nodes: offer.pods.nodes(&spec.policy.node_selector),
            node_affinity: offer.pods.affinities(&spec.policy.node_affinity),
            shown_nodes: offer.shown_nodes(&spec.sync),
            node_labels: offer.pods.node_labels.clone(),
            group_labels: group_labels(&owner.namespace, groups),
            custom_resources: vcp.spec.sync.custom_resources.clone(),
            upgrade: None,
            stage: Stage::Awake,
            wakes: spec.sleep.wake_on_connection,
        }
    }

    /// The flag for features, unless all are at their default.
    pub(crate) fn feature_flag(&self) -> Option<String> {
        let gates: Vec<String> = self
            .feature_gates
            .iter()
            .map(|(name, on)| format!("{name}={on}"))
            .collect();
        (!gates.is_empty()).then(|| format!("--feature-gates={}", gates.join(",")))
    }

    /// Issuer of the tenant's ServiceAccount tokens.
    ///
    /// No other tenant has it, it lies in the tenant's own DNS domain (so nobody outside can serve keys for it), and
    /// the tenant's DNS server answers for it with the `kubernetes` Service, so that OIDC discovery works from pods.
    pub(crate) fn issuer(&self) -> String {
        format!("https://{}", self.issuer_host())
    }

    /// Host name of that issuer.
    pub(crate) fn issuer_host(&self) -> String {
        format!("{}.kubernetes.default.svc.{}", self.owner.id, self.domain)
    }
}

fn egress(offer: &ControlPlaneClassSpec) -> Vec<String> {
    let ranges = &offer.pod_network.cluster_ranges;
    let listed = offer.api_server_egress.iter();
    let open = listed.filter(|listed| reach::is_open(listed, ranges));
    open.map(|open| match open.port {
        Some(port) => format!("{} {port}", open.cidr),
        None => open.cidr.clone(),
    })
    .collect()
}

/// The slice in a spec, when it can hold a tenant.
pub(crate) fn given_slice(vcp: &VirtualControlPlane) -> Result<Option<Slice>, Refusal> {
    let Some(text) = vcp.spec.network.service_cidr.as_deref() else {
        return Ok(None);
    };
    let slice: Slice = text.parse()?;
    let prefix = text
        .rsplit('/')
        .next()
        .and_then(|prefix| prefix.parse::<u8>().ok());
    match prefix {
        Some(prefix) if prefix <= MAX_PREFIX => Ok(Some(slice)),
        _ => Err(Refusal::SliceRefused {
            slice,
            why: format!("is smaller than /{MAX_PREFIX}"),
        }),
    }
}

/// Labels of all groups that the VirtualControlPlane's namespace belongs to; of two groups the later name wins.
fn group_labels(namespace: &str, groups: &[ControlPlaneGroup]) -> BTreeMap<String, String> {
    let mut mine: Vec<_> = groups
        .iter()
        .filter(|group| group.spec.namespaces.iter().any(|n| n == namespace))
        .collect();
    mine.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    mine.into_iter()
        .flat_map(|group| group.spec.labels.clone())
        .filter(|(key, _)| meta::is_stampable(key))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use api::{ControlPlaneClassSpec, ControlPlaneGroupSpec, VirtualControlPlaneSpec};

    pub(crate) fn vcp() -> VirtualControlPlane {
        let mut vcp = VirtualControlPlane::new(
            "acme",
            VirtualControlPlaneSpec {
                identity: Some(TenantId::from_bits([7; 16]).to_string()),
                ..VirtualControlPlaneSpec::default()
            },
        );
        vcp.metadata.namespace = Some("tenants".into());
        vcp.metadata.uid = Some("vcp-uid".into());
        vcp.metadata.generation = Some(1);
        vcp
    }

    pub(crate) fn class() -> ControlPlaneClass {
        let images = Images {
            etcd: "registry/etcd".into(),
            kube_apiserver: "registry/apiserver".into(),
            kube_controller_manager: "registry/controller-manager".into(),
        };
        let versions = ["1.36.3", "1.35.4"].map(|version| Version {
            version: version.into(),
            images: images.clone(),
        });
        ControlPlaneClass::new(
            "default",
            ControlPlaneClassSpec {
                versions: versions.into(),
                ..Default::default()
            },
        )
    }

    pub(crate) fn owner() -> Owner {
        Owner::of(&vcp()).unwrap().unwrap()
    }

    pub(crate) fn control_plane() -> ControlPlane {
        read(&vcp(), &class())
    }

    /// What comes of a spec in the first version of its class.
    fn read(vcp: &VirtualControlPlane, class: &ControlPlaneClass) -> ControlPlane {
        let slice = "10.96.4.0/22".parse().unwrap();
        ControlPlane::read(&owner(), vcp, class, &class.spec.versions[0], slice, &[])
    }

    #[test]
    fn only_groups_of_the_namespace_stamp_labels_and_never_sublets_own() {
        let group = |name: &str, namespace: &str, key: &str| {
            let labels = BTreeMap::from([(key.to_owned(), name.to_owned())]);
            ControlPlaneGroup::new(
                name,
                ControlPlaneGroupSpec {
                    namespaces: vec![namespace.into()],
                    labels,
                    ..ControlPlaneGroupSpec::default()
                },
            )
        };
        let groups = [
            group("b", "tenants", "customer"),
            group("a", "tenants", "customer"),
            group("c", "elsewhere", "other"),
            group("d", "tenants", keys::TENANT),
        ];
        assert_eq!(
            group_labels("tenants", &groups),
            BTreeMap::from([("customer".to_owned(), "b".to_owned())])
        );
    }

    #[test]
    fn a_tenant_sees_the_nodes_that_its_class_and_it_itself_ask_for() {
        let (mut vcp, mut class) = (vcp(), class());
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        class.spec.pods.node_selector = one("pool", "tenants");
        vcp.spec.policy.node_selector = one("disk", "ssd");
        let gpu =
            json!({"required": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]});
        let gpu: NodeAffinity = serde_json::from_value(gpu).unwrap();
        vcp.spec.policy.node_affinity = gpu.clone();
        let cp = read(&vcp, &class);
        let nodes = [("disk", "ssd"), ("pool", "tenants")];
        assert!(cp.visible_nodes.iter().map(|(k, v)| (&**k, &**v)).eq(nodes));
        assert_eq!(cp.node_affinity, [gpu]);
        assert!(
            cp.pods.node_selector.is_empty(),
            "its own pods run anywhere"
        );
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let missing = |existing: &[&str]| {
            let existing = existing.iter().map(|name| (*name).to_owned()).collect();
            Refusal::ClassMissing {
                class: "gold".into(),
                existing,
            }
            .to_string()
        };
        assert_eq!(
            missing(&["a", "b"]),
            "there is no ControlPlaneClass gold: set spec.className to one of a, b"
        );
        assert_eq!(
            missing(&[]),
            "there is no ControlPlaneClass gold: no class exists yet; create one"
        );
    }

    #[test]
    fn a_slice_too_small_for_a_tenant_is_refused() {
        let mut vcp = vcp();
        vcp.spec.network.service_cidr = Some("10.96.4.0/28".into());
        assert!(given_slice(&vcp).unwrap_err().to_string().contains("/27"));
        vcp.spec.network.service_cidr = Some("10.96.4.0/22".into());
        assert!(given_slice(&vcp).unwrap().is_some());
    }
}
