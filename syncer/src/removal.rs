//! Deleting in the super cluster, under rule R1 and nothing less.
//!
//! A super object goes only when a quorum read at the tenant says that its owner is gone, has another UID, or (pods)
//! was asked to go; when the tenant is proven to be itself and not older than it was; when not too much is missing at
//! once, unless the API told of the deletion; and with a UID precondition. If any of that can't be established, nothing
//! is deleted.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    companions,
    engine::Engine,
    error::Error,
    gate::{Basis, Held, Hold},
    intake::{self, twin_name, twin_path},
    live::read,
    nodes,
    pages::Pages,
    patrol,
    proof::prove,
    super_bytes,
    table::SuperSide,
    tenants::Tenant,
    unserved, upward, watch,
};
use serde_json::Value;
use std::sync::Arc;
use tenancy::{
    kind::{self, SuperWatch},
    meta,
    object::Object,
    quota::bytes,
    tenant::Key,
};

/// Grace for a pod whose tenant object was removed by force: the super object stays until its containers are dead.
const FORCED_GRACE: i64 = 1;

/// Why a super object must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The tenant lacks its object.
    Missing,
    /// The tenant asked for its end.
    Asked,
    /// The tenant's object says so itself.
    Told,
}

impl Why {
    /// As it is recorded.
    fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing in the tenant",
            Self::Asked | Self::Told => "told by the tenant",
        }
    }
}

/// The grace of what ends since its tenant object is gone.
fn forced_grace(key: &Key) -> Option<i64> {
    key.kind().deletes_early().then_some(FORCED_GRACE)
}

/// Whether a deletion with this grace changes anything: of what ends already a longer one is passed over, as by any API server.
fn hastens(twin: &SuperSide, grace: Option<i64>) -> bool {
    twin.ending
        .is_none_or(|ending| grace.is_some_and(|grace| grace < i64::from(ending)))
}

/// The tenant's object is gone, read live by the caller.
pub(crate) async fn remove(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        tenant.breakers.is_in_tenant(key, &tenant.gate);
        return Ok(());
    };
    delete(engine, tenant, key, &twin, forced_grace(key), Why::Missing).await
}

/// The tenant asked for the pod's end: the wish goes down with its grace, and again when that gets shorter; a pod that never
/// came down ends at once.
pub(crate) async fn pass_on(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        return upward::missing(engine, tenant, key).await;
    };
    if *twin.owner_uid != *object.uid() {
        return pass_on_to_another(engine, tenant, key, object).await;
    }
    let asked = object
        .at("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .map(|asked| asked.max(FORCED_GRACE));
    // By what the tenant says itself: whoever ends a super pod may give it longer than tenants may ask for.
    if !hastens(&twin, asked) {
        return Ok(());
    }
    let longest = tenant.rules().pods.longest_grace();
    let grace = asked.map(|asked| asked.min(longest));
    delete(engine, tenant, key, &twin, grace, Why::Asked).await
}

/// What is known of the super pod is that of another incarnation: only what both sides say now ends it.
async fn pass_on_to_another(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
) -> Result<(), Failure> {
    let Some(have) = read(&engine.cluster, &twin_path(tenant, key)).await? else {
        nodes::update(engine, tenant, key, |entry| entry.twin = None);
        return upward::missing(engine, tenant, key).await;
    };
    match meta::owner(&have) {
        Some(owner) if owner.tenant == tenant.id && owner.uid == object.uid() => {
            take_up(engine, tenant, key, &have, &owner.uid);
            Err(Failure::Waiting("the super pod was another one"))
        }
        Some(owner) if owner.tenant == tenant.id => replace(engine, tenant, key, &have).await,
        _ => Ok(()),
    }
}

/// The tenant has another pod of that name by now: its super pod is made once the one before is gone, which gets no longer
/// for that than one whose tenant pod was removed by force.
pub(crate) async fn hasten(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
) -> Result<(), Failure> {
    let Some(twin) = tenant.table.get(key).twin else {
        return Ok(());
    };
    let is_its = *twin.owner_uid == *object.uid();
    if is_its || !twin.is_ending() || !hastens(&twin, forced_grace(key)) {
        return Ok(());
    }
    let have = read(&engine.cluster, &twin_path(tenant, key)).await?;
    let is_tenants = |have: &Object| {
        let owner = meta::owner(have);
        have.uid() == &*twin.uid && owner.is_some_and(|owner| owner.tenant == tenant.id)
    };
    match have.filter(is_tenants) {
        Some(have) => replace(engine, tenant, key, &have).await,
        // Its own event says what became of it.
        None => Ok(()),
    }
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
    let twin = take_up(engine, tenant, key, have, &owner.uid);
    let grace = forced_grace(key);
    if !hastens(&twin, grace) {
        return Ok(());
    }
    delete(engine, tenant, key, &twin, grace, Why::Missing).await?;
    if tenant.table.get(key).twin.is_none() {
        return Err(Failure::Waiting("the older incarnation is gone"));
    }
    Ok(())
}

/// The super object can't become what the tenant's object is now.
pub(crate) async fn remake(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    have: &Object,
) -> Result<(), Failure> {
    let Some(owner) = meta::owner(have) else {
        return Ok(());
    };
    let twin = take_up(engine, tenant, key, have, &owner.uid);
    delete(engine, tenant, key, &twin, None, Why::Told).await?;
    if tenant.table.get(key).twin.is_none() {
        return Err(Failure::Waiting("what it was is gone"));
    }
    Ok(())
}

/// Notes a super object as it was read.
fn take_up(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    have: &Object,
    owner_uid: &str,
) -> SuperSide {
    let twin = SuperSide {
        uid: have.uid().into(),
        version: have.resource_version(),
        owner_uid: owner_uid.into(),
        applied: meta::applied(have),
        state: meta::state(have),
        edition: key.kind().edition(have),
        baseline: 0,
        ending: have.ending(),
        mirrored: 0,
        counter: meta::restore_counter(have),
        node: nodes::of(key, have).map(Arc::from),
    };
    let bytes = bytes::of(have);
    nodes::update(engine, tenant, key, |entry| {
        entry.twin = Some(twin.clone());
        entry.weigh(twin.version, bytes);
    });
    twin
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
    delete(engine, tenant, key, &twin, None, Why::Told).await
}

async fn delete(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    twin: &SuperSide,
    grace: Option<i64>,
    why: Why,
) -> Result<(), Failure> {
    if !hastens(twin, grace) {
        tenant.breakers.done_down(key);
        return Ok(());
    }
    let basis = basis(tenant, key, why);
    tenant.gate.known(key.kind, basis)?;
    if why == Why::Missing {
        tenant
            .breakers
            .judge_down(key, &tenant.table, &tenant.gate)?;
        check_quarantine(tenant, key, twin)?;
    }
    tenant.gate.check(key.kind, basis)?;
    confirm_emptied(tenant, key.kind).await?;
    prove(tenant).await?;
    let rule = key.kind();
    let preconditions = Preconditions {
        uid: &twin.uid,
        resource_version: (!rule.super_writes()).then_some(twin.version),
        grace,
    };
    let name = twin_name(tenant, key);
    tracing::info!(tenant = %tenant.id, %key, super_namespace = %name.namespace, uid = %twin.uid, ?grace, "deleting the super object");
    let path = twin_path(tenant, key);
    match apply::delete(&engine.cluster, tenant, &path, &preconditions, why.word()).await {
        Err(Failure::Api(Error::Conflict(_))) => {
            // Somebody changed it since: what it is now decides.
            match read(&engine.cluster, &path).await? {
                Some(have) if have.uid() == &*twin.uid => {
                    intake::seen_in_super(engine, tenant, key, &have, &twin.owner_uid);
                }
                _ => {
                    intake::gone_in_super(engine, tenant, key, &twin.uid);
                }
            }
            return Err(Failure::Waiting(
                "the super object changed before it could be deleted",
            ));
        }
        // It ended while nobody watched: no event will tell.
        Ok(false) => {
            intake::gone_in_super(engine, tenant, key, &twin.uid);
        }
        Ok(true) => {}
        Err(failure) => {
            if let Failure::Api(Error::Forbidden(words)) = &failure {
                companions::refused(engine, tenant, &key.namespace, words);
            }
            return Err(failure);
        }
    }
    tenant.breakers.done_down(key);
    patrol::mended(engine, tenant, key);
    if !twin.is_ending() {
        engine.metrics.deleted(&tenant.id, rule.resource().kind);
    }
    forget_unwatched(tenant, key);
    super_bytes::freed(engine, tenant);
    Ok(())
}

/// What the deletion is decided by. That nothing needs an object, or that it must be made anew, is inferred.
fn basis(tenant: &Tenant, key: &Key, why: Why) -> Basis {
    if why == Why::Asked || why == Why::Missing && tenant.breakers.is_told(key) {
        Basis::Told
    } else {
        Basis::Inferred
    }
}

/// Forgets the twin of a kind whose end no watch will tell of.
fn forget_unwatched(tenant: &Tenant, key: &Key) {
    if key.kind().super_watch() == SuperWatch::Never {
        tenant.table.update(key, |entry| entry.twin = None);
    }
}

/// An object from before a restore of the tenant by Sublet stays until an operator acknowledges its loss (R2).
fn check_quarantine(tenant: &Tenant, key: &Key, twin: &SuperSide) -> Result<(), Failure> {
    let restore_counter = tenant.rules().restore_counter;
    if !tenant.marks.quarantines(twin.counter, restore_counter) {
        return Ok(());
    }
    let why = format!(
        "objects made before the tenant was restored are missing in it, among them {key}: they are kept until an \
         operator lets go of them"
    );
    if !tenant.gate.holds().contains_key(&Hold::Quarantine) {
        tracing::warn!(tenant = %tenant.id, %key, "objects from before a restore are kept");
        tenant.gate.hold(Hold::Quarantine, Some(why.clone()));
    }
    Err(Held(why).into())
}

/// A list that came back empty though it wasn't before is believed when another look says the same (R2). If that says
/// otherwise, the watch lists again. Looked at is what deletions of `of` are decided by.
async fn confirm_emptied(tenant: &Tenant, of: u8) -> Result<(), Failure> {
    for kind in tenant.gate.emptied(of) {
        let rule = kind::rule(kind);
        let selector = rule.tenant_selector().unwrap_or_default();
        let path = format!(
            "{}?limit=1&labelSelector={}",
            rule.resource().path("", ""),
            watch::encode(selector)
        );
        let page = tenant.cluster.list(&path).await?;
        let is_empty = page["items"].as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            tenant.gate.contradicted(kind);
            let plural = rule.resource().plural;
            return Err(Held(format!(
                "a list of {plural} came back empty, and another one doesn't"
            ))
            .into());
        }
        tenant.gate.confirmed(kind);
    }
    Ok(())
}

/// Whether an object of the tenant, a pod above all, refers to this one, read live.
async fn is_referenced_live(tenant: &Tenant, key: &Key) -> Result<bool, Failure> {
    let rules = tenant.rules();
    for kind in tenant.kinds() {
        let rule = kind::rule(kind);
        let may = rule.goes_down() && rule.may_refer(&rules.custom);
        if may && refers_live(tenant, kind, key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an object of that kind refers to the object, read live.
async fn refers_live(tenant: &Tenant, kind: u8, key: &Key) -> Result<bool, Failure> {
    let rule = kind::rule(kind);
    let wanted = key.kind().resource();
    let namespace = if rule.resource().namespaced {
        &*key.namespace
    } else {
        ""
    };
    let lister = tenant.cluster.lister().await;
    let mut pages = Pages::of(&rule.resource().path(namespace, ""), String::new());
    loop {
        let page = match pages.next(&lister).await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(false),
            Err(Error::NotServed) if rule.is_optional() => {
                let has_crossed = !tenant
                    .table
                    .keys(kind, |entry| entry.twin.is_some())
                    .is_empty();
                if has_crossed {
                    // What isn't served may refer to it.
                    unserved::confirm(tenant, kind).await?;
                }
                return Ok(false);
            }
            Err(err) => return Err(err.into()),
        };
        let objects = page.items.into_iter().map(Object::from_value);
        let refers = tenant.with_cx(|cx| {
            let names = |object: Object| {
                let all = rule.references(&object, &cx.rules.custom);
                all.iter()
                    .any(|one| one.kind == wanted.kind && *one.name == *key.name)
            };
            objects.flatten().any(names)
                || cx.facts.is_referenced(wanted, &key.namespace, &key.name)
        });
        if refers {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, Received, Server, fake, tenant},
        quota,
    };
    use serde_json::json;
    use std::collections::BTreeMap;
    use tenancy::quota::amount::Amounts;

    /// What is known of a tenant, and what its API server answers when it is asked for kube-system.
    struct Case {
        is_listed: bool,
        proof: Option<&'static str>,
        answer: Option<(u16, Value)>,
        says: &'static str,
    }

    #[tokio::test(start_paused = true)]
    async fn r2_a_second_look_that_contradicts_an_empty_list_deletes_nothing_and_says_so() {
        let (own, mut tenant_server) = fake();
        let tenant = tenant(&own);
        let pods = kind::index("Pod");
        tenant.gate.listed(pods, true);
        let page =
            json!({"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "a"}}]});
        let answers = tenant_server.answer("GET", 200, &page);
        let (looked, _) = tokio::join!(confirm_emptied(&tenant, pods), answers);
        assert!(matches!(looked, Err(Failure::Held(_))), "{looked:?}");
        // Else this would wait for ever.
        tenant.gate.contradiction(pods).await;
        assert!(tenant.gate.is_emptied(pods));
    }

    #[tokio::test(start_paused = true)]
    async fn r1_what_cannot_be_established_deletes_nothing() {
        let kube_system = |uid: &str| {
            let metadata = json!({"name": "kube-system", "uid": uid});
            Some((
                200,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
            ))
        };
        let case = |is_listed, proof, answer, says| Case {
            is_listed,
            proof,
            answer,
            says,
        };
        let absent = Some((404, json!({"kind": "Status", "code": 404})));
        let right = Some("right");
        for case in [
            case(false, right, None, "isn't complete"),
            case(true, None, None, "records no proof"),
            case(true, right, absent, "has no kube-system"),
            case(true, right, kube_system("another"), "has another UID"),
            case(true, right, kube_system("right"), "mark isn't there"),
        ] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            if case.is_listed {
                for kind in tenant.kinds() {
                    tenant.gate.listed(kind, false);
                }
            }
            if let Some(proof) = case.proof {
                tenant.set_proof(proof);
            }
            let key = Key::new(kind::index("ConfigMap"), "work", "settings");
            tenant.table.update(&key, |entry| {
                entry.twin = Some(fake::super_side("s", "gone"));
            });
            let answers = async {
                if let Some((status, body)) = &case.answer {
                    tenant_server.answer("GET", *status, body).await;
                }
            };
            let (removed, ()) = tokio::join!(remove(&engine, &tenant, &key), answers);
            let why = removed.unwrap_err();
            assert!(matches!(why, Failure::Held(_)), "{why}");
            assert!(why.to_string().contains(case.says), "{why}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
            assert!(tenant.table.get(&key).twin.is_some());
        }
    }

    /// No watch tells of what ended while it was broken, and what nobody has any more must not count as missing for ever.
    #[tokio::test(start_paused = true)]
    async fn a_twin_that_was_gone_before_its_deletion_is_forgotten_and_its_quota_is_free() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        provable(&tenant);
        let own = Amounts::from([("services".to_owned(), 5000)]);
        tenant.quota.limit(&own, BTreeMap::new());
        tenant.quota.counted();
        let key = Key::new(kind::index("Service"), "work", "web");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "gone"));
        });
        let service =
            json!({"metadata": {"name": "web", "uid": "s"}, "spec": {"type": "ClusterIP"}});
        quota::exists(
            &engine,
            &tenant,
            &key,
            &Object::from_value(service).unwrap(),
        );
        assert_eq!(tenant.quota.claim().held["services"], 1000);
        let answers = async {
            proves(&mut tenant_server).await;
            super_server.answer("DELETE", 404, &json!({})).await;
        };
        let (removed, ()) = tokio::join!(remove(&engine, &tenant, &key), answers);
        removed.unwrap();
        assert!(tenant.table.get(&key).twin.is_none());
        assert_eq!(tenant.quota.claim().held["services"], 0);
    }

    /// A tenant of which all is known by which it proves to be itself.
    fn provable(tenant: &Tenant) {
        fake::list_all(tenant);
        tenant.set_proof("right");
        tenant.marks.read(1);
    }

    /// Its API server proves that.
    async fn proves(server: &mut Server) {
        let kube_system = json!({"metadata": {"name": "kube-system", "uid": "right"}});
        let mark = json!({"metadata": {"name": api::MARK_NAME}, "data": {"nonce": "1"}});
        server.answer("GET", 200, &kube_system).await;
        server.answer("GET", 200, &mark).await;
    }

    /// The super pod is known to end within so many seconds.
    fn ends_within(tenant: &Tenant, owner: &str, seconds: u32) {
        tenant.table.update(&web(), |entry| {
            let mut twin = fake::super_side("s", owner);
            twin.ending = Some(seconds);
            entry.twin = Some(twin);
        });
    }

    /// What a deletion asks for, which is tied to the super pod's UID.
    fn asked_grace(deletion: &Received) -> i64 {
        assert_eq!(deletion.body["preconditions"], json!({"uid": "s"}));
        let grace = deletion.body["gracePeriodSeconds"].as_i64();
        grace.expect("a grace")
    }

    #[tokio::test(start_paused = true)]
    async fn r1_a_shorter_grace_is_passed_on_to_a_pod_that_ends_already_and_no_longer_one() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        provable(&tenant);
        let web = web();
        let [own, _] = pods(&tenant, "u", "u");
        // What the super pod has, what its tenant asks for, and what is passed on.
        for (has, asks, passed_on) in [
            (3600, 5_i64, Some(5)),
            (5, 5, None),
            (5, 30, None),
            // Of what has containers nothing is left behind.
            (30, 0, Some(1)),
            (1, 0, None),
            (7200, 7200, None),
        ] {
            ends_within(&tenant, "u", has);
            let mut own = own.clone();
            own["metadata"]["deletionGracePeriodSeconds"] = asks.into();
            let own = Object::from_value(own).unwrap();
            let answers = async {
                if let Some(grace) = passed_on {
                    proves(&mut tenant_server).await;
                    let deletion = super_server.answer("DELETE", 200, &json!({})).await;
                    assert_eq!(asked_grace(&deletion), grace);
                }
            };
            let (passed, ()) = tokio::join!(pass_on(&engine, &tenant, &web, &own), answers);
            assert!(passed.is_ok(), "{passed:?}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r1_a_pod_that_is_removed_by_force_while_it_ends_has_no_more_of_its_grace() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        provable(&tenant);
        let web = web();
        ends_within(&tenant, "gone", 3600);
        let answers = async {
            proves(&mut tenant_server).await;
            super_server.answer("DELETE", 200, &json!({})).await
        };
        let (removed, deletion) = tokio::join!(remove(&engine, &tenant, &web), answers);
        assert!(removed.is_ok(), "{removed:?}");
        assert_eq!(asked_grace(&deletion), FORCED_GRACE);
        ends_within(&tenant, "gone", 1);
        let again = remove(&engine, &tenant, &web).await;
        assert!(again.is_ok(), "{again:?}");
        // Unproven it keeps what it has.
        tenant.set_proof("another");
        ends_within(&tenant, "gone", 3600);
        let kube_system = json!({"metadata": {"name": "kube-system", "uid": "right"}});
        let (removed, _) = tokio::join!(
            remove(&engine, &tenant, &web),
            tenant_server.answer("GET", 200, &kube_system)
        );
        assert!(matches!(removed, Err(Failure::Held(_))), "{removed:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }

    /// What a StatefulSet makes at once after `kubectl delete pod --force`.
    #[tokio::test(start_paused = true)]
    async fn r1_a_super_pod_that_ends_slowly_ends_soon_once_the_tenant_has_another_pod_of_that_name()
     {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        provable(&tenant);
        let web = web();
        let [mut newer, mut twin] = pods(&tenant, "newer", "older");
        newer["metadata"]["deletionTimestamp"] = Value::Null;
        twin["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        twin["metadata"]["deletionGracePeriodSeconds"] = 3600.into();
        let object = Object::from_value(newer.clone()).unwrap();
        ends_within(&tenant, "older", 3600);
        let answers = async {
            super_server.answer("GET", 200, &twin).await;
            tenant_server.answer("GET", 200, &newer).await;
            proves(&mut tenant_server).await;
            super_server.answer("DELETE", 200, &json!({})).await
        };
        let (hastened, deletion) = tokio::join!(hasten(&engine, &tenant, &web, &object), answers);
        assert!(hastened.is_ok(), "{hastened:?}");
        assert_eq!(asked_grace(&deletion), FORCED_GRACE);
        // Neither one that ends soon, nor one that doesn't end, nor the pod's own.
        for (owner, ending) in [("older", Some(1)), ("older", None), ("newer", Some(3600))] {
            tenant.table.update(&web, |entry| {
                let mut twin = fake::super_side("s", owner);
                twin.ending = ending;
                entry.twin = Some(twin);
            });
            let left = hasten(&engine, &tenant, &web, &object).await;
            assert!(left.is_ok(), "{left:?}");
        }
        // Nor what is another tenant's by now.
        ends_within(&tenant, "older", 3600);
        twin["metadata"]["labels"][api::keys::TENANT] = "another".into();
        let (left, _) = tokio::join!(
            hasten(&engine, &tenant, &web, &object),
            super_server.answer("GET", 200, &twin)
        );
        assert!(left.is_ok(), "{left:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }

    /// A pod of the tenant that was asked to end, and its super pod, which was made for the pod with the UID `owner`.
    fn pods(tenant: &Tenant, uid: &str, owner: &str) -> [Value; 2] {
        let key = web();
        let pod = |namespace: &str, uid: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web", "namespace": namespace, "uid": uid, "resourceVersion": "9",
                    "labels": {api::keys::TENANT: tenant.id.as_str()},
                    "annotations": {api::keys::NAMESPACE: "work", api::keys::NAME: "web", api::keys::UID: owner},
                },
                "spec": {"containers": []},
            })
        };
        let mut own = pod("work", uid);
        own["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        [own, pod(&twin_name(tenant, &key).namespace, "s")]
    }

    fn web() -> Key {
        Key::new(kind::index("Pod"), "work", "web")
    }

    #[tokio::test(start_paused = true)]
    async fn r1_the_end_of_a_pod_is_passed_on_to_no_super_pod_of_another_incarnation() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        // What is worked is older than what there is: the super pod is the newer pod's.
        let [old, twin] = pods(&tenant, "older", "newer");
        let [mut newer, _] = pods(&tenant, "newer", "newer");
        newer["metadata"]["deletionTimestamp"] = Value::Null;
        tenant.table.update(&web(), |entry| {
            entry.twin = Some(fake::super_side("s", "newer"));
        });
        let old = Object::from_value(old).unwrap();
        let answers = async {
            super_server.answer("GET", 200, &twin).await;
            tenant_server.answer("GET", 200, &newer).await;
        };
        let web = web();
        let (passed, ()) = tokio::join!(pass_on(&engine, &tenant, &web, &old), answers);
        assert!(matches!(passed, Err(Failure::Waiting(_))), "{passed:?}");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn r1_a_super_pod_that_was_made_anew_is_taken_up_before_its_end_is_passed_on() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let [own, twin] = pods(&tenant, "newer", "newer");
        tenant.table.update(&web(), |entry| {
            entry.twin = Some(fake::super_side("before", "older"));
        });
        let own = Object::from_value(own).unwrap();
        let web = web();
        let (passed, _) = tokio::join!(
            pass_on(&engine, &tenant, &web, &own),
            super_server.answer("GET", 200, &twin)
        );
        assert!(matches!(passed, Err(Failure::Waiting(_))), "{passed:?}");
        assert_eq!(*tenant.table.get(&web).twin.unwrap().owner_uid, *"newer");
        assert!(tenant_server.is_silent());
    }

    /// The watch of routes may lag behind the one of Secrets.
    #[tokio::test(start_paused = true)]
    async fn r1_a_secret_that_something_else_than_a_pod_refers_to_by_now_stays() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Secret"), "work", "certificate");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "own"));
        });
        let list = |items: Value| json!({"metadata": {"resourceVersion": "5"}, "items": items});
        let ingress = json!({
            "metadata": {"name": "web", "namespace": "work"},
            "spec": {"tls": [{"secretName": "certificate"}]},
        });
        let answers = async {
            let pods = tenant_server.answer("GET", 200, &list(json!([]))).await;
            let ingresses = tenant_server
                .answer("GET", 200, &list(json!([ingress])))
                .await;
            [pods.path, ingresses.path]
        };
        let (removed, asked) = tokio::join!(unneeded(&engine, &tenant, &key), answers);
        assert!(removed.is_ok(), "{removed:?}");
        assert!(asked[0].ends_with("/work/pods") && asked[1].ends_with("/work/ingresses"));
        assert!(super_server.is_silent() && tenant_server.is_silent());
        assert!(tenant.table.get(&key).twin.is_some());
    }
}
