//! Addresses that stay closed to tenants whatever a class opens: one list for what pods reach, for the way out, and for the
//! servers that kubeconfigs name.

use crate::block::Block;
use std::net::{IpAddr, Ipv4Addr};

/// Networks that mean something else in every place: pods, Services and nodes have their addresses from them.
pub const PRIVATE: [&str; 6] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    // NAT64 of a network's own (RFC 8215).
    "64:ff9b:1::/48",
];

/// The machine itself.
pub const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// The link, no single machine, and where clouds answer about a machine, though some of these addresses look public.
pub const NEVER: [&str; 14] = [
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    // 6to4 (RFC 7526: no longer in use) leads to any address of IPv4.
    "2002::/16",
    "fd00:ec2::/32",
    "fd20:ce::/32",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The blocks of a list.
pub fn blocks(list: &'static [&'static str]) -> impl Iterator<Item = Block> {
    list.iter().filter_map(|text| Block::parse(text))
}

/// Whether an address is of [`NEVER`], or one of IPv6 that a network may translate to one.
pub fn is_never(address: IpAddr) -> bool {
    blocks(&NEVER).any(|block| block.has(address)) || translated(address).is_some_and(is_never)
}

/// Whether an address is the machine's own.
pub fn is_loopback(address: IpAddr) -> bool {
    blocks(&LOOPBACK).any(|block| block.has(address))
}

/// The IPv4 address to which a network may translate one of IPv6: by NAT64 (RFC 6052).
pub fn translated(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() else {
        return None;
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_can_be_read() {
        for list in [&PRIVATE[..], &LOOPBACK, &NEVER] {
            let read = list
                .iter()
                .filter(|text| Block::parse(text).is_some_and(|block| block.to_string() == **text));
            assert_eq!(read.count(), list.len(), "{list:?}");
        }
    }

    #[test]
    fn services_of_clouds_are_never_reached_in_any_disguise() {
        for (address, never) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::a83f:8110", true),
            ("2002:a9fe:a9fe::1", true),
            ("168.63.129.16", true),
            ("192.0.0.192", true),
            ("100.100.100.200", true),
            ("fd00:ec2::254", true),
            ("64:ff9b::5db8:d822", false),
            ("93.184.216.34", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_never(address.parse().unwrap()), never, "{address}");
        }
    }
}
