//! A file that only its owner can read, and that goes when it is dropped.

use anyhow::{Context, Result};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// A kubeconfig in a folder of its own.
pub(super) struct File {
    folder: PathBuf,
    path: PathBuf,
}

impl File {
    /// Writes `text` below the user's runtime folder, else below the temporary folder.
    pub(super) fn write(text: &str) -> Result<Self> {
        let base = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        Self::write_below(&base, text)
    }

    fn write_below(base: &Path, text: &str) -> Result<Self> {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map(|time| time.as_nanos())
            .unwrap_or_default();
        let folder = base.join(format!("sublet-{}-{nanos:x}", std::process::id()));
        // A new folder with mode 0700: nobody else can have put a link in the file's place.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
        let file = Self {
            path: folder.join("kubeconfig"),
            folder,
        };
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file.path)
            .with_context(|| format!("can't write {}", file.path.display()))?;
        out.write_all(text.as_bytes())
            .with_context(|| format!("can't write {}", file.path.display()))?;
        Ok(file)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_dir_all(&self.folder) {
            tell!(
                "warning: can't remove {}: {err}; remove it yourself",
                self.folder.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_private_and_goes() {
        let file = File::write_below(&std::env::temp_dir(), "a: 1\n").unwrap();
        let (path, folder) = (file.path.clone(), file.folder.clone());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a: 1\n");
        drop(file);
        assert!(!folder.exists());
    }
}
