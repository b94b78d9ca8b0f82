//! Bills of materials: which crates a daemon is linked from, in CycloneDX's JSON.
//!
//! Each image holds its daemon's as `NAME.cdx.json` beside the program, where scanners of images look for one. It says
//! nothing of the time or the machine, so that the same sources give the same image.

use std::collections::{BTreeMap, BTreeSet};

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
        "depth",
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
///
/// What is below a crate is told where the crate is named first, whichever package that is below.
fn linked(tree: &str, package: &str) -> Result<BTreeSet<Crate>> {
    let mut below: BTreeMap<Crate, BTreeSet<Crate>> = BTreeMap::new();
    let mut path: Vec<Crate> = vec![];
    let mut open = vec![];
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, one) = parsed(line)?;
        path.truncate(depth);
        match path.last() {
            Some(parent) => drop(below.entry(parent.clone()).or_default().insert(one.clone())),
            None if one.name == package => open.push(one.clone()),
            None => {}
        }
        path.push(one);
    }
    if open.is_empty() {
        bail!("cargo tree tells nothing of {package}");
    }
    let mut found = BTreeSet::new();
    while let Some(one) = open.pop() {
        for next in below.get(&one).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    Ok(found)
}

/// `DEPTHNAME vVERSION (PATH)|LICENCE (*)`, of which the parentheses needn't be there.
fn parsed(line: &str) -> Result<(usize, Crate)> {
    let read = || {
        let (id, licence) = line.split_once('|')?;
        let name = id.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let depth = id[..id.len() - name.len()].parse().ok()?;
        let mut words = name.split_whitespace();
        let one = Crate {
            name: words.next()?.to_owned(),
            version: words.next()?.strip_prefix('v')?.to_owned(),
            licence: licence.trim().trim_end_matches("(*)").trim().to_owned(),
        };
        Some((depth, one))
    };
    read().with_context(|| format!("cargo tree says {line:?}"))
}

fn bill(package: &str, crates: &BTreeSet<Crate>) -> Value {
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

    const TREE: &str = "0manager v0.1.0 (/src/manager)|Apache-2.0\n\
        1api v0.1.0 (/src/api)|Apache-2.0\n\
        2libc v0.2.1|MIT/Apache-2.0\n\
        1rand v0.9.1|MIT\n\
        \n\
        0syncer v0.1.0 (/src/syncer)|Apache-2.0\n\
        1api v0.1.0 (/src/api)|Apache-2.0 (*)\n\
        1toml v1.1.0+spec-1.1.0|MIT OR Apache-2.0\n";

    #[test]
    fn a_bill_names_each_crate_of_its_own_program_once() {
        let bill = bill("syncer", &linked(TREE, "syncer").unwrap());
        let components = bill["components"].as_array().unwrap();
        let names: Vec<&str> = components
            .iter()
            .map(|one| one["purl"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "pkg:cargo/api@0.1.0",
                "pkg:cargo/libc@0.2.1",
                "pkg:cargo/toml@1.1.0%2Bspec-1.1.0"
            ]
        );
        assert_eq!(
            components[1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(bill["metadata"]["component"]["name"], "syncer");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(linked(TREE, "proxy").is_err());
        assert!(linked("0syncer\n", "syncer").is_err());
        assert!(linked("syncer v1|MIT\n", "syncer").is_err());
    }
}
