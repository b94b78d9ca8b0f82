//! The classes: those that there are, and the last word of those that are gone.
//!
//! A class that is gone goes on ruling those that it ruled, as far as this process knows, so that nothing is opened to them.
//! Nobody new gets it, nor does anybody whom it didn't rule in between.

use super::RegistryState;
use api::{ControlPlaneClassSpec, VirtualControlPlane};
use std::collections::{BTreeMap, HashMap};
use tenancy::tenant::TenantId;

/// By name.
#[derive(Default)]
pub(super) struct Classes(BTreeMap<String, Class>);

struct Class {
    spec: ControlPlaneClassSpec,
    is_there: bool,
}

/// Tenants with the class that they were served under last.
pub(super) type Ruled = HashMap<TenantId, String>;

impl Classes {
    /// They are listed anew: which there are isn't known till then.
    pub(super) fn listing(&mut self) {
        for class in self.0.values_mut() {
            class.is_there = false;
        }
    }

    pub(super) fn take(&mut self, name: &str, spec: ControlPlaneClassSpec) {
        let class = Class {
            spec,
            is_there: true,
        };
        self.0.insert(name.to_owned(), class);
    }

    pub(super) fn gone(&mut self, name: &str) {
        if let Some(class) = self.0.get_mut(name) {
            tracing::warn!(
                class = name,
                "a ControlPlaneClass was deleted: it rules on whoever is served under it"
            );
            class.is_there = false;
        }
    }

    /// Forgets what is gone and rules nobody.
    pub(super) fn tidy(&mut self, ruled: &Ruled) {
        let rules = |name: &String| ruled.values().any(|class| class == name);
        self.0.retain(|name, class| class.is_there || rules(name));
    }

    fn names(&self) -> Vec<&str> {
        let there = self.0.iter().filter(|(_, class)| class.is_there);
        there.map(|(name, _)| name.as_str()).collect()
    }
}

/// Why a VirtualControlPlane isn't served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Of the condition `Synced`.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl RegistryState {
    /// The class that rules a VirtualControlPlane.
    ///
    /// # Errors
    /// It is for other namespaces, or there is none. Nothing is served without one: it may have held the tenant to less
    /// than any default.
    pub(super) fn class(
        &self,
        namespace: &str,
        id: &TenantId,
        vcp: &VirtualControlPlane,
    ) -> Result<&ControlPlaneClassSpec, Refused> {
        let name = &vcp.spec.class_name;
        let known = self.classes.0.get(name);
        let is_ruled = || self.ruled.get(id) == Some(name);
        let Some(class) = known.filter(|class| class.is_there || is_ruled()) else {
            let advice = match &self.classes.names()[..] {
                [] => "create it".to_owned(),
                names => format!(
                    "create it, or set spec.className to one of {}",
                    names.join(", ")
                ),
            };
            return Err(Refused {
                reason: "ClassMissing",
                message: format!(
                    "there is no ControlPlaneClass {name}: nothing is synced; {advice}"
                ),
            });
        };
        if !class.spec.is_for(namespace) {
            return Err(Refused {
                reason: "ClassNotAllowed",
                message: format!(
                    "ControlPlaneClass {name} isn't for namespace {namespace}: nothing is synced"
                ),
            });
        }
        Ok(&class.spec)
    }
}
