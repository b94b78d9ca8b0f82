//! Keeps the NetworkPolicies that isolate tenants: each stands before the first pod of its namespace is made, and one that
//! somebody edits or deletes is made good at once.
//!
//! They have no twin in the tenant, so the fingerprints don't know them: how they stand is remembered here, by what the
//! watch of NetworkPolicies tells.

use crate::{
    apply::{self, Failure},
    client::Preconditions,
    engine::Engine,
    error::Error,
    live::read,
    tenants::Tenant,
};
use dashmap::DashMap;
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tenancy::{
    kind::{
        self,
        isolation::{self, RESOURCE},
    },
    object::Object,
    plan::Patch,
    sharing,
    tenant::{Key, TenantId},
};

/// How the isolating policies of all super namespaces stand.
#[derive(Default)]
pub(crate) struct Isolation {
    standing: DashMap<String, HashMap<String, Standing>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Standing {
    uid: Arc<str>,
    version: u64,
    spec: u128,
}

impl Isolation {
    fn get(&self, namespace: &str, name: &str) -> Option<Standing> {
        self.standing.get(namespace)?.get(name).cloned()
    }

    /// Remembers how a policy stands, unless something newer is known of it; returns how it stood before.
    fn note(&self, policy: &Object) -> Option<Standing> {
        let standing = Standing {
            uid: policy.uid().into(),
            version: policy.resource_version(),
            spec: isolation::fingerprint(policy),
        };
        let mut policies = self
            .standing
            .entry(policy.namespace().to_owned())
            .or_default();
        let before = policies.get(policy.name()).cloned();
        let is_late = before
            .as_ref()
            .is_some_and(|before| before.uid == standing.uid && before.version > standing.version);
        if !is_late {
            policies.insert(policy.name().to_owned(), standing);
        }
        before
    }

    /// Forgets a policy if it is the one that is known.
    fn forget(&self, namespace: &str, name: &str, uid: Option<&str>) {
        if let Some(mut policies) = self.standing.get_mut(namespace)
            && policies
                .get(name)
                .is_some_and(|known| uid.is_none_or(|uid| *known.uid == *uid))
        {
            policies.remove(name);
        }
        self.standing
            .remove_if(namespace, |_, policies| policies.is_empty());
    }
}

/// An object without an owner exists in this state.
pub(crate) fn seen(engine: &Engine, object: &Object) {
    if !isolation::is_ours(object) {
        return;
    }
    let before = engine.isolation.note(object);
    if before.is_some_and(|before| before.spec != isolation::fingerprint(object)) {
        suspect(engine, object.namespace(), object.name());
    }
}

/// An object without an owner is gone.
pub(crate) fn gone(engine: &Engine, object: &Object) {
    if isolation::is_ours(object) {
        // First, so that `hold`, which remembers and then asks, either finds it ended or is forgotten below.
        if let Some((id, key)) = made_for(engine, object.namespace(), object.name()) {
            engine.table(&id).ended(&key, object.uid());
        }
        engine
            .isolation
            .forget(object.namespace(), object.name(), Some(object.uid()));
        suspect(engine, object.namespace(), object.name());
    }
}

/// All super objects of a kind were listed: NetworkPolicies that weren't among them are gone.
pub(crate) fn listed(engine: &Engine, kind: u8, seen: &HashSet<Key>) {
    if kind != kind::index(RESOURCE.kind) {
        return;
    }
    let mut missing = vec![];
    for namespace in &engine.isolation.standing {
        for name in namespace.value().keys() {
            if !seen.contains(&Key::new(kind, namespace.key(), name)) {
                missing.push((namespace.key().clone(), name.clone()));
            }
        }
    }
    for (namespace, name) in missing {
        engine.isolation.forget(&namespace, &name, None);
        suspect(engine, &namespace, &name);
    }
}

/// What a policy was made for isn't whole until it has been worked again: no pod is made in the namespace meanwhile.
fn suspect(engine: &Engine, twin: &str, policy: &str) {
    let Some((id, key)) = made_for(engine, twin, policy) else {
        return;
    };
    engine.table(&id).suspect(&key);
    if engine.tenant(&id).is_some() {
        engine.down.add(&id, key);
    }
}

/// The tenant and the object that a policy was made for.
fn made_for(engine: &Engine, twin: &str, policy: &str) -> Option<(TenantId, Key)> {
    let (id, namespace) = engine.twins.get(twin).map(|entry| entry.value().clone())?;
    let key = match isolation::service_of(policy) {
        Some(service) => Key::new(kind::index("Service"), &namespace, service),
        None => Key::new(kind::index("Namespace"), "", &namespace),
    };
    Some((id, key))
}

/// Makes the policies beside a super object what they must be.
pub(crate) async fn keep(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    twin: &Object,
) -> Result<(), Failure> {
    let mut wanted = tenant.with_cx(|cx| key.kind().isolation(object, cx));
    if key.kind().resource().kind == "Service" {
        // It ends with the Service.
        for policy in &mut wanted {
            policy.value_mut()["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Service", "name": twin.name(), "uid": twin.uid(),
            }]);
        }
        if wanted.is_empty() {
            return take_away(engine, tenant, twin).await;
        }
    }
    for policy in &wanted {
        hold(engine, tenant, key, policy).await?;
    }
    if key.kind().resource().kind == "Namespace" {
        close(engine, tenant, twin.name(), &wanted).await?;
    }
    Ok(())
}

/// Removes policies of a namespace that opened Services which are shared no more.
async fn close(
    engine: &Engine,
    tenant: &Tenant,
    namespace: &str,
    wanted: &[Object],
) -> Result<(), Failure> {
    let names: Vec<String> = {
        let standing = engine.isolation.standing.get(namespace);
        standing
            .iter()
            .flat_map(|policies| policies.keys())
            .filter(|name| sharing::is_policy(name))
            .filter(|name| !wanted.iter().any(|policy| policy.name() == name.as_str()))
            .cloned()
            .collect()
    };
    for name in names {
        remove(engine, tenant, namespace, &name).await?;
    }
    Ok(())
}

async fn hold(engine: &Engine, tenant: &Tenant, key: &Key, want: &Object) -> Result<(), Failure> {
    let spec = isolation::fingerprint(want);
    let stands = engine.isolation.get(want.namespace(), want.name());
    if stands.is_some_and(|standing| standing.spec == spec) {
        return Ok(());
    }
    let stored = match apply::create(&engine.cluster, tenant, RESOURCE, want).await {
        Err(Failure::Api(Error::AlreadyExists)) => mend(engine, tenant, want).await?,
        other => other?,
    };
    engine.isolation.note(&stored);
    if tenant.table.has_ended(key, stored.uid()) {
        // Its end was told before the answer came.
        engine
            .isolation
            .forget(want.namespace(), want.name(), Some(stored.uid()));
        return Err(Failure::Waiting("the NetworkPolicy went away"));
    }
    Ok(())
}

async fn mend(engine: &Engine, tenant: &Tenant, want: &Object) -> Result<Object, Failure> {
    let path = RESOURCE.path(want.namespace(), want.name());
    let Some(have) = read(&engine.cluster, &path).await? else {
        return Err(Failure::Waiting("the NetworkPolicy went away"));
    };
    let owner = api::keys::TENANT;
    if !isolation::is_ours(&have) || have.label(owner) != want.label(owner) {
        tracing::warn!(tenant = %tenant.id, policy = want.name(), namespace = want.namespace(), "a NetworkPolicy that Sublet didn't make has the name of one that isolates the tenant: remove it");
        return Err(Failure::Waiting(
            "a NetworkPolicy that Sublet didn't make has the name of one that isolates the namespace",
        ));
    }
    if isolation::fingerprint(&have) == isolation::fingerprint(want) {
        return Ok(have);
    }
    let operation = json!({"op": "replace", "path": "/spec", "value": want.at("/spec")});
    let patch = Patch {
        subresource: None,
        operations: vec![operation],
    };
    apply::patch(&engine.cluster, tenant, RESOURCE, &have, &[patch]).await
}

/// Removes the policy of a Service that has no port outside any more.
async fn take_away(engine: &Engine, tenant: &Tenant, service: &Object) -> Result<(), Failure> {
    let name = isolation::service_policy(service.name());
    remove(engine, tenant, service.namespace(), &name).await
}

/// Removes a policy, if it stands.
async fn remove(
    engine: &Engine,
    tenant: &Tenant,
    namespace: &str,
    name: &str,
) -> Result<(), Failure> {
    let Some(standing) = engine.isolation.get(namespace, name) else {
        return Ok(());
    };
    let preconditions = Preconditions {
        uid: &standing.uid,
        ..Preconditions::default()
    };
    let path = RESOURCE.path(namespace, name);
    apply::delete(&engine.cluster, tenant, &path, &preconditions, "unneeded").await?;
    engine
        .isolation
        .forget(namespace, name, Some(&standing.uid));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, tenant};

    fn policy(uid: &str, version: &str) -> Object {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {
                "name": "sublet-egress", "namespace": "acme-work", "uid": uid, "resourceVersion": version,
                "labels": {api::keys::ROLE: api::keys::ROLE_ISOLATION},
            },
            "spec": {"podSelector": {}, "policyTypes": [version]},
        });
        Object::from_value(policy).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_whose_end_is_told_before_its_making_is_answered_does_not_stand() {
        let (cluster, mut server) = fake();
        let engine = fake::engine(&cluster);
        engine.guard.let_pass();
        let tenant = Arc::new(tenant(&cluster));
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        engine
            .tables
            .insert(tenant.id.clone(), tenant.table.clone());
        let owner = (tenant.id.clone(), Arc::from("work"));
        engine.twins.insert("acme-work".into(), owner);
        let key = Key::new(kind::index("Namespace"), "", "work");
        let made = policy("u1", "7");
        let under_way = tenant.table.write(&key);
        seen(&engine, &made);
        gone(&engine, &made);
        let (held, _) = tokio::join!(
            hold(&engine, &tenant, &key, &made),
            server.answer("POST", 201, made.value()),
        );
        assert!(held.is_err());
        assert!(engine.isolation.get("acme-work", "sublet-egress").is_none());
        drop(under_way);
        let (held, _) = tokio::join!(
            hold(&engine, &tenant, &key, &made),
            server.answer("POST", 201, made.value()),
        );
        assert!(held.is_ok());
    }

    #[test]
    fn an_answer_that_comes_late_hides_no_newer_edit() {
        let isolation = Isolation::default();
        isolation.note(&policy("u1", "8"));
        isolation.note(&policy("u1", "7"));
        let standing = isolation.get("acme-work", "sublet-egress").unwrap();
        assert_eq!(standing.version, 8);
    }
}
