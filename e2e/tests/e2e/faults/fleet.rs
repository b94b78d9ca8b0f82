//! Several syncers on one super cluster: they share the tenants, and take over from each other (R7, F19).

use super::{Fill, each, fill, settings};
use anyhow::{Context, ensure};
use e2e::{
    kind::CONFIG_MAP,
    oracle,
    rig::{Rig, Wish, on_rig, syncer::Syncer},
    wait::{PODS, eventually},
};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tenancy::fleet::{LEASE_DURATION, Replica, owner};

fn wish(tenants: usize) -> Wish {
    Wish {
        tenants,
        // Settings need neither ServiceAccounts nor an end of namespaces.
        controllers: false,
        ..Wish::default()
    }
}

/// Of two syncers the second, with a name by which each leads at least one of the tenants.
fn second(rig: &Rig) -> anyhow::Result<(Syncer, BTreeSet<usize>)> {
    let replica = |name: &str| Replica {
        name: name.to_owned(),
        instance: "x".to_owned(),
    };
    for name in ('b'..='z').map(String::from) {
        let pair = [replica(&rig.syncer.name), replica(&name)];
        let is_its = |tenant: &usize| {
            let owner = owner(&rig.tenants[*tenant].id, &pair);
            owner.is_some_and(|owner| owner.name == name)
        };
        let its: BTreeSet<usize> = (0..rig.tenants.len()).filter(is_its).collect();
        if !its.is_empty() && its.len() < rig.tenants.len() {
            return Ok((rig.another_syncer(&name)?, its));
        }
    }
    anyhow::bail!("no name shares the tenants")
}

/// Waits until each tenant is led by whom `leader` names, and synced.
async fn led(rig: &Rig, leader: impl Fn(usize) -> String) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for tenant in 0..rig.tenants.len() {
        let wanted = leader(tenant);
        eventually(PODS, &format!("t{tenant} is led by {wanted}"), async || {
            let found = rig.leader(tenant).await?;
            ensure!(found == wanted, "it is led by {found:?}");
            Ok(())
        })
        .await?;
    }
    let took = began.elapsed();
    for tenant in 0..rig.tenants.len() {
        rig.synced(tenant).await?;
    }
    Ok(took)
}

/// Creates, changes and deletes settings in all tenants, a batch of each number.
async fn work(rig: &Rig, batches: std::ops::Range<usize>) -> anyhow::Result<()> {
    for batch in batches {
        each(0..rig.tenants.len(), async |tenant| {
            let side = &rig.tenants[tenant].side;
            for number in 0..5 {
                let name = format!("w{batch}-{number}");
                side.create(CONFIG_MAP, settings("default", &name)).await?;
            }
            let patch = serde_json::json!({"data": {"k": "changed"}});
            let changed = format!("w{batch}-0");
            side.merge(CONFIG_MAP, "default", &changed, patch).await?;
            side.delete(CONFIG_MAP, "default", &format!("w{batch}-1"))
                .await?;
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until a new object of each tenant has crossed.
async fn crosses(rig: &Rig, name: &str) -> anyhow::Result<()> {
    for guest in &rig.tenants {
        guest
            .side
            .create(CONFIG_MAP, settings("default", name))
            .await?;
    }
    for guest in &rig.tenants {
        eventually(PODS, "a new object crosses", async || {
            rig.side
                .get(CONFIG_MAP, &guest.twin("default"), name)
                .await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r7_syncers_share_tenants_and_take_over_without_a_lost_or_doubled_write() {
    on_rig(wish(3), async |rig| {
        let (other, its) = second(rig)?;
        let (first, second) = (rig.syncer.name.clone(), other.name.clone());
        let shared = |tenant: usize| {
            if its.contains(&tenant) {
                second.clone()
            } else {
                first.clone()
            }
        };
        led(rig, |_| first.clone()).await?;

        // One joins, while all tenants are at work.
        let joins = async {
            other.start().await?;
            led(rig, shared).await
        };
        let (took, worked) = tokio::join!(joins, work(rig, 0..40));
        let joined = took.with_context(|| other.tail())?;
        worked?;
        crosses(rig, "joined").await?;
        oracle::all(rig).await?;
        let (a, b) = (
            rig.syncer.metric("sublet_syncer_led_tenants", &[]).await?,
            other.metric("sublet_syncer_led_tenants", &[]).await?,
        );
        ensure!(
            a as usize == 3 - its.len() && b as usize == its.len(),
            "{a} and {b} tenants are led by their metrics"
        );

        // It leaves in order.
        let leaves = async {
            other.stop()?;
            led(rig, |_| first.clone()).await
        };
        let (took, worked) = tokio::join!(leaves, work(rig, 40..80));
        let left = took?;
        worked?;
        oracle::all(rig).await?;

        // It comes again, and the first one is killed.
        other.start().await?;
        led(rig, shared).await?;
        let dies = async {
            rig.syncer.kill();
            let took = led(rig, |_| second.clone()).await?;
            crosses(rig, "killed").await?;
            anyhow::Ok(took)
        };
        let began = Instant::now();
        let (took, worked) = tokio::join!(dies, work(rig, 80..120));
        let (killed, crossed) = (took?, began.elapsed());
        worked?;
        oracle::all(rig).await?;
        e2e::told!(
            "fleet: joined after {:.1} s, gave away after {:.1} s; killed, its tenants were led after {:.1} s and their \
             next objects had crossed after {:.1} s",
            joined.as_secs_f64(),
            left.as_secs_f64(),
            killed.as_secs_f64(),
            crossed.as_secs_f64()
        );

        // One that is started again on the same machine doesn't wait for its own old Lease.
        other.kill();
        let began = Instant::now();
        other.start().await?;
        led(rig, |_| second.clone()).await?;
        e2e::told!(
            "fleet: killed and started again, it leads after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        crosses(rig, "again").await?;
        oracle::all(rig).await
    });
}

/// F19: a leader that is stopped for longer than its Lease writes nothing when it goes on.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f19_a_leader_that_was_stopped_writes_nothing_after_the_takeover() {
    on_rig(wish(2), async |rig| {
        let (other, its) = second(rig)?;
        other.start().await?;
        let (first, second) = (rig.syncer.name.clone(), other.name.clone());
        let shared = |tenant: usize| {
            if its.contains(&tenant) {
                second.clone()
            } else {
                first.clone()
            }
        };
        led(rig, shared).await?;
        // In the midst of work, so that writes are on their way.
        let stopped = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            rig.syncer.signal(Signal::STOP)
        };
        let filled = async {
            for tenant in 0..rig.tenants.len() {
                fill(rig, tenant, "default", 150, Fill::ConfigMaps).await?;
            }
            anyhow::Ok(())
        };
        let (stopped, filled) = tokio::join!(stopped, filled);
        stopped?;
        filled?;
        let took = led(rig, |_| second.clone()).await?;
        for tenant in 0..rig.tenants.len() {
            oracle::pairs::agree(rig, &rig.tenants[tenant]).await?;
        }
        // What it would do next is outdated.
        work(rig, 0..10).await?;
        rig.syncer.signal(Signal::CONT)?;
        // It joins again, and gets its tenants back in order.
        work(rig, 10..30).await?;
        led(rig, shared).await?;
        e2e::told!(
            "F19: stopped for {} s at least, taken over after {:.1} s",
            LEASE_DURATION.as_secs(),
            took.as_secs_f64()
        );
        oracle::all(rig).await
    });
}
