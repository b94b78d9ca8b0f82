//! T40: one tenant makes all the noise that it can, and another's pods start as fast as before.

use anyhow::ensure;
use e2e::{
    kind::NAMESPACE,
    noise::{Extent, measure},
    space::{Space, within},
    tenant::{A, B},
};

/// So many that two minutes are filled.
const EXTENT: Extent = Extent {
    pods: 100,
    at_once: 2,
};
/// How much slower the p99 may be.
const MOST: f64 = 1.5;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t40_a_noisy_tenant_slows_no_pods_of_another() {
    within(A, "noise", async |timed| {
        let noisy = Space::open(B.get().await?.clone(), &timed.name).await?;
        let figures = measure(timed, &noisy, EXTENT).await;
        noisy.side().delete(NAMESPACE, "", &noisy.name).await?;
        let figures = figures?;
        e2e::told!(
            "p99 beside noise: {:.2} times the quiet one",
            figures.ratio()
        );
        ensure!(
            figures.ratio() <= MOST,
            "p99 {:?} beside noise, {:?} without: {:.2} times",
            figures.loud.p99,
            figures.quiet.p99,
            figures.ratio()
        );
        Ok(())
    });
}
