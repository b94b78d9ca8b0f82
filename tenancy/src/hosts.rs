//! Host names belong to the tenant that had them first.
//!
//! Patterns of a class may allow the same name to several tenants; whoever's Ingress, Gateway or route is the oldest in the
//! super cluster keeps it, and what overlaps with it: a wildcard and a name below it can't be of two tenants. Two that
//! come at the same moment may both be made; which of them goes again is the same for every syncer.

use crate::{
    kind::Resource,
    object::Object,
    tenant::{Key, TenantId},
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Reason of a refusal because of another tenant's host.
pub const TAKEN: &str = "HostTaken";

/// Hosts of all tenants' super objects.
#[derive(Debug, Default)]
pub struct Hosts {
    /// By place: the super object's kind, namespace and name.
    objects: HashMap<Key, Named>,
    /// Places by host, its labels from the last to the first.
    places: BTreeMap<String, HashSet<Key>>,
}

#[derive(Debug)]
struct Named {
    tenant: TenantId,
    key: Key,
    /// Creation and UID: the smaller was first.
    since: (String, String),
    hosts: Vec<String>,
}

/// Whether objects of a kind take hosts.
pub fn takes(resource: &Resource) -> bool {
    matches!(
        resource.kind,
        "Ingress" | "Gateway" | "HTTPRoute" | "GRPCRoute" | "TLSRoute"
    )
}

/// Whether a Gateway's listener takes a host: by TCP and UDP none is named, and listeners are told apart by their port.
pub fn has_host(listener: &Value) -> bool {
    !matches!(listener["protocol"].as_str(), Some("TCP" | "UDP"))
}

/// The hosts that an object takes; an empty one stands for all that nobody names.
pub fn of(object: &Object) -> Vec<String> {
    let list = |pointer: &str| {
        let list = object.at(pointer).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    let named = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut hosts: Vec<String> = list("/spec/rules")
        .filter(|rule| object.text("/kind") == Some("Ingress") || rule.get("host").is_some())
        .map(|rule| named(rule, "host"))
        .collect();
    let listeners = list("/spec/listeners").filter(|listener| has_host(listener));
    hosts.extend(listeners.map(|listener| named(listener, "hostname")));
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|host| Some(host.as_str()?.to_owned()))
            .collect()
    };
    hosts.extend(list("/spec/tls").flat_map(|tls| texts(&tls["hosts"])));
    hosts.extend(object.at("/spec/hostnames").map(texts).unwrap_or_default());
    if object.at("/spec/defaultBackend").is_some() {
        hosts.push(String::new());
    }
    for host in &mut hosts {
        host.make_ascii_lowercase();
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

impl Hosts {
    /// A super object exists in this state; returns keys of other tenants that now have a rival.
    pub fn note(
        &mut self,
        place: &Key,
        tenant: &TenantId,
        key: &Key,
        object: &Object,
    ) -> Vec<(TenantId, Key)> {
        let hosts = of(object);
        let created = object.text("/metadata/creationTimestamp");
        let since = (
            created.unwrap_or_default().to_owned(),
            object.uid().to_owned(),
        );
        let known = self.objects.get(place);
        if known.is_some_and(|known| known.hosts == hosts && known.since == since) {
            return vec![];
        }
        self.forget(place);
        for host in &hosts {
            let places = self.places.entry(reversed(host)).or_default();
            places.insert(place.clone());
        }
        let named = Named {
            tenant: tenant.clone(),
            key: key.clone(),
            since,
            hosts: hosts.clone(),
        };
        self.objects.insert(place.clone(), named);
        let mut rivals: Vec<(TenantId, Key)> = hosts
            .iter()
            .flat_map(|host| self.overlapping(host))
            .filter(|other| other.tenant != *tenant)
            .map(|other| (other.tenant.clone(), other.key.clone()))
            .collect();
        if !rivals.is_empty() {
            // Which of the two was first is for both to find out.
            rivals.push((tenant.clone(), key.clone()));
        }
        rivals
    }

    /// A super object is gone; returns whether it had hosts.
    pub fn forget(&mut self, place: &Key) -> bool {
        let Some(named) = self.objects.remove(place) else {
            return false;
        };
        for host in &named.hosts {
            let host = reversed(host);
            if let Some(places) = self.places.get_mut(&host) {
                places.remove(place);
                if places.is_empty() {
                    self.places.remove(&host);
                }
            }
        }
        !named.hosts.is_empty()
    }

    /// Places of a kind that aren't among `present`.
    pub fn missing(&self, kind: u8, present: &HashSet<Key>) -> Vec<Key> {
        let places = self.objects.keys();
        places
            .filter(|place| place.kind == kind && !present.contains(place))
            .cloned()
            .collect()
    }

    /// Whether another tenant had the host, or one that overlaps with it, before this one.
    pub fn is_taken(&self, host: &str, tenant: &TenantId) -> bool {
        let host = host.to_ascii_lowercase();
        let overlapping: Vec<&Named> = self.overlapping(&host).collect();
        let first = |is_own: bool| {
            let named = overlapping
                .iter()
                .filter(|named| (named.tenant == *tenant) == is_own);
            named.map(|named| &named.since).min()
        };
        match (first(false), first(true)) {
            (Some(other), Some(own)) => other < own,
            (other, _) => other.is_some(),
        }
    }

    fn overlapping(&self, host: &str) -> impl Iterator<Item = &Named> {
        let host = reversed(host);
        let mut found: HashSet<&Key> = self.places.get(&host).into_iter().flatten().collect();
        if !host.is_empty() {
            // Wildcards above it.
            for (at, _) in host.match_indices('.') {
                let wildcard = format!("{}.*", &host[..at]);
                found.extend(self.places.get(&wildcard).into_iter().flatten());
            }
            found.extend(self.places.get("*").into_iter().flatten());
        }
        if let Some(above) = host.strip_suffix('*') {
            // All below a wildcard.
            let below = self
                .places
                .range(above.to_owned()..)
                .take_while(|(other, _)| other.starts_with(above));
            found.extend(
                below
                    .filter(|(other, _)| !other.is_empty())
                    .flat_map(|(_, places)| places),
            );
        }
        found
            .into_iter()
            .filter_map(|place| self.objects.get(place))
    }
}

fn reversed(host: &str) -> String {
    host.split('.').rev().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::index;
    use serde_json::json;

    fn id(number: u8) -> TenantId {
        TenantId::from_bits([number; 16])
    }

    fn key(tenant: u8) -> Key {
        Key::new(index("Ingress"), "default", &format!("i{tenant}"))
    }

    fn place(tenant: u8) -> Key {
        Key::new(index("Ingress"), &format!("super-{tenant}"), "i")
    }

    fn note(hosts: &mut Hosts, tenant: u8, created: &str, host: &str) -> usize {
        let object = Object::from_value(json!({
            "kind": "Ingress", "metadata": {"uid": format!("u{tenant}"), "creationTimestamp": created},
            "spec": {"rules": [{"host": host}]},
        }));
        hosts
            .note(&place(tenant), &id(tenant), &key(tenant), &object.unwrap())
            .len()
    }

    #[test]
    fn the_first_keeps_a_host_until_it_goes() {
        let mut hosts = Hosts::default();
        assert_eq!(
            note(&mut hosts, 1, "2026-01-01T00:00:00Z", "Shop.example"),
            0
        );
        assert!(hosts.is_taken("shop.example", &id(2)));
        assert!(!hosts.is_taken("shop.example", &id(1)));
        assert!(!hosts.is_taken("other.example", &id(2)));
        assert!(hosts.forget(&place(1)));
        assert!(!hosts.is_taken("shop.example", &id(2)) && !hosts.forget(&place(1)));
    }

    #[test]
    fn of_two_that_came_at_once_every_syncer_names_the_same() {
        let mut hosts = Hosts::default();
        let now = "2026-01-01T00:00:00Z";
        note(&mut hosts, 2, now, "shop.example");
        // Both are looked at again.
        assert_eq!(note(&mut hosts, 1, now, "shop.example"), 2);
        assert!(hosts.is_taken("shop.example", &id(2)) && !hosts.is_taken("shop.example", &id(1)));
        // The same again is no news.
        assert_eq!(note(&mut hosts, 1, now, "shop.example"), 0);
        assert_eq!(note(&mut hosts, 1, now, "other.example"), 0);
        assert!(!hosts.is_taken("shop.example", &id(2)));
    }

    #[test]
    fn wildcards_and_names_below_them_overlap() {
        for (one, other, overlaps) in [
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", true),
            ("a.b.example", "*.example", true),
            ("a.example", "*.example", true),
            ("*.b.example", "*.example", true),
            ("*", "a.example", true),
            ("*.example", "example", false),
            ("*.example", "a.xexample", false),
            ("a.example", "b.example", false),
            ("", "", true),
            ("", "a.example", false),
            ("a.example", "", false),
            ("*", "", false),
        ] {
            let mut hosts = Hosts::default();
            note(&mut hosts, 1, "2026-01-01T00:00:00Z", one);
            assert_eq!(hosts.is_taken(other, &id(2)), overlaps, "{one:?} {other:?}");
        }
    }

    #[test]
    fn every_place_of_a_host_is_found() {
        let named = |object: Value| of(&Object::from_value(object).unwrap());
        assert_eq!(
            named(json!({"kind": "Ingress", "metadata": {}, "spec": {
                "rules": [{"host": "b"}, {}], "tls": [{"hosts": ["a"]}], "defaultBackend": {},
            }})),
            ["", "a", "b"]
        );
        assert_eq!(
            named(
                json!({"kind": "Gateway", "metadata": {}, "spec": {"listeners": [{"hostname": "A"}, {}]}})
            ),
            ["", "a"]
        );
        let by_port =
            json!([{"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "TLS", "hostname": "a"}]);
        assert_eq!(
            named(json!({"kind": "Gateway", "metadata": {}, "spec": {"listeners": by_port}})),
            ["a"]
        );
        assert_eq!(
            named(
                json!({"kind": "HTTPRoute", "metadata": {}, "spec": {"hostnames": ["a"], "rules": [{}]}})
            ),
            ["a"]
        );
    }
}
