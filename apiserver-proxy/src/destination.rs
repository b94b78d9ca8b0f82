//! Where a tenant's API server may go; pure: what it asks for in, a verdict out.
//!
//! Its own pods, its own Services, its own API server and the kubelet of its virtual nodes; beyond them what its class
//! lists. A name is resolved once, by the proxy, and each address is judged by itself, so neither a name that changes
//! its mind nor a redirect leads anywhere that a plain address wouldn't.

use crate::index::Tenant;
use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};
use tenancy::{
    closed::{PRIVATE, is_loopback, is_never, translated},
    naming,
};

/// Where virtual nodes say that their kubelet listens.
pub(crate) const KUBELET_PORT: u16 = naming::KUBELET_PORT;
/// Longest DNS name.
const HOST_MAX: usize = 253;
/// What is known of the super cluster.
pub(crate) trait Places {
    /// Whether a running pod of the tenant, and of nobody else, has the address.
    fn is_pod(&self, tenant: &Tenant, address: IpAddr) -> bool;
    /// Whether a Service of the tenant has the address and the port.
    fn is_service(&self, tenant: &Tenant, address: IpAddr, port: u16) -> bool;
    /// Whether a pod or a Service of another tenant has the address.
    fn is_anothers(&self, tenant: &Tenant, address: IpAddr) -> bool;
    /// Cluster IP of a Service by its name in the tenant.
    fn service_address(&self, tenant: &Tenant, namespace: &str, name: &str) -> Option<IpAddr>;
}

/// What a class lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    network: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To the kubelet of the virtual node that is called so: by the label of its host name, or by its address.
    Kubelet(String),
    /// To the tenant's metrics API.
    Figures,
    /// To this address.
    Dial(IpAddr),
    /// To one of the addresses of this name that [`judge`] lets through.
    Resolve(String),
}

/// It goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither an address nor a name.
    #[error("the destination is malformed")]
    Malformed,
    /// Somewhere else.
    #[error(
        "the destination is neither a pod nor a Service of this cluster, and the class allows no other"
    )]
    Foreign,
}

/// Decides about a host and a port.
pub(crate) fn decide(
    tenant: &Tenant,
    host: &str,
    port: u16,
    places: &dyn Places,
) -> Result<Verdict, Refusal> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match address {
            IpAddr::V6(v6) if naming::is_node_address(v6) => node(v6.to_string(), port),
            _ => judge(tenant, address, port, places).map(Verdict::Dial),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !is_host(&host) {
        return Err(Refusal::Malformed);
    }
    if let Some(label) = naming::node_of_host(&host) {
        return node(label.to_owned(), port);
    }
    if host == naming::METRICS_HOST {
        return if port == naming::METRICS_PORT {
            Ok(Verdict::Figures)
        } else {
            Err(Refusal::Foreign)
        };
    }
    if let Some((namespace, name)) = service_of(&host, &tenant.domain) {
        let address = places.service_address(tenant, namespace, name);
        let address = address.ok_or(Refusal::Foreign)?;
        return judge(tenant, address, port, places).map(Verdict::Dial);
    }
    if tenant.allowed.is_empty() {
        // Not even asked for: a DNS query tells something, too.
        return Err(Refusal::Foreign);
    }
    Ok(Verdict::Resolve(host))
}

fn node(called: String, port: u16) -> Result<Verdict, Refusal> {
    if port == KUBELET_PORT {
        Ok(Verdict::Kubelet(called))
    } else {
        Err(Refusal::Foreign)
    }
}

/// Whether the tenant may reach an address; the answer is the address in its plain form.
pub(crate) fn judge(
    tenant: &Tenant,
    address: IpAddr,
    port: u16,
    places: &dyn Places,
) -> Result<IpAddr, Refusal> {
    let address = address.to_canonical();
    let own_api = tenant.api_address == Some(address) && port == 443
        || tenant.backend == Some(SocketAddr::new(address, port));
    let may = own_api
        || places.is_pod(tenant, address)
        || places.is_service(tenant, address, port)
        || is_allowed(tenant, address, port, places);
    let is_node = matches!(address, IpAddr::V6(v6) if naming::is_node_address(v6));
    if may && !is_node && port != 0 {
        Ok(address)
    } else {
        Err(Refusal::Foreign)
    }
}

/// Whether the class lets it out there. Whatever it lists, it opens neither the super cluster, as far as its networks are
/// named, nor what is known to be another tenant's: the proxy is let in by every tenant's pods.
fn is_allowed(tenant: &Tenant, address: IpAddr, port: u16, places: &dyn Places) -> bool {
    let is_closed = |address: IpAddr| {
        tenant.closed.iter().any(|block| block.has(address)) || places.is_anothers(tenant, address)
    };
    let mut listed = tenant.allowed.iter();
    listed.any(|allowed| allowed.covers(address, port))
        && !is_closed(address)
        && !translated(address).is_some_and(is_closed)
}

/// Namespace and name of `NAME.NAMESPACE.svc` and `NAME.NAMESPACE.svc.DOMAIN`.
fn service_of<'a>(host: &'a str, domain: &str) -> Option<(&'a str, &'a str)> {
    let host = host
        .strip_suffix(domain)
        .and_then(|host| host.strip_suffix('.'))
        .unwrap_or(host);
    let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    (!namespace.contains('.')).then_some((namespace, name))
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= HOST_MAX
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl Allowed {
    /// A wide entry grants public addresses only: a private network must be named itself. Loopback and link-local (where
    /// metadata services are) stay closed.
    fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port)
            && !is_never(address)
            && !is_loopback(address)
            && translated(address).is_none_or(|v4| !is_loopback(v4) && private(v4).is_none())
            && contains(self.network, self.prefix, address)
            && match private(address) {
                None => true,
                Some((network, prefix)) => {
                    self.prefix >= prefix && contains(network, prefix, self.network)
                }
            }
    }
}

/// The private network that an address is in.
fn private(address: IpAddr) -> Option<(IpAddr, u8)> {
    let networks = PRIVATE.iter().copied();
    networks
        .filter_map(split)
        .find(|(network, prefix)| contains(*network, *prefix, address))
}

/// `CIDR` in its parts.
fn split(cidr: &str) -> Option<(IpAddr, u8)> {
    let (network, prefix) = cidr.split_once('/')?;
    Some((network.parse().ok()?, prefix.parse().ok()?))
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let same = |a: u128, b: u128, bits: u8| {
        let rest = u32::from(bits.saturating_sub(prefix));
        a.checked_shr(rest).unwrap_or_default() == b.checked_shr(rest).unwrap_or_default()
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for Allowed {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let mut words = text.split_whitespace();
        let cidr = words.next().and_then(split);
        let (network, prefix) = cidr.ok_or(Refusal::Malformed)?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let port = words.next().map(str::parse).transpose();
        let port = port.map_err(|_| Refusal::Malformed)?;
        if prefix > longest || words.next().is_some() {
            return Err(Refusal::Malformed);
        }
        Ok(Self {
            network,
            prefix,
            port,
        })
    }
}

#[cfg(test)]
mod tests;
