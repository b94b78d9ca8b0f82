//! One key downward: read what the tenant wants, translate, compare, make it so.

mod claim;
mod make;
mod webhook;

use self::make::make;
use crate::{
    apply::Failure,
    companions,
    engine::Engine,
    error::Error,
    intake::{self, twin_path},
    live::read,
    namespace_quota, quota, readdress,
    refusals::{self, Since},
    removal, stopping, super_bytes,
    table::{Entry, SuperSide},
    tenants::Tenant,
    tokens::{self, Age},
    unserved, upward,
};
use std::{borrow::Cow, sync::Arc};
use tenancy::{
    kind::{self, Refused, Resource, reduce, translate},
    meta,
    object::Object,
    quota::namespace::Refusal,
    tenant::Key,
};

/// Works a key of a tenant's object.
pub(crate) async fn work(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    if !key.kind().goes_down() {
        return Ok(());
    }
    let work = |told| work_object(engine, tenant, key, told);
    tenant.down.working(key, work).await
}

/// The same, with the object of the newest event if it is there.
async fn work_object(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    told: Option<Arc<Object>>,
) -> Result<(), Failure> {
    let known = tenant.table.get(key).tenant.map(|side| side.uid);
    let object = tenants_object(tenant, key, told).await?;
    if let Some(object) = &object {
        let twin = tenant.table.get(key).twin;
        if !object.is_terminating() && twin.is_none_or(|twin| *twin.owner_uid == *object.uid()) {
            tenant.breakers.is_in_tenant(key, &tenant.gate);
        }
    }
    if object.as_ref().is_none_or(|object| object.is_terminating()) {
        quota::abandon(engine, tenant, key);
        super_bytes::forget(engine, tenant, key);
    }
    match object {
        Some(object) if object.is_terminating() && key.kind().deletes_early() => {
            removal::pass_on(engine, tenant, key, &object).await
        }
        Some(object) => {
            removal::hasten(engine, tenant, key, &object).await?;
            let held = hold(engine, tenant, key, &object).await;
            if held.is_ok() {
                quota::unmade(engine, tenant, key);
                intake::take_in_late(engine, tenant, key, &object);
                super_bytes::let_go(engine, tenant, key);
            }
            held
        }
        None => {
            intake::gone_in_tenant(engine, tenant, key, known.as_deref());
            removal::remove(engine, tenant, key).await
        }
    }
}

/// The object of the newest event, or else a live read; a quorum read, since no resource version is given (R8).
async fn tenants_object(
    tenant: &Tenant,
    key: &Key,
    told: Option<Arc<Object>>,
) -> Result<Option<Arc<Object>>, Failure> {
    if told.is_some() {
        return Ok(told);
    }
    let path = key.kind().resource().path(&key.namespace, &key.name);
    match read(&tenant.cluster, &path).await {
        // A kind that the tenant no longer defines took its objects with it.
        Err(Failure::Api(Error::NotServed)) if key.kind().is_optional() => {
            let confirmed = unserved::confirm(tenant, key.kind).await;
            if confirmed.is_err() {
                // It may be there, and counts for nothing that is missing.
                tenant.breakers.is_in_tenant(key, &tenant.gate);
            }
            confirmed.map(|()| None)
        }
        other => Ok(other?.map(Arc::new)),
    }
}

/// Makes the super cluster hold what the tenant's object asks for.
async fn hold(engine: &Engine, tenant: &Tenant, key: &Key, object: &Object) -> Result<(), Failure> {
    let rule = key.kind();
    let twin = tenant.table.get(key).twin;
    if readdress::end(tenant, key, object).await? {
        // Its event brings it back.
        return Ok(());
    }
    if rule.resource().kind == "Pod" && !may_run(engine, tenant, key, object, twin.as_ref()).await?
    {
        return Ok(());
    }
    if twin.is_none() && rule.awaits(object) {
        // What is written later is part of the tenant's intent, and brings the key back.
        return Ok(());
    }
    if rule.resource().kind == "Pod" && !tenant.gate.has_listed(kind::index("NetworkPolicy")) {
        // Whether a policy rules the pod isn't known yet; the list of policies brings it back.
        return Err(Failure::Waiting(
            "the tenant's NetworkPolicies aren't known yet",
        ));
    }
    let (asked, want, refused) = match tenant.with_cx(|cx| translate(rule, object, cx)) {
        Ok(Some(want)) => (Cow::Borrowed(object), want, None),
        Ok(None) => return removal::unneeded(engine, tenant, key).await,
        Err(refused) if kind::takes_away(rule, &refused) => {
            removal::unneeded(engine, tenant, key).await?;
            return refuse(engine, tenant, key, object, &refused).await;
        }
        Err(refused) => {
            let less = tenant.with_cx(|cx| reduce(rule, object, cx));
            match (&twin, less) {
                (Some(_), Some((less, want))) => (Cow::Owned(less), want, Some(refused)),
                (twin, _) => {
                    return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
                }
            }
        }
    };
    if twin.is_none()
        && rule.resource().kind == "PersistentVolumeClaim"
        && let Some(refused) = claim::lost(engine, tenant, key, object, &want).await?
    {
        return refuse(engine, tenant, key, object, &refused).await;
    }
    if let Some(refused) = quota::reserve(tenant, key, &want)? {
        return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
    }
    if rule.resource().namespaced {
        ensure_namespace(engine, tenant, &key.namespace).await?;
    }
    for reference in rule.references(&asked, &tenant.rules().custom) {
        if let Some(refused) = ensure_reference(engine, tenant, key, &reference).await? {
            return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
        }
    }
    let age = if twin.is_none() { Age::New } else { Age::Known };
    let made = make(engine, tenant, key, object, want, twin.clone()).await;
    if let Err(Failure::Api(Error::Forbidden(words))) = &made {
        companions::refused(engine, tenant, &key.namespace, words);
    }
    if let Some(refusal) = namespace_quota::refusal(tenant, &made) {
        return turned_away(engine, tenant, key, object, twin, &refusal).await;
    }
    let is_unknown = made.as_ref().is_err_and(Failure::is_unreachable);
    if !is_unknown {
        quota::abandon(engine, tenant, key);
    }
    if matches!(made, Err(Failure::Api(Error::NotServed))) {
        if let Some(twin) = &twin {
            intake::gone_in_super(engine, tenant, key, &twin.uid);
        }
        return refuse(engine, tenant, key, object, &not_served(rule.resource())).await;
    }
    if let Some(refused) = readdress::clash(key, object, &made) {
        refuse(engine, tenant, key, object, &refused).await?;
        return readdress::begin(tenant, key, object).await;
    }
    if let Err(Failure::Api(error)) = &made
        && let Some(message) = refusal(error)
    {
        let refused = Refused::new("RefusedBySuperCluster", message);
        return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
    }
    let twin = webhook::told(engine, tenant, key, object, twin.as_ref(), made).await?;
    if let Some(twin) = &twin {
        if age == Age::New && rule.resource().kind == "Namespace" {
            wake(engine, tenant, key);
        }
        tokens::ensure(engine, tenant, key, object, twin, age).await?;
    }
    if let Some(refused) = refused {
        return refuse(engine, tenant, key, object, &refused).await;
    }
    if twin.is_some() {
        put_right(engine, tenant, key, object, age).await?;
    }
    if let Some(shortfall) = tenant.with_cx(|cx| rule.shortfall(object, cx)) {
        refusals::tell(engine, tenant, key, object.uid(), &shortfall).await?;
    }
    Ok(())
}

/// What waited for a namespace is worked at once.
fn wake(engine: &Engine, tenant: &Tenant, namespace: &Key) {
    let waits = |other: &Key, entry: &Entry| {
        other.namespace == namespace.name && entry.tenant.is_some() && entry.twin.is_none()
    };
    for waiting in tenant.table.all_keys(waits) {
        engine.down.add(&tenant.id, waiting);
    }
}

/// The object is in the super cluster as it asks: if something of it was refused before, that is over. Of one that wasn't
/// there, its being there tells as much.
async fn put_right(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    age: Age,
) -> Result<(), Failure> {
    let was_refused = |entry: &mut Entry| std::mem::take(&mut entry.refused);
    if tenant.table.update(key, was_refused) && age == Age::Known {
        refusals::tell_synced(engine, tenant, key, object.uid()).await?;
    }
    Ok(())
}

/// What was asked is refused. What is there stays, and a pod that runs on needs its tokens.
async fn stays(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: Option<&SuperSide>,
    refused: &Refused,
) -> Result<(), Failure> {
    let tokens = match twin {
        Some(twin) => tokens::ensure(engine, tenant, key, object, twin, Age::Known).await,
        None => Ok(()),
    };
    refuse(engine, tenant, key, object, refused).await?;
    tokens
}

/// The second layer of the quota refused what the first one granted. What was reserved stays so: those who wait for room
/// would be turned away as well.
async fn turned_away(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: Option<SuperSide>,
    refusal: &Refusal,
) -> Result<(), Failure> {
    if let Some(twin) = &twin {
        tokens::ensure(engine, tenant, key, object, twin, Age::Known).await?;
    }
    if namespace_quota::gives_way(engine, tenant, key, object, refusal).await? {
        return Err(Failure::Waiting(
            "the ResourceQuota of the super namespace is to hold less",
        ));
    }
    if let Some(refused) = namespace_quota::told(tenant, refusal) {
        refuse(engine, tenant, key, object, &refused).await?;
    }
    // Nothing tells when it has room: the key comes again, ever later.
    match refusal {
        Refusal::Unsaid(_) => Ok(()),
        Refusal::Full(_) => Err(Failure::Rests(
            "the ResourceQuota of the super namespace is used up",
        )),
        Refusal::Unsettled => Err(Failure::Waiting(
            "the ResourceQuota of the super namespace isn't counted yet",
        )),
    }
}

/// The super cluster's words, if it would refuse the same request again; a right that isn't known yet is no refusal, and
/// an account that is missing isn't the tenant's fault.
fn refusal(error: &Error) -> Option<&str> {
    match error {
        Error::Invalid(message) => Some(message),
        Error::Forbidden(message)
            if !companions::are_missing(message) && !companions::are_going(message) =>
        {
            Some(message)
        }
        _ => None,
    }
}

/// The super cluster lacks the kind; its first list, if it comes to serve it, brings the object back.
fn not_served(resource: &Resource) -> Refused {
    let message = format!(
        "the platform doesn't serve {} {} yet: it is synced once it does",
        resource.api_version(),
        resource.kind
    );
    Refused::new("KindNotServed", message)
}

/// Whether a pod may run in the super cluster, by the super pod that it has or by one that is to be made.
async fn may_run(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
    twin: Option<&SuperSide>,
) -> Result<bool, Failure> {
    if let Some(twin) = stopping::ends(tenant, pod, twin) {
        stopping::end(engine, tenant, key, twin).await?;
        return Ok(false);
    }
    if twin.is_some() {
        return Ok(true);
    }
    if !may_start(engine, tenant, key, pod).await? {
        return Ok(false);
    }
    let Some(refused) = stopping::refusal(tenant) else {
        return Ok(true);
    };
    refuse(engine, tenant, key, pod, &refused).await?;
    Ok(false)
}

/// Whether a pod without a twin may get one: not when it has ended, and not when it ran before.
async fn may_start(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    pod: &Object,
) -> Result<bool, Failure> {
    if kind::is_finished(pod) {
        return Ok(false);
    }
    if kind::UNGUARDED {
        return Ok(true);
    }
    if !kind::pins_node(pod) {
        return was_not_bound_since(tenant, key, pod).map(|()| true);
    }
    // Only the syncer binds pods here.
    if kind::was_bound(pod) {
        upward::missing(engine, tenant, key).await?;
        return Ok(false);
    }
    let refused = Refused::new(
        "NodeNameSet",
        "spec.nodeName can't be chosen: leave it out, or use a nodeSelector for kubernetes.io/hostname",
    );
    refuse(engine, tenant, key, pod, &refused).await?;
    Ok(false)
}

/// A pod that is told of may have been bound since, through a super pod that is gone: a second one would be placed anew (R5).
///
/// # Errors
///
/// It was, or that is being written: what it is then is read.
fn was_not_bound_since(tenant: &Tenant, key: &Key, pod: &Object) -> Result<(), Failure> {
    if tenant.binding.lock().contains(key) {
        return Err(Failure::Waiting("the pod's binding is being written"));
    }
    let side = tenant.table.get(key).tenant;
    let side = side.filter(|side| *side.uid == *pod.uid());
    if side.is_some_and(|side| side.node.is_some()) {
        return Err(Failure::Waiting("the pod was bound since it was told of"));
    }
    Ok(())
}

/// Makes sure that a namespace of the tenant has its twin.
async fn ensure_namespace(
    engine: &Engine,
    tenant: &Tenant,
    namespace: &str,
) -> Result<(), Failure> {
    let key = Key::new(kind::index("Namespace"), "", namespace);
    let is_ready = || {
        tenant
            .table
            .get(&key)
            .twin
            .is_some_and(|twin| !twin.is_ending() && twin.baseline != 0)
    };
    if is_ready() {
        return Ok(());
    }
    let _one_at_a_time = tenant.namespaces.lock().await;
    if is_ready() {
        return Ok(());
    }
    let told = tenant.down.look(&key);
    let Some(object) = tenants_object(tenant, &key, told).await? else {
        return Err(Failure::Waiting("the tenant's namespace is gone"));
    };
    Box::pin(hold(engine, tenant, &key, &object)).await?;
    intake::take_in_late(engine, tenant, &key, &object);
    if !is_ready() {
        return Err(Failure::Waiting(match tenant.table.get(&key).refused {
            true => "its namespace was refused, and an event of that says why",
            false => "the super namespace of an older namespace must end first",
        }));
    }
    Ok(())
}

/// Takes an object that `referrer` needs down first, if the tenant has it.
///
/// What stands under the reference's name in the super cluster must be the tenant's, or else nothing may stand there: the
/// pod would read what belongs to somebody else (T22).
async fn ensure_reference(
    engine: &Engine,
    tenant: &Tenant,
    referrer: &Key,
    reference: &kind::Reference,
) -> Result<Option<Refused>, Failure> {
    let key = Key::new(
        kind::index(reference.kind),
        &referrer.namespace,
        &reference.name,
    );
    let known = tenant.table.get(&key);
    if known.twin.is_some() {
        return Ok(None);
    }
    if known.tenant.is_some() && !known.refused {
        let told = tenant.down.look(&key);
        let Some(object) = tenants_object(tenant, &key, told).await? else {
            return Ok(None);
        };
        Box::pin(hold(engine, tenant, &key, &object)).await?;
        if tenant.table.get(&key).twin.is_some() {
            return Ok(None);
        }
    }
    if kind::UNGUARDED {
        return Ok(None);
    }
    let stands = read(&engine.cluster, &twin_path(tenant, &key)).await?;
    let foreign = stands
        .is_some_and(|object| meta::owner(&object).is_none_or(|owner| owner.tenant != tenant.id));
    Ok(foreign.then(|| {
        let message = format!(
            "the {} {} that it refers to can't be used: the super cluster has one of that name that isn't this tenant's; \
             choose another name",
            reference.kind, reference.name
        );
        Refused::new("ReferenceTaken", message)
    }))
}

/// Tells the tenant why its object isn't in the super cluster, or isn't as it asks.
pub(crate) async fn refuse(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    refused: &Refused,
) -> Result<(), Failure> {
    let was_refused = |entry: &mut Entry| std::mem::replace(&mut entry.refused, true);
    let since = if tenant.table.update(key, was_refused) {
        Since::Before
    } else {
        Since::Now
    };
    if refused.reason != quota::EXCEEDED {
        quota::abandon(engine, tenant, key);
    }
    engine.metrics.refused(&tenant.id, refused.reason);
    refusals::tell_since(engine, tenant, key, object.uid(), refused, since).await
}

#[cfg(test)]
mod tests;
