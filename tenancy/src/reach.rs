//! Where a tenant's pods may go beside their own tenant: what its class opens, cut down to what its VirtualControlPlane
//! asks for.
//!
//! Ranges of the super cluster, loopback and what [`closed`] lists (a cloud's metadata service) stay closed whatever is
//! opened, also by the addresses that NAT64 gives them, and a wide opening means public addresses.

use crate::{
    block::Block,
    closed::{self, LOOPBACK, NEVER, PRIVATE},
};
use api::{Egress, PodNetwork};
use serde_json::{Value, json};

/// What pods of one tenant may reach, and who may reach them, beside their own tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// Namespaces of the platform whose pods may reach the tenant's.
    pub ingress_namespaces: Vec<String>,
    /// Namespaces of the platform whose pods the tenant's may reach.
    pub egress_namespaces: Vec<String>,
    /// Networks of nodes, for tenants that may have them: see [`crate::tenant::TenantRules::node_ranges`].
    pub nodes: Vec<Block>,
    /// DNS servers for names outside; the super cluster's own pods when empty.
    pub upstream_dns: Vec<Block>,
    openings: Vec<Opening>,
    cluster: Vec<Block>,
}

/// A part of the world outside.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Opening {
    block: Block,
    port: Option<u16>,
}

/// An address block that is open, as a peer of a NetworkPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// `{"ipBlock": …}`.
    pub peer: Value,
    /// The only port that is open; all when `None`.
    pub port: Option<u16>,
}

impl Reach {
    /// Ranges of the super cluster's pods, Services and nodes, as far as the class names them.
    pub fn of_cluster(&self) -> &[Block] {
        &self.cluster
    }

    /// What a class opens, and of that what a VirtualControlPlane asks for; all of it when it doesn't say.
    ///
    /// What can't be read opens nothing; an opening in a private network opens nothing while the cluster's own ranges
    /// aren't named.
    pub fn of(class: &PodNetwork, asked: Option<&[Egress]>) -> Self {
        let blocks = |texts: &[String]| -> Vec<Block> {
            texts.iter().filter_map(|text| Block::parse(text)).collect()
        };
        let cluster = blocks(&class.cluster_ranges);
        let mut openings = openings(&class.egress);
        if !is_named(&class.cluster_ranges) {
            openings.retain(|opening| !is_private(&opening.block));
        }
        if let Some(asked) = asked {
            let asked = self::openings(asked);
            let both = |ours: &Opening| {
                let ours = *ours;
                let common = asked.iter().filter_map(move |theirs| ours.common(theirs));
                common.collect::<Vec<_>>()
            };
            openings = openings.iter().flat_map(both).collect();
        }
        Self {
            ingress_namespaces: class.ingress_namespaces.clone(),
            egress_namespaces: class.egress_namespaces.clone(),
            nodes: blocks(&class.node_ranges),
            upstream_dns: blocks(&class.upstream_dns),
            openings,
            cluster,
        }
    }

    /// All that is open.
    pub fn everything(&self) -> Vec<Open> {
        ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|text| Block::parse(text))
            .flat_map(|all| self.within(&all, &[]))
            .collect()
    }

    /// The parts of `asked`, without `except`, that are open.
    pub fn within(&self, asked: &Block, except: &[Block]) -> Vec<Open> {
        let part = |opening: &Opening| {
            let common = asked.common(&opening.block)?;
            let private = closed::blocks(&PRIVATE).filter(|_| !is_private(&opening.block));
            let inside = closed::blocks(&LOOPBACK).chain(closed::blocks(&NEVER));
            let inside = inside.chain(private).chain(self.cluster.iter().copied());
            let inside = inside.flat_map(|block| [Some(block), block.nat64()]);
            let mut closed = vec![];
            for block in inside.flatten().chain(except.iter().copied()) {
                if block.holds(&common) {
                    return None;
                }
                if common.holds(&block) && !closed.iter().any(|other: &Block| other.holds(&block)) {
                    closed.retain(|other| !block.holds(other));
                    closed.push(block);
                }
            }
            closed.sort_unstable();
            let mut peer = json!({"ipBlock": {"cidr": common.to_string()}});
            if !closed.is_empty() {
                let closed = closed.iter().map(Block::to_string);
                peer["ipBlock"]["except"] = closed.collect();
            }
            Some(Open {
                peer,
                port: opening.port,
            })
        };
        self.openings.iter().filter_map(part).collect()
    }
}

impl Opening {
    fn common(self, other: &Self) -> Option<Self> {
        let port = match (self.port, other.port) {
            (Some(one), Some(another)) if one != another => return None,
            (one, another) => one.or(another),
        };
        Some(Self {
            block: self.block.common(&other.block)?,
            port,
        })
    }
}

fn openings(egress: &[Egress]) -> Vec<Opening> {
    let opening = |egress: &Egress| {
        Some(Opening {
            block: Block::parse(&egress.cidr)?,
            port: egress.port,
        })
    };
    egress.iter().filter_map(opening).collect()
}

/// Whether a class's opening opens anything: one in a private network does so only beside the cluster's own ranges.
pub fn is_open(opening: &Egress, cluster_ranges: &[String]) -> bool {
    let block = Block::parse(&opening.cidr);
    block.is_some_and(|block| !is_private(&block) || is_named(cluster_ranges))
}

/// Whether the cluster's own ranges are named, each of them so that it can be read.
fn is_named(cluster_ranges: &[String]) -> bool {
    let mut ranges = cluster_ranges.iter();
    !cluster_ranges.is_empty() && ranges.all(|text| Block::parse(text).is_some())
}

fn is_private(block: &Block) -> bool {
    closed::blocks(&PRIVATE).any(|private| private.holds(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(cidr: &str, port: Option<u16>) -> Egress {
        Egress {
            cidr: cidr.into(),
            port,
        }
    }

    fn class(egress: Vec<Egress>, ranges: &[&str]) -> PodNetwork {
        PodNetwork {
            egress,
            cluster_ranges: ranges.iter().map(|&text| text.to_owned()).collect(),
            ..PodNetwork::default()
        }
    }

    fn cidrs(reach: &Reach) -> Vec<String> {
        let all = reach.everything();
        all.iter()
            .map(|open| open.peer["ipBlock"]["cidr"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn nothing_is_open_unless_a_class_opens_it() {
        assert_eq!(Reach::of(&PodNetwork::default(), None).everything(), []);
        let asked = [egress("192.0.2.0/24", None)];
        let reach = Reach::of(&PodNetwork::default(), Some(&asked));
        assert_eq!(reach.everything(), []);
    }

    #[test]
    fn a_wide_opening_is_public_addresses_without_the_clusters() {
        let class = class(
            vec![egress("0.0.0.0/0", None)],
            &["198.51.100.0/24", "10.96.0.0/12"],
        );
        let open = Reach::of(&class, None).everything();
        assert_eq!(open.len(), 1);
        let except = open[0].peer["ipBlock"]["except"].to_string();
        for closed in [
            "10.0.0.0/8",
            "169.254.0.0/16",
            "127.0.0.0/8",
            "198.51.100.0/24",
            "168.63.129.16/32",
            "192.0.0.0/24",
        ] {
            assert!(except.contains(closed), "{closed}: {except}");
        }
        assert!(
            !except.contains("10.96.0.0/12"),
            "it is in 10.0.0.0/8: {except}"
        );
    }

    #[test]
    fn a_private_network_opens_only_beside_named_cluster_ranges() {
        let wish = || vec![egress("10.20.0.0/16", Some(443))];
        assert_eq!(cidrs(&Reach::of(&class(wish(), &[]), None)), [""; 0]);
        let broken = class(wish(), &["10.96.0.0/12", "nonsense"]);
        assert_eq!(cidrs(&Reach::of(&broken, None)), [""; 0]);
        let reach = Reach::of(&class(wish(), &["10.20.4.0/22"]), None);
        let open = reach.everything();
        assert_eq!(open[0].peer["ipBlock"]["except"], json!(["10.20.4.0/22"]));
        assert_eq!(open[0].port, Some(443));
        let inside = Reach::of(&class(wish(), &["10.0.0.0/8"]), None);
        assert_eq!(inside.everything(), []);
        let is_open = |ranges: &[&str]| is_open(&wish()[0], &class(vec![], ranges).cluster_ranges);
        assert!(is_open(&["10.96.0.0/12"]));
        assert!(!is_open(&[]) && !is_open(&["10.96.0.0/12", "nonsense"]));
    }

    #[test]
    fn metadata_services_stay_closed_whatever_is_opened() {
        for cidr in [
            "169.254.0.0/16",
            "169.254.169.254/32",
            "127.0.0.1/32",
            "fe80::/10",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "64:ff9b::a9fe:a9fe/128",
            "2002:a9fe:a9fe::/48",
        ] {
            let class = class(vec![egress(cidr, None)], &["10.96.0.0/12"]);
            assert_eq!(Reach::of(&class, None).everything(), [], "{cidr}");
        }
    }

    /// T45: a network that translates leads from IPv6 to anything of IPv4.
    #[test]
    fn t45_what_is_closed_is_closed_under_its_translated_address_too() {
        let class = class(vec![egress("::/0", None)], &["198.51.100.0/24"]);
        let open = Reach::of(&class, None).everything();
        let except = &open[0].peer["ipBlock"]["except"];
        let except: Vec<Block> = except
            .as_array()
            .unwrap()
            .iter()
            .map(|text| Block::parse(text.as_str().unwrap()).unwrap())
            .collect();
        for (address, closed) in [
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::a00:1", true),
            ("64:ff9b::7f00:1", true),
            ("64:ff9b::c633:6401", true),
            ("64:ff9b:1::1", true),
            ("2002:a9fe:a9fe::1", true),
            ("64:ff9b::5db8:d822", false),
            ("2001:db8::1", false),
        ] {
            let address = address.parse().unwrap();
            let is_closed = except.iter().any(|block| block.has(address));
            assert_eq!(is_closed, closed, "{address}");
        }
    }

    #[test]
    fn a_control_plane_can_only_be_stricter() {
        let class = class(
            vec![
                egress("203.0.113.0/24", Some(443)),
                egress("192.0.2.0/24", None),
            ],
            &[],
        );
        let asked = [
            egress("0.0.0.0/0", Some(443)),
            egress("198.51.100.0/24", None),
        ];
        let reach = Reach::of(&class, Some(&asked));
        assert_eq!(cidrs(&reach), ["203.0.113.0/24", "192.0.2.0/24"]);
        assert!(reach.everything().iter().all(|open| open.port == Some(443)));
        assert_eq!(Reach::of(&class, Some(&[])).everything(), []);
    }

    #[test]
    fn what_a_policy_asks_for_is_cut_to_what_is_open() {
        let reach = Reach::of(&class(vec![egress("192.0.2.0/24", None)], &[]), None);
        let block = |text: &str| Block::parse(text).unwrap();
        let open = reach.within(&block("192.0.0.0/8"), &[block("192.0.2.128/25")]);
        assert_eq!(
            open[0].peer,
            json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}})
        );
        assert_eq!(reach.within(&block("192.0.2.7/32"), &[]).len(), 1);
        assert_eq!(
            reach.within(&block("192.0.2.7/32"), &[block("192.0.2.0/24")]),
            []
        );
        assert_eq!(reach.within(&block("198.51.100.0/24"), &[]), []);
    }
}
