//! Keys of a route: the ConfigMap in Sublet's own namespace by which the manager tells the proxy of a tenant.
//!
//! Nothing in it is secret.

use crate::tenant::TenantId;
use std::collections::BTreeMap;

/// PEM of the authority that signs the certificates of the tenant's API servers towards the proxy.
pub const AUTHORITY: &str = "authority.crt";
/// `ADDRESS:PORT` of the tenant's API servers.
pub const BACKEND: &str = "backend";
/// Address of the tenant's own `kubernetes` Service.
pub const API_ADDRESS: &str = "apiAddress";
/// DNS suffix of the tenant's Services.
pub const DOMAIN: &str = "clusterDomain";
/// Address of the DNS server that answers for the tenant, when it has none of its own.
pub const DNS: &str = "dnsAddress";
/// Networks of the super cluster, one a line: names of their addresses are asked of nobody outside.
pub const RANGES: &str = "clusterRanges";
/// A host name that clients reach the tenant by, when it has one of its own.
pub const HOST: &str = "host";
/// Where the tenant's API server may go beside its own pods and Services: `CIDR` or `CIDR PORT`, one a line.
pub const ALLOWED: &str = "allowedEgress";

/// Labels of the nodes that the tenant sees: `KEY=VALUE`, one a line.
pub const NODE_SELECTOR: &str = "nodeSelector";

/// Reads [`NODE_SELECTOR`]; lines without a value are left out.
pub fn parse_node_selector(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Writes [`NODE_SELECTOR`].
pub fn node_selector(labels: &BTreeMap<String, String>) -> String {
    let lines = labels.iter().map(|(key, value)| format!("{key}={value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Name of a tenant's route.
pub fn name(tenant: &TenantId) -> String {
    format!("route-{tenant}")
}
