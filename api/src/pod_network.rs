//! What the pods of a class's tenants may reach beside their own tenant, and who may reach them.

use crate::Egress;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What pods of tenants may reach beside their own tenant, and who may reach them; nothing and nobody when left out.
///
/// The metadata address of clouds, other tenants and the super cluster itself are never among it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.egress) || (has(self.clusterRanges) && size(self.clusterRanges) > 0) || !self.egress.exists(e, ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'].exists(p, cidr(p).containsCIDR(e.cidr)))")
    .message("egress into a private network needs clusterRanges: name the pod, Service and node ranges of the super cluster there, so that they stay closed"))]
pub struct PodNetwork {
    /// Namespaces of the super cluster whose pods may reach tenants' pods: an ingress controller's, a monitoring's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub ingress_namespaces: Vec<String>,

    /// Namespaces of the super cluster whose pods tenants' pods may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub egress_namespaces: Vec<String>,

    /// Where tenants' pods may go outside of the cluster. `0.0.0.0/0` opens all public addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub egress: Vec<Egress>,

    /// Ranges of the super cluster's pods, Services and nodes, which `egress` never opens. Private ranges needn't be
    /// named unless `egress` names one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(r, isCIDR(r))").message("clusterRanges are networks such as 10.96.0.0/12"))]
    #[schemars(length(max = 16), inner(length(max = 43)))]
    pub cluster_ranges: Vec<String>,

    /// Networks of the super cluster's nodes. Tenants that may be `privileged` see the addresses of nodes that lie in them, and
    /// their pods and these nodes reach each other: node ports and pods on the network of their node work then. It opens
    /// nothing for other tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(r, isCIDR(r))").message("nodeRanges are networks such as 10.0.0.0/24"))]
    #[schemars(length(max = 16), inner(length(max = 43)))]
    pub node_ranges: Vec<String>,

    /// DNS servers that tenants' CoreDNS may ask for names outside, such as `10.0.0.2/32`; the pods `k8s-app: kube-dns` of
    /// the super cluster's kube-system when left out.
    #[serde(default, rename = "upstreamDNS", skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(r, isCIDR(r))").message("upstreamDNS holds networks such as 10.0.0.2/32"))]
    #[schemars(length(max = 8), inner(length(max = 43)))]
    pub upstream_dns: Vec<String>,
}

impl PodNetwork {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
