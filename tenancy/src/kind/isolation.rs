//! The NetworkPolicies that keep a tenant's pods to themselves, beside those that the tenant writes.
//!
//! NetworkPolicies add up, so what a tenant's pods may do by default would undo what the tenant forbids. That is why each
//! super pod says in a label, for each direction, whether a policy of the tenant rules it: the default holds only for
//! pods that none does. A pod without the labels reaches nobody and is reached by nobody.

use super::{Cx, Resource, down::policy};
use crate::{block::Block, meta, naming, object::Object, reach::Open, selector};
use api::keys;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Nothing in, nothing out, for every pod of the namespace.
const DENY: &str = "sublet-isolation";
/// Who may reach pods of which the tenant says nothing.
const INGRESS: &str = "sublet-ingress";
/// What pods may reach of which the tenant says nothing.
const EGRESS: &str = "sublet-egress";
/// What the tenant's CoreDNS may ask for names outside.
const DNS: &str = "sublet-dns";
/// Prefix of the policy that opens the ports of a Service which is reached from outside.
const SERVICE: &str = "sublet-service-";

/// Port of the tenant's API server, behind its Service.
const API_SERVER_PORT: u16 = 6443;
/// Port of that Service.
const API_SERVICE_PORT: u64 = 443;
/// Ports by which DNS is meant: the Service's, and that of the server's pods behind it.
const DNS_PORTS: [u64; 2] = [53, naming::DNS_PORT as u64];

/// NetworkPolicies of the super cluster.
pub const RESOURCE: &Resource = policy::RESOURCE;

/// Which directions of a pod's traffic NetworkPolicies of the tenant rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ruled {
    /// Who may reach it.
    pub ingress: bool,
    /// What it may reach.
    pub egress: bool,
}

/// Whose traffic a NetworkPolicy of the tenant rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    pods: Value,
    ruled: Ruled,
}

impl Scope {
    /// As a policy's spec says.
    pub fn of(policy: &Object) -> Self {
        let types = policy.at("/spec/policyTypes").and_then(Value::as_array);
        let says = |name: &str| types.map(|types| types.iter().any(|entry| entry == name));
        Self {
            pods: policy.at("/spec/podSelector").cloned().unwrap_or(json!({})),
            ruled: Ruled {
                ingress: says("Ingress").unwrap_or(true),
                egress: says("Egress").unwrap_or_else(|| policy.at("/spec/egress").is_some()),
            },
        }
    }

    /// The directions that it rules, as `policyTypes` names them.
    pub(super) fn types(&self) -> Value {
        let types = [
            ("Ingress", self.ruled.ingress),
            ("Egress", self.ruled.egress),
        ];
        let named = types.into_iter().filter(|(_, is_ruled)| *is_ruled);
        named.map(|(name, _)| name).collect()
    }

    /// What it rules of a pod with these labels.
    ///
    /// The few labels that don't cross count as well as their absence: what can't be told apart is closed.
    pub fn rules(&self, labels: &BTreeMap<String, String>) -> Ruled {
        let mut crossing = labels.clone();
        crossing.retain(|key, _| meta::pod_label_crosses(key));
        if selector::matches(&self.pods, labels) || selector::matches(&self.pods, &crossing) {
            self.ruled
        } else {
            Ruled::default()
        }
    }
}

/// The labels by which the default policies know a super pod.
pub(super) fn pod_labels(pod: &Object, cx: &Cx<'_>) -> [(&'static str, &'static str); 2] {
    let labels = pod
        .labels()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let ruled = cx.facts.ruled(pod.namespace(), &labels);
    let who = |is_ruled| {
        if is_ruled {
            keys::BY_POLICY
        } else {
            keys::BY_DEFAULT
        }
    };
    [
        (keys::INGRESS, who(ruled.ingress)),
        (keys::EGRESS, who(ruled.egress)),
    ]
}

/// The policies of the super namespace `twin` of the tenant's `namespace`.
pub(super) fn of_namespace(namespace: &str, twin: &str, cx: &Cx<'_>) -> Vec<Object> {
    let mut egress = to_everybody(&Value::Null, cx);
    if cx.rules.slice.is_none() {
        // Without a Service range there is no DNS server of the tenant's own: pods ask the super cluster's.
        egress.push(upstream_dns(cx));
    }
    egress.extend(cx.rules.opened.egress.iter().cloned());
    let mut policies = vec![
        object(
            twin,
            DENY,
            json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}),
            cx,
        ),
        object(
            twin,
            INGRESS,
            json!({
                "podSelector": {"matchLabels": {keys::INGRESS: keys::BY_DEFAULT}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": from_everybody(cx)}],
            }),
            cx,
        ),
        object(
            twin,
            EGRESS,
            json!({
                "podSelector": {"matchLabels": {keys::EGRESS: keys::BY_DEFAULT}},
                "policyTypes": ["Egress"],
                "egress": egress,
            }),
            cx,
        ),
    ];
    let has_server = cx.rules.slice.is_some() && !cx.rules.resolver.is_shared();
    if namespace == "kube-system" && has_server {
        policies.push(object(
            twin,
            DNS,
            json!({
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                "policyTypes": ["Egress"],
                "egress": [upstream_dns(cx)],
            }),
            cx,
        ));
    }
    let shared = cx.rules.opened.ingress.iter();
    let shared = shared.filter(|(namespace, ..)| namespace == twin);
    policies.extend(shared.map(|(_, name, spec)| object(twin, name, spec.clone(), cx)));
    policies
}

/// The policy that lets everybody reach the pods of a Service that has a port outside of the cluster.
///
/// Callers come with addresses of nodes, load balancers or their own, so no address can be told from another. A tenant
/// that wants it narrower writes a policy of its own for those pods.
pub(super) fn of_service(service: &Object, twin: &str, cx: &Cx<'_>) -> Option<Object> {
    let is_public = matches!(
        service.text("/spec/type"),
        Some("NodePort" | "LoadBalancer")
    );
    let selector = service.at("/spec/selector").and_then(Value::as_object);
    let selector = selector.filter(|map| is_public && !map.is_empty())?;
    let ports = service.at("/spec/ports").and_then(Value::as_array);
    let ports: Vec<Value> = ports
        .into_iter()
        .flatten()
        .map(|port| {
            let target = port.get("targetPort").unwrap_or(&port["port"]);
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            json!({"protocol": protocol, "port": target})
        })
        .collect();
    let mut pods: Map<String, Value> = selector.clone();
    selector::carry_labels(&mut pods);
    pods.insert(keys::INGRESS.into(), keys::BY_DEFAULT.into());
    let spec = json!({
        "podSelector": {"matchLabels": pods},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": ports}],
    });
    Some(object(twin, &service_policy(service.name()), spec, cx))
}

/// Name of the policy of a Service.
pub fn service_policy(service: &str) -> String {
    format!("{SERVICE}{service}")
}

/// The Service whose policy has this name.
pub fn service_of(policy: &str) -> Option<&str> {
    policy.strip_prefix(SERVICE)
}

/// Whether a NetworkPolicy of the super cluster is one of these.
pub fn is_ours(object: &Object) -> bool {
    object.label(keys::ROLE) == Some(keys::ROLE_ISOLATION)
}

/// Fingerprint of such a policy as it stands; another one than it was made with has been edited.
pub fn fingerprint(object: &Object) -> u128 {
    meta::fingerprint(object.at("/spec").unwrap_or(&Value::Null))
}

/// Who may reach a pod when the tenant says nothing, or says everybody.
pub(super) fn from_everybody(cx: &Cx<'_>) -> Vec<Value> {
    let mut peers = vec![
        json!({"namespaceSelector": own_namespaces(cx)}),
        // Calls of the tenant's API server: webhooks, and the proxy subresources of pods and Services.
        proxy(),
    ];
    peers.extend(platform(&cx.rules.reach.ingress_namespaces));
    peers.extend(nodes(cx));
    peers
}

/// What a pod may reach, under `ports` or under all of them, when the tenant says nothing or says everybody.
pub(super) fn to_everybody(ports: &Value, cx: &Cx<'_>) -> Vec<Value> {
    let mut peers = vec![json!({"namespaceSelector": own_namespaces(cx)})];
    peers.extend(platform(&cx.rules.reach.egress_namespaces));
    peers.extend(nodes(cx));
    let mut rules = to(peers, cx.rules.reach.everything(), ports);
    rules.extend(to_api_server(ports, cx));
    rules.extend(to_dns(ports, cx));
    rules
}

/// The rule for the shared DNS server, if it is the tenant's and `ports` hold the port of DNS.
pub(super) fn to_dns(ports: &Value, cx: &Cx<'_>) -> Option<Value> {
    let asked = ["UDP", "TCP"]
        .into_iter()
        .filter(|protocol| DNS_PORTS.iter().any(|port| covers(ports, protocol, *port)));
    let open: Vec<Value> = asked
        .map(|protocol| json!({"protocol": protocol, "port": naming::DNS_PORT}))
        .collect();
    (cx.rules.resolver.is_shared() && !open.is_empty())
        .then(|| json!({"to": [proxy()], "ports": open}))
}

/// The proxy's pods.
fn proxy() -> Value {
    json!({
        "namespaceSelector": platforms([api::SYSTEM_NAMESPACE]),
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": keys::PROXY}},
    })
}

/// Egress rules for peers and for what is open outside, under `ports`.
pub(super) fn to(mut peers: Vec<Value>, open: Vec<Open>, ports: &Value) -> Vec<Value> {
    let (narrow, wide): (Vec<Open>, Vec<Open>) =
        open.into_iter().partition(|open| open.port.is_some());
    peers.extend(wide.into_iter().map(|open| open.peer));
    let mut rules = vec![];
    if !peers.is_empty() {
        let mut rule = json!({"to": peers});
        if !is_empty(ports) {
            rule["ports"] = ports.clone();
        }
        rules.push(rule);
    }
    for open in narrow {
        let port = u64::from(open.port.unwrap_or_default());
        let protocols = ["TCP", "UDP"]
            .into_iter()
            .filter(|protocol| covers(ports, protocol, port));
        let ports: Vec<Value> = protocols
            .map(|protocol| json!({"protocol": protocol, "port": port}))
            .collect();
        if !ports.is_empty() {
            rules.push(json!({"to": [open.peer], "ports": ports}));
        }
    }
    rules
}

/// The rule for the tenant's API server, if it runs in the super cluster and `ports` hold its port or its Service's.
pub(super) fn to_api_server(ports: &Value, cx: &Cx<'_>) -> Option<Value> {
    let asked =
        covers(ports, "TCP", API_SERVER_PORT.into()) || covers(ports, "TCP", API_SERVICE_PORT);
    (cx.rules.is_hosted && asked).then(|| {
        let namespace = crate::naming::control_plane_namespace(&cx.rules.id, &cx.rules.vcp_name);
        json!({
            "to": [{
                "namespaceSelector": own([&namespace], cx),
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kube-apiserver"}},
            }],
            "ports": [{"protocol": "TCP", "port": API_SERVER_PORT}],
        })
    })
}

/// All of the tenant's namespaces, without the one of its control plane.
pub(super) fn own_namespaces(cx: &Cx<'_>) -> Value {
    json!({
        "matchLabels": {keys::TENANT: cx.rules.id.as_str()},
        "matchExpressions": [{"key": keys::ROLE, "operator": "DoesNotExist"}],
    })
}

/// Some of the tenant's namespaces, or the one of its control plane, by their names in the super cluster. The label says
/// nothing new, but admission, which can't tell whose a name is, asks for it.
pub(super) fn own<S: AsRef<str>>(names: impl IntoIterator<Item = S>, cx: &Cx<'_>) -> Value {
    json!({
        "matchLabels": {keys::TENANT: cx.rules.id.as_str()},
        "matchExpressions": [named(names)],
    })
}

/// Namespaces of the platform by name: none that is a tenant's, whatever it is called.
fn platforms<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Value {
    json!({"matchExpressions": [
        named(names),
        {"key": keys::TENANT, "operator": "DoesNotExist"},
    ]})
}

fn named<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Value {
    let names: Vec<Value> = names.into_iter().map(|name| name.as_ref().into()).collect();
    json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names})
}

fn platform(namespaces: &[String]) -> Option<Value> {
    (!namespaces.is_empty()).then(|| json!({"namespaceSelector": platforms(namespaces)}))
}

/// Nodes that the tenant's pods reach, and are reached from.
fn nodes<'a>(cx: &Cx<'a>) -> impl Iterator<Item = Value> + 'a {
    cx.rules.node_ranges().iter().map(block)
}

fn block(block: &Block) -> Value {
    json!({"ipBlock": {"cidr": block.to_string()}})
}

fn upstream_dns(cx: &Cx<'_>) -> Value {
    let servers = &cx.rules.reach.upstream_dns;
    let peers: Vec<Value> = if servers.is_empty() {
        vec![json!({
            "namespaceSelector": platforms(["kube-system"]),
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        })]
    } else {
        servers.iter().map(block).collect()
    };
    json!({"to": peers, "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]})
}

/// Whether a rule's ports hold a port by number; no ports are all ports.
fn covers(ports: &Value, protocol: &str, port: u64) -> bool {
    let holds = |entry: &Value| {
        let same = entry["protocol"].as_str().unwrap_or("TCP") == protocol;
        let first = entry.get("port").map(Value::as_u64);
        let last = entry.get("endPort").and_then(Value::as_u64);
        same && match first {
            None => true,
            Some(first) => {
                first.is_some_and(|first| (first..=last.unwrap_or(first)).contains(&port))
            }
        }
    };
    is_empty(ports)
        || ports
            .as_array()
            .is_some_and(|ports| ports.iter().any(holds))
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// A policy that carries no owner, since it has no twin in the tenant.
fn object(namespace: &str, name: &str, spec: Value, cx: &Cx<'_>) -> Object {
    let mut labels = meta::tenant_labels(cx);
    labels.insert(keys::ROLE.into(), keys::ROLE_ISOLATION.into());
    Object::from_value(json!({
        "apiVersion": RESOURCE.api_version(), "kind": RESOURCE.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }))
    .expect("metadata is a map")
}

#[cfg(test)]
mod tests;
