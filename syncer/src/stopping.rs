//! A tenant that falls asleep without what it runs.
//!
//! Its pods are ended in the tenant, as `kubectl delete pod` does: what then goes down is the tenant's own word, for which R1
//! holds as ever, and nothing is inferred. The manager lets the tenant sleep once no super pod runs any more. What controllers
//! make meanwhile gets no super pod, and so waits.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    gate::Basis,
    intake::twin_path,
    live::read,
    proof::prove,
    refusals,
    table::SuperSide,
    tenants::Tenant,
    upward,
};
use tenancy::{
    kind::{self, Refused},
    meta,
    object::Object,
    tenant::{Key, Workload},
};

/// Why a pod is deleted in a tenant, as it is recorded.
const STOPPED: &str = "it falls asleep without its pods";

/// What a pod is told that has no super pod and gets none now.
pub(crate) fn refusal(tenant: &Tenant) -> Option<Refused> {
    match tenant.rules().workload {
        Workload::Runs => None,
        Workload::Stops => Some(Refused::new(
            "WorkloadStopped",
            "the tenant falls asleep and its pods end: this one waits, and starts once the tenant was woken",
        )),
    }
}

/// The super pod of a pod that is to end now.
pub(crate) fn ends<'a>(
    tenant: &Tenant,
    pod: &Object,
    twin: Option<&'a SuperSide>,
) -> Option<&'a SuperSide> {
    let twin = twin.filter(|twin| *twin.owner_uid == *pod.uid());
    twin.filter(|_| tenant.rules().workload == Workload::Stops)
}

/// A super pod was seen: one that was just made, before it was known that none is to be, ends as the others.
pub(crate) fn seen(engine: &Engine, tenant: &Tenant, key: &Key, have: &Object) {
    let is_over = have.is_terminating() || kind::is_finished(have);
    if !is_over && tenant.rules().workload == Workload::Stops {
        engine.down.add(&tenant.id, key.clone());
    }
}

/// Ends a pod in the tenant, with its grace. Both sides are read live: one that has finished keeps its record.
pub(crate) async fn end(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    twin: &SuperSide,
) -> Result<(), Failure> {
    if twin.is_ending() {
        return Ok(());
    }
    let Some(have) = read(&engine.cluster, &twin_path(tenant, key)).await? else {
        return upward::missing(engine, tenant, key).await;
    };
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let Some(pod) = read(&tenant.cluster, &path).await? else {
        return Err(Failure::Waiting("the tenant's pod is gone"));
    };
    if !must_end(tenant, &pod, &have) {
        return Ok(());
    }
    tenant.gate.check(key.kind, Basis::Told)?;
    prove(tenant).await?;
    tracing::info!(tenant = %tenant.id, %key, uid = %pod.uid(), "ending the tenant's pod: the tenant falls asleep without its pods");
    let preconditions = Preconditions {
        uid: pod.uid(),
        resource_version: None,
        grace: None,
    };
    let ended = apply::delete(&tenant.cluster, tenant, &path, &preconditions, STOPPED).await;
    if let Err(Failure::Api(Error::Forbidden(words) | Error::Invalid(words))) = &ended {
        let message = format!(
            "the tenant falls asleep, and its pods are to end first, which its API server refuses: {words}"
        );
        let refused = Refused::new("StopRefused", message);
        refusals::tell(engine, tenant, key, pod.uid(), &refused).await?;
    }
    ended.map(drop)
}

/// Whether a pod that stands in the super cluster as `have` is to be ended: it is the very one, and on neither side it has
/// ended or is about to.
fn must_end(tenant: &Tenant, pod: &Object, have: &Object) -> bool {
    let owner = meta::owner(have);
    let is_its = owner.is_some_and(|owner| owner.tenant == tenant.id && owner.uid == pod.uid());
    let is_over = |pod: &Object| pod.is_terminating() || kind::is_finished(pod);
    is_its && !is_over(pod) && !is_over(have)
}

#[cfg(test)]
mod tests;
