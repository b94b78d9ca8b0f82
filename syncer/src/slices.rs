//! Super EndpointSlices of tenants that can't be asked: the address of a pod that has ended leaves them all the same.
//!
//! While the tenant answers, its slice is worked when a pod's address changes, and the address goes. One that doesn't answer
//! would keep it, and the next pod that is given it may be another tenant's (T17). Taken out is only what was a pod's of the
//! tenant and no longer is; what else the slice must be is decided once the tenant can be asked.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    intake::twin_path,
    live::read,
    tenants::Tenant,
};
use serde_json::json;
use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};
use tenancy::{kind, meta, object::Object, plan::Patch, tenant::Key};
use tokio_util::sync::CancellationToken;

/// So long the tenant's own slice may take to be worked; then it is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes addresses out of the slices that wait, until cancelled.
pub(crate) async fn keep(engine: Arc<Engine>, cancel: CancellationToken) {
    let rounds = async {
        loop {
            engine.address_left.notified().await;
            while engine.served().iter().any(has_left) {
                tokio::time::sleep(PATIENCE).await;
                for tenant in engine.served() {
                    round(&engine, &tenant).await;
                }
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = rounds => {}
    }
}

fn has_left(tenant: &Arc<Tenant>) -> bool {
    !tenant.index.left().is_empty()
}

/// Looks at the slices of a tenant that still wait to be worked since an address left.
async fn round(engine: &Engine, tenant: &Tenant) {
    let left = tenant.index.left();
    if left.is_empty() {
        return;
    }
    let slices = kind::index("EndpointSlice");
    let mut is_done = true;
    for key in tenant.table.keys(slices, |entry| entry.twin.is_some()) {
        if !engine.down.has(&tenant.id, &key) {
            continue;
        }
        if let Err(err) = take_out(engine, tenant, &key, &left).await {
            tracing::debug!(tenant = %tenant.id, %key, %err, "addresses of pods that have ended are taken out later");
            is_done = false;
        }
    }
    if is_done {
        tenant.index.forget_left(&left);
    }
}

/// Takes the addresses that left out of a super slice.
async fn take_out(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    left: &HashSet<IpAddr>,
) -> Result<(), Failure> {
    let is_its = |slice: &Object| {
        let owner = meta::owner(slice);
        owner.is_some_and(|owner| owner.tenant == tenant.id) && !slice.is_terminating()
    };
    let Some(have) = read(&engine.cluster, &twin_path(tenant, key))
        .await?
        .filter(is_its)
    else {
        return Ok(());
    };
    let Some(endpoints) = kind::endpoints_without(&have, |address| left.contains(&address)) else {
        return Ok(());
    };
    tracing::info!(tenant = %tenant.id, %key, "taking addresses of pods that have ended out of a slice whose tenant isn't asked");
    let replace = json!({"op": "replace", "path": "/endpoints", "value": endpoints});
    let patch = Patch {
        subresource: None,
        operations: vec![replace],
    };
    // It isn't what it was made as: the tenant's slice decides again.
    tenant.table.suspect(key);
    let resource = key.kind().resource();
    apply::patch(&engine.cluster, tenant, resource, &have, &[patch])
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, fake, tenant},
        intake,
    };
    use api::keys;

    fn pod(address: &str) -> Object {
        let status = json!({"phase": "Running", "podIPs": [{"ip": address}]});
        Object::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn t17_the_address_of_a_pod_that_ended_leaves_the_slice_of_a_tenant_that_cannot_be_asked()
    {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (Arc::new(fake::engine(&above)), Arc::new(tenant(&own)));
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        let service = json!({"metadata": {"name": "db", "namespace": "work"}, "spec": {}});
        let service = Object::from_value(service).unwrap();
        let db = Key::new(kind::index("Service"), "work", "db");
        tenant.index.service(&db, Some(&service));
        let key = Key::new(kind::index("EndpointSlice"), "work", "db-1");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
        let pods = ["gone", "runs"].map(|name| Key::new(kind::index("Pod"), "work", name));
        for (key, address) in pods.iter().zip(["10.1.0.5", "10.1.0.6"]) {
            intake::note_addresses(&engine, &tenant, key, Some(&pod(address)));
        }
        let cancel = CancellationToken::new();
        let keeping = tokio::spawn(keep(engine.clone(), cancel.clone()));
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(super_server.is_silent(), "no address left");
        intake::note_addresses(&engine, &tenant, &pods[0], None);
        // Of the third one nobody knows whose it was: its pod may not have been seen yet.
        let of = |address: &str| json!({"addresses": [address]});
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "db-1", "namespace": "s", "uid": "s", "resourceVersion": "9",
                "labels": {keys::TENANT: tenant.id.as_str()},
                "annotations": {keys::NAMESPACE: "work", keys::NAME: "db-1", keys::UID: "u"},
            },
            "endpoints": [of("10.1.0.5"), of("10.1.0.6"), of("10.1.0.7")],
        });
        super_server.wait().await;
        super_server.answer("GET", 200, &slice).await;
        let patched = super_server.answer("PATCH", 200, &slice).await;
        let left = json!([of("10.1.0.6"), of("10.1.0.7")]);
        assert_eq!(patched.body[0]["value"], "s");
        assert_eq!(patched.body[2]["value"], left);
        // Once is enough, however long the tenant stays away.
        tokio::time::sleep(10 * PATIENCE).await;
        assert!(engine.down.has(&tenant.id, &key) && !has_left(&tenant));
        assert!(super_server.is_silent() && tenant_server.is_silent());
        // Where the tenant's own slice was worked, there is nothing to do.
        engine.down.remove(&tenant.id);
        intake::note_addresses(&engine, &tenant, &pods[0], Some(&pod("10.1.0.5")));
        intake::note_addresses(&engine, &tenant, &pods[0], None);
        engine.down.remove(&tenant.id);
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(!has_left(&tenant) && super_server.is_silent());
        cancel.cancel();
        keeping.await.unwrap();
    }
}
