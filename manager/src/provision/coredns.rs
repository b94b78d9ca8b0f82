//! CoreDNS inside the tenant: stock, unprivileged, and a pod of the tenant like any other.

use crate::{
    object::{
        CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, DEPLOYMENT, Object, SERVICE,
        SERVICE_ACCOUNT,
    },
    spec::control_plane::ControlPlane,
};
use serde_json::{Value, json};

/// Name of everything but the Service.
pub(crate) const NAME: &str = "coredns";
/// Where it lives in the tenant.
pub(crate) const NAMESPACE: &str = "kube-system";

const SERVICE_NAME: &str = "kube-dns";
/// Port 53 would need a capability that `restricted` doesn't give.
const PORT: u16 = 1053;
const ROLE: &str = "system:coredns";

/// All of it, in the order of creation.
pub(crate) fn objects(cp: &ControlPlane) -> Vec<Object> {
    vec![
        service_account(),
        cluster_role(),
        binding(),
        config(cp),
        service(cp),
        deployment(cp),
    ]
    .into_iter()
    .map(Object::sealed)
    .collect()
}

fn service_account() -> Object {
    Object::new(
        SERVICE_ACCOUNT,
        Some(NAMESPACE),
        NAME,
        json!({"metadata": {"labels": labels()}}),
    )
}

fn cluster_role() -> Object {
    let watch = ["list", "watch"];
    let rules = json!([
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": watch},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
    ]);
    Object::new(
        CLUSTER_ROLE,
        None,
        ROLE,
        json!({"metadata": {"labels": labels()}, "rules": rules}),
    )
}

fn binding() -> Object {
    let body = json!({
        "metadata": {"labels": labels()},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    });
    Object::new(CLUSTER_ROLE_BINDING, None, ROLE, body)
}

fn config(cp: &ControlPlane) -> Object {
    let body = json!({"metadata": {"labels": labels()}, "data": {"Corefile": corefile(cp)}});
    Object::new(CONFIG_MAP, Some(NAMESPACE), NAME, body)
}

/// The first rule lets pods find the issuer of their tokens, which is the tenant's API server under a name of its own.
fn corefile(cp: &ControlPlane) -> String {
    let (domain, issuer) = (&cp.domain, cp.issuer_host());
    format!(
        ".:{PORT} {{
    errors
    health
    ready
    rewrite name exact {issuer} kubernetes.default.svc.{domain}
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    reload
    loadbalance
}}
"
    )
}

fn service(cp: &ControlPlane) -> Object {
    let body = json!({
        "metadata": {"labels": labels()},
        "spec": {
            "clusterIP": cp.slice.dns_address().to_string(),
            "selector": labels(),
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": PORT},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": PORT},
                {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153},
            ],
        },
    });
    Object::new(SERVICE, Some(NAMESPACE), SERVICE_NAME, body)
}

/// The number of replicas is left to the tenant; the API server's default is one.
fn deployment(cp: &ControlPlane) -> Object {
    let get = |port: u16, path: &str| json!({"port": port, "path": path, "scheme": "HTTP"});
    let container = json!({
        "name": NAME,
        "image": cp.coredns_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "protocol": "UDP", "containerPort": PORT},
            {"name": "dns-tcp", "protocol": "TCP", "containerPort": PORT},
            {"name": "metrics", "protocol": "TCP", "containerPort": 9153},
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "startupProbe": {"httpGet": get(8181, "/ready"), "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": get(8181, "/ready"), "periodSeconds": 5},
        "livenessProbe": {"httpGet": get(8080, "/health"), "periodSeconds": 10, "failureThreshold": 5},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": true}],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
    });
    let body = json!({
        "metadata": {"labels": labels()},
        "spec": {
            "selector": {"matchLabels": labels()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "serviceAccountName": NAME,
                    // Names outside the tenant are asked of the super cluster's node.
                    "dnsPolicy": "Default",
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {
                        "name": NAME, "items": [{"key": "Corefile", "path": "Corefile"}],
                    }}],
                },
            },
        },
    });
    Object::new(DEPLOYMENT, Some(NAMESPACE), NAME, body)
}

fn labels() -> Value {
    json!({"k8s-app": SERVICE_NAME})
}
