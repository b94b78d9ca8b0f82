//! What the proxy is told of a tenant: a ConfigMap in Sublet's own namespace. Nothing in it is secret.

use super::{Addresses, apiserver, keys};
use crate::{
    lifecycle::sleep,
    object::{CONFIG_MAP, Object},
    spec::control_plane::{ControlPlane, Owner},
};
use api::{Dns, keys as marks};
use jiff::Timestamp;
use serde_json::{Value, json};
use tenancy::route;

/// The route; `authority` is the PEM of the authority that signs for the tenant's API servers towards the proxy, `before` the
/// route as it is.
pub(crate) fn route(
    cp: &ControlPlane,
    addresses: &Addresses,
    authority: &str,
    system: &str,
    (before, now): (Option<&Object>, Timestamp),
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
    if let Some(affinity) = route::node_affinity(&cp.node_affinity) {
        data[route::NODE_AFFINITY] = json!(affinity);
    }
    if !cp.node_labels.is_empty() {
        data[route::NODE_LABELS] = json!(cp.node_labels.join("\n"));
    }
    if let Some(word) = route::shown_nodes(cp.shown_nodes) {
        data[route::SHOWN_NODES] = json!(word);
    }
    if let Some(word) = sleep::at_the_door(cp).word() {
        data[route::SLEEP] = json!(word);
    }
    if let Some(host) = keys::own_host(cp) {
        data[route::HOST] = json!(host);
        data[route::HOST_SINCE] = json!(host_since(host, before, now).to_string());
    }
    let body = json!({
        "metadata": {"labels": labels(&cp.owner), "annotations": {marks::CONTROL_PLANE: cp.owner.path()}},
        "data": data,
    });
    Object::new(CONFIG_MAP, Some(system), &route::name(&cp.owner.id), body).sealed()
}

/// Since when the tenant asks for its host. A route that says nothing of it was written by a manager that didn't know: there
/// its creation decided.
fn host_since(host: &str, before: Option<&Object>, now: Timestamp) -> Timestamp {
    let same = before.filter(|before| {
        let data = &before.body["data"];
        let had = data[route::HOST].as_str();
        had.is_some_and(|had| had.eq_ignore_ascii_case(host))
    });
    let Some(same) = same else { return now };
    let told = same.body["data"][route::HOST_SINCE].as_str();
    let since = told.or(same.body["metadata"]["creationTimestamp"].as_str());
    since.and_then(|since| since.parse().ok()).unwrap_or(now)
}

/// Labels by which the proxy finds a route.
pub(crate) fn labels(owner: &Owner) -> Value {
    let mut labels = json!(owner.labels());
    labels[marks::ROLE] = json!(marks::ROLE_ROUTE);
    labels
}
