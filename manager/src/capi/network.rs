//! What a Cluster says about its network, and what comes of it; pure.
//!
//! A tenant's network is the super cluster's: pods and Services have addresses from there, and only the DNS suffix can be
//! chosen. What a Cluster asks for and doesn't get is told rather than refused, since templates ask for it everywhere.

use super::facts::{Facts, Tenant};
use serde_json::{Value, json};

/// The DNS suffix that a Cluster chooses: used for a new tenant, and kept by one that there is.
pub(super) fn domain(seen: &Facts) -> Value {
    let network = seen
        .cluster
        .as_ref()
        .map(|cluster| &cluster.body["spec"]["clusterNetwork"]);
    match (
        network.and_then(|network| network["serviceDomain"].as_str()),
        &seen.tenant,
    ) {
        (None | Some(""), _) => Value::Null,
        (Some(domain), None) => json!(domain),
        (Some(_), Some(tenant)) => json!(tenant.vcp.spec.network.cluster_domain),
    }
}

/// What of the Cluster's `spec.clusterNetwork` isn't used, for people; empty when all is.
pub(super) fn unused(seen: &Facts, tenant: &Tenant) -> String {
    let Some(cluster) = &seen.cluster else {
        return String::new();
    };
    let network = &cluster.body["spec"]["clusterNetwork"];
    let given = &tenant.vcp.spec.network;
    let mut unused = vec![];
    if let Some(domain) = network["serviceDomain"]
        .as_str()
        .filter(|domain| !domain.is_empty())
        && domain != given.cluster_domain
    {
        unused.push(format!("serviceDomain (it is {})", given.cluster_domain));
    }
    let blocks = |part: &str| {
        network[part]["cidrBlocks"]
            .as_array()
            .filter(|blocks| !blocks.is_empty())
    };
    if let Some(blocks) = blocks("services")
        && let Some(slice) = &given.service_cidr
        && *blocks != [json!(slice)]
    {
        unused.push(format!("services (their addresses are of {slice})"));
    }
    if blocks("pods").is_some() {
        unused.push("pods (their addresses are the super cluster's)".into());
    }
    if unused.is_empty() {
        return String::new();
    }
    format!(
        "of spec.clusterNetwork of Cluster {} isn't used: {}",
        cluster.name(),
        unused.join(", ")
    )
}
