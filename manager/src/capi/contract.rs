//! Laws over `docs/cluster-api-contract.md`: it names every field, and what it names as shown by exists. Tests only.

use super::{control_plane, infrastructure, tests};
use api::{capi, keys};
use serde_json::Value;

const TABLE: &str = include_str!("../../../docs/cluster-api-contract.md");
/// Where the tests are.
const SOURCES: [&str; 31] = [
    include_str!("tests.rs"),
    include_str!("tests/wrongs.rs"),
    include_str!("owner.rs"),
    include_str!("../args.rs"),
    include_str!("../decide/tests.rs"),
    include_str!("../pki/brought.rs"),
    include_str!("../pki/tests.rs"),
    include_str!("../provision/cluster_keys/tests.rs"),
    include_str!("../elsewhere/twin/tests.rs"),
    include_str!("../running/parts.rs"),
    include_str!("../network/zones.rs"),
    include_str!("../rights.rs"),
    include_str!("../lifecycle/deletion/tests.rs"),
    include_str!("../virtual_control_plane/tests/hanging.rs"),
    include_str!("../virtual_control_plane/tests/leaving.rs"),
    include_str!("../../../api/src/capi/tests.rs"),
    include_str!("../../../hack/src/clusterctl.rs"),
    include_str!("../../../e2e/tests/e2e/capi/beyond.rs"),
    include_str!("../../../e2e/tests/e2e/capi/class.rs"),
    include_str!("../../../e2e/tests/e2e/capi/filtered.rs"),
    include_str!("../../../e2e/tests/e2e/capi/init.rs"),
    include_str!("../../../e2e/tests/e2e/capi/keys.rs"),
    include_str!("../../../e2e/tests/e2e/capi/kills.rs"),
    include_str!("../../../e2e/tests/e2e/capi/many.rs"),
    include_str!("../../../e2e/tests/e2e/capi/life.rs"),
    include_str!("../../../e2e/tests/e2e/capi/moved.rs"),
    include_str!("../../../e2e/tests/e2e/capi/tools.rs"),
    include_str!("../../../e2e/tests/e2e/capi/trouble.rs"),
    include_str!("../../../e2e/tests/e2e/capi/version.rs"),
    include_str!("../../../e2e/tests/e2e/capi/zones.rs"),
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

/// The text under a heading.
fn part(heading: &str) -> &'static str {
    let heading = format!("\n## {heading}\n");
    let part = TABLE.split(&heading).nth(1).expect("there is such a part");
    part.split("\n## ").next().unwrap_or_default()
}

/// The rows of a part, by what stands in their first cell.
fn has_row(heading: &str, what: &str) -> bool {
    let mut rows = part(heading).lines().filter(|line| line.starts_with("| `"));
    rows.any(|row| quoted(row.split(" | ").next().unwrap_or_default()).contains(&what))
}

#[test]
fn every_condition_that_is_told_has_a_row() {
    for (heading, decision) in [
        (
            "SubletControlPlane",
            control_plane::decide(&tests::comes_up()),
        ),
        ("SubletCluster", infrastructure::decide(&tests::is_kept())),
    ] {
        let told = decision.report.expect("something is said").conditions;
        assert!(told.len() > 2);
        for fact in told {
            assert!(has_row(heading, fact.kind), "{heading}: {}", fact.kind);
        }
    }
}

/// What is told while nothing is wrong.
const STATES: [&str; 10] = [
    "Deleting",
    "NotDeleting",
    "NotPaused",
    "NotRollingOut",
    "Paused",
    "Provisioned",
    "Provisioning",
    "RollingOut",
    "WaitingForControlPlane",
    "WaitingForInfrastructure",
];

/// Words for programs that a source gives to blockers.
fn reasons(source: &'static str) -> Vec<&'static str> {
    let given = source.split("Blocker::new(").skip(1);
    let words = given.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    words.collect()
}

#[test]
fn every_reason_of_something_wrong_has_a_row() {
    let sources = [
        include_str!("stage.rs"),
        include_str!("control_plane.rs"),
        include_str!("infrastructure.rs"),
    ];
    let mut told: Vec<&str> = sources.into_iter().flat_map(reasons).collect();
    assert!(told.len() > 15, "{told:?}");
    told.retain(|reason| !STATES.contains(reason));
    told.extend([super::stage::OWNED_TWICE, "KubeconfigMissing"]);
    let wrong: Vec<&str> = part("What users get wrong")
        .lines()
        .filter_map(|line| line.split(" | ").nth(1))
        .flat_map(quoted)
        .collect();
    for reason in told {
        assert!(wrong.contains(&reason), "{reason}");
    }
}

#[test]
fn every_key_and_secret_has_a_row() {
    for key in [
        capi::CONTRACT.0,
        capi::PROVIDER,
        capi::CLUSTERCTL,
        capi::CLUSTER_NAME,
        capi::PAUSED,
        capi::BLOCK_MOVE,
        // Whoever makes a Secret that leads to another super cluster sets it.
        "clusterctl.cluster.x-k8s.io/move",
        capi::MANAGED_BY,
        capi::WATCH_FILTER,
        capi::FINALIZER,
        keys::INFRASTRUCTURE_FINALIZER,
    ] {
        assert!(has_row("Labels, annotations, finalizers", key), "{key}");
    }
    let mut owner = crate::spec::control_plane::tests::owner();
    owner.cluster = Some(crate::spec::control_plane::Membership {
        cluster: "CLUSTER".into(),
        control_plane: None,
    });
    for secret in crate::provision::cluster_keys::names(&owner) {
        assert!(has_row("Secrets", &secret), "{secret}");
    }
}

#[test]
fn every_field_of_the_two_kinds_has_a_row() {
    for (definition, heading) in [(0, "SubletControlPlane"), (2, "SubletCluster")] {
        let part = part(heading);
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
