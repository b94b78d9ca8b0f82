//! EndpointSlices: only those of Services without a selector, and only addresses of the tenant's own pods.
//!
//! For all other Services the super cluster makes the slices itself from the pods that the selector finds. An address
//! that isn't a pod's of this tenant would let traffic of an ingress or another tenant be sent anywhere (T17).

use super::{Cx, Kind, Refused, Resource, SuperWatch, service};
use crate::{
    meta,
    object::{Object, pick},
};
use serde_json::Value;
use std::net::IpAddr;

pub(super) const RESOURCE: Resource = Resource {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    namespaced: true,
};

/// Label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that tells other controllers to keep off.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The kind.
#[derive(Debug)]
pub(super) struct EndpointSlice;

impl Kind for EndpointSlice {
    fn resource(&self) -> &'static Resource {
        &RESOURCE
    }

    fn super_watch(&self) -> SuperWatch {
        SuperWatch::Owned
    }

    fn tenant_selector(&self) -> Option<&'static str> {
        // Slices that the tenant's controller made from a selector are many and never cross.
        Some("endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io")
    }

    fn down(&self, object: &Object, cx: &Cx<'_>) -> Result<Option<Object>, Refused> {
        let Some(service) = object.label(SERVICE_NAME) else {
            return Ok(None);
        };
        let namespace = object.namespace();
        if service::is_api_server(namespace, service)
            || cx.facts.has_selector(namespace, service) != Some(false)
        {
            return Ok(None);
        }
        let endpoints = object
            .at("/endpoints")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let addresses = endpoints
            .iter()
            .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
        for address in addresses {
            check_address(address.as_str().unwrap_or_default(), cx)?;
        }
        let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
        let body = twin.value_mut();
        body["metadata"]["labels"][SERVICE_NAME] = service.into();
        body["metadata"]["labels"][MANAGED_BY] = "sublet.dev".into();
        body["addressType"] = object.at("/addressType").cloned().unwrap_or_default();
        body["ports"] = object.at("/ports").cloned().unwrap_or_default();
        let crossing = |endpoint| {
            Value::Object(pick(
                endpoint,
                &["addresses", "conditions", "hostname", "nodeName", "zone"],
            ))
        };
        body["endpoints"] = endpoints.iter().map(crossing).collect();
        Ok(Some(twin))
    }
}

fn check_address(address: &str, cx: &Cx<'_>) -> Result<(), Refused> {
    let own = address
        .parse::<IpAddr>()
        .is_ok_and(|address| cx.facts.is_pod_address(address));
    if own {
        return Ok(());
    }
    Err(Refused::new(
        "ForeignAddress",
        format!(
            "endpoint address {address:?} isn't one of this tenant's running pods: only those may be served"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::testing::{Answers, object, tenant};
    use serde_json::json;

    fn down(address: &str, facts: &Answers) -> Result<Option<Object>, Refused> {
        let slice = object(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "db-1", "namespace": "default", "uid": "u", "labels": {SERVICE_NAME: "db"}},
            "ports": [{"port": 5432}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "targetRef": {"name": "x"}}],
        }));
        EndpointSlice.down(
            &slice,
            &Cx {
                tenant: &tenant(),
                facts,
            },
        )
    }

    #[test]
    fn slices_of_selectorless_services_cross_with_addresses_of_own_pods() {
        let facts = Answers {
            has_selector: Some(false),
            pod_addresses: vec!["10.1.0.5".parse().unwrap()],
            ..Answers::default()
        };
        let twin = down("10.1.0.5", &facts).unwrap().unwrap();
        assert_eq!(twin.label(SERVICE_NAME), Some("db"));
        assert_eq!(twin.label(MANAGED_BY), Some("sublet.dev"));
        assert_eq!(
            twin.at("/endpoints/0"),
            Some(&json!({"addresses": ["10.1.0.5"], "conditions": {"ready": true}}))
        );
        for foreign in ["10.1.0.6", "169.254.169.254", "127.0.0.1", "evil.example"] {
            assert_eq!(down(foreign, &facts).unwrap_err().reason, "ForeignAddress");
        }
    }

    #[test]
    fn the_super_cluster_makes_the_slices_of_other_services() {
        for has_selector in [Some(true), None] {
            assert_eq!(
                down(
                    "10.1.0.5",
                    &Answers {
                        has_selector,
                        ..Answers::default()
                    }
                ),
                Ok(None)
            );
        }
    }
}
