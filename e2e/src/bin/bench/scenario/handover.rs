//! One of two syncers is killed: how long until the other one does its work, and whether anything was written twice.
//!
//! A ConfigMap of each tenant is edited at the moment of the kill. Each edit must be written to the super cluster once and
//! by one syncer alone, also when the dead one comes back and takes its share of tenants again.

use crate::{plant::Plant, times::now};
use anyhow::{Context, ensure};
use e2e::bench::numbers;
use e2e::{
    kind::{CONFIG_MAP, LEASE, NAMESPACE},
    rig::syncer::Syncer,
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tenancy::fleet::{Replica, owner};

const PATROL_PERIOD: u64 = 300;
const SPACE: &str = "handover";
const MAP: &str = "edited";
const LIMIT: Duration = Duration::from_secs(120);
/// How often the super cluster is looked at; it is in this process.
const LOOK: Duration = Duration::from_millis(5);

pub(super) async fn measure(tenants: usize, rounds: usize) -> anyhow::Result<Value> {
    let plant = Plant::start(tenants).await?;
    for guest in &plant.guests {
        let namespace = json!({"metadata": {"name": SPACE}});
        guest.server.seed(NAMESPACE.name, namespace)?;
        let map = json!({"metadata": {"name": MAP, "namespace": SPACE}, "data": {"edited": "0"}});
        guest.server.seed(CONFIG_MAP.name, map)?;
    }
    plant.announce().await?;
    let (victim, other) = (
        plant.syncer("a", PATROL_PERIOD)?,
        plant.syncer("b", PATROL_PERIOD)?,
    );
    victim.start().await?;
    other.start().await?;
    plant.synced().await.with_context(|| victim.tail())?;
    let all: Vec<usize> = (0..tenants).collect();
    arrive(&plant, &all, "0").await?;
    // What belongs to the namespaces is written by now.
    plant.above.counts().journal();
    let (mut measured, mut edits) = (vec![], 0);
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        measured.push(once(&plant, &victim, round).await?);
        // While tenants go back to the one that came again.
        victim.start().await?;
        edit(&plant, &all, &format!("{round}-again"))?;
        arrive(&plant, &all, &format!("{round}-again")).await?;
        shared(&plant, 2).await?;
        edits += 2;
    }
    let doubled = doubled(&plant, edits)?;
    let mut median = numbers::median(&measured);
    median["doubledWrites"] = doubled.into();
    drop(other);
    Ok(json!({"median": {"handover": median}, "rounds": measured, "notSimulated": plant.gaps()}))
}

async fn once(plant: &Plant, victim: &Syncer, round: usize) -> anyhow::Result<Value> {
    let leaders = shared(plant, 2).await?;
    let of = |dead: bool| -> Vec<usize> {
        let named = leaders.iter().enumerate();
        named
            .filter(|(_, leader)| (**leader == victim.name) == dead)
            .map(|(tenant, _)| tenant)
            .collect()
    };
    let (orphans, others) = (of(true), of(false));
    ensure!(
        !orphans.is_empty() && !others.is_empty(),
        "one syncer leads all of so few tenants: use more of them"
    );
    let value = format!("{round}-killed");
    let began = now();
    victim.kill();
    let all: Vec<usize> = (0..plant.guests.len()).collect();
    edit(plant, &all, &value)?;
    let mut took = arrive(plant, &all, &value).await?;
    let mut seconds = |tenants: &[usize]| {
        let mut times: Vec<f64> = tenants
            .iter()
            .filter_map(|tenant| took.remove(tenant))
            .map(|at| (at - began).as_secs_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (orphans, others) = (seconds(&orphans), seconds(&others));
    let last = |times: &[f64]| numbers::round(times.last().copied().unwrap_or_default());
    Ok(json!({
        "tenantsOfTheDead": orphans.len(),
        "secondsToFirst": numbers::round(orphans[0]), "secondsToLast": last(&orphans),
        "secondsOfTheOthers": last(&others),
    }))
}

/// Waits until the tenants are shared as so many living syncers share them; the answer is the name of each one's leader.
async fn shared(plant: &Plant, syncers: usize) -> anyhow::Result<Vec<String>> {
    eventually(LIMIT, "the tenants are shared", async || {
        let leases = plant.above.all(LEASE.name);
        let holder = |lease: &Value| Replica::parse(lease["spec"]["holderIdentity"].as_str()?);
        let named = |lease: &Value, start: &str| {
            let name = lease["metadata"]["name"].as_str();
            name.is_some_and(|name| name.starts_with(start))
        };
        let mut newest = BTreeMap::new();
        for lease in leases.iter().filter(|lease| named(lease, "syncer-")) {
            let Some(replica) = holder(lease) else {
                continue;
            };
            // Of several processes of one name only the last one lives.
            let renewed = lease["spec"]["renewTime"].to_string();
            let known = newest.entry(replica.name.clone());
            let entry = known.or_insert((renewed.clone(), replica.clone()));
            if entry.0 < renewed {
                *entry = (renewed, replica);
            }
        }
        let alive: BTreeSet<Replica> = newest.into_values().map(|(_, replica)| replica).collect();
        ensure!(alive.len() == syncers, "{} syncers", alive.len());
        let mut leaders = vec![];
        for guest in &plant.guests {
            let name = format!("tenant-{}", guest.id);
            let lease = leases
                .iter()
                .find(|lease| lease["metadata"]["name"] == *name);
            let leader = lease.and_then(holder);
            ensure!(
                leader.as_ref() == owner(&guest.id, &alive),
                "{} is led by {leader:?}",
                guest.name
            );
            leaders.extend(leader.map(|leader| leader.name));
        }
        Ok(leaders)
    })
    .await
}

fn edit(plant: &Plant, tenants: &[usize], value: &str) -> anyhow::Result<()> {
    for tenant in tenants {
        let server = &plant.guests[*tenant].server;
        server.change(CONFIG_MAP.name, (SPACE, MAP), "", |map| {
            map["data"]["edited"] = value.into();
        })?;
    }
    Ok(())
}

/// When the super cluster came to hold an edit of each tenant.
async fn arrive(
    plant: &Plant,
    tenants: &[usize],
    value: &str,
) -> anyhow::Result<BTreeMap<usize, tokio::time::Instant>> {
    let mut seen = BTreeMap::new();
    let end = now() + LIMIT;
    while seen.len() < tenants.len() {
        for tenant in tenants {
            let twin = plant.guests[*tenant].twin(SPACE);
            let found = plant.above.find(CONFIG_MAP.name, &twin, MAP);
            if found.is_some_and(|map| map["data"]["edited"] == value) {
                seen.entry(*tenant).or_insert_with(now);
            }
        }
        ensure!(
            now() < end,
            "{} of {} edits arrive; not simulated: {:?}",
            seen.len(),
            tenants.len(),
            plant.gaps()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(seen)
}

/// Successful writes to the edited objects beyond one for each edit.
fn doubled(plant: &Plant, edits: usize) -> anyhow::Result<usize> {
    let journal = plant.above.counts().journal();
    let mut doubled = 0;
    for guest in &plant.guests {
        let path = CONFIG_MAP.path(&guest.twin(SPACE), MAP);
        let writes = journal
            .iter()
            .filter(|done| done.code < 300 && done.what.ends_with(&path))
            .count();
        ensure!(
            writes >= edits,
            "{writes} writes for {edits} edits of {}",
            guest.name
        );
        doubled += writes - edits;
    }
    Ok(doubled)
}
