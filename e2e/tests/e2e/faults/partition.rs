//! Networks that carry nothing and API servers that don't answer: F2, F9.

use super::{Fill, crosses, fill, recovers, settings};
use anyhow::ensure;
use e2e::{
    faultproxy::link::{Link, Way},
    kind::CONFIG_MAP,
    oracle,
    read::{condition, text, uid},
    rig::{Rig, Wish, on_rig},
    tenant::conditions,
    wait::{PODS, SOON, eventually},
};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// R9: how soon a silent API server must be noticed.
const NOTICED: Duration = Duration::from_secs(70);
/// F2: how long an API server is silent.
const HANG: Duration = Duration::from_secs(90);
/// F9: how soon after the network has healed.
const F9: Duration = Duration::from_secs(60);

/// UIDs of a tenant's super ConfigMaps.
async fn twins(rig: &Rig, tenant: usize) -> anyhow::Result<Vec<String>> {
    let twin = rig.tenants[tenant].twin("work");
    let list = rig
        .side
        .list(CONFIG_MAP, &twin, "sublet.dev/tenant")
        .await?;
    Ok(list.iter().map(|object| uid(object).to_owned()).collect())
}

async fn two_at_work(rig: &Rig) -> anyhow::Result<()> {
    for tenant in 0..2 {
        fill(rig, tenant, "work", 20, Fill::ConfigMaps).await?;
    }
    oracle::all(rig).await
}

/// The other tenant's next object crosses as if nothing had happened.
async fn other_is_served(rig: &Rig, name: &str) -> anyhow::Result<()> {
    crosses(rig, 1, ("work", name), SOON).await
}

/// Cuts the first tenant off for `time`, deletes in it meanwhile, and heals.
async fn cut_off(rig: &Rig, cut: impl Fn(&Link), time: Duration) -> anyhow::Result<()> {
    two_at_work(rig).await?;
    let before = twins(rig, 0).await?;
    let guest = &rig.tenants[0];
    cut(guest.proxy.link());
    let began = Instant::now();
    for number in 0..10 {
        guest
            .side
            .delete(CONFIG_MAP, "work", &format!("o{number}"))
            .await?;
    }
    guest
        .side
        .create(CONFIG_MAP, settings("work", "meanwhile"))
        .await?;
    other_is_served(rig, "meanwhile").await?;
    while began.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = twins(rig, 0).await?;
        ensure!(
            before.iter().all(|uid| now.contains(uid)),
            "of a tenant that can't be reached something was deleted"
        );
    }
    other_is_served(rig, "still").await?;
    guest.proxy.link().resume();
    let healed = Instant::now();
    let took = recovers(rig, 0, healed, F9).await?;
    e2e::told!(
        "F9: {} s cut off, converged {:.1} s after",
        time.as_secs(),
        took.as_secs_f64()
    );
    oracle::all(rig).await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_a_tenant_that_is_cut_off_is_frozen_and_others_are_served() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        cut_off(rig, Link::stall, Duration::from_secs(12)).await
    });
}

/// Whether requests or answers are lost, one side goes on hearing the other.
fn cut_off_one_way(way: Way) {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let cut = |link: &Link| link.stall_one_way(way);
        cut_off(rig, cut, Duration::from_secs(12)).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_a_tenant_that_hears_and_is_not_heard_is_frozen_and_others_are_served() {
    cut_off_one_way(Way::ToClient);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_a_tenant_that_is_heard_and_does_not_hear_is_frozen_and_others_are_served() {
    cut_off_one_way(Way::ToServer);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_slow_networks_that_lose_one_piece_in_twenty_lose_no_object() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 10, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        for link in [rig.proxy.link(), guest.proxy.link()] {
            link.slow(Duration::from_millis(500));
        }
        let began = Instant::now();
        for number in 0..60 {
            let object = settings("work", &format!("slow{number}"));
            guest.side.create(CONFIG_MAP, object).await?;
            if number % 3 == 2 {
                let doomed = format!("slow{}", number - 1);
                guest.side.delete(CONFIG_MAP, "work", &doomed).await?;
            }
        }
        oracle::pairs::agree(rig, guest).await?;
        let took = began.elapsed();
        for link in [rig.proxy.link(), guest.proxy.link()] {
            link.resume();
        }
        same_pods(rig).await?;
        e2e::told!(
            "F9: with 500 ms of delay and losses, converged {:.1} s after the first change",
            took.as_secs_f64()
        );
        oracle::all(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_five_minutes_without_a_tenant_and_then_without_the_super_cluster() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            cut_off(rig, Link::stall, Duration::from_secs(300)).await?;
            rig.proxy.link().stall();
            for tenant in &rig.tenants {
                tenant
                    .side
                    .create(CONFIG_MAP, settings("work", "long"))
                    .await?;
                tenant.side.delete(CONFIG_MAP, "work", "o15").await?;
            }
            tokio::time::sleep(Duration::from_secs(300)).await;
            rig.proxy.link().resume();
            let healed = Instant::now();
            for tenant in 0..rig.tenants.len() {
                recovers(rig, tenant, healed, F9).await?;
            }
            e2e::told!(
                "F9: 300 s without the super cluster, converged {:.1} s after",
                healed.elapsed().as_secs_f64()
            );
            oracle::all(rig).await
        },
    );
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_connections_that_are_cut_again_and_again_lose_nothing() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        for number in 0..40 {
            guest
                .side
                .create(CONFIG_MAP, settings("work", &format!("o{number}")))
                .await?;
            if number % 8 == 7 {
                rig.proxy.link().reset();
                guest.proxy.link().reset();
            }
            if number % 3 == 2 {
                guest
                    .side
                    .delete(CONFIG_MAP, "work", &format!("o{}", number - 1))
                    .await?;
            }
        }
        oracle::all(rig).await
    });
}

/// F2: a process that is stopped keeps its connections and answers nothing.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f2_a_hung_api_server_is_noticed_and_others_are_served() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            two_at_work(rig).await?;
            let before = twins(rig, 0).await?;
            rig.tenants[0].server.api()?.signal(Signal::STOP)?;
            let began = Instant::now();
            let noticed = eventually(2 * NOTICED, "the hang is noticed", async || {
                let vcp = rig.vcp(0).await?;
                ensure!(condition(&vcp, "Synced") == "False", "{}", conditions(&vcp));
                Ok(())
            });
            noticed.await?;
            let took = began.elapsed();
            ensure!(took <= NOTICED, "noticed after {took:?}");
            other_is_served(rig, "meanwhile").await?;
            ensure!(
                twins(rig, 0).await? == before,
                "a tenant that hangs was touched"
            );
            rig.tenants[0].server.api()?.signal(Signal::CONT)?;
            rig.synced(0).await?;
            e2e::told!("F2: noticed after {:.0} s", took.as_secs_f64());
            oracle::all(rig).await
        },
    );
}

/// F2, and R5: of what can't be asked nothing is inferred, for as long as it takes.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f2_a_super_api_server_that_accepts_and_never_answers_is_noticed_and_ends_no_pod() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 10, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        let before = statuses(rig).await?;
        rig.above.api()?.signal(Signal::STOP)?;
        let began = Instant::now();
        eventually(SOON, "the syncer leads nobody any more", async || {
            let led = rig.syncer.metric("sublet_syncer_led_tenants", &[]).await?;
            ensure!(led < 0.5, "it leads {led}");
            Ok(())
        })
        .await?;
        eventually(2 * NOTICED, "the hang is noticed", async || {
            let log = rig.syncer.log()?;
            ensure!(log.contains("the API server can't be reached"), "it isn't");
            Ok(())
        })
        .await?;
        let took = began.elapsed();
        ensure!(took <= NOTICED, "noticed after {took:?}");
        let meanwhile = settings("work", "meanwhile");
        guest.side.create(CONFIG_MAP, meanwhile).await?;
        // Time is what is waited for here.
        tokio::time::sleep(HANG.saturating_sub(began.elapsed())).await;
        ensure!(
            statuses(rig).await? == before,
            "something was inferred from silence"
        );
        rig.above.api()?.signal(Signal::CONT)?;
        let answers = Instant::now();
        oracle::pairs::agree(rig, guest).await?;
        rig.synced(0).await?;
        ensure!(statuses(rig).await? == before, "a pod was touched");
        e2e::told!(
            "F2: of the super cluster noticed after {:.0} s, converged {:.1} s after it answered",
            took.as_secs_f64(),
            answers.elapsed().as_secs_f64()
        );
        oracle::all(rig).await?;
        let deletions = oracle::deeds::deletions(rig)?;
        ensure!(deletions.is_empty(), "{deletions:?}");
        Ok(())
    });
}

/// UID and phase of the first tenant's pods.
async fn statuses(rig: &Rig) -> anyhow::Result<Vec<String>> {
    let pods = rig.tenants[0].side.list(e2e::kind::POD, "work", "").await?;
    let told = |pod: &serde_json::Value| format!("{} {}", uid(pod), text(pod, "/status/phase"));
    Ok(pods.iter().map(told).collect())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f9_without_the_super_cluster_nothing_is_lost() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 10, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        rig.proxy.link().stall();
        guest
            .side
            .create(CONFIG_MAP, settings("work", "meanwhile"))
            .await?;
        let patch = json!({"metadata": {"labels": {"tier": "front"}}});
        guest
            .side
            .merge(e2e::kind::POD, "work", "o3", patch)
            .await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.proxy.link().resume();
        eventually(PODS, "both sides say the same", async || {
            let found = oracle::pairs::differences(rig, guest).await?;
            ensure!(found.is_empty(), "{}", found.join("; "));
            Ok(())
        })
        .await?;
        same_pods(rig).await?;
        oracle::all(rig).await
    });
}

async fn same_pods(rig: &Rig) -> anyhow::Result<()> {
    let pods = rig.tenants[0].side.list(e2e::kind::POD, "work", "").await?;
    ensure!(pods.len() == 10, "{} of 10 pods are left", pods.len());
    Ok(())
}
