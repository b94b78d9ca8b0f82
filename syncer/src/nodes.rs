//! Tells when a tenant comes to use a node that it is shown only while it is in use, or uses it no more.
//!
//! Which nodes those are is asked of the table when a node is worked ([`crate::publish`]); here its key is queued. A node is in
//! use once the super cluster's scheduler has bound a pod of the tenant to it. What a tenant's pod says of its node is the
//! tenant's word (T9): it makes no node one that the tenant is shown, but keeps one that it was shown.
//!
//! To some tenants that is every node; to the others one whose taints keep their pods out, and on which one is all the same.
//! Else the tenant's garbage collector would take that pod for one whose node is gone.

use crate::{engine::Engine, table::Entry, tenants::Tenant};
use api::ShownNodes;
use tenancy::{kind, object::Object, tenant::Key};

/// The node that a pod is bound to. Other kinds may have a field of that name, and aren't bound by it.
pub(crate) fn of<'a>(key: &Key, object: &'a Object) -> Option<&'a str> {
    let node = object.text("/spec/nodeName")?;
    (key.kind == kind::index("Pod") && !node.is_empty()).then_some(node)
}

/// Changes what is known of an object, as [`crate::table::Table::update`] does; the nodes on which its super pod was or is are
/// queued.
pub(crate) fn update<R>(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    change: impl FnOnce(&mut Entry) -> R,
) -> R {
    let (from, to, result) = tenant.table.update(key, |entry| {
        let from = entry.runs_on().cloned();
        let result = change(entry);
        (from, entry.runs_on().cloned(), result)
    });
    moved(engine, tenant, from.as_deref(), to.as_deref());
    result
}

/// A pod of the tenant that was on the node `from` is on `to`.
pub(crate) fn moved(engine: &Engine, tenant: &Tenant, from: Option<&str>, to: Option<&str>) {
    if from == to {
        return;
    }
    let rules = tenant.rules();
    let concerned = |node: &str| {
        let key = Key::new(kind::index("Node"), "", node);
        let is_for_use = rules.nodes == ShownNodes::Used
            || engine.offered.keeps_out(&key, &rules.pods.tolerations);
        is_for_use.then_some(key)
    };
    if let Some(key) = to.and_then(concerned) {
        engine.up.add(&tenant.id, key);
    }
    if let Some(key) = from.and_then(concerned) {
        // The next pod of a Job may be on it.
        engine.up.add_after(&tenant.id, key, engine.unneeded_period);
    }
}
