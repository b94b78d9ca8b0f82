//! Where the super cluster and the built programs are; set by `cargo xtask test`.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// Kubeconfig of the super cluster's admin: `SUBLET_KUBECONFIG`, or the one that `cargo xtask super up` writes.
pub fn kubeconfig() -> anyhow::Result<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/super/kubeconfig");
    let path =
        PathBuf::from(std::env::var_os("SUBLET_KUBECONFIG").unwrap_or_else(|| default.into()));
    anyhow::ensure!(
        path.is_file(),
        "there is no kubeconfig of a super cluster at {}: run `cargo xtask test`, or `cargo xtask super up` first",
        path.display()
    );
    Ok(path)
}

/// The kubectl to test with: `KUBECTL`, or the one that `cargo xtask super up` puts into the target folder.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/super/bin/kubectl");
    found("KUBECTL", default, "cargo xtask super up")
}

/// The built `sublet`: `SUBLET_CLI`, or the one in this workspace's target folder.
pub fn sublet() -> anyhow::Result<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/sublet");
    found("SUBLET_CLI", default, "cargo build -p cli")
}

/// The built syncer: `SUBLET_SYNCER`, or the one in this workspace's target folder.
pub fn syncer() -> anyhow::Result<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/sublet-syncer");
    found("SUBLET_SYNCER", default, "cargo build -p syncer")
}

/// The syncer that was built without layer A: `SUBLET_UNGUARDED_SYNCER`, or the one in a target folder of its own.
pub fn unguarded_syncer() -> anyhow::Result<PathBuf> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/without-layer-a/debug/sublet-syncer"
    );
    let build =
        "cargo build -p syncer --features without-layer-a --target-dir target/without-layer-a";
    found("SUBLET_UNGUARDED_SYNCER", default, build)
}

/// The built manager: `SUBLET_MANAGER`, or the one in this workspace's target folder.
pub fn manager() -> anyhow::Result<PathBuf> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/debug/sublet-manager"
    );
    found("SUBLET_MANAGER", default, "cargo build -p manager")
}

/// The built proxy: `SUBLET_PROXY`, or the one in this workspace's target folder.
pub fn proxy() -> anyhow::Result<PathBuf> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/debug/sublet-apiserver-proxy"
    );
    found("SUBLET_PROXY", default, "cargo build -p apiserver-proxy")
}

/// A real program of Kubernetes or etcd, from the folder `SUBLET_PARTS` or the one that `cargo xtask super up` fills.
pub fn part(name: &str) -> anyhow::Result<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/super/bin");
    let folder = PathBuf::from(std::env::var_os("SUBLET_PARTS").unwrap_or_else(|| default.into()));
    let path = folder.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} isn't there: run `cargo xtask test`, or set SUBLET_PARTS to a folder with etcd, kube-apiserver and \
         kube-controller-manager",
        path.display()
    );
    Ok(path)
}

/// Where tests keep what they measured: `SUBLET_FIGURES`, or a file in the target folder.
pub fn figures() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/e2e/figures.jsonl");
    PathBuf::from(std::env::var_os("SUBLET_FIGURES").unwrap_or_else(|| default.into()))
}

/// The source of Cluster API, with its manifests, from the folder of [`part`].
pub fn cluster_api_source() -> anyhow::Result<PathBuf> {
    source("cluster-api-source")
}

/// The source of cert-manager, with its resource definitions, from the folder of [`part`].
pub fn cert_manager_source() -> anyhow::Result<PathBuf> {
    source("cert-manager-source")
}

/// The version of such a source: its folder is called `MODULE@VERSION`.
pub fn version(source: &Path) -> anyhow::Result<String> {
    let folder = std::fs::canonicalize(source)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let (_, version) = name.split_once('@').context("the source has a version")?;
    Ok(version.to_owned())
}

fn source(name: &str) -> anyhow::Result<PathBuf> {
    let link = part("kubectl")?.with_file_name(name);
    anyhow::ensure!(
        link.is_dir(),
        "{} isn't there: run `cargo xtask test --all`",
        link.display()
    );
    Ok(link)
}

fn found(variable: &str, default: &str, otherwise: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| default.into()));
    anyhow::ensure!(
        path.is_file(),
        "there is no program at {}: run `cargo xtask test`, or `{otherwise}` first",
        path.display()
    );
    Ok(path)
}
