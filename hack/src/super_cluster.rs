//! `cargo xtask super up|down|status`: the real Kubernetes cluster that everything is tried on.
//!
//! One per machine. Each node is a set of namespaces with its own containerd, kubelet and kube-proxy; the
//! control plane lives in the first node's. What it puts on the machine is listed in [`layout`], and
//! [`teardown`] removes it from what it finds, not from what it remembers.

pub(crate) mod layout;

mod cgroups;
mod control_plane;
mod dns;
mod fake_nodes;
mod health;
mod machine;
mod metrics_server;
pub(crate) mod network;
mod node;
mod pki;
mod policies;
pub(crate) mod process;
mod start;
mod teardown;
mod volumes;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::kube_api::KubeApi;
use crate::progress::{Step, seconds};
use crate::{binaries, cache, images, interrupt, needs, packages, paths};
use layout::Node;

/// Programs that are linked into `target/super/bin`.
const HANDED_OUT: &[&str] = &[
    "kubectl",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
];

/// What is written down about the cluster that was started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    nodes: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Starting,
    Running,
}

impl Record {
    fn path() -> PathBuf {
        paths::state().join("cluster.json")
    }

    fn read() -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path()).ok()?).ok()
    }

    fn write(self) -> Result<()> {
        fs::write(Self::path(), serde_json::to_vec(&self)?)
            .context("cannot write the cluster's record")
    }

    fn nodes(self) -> Vec<Node> {
        Node::first(self.nodes)
    }
}

/// Starts the cluster, repairs it, or says that it is up. `nodes` of None takes what runs, or two.
pub(crate) fn up(nodes: Option<u8>, fake_nodes: u32) -> Result<()> {
    let began = Instant::now();
    needs::root()?;
    packages::ensure_for_nodes()?;
    let _lock = cache::lock_machine("super")?;
    // What it starts outlives this process.
    interrupt::advise("`cargo xtask super down` removes what was started");
    let bundle = images::third_party()?;
    for program in [
        "etcd",
        "kube-apiserver",
        "kubectl",
        "provisioner",
        "metrics-server",
    ] {
        binaries::path(program)?;
    }

    match Record::read() {
        Some(record) if record.phase == Phase::Running && machines_run(record) => {
            if let Some(wanted) = nodes.filter(|wanted| *wanted != record.nodes) {
                bail!(
                    "the super cluster runs with {} nodes, not {wanted}: `cargo xtask super down` first",
                    record.nodes
                );
            }
            let restarted = start::repair(&record.nodes())?;
            if restarted.is_empty() {
                say!("the super cluster is already up and healthy");
            } else {
                say!("restarted what had ended: {}", restarted.join(", "));
            }
        }
        found => {
            if found.is_some() || !teardown::leftovers()?.is_empty() {
                let step = Step::start("removing what a broken super cluster left");
                teardown::remove_all()?;
                step.done("");
            }
            let count = nodes.unwrap_or(2);
            fs::create_dir_all(paths::state()).context("cannot make the state folder")?;
            let record = Record {
                nodes: count,
                phase: Phase::Starting,
            };
            record.write()?;
            start::fresh(&record.nodes(), &bundle).context(
                "the super cluster did not start; `cargo xtask super down` removes what did",
            )?;
            Record {
                phase: Phase::Running,
                ..record
            }
            .write()?;
        }
    }
    pki::hand_out_kubeconfig()?;
    binaries::hand_out(HANDED_OUT)?;
    let nodes = running_nodes();
    let mut bundles = vec![bundle];
    bundles.extend(images::own_as_built()?);
    let loaded = images::load(&bundles, &nodes)?;
    if !loaded.is_empty() {
        say!("loaded {}", loaded.join(", "));
    }
    if fake_nodes > 0 {
        fake_nodes::ensure(fake_nodes, nodes[0])?;
    }
    say!("super cluster ready in {}", seconds(began.elapsed()));
    say!("  export KUBECONFIG={}", paths::typed(&paths::kubeconfig()));
    say!(
        "  export PATH={}:$PATH",
        paths::typed(&paths::handout().join("bin"))
    );
    Ok(())
}

/// Removes the cluster and everything it put on the machine.
pub(crate) fn down() -> Result<()> {
    needs::root()?;
    let _lock = cache::lock_machine("super")?;
    let was_there = Record::read().is_some() || !teardown::leftovers()?.is_empty();
    if !was_there {
        say!("no super cluster is up");
        return Ok(());
    }
    let step = Step::start("stopping the super cluster");
    teardown::remove_all()?;
    step.done("nothing is left");
    Ok(())
}

/// Prints processes and nodes. True when all is well.
pub(crate) fn status() -> Result<bool> {
    let Some(record) = Record::read() else {
        let leftovers = teardown::leftovers()?;
        if leftovers.is_empty() {
            say!("no super cluster is up; `cargo xtask super up` starts one");
        } else {
            say!("a super cluster left things behind; `cargo xtask super down` removes them:");
            for leftover in leftovers {
                say!("  {leftover}");
            }
        }
        return Ok(false);
    };
    health::print(record)
}

/// Leftovers of a super cluster that should be gone.
pub(crate) fn leftovers() -> Result<Vec<String>> {
    teardown::leftovers()
}

/// The real nodes of the running cluster; none when it isn't up.
pub(crate) fn running_nodes() -> Vec<Node> {
    let record = Record::read().filter(|record| record.phase == Phase::Running);
    record
        .filter(|record| machines_run(*record))
        .map(Record::nodes)
        .unwrap_or_default()
}

/// A client for the running cluster.
fn client() -> Result<KubeApi> {
    KubeApi::from_kubeconfig(&layout::pki("admin.kubeconfig"))
}

fn machines_run(record: Record) -> bool {
    record
        .nodes()
        .into_iter()
        .all(|node| machine::running(node).is_some())
}
