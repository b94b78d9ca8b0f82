//! A claim that was bound gets no other volume: it would be an empty one, under the name of the one that held its data.
//!
//! Claims are told apart by their UIDs: one that the tenant made anew was never bound, whatever became of its namesake's volume.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    intake::{self, twin_path},
    live::read,
    proof::prove_super,
    tenants::Tenant,
};
use serde_json::json;
use tenancy::{
    kind::{self, Refused, Upward, UpwardVerb},
    meta,
    object::Object,
    plan::plan,
    tenant::Key,
};

/// Why a claim that has no twin, as far as is known, may not get one; `want` is what would be made. The tenant is shown that
/// its volume is lost.
///
/// # Errors
///
/// It isn't known yet whether it has a twin, or whether it was bound.
pub(super) async fn lost(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    claim: &Object,
    want: &Object,
) -> Result<Option<Refused>, Failure> {
    if !kind::had_volume(claim) {
        return was_not_bound_since(tenant, key, claim).map(|()| None);
    }
    // Read live: what is known may lag behind, above all after a start. A create would find out too late that the super claim
    // has gone in the meantime.
    if let Some(found) = read(&engine.cluster, &twin_path(tenant, key)).await? {
        if let Err(foreign) = plan(key.kind(), want.clone(), Some(&found)) {
            return Ok(Some(Refused::new("NameTaken", foreign.to_string())));
        }
        if found.is_terminating() {
            return Err(Failure::Waiting("the super claim must end first"));
        }
        let owner = meta::owner(&found).map(|owner| owner.uid);
        let owner = owner.unwrap_or_default();
        intake::seen_in_super(engine, tenant, key, &found, &owner);
        return Err(Failure::Waiting("the super claim is there"));
    }
    prove_super(engine).await?;
    show_lost(tenant, key, claim).await?;
    Ok(Some(refusal(claim)))
}

/// A claim that is told of may have been bound since, through a super claim that is gone.
///
/// # Errors
///
/// It may have been: what it is then is read.
fn was_not_bound_since(tenant: &Tenant, key: &Key, claim: &Object) -> Result<(), Failure> {
    if tenant.binding.lock().contains(key) {
        return Err(Failure::Waiting("the claim's binding is being written"));
    }
    let side = tenant.table.get(key).tenant;
    let side = side.filter(|side| *side.uid == *claim.uid());
    let shows = meta::fingerprint(&key.kind().up_projection(claim));
    if side.is_some_and(|side| side.projection != shows) {
        return Err(Failure::Waiting(
            "the claim shows something else since it was told of",
        ));
    }
    Ok(())
}

/// Writes the phase that Kubernetes itself gives to a claim whose volume is gone.
///
/// A policy or a webhook of the tenant may refuse that; its event tells all the same.
async fn show_lost(tenant: &Tenant, key: &Key, claim: &Object) -> Result<(), Failure> {
    if claim.text("/status/phase") == Some(kind::LOST) {
        return Ok(());
    }
    let write = Upward {
        subresource: Some("status"),
        verb: UpwardVerb::Merge,
        body: json!({"status": {"phase": kind::LOST}}),
        shows: None,
    };
    tracing::info!(tenant = %tenant.id, %key, uid = claim.uid(), "the claim was bound and its super claim is gone");
    let path = key.kind().resource().path(&key.namespace, &key.name);
    match apply::upward(tenant, &path, claim.uid(), write).await {
        Err(failure @ Failure::Api(_)) if !failure.is_unreachable() => {
            tracing::debug!(tenant = %tenant.id, %key, err = %failure, "a phase isn't written");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn refusal(claim: &Object) -> Refused {
    let name = claim.text("/spec/volumeName").unwrap_or_default();
    let volume = if name.is_empty() {
        "the volume".to_owned()
    } else {
        format!("volume {name}")
    };
    let message = format!(
        "{volume} that it was bound to is lost: its claim in the super cluster is gone, and the volume of a new one would be \
         empty; for an empty volume delete the claim and make it anew without spec.volumeName, for the old data ask the \
         platform's admin, who can give the old volume back if it is still there"
    );
    Refused::new("VolumeLost", message)
}
