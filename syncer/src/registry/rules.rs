//! From a VirtualControlPlane, its class and its groups to the rules of one tenant.

use super::{RegistryState, holds, sharing::shared};
use api::{
    ControlPlaneClassSpec, ControlPlaneRef, CustomResource, Quantities, SleepingWorkload,
    VirtualControlPlane,
};
use tenancy::{
    bucket::Rate,
    offer::Offers,
    pod_rules::PodRules,
    quota::{
        amount::{self, Amounts},
        budget, bytes,
    },
    reach::Reach,
    resolver::Resolver,
    sharing::Opened,
    tenant::{TenantId, TenantRules, Workload},
    to_super::Extent,
};

/// Turns that the tenant gets in the fair queue, compared with others: its own wish under its class's ceiling.
pub(super) fn weight(vcp: &VirtualControlPlane, class: &ControlPlaneClassSpec) -> u32 {
    let ceiling = class.sync_weight;
    vcp.spec.sync.weight.unwrap_or(ceiling).min(ceiling).into()
}

/// Writes to the super cluster that the tenant's keys may cost: its own wish under its class's ceiling.
pub(super) fn rate(vcp: &VirtualControlPlane, class: &ControlPlaneClassSpec) -> Rate {
    let (writes, burst) = class.sync_rate.allowed(&vcp.spec.sync.rate);
    Rate::per_second(writes, burst)
}

/// What translation must know of a tenant, as its VirtualControlPlane, class and groups say.
pub(super) fn rules(
    id: TenantId,
    namespace: &str,
    name: &str,
    vcp: &VirtualControlPlane,
    class: &ControlPlaneClassSpec,
    state: &RegistryState,
) -> TenantRules {
    let ceiling = class.pod_security;
    let place = ControlPlaneRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let groups = state.groups.values().filter(|group| {
        group
            .spec
            .namespaces
            .iter()
            .any(|member| member == namespace)
    });
    let budgets = groups.clone().map(|group| budget::hard(&group.spec.quota));
    let shared = shared(&id, &place, vcp, class, state);
    let (hosts, wildcards) = hosts(class, namespace, name);
    TenantRules {
        slice: state.slice(&id, vcp),
        id,
        vcp_namespace: namespace.to_owned(),
        vcp_name: name.to_owned(),
        cluster_domain: vcp.spec.network.cluster_domain.clone(),
        resolver: Resolver::of(
            vcp.spec.network.dns,
            vcp.status
                .as_ref()
                .and_then(|status| status.dns_address.as_deref()),
        ),
        pod_security: vcp.spec.policy.pod_security.unwrap_or(ceiling).min(ceiling),
        pods: PodRules::of(&class.pods, &vcp.spec.policy.pods, &class.coredns_image),
        reach: Reach::of(&class.pod_network, vcp.spec.policy.egress.as_deref()),
        shared,
        opened: Opened::default(),
        is_hosted: vcp.spec.external.is_none(),
        node_selector: class.pods.nodes(&vcp.spec.policy.node_selector),
        node_affinity: class.pods.affinities(&vcp.spec.policy.node_affinity),
        nodes: class.shown_nodes(&vcp.spec.sync),
        budgets: class.budgets,
        to_super: Extent::of(&class.to_super, &vcp.spec.sync.to_super),
        group_labels: groups.flat_map(|group| group.spec.labels.clone()).collect(),
        restore_counter: vcp
            .status
            .iter()
            .filter_map(|status| Some(status.proof.as_ref()?.restore_counter))
            .sum(),
        quota: quota(class, &vcp.spec.policy.quota, name),
        shared_quota: budgets.fold(Amounts::new(), |all, hard| amount::stricter(&all, &hard)),
        offers: Offers {
            class: class.offers.clone(),
            only: vcp.spec.sync.from_super.clone(),
            storage: class.storage.narrowed(&vcp.spec.policy.storage),
            hosts,
            wildcards,
            annotations: class.annotations.clone(),
            balancer_classes: class.load_balancer_classes.clone(),
        },
        custom: custom(class, &vcp.spec.sync.custom_resources, name),
        workload: workload(vcp),
    }
}

/// Whether its pods are to end: the manager says when, and only as long as the spec asks for it too, so that what an older
/// manager left there holds up nobody.
fn workload(vcp: &VirtualControlPlane) -> Workload {
    let sleep = &vcp.spec.sleep;
    let may_sleep = sleep.asleep || sleep.after_idle.is_some();
    match sleep.workload {
        SleepingWorkload::Stop if may_sleep && holds(vcp, "StoppingWorkload") => Workload::Stops,
        SleepingWorkload::Stop | SleepingWorkload::Keep => Workload::Runs,
    }
}

/// The stricter of both; nothing of what one names and can't be read.
fn quota(class: &ControlPlaneClassSpec, own: &Quantities, vcp: &str) -> Amounts {
    let read = |written: &Quantities| {
        amount::limits(&written.0).unwrap_or_else(|err| {
            // The schema refuses such a thing.
            tracing::warn!(%vcp, %err, "a quota can't be read: nothing of what it names is allowed");
            written.0.keys().map(|name| (amount::canonical(name), 0)).collect()
        })
    };
    let (class, mut own) = (read(&class.quota), read(own));
    // A class that says nothing of bytes has a limit all the same, and nobody else raises that.
    if !class.contains_key(bytes::NAME)
        && let Some(asked) = own.get_mut(bytes::NAME)
    {
        *asked = (*asked).min(bytes::amount(bytes::DEFAULT));
    }
    amount::stricter(&class, &own)
}

/// The custom resources that the VirtualControlPlane names, as its class defines them.
fn custom(class: &ControlPlaneClassSpec, named: &[String], vcp: &str) -> Vec<CustomResource> {
    let offered = &class.custom_resources;
    let defined = |name: &String| {
        let found = offered.iter().find(|resource| resource.name == *name);
        if found.is_none() {
            tracing::warn!(%vcp, %name, "its class offers no such custom resource: it doesn't cross");
        }
        found.cloned()
    };
    named.iter().filter_map(defined).collect()
}

/// The class's host names, filled in for one VirtualControlPlane, and those of them of which it may take wildcards: what
/// bears its own name, and what the class says.
fn hosts(class: &ControlPlaneClassSpec, namespace: &str, name: &str) -> (Vec<String>, Vec<String>) {
    let fill = |host: &String| {
        host.replace("{name}", name)
            .replace("{namespace}", namespace)
    };
    let is_own = |host: &&String| host.contains("{name}") || host.contains("{namespace}");
    let own = class.ingress_hosts.iter().filter(is_own);
    let all = class.ingress_hosts.iter().chain(&class.wildcard_hosts);
    let wildcards = own.chain(&class.wildcard_hosts);
    (all.map(fill).collect(), wildcards.map(fill).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tenant_whose_class_says_nothing_may_make_1500_default_pods_at_once() {
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"}, "spec": {},
        }))
        .unwrap();
        let mut class = ControlPlaneClassSpec::default();
        assert!(rate(&vcp, &class).burst >= 2 * 1_500);
        class.sync_rate =
            serde_json::from_value(json!({"writesPerSecond": 20, "burst": 50})).unwrap();
        assert_eq!(rate(&vcp, &class), Rate::per_second(20, 50));
    }

    #[test]
    fn a_tenant_is_limited_by_the_lowest_of_its_own_quota_and_its_groups() {
        let id = TenantId::from_bits([7; 16]);
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"identity": id.as_str(), "policy": {"quota": {"pods": "9", "services": "2"}}},
        }))
        .unwrap();
        let mut state = RegistryState::default();
        for (name, namespace, pods) in [("a", "n", "7"), ("b", "n", "5"), ("c", "other", "1")] {
            let group = serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneGroup", "metadata": {"name": name},
                "spec": {"namespaces": [namespace], "quota": {"pods": pods, "configmaps": "8"}},
            }))
            .unwrap();
            state.groups.insert(name.into(), group);
        }
        let class = ControlPlaneClassSpec::default();
        let rules = rules(id, "n", "a", &vcp, &class, &state);
        let amounts = |pairs: &[(&str, i128)]| -> Amounts {
            let pairs = pairs.iter();
            pairs
                .map(|(name, whole)| ((*name).to_owned(), whole * 1000))
                .collect()
        };
        assert_eq!(rules.quota, amounts(&[("pods", 9), ("services", 2)]));
        assert_eq!(
            rules.limits(),
            amounts(&[("pods", 5), ("services", 2), ("configmaps", 8)])
        );
    }

    #[test]
    fn t43_a_class_alone_raises_the_limit_of_bytes() {
        let limit = |class: serde_json::Value, own: serde_json::Value| {
            let spec = ControlPlaneClassSpec {
                quota: serde_json::from_value(class).unwrap(),
                ..ControlPlaneClassSpec::default()
            };
            let own: Quantities = serde_json::from_value(own).unwrap();
            bytes::limit(&quota(&spec, &own, "a"))
        };
        let said = |text: &str| json!({bytes::NAME: text});
        assert_eq!(limit(json!({}), json!({})), bytes::DEFAULT);
        assert_eq!(limit(json!({}), said("1Gi")), bytes::DEFAULT);
        assert_eq!(limit(json!({}), said("1Mi")), 1 << 20);
        assert_eq!(limit(said("1Gi"), json!({})), 1 << 30);
        assert_eq!(limit(said("1Gi"), said("8Gi")), 1 << 30);
        assert_eq!(limit(said("1Gi"), said("1Mi")), 1 << 20);
    }

    #[test]
    fn t19_a_tenant_takes_wildcards_of_its_own_names_and_of_what_its_class_says() {
        let class = json!({
            "versions": [], "ingressHosts": ["*.apps.example", "*.{name}.example", "{namespace}.example"],
            "wildcardHosts": ["*.shop.example"],
        });
        let class = serde_json::from_value(class).unwrap();
        let (all, wildcards) = hosts(&class, "n", "a");
        let named = [
            "*.apps.example",
            "*.a.example",
            "n.example",
            "*.shop.example",
        ];
        assert_eq!(all, named);
        assert_eq!(wildcards, named[1..]);
    }

    #[test]
    fn pods_are_stopped_only_while_spec_and_condition_say_so() {
        let of = |sleep: serde_json::Value, condition: &str, status: &str| {
            let vcp = json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "namespace": "n"}, "spec": {"sleep": sleep},
                "status": {"conditions": [{
                    "type": condition, "status": status, "reason": "R", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }]},
            });
            workload(&serde_json::from_value(vcp).unwrap())
        };
        let asleep = || json!({"asleep": true, "workload": "Stop"});
        let idle = json!({"afterIdle": "30m", "wakeOnConnection": true, "workload": "Stop"});
        assert_eq!(of(asleep(), "StoppingWorkload", "True"), Workload::Stops);
        assert_eq!(of(idle, "StoppingWorkload", "True"), Workload::Stops);
        for (sleep, condition, status) in [
            (asleep(), "StoppingWorkload", "False"),
            (asleep(), "Sleeping", "True"),
            (json!({"asleep": true}), "StoppingWorkload", "True"),
            (
                json!({"asleep": true, "workload": "Keep"}),
                "StoppingWorkload",
                "True",
            ),
            (json!({"workload": "Stop"}), "StoppingWorkload", "True"),
            (json!({}), "StoppingWorkload", "True"),
        ] {
            let runs = of(sleep.clone(), condition, status);
            assert_eq!(runs, Workload::Runs, "{sleep} {condition} {status}");
        }
    }

    #[test]
    fn a_tenants_default_storage_class_is_its_own_choice_and_what_is_closed_stays_closed() {
        let id = TenantId::from_bits([7; 16]);
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {
                "identity": id.as_str(), "className": "gold",
                "policy": {"storage": {"default": "slow", "retain": "Allowed"}},
            },
        }))
        .unwrap();
        let class = json!({"versions": [], "storage": {"default": "fast"}});
        let class = serde_json::from_value(class).unwrap();
        let rules = rules(id, "n", "a", &vcp, &class, &RegistryState::default());
        let storage = rules.offers.storage;
        assert_eq!(storage.default.as_deref(), Some("slow"));
        assert_eq!(storage.retain, api::Retain::Refused);
    }

    #[test]
    fn a_tenant_has_the_nodes_that_its_class_and_it_itself_ask_for() {
        let id = TenantId::from_bits([7; 16]);
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {
                "identity": id.as_str(), "className": "gold",
                "policy": {"nodeSelector": {"disk": "ssd", "pool": "platform"}},
            },
        }))
        .unwrap();
        let class = json!({"versions": [], "pods": {"nodeSelector": {"pool": "tenants"}}});
        let class = serde_json::from_value(class).unwrap();
        let rules = rules(id, "n", "a", &vcp, &class, &RegistryState::default());
        let nodes = [("disk", "ssd"), ("pool", "tenants")];
        assert!(
            rules
                .node_selector
                .iter()
                .map(|(k, v)| (&**k, &**v))
                .eq(nodes)
        );
    }
}
