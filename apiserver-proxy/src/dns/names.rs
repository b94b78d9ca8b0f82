//! What tenants' names mean, as the super cluster's objects tell: namespaces, Services and the addresses behind them.
//!
//! Everything is kept under the super namespace that it is in, and a super namespace is one tenant's. So nothing that a
//! Service or EndpointSlice says of itself brings it into another tenant's names.

mod read;

use k8s_openapi::api::{
    core::v1::{Namespace, Service as SuperService},
    discovery::v1::EndpointSlice,
};
use kube::ResourceExt;
use parking_lot::{RwLock, RwLockReadGuard};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};
use tenancy::object::NamespacedName;

/// Label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All names of all tenants.
#[derive(Default)]
pub(crate) struct Names {
    known: RwLock<NameTable>,
}

/// What is known now.
#[derive(Default)]
pub(super) struct NameTable {
    spaces: HashMap<String, Space>,
    /// Tenant, then its namespace, then the super namespace.
    tenants: HashMap<String, HashMap<String, String>>,
    /// Which Services an address belongs to: super namespace and name.
    addresses: HashMap<IpAddr, Vec<NamespacedName>>,
    /// Counts changes.
    version: u32,
}

/// A super namespace.
#[derive(Default)]
struct Space {
    owner: Option<Owner>,
    entries: HashMap<String, Entry>,
    /// The Service of each slice, by the slice's name.
    slices: HashMap<String, String>,
}

/// Whose a super namespace is, and which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Identity.
    tenant: String,
    /// Namespace in the tenant.
    pub(super) namespace: String,
}

/// A Service and what is behind it.
#[derive(Default)]
pub(super) struct Entry {
    service: Option<Marked>,
    slices: BTreeMap<String, Slice>,
}

/// A Service and what it says of its owner.
struct Marked {
    owner: Owner,
    service: Service,
}

/// A Service, as far as names need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// What its name leads to.
    pub(super) leads_to: LeadsTo,
    /// Its ports; one without a number when it declares none.
    pub(super) ports: Vec<Port>,
}

/// What the name of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeadsTo {
    /// Its cluster IPs.
    Itself(Vec<IpAddr>),
    /// The endpoints behind it.
    Endpoints,
    /// A Service of others that the tenant is shown: the address of that.
    Shown(Slice),
    /// Another name.
    Name(String),
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// Name; may be empty.
    pub(super) name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    /// Number; `None` where none is declared, which has no SRV record.
    pub(super) number: Option<u16>,
}

/// The ready endpoints of one EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ports: Vec<Port>,
}

/// An address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its label, in lower case: the pod's host name, or the address with dashes.
    pub(super) label: String,
    /// The address.
    pub(super) address: IpAddr,
}

impl Names {
    /// A super namespace is there, or has changed.
    pub(crate) fn set_namespace(&self, place: &NamespacedName, namespace: &Namespace) {
        let mut known = self.known.write();
        known.drop_namespace(&place.1);
        if let Some(owner) = read::namespace(namespace) {
            let spaces = known.tenants.entry(owner.tenant.clone()).or_default();
            spaces.insert(owner.namespace.clone(), place.1.clone());
            known.spaces.entry(place.1.clone()).or_default().owner = Some(owner);
        }
    }

    /// A super namespace is gone.
    pub(crate) fn drop_namespace(&self, place: &NamespacedName) {
        self.known.write().drop_namespace(&place.1);
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_namespaces(&self, listed: &HashSet<NamespacedName>) {
        let mut known = self.known.write();
        let names: HashSet<&str> = listed.iter().map(|place| place.1.as_str()).collect();
        let spaces = known.spaces.iter();
        let gone =
            spaces.filter(|(name, space)| space.owner.is_some() && !names.contains(name.as_str()));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| known.drop_namespace(name));
    }

    /// A Service is there, or has changed.
    pub(crate) fn set_service(&self, place: &NamespacedName, service: &SuperService) {
        let service = read::service(service);
        self.known
            .write()
            .change(place, |entry| entry.service = service);
    }

    /// A Service is gone.
    pub(crate) fn drop_service(&self, place: &NamespacedName) {
        self.known
            .write()
            .change(place, |entry| entry.service = None);
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_services(&self, listed: &HashSet<NamespacedName>) {
        let mut known = self.known.write();
        let mut gone = vec![];
        for (namespace, space) in &known.spaces {
            let there = space
                .entries
                .iter()
                .filter(|(_, entry)| entry.service.is_some());
            let places = there.map(|(name, _)| (namespace.clone(), name.clone()));
            gone.extend(places.filter(|place| !listed.contains(place)));
        }
        for place in gone {
            known.change(&place, |entry| entry.service = None);
        }
    }

    /// An EndpointSlice is there, or has changed.
    pub(crate) fn set_slice(&self, place: &NamespacedName, slice: &EndpointSlice) {
        let mut known = self.known.write();
        known.drop_slice(place);
        let Some(service) = slice.labels().get(SERVICE_NAME).cloned() else {
            return;
        };
        let (namespace, name) = place.clone();
        let space = known.spaces.entry(namespace.clone()).or_default();
        space.slices.insert(name.clone(), service.clone());
        let slice = read::slice(slice);
        known.change(&(namespace, service), |entry| {
            entry.slices.insert(name, slice);
        });
    }

    /// An EndpointSlice is gone.
    pub(crate) fn drop_slice(&self, place: &NamespacedName) {
        self.known.write().drop_slice(place);
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_slices(&self, listed: &HashSet<NamespacedName>) {
        let mut known = self.known.write();
        let mut gone = vec![];
        for (namespace, space) in &known.spaces {
            let places = space
                .slices
                .keys()
                .map(|name| (namespace.clone(), name.clone()));
            gone.extend(places.filter(|place| !listed.contains(place)));
        }
        gone.iter().for_each(|place| known.drop_slice(place));
    }

    /// What is known now, until the answer is dropped; nothing is awaited meanwhile.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, NameTable> {
        self.known.read()
    }
}

impl NameTable {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.spaces.is_empty() && self.tenants.is_empty() && self.addresses.is_empty()
    }

    /// Counts changes.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Whether the tenant has that namespace.
    pub(super) fn is_namespace(&self, tenant: &str, namespace: &str) -> bool {
        self.space(tenant, namespace).is_some()
    }

    /// A Service of the tenant, and the slices behind it.
    pub(super) fn service(
        &self,
        tenant: &str,
        namespace: &str,
        name: &str,
    ) -> Option<(&Service, impl Iterator<Item = &Slice>)> {
        let space = self.space(tenant, namespace)?;
        let entry = space.entries.get(name)?;
        let service = entry.own(space.owner.as_ref()?)?;
        let shown = match &service.leads_to {
            LeadsTo::Shown(slice) => Some(slice),
            _ => None,
        };
        Some((service, shown.into_iter().chain(entry.slices.values())))
    }

    /// The tenant's Services that have the address, or have it behind them: namespace, name, Service, slices.
    pub(super) fn by_address(
        &self,
        tenant: &str,
        address: IpAddr,
    ) -> impl Iterator<Item = (&str, &str, &Service, impl Iterator<Item = &Slice>)> {
        let places = self.addresses.get(&address).into_iter().flatten();
        places.filter_map(move |(namespace, name)| {
            let owner = self.spaces.get(namespace)?.owner.as_ref()?;
            if owner.tenant != tenant {
                return None;
            }
            let (service, slices) = self.service(tenant, &owner.namespace, name)?;
            Some((owner.namespace.as_str(), name.as_str(), service, slices))
        })
    }

    fn space(&self, tenant: &str, namespace: &str) -> Option<&Space> {
        self.spaces.get(self.tenants.get(tenant)?.get(namespace)?)
    }

    fn drop_namespace(&mut self, name: &str) {
        self.version = self.version.wrapping_add(1);
        let Some(space) = self.spaces.get_mut(name) else {
            return;
        };
        if let Some(owner) = space.owner.take()
            && let Some(spaces) = self.tenants.get_mut(&owner.tenant)
        {
            if spaces
                .get(&owner.namespace)
                .is_some_and(|space| space == name)
            {
                spaces.remove(&owner.namespace);
            }
            if spaces.is_empty() {
                self.tenants.remove(&owner.tenant);
            }
        }
        self.tidy(name);
    }

    fn drop_slice(&mut self, place: &NamespacedName) {
        let (namespace, name) = place;
        let Some(space) = self.spaces.get_mut(namespace) else {
            return;
        };
        if let Some(service) = space.slices.remove(name) {
            self.change(&(namespace.clone(), service), |entry| {
                entry.slices.remove(name);
            });
        }
    }

    /// Changes an entry and keeps the addresses in step.
    fn change(&mut self, place: &NamespacedName, change: impl FnOnce(&mut Entry)) {
        self.version = self.version.wrapping_add(1);
        let space = self.spaces.entry(place.0.clone()).or_default();
        let entry = space.entries.entry(place.1.clone()).or_default();
        let before: HashSet<IpAddr> = entry.addresses().collect();
        change(entry);
        let after: HashSet<IpAddr> = entry.addresses().collect();
        if entry.service.is_none() && entry.slices.is_empty() {
            space.entries.remove(&place.1);
        }
        for gone in before.difference(&after) {
            if let Some(places) = self.addresses.get_mut(gone) {
                places.retain(|known| known != place);
                if places.is_empty() {
                    self.addresses.remove(gone);
                }
            }
        }
        for new in after.difference(&before) {
            self.addresses.entry(*new).or_default().push(place.clone());
        }
        self.tidy(&place.0);
    }

    fn tidy(&mut self, space: &str) {
        let is_empty = |space: &Space| {
            space.owner.is_none() && space.entries.is_empty() && space.slices.is_empty()
        };
        if self.spaces.get(space).is_some_and(is_empty) {
            self.spaces.remove(space);
        }
    }
}

impl Entry {
    /// The Service, if it says that it is whose namespace it is in.
    fn own(&self, owner: &Owner) -> Option<&Service> {
        let marked = self.service.as_ref()?;
        (marked.owner == *owner).then_some(&marked.service)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let leads_to = self.service.as_ref().map(|marked| &marked.service.leads_to);
        let (own, shown) = match leads_to {
            Some(LeadsTo::Itself(addresses)) => (addresses.as_slice(), None),
            Some(LeadsTo::Shown(slice)) => (&[][..], Some(slice)),
            _ => (&[][..], None),
        };
        let slices = shown.into_iter().chain(self.slices.values());
        let behind =
            slices.flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address));
        own.iter().copied().chain(behind)
    }
}
