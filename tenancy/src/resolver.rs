//! Who answers DNS for a tenant's pods.

use std::net::IpAddr;

/// Whom a tenant's pods ask for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// A server of the tenant's own, behind the tenth address of its slice.
    #[default]
    Own,
    /// The one server of all tenants that have none, which tells them apart by their pods' addresses; its own address
    /// once it is known.
    Shared(Option<IpAddr>),
}

impl Resolver {
    /// As a VirtualControlPlane says; `address` is what the manager found out.
    pub fn of(dns: api::Dns, address: Option<&str>) -> Self {
        match dns {
            api::Dns::Shared => Self::Shared(address.and_then(|address| address.parse().ok())),
            api::Dns::Dedicated | api::Dns::None => Self::Own,
        }
    }

    /// Whether the tenant has no server of its own.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}
