//! Container images without a registry: made by hand as OCI archives and imported into the nodes.
//!
//! Layers, archives and the containerd disk that holds them all are cached by content, so a warm start
//! imports nothing but what changed.

mod archive;
mod catalogue;
mod debian;
mod disk;
mod import;
mod own;
mod roots;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::progress::Step;
use crate::super_cluster::layout::Node;
use crate::test::Extent;

pub(crate) use disk::{lay_out as lay_out_disk, prepare as prepare_disk};
pub(crate) use own::{Profile, program as build_program};

/// The image of the process that holds a pod's namespaces; containerd is configured with it.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// An archive in the cache, and which manifest each image name stands for in it.
pub(crate) struct Bundle {
    /// The OCI archive.
    pub(crate) archive: PathBuf,
    /// Image name → digest of its manifest.
    pub(crate) images: BTreeMap<String, String>,
}

/// Makes all third-party images. Quick when nothing changed.
pub(crate) fn third_party() -> Result<Bundle> {
    catalogue::bundle()
}

/// Makes the images that long tests alone need.
pub(crate) fn of_long_tests() -> Result<Bundle> {
    catalogue::of_long_tests()
}

/// Makes the images of this repository's own binaries from their sources as they are now.
pub(crate) fn own() -> Result<Vec<Bundle>> {
    own::bundles(Profile::Release)
}

/// Makes everything that runs on a machine where nothing is: all images, and the path of the `sublet` command. Go's and
/// Rust's compilers work side by side, since each leaves a core idle at times.
pub(crate) fn all_and_cli() -> Result<PathBuf> {
    thread::scope(|scope| {
        let own = scope.spawn(own::bundles_and_cli);
        let third_party = third_party();
        let own = own
            .join()
            .unwrap_or_else(|_| Err(anyhow!("building the daemons panicked")));
        third_party?;
        own.map(|(_, cli)| cli)
    })
}

/// The images of the daemons that have been built already, as they were built last. Builds nothing.
pub(crate) fn own_as_built() -> Result<Vec<Bundle>> {
    own::bundles_as_built()
}

/// A program of ours, built as those in the images are.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    own::binary(name)
}

/// Brings the nodes' images up to date with `bundles`. Returns the names that were imported.
pub(crate) fn load(bundles: &[Bundle], nodes: &[Node]) -> Result<Vec<String>> {
    import::load(bundles, nodes)
}

/// `cargo xtask images --to FOLDER`: makes the daemons' images as they are published, and puts each into `folder` as an OCI
/// archive with a plain name.
pub(crate) fn hand_out(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for bundle in own::bundles(Profile::Dist)? {
        for name in bundle.images.keys() {
            let file = folder.join(format!("{}.tar", program(name)));
            fs::copy(&bundle.archive, &file)
                .with_context(|| format!("cannot write {}", file.display()))?;
            say!("{} is {name}", file.display());
        }
    }
    Ok(())
}

/// The last part of an image's name, without its tag.
fn program(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next().unwrap_or(last)
}

/// `cargo xtask images`: makes everything and loads it into the super cluster, if one is up; `extent` says whether those are
/// among it that long tests alone need.
pub(crate) fn make_and_load(nodes: &[Node], extent: Extent) -> Result<()> {
    let mut bundles = vec![third_party()?];
    if extent == Extent::All {
        bundles.push(of_long_tests()?);
    }
    bundles.extend(own()?);
    let count: usize = bundles.iter().map(|bundle| bundle.images.len()).sum();
    if nodes.is_empty() {
        say!("{count} image names are ready; `cargo xtask super up` loads them");
        return Ok(());
    }
    let step = Step::start(format!("loading images into {} nodes", nodes.len()));
    let imported = load(&bundles, nodes)?;
    step.done(&format!("{} of {count} names were new", imported.len()));
    for name in imported {
        say!("{name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_called_like_its_program() {
        assert_eq!(program("sublet.dev/sublet-syncer:0.1.0"), "sublet-syncer");
        assert_eq!(
            program("registry.example.com:5000/a/manager@sha256:00"),
            "manager"
        );
        assert_eq!(program("etcd"), "etcd");
    }
}
