//! Many tenants that do nothing, all of them simulated: what they cost the syncer, and whether it still notices that one
//! of their API servers hangs.

use super::idle;
use crate::{
    plant::{self, Plant},
    times::now,
};
use anyhow::{Context, ensure};
use e2e::bench::numbers;
use e2e::wait::eventually;
use serde_json::{Value, json};
use std::time::Duration;

/// The syncer's own default, in seconds: rounds of the patrol are part of what idling costs.
const PATROL_PERIOD: u64 = 300;
/// How long CPU time and requests are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// A hung API server is found within 70 seconds, or something is wrong.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn measure(tenants: usize) -> anyhow::Result<Value> {
    let plant = Plant::start(tenants).await?;
    plant.announce().await?;
    let syncer = plant.syncer("crowd", PATROL_PERIOD)?;
    let began = now();
    syncer.start().await?;
    plant.synced().await.with_context(|| syncer.tail())?;
    let synced = began.elapsed();
    let processes = plant::processes(&syncer)?;
    let start_cpu = processes.cpu()?;
    let pss = idle::steady(&processes).await?;
    let before = Asked::of(&plant);
    let mut look = idle::counted(&processes, WINDOW).await?;
    let after = Asked::of(&plant);
    look["syncerPssMiB"] = numbers::round(pss).into();
    look["secondsToSynced"] = numbers::round(synced.as_secs_f64()).into();
    look["cpuSecondsToSynced"] = numbers::round(start_cpu.as_secs_f64()).into();
    let minutes = WINDOW.as_secs_f64() / 60.0;
    let per_minute = |before: usize, after: usize| (after - before) as f64 / minutes;
    let tenants = tenants as f64;
    look["requestsPerTenantAndMinute"] =
        numbers::round(per_minute(before.tenants, after.tenants) / tenants).into();
    look["requestsToSuperPerMinute"] = numbers::round(per_minute(before.above, after.above)).into();
    look["connectionsPerTenant"] = numbers::round(after.connections as f64 / tenants).into();
    look["watchesPerTenant"] = numbers::round(after.watches as f64 / tenants).into();
    let (noticed, recovered) = hang(&plant).await?;
    look["secondsToNoticeAHungServer"] = numbers::round(noticed.as_secs_f64()).into();
    look["secondsToRecover"] = numbers::round(recovered.as_secs_f64()).into();
    Ok(json!({"median": {"crowd": look}, "notSimulated": plant.gaps()}))
}

/// What was asked so far, and what is open.
struct Asked {
    above: usize,
    tenants: usize,
    connections: usize,
    watches: usize,
}

impl Asked {
    fn of(plant: &Plant) -> Self {
        let mut asked = Self {
            above: plant.above.counts().requests(),
            tenants: 0,
            connections: 0,
            watches: 0,
        };
        for guest in &plant.guests {
            let counts = guest.server.counts();
            let (connections, watches) = counts.open();
            asked.tenants += counts.requests();
            asked.connections += connections;
            asked.watches += watches;
        }
        asked
    }
}

/// Lets one tenant's API server fall silent, then speak again: how long until the syncer says so, each time.
async fn hang(plant: &Plant) -> anyhow::Result<(Duration, Duration)> {
    let guest = plant.guests.first().context("there is a tenant")?;
    let link = guest.link.as_ref().context("the first one has a link")?;
    let until = async |wanted: bool, what: &str| {
        let began = now();
        eventually(LIMIT, what, async || {
            ensure!(
                plant.is_synced(guest) == wanted,
                "Synced still says the other"
            );
            Ok(())
        })
        .await
        .map(|()| began.elapsed())
    };
    link.stall();
    let noticed = until(false, "the silence is noticed").await?;
    link.resume();
    let recovered = until(true, "the tenant is synced again").await?;
    Ok((noticed, recovered))
}
