//! Why a VirtualControlPlane isn't provisioned, in words for people.

use crate::pki;
use api::{capi, keys};
use tenancy::{
    slice::{self, Slice},
    tenant::InvalidIdentity,
};

/// A VirtualControlPlane that can't be provisioned until a person changes something.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The identity doesn't parse; admission lets none such through.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// Another VirtualControlPlane claimed the identity first.
    #[error(
        "the identity belongs to VirtualControlPlane {holder}: nothing is done for this one; give it an identity of its own"
    )]
    IdentityConflict {
        /// Namespace and name of the one that holds it.
        holder: String,
    },
    /// Another VirtualControlPlane has the slice, or a part of it.
    #[error(
        "spec.network.serviceCIDR {slice} overlaps {other} of {holder}: nothing is done for this one; create it again with \
         a range of its own"
    )]
    SliceTaken {
        /// The slice that was given.
        slice: Slice,
        /// The one that is claimed.
        other: Slice,
        /// Namespace and name of its holder.
        holder: String,
    },
    /// The class doesn't exist.
    #[error(
        "there is no ControlPlaneClass {class}: {}",
        those_that_exist(existing)
    )]
    ClassMissing {
        /// The name asked for.
        class: String,
        /// Names of all classes.
        existing: Vec<String>,
    },
    /// The class doesn't offer the version.
    #[error("ControlPlaneClass {class} doesn't offer version {version}: it offers {}", offered.join(", "))]
    VersionNotOffered {
        /// Name of the class.
        class: String,
        /// The version asked for.
        version: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// The class is for other namespaces.
    #[error(
        "ControlPlaneClass {class} isn't for namespace {namespace}: set spec.className to another one, or have an admin add the \
         namespace to spec.namespaces of the class"
    )]
    ClassNotAllowed {
        /// Name of the class.
        class: String,
        /// Namespace of the VirtualControlPlane.
        namespace: String,
    },
    /// It asks for more than its class allows to its control plane.
    #[error(
        "ControlPlaneClass {class} doesn't allow that much: {excess}; ask for less, or set spec.className to a class that allows it"
    )]
    BeyondClass {
        /// Name of the class.
        class: String,
        /// What is too much, and what may be.
        excess: String,
    },
    /// The version can't follow the one that runs.
    #[error("version {wanted} can't follow {running}: {why}")]
    Skew {
        /// What runs.
        running: String,
        /// What is asked for.
        wanted: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The version didn't become ready, and what ran before was put back.
    #[error(
        "version {to} was taken back, since its {part} wasn't ready in time ({why}): {from} goes on, \
         and {to} is tried again once spec.version or the class asks for something else"
    )]
    RolledBack {
        /// What was asked for.
        to: String,
        /// What ran before.
        from: String,
        /// The part that wasn't ready.
        part: String,
        /// What it waited for.
        why: String,
    },
    /// It came here by a move, and its tenant didn't.
    #[error(
        "the tenant runs in another super cluster (UID {there} of its kube-system), and would begin here anew and empty: \
         move it back, or name that super cluster in spec.superCluster; to begin anew take the annotation {} away",
        keys::SUPER_CLUSTER
    )]
    Elsewhere {
        /// What the other one is known by.
        there: String,
    },
    /// The range in the spec doesn't parse.
    #[error(transparent)]
    Slice(#[from] slice::InvalidSlice),
    /// The range in the spec can't be the tenant's.
    #[error("spec.network.serviceCIDR {slice} {why}: leave it out and a free slice is taken")]
    SliceRefused {
        /// The range asked for.
        slice: Slice,
        /// Why not.
        why: String,
    },
    /// The Service range is used up.
    #[error(transparent)]
    Exhausted(#[from] slice::Exhausted),
    /// The super cluster's Service range isn't known.
    #[error(
        "the super cluster's Service range isn't known ({0}): start the manager with --service-cidr"
    )]
    RangeUnknown(String),
    /// A Secret that Sublet would write belongs to someone else.
    #[error("Secret {0} exists and isn't this tenant's: rename or delete it")]
    ForeignSecret(String),
    /// A namespace that Sublet would write belongs to someone else.
    #[error("Namespace {0} exists and isn't this tenant's: delete it")]
    ForeignNamespace(String),
    /// The number of etcd members can't change yet.
    #[error(
        "spec.etcd.replicas can't change from {0} to {1}: members are given at the start; set it back"
    )]
    MembersFixed(i64, i32),
    /// What is said of issuers can't be given to an API server.
    #[error(
        "spec.authentication.{field} {why}; until then API servers believe whom they believed before"
    )]
    AuthenticationRefused {
        /// The field that is wrong.
        field: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The kubeconfig of an external tenant can't be used.
    #[error("{0}")]
    Kubeconfig(String),
    /// An authority that a person brought can't be used.
    #[error(
        "Secret {secret} holds no authority that can be used: {why}; correct it, or delete it and one is made"
    )]
    AuthorityRefused {
        /// Namespace and name of the Secret.
        secret: String,
        /// What is wrong with it.
        why: pki::Unusable,
    },
    /// Its label names a Cluster that has another control plane, or none.
    #[error(
        "the label {} names Cluster {cluster}, which doesn't name this tenant's SubletControlPlane and SubletCluster: take the label \
         away, or have Cluster API make the tenant (the manager runs with --cluster-api then)",
        capi::CLUSTER_NAME
    )]
    NotTheClusters {
        /// Name of the Cluster.
        cluster: String,
    },
    /// In the super cluster there is another VirtualControlPlane under the name of the twin.
    #[error(
        "VirtualControlPlane {0} exists in the super cluster and isn't this tenant's: delete it, or choose another name"
    )]
    ForeignTwin(String),
}

impl Refusal {
    /// CamelCase word for conditions.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Identity(_) => "InvalidIdentity",
            Self::IdentityConflict { .. } => "IdentityConflict",
            Self::ClassMissing { .. } => "ClassMissing",
            Self::VersionNotOffered { .. } => "VersionNotOffered",
            Self::ClassNotAllowed { .. } => "ClassNotAllowed",
            Self::BeyondClass { .. } => "BeyondClass",
            Self::Skew { .. } => "VersionSkew",
            Self::RolledBack { .. } => "UpgradeRolledBack",
            Self::Elsewhere { .. } => "AnotherSuperCluster",
            Self::Slice(_) | Self::SliceRefused { .. } | Self::SliceTaken { .. } => {
                "ServiceRangeRefused"
            }
            Self::Exhausted(_) => "ServiceRangeExhausted",
            Self::RangeUnknown(_) => "ServiceRangeUnknown",
            Self::ForeignSecret(_) | Self::ForeignNamespace(_) | Self::ForeignTwin(_) => {
                "NameTaken"
            }
            Self::MembersFixed(..) => "EtcdReplicasFixed",
            Self::AuthenticationRefused { .. } => "AuthenticationRefused",
            Self::Kubeconfig(_) => "KubeconfigRefused",
            Self::AuthorityRefused { .. } => "AuthorityRefused",
            Self::NotTheClusters { .. } => "NotTheClusters",
        }
    }
}

fn those_that_exist(existing: &[String]) -> String {
    if existing.is_empty() {
        "no class exists yet; create one".into()
    } else {
        format!("set spec.className to one of {}", existing.join(", "))
    }
}
