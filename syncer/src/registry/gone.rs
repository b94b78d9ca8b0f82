//! What is left of tenants whose VirtualControlPlane is gone.
//!
//! A tenant's Lease holds its marks as well, which nothing else tells again: it goes only when a live list, read without
//! looking at anything but identities, says that nobody has that identity.

use super::Registry;
use crate::{engine::Engine, error::Error, marks, pages::Pages};
use std::collections::HashSet;
use tenancy::{object::at, tenant::TenantId};

/// Drops the memory of tenants whose VirtualControlPlane is gone, and their Leases with the marks.
pub(crate) async fn forget_gone(engine: &Engine, registry: &Registry) {
    let titled = registry.titled();
    let known: HashSet<TenantId> = engine.known().into_iter().chain(titled.clone()).collect();
    let mut gone: Vec<TenantId> = known.into_iter().collect();
    gone.retain(|id| {
        engine.tenant(id).is_none() && !engine.is_stopping(id) && registry.is_gone(id)
    });
    if gone.is_empty() {
        return;
    }
    let living = match identities(engine).await {
        Ok(living) => living,
        Err(err) => {
            tracing::debug!(%err, "whose VirtualControlPlane is gone isn't known now");
            return;
        }
    };
    for id in gone {
        if living.contains(id.as_str()) {
            continue;
        }
        if engine.fleet.cleans_up(&id)
            && let Err(err) = marks::forget(engine, &id).await
        {
            tracing::debug!(tenant = %id, %err, "its Lease can't be deleted yet");
        } else if !titled.contains(&id) {
            engine.fleet.forget(&id);
            engine.forget(&id);
        }
    }
}

/// The identities of all VirtualControlPlanes, read live, of those that can't be parsed, too.
async fn identities(engine: &Engine) -> Result<HashSet<String>, Error> {
    let path = super::sink::Source::ControlPlanes.target().path;
    let lister = engine.cluster.lister().await;
    let mut pages = Pages::of(&path, String::new());
    let mut found = HashSet::new();
    while let Some(page) = pages.next(&lister).await? {
        let identities = page
            .items
            .iter()
            .filter_map(|item| at(item, "/spec/identity"));
        found.extend(identities.filter_map(|identity| Some(identity.as_str()?.to_owned())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::{self, fake},
        fleet::{Stored, name},
        registry::sink::{RegistrySink, SOURCES, Source},
        watch::Sink,
    };
    use serde_json::{Value, json};
    use std::sync::Arc;
    use tenancy::object::Object;

    /// One of a later version than this program's.
    fn unreadable(id: &TenantId) -> Value {
        json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "t", "uid": "v"},
            "spec": {"identity": id.as_str(), "paused": "by a word that isn't known yet"},
        })
    }

    fn registry_of(engine: &Arc<Engine>) -> (Arc<Registry>, RegistrySink) {
        let registry = Arc::new(Registry::default());
        let sink = RegistrySink {
            registry: registry.clone(),
            engine: engine.clone(),
            source: Source::ControlPlanes,
        };
        registry.state.lock().complete = (1 << SOURCES.len()) - 1;
        (registry, sink)
    }

    #[tokio::test]
    async fn a_tenant_whose_control_plane_cannot_be_parsed_is_not_gone() {
        let (cluster, _server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        let (registry, sink) = registry_of(&engine);
        let id = TenantId::from_bits([7; 16]);
        assert!(registry.is_gone(&id));
        let later = Object::from_value(unreadable(&id)).unwrap();
        sink.listing();
        sink.applied(later.clone());
        sink.listed(5);
        assert!(registry.state.lock().control_planes.is_empty());
        assert!(!registry.is_gone(&id));
        sink.deleted(later);
        assert!(registry.is_gone(&id));
    }

    #[tokio::test]
    async fn a_lease_stays_as_long_as_a_live_list_has_its_identity() {
        let (cluster, mut server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        let (registry, _) = registry_of(&engine);
        let id = TenantId::from_bits([7; 16]);
        let lease = json!({"metadata": {"name": name(&id), "uid": "l", "resourceVersion": "5"}, "spec": {}});
        let stored = Stored::of(&Object::from_value(lease).unwrap());
        registry.state.lock().titles.insert(id.clone(), stored);
        let list = |items: Value| json!({"metadata": {"resourceVersion": "9"}, "items": items});
        let living = list(json!([unreadable(&id)]));
        for (status, answer) in [(200, &living), (500, &json!({}))] {
            let forgotten = forget_gone(&engine, &registry);
            tokio::join!(forgotten, server.answer("GET", status, answer));
            assert!(server.is_silent());
        }
    }
}
