//! `cargo xtask test`: everything that must hold before a change goes in, the quick checks first.
//!
//! Nothing is skipped in silence: what cannot run fails.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::progress::seconds;
use crate::{
    binaries, cargo, conformance, crds, dependencies, figures, images, packages, paths, run, size,
    super_cluster,
};

/// How many cluster tests run at once; they mostly wait for the cluster.
const CLUSTER_TEST_THREADS: &str = "--test-threads=4";

/// How much to test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What belongs to every change.
    Core,
    /// The long tests as well.
    All,
}

impl Extent {
    /// As the flag `--all` says.
    pub(crate) fn of(all: bool) -> Self {
        if all { Self::All } else { Self::Core }
    }
}

/// What happens to the super cluster after the tests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It is removed, and so is proven that nothing is left.
    Down,
    /// It stays up for a look around.
    Keep,
}

/// One check: its title, and what it does.
type Check = (&'static str, fn() -> Result<()>);

/// The checks that need no cluster.
const CHECKS: &[Check] = &[
    ("formatting", || with_cargo(&["fmt", "--all", "--check"])),
    ("file sizes", || size::check().map(|found| say!("{found}"))),
    ("tools to build with", packages::ensure_for_building),
    ("generated files are fresh", crds::check),
    ("one TLS provider", one_tls_provider),
    ("licences and sources of all crates", dependencies::check),
    ("clippy", || {
        with_cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    }),
    ("documentation", documentation),
    ("building", cargo::build_all),
    ("unit, law and property tests", || {
        with_cargo(&["test", "--workspace", "--lib", "--bins"])
    }),
    ("examples in the documentation", || {
        with_cargo(&["test", "--workspace", "--doc"])
    }),
];

/// Runs the checks and the tests against a real cluster, and stops at the first that fails.
pub(crate) fn everything(extent: Extent, afterwards: Afterwards) -> Result<()> {
    let began = Instant::now();
    // Go builds for minutes on a fresh machine, while the first checks are mostly cargo's.
    let go = thread::spawn(move || build_go_programs(extent));
    for (title, check) in CHECKS {
        titled(title, check)?;
    }
    if extent == Extent::All {
        titled("each crate alone", each_crate_alone)?;
    }
    titled("Go programs", || joined(go))?;
    titled("images", || {
        images::third_party()?;
        images::own().map(drop)
    })?;
    titled("a fresh super cluster", || {
        super_cluster::down()?;
        super_cluster::up(None, 0)?;
        match extent {
            Extent::Core => Ok(()),
            Extent::All => {
                let more = [images::of_long_tests()?];
                images::load(&more, &super_cluster::running_nodes()).map(drop)
            }
        }
    })?;
    titled("sublet install", install)?;
    figures::forget()?;
    let tested = titled("tests against the real cluster", || cluster_tests(extent))
        // Not beside them: on two cores it takes twice as long then, and specs run into their limits.
        .and_then(|()| {
            titled(
                "the upstream suite's tier T0 in a tenant",
                conformance::api_in_a_tenant,
            )
        });
    if let Err(error) = tested {
        tell!("the super cluster is still up: look around, then `cargo xtask super down`");
        return Err(error);
    }
    match afterwards {
        Afterwards::Keep => {
            say!("the super cluster stays up; `cargo xtask super down` removes it");
        }
        Afterwards::Down => titled("nothing is left", || {
            super_cluster::down()?;
            let left = super_cluster::leftovers()?;
            if !left.is_empty() {
                bail!("left on the machine: {}", left.join(", "));
            }
            Ok(())
        })?,
    }
    if extent == Extent::All {
        titled("what was measured", figures::tell)?;
    }
    say!("\nall tests passed in {}", seconds(began.elapsed()));
    Ok(())
}

fn titled(title: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    say!("\n== {title}");
    let began = Instant::now();
    check().with_context(|| format!("test step failed: {title}"))?;
    say!("== {title}: ok ({})", seconds(began.elapsed()));
    Ok(())
}

fn with_cargo(args: &[&str]) -> Result<()> {
    run::visibly(&mut cargo::command(args))
}

/// With a second provider compiled in, rustls panics when it has to choose.
fn one_tls_provider() -> Result<()> {
    let mut command = cargo::command(&[
        "tree",
        "--workspace",
        "--invert",
        "ring",
        "--edges",
        "normal",
    ]);
    let done = command.output().context("cannot start cargo")?;
    // Cargo fails when no crate of that name is even known, which is as good.
    let users = String::from_utf8_lossy(&done.stdout);
    if !users.trim().is_empty() {
        bail!("the provider `ring` is compiled in beside aws-lc-rs:\n{users}");
    }
    Ok(())
}

fn documentation() -> Result<()> {
    let mut command = cargo::command(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    run::visibly(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// A crate may compile only because another one switches on a feature for it.
fn each_crate_alone() -> Result<()> {
    for crate_name in [
        "api",
        "tenancy",
        "telemetry",
        "syncer",
        "apiserver-proxy",
        "manager",
        "cli",
        "hack",
        "e2e",
    ] {
        with_cargo(&["check", "--quiet", "--package", crate_name])?;
    }
    Ok(())
}

/// What the cluster and the upstream suite consist of.
fn build_go_programs(extent: Extent) -> Result<()> {
    for program in ["kube", "etcd", "coredns", "metrics-server", "provisioner"] {
        binaries::path(program)?;
    }
    if extent == Extent::All {
        long_programs()?;
    }
    conformance::build()
}

/// Programs and sources that the long tests alone need.
pub(crate) fn long_programs() -> Result<()> {
    binaries::hand_out(&["cluster-api", "clusterctl", "helm"])?;
    for (name, folder, module, version) in [
        (
            "cluster-api-source",
            "capi",
            binaries::CLUSTER_API_MODULE,
            binaries::CLUSTER_API,
        ),
        (
            "cert-manager-source",
            "cert-manager",
            binaries::CERT_MANAGER_MODULE,
            binaries::CERT_MANAGER,
        ),
    ] {
        let source = binaries::module_folder(folder, &format!("{module}@v{version}"))?;
        binaries::link(name, &source)?;
    }
    for part in ["controller", "webhook", "cainjector"] {
        binaries::path(&format!("cert-manager-{part}"))?;
    }
    binaries::hand_out_skewed()
}

fn joined(thread: thread::JoinHandle<Result<()>>) -> Result<()> {
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow!("it panicked")))
}

fn install() -> Result<()> {
    let mut install = run::command(
        cargo::build_cli()?,
        [
            "install",
            "--ephemeral-etcd",
            "--cluster-api",
            "--kubeconfig",
        ],
    );
    run::visibly(install.arg(paths::kubeconfig()))
}

fn cluster_tests(extent: Extent) -> Result<()> {
    let mut command = cargo::command(&[
        "test",
        "--workspace",
        "--test",
        "e2e",
        "--",
        CLUSTER_TEST_THREADS,
    ]);
    if extent == Extent::All {
        command.arg("--include-ignored");
        command.env("SUBLET_UNGUARDED_SYNCER", cargo::build_unguarded_syncer()?);
    }
    // A test that fails names its line by the error's backtrace; the panic's own would bury the message.
    command.env("RUST_BACKTRACE", "0");
    command.env("RUST_LIB_BACKTRACE", "1");
    command.env("SUBLET_KUBECONFIG", paths::kubeconfig());
    command.env("KUBECTL", paths::handout().join("bin/kubectl"));
    command.env("SUBLET_CLI", cargo::build_cli()?);
    command.env("SUBLET_FIGURES", figures::path());
    // The very programs that are in the images.
    command.env("SUBLET_SYNCER", images::binary("sublet-syncer")?);
    command.env("SUBLET_MANAGER", images::binary("sublet-manager")?);
    command.env("SUBLET_PROXY", images::binary("sublet-apiserver-proxy")?);
    command.env("SUBLET_PARTS", paths::handout().join("bin"));
    run::visibly(&mut command)
}
