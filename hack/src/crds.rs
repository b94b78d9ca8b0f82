//! `cargo xtask crds`: the resource definitions as the crate `api` describes them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cargo, paths, run};

/// The files; the example of the crate `api` that prints each, and its argument.
const FILES: [(&str, &str, &[&str]); 4] = [
    ("manifests/crds.yaml", "crds", &[]),
    ("manifests/capi/crds.yaml", "crds", &["cluster-api"]),
    (
        "manifests/capi/control-plane-sublet/v0.1.0/control-plane-components.yaml",
        "clusterctl",
        &["control-plane-sublet"],
    ),
    (
        "manifests/capi/infrastructure-sublet/v0.1.0/infrastructure-components.yaml",
        "clusterctl",
        &["infrastructure-sublet"],
    ),
];

/// Writes the files.
pub(crate) fn write() -> Result<()> {
    build()?;
    for (file, example, which) in FILES {
        let place = place(file);
        fs::write(&place, generated(example, which)?)
            .with_context(|| format!("cannot write {}", place.display()))?;
        say!("wrote {file}");
    }
    Ok(())
}

/// Fails if a file is not what `write` would write.
pub(crate) fn check() -> Result<()> {
    build()?;
    for (file, example, which) in FILES {
        let there = fs::read_to_string(place(file)).unwrap_or_default();
        if there != generated(example, which)? {
            bail!("{file} is stale: run `cargo xtask crds` and commit it");
        }
    }
    Ok(())
}

/// As a part of the whole workspace: with the features of `api` alone, all that it depends on would be compiled once more.
fn build() -> Result<()> {
    let examples = ["--example", "crds", "--example", "clusterctl"];
    let arguments = [
        &["build", "--quiet", "--locked", "--workspace"],
        &examples[..],
    ]
    .concat();
    run::output(&mut cargo::command(&arguments)).map(drop)
}

fn generated(example: &str, which: &[&str]) -> Result<String> {
    let program = cargo::built("examples")?.join(example);
    run::output(&mut run::command(program, which))
}

fn place(file: &str) -> PathBuf {
    paths::repository().join(file)
}
