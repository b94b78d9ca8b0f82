//! Tells when a tenant that is shown only the nodes in use comes to use one, or uses it no more.
//!
//! Which nodes those are is asked of the table when a node is worked ([`crate::publish`]); here its key is queued.

use crate::{engine::Engine, tenants::Tenant};
use api::ShownNodes;
use tenancy::{kind, tenant::Key};

/// A pod of the tenant that was on the node `from` is on `to`.
pub(crate) fn moved(engine: &Engine, tenant: &Tenant, from: Option<&str>, to: Option<&str>) {
    if from == to || tenant.rules().nodes != ShownNodes::Used {
        return;
    }
    let key = |node| Key::new(kind::index("Node"), "", node);
    if let Some(node) = to {
        engine.up.add(&tenant.id, key(node));
    }
    if let Some(node) = from {
        // The next pod of a Job may be on it.
        engine
            .up
            .add_after(&tenant.id, key(node), engine.unneeded_period);
    }
}
