//! Keeps the second layer of tenants' quotas: the ResourceQuota in each super namespace.
//!
//! It is read whenever its namespace is worked, the first time out of one list of all of them, and by the patrol, which finds
//! what somebody edited. It isn't watched: the super cluster writes into its status whenever the tenant makes something.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    intake::twin_name,
    live::read,
    quota::{EXCEEDED, UNSAID},
    table::Entry,
    tenants::Tenant,
};
use serde_json::Value;
use tenancy::{
    kind::{self, Refused},
    object::Object,
    quota::{
        self,
        namespace::{self, RESOURCE, Refusal, Step},
    },
    tenant::Key,
};

mod listed;

pub(crate) use listed::Listed;
use listed::ListedQuota;

/// Makes the ResourceQuota of a super namespace what it must be.
pub(crate) async fn keep(engine: &Engine, tenant: &Tenant, twin: &str) -> Result<(), Failure> {
    let have = match tenant.listed.take(&engine.cluster, tenant, twin).await? {
        ListedQuota::Have(have) => have.map(|have| *have),
        ListedQuota::Nothing => find(engine, twin).await?,
    };
    let written = match step(tenant, twin, have) {
        Step::Nothing => return Ok(()),
        Step::Foreign => {
            tracing::warn!(tenant = %tenant.id, namespace = twin, name = api::QUOTA_NAME, "a ResourceQuota that Sublet didn't make has the name of the tenant's: the super cluster doesn't hold the tenant to its limits there; remove it");
            return Ok(());
        }
        Step::Create(want) => apply::create(&engine.cluster, tenant, RESOURCE, &want)
            .await
            .map(drop),
        Step::Replace(have, spec) => {
            apply::replace_spec(&engine.cluster, tenant, RESOURCE, &have, &spec)
                .await
                .map(drop)
        }
        Step::Delete(have) => {
            let preconditions = Preconditions {
                uid: have.uid(),
                ..Preconditions::default()
            };
            let path = RESOURCE.path(twin, have.name());
            apply::delete(&engine.cluster, tenant, &path, &preconditions, "unneeded")
                .await
                .map(drop)
        }
    };
    match written {
        Err(Failure::Api(Error::Invalid(err) | Error::Forbidden(err)))
            if !err.contains("is forbidden: User") =>
        {
            // The first layer holds alone then, which is better than a tenant without a namespace.
            tracing::warn!(tenant = %tenant.id, namespace = twin, %err, "the super cluster doesn't take the ResourceQuota with the tenant's limits");
            Ok(())
        }
        written => written,
    }
}

/// The one that a super namespace has now.
async fn find(engine: &Engine, twin: &str) -> Result<Option<Object>, Failure> {
    read(&engine.cluster, &RESOURCE.path(twin, api::QUOTA_NAME)).await
}

/// What makes it what it must be.
fn step(tenant: &Tenant, twin: &str, have: Option<Object>) -> Step {
    tenant.with_cx(|cx| namespace::step(namespace::wanted(twin, cx), have, cx))
}

/// Queues the namespaces whose ResourceQuota isn't what it must be.
pub(crate) async fn patrol(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    if namespace::hard(&tenant.rules().limits()).is_empty() {
        return Ok(());
    }
    let stands = |entry: &Entry| entry.twin.as_ref().is_some_and(|twin| !twin.is_ending());
    for key in tenant.table.keys(kind::index("Namespace"), stands) {
        let twin = twin_name(tenant, &key).name;
        let have = find(engine, &twin).await?;
        if let Step::Nothing | Step::Foreign = step(tenant, &twin, have) {
            continue;
        }
        // It isn't whole until it has been worked again.
        tenant.table.suspect(&key);
        engine.down.add(&tenant.id, key);
    }
    Ok(())
}

/// What the ResourceQuota of a super namespace has against a write, if that is why it failed.
pub(crate) fn refusal<T>(tenant: &Tenant, made: &Result<T, Failure>) -> Option<Refusal> {
    match made {
        Err(Failure::Api(Error::Forbidden(message))) => {
            namespace::refusal(message, &tenant.rules().limits())
        }
        _ => None,
    }
}

/// Makes the ResourceQuota hold less where it refused a pod for containers that the super cluster itself put in; returns
/// whether that is why.
pub(crate) async fn gives_way(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    refusal: &Refusal,
) -> Result<bool, Failure> {
    let Refusal::Unsaid(unsaid) = refusal else {
        return Ok(false);
    };
    let limits = namespace::unsaid_by_others(unsaid, pod);
    if key.kind().resource().kind != "Pod" || limits.is_empty() {
        return Ok(false);
    }
    let twin = twin_name(tenant, key).namespace;
    let have = find(engine, &twin).await?;
    let less = have
        .as_ref()
        .and_then(|have| tenant.with_cx(|cx| namespace::less(have, &limits, cx)));
    if let Some((annotations, spec)) = less {
        tracing::warn!(tenant = %tenant.id, namespace = twin, ?unsaid, "containers that the super cluster adds to pods say nothing of what the tenant is limited in: its ResourceQuota no longer holds that there, and the syncer alone does");
        let fields = [("/metadata/annotations", annotations), ("/spec", spec)];
        apply::put(
            &engine.cluster,
            tenant,
            RESOURCE,
            have.as_ref(),
            Value::Null,
            &fields,
        )
        .await?;
    }
    Ok(true)
}

/// What the tenant is told of that: the same as by the first layer.
pub(crate) fn told(tenant: &Tenant, refusal: &Refusal) -> Option<Refused> {
    match refusal {
        Refusal::Full(exceeded) => {
            let text = quota::explain_either(&tenant.rules().quota, exceeded);
            Some(Refused::new(EXCEEDED, text))
        }
        Refusal::Unsaid(unsaid) => {
            let limits: Vec<String> = unsaid.iter().map(|one| one.limit.clone()).collect();
            Some(Refused::new(UNSAID, quota::explain_unsaid(&limits)))
        }
        Refusal::Unsettled => None,
    }
}

#[cfg(test)]
mod tests;
