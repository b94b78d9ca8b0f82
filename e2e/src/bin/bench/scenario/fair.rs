//! One tenant bursts while the others make a few pods each, and what the others feel of it.
//!
//! The quiet tenants make a pod twice a second, less than their share of a machine of two cores. In the second half the last
//! tenant's API server is stopped as soon as its pods are made, so that all that goes up to it hangs.

use super::Extent;
use crate::{
    figures,
    load::{self, Lane, Route, Run},
    pod::Tokens,
};
use anyhow::ensure;
use e2e::bench::numbers;
use serde_json::{Value, json};
use std::time::Duration;

/// Pods of the tenant that bursts.
const BURST: usize = 1_500;
/// Pods of each quiet tenant, and the time between them.
const QUIET: usize = 20;
const EVERY: Duration = Duration::from_millis(500);

pub(super) async fn measure(extent: &Extent, tokens: Tokens) -> anyhow::Result<Value> {
    let world = extent.world(tokens).await?;
    let tenants = world.tenants.len();
    ensure!(tenants >= 3, "`fair` needs three tenants or more");
    let mut lanes = Lane::steady(tenants, QUIET, EVERY);
    lanes[0] = Lane::burst(BURST);
    let mut with_stopped = lanes.clone();
    with_stopped[tenants - 1] = Lane {
        stopped: true,
        ..Lane::burst(QUIET)
    };
    let mut rounds = vec![];
    for round in 1..=extent.rounds {
        let mut figures = json!({});
        let plans = [
            ("direct", Route::Direct, &lanes),
            ("synced", Route::Synced, &lanes),
            ("oneStopped", Route::Synced, &with_stopped),
        ];
        for (name, route, lanes) in plans {
            if name == "oneStopped" && world.rig.is_none() {
                continue;
            }
            eprintln!("round {round} of {}, {name}", extent.rounds);
            let run = load::run(&world, route, lanes, tokens).await?;
            figures[name] = groups(&run);
        }
        rounds.push(figures);
    }
    world.end().await?;
    Ok(json!({"median": numbers::median(&rounds), "rounds": rounds}))
}

/// The busy tenant, and the quiet ones without the last, so that all runs tell of the same ones.
fn groups(run: &Run) -> Value {
    let last = run.lanes.len() - 1;
    let quiet = run.lanes[1].start..run.lanes[last].start;
    json!({
        "busy": {"milliseconds": figures::latencies(run, run.lanes[0].clone())},
        "quiet": {"milliseconds": figures::latencies(run, quiet)},
        "cpuOfOthers": numbers::round(run.others),
    })
}
