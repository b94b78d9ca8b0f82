//! Every field of a pod that an API server of this version knows has a decision in the code.

use anyhow::ensure;
use e2e::{
    schema,
    space::run,
    tenant::{A, super_cluster},
};
use expect_test::expect_file;
use std::collections::BTreeSet;
use tenancy::kind::{Decision, decisions};

#[test]
fn every_path_of_a_pod_spec_is_decided() {
    run(async || {
        let decided = decisions();
        let known: BTreeSet<&str> = decided.iter().map(|(path, _)| path.as_str()).collect();
        let tenant = A.get().await?;
        for side in [&super_cluster().await?, &tenant.side] {
            let served = schema::paths(side, "PodSpec", "spec").await?;
            let undecided: Vec<&str> = served
                .iter()
                .map(|(path, _)| path.as_str())
                .filter(|path| !known.contains(path))
                .collect();
            ensure!(
                undecided.is_empty(),
                "{} serves fields without a decision: {undecided:#?}",
                side.name()
            );
            ensure!(
                served.len() == known.len(),
                "{} doesn't serve all that is decided: {}",
                side.name(),
                served.len()
            );
            // The unit tests try each of them on the translation.
            let listing: String = served
                .iter()
                .map(|(path, kind)| format!("{path} {kind}\n"))
                .collect();
            expect_file!["../../../../tenancy/src/kind/pod/paths_1_36.txt"].assert_eq(&listing);
        }
        let count = |wanted: Decision| {
            decided
                .iter()
                .filter(|(_, decision)| *decision == wanted)
                .count()
        };
        e2e::told!(
            "{} paths of a pod spec: {} pass, {} are translated, {} forced, {} refused",
            decided.len(),
            count(Decision::Pass),
            count(Decision::Translate),
            count(Decision::Force),
            count(Decision::Refuse),
        );
        Ok(())
    });
}
