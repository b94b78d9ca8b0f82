//! Nodes that exist for the API only, played by KWOK, to see how things scale. Tainted, so that no real
//! pod lands on one by accident.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::health;
use super::layout::{Node, config, pki, text};
use super::process::{self, Program};
use super::{client, machine, start};
use crate::kube_api::KubeApi;
use crate::progress::Step;
use crate::{binaries, run};

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
    start::wait("fake nodes", &[&program.name], || {
        let ready = ready(&api)?;
        if ready < count as usize {
            bail!("only {ready} of {count} are Ready");
        }
        Ok(())
    })?;
    step.done("Ready");
    Ok(())
}

fn program(first: Node) -> Result<Program> {
    let home = machine::running(first).context("the first node is gone")?;
    let kwok = binaries::path("kwok")?;
    let stages = config("kwok-stages.yaml");
    fs::write(&stages, run::output(&mut run::command(&kwok, ["stages"]))?)?;
    let command = vec![
        text(kwok),
        format!("--config={}", text(stages)),
        format!("--kubeconfig={}", text(pki("admin.kubeconfig"))),
        format!("--manage-nodes-with-annotation-selector={FAKE}=fake"),
        "--v=WARN".to_owned(),
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
