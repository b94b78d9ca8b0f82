//! Creates or mends a super object, and remembers it as it was stored.

use super::{refuse, stays};
use crate::{
    apply::{self, Failure},
    companions,
    engine::Engine,
    error::Error,
    intake, isolation,
    live::read,
    namespace_quota, nodes, patrol, quota, refusals, removal, super_bytes,
    table::SuperSide,
    tenants::Tenant,
    tokens::Age,
};
use std::sync::Arc;
use tenancy::{
    hosts,
    kind::{self, Kind, Refused, Resource},
    meta,
    object::Object,
    plan::{Plan, plan},
    quota::bytes,
    tenant::Key,
};

/// Creates or mends the twin; the twin as it is then, unless it must end first.
pub(super) async fn make(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    want: Object,
    twin: Option<SuperSide>,
) -> Result<Option<SuperSide>, Failure> {
    let applied = meta::applied(&want);
    let _under_way = tenant.table.write(key);
    match &twin {
        Some(twin) if twin.is_ending() => return Ok(None),
        Some(twin)
            if *twin.owner_uid == *object.uid()
                && twin.applied == applied
                && twin.baseline != 0 =>
        {
            return Ok(Some(twin.clone()));
        }
        _ => {}
    }
    let room = match super_bytes::reserve(engine, tenant, key, twin.as_ref(), &want)? {
        Ok(room) => room,
        Err(refused) => {
            stays(engine, tenant, key, object, twin.as_ref(), &refused).await?;
            return Ok(None);
        }
    };
    let made = match twin {
        None => create(engine, tenant, key, object, want).await,
        Some(_) => compare(engine, tenant, key, object, want).await,
    };
    room.end(&made);
    made
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
            patrol::mended(engine, tenant, key);
            quota::exists(engine, tenant, key, &stored);
            if rule.resource().kind == "Namespace" {
                // Known before anything can be in it.
                let owner = (tenant.id.clone(), Arc::clone(&key.name));
                engine.twins.insert(stored.name().to_owned(), owner);
            }
            accompany(engine, tenant, key, object, &stored, Age::New).await?;
            if reduced.is_some() {
                return compare(engine, tenant, key, object, want).await;
            }
            let twin = record(engine, tenant, key, &stored, object.uid())?;
            shows_already(tenant, key, &stored);
            Ok(Some(twin))
        }
        Err(Failure::Api(Error::AlreadyExists)) => compare(engine, tenant, key, object, want).await,
        Err(Failure::Api(Error::NotFound)) => {
            // The super namespace went away behind our back: it is read before anything else is made in it.
            let namespace = Key::new(kind::index("Namespace"), "", &key.namespace);
            tenant.table.suspect(&namespace);
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
        && plan(rule, dated(rule, want.clone(), &have), Some(&have)) == Ok(Plan::Nothing)
    {
        accompany(engine, tenant, key, object, &have, Age::Known).await?;
        return record(engine, tenant, key, &have, object.uid()).map(Some);
    }
    // A difference is a suspicion until it is read live (R10).
    let path = rule.resource().path(want.namespace(), want.name());
    let known = tenant.table.get(key).twin;
    let Some(have) = read(&engine.cluster, &path).await? else {
        if let Some(twin) = known {
            intake::gone_in_super(engine, tenant, key, &twin.uid);
        }
        return Err(Failure::Waiting("the twin went away"));
    };
    let want = dated(rule, want, &have);
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
            accompany(engine, tenant, key, object, &have, Age::Known).await?;
            record(engine, tenant, key, &have, object.uid()).map(Some)
        }
        Ok(Plan::Patch(patches)) => {
            engine.metrics.repaired(&tenant.id);
            let stored =
                apply::patch(&engine.cluster, tenant, rule.resource(), &have, &patches).await?;
            patrol::mended(engine, tenant, key);
            if was_edited {
                refusals::tell_super(engine, tenant, rule.resource(), &have).await?;
            }
            accompany(engine, tenant, key, object, &stored, Age::Known).await?;
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

/// What must stand instead of `have`, with the times at which it takes hosts.
fn dated(rule: &dyn Kind, mut want: Object, have: &Object) -> Object {
    if hosts::takes(rule.resource()) {
        let now = refusals::seconds(jiff::Timestamp::now());
        hosts::date(&mut want, have, &now);
    }
    want
}

/// Makes the objects without a twin that must exist beside the super object, which was made just now or was there before.
async fn accompany(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: &Object,
    age: Age,
) -> Result<(), Failure> {
    let companions: Vec<(&'static Resource, Object)> =
        tenant.with_cx(|cx| key.kind().companions(object, cx));
    for (resource, companion) in companions {
        companions::keep(engine, tenant, resource, &companion, age).await?;
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
pub(super) fn record(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    stored: &Object,
    owner_uid: &str,
) -> Result<SuperSide, Failure> {
    let (state, edition) = (meta::state(stored), key.kind().edition(stored));
    let bytes = bytes::of(stored);
    let recorded = nodes::update(engine, tenant, key, |entry| {
        // Asked while the entries are held: an end that is told from now on finds the twin.
        if tenant.table.has_ended(key, stored.uid()) {
            return None;
        }
        let bound = entry.node(nodes::of(key, stored));
        let known = entry.twin.take().filter(|twin| *twin.uid == *stored.uid());
        let version = stored.resource_version();
        let newer = known.as_ref().filter(|twin| twin.version > version);
        let is_overtaken = newer.is_some_and(|twin| twin.state != state && !twin.is_ending())
            || tenant.table.is_suspected(key);
        let twin = SuperSide {
            uid: stored.uid().into(),
            version: newer.map_or(version, |twin| twin.version),
            owner_uid: owner_uid.into(),
            applied: meta::applied(stored),
            state: newer.map_or(state, |twin| twin.state),
            edition: newer.map_or(edition, |twin| twin.edition),
            baseline: if is_overtaken { 0 } else { state },
            // It gets no longer once it was told.
            ending: [stored.ending(), known.as_ref().and_then(|twin| twin.ending)]
                .into_iter()
                .flatten()
                .min(),
            node: newer.map_or(bound, |twin| twin.node.clone()),
            mirrored: known.map_or(0, |twin| twin.mirrored),
            counter: meta::restore_counter(stored),
        };
        entry.twin = Some(twin.clone());
        entry.weigh(version, bytes);
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
