//! `cargo xtask`: the one way in which people and CI build, start and test this repository.
//!
//! It drives processes: Go builds, containerd, kubelets, kubectl, cargo. It has no Kubernetes client and
//! no async runtime, so that it is there within a minute on a fresh machine.

// These end the process when nobody reads on.
#![warn(clippy::print_stdout, clippy::print_stderr)]

/// `println!` that doesn't end the process when nobody reads on, as in `… | head`.
macro_rules! say {
    ($($text:tt)*) => { $crate::progress::say(format_args!($($text)*)) };
}

/// The same for `eprintln!`, as in `… 2>&1 | head`.
macro_rules! tell {
    ($($text:tt)*) => { $crate::progress::tell(format_args!($($text)*)) };
}

#[cfg(test)]
mod admission;
mod bench;
mod binaries;
mod cache;
mod cargo;
#[cfg(test)]
mod chart;
#[cfg(test)]
mod clusterctl;
mod conformance;
mod crds;
mod demo;
mod dependencies;
mod figures;
#[cfg(test)]
mod help;
mod images;
mod interrupt;
mod kube_api;
mod layers;
mod needs;
mod packages;
#[cfg(test)]
mod pages;
mod paths;
mod policies;
mod progress;
mod run;
mod sbom;
#[cfg(test)]
mod security_table;
mod size;
mod super_cluster;
mod test;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, starts and tests Sublet.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_version_flag = true,
    after_help = "Examples:\n  cargo xtask demo                what Sublet does, on a cluster of this machine\n  \
        cargo xtask test                what must pass\n  \
        cargo xtask super up            only the cluster\n  \
        cargo xtask images              a changed daemon, into that cluster\n  \
        cargo xtask super down          all of it off this machine"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The real Kubernetes cluster that everything is tried on
    #[command(
        subcommand,
        after_help = "Examples:\n  cargo xtask super up\n  cargo xtask super up --nodes 1\n  \
        cargo xtask super up --fake-nodes 100\n  cargo xtask super status\n  cargo xtask super down"
    )]
    Super(Super),
    /// Make all container images and load them into the super cluster if it is up
    #[command(
        after_help = "After a change to a daemon, this is how it gets into the running cluster:\n  \
        cargo xtask images && kubectl -n sublet-system rollout restart deployment\n\n\
        For a registry:\n  \
        cargo xtask images --to target/images           the daemons' images alone, as OCI archives"
    )]
    Images {
        /// Those as well that the long tests alone need, and their programs
        #[arg(long)]
        all: bool,
        /// Make only those of the daemons, and put them here as OCI archives
        #[arg(long, value_name = "FOLDER", conflicts_with = "all")]
        to: Option<PathBuf>,
    },
    /// Show a tenant's pod running in the super cluster, from nothing
    #[command(after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --no-keep")]
    Demo {
        /// Leave the super cluster up afterwards; the default on a terminal
        #[arg(long, conflicts_with = "no_keep")]
        keep: bool,
        /// Remove the super cluster afterwards; the default elsewhere
        #[arg(long)]
        no_keep: bool,
    },
    /// Measure speed and size beside the same work without tenants; `bench --help` tells of all, and so do `bench proxy --help`,
    /// `bench noise --help`, `bench control-plane --help` and `bench dns --help` of theirs
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  cargo xtask bench burst --tokens both\n  cargo xtask bench steady fair restart idle\n  \
         cargo xtask bench all --save                    what a release keeps in docs/bench\n  \
         cargo xtask bench chart                         the chart of it, drawn anew\n  \
        cargo xtask bench proxy                         the proxy of the running super cluster\n  \
        cargo xtask bench noise                         a noisy tenant's cost to another, in the running super cluster\n  \
        cargo xtask bench control-plane                 the memory of an idle tenant's, by its parts, there\n  \
        cargo xtask bench dns --tenants 500             the DNS server that tenants share"
    )]
    Bench {
        /// Arguments of the load program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the upstream conformance suite against a tenant or the super cluster
    #[command(
        after_help = "Examples:\n  cargo xtask conformance --native --tier T0\n  \
        cargo xtask conformance --tenant alpha --tier T1 --procs 4 --save\n  \
        cargo xtask conformance --tenant alpha --focus 'ConfigMap should update'"
    )]
    Conformance(Conformance),
    /// Write the resource definitions, and what clusterctl installs, from the crate `api`; and what the Helm chart has of them
    #[command(after_help = "Examples:\n  cargo xtask crds\n  cargo xtask crds --check")]
    Crds {
        /// Only fail if a file is stale
        #[arg(long)]
        check: bool,
    },
    /// Try what reads the words of tenants and of unknown callers with millions of bent inputs
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz --minutes 10\n  cargo xtask fuzz pods kubeconfig\n  \
        cargo xtask fuzz pods --seed 4711              a finding, once more"
    )]
    Fuzz {
        /// How long each target is tried
        #[arg(long, value_name = "MINUTES", default_value = "1")]
        minutes: String,
        /// The first input's number
        #[arg(long, value_name = "N", default_value = "1")]
        seed: String,
        /// Which; all when none is named. A name that isn't one of them tells of all
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },
    /// Run each attack against each layer of protection alone, and write what came of it into docs/attacks.md
    #[command(after_help = "Example:\n  cargo xtask layers && git diff docs/attacks.md")]
    Layers,
    /// Check and test everything, the last part on a fresh super cluster
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --keep\n  cargo xtask test --all"
    )]
    Test {
        /// The long tests as well
        #[arg(long)]
        all: bool,
        /// Leave the super cluster up afterwards
        #[arg(long)]
        keep: bool,
    },
}

#[derive(clap::Args)]
struct Conformance {
    /// Test the super cluster itself
    #[arg(long, required_unless_present = "tenant", conflicts_with = "tenant")]
    native: bool,
    /// Test this tenant; one that doesn't exist is made, with short intervals that some specs wait for
    #[arg(long, value_name = "NAME", value_parser = tenant)]
    tenant: Option<String>,
    /// Which part of the suite
    #[arg(long, value_enum, default_value = "T0")]
    tier: conformance::Tier,
    /// Only specs that match, of the whole suite
    #[arg(long, value_name = "REGEX", conflicts_with = "tier")]
    focus: Option<String>,
    /// Specs that run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    procs: u32,
    /// List what would run
    #[arg(long)]
    dry_run: bool,
    /// Keep both sides of every spec, the native run's and the tenant's, in docs/conformance
    #[arg(long, requires = "tenant", conflicts_with_all = ["focus", "dry_run"])]
    save: bool,
}

/// A tenant's name, which is also that of a folder.
fn tenant(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(is_plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    match is_label {
        true => Ok(name.to_owned()),
        false => Err("a tenant's name has a-z, 0-9 and, between them, -".to_owned()),
    }
}

#[derive(Subcommand)]
enum Super {
    /// Start it, or repair it; writes target/super/kubeconfig
    #[command(
        after_help = "Examples:\n  cargo xtask super up\n  cargo xtask super up --nodes 1 --fake-nodes 100"
    )]
    Up {
        /// Real nodes that run pods [default: 2, or what runs]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
        nodes: Option<u8>,
        /// Nodes that exist for the API only
        #[arg(long, default_value_t = 0, value_name = "N")]
        fake_nodes: u32,
    },
    /// Stop it and remove all that it put on the machine
    #[command(after_help = "Example:\n  cargo xtask super down")]
    Down,
    /// Show its processes and nodes; fails unless all is well
    #[command(after_help = "Example:\n  cargo xtask super status")]
    Status,
    /// Make the nodes obey NetworkPolicies; `up` starts this
    #[command(hide = true)]
    Enforce {
        /// The running cluster's real nodes
        #[arg(long)]
        nodes: u8,
    },
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let done = interrupt::obey().and_then(|()| run(&line.command));
    interrupt::rest_if_ending();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let text = format!("{error:#}");
            tell!("error: {text}");
            if let Some(advice) = advice(&text) {
                tell!("{advice}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What to do about an error that any step may end with.
fn advice(error: &str) -> Option<String> {
    // Go, cargo and tar say it in the same words as the operating system.
    error.contains("o space left on device").then(|| {
        format!(
            "the disk is full: make room and run the same command again; `cargo clean` and removing {} are safe, what was in them is built again",
            paths::cache().map_or_else(|_| "the cache folder".to_owned(), |cache| cache.display().to_string()),
        )
    })
}

/// False means: done, and the answer is no.
fn run(command: &Command) -> Result<bool> {
    match command {
        Command::Super(Super::Up { nodes, fake_nodes }) => super_cluster::up(*nodes, *fake_nodes)?,
        Command::Super(Super::Down) => super_cluster::down()?,
        Command::Super(Super::Status) => return super_cluster::status(),
        Command::Super(Super::Enforce { nodes }) => {
            policies::enforce(&super_cluster::layout::Node::first(*nodes))?;
        }
        Command::Images { to: Some(to), .. } => images::hand_out(to)?,
        Command::Images { all, to: None } => {
            needs::to_build_and_run()?;
            if *all {
                test::long_programs()?;
            }
            images::make_and_load(&super_cluster::running_nodes(), test::Extent::of(*all))?;
        }
        Command::Demo { keep, no_keep } => demo::show(match (*keep, *no_keep) {
            (true, _) => demo::Afterwards::Keep,
            (_, true) => demo::Afterwards::Remove,
            _ => demo::Afterwards::by_default(),
        })?,
        Command::Bench { arguments } => bench::measure(arguments)?,
        Command::Conformance(arguments) => conformance::check(&conformance::Suite {
            target: match &arguments.tenant {
                Some(name) => conformance::Target::Tenant(name.clone()),
                None => conformance::Target::Native,
            },
            tier: arguments.tier,
            focus: arguments.focus.clone(),
            labels: conformance::labels(arguments.focus.as_deref()),
            processes: arguments.procs,
            dry_run: arguments.dry_run,
            save: arguments.save,
        })?,
        Command::Crds { check: true } => crds::check()?,
        Command::Crds { check: false } => crds::write()?,
        Command::Fuzz {
            minutes,
            seed,
            targets,
        } => {
            let mut fuzz = cargo::command(&[
                "run",
                "--release",
                "-p",
                "apiserver-proxy",
                "--example",
                "fuzz",
                "--",
            ]);
            fuzz.args(["--minutes", minutes, "--seed", seed])
                .args(targets);
            run::visibly(&mut fuzz)?;
        }
        Command::Layers => layers::renew()?,
        Command::Test { all, keep } => {
            let afterwards = if *keep {
                test::Afterwards::Keep
            } else {
                test::Afterwards::Down
            };
            needs::to_build_and_run()?;
            test::everything(test::Extent::of(*all), afterwards)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_of_a_tenant_is_refused_before_anything_is_made() {
        let line = |name| {
            let words = ["xtask", "conformance", "--tenant", name];
            CommandLine::try_parse_from(words).is_ok()
        };
        assert!(line("alpha-1"));
        for wrong in ["Bad_Name", "a/b", "-a", "..", ""] {
            assert!(!line(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let error = anyhow::Error::from(std::io::Error::from_raw_os_error(28));
        let text = format!("{:#}", error.context("cannot write the layer"));
        assert!(advice(&text).unwrap().contains("the disk is full"));
        assert_eq!(advice("the API server does not answer"), None);
    }
}
