//! The engine that makes the nodes obey NetworkPolicies.

use std::env;

use anyhow::{Context, Result, bail};

use super::layout::{Node, text};
use super::network;
use super::process::Program;
use crate::{policies, run};

/// The engine; one for all nodes.
pub(crate) fn engine(nodes: &[Node]) -> Result<Program> {
    let xtask = env::current_exe().context("this program has no file")?;
    let command = vec![
        text(xtask),
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

/// An error while a node has no rules yet.
pub(crate) fn require_rules(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let namespace = format!("--net={}", network::namespace_file(*node).display());
        let mut list = run::command("nsenter", [&namespace, "nft", "list", "tables"]);
        if !run::output(&mut list)?.contains(policies::TABLE) {
            bail!("{} enforces no NetworkPolicies", node.name());
        }
    }
    Ok(())
}
