//! Bills of materials: which crates a daemon is linked from, in CycloneDX's JSON.
//!
//! Each image holds its daemon's as `NAME.cdx.json` beside the program, where scanners of images look for one. It says
//! nothing of the time or the machine, so that the same sources give the same image.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{cargo, run};

/// A crate that a program is linked from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// The bills of packages that are built together, in their order; which features crates have depends on all of them.
///
/// # Errors
/// Cargo.lock is stale, or cargo's words can't be read.
pub(crate) fn of(packages: &[&str], target: &str) -> Result<Vec<Value>> {
    let mut tree = cargo::command(&[
        "tree",
        "--locked",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
        "--target",
        target,
    ]);
    for package in packages {
        tree.args(["--package", package]);
    }
    let said = run::output(&mut tree)?;
    packages
        .iter()
        .map(|package| {
            let crates = linked(&said, package)?;
            Ok(bill(package, &crates))
        })
        .collect()
}

/// The crates below a package in what `cargo tree` says, each once, without the package itself.
fn linked(tree: &str, package: &str) -> Result<Vec<Crate>> {
    for block in tree.split("\n\n") {
        let crates = block.trim().lines().map(parsed);
        let crates = crates.collect::<Result<Vec<_>>>()?;
        let Some((root, rest)) = crates.split_first() else {
            continue;
        };
        if root.name == package {
            let mut rest = rest.to_vec();
            rest.sort();
            rest.dedup();
            return Ok(rest);
        }
    }
    bail!("cargo tree tells nothing of {package}")
}

/// `NAME vVERSION (PATH)|LICENCE (*)`, of which the parentheses needn't be there.
fn parsed(line: &str) -> Result<Crate> {
    let read = || {
        let (id, licence) = line.split_once('|')?;
        let mut words = id.split_whitespace();
        Some(Crate {
            name: words.next()?.to_owned(),
            version: words.next()?.strip_prefix('v')?.to_owned(),
            licence: licence.trim().trim_end_matches("(*)").trim().to_owned(),
        })
    };
    read().with_context(|| format!("cargo tree says {line:?}"))
}

fn bill(package: &str, crates: &[Crate]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let components: Value = crates.iter().map(component).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "bom-ref": purl(package, version),
            "name": package,
            "version": version,
        }},
        "components": components,
    })
}

fn component(one: &Crate) -> Value {
    let purl = purl(&one.name, &one.version);
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": one.name,
        "version": one.version,
        "purl": purl,
        // Old crates write a slash for OR.
        "licenses": [{"expression": one.licence.replace('/', " OR ").replace("  ", " ")}],
    })
}

/// Name of a crate in a bill. What follows a plus sign is part of the version, and is written in URLs' own way.
fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "manager v0.1.0 (/src/manager)|Apache-2.0\n\
        api v0.1.0 (/src/api)|Apache-2.0\n\
        libc v0.2.1|MIT/Apache-2.0\n\
        \n\
        syncer v0.1.0 (/src/syncer)|Apache-2.0\n\
        toml v1.1.0+spec-1.1.0|MIT OR Apache-2.0\n\
        libc v0.2.1|MIT/Apache-2.0\n\
        libc v0.2.1|MIT/Apache-2.0 (*)\n";

    #[test]
    fn a_bill_names_each_crate_of_its_own_program_once() {
        let crates = linked(TREE, "syncer").unwrap();
        let bill = bill("syncer", &crates);
        let names: Vec<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["purl"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["pkg:cargo/libc@0.2.1", "pkg:cargo/toml@1.1.0%2Bspec-1.1.0"]
        );
        assert_eq!(
            bill["components"][0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(bill["metadata"]["component"]["name"], "syncer");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(linked(TREE, "proxy").is_err());
        assert!(linked("syncer\n", "syncer").is_err());
    }
}
