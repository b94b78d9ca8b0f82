//! CoreDNS as pods of the super cluster, behind the tenth Service address.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::health;
use super::layout::DNS_SERVICE;
use crate::binaries::COREDNS;
use crate::kube_api::KubeApi;

/// Answers for the cluster only: nothing outside the machine is asked.
const COREFILE: &str = ".:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    prometheus :9153
    cache 5
    reload
    loadbalance
}
";

/// Creates or updates everything that DNS needs.
pub(crate) fn apply(api: &KubeApi) -> Result<()> {
    for (path, object) in objects() {
        api.apply(&path, &object)?;
    }
    Ok(())
}

/// An error while DNS doesn't answer.
pub(crate) fn require_ready(api: &KubeApi) -> Result<()> {
    let pods = api.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns")?;
    if health::items(&pods).any(health::is_ready) {
        return Ok(());
    }
    let states: Vec<String> = health::items(&pods).map(state).collect();
    bail!("CoreDNS isn't Ready; its pods: {}", states.join(", "));
}

fn state(pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or("?");
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    let phase = pod["status"]["phase"].as_str().unwrap_or("?");
    format!("{name} {phase} {}", waiting.as_str().unwrap_or_default())
}

fn objects() -> Vec<(String, Value)> {
    let system = "/api/v1/namespaces/kube-system";
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let object = |api: &str, kind: &str, name: &str, rest: Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
        if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
            for (key, value) in rest {
                object.insert(key, value);
            }
        }
        object
    };
    let rules = json!({"rules": [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"],
         "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]});
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
    });
    vec![
        (
            format!("{system}/serviceaccounts/coredns"),
            object("v1", "ServiceAccount", "coredns", json!({})),
        ),
        (
            format!("{rbac}/clusterroles/system:coredns"),
            object(
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                "system:coredns",
                rules,
            ),
        ),
        (
            format!("{rbac}/clusterrolebindings/system:coredns"),
            object(
                "rbac.authorization.k8s.io/v1",
                "ClusterRoleBinding",
                "system:coredns",
                binding,
            ),
        ),
        (
            format!("{system}/configmaps/coredns"),
            object(
                "v1",
                "ConfigMap",
                "coredns",
                json!({"data": {"Corefile": COREFILE}}),
            ),
        ),
        (format!("{system}/services/kube-dns"), service()),
        (
            "/apis/apps/v1/namespaces/kube-system/deployments/coredns".to_owned(),
            deployment(),
        ),
    ]
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {
            "clusterIP": DNS_SERVICE,
            "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "metrics", "port": 9153, "protocol": "TCP"},
            ],
        },
    })
}

fn deployment() -> Value {
    let labels = json!({"k8s-app": "kube-dns"});
    let container = json!({
        "name": "coredns",
        "image": format!("registry.k8s.io/coredns/coredns:v{COREDNS}"),
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": true}],
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 30},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "coredns", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "serviceAccountName": "coredns",
                "priorityClassName": "system-cluster-critical",
                "dnsPolicy": "Default",
                "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]},
                "containers": [container],
                "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
            }},
        },
    })
}
