//! A containerd disk with all third-party images on it, made once and laid out for each node in a moment.
//!
//! Importing half a gigabyte into two nodes takes longer than all the rest of a start. So it is done once,
//! by a containerd that runs for nothing else; its root folder goes to the cache, and a node gets hard
//! links to it. Containers never write to those files: an overlay copies what they change. Only the
//! databases are really copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Bundle, import};
use crate::cache::{self, Key};
use crate::progress::Step;
use crate::run;
use crate::super_cluster::layout::{Node, text};
use crate::super_cluster::process::Identity;

/// Makes the disk for `bundle` unless the cache has it.
pub(crate) fn prepare(bundle: &Bundle) -> Result<()> {
    prepared(bundle).map(drop)
}

/// Puts a disk with the images of `bundle` where the node's containerd expects its root folder.
pub(crate) fn lay_out(bundle: &Bundle, node: Node) -> Result<()> {
    let prepared = prepared(bundle)?;
    let place = node.folder().join("containerd");
    fs::create_dir_all(&place)?;
    let from = prepared.join("root/.");
    // Links need the cache and the state folder on one file system; a copy does it elsewhere.
    let linked = run::output(run::bound("cp", ["-al"]).arg(&from).arg(&place));
    if linked.is_err() {
        run::output(
            run::bound("cp", ["-a", "--reflink=auto", "--remove-destination"])
                .arg(&from)
                .arg(&place),
        )?;
    }
    for database in databases(&prepared.join("root"))? {
        let own = place.join(database.strip_prefix(prepared.join("root"))?);
        fs::remove_file(&own)?;
        fs::copy(&database, &own).with_context(|| format!("cannot copy {}", database.display()))?;
    }
    Ok(())
}

fn prepared(bundle: &Bundle) -> Result<PathBuf> {
    let mut key = Key::new("disk 1");
    key.add(run::output(&mut run::command("containerd", ["--version"]))?);
    key.add(
        bundle
            .archive
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .as_encoded_bytes(),
    );
    if cache::holds("disks", "containerd", &key)? {
        return cache::entry("disks", "containerd", &key, |_| Ok(()));
    }
    let step = Step::start("preparing the nodes' image disk");
    let entry = cache::entry("disks", "containerd", &key, |folder| fill(folder, bundle))?;
    step.done("");
    Ok(entry)
}

fn fill(folder: &Path, bundle: &Bundle) -> Result<()> {
    // A socket's path must be short, which the cache's may not be.
    let work = std::env::temp_dir().join(format!("sublet-disk-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let socket = work.join("containerd.sock");
    let config = work.join("config.toml");
    let off = [
        "grpc.v1.cri",
        "internal.v1.opt",
        "snapshotter.v1.aufs",
        "snapshotter.v1.btrfs",
        "snapshotter.v1.devmapper",
        "snapshotter.v1.zfs",
    ]
    .map(|plugin| format!("\"io.containerd.{plugin}\""))
    .join(", ");
    let lines = [
        "version = 2".to_owned(),
        format!("root = \"{}\"", text(folder.join("root"))),
        format!("state = \"{}\"", text(work.join("state"))),
        format!("disabled_plugins = [{off}]"),
        format!("[grpc]\naddress = \"{}\"", text(&socket)),
        format!("[ttrpc]\naddress = \"{}\"", text(work.join("ttrpc.sock"))),
    ];
    fs::write(&config, lines.join("\n"))?;
    let log = fs::File::create(work.join("log"))?;
    let mut containerd = run::bound("containerd", ["--config", &text(&config)]);
    let mut child = containerd
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start containerd")?;
    let imported = wait_for(&socket, &mut child, &work)
        .and_then(|()| import::load_into(&text(&socket), std::slice::from_ref(bundle)));
    if let Some(identity) = Identity::of(child.id().cast_signed()) {
        identity.end(Duration::from_secs(10))?;
    }
    child.wait()?;
    let _ = fs::remove_dir_all(&work);
    imported.map(drop)
}

fn wait_for(socket: &Path, child: &mut Child, work: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(work.join("log")).unwrap_or_default();
            bail!("containerd does not start:\n{}", run::tail(&said, 10));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The files below `root` that containerd writes in place.
fn databases(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for plugin in fs::read_dir(root)? {
        let plugin = plugin?.path();
        if !plugin.is_dir() {
            continue;
        }
        for file in fs::read_dir(plugin)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "db") {
                found.push(file);
            }
        }
    }
    Ok(found)
}
