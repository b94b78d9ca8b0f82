//! The way to another super cluster as it was last.
//!
//! The Secret that leads there is somebody else's and may go before the twin does, as when their namespace is deleted. So as
//! long as there may be a twin, what the Secret said is kept in Sublet's own namespace, and the twin is taken away by it. It is
//! let go of with the VirtualControlPlane, however that goes: a move takes objects away without their deletion.

use crate::{
    cluster::{self, Cluster},
    control_plane::Owner,
    decide::Action,
    object::{Object, SECRET},
    observe::Seen,
    pki::OPAQUE,
};
use api::{VirtualControlPlane, keys};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use tenancy::tenant::TenantId;

/// Key of the kubeconfig in the Secret.
pub(crate) const KEY: &str = "value";

/// Name of the Secret in Sublet's own namespace.
pub(crate) fn name(tenant: &TenantId) -> String {
    format!("super-cluster-{tenant}")
}

/// What must be done so that the way is kept as it is given now.
pub(super) fn due(seen: &Seen, owner: &Owner, system: &str) -> Option<Action> {
    let text = seen.given.as_ref()?.to_yaml("super", "sublet").ok()?;
    let body = json!({
        "metadata": {
            "labels": owner.labels(),
            "annotations": {keys::CONTROL_PLANE: owner.path()},
        },
        "type": OPAQUE,
        "data": {KEY: BASE64_STANDARD.encode(text)},
    });
    let wanted = Object::new(SECRET, Some(system), &name(&owner.id), body).sealed();
    let is_met = seen
        .kept
        .as_ref()
        .is_some_and(|have| wanted.is_met_by(have));
    (!is_met).then_some(Action::Apply(wanted))
}

/// Passes events on, and lets go of what is kept for one that is gone.
pub(crate) fn tidied(
    events: impl Stream<Item = watcher::Result<Event<VirtualControlPlane>>>,
    cluster: Cluster,
    system: String,
) -> impl Stream<Item = watcher::Result<Event<VirtualControlPlane>>> {
    events.inspect(move |event| {
        let Ok(Event::Delete(gone)) = event else {
            return;
        };
        let Some(Ok(owner)) = Owner::of(gone).filter(|_| gone.spec.super_cluster.is_some()) else {
            return;
        };
        let (cluster, system) = (cluster.clone(), system.clone());
        tokio::spawn(async move {
            if let Err(error) = let_go(&cluster, &system, &owner).await {
                let whose = owner.path();
                tracing::warn!(whose, %error, "the way to the super cluster of one that is gone stays");
            }
        });
    })
}

async fn let_go(cluster: &Cluster, system: &str, owner: &Owner) -> Result<(), cluster::Error> {
    let kept = cluster.get(SECRET, Some(system), &name(&owner.id)).await?;
    let is_its = |kept: &Object| kept.annotation(keys::CONTROL_PLANE) == Some(&*owner.path());
    match kept.filter(is_its) {
        Some(kept) => cluster.delete(&kept, None).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control_plane::tests::vcp, played::Played};
    use futures::stream;

    const SYSTEM: &str = "sublet-system";

    #[tokio::test]
    async fn what_is_kept_goes_with_its_own_virtual_control_plane_alone() {
        let cluster = Played::default();
        let mut gone = vcp();
        gone.spec.super_cluster = Some(api::SuperCluster::default());
        let id = Owner::of(&gone).unwrap().unwrap().id;
        let at = format!("/api/v1/namespaces/{SYSTEM}/secrets/{}", name(&id));
        let keep = |whose: &str| {
            let annotations = json!({keys::CONTROL_PLANE: whose});
            cluster.put(&at, json!({"metadata": {"annotations": annotations}}));
        };
        for (whose, event, stays) in [
            ("tenants/other", Event::Delete(gone.clone()), true),
            ("tenants/acme", Event::Apply(gone.clone()), true),
            ("tenants/acme", Event::Delete(gone.clone()), false),
        ] {
            keep(whose);
            let events = stream::iter([Ok(event)]);
            let told = tidied(events, cluster.cluster(), SYSTEM.into());
            assert_eq!(told.count().await, 1);
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert_eq!(cluster.get(&at).is_some(), stays, "{whose}");
        }
    }
}
