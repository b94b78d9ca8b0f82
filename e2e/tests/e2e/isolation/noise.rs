//! T40: one tenant makes all the noise that it can, and another's pods start as fast as before.

use anyhow::ensure;
use e2e::{
    kind::NAMESPACE,
    make,
    noise::{Extent, Figures, measure},
    space::{Space, alone},
    tenant::{A, B},
};
use std::time::Duration;

const EXTENT: Extent = Extent {
    pods: 100,
    at_once: 2,
    least: Duration::from_secs(120),
};
/// How much slower the p99 may be.
const MOST: f64 = 1.5;
/// MiB that a syncer may hold meanwhile.
const MEMORY: f64 = 128.0;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t40_a_noisy_tenant_slows_no_pods_of_another() {
    alone(async || {
        let name = make::unique("noise");
        let timed = Space::open(A.get().await?.clone(), &name).await?;
        let noisy = Space::open(B.get().await?.clone(), &name).await?;
        let figures = measure(&timed, &noisy, EXTENT).await;
        let mut gone = vec![];
        for space in [&timed, &noisy] {
            gone.push(space.side().delete(NAMESPACE, "", &name).await);
        }
        holds(&figures?)?;
        gone.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    });
}

fn holds(figures: &Figures) -> anyhow::Result<()> {
    let ratio = figures.ratio();
    e2e::told!("p99 beside noise: {ratio:.2} times the quiet one");
    ensure!(
        figures.loud.pods >= EXTENT.pods && figures.loud.all >= EXTENT.least,
        "only {} pods in {:?}",
        figures.loud.pods,
        figures.loud.all
    );
    ensure!(
        ratio <= MOST,
        "p99 {:?} beside noise, {:?} without: {ratio:.2} times",
        figures.loud.p99,
        figures.quiet.p99
    );
    ensure!(
        figures.memory <= MEMORY,
        "a syncer held {:.0} MiB",
        figures.memory
    );
    Ok(())
}
