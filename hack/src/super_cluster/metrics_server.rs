//! metrics-server as a process beside the control plane: `kubectl top` and HorizontalPodAutoscalers need it.
//!
//! No pod: it starts with the cluster and holds up nothing, since nobody waits for the first figures.

use anyhow::Result;
use serde_json::json;

use super::layout::{Node, pki, text};
use super::process::{Identity, Program};
use crate::binaries;
use crate::kube_api::KubeApi;

/// The name of its files, its Service and its process.
pub(super) const NAME: &str = "metrics-server";
/// Its port on the first node's address.
const PORT: u16 = 4443;

/// The names that its certificate carries.
pub(crate) fn server_names() -> Vec<String> {
    vec![format!("{NAME}.kube-system.svc")]
}

/// The metrics-server.
pub(crate) fn program(home: Identity) -> Result<Program> {
    let kubeconfig = text(pki("admin.kubeconfig"));
    let command = vec![
        text(binaries::path(NAME)?),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--bind-address={}", first().address()),
        format!("--secure-port={PORT}"),
        format!("--tls-cert-file={}", text(pki(&format!("{NAME}.crt")))),
        format!(
            "--tls-private-key-file={}",
            text(pki(&format!("{NAME}.key")))
        ),
        format!("--kubelet-certificate-authority={}", text(pki("ca.crt"))),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // As often as it allows: tests wait for figures. A kubelet must answer sooner.
        "--metric-resolution=10s".to_owned(),
        "--kubelet-request-timeout=5s".to_owned(),
    ];
    Ok(Program {
        name: NAME.to_owned(),
        command,
        home: Some(home),
    })
}

/// Creates or updates what leads the API server to it.
pub(crate) fn apply(api: &KubeApi) -> Result<()> {
    let metadata = json!({"name": NAME});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [first().address()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
    });
    let authority = std::fs::read(pki("ca.crt"))?;
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": "kube-system", "name": NAME},
            "caBundle": data_encoding::BASE64.encode(&authority),
        },
    });
    for (path, object) in [
        (
            format!("/api/v1/namespaces/kube-system/services/{NAME}"),
            service,
        ),
        (
            format!("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/{NAME}"),
            slice,
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io".to_owned(),
            api_service,
        ),
    ] {
        api.apply(&path, &object)?;
    }
    Ok(())
}

fn first() -> Node {
    Node { number: 1 }
}
