//! Reading all that matters for one object of the provider, before anything is done.

use super::owner;
use crate::{
    clients::cluster::{self, Cluster},
    object::{CLUSTER, Kind, Object, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, VIRTUAL_CONTROL_PLANE},
};
use api::{Condition, Phase, VirtualControlPlane, capi, keys};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What one pass goes by.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The object itself.
    pub(super) object: Object,
    /// Its metadata, typed.
    pub(super) metadata: ObjectMeta,
    /// The Cluster that owns it; `None` when there is none, or more than one, or it is gone.
    pub(super) cluster: Option<Object>,
    /// The object that the Cluster names for the other role: a SubletControlPlane's SubletCluster and the other way round.
    pub(super) other: Option<Object>,
    /// The VirtualControlPlane under the Cluster's name, whoever it belongs to.
    pub(super) tenant: Option<Tenant>,
    /// The Cluster that the tenant is named after, where more than one owns the object.
    pub(super) named_after: Option<Object>,
    /// When this was seen.
    pub(super) now: Timestamp,
}

/// A VirtualControlPlane.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    /// As JSON.
    pub(super) object: Object,
    /// The same, typed.
    pub(super) vcp: VirtualControlPlane,
}

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// An API server's answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An object has a form that this version doesn't know.
    #[error("{what} can't be read: {source}")]
    Decode {
        /// Which object.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Facts {
    /// Of the object itself, with nothing of what is around it.
    pub(super) fn alone(object: Object) -> Result<Self, Error> {
        Ok(Self {
            metadata: decode(&object, &object.body["metadata"])?,
            object,
            cluster: None,
            other: None,
            tenant: None,
            named_after: None,
            now: Timestamp::now(),
        })
    }
}

/// The name that the Cluster gives in one of its references, when it is one of an object of `kind`.
pub(crate) fn referred<'a>(cluster: &'a Object, field: &str, kind: Kind) -> Option<&'a str> {
    let reference = &cluster.body["spec"][field];
    let group = kind.api_version.split('/').next();
    (reference["kind"] == kind.kind && reference["apiGroup"].as_str() == group)
        .then(|| reference["name"].as_str())?
}

impl Facts {
    /// Names of the Clusters that own the object.
    pub(super) fn owners(&self) -> Vec<&str> {
        owner::clusters(&self.metadata)
    }

    /// As [`referred`].
    pub(super) fn referred<'a>(cluster: &'a Object, field: &str, kind: Kind) -> Option<&'a str> {
        referred(cluster, field, kind)
    }

    /// Whether its deletion was asked for.
    pub(super) fn is_going(&self) -> bool {
        self.object.is_going()
    }

    /// The reason that the object's own status gives for a condition.
    pub(super) fn said(&self, kind: &str) -> Option<&str> {
        let mut said = self.object.items("/status/conditions").iter();
        said.find(|said| said["type"] == kind)?["reason"].as_str()
    }
}

impl Facts {
    /// Takes up what was written; `false` when that is neither the object itself nor the VirtualControlPlane.
    ///
    /// # Errors
    /// It has a form that this version doesn't know.
    pub(super) fn learn(&mut self, written: Object) -> Result<bool, Error> {
        if written.kind == VIRTUAL_CONTROL_PLANE {
            self.tenant = Some(Tenant {
                vcp: decode(&written, &written.body)?,
                object: written,
            });
            return Ok(true);
        }
        if written.kind != self.object.kind {
            return Ok(false);
        }
        self.metadata = decode(&written, &written.body["metadata"])?;
        self.object = written;
        Ok(true)
    }
}

impl Tenant {
    /// A condition of it.
    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        crate::status::condition(&self.vcp, kind)
    }

    /// Whether its API server answers, as was last seen; its controller-manager runs too. The API server alone answers
    /// sooner, by its pod's address, and whoever comes by a Service then may find nobody, and tries again much later.
    pub(super) fn answers(&self) -> bool {
        !self.object.is_going()
            && self
                .condition("ControlPlaneReady")
                .is_some_and(|ready| ready.status == "True")
    }

    /// Whether the manager has seen that it is paused.
    pub(super) fn is_paused(&self) -> bool {
        let status = self.vcp.status.as_ref();
        status.and_then(|status| status.phase) == Some(Phase::Paused)
    }

    /// Whether a deletion got as far as it gets while the SubletCluster holds on to it.
    pub(super) fn has_ended(&self) -> bool {
        let finalizers = self.vcp.metadata.finalizers.as_deref().unwrap_or_default();
        let ended = self
            .condition("ControlPlaneReady")
            .is_some_and(|ready| ready.reason == crate::status::ENDED);
        // Without the manager's own finalizer nothing was ever done for it.
        self.object.is_going()
            && (ended
                || !finalizers
                    .iter()
                    .any(|finalizer| finalizer == keys::FINALIZER))
    }

    /// What is said about it in one line.
    pub(super) fn message(&self) -> &str {
        let status = self.vcp.status.as_ref();
        status
            .and_then(|status| status.message.as_deref())
            .unwrap_or("waiting for the manager")
    }

    /// Whether an object of this UID is among its owners.
    pub(super) fn is_owned_by(&self, uid: &str) -> bool {
        let owners = self.vcp.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.uid == uid)
    }
}

/// Looks at one object; `None` when it is gone.
pub(super) async fn look(
    cluster: &Cluster,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Facts>, Error> {
    let Some(object) = cluster.get(kind, Some(namespace), name).await? else {
        return Ok(None);
    };
    let mut seen = Facts::alone(object)?;
    let owners: Vec<String> = seen.owners().into_iter().map(str::to_owned).collect();
    if let [owner] = &owners[..] {
        seen.cluster = cluster
            .get_if_served(CLUSTER, Some(namespace), owner)
            .await?;
    }
    let (field, other) = counterpart(kind);
    let referred = seen
        .cluster
        .as_ref()
        .and_then(|cluster| Facts::referred(cluster, field, other));
    if let Some(name) = referred {
        seen.other = cluster.get(other, Some(namespace), name).await?;
    }
    for owner in &owners {
        let Some(object) = cluster
            .get(VIRTUAL_CONTROL_PLANE, Some(namespace), owner)
            .await?
        else {
            continue;
        };
        let tenant = Tenant {
            vcp: decode(&object, &object.body)?,
            object,
        };
        let is_of_one = owners.len() == 1;
        if is_of_one || tenant.is_owned_by(seen.object.uid()) {
            seen.tenant = Some(tenant);
            if !is_of_one {
                seen.named_after = cluster
                    .get_if_served(CLUSTER, Some(namespace), owner)
                    .await?;
            }
        }
    }
    Ok(Some(seen))
}

/// The field of a Cluster that names the other role's object, and the kind of that.
pub(super) fn counterpart(kind: Kind) -> (&'static str, Kind) {
    if kind == SUBLET_CONTROL_PLANE {
        ("infrastructureRef", SUBLET_CLUSTER)
    } else {
        ("controlPlaneRef", SUBLET_CONTROL_PLANE)
    }
}

pub(super) fn decode<T: DeserializeOwned>(object: &Object, part: &Value) -> Result<T, Error> {
    T::deserialize(part).map_err(|source| Error::Decode {
        what: format!("{object:?}"),
        source,
    })
}

/// Whether somebody else looks after an infrastructure cluster: the contract calls it a label, Cluster API itself looks for
/// an annotation.
pub(super) fn is_managed_elsewhere(object: &Object) -> bool {
    object.label(capi::MANAGED_BY).is_some() || object.annotation(capi::MANAGED_BY).is_some()
}
