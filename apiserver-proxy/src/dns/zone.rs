//! The names of one tenant that has no DNS server of its own: its domain, and what stands there beside its Services.

use super::names::{LeadsTo, Port, Service};
use hickory_proto::{ProtoError, rr::Name};
use std::net::IpAddr;
use tenancy::block::Block;

/// The domain of a tenant in `shared` mode.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Identity of the tenant.
    pub(super) tenant: String,
    /// Suffix of all of its names.
    pub(super) domain: Name,
    /// The issuer of its ServiceAccount tokens: another name of its API server.
    pub(super) issuer: Name,
    /// Its API server's Service.
    pub(super) api: Option<Service>,
    /// The server itself, as `kube-dns` of kube-system.
    pub(super) server: Service,
    /// Addresses whose names are nobody's outside, beside the private ones.
    pub(super) closed: Vec<Block>,
}

/// A domain as people write it, with or without its last dot.
pub(crate) fn domain(text: &str) -> Result<Name, ProtoError> {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.')))
}

impl Zone {
    /// The domain `domain` of a tenant, whose server has the address `server`.
    pub(crate) fn new(
        tenant: &str,
        domain: &str,
        api: Option<IpAddr>,
        server: IpAddr,
        closed: Vec<Block>,
    ) -> Result<Self, ProtoError> {
        let domain = self::domain(domain)?;
        let issuer = Name::from_ascii(format!("{tenant}.kubernetes.default.svc"))?;
        let port = |name: &str, protocol: &str, number| Port {
            name: name.into(),
            protocol: protocol.into(),
            number: Some(number),
        };
        let service = |address, ports| Service {
            leads_to: LeadsTo::Itself(vec![address]),
            ports,
        };
        Ok(Self {
            tenant: tenant.to_owned(),
            issuer: issuer.append_domain(&domain)?,
            domain,
            api: api.map(|address| service(address, vec![port("https", "TCP", 443)])),
            server: service(
                server,
                vec![port("dns", "UDP", 53), port("dns-tcp", "TCP", 53)],
            ),
            closed,
        })
    }
}
