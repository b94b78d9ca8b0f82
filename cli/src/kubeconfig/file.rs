//! Kubeconfig files: which one is meant, and writing one so that no reader ever sees half of it.

use crate::error;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The files that kubectl would read, in its order: the flag's, else those of KUBECONFIG, else `~/.kube/config`.
pub(crate) fn candidates(
    flag: Option<&Path>,
    env: Option<OsString>,
    home: Option<PathBuf>,
) -> Vec<PathBuf> {
    if let Some(file) = flag {
        return vec![file.to_owned()];
    }
    let listed: Vec<PathBuf> = env
        .map(|list| {
            std::env::split_paths(&list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect()
        })
        .unwrap_or_default();
    if listed.is_empty() {
        home.map(|home| home.join(".kube").join("config"))
            .into_iter()
            .collect()
    } else {
        listed
    }
}

/// The file that a new context goes into: the one that has a context of that name, else the first that exists, else the
/// last, as kubectl does.
pub(crate) fn target(candidates: &[PathBuf], holds: impl Fn(&Path) -> bool) -> Option<&PathBuf> {
    candidates
        .iter()
        .find(|path| holds(path))
        .or_else(|| candidates.iter().find(|path| path.exists()))
        .or_else(|| candidates.last())
}

/// The file's content; `Null` when there is none.
pub(crate) fn read(path: &Path) -> Result<Value> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Value::Null),
        Err(err) => return Err(error::fail(format!("can't read {}: {err}", path.display()))),
    };
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(&text).map_err(|err| {
        error::fail(format!(
            "{} is no YAML: {}",
            path.display(),
            error::one_line(&err.to_string())
        ))
    })
}

/// Holds kubectl's lock on a kubeconfig, so that neither overwrites the other's change.
pub(crate) struct Lock(PathBuf);

impl Lock {
    /// Takes the lock, or says who may hold it.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("can't make the folder {}", folder.display()))?;
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        match OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Err(error::fail(format!(
                "{} is being changed by another program: try again, or remove {} if none runs",
                path.display(),
                lock.display()
            ))),
            Err(err) => Err(error::fail(format!(
                "can't write beside {}: {err}",
                path.display()
            ))),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nothing is lost when it stays: the next writer is told which file to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes `text` in one step. A new file is readable by its owner only; an old one keeps its permissions.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    // A link stays a link: what it points at is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed =
        |err: std::io::Error| error::fail(format!("can't write {}: {err}", path.display()));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o777))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("sublet-test-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_files_are_those_of_kubectl() {
        let home = || Some(PathBuf::from("/home/x"));
        assert_eq!(
            candidates(None, None, home()),
            [PathBuf::from("/home/x/.kube/config")]
        );
        assert_eq!(
            candidates(None, Some("".into()), home()),
            [PathBuf::from("/home/x/.kube/config")]
        );
        assert_eq!(
            candidates(None, Some("a::b".into()), home()),
            [PathBuf::from("a"), "b".into()]
        );
        assert_eq!(
            candidates(Some(Path::new("f")), Some("a".into()), home()),
            [PathBuf::from("f")]
        );
        assert!(candidates(None, None, None).is_empty());
    }

    #[test]
    fn a_context_goes_where_it_is_or_into_the_first_file() {
        let folder = Folder::new("target");
        let files = [folder.0.join("a"), folder.0.join("b"), folder.0.join("c")];
        assert_eq!(target(&files, |_| false), Some(&files[2]));
        fs::write(&files[1], "").unwrap();
        assert_eq!(target(&files, |_| false), Some(&files[1]));
        assert_eq!(target(&files, |path| path.ends_with("c")), Some(&files[2]));
    }

    #[test]
    fn files_are_private_links_stay_and_modes_are_kept() {
        let folder = Folder::new("write");
        let file = folder.0.join("config");
        write(&file, "a: 1\n").unwrap();
        assert_eq!(
            (mode(&file), read(&file).unwrap()),
            (0o600, serde_json::json!({"a": 1}))
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, "a: 2\n").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (mode(&file), read(&file).unwrap()),
            (0o640, serde_json::json!({"a": 2}))
        );
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
        assert!(read(&folder.0.join("none")).unwrap().is_null());
        assert!(write(&folder.0.join("no/such/folder"), "").is_err());
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_goes() {
        let folder = Folder::new("lock");
        let file = folder.0.join("sub/config");
        let lock = Lock::take(&file).unwrap();
        let err = Lock::take(&file).err().unwrap().to_string();
        assert!(err.contains("config.lock"), "{err}");
        drop(lock);
        assert!(Lock::take(&file).is_ok());
    }
}
