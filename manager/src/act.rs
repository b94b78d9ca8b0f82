//! Carrying out actions, one after the other; the first failure ends the pass.

use crate::{
    cluster::{self, Cluster},
    decide::Action,
    kubeconfig,
    object::Object,
    observe::{Observer, Seen},
    pki::{self, Material},
    tenant,
};
use api::keys;
use rand::TryRngCore;
use serde_json::{Value, json};
use tenancy::tenant::TenantId;

/// An action failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An API server refused or didn't answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The tenant's API server refused or didn't answer.
    #[error("in the tenant: {0}")]
    Tenant(#[source] cluster::Error),
    /// The way into the tenant.
    #[error(transparent)]
    Access(#[from] tenant::Error),
    /// The way into the tenant.
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::Error),
    /// Keys could not be made.
    #[error(transparent)]
    Keys(#[from] pki::Error),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] rand::rand_core::OsError),
}

impl Error {
    /// Someone else wrote first: look again at once.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_conflict())
    }
}

/// Carries out all actions of a decision.
pub(crate) async fn act(observer: &Observer, seen: &Seen, actions: Vec<Action>) -> Result<(), Error> {
    let cluster = &observer.cluster;
    let mut vcp = seen.object.clone();
    let mut inside: Option<Cluster> = None;
    for action in actions {
        match action {
            Action::Adopt => vcp = cluster.merge(&vcp, "", adoption(seen)?).await?,
            Action::Patch(patch) => vcp = cluster.merge(&vcp, "", patch).await?,
            Action::Create(object) => drop(cluster.create(&object).await?),
            Action::Replace(object) => drop(cluster.replace(&object).await?),
            Action::Apply(object) => drop(cluster.apply(&object).await?),
            Action::ApplyInTenant(object) => {
                if inside.is_none() {
                    inside = enter(seen).await?;
                }
                if let Some(tenant) = &inside {
                    tenant.apply(&object).await.map_err(Error::Tenant)?;
                }
            }
            Action::Issue(order, authority) => {
                let secret = pki::issue(&order, authority.as_ref(), seen.now)?;
                match order.material {
                    Material::Leaf(_) => cluster.apply(&secret).await?,
                    // Made once: if a Secret of the name turns up, it is kept.
                    _ => cluster.create(&secret).await?,
                };
            }
            Action::Delete(object) => cluster.delete(&object).await?,
            Action::Release => drop(cluster.merge(&vcp, "", without_finalizer(&vcp)).await?),
        }
    }
    Ok(())
}

/// A client of the tenant, as its bootstrapper.
async fn enter(seen: &Seen) -> Result<Option<Cluster>, Error> {
    match tenant::access(&seen.objects)? {
        Some(access) => Ok(Some(Cluster::new(access.client().await?))),
        None => Ok(None),
    }
}

fn adoption(seen: &Seen) -> Result<Value, Error> {
    let mut finalizers = seen.object.body.pointer("/metadata/finalizers").cloned().unwrap_or_else(|| json!([]));
    if let Value::Array(list) = &mut finalizers
        && !list.iter().any(|finalizer| finalizer == keys::FINALIZER)
    {
        list.push(json!(keys::FINALIZER));
    }
    let mut patch = json!({"metadata": {"finalizers": finalizers}});
    if seen.vcp.spec.identity.is_none() {
        let mut bits = [0u8; 16];
        rand::rngs::OsRng.try_fill_bytes(&mut bits)?;
        patch["spec"]["identity"] = json!(TenantId::from_bits(bits).as_str());
    }
    Ok(patch)
}

fn without_finalizer(vcp: &Object) -> Value {
    let mut finalizers = vcp.items("/metadata/finalizers").to_vec();
    finalizers.retain(|finalizer| finalizer != keys::FINALIZER);
    json!({"metadata": {"finalizers": finalizers}})
}
