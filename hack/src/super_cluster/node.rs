//! What runs on a node: containerd, kubelet, kube-proxy, and the files they read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::json;

use super::layout::{DNS_SERVICE, Node, config, pki, text};
use super::process::{Identity, Program};
use crate::{binaries, images, run};

/// Capability that lets a process lower an OOM score; without it runc fails on every container.
const CAP_SYS_RESOURCE: u32 = 24;

/// The bridge that a node's pods are on.
const POD_BRIDGE: &str = "pods0";

/// The second handler of the nodes' containerds. What it runs finds the handler's name in its environment as
/// `SUBLET_HANDLER`, so that a test can tell from inside which handler ran it.
const MARKING_HANDLER: &str = "marked";

/// runc under another name, which first writes the handler's name into the container's environment. containerd hands over
/// the container as a folder, whose config.json is one line.
const MARKING_RUNTIME: &str = r#"#!/bin/sh
previous=
for word in "$@"; do
    if [ "$previous" = --bundle ] && [ -f "$word/config.json" ]; then
        sed -i 's/"env":\[/"env":["SUBLET_HANDLER=marked",/' "$word/config.json"
    fi
    previous=$word
done
exec runc "$@"
"#;

/// Writes what the node's programs read.
pub(crate) fn write_config(node: Node) -> Result<()> {
    fs::create_dir_all(config(""))?;
    let runtime = config("runc-marked");
    fs::write(&runtime, MARKING_RUNTIME)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
    let containerd = containerd_config(lacks_capability(CAP_SYS_RESOURCE), &text(&runtime));
    fs::write(
        config(&format!("{}-containerd.toml", node.name())),
        containerd,
    )?;
    let cni = node.folder().join("etc-cni");
    fs::create_dir_all(&cni)?;
    fs::write(cni.join("10-sublet.conflist"), cni_config(node).to_string())?;
    fs::write(
        config(&format!("{}-kubelet.json", node.name())),
        kubelet_config(node).to_string(),
    )?;
    // Pods that take the node's DNS get the cluster's: there is nothing outside to ask.
    fs::write(config("resolv.conf"), format!("nameserver {DNS_SERVICE}\n"))?;
    Ok(())
}

/// The containerd of the node. Its socket is there a moment after the start.
pub(crate) fn containerd(node: Node, home: Identity) -> Result<Program> {
    let containerd = run::find("containerd").context("containerd is not installed")?;
    let file = config(&format!("{}-containerd.toml", node.name()));
    let command = vec![text(containerd), "--config".to_owned(), text(file)];
    Ok(Program {
        name: format!("{}-containerd", node.name()),
        command,
        home: Some(home),
    })
}

/// The kubelet of the node.
pub(crate) fn kubelet(node: Node, home: Identity) -> Result<Program> {
    let command = vec![
        text(binaries::path("kubelet")?),
        format!(
            "--config={}",
            text(config(&format!("{}-kubelet.json", node.name())))
        ),
        format!(
            "--kubeconfig={}",
            text(pki(&format!("{}.kubeconfig", node.name())))
        ),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
        "--cert-dir=/var/lib/kubelet/pki".to_owned(),
    ];
    Ok(Program {
        name: format!("{}-kubelet", node.name()),
        command,
        home: Some(home),
    })
}

/// The kube-proxy of the node.
pub(crate) fn proxy(node: Node, home: Identity) -> Result<Program> {
    let command = vec![
        text(binaries::path("kube-proxy")?),
        format!("--kubeconfig={}", text(pki("kube-proxy.kubeconfig"))),
        format!("--hostname-override={}", node.name()),
        // What comes from the other node's pods isn't local, or else its answer would find a shorter way back.
        "--detect-local-mode=BridgeInterface".to_owned(),
        format!("--pod-bridge-interface={POD_BRIDGE}"),
        "--proxy-mode=iptables".to_owned(),
        // Leaves the machine's connection-tracking limits as they are.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0s".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
    ];
    Ok(Program {
        name: format!("{}-kube-proxy", node.name()),
        command,
        home: Some(home),
    })
}

fn containerd_config(restrict_oom: bool, marking_runtime: &str) -> String {
    format!(
        r#"version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict_oom}

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{MARKING_HANDLER}]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{MARKING_HANDLER}.options]
  BinaryName = "{marking_runtime}"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
"#,
        pause = images::PAUSE,
    )
}

fn cni_config(node: Node) -> serde_json::Value {
    json!({"cniVersion": "0.4.0", "name": "sublet", "plugins": [
        {"type": "bridge", "bridge": POD_BRIDGE, "isGateway": true, "isDefaultGateway": true,
         "hairpinMode": true, "ipMasq": false,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pod_range()}]]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]})
}

fn kubelet_config(node: Node) -> serde_json::Value {
    let serving = format!("{}-kubelet", node.name());
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup(),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": text(pki("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": text(pki(&format!("{serving}.crt"))),
        "tlsPrivateKeyFile": text(pki(&format!("{serving}.key"))),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": text(config("resolv.conf")),
        "maxPods": 250,
        // Logs of 100 MB are measured, and a longer one is read from its last file only.
        "containerLogMaxSize": "256Mi",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%",
            "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": false,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "nodeStatusUpdateFrequency": "10s",
        "rotateCertificates": false,
        "serverTLSBootstrap": false,
    })
}

fn lacks_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_capabilities(&status).is_some_and(|mask| mask & (1 << number) == 0)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        let mask = effective_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n").unwrap();
        assert_eq!(mask & (1 << CAP_SYS_RESOURCE), 0);
        assert_eq!(effective_capabilities("nothing"), None);
    }

    #[test]
    fn containerd_has_a_second_handler() {
        let config = containerd_config(false, "/x/runc-marked");
        assert!(
            config
                .contains("containerd.runtimes.marked.options]\n  BinaryName = \"/x/runc-marked\"")
        );
        // The runtime itself names the handler, too.
        assert!(MARKING_RUNTIME.contains(&format!("SUBLET_HANDLER={MARKING_HANDLER}\"")));
    }

    #[test]
    fn kubelets_share_no_cgroup_root() {
        let roots = Node::first(2)
            .into_iter()
            .map(|node| kubelet_config(node)["cgroupRoot"].clone());
        let roots: Vec<_> = roots.collect();
        assert_ne!(roots[0], roots[1]);
    }
}
