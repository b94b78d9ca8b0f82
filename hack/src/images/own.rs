//! Images of this repository's own daemons: from nothing, one static binary, a numeric user.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Bundle;
use super::archive::{self, Image, Process};
use super::debian::cached_layer;
use crate::cache::{self, Key};
use crate::progress::Step;
use crate::{paths, run};

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
];

/// The user in all own images.
const USER: &str = "65532:65532";

/// Builds the daemons and makes an archive of each, so that a changed one is imported alone.
pub(crate) fn bundles() -> Result<Vec<Bundle>> {
    let step = Step::start("building the daemons (static, release)");
    let folder = build()?;
    step.done("");
    DAEMONS
        .iter()
        .map(|daemon| bundle(daemon, &folder.join(daemon.binary)))
        .collect()
}

/// The daemons whose binaries are there, without building any.
pub(crate) fn bundles_as_built() -> Result<Vec<Bundle>> {
    let folder = target_folder()?;
    let built = DAEMONS
        .iter()
        .map(|daemon| (daemon, folder.join(daemon.binary)));
    built
        .filter(|(_, binary)| binary.is_file())
        .map(|(daemon, binary)| bundle(daemon, &binary))
        .collect()
}

/// The image's full name.
pub(crate) fn name(binary: &str) -> String {
    format!("sublet.dev/{binary}:{}", env!("CARGO_PKG_VERSION"))
}

fn bundle(daemon: &Daemon, binary: &Path) -> Result<Bundle> {
    let mut key = Key::new("own image 1");
    key.add(daemon.binary).add(USER).add_file(binary)?;
    let layer = cached_layer("own-layers", daemon.binary, &key, |tree, _| {
        tree.copy(daemon.binary, binary, 0o755);
        Ok(())
    })?;
    let process = Process {
        entrypoint: vec![format!("/{}", daemon.binary)],
        user: USER.to_owned(),
        folder: "/".to_owned(),
        ..Process::default()
    };
    let images = [Image {
        names: vec![name(daemon.binary)],
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

/// Builds all daemons for the host's own target with a static C library. Naming the target keeps the
/// flags away from build scripts, which can't be static.
fn build() -> Result<PathBuf> {
    let target = host_target()?;
    let mut command = run::command(
        cargo(),
        ["build", "--release", "--locked", "--target", &target],
    );
    command
        .current_dir(paths::repository())
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    for daemon in DAEMONS {
        command.args(["-p", daemon.package]);
    }
    run::output(&mut command)?;
    let folder = target_folder()?;
    for daemon in DAEMONS {
        if fs::metadata(folder.join(daemon.binary)).is_err() {
            bail!(
                "package {} built no binary {}",
                daemon.package,
                daemon.binary
            );
        }
    }
    Ok(folder)
}

/// Where cargo puts what [`build`] builds.
fn target_folder() -> Result<PathBuf> {
    let mut ask = run::command(cargo(), ["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value =
        serde_json::from_str(&run::output(ask.current_dir(paths::repository()))?)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo names no target folder")?;
    Ok(PathBuf::from(folder).join(host_target()?).join("release"))
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn host_target() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let about = run::output(&mut run::command(rustc, ["-vV"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc doesn't name its host")?.to_owned())
}
