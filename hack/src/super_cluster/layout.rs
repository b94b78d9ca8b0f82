//! The fixed facts of the super cluster: names, addresses, folders. Everything it puts on the machine
//! carries one of these names, which is what makes `super down` complete.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths;

/// Top cgroup of everything the super cluster runs, in every hierarchy.
pub(crate) const CGROUP: &str = "sublet-dev";
/// The host's end of the only cable between the machine and the super cluster.
pub(crate) const CABLE: &str = "sublet0";
/// The host's address on that cable; pods reach programs on the host by it.
pub(crate) const HOST_ADDRESS: &str = "10.210.0.254";
/// All node addresses and the host's.
pub(crate) const NODE_NETWORK: &str = "10.210.0.0/24";
/// All pod addresses of all nodes.
pub(crate) const POD_NETWORK: &str = "10.211.0.0/16";
/// The main Service range. Large, since tenants get slices of it.
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/12";
/// Address of the `kubernetes` Service.
pub(crate) const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// Address of the cluster's DNS.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// The port of the API server, on the first node's address.
pub(crate) const API_PORT: u16 = 6443;

/// One real node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// 1 for the node that also runs the control plane.
    pub(crate) number: u8,
}

impl Node {
    /// The first `count` nodes.
    pub(crate) fn first(count: u8) -> Vec<Self> {
        (1..=count).map(|number| Self { number }).collect()
    }

    /// The node's name in Kubernetes, and its host name.
    pub(crate) fn name(self) -> String {
        format!("node{}", self.number)
    }

    /// The network namespace that is the node's network.
    pub(crate) fn namespace(self) -> String {
        format!("sublet-{}", self.name())
    }

    /// The node's address.
    pub(crate) fn address(self) -> String {
        format!("10.210.0.{}", self.number)
    }

    /// The range of its pods: /22, room for the 250 pods a kubelet allows and for slow reuse.
    pub(crate) fn pod_range(self) -> String {
        format!("10.211.{}.0/22", (self.number - 1) * 4)
    }

    /// The node's folder.
    pub(crate) fn folder(self) -> PathBuf {
        paths::state().join(self.name())
    }

    /// The kubelet's cgroup root. Two kubelets under one root remove each other's pods.
    pub(crate) fn cgroup(self) -> String {
        format!("/{CGROUP}/{}", self.name())
    }

    /// The containerd socket, as seen from the host.
    pub(crate) fn socket(self) -> PathBuf {
        self.folder().join("run-containerd/containerd.sock")
    }
}

/// The first node's URL of the API server.
pub(crate) fn api_url() -> String {
    format!("https://{}:{API_PORT}", Node { number: 1 }.address())
}

/// Folders that a node has of its own in place of the host's: (folder in the node's folder, where it is
/// mounted). Kubernetes and containerd have these paths built in, so a node gets a mount namespace in
/// which they are its own; a containerd or kubelet of the machine keeps the real ones.
pub(crate) const NODE_MOUNTS: &[(&str, &str)] = &[
    ("containerd", "/var/lib/containerd"),
    ("run-containerd", "/run/containerd"),
    ("kubelet", "/var/lib/kubelet"),
    ("log-pods", "/var/log/pods"),
    ("log-containers", "/var/log/containers"),
    ("cni", "/var/lib/cni"),
    ("etc-cni", "/etc/cni/net.d"),
    ("run-netns", "/run/netns"),
];

/// Where the logs of the super cluster's own processes are.
pub(crate) fn logs() -> PathBuf {
    paths::state().join("logs")
}

/// The log of one process.
pub(crate) fn log(name: &str) -> PathBuf {
    logs().join(format!("{name}.log"))
}

/// Keys and certificates.
pub(crate) fn pki(file: &str) -> PathBuf {
    paths::state().join("pki").join(file)
}

/// Files that configure the processes.
pub(crate) fn config(file: &str) -> PathBuf {
    paths::state().join("config").join(file)
}

/// A path as a `String`, for arguments and JSON. All our own paths are plain ASCII.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_ranges_of_their_own() {
        let nodes = Node::first(2);
        assert_eq!(nodes[0].pod_range(), "10.211.0.0/22");
        assert_eq!(nodes[1].pod_range(), "10.211.4.0/22");
        assert_ne!(nodes[0].address(), nodes[1].address());
    }

    #[test]
    fn socket_path_fits_a_socket_address() {
        assert!(text(Node { number: 2 }.socket()).len() < 100);
    }
}
