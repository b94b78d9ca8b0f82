//! Whose object, and which: the newtypes that a caller could otherwise swap.

use crate::{
    block::Block,
    kind::is_shown_of_nodes,
    offer::Offers,
    pod_rules::PodRules,
    quota::amount::{Amounts, stricter},
    reach::Reach,
    resolver::Resolver,
    sharing::{Opened, Shared},
    slice::Slice,
    to_super::Extent,
};
use api::{Budgets, CustomResource, NodeAffinity, PodSecurity, RawSockets, ShownNodes};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Identity of a tenant: 128 random bits as 26 characters of lower-case base32.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// The text isn't an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no tenant identity: 26 characters of a-z and 2-7 are expected")]
pub struct InvalidIdentity(String);

impl TenantId {
    /// Encodes 128 bits.
    pub fn from_bits(bits: [u8; 16]) -> Self {
        Self(crate::naming::base32(&bits).into())
    }

    /// Parses an identity as it stands in a spec or label.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentity> {
        let valid =
            text.len() == 26 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidIdentity(text.into()))
        }
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 0–255, even over random identities, for people and programs that select by it; nothing in Sublet does
    /// (docs/syncers.md).
    pub fn shard(&self) -> u8 {
        crate::naming::digest(&[b"shard", self.0.as_bytes()])[0]
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What translation must know of a tenant; parsed once from its VirtualControlPlane, never from the tenant itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantRules {
    /// Identity.
    pub id: TenantId,
    /// Namespace of the VirtualControlPlane.
    pub vcp_namespace: String,
    /// Name of the VirtualControlPlane: the readable prefix of super namespaces.
    pub vcp_name: String,
    /// The tenant's slice of the super cluster's Service range; `None`: ClusterIP Services are refused.
    pub slice: Option<Slice>,
    /// DNS suffix of the tenant's Services.
    pub cluster_domain: String,
    /// Whom its pods ask for names.
    pub resolver: Resolver,
    /// Pod Security level its pods are held to.
    pub pod_security: PodSecurity,
    /// What its pods are made with, whatever they ask for.
    pub pods: PodRules,
    /// What its pods may reach beside the tenant itself, and who may reach them.
    pub reach: Reach,
    /// Services that it is shown, and who may reach which of its own.
    pub shared: Shared,
    /// What is opened for them.
    pub opened: Opened,
    /// Whether its API server runs in the super cluster, where pods reach it.
    pub is_hosted: bool,
    /// Labels a node must carry to be used by the tenant.
    pub node_selector: BTreeMap<String, String>,
    /// What else must hold of such a node, and which of them are preferred: each of these.
    pub node_affinity: Vec<NodeAffinity>,
    /// Which of those nodes it is shown.
    pub nodes: ShownNodes,
    /// What its disruption budgets may ask of a drain.
    pub budgets: Budgets,
    /// How much of each resource goes down.
    pub to_super: Extent,
    /// Labels that the tenant's group puts on its super namespaces.
    pub group_labels: BTreeMap<String, String>,
    /// How often the tenant was restored from a snapshot; stamped on what is made.
    pub restore_counter: i64,
    /// What it may use of the super cluster, over all of its namespaces.
    pub quota: Amounts,
    /// What it and others may use together: the lowest limits of the groups that it belongs to.
    pub shared_quota: Amounts,
    /// What of the super cluster it may see and use.
    pub offers: Offers,
    /// Custom resources that cross, as its class defines them.
    pub custom: Vec<CustomResource>,
    /// Whether its pods may run.
    pub workload: Workload,
}

/// Whether a tenant's pods may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// They may.
    #[default]
    Runs,
    /// It falls asleep without its pods: those that run are ended, and no other is made.
    Stops,
}

impl TenantRules {
    /// Everything that it is limited in, with the strictest limit.
    pub fn limits(&self) -> Amounts {
        stricter(&self.quota, &self.shared_quota)
    }

    /// Whether the tenant sees a label on its nodes, and may ask for nodes by it.
    pub fn sees_label_of_nodes(&self, key: &str) -> bool {
        is_shown_of_nodes(key)
            || self.node_selector.contains_key(key)
            || self.pods.node_labels.iter().any(|shown| shown == key)
    }

    /// Whether its containers may keep the capability `NET_RAW`.
    pub fn keeps_raw_sockets(&self) -> bool {
        self.pod_security == PodSecurity::Privileged || self.pods.raw_sockets == RawSockets::Allowed
    }

    /// Networks of nodes whose addresses the tenant sees, and which its pods and they reach each other in.
    ///
    /// A pod on its node's network comes from there and goes wherever the node goes, so this gives nothing to a tenant that
    /// may have such pods; all others get nothing.
    pub fn node_ranges(&self) -> &[Block] {
        match self.pod_security {
            PodSecurity::Privileged => &self.reach.nodes,
            PodSecurity::Baseline | PodSecurity::Restricted => &[],
        }
    }
}

/// An object by its coordinates in the tenant; both directions are worked by it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Index of the kind ([`crate::kind::rule`]).
    pub kind: u8,
    /// Namespace in the tenant; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name in the tenant.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object of the kind with that index.
    pub fn new(kind: u8, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The kind.
    pub fn kind(&self) -> &'static dyn crate::kind::Kind {
        crate::kind::rule(self.kind)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind().resource().kind;
        if self.namespace.is_empty() {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_26_characters_of_base32() {
        let id = TenantId::from_bits([7; 16]);
        assert_eq!(TenantId::parse(id.as_str()), Ok(id.clone()));
        for wrong in [
            "",
            "abc",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "abcdefghijklmnopqrstuvwxy1",
            &"a".repeat(27),
        ] {
            assert!(TenantId::parse(wrong).is_err(), "{wrong}");
        }
    }
}
