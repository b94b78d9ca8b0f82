//! Keeps the tables of docs/attacks.md true: every escape class has a row, every test that a row names exists, and of
//! every class is told what it comes to where nothing holds it.

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

/// Names of the tests of all crates.
fn all_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    // Rules of the policies alone are judged in `hack`, and the class that is installed in `api`.
    for part in [
        "api",
        "tenancy",
        "syncer",
        "manager",
        "apiserver-proxy",
        "e2e",
        "hack",
    ] {
        tests_below(&paths::repository().join(part), &mut tests);
    }
    tests
}

/// Cells of the rows of classes in a part of the page that begins with `heading` and ends before `end`.
fn rows<'a>(page: &'a str, heading: &str, end: &str) -> Vec<Vec<&'a str>> {
    let (_, part) = page.split_once(heading).unwrap();
    let part = part.split(end).next().unwrap();
    let lines = part.lines().filter(|line| line.starts_with("| T"));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn of_every_class_is_told_what_it_comes_to_where_nothing_holds_it() {
    let page = fs::read_to_string(paths::repository().join("docs/attacks.md")).unwrap();
    let tests = all_tests();
    let mut told = BTreeSet::new();
    // Those that are run against each layer and against none.
    for row in rows(
        &page,
        "## Each layer alone",
        "<!-- results of t5_to_t38_each_layer_holds_alone: end -->",
    ) {
        assert_eq!(row[row.len() - 1], "works", "{row:?}");
        told.insert(row[0]);
    }
    // All others.
    for row in rows(&page, "## Without any layer", "\n## ") {
        let [class, what, shown] = row[..] else {
            panic!("{row:?}");
        };
        assert!(told.insert(class), "{class} is told of twice");
        assert!(!what.is_empty(), "{class}");
        assert!(!named(shown).is_empty(), "{class}");
        for name in named(shown) {
            assert!(tests.contains(name), "{class}: there is no test {name}");
        }
    }
    let missing: Vec<String> = (1..=CLASSES)
        .map(|number| format!("T{number}"))
        .filter(|class| !told.contains(class.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_check_of_the_benchmark_names_tests_that_exist() {
    let text = fs::read_to_string(paths::repository().join("docs/attacks.md")).unwrap();
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
    let text = fs::read_to_string(paths::repository().join("docs/attacks.md")).unwrap();
    // What each layer does alone has a table of its own further down.
    let rows = rows(&text, "## What holds which attack", "\n## ");
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let wanted: Vec<String> = (1..=CLASSES).map(|number| format!("T{number}")).collect();
    assert_eq!(numbers, wanted);
    let tests = all_tests();
    for row in rows {
        let named = named(row[3]);
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
