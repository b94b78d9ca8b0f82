//! What can be measured. Each scenario starts what it needs, and answers with a JSON object.

mod fair;
mod idle;
mod restart;

mod ceiling;
mod crowd;
mod handover;
mod reads;

use crate::{
    figures,
    load::{self, Lane, Route},
    pod::Tokens,
    release,
    world::{Given, World},
};
use anyhow::ensure;
use clap::ValueEnum;
use e2e::bench::numbers;
use serde_json::{Value, json};
use std::time::Duration;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// All tenants make pods as fast as they can
    Burst,
    /// Pods come at a steady rate
    Steady,
    /// One tenant bursts while the others make a few pods; then again with one tenant's API server stopped
    Fair,
    /// The syncer is killed, objects are edited on both sides, and it is started again
    Restart,
    /// Nothing happens, with one tenant and with all
    Idle,
    /// Pods between simulated API servers, as fast as the syncer can
    Ceiling,
    /// The syncer starts when there are many pods already
    Reads,
    /// One of two syncers is killed
    Handover,
}

/// How much of it.
pub(crate) struct Extent {
    /// Tenants.
    pub(crate) tenants: usize,
    /// How often all is measured; medians are told.
    pub(crate) rounds: usize,
    /// Pods of each tenant in a burst.
    pub(crate) burst_pods: usize,
    /// Pods of all tenants together, at a steady rate.
    pub(crate) steady_pods: usize,
    /// Pods in a second, at a steady rate.
    pub(crate) rate: u32,
    /// Objects that are there when the syncer is killed; pods in `ceiling` and `reads`.
    pub(crate) objects: usize,
    /// Clusters that are there, instead of some that are started.
    pub(crate) given: Option<Given>,
}

impl Extent {
    /// A world for one kind of pods; where clusters are given, these.
    pub(crate) async fn world(&self, tokens: Tokens) -> anyhow::Result<World> {
        match &self.given {
            Some(given) => World::connect(given).await,
            None => World::start(self.tenants, self.tenants, tokens).await,
        }
    }
}

/// A scenario, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) scenario: Scenario,
    pub(crate) tokens: Tokens,
    /// Simulated tenants in `idle`, instead of real ones.
    pub(crate) simulated: Option<usize>,
}

impl Step {
    const fn of(scenario: Scenario, tokens: Tokens) -> Self {
        Self {
            scenario,
            tokens,
            simulated: None,
        }
    }
}

/// What a release is measured by; what needs no API server comes first.
pub(crate) const RELEASE: &[Step] = &[
    Step::of(Scenario::Ceiling, Tokens::Off),
    Step {
        simulated: Some(release::CROWD),
        ..Step::of(Scenario::Idle, Tokens::Off)
    },
    Step::of(Scenario::Reads, Tokens::Off),
    Step::of(Scenario::Handover, Tokens::Off),
    Step::of(Scenario::Burst, Tokens::Off),
    Step::of(Scenario::Steady, Tokens::Off),
    Step::of(Scenario::Fair, Tokens::Off),
    Step::of(Scenario::Restart, Tokens::Off),
    Step::of(Scenario::Idle, Tokens::Off),
    Step::of(Scenario::Burst, Tokens::On),
    Step::of(Scenario::Steady, Tokens::On),
    Step::of(Scenario::Idle, Tokens::On),
];

impl Step {
    /// Measures, and says of what kind it was.
    pub(crate) async fn measure(&self, extent: &Extent) -> anyhow::Result<Value> {
        let (scenario, tokens) = (self.scenario, self.tokens);
        let is_simulated = self.simulated.is_some()
            || matches!(
                scenario,
                Scenario::Ceiling | Scenario::Reads | Scenario::Handover
            );
        ensure!(
            !is_simulated || extent.given.is_none(),
            "{scenario:?} simulates what it needs: leave out --super-kubeconfig"
        );
        let (tenants, objects, rounds) = (extent.tenants, extent.objects, extent.rounds);
        let figures = match (scenario, self.simulated) {
            (Scenario::Burst, _) => burst(extent, tokens).await,
            (Scenario::Steady, _) => steady(extent, tokens).await,
            (Scenario::Fair, _) => fair::measure(extent, tokens).await,
            (Scenario::Restart, _) => restart::measure(extent).await,
            (Scenario::Idle, None) => repeated(rounds, || idle::measure(extent, tokens)).await,
            (Scenario::Idle, Some(crowd)) => repeated(rounds, || crowd::measure(crowd)).await,
            (Scenario::Ceiling, _) => ceiling::measure(tenants, objects, rounds).await,
            (Scenario::Reads, _) => repeated(rounds, || reads::measure(tenants, objects)).await,
            (Scenario::Handover, _) => handover::measure(tenants, rounds).await,
        }?;
        let name = scenario.to_possible_value();
        let name = name.as_ref().map(|value| value.get_name());
        let tenants = self.simulated.unwrap_or(tenants);
        Ok(
            json!({"scenario": name, "tokens": tokens.name(), "tenants": tenants, "figures": figures}),
        )
    }
}

/// The medians of what is measured by starting all of it anew.
async fn repeated(
    rounds: usize,
    mut once: impl AsyncFnMut() -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    let (mut all, mut gaps) = (vec![], Value::Null);
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let mut one = once().await?;
        all.push(one["median"].take());
        gaps = one["notSimulated"].take();
    }
    let mut figures = json!({"median": numbers::median(&all), "rounds": all});
    if !gaps.is_null() {
        figures["notSimulated"] = gaps;
    }
    Ok(figures)
}

async fn burst(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    let world = extent.world(tokens).await?;
    let lanes = vec![Lane::burst(extent.burst_pods); world.tenants.len()];
    beside_direct(world, &lanes, tokens, extent.rounds).await
}

async fn steady(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    let world = extent.world(tokens).await?;
    let tenants = world.tenants.len();
    let every = Duration::from_secs(1) * u32::try_from(tenants)? / extent.rate;
    let lanes = Lane::steady(tenants, extent.steady_pods / tenants, every);
    beside_direct(world, &lanes, tokens, extent.rounds).await
}

/// Measures the same straight in the super cluster and through tenants, in turns.
async fn beside_direct(
    world: World,
    lanes: &[Lane],
    tokens: Tokens,
    rounds: usize,
) -> anyhow::Result<Value> {
    let mut all = vec![];
    for round in 1..=rounds {
        let mut pair = json!({});
        for (name, route) in [("direct", Route::Direct), ("synced", Route::Synced)] {
            eprintln!("round {round} of {rounds}, {name}");
            let run = load::run(&world, route, lanes, tokens).await?;
            pair[name] = figures::of(&run, route);
        }
        let rate = |route: &str| pair[route]["podsPerSecond"].as_f64().unwrap_or_default();
        pair["shareOfDirect"] = numbers::round(rate("synced") / rate("direct")).into();
        all.push(pair);
    }
    world.end().await?;
    Ok(json!({"median": numbers::median(&all), "rounds": all}))
}
