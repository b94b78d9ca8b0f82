//! The way to another super cluster as it was last.
//!
//! The Secret that leads there is somebody else's and may go before the twin does, as when their namespace is deleted. So as
//! long as there may be a twin, what the Secret said is kept in Sublet's own namespace, and the twin is taken away by it. It is
//! let go of with the VirtualControlPlane, however that goes: a move takes objects away without their deletion.

use crate::{
    clients::cluster::{self, Cluster},
    decide::Action,
    object::{CONFIG_MAP, Object, SECRET, VIRTUAL_CONTROL_PLANE},
    observe::Seen,
    pki::OPAQUE,
    spec::control_plane::Owner,
};
use api::{VirtualControlPlane, keys};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use std::collections::BTreeSet;
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

/// Passes events on, and lets go of what is kept for one that is gone, also when nobody told that it went.
pub(crate) fn tidied(
    events: impl Stream<Item = watcher::Result<Event<VirtualControlPlane>>>,
    cluster: Cluster,
    system: String,
) -> impl Stream<Item = watcher::Result<Event<VirtualControlPlane>>> {
    let mut listed = BTreeSet::new();
    events.inspect(move |event| match event {
        Ok(Event::Init) => listed.clear(),
        Ok(Event::InitApply(vcp)) => {
            listed.extend(path(vcp));
        }
        Ok(Event::InitDone) => {
            let (cluster, system) = (cluster.clone(), system.clone());
            let listed = std::mem::take(&mut listed);
            tokio::spawn(async move {
                if let Err(error) = sweep(&cluster, &system, &listed).await {
                    tracing::warn!(%error, "ways to the super clusters of some that are gone may stay");
                }
            });
        }
        Ok(Event::Delete(gone)) => {
            let Some(Ok(owner)) = Owner::of(gone).filter(|_| gone.spec.super_cluster.is_some())
            else {
                return;
            };
            let (cluster, system) = (cluster.clone(), system.clone());
            tokio::spawn(async move {
                let whose = owner.path();
                if let Err(error) = let_go(&cluster, &system, &owner.id, &whose).await {
                    tracing::warn!(whose, %error, "the way to the super cluster of one that is gone stays");
                }
            });
        }
        _ => {}
    })
}

/// Lets go of what is kept for those that went unheard. The claims of their identities are left, too: what takes them away
/// takes away what is kept.
async fn sweep(
    cluster: &Cluster,
    system: &str,
    listed: &BTreeSet<String>,
) -> Result<(), cluster::Error> {
    let claims = format!("{}={}", keys::ROLE, keys::ROLE_IDENTITY_CLAIM);
    for claim in cluster.list(CONFIG_MAP, Some(system), &claims).await? {
        let (namespace, name) = (claim.text("/data/namespace"), claim.text("/data/name"));
        let whose = format!("{namespace}/{name}");
        let tenant = claim.label(keys::TENANT).map(TenantId::parse);
        let (Some(Ok(tenant)), false) = (tenant, listed.contains(&whose)) else {
            continue;
        };
        // It may have come since the list.
        let there = cluster.get(VIRTUAL_CONTROL_PLANE, Some(namespace), name);
        if there.await?.is_none() {
            let_go(cluster, system, &tenant, &whose).await?;
        }
    }
    Ok(())
}

fn path(vcp: &VirtualControlPlane) -> Option<String> {
    let about = &vcp.metadata;
    let (namespace, name) = about.namespace.as_ref().zip(about.name.as_ref())?;
    Some(format!("{namespace}/{name}"))
}

async fn let_go(
    cluster: &Cluster,
    system: &str,
    tenant: &TenantId,
    whose: &str,
) -> Result<(), cluster::Error> {
    let kept = cluster.get(SECRET, Some(system), &name(tenant)).await?;
    let is_its = |kept: &Object| kept.annotation(keys::CONTROL_PLANE) == Some(whose);
    match kept.filter(is_its) {
        Some(kept) => cluster.delete(&kept, None).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{played::Played, spec::control_plane::tests::vcp};
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

    #[tokio::test]
    async fn what_is_kept_for_one_that_went_unheard_goes_after_the_next_list() {
        let cluster = Played::default();
        let vcp = vcp();
        let owner = Owner::of(&vcp).unwrap().unwrap();
        let at = format!("/api/v1/namespaces/{SYSTEM}/secrets/{}", name(&owner.id));
        let annotations = json!({keys::CONTROL_PLANE: owner.path()});
        cluster.put(&at, json!({"metadata": {"annotations": annotations}}));
        let claim = crate::spec::claims::identity_claim(SYSTEM, &owner);
        let claims = format!("/api/v1/namespaces/{SYSTEM}/configmaps");
        cluster.put(&format!("{claims}/{}", claim.name()), claim.body.clone());
        let there = "/apis/sublet.dev/v1alpha1/namespaces/tenants/virtualcontrolplanes/acme";
        cluster.put(there, serde_json::to_value(&vcp).unwrap());
        let list = |all: Vec<VirtualControlPlane>| {
            let all = all.into_iter().map(Event::InitApply);
            let events = std::iter::once(Event::Init).chain(all);
            stream::iter(events.chain([Event::InitDone]).map(Ok).collect::<Vec<_>>())
        };
        let told = async |all: Vec<VirtualControlPlane>| {
            let told = tidied(list(all), cluster.cluster(), SYSTEM.into());
            told.count().await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            cluster.get(&at).is_some()
        };
        assert!(told(vec![vcp.clone()]).await, "listed");
        assert!(told(vec![]).await, "it came since");
        cluster.remove(there);
        assert!(told(vec![vcp.clone()]).await, "nobody told yet");
        assert!(!told(vec![]).await);
    }
}
