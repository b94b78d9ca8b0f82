//! What a tenant's pods are made with, whatever they ask for: its class's rules, and its own where they are stricter.

use crate::quota::amount::{Amounts, parse};
use api::{PodRules as Written, PodWishes, Quantities, RawSockets, Toleration};

/// The rules of one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodRules {
    /// Where images may come from; each list that isn't empty must name it.
    pub registries: Vec<Vec<String>>,
    /// Registries that the class names: they may be in networks of the cluster and its nodes.
    pub known_registries: Vec<String>,
    /// The image of the tenant's CoreDNS: it runs whatever is said of images, since the platform puts it there.
    pub dns_image: String,
    /// Whether images are pulled each time.
    pub always_pull: bool,
    /// The RuntimeClass that every pod runs under.
    pub runtime_class: Option<String>,
    /// The PriorityClass of pods that name none which is offered.
    pub priority_class: Option<String>,
    /// Labels of nodes that the tenant sees beside those that all do.
    pub node_labels: Vec<String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Whether containers keep the capability `NET_RAW`.
    pub raw_sockets: RawSockets,
    /// The most that a pod may receive, in thousandths of a bit.
    pub ingress: Option<i128>,
    /// The most that a pod may send.
    pub egress: Option<i128>,
    /// Requests of containers that say none, by resource.
    pub requests: Amounts,
    /// Limits of containers that say none.
    pub limits: Amounts,
    /// The largest limits.
    pub max: Amounts,
    /// The longest that a pod may take to end, in seconds, where its class says it.
    pub longest_grace: Option<i64>,
}

/// The longest that a pod may take to end where its class doesn't say it, in seconds.
const LONGEST_GRACE: i64 = 3_600;

impl PodRules {
    /// Of a class, and of a VirtualControlPlane, which can only be stricter.
    pub fn of(class: &Written, own: &PodWishes, dns_image: &str) -> Self {
        let lists = [&class.images.registries, &own.images.registries];
        let named = lists.into_iter().filter(|list| !list.is_empty());
        let least = |one: &Option<String>, other: &Option<String>| {
            let both = [one, other];
            both.into_iter()
                .flatten()
                .filter_map(|text| parse(text))
                .min()
        };
        Self {
            registries: named.cloned().collect(),
            known_registries: class.images.registries.clone(),
            dns_image: dns_image.to_owned(),
            always_pull: class.images.always_pull || own.images.always_pull,
            runtime_class: class
                .runtime_class_name
                .clone()
                .or_else(|| own.runtime_class_name.clone()),
            priority_class: class.priority_class_name.clone(),
            node_labels: class.node_labels.clone(),
            tolerations: class.tolerations.clone(),
            raw_sockets: class.raw_sockets,
            ingress: least(&class.bandwidth.ingress, &own.bandwidth.ingress),
            egress: least(&class.bandwidth.egress, &own.bandwidth.egress),
            requests: amounts(&class.containers.requests),
            limits: amounts(&class.containers.limits),
            max: amounts(&class.containers.max),
            longest_grace: class.longest_grace_period_seconds.map(i64::from),
        }
    }

    /// The longest that a pod may take to end, in seconds.
    pub fn longest_grace(&self) -> i64 {
        self.longest_grace.unwrap_or(LONGEST_GRACE)
    }
}

/// By resource; the schema refuses what can't be read.
fn amounts(quantities: &Quantities) -> Amounts {
    let read = |(name, text): (&String, &String)| Some((name.clone(), parse(text)?));
    quantities.0.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_control_plane_can_only_be_stricter() {
        let class: Written = serde_json::from_value(json!({
            "images": {"registries": ["a.example"]}, "runtimeClassName": "sandbox",
            "bandwidth": {"ingress": "10M"},
        }))
        .unwrap();
        let own: PodWishes = serde_json::from_value(json!({
            "images": {"registries": ["a.example/team", "b.example"], "alwaysPull": true}, "runtimeClassName": "none",
            "bandwidth": {"ingress": "20M", "egress": "5M"},
        }))
        .unwrap();
        let rules = PodRules::of(&class, &own, "dns");
        assert_eq!(rules.registries.len(), 2);
        assert_eq!(rules.known_registries, ["a.example"]);
        assert!(rules.always_pull);
        assert_eq!(rules.runtime_class.as_deref(), Some("sandbox"));
        assert_eq!((rules.ingress, rules.egress), (parse("10M"), parse("5M")));
        assert_eq!(rules.raw_sockets, RawSockets::Refused, "unless it says so");
        let nothing = PodRules::of(&Written::default(), &PodWishes::default(), "");
        assert_eq!(nothing, PodRules::default());
    }
}
