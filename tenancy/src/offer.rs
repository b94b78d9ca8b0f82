//! What a tenant may use of what the super cluster has: its classes, and host names of the world outside.

use crate::{kind::Resource, object::Object};
use api::{Offer, OfferedAnnotation, Retain, StorageRules, keys};

/// What a tenant is offered, from its class and, narrowed, from its VirtualControlPlane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offers {
    /// What the class offers beside what is labelled for all tenants.
    pub class: Vec<Offer>,
    /// Of the resources named here only these objects.
    pub only: Vec<Offer>,
    /// Which of the StorageClasses among them is the default, and whether those that keep volumes are among them.
    pub storage: StorageRules,
    /// Host names, with `{name}` and `{namespace}` filled in.
    pub hosts: Vec<String>,
    /// Those of them of which the tenant may take wildcards.
    pub wildcards: Vec<String>,
    /// Annotations that cross beside those that mean nothing to anybody.
    pub annotations: Vec<OfferedAnnotation>,
    /// Values of `spec.loadBalancerClass` that cross.
    pub balancer_classes: Vec<String>,
}

impl Offers {
    /// Whether the tenant is offered an object; `labelled` says that the object is offered to every tenant.
    pub fn includes(&self, resource: &Resource, name: &str, labelled: bool) -> bool {
        let resource = qualified(resource);
        let named = |offer: &Offer| offer.names.iter().any(|other| other == name);
        let of = |list: &[Offer]| -> Vec<Offer> {
            list.iter()
                .filter(|offer| offer.resource == resource)
                .cloned()
                .collect()
        };
        let offered = labelled || of(&self.class).iter().any(named);
        let only = of(&self.only);
        offered && (only.is_empty() || only.iter().any(named))
    }

    /// Whether the tenant isn't offered a StorageClass because its volumes stay when their claims are gone, if `keeps` says that
    /// they do (T20).
    pub fn keeps_back(&self, keeps: bool) -> bool {
        keeps && self.storage.retain == Retain::Refused
    }

    /// Whether the tenant may use a host name; a wildcard needs a pattern that covers all it stands for, and of which wildcards
    /// may be taken: below one that several tenants share it would have whatever is free.
    pub fn allows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let patterns = if host.starts_with('*') {
            &self.wildcards
        } else {
            &self.hosts
        };
        self.allows_any_host() || patterns.iter().any(|pattern| covers(pattern, &host))
    }

    /// What an annotation on objects of a kind may say; `None` when it isn't offered, and nothing in the list for all.
    pub fn annotation(&self, kind: &str, key: &str) -> Option<&[String]> {
        let is_it = |offered: &&OfferedAnnotation| {
            offered.kind.as_str() == kind && offered.key == key && !key.starts_with(keys::PREFIX)
        };
        let offered = self.annotations.iter().find(is_it)?;
        Some(&offered.values)
    }

    /// Whether the tenant may use every host name, and so a rule that names none.
    pub fn allows_any_host(&self) -> bool {
        self.hosts.iter().any(|pattern| pattern == "*")
    }
}

/// Whether a pattern stands for a host name, or for all that a wildcard does; the host is in lower case.
fn covers(pattern: &str, host: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            suffix.starts_with('.') && host.ends_with(suffix) && host.len() > suffix.len()
        }
        None => host == pattern,
    }
}

/// Whether an object of the super cluster is offered to every tenant.
pub fn is_labelled(object: &Object) -> bool {
    object.label(keys::PUBLISHED) == Some("true")
}

/// Whether an object is a StorageClass whose volumes stay, with their data, when their claims are gone; no other kind that is
/// published has the field.
pub fn keeps_volumes(object: &Object) -> bool {
    object.text("/reclaimPolicy") == Some("Retain")
}

/// `PLURAL.GROUP`, or the plural alone for the core group.
pub fn qualified(resource: &Resource) -> String {
    if resource.group.is_empty() {
        resource.plural.to_owned()
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: Resource = Resource {
        group: "storage.k8s.io",
        version: "v1",
        kind: "StorageClass",
        plural: "storageclasses",
        namespaced: false,
    };

    fn offer(names: &[&str]) -> Vec<Offer> {
        vec![Offer {
            resource: "storageclasses.storage.k8s.io".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }]
    }

    #[test]
    fn a_class_offers_and_a_control_plane_only_narrows() {
        let mut offers = Offers {
            class: offer(&["fast"]),
            ..Offers::default()
        };
        let is = |offers: &Offers, name, labelled| offers.includes(&CLASSES, name, labelled);
        assert!(is(&offers, "fast", false) && is(&offers, "slow", true));
        assert!(!is(&offers, "slow", false));
        offers.only = offer(&["slow", "secret"]);
        assert!(!is(&offers, "fast", false) && is(&offers, "slow", true));
        assert!(!is(&offers, "secret", false), "naming it offers nothing");
    }

    #[test]
    fn t20_a_class_that_keeps_volumes_is_kept_back_unless_that_is_allowed() {
        let mut offers = Offers::default();
        assert!(offers.keeps_back(true) && !offers.keeps_back(false));
        offers.storage.retain = Retain::Allowed;
        assert!(!offers.keeps_back(true) && !offers.keeps_back(false));
        let keeps = |policy: serde_json::Value| {
            let class = serde_json::json!({"metadata": {"name": "a"}, "reclaimPolicy": policy});
            keeps_volumes(&Object::from_value(class).unwrap())
        };
        assert!(keeps("Retain".into()));
        assert!(!keeps("Delete".into()) && !keeps(serde_json::Value::Null));
    }

    #[test]
    fn a_host_is_allowed_by_a_pattern_that_covers_it() {
        let offers = Offers {
            hosts: vec!["*.alpha.example".into(), "shop.example".into()],
            wildcards: vec!["*.alpha.example".into()],
            ..Offers::default()
        };
        for host in [
            "a.alpha.example",
            "b.a.alpha.example",
            "*.alpha.example",
            "*.a.alpha.example",
            "SHOP.example",
        ] {
            assert!(offers.allows_host(host), "{host}");
        }
        for host in [
            "alpha.example",
            ".alpha.example",
            "xalpha.example",
            "*.example",
            "a.shop.example",
            "",
        ] {
            assert!(!offers.allows_host(host), "{host}");
        }
        assert!(!offers.allows_any_host());
    }

    #[test]
    fn t19_below_a_pattern_that_is_shared_no_wildcard_is_allowed() {
        let mut offers = Offers {
            hosts: vec!["*.apps.example".into()],
            ..Offers::default()
        };
        assert!(offers.allows_host("a.apps.example"));
        for wildcard in ["*.apps.example", "*.a.apps.example", "*.APPS.example", "*"] {
            assert!(!offers.allows_host(wildcard), "{wildcard}");
        }
        // Whoever may use any host may take all.
        offers.hosts.push("*".into());
        assert!(offers.allows_host("*.apps.example"));
    }
}
