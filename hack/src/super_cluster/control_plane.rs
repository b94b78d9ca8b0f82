//! What runs beside the nodes: etcd, API server, controller manager, scheduler. All live in the first
//! node's namespaces, so their ports never meet those of the machine.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::layout::{self, API_PORT, Node, SERVICE_NETWORK, config, pki, text};
use super::process::{Identity, Program};
use crate::binaries;

/// Writes the files that the control plane reads.
pub(crate) fn write_config() -> Result<()> {
    fs::create_dir_all(config(""))?;
    let watching = json!({"level": "None", "verbs": ["watch", "get", "list"],
        "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]});
    let leases = json!({"level": "None", "resources": [
        {"group": "coordination.k8s.io", "resources": ["leases"]},
        {"group": "", "resources": ["events"]},
        {"group": "events.k8s.io", "resources": ["events"]},
    ]});
    let anonymous =
        json!({"level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/healthz*"]});
    // The syncer's every write is kept in full: tests read from here what it did and what it did not do.
    let syncer = json!({"level": "RequestResponse",
        "users": ["system:serviceaccount:sublet-system:sublet-syncer"],
        "verbs": ["create", "update", "patch", "delete", "deletecollection"]});
    let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [syncer, anonymous, leases, watching, {"level": "Metadata"}]});
    fs::write(config("audit.json"), policy.to_string())?;
    Ok(())
}

/// What everything else waits for.
pub(crate) fn storage_and_api(home: Identity) -> Result<Vec<Program>> {
    Ok(vec![etcd(home)?, api_server(home)?])
}

/// What starts when the API server is ready: earlier these two end for want of rights that it makes.
pub(crate) fn controllers(home: Identity) -> Result<Vec<Program>> {
    Ok(vec![controller_manager(home)?, scheduler(home)?])
}

fn program(home: Identity, name: &str, flags: Vec<String>) -> Result<Program> {
    let mut command = vec![text(binaries::path(name)?)];
    command.extend(flags);
    Ok(Program {
        name: name.to_owned(),
        command,
        home: Some(home),
    })
}

fn flag(name: &str, value: impl AsRef<str>) -> String {
    format!("--{name}={}", value.as_ref())
}

fn file(name: &str, path: impl AsRef<std::path::Path>) -> String {
    flag(name, text(path))
}

fn etcd(home: Identity) -> Result<Program> {
    let data = Node { number: 1 }.folder().join("etcd/data");
    let flags = vec![
        file("data-dir", data),
        flag("name", "super"),
        flag("listen-client-urls", "https://127.0.0.1:2379"),
        flag("advertise-client-urls", "https://127.0.0.1:2379"),
        flag("listen-peer-urls", "http://127.0.0.1:2380"),
        flag("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        flag("initial-cluster", "super=http://127.0.0.1:2380"),
        flag("listen-metrics-urls", "http://127.0.0.1:2381"),
        file("trusted-ca-file", pki("etcd-ca.crt")),
        flag("client-cert-auth", "true"),
        file("cert-file", pki("etcd.crt")),
        file("key-file", pki("etcd.key")),
        flag("quota-backend-bytes", "3221225472"),
        flag("unsafe-no-fsync", "true"),
    ];
    program(home, "etcd", flags)
}

fn api_server(home: Identity) -> Result<Program> {
    let flags = vec![
        flag("advertise-address", Node { number: 1 }.address()),
        flag("secure-port", API_PORT.to_string()),
        flag("etcd-servers", "https://127.0.0.1:2379"),
        file("etcd-cafile", pki("etcd-ca.crt")),
        file("etcd-certfile", pki("etcd-client.crt")),
        file("etcd-keyfile", pki("etcd-client.key")),
        file("client-ca-file", pki("ca.crt")),
        file("tls-cert-file", pki("apiserver.crt")),
        file("tls-private-key-file", pki("apiserver.key")),
        file("kubelet-certificate-authority", pki("ca.crt")),
        file(
            "kubelet-client-certificate",
            pki("apiserver-kubelet-client.crt"),
        ),
        file("kubelet-client-key", pki("apiserver-kubelet-client.key")),
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        file("service-account-key-file", pki("sa.pub")),
        file("service-account-signing-key-file", pki("sa.key")),
        flag("service-cluster-ip-range", SERVICE_NETWORK),
        flag("authorization-mode", "Node,RBAC"),
        flag(
            "enable-admission-plugins",
            "NodeRestriction,DenyServiceExternalIPs",
        ),
        flag("allow-privileged", "true"),
        file("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        flag("requestheader-allowed-names", "front-proxy-client"),
        flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        flag("requestheader-group-headers", "X-Remote-Group"),
        flag("requestheader-username-headers", "X-Remote-User"),
        file("proxy-client-cert-file", pki("front-proxy-client.crt")),
        file("proxy-client-key-file", pki("front-proxy-client.key")),
        file("audit-policy-file", config("audit.json")),
        file("audit-log-path", layout::logs().join("audit.log")),
        flag("audit-log-maxsize", "200"),
        flag("audit-log-maxbackup", "2"),
        file("cert-dir", config("unused-apiserver-certs")),
    ];
    program(home, "kube-apiserver", flags)
}

/// What every program needs that works as a client of the API server, alone of its kind.
fn as_client(name: &str) -> [String; 5] {
    let kubeconfig = pki(&format!("{name}.kubeconfig"));
    [
        file("kubeconfig", &kubeconfig),
        file("authentication-kubeconfig", &kubeconfig),
        file("authorization-kubeconfig", &kubeconfig),
        flag("bind-address", "127.0.0.1"),
        flag("leader-elect", "false"),
    ]
}

fn controller_manager(home: Identity) -> Result<Program> {
    let mut flags = vec![
        flag("use-service-account-credentials", "true"),
        file("root-ca-file", pki("ca.crt")),
        file("cluster-signing-cert-file", pki("ca.crt")),
        file("cluster-signing-key-file", pki("ca.key")),
        file("service-account-private-key-file", pki("sa.key")),
        file("flex-volume-plugin-dir", config("flex-volumes")),
        file("cert-dir", config("unused-controller-certs")),
        // Defaults are for large machines shared by many clients; here it would be what tests wait for.
        flag("kube-api-qps", "200"),
        flag("kube-api-burst", "400"),
    ];
    flags.extend(as_client("kube-controller-manager"));
    program(home, "kube-controller-manager", flags)
}

fn scheduler(home: Identity) -> Result<Program> {
    let mut flags = vec![
        file("cert-dir", config("unused-scheduler-certs")),
        flag("kube-api-qps", "500"),
        flag("kube-api-burst", "1000"),
    ];
    flags.extend(as_client("kube-scheduler"));
    program(home, "kube-scheduler", flags)
}
