//! Images of this repository's own daemons: from nothing, one static binary and its bill of materials, a numeric user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use super::Bundle;
use super::archive::{self, Image, Process};
use super::debian::cached_layer;
use crate::cache::{self, Key};
use crate::progress::Step;
use crate::{cargo, packages, run, sbom};

/// One daemon: the workspace package that builds it and the binary's name, which is also the image's.
struct Daemon {
    package: &'static str,
    binary: &'static str,
}

/// To add a daemon, add a line.
const DAEMONS: &[Daemon] = &[
    Daemon {
        package: "syncer",
        binary: "sublet-syncer",
    },
    Daemon {
        package: "manager",
        binary: "sublet-manager",
    },
    Daemon {
        package: "apiserver-proxy",
        binary: "sublet-apiserver-proxy",
    },
];

/// How a program of ours is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// For the dev super cluster and the tests: optimised crate by crate.
    Release,
    /// What is published and measured: optimised as a whole, which takes minutes more.
    Dist,
}

impl Profile {
    /// As cargo calls it, and the folder that it builds into.
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// The user in all own images.
const USER: &str = "65532:65532";

/// Builds the daemons and makes an archive of each, so that a changed one is imported alone.
pub(crate) fn bundles(profile: Profile) -> Result<Vec<Bundle>> {
    let title = format!("building the daemons (static, {})", profile.name());
    built(&title, profile, &[])
}

/// The same, and builds the `sublet` command along with them: most of what it consists of is theirs, too.
pub(crate) fn bundles_and_cli() -> Result<(Vec<Bundle>, PathBuf)> {
    let title = "building the daemons and the sublet command (static, release)";
    let bundles = built(title, Profile::Release, &["cli"])?;
    Ok((bundles, binary("sublet")?))
}

fn built(title: &str, profile: Profile, more: &[&str]) -> Result<Vec<Bundle>> {
    let step = Step::start(title);
    build(profile, more)?;
    step.done("");
    let bundles = bundles_of(profile)?;
    if bundles.len() != DAEMONS.len() {
        let names: Vec<&str> = DAEMONS.iter().map(|daemon| daemon.binary).collect();
        bail!("a package of {} did not build its binary", names.join(", "));
    }
    Ok(bundles)
}

/// The daemons whose binaries for the dev super cluster are there, without building any.
pub(crate) fn bundles_as_built() -> Result<Vec<Bundle>> {
    bundles_of(Profile::Release)
}

fn bundles_of(profile: Profile) -> Result<Vec<Bundle>> {
    let folder = folder(profile)?;
    let is_built = |daemon: &Daemon| folder.join(daemon.binary).is_file();
    if !DAEMONS.iter().any(is_built) {
        return Ok(vec![]);
    }
    // All of them are built together, whichever are there.
    let packages: Vec<&str> = DAEMONS.iter().map(|daemon| daemon.package).collect();
    let bills = sbom::of(&packages, &cargo::host_target()?)?;
    let built = DAEMONS.iter().zip(bills);
    built
        .filter(|(daemon, _)| is_built(daemon))
        .map(|(daemon, bill)| bundle(daemon, &bill, &folder.join(daemon.binary)))
        .collect()
}

/// Where one of the programs is that were built for the dev super cluster's images.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    binary_of(Profile::Release, name)
}

fn binary_of(profile: Profile, name: &str) -> Result<PathBuf> {
    let binary = folder(profile)?.join(name);
    if !binary.is_file() {
        bail!("{} isn't built: run `cargo xtask images`", binary.display());
    }
    Ok(binary)
}

fn bundle(daemon: &Daemon, bill: &Value, binary: &Path) -> Result<Bundle> {
    let bill = format!("{bill:#}\n");
    let mut key = Key::new("own image 2");
    key.add(daemon.binary)
        .add(USER)
        .add(&bill)
        .add_file(binary)?;
    let layer = cached_layer("own-layers", daemon.binary, &key, |tree, _| {
        tree.copy(daemon.binary, binary, 0o755);
        tree.text(&format!("{}.cdx.json", daemon.binary), bill);
        Ok(())
    })?;
    let process = Process {
        entrypoint: vec![format!("/{}", daemon.binary)],
        user: USER.to_owned(),
        folder: "/".to_owned(),
        ..Process::default()
    };
    let name = format!("sublet.dev/{}:{}", daemon.binary, env!("CARGO_PKG_VERSION"));
    let images = [Image {
        names: vec![name],
        layers: vec![layer],
        process,
    }];
    let archive = cache::entry("own-images", daemon.binary, &key, |folder| {
        archive::write(&folder.join("archive.tar"), &images)
    })?;
    Ok(Bundle {
        archive: archive.join("archive.tar"),
        images: archive::digests(&images),
    })
}

/// Builds all daemons, and `more` packages, with a static C library.
fn build(profile: Profile, more: &[&str]) -> Result<()> {
    let daemons = DAEMONS.iter().map(|daemon| daemon.package);
    let packages: Vec<&str> = daemons
        .chain(more.iter().copied())
        .flat_map(|package| ["--package", package])
        .collect();
    run::output(&mut static_build(profile, &packages)?).map(drop)
}

/// Builds what cargo is told to by `selection`, as images hold programs, and gives the path of the one with that name.
pub(crate) fn program(profile: Profile, selection: &[&str], name: &str) -> Result<PathBuf> {
    run::visibly(&mut static_build(profile, selection)?)?;
    binary_of(profile, name)
}

/// Naming the target, though it is the host's own, keeps the flags away from build scripts, which can't be static.
fn static_build(profile: Profile, selection: &[&str]) -> Result<Command> {
    packages::ensure_for_building()?;
    let target = cargo::host_target()?;
    let mut command = cargo::command(&["build", "--profile", profile.name()]);
    command
        .args(["--locked", "--target", &target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(selection);
    Ok(command)
}

/// Where cargo puts what it builds so.
fn folder(profile: Profile) -> Result<PathBuf> {
    Ok(cargo::target_folder()?
        .join(cargo::host_target()?)
        .join(profile.name()))
}
