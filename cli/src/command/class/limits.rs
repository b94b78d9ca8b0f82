//! What a class limits, prescribes, opens and offers, for its page: nothing of what it leaves as it is by default.

use api::{
    Audit, Budgets, Ceilings, ControlPlaneClassSpec, CustomResource, Egress, EtcdCeilings,
    EtcdStorageCeilings, Offer, OfferedAnnotation, PodNetwork, PodRules, PublishedService,
    Quantities, RawSockets, Retain, ShownNodes, StorageRules, SyncRate, ToSuper, Toleration,
};
use std::collections::BTreeMap;

/// Lines of the page: what, and how much.
pub(super) fn lines(spec: &ControlPlaneClassSpec) -> Vec<(&'static str, String)> {
    let ControlPlaneClassSpec {
        namespaces,
        max,
        sync_weight,
        sync_rate,
        sync_nodes,
        to_super,
        api_server_egress,
        pod_network,
        services,
        pods,
        quota,
        stored,
        offers,
        storage,
        custom_resources,
        ingress_hosts,
        wildcard_hosts,
        annotations,
        load_balancer_classes,
        // The page has these in lines of its own.
        versions: _,
        coredns_image: _,
        etcd_storage: _,
        pod_security: _,
        endpoint_host: _,
        endpoint_port: _,
        service_slice_prefix: _,
        control_plane: _,
        audit,
        budgets,
        feature_gates: _,
        intervals: _,
    } = spec;
    let weight = (*sync_weight != 1).then(|| sync_weight.to_string());
    let mut lines = vec![
        ("For namespaces:", namespaces.join(", ")),
        ("Control planes:", most(max)),
        ("Quota:", list(quota)),
        ("Stored:", list(stored)),
        ("Sync weight:", weight.unwrap_or_default()),
        ("Sync rate:", limited(sync_rate)),
        ("Nodes shown:", shown(*sync_nodes).to_owned()),
        ("Goes down:", all(to_super, extent)),
        ("Audit:", audited(*audit).to_owned()),
        ("Disruption budgets:", blocking(*budgets).to_owned()),
    ];
    lines.extend(of_pods(pods));
    lines.extend(of_network(pod_network));
    lines.extend([
        ("API servers reach:", all(api_server_egress, place)),
        ("Hosts:", ingress_hosts.join(", ")),
        ("Wildcards of hosts:", wildcard_hosts.join(", ")),
        ("Annotations:", all(annotations, annotation)),
        ("Load balancers:", load_balancer_classes.join(", ")),
        ("Services:", all(services, published)),
        ("Offers:", all(offers, offered)),
        ("Storage:", of_storage(storage)),
        ("Custom resources:", all(custom_resources, named)),
    ]);
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// A taint that is tolerated, such as `pool=platform`.
pub(super) fn toleration(toleration: &Toleration) -> String {
    let value = toleration.value.as_deref();
    let value = value.map(|value| format!("={value}")).unwrap_or_default();
    format!("{}{value}", toleration.key)
}

fn most(max: &Ceilings) -> String {
    let Ceilings { replicas, etcd } = max;
    let EtcdCeilings {
        replicas: members,
        storage,
    } = etcd;
    let EtcdStorageCeilings {
        size,
        storage_class_names: others,
    } = storage;
    let servers = replicas.map(|most| format!("API servers {most}"));
    let members = members.map(|most| format!("etcd members {most}"));
    let size = size.as_ref().map(|most| format!("etcd storage {most}"));
    let amounts: Vec<String> = [servers, members, size].into_iter().flatten().collect();
    let amounts = (!amounts.is_empty()).then(|| format!("{} at most", amounts.join(", ")));
    let others = others.as_ref().map(|others| match others.as_slice() {
        [] => "no other StorageClass".to_owned(),
        others => format!("StorageClass {} too", others.join(", ")),
    });
    joined([amounts, others])
}

fn of_pods(pods: &PodRules) -> Vec<(&'static str, String)> {
    let PodRules {
        images,
        runtime_class_name,
        priority_class_name,
        node_selector,
        node_affinity,
        node_labels,
        tolerations,
        raw_sockets,
        bandwidth,
        containers,
        longest_grace_period_seconds: longest_grace,
    } = pods;
    let from = match images.registries.as_slice() {
        [] => None,
        registries => Some(format!("from {}", registries.join(", "))),
    };
    let pulled = images.always_pull.then(|| "pulled each time".to_owned());
    let up_to = |word: &str, rate: &Option<String>| {
        let rate = rate.as_deref();
        rate.map(|rate| format!("{word} {rate}"))
    };
    let part = |word: &str, amounts: &Quantities| {
        (!amounts.is_empty()).then(|| format!("{word} {}", list(amounts)))
    };
    vec![
        ("Images:", joined([from, pulled])),
        ("Runtime:", runtime_class_name.clone().unwrap_or_default()),
        ("Priority:", priority_class_name.clone().unwrap_or_default()),
        ("Tenants' nodes:", labels(node_selector)),
        ("Node affinity:", node_affinity.to_string()),
        ("Node labels:", node_labels.join(", ")),
        ("Tolerations:", all(tolerations, toleration)),
        ("Raw sockets:", raw(*raw_sockets).to_owned()),
        (
            "Bandwidth:",
            joined([
                up_to("in", &bandwidth.ingress),
                up_to("out", &bandwidth.egress),
            ]),
        ),
        (
            "Containers:",
            joined([
                part("requests", &containers.requests),
                part("limits", &containers.limits),
                part("at most", &containers.max),
            ]),
        ),
        (
            "Time to end:",
            longest_grace
                .map(|seconds| format!("{seconds}s at most"))
                .unwrap_or_default(),
        ),
    ]
}

fn of_network(network: &PodNetwork) -> Vec<(&'static str, String)> {
    let PodNetwork {
        ingress_namespaces,
        egress_namespaces,
        egress,
        cluster_ranges,
        node_ranges,
        upstream_dns,
    } = network;
    let of = |word: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
    };
    let places = (!egress.is_empty()).then(|| all(egress, place));
    vec![
        (
            "Pods reach:",
            joined([places, of("namespaces", egress_namespaces)]),
        ),
        ("Pods never reach:", cluster_ranges.join(", ")),
        (
            "Pods are reached by:",
            joined([of("namespaces", ingress_namespaces)]),
        ),
        ("Node ranges:", node_ranges.join(", ")),
        ("CoreDNS asks:", upstream_dns.join(", ")),
    ]
}

fn extent(entry: &ToSuper) -> String {
    format!("{} {:?}", entry.resource, entry.objects)
}

fn shown(nodes: ShownNodes) -> &'static str {
    match nodes {
        ShownNodes::Selected => "",
        ShownNodes::Used => "those in use",
    }
}

fn raw(sockets: RawSockets) -> &'static str {
    match sockets {
        RawSockets::Refused => "",
        RawSockets::Allowed => "allowed",
    }
}

fn limited(rate: &SyncRate) -> String {
    if rate.is_empty() {
        return String::new();
    }
    let (writes, burst) = rate.ceiling();
    format!("{writes} writes a second, {burst} at once")
}

fn audited(audit: Audit) -> &'static str {
    match audit {
        Audit::None => "",
        Audit::Metadata => "writes, without bodies",
    }
}

fn blocking(budgets: Budgets) -> &'static str {
    match budgets {
        Budgets::Yielding => "",
        Budgets::Blocking => "may let no pod go",
    }
}

fn place(egress: &Egress) -> String {
    match egress.port {
        Some(port) => format!("{} port {port}", egress.cidr),
        None => egress.cidr.clone(),
    }
}

fn published(service: &PublishedService) -> String {
    let PublishedService {
        namespace,
        name,
        shown_as,
    } = service;
    format!(
        "{namespace}/{name} as {}/{}",
        shown_as.namespace, shown_as.name
    )
}

fn offered(offer: &Offer) -> String {
    format!("{} {}", offer.resource, offer.names.join(" "))
}

fn of_storage(storage: &StorageRules) -> String {
    let StorageRules { default, retain } = storage;
    let default = default.as_ref().map(|name| format!("default {name}"));
    let outlives = match retain {
        Retain::Refused => None,
        Retain::Allowed => Some("volumes may outlive their claims".to_owned()),
    };
    joined([default, outlives])
}

fn annotation(offered: &OfferedAnnotation) -> String {
    let OfferedAnnotation { kind, key, values } = offered;
    let values = match values.as_slice() {
        [] => String::new(),
        values => format!("={}", values.join("|")),
    };
    format!("{} {key}{values}", kind.as_str())
}

fn named(resource: &CustomResource) -> String {
    let direction = format!("{:?}", resource.direction);
    format!("{} ({direction})", resource.name)
}

pub(super) fn all<T>(items: &[T], shown: impl Fn(&T) -> String) -> String {
    items.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Labels as kubectl's selectors are written.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

fn list(amounts: &Quantities) -> String {
    let amounts = amounts.0.iter();
    let amounts = amounts.map(|(name, amount)| format!("{name} {amount}"));
    amounts.collect::<Vec<_>>().join(", ")
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts = parts.into_iter().flatten();
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_limited_is_shown() {
        assert!(lines(&ControlPlaneClassSpec::default()).is_empty());
        let spec: ControlPlaneClassSpec = serde_json::from_value(json!({
            "versions": [], "namespaces": ["acme", "blue"], "quota": {"pods": "20"},
            "max": {"replicas": 2, "etcd": {"storage": {"size": "16Gi", "storageClassNames": []}}}, "stored": {"size": "1Gi"}, "syncWeight": 3,
            "syncRate": {"writesPerSecond": 20}, "syncNodes": "Used", "toSuper": [{"resource": "secrets", "objects": "All"}],
            "audit": "Metadata", "budgets": "Blocking",
            "podNetwork": {"egressNamespaces": ["registry"], "egress": [{"cidr": "10.2.0.0/16", "port": 443}],
                "clusterRanges": ["10.96.0.0/12"], "ingressNamespaces": ["ingress"]},
            "offers": [{"resource": "storageclasses.storage.k8s.io", "names": ["fast", "slow"]}],
            "storage": {"default": "fast", "retain": "Allowed"},
            "annotations": [{"kind": "Service", "key": "a.example/internal", "values": ["yes", "no"]}, {"kind": "Ingress", "key": "b"}],
            "loadBalancerClasses": ["internal"], "wildcardHosts": ["*.acme.example"],
            "customResources": [{"name": "backups.example.com", "version": "v1", "kind": "Backup"}],
            "services": [{"namespace": "infra", "name": "db", "shownAs": {"namespace": "default", "name": "db"}}],
            "pods": {
                "images": {"registries": ["a.example"], "alwaysPull": true}, "priorityClassName": "paid",
                "nodeSelector": {"pool": "acme", "disk": "ssd"}, "nodeLabels": ["example.com/rack", "gpu"],
                "nodeAffinity": {"required": [{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}]}]},
                "rawSockets": "Allowed",
                "tolerations": [{"key": "customer", "value": "acme"}, {"key": "gpu"}],
                "bandwidth": {"egress": "10M"}, "containers": {"limits": {"memory": "1Gi"}, "max": {"cpu": "4"}},
            },
        }))
        .unwrap();
        let shown = lines(&spec).into_iter();
        let shown: Vec<String> = shown
            .map(|(what, value)| format!("{what} {value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "For namespaces: acme, blue",
                "Control planes: API servers 2, etcd storage 16Gi at most; no other StorageClass",
                "Quota: pods 20",
                "Stored: size 1Gi",
                "Sync weight: 3",
                "Sync rate: 20 writes a second, 5000 at once",
                "Nodes shown: those in use",
                "Goes down: secrets All",
                "Audit: writes, without bodies",
                "Disruption budgets: may let no pod go",
                "Images: from a.example; pulled each time",
                "Priority: paid",
                "Tenants' nodes: disk=ssd,pool=acme",
                "Node affinity: zone notin (c)",
                "Node labels: example.com/rack, gpu",
                "Tolerations: customer=acme, gpu",
                "Raw sockets: allowed",
                "Bandwidth: out 10M",
                "Containers: limits memory 1Gi; at most cpu 4",
                "Pods reach: 10.2.0.0/16 port 443; namespaces registry",
                "Pods never reach: 10.96.0.0/12",
                "Pods are reached by: namespaces ingress",
                "Wildcards of hosts: *.acme.example",
                "Annotations: Service a.example/internal=yes|no, Ingress b",
                "Load balancers: internal",
                "Services: infra/db as default/db",
                "Offers: storageclasses.storage.k8s.io fast slow",
                "Storage: default fast; volumes may outlive their claims",
                "Custom resources: backups.example.com (ToSuper)",
            ]
        );
    }
}
