//! Turns events of both sides into fingerprints and keys.

mod super_cluster;
mod tenant;

pub(crate) use super_cluster::{SuperSink, publish, published_key, seen_in_super, withdraw};
pub(crate) use tenant::{TenantSink, found_in_tenant, gone_in_tenant, take_in_late};

use crate::{
    engine::Engine,
    nodes, quota, super_bytes,
    table::{Entry, Roll},
    tenants::Tenant,
};
use serde_json::Value;
use tenancy::{kind, meta, object::Object, tenant::Key};

/// Namespace and name, UID, and version, as they stand in an object's metadata.
fn identity(metadata: &Value) -> Option<((&str, &str), &str, u64)> {
    let text = |field| metadata.get(field).and_then(Value::as_str);
    let place = (text("namespace").unwrap_or_default(), text("name")?);
    Some((place, text("uid")?, text("resourceVersion")?.parse().ok()?))
}

/// What told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// One of many, of which some may be overtaken by answers and reads: a state older than what is known is no news.
    Event,
    /// The list that a watch goes on from. It holds whatever was known: an older state is that of a store that went back, or
    /// the events that follow tell of the newer one.
    List,
}

impl Source {
    fn of(roll: &Roll) -> Self {
        if roll.is_open() {
            Self::List
        } else {
            Self::Event
        }
    }
}

/// Definitions make kinds, so who waits for a kind looks again when one changes.
const DEFINITION: &str = "CustomResourceDefinition";

impl Engine {
    /// What a tenant is offered changed: what was refused may cross now, and what follows from an offer is shown or not.
    pub(crate) fn reconsider(&self, tenant: &Tenant) {
        for key in tenant.table.all_keys(|_, entry| entry.refused) {
            self.down.add(&tenant.id, key);
        }
        for key in self.offered.keys() {
            self.up.add(&tenant.id, key);
        }
    }
}

/// Keeps the addresses of a pod; slices that name addresses are worked again when they change.
pub(crate) fn note_addresses(engine: &Engine, tenant: &Tenant, key: &Key, pod: Option<&Object>) {
    let Some(left) = tenant.index.pod_addresses(key, pod) else {
        return;
    };
    // The slices of a tenant that can't be asked keep them.
    engine.slices.doubt(&tenant.id, &left);
    if tenant.index.has_selectorless() {
        let affected = |entry: &Entry| entry.refused || entry.twin.is_some();
        for slice in tenant.table.keys(kind::index("EndpointSlice"), affected) {
            engine.down.add(&tenant.id, slice);
        }
    }
}

/// The super object with this UID is gone, whoever found that out: it is no twin any more, and what it took of the quota
/// is free. True if it was the one that is known.
pub(crate) fn gone_in_super(engine: &Engine, tenant: &Tenant, key: &Key, uid: &str) -> bool {
    quota::ended(engine, tenant, key, uid);
    let left = tenant.table.get(key).runs_on().cloned();
    let was_known = tenant.table.super_gone(key, uid);
    if was_known {
        super_bytes::freed(engine, tenant);
        nodes::moved(engine, tenant, left.as_deref(), None);
    }
    was_known
}

/// Whether the object stands where the tenant object's twin must stand.
pub(crate) fn is_twin(tenant: &Tenant, key: &Key, object: &Object) -> bool {
    (object.namespace(), object.name()) == twin_name(tenant, key).as_ref_pair()
}

/// Namespace and name of the twin.
pub(crate) struct TwinName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl TwinName {
    fn as_ref_pair(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

/// Where the twin of a tenant's object stands.
pub(crate) fn twin_name(tenant: &Tenant, key: &Key) -> TwinName {
    let rule = key.kind();
    tenant.with_cx(|cx| TwinName {
        namespace: if rule.resource().namespaced {
            meta::super_namespace(&key.namespace, cx)
        } else {
            String::new()
        },
        name: rule.super_name(&key.name, cx),
    })
}

/// Path of the twin of a tenant's object.
pub(crate) fn twin_path(tenant: &Tenant, key: &Key) -> String {
    let twin = twin_name(tenant, key);
    key.kind().resource().path(&twin.namespace, &twin.name)
}

#[cfg(test)]
mod tests;
