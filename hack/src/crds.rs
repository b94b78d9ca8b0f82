//! `cargo xtask crds`: the resource definitions as the crate `api` describes them, and what the Helm chart has of the manifests.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

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

/// Files of the Helm chart, and what each is a copy of: a chart holds all that it needs, and its templates change what they read
/// there. So `sublet install` and Helm put in the same.
pub(crate) const COPIES: [(&str, &str); 7] = [
    ("manifests/chart/crds/crds.yaml", "manifests/crds.yaml"),
    (
        "manifests/chart/files/install.yaml",
        "manifests/install.yaml",
    ),
    ("manifests/chart/files/class.yaml", "manifests/class.yaml"),
    ("manifests/chart/files/alerts.yaml", "manifests/alerts.yaml"),
    (
        "manifests/chart/files/dashboard.json",
        "manifests/dashboard.json",
    ),
    (
        "manifests/chart/files/cluster-api-crds.yaml",
        "manifests/capi/crds.yaml",
    ),
    (
        "manifests/chart/files/cluster-api-rights.yaml",
        "manifests/capi/rights.yaml",
    ),
];

/// Writes the files.
pub(crate) fn write() -> Result<()> {
    build()?;
    for (file, example, which) in FILES {
        put(file, &generated(example, which)?)?;
    }
    for (file, of) in COPIES {
        put(file, &text(of)?)?;
    }
    Ok(())
}

/// Fails if a file is not what `write` would write.
pub(crate) fn check() -> Result<()> {
    build()?;
    for (file, example, which) in FILES {
        if text(file).unwrap_or_default() != generated(example, which)? {
            return Err(stale(file));
        }
    }
    for (file, of) in COPIES {
        if text(file).unwrap_or_default() != text(of)? {
            return Err(stale(file));
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

fn stale(file: &str) -> anyhow::Error {
    anyhow!("{file} is stale: run `cargo xtask crds` and commit it")
}

fn put(file: &str, text: &str) -> Result<()> {
    let place = place(file);
    fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
    say!("wrote {file}");
    Ok(())
}

fn text(file: &str) -> Result<String> {
    let place = place(file);
    fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))
}

fn generated(example: &str, which: &[&str]) -> Result<String> {
    let program = cargo::built("examples")?.join(example);
    run::output(&mut run::command(program, which))
}

fn place(file: &str) -> PathBuf {
    paths::repository().join(file)
}
