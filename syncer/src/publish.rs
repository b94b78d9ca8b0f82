//! What the super cluster publishes to tenants: nodes, and events about their objects.

use crate::{
    apply::{self, Failure},
    client::{Error, Preconditions},
    downward::read,
    engine::Engine,
    tenants::Tenant,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tenancy::{
    kind::{self, Upward, UpwardVerb},
    meta,
    object::Object,
    plan::holds,
    tenant::Key,
};

/// The parts of a published object that are compared: what Sublet writes, and nothing that the server adds.
pub(crate) fn comparable(object: &Object) -> Value {
    json!({
        "labels": object.at("/metadata/labels"), "spec": object.at("/spec"), "status": object.at("/status"),
    })
}

/// Brings one published object into one tenant, or takes it out.
pub(crate) async fn work(engine: &Engine, tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let rule = key.kind();
    let path = rule.resource().path("", &key.name);
    let object = match tenant.up.take(key) {
        Some(object) => Some(object),
        None => read(&engine.cluster, &path).await?.map(Into::into),
    };
    let want = object.and_then(|object| tenant.with_cx(|cx| rule.publish(&object, "", cx)));
    let have = read(&tenant.cluster, &path).await?;
    let stored = match (want, have) {
        (None, None) => return Ok(()),
        (None, Some(have)) => return retire(tenant, key, &path, &have).await,
        (Some(want), None) => {
            let create = Upward {
                subresource: None,
                verb: UpwardVerb::Create,
                body: want.into_value(),
            };
            apply::upward(tenant, &rule.resource().path("", ""), "", &create).await?
        }
        (Some(want), Some(have)) => {
            let mut stored = have.value().clone();
            for write in differences(&want, &have) {
                stored = apply::upward(tenant, &path, have.uid(), &write).await?;
            }
            stored
        }
    };
    let stored = Object::from_value(stored)
        .map_err(|err| Failure::Api(Error::Malformed(err.to_string())))?;
    let state = meta::fingerprint(&comparable(&stored));
    tenant.table.update(key, |entry| {
        entry.published = state;
        if entry.tenant.is_none() {
            entry.tenant = Some(crate::table::TenantSide {
                uid: stored.uid().into(),
                version: stored.resource_version(),
                intent: state,
                projection: 0,
                node: None,
            });
        }
    });
    Ok(())
}

/// The patches that make `have` say what `want` says; server defaults are no difference.
fn differences(want: &Object, have: &Object) -> Vec<Upward> {
    let merge = |subresource, body| Upward {
        subresource,
        verb: UpwardVerb::Merge,
        body,
    };
    let part = |object: &Object, pointer| object.at(pointer).cloned().unwrap_or_default();
    let mut writes = vec![];
    let same_labels = part(want, "/metadata/labels") == part(have, "/metadata/labels");
    let unschedulable =
        |object: &Object| object.at("/spec/unschedulable") == Some(&Value::Bool(true));
    if !same_labels
        || unschedulable(want) != unschedulable(have)
        || have.at("/spec/taints").is_some()
    {
        // A merge patch keeps what it doesn't name, so keys that must go are named with null.
        let mut labels = part(want, "/metadata/labels");
        for (key, _) in have.labels() {
            if labels.get(key).is_none() {
                labels[key] = Value::Null;
            }
        }
        let spec = json!({"unschedulable": if unschedulable(want) { Value::Bool(true) } else { Value::Null }, "taints": null});
        writes.push(merge(
            None,
            json!({"metadata": {"labels": labels}, "spec": spec}),
        ));
    }
    let (wanted, now) = (part(want, "/status"), part(have, "/status"));
    if !holds(&now, &wanted) || now.get("images").is_some() {
        let mut status = wanted;
        status["images"] = Value::Null;
        writes.push(merge(Some("status"), json!({"status": status})));
    }
    writes
}

/// Takes a published object out of the tenant, unless one of its pods is still bound to it.
async fn retire(tenant: &Tenant, key: &Key, path: &str, have: &Object) -> Result<(), Failure> {
    if have.label("sublet.dev/virtual").is_none() {
        // The tenant's own object; it was never published.
        return Ok(());
    }
    let pods = tenant.table.keys(kind::index("Pod"), |entry| {
        entry
            .tenant
            .as_ref()
            .is_some_and(|side| side.node.as_deref() == Some(&*key.name))
    });
    if !pods.is_empty() {
        return Err(Failure::Waiting(
            "pods of the tenant are still bound to the node",
        ));
    }
    let preconditions = Preconditions {
        uid: have.uid(),
        resource_version: None,
        grace: None,
    };
    apply::delete(&tenant.cluster, tenant, path, &preconditions).await?;
    tenant.table.update(key, |entry| entry.published = 0);
    Ok(())
}

/// Copies one event to the tenant that it is about.
pub(crate) async fn copy(tenant: &Tenant, key: &Key) -> Result<(), Failure> {
    let rule = key.kind();
    // Only the newest state of an event is worth anything: without it there is nothing to do.
    let Some(object) = tenant.up.take(key) else {
        return Ok(());
    };
    let Some(event) = tenant.with_cx(|cx| rule.publish(&object, &key.namespace, cx)) else {
        return look_again(tenant, key, object);
    };
    tenant.early_events.lock().remove(key);
    let create = Upward {
        subresource: None,
        verb: UpwardVerb::Create,
        body: event.into_value(),
    };
    match apply::upward(
        tenant,
        &rule.resource().path(&key.namespace, ""),
        "",
        &create,
    )
    .await
    {
        Err(Failure::Api(Error::AlreadyExists)) => {
            let path = rule.resource().path(&key.namespace, &key.name);
            let mut body = create.body;
            if let Some(event) = body.as_object_mut() {
                // A merge patch that sets metadata to null would take the event's name away.
                event.remove("metadata");
            }
            let merge = Upward {
                subresource: None,
                verb: UpwardVerb::Merge,
                body,
            };
            apply::upward(tenant, &path, "", &merge).await.map(drop)
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

    fn node(labels: Value, spec: Value, status: Value) -> Object {
        Object::from_value(
            json!({"metadata": {"name": "n", "labels": labels}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn what_the_tenant_changed_on_a_virtual_node_is_undone() {
        let want = node(
            json!({"a": "1"}),
            json!({}),
            json!({"capacity": {"cpu": "2"}}),
        );
        let same = node(
            json!({"a": "1"}),
            json!({}),
            json!({"capacity": {"cpu": "2"}, "daemonEndpoints": {}}),
        );
        assert_eq!(differences(&want, &same), vec![]);
        let edited = node(
            json!({"a": "1", "mine": "x"}),
            json!({"taints": [{"key": "k"}]}),
            json!({"capacity": {"cpu": "9"}}),
        );
        let writes = differences(&want, &edited);
        assert_eq!(
            writes[0].body["metadata"]["labels"],
            json!({"a": "1", "mine": null})
        );
        assert_eq!(writes[0].body["spec"]["taints"], Value::Null);
        assert_eq!(writes[1].body["status"]["capacity"]["cpu"], "2");
    }
}
