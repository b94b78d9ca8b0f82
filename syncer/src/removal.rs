//! Deleting in the super cluster, under rule R1 and nothing less.
//!
//! A super object goes only when a quorum read at the tenant says that its owner is gone, has another UID, or (pods)
//! was asked to go; when the tenant is proven to be itself; and with a UID precondition. If any of that can't be
//! established, nothing is deleted.

use crate::{
    apply::{self, Failure},
    client::{Error, Preconditions},
    downward::{forget_unwatched, read, twin_path},
    engine::Engine,
    intake::{self, twin_name},
    table::SuperSide,
    tenants::{Held, Tenant},
    upward,
};
use serde_json::Value;
use tenancy::{kind, meta, object::Object, tenant::Key};

/// Grace for a pod whose tenant object was removed by force: the super object stays until its containers are dead.
const FORCED_GRACE: i64 = 1;

/// The tenant's object is gone, read live by the caller.
pub(crate) async fn remove(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        return Ok(());
    };
    let grace = key.kind().deletes_early().then_some(FORCED_GRACE);
    delete(engine, tenant, key, &twin, grace).await
}

/// The tenant asked for the pod's end: the wish goes down with its grace; a pod that never came down ends at once.
pub(crate) async fn pass_on(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        return upward::missing(engine, tenant, key).await;
    };
    if twin.terminating {
        return Ok(());
    }
    let grace = object
        .at("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    delete(engine, tenant, key, &twin, grace).await
}

/// The super object belongs to an older incarnation of the tenant's object.
pub(crate) async fn replace(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    have: &Object,
) -> Result<(), Failure> {
    let Some(owner) = meta::owner(have) else {
        return Ok(());
    };
    let now = read(
        &tenant.cluster,
        &key.kind().resource().path(&key.namespace, &key.name),
    )
    .await?;
    if now.is_some_and(|now| now.uid() == owner.uid) {
        return Err(Failure::Waiting(
            "the tenant's object is the one that the super object belongs to",
        ));
    }
    let twin = SuperSide {
        uid: have.uid().into(),
        version: have.resource_version(),
        owner_uid: owner.uid.as_str().into(),
        applied: meta::applied(have),
        state: meta::intent(have),
        baseline: 0,
        terminating: have.is_terminating(),
        mirrored: 0,
    };
    tenant
        .table
        .update(key, |entry| entry.twin = Some(twin.clone()));
    if twin.terminating {
        return Ok(());
    }
    let grace = key.kind().deletes_early().then_some(FORCED_GRACE);
    delete(engine, tenant, key, &twin, grace).await?;
    if tenant.table.get(key).twin.is_none() {
        return Err(Failure::Waiting("the older incarnation is gone"));
    }
    Ok(())
}

/// The tenant's object exists and nothing needs it in the super cluster any more.
pub(crate) async fn unneeded(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        return Ok(());
    };
    if matches!(key.kind().resource().kind, "ConfigMap" | "Secret")
        && is_referenced_live(tenant, key).await?
    {
        return Ok(());
    }
    delete(engine, tenant, key, &twin, None).await
}

async fn delete(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    twin: &SuperSide,
    grace: Option<i64>,
) -> Result<(), Failure> {
    if twin.terminating {
        return Ok(());
    }
    tenant.gate.check()?;
    prove(tenant).await?;
    let rule = key.kind();
    let preconditions = Preconditions {
        uid: &twin.uid,
        resource_version: (!rule.super_writes()).then_some(twin.version),
        grace,
    };
    let name = twin_name(tenant, key);
    tracing::info!(tenant = %tenant.id, %key, super_namespace = %name.namespace, uid = %twin.uid, "deleting the super object");
    let path = twin_path(tenant, key);
    match apply::delete(&engine.cluster, tenant, &path, &preconditions).await {
        Err(Failure::Api(Error::Conflict(_))) => {
            // Somebody changed it since: what it is now decides.
            match read(&engine.cluster, &path).await? {
                Some(have) if have.uid() == &*twin.uid => {
                    intake::seen_in_super(&tenant.table, key, &have, &twin.owner_uid);
                }
                _ => tenant.table.update(key, |entry| entry.twin = None),
            }
            return Err(Failure::Waiting(
                "the super object changed before it could be deleted",
            ));
        }
        other => other?,
    }
    engine.metrics.deleted(&tenant.id, rule.resource().kind);
    forget_unwatched(tenant, key);
    Ok(())
}

/// R1 (b): the API server reached is the tenant's own, by the UID of its kube-system namespace, read live.
async fn prove(tenant: &Tenant) -> Result<(), Failure> {
    let Some(proof) = tenant.proof() else {
        return Err(Held(
            "the VirtualControlPlane records no proof of the tenant's identity yet".into(),
        )
        .into());
    };
    let found = read(&tenant.cluster, "/api/v1/namespaces/kube-system").await?;
    match found {
        Some(namespace) if namespace.uid() == proof => Ok(()),
        Some(_) => Err(Held("the tenant's kube-system namespace has another UID than the VirtualControlPlane records".into()).into()),
        None => Err(Held("the tenant has no kube-system namespace".into()).into()),
    }
}

/// Whether a pod of the tenant refers to the object, read live.
async fn is_referenced_live(tenant: &Tenant, key: &Key) -> Result<bool, Failure> {
    let pods = kind::rule(kind::index("Pod"));
    let wanted = key.kind().resource().kind;
    let mut token = String::new();
    loop {
        let path = format!(
            "{}?limit=500&continue={token}",
            pods.resource().path(&key.namespace, "")
        );
        let mut page = tenant.cluster.get(&path).await?;
        let items = page.get_mut("items").map(Value::take).unwrap_or_default();
        let items = items.as_array().cloned().unwrap_or_default();
        let refers = items
            .into_iter()
            .filter_map(|item| Object::from_value(item).ok())
            .any(|pod| {
                kind::pod_references(&pod)
                    .iter()
                    .any(|reference| reference.kind == wanted && *reference.name == *key.name)
            });
        if refers
            || tenant.with_cx(|cx| {
                cx.facts
                    .is_referenced(key.kind().resource(), &key.namespace, &key.name)
            })
        {
            return Ok(true);
        }
        token = page
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            return Ok(false);
        }
    }
}
