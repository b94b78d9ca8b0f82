//! What leads a tenant's `kubectl top` and HorizontalPodAutoscalers to the metrics API that the proxy serves.
//!
//! An APIService names a Service without an address of its own, whose host name only the proxy's way out knows. No pod
//! of the tenant is needed for it. A tenant that wants a metrics-server of its own changes the APIService: one that
//! names another Service is left alone.

use crate::object::{API_SERVICE, CLUSTER_ROLE, Object, SERVICE};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use tenancy::naming;

/// Namespace of the Service in the tenant.
const NAMESPACE: &str = "kube-system";
/// Name of the Service in the tenant.
const NAME: &str = "sublet-metrics";

/// The name that the proxy's certificate must carry: API servers check for that of the Service.
pub(crate) fn server_name() -> String {
    format!("{NAME}.{NAMESPACE}.svc")
}

/// All of it, in the order of creation; `authority` is the PEM of the authority of the proxy's certificate.
pub(crate) fn objects(authority: &str) -> Vec<Object> {
    let port = naming::METRICS_PORT;
    let service = json!({"spec": {
        "type": "ExternalName", "externalName": naming::METRICS_HOST, "ports": [{"name": "https", "port": port}],
    }});
    // The role of this name that comes with metrics-server: whoever may look at a namespace sees its figures.
    let role = json!({
        "metadata": {"labels": {
            "rbac.authorization.k8s.io/aggregate-to-admin": "true",
            "rbac.authorization.k8s.io/aggregate-to-edit": "true",
            "rbac.authorization.k8s.io/aggregate-to-view": "true",
        }},
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list"]}],
    });
    let api_service = json!({"spec": {
        "group": "metrics.k8s.io", "version": "v1beta1",
        "groupPriorityMinimum": 100, "versionPriority": 100,
        "service": {"namespace": NAMESPACE, "name": NAME, "port": port},
        "caBundle": BASE64_STANDARD.encode(authority),
    }});
    let reader = "system:aggregated-metrics-reader";
    [
        Object::new(CLUSTER_ROLE, None, reader, role),
        Object::new(SERVICE, Some(NAMESPACE), NAME, service),
        Object::new(API_SERVICE, None, "v1beta1.metrics.k8s.io", api_service),
    ]
    .map(Object::sealed)
    .into()
}

/// Whether the tenant has its metrics served by somebody else.
pub(crate) fn is_anothers(api_service: &Object) -> bool {
    let names = ["/spec/service/namespace", "/spec/service/name"];
    names.map(|pointer| api_service.text(pointer)) != [NAMESPACE, NAME]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_service_that_leads_elsewhere_is_the_tenants() {
        let mut ours = objects("pem").pop().unwrap();
        assert!(!is_anothers(&ours));
        ours.body["spec"]["service"]["name"] = json!("metrics-server");
        assert!(is_anothers(&ours));
    }
}
