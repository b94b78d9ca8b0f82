//! What the engine can do when nobody else needs the processors: pods between simulated API servers, and the CPU time of
//! the syncer's process alone.

use crate::{
    plant::{self, Plant},
    pods::Pods,
    times::now,
};
use anyhow::Context;
use e2e::bench::{numbers, process::Processes};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the scenario takes: the patrol is measured elsewhere.
const PATROL_PERIOD: u64 = 3_600;

pub(super) async fn measure(tenants: usize, pods: usize, rounds: usize) -> anyhow::Result<Value> {
    let mut all = vec![];
    let mut gaps = vec![];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let plant = Plant::start(tenants).await?;
        all.push(once(&plant, pods.div_ceil(tenants)).await?);
        gaps = plant.gaps();
    }
    Ok(json!({"median": {"ceiling": numbers::median(&all)}, "rounds": all, "notSimulated": gaps}))
}

async fn once(plant: &Plant, each: usize) -> anyhow::Result<Value> {
    plant.announce().await?;
    let mut pods = Pods::prepare(plant)?;
    let syncer = plant.syncer("ceiling", PATROL_PERIOD)?;
    syncer.start().await?;
    plant.synced().await.with_context(|| syncer.tail())?;
    // The namespaces and what belongs to them come with the first pod.
    pods.make(1).await.with_context(|| syncer.tail())?;
    pods.bind().await?;
    pods.ready().await?;
    let first = pods.made();
    let processes = plant::processes(&syncer)?;
    let mut step = Step::begin(&processes)?;
    pods.make(each).await.with_context(|| syncer.tail())?;
    let down = step.end()?;
    pods.bind().await.with_context(|| syncer.tail())?;
    let bound = step.end()?;
    pods.ready().await.with_context(|| syncer.tail())?;
    let ready = step.end()?;
    let count = (pods.made() - first) as f64;
    let up = Took {
        cpu: bound.cpu + ready.cpu,
        time: bound.time + ready.time,
    };
    let both = Took {
        cpu: down.cpu + up.cpu,
        time: down.time + up.time,
    };
    Ok(json!({
        "pods": count,
        "down": down.figures(count), "up": up.figures(count), "both": both.figures(count),
        "syncerPssMiB": numbers::round(processes.pss()?),
    }))
}

/// What a step took.
struct Took {
    cpu: Duration,
    time: Duration,
}

impl Took {
    fn figures(&self, pods: f64) -> Value {
        let (cpu, time) = (self.cpu.as_secs_f64(), self.time.as_secs_f64());
        json!({
            "podsPerSecondAndCore": numbers::round(pods / cpu),
            "microsecondsPerPod": numbers::round(cpu * 1e6 / pods),
            "podsPerSecond": numbers::round(pods / time),
        })
    }
}

/// From the end of one step to that of the next.
struct Step<'a> {
    processes: &'a Processes,
    cpu: Duration,
    began: tokio::time::Instant,
}

impl<'a> Step<'a> {
    fn begin(processes: &'a Processes) -> anyhow::Result<Self> {
        Ok(Self {
            processes,
            cpu: processes.cpu()?,
            began: now(),
        })
    }

    fn end(&mut self) -> anyhow::Result<Took> {
        let (cpu, at) = (self.processes.cpu()?, now());
        let before = std::mem::replace(&mut self.cpu, cpu);
        let began = std::mem::replace(&mut self.began, at);
        Ok(Took {
            cpu: cpu.saturating_sub(before),
            time: at - began,
        })
    }
}
