//! What of the super cluster's objects names need.

use super::{Endpoint, LeadsTo, Marked, Owner, Port, Service, Slice};
use api::keys;
use k8s_openapi::api::{
    core::v1::{Namespace, Service as SuperService},
    discovery::v1::EndpointSlice,
};
use kube::ResourceExt;
use std::net::IpAddr;

/// `None`: not a namespace that was made from a tenant's.
pub(super) fn namespace(namespace: &Namespace) -> Option<Owner> {
    Some(Owner {
        tenant: namespace.labels().get(keys::TENANT)?.clone(),
        namespace: namespace.annotations().get(keys::NAME)?.clone(),
    })
}

/// `None`: not a Service that was made from a tenant's.
pub(super) fn service(service: &SuperService) -> Option<Marked> {
    let annotation = |key: &str| service.annotations().get(key);
    let owner = Owner {
        tenant: service.labels().get(keys::TENANT)?.clone(),
        namespace: annotation(keys::NAMESPACE)?.clone(),
    };
    let spec = service.spec.as_ref()?;
    let declared = spec.ports.iter().flatten().map(|port| Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        number: u16::try_from(port.port).ok(),
    });
    let ports = or_none_declared(declared.collect());
    let addresses: Vec<IpAddr> = {
        let all = spec.cluster_ips.iter().flatten();
        all.filter_map(|address| address.parse().ok()).collect()
    };
    let shown = annotation(keys::SHOWN_ADDRESS).and_then(|address| address.parse().ok());
    let leads_to = match (annotation(keys::EXTERNAL_NAME), shown) {
        (Some(name), _) => LeadsTo::Name(name.clone()),
        (None, Some(address)) => LeadsTo::Shown(Slice {
            endpoints: vec![Endpoint {
                label: label(None, address),
                address,
            }],
            ports: ports.clone(),
        }),
        (None, None) if addresses.is_empty() => LeadsTo::Endpoints,
        (None, None) => LeadsTo::Itself(addresses),
    };
    Some(Marked {
        owner,
        service: Service { leads_to, ports },
    })
}

/// Endpoints that aren't ready are left out; those of Services that publish them all the same are marked as ready.
pub(super) fn slice(slice: &EndpointSlice) -> Slice {
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    let endpoints = ready.flat_map(|endpoint| {
        let addresses = endpoint
            .addresses
            .iter()
            .filter_map(|address| address.parse().ok());
        addresses.map(|address| Endpoint {
            label: label(endpoint.hostname.as_deref(), address),
            address,
        })
    });
    let ports = slice.ports.iter().flatten().map(|port| Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_default(),
        number: port.port.and_then(|number| u16::try_from(number).ok()),
    });
    Slice {
        endpoints: endpoints.collect(),
        ports: or_none_declared(ports.collect()),
    }
}

/// Without ports there is one that has no number, so that addresses are found all the same.
fn or_none_declared(ports: Vec<Port>) -> Vec<Port> {
    if ports.is_empty() {
        let none = Port {
            name: String::new(),
            protocol: String::new(),
            number: None,
        };
        return vec![none];
    }
    ports
}

/// The label of an endpoint.
fn label(hostname: Option<&str>, address: IpAddr) -> String {
    if let Some(own) = hostname.filter(|name| !name.is_empty()) {
        return own.to_ascii_lowercase();
    }
    let mut dashed = address.to_string().replace(['.', ':'], "-");
    // No label ends in a dash.
    if dashed.ends_with('-') {
        dashed.push('0');
    }
    dashed
}
