//! Which Services a tenant is shown, and who may reach which of its own.

use super::RegistryState;
use api::{ControlPlaneClassSpec, ControlPlaneRef, Export, Import, VirtualControlPlane};
use tenancy::{
    sharing::{Link, Shared, Visit, in_super},
    tenant::TenantId,
};

/// As the class, the VirtualControlPlane at this place and those that it names say.
pub(super) fn shared(
    id: &TenantId,
    place: &ControlPlaneRef,
    vcp: &VirtualControlPlane,
    class: &ControlPlaneClassSpec,
    state: &RegistryState,
) -> Shared {
    let published = class.services.iter().map(|service| Link {
        shown_as: service.shown_as.clone(),
        source: api::ServiceRef {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
        },
        of: None,
    });
    let sharing = &vcp.spec.sharing;
    let imported = sharing.imports.iter().filter_map(|import| {
        let (other, exporter) = holder(&import.from, state)?;
        let mut exports = exporter.spec.sharing.exports.iter();
        exports
            .any(|export| agree(export, import, &import.from, place))
            .then(|| Link {
                shown_as: import.shown_as.clone(),
                source: in_super(&other, &import.from.name, &import.service),
                of: Some(other),
            })
    });
    let visits = sharing.exports.iter().flat_map(|export| {
        export.to.iter().filter_map(move |to| {
            let (by, importer) = holder(to, state)?;
            let mut imports = importer.spec.sharing.imports.iter();
            imports
                .any(|import| agree(export, import, place, to))
                .then(|| Visit {
                    service: in_super(id, &place.name, &export.service),
                    by,
                })
        })
    });
    let mut shared = Shared {
        links: published.chain(imported).collect(),
        visits: visits.collect(),
    };
    // Of two with one name in the tenant the first counts: the platform's.
    let mut names = std::collections::HashSet::new();
    shared
        .links
        .retain(|link| names.insert((link.shown_as.namespace.clone(), link.shown_as.name.clone())));
    shared.visits.sort();
    shared.visits.dedup();
    shared
}

/// Whether both name each other and the same Service.
fn agree(
    export: &Export,
    import: &Import,
    exporter: &ControlPlaneRef,
    importer: &ControlPlaneRef,
) -> bool {
    export.service == import.service && import.from == *exporter && export.to.contains(importer)
}

/// A VirtualControlPlane and its identity, if that is its own (T46).
fn holder<'a>(
    place: &ControlPlaneRef,
    state: &'a RegistryState,
) -> Option<(TenantId, &'a VirtualControlPlane)> {
    let key = (place.namespace.clone(), place.name.clone());
    let vcp = state.control_planes.get(&key)?;
    Some((state.identity(&key.0, &key.1, vcp)?, vcp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vcp(number: u8, name: &str, sharing: serde_json::Value) -> VirtualControlPlane {
        let identity = TenantId::from_bits([number; 16]);
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": name, "namespace": "n"},
            "spec": {"identity": identity.as_str(), "sharing": sharing},
        }))
        .unwrap()
    }

    fn state(of_a: serde_json::Value, of_b: serde_json::Value) -> RegistryState {
        let mut state = RegistryState::default();
        for (number, name, sharing) in [(1, "a", of_a), (2, "b", of_b)] {
            let key = ("n".to_owned(), name.to_owned());
            state.control_planes.insert(key, vcp(number, name, sharing));
        }
        state
    }

    fn of(name: &str, state: &RegistryState) -> Shared {
        let place = ControlPlaneRef {
            namespace: "n".into(),
            name: name.into(),
        };
        let (id, vcp) = holder(&place, state).unwrap();
        shared(&id, &place, vcp, &ControlPlaneClassSpec::default(), state)
    }

    fn export(to: &str) -> serde_json::Value {
        json!({"exports": [{"service": {"namespace": "data", "name": "db"}, "to": [{"namespace": "n", "name": to}]}]})
    }

    fn import(from: &str) -> serde_json::Value {
        json!({"imports": [{"from": {"namespace": "n", "name": from}, "service": {"namespace": "data", "name": "db"},
            "shownAs": {"namespace": "partners", "name": "db"}}]})
    }

    #[test]
    fn a_service_is_shared_when_both_name_each_other() {
        let both = state(export("b"), import("a"));
        let (a, b) = (of("a", &both), of("b", &both));
        assert_eq!((a.links.len(), a.visits.len()), (0, 1));
        assert_eq!((b.links.len(), b.visits.len()), (1, 0));
        assert_eq!(a.visits[0].service, b.links[0].source);
        assert_eq!(a.visits[0].by, TenantId::from_bits([2; 16]));
        for one in [
            state(export("c"), import("a")),
            state(export("b"), json!({})),
            state(json!({}), import("a")),
            state(export("b"), import("b")),
        ] {
            assert_eq!((of("a", &one), of("b", &one)), Default::default());
        }
    }
}
