//! Laws over `docs/cluster-api-contract.md`: it names every field, and what it names as shown by exists. Tests only.

use serde_json::Value;

const TABLE: &str = include_str!("../../../docs/cluster-api-contract.md");
/// Where the tests are.
const SOURCES: [&str; 11] = [
    include_str!("tests.rs"),
    include_str!("owner.rs"),
    include_str!("../parts.rs"),
    include_str!("../rights.rs"),
    include_str!("../deletion/tests.rs"),
    include_str!("../../../api/src/capi/tests.rs"),
    include_str!("../../../e2e/tests/e2e/capi/class.rs"),
    include_str!("../../../e2e/tests/e2e/capi/life.rs"),
    include_str!("../../../e2e/tests/e2e/capi/tools.rs"),
    include_str!("../../../e2e/tests/e2e/capi/trouble.rs"),
    include_str!("../../../e2e/tests/e2e/capi.rs"),
];

/// The rows of all tables, as cells.
fn rows() -> Vec<Vec<&'static str>> {
    let is_row = |line: &&str| line.starts_with("| ") && !line.ends_with("| shown by |");
    let rows = TABLE.lines().filter(is_row);
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// What stands in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_row_names_tests_that_exist() {
    let rows = rows();
    assert!(rows.len() > 30);
    for row in rows {
        let tests = quoted(row[row.len() - 1]);
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            let function = format!("fn {test}()");
            assert!(
                SOURCES.iter().any(|source| source.contains(&function)),
                "there is no test {test}"
            );
        }
    }
}

#[test]
fn every_field_of_the_two_kinds_has_a_row() {
    for (definition, heading) in [(0, "## SubletControlPlane"), (2, "## SubletCluster\n")] {
        let part = TABLE.split(heading).nth(1).unwrap();
        let part = part.split("\n## ").next().unwrap();
        let crd = serde_json::to_value(&api::capi::crds()[definition]).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for half in ["spec", "status"] {
            let fields: &Value = &schema[half]["properties"];
            for field in fields.as_object().unwrap().keys() {
                assert!(
                    part.contains(&format!("`{half}.{field}`")),
                    "{heading}: {half}.{field}"
                );
            }
        }
    }
}
