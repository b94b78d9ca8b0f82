//! `cargo xtask bench`: builds the programs as a release holds them, and lets a load program measure.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{
    binaries, cargo,
    images::{self, Profile},
    paths, run,
};

/// What these programs say with `--help`, so that nobody waits for a build to read it. A test of each holds it to its file.
const HELP: [(&str, &str); 5] = [
    ("bench", include_str!("bench/bench.txt")),
    ("proxy", include_str!("bench/proxy.txt")),
    ("noise", include_str!("bench/noise.txt")),
    ("control-plane", include_str!("bench/control-plane.txt")),
    (DNS, include_str!("bench/dns.txt")),
];

/// Load programs of the crate `e2e` that measure the running super cluster, by the first argument.
const OF_THE_CLUSTER: [&str; 3] = ["proxy", "noise", "control-plane"];
/// The first argument that asks for the shared DNS server, which is measured in a process of its own.
const DNS: &str = "dns";

/// The first argument that asks for all that a release is measured by.
const ALL: &str = "all";

/// The first argument that asks for the chart of what was kept, and for nothing to be measured.
const CHART: &str = "chart";

/// Runs a load program with these arguments: the one that the first names, else `bench`, which measures the syncer.
pub(crate) fn measure(arguments: &[OsString]) -> Result<()> {
    if let Some(help) = help(arguments) {
        say!("{}", help.trim_end());
        return Ok(());
    }
    let Some((first, rest)) = arguments.split_first() else {
        return measure_syncer(arguments);
    };
    if let Some(program) = OF_THE_CLUSTER.into_iter().find(|name| first == *name) {
        return measure_cluster(program, rest);
    }
    if first == CHART {
        return draw();
    }
    if first == ALL {
        let flag = [OsString::from("--all")];
        let all: Vec<OsString> = flag.into_iter().chain(rest.iter().cloned()).collect();
        return measure_syncer(&all);
    }
    if first == DNS {
        return measure_dns(rest);
    }
    measure_syncer(arguments)
}

/// What is told instead of measuring, if that is asked for.
fn help(arguments: &[OsString]) -> Option<&'static str> {
    let asked = arguments
        .iter()
        .any(|word| word == "--help" || word == "-h");
    help_of(arguments.first().filter(|_| asked)?.to_str()?)
}

/// The help of the program that the first argument names.
pub(crate) fn help_of(first: &str) -> Option<&'static str> {
    let named = HELP.iter().find(|(name, _)| first == *name);
    Some(named.unwrap_or(&HELP[0]).1)
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
    let mut load = run::command(load_program("bench")?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_PARTS", paths::handout().join("bin"));
    // Another syncer, or another build of it, may be named by the caller.
    if std::env::var_os("SUBLET_SYNCER").is_none() {
        load.env("SUBLET_SYNCER", published("syncer", "sublet-syncer")?);
    }
    run::visibly(&mut load)
}

fn measure_cluster(program: &str, arguments: &[OsString]) -> Result<()> {
    let is_local = arguments.iter().any(|word| word == "--local");
    if !paths::kubeconfig().exists() && !is_local {
        bail!(
            "no super cluster is up: `cargo xtask demo --keep` makes one with Sublet in it; `door --local` needs none"
        );
    }
    let mut load = run::command(load_program(program)?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_KUBECONFIG", paths::kubeconfig());
    // Another build of it may be named by the caller.
    if is_local && std::env::var_os("SUBLET_PROXY").is_none() {
        let proxy = published("apiserver-proxy", "sublet-apiserver-proxy")?;
        load.env("SUBLET_PROXY", proxy);
    }
    run::visibly(&mut load)
}

fn measure_dns(arguments: &[OsString]) -> Result<()> {
    // Server and clients, with the server as it is published.
    let server = images::build_program(
        Profile::Dist,
        &["--package", "apiserver-proxy", "--example", DNS],
        &format!("examples/{DNS}"),
    )?;
    let mut load = run::command(load_program(DNS)?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_DNS_LOAD", server);
    run::visibly(&mut load)
}

fn load_program(name: &str) -> Result<PathBuf> {
    images::build_program(Profile::Release, &["--package", "e2e", "--bin", name], name)
}

/// A daemon as it is published, since that is what the figures are of.
fn published(package: &str, name: &str) -> Result<PathBuf> {
    images::build_program(Profile::Dist, &["--package", package], name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_told_without_a_build() {
        let told = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let help = help(&words)?;
            HELP.iter()
                .find(|(_, text)| *text == help)
                .map(|(name, _)| *name)
        };
        assert_eq!(told(&["--help"]), Some("bench"));
        assert_eq!(told(&["burst", "-h"]), Some("bench"));
        assert_eq!(told(&["all", "--help"]), Some("bench"));
        assert_eq!(told(&["proxy", "--help"]), Some("proxy"));
        assert_eq!(told(&["noise", "-h"]), Some("noise"));
        assert_eq!(told(&["control-plane", "-h"]), Some("control-plane"));
        assert_eq!(told(&["dns", "--help"]), Some("dns"));
        assert_eq!(told(&["dns", "--tenants", "5"]), None);
        assert_eq!(told(&["proxy", "door"]), None);
        assert_eq!(told(&[]), None);
    }
}
