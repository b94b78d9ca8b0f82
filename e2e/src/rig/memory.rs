//! A limit on memory, by a cgroup: whoever takes more is killed.

use anyhow::{Context, ensure};
use rustix::process::Pid;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A group of processes; it is removed with its handle, when they have ended.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Memory {
    /// A group whose processes have so many bytes together.
    ///
    /// # Errors
    /// The machine has no cgroups for memory, or this process may not make one.
    pub fn limited(bytes: u64) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (root, version) = hierarchy()?;
        if version == Version::V2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("sublet-e2e-{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let group = Self { folder, version };
        let limit = match version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        fs::write(group.folder.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// A process joins by writing its ID into this file.
    pub fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// How many processes were killed since they took too much.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub fn kills(&self) -> anyhow::Result<u64> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.folder.join(file))?;
        number_after(&text, "oom_kill ").context("no count of kills")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Bytes of a process's own memory, without what it shares with files.
///
/// # Errors
/// There is no such process.
pub fn taken(pid: Pid) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let kib = number_after(&status, "RssAnon:").context("no RssAnon")?;
    Ok(kib * 1024)
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Where the hierarchy is mounted that counts memory.
fn hierarchy() -> anyhow::Result<(PathBuf, Version)> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let rows = || {
        mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
    };
    let v1 = rows().find(|row| row[2] == "cgroup" && row[3].split(',').any(|it| it == "memory"));
    if let Some(row) = v1 {
        return Ok((row[1].into(), Version::V1));
    }
    let v2 = rows().find(|row| row[2] == "cgroup2");
    let root = Path::new(v2.context("no cgroups are mounted")?[1]).to_owned();
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    ensure!(
        controllers.split_whitespace().any(|it| it == "memory"),
        "no cgroup counts memory"
    );
    Ok((root, Version::V2))
}
