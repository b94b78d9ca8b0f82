//! The front door, the kubelet of the virtual nodes, the way out of tenants' API servers, and DNS of their pods.
//!
//! ```text
//! kubectl ──TLS──▶ front door: server name ─▶ that tenant's API server (bytes; TLS isn't ended here)
//!
//! tenant API server ──TLS, CONNECT──▶ way out ──┬─▶ the tenant's own pods and Services, and what its class allows
//!                                               ├─▶ a virtual node: kubelet ─▶ the super API server's pod subresources
//!                                               └─▶ the tenant's metrics API ─▶ the super cluster's
//!
//! tenant pod ──DNS──▶ the tenant's names; servers outside for all others
//! ```
//!
//! Who calls is told by a certificate of the tenant's own authority, never by a header or a path. Where a connection
//! goes is taken from the index, which comes from the super cluster; a caller only chooses among what is its own. Pods that
//! ask for names are told apart by their addresses.

pub mod args;
pub mod dns_load;
pub mod fuzz;

mod follow;
mod freshness;
mod index;
mod list;
mod super_client;
mod watch;

mod identity;
mod serving;

mod accept;
mod limit;
mod moved;
mod shares;
mod source;

mod passthrough;
mod proxy_header;
mod sni;
mod splice;

mod visits;
mod wake;

mod destination;
mod egress;
mod lookup;

mod dns;

mod tunnel;

mod forward;
mod kubelet;
mod mask;
mod query;
mod route;

mod metrics_api;
mod node_certificate;
mod node_figures;
mod node_pods;
mod quantity;
mod selector;
mod usage;

mod metrics;

#[cfg(test)]
mod world;
