//! Brings images into the containerds of running nodes.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Result, anyhow};

use super::Bundle;
use crate::run;
use crate::super_cluster::layout::{Node, text};

/// Imports the bundles that a node doesn't have as they are now. Nodes work side by side.
pub(crate) fn load(bundles: &[Bundle], nodes: &[Node]) -> Result<Vec<String>> {
    let results: Vec<Result<Vec<String>>> = thread::scope(|scope| {
        let workers: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| load_into(&text(node.socket()), bundles)))
            .collect();
        let ended = workers.into_iter().map(|worker| worker.join());
        ended
            .map(|end| end.unwrap_or_else(|_| Err(anyhow!("an import panicked"))))
            .collect()
    });
    let mut imported = Vec::new();
    for result in results {
        imported.extend(result?);
    }
    imported.sort();
    imported.dedup();
    Ok(imported)
}

/// Imports into the containerd behind `socket` what it lacks.
pub(crate) fn load_into(socket: &str, bundles: &[Bundle]) -> Result<Vec<String>> {
    let present = present(&run::output(&mut ctr(socket, &["images", "ls"]))?);
    let mut imported = Vec::new();
    for bundle in bundles {
        let stale: Vec<&String> = bundle
            .images
            .iter()
            .filter(|(name, digest)| present.get(*name) != Some(*digest))
            .map(|(name, _)| name)
            .collect();
        if stale.is_empty() {
            continue;
        }
        imported.extend(stale.into_iter().cloned());
        run::output(&mut ctr(
            socket,
            &["images", "import", &text(&bundle.archive)],
        ))?;
    }
    Ok(imported)
}

fn ctr(socket: &str, args: &[&str]) -> std::process::Command {
    let mut command = run::command("ctr", ["--address", socket, "--namespace", "k8s.io"]);
    command.args(args);
    command
}

/// Image name → digest, from the table that `ctr images ls` prints.
fn present(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, _kind, digest) = (words.next()?, words.next()?, words.next()?);
        digest
            .starts_with("sha256:")
            .then(|| (name.to_owned(), digest.to_owned()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                     a.example/b:1 application/vnd.oci.image.manifest.v1+json sha256:12 1 MiB linux/amd64 -\n\
                     broken\n";
        assert_eq!(
            present(table),
            BTreeMap::from([("a.example/b:1".into(), "sha256:12".into())])
        );
    }
}
