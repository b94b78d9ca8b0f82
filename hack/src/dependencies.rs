//! Holds every crate of Cargo.lock to `deny.toml`: its licence, and where it comes from.
//!
//! `cargo deny check` reads the same file and does more. It is a program of its own, which a fresh machine lacks, so what
//! can be told from cargo's own words is told here; known holes are asked of it where it is installed, and said to be
//! unchecked elsewhere.

mod licence;

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

use crate::{cargo, paths, run};

/// What cargo-deny says when the database of known holes can't be reached.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// What `deny.toml` says of licences and sources.
#[derive(Debug)]
struct Rules {
    licences: Vec<String>,
    registries: Vec<String>,
}

/// Fails with all that `deny.toml` doesn't allow.
pub(crate) fn check() -> Result<()> {
    let file = paths::repository().join("deny.toml");
    let text = fs::read_to_string(&file).context("cannot read deny.toml")?;
    let rules = Rules::parse(&text)?;
    let mut metadata = cargo::command(&["metadata", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&run::output(&mut metadata)?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo names no packages")?;
    let wrong: Vec<String> = packages.iter().flat_map(|one| rules.judge(one)).collect();
    if !wrong.is_empty() {
        bail!("deny.toml doesn't allow:\n{}", wrong.join("\n"));
    }
    say!(
        "{} crates are of allowed licences and sources",
        packages.len()
    );
    known_holes()
}

/// Asks cargo-deny for known holes and yanked versions, if it is there and its database can be reached.
fn known_holes() -> Result<()> {
    let Some(program) = run::find("cargo-deny") else {
        say!("known holes: unchecked, since cargo-deny isn't installed");
        return Ok(());
    };
    let mut command = run::command(program, ["check", "advisories"]);
    match run::output(command.current_dir(paths::repository())) {
        Ok(_) => say!("known holes: none"),
        Err(error) if format!("{error:#}").contains(NO_DATABASE) => {
            say!("known holes: unchecked, since their database can't be reached");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let document: DocumentMut = text.parse().context("deny.toml is no TOML")?;
        let list = |table: &str, name: &str| -> Result<Vec<String>> {
            let list = document.get(table).and_then(|table| table.get(name));
            let list = list
                .and_then(Item::as_array)
                .with_context(|| format!("deny.toml has no list {table}.{name}"))?;
            let texts = list.iter().filter_map(|one| one.as_str());
            Ok(texts.map(str::to_owned).collect())
        };
        Ok(Self {
            licences: list("licenses", "allow")?,
            registries: list("sources", "allow-registry")?,
        })
    }

    /// What is wrong with a package, as `cargo metadata` tells of it.
    fn judge(&self, package: &Value) -> Vec<String> {
        let said = |field: &str| package[field].as_str().unwrap_or_default();
        let who = format!("  {} {}", said("name"), said("version"));
        let mut wrong = vec![];
        let is_allowed = |name: &str| self.licences.iter().any(|one| one == name);
        match licence::is_satisfied(said("license"), &is_allowed) {
            Some(true) => {}
            Some(false) => wrong.push(format!("{who}: the licence {}", said("license"))),
            None => wrong.push(format!(
                "{who}: no licence that can be read: {:?}",
                said("license")
            )),
        }
        // The workspace's own have none.
        if let Some(source) = package["source"].as_str() {
            let registry = source.strip_prefix("registry+");
            if !registry.is_some_and(|one| self.registries.iter().any(|known| known == one)) {
                wrong.push(format!("{who}: from {source}"));
            }
        }
        // What a crate of a registry asks for is that registry's business.
        let own = package["source"]
            .is_null()
            .then_some(&package["dependencies"]);
        for dependency in own.and_then(Value::as_array).into_iter().flatten() {
            if dependency["req"] == "*" && dependency["path"].is_null() {
                wrong.push(format!("{who}: any version of {}", dependency["name"]));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn rules() -> Rules {
        let file = paths::repository().join("deny.toml");
        Rules::parse(&fs::read_to_string(file).unwrap()).unwrap()
    }

    fn package(licence: &str, source: Value) -> Value {
        json!({"name": "a", "version": "1.0.0", "license": licence, "source": source, "dependencies": []})
    }

    #[test]
    fn licences_and_sources_that_are_listed_are_allowed_and_no_others() {
        let judge = |licence: &str, source: Value| rules().judge(&package(licence, source));
        assert_eq!(
            judge("MIT OR Apache-2.0", CRATES_IO.into()),
            Vec::<String>::new()
        );
        assert_eq!(judge("Apache-2.0", Value::Null), Vec::<String>::new());
        assert_eq!(
            judge("AGPL-3.0", CRATES_IO.into()),
            ["  a 1.0.0: the licence AGPL-3.0"]
        );
        assert_eq!(judge("", CRATES_IO.into()).len(), 1);
        let git = "git+https://example.com/a#1";
        assert_eq!(judge("MIT", git.into()), [format!("  a 1.0.0: from {git}")]);
        assert_eq!(
            judge("MIT", "registry+https://example.com/index".into()).len(),
            1
        );
    }

    #[test]
    fn own_crates_say_which_version_they_want() {
        let mut own = package("Apache-2.0", Value::Null);
        own["dependencies"] =
            json!([{"name": "api", "req": "*", "path": "/api"}, {"name": "b", "req": "*"}]);
        assert_eq!(rules().judge(&own), [r#"  a 1.0.0: any version of "b""#]);
    }

    #[test]
    fn a_file_without_lists_allows_nothing() {
        assert!(Rules::parse("[licenses]").is_err());
        assert!(Rules::parse("no toml").is_err());
    }
}
