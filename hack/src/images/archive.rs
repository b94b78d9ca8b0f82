//! The OCI image layout: blobs named by digest, and an index that gives images their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tree::Layer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image: content, how it runs, and what it is called.
pub(crate) struct Image {
    /// Full references.
    pub(crate) names: Vec<String>,
    /// From the bottom up.
    pub(crate) layers: Vec<Layer>,
    /// How it runs.
    pub(crate) process: Process,
}

/// The process that a container of the image starts by default.
#[derive(Clone, Default)]
pub(crate) struct Process {
    /// Always run.
    pub(crate) entrypoint: Vec<String>,
    /// Default arguments.
    pub(crate) arguments: Vec<String>,
    /// Numeric `user:group`, or empty for root.
    pub(crate) user: String,
    /// Where it starts.
    pub(crate) folder: String,
}

/// A small blob.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn of(value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        Self {
            digest: format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&bytes))),
            bytes,
        }
    }
}

impl Image {
    fn config(&self) -> Blob {
        let digests: Vec<&str> = self
            .layers
            .iter()
            .map(|layer| layer.digest.as_str())
            .collect();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut run = json!({"Env": [path]});
        if !self.process.entrypoint.is_empty() {
            run["Entrypoint"] = json!(self.process.entrypoint);
        }
        if !self.process.arguments.is_empty() {
            run["Cmd"] = json!(self.process.arguments);
        }
        if !self.process.user.is_empty() {
            run["User"] = json!(self.process.user);
        }
        if !self.process.folder.is_empty() {
            run["WorkingDir"] = json!(self.process.folder);
        }
        Blob::of(&json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": digests},
        }))
    }

    fn manifest(&self, config: &Blob) -> Blob {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER, "digest": layer.digest, "size": layer.size}))
            .collect();
        Blob::of(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.bytes.len()},
            "layers": layers,
        }))
    }
}

/// Image name → digest of its manifest.
pub(crate) fn digests(images: &[Image]) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for image in images {
        let manifest = image.manifest(&image.config());
        for name in &image.names {
            digests.insert(name.clone(), manifest.digest.clone());
        }
    }
    digests
}

/// Writes all images into one archive; blobs that several share are in it once.
pub(crate) fn write(path: &Path, images: &[Image]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive {
        tar: tar::Builder::new(BufWriter::new(file)),
        seen: BTreeSet::new(),
    };
    archive.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut entries = Vec::new();
    for image in images {
        let config = image.config();
        let manifest = image.manifest(&config);
        for layer in &image.layers {
            archive.layer(layer)?;
        }
        archive.blob(&config)?;
        archive.blob(&manifest)?;
        for name in &image.names {
            entries.push(json!({
                "mediaType": MANIFEST,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "annotations": {"io.containerd.image.name": name},
            }));
        }
    }
    let index = json!({"schemaVersion": 2, "manifests": entries});
    archive.small("index.json", index.to_string().as_bytes())?;
    archive
        .tar
        .into_inner()?
        .into_inner()
        .context("cannot finish the archive")?;
    Ok(())
}

struct Archive {
    tar: tar::Builder<BufWriter<File>>,
    seen: BTreeSet<String>,
}

impl Archive {
    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = header(bytes.len() as u64);
        Ok(self.tar.append_data(&mut header, name, bytes)?)
    }

    fn blob(&mut self, blob: &Blob) -> Result<()> {
        if !self.seen.insert(blob.digest.clone()) {
            return Ok(());
        }
        self.small(&blob_name(&blob.digest), &blob.bytes)
    }

    fn layer(&mut self, layer: &Layer) -> Result<()> {
        if !self.seen.insert(layer.digest.clone()) {
            return Ok(());
        }
        let file = File::open(&layer.path)
            .with_context(|| format!("cannot read {}", layer.path.display()))?;
        Ok(self
            .tar
            .append_data(&mut header(layer.size), blob_name(&layer.digest), file)?)
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;
    use std::io::Read;

    #[test]
    fn shared_layers_are_written_once_and_names_lead_to_manifests() {
        let folder = std::env::temp_dir().join(format!("sublet-archive-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut tree = Tree::default();
        tree.text("x", "content");
        let layer = tree.write(&folder.join("layer.tar")).unwrap();
        let image = |name: &str, argument: &str| Image {
            names: vec![name.to_owned()],
            layers: vec![layer.clone()],
            process: Process {
                arguments: vec![argument.to_owned()],
                ..Process::default()
            },
        };
        let images = [
            image("a.example/one:1", "one"),
            image("a.example/two:1", "two"),
        ];
        let path = folder.join("archive.tar");
        write(&path, &images).unwrap();

        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            assert!(
                files.insert(name, text).is_none(),
                "a file is in the archive twice"
            );
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let named = digests(&images);
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        for entry in index["manifests"].as_array().unwrap() {
            let name = entry["annotations"]["io.containerd.image.name"]
                .as_str()
                .unwrap();
            assert_eq!(entry["digest"], named[name]);
            assert!(files.contains_key(&blob_name(&named[name])));
        }
        // One layer, two configs, two manifests, the index and the layout file.
        assert_eq!(files.len(), 7);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
