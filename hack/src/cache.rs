//! A cache by content: an entry's name holds the hash of everything that went into it, so an entry is
//! never stale and never changed in place.
//!
//! Entries are made beside their place and renamed into it, so a killed build leaves no half entry. A
//! lock per entry keeps two runs from building the same thing; the second waits and finds it done.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::paths;

/// Collects the inputs of an entry. Each part is length-prefixed, so no two lists of parts collide.
#[derive(Clone, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// A key that has seen `what` already; change it to make all older entries unused.
    pub(crate) fn new(what: &str) -> Self {
        let mut key = Self::default();
        key.add(what.as_bytes());
        key
    }

    /// Adds one input.
    pub(crate) fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// Adds a file's content.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<&mut Self> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.add(content))
    }

    /// The key as text, short enough for file names.
    pub(crate) fn text(&self) -> String {
        HEXLOWER.encode(&self.0.clone().finalize()[..10])
    }
}

/// The folder `kind/name-key` of the cache, filled by `fill` when it isn't there yet.
///
/// `fill` gets an empty folder; what it leaves there becomes the entry.
pub(crate) fn entry(
    kind: &str,
    name: &str,
    key: &Key,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let shelf = paths::cache()?.join(kind);
    let place = shelf.join(format!("{name}-{}", key.text()));
    if place.is_dir() {
        mark_as_used(&place);
        return Ok(place);
    }
    let _lock = lock(&format!("{kind}-{name}"))?;
    if place.is_dir() {
        return Ok(place);
    }
    let draft = shelf.join(format!(".{name}-{}.draft", key.text()));
    remove_drafts(&shelf, name)?;
    fs::create_dir_all(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
    let filled = fill(&draft);
    if let Err(error) = filled {
        let _ = fs::remove_dir_all(&draft);
        return Err(error);
    }
    fs::rename(&draft, &place).with_context(|| format!("cannot move into {}", place.display()))?;
    remove_old(&shelf, name);
    Ok(place)
}

/// How many entries of one name are kept: enough for a few clones with different versions.
const KEPT: usize = 3;

/// Removes what builds of `name` left that were killed; no other is under way while its lock is held.
fn remove_drafts(shelf: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(shelf).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let draft = file
            .strip_prefix('.')
            .and_then(|rest| rest.strip_suffix(".draft"));
        if draft.is_some_and(|draft| belongs_to(draft, name)) {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes the entries of `name` that were not used for the longest time. What can't be removed stays.
fn remove_old(shelf: &Path, name: &str) {
    let listing = fs::read_dir(shelf).into_iter().flatten().flatten();
    let mut entries: Vec<(SystemTime, PathBuf)> = listing
        .filter(|entry| belongs_to(&entry.file_name().to_string_lossy(), name))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    entries.sort();
    let surplus = entries.len().saturating_sub(KEPT);
    for (_, old) in &entries[..surplus] {
        let _ = fs::remove_dir_all(old);
    }
}

/// True when the folder is an entry of `name`, and not of a longer name that begins with it.
fn belongs_to(folder: &str, name: &str) -> bool {
    let key = folder
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'));
    key.is_some_and(|key| !key.contains('-'))
}

fn mark_as_used(entry: &Path) {
    if let Ok(folder) = File::open(entry) {
        let _ = folder.set_modified(SystemTime::now());
    }
}

/// True when `entry` would find the entry and not fill it.
pub(crate) fn holds(kind: &str, name: &str, key: &Key) -> Result<bool> {
    Ok(paths::cache()?
        .join(kind)
        .join(format!("{name}-{}", key.text()))
        .is_dir())
}

/// Takes the lock called `name` on this user's cache; it ends when the returned file is dropped.
pub(crate) fn lock(name: &str) -> Result<File> {
    lock_in(&paths::cache()?.join("locks"), name)
}

/// Takes the lock on what there is one of on a machine, whoever runs this with whichever cache.
pub(crate) fn lock_machine(name: &str) -> Result<File> {
    lock_in(Path::new("/run/lock/sublet-dev"), name)
}

fn lock_in(folder: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        tell!("     another run holds {name}; waiting for it …");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_builds_left_goes_whatever_was_built_and_nothing_else_does() {
        let shelf = std::env::temp_dir().join(format!("sublet-drafts-{}", std::process::id()));
        let names = [
            ".kube-aa.draft",
            ".kube-bb.draft",
            ".kube-1.37-cc.draft",
            "kube-aa",
        ];
        for name in names {
            fs::create_dir_all(shelf.join(name)).unwrap();
        }
        remove_drafts(&shelf, "kube").unwrap();
        let left = names.map(|name| shelf.join(name).is_dir());
        fs::remove_dir_all(&shelf).unwrap();
        assert_eq!(left, [false, false, true, true]);
        assert!(
            remove_drafts(&shelf, "kube").is_ok(),
            "there may be no shelf yet"
        );
    }

    #[test]
    fn parts_do_not_run_together() {
        let mut one = Key::new("x");
        one.add("ab").add("c");
        let mut other = Key::new("x");
        other.add("a").add("bc");
        assert_ne!(one.text(), other.text());
        assert_eq!(one.text(), one.clone().text());
    }

    #[test]
    fn entries_are_told_apart_by_name() {
        assert!(belongs_to("kube-0a1b", "kube"));
        assert!(!belongs_to("kube-proxy-0a1b", "kube"));
        assert!(!belongs_to(".kube-0a1b.draft", "kube"));
    }

    #[test]
    fn the_least_used_entries_go() {
        let shelf = std::env::temp_dir().join(format!("sublet-cache-{}", std::process::id()));
        for (age, name) in ["x-1", "x-2", "x-3", "x-4", "y-1"].iter().enumerate() {
            let folder = shelf.join(name);
            fs::create_dir_all(&folder).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            File::open(&folder).unwrap().set_modified(time).unwrap();
        }
        mark_as_used(&shelf.join("x-1"));
        remove_old(&shelf, "x");
        let left = |name: &str| shelf.join(name).exists();
        assert!(left("x-1") && !left("x-2") && left("x-3") && left("x-4") && left("y-1"));
        fs::remove_dir_all(&shelf).unwrap();
    }
}
