//! Where things live: the repository, the user's cache and the state of the running super cluster.
//!
//! Three places with three lifetimes. The cache outlives clones and is shared between them. The state
//! folder belongs to the one super cluster of the machine and is gone after `super down`. `target/super`
//! holds what people and tests read: the kubeconfig and links to the binaries.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the repository this xtask was built from.
pub(crate) fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// The user's cache of built binaries, image layers and prepared node disks.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => {
            PathBuf::from(env::var_os("HOME").context("HOME is not set: set it or XDG_CACHE_HOME")?)
                .join(".cache")
        }
    };
    Ok(base.join("sublet"))
}

/// The state folder of the machine's one super cluster.
pub(crate) fn state() -> &'static Path {
    Path::new("/var/lib/sublet-dev")
}

/// What the super cluster offers to people and tests: kubeconfig and `bin/`.
pub(crate) fn handout() -> PathBuf {
    repository().join("target/super")
}

/// The admin kubeconfig of the running super cluster.
pub(crate) fn kubeconfig() -> PathBuf {
    handout().join("kubeconfig")
}

/// A path as people in the repository's folder type it.
pub(crate) fn typed(path: &Path) -> String {
    let relative = path.strip_prefix(repository()).unwrap_or(path);
    relative.display().to_string()
}
