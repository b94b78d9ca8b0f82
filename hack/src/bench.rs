//! `cargo xtask bench`: builds the programs as images hold them, and lets a load program measure.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::{binaries, images, paths, run};

/// Load programs of the crate `e2e` that measure the running super cluster, by the first argument.
const OF_THE_CLUSTER: [&str; 2] = ["proxy", "noise"];
/// The first argument that asks for the shared DNS server, which is measured in a process of its own.
const DNS: &str = "dns";

/// Runs a load program with these arguments: the one that the first names, else `bench`, which measures the syncer.
pub(crate) fn measure(arguments: &[OsString]) -> Result<()> {
    let Some((first, rest)) = arguments.split_first() else {
        return measure_syncer(arguments);
    };
    if let Some(program) = OF_THE_CLUSTER.into_iter().find(|name| first == *name) {
        return measure_cluster(program, rest);
    }
    if first == DNS {
        return measure_dns(rest);
    }
    measure_syncer(arguments)
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

fn measure_cluster(program: &str, arguments: &[OsString]) -> Result<()> {
    let asks_for_help = arguments
        .iter()
        .any(|word| word == "--help" || word == "-h");
    if !paths::kubeconfig().exists() && !asks_for_help {
        bail!("no super cluster is up: `cargo xtask demo --keep` makes one with Sublet in it");
    }
    images::build_as_in_images(&["--package", "e2e", "--bin", program])?;
    let mut load = run::command(images::binary(program)?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_KUBECONFIG", paths::kubeconfig());
    run::visibly(&mut load)
}

fn measure_dns(arguments: &[OsString]) -> Result<()> {
    images::build_as_in_images(&["--package", "apiserver-proxy", "--example", DNS])?;
    let program = images::binary(&format!("examples/{DNS}"))?;
    run::visibly(run::command(program, arguments).current_dir(paths::repository()))
}
