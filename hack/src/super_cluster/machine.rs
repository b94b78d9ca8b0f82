//! A node's machine: mount, network and host-name namespaces, kept by one sleeping process.
//!
//! In its mount namespace a node has its own `/var/lib/kubelet`, `/run/containerd` and so on, so each part
//! runs with its stock paths and none of its mounts is seen outside. When the node's processes end, the
//! mounts end with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::layout::{self, NODE_MOUNTS, Node};
use super::network;
use super::process::{self, Identity, Program};
use crate::{paths, run};

/// Starts the node's sleeping process and returns it when the namespaces are ready.
pub(crate) fn start(node: Node) -> Result<Identity> {
    let folder = node.folder();
    let mut script = String::from("set -e; mount --make-rshared /; ");
    script += &format!("hostname {}; ", node.name());
    for (own, place) in NODE_MOUNTS {
        let own = folder.join(own);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        script += &format!("mount --bind {} {place}; ", own.display());
    }
    // etcd's data: gone with the namespace, and never waits for a disk.
    let etcd = folder.join("etcd");
    fs::create_dir_all(&etcd)?;
    script += &format!(
        "mount -t tmpfs -o size=4g,mode=0700 sublet-etcd {}; ",
        etcd.display()
    );
    let ready = folder.join("ready");
    script += &format!("touch {}; exec sleep infinity", ready.display());
    let namespace = format!("--net={}", network::namespace_file(node).display());
    let words = [
        "nsenter",
        &namespace,
        "unshare",
        "--mount",
        "--uts",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
    ];
    let name = process_name(node);
    let program = Program {
        name: name.clone(),
        command: words.map(str::to_owned).to_vec(),
        home: None,
    };
    let holder = program.start()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready.exists() {
        if !holder.is_alive() || Instant::now() > deadline {
            let said = fs::read_to_string(layout::log(&name)).unwrap_or_default();
            bail!(
                "cannot make {}'s namespaces: {}",
                node.name(),
                run::tail(&said, 5)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(holder)
}

/// The name under which the sleeping process is recorded.
pub(crate) fn process_name(node: Node) -> String {
    format!("{}-machine", node.name())
}

/// The node's sleeping process, if the machine is up.
pub(crate) fn running(node: Node) -> Option<Identity> {
    process::running(&process_name(node))
}

/// Makes the folders of the host on which nodes mount their own. Which are new is written down first.
pub(crate) fn make_mount_points() -> Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    for (_, place) in NODE_MOUNTS {
        let absent = Path::new(place)
            .ancestors()
            .take_while(|folder| !folder.exists());
        missing.extend(absent.collect::<Vec<_>>().into_iter().rev());
    }
    let lines: String = missing
        .iter()
        .map(|folder| format!("{}\n", folder.display()))
        .collect();
    let note = note();
    fs::write(&note, lines).with_context(|| format!("cannot write {}", note.display()))?;
    for folder in missing {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Removes the folders that [`make_mount_points`] made, as far as they are empty.
pub(crate) fn remove_mount_points() {
    let made = fs::read_to_string(note()).unwrap_or_default();
    // `ip netns` mounts its folder on itself and leaves that behind.
    let namespaces = "/run/netns";
    if fs::read_dir(namespaces).is_ok_and(|mut entries| entries.next().is_none()) {
        let _ = unmount(namespaces, UnmountFlags::DETACH);
        let _ = fs::remove_dir(namespaces);
    }
    for folder in made.lines().rev() {
        // Fails where something was put in the meantime, and then it stays.
        let _ = fs::remove_dir(folder);
    }
}

/// The list of folders that were made to mount on.
fn note() -> PathBuf {
    paths::state().join("made-folders")
}
