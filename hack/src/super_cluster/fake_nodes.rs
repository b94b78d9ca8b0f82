//! Nodes that exist for the API only, played by KWOK, to see how things scale. Tainted, so that no real
//! pod lands on one by accident.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::health;
use super::layout::{Node, pki, text};
use super::process::{self, Program};
use super::{client, machine};
use crate::binaries;
use crate::kube_api::KubeApi;
use crate::progress::Step;

/// The key of the annotation and of the taint by which KWOK and people know a fake node.
const FAKE: &str = "kwok.x-k8s.io/node";

/// Makes sure that there are `count` fake nodes.
pub(crate) fn ensure(count: u32, first: Node) -> Result<()> {
    let program = program(first)?;
    let step = Step::start(format!("adding {count} fake nodes"));
    if process::running(&program.name).is_none() {
        program.start()?;
    }
    let api = client()?;
    for number in 1..=count {
        let name = format!("fake{number}");
        api.apply(&format!("/api/v1/nodes/{name}"), &node(&name))?;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while ready(&api)? < count as usize {
        if Instant::now() > deadline {
            bail!(
                "only {} of {count} fake nodes became Ready in a minute",
                ready(&api)?
            );
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    step.done("Ready");
    Ok(())
}

fn program(first: Node) -> Result<Program> {
    let home = machine::running(first).context("the first node is gone")?;
    let command = vec![
        text(binaries::path("kwok")?),
        format!("--kubeconfig={}", text(pki("admin.kubeconfig"))),
        format!("--manage-nodes-with-annotation-selector={FAKE}=fake"),
        "--node-lease-duration-seconds=200".to_owned(),
        "--cidr=10.209.0.0/16".to_owned(),
    ];
    Ok(Program {
        name: "kwok".to_owned(),
        command,
        home: Some(home),
    })
}

fn ready(api: &KubeApi) -> Result<usize> {
    let list = api.get("/api/v1/nodes?labelSelector=type%3Dkwok")?;
    Ok(health::items(&list)
        .filter(|node| health::is_ready(node))
        .count())
}

fn node(name: &str) -> serde_json::Value {
    let size = json!({"cpu": "32", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
            },
        },
        "spec": {"taints": [{"key": FAKE, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": size, "capacity": size},
    })
}
