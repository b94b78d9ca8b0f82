//! Keeps the table of docs/security.md true: every escape class has a row, and every test that a row names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::paths;

/// Classes of the threat model, T1 and on.
const CLASSES: usize = 47;

/// Names of all test functions below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                tests_below(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if is_test
                    && let Some((_, rest)) = line.split_once("fn ")
                    && let Some((name, _)) = rest.split_once('(')
                {
                    found.insert(name.to_owned());
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn every_check_of_the_benchmark_names_tests_that_exist() {
    let text = fs::read_to_string(paths::repository().join("docs/security.md")).unwrap();
    let mut tests = BTreeSet::new();
    for part in ["tenancy", "e2e"] {
        tests_below(&paths::repository().join(part), &mut tests);
    }
    let is_check = |line: &&str| line.starts_with("| MTB-") || line.starts_with("| pending: ");
    let rows: Vec<&str> = text.lines().filter(is_check).collect();
    assert!(rows.len() >= 13, "{}", rows.len());
    for row in rows {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}: {row}");
        }
    }
}

#[test]
fn every_class_has_a_row_and_every_test_that_it_names_exists() {
    let text = fs::read_to_string(paths::repository().join("docs/security.md")).unwrap();
    // What each layer does alone has a table of its own further down.
    let (_, classes) = text.split_once("## What holds which attack").unwrap();
    let classes = classes.split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = classes
        .lines()
        .filter(|line| line.starts_with("| T"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let wanted: Vec<String> = (1..=CLASSES).map(|number| format!("T{number}")).collect();
    assert_eq!(numbers, wanted);
    let mut tests = BTreeSet::new();
    for part in ["tenancy", "syncer", "manager", "apiserver-proxy", "e2e"] {
        tests_below(&paths::repository().join(part), &mut tests);
    }
    for row in rows {
        let named: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        for name in &named {
            assert!(tests.contains(*name), "{}: there is no test {name}", row[0]);
        }
        // What holds is shown, and what isn't shown is said.
        assert_eq!(
            named.is_empty(),
            row[2].is_empty(),
            "{}: {}",
            row[0],
            row[3]
        );
    }
}
