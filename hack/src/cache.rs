//! A cache by content: an entry's name holds the hash of everything that went into it, so an entry is
//! never stale and never changed in place.
//!
//! Entries are made beside their place and renamed into it, so a killed build leaves no half entry. A
//! lock per entry keeps two runs from building the same thing; the second waits and finds it done.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
        return Ok(place);
    }
    let _lock = lock(&format!("{kind}-{name}"))?;
    if place.is_dir() {
        return Ok(place);
    }
    let draft = shelf.join(format!(".{name}-{}.draft", key.text()));
    if draft.exists() {
        fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
    }
    fs::create_dir_all(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
    let filled = fill(&draft);
    if let Err(error) = filled {
        let _ = fs::remove_dir_all(&draft);
        return Err(error);
    }
    fs::rename(&draft, &place).with_context(|| format!("cannot move into {}", place.display()))?;
    Ok(place)
}

/// True when `entry` would find the entry and not fill it.
pub(crate) fn holds(kind: &str, name: &str, key: &Key) -> Result<bool> {
    Ok(paths::cache()?
        .join(kind)
        .join(format!("{name}-{}", key.text()))
        .is_dir())
}

/// Takes the machine-wide lock called `name`; it ends when the returned file is dropped.
pub(crate) fn lock(name: &str) -> Result<File> {
    let folder = paths::cache()?.join("locks");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("     another run holds {name}; waiting for it …");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let mut one = Key::new("x");
        one.add("ab").add("c");
        let mut other = Key::new("x");
        other.add("a").add("bc");
        assert_ne!(one.text(), other.text());
        assert_eq!(one.text(), one.clone().text());
    }
}
