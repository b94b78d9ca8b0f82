//! An etcd that takes nothing more: a tenant's (F7) and the super cluster's (F8).

use super::{Fill, each, fill, pod, settings};
use anyhow::{Context, bail, ensure};
use e2e::{
    faultproxy::{Record, rule::Asked},
    kind::{CONFIG_MAP, POD},
    noise::Starts,
    oracle,
    read::{name, text},
    rig::{Rig, Wish, on_rig, player, room::Ballast},
    wait::{PODS, SOON, eventually},
};
use futures::StreamExt;
use http::Method;
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Objects that are timed in each half.
const TIMED: usize = 500;
/// The row's demand is 1.2 on a machine that has nothing else to do; beside other tests the p99 is mostly theirs.
const MOST: f64 = 2.0;
/// How long requests are counted while the super cluster is full.
const WATCHED: Duration = Duration::from_secs(60);

fn room(bytes: u64) -> Vec<String> {
    vec![format!("--quota-backend-bytes={bytes}")]
}

/// How long a tenant's new objects take until they are in the super cluster, one after the other.
async fn crossings(rig: &Rig, tenant: usize, prefix: &str) -> anyhow::Result<Starts> {
    let guest = &rig.tenants[tenant];
    let path = CONFIG_MAP.path(&guest.twin("default"), "");
    let list = rig.side.request(Method::GET, &path, None).await?;
    let version = text(&list, "/metadata/resourceVersion");
    let path = format!("{path}?watch=true&resourceVersion={version}");
    let mut events = std::pin::pin!(rig.side.watch(&path).await?);
    let (began, mut took) = (Instant::now(), vec![]);
    for number in 0..TIMED {
        let made = format!("{prefix}{number}");
        let begun = Instant::now();
        guest
            .side
            .create(CONFIG_MAP, settings("default", &made))
            .await?;
        let comes = async {
            while let Some(event) = events.next().await {
                if name(&event["object"]) == made {
                    return Ok(());
                }
            }
            bail!("the watch ended")
        };
        tokio::time::timeout(PODS, comes)
            .await
            .with_context(|| format!("{made} doesn't cross: {}", rig.syncer.tail()))??;
        took.push(begun.elapsed());
    }
    Ok(Starts::of(took, began.elapsed()))
}

/// The super cluster has news of a tenant's pods, ten times a second, until it is dropped.
async fn news(rig: &Rig, tenant: usize) -> anyhow::Result<()> {
    let twin = rig.tenants[tenant].twin("default");
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        for pod in rig.side.list(POD, &twin, "").await? {
            beat.tick().await;
            player::show_running(&rig.side, &pod).await?;
        }
    }
}

async fn beside_news(rig: &Rig, prefix: &str) -> anyhow::Result<Starts> {
    tokio::select! {
        ended = news(rig, 0) => match ended {
            Ok(()) => bail!("the news ended"),
            Err(err) => Err(err),
        },
        timed = crossings(rig, 1, prefix) => timed,
    }
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f7_a_tenant_whose_etcd_is_full_slows_no_other_and_goes_on_by_itself() {
    let wish = Wish {
        tenants: 2,
        controllers: false,
        etcd_flags: room(24 << 20),
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        for guest in &rig.tenants {
            guest.account().await?;
        }
        let (first, other) = (&rig.tenants[0], &rig.tenants[1]);
        for number in 0..20 {
            let pod = pod("default", &format!("p{number}"));
            first.side.create(POD, pod).await?;
        }
        for guest in [first, other] {
            oracle::pairs::agree(rig, guest).await?;
        }
        // The same with and without: the super cluster has news of the first one's pods.
        beside_news(rig, "warm").await?;
        let quiet = beside_news(rig, "quiet").await?;
        let ballast = Ballast::fill(&first.side).await?;
        ensure!(first.server.is_full().await?, "no alarm");
        drop(first.proxy.take_trace());
        let full = beside_news(rig, "full").await?;
        let refused = first.proxy.take_trace();
        let refused = refused.iter().filter(|record| record.code >= 500).count();
        ensure!(refused > 0, "nothing was tried");
        let ratio = full.p99.as_secs_f64() / quiet.p99.as_secs_f64();
        e2e::told!(
            "F7: {TIMED} objects of another tenant crossed with median {:?} and p99 {:?}, and beside a full tenant, which \
             refused {refused} requests, with {:?} and {:?}: {ratio:.2} times",
            quiet.median,
            quiet.p99,
            full.median,
            full.p99
        );
        ensure!(ratio <= MOST, "p99 is {ratio:.2} times the quiet one");

        // Its owner deletes something, an operator disarms; the syncer needs nobody.
        ballast.delete().await?;
        first.server.make_room().await?;
        let began = Instant::now();
        oracle::pairs::agree(rig, first).await?;
        e2e::told!(
            "F7: converged {:.1} s after there was room",
            began.elapsed().as_secs_f64()
        );
        oracle::all(rig).await
    });
}

/// Requests by verb and resource, events of watches left out.
fn counted<'a>(trace: &'a [Record], of: impl Fn(&Asked) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let is_request = |asked: &Asked| asked.verb.chars().all(char::is_lowercase);
    for record in trace
        .iter()
        .filter(|it: &&'a Record| is_request(&it.asked) && of(&it.asked))
    {
        let what = format!(
            "{} {} {}",
            record.asked.verb, record.asked.resource, record.code
        );
        *counts.entry(what).or_default() += 1;
    }
    counts
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f8_a_super_cluster_whose_etcd_is_full_is_asked_seldom_and_all_goes_on_once_it_has_room() {
    let wish = Wish {
        tenants: 3,
        super_etcd_flags: room(48 << 20),
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        for tenant in 0..3 {
            fill(rig, tenant, "work", 100, Fill::ConfigMaps).await?;
            oracle::pairs::agree(rig, &rig.tenants[tenant]).await?;
        }
        let ballast = Ballast::fill(&rig.side).await?;
        ensure!(rig.above.is_full().await?, "no alarm");
        drop(rig.proxy.take_trace());
        // Much to do, and all of it must wait.
        for guest in &rig.tenants {
            each(0..100, async |number| {
                let patch = json!({"data": {"k": "changed"}});
                let old = format!("o{number}");
                guest.side.merge(CONFIG_MAP, "work", &old, patch).await?;
                let new = settings("work", &format!("new{number}"));
                guest.side.create(CONFIG_MAP, new).await?;
                Ok(())
            })
            .await?;
        }
        // Its own Lease can't be renewed either.
        eventually(SOON, "the syncer leads nobody any more", async || {
            let led = rig.syncer.metric("sublet_syncer_led_tenants", &[]).await?;
            ensure!(led < 0.5, "it leads {led}");
            Ok(())
        })
        .await?;
        let (above, own) = (&rig.proxy, rig.tenants.iter().map(|guest| &guest.proxy));
        let burst = counted(&above.take_trace(), |_| true);
        e2e::told!("F8: asked of the super cluster until then: {burst:?}");
        own.for_each(|proxy| drop(proxy.take_trace()));
        let began = Instant::now();
        // Time is what is measured here.
        tokio::time::sleep(WATCHED).await;
        let (trace, seconds) = (above.take_trace(), began.elapsed().as_secs_f64());
        e2e::told!("F8: and then: {:?}", counted(&trace, |_| true));
        for guest in &rig.tenants {
            let marks = [
                guest.twin("work"),
                format!("tenant-{}", guest.id),
                guest.name.clone(),
            ];
            let at_super = counted(&trace, |asked| {
                marks.contains(&asked.namespace) || marks.contains(&asked.name)
            });
            let at_tenant = counted(&guest.proxy.take_trace(), |_| true);
            for (side, counts) in [("the super cluster", at_super), ("its own", at_tenant)] {
                let rate = counts.values().sum::<usize>() as f64 / seconds;
                e2e::told!("F8: {rate:.2} requests/s at {side} for {}", guest.name);
                ensure!(rate < 1.0, "{rate:.2} requests/s at {side}: {counts:?}");
            }
        }
        let all = counted(&trace, |_| true).values().sum::<usize>() as f64 / seconds;
        ensure!(all < rig.tenants.len() as f64, "{all:.2} requests/s");

        ballast.delete().await?;
        rig.above.make_room().await?;
        let began = Instant::now();
        for guest in &rig.tenants {
            oracle::pairs::agree(rig, guest).await?;
        }
        e2e::told!(
            "F8: converged {:.1} s after there was room",
            began.elapsed().as_secs_f64()
        );
        for tenant in 0..3 {
            rig.synced(tenant).await?;
        }
        oracle::all(rig).await?;
        let deletions = oracle::deeds::deletions(rig)?;
        ensure!(deletions.is_empty(), "{deletions:?}");
        Ok(())
    });
}
