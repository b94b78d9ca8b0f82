//! What a super object takes of a quota.

use super::amount::{Amounts, MOST, canonical, quantity, raise};
use crate::{
    kind::{Resource, is_finished},
    object::Object,
};
use serde_json::Value;

/// Resources that a container must say something about when a quota limits them.
const MUST_BE_SAID: [(&str, &str, &str); 4] = [
    ("requests.cpu", "requests", "cpu"),
    ("requests.memory", "requests", "memory"),
    ("limits.cpu", "limits", "cpu"),
    ("limits.memory", "limits", "memory"),
];

/// What follows a device class in the name of a quota of its devices.
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";

/// What precedes a device class in the name of the resource by which a pod has its devices without a claim.
pub(crate) const DEVICES_OF: &str = "deviceclass.resource.kubernetes.io/";

/// The most devices that a claim is ever given (`AllocationResultsMaxSize`): what one for all of them counts as.
const MOST_DEVICES: i128 = 32;

/// What a pod takes until it has ended, beside its place among all that exist.
pub(super) const RUNNING: &str = "pods";

/// The amounts that an object of a kind takes; a pod that has ended takes its place among `count/pods` alone.
pub fn of(resource: &Resource, object: &Object) -> Amounts {
    let mut amounts = Amounts::new();
    let plural = if resource.group.is_empty() {
        format!("count/{}", resource.plural)
    } else {
        format!("count/{}.{}", resource.plural, resource.group)
    };
    amounts.insert(canonical(&plural), 1000);
    match resource.kind {
        "Pod" if !is_finished(object) => pod(object, &mut amounts),
        "Service" => service(object, &mut amounts),
        "PersistentVolumeClaim" => claim(object, &mut amounts),
        "ResourceClaim" => devices(object, &mut amounts),
        _ => {}
    }
    for amount in amounts.values_mut() {
        *amount = (*amount).min(MOST);
    }
    amounts
}

/// Whether objects of a kind can take anything of these limits.
pub fn concerns(resource: &Resource, hard: &Amounts) -> bool {
    if hard.is_empty() {
        return false;
    }
    let plural = match resource.group {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    };
    let counted = canonical(&plural);
    hard.keys().any(|name| {
        *name == counted
            || match resource.kind {
                "Pod" => {
                    (name.starts_with("requests.") || name.starts_with("limits."))
                        && name != "requests.storage"
                        || name == RUNNING
                        || name.ends_with(DEVICES)
                }
                "Service" => name.starts_with("services."),
                "PersistentVolumeClaim" => {
                    name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/")
                }
                "ResourceClaim" => name.ends_with(DEVICES),
                _ => false,
            }
    })
}

/// What a pod's containers don't say though a quota limits it: without that, the quota would mean nothing.
pub fn unsaid(pod: &Object, hard: &Amounts) -> Vec<&'static str> {
    lacking(hard, |kind, resource| {
        let says = |resources: &Value| {
            let amount = resources[kind].get(resource);
            amount.is_some_and(|amount| !is_no_limit(kind, resource, amount))
        };
        !says(whole(pod)) && of_containers(pod).any(|resources| !says(resources))
    })
}

/// What a pod lifts by a limit that is none, though a quota limits it.
pub fn lifted(pod: &Object, hard: &Amounts) -> Vec<&'static str> {
    lacking(hard, |kind, resource| {
        let lifts = |resources: &Value| {
            let amount = resources[kind].get(resource);
            amount.is_some_and(|amount| is_no_limit(kind, resource, amount))
        };
        lifts(whole(pod)) || of_containers(pod).any(lifts)
    })
}

/// Whether an amount that a container or a pod says isn't a limit: nodes set none for a limit of 0.
pub fn is_no_limit(kind: &str, resource: &str, amount: &Value) -> bool {
    kind == "limits"
        && matches!(resource, "cpu" | "memory" | "ephemeral-storage")
        && quantity(amount) == 0
}

/// Of what must be said and `hard` limits, that of which `is_lacking` tells so.
fn lacking(hard: &Amounts, is_lacking: impl Fn(&str, &str) -> bool) -> Vec<&'static str> {
    let limited = MUST_BE_SAID
        .iter()
        .filter(|(name, ..)| hard.contains_key(*name));
    let lacking = limited.filter(|(_, kind, resource)| is_lacking(kind, resource));
    lacking.map(|(name, ..)| *name).collect()
}

fn whole(pod: &Object) -> &Value {
    pod.at("/spec/resources").unwrap_or(&Value::Null)
}

fn of_containers(pod: &Object) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"];
    let containers = lists
        .into_iter()
        .flat_map(move |list| containers(pod, list));
    containers.map(|container| &container["resources"])
}

/// Init containers run one after the other, beside the sidecars that were started before them.
fn pod(pod: &Object, amounts: &mut Amounts) {
    amounts.insert(RUNNING.into(), 1000);
    for kind in ["requests", "limits"] {
        let mut running = Amounts::new();
        for container in containers(pod, "containers") {
            add(&mut running, &resources(&container["resources"], kind));
        }
        let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
        for container in containers(pod, "initContainers") {
            let own = resources(&container["resources"], kind);
            let mut now = sidecars.clone();
            add(&mut now, &own);
            raise(&mut peak, &now);
            if container["restartPolicy"] == "Always" {
                sidecars = now;
            }
        }
        add(&mut running, &sidecars);
        raise(&mut running, &peak);
        for (name, amount) in resources(whole(pod), kind) {
            running.insert(name, amount);
        }
        if let Some(overhead) = pod.at("/spec/overhead") {
            add(&mut running, &quantities(overhead, kind));
        }
        for (name, amount) in &running {
            let resource = name
                .strip_prefix(kind)
                .and_then(|name| name.strip_prefix('.'));
            if let Some(class) = resource.and_then(|resource| resource.strip_prefix(DEVICES_OF)) {
                raise(
                    amounts,
                    &Amounts::from([(format!("{class}{DEVICES}"), *amount)]),
                );
            }
        }
        amounts.extend(running);
    }
}

fn service(service: &Object, amounts: &mut Amounts) {
    let kind = service.text("/spec/type").unwrap_or_default();
    let allocates = service.at("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    if kind == "LoadBalancer" {
        amounts.insert("services.loadbalancers".into(), 1000);
    }
    if matches!(kind, "NodePort" | "LoadBalancer") {
        // Where none is allocated, one that is asked for is given all the same.
        let is_asked = |port: &Value| port["nodePort"].as_u64().is_some_and(|port| port != 0);
        let is_given = |port: &&Value| kind == "NodePort" || allocates || is_asked(port);
        let ports = service.at("/spec/ports").and_then(Value::as_array);
        let count = ports.into_iter().flatten().filter(is_given).count();
        // The port by which a balancer asks a node whether it has pods.
        let asks =
            kind == "LoadBalancer" && service.text("/spec/externalTrafficPolicy") == Some("Local");
        let count = count + usize::from(asks);
        let count = i128::try_from(count).map_or(MOST, |count| count.saturating_mul(1000));
        amounts.insert("services.nodeports".into(), count);
    }
}

fn claim(claim: &Object, amounts: &mut Amounts) {
    let size = claim.at("/spec/resources/requests/storage");
    let size = size.map(quantity).unwrap_or_default();
    amounts.insert("requests.storage".into(), size);
    if let Some(class) = claim.text("/spec/storageClassName") {
        let of_class = format!("{class}.storageclass.storage.k8s.io");
        amounts.insert(format!("{of_class}/requests.storage"), size);
        amounts.insert(format!("{of_class}/persistentvolumeclaims"), 1000);
    }
}

/// Devices by class, as the super cluster's own quota counts them: of alternatives the largest of each class.
fn devices(claim: &Object, amounts: &mut Amounts) {
    let requests = claim.at("/spec/devices/requests").and_then(Value::as_array);
    for request in requests.into_iter().flatten() {
        let mut asked = Amounts::new();
        let alternatives = request["firstAvailable"].as_array();
        let alternatives = alternatives.into_iter().flatten();
        for one in request.get("exactly").into_iter().chain(alternatives) {
            let count = match one["allocationMode"].as_str() {
                Some("All") => MOST_DEVICES,
                _ => one["count"].as_u64().unwrap_or(1).into(),
            };
            let class = one["deviceClassName"].as_str().unwrap_or_default();
            let amount = count.saturating_mul(1000);
            raise(
                &mut asked,
                &Amounts::from([(format!("{class}{DEVICES}"), amount)]),
            );
        }
        add(amounts, &asked);
    }
}

fn containers<'a>(pod: &'a Object, field: &str) -> impl Iterator<Item = &'a Value> {
    let list = pod.at(&format!("/spec/{field}")).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn resources(resources: &Value, kind: &str) -> Amounts {
    quantities(&resources[kind], kind)
}

fn quantities(map: &Value, kind: &str) -> Amounts {
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(name, amount)| (format!("{kind}.{name}"), quantity(amount)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let now = to.entry(name.clone()).or_default();
        *now = now.saturating_add(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{KINDS, index},
        quota::amount::shown,
    };
    use serde_json::json;

    fn resource(kind: &str) -> &'static Resource {
        KINDS[usize::from(index(kind))].resource()
    }

    fn takes(kind: &str, object: Value) -> Vec<String> {
        let object = Object::from_value(object).unwrap();
        of(resource(kind), &object)
            .iter()
            .map(|(name, amount)| format!("{name}={}", shown(name, *amount)))
            .collect()
    }

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_takes_what_it_may_take_at_any_moment() {
        let sidecar =
            json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}});
        let pod = |init: Value| {
            takes(
                "Pod",
                json!({"metadata": {}, "spec": {"initContainers": init, "containers": [container("200m"), container("300m")]}}),
            )
        };
        for (init, cpu) in [
            (json!([]), "requests.cpu=500m"),
            (json!([container("2")]), "requests.cpu=2"),
            (json!([sidecar]), "requests.cpu=600m"),
            (json!([sidecar, container("1")]), "requests.cpu=1100m"),
        ] {
            assert_eq!(pod(init), ["count/pods=1", "pods=1", cpu]);
        }
    }

    #[test]
    fn extended_resources_and_limits_count_by_their_names() {
        let resources = json!({"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}});
        let pod = json!({"metadata": {}, "spec": {"containers": [{"resources": resources}]}});
        assert_eq!(
            takes("Pod", pod),
            [
                "count/pods=1",
                "limits.memory=1Gi",
                "limits.nvidia.com/gpu=1",
                "pods=1",
                "requests.nvidia.com/gpu=1"
            ]
        );
    }

    /// T43: API servers keep these as they were written.
    #[test]
    fn t43_an_amount_counts_however_it_is_written() {
        let pod = |cpu: &str| {
            let twice = [container(cpu), container(cpu)];
            takes(
                "Pod",
                json!({"metadata": {}, "spec": {"containers": twice}}),
            )
        };
        for cpu in ["+4", "4000e-3"] {
            let taken = ["count/pods=1", "pods=1", "requests.cpu=8"];
            assert_eq!(pod(cpu), taken, "{cpu}");
        }
        let claim =
            json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": "+1Ti"}}}});
        let taken = takes("PersistentVolumeClaim", claim);
        assert_eq!(taken, ["persistentvolumeclaims=1", "requests.storage=1Ti"]);

        // What nobody can read, and what no sum can hold, is too much.
        let most = format!("requests.cpu={}", shown("", MOST));
        for cpu in ["much", "-1", "170141183460469231731687303715884105"] {
            assert_eq!(pod(cpu), ["count/pods=1", "pods=1", &most], "{cpu}");
        }
    }

    #[test]
    fn t43_devices_count_by_their_class() {
        let request = |class: &str, more: Value| {
            let mut request = json!({"deviceClassName": class});
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            request
        };
        let requests = json!([
            {"name": "a", "exactly": request("gpu", json!({"count": 3}))},
            {"name": "b", "exactly": request("gpu", json!({}))},
            {"name": "c", "exactly": request("nic", json!({"allocationMode": "All"}))},
            {"name": "d", "firstAvailable": [request("gpu", json!({"count": 2})), request("gpu", json!({"count": 1})), request("fpga", json!({}))]},
        ]);
        let claim = json!({"metadata": {}, "spec": {"devices": {"requests": requests}}});
        assert_eq!(
            takes("ResourceClaim", claim),
            [
                "count/resourceclaims.resource.k8s.io=1",
                "fpga.deviceclass.resource.k8s.io/devices=1",
                "gpu.deviceclass.resource.k8s.io/devices=6",
                "nic.deviceclass.resource.k8s.io/devices=32",
            ]
        );
        let hard = Amounts::from([("gpu.deviceclass.resource.k8s.io/devices".to_owned(), 1000)]);
        assert!(concerns(resource("ResourceClaim"), &hard));
        assert!(concerns(resource("Pod"), &hard));
        assert!(!concerns(resource("Service"), &hard));
        let container =
            json!({"resources": {"limits": {"deviceclass.resource.kubernetes.io/gpu": "2"}}});
        let pod = json!({"metadata": {}, "spec": {"containers": [container, container]}});
        assert_eq!(
            takes("Pod", pod),
            [
                "count/pods=1",
                "gpu.deviceclass.resource.k8s.io/devices=4",
                "limits.deviceclass.resource.kubernetes.io/gpu=4",
                "pods=1",
            ]
        );
    }

    #[test]
    fn t16_a_balancers_question_takes_a_node_port() {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        assert_eq!(
            takes("Service", json!({"metadata": {}, "spec": spec})),
            [
                "services=1",
                "services.loadbalancers=1",
                "services.nodeports=2"
            ]
        );
    }

    /// T43: it is kept in the super cluster's store, and pushes out what others have there.
    #[test]
    fn t43_a_pod_that_has_ended_takes_its_place_among_all_and_nothing_else() {
        for phase in ["Succeeded", "Failed"] {
            let pod = json!({"metadata": {}, "spec": {"containers": [container("1")]}, "status": {"phase": phase}});
            assert_eq!(takes("Pod", pod), ["count/pods=1"], "{phase}");
        }
    }

    #[test]
    fn services_and_claims_take_ports_balancers_and_storage() {
        let service = |kind: &str| json!({"metadata": {}, "spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
        assert_eq!(takes("Service", service("ClusterIP")), ["services=1"]);
        assert_eq!(
            takes("Service", service("NodePort")),
            ["services=1", "services.nodeports=2"]
        );
        assert_eq!(
            takes("Service", service("LoadBalancer")),
            [
                "services=1",
                "services.loadbalancers=1",
                "services.nodeports=2"
            ]
        );
        let claim = json!({"metadata": {}, "spec": {
            "storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}},
        }});
        assert_eq!(
            takes("PersistentVolumeClaim", claim),
            [
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=5Gi",
                "persistentvolumeclaims=1",
                "requests.storage=5Gi"
            ]
        );
    }

    #[test]
    fn a_node_port_that_is_asked_for_counts_where_none_are_allocated() {
        let service = json!({"metadata": {}, "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 1, "nodePort": 30001}, {"port": 2}, {"port": 3, "nodePort": 0}],
        }});
        assert_eq!(
            takes("Service", service),
            [
                "services=1",
                "services.loadbalancers=1",
                "services.nodeports=1"
            ]
        );
    }

    #[test]
    fn a_quota_concerns_the_kinds_that_it_names() {
        let hard = |name: &str| Amounts::from([(name.to_owned(), 1000)]);
        for (kind, name, expected) in [
            ("Pod", "pods", true),
            ("Pod", "count/pods", true),
            ("Pod", "requests.nvidia.com/gpu", true),
            ("Pod", "requests.storage", false),
            ("Service", "services.nodeports", true),
            ("Service", "pods", false),
            ("Service", "count/pods", false),
            ("PersistentVolumeClaim", "requests.storage", true),
            ("Ingress", "count/ingresses.networking.k8s.io", true),
            ("Secret", "secrets", true),
        ] {
            assert_eq!(
                concerns(resource(kind), &hard(name)),
                expected,
                "{kind} {name}"
            );
        }
    }

    #[test]
    fn what_is_limited_must_be_said() {
        let hard = Amounts::from([
            ("requests.cpu".to_owned(), 1),
            ("limits.memory".to_owned(), 1),
        ]);
        let pod =
            Object::from_value(json!({"metadata": {}, "spec": {"containers": [container("1")]}}))
                .unwrap();
        assert_eq!(unsaid(&pod, &hard), ["limits.memory"]);
        assert!(unsaid(&pod, &Amounts::new()).is_empty());
        assert!(lifted(&pod, &hard).is_empty());
    }

    /// T43: to a node a limit of 0 is none.
    #[test]
    fn t43_a_limit_of_nothing_says_nothing() {
        let hard = Amounts::from([("limits.memory".to_owned(), 1)]);
        let pod = |amount: &str| {
            let resources = json!({"limits": {"memory": amount, "cpu": "0"}});
            let containers = json!([{"resources": resources}]);
            Object::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).unwrap()
        };
        for zero in ["0", "0Mi", "0m"] {
            assert_eq!(unsaid(&pod(zero), &hard), ["limits.memory"], "{zero}");
            assert_eq!(lifted(&pod(zero), &hard), ["limits.memory"], "{zero}");
        }
        assert!(unsaid(&pod("1"), &hard).is_empty());
        assert!(lifted(&pod("1"), &hard).is_empty());
    }
}
