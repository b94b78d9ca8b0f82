//! `cargo xtask bench`: builds the programs as a release holds them, and lets a load program measure.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::{binaries, cargo, images, paths, run};

/// The first argument that asks for the running super cluster's proxy rather than for a syncer.
const PROXY: &str = "proxy";

/// The first argument that asks for all that a release is measured by.
const ALL: &str = "all";

/// The first argument that asks for the chart of what was kept, and for nothing to be measured.
const CHART: &str = "chart";

/// Runs a load program of the crate `e2e` with these arguments: `proxy` when they begin with that, else `bench`.
pub(crate) fn measure(arguments: &[OsString]) -> Result<()> {
    match arguments.split_first() {
        Some((first, rest)) if first == PROXY => measure_proxy(rest),
        Some((first, _)) if first == CHART => draw(),
        Some((first, rest)) if first == ALL => {
            let all = [OsString::from("--all")]
                .into_iter()
                .chain(rest.iter().cloned());
            measure_syncer(&all.collect::<Vec<_>>())
        }
        _ => measure_syncer(arguments),
    }
}

/// Draws chart and table in docs/bench anew. No speed is asked for, so whatever build there is does it.
fn draw() -> Result<()> {
    cargo::build_all()?;
    let program = cargo::target_folder()?.join("debug/bench");
    let mut load = run::command(program, ["--redraw"]);
    run::visibly(load.current_dir(paths::repository()))
}

fn measure_syncer(arguments: &[OsString]) -> Result<()> {
    binaries::hand_out(&["kube-apiserver", "kube-controller-manager", "etcd"])?;
    images::build_as_in_images(&["--package", "e2e", "--bin", "bench"])?;
    let mut load = run::command(images::binary("bench")?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_PARTS", paths::handout().join("bin"));
    // Another syncer, or another build of it, may be named by the caller.
    if std::env::var_os("SUBLET_SYNCER").is_none() {
        load.env("SUBLET_SYNCER", images::binary("sublet-syncer")?);
    }
    run::visibly(&mut load)
}

fn measure_proxy(arguments: &[OsString]) -> Result<()> {
    let asks_for_help = arguments
        .iter()
        .any(|word| word == "--help" || word == "-h");
    let is_local = arguments.iter().any(|word| word == "--local");
    if !paths::kubeconfig().exists() && !asks_for_help && !is_local {
        bail!(
            "no super cluster is up: `cargo xtask demo --keep` makes one with Sublet in it; `door --local` needs none"
        );
    }
    images::build_as_in_images(&["--package", "e2e", "--bin", PROXY])?;
    let mut load = run::command(images::binary(PROXY)?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_KUBECONFIG", paths::kubeconfig());
    // Another build of it may be named by the caller.
    if std::env::var_os("SUBLET_PROXY").is_none() {
        load.env("SUBLET_PROXY", images::binary("sublet-apiserver-proxy")?);
    }
    run::visibly(&mut load)
}
