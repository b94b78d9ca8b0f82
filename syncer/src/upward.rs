//! One key upward: read what the super cluster says, and show it to the tenant.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    intake::{self, twin_path},
    live::read,
    marks, nodes, patrol,
    proof::prove_super,
    publish, refusals, stopping,
    table::{TenantSide, UNDER_WAY},
    tenants::Tenant,
};
use serde_json::Value;
use std::sync::Arc;
use tenancy::{
    kind::{self, SuperWatch, TenantView, Upward},
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
    let work = |told| show(engine, tenant, key, told);
    tenant.up.working(key, work).await
}

/// The same, with the object of the newest event if it is there.
async fn show(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    told: Option<Arc<Object>>,
) -> Result<(), Failure> {
    let rule = key.kind();
    // What was told may be older than what went up since; what is read now is the newest, even of a super cluster that
    // went back.
    let told = told.filter(|object| !is_outdated(tenant, key, object));
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
    if owner.tenant != tenant.id || owner.uid != *side.uid {
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
        stopping::seen(engine, tenant, key, &object);
    }
    let Some(view) = tenants_view(tenant, key, &object, &side).await? else {
        // Its own event says so.
        return Ok(());
    };
    let writes = tenant.with_cx(|cx| rule.up(&object, &view, cx));
    let is_repair = !writes.is_empty();
    let _binding = Binding::begin(tenant, key, &object, &writes)?;
    let _answer = AwaitedAnswer::awaited(tenant, key, &writes);
    for write in writes {
        match write_up(engine, tenant, key, (&object, &side.uid), write).await {
            // The tenant's object is gone or is another one; its own event says so.
            Err(Failure::Api(Error::NotFound)) => return Ok(()),
            written => written?,
        }
    }
    if is_repair {
        patrol::mended(engine, tenant, key);
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
            twin.mirrored = if is_told {
                twin.mirrored.max(version)
            } else {
                version
            };
        }
    });
    Ok(())
}

/// What the tenant's object is known to show, and what it holds where the kind must know; `None` if it is another one by now.
async fn tenants_view(
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    side: &TenantSide,
) -> Result<Option<TenantView>, Failure> {
    let rule = key.kind();
    let mut view = TenantView {
        uid: side.uid.to_string(),
        now: None,
        bound: side.node.is_some(),
        projection: side.projection,
    };
    let shows_else = || meta::fingerprint(&rule.up_projection(object)) != side.projection;
    if rule.up_reads() && shows_else() {
        let path = rule.resource().path(&key.namespace, &key.name);
        let now = read(&tenant.cluster, &path).await?;
        view.now = now.filter(|now| *now.uid() == *side.uid);
        if view.now.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(view))
}

/// Writes a binding or a status of a super object, and takes up what the tenant's object of that UID shows then.
async fn write_up(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    (object, uid): (&Object, &str),
    write: Upward,
) -> Result<(), Failure> {
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let is_binding = binds(&write);
    let shows = write.shows;
    if let Some(shows) = shows {
        // The event of the write may be faster than its answer.
        expect(tenant, key, uid, shows);
    }
    let written = apply::upward(tenant, &path, uid, write).await;
    if written.is_err() && shows.is_some() {
        // What the tenant holds is unknown: whatever its next event tells is news.
        expect(tenant, key, uid, 0);
    }
    match written {
        Ok(_) if is_binding => {
            tenant.table.update(key, |entry| {
                let node = entry.node(nodes::of(key, object));
                if let Some(side) = &mut entry.tenant {
                    side.node = node;
                }
            });
        }
        Ok(stored) => {
            if remember(tenant, key, stored, shows) == EventOrder::Later {
                engine.up.add(&tenant.id, key.clone());
            }
        }
        // Bound before, by ourselves: the event that says so is on its way.
        Err(Failure::Api(Error::Conflict(_) | Error::AlreadyExists)) if is_binding => {}
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// Whether a later state of the super object went up.
fn is_outdated(tenant: &Tenant, key: &Key, object: &Object) -> bool {
    let twin = tenant.table.get(key).twin;
    twin.is_some_and(|twin| *twin.uid == *object.uid() && twin.mirrored > object.resource_version())
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
    prove_super(engine).await?;
    tracing::info!(tenant = %tenant.id, %key, %uid, "ending the tenant's pod: its super pod is being deleted");
    let grace = twin
        .at("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let preconditions = Preconditions {
        uid,
        resource_version: None,
        grace,
    };
    apply::delete(&tenant.cluster, tenant, &path, &preconditions, ENDED)
        .await
        .map(drop)
}

fn binds(write: &Upward) -> bool {
    write.subresource == Some("binding")
}

/// Whether it names a claim's volume.
fn gives_volume(write: &Upward) -> bool {
    write.subresource.is_none() && write.body.pointer("/spec/volumeName").is_some()
}

/// A binding that is being written. Meanwhile no other super pod is made for the tenant's pod (R5): it would run elsewhere than
/// where the tenant sees it. Nor another super claim for its claim: its volume would be an empty one.
struct Binding<'a> {
    tenant: &'a Tenant,
    key: &'a Key,
}

impl<'a> Binding<'a> {
    /// Nothing, if there is no binding to write.
    ///
    /// # Errors
    ///
    /// The super object is gone again, or is another one.
    fn begin(
        tenant: &'a Tenant,
        key: &'a Key,
        twin: &Object,
        writes: &[Upward],
    ) -> Result<Option<Self>, Failure> {
        let is_one = |write: &Upward| binds(write) || gives_volume(write);
        if !writes.iter().any(is_one) {
            return Ok(None);
        }
        // First, so that who makes another super object, having seen the end of this one, either finds it here or is found below.
        tenant.binding.lock().insert(key.clone());
        let binding = Self { tenant, key };
        let known = tenant.table.get(key).twin;
        if known.is_some_and(|known| *known.uid == *twin.uid()) {
            Ok(Some(binding))
        } else {
            Err(Failure::Waiting(
                "the super object is gone or is another one",
            ))
        }
    }
}

impl Drop for Binding<'_> {
    fn drop(&mut self) {
        self.tenant.binding.lock().remove(self.key);
    }
}

/// Notes what the tenant's object is about to show, so that the event that tells of it is no news.
fn expect(tenant: &Tenant, key: &Key, uid: &str, shows: u128) {
    tenant.table.update(key, |entry| {
        if let Some(side) = entry.tenant.as_mut().filter(|side| *side.uid == *uid) {
            side.projection = shows;
        }
    });
}

/// The answer to a status that is being written: the events of what was there before, such as that of the binding, may come
/// only now, and are no news.
struct AwaitedAnswer<'a> {
    tenant: &'a Tenant,
    key: &'a Key,
    before: u64,
}

impl<'a> AwaitedAnswer<'a> {
    /// Nothing, if no write's answer will say what the tenant's object shows then.
    fn awaited(tenant: &'a Tenant, key: &'a Key, writes: &[Upward]) -> Option<Self> {
        let tells = |write: &Upward| write.shows.is_some() && write.subresource == Some("status");
        if !writes.iter().any(tells) {
            return None;
        }
        let before = tenant.table.update(key, |entry| {
            let side = entry.tenant.as_mut()?;
            Some(std::mem::replace(&mut side.answered, UNDER_WAY))
        })?;
        Some(Self {
            tenant,
            key,
            before,
        })
    }
}

impl Drop for AwaitedAnswer<'_> {
    fn drop(&mut self) {
        self.tenant.table.update(self.key, |entry| {
            let side = entry.tenant.as_mut();
            if let Some(side) = side.filter(|side| side.answered == UNDER_WAY) {
                side.answered = self.before;
            }
        });
    }
}

/// When the newest event of an object whose status was written is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventOrder {
    Before,
    /// After the write; what it shows was not looked at.
    Later,
}

/// Takes up the tenant's object as a write left it, so that its own event is no news.
fn remember(tenant: &Tenant, key: &Key, stored: Value, shows: Option<u128>) -> EventOrder {
    let Ok(stored) = Object::from_value(stored) else {
        return EventOrder::Before;
    };
    if stored.text("/kind") != Some(key.kind().resource().kind) {
        return EventOrder::Before;
    }
    let version = stored.resource_version();
    let projection = shows.unwrap_or_else(|| meta::fingerprint(&key.kind().up_projection(&stored)));
    tenant.table.update(key, |entry| {
        let side = entry.tenant.as_mut();
        let Some(side) = side.filter(|side| *side.uid == *stored.uid()) else {
            return EventOrder::Before;
        };
        let is_later = side.version > version;
        if !is_later {
            side.projection = projection;
        }
        // What the tenant asked for until then is told by events of its own, which may come yet.
        match shows {
            Some(_) if side.answered != UNDER_WAY => side.answered = side.answered.max(version),
            Some(_) => {
                side.answered = version;
                if is_later {
                    side.projection = 0;
                    return EventOrder::Later;
                }
            }
            None => side.version = side.version.max(version),
        }
        EventOrder::Before
    })
}

/// A pod has no super pod: it ends if it was asked to or if it ran, and comes down if it never did (R5).
pub(crate) async fn missing(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let path = key.kind().resource().path(&key.namespace, &key.name);
    let known = tenant.table.get(key).tenant.map(|side| side.uid);
    let Some(pod) = read(&tenant.cluster, &path).await? else {
        intake::gone_in_tenant(engine, tenant, key, known.as_deref());
        return Ok(());
    };
    let known_twin = tenant.table.get(key).twin;
    // Read live, not taken from the watch: the watch may lag behind a create of our own.
    if let Some(twin) = read(&engine.cluster, &twin_path(tenant, key)).await? {
        let Some(owner) = meta::owner(&twin).filter(|owner| owner.tenant == tenant.id) else {
            return Ok(());
        };
        intake::seen_in_super(engine, tenant, key, &twin, &owner.uid);
        tenant.breakers.is_in_super(key, &tenant.gate);
        engine.down.add(&tenant.id, key.clone());
        return Ok(());
    }
    if let Some(twin) = &known_twin {
        intake::gone_in_super(engine, tenant, key, &twin.uid);
    }
    if !pod.is_terminating() {
        // What ended may have been the super pod of an earlier pod of that name. The way down then says whether this one ran.
        let is_anothers = known_twin.is_some_and(|twin| *twin.owner_uid != *pod.uid());
        if is_anothers || !kind::was_bound(&pod) {
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
        marks::prove_super(engine, tenant).await?;
    }
    prove_super(engine).await?;
    tracing::info!(tenant = %tenant.id, %key, uid = %pod.uid(), "ending the tenant's pod: its super pod is gone");
    let preconditions = Preconditions {
        uid: pod.uid(),
        resource_version: None,
        grace: Some(0),
    };
    apply::delete(&tenant.cluster, tenant, &path, &preconditions, ENDED).await?;
    tenant.breakers.done_up(key);
    patrol::mended(engine, tenant, key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, fake, tenant},
        table::Roll,
        watch::Sink,
    };
    use api::keys;
    use serde_json::json;

    #[tokio::test]
    async fn r5_the_status_of_an_older_incarnation_or_an_older_moment_goes_nowhere() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Pod"), "work", "web");
        // What is read now is older than what went up only if the super cluster went back.
        for (owner, mirrored, now) in [
            ("older", 0, None),
            ("newest", 10, Some(11)),
            ("newest", 10, Some(8)),
        ] {
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
                    node: Some("n".into()),
                });
                entry.twin = Some(twin);
            });
            let pod = |version: u64, phase| {
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {
                        "name": "web", "namespace": "acme-work", "uid": "s", "resourceVersion": version.to_string(),
                        "labels": {keys::TENANT: tenant.id.as_str()},
                        "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: owner},
                    },
                    "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": phase},
                })
            };
            let told = Arc::new(Object::from_value(pod(9, "Pending")).unwrap());
            tenant.up.put(key.clone(), told);
            let answers = async {
                let Some(now) = now else { return };
                super_server.answer("GET", 200, &pod(now, "Running")).await;
                let written = tenant_server.answer("PATCH", 200, &json!({})).await;
                assert_eq!(
                    written.body["status"]["phase"], "Running",
                    "{}",
                    written.body
                );
            };
            let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
            worked.unwrap();
            let twin = tenant.table.get(&key).twin.unwrap();
            assert_eq!(twin.mirrored, now.unwrap_or_default());
            assert!(super_server.is_silent() && tenant_server.is_silent());
        }
    }

    /// Else the next super pod would run elsewhere than where the tenant sees its pod.
    #[tokio::test]
    async fn r5_no_pod_is_bound_by_a_super_pod_that_is_gone_again() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Pod"), "work", "web");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web", "namespace": "acme-work", "uid": "s", "resourceVersion": "9",
                "labels": {keys::TENANT: tenant.id.as_str()},
                "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
            },
            "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Pending"},
        });
        let pod = Arc::new(Object::from_value(pod).unwrap());
        for twin in [None, Some(fake::super_side("next", "u"))] {
            tenant.table.update(&key, |entry| {
                let own = Object::from_value(json!({"metadata": {"uid": "u"}})).unwrap();
                entry.tenant = Some(TenantSide::published(&own, 1));
                entry.twin = twin;
            });
            tenant.up.put(key.clone(), pod.clone());
            let worked = work(&engine, &tenant, &key).await;
            assert!(matches!(worked, Err(Failure::Waiting(_))), "{worked:?}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
            assert!(tenant.binding.lock().is_empty());
        }
    }

    /// Tenet 1: what the tenant wrote a moment ago isn't in the super cluster yet, or was refused there.
    #[tokio::test]
    async fn the_ports_of_a_service_that_the_tenant_edited_are_not_taken_from_the_super_cluster() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Service"), "work", "web");
        tenant.table.update(&key, |entry| {
            entry.tenant = Some(TenantSide::published(&service("u", "6", json!([])), 1));
            entry.twin = Some(fake::super_side("s", "u"));
        });
        let mut twin = service("s", "9", json!([{"port": 80, "nodePort": 31234}]));
        twin.value_mut()["metadata"]["labels"] = json!({keys::TENANT: tenant.id.as_str()});
        twin.value_mut()["metadata"]["annotations"] =
            json!({keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"});
        tenant.up.put(key.clone(), Arc::new(twin));
        let edited = service(
            "u",
            "7",
            json!([{"port": 80, "nodePort": 30001}, {"port": 81, "nodePort": 30002}]),
        );
        let answers = async {
            tenant_server.answer("GET", 200, edited.value()).await;
            tenant_server.answer("PATCH", 200, edited.value()).await
        };
        let (worked, written) = tokio::join!(work(&engine, &tenant, &key), answers);
        worked.unwrap();
        let ports = json!([{"port": 80, "nodePort": 31234}, {"port": 81, "nodePort": 30002}]);
        assert_eq!(written.body["spec"], json!({"ports": ports}));
        assert_eq!(written.body["metadata"]["resourceVersion"], "7");
        assert!(super_server.is_silent() && tenant_server.is_silent());
    }

    fn service(uid: &str, version: &str, ports: Value) -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "work", "uid": uid, "resourceVersion": version},
            "spec": {"type": "NodePort", "ports": ports},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn r5_a_pod_that_was_asked_to_end_is_finished_by_no_super_cluster_but_the_one_it_ran_in()
    {
        for (uid, is_finished) in [("another", false), ("right", true)] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            engine.super_proof.set("right".into()).unwrap();
            let key = Key::new(kind::index("Pod"), "work", "web");
            tenant.suspected.lock().insert(key.clone());
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "work", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"containers": [], "nodeName": "n"},
            });
            let kube_system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}});
            let answers = async {
                tenant_server.answer("GET", 200, &pod).await;
                let gone = json!({"kind": "Status", "code": 404});
                super_server.answer("GET", 404, &gone).await;
                super_server.answer("GET", 200, &kube_system).await;
                if is_finished {
                    let ends = tenant_server.answer("DELETE", 200, &json!({})).await;
                    assert_eq!(ends.body["preconditions"]["uid"], "u");
                }
            };
            let (ended, ()) = tokio::join!(missing(&engine, &tenant, &key), answers);
            assert_eq!(ended.is_ok(), is_finished, "{ended:?}");
            // Once it is done the patrol's suspicion counts as repaired.
            assert_eq!(tenant.suspected.lock().is_empty(), is_finished);
            assert!(tenant_server.is_silent());
        }
    }

    #[tokio::test]
    async fn r1_no_pod_ends_with_the_super_pod_of_an_earlier_one_nor_since_it_was_made_with_a_node()
    {
        let (earlier, scheduled) = (Some(fake::super_side("s", "earlier")), "True");
        for (twin, scheduled) in [(earlier, scheduled), (None, "False")] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            fake::list_all(&tenant);
            let key = Key::new(kind::index("Pod"), "work", "web");
            tenant.table.update(&key, |entry| entry.twin = twin);
            let condition = json!({"type": "PodScheduled", "status": scheduled});
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "work", "uid": "anew"},
                "spec": {"containers": [], "nodeName": "n"},
                "status": {"phase": "Running", "conditions": [condition]},
            });
            let answers = async {
                tenant_server.answer("GET", 200, &pod).await;
                let gone = json!({"kind": "Status", "code": 404});
                super_server.answer("GET", 404, &gone).await;
            };
            let (worked, ()) = tokio::join!(missing(&engine, &tenant, &key), answers);
            assert!(worked.is_ok(), "{worked:?}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
            assert!(engine.down.has(&tenant.id, &key), "the way down decides");
            assert!(tenant.table.get(&key).twin.is_none());
        }
    }

    /// A watch may lag behind answers: what the binding left is told while the status that follows it is being written.
    #[tokio::test]
    async fn what_is_told_while_a_status_is_written_is_news_only_if_it_came_after_it() {
        for (told, again) in [(6, 0), (8, 1)] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (Arc::new(fake::engine(&above)), Arc::new(tenant(&own)));
            engine.tenants.insert(tenant.id.clone(), tenant.clone());
            let key = Key::new(kind::index("Pod"), "work", "web");
            tenant.table.update(&key, |entry| {
                entry.tenant = Some(TenantSide {
                    uid: "u".into(),
                    version: 5,
                    answered: 0,
                    intent: 1,
                    edition: 0,
                    projection: 0,
                    node: None,
                });
                entry.twin = Some(fake::super_side("s", "u"));
            });
            let pod = |version: u64, phase| {
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {
                        "name": "web", "namespace": "work", "uid": "u", "resourceVersion": version.to_string(),
                        "labels": {keys::TENANT: tenant.id.as_str()},
                        "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
                    },
                    "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": phase},
                })
            };
            let mut twin = pod(9, "Running");
            twin["metadata"]["uid"] = "s".into();
            let twin = Arc::new(Object::from_value(twin).unwrap());
            tenant.up.put(key.clone(), twin);
            let sink = intake::TenantSink {
                engine: engine.clone(),
                tenant: tenant.clone(),
                kind: key.kind,
                roll: Roll::default(),
            };
            let answers = async {
                let bound = tenant_server.answer("POST", 201, &json!({})).await;
                assert!(bound.path.ends_with("/binding"), "{}", bound.path);
                tenant_server.wait().await;
                sink.applied(Object::from_value(pod(told, "Pending")).unwrap());
                tenant_server.answer("PATCH", 200, &pod(7, "Running")).await;
            };
            let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
            worked.unwrap();
            assert_eq!(engine.up.depth(&tenant.id), again, "told at {told}");
            assert_eq!(tenant.table.get(&key).tenant.unwrap().answered, 7);
            assert!(super_server.is_silent());
            sink.applied(Object::from_value(pod(10, "Pending")).unwrap());
            assert_eq!(engine.up.depth(&tenant.id), 1, "somebody else wrote it");
        }
    }

    /// It is as new as it was, and the API server has enough to do.
    #[tokio::test]
    async fn a_status_that_a_busy_server_did_not_take_is_written_again_without_a_read() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        let key = Key::new(kind::index("Pod"), "work", "web");
        tenant.table.update(&key, |entry| {
            entry.tenant = Some(TenantSide {
                uid: "u".into(),
                version: 5,
                answered: 0,
                intent: 1,
                edition: 0,
                projection: 0,
                node: Some("n".into()),
            });
            entry.twin = Some(fake::super_side("s", "u"));
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web", "namespace": "acme-work", "uid": "s", "resourceVersion": "9",
                "labels": {keys::TENANT: tenant.id.as_str()},
                "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
            },
            "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Running"},
        });
        let twin = Arc::new(Object::from_value(pod).unwrap());
        tenant.up.put(key.clone(), twin);
        let busy = json!({"kind": "Status", "code": 429, "message": "too many requests"});
        for (status, answer, is_ok) in [(429, &busy, false), (200, &json!({}), true)] {
            let (worked, _) = tokio::join!(
                work(&engine, &tenant, &key),
                tenant_server.answer("PATCH", status, answer)
            );
            assert_eq!(worked.is_ok(), is_ok, "{worked:?}");
            assert!(super_server.is_silent());
        }
    }

    /// Who makes another super claim must find that the tenant's was bound, or nothing of it.
    #[tokio::test]
    async fn r5_no_volume_is_named_by_a_super_claim_that_is_gone() {
        for twin in [None, Some(fake::super_side("another", "u"))] {
            let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
            let (engine, tenant) = (fake::engine(&above), tenant(&own));
            let key = Key::new(kind::index("PersistentVolumeClaim"), "work", "data");
            tenant.table.update(&key, |entry| {
                entry.tenant = Some(TenantSide {
                    uid: "u".into(),
                    version: 5,
                    answered: 0,
                    intent: 1,
                    edition: 0,
                    projection: 1,
                    node: None,
                });
                entry.twin = twin;
            });
            let bound = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": "data", "namespace": "acme-work", "uid": "s", "resourceVersion": "9",
                    "labels": {keys::TENANT: tenant.id.as_str()},
                    "annotations": {
                        keys::NAMESPACE: "work", keys::NAME: "data", keys::UID: "u",
                        "pv.kubernetes.io/bind-completed": "yes",
                    },
                },
                "spec": {"volumeName": "pvc-1"}, "status": {"phase": "Bound"},
            });
            let bound = Arc::new(Object::from_value(bound).unwrap());
            tenant.up.put(key.clone(), bound);
            let worked = work(&engine, &tenant, &key).await;
            assert!(matches!(worked, Err(Failure::Waiting(_))), "{worked:?}");
            assert!(super_server.is_silent() && tenant_server.is_silent());
            assert!(tenant.binding.lock().is_empty());
        }
    }
}
