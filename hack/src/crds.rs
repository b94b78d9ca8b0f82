//! `cargo xtask crds`: the resource definitions as the crate `api` describes them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cargo, paths, run};

/// Writes `manifests/crds.yaml`.
pub(crate) fn write() -> Result<()> {
    let place = place();
    fs::write(&place, generated()?).with_context(|| format!("cannot write {}", place.display()))?;
    say!("wrote manifests/crds.yaml");
    Ok(())
}

/// Fails if the file is not what `write` would write.
pub(crate) fn check() -> Result<()> {
    let there = fs::read_to_string(place()).unwrap_or_default();
    if there != generated()? {
        bail!("manifests/crds.yaml is stale: run `cargo xtask crds` and commit it");
    }
    Ok(())
}

fn generated() -> Result<String> {
    run::output(&mut cargo::command(&[
        "run",
        "--quiet",
        "--package",
        "api",
        "--example",
        "crds",
    ]))
}

fn place() -> PathBuf {
    paths::repository().join("manifests/crds.yaml")
}
