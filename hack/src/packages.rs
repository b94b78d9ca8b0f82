//! Installs the Debian packages that building and running pods needs, after saying so.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run;

/// A file that tells whether the package is there, and the package.
const NEEDED: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables-save", "iptables"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("nft", "nftables"),
    ("socat", "socat"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("modprobe", "kmod"),
];

/// Needed to build Sublet itself: some crates hold C.
const NEEDED_TO_BUILD: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("make", "make"),
];

/// Needed to make image layers only.
const NEEDED_FOR_IMAGES: &[(&str, &str)] = &[("mmdebstrap", "mmdebstrap")];

/// Makes sure that Sublet can be built.
pub(crate) fn ensure_for_building() -> Result<()> {
    ensure(NEEDED_TO_BUILD)
}

/// Makes sure that pods can be run.
pub(crate) fn ensure_for_nodes() -> Result<()> {
    ensure(NEEDED)
}

/// Makes sure that image layers can be made.
pub(crate) fn ensure_for_images() -> Result<()> {
    if !is_root() {
        bail!("making image layers keeps the owners of files, which needs root: run this as root");
    }
    ensure(NEEDED_TO_BUILD)?;
    ensure(NEEDED_FOR_IMAGES)
}

/// True when this process may do what a super cluster needs.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn ensure(needed: &[(&str, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> = needed
        .iter()
        .filter(|(file, _)| !is_there(file))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let Some(apt) = run::find("apt-get") else {
        bail!("missing: {list}; this machine has no apt-get, so install them and run this again");
    };
    if !is_root() {
        bail!("missing packages: {list}; run this as root, or install them first");
    }
    tell!("     installing Debian packages: {list}");
    let _ =
        run::output(run::command(&apt, ["update", "-q"]).env("DEBIAN_FRONTEND", "noninteractive"));
    // Services of these packages are not started: the super cluster has its own and leaves others alone.
    let mut install = run::command(&apt, ["install", "-y", "-q", "--no-install-recommends"]);
    install
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    run::output(&mut install)?;
    Ok(())
}

fn is_there(file: &str) -> bool {
    if file.starts_with('/') {
        Path::new(file).exists()
    } else {
        run::find(file).is_some()
    }
}
