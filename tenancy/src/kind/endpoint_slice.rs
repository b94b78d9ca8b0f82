//! EndpointSlices: only those of Services without a selector, and only addresses of the tenant's own pods.
//!
//! For all other Services the super cluster makes the slices itself from the pods that the selector finds. An address
//! that isn't a pod's of this tenant would let traffic of an ingress or another tenant be sent anywhere (T17).

use super::{Cx, Kind, Refused, Resource, SuperWatch, service};
use crate::{
    meta,
    object::{Object, pick},
    sharing,
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
        if !crosses(object, cx) {
            return Ok(None);
        }
        for address in endpoints(object).flat_map(addresses) {
            check_address(address, cx)?;
        }
        Ok(Some(twin(object, endpoints(object), cx)))
    }

    fn reduced(&self, object: &Object, cx: &Cx<'_>) -> Option<Object> {
        // An address that was the tenant's when it crossed may be another tenant's now.
        let own = endpoints(object).filter(|endpoint| {
            addresses(endpoint).all(|address| check_address(address, cx).is_ok())
        });
        let mut less = object.clone();
        less.value_mut()["endpoints"] = own.cloned().collect();
        Some(less)
    }
}

/// Whether the slice is of a Service whose slices the tenant makes.
fn crosses(object: &Object, cx: &Cx<'_>) -> bool {
    let namespace = object.namespace();
    object.label(SERVICE_NAME).is_some_and(|service| {
        !sharing::is_shown(object)
            && !service::is_api_server(namespace, service)
            && cx.facts.has_selector(namespace, service) == Some(false)
    })
}

/// The addresses that a slice leads to.
pub fn endpoint_addresses(slice: &Object) -> Vec<IpAddr> {
    let all = endpoints(slice).flat_map(addresses);
    all.filter_map(|address| address.parse().ok()).collect()
}

/// The endpoints of a slice without those that have such an address; none if there aren't any.
pub fn endpoints_without(slice: &Object, has_left: impl Fn(IpAddr) -> bool) -> Option<Value> {
    let is_left = |endpoint: &&Value| {
        let parsed = addresses(endpoint).filter_map(|address| address.parse().ok());
        !parsed.into_iter().any(&has_left)
    };
    let rest: Vec<Value> = endpoints(slice).filter(is_left).cloned().collect();
    (rest.len() < endpoints(slice).count()).then(|| rest.into())
}

fn endpoints(object: &Object) -> impl Iterator<Item = &Value> {
    object
        .at("/endpoints")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn addresses(endpoint: &Value) -> impl Iterator<Item = &str> {
    let listed = endpoint
        .get("addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    listed.map(|address| address.as_str().unwrap_or_default())
}

fn twin<'a>(object: &Object, endpoints: impl Iterator<Item = &'a Value>, cx: &Cx<'_>) -> Object {
    let mut twin = meta::twin(&RESOURCE, object, object.name(), cx);
    let body = twin.value_mut();
    body["metadata"]["labels"][SERVICE_NAME] = object.label(SERVICE_NAME).into();
    body["metadata"]["labels"][MANAGED_BY] = "sublet.dev".into();
    body["addressType"] = object.at("/addressType").cloned().unwrap_or_default();
    body["ports"] = object.at("/ports").cloned().unwrap_or_default();
    let crossing = |endpoint| {
        Value::Object(pick(
            endpoint,
            &["addresses", "conditions", "hostname", "nodeName", "zone"],
        ))
    };
    body["endpoints"] = endpoints.map(crossing).collect();
    twin
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
    use crate::kind::{
        reduce,
        testing::{Answers, object, tenant},
    };
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
                rules: &tenant(),
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
    fn a_twin_loses_the_addresses_of_pods_that_are_gone() {
        let slice = object(json!({
            "metadata": {"name": "db-1", "namespace": "default", "uid": "u", "labels": {SERVICE_NAME: "db"}},
            "endpoints": [{"addresses": ["10.1.0.5"]}, {"addresses": ["10.1.0.6"]}],
        }));
        let facts = Answers {
            has_selector: Some(false),
            pod_addresses: vec!["10.1.0.6".parse().unwrap()],
            ..Answers::default()
        };
        let tenant = tenant();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        assert!(EndpointSlice.down(&slice, &cx).is_err());
        let (_, want) = reduce(&EndpointSlice, &slice, &cx).unwrap();
        assert_eq!(
            want.at("/endpoints"),
            Some(&json!([{"addresses": ["10.1.0.6"]}]))
        );
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
