//! Attacks by what leads traffic, data and devices somewhere, and the finalizers that such objects come with.

use super::super::{OFFERED, OPEN_SERVICE, OWN_HOST};
use super::{
    ALWAYS, AT_FIRST,
    Answer::{self, LeftOut, Told},
    Attack, Way, by, by_metadata, by_pod, ingress,
};
use e2e::kind::{
    DISRUPTION_BUDGET, GATEWAY, HTTP_ROUTE, INGRESS, Kind, NETWORK_POLICY, RESOURCE_CLAIM, SNAPSHOT,
};
use serde_json::{Value, json};

/// Why layer A alone looks at private networks that pods go to.
const OPENINGS: &str =
    "which private networks are open stands in classes, which admission doesn't read";

/// Makes a harmless object of a name.
type First = fn(&str) -> Value;

fn policy(name: &str) -> Value {
    let pods = json!({"matchLabels": {"app": name}});
    json!({"metadata": {"name": name}, "spec": {"podSelector": pods, "policyTypes": ["Ingress", "Egress"]}})
}

fn budget(name: &str) -> Value {
    let pods = json!({"matchLabels": {"app": name}});
    json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": pods}})
}

fn devices(name: &str) -> Value {
    let request = json!({"name": "one", "exactly": {"deviceClassName": OFFERED}});
    json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}})
}

fn snapshot(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": OFFERED,
    }})
}

/// A listener for the tenant's own host.
fn listener() -> Value {
    json!({"name": "web", "port": 80, "protocol": "HTTP", "hostname": OWN_HOST})
}

fn gateway(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"gatewayClassName": OFFERED, "listeners": [listener()]}})
}

fn route(name: &str) -> Value {
    let backend = json!({"name": OPEN_SERVICE, "port": 80});
    json!({"metadata": {"name": name}, "spec": {
        "hostnames": [OWN_HOST], "parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [backend]}],
    }})
}

/// All of them.
pub(super) fn all() -> Vec<Attack> {
    let mut all = traffic();
    all.extend(data());
    all.extend(finalizers());
    all
}

/// An attack by the spec of an object.
fn by_spec(
    (kind, first, ways): (Kind, First, &'static [Way]),
    (class, what): (&'static str, &'static str),
    (spec, trace): (Value, &'static str),
    answer: Answer,
) -> Attack {
    by(kind, first, ways, by_pod(class, what, spec, trace, answer))
}

fn traffic() -> Vec<Attack> {
    let policies = (NETWORK_POLICY, policy as First, ALWAYS);
    let gateways = (GATEWAY, gateway as First, ALWAYS);
    let metadata = json!({"ipBlock": {"cidr": "169.254.169.254/32"}});
    let victims = json!([{"namespaceSelector": {"matchExpressions":
        [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["victims-namespace"]}]}}]);
    let pods = json!([{"ipBlock": {"cidr": "10.244.0.0/16"}}]);
    let world = json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]);
    let mut shared = listener();
    shared["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
    let bucket = json!({"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "b"}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": bucket});
    let import = json!({"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "victims", "port": 80});
    vec![
        by_spec(
            policies,
            ("T45", "a policy that lets all namespaces in"),
            (
                json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}),
                r#""namespaceSelector":{}"#,
            ),
            LeftOut,
        ),
        by_spec(
            policies,
            ("T45", "a policy that lets pods go anywhere"),
            (json!({"egress": [{}]}), r#""egress":[{}]"#),
            LeftOut,
        ),
        by_spec(
            policies,
            ("T45", "a policy that opens the cloud's metadata service"),
            (
                json!({"egress": [{"to": [metadata]}]}),
                "169.254.169.254/32",
            ),
            LeftOut,
        ),
        by_spec(
            policies,
            (
                "T45",
                "a policy that lets in another's namespace by its name",
            ),
            (json!({"ingress": [{"from": victims}]}), "victims-namespace"),
            LeftOut,
        ),
        by_spec(
            policies,
            ("T45", "a policy that opens another's namespace by its name"),
            (json!({"egress": [{"to": victims}]}), "victims-namespace"),
            LeftOut,
        ),
        by_spec(
            policies,
            ("T45", "a policy that lets in the addresses of all pods"),
            (json!({"ingress": [{"from": pods}]}), "10.244.0.0/16"),
            LeftOut,
        ),
        by_spec(
            policies,
            (
                "T45",
                "a policy that opens private addresses with all others",
            ),
            (
                json!({"egress": [{"to": world}]}),
                r#""except":["169.254.0.0/16"]"#,
            ),
            LeftOut,
        ),
        Attack {
            alone: OPENINGS,
            ..by_spec(
                policies,
                ("T45", "a policy that opens the addresses of all pods"),
                (json!({"egress": [{"to": pods}]}), "10.244.0.0/16"),
                LeftOut,
            )
        },
        by_spec(
            (INGRESS, ingress, ALWAYS),
            (
                "T19",
                "an Ingress that leads to something of a controller's",
            ),
            (
                json!({"rules": [{"host": OWN_HOST, "http": {"paths": [path]}}]}),
                r#""Bucket""#,
            ),
            Told,
        ),
        by_spec(
            gateways,
            ("T19", "a Gateway with a chosen address"),
            (
                json!({"addresses": [{"type": "IPAddress", "value": "203.0.113.68"}]}),
                "203.0.113.68",
            ),
            Told,
        ),
        by_spec(
            gateways,
            ("T19", "a Gateway for the routes of all tenants"),
            (json!({"listeners": [shared]}), r#""from":"All""#),
            LeftOut,
        ),
        by_spec(
            (HTTP_ROUTE, route, ALWAYS),
            ("T19", "a route to what isn't a Service"),
            (
                json!({"rules": [{"backendRefs": [import]}]}),
                "ServiceImport",
            ),
            Told,
        ),
    ]
}

fn data() -> Vec<Attack> {
    let content = json!({"source": {"persistentVolumeClaimName": null, "volumeSnapshotContentName": "victims-content"}});
    let config =
        json!([{"opaque": {"driver": "gpu.example.com", "parameters": {"share": "victims"}}}]);
    vec![
        by_spec(
            (SNAPSHOT, snapshot, AT_FIRST),
            ("T20", "a snapshot by its content's name"),
            (content, "victims-content"),
            Told,
        ),
        by_spec(
            (RESOURCE_CLAIM, devices, AT_FIRST),
            ("T21", "a claim of devices with parameters for the driver"),
            (json!({"devices": {"config": config}}), r#""victims""#),
            Told,
        ),
    ]
}

/// Of kinds beside the core group's.
fn finalizers() -> Vec<Attack> {
    let kinds: [(Kind, First, &str); 6] = [
        (INGRESS, ingress, "a finalizer of an Ingress"),
        (NETWORK_POLICY, policy, "a finalizer of a NetworkPolicy"),
        (DISRUPTION_BUDGET, budget, "a finalizer of a budget"),
        (RESOURCE_CLAIM, devices, "a finalizer of a claim of devices"),
        (SNAPSHOT, snapshot, "a finalizer of a snapshot"),
        (GATEWAY, gateway, "a finalizer of a Gateway"),
    ];
    let held = json!({"finalizers": ["example.com/hold"]});
    kinds
        .map(|(kind, first, what)| {
            let change = (held.clone(), "example.com/hold");
            by_metadata(kind, first, ALWAYS, ("T26", what), change)
        })
        .into()
}
