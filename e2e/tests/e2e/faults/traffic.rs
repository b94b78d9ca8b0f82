//! API servers that restart, forget, or are written to by many: F1, F4, F5, F6, F14.

use super::{Fill, each, fill, recovers, settings};
use anyhow::{Context, ensure};
use e2e::{
    faultproxy::{
        Record,
        rule::{Action, Rule, Times},
        step,
    },
    kind::{CONFIG_MAP, CONTROL_PLANE},
    make, oracle,
    read::uid,
    rig::{Rig, Wish, on_rig},
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, eventually},
};
use rustix::process::Signal;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// F1: how soon after an API server is ready again.
const F1: Duration = Duration::from_secs(30);
/// F6: how soon after the last write.
const F6: Duration = Duration::from_secs(5);

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
        slowest = slowest.max(recovers(rig, 0, ready, F1).await?);
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
    e2e::told!(
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

/// The API server itself says that the token has expired: etcd is compacted between two pages, and the API server's own
/// memory of what was goes with it.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f5_a_compaction_between_two_pages_starts_the_list_again_and_deletes_nothing() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 700, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = twins(rig).await?;
        rig.syncer.stop()?;
        // Deleted while nobody looks: of these alone the twins go.
        for number in 0..5 {
            let gone = format!("o{number}");
            rig.tenants[0]
                .side
                .delete(CONFIG_MAP, "work", &gone)
                .await?;
        }
        let (asked, compacted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (asked.clone(), compacted.clone());
        let second_page = Rule::new(
            |asked| {
                asked.verb == "list"
                    && asked.resource == "configmaps"
                    && asked.query.contains("continue=")
            },
            Times::Only(1),
            Action::First(step(move || {
                let (tell, wait) = (tell.clone(), wait.clone());
                async move {
                    tell.notify_one();
                    wait.notified().await;
                }
            })),
        );
        rig.tenants[0].proxy.add(second_page);
        drop(rig.tenants[0].proxy.take_trace());
        rig.syncer.launch()?;
        tokio::time::timeout(PODS, asked.notified())
            .await
            .context("a second page is asked for")?;
        // Else the newest revision may be that of the first page, which compaction leaves.
        rig.tenants[0].namespace("later").await?;
        let server = &mut rig.tenants[0].server;
        server.compact().await?;
        server.end_api(Signal::KILL)?;
        server.start_api()?;
        server.ready().await?;
        compacted.notify_one();
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.synced(0).await?;
        let trace = rig.tenants[0].proxy.take_trace();
        let pages = trace.iter().filter(|record| {
            let asked = &record.asked;
            asked.verb == "list" && asked.resource == "configmaps"
        });
        let codes: Vec<u16> = pages.map(|page| page.code).collect();
        ensure!(codes.contains(&410), "no token expired: {codes:?}");
        let after = twins(rig).await?;
        ensure!(
            after.is_subset(&before) && before.len() == after.len() + 5,
            "{} of {} are left",
            after.len(),
            before.len()
        );
        oracle::all(rig).await?;
        let deletions = oracle::deeds::deletions(rig)?;
        ensure!(deletions.len() == 5, "{deletions:?}");
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
        let took = recovers(rig, 0, quiet, F6).await?;
        let trace = rig.proxy.take_trace();
        let writes = trace
            .iter()
            .filter(|record| record.asked.is_write() && record.asked.resource == "configmaps");
        let (writes, changes) = (writes.count() as u64, changes.load(Ordering::Relaxed));
        e2e::told!(
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
                        .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name)
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

/// multi-tenancy#425: the end of a tenant waits for nothing that is in it.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f14_a_control_plane_whose_api_server_went_first_is_let_go_of() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 10, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.tenants[0].server.end_api(Signal::KILL)?;
        let (namespace, name) = (NAMESPACE_OF_TESTS, rig.tenants[0].name.clone());
        let held = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
        let manager = held(&[api::keys::FINALIZER]);
        rig.side
            .merge(CONTROL_PLANE, namespace, &name, manager)
            .await?;
        rig.side.delete(CONTROL_PLANE, namespace, &name).await?;
        eventually(PODS, "the syncer lets go of it", async || {
            let said = conditions(&rig.vcp(0).await?);
            ensure!(said.contains("Stopped"), "{said}");
            Ok(())
        })
        .await
        .with_context(|| rig.syncer.tail())?;
        let deletions = oracle::deeds::deletions(rig)?;
        ensure!(deletions.is_empty(), "{deletions:?}");
        rig.side
            .merge(CONTROL_PLANE, namespace, &name, held(&[]))
            .await?;
        let server = &mut rig.tenants[0].server;
        server.start_api()?;
        server.ready().await
    });
}
