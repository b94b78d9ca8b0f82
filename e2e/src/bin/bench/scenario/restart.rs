//! The syncer is killed in the midst of many objects, both sides are edited while it is down, and it is started again:
//! how long until both sides agree.
//!
//! The objects are ConfigMaps, all of which are synced. An edit in the tenant must come down; an edit in the super
//! cluster must be undone. The watch of the super cluster tells when the last edited object is as it must be; a digest
//! over all objects of both sides then proves it.

use super::Extent;
use crate::{
    pod::Tokens,
    times::now,
    world::{Rig, World},
};
use anyhow::{Context, ensure};
use api::keys;
use e2e::bench::numbers;
use e2e::{
    kind::{CONFIG_MAP, NAMESPACE},
    read::{name, text},
    side::Side,
    wait::{PODS, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, pin::pin, time::Duration};
use tenancy::naming;
use tokio::time::timeout;

/// Objects that are edited on each side, over all tenants.
const EDITS: usize = 100;
/// Requests under way at once while objects are made.
const AT_ONCE: usize = 24;
const SPACE: &str = "restart";
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn measure(extent: &Extent) -> anyhow::Result<Value> {
    ensure!(
        extent.given.is_none(),
        "`restart` kills the syncer: leave out --super-kubeconfig"
    );
    let mut world = World::start(extent.tenants, extent.tenants, Tokens::Off).await?;
    let each = extent.objects / extent.tenants;
    for side in &world.tenants {
        side.create(NAMESPACE, json!({"metadata": {"name": SPACE}}))
            .await?;
    }
    let all = (0..extent.tenants).flat_map(|tenant| (0..each).map(move |number| (tenant, number)));
    stream::iter(all)
        .map(|(tenant, number)| {
            let side = &world.tenants[tenant];
            async move { side.create(CONFIG_MAP, config_map(number)).await.map(drop) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    eventually(LIMIT, "all objects are synced", async || {
        agree(&world).await
    })
    .await?;
    let mut rounds = vec![];
    for round in 1..=extent.rounds {
        eprintln!("round {round} of {}", extent.rounds);
        rounds.push(once(&mut world, each, round).await?);
    }
    world.end().await?;
    Ok(json!({"median": numbers::median(&rounds), "rounds": rounds}))
}

fn config_map(number: usize) -> Value {
    json!({
        "metadata": {"name": object(number), "namespace": SPACE},
        "data": {"edited": "0", "text": "x".repeat(256)},
    })
}

/// What names of these objects begin with, and no other's.
const OBJECT: &str = "object-";

fn object(number: usize) -> String {
    format!("{OBJECT}{number}")
}

async fn once(world: &mut World, each: usize, round: usize) -> anyhow::Result<Value> {
    let tenants = world.tenants.len();
    world.rig()?.syncer.kill();
    // What each edited super object must hold in the end.
    let mut awaited = HashMap::new();
    for edit in 0..EDITS {
        let (tenant, number) = (edit % tenants, (edit / tenants) % each);
        let value = format!("{round}-{edit}");
        let change = json!({"data": {"edited": value}});
        let side = &world.tenants[tenant];
        side.merge(CONFIG_MAP, SPACE, &object(number), change)
            .await?;
        awaited.insert((twin(world.rig()?, tenant), object(number)), value);
        // Others than those of the tenant's edits: the last ones.
        let number = each - 1 - number;
        let stays = side.get(CONFIG_MAP, SPACE, &object(number)).await?;
        let place = (twin(world.rig()?, tenant), object(number));
        let change = json!({"data": {"edited": "by somebody else"}});
        world
            .above
            .merge(CONFIG_MAP, &place.0, &place.1, change)
            .await?;
        awaited.insert(place, text(&stays, "/data/edited").to_owned());
    }
    let path = CONFIG_MAP.path("", "");
    let head = world
        .above
        .request(Method::GET, &format!("{path}?limit=1"), None)
        .await?;
    let version = text(&head, "/metadata/resourceVersion");
    let path = format!(
        "{path}?watch=true&timeoutSeconds=3600&labelSelector={}&resourceVersion={version}",
        keys::TENANT.replace('/', "%2F")
    );
    let mut events = pin!(world.above.watch(&path).await?);
    let began = now();
    world.start_syncer().await?;
    let ready = began.elapsed();
    let converged = timeout(LIMIT, async {
        while !awaited.is_empty() {
            let event = events.next().await.context("the watch has ended")?;
            let object = &event["object"];
            let place = (
                text(object, "/metadata/namespace").to_owned(),
                name(object).to_owned(),
            );
            if awaited
                .get(&place)
                .is_some_and(|value| object["data"]["edited"] == **value)
            {
                awaited.remove(&place);
            }
        }
        anyhow::Ok(began.elapsed())
    })
    .await
    .with_context(|| format!("no agreement within {LIMIT:?}"))??;
    let cpu = world.syncer.as_ref().context("the syncer runs")?.cpu()?;
    // Nothing else may have changed, and nothing may change any more.
    eventually(PODS, "both sides agree", async || agree(world).await).await?;
    Ok(json!({
        "objects": each * tenants, "edits": 2 * EDITS,
        "secondsToReady": numbers::round(ready.as_secs_f64()),
        "secondsToAgree": numbers::round(converged.as_secs_f64()),
        "syncerCpuSeconds": numbers::round(cpu.as_secs_f64()),
    }))
}

fn twin(rig: &Rig, tenant: usize) -> String {
    naming::super_namespace(&rig.ids[tenant], rig.tenants[tenant].name(), SPACE)
}

/// An error unless both sides hold the same.
async fn agree(world: &World) -> anyhow::Result<()> {
    for (tenant, side) in world.tenants.iter().enumerate() {
        let above = digest(&world.above, &twin(world.rig()?, tenant)).await?;
        let own = digest(side, SPACE).await?;
        ensure!(
            above == own,
            "tenant {tenant} has {} objects, the super cluster {} of it, or others",
            own.0,
            above.0
        );
    }
    Ok(())
}

/// Number and hash of the objects of a namespace.
async fn digest(side: &Side, namespace: &str) -> anyhow::Result<(usize, Vec<u8>)> {
    let objects = side.list(CONFIG_MAP, namespace, "").await?;
    let mut lines: Vec<String> = objects
        .iter()
        .filter(|object| name(object).starts_with(OBJECT))
        .map(|object| format!("{} {}", name(object), object["data"]))
        .collect();
    lines.sort_unstable();
    let hash = Sha256::digest(lines.join("\n"));
    Ok((lines.len(), hash.to_vec()))
}
