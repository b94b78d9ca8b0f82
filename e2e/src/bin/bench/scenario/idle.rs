//! What it costs when nothing happens: with one tenant, and with all.

use super::Extent;
use crate::{pod::Tokens, times::now, world::World};
use anyhow::{Context, ensure};
use e2e::bench::{
    numbers,
    process::{self, Processes},
};
use e2e::wait::{PODS, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the CPU time is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// Memory is steady when it changes by less, in MiB or as a part of it, from one look to the next.
const STEADY: f64 = 0.1;
const STEADY_PART: f64 = 0.002;

pub(super) async fn measure(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    ensure!(
        extent.given.is_none(),
        "`idle` starts what it measures: leave out --super-kubeconfig"
    );
    let mut world = World::start(extent.tenants, 1, tokens).await?;
    let mut figures = json!({});
    for tenants in [1, extent.tenants] {
        world.announce(tenants).await?;
        let syncer = world.syncer.as_ref().context("the syncer runs")?;
        let look = quiet(syncer).await?;
        figures[format!("tenants{tenants}")] = look;
    }
    world.end().await?;
    Ok(json!({"median": figures}))
}

/// Waits until the memory is steady, then counts.
async fn quiet(syncer: &Processes) -> anyhow::Result<Value> {
    let pss = steady(syncer).await?;
    let mut look = counted(syncer, WINDOW).await?;
    look["syncerPssMiB"] = numbers::round(pss).into();
    Ok(look)
}

/// The memory of processes once it is steady, in MiB.
pub(super) async fn steady(processes: &Processes) -> anyhow::Result<f64> {
    let mut last = processes.pss()?;
    eventually(PODS, "the syncer's memory is steady", async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let pss = processes.pss()?;
        let change = (pss - std::mem::replace(&mut last, pss)).abs();
        ensure!(
            change < STEADY.max(pss * STEADY_PART),
            "{change} MiB more or less"
        );
        Ok(pss)
    })
    .await
}

/// The CPU time that processes and the machine use in a while.
pub(super) async fn counted(processes: &Processes, window: Duration) -> anyhow::Result<Value> {
    let (cpu, machine, began) = (processes.cpu()?, process::machine()?, now());
    tokio::time::sleep(window).await;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = processes.cpu()?.saturating_sub(cpu).as_secs_f64();
    let machine = process::machine()?.saturating_sub(machine).as_secs_f64();
    Ok(json!({
        "syncerPercentOfACore": numbers::round(100.0 * cpu / elapsed),
        "machineCoresBusy": numbers::round(machine / elapsed),
    }))
}
