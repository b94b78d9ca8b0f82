//! File budgets: how long source files may be, so that each holds one idea.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

const MEDIAN: usize = 150;
const NINE_OF_TEN: usize = 400;
const LONGEST: usize = 600;

/// Fails with a list if the workspace's files are longer than the budgets. Says how long they are.
pub(crate) fn check() -> Result<String> {
    let root = paths::repository();
    let mut sizes = Vec::new();
    for member in members()? {
        for file in source_files(&root.join(&member))? {
            let text = fs::read_to_string(&file)?;
            let name = file
                .strip_prefix(root)
                .unwrap_or(&file)
                .display()
                .to_string();
            sizes.push((lines(&text), name));
        }
    }
    sizes.sort();
    judge(&sizes)
}

/// Judges (lines, name) pairs that are sorted.
fn judge(sizes: &[(usize, String)]) -> Result<String> {
    if sizes.is_empty() {
        bail!("no source files found");
    }
    let at = |share: usize| sizes[(sizes.len() - 1) * share / 100].0;
    let (median, nine_of_ten, longest) = (at(50), at(90), at(100));
    let found = format!(
        "{} files, median {median}, nine of ten up to {nine_of_ten}, longest {longest}",
        sizes.len()
    );
    if median <= MEDIAN && nine_of_ten <= NINE_OF_TEN && longest <= LONGEST {
        return Ok(found);
    }
    let worst: Vec<String> = sizes
        .iter()
        .rev()
        .take(12)
        .map(|(lines, name)| format!("  {lines:>5}  {name}"))
        .collect();
    bail!(
        "source files are too long: {found}; allowed are {MEDIAN}, {NINE_OF_TEN} and {LONGEST}. The longest:\n{}",
        worst.join("\n")
    );
}

/// Lines that count: not blank, and not in a test module at the end.
fn lines(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            break;
        }
        if !line.trim().is_empty() {
            count += 1;
        }
    }
    count
}

/// The folders of the workspace's crates.
fn members() -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(paths::repository()).context("cannot read the repository")?;
    let mut found: Vec<PathBuf> = listing
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| PathBuf::from(entry.file_name()))
        .collect();
    found.sort();
    Ok(found)
}

/// The Rust files below a folder, but for those of tests and benches.
pub(crate) fn source_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !["tests", "benches", "target"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_blank_lines_do_not_count() {
        let text = "//! Doc.\n\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(lines(text), 2);
        // Only a module of its own in this file is left out.
        assert_eq!(lines("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
    }

    #[test]
    fn one_long_file_is_enough_to_fail() {
        let sizes = |longest| {
            vec![
                (10, "a".to_owned()),
                (20, "b".to_owned()),
                (longest, "c".to_owned()),
            ]
        };
        assert!(judge(&sizes(600)).is_ok());
        let error = judge(&sizes(601)).unwrap_err().to_string();
        assert!(error.contains("601  c"), "{error}");
        assert!(judge(&[]).is_err());
    }
}
