//! What the manager claimed for whom: an identity and a Service slice belong to whoever the claim names (T46).
//!
//! Without a manager there are no claims, and tenants that are attached are served all the same: then a VirtualControlPlane
//! whose tenant is proven goes before one that was never served, and the older before the younger. Neither identity nor
//! slice can be given later to one that has none, but by the manager (the policy `sublet-identities`): so whoever learns
//! them from another is younger.

use super::{RegistryState, control_planes, is_conflicting};
use api::{VirtualControlPlane, keys};
use std::collections::HashMap;
use tenancy::{
    object::{NamespacedName, Object},
    slice::Slice,
    tenant::TenantId,
};

/// All claims.
#[derive(Default)]
pub(super) struct Claims {
    /// By identity: who holds it.
    identities: HashMap<TenantId, Holder>,
    /// By the claims' names: whose slice it is.
    slices: HashMap<String, (TenantId, Slice)>,
    /// Which of them are whose.
    of: HashMap<TenantId, Vec<String>>,
}

struct Holder {
    place: NamespacedName,
    uid: String,
}

impl Claims {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes up a claim; one that can't be read claims nothing.
    pub(super) fn take(&mut self, claim: &Object) {
        let Some(id) = tenant(claim) else {
            return;
        };
        let text = |pointer: &str| claim.text(pointer).unwrap_or_default().to_owned();
        match claim.label(keys::ROLE) {
            Some(keys::ROLE_IDENTITY_CLAIM) => {
                let place = (text("/data/namespace"), text("/data/name"));
                let uid = text("/data/uid");
                self.identities.insert(id, Holder { place, uid });
            }
            Some(keys::ROLE_SLICE_CLAIM) => {
                if let Ok(slice) = text("/data/cidr").parse() {
                    self.forget_slice(claim.name());
                    let name = claim.name().to_owned();
                    self.of.entry(id.clone()).or_default().push(name.clone());
                    self.slices.insert(name, (id, slice));
                }
            }
            _ => {}
        }
    }

    /// Lets go of a claim that is gone.
    pub(super) fn forget(&mut self, claim: &Object) {
        match (claim.label(keys::ROLE), tenant(claim)) {
            (Some(keys::ROLE_IDENTITY_CLAIM), Some(id)) => drop(self.identities.remove(&id)),
            (Some(keys::ROLE_SLICE_CLAIM), _) => self.forget_slice(claim.name()),
            _ => {}
        }
    }

    fn forget_slice(&mut self, name: &str) {
        let Some((id, _)) = self.slices.remove(name) else {
            return;
        };
        if let Some(names) = self.of.get_mut(&id) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.of.remove(&id);
            }
        }
    }

    /// Whether a slice is claimed for a tenant.
    fn has(&self, id: &TenantId, slice: Slice) -> bool {
        let mut names = self.of.get(id).into_iter().flatten();
        names.any(|name| self.slices.get(name).is_some_and(|(_, of)| *of == slice))
    }
}

fn tenant(claim: &Object) -> Option<TenantId> {
    TenantId::parse(claim.label(keys::TENANT)?).ok()
}

impl RegistryState {
    /// Namespace and name of the VirtualControlPlane that an identity belongs to; `None` also while its claim names one that
    /// isn't there: then the manager decides.
    pub(super) fn holder(&self, id: &TenantId) -> Option<(&String, &String)> {
        let has_it = |vcp: &VirtualControlPlane| vcp.spec.identity.as_deref() == Some(id.as_str());
        let found = match self.claims.identities.get(id) {
            Some(holder) => {
                let found = self.control_planes.get_key_value(&holder.place);
                // Under the same name another one can be made.
                found.filter(|(_, vcp)| {
                    has_it(vcp) && vcp.metadata.uid.as_deref() == Some(&*holder.uid)
                })
            }
            None => {
                let all = self.control_planes.claimants(id.as_str());
                let claimants = all.filter(|(_, vcp)| !is_conflicting(vcp));
                claimants.min_by_key(|(place, vcp)| (vcp.precedence(), *place))
            }
        };
        found.map(|((namespace, name), _)| (namespace, name))
    }

    /// The identity of a VirtualControlPlane, if it is its own and not another's.
    pub(super) fn identity(
        &self,
        namespace: &str,
        name: &str,
        vcp: &VirtualControlPlane,
    ) -> Option<TenantId> {
        let id = TenantId::parse(vcp.spec.identity.as_deref()?).ok()?;
        let (of, holder) = self.holder(&id)?;
        (of == namespace && holder == name).then_some(id)
    }

    /// The slice that a VirtualControlPlane names, if it is its own: the one that was claimed for it. Where nothing was
    /// claimed for anybody, so that no manager looks at what is asked for, it is its own unless it shares an address with an
    /// older tenant's.
    pub(super) fn slice(&self, id: &TenantId, vcp: &VirtualControlPlane) -> Option<Slice> {
        let slice = control_planes::slice(vcp)?;
        let claims = &self.claims;
        if !(claims.identities.is_empty() && claims.slices.is_empty()) {
            return claims.has(id, slice).then_some(slice);
        }
        let created = &vcp.metadata.creation_timestamp;
        let is_before = |other: &VirtualControlPlane| {
            other.spec.identity != vcp.spec.identity
                && !is_conflicting(other)
                && other.metadata.creation_timestamp <= *created
        };
        let is_anothers = self.control_planes.overlapping(slice).any(is_before);
        (!is_anothers).then_some(slice)
    }
}

#[cfg(test)]
mod tests;
