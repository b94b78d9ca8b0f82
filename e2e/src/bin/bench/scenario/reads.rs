//! What it costs a syncer to start when there is much already: the CPU time of its first lists for each object, and how
//! many bytes it keeps of one. On the way there: what the syncer holds that synced some of it.

use super::idle;
use crate::{
    plant::{self, Plant},
    pods::Pods,
};
use anyhow::{Context, ensure};
use e2e::bench::numbers;
use e2e::{kind::LEASE, rig::syncer::Syncer, wait::eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the scenario takes.
const PATROL_PERIOD: u64 = 3_600;
const LIMIT: Duration = Duration::from_secs(120);
/// Pods at which the memory of the syncer that synced them is looked at.
const SOME: usize = 6_000;

pub(super) async fn measure(tenants: usize, pods: usize) -> anyhow::Result<Value> {
    let plant = Plant::start(tenants).await?;
    plant.announce().await?;
    let mut made = Pods::prepare(&plant)?;
    let empty = restarted(&plant, "empty").await?;
    let (empty_cpu, empty_pss) = look(&plant, &empty).await?;
    let each = pods.div_ceil(tenants);
    let some = each.min(SOME.div_ceil(tenants));
    grow(&mut made, some).await?;
    // Fewer wouldn't be what the figure's name says.
    let some_pss = if made.made() >= SOME {
        Some(look(&plant, &empty).await?.1)
    } else {
        None
    };
    grow(&mut made, each - some).await?;
    empty.kill();
    let full = restarted(&plant, "full").await?;
    let writes = plant.above.counts().journal().len();
    let (full_cpu, full_pss) = look(&plant, &full).await?;
    // Each pod is there twice: the tenant's, and its twin.
    let objects = 2.0 * made.made() as f64;
    let mut read = json!({
        "objects": objects,
        "cpuMicrosecondsPerObject": numbers::round((full_cpu - empty_cpu) * 1e6 / objects),
        "bytesPerObject": numbers::round((full_pss - empty_pss) * 1024.0 * 1024.0 / objects),
        "syncerPssMiBEmpty": numbers::round(empty_pss), "syncerPssMiB": numbers::round(full_pss),
        "writesBeforeTheLook": writes,
    });
    if let Some(pss) = some_pss {
        read["syncerPssMiB6000Pods"] = numbers::round(pss).into();
    }
    Ok(json!({"median": {"reads": read}, "notSimulated": plant.gaps()}))
}

/// Makes so many more pods in each tenant, and brings them to readiness.
async fn grow(pods: &mut Pods<'_>, each: usize) -> anyhow::Result<()> {
    pods.make(each).await?;
    pods.bind().await?;
    pods.ready().await
}

/// Starts a syncer and waits until it serves all tenants, as their Leases and conditions say.
async fn restarted(plant: &Plant, name: &str) -> anyhow::Result<Syncer> {
    plant.above.counts().journal();
    let syncer = plant.syncer(name, PATROL_PERIOD)?;
    syncer.start().await?;
    eventually(LIMIT, "the syncer leads all tenants", async || {
        let leases = plant.above.all(LEASE.name);
        let led = leases.iter().filter(|lease| {
            let holder = lease["spec"]["holderIdentity"].as_str();
            // Its own Lease names it too.
            lease["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("tenant-"))
                && holder.is_some_and(|holder| holder.starts_with(name))
        });
        let led = led.count();
        ensure!(led == plant.guests.len(), "{led} of {}", plant.guests.len());
        Ok(())
    })
    .await
    .with_context(|| syncer.tail())?;
    plant.synced().await.with_context(|| syncer.tail())?;
    Ok(syncer)
}

/// CPU seconds that it used so far, once it has come to rest, and its memory in MiB.
async fn look(plant: &Plant, syncer: &Syncer) -> anyhow::Result<(f64, f64)> {
    let processes = plant::processes(syncer)?;
    let pss = idle::steady(&processes)
        .await
        .with_context(|| format!("not simulated: {:?}", plant.gaps()))?;
    Ok((processes.cpu()?.as_secs_f64(), pss))
}
