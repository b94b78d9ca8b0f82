//! Which budgets of groups a tenant is under, and with whom it shares them.

use super::RegistryState;
use crate::budget::Shared;
use std::{collections::BTreeMap, sync::Arc};
use tenancy::quota::budget::{self, Members};

/// The groups that have a budget, each with the namespaces that it is about.
pub(super) struct Groups(Vec<(String, Vec<String>, Shared)>);

impl Groups {
    /// As they were heard of.
    pub(super) fn of(state: &RegistryState) -> Self {
        let limited = state
            .groups
            .iter()
            .filter(|(_, group)| !group.spec.quota.is_empty());
        let read = limited.map(|(name, group)| {
            let namespaces = &group.spec.namespaces;
            let shared = Shared {
                hard: budget::hard(&group.spec.quota),
                members: Arc::new(members(state, namespaces)),
            };
            (name.clone(), namespaces.clone(), shared)
        });
        Self(read.collect())
    }

    /// The budgets of a VirtualControlPlane in this namespace.
    pub(super) fn over(&self, namespace: &str) -> BTreeMap<String, Shared> {
        let over = self.0.iter().filter(|(_, namespaces, _)| {
            let mut namespaces = namespaces.iter();
            namespaces.any(|member| member == namespace)
        });
        over.map(|(name, _, shared)| (name.clone(), shared.clone()))
            .collect()
    }
}

/// The VirtualControlPlanes of these namespaces; one that has another's identity is none (T46).
fn members(state: &RegistryState, namespaces: &[String]) -> Members {
    let control_planes = state
        .control_planes
        .iter()
        .filter(|((namespace, _), _)| namespaces.contains(namespace));
    let named = control_planes.filter_map(|((namespace, name), vcp)| {
        let id = state.identity(namespace, name, vcp)?;
        Some((id, format!("{namespace}/{name}")))
    });
    named.collect()
}
