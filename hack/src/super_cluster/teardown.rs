//! Removes a super cluster completely, from whatever state it is in.
//!
//! It goes by what it finds (our cgroups, namespaces, sockets' folder, names), so it needs no record and
//! works after a crash, after a reboot and half-way through a start. Running it twice is harmless.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use super::process::{self, Identity};
use super::{cgroups, layout, machine, network};
use crate::paths;

/// Removes everything and fails if anything is left.
pub(crate) fn remove_all() -> Result<()> {
    end_processes()?;
    unmount_all()?;
    network::remove()?;
    cgroups::remove()?;
    machine::remove_mount_points();
    if paths::state().exists() {
        fs::remove_dir_all(paths::state())
            .with_context(|| format!("cannot remove {}", paths::state().display()))?;
    }
    let _ = fs::remove_file(paths::kubeconfig());
    let left = leftovers()?;
    if !left.is_empty() {
        bail!(
            "the super cluster is down, but these are left:\n  {}",
            left.join("\n  ")
        );
    }
    Ok(())
}

/// Everything of a super cluster that is on the machine, in words.
pub(crate) fn leftovers() -> Result<Vec<String>> {
    let mut found = Vec::new();
    found.extend(
        processes()?
            .iter()
            .map(|one| format!("process {} ({})", one.pid, command_line(one.pid))),
    );
    found.extend(
        mounts()?
            .iter()
            .map(|place| format!("mount {}", place.display())),
    );
    found.extend(
        network::namespaces()
            .iter()
            .map(|name| format!("network namespace {name}")),
    );
    if network::has_cable() {
        found.push(format!("network device {}", layout::CABLE));
    }
    found.extend(
        cgroups::tops()?
            .iter()
            .map(|top| format!("cgroup {}", top.display())),
    );
    if paths::state().exists() {
        found.push(format!("folder {}", paths::state().display()));
    }
    Ok(found)
}

/// Ends all processes by force: nothing of what they hold is kept.
fn end_processes() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // Again and again, since one that is about to end may have started another.
        let alive = processes()?;
        if alive.is_empty() {
            return Ok(());
        }
        for one in &alive {
            one.signal(Signal::KILL);
        }
        cgroups::thaw()?;
        if Instant::now() > deadline {
            let list: Vec<String> = alive
                .iter()
                .map(|one| format!("{} ({})", one.pid, command_line(one.pid)))
                .collect();
            bail!("these processes do not end: {}", list.join(", "));
        }
        sleep(Duration::from_millis(50));
    }
}

/// Our processes, by three marks of which each alone would do on a good day: a pid file, our cgroups, and
/// our network namespaces.
fn processes() -> Result<Vec<Identity>> {
    let mut pids: BTreeSet<i32> = cgroups::processes()?;
    let recorded = process::all_recorded();
    pids.extend(
        recorded
            .iter()
            .filter(|(_, one)| one.is_alive())
            .map(|(_, one)| one.pid),
    );
    let inodes = network::namespace_inodes();
    if !inodes.is_empty() {
        pids.extend(all_pids().filter(|pid| lives_in(*pid, &inodes)));
    }
    pids.remove(&std::process::id().cast_signed());
    Ok(pids.into_iter().filter_map(Identity::of).collect())
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

fn lives_in(pid: i32, inodes: &[u64]) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
    inode_of(&link).is_some_and(|inode| inodes.contains(&inode))
}

/// The number in a link like `net:[4026531840]`.
fn inode_of(link: &Path) -> Option<u64> {
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn command_line(pid: i32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&text).replace('\0', " ");
    line.chars().take(80).collect::<String>().trim().to_owned()
}

/// Unmounts what is mounted below our folders in this mount namespace. Normally nothing is.
fn unmount_all() -> Result<()> {
    for place in mounts()? {
        unmount(&place, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", place.display()))?;
    }
    Ok(())
}

fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    Ok(mounts_below(&text, paths::state()))
}

/// Mount points at or below `folder`, the innermost first.
fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let places = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut found: Vec<PathBuf> = places.filter(|place| place.starts_with(folder)).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_mounts_innermost_first() {
        let text = "1 0 8:1 / / rw - ext4 x rw\n\
                    2 1 0:5 / /var/lib/sublet-dev/a rw - tmpfs x rw\n\
                    3 2 0:6 / /var/lib/sublet-dev/a/b rw - tmpfs x rw\n\
                    4 1 0:7 / /var/lib/sublet-device rw - tmpfs x rw\n";
        let found = mounts_below(text, Path::new("/var/lib/sublet-dev"));
        assert_eq!(
            found,
            [
                Path::new("/var/lib/sublet-dev/a/b"),
                Path::new("/var/lib/sublet-dev/a")
            ]
        );
    }

    #[test]
    fn namespace_links_are_read() {
        assert_eq!(inode_of(Path::new("net:[42]")), Some(42));
        assert_eq!(inode_of(Path::new("mnt:[42]")), None);
    }
}
