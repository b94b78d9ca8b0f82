//! Which addresses the slices of all tenants lead to in the super cluster, and which of them are doubted: of those it isn't
//! sure that a running pod of the tenant has them.
//!
//! It is told by the watches of the super cluster, of tenants that nobody serves, too. Of pods nothing is kept: each is
//! compared, as it passes by, with what slices name. A doubt changes nothing; it makes [`crate::slices`] read.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};
use tenancy::tenant::{Key, TenantId};
use tokio::sync::Notify;

/// What all slices name.
#[derive(Default)]
pub(crate) struct Slices {
    inner: Mutex<Inner>,
    /// Told when something is doubted.
    raised: Notify,
}

#[derive(Default)]
struct Inner {
    /// Whose a slice is and what it names, by its place in the super cluster.
    slices: HashMap<Key, (TenantId, HashSet<IpAddr>)>,
    /// How many slices of which tenants name an address.
    named: HashMap<IpAddr, HashMap<TenantId, usize>>,
    doubts: HashMap<TenantId, HashSet<IpAddr>>,
    /// Whose slices are being looked at.
    working: Option<TenantId>,
}

impl Slices {
    /// A slice in this place names these addresses. One that none did before is doubted, unless it is known to be a pod's: that
    /// may have ended since it was looked at.
    pub(crate) fn name(
        &self,
        place: &Key,
        id: &TenantId,
        addresses: Vec<IpAddr>,
        is_known: impl Fn(IpAddr) -> bool,
    ) {
        let addresses: HashSet<IpAddr> = addresses.into_iter().collect();
        let mut new = vec![];
        let mut inner = self.inner.lock();
        for address in &addresses {
            let tenants = inner.named.entry(*address).or_default();
            let count = tenants.entry(id.clone()).or_default();
            *count += 1;
            if *count == 1 && !is_known(*address) {
                new.push(*address);
            }
        }
        inner.forget(place);
        if !addresses.is_empty() {
            inner.slices.insert(place.clone(), (id.clone(), addresses));
        }
        drop(inner);
        self.doubt(id, &new);
    }

    /// The slice in this place is gone.
    pub(crate) fn forget(&self, place: &Key) {
        self.inner.lock().forget(place);
    }

    /// Forgets the slices that a complete list lacks.
    pub(crate) fn listed(&self, seen: &HashSet<Key>) {
        let mut inner = self.inner.lock();
        let places = inner.slices.keys();
        let gone: Vec<Key> = places
            .filter(|place| !seen.contains(*place))
            .cloned()
            .collect();
        for place in gone {
            inner.forget(&place);
        }
    }

    /// A pod with these addresses passes by; `whose` is none if it doesn't run any more, or is no tenant's.
    pub(crate) fn seen(&self, whose: Option<&TenantId>, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let Inner { named, doubts, .. } = &mut *inner;
        let mut is_raised = false;
        for address in addresses {
            for id in named.get(address).into_iter().flat_map(HashMap::keys) {
                if whose != Some(id) {
                    doubts.entry(id.clone()).or_default().insert(*address);
                    is_raised = true;
                } else if let Some(doubted) = doubts.get_mut(id) {
                    doubted.remove(address);
                }
            }
        }
        if is_raised {
            self.raised.notify_one();
        }
    }

    /// These addresses may be no pod's of the tenant any more.
    pub(crate) fn doubt(&self, id: &TenantId, addresses: &[IpAddr]) {
        let mut inner = self.inner.lock();
        let Inner { named, doubts, .. } = &mut *inner;
        let is_named = |address: &&IpAddr| {
            let tenants = named.get(*address);
            tenants.is_some_and(|tenants| tenants.contains_key(id))
        };
        let addresses: Vec<IpAddr> = addresses.iter().filter(is_named).copied().collect();
        if !addresses.is_empty() {
            doubts.entry(id.clone()).or_default().extend(addresses);
            self.raised.notify_one();
        }
    }

    /// Doubts all that isn't known to be a pod's of its tenant.
    pub(crate) fn doubt_all(&self, is_known: impl Fn(&TenantId, IpAddr) -> bool) {
        let mut inner = self.inner.lock();
        let Inner { slices, doubts, .. } = &mut *inner;
        for (id, addresses) in slices.values() {
            let unknown = addresses.iter().filter(|address| !is_known(id, **address));
            doubts.entry(id.clone()).or_default().extend(unknown);
        }
        self.raised.notify_one();
    }

    /// Tenants of which something is doubted.
    pub(crate) fn doubted(&self) -> Vec<TenantId> {
        let mut inner = self.inner.lock();
        inner.doubts.retain(|_, doubted| !doubted.is_empty());
        inner.doubts.keys().cloned().collect()
    }

    /// Ends once something has been doubted, or may now be looked at.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// Somebody leads these tenants now: what is doubted of them may be looked at.
    pub(crate) fn led(&self, is_led: impl Fn(&TenantId) -> bool) {
        if self.doubted().iter().any(is_led) {
            self.raised.notify_one();
        }
    }

    /// Takes the doubts about a tenant, whose slices are being looked at from now on: the places of those that name one of
    /// these addresses. What is doubted meanwhile is looked at again.
    pub(crate) fn begin(&self, id: &TenantId) -> (Vec<Key>, Vec<IpAddr>) {
        let mut inner = self.inner.lock();
        inner.working = Some(id.clone());
        let doubted = inner.doubts.remove(id).unwrap_or_default();
        let slices = inner.slices.iter();
        let places = slices.filter_map(|(place, (owner, addresses))| {
            let is_one = owner == id && !addresses.is_disjoint(&doubted);
            is_one.then(|| place.clone())
        });
        let places = places.collect();
        (places, doubted.into_iter().collect())
    }

    /// Nobody's slices are being looked at.
    pub(crate) fn end(&self) {
        self.inner.lock().working = None;
    }

    /// Whether a write to the tenant's slices may be under way.
    pub(crate) fn is_at_work(&self, id: &TenantId) -> bool {
        self.inner.lock().working.as_ref() == Some(id)
    }

    /// Tenants whose slices name an address.
    pub(crate) fn tenants(&self) -> HashSet<TenantId> {
        let inner = self.inner.lock();
        inner.slices.values().map(|(id, _)| id.clone()).collect()
    }
}

impl Inner {
    fn forget(&mut self, place: &Key) {
        let Some((id, addresses)) = self.slices.remove(place) else {
            return;
        };
        for address in addresses {
            let Some(tenants) = self.named.get_mut(&address) else {
                continue;
            };
            let Some(count) = tenants.get_mut(&id) else {
                continue;
            };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            tenants.remove(&id);
            if tenants.is_empty() {
                self.named.remove(&address);
            }
            if let Some(doubted) = self.doubts.get_mut(&id) {
                doubted.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenancy::kind;

    const NOBODY: Option<&TenantId> = None;

    fn address(last: u8) -> IpAddr {
        [10, 1, 0, last].into()
    }

    fn place(name: &str) -> Key {
        Key::new(kind::index("EndpointSlice"), "acme-work", name)
    }

    #[test]
    fn t17_an_address_is_doubted_until_a_running_pod_of_the_tenant_has_it() {
        let slices = Slices::default();
        let [one, two] = [1, 2].map(|number| TenantId::from_bits([number; 16]));
        slices.name(&place("a"), &one, vec![address(5), address(6)], |_| false);
        assert_eq!(slices.doubted(), std::slice::from_ref(&one));
        slices.seen(Some(&one), &[address(5)]);
        slices.seen(Some(&one), &[address(6)]);
        assert_eq!(slices.doubted(), []);
        slices.name(&place("a"), &one, vec![address(6), address(5)], |_| false);
        slices.seen(NOBODY, &[address(7)]);
        slices.doubt(&one, &[address(7)]);
        assert_eq!(slices.doubted(), [], "nobody leads there");
        for whose in [NOBODY, Some(&two)] {
            slices.seen(whose, &[address(5)]);
            assert_eq!(slices.begin(&one), (vec![place("a")], vec![address(5)]));
            assert!(slices.is_at_work(&one) && !slices.is_at_work(&two));
            assert_eq!(slices.doubted(), []);
            slices.end();
        }
        slices.name(&place("b"), &one, vec![address(8)], |_| true);
        assert_eq!(slices.doubted(), [], "its pod is known");
        slices.doubt_all(|_, known| known != address(8));
        assert_eq!(slices.begin(&one), (vec![place("b")], vec![address(8)]));
    }

    #[test]
    fn of_what_no_slice_names_any_more_nothing_is_left() {
        let slices = Slices::default();
        let one = TenantId::from_bits([1; 16]);
        for name in ["a", "b", "c"] {
            slices.name(&place(name), &one, vec![address(5), address(5)], |_| false);
        }
        slices.forget(&place("a"));
        slices.name(&place("b"), &one, vec![], |_| false);
        assert_eq!(slices.doubted(), std::slice::from_ref(&one));
        assert_eq!(slices.tenants().len(), 1);
        slices.listed(&HashSet::from([place("c")]));
        assert_eq!(slices.tenants().len(), 1);
        slices.listed(&HashSet::new());
        let inner = slices.inner.lock();
        assert!(inner.slices.is_empty() && inner.named.is_empty());
        assert!(inner.doubts.values().all(HashSet::is_empty));
    }
}
