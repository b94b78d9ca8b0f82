//! Layers from Debian packages, for the images whose users expect a shell and tools.
//!
//! Packages are unpacked and not installed: no maintainer script runs. What those scripts would have made
//! (accounts, `/tmp`, the link that is `/bin/sh`) is written here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use super::tree::{Layer, Tree};
use crate::cache::{self, Key};
use crate::progress::Step;
use crate::{packages, run};

/// A root folder of packages, and what is done to it afterwards.
pub(crate) struct Root {
    /// Names it in the cache.
    pub(crate) name: &'static str,
    /// The Debian release.
    pub(crate) release: &'static str,
    /// What is unpacked, with all that it depends on.
    pub(crate) packages: &'static [&'static str],
    /// Raise it when `finish` changes.
    pub(crate) revision: u32,
    /// Completes the tree; the folder holds the unpacked packages.
    pub(crate) finish: fn(&mut Tree, &Path) -> Result<()>,
}

/// The root folder as a layer.
pub(crate) fn layer(root: &Root) -> Result<Layer> {
    let mut key = Key::new("debian layer 1");
    key.add(root.release)
        .add(root.packages.join(" "))
        .add(root.revision.to_string());
    if cache::holds("layers", root.name, &key)? {
        return cached_layer("layers", root.name, &key, |_, _| Ok(()));
    }
    packages::ensure_for_images()?;
    let step = Step::start(format!("unpacking packages for the {} image", root.name));
    let layer = cached_layer("layers", root.name, &key, |tree, folder| {
        let unpacked = folder.join("root");
        let include = format!("--include={}", root.packages.join(","));
        let mut command = run::command(
            "mmdebstrap",
            ["--variant=extract", "--quiet", &include, root.release],
        );
        run::output(command.arg(&unpacked))?;
        merge_usr(&unpacked)?;
        tree.all_of(&unpacked, &is_dead_weight)?;
        for place in ["proc", "sys", "dev", "run", "root", "home", "var/tmp"] {
            tree.folder(place, 0o755);
        }
        tree.folder("tmp", 0o1777);
        (root.finish)(tree, &unpacked)
    })?;
    step.done("");
    Ok(layer)
}

/// The layer that `fill` describes, made once. `fill` may use the folder it gets for what the tree copies.
pub(crate) fn cached_layer(
    kind: &str,
    name: &str,
    key: &Key,
    fill: impl FnOnce(&mut Tree, &Path) -> Result<()>,
) -> Result<Layer> {
    let entry = cache::entry(kind, name, key, |folder| {
        let work = folder.join("work");
        fs::create_dir(&work)?;
        let mut tree = Tree::default();
        fill(&mut tree, &work)?;
        let layer = tree.write(&folder.join("layer.tar"))?;
        fs::write(folder.join("layer.json"), serde_json::to_vec(&layer)?)?;
        fs::remove_dir_all(&work).context("cannot clean up")
    })?;
    let note = fs::read(entry.join("layer.json")).context("the cached layer has no note")?;
    let mut layer: Layer = serde_json::from_slice(&note)?;
    layer.path = entry.join("layer.tar");
    Ok(layer)
}

/// Newer releases have everything below `/usr` and leave it to installation to make `/bin` and the like.
fn merge_usr(root: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        let in_usr = Path::new("usr").join(folder);
        if !root.join(folder).exists() && root.join(&in_usr).exists() {
            symlink(in_usr, root.join(folder)).context("cannot link into usr")?;
        }
    }
    Ok(())
}

/// What no container needs: package lists, documentation, translations.
fn is_dead_weight(path: &str) -> bool {
    DEAD_WEIGHT.contains(&path)
}

const DEAD_WEIGHT: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/cache",
    "var/log",
];

/// `/etc/passwd` and `/etc/group` with the usual accounts and more.
pub(crate) fn accounts(tree: &mut Tree, users: &str, groups: &str) {
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                  daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                  nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let group = "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n";
    tree.text("etc/passwd", format!("{passwd}{users}"));
    tree.text("etc/group", format!("{group}{groups}"));
    tree.text(
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_places_are_dead_weight() {
        assert!(is_dead_weight("usr/share/doc"));
        assert!(!is_dead_weight("usr/share/docker"));
    }
}
