//! What the proxy is told of a tenant: a ConfigMap in Sublet's own namespace. Nothing in it is secret.

use super::{Addresses, apiserver, keys};
use crate::{
    control_plane::{ControlPlane, Owner},
    object::{CONFIG_MAP, Object},
    sleep,
};
use api::{Dns, keys as marks};
use serde_json::{Value, json};
use tenancy::route;

/// The route; `authority` is the PEM of the authority that signs for the tenant's API servers towards the proxy.
pub(crate) fn route(
    cp: &ControlPlane,
    addresses: &Addresses,
    authority: &str,
    system: &str,
) -> Object {
    let backend = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let backend = addresses.apiserver.parse().unwrap_or(backend);
    let mut data = json!({
        route::AUTHORITY: authority,
        route::BACKEND: std::net::SocketAddr::new(backend, apiserver::PORT).to_string(),
        route::API_ADDRESS: cp.slice.api_address().to_string(),
        route::DOMAIN: cp.domain,
        route::ALLOWED: cp.egress.join("\n"),
        route::NODE_SELECTOR: route::node_selector(&cp.visible_nodes),
    });
    if !cp.closed.is_empty() {
        data[route::CLOSED] = json!(cp.closed.join("\n"));
    }
    if let (Dns::Shared, Some(address)) = (cp.dns, &addresses.proxy.dns) {
        data[route::DNS] = json!(address);
        let slice = cp.slice.to_string();
        let ranges = cp.ranges.iter().map(String::as_str).chain([slice.as_str()]);
        data[route::RANGES] = json!(ranges.collect::<Vec<_>>().join("\n"));
    }
    if let Some(word) = sleep::at_the_door(cp).word() {
        data[route::SLEEP] = json!(word);
    }
    if let Some(host) = keys::own_host(cp) {
        data[route::HOST] = json!(host);
    }
    let body = json!({
        "metadata": {"labels": labels(&cp.owner), "annotations": {marks::CONTROL_PLANE: cp.owner.path()}},
        "data": data,
    });
    Object::new(CONFIG_MAP, Some(system), &route::name(&cp.owner.id), body).sealed()
}

/// Labels by which the proxy finds a route.
pub(crate) fn labels(owner: &Owner) -> Value {
    let mut labels = json!(owner.labels());
    labels[marks::ROLE] = json!(marks::ROLE_ROUTE);
    labels
}
