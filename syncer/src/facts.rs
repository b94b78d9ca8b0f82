//! Small typed indexes that translation needs: who refers to what, which addresses and namespaces are the tenant's.

use crate::{offered::Offered, table::Table};
use parking_lot::RwLock;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};
use tenancy::{
    kind::{
        self, Facts, Reference, Resource,
        isolation::{Ruled, Scope},
    },
    object::Object,
    offer::Offers,
    selector,
    tenant::{Key, TenantId},
};

/// A tenant's indexes.
#[derive(Default)]
pub(crate) struct Index {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// What each pod refers to, and how many pods refer to each object.
    references: HashMap<Key, Vec<Key>>,
    referrers: HashMap<Key, u32>,
    namespaces: HashMap<Arc<str>, BTreeMap<String, String>>,
    selectorless: HashSet<Key>,
    selecting: HashSet<Key>,
    /// What the NetworkPolicies of each namespace rule.
    policies: HashMap<Arc<str>, HashMap<Arc<str>, Scope>>,
    addresses: HashMap<Key, Vec<IpAddr>>,
    owners: HashMap<IpAddr, Key>,
}

/// What a change of references means for the objects referred to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReferenceChange {
    /// Now needed, and wasn't before.
    pub(crate) needed: Vec<Key>,
    /// No longer needed by anything.
    pub(crate) unneeded: Vec<Key>,
}

impl Index {
    /// Records what `referrer` refers to; an empty list forgets it.
    pub(crate) fn refer(&self, referrer: &Key, references: &[Reference]) -> ReferenceChange {
        let now: Vec<Key> = references
            .iter()
            .map(|reference| {
                Key::new(
                    kind::index(reference.kind),
                    &referrer.namespace,
                    &reference.name,
                )
            })
            .collect();
        let mut inner = self.inner.write();
        let before = if now.is_empty() {
            inner.references.remove(referrer).unwrap_or_default()
        } else {
            inner
                .references
                .insert(referrer.clone(), now.clone())
                .unwrap_or_default()
        };
        let mut change = ReferenceChange::default();
        for key in &now {
            let count = inner.referrers.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 && !before.contains(key) {
                change.needed.push(key.clone());
            }
        }
        for key in before {
            let Some(count) = inner.referrers.get_mut(&key) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                inner.referrers.remove(&key);
                change.unneeded.push(key);
            }
        }
        change
    }

    /// Whether anything refers to an object.
    pub(crate) fn is_referenced(&self, key: &Key) -> bool {
        self.inner.read().referrers.contains_key(key)
    }

    /// Records a namespace's labels, or that it is gone; returns whether that is news.
    pub(crate) fn namespace(&self, name: &str, object: Option<&Object>) -> bool {
        let mut inner = self.inner.write();
        match object {
            Some(object) => {
                let labels: BTreeMap<String, String> = object
                    .labels()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                inner.namespaces.insert(name.into(), labels.clone()) != Some(labels)
            }
            None => inner.namespaces.remove(name).is_some(),
        }
    }

    /// Records whether a Service has a selector; returns whether that is news.
    pub(crate) fn service(&self, key: &Key, object: Option<&Object>) -> bool {
        let mut inner = self.inner.write();
        let before = (inner.selectorless.remove(key), inner.selecting.remove(key));
        let Some(object) = object else {
            return before != (false, false);
        };
        let selects = object
            .at("/spec/selector")
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty());
        let set = if selects {
            &mut inner.selecting
        } else {
            &mut inner.selectorless
        };
        set.insert(key.clone());
        before != (!selects, selects)
    }

    /// Records what a NetworkPolicy rules, or that it is gone; returns whether that is news.
    pub(crate) fn policy(&self, key: &Key, object: Option<&Object>) -> bool {
        let mut inner = self.inner.write();
        let scope = object.map(Scope::of);
        let policies = inner.policies.entry(key.namespace.clone()).or_default();
        let before = match scope.clone() {
            Some(scope) => policies.insert(key.name.clone(), scope),
            None => policies.remove(&key.name),
        };
        if policies.is_empty() {
            inner.policies.remove(&key.namespace);
        }
        before != scope
    }

    /// Whether there is a Service without a selector, so that addresses of pods matter to slices.
    pub(crate) fn has_selectorless(&self) -> bool {
        !self.inner.read().selectorless.is_empty()
    }

    /// Whether a running pod has the address, as far as is known.
    pub(crate) fn is_pod_address(&self, address: IpAddr) -> bool {
        self.inner.read().owners.contains_key(&address)
    }

    /// Records the addresses of a pod that runs; returns those that are nobody's since, if there is any news.
    pub(crate) fn pod_addresses(&self, key: &Key, object: Option<&Object>) -> Option<Vec<IpAddr>> {
        let now = object.map(kind::running_addresses).unwrap_or_default();
        let mut inner = self.inner.write();
        if inner.addresses.get(key).map_or(&[][..], Vec::as_slice) == now {
            return None;
        }
        let mut left = vec![];
        for address in inner.addresses.remove(key).unwrap_or_default() {
            if inner.owners.get(&address) == Some(key) {
                inner.owners.remove(&address);
                left.push(address);
            }
        }
        for address in &now {
            inner.owners.insert(*address, key.clone());
        }
        left.retain(|address| !now.contains(address));
        if !now.is_empty() {
            inner.addresses.insert(key.clone(), now);
        }
        Some(left)
    }
}

/// Answers for one translation.
pub(crate) struct Answers<'a> {
    pub(crate) index: &'a Index,
    pub(crate) table: &'a Table,
    pub(crate) offered: &'a Offered,
    pub(crate) offers: &'a Offers,
    pub(crate) tenant: &'a TenantId,
}

impl Answers<'_> {
    /// The key of an object that there is, if class, label and VirtualControlPlane offer it to the tenant.
    fn includes(&self, name_of_kind: &str, name: &str) -> Option<Key> {
        let (kind, rule) = (0u8..)
            .zip(kind::KINDS)
            .find(|(_, rule)| rule.resource().kind == name_of_kind)?;
        let key = Key::new(kind, rule.published_namespace(), name);
        let labelled = self.offered.is_labelled(&key)?;
        self.offers
            .includes(rule.resource(), name, labelled)
            .then_some(key)
    }
}

impl Facts for Answers<'_> {
    fn is_referenced(&self, resource: &Resource, namespace: &str, name: &str) -> bool {
        let key = Key::new(kind::index(resource.kind), namespace, name);
        self.index.is_referenced(&key)
    }

    fn is_pod_address(&self, address: IpAddr) -> bool {
        self.index.is_pod_address(address)
    }

    fn namespaces(&self, wanted: &Value) -> Vec<String> {
        let inner = self.index.inner.read();
        let matching = inner
            .namespaces
            .iter()
            .filter(|(_, labels)| selector::matches(wanted, labels));
        let mut names: Vec<String> = matching.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn has_selector(&self, namespace: &str, service: &str) -> Option<bool> {
        let key = Key::new(kind::index("Service"), namespace, service);
        let inner = self.index.inner.read();
        if inner.selecting.contains(&key) {
            return Some(true);
        }
        inner.selectorless.contains(&key).then_some(false)
    }

    fn uid(&self, name_of_kind: &str, namespace: &str, name: &str, twin: &str) -> Option<String> {
        let position = kind::KINDS
            .iter()
            .position(|entry| entry.resource().kind == name_of_kind)?;
        let key = Key::new(u8::try_from(position).ok()?, namespace, name);
        let entry = self.table.get(&key);
        entry.twin.filter(|known| *known.uid == *twin)?;
        entry.tenant.map(|side| side.uid.to_string())
    }

    fn ruled(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Ruled {
        let inner = self.index.inner.read();
        let policies = inner.policies.get(namespace).into_iter().flatten();
        policies.fold(Ruled::default(), |ruled, (_, scope)| {
            let more = scope.rules(labels);
            Ruled {
                ingress: ruled.ingress || more.ingress,
                egress: ruled.egress || more.egress,
            }
        })
    }

    fn is_offered(&self, name_of_kind: &str, name: &str) -> bool {
        self.includes(name_of_kind, name)
            .is_some_and(|key| !self.offers.keeps_back(self.offered.keeps_volumes(&key)))
    }

    fn is_kept_back(&self, storage_class: &str) -> bool {
        self.includes("StorageClass", storage_class)
            .is_some_and(|key| self.offers.keeps_back(self.offered.keeps_volumes(&key)))
    }

    fn device_classes(&self, resource: &str) -> Vec<String> {
        self.offered.device_classes(resource)
    }

    fn runs_on(&self, node: &str) -> bool {
        self.table.has_pod_on(node)
    }

    fn is_host_taken(&self, host: &str) -> bool {
        self.offered.hosts.read().is_taken(host, self.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str) -> Key {
        Key::new(kind::index("Pod"), "default", name)
    }

    fn reference(name: &str) -> Reference {
        Reference {
            kind: "ConfigMap",
            name: name.into(),
        }
    }

    #[test]
    fn an_object_is_needed_from_its_first_to_its_last_referrer() {
        let index = Index::default();
        let object = Key::new(kind::index("ConfigMap"), "default", "a");
        assert_eq!(
            index.refer(&pod("p"), &[reference("a")]).needed,
            std::slice::from_ref(&object)
        );
        assert_eq!(
            index.refer(&pod("q"), &[reference("a")]),
            ReferenceChange::default()
        );
        assert_eq!(
            index.refer(&pod("p"), &[reference("a")]),
            ReferenceChange::default(),
            "the same again"
        );
        assert_eq!(index.refer(&pod("p"), &[]), ReferenceChange::default());
        assert_eq!(index.refer(&pod("q"), &[]).unneeded, [object]);
    }

    /// T20: volumes that stay when their claims are gone.
    #[test]
    fn t20_a_class_that_keeps_volumes_is_offered_to_those_alone_that_may_have_them() {
        let offered = Offered::default();
        for (name, policy) in [("fast", "Delete"), ("kept", "Retain")] {
            let key = Key::new(kind::index("StorageClass"), "", name);
            let labels = json!({api::keys::PUBLISHED: "true"});
            let class = json!({"metadata": {"name": name, "resourceVersion": "1", "labels": labels},
                "reclaimPolicy": policy});
            offered.note(&key, &Object::from_value(class).unwrap());
        }
        let (index, id) = (Index::default(), TenantId::from_bits([1; 16]));
        let room = crate::pending::Room::of(0);
        let table = Table::within(&room, &crate::ceiling::Ceiling::of(usize::MAX));
        let seen = |offers: &Offers, name: &str| {
            let answers = Answers {
                index: &index,
                table: &table,
                offered: &offered,
                offers,
                tenant: &id,
            };
            (
                answers.is_offered("StorageClass", name),
                answers.is_kept_back(name),
            )
        };
        let mut offers = Offers::default();
        assert_eq!(seen(&offers, "fast"), (true, false));
        assert_eq!(seen(&offers, "kept"), (false, true));
        assert_eq!(seen(&offers, "gone"), (false, false));
        offers.storage.retain = api::Retain::Allowed;
        assert_eq!(seen(&offers, "kept"), (true, false));
        // Nothing is told of what isn't offered anyhow.
        let narrowed = Offers {
            only: vec![api::Offer {
                resource: "storageclasses.storage.k8s.io".into(),
                names: vec!["fast".into()],
            }],
            ..Offers::default()
        };
        assert_eq!(seen(&narrowed, "kept"), (false, false));
    }

    #[test]
    fn an_address_is_its_last_pods() {
        let index = Index::default();
        let running =
            Object::from_value(json!({"metadata": {}, "status": {"podIPs": [{"ip": "10.1.0.5"}]}}))
                .unwrap();
        let table = Table::within(
            &crate::pending::Room::of(0),
            &crate::ceiling::Ceiling::of(usize::MAX),
        );
        let known = |index: &Index| {
            Answers {
                index,
                table: &table,
                offered: &Offered::default(),
                offers: &Offers::default(),
                tenant: &TenantId::from_bits([1; 16]),
            }
            .is_pod_address("10.1.0.5".parse().unwrap())
        };
        let address: IpAddr = "10.1.0.5".parse().unwrap();
        assert_eq!(index.pod_addresses(&pod("p"), Some(&running)), Some(vec![]));
        assert_eq!(index.pod_addresses(&pod("p"), Some(&running)), None);
        assert_eq!(
            index.pod_addresses(&pod("q"), Some(&running)),
            Some(vec![]),
            "the address was given on"
        );
        assert_eq!(index.pod_addresses(&pod("p"), None), Some(vec![]));
        assert!(known(&index));
        assert_eq!(index.pod_addresses(&pod("q"), None), Some(vec![address]));
        assert!(!known(&index));
    }
}
