//! Whether a registry is inside, as far as its name tells.
//!
//! It is the node that asks a registry, past every NetworkPolicy, and a pod's status tells how it was answered: so a tenant
//! would look around in the networks of nodes, and have what a cloud tells a machine alone asked for (T28, T45). More than a
//! name isn't known here: one of the tenant's own may lead to any address, and a registry may send whoever asks it
//! elsewhere. These only a class's list closes, or a firewall of the nodes.

use crate::{closed, reach::Reach};
use std::net::IpAddr;

/// Domains that aren't anybody's outside: of a machine, of its network, of a cloud's machines, of clusters.
const INSIDE: [&str; 5] = ["internal", "local", "localdomain", "localhost", "svc"];

/// Whether `HOST` or `HOST:PORT` is a node itself, or something in its networks.
pub(super) fn is_inside(registry: &str, reach: &Reach) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse() {
        return is_closed(address, reach);
    }
    let Some((_, last)) = host.rsplit_once('.') else {
        return true;
    };
    // To some resolvers `127.1` is an address, and no domain of the world begins with a digit.
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    let is_service = host.split('.').skip(2).any(|label| label == "svc");
    is_number || is_service || host.contains(':') || INSIDE.contains(&last)
}

fn is_closed(address: IpAddr, reach: &Reach) -> bool {
    let own = reach.of_cluster().iter().chain(&reach.nodes).copied();
    let mut blocks = closed::blocks(&closed::PRIVATE).chain(own);
    closed::is_never(address)
        || closed::is_loopback(address)
        || blocks.any(|block| block.has(address))
        || closed::translated(address).is_some_and(|address| is_closed(address, reach))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::PodNetwork;

    #[test]
    fn t45_registries_are_inside_by_address_and_by_name() {
        let class = PodNetwork {
            cluster_ranges: vec!["198.51.100.0/24".into()],
            node_ranges: vec!["203.0.113.0/24".into()],
            ..PodNetwork::default()
        };
        let reach = Reach::of(&class, None);
        for inside in [
            "127.0.0.1",
            "127.0.0.1:10255",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:5000",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b::c633:6401]",
            "[fe80::1%eth0]:80",
            "::1",
            "0.0.0.0:80",
            "169.254.169.254",
            "169.254.169.254.:80",
            "168.63.129.16",
            "10.96.0.1:443",
            "172.16.0.9",
            "192.168.1.1:5000",
            "100.64.0.1",
            "[fd00:ec2::254]",
            "198.51.100.7:443",
            "203.0.113.7",
            "127.1",
            "0x7f.1",
            "010.0.0.1",
            "1.2.3.0x4",
            "localhost",
            "LocalHost:80",
            "localhost.",
            "etcd:2379",
            "METADATA",
            "http:",
            "app.localhost",
            "localhost.localdomain",
            "metadata.google.internal",
            "kubernetes.default.svc:443",
            "kubernetes.default.svc.cluster.local",
            "kubernetes.default.svc.corp.example:443",
            "printer.local",
            "",
        ] {
            assert!(is_inside(inside, &reach), "{inside}");
        }
        for outside in [
            "registry.example",
            "registry.example:5000",
            "Registry.K8s.IO",
            "93.184.216.34:5000",
            "[2606:2800::1]:5000",
            "[64:ff9b::5db8:d822]",
            "svc.example.com",
            "registry.svc.ci.example.org",
            "internal.example.com",
            "1.example.com",
        ] {
            assert!(!is_inside(outside, &reach), "{outside}");
        }
        // What nobody says is the cluster's own isn't known to be.
        assert!(!is_inside("198.51.100.7:443", &Reach::default()));
    }
}
