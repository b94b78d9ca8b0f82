//! The network of the super cluster: one network namespace per node, one cable to the host.
//!
//! ```text
//! host            node1 (also the control plane)                node2
//! sublet0 ──────── up0 ┐                                   ┌─── eth0 10.210.0.2
//! 10.210.0.254         ├ nodes0 (bridge) 10.210.0.1 ── n2 ─┘
//!                      pods0 (bridge, made by CNI)              pods0
//! ```
//!
//! Everything that Kubernetes does to a network (bridges, iptables, routes, sysctls) happens inside the
//! namespaces and ends with them. The host gets one veth and two routes on it, so that programs on the
//! host reach nodes, pods and Services, and nothing else: no forwarding, no iptables rule, no way out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::stat;

use super::layout::{CABLE, HOST_ADDRESS, NODE_NETWORK, Node, POD_NETWORK, SERVICE_NETWORK};
use crate::run;

/// Makes namespaces, cables and routes.
pub(crate) fn make(nodes: &[Node]) -> Result<()> {
    refuse_overlap()?;
    // Without it the kernel doesn't show bridged packets to iptables, and Services fail within a node.
    if !Path::new("/proc/sys/net/bridge").exists() {
        let _ = run::output(&mut run::command("modprobe", ["br_netfilter"]));
    }
    for node in nodes {
        ip(&["netns", "add", &node.namespace()])?;
        inside(*node, &["link", "set", "lo", "up"])?;
    }
    let Some((first, others)) = nodes.split_first() else {
        return Ok(());
    };
    make_first(*first)?;
    for node in others {
        make_other(*first, *node)?;
    }
    for node in nodes {
        set_kernel_options(*node)?;
    }
    for range in [POD_NETWORK, SERVICE_NETWORK] {
        if ip(&["route", "add", range, "via", &first.address(), "dev", CABLE]).is_err() {
            tell!(
                "     the host has a route for {range} already; it won't reach the super cluster's"
            );
        }
    }
    Ok(())
}

fn make_first(first: Node) -> Result<()> {
    let namespace = first.namespace();
    ip(&[
        "link", "add", CABLE, "type", "veth", "peer", "name", "up0", "netns", &namespace,
    ])?;
    ip(&[
        "address",
        "add",
        &format!("{HOST_ADDRESS}/24"),
        "dev",
        CABLE,
    ])?;
    ip(&["link", "set", CABLE, "up"])?;
    inside(first, &["link", "add", "nodes0", "type", "bridge"])?;
    inside(
        first,
        &[
            "address",
            "add",
            &format!("{}/24", first.address()),
            "dev",
            "nodes0",
        ],
    )?;
    inside(first, &["link", "set", "nodes0", "up"])?;
    inside(first, &["link", "set", "up0", "master", "nodes0", "up"])?;
    // Programs on the node send to a Service address before kube-proxy's rule sends it elsewhere, so there
    // must be a route for it.
    inside(first, &["route", "add", SERVICE_NETWORK, "dev", "nodes0"])
}

fn make_other(first: Node, node: Node) -> Result<()> {
    let port = format!("n{}", node.number);
    let namespace = node.namespace();
    inside(
        first,
        &[
            "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ],
    )?;
    inside(first, &["link", "set", &port, "master", "nodes0", "up"])?;
    // What this node sends to a node port of the first one may lead to a pod of its own.
    let hairpin = ["type", "bridge_slave", "hairpin", "on"];
    inside(first, &[&["link", "set", &port], &hairpin[..]].concat())?;
    inside(
        node,
        &[
            "address",
            "add",
            &format!("{}/24", node.address()),
            "dev",
            "eth0",
        ],
    )?;
    inside(node, &["link", "set", "eth0", "up"])?;
    inside(node, &["route", "add", SERVICE_NETWORK, "dev", "eth0"])?;
    inside(
        first,
        &["route", "add", &node.pod_range(), "via", &node.address()],
    )?;
    inside(
        node,
        &["route", "add", POD_NETWORK, "via", &first.address()],
    )
}

fn set_kernel_options(node: Node) -> Result<()> {
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
                  for f in iptables ip6tables; do \
                  echo 1 > /proc/sys/net/bridge/bridge-nf-call-$f || true; done 2>/dev/null";
    run::output(&mut in_namespace(node, &["sh", "-c", script])).map(drop)
}

/// Removes what [`make`] made. The cables and routes go with the namespaces.
pub(crate) fn remove() -> Result<()> {
    for namespace in namespaces() {
        ip(&["netns", "delete", &namespace])?;
    }
    if has_cable() {
        ip(&["link", "delete", CABLE])?;
    }
    Ok(())
}

/// The names of our network namespaces that exist.
pub(crate) fn namespaces() -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("sublet-node"))
        .collect()
}

/// The inode numbers of our network namespaces, by which a process in one is known.
pub(crate) fn namespace_inodes() -> Vec<u64> {
    let files = namespaces()
        .into_iter()
        .map(|name| Path::new("/run/netns").join(name));
    files
        .filter_map(|file| stat(file).ok())
        .map(|about| about.st_ino)
        .collect()
}

/// True while the host's end of the cable exists.
pub(crate) fn has_cable() -> bool {
    Path::new("/sys/class/net").join(CABLE).exists()
}

/// The file that stands for the node's network namespace.
pub(crate) fn namespace_file(node: Node) -> PathBuf {
    Path::new("/run/netns").join(node.namespace())
}

/// A command in the node's network namespace.
pub(crate) fn in_namespace(node: Node, words: &[&str]) -> Command {
    let namespace = format!("--net={}", namespace_file(node).display());
    run::command("nsenter", [&[&*namespace], words].concat())
}

fn refuse_overlap() -> Result<()> {
    let routes = ip_output(&["-4", "route", "show", "table", "all"])?;
    for range in [NODE_NETWORK, POD_NETWORK] {
        if let Some(route) = overlapping(&routes, range) {
            bail!(
                "this machine has a route `{route}` in the super cluster's range {range}: remove it first"
            );
        }
    }
    Ok(())
}

/// The first route whose destination and `range` share an address.
fn overlapping<'a>(routes: &'a str, range: &str) -> Option<&'a str> {
    let wanted = parse_range(range)?;
    routes.lines().map(str::trim).find(|line| {
        let words = line
            .split(' ')
            .find(|word| word.contains('.') && !word.contains(' '));
        words
            .and_then(parse_range)
            .is_some_and(|(address, length)| {
                let shorter = length.min(wanted.1);
                length > 0 && prefix(address, shorter) == prefix(wanted.0, shorter)
            })
    })
}

fn parse_range(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    Some((address.into(), length.parse().ok()?))
}

fn prefix(address: u32, length: u32) -> u32 {
    address.checked_shr(32 - length).unwrap_or(0)
}

fn ip(args: &[&str]) -> Result<()> {
    ip_output(args).map(drop)
}

fn ip_output(args: &[&str]) -> Result<String> {
    run::output(&mut run::command("ip", args)).context("cannot set up the network")
}

fn inside(node: Node, args: &[&str]) -> Result<()> {
    let namespace = node.namespace();
    ip(&[&["-n", namespace.as_str()], args].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_found_both_ways() {
        let routes = "default via 192.0.2.1 dev eth0\n10.0.0.0/8 dev vpn0\n192.0.2.0/24 dev eth0\n";
        assert_eq!(
            overlapping(routes, "10.211.0.0/16"),
            Some("10.0.0.0/8 dev vpn0")
        );
        let routes = "10.211.4.0/24 dev x\n";
        assert_eq!(
            overlapping(routes, "10.211.0.0/16"),
            Some("10.211.4.0/24 dev x")
        );
        assert_eq!(
            overlapping(
                "default via 192.0.2.1\n10.212.0.0/16 dev x",
                "10.211.0.0/16"
            ),
            None
        );
        assert_eq!(
            overlapping("local 10.210.0.9 dev x", "10.210.0.0/24"),
            Some("local 10.210.0.9 dev x")
        );
    }
}
