//! Objects that tests make.

use crate::kind::Kind;
use serde_json::{Value, json};

/// A shell and the usual tools.
pub const BUSYBOX: &str = "docker.io/library/busybox:1.36";
/// The test server of the upstream suite; has curl.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";
/// Does nothing, with least memory.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// A name that nothing else has, in this run or an earlier one.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:06x}", rand::random::<u32>() >> 8)
}

/// A container that runs a shell script.
pub fn shell(script: &str) -> Value {
    container(BUSYBOX, &["sh", "-c", script])
}

/// A container that does nothing.
pub fn idle() -> Value {
    json!({"name": "main", "image": PAUSE, "imagePullPolicy": "IfNotPresent"})
}

/// A container that answers HTTP on port 8080, `/hostname` among others.
pub fn server() -> Value {
    let mut container = container(AGNHOST, &["/agnhost", "netexec", "--http-port=8080"]);
    container["ports"] = json!([{"containerPort": 8080}]);
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1});
    container
}

/// A container that runs a command.
pub fn container(image: &str, command: &[&str]) -> Value {
    json!({"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": command})
}

/// The spec of a pod with one container, which ends within a second when asked to.
pub fn pod_spec(container: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
}

/// The spec of a pod that runs once, without a token.
pub fn once(container: Value) -> Value {
    let mut spec = pod_spec(container);
    spec["restartPolicy"] = "Never".into();
    spec["automountServiceAccountToken"] = false.into();
    spec
}

/// A Deployment, whose pods are labelled `app: NAME`.
pub fn deployment(name: &str, replicas: u32, spec: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// A Service for the pods labelled `app: NAME`, port 80 to their port 8080.
pub fn service(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// A ConfigMap with one key.
pub fn config_map(name: &str, key: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {key: value}})
}

/// The environment of a container from a whole ConfigMap.
pub fn env_from(config_map: &str) -> Value {
    json!([{"configMapRef": {"name": config_map}}])
}

/// The definition of a kind, in its version, that takes whatever is written; `scope` is `Namespaced` or `Cluster`.
pub fn definition(kind: Kind, scope: &str) -> Value {
    let (group, version) = kind.api_version.split_once('/').unwrap_or_default();
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "metadata": {
            "name": format!("{}.{group}", kind.plural),
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group, "scope": scope,
            "names": {"kind": kind.name, "plural": kind.plural, "singular": kind.name.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}],
        },
    })
}
