//! One key downward: read what the tenant wants, translate, compare, make it so.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    intake::{self, twin_path},
    isolation,
    live::read,
    namespace_quota, quota, readdress, refusals, removal,
    table::{Entry, SuperSide},
    tenants::Tenant,
    tokens::{self, Age},
    upward,
};
use std::{borrow::Cow, sync::Arc};
use tenancy::{
    kind::{self, Refused, Resource, reduce, translate},
    meta,
    object::Object,
    plan::{Plan, plan},
    quota::namespace::Refusal,
    tenant::Key,
};

/// Works a key of a tenant's object.
pub(crate) async fn work(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    if !key.kind().goes_down() {
        return Ok(());
    }
    let told = tenant.down.lend(key);
    let worked = work_object(engine, tenant, key, told.clone()).await;
    tenant.down.settle(key, told, &worked);
    worked
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
    }
    match object {
        Some(object) if object.is_terminating() && key.kind().deletes_early() => {
            removal::pass_on(engine, tenant, key, &object).await
        }
        Some(object) => {
            let held = hold(engine, tenant, key, &object).await;
            if held.is_ok() {
                quota::unmade(engine, tenant, key);
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
        Err(Failure::Api(Error::NotServed)) if key.kind().is_optional() => Ok(None),
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
    if rule.resource().kind == "Pod"
        && twin.is_none()
        && !may_start(engine, tenant, key, object).await?
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
    if let Some(refused) = quota::reserve(tenant, key, &want)? {
        return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
    }
    if rule.resource().namespaced {
        ensure_namespace(engine, tenant, &key.namespace).await?;
    }
    for reference in tenant.with_cx(|cx| rule.references(&asked, cx)) {
        if let Some(refused) = ensure_reference(engine, tenant, key, &reference).await? {
            return stays(engine, tenant, key, object, twin.as_ref(), &refused).await;
        }
    }
    let age = if twin.is_none() { Age::New } else { Age::Known };
    let made = make(engine, tenant, key, object, want, twin.clone()).await;
    if let Some(refusal) = namespace_quota::refusal(tenant, &made) {
        return turned_away(engine, tenant, key, object, twin, &refusal).await;
    }
    let is_unknown = made.as_ref().is_err_and(Failure::is_unreachable);
    if !is_unknown {
        quota::abandon(engine, tenant, key);
    }
    if matches!(made, Err(Failure::Api(Error::NotServed))) {
        tenant.table.update(key, |entry| entry.twin = None);
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
    let twin = made?;
    if let Some(twin) = twin {
        if age == Age::New && rule.resource().kind == "Namespace" {
            // What waited for the namespace is worked at once.
            let waits = |other: &Key, entry: &Entry| {
                other.namespace == key.name && entry.tenant.is_some() && entry.twin.is_none()
            };
            for waiting in tenant.table.all_keys(waits) {
                engine.down.add(&tenant.id, waiting);
            }
        }
        tokens::ensure(engine, tenant, key, object, &twin, age).await?;
    }
    if let Some(refused) = refused {
        return refuse(engine, tenant, key, object, &refused).await;
    }
    if let Some(shortfall) = tenant.with_cx(|cx| rule.shortfall(object, cx)) {
        refusals::tell(engine, tenant, key, object.uid(), &shortfall).await?;
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
    if let Some(twin) = twin {
        tokens::ensure(engine, tenant, key, object, twin, Age::Known).await?;
    }
    refuse(engine, tenant, key, object, refused).await
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
    match refusal {
        Refusal::Unsaid(_) => Ok(()),
        // Nothing tells when it has room: the key comes again, ever later.
        Refusal::Full(_) | Refusal::Unsettled => Err(Failure::Waiting(
            "the ResourceQuota of the super namespace has no room yet",
        )),
    }
}

/// The super cluster's words, if it would refuse the same request again; a right that isn't known yet is no refusal.
fn refusal(error: &Error) -> Option<&str> {
    match error {
        Error::Invalid(message) => Some(message),
        Error::Forbidden(message) if !message.contains("is forbidden: User") => Some(message),
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
    if !kind::pins_node(pod) || kind::UNGUARDED {
        return Ok(true);
    }
    // Only the syncer binds pods here; the API server notes a binding as a condition.
    let bound = pod
        .at("/status/conditions")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|conditions| {
            conditions.iter().any(|condition| {
                condition["type"] == "PodScheduled" && condition["status"] == "True"
            })
        });
    if bound {
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

/// Creates or mends the twin; the twin as it is then, unless it must end first.
async fn make(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    want: Object,
    twin: Option<SuperSide>,
) -> Result<Option<SuperSide>, Failure> {
    let applied = meta::applied(&want);
    let _under_way = tenant.table.write(key);
    match twin {
        None => create(engine, tenant, key, object, want).await,
        Some(twin) if twin.terminating => Ok(None),
        Some(twin)
            if *twin.owner_uid == *object.uid()
                && twin.applied == applied
                && twin.baseline != 0 =>
        {
            Ok(Some(twin))
        }
        Some(_) => compare(engine, tenant, key, object, want).await,
    }
}

async fn create(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    want: Object,
) -> Result<Option<SuperSide>, Failure> {
    let rule = key.kind();
    let reduced = rule.creatable(&want);
    let first = reduced.as_ref().unwrap_or(&want);
    let mut result = apply::create(&engine.cluster, tenant, rule.resource(), first).await;
    if let Err(Failure::Api(Error::Invalid(message))) = &result
        && message.contains("already allocated")
        && let Some(relaxed) = rule.relax(first)
    {
        result = apply::create(&engine.cluster, tenant, rule.resource(), &relaxed).await;
    }
    match result {
        Ok(stored) => {
            mended(engine, tenant, key);
            quota::exists(engine, tenant, key, &stored);
            if rule.resource().kind == "Namespace" {
                // Known before anything can be in it.
                let owner = (tenant.id.clone(), Arc::clone(&key.name));
                engine.twins.insert(stored.name().to_owned(), owner);
            }
            accompany(engine, tenant, key, object, &stored).await?;
            if reduced.is_some() {
                return compare(engine, tenant, key, object, want).await;
            }
            let twin = record(engine, tenant, key, &stored, object.uid())?;
            shows_already(tenant, key, &stored);
            Ok(Some(twin))
        }
        Err(Failure::Api(Error::AlreadyExists)) => compare(engine, tenant, key, object, want).await,
        Err(Failure::Api(Error::NotFound)) => {
            // The super namespace went away behind our back.
            let namespace = Key::new(kind::index("Namespace"), "", &key.namespace);
            tenant.table.update(&namespace, |entry| entry.twin = None);
            Err(Failure::Waiting(
                "the super namespace is gone and is made again",
            ))
        }
        Err(failure) => Err(failure),
    }
}

/// Notes that a super object, as it was made, shows what the tenant sees already: its first event is no news.
fn shows_already(tenant: &Tenant, key: &Key, stored: &Object) {
    let rule = key.kind();
    if !rule.mirrors() {
        return;
    }
    let shows = meta::fingerprint(&rule.up_projection(stored));
    tenant.table.update(key, |entry| {
        if let (Some(side), Some(twin)) = (&entry.tenant, &mut entry.twin)
            && side.projection == shows
            && *twin.uid == *stored.uid()
        {
            twin.mirrored = twin.mirrored.max(stored.resource_version());
        }
    });
}

/// Reads the twin and closes the gap; nothing that isn't this object's own is touched (R3).
async fn compare(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    want: Object,
) -> Result<Option<SuperSide>, Failure> {
    let rule = key.kind();
    if let Some(have) = tenant.table.take_unjudged(key)
        && !have.is_terminating()
        && plan(rule, want.clone(), Some(&have)) == Ok(Plan::Nothing)
    {
        accompany(engine, tenant, key, object, &have).await?;
        return record(engine, tenant, key, &have, object.uid()).map(Some);
    }
    // A difference is a suspicion until it is read live (R10).
    let path = rule.resource().path(want.namespace(), want.name());
    let Some(have) = read(&engine.cluster, &path).await? else {
        let known = tenant.table.update(key, |entry| entry.twin.take());
        if let Some(twin) = known {
            quota::ended(engine, tenant, key, &twin.uid);
        }
        return Err(Failure::Waiting("the twin went away"));
    };
    // The tenant asks for what was applied already: somebody else wrote to the super object.
    let was_edited = meta::applied(&want) == meta::applied(&have);
    match plan(rule, want, Some(&have)) {
        Ok(Plan::Nothing) if have.is_terminating() => {
            record(
                engine,
                tenant,
                key,
                &have,
                meta::owner(&have)
                    .map(|owner| owner.uid)
                    .as_deref()
                    .unwrap_or_default(),
            )?;
            Ok(None)
        }
        Ok(Plan::Nothing) => {
            accompany(engine, tenant, key, object, &have).await?;
            record(engine, tenant, key, &have, object.uid()).map(Some)
        }
        Ok(Plan::Patch(patches)) => {
            engine.metrics.repaired(&tenant.id);
            let stored =
                apply::patch(&engine.cluster, tenant, rule.resource(), &have, &patches).await?;
            mended(engine, tenant, key);
            if was_edited {
                refusals::tell_super(engine, tenant, rule.resource(), &have).await?;
            }
            accompany(engine, tenant, key, object, &stored).await?;
            record(engine, tenant, key, &stored, object.uid()).map(Some)
        }
        Ok(Plan::Replace) => {
            removal::replace(engine, tenant, key, &have).await?;
            Ok(None)
        }
        Ok(Plan::Remake) => {
            removal::remake(engine, tenant, key, &have).await?;
            Ok(None)
        }
        Ok(Plan::Create(_)) => Err(Failure::Waiting("the twin went away")),
        Err(foreign) => {
            let refused = Refused::new("NameTaken", foreign.to_string());
            refuse(engine, tenant, key, object, &refused).await?;
            Ok(None)
        }
    }
}

/// Counts what the patrol found, once it was written.
fn mended(engine: &Engine, tenant: &Tenant, key: &Key) {
    if tenant.suspected.lock().remove(key) {
        engine.metrics.patrol_repaired(&tenant.id);
    }
}

/// Makes the objects without a twin that must exist beside the super object.
async fn accompany(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: &Object,
) -> Result<(), Failure> {
    let companions: Vec<(&'static Resource, Object)> =
        tenant.with_cx(|cx| key.kind().companions(object, cx));
    for (resource, companion) in companions {
        match apply::create(&engine.cluster, tenant, resource, &companion).await {
            Ok(_) | Err(Failure::Api(Error::AlreadyExists)) => {}
            Err(failure) => return Err(failure),
        }
    }
    isolation::keep(engine, tenant, key, object, twin).await?;
    if key.kind().resource().kind == "Namespace" {
        namespace_quota::keep(engine, tenant, twin.name()).await?;
    }
    Ok(())
}

/// Remembers the twin as it was just stored, or just read.
///
/// An event may have been faster and told of a newer state. If somebody else made that, it is worked again.
///
/// # Errors
///
/// The twin is gone again.
fn record(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    stored: &Object,
    owner_uid: &str,
) -> Result<SuperSide, Failure> {
    let (state, edition) = (meta::state(stored), key.kind().edition(stored));
    let recorded = tenant.table.update(key, |entry| {
        entry.refused = false;
        // Asked while the entries are held: an end that is told from now on finds the twin.
        if tenant.table.has_ended(key, stored.uid()) {
            return None;
        }
        let known = entry.twin.take().filter(|twin| *twin.uid == *stored.uid());
        let version = stored.resource_version();
        let newer = known.as_ref().filter(|twin| twin.version > version);
        let is_overtaken = newer.is_some_and(|twin| twin.state != state && !twin.terminating)
            || tenant.table.is_suspected(key);
        let twin = SuperSide {
            uid: stored.uid().into(),
            version: newer.map_or(version, |twin| twin.version),
            owner_uid: owner_uid.into(),
            applied: meta::applied(stored),
            state: newer.map_or(state, |twin| twin.state),
            edition: newer.map_or(edition, |twin| twin.edition),
            baseline: if is_overtaken { 0 } else { state },
            terminating: stored.is_terminating()
                || known.as_ref().is_some_and(|twin| twin.terminating),
            mirrored: known.map_or(0, |twin| twin.mirrored),
            counter: meta::restore_counter(stored),
        };
        entry.twin = Some(twin.clone());
        Some((twin, is_overtaken))
    });
    let Some((twin, is_overtaken)) = recorded else {
        quota::ended(engine, tenant, key, stored.uid());
        return Err(Failure::Waiting("the twin went away"));
    };
    if is_overtaken {
        engine.down.add(&tenant.id, key.clone());
    }
    Ok(twin)
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
            .is_some_and(|twin| !twin.terminating && twin.baseline != 0)
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
    if !is_ready() {
        return Err(Failure::Waiting(
            "the super namespace of an older namespace must end first",
        ));
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
async fn refuse(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    refused: &Refused,
) -> Result<(), Failure> {
    tenant.table.update(key, |entry| entry.refused = true);
    if refused.reason != quota::EXCEEDED {
        quota::abandon(engine, tenant, key);
    }
    engine.metrics.refused(&tenant.id, refused.reason);
    refusals::tell(engine, tenant, key, object.uid(), refused).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};
    use serde_json::json;

    #[test]
    fn a_twin_whose_end_is_told_before_its_making_is_answered_is_made_again() {
        let (cluster, _server) = fake();
        let engine = fake::engine(&cluster);
        let tenant = tenant(&cluster);
        let key = Key::new(kind::index("ConfigMap"), "work", "settings");
        let stored = Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "acme-work", "uid": "u1", "resourceVersion": "7"},
        }))
        .unwrap();
        let under_way = tenant.table.write(&key);
        tenant.table.ended(&key, "u1");
        assert!(record(&engine, &tenant, &key, &stored, "owner").is_err());
        assert!(tenant.table.get(&key).twin.is_none());
        drop(under_way);
        // An end that comes in its turn is not held against what follows.
        tenant.table.ended(&key, "u1");
        let _under_way = tenant.table.write(&key);
        assert!(record(&engine, &tenant, &key, &stored, "owner").is_ok());
    }

    #[test]
    fn what_is_suspected_while_it_is_written_is_compared_again() {
        let (cluster, _server) = fake();
        let engine = fake::engine(&cluster);
        let tenant = tenant(&cluster);
        let key = Key::new(kind::index("Namespace"), "", "work");
        let stored = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "acme-work", "uid": "u1", "resourceVersion": "7"},
        }))
        .unwrap();
        let recorded = || record(&engine, &tenant, &key, &stored, "owner").unwrap();
        let under_way = tenant.table.write(&key);
        tenant.table.suspect(&key);
        assert_eq!(recorded().baseline, 0);
        drop(under_way);
        // The next round tells that it is right.
        let _under_way = tenant.table.write(&key);
        assert_ne!(recorded().baseline, 0);
    }

    /// A pod that has a twin, in a namespace that has one.
    fn runs(tenant: &Tenant) -> Key {
        tenant.gate.listed(kind::index("NetworkPolicy"), false);
        let namespace = Key::new(kind::index("Namespace"), "", "work");
        let key = Key::new(kind::index("Pod"), "work", "web");
        for key in [&namespace, &key] {
            tenant.table.update(key, |entry| {
                entry.twin = Some(fake::super_side("t", "own"));
            });
        }
        key
    }

    /// T22: beside an ephemeral container that is refused, another one is judged as it is alone.
    #[tokio::test(start_paused = true)]
    async fn t22_a_refused_container_hides_no_reference_of_another() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = runs(&tenant);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
            "spec": {
                "dnsPolicy": "Default", "containers": [{"name": "c", "image": "i"}],
                "ephemeralContainers": [
                    {"name": "x", "image": "i", "securityContext": {"privileged": true}},
                    {"name": "y", "image": "i", "envFrom": [{"secretRef": {"name": "platforms"}}]},
                ],
            },
        });
        let pod = Object::from_value(pod).unwrap();
        tenant.down.put(key.clone(), Arc::new(pod));
        let answers = async {
            let secret = json!({"metadata": {"name": "platforms"}});
            let asked = super_server.answer("GET", 200, &secret).await;
            assert!(asked.path.ends_with("/secrets/platforms"), "{}", asked.path);
            let told = tenant_server.answer("POST", 201, &json!({})).await;
            assert_eq!(told.body["reason"], "ReferenceTaken");
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_change_the_super_cluster_refuses_keeps_its_tokens() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = runs(&tenant);
        let pod = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "work", "uid": "own", "resourceVersion": "7"},
            "spec": {
                "dnsPolicy": "Default", "containers": [{"name": "c", "image": "i:2"}],
                "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            },
        }))
        .unwrap();
        let twin = tenant.with_cx(|cx| translate(key.kind(), &pod, cx));
        let mut twin = twin.unwrap().unwrap();
        twin.value_mut()["metadata"]["uid"] = "t".into();
        twin.value_mut()["metadata"]["resourceVersion"] = "9".into();
        twin.value_mut()["spec"]["containers"][0]["image"] = "i:1".into();
        tenant.down.put(key.clone(), Arc::new(pod));
        let answers = async {
            super_server.answer("GET", 200, twin.value()).await;
            let refused = json!({"kind": "Status", "code": 422, "message": "no such image"});
            super_server.answer("PATCH", 422, &refused).await;
            let secret = json!({"metadata": {"name": "token"}});
            let asked = super_server.answer("GET", 200, &secret).await;
            assert!(asked.path.contains("/secrets/"), "{}", asked.path);
            let told = tenant_server.answer("POST", 201, &json!({})).await;
            assert_eq!(told.body["reason"], "RefusedBySuperCluster");
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert!(tenant.table.get(&key).renew_at.is_some());
    }

    /// The ownership is part of the create, and what another one owns stays as it is.
    #[tokio::test(start_paused = true)]
    async fn r3_what_stands_under_the_name_and_is_another_ones_is_neither_adopted_nor_touched() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let mut rules = (*tenant.rules()).clone();
        rules.to_super = fake::all_config_maps();
        tenant.revise(rules, tenant.record());
        let namespace = Key::new(kind::index("Namespace"), "", "work");
        tenant.table.update(&namespace, |entry| {
            entry.twin = Some(fake::super_side("n", "own"));
        });
        let key = Key::new(kind::index("ConfigMap"), "work", "settings");
        let object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "work", "uid": "u1", "resourceVersion": "7"},
        }))
        .unwrap();
        tenant.down.put(key.clone(), Arc::new(object));
        let taken = json!({"kind": "Status", "code": 409, "message": "configmaps \"settings\" already exists"});
        let foreign = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "acme-work", "uid": "theirs", "resourceVersion": "3"},
        });
        let answers = async {
            let made = super_server.answer("POST", 409, &taken).await;
            let metadata = &made.body["metadata"];
            assert_eq!(metadata["annotations"][api::keys::UID], "u1");
            assert_eq!(metadata["labels"][api::keys::TENANT], tenant.id.as_str());
            super_server.answer("GET", 200, &foreign).await;
            let told = tenant_server.answer("POST", 201, &json!({})).await;
            assert_eq!(told.body["reason"], "NameTaken");
        };
        let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(worked.is_ok(), "{worked:?}");
        assert!(super_server.is_silent());
        assert!(tenant.table.get(&key).twin.is_none());
    }
}
