//! The super cluster's cgroups: one top folder in every hierarchy, whatever versions the machine mounts.
//!
//! They serve twice: each kubelet needs a root of its own, and they are a complete list of what runs,
//! so `super down` finds processes whose pid files are lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::layout::{CGROUP, Node};

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its version and, for version 1, its controllers.
    pub(crate) kind: Kind,
}

/// What sort of hierarchy it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Version 1 with these controllers, or with a `name=…` only.
    V1(Vec<String>),
    /// Version 2. On a hybrid machine it has no controllers.
    V2,
}

/// The hierarchies in the text of /proc/self/mountinfo.
pub(crate) fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut tail = after.split(' ');
        let (file_system, options) = (tail.next(), tail.nth(1).unwrap_or_default());
        let Some(mount) = before.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let kind = match file_system {
            Some("cgroup2") => Kind::V2,
            Some("cgroup") => Kind::V1(controllers(options)),
            _ => continue,
        };
        // A hierarchy may be mounted in several places; the first is enough.
        if !found.iter().any(|known| known.kind == kind) {
            found.push(Hierarchy { mount, kind });
        }
    }
    found
}

fn controllers(options: &str) -> Vec<String> {
    let plain = ["rw", "ro", "xattr", "clone_children"];
    options
        .split(',')
        .filter(|option| !plain.contains(option) && !option.starts_with("release_agent"))
        .map(str::to_owned)
        .collect()
}

/// The machine's hierarchies.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    Ok(parse(&text))
}

/// Makes the folders for the control plane and each node.
pub(crate) fn make(nodes: &[Node]) -> Result<()> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.mount.join(CGROUP);
        let mut folders = vec![top.clone(), top.join("system")];
        folders.extend(nodes.iter().map(|node| top.join(node.name())));
        for folder in &folders {
            make_one(&hierarchy, folder)
                .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
        }
    }
    Ok(())
}

fn make_one(hierarchy: &Hierarchy, folder: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(&hierarchy.mount);
    if hierarchy.kind == Kind::V2 {
        let offered = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        for controller in offered.split_whitespace() {
            // Some refuse (realtime threads hold cpu); the kubelet says which one it misses.
            let _ = fs::write(
                parent.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
    fs::create_dir_all(folder)?;
    if matches!(&hierarchy.kind, Kind::V1(controllers) if controllers.iter().any(|c| c == "cpuset"))
    {
        // A new cpuset is empty and takes no process until it has both.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value = fs::read_to_string(parent.join(file))?;
            fs::write(folder.join(file), value)?;
        }
    }
    Ok(())
}

/// The `cgroup.procs` files a process writes its pid into to join the super cluster's own cgroup.
pub(crate) fn join_files() -> Result<Vec<PathBuf>> {
    let files = hierarchies()?
        .into_iter()
        .map(|it| it.mount.join(CGROUP).join("system/cgroup.procs"));
    Ok(files.filter(|file| file.exists()).collect())
}

/// Every process in any of our cgroups.
pub(crate) fn processes() -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for top in tops()? {
        for folder in deepest_first(&top) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    found.remove(&0);
    Ok(found)
}

/// Removes our cgroups. The kernel needs a moment after the last process of one has gone.
pub(crate) fn remove() -> Result<()> {
    for round in 0..50 {
        let tops = tops()?;
        if tops.is_empty() {
            return Ok(());
        }
        if round > 0 {
            sleep(Duration::from_millis(100));
        }
        for top in tops {
            for folder in deepest_first(&top) {
                let _ = fs::remove_dir(folder);
            }
        }
    }
    Ok(())
}

/// Our top folders that exist.
pub(crate) fn tops() -> Result<Vec<PathBuf>> {
    let tops = hierarchies()?
        .into_iter()
        .map(|hierarchy| hierarchy.mount.join(CGROUP));
    Ok(tops.filter(|top| top.is_dir()).collect())
}

/// Lets everything in the cluster's cgroups go on that a container runtime froze and didn't live to thaw: what is frozen
/// doesn't end, not even by force.
pub(crate) fn thaw() -> Result<()> {
    for top in tops()? {
        for folder in deepest_first(&top) {
            for (file, frozen, thawed) in [
                ("freezer.state", "FROZEN", "THAWED"),
                ("cgroup.freeze", "1", "0"),
            ] {
                let file = folder.join(file);
                if fs::read_to_string(&file).is_ok_and(|state| state.trim() == frozen) {
                    // One that has gone meanwhile needs nothing.
                    let _ = fs::write(file, thawed);
                }
            }
        }
    }
    Ok(())
}

fn deepest_first(top: &Path) -> Vec<PathBuf> {
    let mut folders = vec![top.to_owned()];
    let mut next = 0;
    while next < folders.len() {
        let children = fs::read_dir(&folders[next]).into_iter().flatten().flatten();
        let children: Vec<PathBuf> = children
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        folders.extend(children);
        next += 1;
    }
    folders.reverse();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
29 25 0:23 / /somewhere/else rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn finds_both_versions_once() {
        let found = parse(HYBRID);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0].kind,
            Kind::V1(vec!["cpu".into(), "cpuacct".into()])
        );
        assert_eq!(found[1].kind, Kind::V1(vec!["name=systemd".into()]));
        assert_eq!(
            found[2],
            Hierarchy {
                mount: "/sys/fs/cgroup/unified".into(),
                kind: Kind::V2
            }
        );
    }

    #[test]
    fn unified_machine_has_one() {
        let found = parse("25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(
            found,
            [Hierarchy {
                mount: "/sys/fs/cgroup".into(),
                kind: Kind::V2
            }]
        );
    }
}
