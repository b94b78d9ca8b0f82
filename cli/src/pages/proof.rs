//! Laws over tables that say which test shows something: the test is there, under that name.

use super::{page_named, text::repository};
use std::{collections::BTreeSet, fs, path::Path};

/// Fewest parts of a name for it to be a test's: those of fields and metrics have fewer.
const PARTS: usize = 4;

/// Every function of the sources, tests with them.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1);
            let names = names.filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn tests_that_tables_name_are_there() {
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(repository()).unwrap() {
        let crate_of = entry.unwrap().path();
        for folder in ["src", "tests"].map(|folder| crate_of.join(folder)) {
            if folder.is_dir() {
                functions(&folder, &mut known);
            }
        }
    }
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for (page, least) in [
        ("docs/faults.md", 25),
        ("docs/attacks.md", 60),
        ("docs/cluster-api-contract.md", 30),
    ] {
        let page = page_named(page);
        let rows = page.text.lines().filter(|line| line.starts_with('|'));
        let named = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
        let tests =
            named.filter(|said| said.chars().all(is_part) && said.split('_').count() >= PARTS);
        let mut count = 0;
        for test in tests {
            count += 1;
            assert!(known.contains(test), "{}: there is no {test}", page.name);
        }
        assert!(count >= least, "{}: {count}", page.name);
    }
}
