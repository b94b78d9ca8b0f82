//! What the super cluster publishes to tenants: nodes, classes, volumes, and events about their objects.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    gate::Basis,
    intake::twin_name,
    live::read,
    patrol,
    table::TenantSide,
    tenants::Tenant,
};
use std::sync::Arc;
use tenancy::{
    kind::{self, SuperWatch, Upward, UpwardVerb, Withdrawal},
    meta,
    object::Object,
    tenant::Key,
};

/// Why a tenant loses what was published to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The super cluster has it no more.
    Gone,
    /// It is there, and the tenant isn't shown it, or it is made anew.
    Hidden,
}

/// Brings one published object into one tenant, or takes it out.
pub(crate) async fn work(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    if bring(engine, tenant, key).await? == Outcome::Written {
        patrol::mended(engine, tenant, key);
    }
    Ok(())
}

/// Whether the tenant's copy was as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Written,
}

async fn bring(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<Outcome, Failure> {
    let rule = key.kind();
    let path = rule.resource().path(&key.namespace, &key.name);
    let mut loss = Loss::Hidden;
    let want = if is_withheld(engine, tenant, key) {
        tenant.up.take(key);
        None
    } else {
        let object = super_object(engine, tenant, key).await?;
        if object.is_none() {
            loss = Loss::Gone;
        }
        object.and_then(|object| shown(engine, tenant, key, &object))
    };
    let have = match read(&tenant.cluster, &path).await {
        // The tenant doesn't serve the kind; when it does, its first list brings all keys back.
        Err(Failure::Api(Error::NotServed)) => return Ok(Outcome::Right),
        other => other?,
    };
    let is_ours = |have: &Object| {
        rule.is_published_copy(have) || {
            let entry = tenant.table.get(key);
            entry.published != 0 && entry.tenant.is_some_and(|side| *side.uid == *have.uid())
        }
    };
    let (stored, outcome) = match (want, have) {
        (None, None) => {
            tenant.table.update(key, |entry| {
                entry.published = 0;
                entry.tenant = None;
            });
            return Ok(Outcome::Right);
        }
        (None, Some(have)) if is_ours(&have) => {
            if rule.super_watch() == SuperWatch::Placed {
                // Nobody's only once it is known what the tenant has.
                tenant.gate.check(key.kind, Basis::Inferred)?;
            }
            return withdraw(tenant, key, &path, &have, loss).await;
        }
        (None, Some(_)) => return Ok(Outcome::Right),
        (Some(want), None) => {
            let collection = rule.resource().path(&key.namespace, "");
            let create = Upward {
                subresource: None,
                verb: UpwardVerb::Create,
                body: want.value().clone(),
                shows: None,
            };
            let stored = match apply::upward(tenant, &collection, "", create).await {
                // The tenant's API server won't have it: a second default, a reserved name.
                Err(Failure::Api(Error::Invalid(message) | Error::Forbidden(message))) => {
                    tracing::warn!(tenant = %tenant.id, %key, %message, "the tenant refuses what is published to it");
                    return Ok(Outcome::Right);
                }
                other => parse(other?)?,
            };
            // A create says nothing of the status.
            let (stored, _) = repair(tenant, key, &path, &want, stored).await?;
            (stored, Outcome::Written)
        }
        (Some(_), Some(have)) if !is_ours(&have) && !rule.takes_over() => {
            tracing::debug!(tenant = %tenant.id, %key, "the tenant has an object of its own of that name");
            return Ok(Outcome::Right);
        }
        (Some(want), Some(have)) => repair(tenant, key, &path, &want, have).await?,
    };
    let state = meta::fingerprint(&rule.published_state(&stored));
    tenant.table.update(key, |entry| {
        entry.published = state;
        if entry
            .tenant
            .as_ref()
            .is_none_or(|side| *side.uid != *stored.uid())
        {
            entry.tenant = Some(TenantSide::published(&stored, state));
        }
    });
    Ok(outcome)
}

/// Whether the tenant isn't shown the object whatever it holds: of what a super cluster has, definitions of resources
/// above all, most is offered to few, and is read for those alone.
pub(crate) fn is_withheld(engine: &Engine, tenant: &Tenant, key: &Key) -> bool {
    let rule = key.kind();
    let may = |labelled| tenant.with_cx(|cx| rule.may_be_shown(&key.name, labelled, cx));
    rule.super_watch() == SuperWatch::Published
        && engine.offered.is_labelled(key).is_some_and(|it| !may(it))
}

/// The super object of the newest event, or else a live read.
async fn super_object(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
) -> Result<Option<Arc<Object>>, Failure> {
    if let Some(object) = tenant.up.take(key) {
        return Ok(Some(object));
    }
    let rule = key.kind();
    let namespace = match rule.super_watch() {
        SuperWatch::Published => engine.offered.namespace(key),
        _ => twin_name(tenant, key).namespace,
    };
    let path = rule.resource().path(&namespace, &key.name);
    match read(&engine.cluster, &path).await {
        Err(Failure::Api(Error::NotServed)) => Ok(None),
        other => Ok(other?.map(Arc::new)),
    }
}

/// What the tenant must hold for the super object, if it may see it.
fn shown(engine: &Engine, tenant: &Tenant, key: &Key, object: &Object) -> Option<Object> {
    let rule = key.kind();
    if rule.super_watch() == SuperWatch::Published {
        return tenant.with_cx(|cx| rule.publish(object, rule.published_namespace(), cx));
    }
    let place = rule.placed_in(object).to_owned();
    let (owner, namespace) = engine.twins.get(&place)?.value().clone();
    (owner == tenant.id)
        .then(|| tenant.with_cx(|cx| rule.publish(object, &namespace, cx)))
        .flatten()
}

/// Makes the tenant's object what it must be; one that can't be changed into it is made anew.
async fn repair(
    tenant: &Tenant,
    key: &Key,
    path: &str,
    want: &Object,
    have: Object,
) -> Result<(Object, Outcome), Failure> {
    let (mut stored, mut outcome) = (have, Outcome::Right);
    for write in key.kind().published_changes(want, &stored.clone()) {
        let is_whole = write.subresource.is_none();
        match apply::upward(tenant, path, stored.uid(), write).await {
            Err(Failure::Api(Error::Invalid(message))) if is_whole => {
                tracing::info!(tenant = %tenant.id, %key, %message, "making a published object anew");
                withdraw(tenant, key, path, &stored, Loss::Hidden).await?;
                return Err(Failure::Waiting("a published object is made anew"));
            }
            other => stored = parse(other?)?,
        }
        outcome = Outcome::Written;
    }
    Ok((stored, outcome))
}

fn parse(stored: serde_json::Value) -> Result<Object, Failure> {
    Object::from_value(stored).map_err(|err| Failure::Api(Error::Malformed(err.to_string())))
}

/// Takes a published object out of the tenant, unless one of its pods is still bound to it.
async fn withdraw(
    tenant: &Tenant,
    key: &Key,
    path: &str,
    have: &Object,
    loss: Loss,
) -> Result<Outcome, Failure> {
    if key.kind().resource().kind == "Node" && is_in_use(tenant, &key.name, loss).await? {
        return Err(Failure::Rests(
            "pods of the tenant are still bound to the node",
        ));
    }
    let first = match key.kind().withdrawal(have) {
        Withdrawal::Delete => None,
        Withdrawal::DeleteAfter(write) => Some(write),
        Withdrawal::Release(write) => {
            apply::upward(tenant, path, have.uid(), write).await?;
            tenant.table.update(key, |entry| entry.published = 0);
            return Ok(Outcome::Written);
        }
    };
    if have.is_terminating() && first.is_none() {
        return Ok(Outcome::Right);
    }
    if let Some(write) = first {
        apply::upward(tenant, path, have.uid(), write).await?;
    }
    tracing::info!(tenant = %tenant.id, %key, "no longer published to the tenant");
    let preconditions = Preconditions {
        uid: have.uid(),
        resource_version: None,
        grace: None,
    };
    apply::delete(&tenant.cluster, tenant, path, &preconditions, "withdrawn").await?;
    tenant.table.update(key, |entry| entry.published = 0);
    Ok(Outcome::Written)
}

/// Whether a pod of the tenant is bound to a node. Of one that is gone, a pod that has ended needs nothing any more: else
/// its record would keep a node for ever that nobody has.
async fn is_in_use(tenant: &Tenant, node: &str, loss: Loss) -> Result<bool, Failure> {
    // While its pods aren't all known, one may be there.
    let pods = kind::index("Pod");
    tenant.gate.known(pods, Basis::Inferred)?;
    if tenant.untaken.has(pods) {
        // Nobody knows where those are that weren't taken in.
        return Ok(true);
    }
    let pods = tenant.table.keys(pods, |entry| entry.is_on(node));
    if loss == Loss::Hidden {
        return Ok(!pods.is_empty());
    }
    for key in pods {
        let path = key.kind().resource().path(&key.namespace, &key.name);
        let pod = read(&tenant.cluster, &path).await?;
        if pod.is_some_and(|pod| !kind::is_finished(&pod)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies one event to the tenant that it is about.
pub(crate) async fn copy(tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let rule = key.kind();
    // Only the newest state of an event is worth anything: without it there is nothing to do.
    let Some(object) = tenant.up.take(key) else {
        tenant.early_events.lock().remove(key);
        return Ok(());
    };
    let Some(event) = tenant.with_cx(|cx| rule.publish(&object, &key.namespace, cx)) else {
        return look_again(tenant, key, object);
    };
    tenant.early_events.lock().remove(key);
    let mut body = event.into_value();
    let create = Upward {
        subresource: None,
        verb: UpwardVerb::Create,
        body: body.clone(),
        shows: None,
    };
    let collection = rule.resource().path(&key.namespace, "");
    match apply::upward(tenant, &collection, "", create).await {
        Err(Failure::Api(Error::AlreadyExists)) => {
            let path = rule.resource().path(&key.namespace, &key.name);
            if let Some(event) = body.as_object_mut() {
                // A merge patch that sets metadata to null would take the event's name away.
                event.remove("metadata");
            }
            let merge = Upward {
                subresource: None,
                verb: UpwardVerb::Merge,
                body,
                shows: None,
            };
            apply::upward(tenant, &path, "", merge).await.map(drop)
        }
        // The namespace is going, or the object's name is too long for an event's: an event is help, not truth.
        Err(Failure::Api(Error::NotFound | Error::Forbidden(_) | Error::Invalid(_))) => Ok(()),
        other => other.map(drop),
    }
}

/// The event may be ahead of the answer to the create that it is about: it is looked at once more.
fn look_again(tenant: &Tenant, key: &Key, event: Arc<Object>) -> Result<(), Failure> {
    let mut early = tenant.early_events.lock();
    if early.remove(key) {
        return Ok(());
    }
    early.insert(key.clone());
    tenant.up.put(key.clone(), event);
    Err(Failure::Waiting(
        "the object that the event is about isn't known yet",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, Server, fake, tenant},
        table::Entry,
    };
    use serde_json::{Value, json};

    /// A tenant that was shown the node `n`, to which its pod is bound, and both of its API servers.
    fn with_a_pod_on_a_node() -> (Engine, Tenant, Key, [Server; 2]) {
        let ((above, super_server), (own, tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        let pod = Key::new(kind::index("Pod"), "work", "web");
        tenant.table.update(&pod, |entry| {
            let pod = Object::from_value(json!({"metadata": {"uid": "p"}})).unwrap();
            entry.tenant = Some(TenantSide {
                node: Some("n".into()),
                ..TenantSide::published(&pod, 0)
            });
            let mut twin = fake::super_side("s", "p");
            twin.node = Some("n".into());
            entry.twin = Some(twin);
        });
        let node = Key::new(kind::index("Node"), "", "n");
        (engine, tenant, node, [super_server, tenant_server])
    }

    /// It may be one of those that nobody remembers that is bound to it.
    #[tokio::test]
    async fn a_node_stays_while_not_all_pods_of_its_tenant_are_taken_in() {
        let (cluster, _server) = fake();
        let tenant = tenant(&cluster);
        fake::list_all(&tenant);
        for is_kept in [false, true] {
            let used = is_in_use(&tenant, "n", Loss::Gone).await;
            assert_eq!(used.unwrap(), is_kept);
            crate::untaken::met(&tenant, kind::index("Pod"));
        }
    }

    fn node() -> Value {
        let labels = json!({"sublet.dev/virtual": "true"});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "v", "labels": labels}})
    }

    fn pod(phase: &str) -> Value {
        let metadata = json!({"name": "web", "namespace": "work", "uid": "p"});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": phase}})
    }

    #[tokio::test]
    async fn f21_a_node_that_vanished_goes_once_no_pod_on_it_runs_any_more() {
        let (engine, tenant, key, [mut above, mut own]) = with_a_pod_on_a_node();
        let gone = json!({"kind": "Status", "code": 404});
        let answers = async {
            above.answer("GET", 404, &gone).await;
            own.answer("GET", 200, &node()).await;
            own.answer("GET", 200, &pod("Running")).await;
        };
        let (waits, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(matches!(waits, Err(Failure::Rests(_))), "{waits:?}");
        assert!(own.is_silent());
        let answers = async {
            above.answer("GET", 404, &gone).await;
            own.answer("GET", 200, &node()).await;
            own.answer("GET", 200, &pod("Failed")).await;
            own.answer("DELETE", 200, &json!({})).await
        };
        let (goes, deletion) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(goes.is_ok(), "{goes:?}");
        assert_eq!(deletion.path, "/api/v1/nodes/n");
        assert_eq!(deletion.body["preconditions"]["uid"], "v");
    }

    /// Works a node that is on both sides.
    async fn worked(
        engine: &Engine,
        tenant: &Tenant,
        key: &Key,
        [above, own]: [&mut Server; 2],
    ) -> Result<(), Failure> {
        let answers = async {
            above.answer("GET", 200, &node()).await;
            own.answer("GET", 200, &node()).await;
        };
        tokio::join!(work(engine, tenant, key), answers).0
    }

    /// A tenant that is shown used nodes alone, and its node.
    fn with_used_nodes() -> (Engine, Tenant, Key, [Server; 2]) {
        let (engine, tenant, key, servers) = with_a_pod_on_a_node();
        let mut rules = (*tenant.rules()).clone();
        rules.nodes = api::ShownNodes::Used;
        tenant.revise(rules, tenant.record());
        (engine, tenant, key, servers)
    }

    #[tokio::test]
    async fn a_node_is_shown_for_the_pod_on_it_and_goes_with_the_last() {
        let (engine, tenant, key, [mut above, mut own]) = with_used_nodes();
        let gone = json!({"kind": "Status", "code": 404});
        let answers = async {
            above.answer("GET", 200, &node()).await;
            own.answer("GET", 404, &gone).await;
            let made = own.answer("POST", 201, &node()).await;
            own.answer("PATCH", 200, &node()).await;
            made
        };
        let (shown, made) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(shown.is_ok(), "{shown:?}");
        assert_eq!(made.body["metadata"]["name"], "n");
        let pod = Key::new(kind::index("Pod"), "work", "web");
        tenant.table.update(&pod, |entry| *entry = Entry::default());
        let answers = async {
            above.answer("GET", 200, &node()).await;
            own.answer("GET", 200, &node()).await;
            own.answer("DELETE", 200, &json!({})).await
        };
        let (goes, deletion) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(goes.is_ok(), "{goes:?}");
        assert_eq!(deletion.body["preconditions"]["uid"], "v");
    }

    /// The tenant can write any name into its pods; it makes the node neither one that it sees nor one that it may ask for.
    #[tokio::test]
    async fn t9_a_node_that_the_tenants_pod_merely_names_is_not_shown() {
        for bound_to in [None, Some("other")] {
            let (engine, tenant, key, [mut above, mut own]) = with_used_nodes();
            let pod = Key::new(kind::index("Pod"), "work", "web");
            tenant.table.update(&pod, |entry| {
                entry.twin.as_mut().unwrap().node = bound_to.map(Into::into);
            });
            assert!(!tenant.with_cx(|cx| cx.facts.runs_on("n")));
            let answers = async {
                above.answer("GET", 200, &node()).await;
                let gone = json!({"kind": "Status", "code": 404});
                own.answer("GET", 404, &gone).await;
            };
            let (worked, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
            assert!(worked.is_ok(), "{worked:?}");
            assert!(own.is_silent());
        }
    }

    /// The node, kept by a taint for others than the tenant.
    fn kept() -> Value {
        let mut node = node();
        node["spec"]["taints"] =
            json!([{"key": "customer", "value": "globex", "effect": "NoSchedule"}]);
        node
    }

    #[tokio::test]
    async fn a_node_that_is_kept_for_others_stays_for_the_pod_on_it_and_goes_with_the_last() {
        let (engine, tenant, key, [mut above, mut own]) = with_a_pod_on_a_node();
        let answers = async {
            above.answer("GET", 200, &kept()).await;
            own.answer("GET", 200, &node()).await;
            let tainted = own.answer("PATCH", 200, &node()).await;
            own.answer("PATCH", 200, &node()).await;
            tainted
        };
        let (stays, tainted) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(stays.is_ok(), "{stays:?}");
        let taints = json!([{"key": "sublet.dev/kept-for-others", "effect": "NoSchedule"}]);
        assert_eq!(tainted.body["spec"]["taints"], taints);
        let pod = Key::new(kind::index("Pod"), "work", "web");
        // The pod in the tenant outlives its super pod for a moment.
        tenant.table.update(&pod, |entry| entry.twin = None);
        let answers = async {
            above.answer("GET", 200, &kept()).await;
            own.answer("GET", 200, &node()).await;
        };
        let (waits, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(matches!(waits, Err(Failure::Rests(_))), "{waits:?}");
        tenant.table.update(&pod, |entry| *entry = Entry::default());
        let answers = async {
            above.answer("GET", 200, &kept()).await;
            own.answer("GET", 200, &node()).await;
            own.answer("DELETE", 200, &json!({})).await
        };
        let (goes, deletion) = tokio::join!(work(&engine, &tenant, &key), answers);
        assert!(goes.is_ok(), "{goes:?}");
        assert_eq!(deletion.body["preconditions"]["uid"], "v");
    }

    /// Else the tenant's own controllers would take the pod for lost.
    #[tokio::test]
    async fn a_used_node_stays_while_a_pod_in_the_tenant_is_bound_to_it_whose_super_pod_is_gone() {
        let (engine, tenant, key, [mut above, mut own]) = with_used_nodes();
        let pod = Key::new(kind::index("Pod"), "work", "web");
        tenant.table.update(&pod, |entry| entry.twin = None);
        let waits = worked(&engine, &tenant, &key, [&mut above, &mut own]).await;
        assert!(matches!(waits, Err(Failure::Rests(_))), "{waits:?}");
        assert!(own.is_silent());
    }

    #[tokio::test]
    async fn what_the_patrol_suspected_of_a_copy_counts_as_repaired_once_it_is_written() {
        for (labels, repaired) in [(json!({"sublet.dev/virtual": "true"}), 0), (json!({}), 1)] {
            let (engine, tenant, key, [mut above, mut own]) = with_a_pod_on_a_node();
            tenant.suspected.lock().insert(key.clone());
            let answers = async {
                above.answer("GET", 200, &node()).await;
                let want = tenant.with_cx(|cx| {
                    key.kind()
                        .publish(&Object::from_value(node()).unwrap(), "", cx)
                });
                let mut have = want.unwrap().into_value();
                have["metadata"]["uid"] = "v".into();
                have["metadata"]["labels"] = labels;
                own.answer("GET", 200, &have).await;
                if repaired > 0 {
                    own.answer("PATCH", 200, &node()).await;
                }
            };
            let (shown, ()) = tokio::join!(work(&engine, &tenant, &key), answers);
            assert!(shown.is_ok(), "{shown:?}");
            assert!(own.is_silent());
            let left = tenant.suspected.lock().len();
            assert_eq!(left, 1 - repaired);
        }
    }

    #[tokio::test]
    async fn no_node_goes_while_the_pods_of_the_tenant_are_not_all_known() {
        let (engine, tenant, key, [mut above, mut own]) = with_used_nodes();
        let pod = Key::new(kind::index("Pod"), "work", "web");
        tenant.table.update(&pod, |entry| *entry = Entry::default());
        tenant.gate.interrupted(pod.kind, "refused");
        let waits = worked(&engine, &tenant, &key, [&mut above, &mut own]).await;
        assert!(waits.is_err());
        assert!(own.is_silent());
    }

    /// Its log can still be read there.
    #[tokio::test]
    async fn a_node_that_is_shown_no_more_stays_as_long_as_any_pod_is_bound_to_it() {
        let (engine, tenant, key, [mut above, mut own]) = with_a_pod_on_a_node();
        let mut rules = (*tenant.rules()).clone();
        rules.node_selector.insert("pool".into(), "other".into());
        tenant.revise(rules, tenant.record());
        let waits = worked(&engine, &tenant, &key, [&mut above, &mut own]).await;
        assert!(matches!(waits, Err(Failure::Rests(_))), "{waits:?}");
        assert!(own.is_silent());
    }
}
