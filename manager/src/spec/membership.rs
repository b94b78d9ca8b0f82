//! Whether a VirtualControlPlane is the control plane of the Cluster that its label names; pure.
//!
//! Under a Cluster's name its keys lie beside it, and the manager reads and writes them. Who may write
//! VirtualControlPlanes may write that label, too, and mustn't come by the keys of another Cluster. So the Cluster itself
//! must name the SubletControlPlane that made the VirtualControlPlane, and a SubletCluster that has its identity, which is
//! its own by its claim. A twin has no Cluster beside it: there only what was handed on to it counts as brought. Both have
//! the Cluster's name, so that nobody comes by another one's under a name that is still free.

use crate::{
    capi::referred,
    object::{Object, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    observe::Seen,
    spec::control_plane::{Membership, Owner, Refusal},
};
use api::{capi, keys as marks};
use serde_json::Value;

/// Refuses one that isn't the control plane of the Cluster that it names.
pub(crate) fn check(seen: &Seen, owner: &Owner) -> Result<(), Refusal> {
    match &owner.cluster {
        Some(of)
            if of.cluster != owner.name || !is_twin(seen) && !is_the_clusters(seen, owner, of) =>
        {
            let cluster = of.cluster.clone();
            Err(Refusal::NotTheClusters { cluster })
        }
        _ => Ok(()),
    }
}

/// Whether a Secret beside it, under a name of Cluster API's contract, was put there for this tenant.
pub(crate) fn is_for(seen: &Seen, owner: &Owner, secret: &Object) -> bool {
    let Some(of) = &owner.cluster else {
        return false;
    };
    let twin_of = seen.object.annotation(marks::TWIN_OF);
    let is_its = |holder: &Value| {
        let uid = match holder["kind"].as_str() {
            Some("Cluster") => seen.cluster.as_ref().map(Object::uid),
            Some("SubletCluster") => seen.place.as_ref().map(Object::uid),
            Some("SubletControlPlane") => {
                let maker = of.control_plane.as_ref();
                maker.and_then(|maker| maker["uid"].as_str())
            }
            _ => Some(&*owner.uid),
        };
        uid.is_some_and(|uid| holder["uid"] == uid)
    };
    secret.label(capi::CLUSTER_NAME) == Some(&*of.cluster)
        && (twin_of.is_none() || secret.annotation(marks::TWIN_OF) == twin_of)
        && secret.items("/metadata/ownerReferences").iter().all(is_its)
}

/// A twin has the name of what it is the twin of, and no Cluster beside it.
fn is_twin(seen: &Seen) -> bool {
    if seen.cluster.is_some() {
        return false;
    }
    let of = seen.object.annotation(marks::TWIN_OF);
    of.and_then(|of| of.rsplit('/').next()) == Some(seen.object.name())
}

fn is_the_clusters(seen: &Seen, owner: &Owner, of: &Membership) -> bool {
    let (Some(cluster), Some(place), Some(maker)) = (&seen.cluster, &seen.place, &of.control_plane)
    else {
        return false;
    };
    referred(cluster, "controlPlaneRef", SUBLET_CONTROL_PLANE) == maker["name"].as_str()
        && referred(cluster, "infrastructureRef", SUBLET_CLUSTER) == Some(place.name())
        && place.text("/spec/identity") == owner.id.as_str()
}

#[cfg(test)]
pub(crate) mod tests;
