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
    world::{Given, World},
};
use anyhow::ensure;
use clap::ValueEnum;
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
    /// Simulated tenants in `idle`, instead of real ones.
    pub(crate) simulated: Option<usize>,
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

impl Scenario {
    /// Measures, and says of what kind it was.
    pub(crate) async fn measure(self, extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
        let is_simulated = matches!(self, Self::Ceiling | Self::Reads | Self::Handover);
        ensure!(
            !is_simulated || extent.given.is_none(),
            "{self:?} simulates what it needs: leave out --super-kubeconfig"
        );
        let figures = match self {
            Self::Burst => burst(extent, tokens).await,
            Self::Steady => steady(extent, tokens).await,
            Self::Fair => fair::measure(extent, tokens).await,
            Self::Restart => restart::measure(extent).await,
            Self::Idle => idle::measure(extent, tokens).await,
            Self::Ceiling => ceiling::measure(extent.tenants, extent.objects, extent.rounds).await,
            Self::Reads => reads::measure(extent.tenants, extent.objects).await,
            Self::Handover => handover::measure(extent.tenants, extent.rounds).await,
        }?;
        let name = self.to_possible_value();
        let name = name.as_ref().map(|value| value.get_name());
        let simulated = extent.simulated.filter(|_| self == Self::Idle);
        let tenants = simulated.unwrap_or(extent.tenants);
        Ok(
            json!({"scenario": name, "tokens": tokens.name(), "tenants": tenants, "figures": figures}),
        )
    }
}

async fn burst(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    let world = extent.world(tokens).await?;
    let lanes = vec![Lane::burst(extent.burst_pods); world.tenants.len()];
    beside_direct(world, &lanes, tokens, extent.rounds).await
}

async fn steady(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    let world = extent.world(tokens).await?;
    let tenants = world.tenants.len();
    let lane = Lane {
        pods: extent.steady_pods / tenants,
        every: Some(Duration::from_secs(1) * u32::try_from(tenants)? / extent.rate),
        stopped: false,
    };
    beside_direct(world, &vec![lane; tenants], tokens, extent.rounds).await
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
        pair["shareOfDirect"] = figures::round(rate("synced") / rate("direct")).into();
        all.push(pair);
    }
    world.end().await?;
    Ok(json!({"median": figures::median(&all), "rounds": all}))
}
