//! Starts the cluster: as much as possible side by side, each wait bounded and honest about what it is for.

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::layout::{self, Node};
use super::process::{self, Identity, Program};
use super::{
    cgroups, client, control_plane, dns, health, machine, metrics_server, network, node, pki,
    policies, volumes,
};
use crate::images::{self, Bundle};
use crate::progress::Step;
use crate::{paths, run};

/// How long a cluster may take to become ready. On two idle cores it takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a cluster where there is none.
pub(crate) fn fresh(nodes: &[Node], bundle: &Bundle) -> Result<()> {
    images::prepare_disk(bundle)?;
    let step = Step::start("starting the super cluster");
    for folder in [layout::logs(), process::pid_folder(), paths::handout()] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    step.note("network, keys and cgroups");
    cgroups::make(nodes)?;
    machine::make_mount_points()?;
    network::make(nodes)?;
    pki::make(nodes)?;
    control_plane::write_config()?;
    let mut homes = Vec::new();
    for node in nodes {
        node::write_config(*node)?;
        homes.push((*node, machine::start(*node)?));
    }
    let first = homes.first().context("a cluster needs a node")?.1;
    step.note("control plane and container runtimes");
    for program in control_plane::storage_and_api(first)? {
        program.start()?;
    }
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = homes
            .iter()
            .map(|(node, home)| scope.spawn(|| start_node(*node, *home, bundle)))
            .collect();
        let control_plane = finish_control_plane(nodes, first);
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow!("starting a node panicked")))?;
        }
        control_plane
    })?;
    step.note("nodes and DNS");
    wait_until_ready(nodes)?;
    step.done(&format!("{} nodes, DNS", nodes.len()));
    Ok(())
}

/// Starts again what has ended in a running cluster. Returns its names.
pub(crate) fn repair(nodes: &[Node]) -> Result<Vec<String>> {
    let mut restarted = Vec::new();
    let home =
        |node: Node| machine::running(node).with_context(|| format!("{} is gone", node.name()));
    let first = home(*nodes.first().context("a cluster needs a node")?)?;
    for program in control_plane::storage_and_api(first)? {
        start_unless_running(program, &mut restarted)?;
    }
    wait_for_api()?;
    for program in control_plane::controllers(first)? {
        start_unless_running(program, &mut restarted)?;
    }
    start_unless_running(volumes::provisioner(first)?, &mut restarted)?;
    start_unless_running(policies::engine(nodes)?, &mut restarted)?;
    start_unless_running(metrics_server::program(first)?, &mut restarted)?;
    for each in nodes {
        let home = home(*each)?;
        let containerd = node::containerd(*each, home)?.name;
        if process::running(&containerd).is_none() {
            start_containerd(*each, home)?;
            restarted.push(containerd);
        }
        for program in [node::proxy(*each, home)?, node::kubelet(*each, home)?] {
            start_unless_running(program, &mut restarted)?;
        }
    }
    dns::apply(&client()?)?;
    volumes::apply(&client()?)?;
    metrics_server::apply(&client()?)?;
    wait_until_ready(nodes)?;
    Ok(restarted)
}

fn start_unless_running(program: Program, restarted: &mut Vec<String>) -> Result<()> {
    if process::running(&program.name).is_none() {
        program.start()?;
        restarted.push(program.name);
    }
    Ok(())
}

fn finish_control_plane(nodes: &[Node], home: Identity) -> Result<()> {
    wait_for_api()?;
    policies::engine(nodes)?.start()?;
    for program in control_plane::controllers(home)? {
        program.start()?;
    }
    volumes::provisioner(home)?.start()?;
    volumes::apply(&client()?)?;
    dns::apply(&client()?)?;
    // After DNS, whose pod is waited for.
    metrics_server::apply(&client()?)?;
    metrics_server::program(home)?.start().map(drop)
}

fn start_node(node: Node, home: Identity, bundle: &Bundle) -> Result<()> {
    images::lay_out_disk(bundle, node)?;
    node::proxy(node, home)?.start()?;
    start_containerd(node, home)?;
    node::kubelet(node, home)?.start().map(drop)
}

/// Starts containerd and waits until it serves the kubelet, which ends if it comes too early. The socket
/// is there before that, so the log has to tell.
fn start_containerd(node: Node, home: Identity) -> Result<()> {
    let program = node::containerd(node, home)?;
    let log = layout::log(&program.name);
    let read = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let old = read().len();
    program.start()?;
    wait(
        &format!("{}'s containerd", node.name()),
        &[&program.name],
        || {
            let text = read();
            let new = text.get(old..).unwrap_or_default();
            if !new.contains("Start streaming server")
                || !new.contains("containerd successfully booted")
            {
                bail!("it has not started its container runtime interface");
            }
            UnixStream::connect(node.socket())
                .map(drop)
                .context("its socket takes no connection")
        },
    )
}

fn wait_for_api() -> Result<()> {
    let api = client()?;
    wait("the API server", &["kube-apiserver", "etcd"], || {
        api.get("/readyz").map(drop)
    })
}

fn wait_until_ready(nodes: &[Node]) -> Result<()> {
    let api = client()?;
    let mut logs = vec![
        "kube-controller-manager".to_owned(),
        "kube-scheduler".to_owned(),
    ];
    logs.extend(nodes.iter().map(|node| format!("{}-kubelet", node.name())));
    let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
    wait("nodes to be Ready", &logs, || {
        health::require_nodes(&api, nodes)
    })?;
    wait(
        "NetworkPolicies to be obeyed",
        &["network-policies"],
        || policies::require_rules(nodes),
    )?;
    wait("CoreDNS to be Ready", &logs, || dns::require_ready(&api))
}

/// Tries until it works. When the time is over or a process has ended, the error says what was missing and
/// shows the end of the logs.
pub(super) fn wait(what: &str, processes: &[&str], attempt: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        let ended: Vec<&str> = processes
            .iter()
            .copied()
            .filter(|name| process::recorded(name).is_some_and(|identity| !identity.is_alive()))
            .collect();
        if !ended.is_empty() {
            bail!(
                "waiting for {what}, but {} ended:\n{}",
                ended.join(", "),
                logs(&ended)
            );
        }
        if Instant::now() > deadline {
            bail!(
                "waited {} s for {what}: {error:#}\n{}",
                PATIENCE.as_secs(),
                logs(processes)
            );
        }
        sleep(Duration::from_millis(100));
    }
}

fn logs(processes: &[&str]) -> String {
    let tails = processes.iter().map(|name| {
        let path = layout::log(name);
        let text = fs::read(&path).unwrap_or_default();
        format!(
            "--- {}\n{}",
            path.display(),
            run::tail(&String::from_utf8_lossy(&text), 12)
        )
    });
    tails.collect::<Vec<_>>().join("\n")
}
