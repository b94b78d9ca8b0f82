//! One key upward: read what the super cluster says, and show it to the tenant.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    gate::Held,
    intake::{self, twin_path},
    live::read,
    marks, nodes, publish, refusals,
    tenants::Tenant,
};
use serde_json::Value;
use std::sync::Arc;
use tenancy::{
    kind::{self, SuperWatch, TenantView},
    meta,
    object::Object,
    tenant::Key,
};

/// Why a pod is deleted in a tenant, as it is recorded.
const ENDED: &str = "its super pod is gone or going";

/// Works a key of a super object.
pub(crate) async fn work(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    match key.kind().super_watch() {
        SuperWatch::Published | SuperWatch::Placed => publish::work(engine, tenant, key).await,
        SuperWatch::ByNamespace => publish::copy(tenant, key).await,
        SuperWatch::Owned if key.kind().mirrors() => mirror(engine, tenant, key).await,
        SuperWatch::Owned | SuperWatch::Never => Ok(()),
    }
}

/// Shows the twin's state on the tenant's object, if it is the twin of this incarnation (R5).
async fn mirror(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let rule = key.kind();
    let told = tenant.up.take(key);
    let is_told = told.is_some();
    let object = match told {
        Some(object) => object,
        None => match read(&engine.cluster, &twin_path(tenant, key)).await? {
            Some(object) => Arc::new(object),
            None if rule.resource().kind == "Pod" => return missing(engine, tenant, key).await,
            None => return Ok(()),
        },
    };
    let entry = tenant.table.get(key);
    let (Some(side), Some(owner)) = (entry.tenant, meta::owner(&object)) else {
        return Ok(());
    };
    let version = object.resource_version();
    let outdated = entry
        .twin
        .is_some_and(|twin| *twin.uid == *object.uid() && twin.mirrored > version);
    if owner.tenant != tenant.id || owner.uid != *side.uid || outdated {
        return Ok(());
    }
    if rule.resource().kind == "Pod" {
        if !is_told {
            // Else its event did so.
            intake::note_addresses(engine, tenant, key, Some(&object));
        }
        if object.is_terminating() {
            pass_deletion(engine, tenant, key, &object, &side.uid).await?;
            if let Some(held_up) = kind::held_up(&object) {
                refusals::tell(engine, tenant, key, &side.uid, &held_up).await?;
            }
        }
    }
    let view = TenantView {
        uid: side.uid.to_string(),
        resource_version: side.version.to_string(),
        bound: side.node.is_some(),
        projection: side.projection,
    };
    let path = rule.resource().path(&key.namespace, &key.name);
    for write in tenant.with_cx(|cx| rule.up(&object, &view, cx)) {
        let is_binding = write.subresource == Some("binding");
        let shows = write.shows;
        if let Some(shows) = shows {
            // The event of the write may be faster than its answer.
            expect(tenant, key, &side.uid, shows);
        }
        let written = apply::upward(tenant, &path, &side.uid, write).await;
        if written.is_err() && shows.is_some() {
            // What the tenant holds is unknown: whatever its next event tells is news.
            expect(tenant, key, &side.uid, 0);
        }
        match written {
            Ok(_) if is_binding => {
                let node: Option<Arc<str>> = object.text("/spec/nodeName").map(Arc::from);
                tenant.table.update(key, |entry| {
                    if let Some(side) = &mut entry.tenant {
                        side.node.clone_from(&node);
                    }
                });
                nodes::moved(engine, tenant, None, node.as_deref());
            }
            Ok(stored) => remember(tenant, key, stored, shows),
            // Bound before, by ourselves: the event that says so is on its way.
            Err(Failure::Api(Error::Conflict(_) | Error::AlreadyExists)) if is_binding => {}
            // The tenant's object is gone or is another one; its own event says so.
            Err(Failure::Api(Error::NotFound)) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
    if let Some((kind, name)) = rule.brings(&object) {
        let brought = Key::new(kind::index(kind), "", &name);
        engine.up.add(&tenant.id, brought);
    }
    tenant.table.update(key, |entry| {
        if let Some(twin) = entry
            .twin
            .as_mut()
            .filter(|twin| *twin.uid == *object.uid())
        {
            twin.mirrored = twin.mirrored.max(version);
        }
    });
    Ok(())
}

/// Somebody ends a running pod in the super cluster: the tenant sees it end with the same grace.
///
/// Its controller can then replace it at once, and the pod is gone when its super pod is. A pod that had finished before
/// stays in the tenant, as its record.
async fn pass_deletion(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    twin: &Object,
    uid: &str,
) -> Result<(), Failure> {
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let Some(pod) = read(&tenant.cluster, &path).await? else {
        return Ok(());
    };
    let ours = pod.uid() == uid && kind::pins_node(&pod);
    if !ours || pod.is_terminating() || kind::is_finished(&pod) {
        return Ok(());
    }
    engine.prove_super().await?;
    tracing::info!(tenant = %tenant.id, %key, %uid, "ending the tenant's pod: its super pod is being deleted");
    let grace = twin
        .at("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let preconditions = Preconditions {
        uid,
        resource_version: None,
        grace,
    };
    apply::delete(&tenant.cluster, tenant, &path, &preconditions, ENDED).await
}

/// Notes what the tenant's object is about to show, so that the event that tells of it is no news.
fn expect(tenant: &Tenant, key: &Key, uid: &str, shows: u128) {
    tenant.table.update(key, |entry| {
        if let Some(side) = entry.tenant.as_mut().filter(|side| *side.uid == *uid) {
            side.projection = shows;
        }
    });
}

/// Takes up the tenant's object as a write left it, so that its own event is no news.
fn remember(tenant: &Tenant, key: &Key, stored: Value, shows: Option<u128>) {
    let Ok(stored) = Object::from_value(stored) else {
        return;
    };
    if stored.text("/kind") != Some(key.kind().resource().kind) {
        return;
    }
    let version = stored.resource_version();
    let projection = shows.unwrap_or_else(|| meta::fingerprint(&key.kind().up_projection(&stored)));
    tenant.table.update(key, |entry| {
        let side = entry.tenant.as_mut();
        if let Some(side) = side.filter(|side| *side.uid == *stored.uid()) {
            if side.version <= version {
                side.projection = projection;
            }
            // What the tenant asked for until then is told by events of its own, which may come yet.
            match shows {
                Some(_) => side.answered = side.answered.max(version),
                None => side.version = side.version.max(version),
            }
        }
    });
}

/// A pod has no super pod: it ends if it was asked to or if it ran, and comes down if it never did (R5).
pub(crate) async fn missing(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let known = tenant.table.get(key).tenant.map(|side| side.uid);
    let Some(pod) = read(&tenant.cluster, &path).await? else {
        intake::gone_in_tenant(engine, tenant, key, known.as_deref());
        return Ok(());
    };
    // Read live, not taken from the watch: the watch may lag behind a create of our own.
    if let Some(twin) = read(&engine.cluster, &twin_path(tenant, key)).await? {
        let Some(owner) = meta::owner(&twin).filter(|owner| owner.tenant == tenant.id) else {
            return Ok(());
        };
        intake::seen_in_super(&tenant.table, key, &twin, &owner.uid);
        tenant.breakers.is_in_super(key, &tenant.gate);
        engine.down.add(&tenant.id, key.clone());
        return Ok(());
    }
    tenant.table.update(key, |entry| entry.twin = None);
    if !pod.is_terminating() {
        if !kind::pins_node(&pod) {
            tenant.breakers.is_in_super(key, &tenant.gate);
            engine.down.add(&tenant.id, key.clone());
            return Ok(());
        }
        if kind::is_finished(&pod) {
            tenant.breakers.is_in_super(key, &tenant.gate);
            return Ok(());
        }
        tenant.gate.check_upward(key.kind)?;
        tenant.breakers.judge_up(key, &tenant.table, &tenant.gate)?;
        engine.prove_super().await?;
        marks::prove_super(engine, tenant).await?;
    }
    tracing::info!(tenant = %tenant.id, %key, uid = %pod.uid(), "ending the tenant's pod: its super pod is gone");
    let preconditions = Preconditions {
        uid: pod.uid(),
        resource_version: None,
        grace: Some(0),
    };
    apply::delete(&tenant.cluster, tenant, &path, &preconditions, ENDED).await?;
    tenant.breakers.done_up(key);
    Ok(())
}

impl Engine {
    /// The super cluster is the one that this process started with, by the UID of its kube-system namespace.
    async fn prove_super(&self) -> Result<(), Failure> {
        let found = read(&self.cluster, "/api/v1/namespaces/kube-system").await?;
        if found.is_some_and(|namespace| {
            self.super_proof
                .get()
                .is_some_and(|proof| proof == namespace.uid())
        }) {
            return Ok(());
        }
        Err(Held(
            "the super cluster's kube-system namespace isn't the one that was there at the start"
                .into(),
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, fake, tenant},
        table::TenantSide,
    };
    use api::keys;
    use serde_json::json;

    #[tokio::test]
    async fn r5_the_status_of_an_older_incarnation_or_an_older_moment_goes_nowhere() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Pod"), "work", "web");
        for (owner, mirrored) in [("older", 0), ("newest", 10)] {
            let mut twin = fake::super_side("s", owner);
            twin.mirrored = mirrored;
            tenant.table.update(&key, |entry| {
                entry.tenant = Some(TenantSide {
                    uid: "newest".into(),
                    version: 5,
                    answered: 0,
                    intent: 1,
                    edition: 0,
                    projection: 0,
                    node: None,
                });
                entry.twin = Some(twin);
            });
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web", "namespace": "acme-work", "uid": "s", "resourceVersion": "9",
                    "labels": {keys::TENANT: tenant.id.as_str()},
                    "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: owner},
                },
                "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Running"},
            });
            let pod = Arc::new(Object::from_value(pod).unwrap());
            tenant.up.put(key.clone(), pod);
            work(&engine, &tenant, &key).await.unwrap();
            assert!(super_server.is_silent() && tenant_server.is_silent());
        }
    }
}
