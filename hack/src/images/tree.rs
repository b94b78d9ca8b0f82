//! A file tree that becomes an image layer, byte for byte the same each time: sorted, owned by root unless
//! said otherwise, time 0.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A layer's file and what an image says about it. Layers aren't compressed: importing is faster, and the
/// digest of the blob is also the digest of the content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The tar file.
    pub(crate) path: PathBuf,
    /// `sha256:…` of it.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size: u64,
}

/// Files, folders and links by path without leading slash.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<String, Item>);

struct Item {
    content: Content,
    mode: u32,
    owner: (u64, u64),
}

enum Content {
    Folder,
    Link(PathBuf),
    Bytes(Vec<u8>),
    Copy(PathBuf),
}

impl Tree {
    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        self.put(path, Content::Folder, mode)
    }

    /// Adds a symbolic link unless something is there.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        if self.0.contains_key(path) {
            return self;
        }
        self.put(path, Content::Link(target.into()), 0o777)
    }

    /// Adds a file with this content.
    pub(crate) fn text(&mut self, path: &str, content: impl Into<Vec<u8>>) -> &mut Self {
        self.put(path, Content::Bytes(content.into()), 0o644)
    }

    /// Adds a copy of a file.
    pub(crate) fn copy(&mut self, path: &str, from: impl Into<PathBuf>, mode: u32) -> &mut Self {
        self.put(path, Content::Copy(from.into()), mode)
    }

    /// Adds a whole folder of the machine except the paths that `skip` names.
    pub(crate) fn all_of(&mut self, root: &Path, skip: &dyn Fn(&str) -> bool) -> Result<&mut Self> {
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                if skip(&name) {
                    continue;
                }
                let about = fs::symlink_metadata(&path)?;
                let content = if about.is_dir() {
                    folders.push(path.clone());
                    Content::Folder
                } else if about.is_symlink() {
                    Content::Link(fs::read_link(&path)?)
                } else if about.is_file() {
                    Content::Copy(path.clone())
                } else {
                    continue;
                };
                let owner = (about.uid().into(), about.gid().into());
                self.0.insert(
                    name,
                    Item {
                        content,
                        mode: about.mode() & 0o7777,
                        owner,
                    },
                );
            }
        }
        Ok(self)
    }

    fn put(&mut self, path: &str, content: Content, mode: u32) -> &mut Self {
        let mut parent = Path::new(path);
        while let Some(folder) = parent
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let name = folder.to_string_lossy().into_owned();
            let made = Item {
                content: Content::Folder,
                mode: 0o755,
                owner: (0, 0),
            };
            self.0.entry(name).or_insert(made);
            parent = folder;
        }
        self.0.insert(
            path.to_owned(),
            Item {
                content,
                mode,
                owner: (0, 0),
            },
        );
        self
    }

    /// Writes the layer.
    pub(crate) fn write(&self, path: &Path) -> Result<Layer> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut builder = tar::Builder::new(Hashing {
            inner: BufWriter::new(file),
            state: Sha256::new(),
            size: 0,
        });
        for (name, item) in &self.0 {
            item.append(name, &mut builder)
                .with_context(|| format!("cannot add {name}"))?;
        }
        let mut written = builder.into_inner()?;
        written.flush()?;
        let digest = format!("sha256:{}", HEXLOWER.encode(&written.state.finalize()));
        Ok(Layer {
            path: path.to_owned(),
            digest,
            size: written.size,
        })
    }
}

impl Item {
    fn append(&self, name: &str, builder: &mut tar::Builder<impl Write>) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(0);
        header.set_size(0);
        match &self.content {
            Content::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, format!("{name}/"), io::empty())?;
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target)?;
            }
            Content::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, bytes.as_slice())?;
            }
            Content::Copy(from) => {
                let file =
                    File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
                header.set_size(file.metadata()?.len());
                builder.append_data(&mut header, name, file)?;
            }
        }
        Ok(())
    }
}

struct Hashing<W> {
    inner: W,
    state: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.state.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layer: &Layer) -> Vec<String> {
        let mut archive = tar::Archive::new(File::open(&layer.path).unwrap());
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn layers_are_sorted_complete_and_reproducible() {
        let folder = std::env::temp_dir().join(format!("sublet-tree-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut tree = Tree::default();
        tree.text("etc/passwd", "root")
            .link("bin/sh", "dash")
            .folder("tmp", 0o1777);
        let one = tree.write(&folder.join("one.tar")).unwrap();
        let other = tree.write(&folder.join("other.tar")).unwrap();
        assert_eq!(one.digest, other.digest);
        assert_eq!(one.size, fs::metadata(&one.path).unwrap().len());
        assert_eq!(
            names(&one),
            ["bin/", "bin/sh", "etc/", "etc/passwd", "tmp/"]
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_replaces_nothing() {
        let mut tree = Tree::default();
        tree.text("bin/busybox", "program")
            .link("bin/busybox", "busybox");
        assert!(matches!(tree.0["bin/busybox"].content, Content::Bytes(_)));
    }
}
