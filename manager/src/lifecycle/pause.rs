//! Whether a VirtualControlPlane may be changed now; pure.
//!
//! Its own `spec.paused` stops manager and syncer. A Cluster of Cluster API that is paused stops the manager alone: while
//! a Cluster moves from one management cluster to another, the tenant goes on working. An external tenant is no Cluster's,
//! whatever its labels say: the syncer serves it, so the manager claims for it.

use crate::{object::Object, observe::Seen};
use api::capi;

/// Why nothing may be changed; `None` when all may.
pub(crate) fn of(seen: &Seen) -> Option<String> {
    // With a twin it is that one's pause, too: the manager there obeys it, so it must be told.
    if seen.vcp.spec.paused && seen.vcp.spec.super_cluster.is_none() {
        return Some(
            "spec.paused is set: nothing is changed for this tenant until it is unset".into(),
        );
    }
    if seen.vcp.spec.external.is_some() {
        return None;
    }
    let membership = seen.owner.as_ref()?.cluster.as_ref()?;
    by_cluster_api(&seen.object, seen.cluster.as_ref()).map(|why| {
        format!(
            "{why}: the control plane of Cluster {} is left as it is until that is unset",
            membership.cluster
        )
    })
}

/// What of Cluster API says that an object is to be left alone.
pub(crate) fn by_cluster_api(object: &Object, cluster: Option<&Object>) -> Option<&'static str> {
    if cluster.is_some_and(|cluster| cluster.body["spec"]["paused"] == true) {
        return Some("spec.paused of the Cluster is set");
    }
    let annotated = object.annotation(capi::PAUSED).is_some();
    annotated.then_some("the annotation cluster.x-k8s.io/paused is set")
}
