//! The tenant that the suite runs in.
//!
//! Some specs wait for periodic work of a control plane. So a tenant that is made for the suite has a class of its own,
//! which differs from the default one by short intervals and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{binaries, cargo, paths, run};

/// The class that differs from the default one by short intervals.
const CLASS: &str = "conformance";

/// The tenant's kubeconfig; one that doesn't exist is made first.
pub(crate) fn kubeconfig(name: &str, folder: &Path) -> Result<PathBuf> {
    let list = run::output(sublet()?.args(["list", "-o", "name"]))?;
    if !list.lines().any(|line| line.ends_with(&format!("/{name}"))) {
        apply_class()?;
        run::visibly(sublet()?.args([
            "create",
            name,
            "--class",
            CLASS,
            "--ephemeral-etcd",
            "--wait",
        ]))?;
    }
    let place = folder.join("kubeconfig");
    run::output(
        sublet()?
            .args(["kubeconfig", name, "--force", "-o"])
            .arg(&place),
    )?;
    Ok(place)
}

/// Removes a tenant.
pub(crate) fn delete(name: &str) -> Result<()> {
    run::output(sublet()?.args(["delete", name, "--yes"])).map(drop)
}

fn apply_class() -> Result<()> {
    let text = run::output(kubectl()?.args(["get", "controlplaneclass", "default", "-o", "json"]))
        .context("the suite's class is made from the default one: `sublet install` first")?;
    let default: Value = serde_json::from_str(&text)?;
    let mut spec = default["spec"].clone();
    // One spec lists until what it began to list is compacted away, others until a quota is counted anew.
    spec["intervals"] = json!({"etcdCompaction": "30s", "resourceQuotaSync": "10s"});
    let class = json!({
        "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneClass",
        "metadata": {"name": CLASS}, "spec": spec,
    });
    let file = paths::handout().join("conformance-class.json");
    std::fs::write(&file, class.to_string()).context("cannot write the class")?;
    run::output(kubectl()?.args(["apply", "-f"]).arg(&file)).map(drop)
}

fn kubectl() -> Result<Command> {
    let mut command = run::command(binaries::path("kubectl")?, [] as [&str; 0]);
    command.env("KUBECONFIG", paths::kubeconfig());
    Ok(command)
}

fn sublet() -> Result<Command> {
    let mut command = run::command(cargo::build_cli()?, [] as [&str; 0]);
    command.env("KUBECONFIG", paths::kubeconfig());
    Ok(command)
}
