//! Cargo, as this repository is built with it.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

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

/// Set once everything has been built by this process.
static ALL: OnceLock<()> = OnceLock::new();

/// Builds all programs and tests at once. Dependencies are compiled for the features that the selected packages ask
/// for together, so each other selection would compile many of them again.
pub(crate) fn build_all() -> Result<()> {
    let arguments = ["build", "--locked", "--workspace", "--bins", "--tests"];
    run::visibly(&mut command(&arguments))?;
    ALL.get_or_init(|| ());
    Ok(())
}

/// The path of a program that [`build_all`] has built.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    Ok(target_folder()?.join("debug").join(name))
}

/// Builds the `sublet` command line and gives its path.
pub(crate) fn build_cli() -> Result<PathBuf> {
    if ALL.get().is_none() {
        run::output(&mut command(&["build", "--locked", "--package", "cli"]))?;
    }
    Ok(target_folder()?.join("debug/sublet"))
}

/// Builds the syncer without layer A, for the test that the other layers hold alone, and gives its path. It has a target
/// folder of its own, so that nothing else is ever taken for it.
pub(crate) fn build_unguarded_syncer() -> Result<PathBuf> {
    let folder = target_folder()?.join("without-layer-a");
    let mut build = command(&[
        "build",
        "--locked",
        "--package",
        "syncer",
        "--features",
        "without-layer-a",
        "--target-dir",
    ]);
    run::output(build.arg(&folder))?;
    Ok(folder.join("debug/sublet-syncer"))
}

fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}
