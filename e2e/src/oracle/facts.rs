//! What translation asks about a tenant, answered from lists of all its objects: another source than the syncer's.

use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};
use tenancy::{
    kind::{
        Facts, KINDS, Resource, is_finished,
        isolation::{Ruled, Scope},
    },
    object::Object,
    selector,
    tenant::TenantRules,
};

/// Kind, namespace and name.
pub(super) type Place = (&'static str, String, String);

/// All objects of one tenant.
pub(super) struct Known {
    pub(super) objects: HashMap<Place, Object>,
    referenced: HashSet<(String, String, String)>,
    addresses: HashSet<IpAddr>,
}

impl Known {
    /// `twins` are the super objects by the place of their tenant object.
    pub(super) fn new(
        objects: HashMap<Place, Object>,
        twins: &HashMap<Place, Object>,
        rules: &TenantRules,
    ) -> Self {
        let pods = twins
            .iter()
            .filter(|((kind, ..), pod)| *kind == "Pod" && !is_finished(pod));
        let addresses = pods
            .filter_map(|(_, pod)| pod.text("/status/podIP")?.parse().ok())
            .collect();
        let mut known = Self {
            objects,
            referenced: HashSet::new(),
            addresses,
        };
        known.referenced = known.references(rules);
        known
    }

    fn references(&self, rules: &TenantRules) -> HashSet<(String, String, String)> {
        let mut referenced = HashSet::new();
        for ((kind, namespace, _), object) in &self.objects {
            for rule in KINDS.iter().filter(|rule| rule.resource().kind == *kind) {
                for reference in rule.references(object, &rules.custom) {
                    referenced.insert((reference.kind.into(), namespace.clone(), reference.name));
                }
            }
        }
        referenced
    }
}

impl Facts for Known {
    fn is_referenced(&self, kind: &Resource, namespace: &str, name: &str) -> bool {
        self.referenced
            .contains(&(kind.kind.into(), namespace.into(), name.into()))
    }

    fn is_pod_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    fn namespaces(&self, wanted: &Value) -> Vec<String> {
        let mut names: Vec<String> = self
            .objects
            .iter()
            .filter(|((kind, ..), _)| *kind == "Namespace")
            .filter(|(_, object)| {
                let labels: BTreeMap<String, String> = object
                    .labels()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                selector::matches(wanted, &labels)
            })
            .map(|((_, _, name), _)| name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    fn has_selector(&self, namespace: &str, service: &str) -> Option<bool> {
        let place = ("Service", namespace.to_owned(), service.to_owned());
        let selector = self.objects.get(&place)?.at("/spec/selector");
        Some(
            selector
                .and_then(Value::as_object)
                .is_some_and(|map| !map.is_empty()),
        )
    }

    fn uid(&self, kind: &str, namespace: &str, name: &str, _twin: &str) -> Option<String> {
        let found = self
            .objects
            .iter()
            .find(|((known, space, own), _)| *known == kind && space == namespace && own == name);
        found.map(|(_, object)| object.uid().to_owned())
    }

    fn ruled(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Ruled {
        let policies = self
            .objects
            .iter()
            .filter(|((kind, space, _), _)| *kind == "NetworkPolicy" && space == namespace);
        let ruled = policies.map(|(_, policy)| Scope::of(policy).rules(labels));
        ruled.fold(Ruled::default(), |all, one| Ruled {
            ingress: all.ingress || one.ingress,
            egress: all.egress || one.egress,
        })
    }

    fn is_offered(&self, _kind: &str, _name: &str) -> bool {
        // A rig's super cluster has no classes.
        false
    }
}
