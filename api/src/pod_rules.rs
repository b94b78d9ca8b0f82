//! What tenants' pods are made with in the super cluster, whatever they ask for.

use crate::{NodeAffinity, Quantities};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the pods of a class's tenants are made with; nothing is added or refused where it is left out.
///
/// What can't be changed of a pod once it is made holds for those that are made later.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRules {
    /// Which images may run, and when they are pulled.
    #[serde(default, skip_serializing_if = "ImageRules::is_empty")]
    pub images: ImageRules,

    /// The RuntimeClass of the super cluster that every pod runs under, a sandbox for instance; pods that name another are
    /// refused. Tenants needn't be offered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,

    /// The PriorityClass of the super cluster of pods that name none that the tenant is offered: a tier of this class
    /// against those of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.startsWith('system-')").message("priorityClassName can't be a system- class: pods of tenants would push out the platform's"))]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels of the nodes that these tenants see, and that their pods run on; all nodes when empty. What a
    /// VirtualControlPlane's `policy.nodeSelector` says beside it holds, too; under the same key this one does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Nodes that these tenants see and that their pods run on, by terms; a node must have the labels of `nodeSelector`, too.
    /// What a VirtualControlPlane's `policy.nodeAffinity` says beside it holds as well, and what a pod asks for itself.
    #[serde(default, skip_serializing_if = "NodeAffinity::is_empty")]
    pub node_affinity: NodeAffinity,

    /// Keys of further labels that these tenants see on their nodes, and may place pods by. They see `kubernetes.io/hostname`,
    /// `os` and `arch`, `node.kubernetes.io/instance-type`, `topology.kubernetes.io/zone` and `region`, and the keys of
    /// `nodeSelector` anyhow; by any other label a pod finds no node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
        .message("nodeLabels are keys of labels, such as example.com/rack"))]
    #[schemars(length(max = 64), inner(length(max = 317)))]
    pub node_labels: Vec<String>,

    /// Taints that the pods tolerate beside those of a node's condition: of nodes that are kept for these tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,

    /// The most that a pod may send and receive, as the CNI's bandwidth plugin enforces it.
    #[serde(default, skip_serializing_if = "Bandwidth::is_empty")]
    pub bandwidth: Bandwidth,

    /// Requests and limits of containers.
    #[serde(default, skip_serializing_if = "ContainerRules::is_empty")]
    pub containers: ContainerRules,

    /// Whether containers may write packets of their own making, with the capability `NET_RAW`: those of a pod below the Pod
    /// Security level `privileged` have it only where this is `Allowed`.
    #[serde(default)]
    pub raw_sockets: RawSockets,

    /// The longest that a pod may take to end, in seconds: an hour when left out. A pod that asks for more gets this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000), extend("format" = "int32"))]
    pub longest_grace_period_seconds: Option<u32>,
}

/// Whether containers keep the capability `NET_RAW`, which runtimes give to all that don't drop it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RawSockets {
    /// They don't: none sends packets under another's address.
    #[default]
    Refused,
    /// They do, unless they drop it themselves.
    Allowed,
}

/// What one tenant's pods are made with where that is stricter than its class.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodWishes {
    /// Which of the images that its class allows may run, and when they are pulled.
    #[serde(default, skip_serializing_if = "ImageRules::is_empty")]
    pub images: ImageRules,
    /// The RuntimeClass that every pod runs under, where its class names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The most that a pod may send and receive, as far as that is less than its class allows.
    #[serde(default, skip_serializing_if = "Bandwidth::is_empty")]
    pub bandwidth: Bandwidth,
}

/// Which images may run, and when they are pulled.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRules {
    /// Where images may come from: a registry such as `registry.example.com`, or a part of one such as
    /// `docker.io/library`. All when empty. The image of the tenants' CoreDNS may always run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(r, r.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$'))")
        .message("registries are written as registry.example.com, registry.example.com:5000 or docker.io/library: without a scheme, tag or slash at the end"))]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub registries: Vec<String>,
    /// Whether images are pulled each time, so that one that lies on a node already runs only for those who may pull it.
    #[serde(default)]
    pub always_pull: bool,
}

/// The most that a pod may send and receive in a second, such as `10M`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// What it may receive, in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}[kMGT]$"))]
    pub ingress: Option<String>,
    /// What it may send, in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}[kMGT]$"))]
    pub egress: Option<String>,
}

/// Requests and limits of containers, by resource: `cpu`, `memory`, `ephemeral-storage` and others.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRules {
    /// Requests of containers that say none.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub requests: Quantities,
    /// Limits of containers that say none.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub limits: Quantities,
    /// The most that one container may have as a limit; more is refused, and one that says none gets this at most.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub max: Quantities,
}

/// A taint that is tolerated.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint.
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')")
        .message("key is the key of a taint, such as example.com/pool"))]
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Value of the taint; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')")
        .message("value is the value of a taint: letters, digits, '-', '_' and '.', as in a label"))]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint: `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: Option<String>,
}

impl Toleration {
    /// The same as a pod says it.
    pub fn of_pod(&self) -> Value {
        let mut toleration = match &self.value {
            Some(value) => json!({"key": self.key, "operator": "Equal", "value": value}),
            None => json!({"key": self.key, "operator": "Exists"}),
        };
        if let Some(effect) = &self.effect {
            toleration["effect"] = effect.as_str().into();
        }
        toleration
    }

    /// Whether pods with it may be on a node that has this taint, as Kubernetes tells.
    pub fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        let is_its = |own: &Option<String>, given| own.as_deref().is_none_or(|own| own == given);
        self.key == key && is_its(&self.value, value) && is_its(&self.effect, effect)
    }
}

impl PodRules {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Labels of the nodes that a tenant sees and its pods run on, where its VirtualControlPlane asks for `own`.
    pub fn nodes(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut nodes = own.clone();
        nodes.extend(self.node_selector.clone());
        nodes
    }

    /// What is asked of those nodes by terms, where a VirtualControlPlane asks for `own`; each of it holds.
    pub fn affinities(&self, own: &NodeAffinity) -> Vec<NodeAffinity> {
        let both = [&self.node_affinity, own].into_iter();
        both.filter(|asked| !asked.is_empty()).cloned().collect()
    }
}

impl PodWishes {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ImageRules {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Bandwidth {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ContainerRules {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_chooses_among_the_nodes_of_its_class_and_no_others() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let class = PodRules {
            node_selector: labels(&[("pool", "tenants")]),
            ..PodRules::default()
        };
        let nodes = |own: &[(&str, &str)]| class.nodes(&labels(own));
        assert_eq!(nodes(&[]), labels(&[("pool", "tenants")]));
        let narrower = [("disk", "ssd"), ("pool", "tenants")];
        assert_eq!(nodes(&[("disk", "ssd")]), labels(&narrower));
        let exists = |key: &str| -> NodeAffinity {
            let asked = json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
            serde_json::from_value(json!({"required": [asked]})).unwrap()
        };
        let by_terms = PodRules {
            node_affinity: exists("gpu"),
            ..PodRules::default()
        };
        let own = exists("disk");
        assert_eq!(by_terms.affinities(&own), [exists("gpu"), own.clone()]);
        assert_eq!(class.affinities(&own), [own]);
        assert!(class.affinities(&NodeAffinity::default()).is_empty());
        assert_eq!(
            nodes(&[("pool", "platform")]),
            labels(&[("pool", "tenants")])
        );
    }
}
