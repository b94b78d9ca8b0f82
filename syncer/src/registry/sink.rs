//! What the registry's watches tell it.

use super::Registry;
use crate::{
    budget,
    engine::Engine,
    fleet::{self, Stored},
    kubeconfig::Text,
    watch::{Presence, Sink, Target},
};
use api::{ControlPlaneClass, ControlPlaneGroup, VirtualControlPlane, keys};
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tenancy::{object::Object, tenant::TenantId};

/// What one of the registry's watches watches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    ControlPlanes,
    Classes,
    Groups,
    Kubeconfigs,
    Claims,
    Titles,
}

/// All of them.
pub(super) const SOURCES: [Source; 6] = [
    Source::ControlPlanes,
    Source::Classes,
    Source::Groups,
    Source::Kubeconfigs,
    Source::Claims,
    Source::Titles,
];

impl Source {
    /// What it asks the super cluster for.
    pub(super) fn target(self) -> Target {
        let own = |plural: &str, kind: &str| Target {
            path: format!("/apis/{}/{}/{plural}", api::GROUP, api::VERSION),
            selector: None,
            name: None,
            api_version: format!("{}/{}", api::GROUP, api::VERSION),
            kind: kind.into(),
            presence: Presence::Certain,
        };
        match self {
            Self::ControlPlanes => own("virtualcontrolplanes", "VirtualControlPlane"),
            Self::Classes => own("controlplaneclasses", "ControlPlaneClass"),
            Self::Groups => own("controlplanegroups", "ControlPlaneGroup"),
            Self::Kubeconfigs => Target {
                path: format!("/api/v1/namespaces/{}/secrets", api::SYSTEM_NAMESPACE),
                selector: Some(format!("{}={}", keys::ROLE, keys::ROLE_TENANT_KUBECONFIG)),
                name: None,
                api_version: "v1".into(),
                kind: "Secret".into(),
                presence: Presence::Certain,
            },
            Self::Claims => Target {
                path: format!("/api/v1/namespaces/{}/configmaps", api::SYSTEM_NAMESPACE),
                // Of what the manager keeps there of tenants all but their routes.
                selector: Some(format!(
                    "{},{}!={}",
                    keys::TENANT,
                    keys::ROLE,
                    keys::ROLE_ROUTE
                )),
                name: None,
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                presence: Presence::Certain,
            },
            Self::Titles => fleet::titles(),
        }
    }
}

/// Writes down what a watch tells.
pub(super) struct RegistrySink {
    pub(super) registry: Arc<Registry>,
    pub(super) engine: Arc<Engine>,
    pub(super) source: Source,
}

impl Sink for RegistrySink {
    fn listing(&self) {
        // A list tells all that there is; until it is complete nobody reads it.
        let mut state = self.registry.state.lock();
        state.complete &= !(1 << self.source as u8);
        match self.source {
            Source::ControlPlanes => {
                state.control_planes.clear();
                state.unreadable.clear();
            }
            Source::Classes => state.classes.listing(),
            Source::Groups => state.groups.clear(),
            Source::Kubeconfigs => state.kubeconfigs.clear(),
            Source::Claims => state.claims.clear(),
            Source::Titles => state.titles.clear(),
        }
    }

    fn applied(&self, object: Object) {
        let mut state = self.registry.state.lock();
        match self.source {
            Source::ControlPlanes => {
                let place = (object.namespace().into(), object.name().into());
                if let Some(vcp) = parse::<VirtualControlPlane>(&object) {
                    state.unreadable.remove(&place);
                    let said = but_counts(&vcp);
                    let before = state.control_planes.insert(place, vcp);
                    if before.is_some_and(|before| but_counts(&before) == said) {
                        // What it uses of its quota changes all the time, and its lag now and then: no news here.
                        return;
                    }
                } else if let Some(identity) = object.text("/spec/identity") {
                    state.unreadable.insert(place, identity.into());
                }
            }
            Source::Classes => {
                if let Some(class) = parse::<ControlPlaneClass>(&object) {
                    state.classes.take(object.name(), class.spec);
                }
            }
            Source::Groups => {
                if let Some(group) = parse::<ControlPlaneGroup>(&object) {
                    budget::heard(&self.engine, object.resource_version(), &group);
                    let spec = group.spec.clone();
                    let before = state.groups.insert(object.name().into(), group);
                    if before.is_some_and(|before| before.spec == spec) {
                        // Shares of its budget change all the time, and are no news here.
                        return;
                    }
                }
            }
            Source::Kubeconfigs => {
                let text = object
                    .text("/data/kubeconfig")
                    .and_then(|data| BASE64.decode(data.as_bytes()).ok());
                let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
                if let (Some(id), Some(text)) = (object.label(keys::TENANT), text) {
                    state.kubeconfigs.insert(id.into(), Text::new(text));
                }
            }
            Source::Claims => state.claims.take(&object),
            Source::Titles => {
                if let Some(id) = tenant(&object) {
                    let stored = Stored::of(&object);
                    let before = state.titles.insert(id, stored.clone());
                    if before.is_some_and(|before| before.title == stored.title) {
                        // Marks are kept on the same Lease, and are no news here.
                        return;
                    }
                }
            }
        }
        drop(state);
        self.registry.changed.notify_one();
    }

    fn deleted(&self, object: Object) {
        let mut state = self.registry.state.lock();
        match self.source {
            Source::ControlPlanes => {
                let place = (object.namespace().into(), object.name().into());
                state.control_planes.remove(&place);
                state.unreadable.remove(&place);
            }
            Source::Classes => state.classes.gone(object.name()),
            Source::Groups => drop(state.groups.remove(object.name())),
            Source::Kubeconfigs => {
                if let Some(id) = object.label(keys::TENANT) {
                    state.kubeconfigs.remove(id);
                }
            }
            Source::Claims => state.claims.forget(&object),
            Source::Titles => {
                if let Some(id) = tenant(&object) {
                    state.titles.remove(&id);
                }
            }
        }
        drop(state);
        self.registry.changed.notify_one();
    }

    fn listed(&self, _version: u64) {
        self.registry.state.lock().complete |= 1 << self.source as u8;
        self.registry.changed.notify_one();
    }
}

fn tenant(object: &Object) -> Option<TenantId> {
    TenantId::parse(object.label(keys::TENANT)?).ok()
}

/// All that a VirtualControlPlane says but what is counted.
fn but_counts(vcp: &VirtualControlPlane) -> VirtualControlPlane {
    let mut said = vcp.clone();
    said.metadata.resource_version = None;
    said.metadata.managed_fields = None;
    if let Some(status) = &mut said.status {
        (status.quota, status.sync) = (None, None);
    }
    said
}

fn parse<T: DeserializeOwned>(object: &Object) -> Option<T> {
    serde_json::from_value(object.value().clone())
        .inspect_err(|err| tracing::warn!(name = object.name(), %err, "an object can't be read and is set aside"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake};
    use futures::FutureExt;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn what_is_counted_is_kept_and_is_no_news() {
        let (cluster, _server) = fake();
        let (registry, source) = (Arc::new(Registry::default()), Source::ControlPlanes);
        let sink = RegistrySink {
            registry: registry.clone(),
            engine: Arc::new(fake::engine(&cluster)),
            source,
        };
        let is_news = |version: &str, spec: Value, status: Value| {
            let vcp = json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "namespace": "t", "resourceVersion": version},
                "spec": spec, "status": status,
            });
            sink.applied(Object::from_value(vcp).unwrap());
            registry.changed.notified().now_or_never().is_some()
        };
        let used = |pods: &str| json!({"quota": {"hard": {"pods": "9"}, "used": {"pods": pods}}});
        assert!(is_news("1", json!({}), used("1")));
        assert!(!is_news("2", json!({}), used("2")));
        let known = registry
            .state
            .lock()
            .control_planes
            .values()
            .next()
            .cloned();
        let known = known.unwrap();
        assert_eq!(known.metadata.resource_version.as_deref(), Some("2"));
        assert_eq!(known.status.unwrap().quota.unwrap().used["pods"], "2");
        let mut behind = used("2");
        behind["sync"] =
            json!({"observedTime": "2026-01-01T00:00:00Z", "behindSince": "2026-01-01T00:00:00Z"});
        assert!(!is_news("3", json!({}), behind));
        assert!(is_news("4", json!({"paused": true}), used("2")));
    }
}
