//! The engine that makes the nodes obey NetworkPolicies.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::layout::{Node, text};
use super::network;
use super::process::Program;
use crate::{paths, policies, run};

/// The engine; one for all nodes.
pub(crate) fn engine(nodes: &[Node]) -> Result<Program> {
    let command = vec![
        text(own_copy()?),
        "super".to_owned(),
        "enforce".to_owned(),
        format!("--nodes={}", nodes.len()),
    ];
    Ok(Program {
        name: "network-policies".to_owned(),
        command,
        home: None,
    })
}

/// This program, where no later build replaces or removes it.
fn own_copy() -> Result<PathBuf> {
    let copy = paths::state().join("xtask");
    let draft = paths::state().join(".xtask");
    fs::copy("/proc/self/exe", &draft)
        .and_then(|_| fs::rename(&draft, &copy))
        .with_context(|| format!("cannot copy this program to {}", copy.display()))?;
    Ok(copy)
}

/// An error while a node has no rules yet.
pub(crate) fn require_rules(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let mut list = network::in_namespace(*node, &["nft", "list", "tables"]);
        if !run::output(&mut list)?.contains(policies::TABLE) {
            bail!("{} enforces no NetworkPolicies", node.name());
        }
    }
    Ok(())
}
