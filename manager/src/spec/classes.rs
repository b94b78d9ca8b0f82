//! Holds classes that are in use: one that is deleted stays till no VirtualControlPlane names it any more.
//!
//! Without its class a control plane isn't looked after, and nothing is synced for a tenant that a syncer doesn't know yet.

use crate::{
    clients::cluster::Cluster,
    object::{CONTROL_PLANE_CLASS, Object},
    watching::cache::Cache,
};
use api::{ControlPlaneClass, VirtualControlPlane, keys::CLASS_FINALIZER};
use kube::ResourceExt;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// How often what is known is looked at; it costs no request.
const ROUND: Duration = Duration::from_secs(1);

/// Holds classes and lets go of them until the task is dropped.
pub(crate) async fn hold(
    cluster: Cluster,
    tenants: Cache<VirtualControlPlane>,
    classes: Cache<ControlPlaneClass>,
) {
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        rounds.tick().await;
        // While they are listed anew, one that is in use could seem not to be.
        let (Some(tenants), Some(classes)) = (tenants.now(), classes.now()) else {
            continue;
        };
        let tenants = tenants.state();
        for class in classes.state() {
            let Some(finalizers) = due(&class, &tenants) else {
                continue;
            };
            let name = class.name_any();
            let seen = Object::observed(CONTROL_PLANE_CLASS, json!(&*class));
            let patch = json!({"metadata": {"finalizers": finalizers}});
            match cluster.merge(&seen, "", patch).await {
                Ok(_) => {}
                // The watch will tell of what it is now.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(class = name, %error, "its finalizer can't be written");
                }
            }
        }
    }
}

/// The finalizers that a class must have, where it has others.
fn due(class: &ControlPlaneClass, tenants: &[Arc<VirtualControlPlane>]) -> Option<Vec<String>> {
    let name = class.metadata.name.as_ref()?;
    // The class of one that runs in another super cluster is there.
    let is_in_use = tenants
        .iter()
        .any(|vcp| vcp.spec.class_name == *name && vcp.spec.super_cluster.is_none());
    let mut finalizers = class.finalizers().to_vec();
    let is_held = finalizers.iter().any(|other| other == CLASS_FINALIZER);
    match (is_in_use, is_held) {
        // What is being deleted takes no more.
        (true, false) if class.metadata.deletion_timestamp.is_none() => {
            finalizers.push(CLASS_FINALIZER.into());
        }
        (false, true) => finalizers.retain(|other| other != CLASS_FINALIZER),
        _ => return None,
    }
    Some(finalizers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::control_plane::tests::{class, vcp};
    use api::SuperCluster;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_class_is_held_while_somebody_names_it_and_let_go_of_afterwards() {
        let held = |finalizers: &[&str]| {
            let mut class = class();
            let finalizers = finalizers.iter().map(|name| (*name).to_owned());
            class.metadata.finalizers = Some(finalizers.collect());
            class
        };
        let (mut elsewhere, mut other) = (vcp(), vcp());
        elsewhere.spec.super_cluster = Some(SuperCluster::default());
        other.spec.class_name = "gold".into();
        let users = [Arc::new(other.clone()), Arc::new(vcp())];
        let nobody = [Arc::new(other), Arc::new(elsewhere)];
        let both = ["theirs", CLASS_FINALIZER];
        assert_eq!(due(&held(&["theirs"]), &users).unwrap(), both);
        assert_eq!(due(&held(&both), &users), None);
        assert_eq!(due(&held(&both), &nobody).unwrap(), ["theirs"]);
        assert_eq!(due(&held(&["theirs"]), &nobody), None);
        let mut going = class();
        going.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(due(&going, &users), None, "the API server would refuse it");
    }
}
