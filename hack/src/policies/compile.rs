//! From pods, namespaces and NetworkPolicies to one nftables table; pure.
//!
//! ```text
//! forward ─▶ answers and a pod's talk to itself pass ─▶ egress of the source ─▶ ingress of the destination ─▶ passes
//! input (to the node itself) ─▶ answers pass ─▶ egress of the source ─▶ passes
//! ```
//!
//! kube-proxy has put the pod's address in place of a Service's before. What the node itself sends to its pods isn't
//! filtered, as Kubernetes wants it; what a pod sends to its node is, as with most engines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::model::{Pod, Policy, State, items, matches};

/// A direction of traffic, as policies name it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn kind(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    /// The address of the pod that is ruled.
    fn own(self) -> &'static str {
        match self {
            Self::Ingress => "ip daddr",
            Self::Egress => "ip saddr",
        }
    }

    /// The address of its peer.
    fn peer(self) -> &'static str {
        match self {
            Self::Ingress => "ip saddr",
            Self::Egress => "ip daddr",
        }
    }

    fn rules(self, spec: &Value) -> impl Iterator<Item = &Value> {
        items(match self {
            Self::Ingress => &spec["ingress"],
            Self::Egress => &spec["egress"],
        })
    }

    fn peers(self, rule: &Value) -> &Value {
        match self {
            Self::Ingress => &rule["from"],
            Self::Egress => &rule["to"],
        }
    }
}

/// Addresses, in order.
type Addresses = BTreeSet<Ipv4Addr>;

/// The text that replaces the table by what the state asks for.
pub(super) fn rules(table: &str, state: &State) -> String {
    let egress = chain(Direction::Egress, state);
    let ingress = chain(Direction::Ingress, state);
    let own: Addresses = state.pods.values().map(|pod| pod.address).collect();
    let pairs: Vec<String> = own
        .iter()
        .map(|address| format!("{address} . {address}"))
        .collect();
    let itself = if pairs.is_empty() {
        String::new()
    } else {
        format!(
            "    ip saddr . ip daddr {{ {} }} accept\n",
            pairs.join(", ")
        )
    };
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
         \x20 chain egress {{\n{egress}  }}\n\
         \x20 chain ingress {{\n{ingress}  }}\n\
         \x20 chain forward {{\n    type filter hook forward priority filter; policy accept;\n    \
         ct state established,related accept\n{itself}    jump egress\n    jump ingress\n  }}\n\
         \x20 chain input {{\n    type filter hook input priority filter; policy accept;\n    \
         ct state established,related accept\n    jump egress\n  }}\n\
         }}\n"
    )
}

/// The lines of one direction: what isn't ruled returns, what a policy allows returns, the rest is dropped.
fn chain(direction: Direction, state: &State) -> String {
    let mut ruled = Addresses::new();
    let mut allowed = BTreeSet::new();
    for policy in state.policies.values() {
        if !rules_direction(&policy.spec, direction) {
            continue;
        }
        let pods: Vec<&Pod> = selected(&policy.namespace, &policy.spec["podSelector"], state);
        ruled.extend(pods.iter().map(|pod| pod.address));
        if !pods.is_empty() {
            for rule in direction.rules(&policy.spec) {
                allowed.extend(lines(direction, policy, &pods, rule, state));
            }
        }
    }
    if ruled.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(text, "    {} != {} return", direction.own(), set(&ruled));
    for line in allowed {
        let _ = writeln!(text, "    {line} return");
    }
    text + "    counter drop\n"
}

fn rules_direction(spec: &Value, direction: Direction) -> bool {
    match spec["policyTypes"].as_array() {
        Some(types) => types.iter().any(|entry| entry == direction.kind()),
        None => direction == Direction::Ingress || spec["egress"].is_array(),
    }
}

fn selected<'a>(namespace: &str, selector: &Value, state: &'a State) -> Vec<&'a Pod> {
    let pods = state.pods.values();
    pods.filter(|pod| pod.namespace == namespace && matches(selector, &pod.labels))
        .collect()
}

/// The matches of one rule, each a line that lets pass.
fn lines(
    direction: Direction,
    policy: &Policy,
    pods: &[&Pod],
    rule: &Value,
    state: &State,
) -> Vec<String> {
    let peers = direction.peers(rule);
    if items(peers).next().is_none() {
        return with_peer(direction, rule, pods, &Peer::Anyone, state);
    }
    let mut found = vec![];
    let mut peer_pods: BTreeMap<Ipv4Addr, &Pod> = BTreeMap::new();
    for peer in items(peers) {
        if peer["ipBlock"].is_object() {
            let block = Peer::Block(&peer["ipBlock"]);
            found.extend(with_peer(direction, rule, pods, &block, state));
            continue;
        }
        for pod in peers_of(policy, peer, state) {
            peer_pods.insert(pod.address, pod);
        }
    }
    if !peer_pods.is_empty() {
        let peers = Peer::Pods(peer_pods.into_values().collect());
        found.extend(with_peer(direction, rule, pods, &peers, state));
    }
    found
}

/// The lines of a rule for one peer: one for each port.
fn with_peer<'a>(
    direction: Direction,
    rule: &Value,
    pods: &[&'a Pod],
    peer: &Peer<'a>,
    state: &'a State,
) -> Vec<String> {
    // A named port is the receiver's.
    let receivers: Vec<&Pod> = match (direction, peer) {
        (Direction::Ingress, _) => pods.to_vec(),
        (Direction::Egress, Peer::Pods(peers)) => peers.clone(),
        (Direction::Egress, Peer::Anyone) => state.pods.values().collect(),
        // An address outside has no names.
        (Direction::Egress, Peer::Block(_)) => vec![],
    };
    let line = |(port, named): (String, Option<Vec<&Pod>>)| {
        let (own, peer) = match (direction, named) {
            (_, None) => (addresses(pods), peer.text(direction)),
            (Direction::Ingress, Some(pods)) => (addresses(&pods), peer.text(direction)),
            (Direction::Egress, Some(peers)) => (
                addresses(pods),
                format!("{} {}", direction.peer(), set(&addresses(&peers))),
            ),
        };
        let words = [format!("{} {}", direction.own(), set(&own)), peer, port];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join(" ")
    };
    ports(rule, &receivers).into_iter().map(line).collect()
}

fn addresses(pods: &[&Pod]) -> Addresses {
    pods.iter().map(|pod| pod.address).collect()
}

/// The pods that a peer of a rule means.
fn peers_of<'a>(policy: &Policy, peer: &Value, state: &'a State) -> Vec<&'a Pod> {
    let in_namespace = |namespace: &str| match peer.get("namespaceSelector") {
        None => namespace == policy.namespace,
        Some(selector) => state
            .namespaces
            .get(&format!("/{namespace}"))
            .is_some_and(|labels| matches(selector, labels)),
    };
    let of_pods = &peer["podSelector"];
    let pods = state.pods.values();
    pods.filter(|pod| in_namespace(&pod.namespace) && matches(of_pods, &pod.labels))
        .collect()
}

/// Who a rule speaks of.
enum Peer<'a> {
    Anyone,
    Block(&'a Value),
    Pods(Vec<&'a Pod>),
}

impl Peer<'_> {
    fn text(&self, direction: Direction) -> String {
        let address = direction.peer();
        match self {
            Self::Anyone => String::new(),
            Self::Pods(pods) => {
                format!("{address} {}", set(&addresses(pods)))
            }
            Self::Block(block) => {
                let cidr = block["cidr"].as_str().unwrap_or_default();
                if cidr.contains(':') {
                    // An IPv6 block means nobody here.
                    return format!("{address} 255.255.255.255");
                }
                let except: Vec<&str> = items(&block["except"]).filter_map(Value::as_str).collect();
                if except.is_empty() {
                    format!("{address} {cidr}")
                } else {
                    format!("{address} {cidr} {address} != {{ {} }}", except.join(", "))
                }
            }
        }
    }
}

/// The port matches of a rule, each with the receivers that it is for when it is a named port.
fn ports<'a>(rule: &Value, receivers: &[&'a Pod]) -> Vec<(String, Option<Vec<&'a Pod>>)> {
    if items(&rule["ports"]).next().is_none() {
        return vec![(String::new(), None)];
    }
    let mut found = vec![];
    for port in items(&rule["ports"]) {
        let kind = port["protocol"].as_str().unwrap_or("TCP");
        let protocol = kind.to_lowercase();
        match &port["port"] {
            Value::Null => found.push((format!("meta l4proto {protocol}"), None)),
            Value::String(name) => {
                let mut by_number: BTreeMap<u16, Vec<&Pod>> = BTreeMap::new();
                for pod in receivers {
                    let named = pod
                        .ports
                        .iter()
                        .filter(|(own, of, _)| own == name && of == kind);
                    for (.., number) in named {
                        by_number.entry(*number).or_default().push(pod);
                    }
                }
                let named = by_number.into_iter();
                found.extend(
                    named.map(|(number, pods)| (format!("{protocol} dport {number}"), Some(pods))),
                );
            }
            first => {
                let range = match port.get("endPort") {
                    Some(last) => format!("{first}-{last}"),
                    None => first.to_string(),
                };
                found.push((format!("{protocol} dport {range}"), None));
            }
        }
    }
    found
}

fn set(addresses: &Addresses) -> String {
    let words: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    format!("{{ {} }}", words.join(", "))
}

#[cfg(test)]
mod tests;
