//! All VirtualControlPlanes, and which of them name an identity or a slice.
//!
//! What changes is looked at for all of them at once: if each were compared with each other one then, hundreds would keep
//! the syncer at nothing else when it starts.

use api::VirtualControlPlane;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
};
use tenancy::{object::NamespacedName, slice::Slice};

/// By namespace and name.
#[derive(Default)]
pub(super) struct ControlPlanes {
    all: BTreeMap<NamespacedName, VirtualControlPlane>,
    /// Places of those that name an identity, by it.
    identities: HashMap<String, BTreeSet<NamespacedName>>,
    /// The slices that they name.
    slices: HashMap<NamespacedName, Slice>,
}

impl ControlPlanes {
    /// Takes it up, and returns the one that was there.
    pub(super) fn insert(
        &mut self,
        place: NamespacedName,
        vcp: VirtualControlPlane,
    ) -> Option<VirtualControlPlane> {
        let before = self.remove(&place);
        if let Some(identity) = &vcp.spec.identity {
            let places = self.identities.entry(identity.clone()).or_default();
            places.insert(place.clone());
        }
        if let Some(slice) = slice(&vcp) {
            self.slices.insert(place.clone(), slice);
        }
        self.all.insert(place, vcp);
        before
    }

    pub(super) fn remove(&mut self, place: &NamespacedName) -> Option<VirtualControlPlane> {
        let before = self.all.remove(place)?;
        self.slices.remove(place);
        if let Some(identity) = &before.spec.identity
            && let Some(places) = self.identities.get_mut(identity)
        {
            places.remove(place);
            if places.is_empty() {
                self.identities.remove(identity);
            }
        }
        Some(before)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those that name this identity, in the order of their places.
    pub(super) fn claimants(
        &self,
        identity: &str,
    ) -> impl Iterator<Item = (&NamespacedName, &VirtualControlPlane)> {
        let places = self.identities.get(identity).into_iter().flatten();
        places.filter_map(|place| self.all.get_key_value(place))
    }

    /// Those whose slices share an address with this one.
    pub(super) fn overlapping(&self, slice: Slice) -> impl Iterator<Item = &VirtualControlPlane> {
        let overlapping = self.slices.iter();
        let overlapping = overlapping.filter(move |(_, other)| other.overlaps(slice));
        overlapping.filter_map(|(place, _)| self.all.get(place))
    }
}

/// What reads them needs no more than the map.
impl Deref for ControlPlanes {
    type Target = BTreeMap<NamespacedName, VirtualControlPlane>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

/// The slice that a VirtualControlPlane names, whether or not it is its own.
pub(super) fn slice(vcp: &VirtualControlPlane) -> Option<Slice> {
    vcp.spec.network.service_cidr.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn place(number: u8) -> NamespacedName {
        ("n".into(), number.to_string())
    }

    fn vcp(name: u8, identity: u8, slice: u8) -> VirtualControlPlane {
        let mut vcp = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": name.to_string(), "namespace": "n"}, "spec": {},
        });
        if identity > 0 {
            vcp["spec"]["identity"] = identity.to_string().into();
        }
        if slice > 0 {
            vcp["spec"]["network"] = json!({"serviceCIDR": format!("10.0.{slice}.0/23")});
        }
        serde_json::from_value(vcp).unwrap()
    }

    proptest! {
        /// After whatever came and went, the answers are those of looking at all.
        #[test]
        fn what_is_named_is_what_a_look_at_all_of_them_finds(
            steps in prop::collection::vec((0..6_u8, 0..4_u8, 0..5_u8, any::<bool>()), 0..40),
        ) {
            let mut control_planes = ControlPlanes::default();
            let mut plain = BTreeMap::new();
            for (name, identity, slice, is_made) in steps {
                let (before, was) = if is_made {
                    let vcp = vcp(name, identity, slice);
                    (control_planes.insert(place(name), vcp.clone()), plain.insert(place(name), vcp))
                } else {
                    (control_planes.remove(&place(name)), plain.remove(&place(name)))
                };
                prop_assert_eq!(before, was);
                prop_assert_eq!(&*control_planes, &plain);
            }
            for identity in 0..4_u8 {
                let found: Vec<_> = control_planes.claimants(&identity.to_string()).collect();
                let all = plain.iter();
                let wanted: Vec<_> = all
                    .filter(|(_, vcp)| vcp.spec.identity == Some(identity.to_string()))
                    .collect();
                prop_assert_eq!(found, wanted);
            }
            for number in 1..5_u8 {
                let asked: Slice = format!("10.0.{number}.0/24").parse().unwrap();
                let name = |vcp: &VirtualControlPlane| vcp.metadata.name.clone();
                let found: BTreeSet<_> = control_planes.overlapping(asked).map(name).collect();
                let all = plain.values();
                let wanted: BTreeSet<_> = all
                    .filter(|vcp| slice(vcp).is_some_and(|slice| slice.overlaps(asked)))
                    .map(name)
                    .collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
