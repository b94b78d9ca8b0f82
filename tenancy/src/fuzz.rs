//! What reads the words of tenants and of unknown callers, and what must hold whatever they say; pure: numbers in, a panic
//! out if a rule is broken.
//!
//! `cargo xtask fuzz` tries each target of this crate and of `apiserver-proxy` with inputs that are bent from good ones. It
//! runs on stable Rust: inputs are changed blindly, without looking at which branches they reach.

mod bent;

mod samples;

mod objects;
mod texts;

pub use bent::Random;

use crate::{
    kind::{Facts, Resource, isolation::Ruled},
    offer::Offers,
    pod_rules::PodRules,
    reach::Reach,
    resolver::Resolver,
    sharing::{Opened, Shared},
    tenant::{TenantId, TenantRules, Workload},
    to_super::Extent,
};
use api::{Budgets, Egress, PodNetwork, PodSecurity, ShownNodes};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

/// A name, and what is done with one input.
pub type Target = (&'static str, fn(&mut Random));

/// Those of this crate.
pub const TARGETS: [Target; 6] = [
    ("names", texts::names),
    ("kubeconfig", texts::kubeconfig),
    ("kubeconfig-text", texts::kubeconfig_text),
    ("answers", texts::answers),
    ("pods", objects::pods),
    ("kinds", objects::kinds),
];

/// Tries each of some targets with a few inputs, the same each time, as unit tests do; it panics if a rule is broken.
pub fn briefly(targets: &[Target], inputs: usize) {
    for (name, target) in targets {
        let mut random = Random::new(name.len() as u64);
        for _ in 0..inputs {
            target(&mut random);
        }
    }
}

/// A tenant `acme` with everything at its default.
pub(crate) fn tenant() -> TenantRules {
    TenantRules {
        id: TenantId::from_bits([1; 16]),
        vcp_namespace: "tenants".into(),
        vcp_name: "acme".into(),
        slice: "10.96.4.0/22".parse().ok(),
        cluster_domain: "cluster.local".into(),
        resolver: Resolver::default(),
        pod_security: PodSecurity::Baseline,
        pods: PodRules::default(),
        reach: everywhere(),
        shared: Shared::default(),
        opened: Opened::default(),
        is_hosted: true,
        node_selector: BTreeMap::new(),
        node_affinity: vec![],
        nodes: ShownNodes::Selected,
        budgets: Budgets::Yielding,
        to_super: Extent::default(),
        group_labels: BTreeMap::new(),
        restore_counter: 0,
        quota: BTreeMap::new(),
        shared_quota: BTreeMap::new(),
        offers: Offers::default(),
        custom: vec![],
        workload: Workload::Runs,
    }
}

/// All public addresses.
fn everywhere() -> Reach {
    let egress = ["0.0.0.0/0", "::/0"].map(|cidr| Egress {
        cidr: cidr.into(),
        port: None,
    });
    let network = PodNetwork {
        egress: egress.into(),
        ..PodNetwork::default()
    };
    Reach::of(&network, None)
}

/// Facts of a tenant that has two namespaces, and is offered all or nothing.
struct FuzzFacts {
    offers: bool,
    has_selector: Option<bool>,
}

impl Facts for FuzzFacts {
    fn is_referenced(&self, _: &Resource, _: &str, _: &str) -> bool {
        true
    }

    fn is_pod_address(&self, address: IpAddr) -> bool {
        address == IpAddr::from([10, 0, 0, 1])
    }

    fn namespaces(&self, _: &Value) -> Vec<String> {
        ["shop", "db"].map(str::to_owned).into()
    }

    fn has_selector(&self, _: &str, _: &str) -> Option<bool> {
        self.has_selector
    }

    fn uid(&self, _: &str, _: &str, _: &str, _: &str) -> Option<String> {
        Some("tenant-uid".into())
    }

    fn ruled(&self, _: &str, _: &BTreeMap<String, String>) -> Ruled {
        Ruled::default()
    }

    fn is_offered(&self, _: &str, _: &str) -> bool {
        self.offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_finds_nothing() {
        briefly(&TARGETS, 200);
    }
}
