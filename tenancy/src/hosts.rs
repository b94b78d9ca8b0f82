//! Host names belong to the tenant that had them first.
//!
//! Patterns of a class may allow the same name to several tenants; whose Ingress, Gateway or route took it first in the super
//! cluster keeps it, and what overlaps with it: a wildcard and a name below it can't be of two tenants. Two that come at
//! the same moment may both be made; which of them goes again is the same for every syncer.
//!
//! A host is taken when the super object is made, or by a later edit; when that was stands on the super object ([`date`]),
//! so that every syncer knows it, one that has just started too.

use crate::{
    kind::Resource,
    object::Object,
    tenant::{Key, TenantId},
};
use api::keys;
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

#[derive(Debug, PartialEq, Eq)]
struct Named {
    tenant: TenantId,
    key: Key,
    uid: String,
    created: String,
    hosts: Vec<String>,
    /// When those were taken that weren't at the creation.
    taken: BTreeMap<String, String>,
}

impl Named {
    /// When it took a host, and its UID: the smaller was first.
    fn since(&self, host: &str) -> (&str, &str) {
        let taken = self.taken.get(host).unwrap_or(&self.created);
        (taken, &self.uid)
    }
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

/// Writes onto `want` when it takes those hosts that `have`, the super object as it stands, hasn't had since its creation:
/// what `have` says of a host that stays, and `now` for a new one.
pub fn date(want: &mut Object, have: &Object, now: &str) {
    let (had, known) = (of(have), taken(have));
    let taken: BTreeMap<String, String> = of(want)
        .into_iter()
        .filter_map(|host| {
            let since = if had.contains(&host) {
                known.get(&host)?.clone()
            } else {
                now.to_owned()
            };
            Some((host, since))
        })
        .collect();
    // What was written once is written over: a time of a host that went must not count when it comes again.
    if !taken.is_empty() || have.annotation(keys::HOSTS).is_some() {
        want.annotate(keys::HOSTS, &Value::from_iter(taken).to_string());
    }
}

/// When a super object took the hosts that it hasn't had since its creation, in RFC 3339.
fn taken(object: &Object) -> BTreeMap<String, String> {
    let written = object.annotation(keys::HOSTS).unwrap_or_default();
    serde_json::from_str(written).unwrap_or_default()
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
        let created = object.text("/metadata/creationTimestamp");
        let named = Named {
            tenant: tenant.clone(),
            key: key.clone(),
            uid: object.uid().to_owned(),
            created: created.unwrap_or_default().to_owned(),
            hosts: of(object),
            taken: taken(object),
        };
        if self.objects.get(place) == Some(&named) {
            return vec![];
        }
        self.forget(place);
        let mut rivals: Vec<(TenantId, Key)> = named
            .hosts
            .iter()
            .flat_map(|host| self.overlapping(host))
            .filter(|(other, _)| other.tenant != *tenant)
            .map(|(other, _)| (other.tenant.clone(), other.key.clone()))
            .collect();
        for host in &named.hosts {
            let places = self.places.entry(reversed(host)).or_default();
            places.insert(place.clone());
        }
        self.objects.insert(place.clone(), named);
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
        let overlapping = self.overlapping(&host);
        let first = |is_own: bool| {
            let named = overlapping
                .iter()
                .filter(|(named, _)| (named.tenant == *tenant) == is_own);
            named.map(|(named, host)| named.since(host)).min()
        };
        match (first(false), first(true)) {
            (Some(other), Some(own)) => other < own,
            (other, _) => other.is_some(),
        }
    }

    /// What has a host or one that overlaps with it, and which.
    fn overlapping(&self, host: &str) -> Vec<(&Named, String)> {
        let host = reversed(host);
        let mut overlapping = vec![host.clone()];
        if !host.is_empty() {
            // Wildcards above it.
            for (at, _) in host.match_indices('.') {
                overlapping.push(format!("{}.*", &host[..at]));
            }
            overlapping.push("*".to_owned());
        }
        if let Some(above) = host.strip_suffix('*') {
            // All below a wildcard.
            let below = self
                .places
                .range(above.to_owned()..)
                .take_while(|(other, _)| other.starts_with(above));
            overlapping.extend(below.map(|(other, _)| other.clone()));
        }
        overlapping.retain(|other| !other.is_empty() || host.is_empty());
        overlapping.sort_unstable();
        overlapping.dedup();
        let placed = overlapping.iter().flat_map(|other| {
            let places = self.places.get(other).into_iter().flatten();
            places.map(move |place| (place, reversed(other)))
        });
        placed
            .filter_map(|(place, other)| Some((self.objects.get(place)?, other)))
            .collect()
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
    fn an_old_object_that_is_edited_to_a_host_does_not_beat_one_that_took_it_before() {
        let ingress = |host: &str| {
            let metadata = json!({"uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"});
            let rules = json!([{"host": "old.example"}, {"host": host}]);
            let spec = json!({"rules": rules});
            Object::from_value(json!({"kind": "Ingress", "metadata": metadata, "spec": spec}))
                .unwrap()
        };
        let mut edited = ingress("shop.example");
        date(
            &mut edited,
            &ingress("first.example"),
            "2026-01-03T00:00:00Z",
        );
        // Later edits keep the time.
        let mut again = ingress("shop.example");
        date(&mut again, &edited, "2026-01-04T00:00:00Z");
        assert_eq!(
            again.annotation(keys::HOSTS),
            Some(r#"{"shop.example":"2026-01-03T00:00:00Z"}"#)
        );
        let is_kept = |created: &str, host: &str| {
            let mut hosts = Hosts::default();
            note(&mut hosts, 2, created, host);
            hosts.note(&place(1), &id(1), &key(1), &again);
            let is_taken = hosts.is_taken(host, &id(1));
            assert_ne!(is_taken, hosts.is_taken(host, &id(2)));
            !is_taken
        };
        assert!(!is_kept("2026-01-02T00:00:00Z", "shop.example"));
        assert!(is_kept("2026-01-03T12:00:00Z", "shop.example"));
        assert!(is_kept("2026-01-02T00:00:00Z", "old.example"));
    }

    #[test]
    fn a_host_that_comes_again_is_as_new_as_any() {
        let ingress = |host: &str| {
            Object::from_value(
                json!({"kind": "Ingress", "metadata": {}, "spec": {"rules": [{"host": host}]}}),
            )
            .unwrap()
        };
        let mut stands = ingress("a");
        for (host, now, written) in [
            ("a", "1", None),
            ("b", "2", Some(r#"{"b":"2"}"#)),
            ("a", "3", Some(r#"{"a":"3"}"#)),
            ("b", "4", Some(r#"{"b":"4"}"#)),
        ] {
            let mut want = ingress(host);
            date(&mut want, &stands, now);
            assert_eq!(want.annotation(keys::HOSTS), written, "{host} {now}");
            stands = want;
        }
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
