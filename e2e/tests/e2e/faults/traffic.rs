//! API servers that restart, forget, or are written to by many: F1, F4, F5, F6, F14.

use super::{Fill, each, fill, settings};
use anyhow::{Context, ensure};
use e2e::{
    faultproxy::{
        Record,
        rule::{Action, Rule, Times},
    },
    kind::CONFIG_MAP,
    make, oracle,
    read::uid,
    rig::{Rig, Wish, on_rig},
    wait::{PODS, eventually},
};
use rustix::process::Signal;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// UIDs of a tenant's super ConfigMaps.
async fn twins(rig: &Rig) -> anyhow::Result<BTreeSet<String>> {
    let twin = rig.tenants[0].twin("work");
    let list = rig
        .side
        .list(CONFIG_MAP, &twin, "sublet.dev/tenant")
        .await?;
    Ok(list.iter().map(|object| uid(object).to_owned()).collect())
}

/// Restarts both sides' API servers in turn, by both signals, with objects made and deleted before and after each.
async fn restarts(rig: &mut Rig, times: impl Iterator<Item = usize>) -> anyhow::Result<()> {
    fill(rig, 0, "work", 30, Fill::ConfigMaps).await?;
    oracle::pairs::agree(rig, &rig.tenants[0]).await?;
    let before = twins(rig).await?;
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    for time in times {
        count += 1;
        let signal = if time % 2 == 0 {
            Signal::KILL
        } else {
            Signal::TERM
        };
        let made = |half: usize| settings("work", &format!("r{time}-{half}"));
        for half in 0..5 {
            rig.tenants[0].side.create(CONFIG_MAP, made(half)).await?;
        }
        let server = if time % 4 < 2 {
            &mut rig.tenants[0].server
        } else {
            &mut rig.above
        };
        server.end_api(signal)?;
        server.start_api()?;
        server.ready().await?;
        let ready = Instant::now();
        for half in 5..10 {
            rig.tenants[0].side.create(CONFIG_MAP, made(half)).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        slowest = slowest.max(ready.elapsed());
    }
    let after = twins(rig).await?;
    ensure!(after.is_superset(&before), "objects were made anew");
    ensure!(
        after.len() == before.len() + 10 * count,
        "{} objects",
        after.len()
    );
    oracle::all(rig).await?;
    ensure!(
        oracle::deeds::deletions(rig)?.is_empty(),
        "something was deleted"
    );
    println!(
        "F1: {count} restarts; converged at most {:.1} s after ready",
        slowest.as_secs_f64()
    );
    Ok(())
}

/// One that gets SIGTERM keeps its watches for a minute, so that here all are killed.
#[test]
fn f1_a_restart_of_each_api_server_deletes_and_duplicates_nothing() {
    on_rig(Wish::default(), async |rig| {
        restarts(rig, [0, 2].into_iter()).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f1_restarts_of_api_servers_delete_and_duplicate_nothing() {
    on_rig(Wish::default(), async |rig| restarts(rig, 0..20).await);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f4_a_compacted_history_is_listed_again_once_and_deletes_nothing() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 30, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = twins(rig).await?;
        rig.syncer.signal(Signal::STOP)?;
        for number in 0..50 {
            rig.tenants[0]
                .side
                .create(CONFIG_MAP, settings("work", &format!("late{number}")))
                .await?;
        }
        // The API server's own memory of events goes with it, etcd's by the compaction.
        let server = &mut rig.tenants[0].server;
        server.compact().await?;
        server.end_api(Signal::KILL)?;
        server.start_api()?;
        server.ready().await?;
        drop(rig.tenants[0].proxy.take_trace());
        rig.syncer.signal(Signal::CONT)?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let trace = rig.tenants[0].proxy.take_trace();
        let mut lists = BTreeMap::<&str, usize>::new();
        let listed = |record: &&Record| record.asked.verb == "list" && record.code == 200;
        for record in trace.iter().filter(listed) {
            *lists.entry(&record.asked.resource).or_default() += 1;
        }
        ensure!(
            lists.contains_key("configmaps") && lists.values().all(|count| *count == 1),
            "not one list of each kind: {lists:?}"
        );
        ensure!(
            twins(rig).await?.is_superset(&before),
            "objects were made anew"
        );
        oracle::all(rig).await?;
        ensure!(
            oracle::deeds::deletions(rig)?.is_empty(),
            "something was deleted"
        );
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f5_a_list_whose_token_expires_starts_again_and_deletes_nothing() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 700, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = twins(rig).await?;
        rig.syncer.stop()?;
        let expired = Rule::new(
            |asked| {
                asked.verb == "list"
                    && asked.resource == "configmaps"
                    && asked.query.contains("continue=")
            },
            Times::Only(1),
            Action::Answer(410),
        );
        rig.tenants[0].proxy.add(expired.clone());
        rig.syncer.start().await?;
        // What the condition says may be of the time before.
        eventually(PODS, "the list is continued once more", async || {
            ensure!(expired.met() >= 2, "it was {} times", expired.met());
            Ok(())
        })
        .await?;
        rig.synced(0).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        ensure!(twins(rig).await? == before, "objects were made anew");
        oracle::all(rig).await?;
        ensure!(
            oracle::deeds::deletions(rig)?.is_empty(),
            "something was deleted"
        );
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f6_a_storm_of_writers_on_both_sides_costs_few_writes_and_ends() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 20, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        let twin = guest.twin("work");
        drop(rig.proxy.take_trace());
        let changes = AtomicU64::new(0);
        // Five writers with 50 updates a second each, for five seconds, in the tenant and in the super cluster by turns.
        each(0..5, async |writer| {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            for turn in 0..250usize {
                beat.tick().await;
                let name = format!("o{}", (turn * 7 + writer) % 20);
                let patch = json!({"data": {"k": format!("{writer} {turn}")}});
                let done = if turn % 2 == 0 {
                    guest.side.merge(CONFIG_MAP, "work", &name, patch).await
                } else {
                    rig.side.merge(CONFIG_MAP, &twin, &name, patch).await
                };
                done?;
                changes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .await?;
        let quiet = Instant::now();
        oracle::pairs::agree(rig, guest).await?;
        let took = quiet.elapsed();
        let trace = rig.proxy.take_trace();
        let writes = trace
            .iter()
            .filter(|record| record.asked.is_write() && record.asked.resource == "configmaps");
        let (writes, changes) = (writes.count() as u64, changes.load(Ordering::Relaxed));
        println!(
            "F6: {writes} writes for {changes} changes; converged {:.1} s after the last",
            took.as_secs_f64()
        );
        ensure!(
            writes < 3 * changes,
            "{writes} writes for {changes} changes"
        );
        oracle::all(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f14_a_control_plane_that_is_deleted_in_a_burst_is_written_for_no_more() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            fill(rig, 1, "work", 10, Fill::ConfigMaps).await?;
            oracle::pairs::agree(rig, &rig.tenants[1]).await?;
            let guest = &rig.tenants[0];
            guest.namespace("work").await?;
            let burst = each(0..1000, async |number| {
                guest
                    .side
                    .create(CONFIG_MAP, settings("work", &format!("o{number}")))
                    .await?;
                if number == 400 {
                    rig.side
                        .delete(
                            e2e::kind::CONTROL_PLANE,
                            e2e::tenant::NAMESPACE_OF_TESTS,
                            &guest.name,
                        )
                        .await?;
                }
                Ok(())
            });
            burst.await?;
            eventually(
                PODS,
                "nothing is written for the tenant any more",
                async || {
                    drop(guest.proxy.take_trace());
                    drop(rig.proxy.take_trace());
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let twin = guest.twin("work");
                    let late = rig.proxy.take_trace();
                    let late: Vec<_> = late
                        .iter()
                        .filter(|record| record.asked.is_write() && record.asked.namespace == twin)
                        .collect();
                    ensure!(late.is_empty() && guest.proxy.writes() == 0, "{late:?}");
                    Ok(())
                },
            )
            .await
            .with_context(|| rig.syncer.tail())?;
            let other = &rig.tenants[1];
            let mut object = make::config_map("after", "k", "v");
            object["metadata"]["namespace"] = "work".into();
            other.side.create(CONFIG_MAP, object).await?;
            oracle::pairs::agree(rig, other).await
        },
    );
}
