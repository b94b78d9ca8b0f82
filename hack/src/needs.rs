//! What commands need of the machine, asked before they begin: half an hour of work must not end with it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::Uid;

use crate::run;

/// The oldest minor release of Go 1 that fetches the newer one which modules ask for.
const OLDEST: u32 = 21;

/// All that a super cluster and its images take: root, and Go unless ready-made programs are given.
pub(crate) fn to_build_and_run() -> Result<()> {
    root()?;
    match env::var_os("SUBLET_ASSETS").filter(|folder| !folder.is_empty()) {
        Some(_) => Ok(()),
        None => go().map(drop),
    }
}

/// Root.
pub(crate) fn root() -> Result<()> {
    may(rustix::process::geteuid())
}

/// A Go that can build the real Kubernetes parts.
pub(crate) fn go() -> Result<PathBuf> {
    let go = found(run::find("go"))?;
    // Outside of any module, none of which an old one can read; the one that is there, not another that it would fetch.
    let mut version = run::command(&go, ["version"]);
    version.current_dir("/").env("GOTOOLCHAIN", "local");
    new_enough(&go, &run::output(&mut version)?)?;
    Ok(go)
}

fn may(user: Uid) -> Result<()> {
    if user.is_root() {
        return Ok(());
    }
    bail!(
        "a super cluster makes namespaces and cgroups, and images keep the owners of files, which needs root: run this as root"
    );
}

fn found(go: Option<PathBuf>) -> Result<PathBuf> {
    go.context(
        "Go is not installed and the real Kubernetes parts are built with it: install Go 1.26, \
         or set SUBLET_ASSETS to a folder with kube-apiserver, etcd and the others",
    )
}

/// What `go version` said tells of one that can build, or fetch one that can.
fn new_enough(go: &Path, said: &str) -> Result<()> {
    let version = said.split_whitespace().nth(2).unwrap_or_default();
    let minor = minor(version).with_context(|| format!("{said:?} is no version of Go"))?;
    if minor < OLDEST {
        bail!(
            "{} is {version}, which is too old to build the real Kubernetes parts: install Go 1.26 (1.{OLDEST} and newer fetch it)",
            go.display()
        );
    }
    Ok(())
}

/// Of `go1.26.1` it is 26; one that is built from a commit is newer than all that count.
fn minor(version: &str) -> Option<u32> {
    if version == "devel" {
        return Some(u32::MAX);
    }
    let rest = version.strip_prefix("go1.")?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_root_is_told_before_anything_is_done() {
        assert!(may(Uid::ROOT).is_ok());
        let said = may(Uid::from_raw(65534)).unwrap_err().to_string();
        assert!(said.ends_with("run this as root"), "{said}");
    }

    #[test]
    fn no_go_and_an_old_one_are_told_with_what_to_install() {
        let said = found(None).unwrap_err().to_string();
        assert!(said.contains("install Go 1.26"), "{said}");
        let judged = |version: &str| {
            let said = format!("go version {version} linux/amd64\n");
            new_enough(Path::new("/usr/bin/go"), &said)
        };
        let said = judged("go1.19.8").unwrap_err().to_string();
        assert!(said.starts_with("/usr/bin/go is go1.19.8") && said.contains("install Go 1.26"));
        for right in ["go1.21.0", "go1.26", "go1.27rc1", "devel go1.28-abc"] {
            assert!(judged(right).is_ok(), "{right}");
        }
        assert!(judged("soon").is_err());
    }
}
