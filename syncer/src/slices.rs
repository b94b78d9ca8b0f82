//! Super EndpointSlices of tenants that can't be asked, since they sleep, are paused or don't answer: an address that no
//! running pod of the tenant has leaves them all the same.
//!
//! While a tenant answers, its slice is worked when a pod's address changes, and the address goes. Else the next pod that is
//! given it may be another tenant's (T17). So this is decided out of the super cluster alone, for all tenants that this process
//! leads, served or not: what is doubted ([`named`]) is read live, the slices first and then the tenant's pods. Taken out is
//! only what no pod has; what else the slice must be is decided once the tenant can be asked.

mod named;

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    live::read,
    pages::Pages,
    term::Permit,
    watch::encode,
};
use api::keys;
use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};
use tenancy::{
    kind, meta,
    object::Object,
    tenant::{Key, TenantId},
};
use tokio_util::sync::CancellationToken;

pub(crate) use named::Slices;

/// So long the tenant's own slice may take to be worked; then it is looked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes addresses out of slices until cancelled: of pods that ended, and of all that a patrol can't be sure of.
pub(crate) async fn keep(engine: Arc<Engine>, cancel: CancellationToken) {
    let rounds = async {
        loop {
            engine.slices.raised().await;
            let is_due = |id: &TenantId| permit(&engine, id).is_some();
            while engine.slices.doubted().iter().any(is_due) {
                tokio::time::sleep(PATIENCE).await;
                round(&engine).await;
            }
        }
    };
    let patrols = async {
        loop {
            engine.rounds.rest().await;
            engine.slices.doubt_all(|id, address| {
                let tenant = engine.tenant(id);
                tenant.is_some_and(|tenant| tenant.index.is_pod_address(address))
            });
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = rounds => {}
        () = patrols => {}
    }
}

/// The right to change slices of a tenant, served or not, if this process has it now (R7).
fn permit(engine: &Engine, id: &TenantId) -> Option<Permit> {
    let term = engine.fleet.term(id)?;
    let permit = Permit::by(&term).under(&engine.guard);
    permit.holds().then_some(permit)
}

/// Looks at the doubted slices of all tenants that this process leads.
async fn round(engine: &Engine) {
    for id in engine.slices.doubted() {
        let Some(permit) = permit(engine, &id) else {
            continue;
        };
        let (places, doubted) = engine.slices.begin(&id);
        if let Err(err) = check(engine, &id, &places, &permit).await {
            tracing::debug!(tenant = %id, %err, "addresses of pods that have ended are taken out later");
            engine.slices.doubt(&id, &doubted);
        }
        engine.slices.end();
        if !engine.fleet.leads(&id) {
            // Its title may be another's now.
            engine.fleet.changed.notify_one();
        }
    }
}

/// Takes out of a tenant's slices in these places what no running pod of it has.
async fn check(
    engine: &Engine,
    id: &TenantId,
    places: &[Key],
    permit: &Permit,
) -> Result<(), Failure> {
    // First: so whatever pod one of them rightly leads to, it was there before the pods are listed.
    let mut slices = vec![];
    for place in places {
        let path = place.kind().resource().path(&place.namespace, &place.name);
        let found = read(&engine.cluster, &path).await?;
        slices.extend(found.and_then(|slice| Some((own_key(&slice, id)?, slice))));
    }
    if slices.is_empty() {
        return Ok(());
    }
    let running = running(engine, id).await?;
    let mut first = Ok(());
    for (key, slice) in slices {
        let Some(endpoints) =
            kind::endpoints_without(&slice, |address| !running.contains(&address))
        else {
            continue;
        };
        tracing::info!(tenant = %id, %key, "taking addresses that no running pod of the tenant has out of its slice in the super cluster");
        // It isn't what it was made as: the tenant's slice decides again.
        engine.table(id).suspect(&key);
        if let Some(tenant) = engine.tenant(id) {
            tenant.note_write();
        }
        let put = apply::put_endpoints(&engine.cluster, id, &slice, &endpoints, permit).await;
        first = first.and(put);
    }
    first
}

/// What the tenant's slice is that a super slice was made from, if it was.
fn own_key(slice: &Object, id: &TenantId) -> Option<Key> {
    let owner = meta::owner(slice)?;
    let is_its = owner.tenant == *id && meta::is_in_place(slice, &owner);
    is_its.then(|| {
        let slices = kind::index("EndpointSlice");
        Key::new(slices, &owner.namespace, &owner.name)
    })
}

/// The addresses that running pods of a tenant have now.
async fn running(engine: &Engine, id: &TenantId) -> Result<HashSet<IpAddr>, Failure> {
    let path = kind::rule(kind::index("Pod")).resource().path("", "");
    let selector = encode(&format!("{}={id}", keys::TENANT));
    let lister = engine.cluster.lister().await;
    let mut pages = Pages::of(&path, format!("&labelSelector={selector}"));
    let mut running = HashSet::new();
    while let Some(page) = pages.next(&lister).await? {
        for item in page.items {
            let pod = Object::from_value(item)
                .map_err(|err| Failure::Api(Error::Malformed(err.to_string())))?;
            let owner = meta::owner(&pod);
            let is_own =
                |owner: &meta::Owner| owner.tenant == *id && meta::is_in_place(&pod, owner);
            if owner.as_ref().is_some_and(is_own) {
                running.extend(kind::running_addresses(&pod));
            }
        }
    }
    Ok(running)
}

#[cfg(test)]
mod tests;
