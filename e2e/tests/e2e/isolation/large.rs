//! T40, T43: what a tenant's objects take of the super cluster's etcd has an end, however few they are.

use super::quota::limit;
use anyhow::ensure;
use e2e::{
    kind::{EVENT, SECRET},
    read::{event, name, text, uid},
    rig::{Guest, Rig, Wish, on_rig},
    wait::{PODS, SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SECRETS: usize = 40;
/// Of each one's text.
const BYTES: usize = 900_000;
const LIMIT: usize = 16 << 20;

/// A Secret whose text takes so many bytes, a multiple of four.
fn secret(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name, "namespace": "work"}, "data": {"k": "A".repeat(bytes)}})
}

/// The tenant's Secrets in the super cluster, which together take no more than the limit.
async fn twins(rig: &Rig, limit: usize) -> anyhow::Result<Vec<Value>> {
    let place = rig.tenants[0].twin("work");
    let mut twins = rig.side.list(SECRET, &place, "").await?;
    twins.retain(|twin| name(twin).starts_with("large-"));
    let sum: usize = twins.iter().map(|twin| text(twin, "/data/k").len()).sum();
    ensure!(sum <= limit, "{sum} bytes of {} Secrets", twins.len());
    Ok(twins)
}

/// UIDs of Secrets that were refused for want of room.
async fn refused(guest: &Guest) -> anyhow::Result<BTreeSet<String>> {
    let events = guest.side.list(EVENT, "work", "").await?;
    let refused = events
        .iter()
        .filter(|event| text(event, "/reason") == "QuotaExceeded");
    Ok(refused
        .map(|event| text(event, "/involvedObject/uid").to_owned())
        .collect())
}

#[test]
fn t43_large_secrets_take_no_more_of_the_super_cluster_than_the_limit() {
    on_rig(Wish::default(), async |rig| {
        limit(rig, json!({"sublet.dev/bytes": "16Mi"})).await?;
        let guest = &rig.tenants[0];
        eventually(SOON, "the limit is shown", async || {
            let vcp = rig.vcp(0).await?;
            let hard = &vcp["status"]["quota"]["hard"]["sublet.dev/bytes"];
            ensure!(hard == "16Mi", "{}", vcp["status"]["quota"]);
            Ok(())
        })
        .await?;
        guest.namespace("work").await?;
        let made: Vec<Value> = stream::iter(0..SECRETS)
            .map(async |number| {
                let secret = secret(&format!("large-{number}"), BYTES);
                guest.side.create(SECRET, secret).await
            })
            .buffer_unordered(8)
            .try_collect()
            .await?;
        let there = eventually(PODS, "each is there or refused", async || {
            let there = twins(rig, LIMIT).await?;
            let waits = refused(guest).await?;
            let known = there.len() + waits.len();
            ensure!(known >= SECRETS, "{} and {}", there.len(), waits.len());
            Ok(there)
        })
        .await?;
        ensure!(there.len() > 10, "{} Secrets", there.len());
        let is_there = |secret: &&Value| there.iter().any(|twin| name(twin) == name(secret));
        if let Some(waits) = made.iter().find(|secret| !is_there(secret)) {
            let event = event(&guest.side, SECRET, waits, "QuotaExceeded").await?;
            let says = text(&event, "/message");
            ensure!(says.contains("of at most 16Mi"), "{says}");
        }

        // A syncer that dies learns anew what is there, and what waits gets in no sooner.
        rig.syncer.kill();
        rig.syncer.start().await?;
        rig.synced(0).await?;
        let guest = &rig.tenants[0];
        let goes = name(&there[0]);
        guest.side.delete(SECRET, "work", goes).await?;
        let now = eventually(PODS, "another one takes the room", async || {
            let now = twins(rig, LIMIT).await?;
            ensure!(now.len() >= there.len(), "{} Secrets", now.len());
            ensure!(
                !now.iter().any(|twin| name(twin) == goes),
                "{goes} is there"
            );
            Ok(now)
        })
        .await?;

        // One that is there grows no further, and stays as it is.
        let grows = guest.side.get(SECRET, "work", name(&now[0])).await?;
        let more = json!({"data": {"more": "A".repeat(400_000)}});
        let lower = json!({"sublet.dev/bytes": "12Mi"});
        limit(rig, lower).await?;
        let guest = &rig.tenants[0];
        eventually(SOON, "the lower limit is shown", async || {
            let vcp = rig.vcp(0).await?;
            let hard = &vcp["status"]["quota"]["hard"]["sublet.dev/bytes"];
            ensure!(hard == "12Mi", "{}", vcp["status"]["quota"]);
            Ok(())
        })
        .await?;
        guest.side.merge(SECRET, "work", name(&grows), more).await?;
        let event = event(&guest.side, SECRET, &grows, "QuotaExceeded").await?;
        ensure!(text(&event, "/involvedObject/uid") == uid(&grows));
        let after = twins(rig, LIMIT).await?;
        let same = after.iter().find(|twin| name(twin) == name(&grows));
        ensure!(same.is_some_and(|twin| twin["data"]["more"].is_null()));

        // With a higher limit all go down.
        limit(rig, json!({"sublet.dev/bytes": "64Mi"})).await?;
        eventually(PODS, "all are there", async || {
            let all = twins(rig, 4 * LIMIT).await?;
            ensure!(all.len() == SECRETS - 1, "{} Secrets", all.len());
            Ok(())
        })
        .await?;
        Ok(())
    });
}
