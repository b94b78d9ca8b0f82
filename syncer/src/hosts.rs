//! Hosts of Ingresses, Gateways and routes: what the super cluster's watches tell of them, and who is worked again then.
//!
//! Whose a host is, is decided in [`tenancy::hosts`]; every syncer sees the objects of all tenants.

use crate::engine::Engine;
use std::collections::HashSet;
use tenancy::{hosts, meta::Owner, object::Object, tenant::Key};

/// A super object exists in this state; `place` is where.
pub(crate) fn seen(engine: &Engine, place: &Key, owner: &Owner, object: &Object) {
    if !hosts::takes(place.kind().resource()) {
        return;
    }
    let key = Key::new(place.kind, &owner.namespace, &owner.name);
    let rivals = engine
        .offered
        .hosts
        .write()
        .note(place, &owner.tenant, &key, object);
    for (id, key) in rivals {
        if engine.tenant(&id).is_some() {
            engine.down.add(&id, key);
        }
    }
}

/// A super object is gone.
pub(crate) fn gone(engine: &Engine, kind: u8, object: &Object) {
    if hosts::takes(tenancy::kind::rule(kind).resource()) {
        let place = Key::new(kind, object.namespace(), object.name());
        free(engine, &[place]);
    }
}

/// All super objects of a kind were listed: what wasn't among them is gone.
pub(crate) fn listed(engine: &Engine, kind: u8, present: &HashSet<Key>) {
    if hosts::takes(tenancy::kind::rule(kind).resource()) {
        let missing = engine.offered.hosts.read().missing(kind, present);
        free(engine, &missing);
    }
}

/// Whoever was refused may have the hosts now.
fn free(engine: &Engine, places: &[Key]) {
    let mut is_any = false;
    for place in places {
        is_any |= engine.offered.hosts.write().forget(place);
    }
    if !is_any {
        return;
    }
    for tenant in engine.served() {
        let refused = tenant
            .table
            .all_keys(|key, entry| entry.refused && hosts::takes(key.kind().resource()));
        for key in refused {
            engine.down.add(&tenant.id, key);
        }
    }
}
