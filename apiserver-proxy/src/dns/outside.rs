//! Which questions may leave the cluster.
//!
//! Never one of the tenant's own domain or of the super cluster's, whose server would tell about other tenants, and never
//! one for the name of an address that only the inside could know.

use hickory_proto::rr::Name;
use tenancy::{block::Block, closed::PRIVATE};

/// Networks that mean something else on every machine and link.
const LOCAL: [&str; 5] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::/127",
    "fe80::/10",
];

/// Whether a name is of a domain of which tenants are told nothing.
pub(super) fn is_hidden(name: &Name, domains: &[Name]) -> bool {
    domains.iter().any(|domain| domain.zone_of(name))
}

/// Whether the names of a network's addresses may be asked outside; `closed` are networks of the cluster.
pub(super) fn may_ask(network: &Block, closed: &[Block]) -> bool {
    let private = PRIVATE.iter().chain(&LOCAL);
    let private = private.filter_map(|text| Block::parse(text));
    let mut inside = private.chain(closed.iter().copied());
    !inside.any(|inside| inside.common(network).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        Block::parse(text).unwrap()
    }

    #[test]
    fn names_of_addresses_inside_are_asked_of_nobody() {
        let closed = [block("203.0.113.0/24")];
        for (network, may) in [
            ("8.8.8.8/32", true),
            ("8.8.0.0/16", true),
            ("2001:db8::1/128", true),
            ("10.96.0.1/32", false),
            ("10.0.0.0/8", false),
            // It holds private networks.
            ("0.0.0.0/0", false),
            ("192.0.0.0/8", false),
            ("203.0.113.7/32", false),
            ("fd00::1/128", false),
            ("::1/128", false),
            ("64:ff9b:1::1/128", false),
        ] {
            assert_eq!(may_ask(&block(network), &closed), may, "{network}");
        }
    }

    #[test]
    fn hidden_domains_hide_all_of_their_names() {
        let hidden = [Name::from_ascii("cluster.local.").unwrap()];
        for (name, is) in [
            ("web.other.svc.cluster.local.", true),
            ("CLUSTER.LOCAL.", true),
            ("mycluster.local.", false),
            ("example.com.", false),
        ] {
            assert_eq!(
                is_hidden(&Name::from_ascii(name).unwrap(), &hidden),
                is,
                "{name}"
            );
        }
    }
}
