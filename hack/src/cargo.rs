//! Cargo, as this repository is built with it.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{paths, run};

/// Cargo with these arguments, in the repository.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = run::command(program("CARGO", "cargo"), args);
    command.current_dir(paths::repository());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let about = run::output(&mut command(&[
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value = serde_json::from_str(&about)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo names no target folder")?;
    Ok(PathBuf::from(folder))
}

/// The target that this machine compiles for by default.
pub(crate) fn host_target() -> Result<String> {
    let about = run::output(&mut run::command(program("RUSTC", "rustc"), ["-vV"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc doesn't name its host")?.to_owned())
}

/// Builds the `sublet` command line and gives its path.
pub(crate) fn build_cli() -> Result<PathBuf> {
    run::output(&mut command(&["build", "--locked", "--package", "cli"]))?;
    Ok(target_folder()?.join("debug/sublet"))
}

/// Builds the syncer, for tests that run it outside of any cluster, and gives its path.
pub(crate) fn build_syncer() -> Result<PathBuf> {
    run::output(&mut command(&["build", "--locked", "--package", "syncer"]))?;
    Ok(target_folder()?.join("debug/sublet-syncer"))
}

fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}
