//! What it costs when nothing happens: with one tenant, and with all.

use super::Extent;
use crate::{
    figures,
    pod::Tokens,
    process::{self, Processes},
    times::now,
    world::{Parts, World},
};
use anyhow::{Context, ensure};
use e2e::wait::{PODS, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the CPU time is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// Memory is steady when it changes by less, in MiB, from one look to the next.
const STEADY: f64 = 0.1;

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
    let mut planes = vec![];
    for server in &world.rig()?.tenants {
        planes.push(server.processes().pss()?);
    }
    planes.sort_by(f64::total_cmp);
    figures["controlPlanePssMiB"] = figures::round(planes[planes.len() / 2]).into();
    world.end().await?;
    Ok(json!({"median": figures}))
}

/// Waits until the memory is steady, then counts.
async fn quiet(syncer: &Processes) -> anyhow::Result<Value> {
    let mut last = syncer.pss()?;
    let pss = eventually(PODS, "the syncer's memory is steady", async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let pss = syncer.pss()?;
        let change = (pss - std::mem::replace(&mut last, pss)).abs();
        ensure!(change < STEADY, "{change} MiB more or less");
        Ok(pss)
    })
    .await?;
    let (cpu, machine, began) = (syncer.cpu()?, process::machine()?, now());
    tokio::time::sleep(WINDOW).await;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = syncer.cpu()?.saturating_sub(cpu).as_secs_f64();
    let machine = process::machine()?.saturating_sub(machine).as_secs_f64();
    Ok(json!({
        "syncerPssMiB": figures::round(pss),
        "syncerPercentOfACore": figures::round(100.0 * cpu / elapsed),
        "machineCoresBusy": figures::round(machine / elapsed),
    }))
}
