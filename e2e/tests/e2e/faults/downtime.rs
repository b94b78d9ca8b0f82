//! What happened while nobody watched, or was told of by nobody: F11, F12, F13.

use super::{Fill, each, fill, pod, same};
use anyhow::{Context, ensure};
use e2e::{
    faultproxy::{
        Record,
        rule::{Action, Rule, Times},
    },
    kind::{CONFIG_MAP, EVENT, NAMESPACE, POD},
    oracle::{self, clock::Clock},
    read::{annotation, condition, text, uid},
    rig::{Guest, Rig, Wish, on_rig, player, syncer::Periods},
    wait::{PODS, SOON, busy, eventually},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Objects before the syncer stops; 500 of them are deleted meanwhile.
const MANY: usize = 1100;
/// F12: how soon what happened meanwhile is made good.
const F12: Duration = Duration::from_secs(10);

#[test]
fn f12_500_deletes_and_100_super_edits_and_deletes_while_the_syncer_is_down_converge_exactly() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", MANY, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        let twin = guest.twin("work");
        rig.syncer.stop()?;
        let doomed = guest.side.list(CONFIG_MAP, "work", "").await?;
        let doomed: BTreeSet<String> = doomed
            .iter()
            .filter(|object| number(object) < 500)
            .map(|object| uid(object).to_owned())
            .collect();
        same("chosen", &doomed.len(), &500)?;
        each(0..500, async |number| {
            Ok(guest
                .side
                .delete(CONFIG_MAP, "work", &format!("o{number}"))
                .await?)
        })
        .await?;
        each(500..600, async |number| {
            let patch = json!({"data": {"k": "edited", "x": "y"}});
            rig.side
                .merge(CONFIG_MAP, &twin, &format!("o{number}"), patch)
                .await?;
            Ok(())
        })
        .await?;
        each(600..700, async |number| {
            let gone = format!("o{number}");
            Ok(rig.side.delete(CONFIG_MAP, &twin, &gone).await?)
        })
        .await?;
        let before = oracle::deeds::deletions(rig)?.len();
        drop(rig.proxy.take_trace());
        let mut made = 0;
        let began = Instant::now();
        rig.syncer.launch()?;
        // The lists of both sides would take much of the machine while the syncer works.
        let id = guest.id.to_string();
        eventually(busy(F12), "all is worked", async || {
            let count = async |name: &str| rig.syncer.metric(name, &[&id]).await;
            let deleted = count("sublet_syncer_deleted_total").await?;
            let patched = count("sublet_syncer_patched_total").await?;
            let trace = rig.proxy.take_trace();
            made += trace.iter().filter(|record| is_made(record, &twin)).count();
            ensure!(
                deleted >= 500.0 && patched >= 100.0 && made >= 100,
                "{deleted} are deleted, {patched} are put right, {made} are made again"
            );
            Ok(())
        })
        .await?;
        let took = began.elapsed();
        eventually(SOON, "the super cluster has what is left", async || {
            let left = rig
                .side
                .list(CONFIG_MAP, &twin, "sublet.dev/tenant")
                .await?;
            let is_edited = |object: &&Value| object["data"]["k"] == "edited";
            let edited = left.iter().filter(is_edited).count();
            ensure!(
                // One more is the tenant's authority.
                (MANY - 500..=MANY - 499).contains(&left.len()) && edited == 0,
                "{} are left, {edited} are edited",
                left.len()
            );
            Ok(())
        })
        .await?;
        oracle::all(rig).await?;
        let deleted: BTreeSet<String> = oracle::deeds::deletions(rig)?
            .into_iter()
            .skip(before)
            .map(|(_, owner)| owner)
            .collect();
        ensure!(
            deleted == doomed,
            "{} deletions, and 500 were asked for",
            deleted.len()
        );
        // Somebody's edit is told where it was made, and nowhere else.
        let told = rig.side.list(EVENT, &twin, "").await?;
        let told = told
            .iter()
            .filter(|event| event["reason"] == "EditUndone")
            .count();
        ensure!(told >= 100, "{told} events tell of 100 edits");
        let own = guest.side.list(EVENT, "work", "").await?;
        ensure!(
            own.is_empty(),
            "the tenant was told of what it hasn't to do with: {own:?}"
        );
        e2e::told!(
            "F12: 500 deletes, 100 edits and 100 deletes above converged {:.1} s after the start",
            took.as_secs_f64()
        );
        Ok(())
    });
}

/// Whether a ConfigMap was made in a namespace.
fn is_made(record: &Record, namespace: &str) -> bool {
    let asked = &record.asked;
    asked.verb == "create"
        && asked.resource == "configmaps"
        && asked.namespace == namespace
        && record.code == 201
}

/// The number in an object's name; large for others.
fn number(object: &Value) -> usize {
    let name = text(object, "/metadata/name");
    name.strip_prefix('o')
        .and_then(|number| number.parse().ok())
        .unwrap_or(usize::MAX)
}

#[test]
fn f13_one_pod_name_deleted_and_created_100_times_at_10_hz_ends_with_the_newest() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let twin = guest.twin("work");
        let clock = Clock::start(&guest.side).await?;
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..100 {
            beat.tick().await;
            again(rig).await?;
        }
        let newest = newest_runs(rig).await?;
        // The same while nobody looks.
        rig.syncer.stop()?;
        for _ in 0..10 {
            again(rig).await?;
        }
        rig.syncer.start().await?;
        let last = newest_runs(rig).await?;
        ensure!(last != newest);
        oracle::all(rig).await?;
        let pods = rig.side.list(POD, &twin, "").await?;
        same("super pods", &pods.len(), &1)?;
        // Ten statuses in a row, the last of which must be the one that is shown.
        for _ in 0..10 {
            let pod = rig.side.get(POD, &twin, "web").await?;
            player::show_running(&rig.side, &pod).await?;
        }
        oracle::pairs::agree(rig, guest).await?;
        e2e::told!(
            "F13: 110 incarnations; {} statuses shown, none older than the one before",
            clock.never_went_back()?
        );
        Ok(())
    });
}

/// Deletes the pod at once and creates it anew.
async fn again(rig: &Rig) -> anyhow::Result<()> {
    let side = &rig.tenants[0].side;
    let now = json!({"gracePeriodSeconds": 0});
    let path = POD.path("work", "web");
    match side.request(http::Method::DELETE, &path, Some(now)).await {
        Err(problem) if problem.code != 404 => return Err(problem.into()),
        _ => {}
    }
    side.create(POD, pod("work", "web")).await?;
    Ok(())
}

/// Waits until the newest incarnation runs, and its twin is its own.
async fn newest_runs(rig: &Rig) -> anyhow::Result<String> {
    let guest = &rig.tenants[0];
    eventually(PODS, "the newest pod runs", async || {
        let pod = guest.side.get(POD, "work", "web").await?;
        let twin = rig.side.get(POD, &guest.twin("work"), "web").await?;
        ensure!(
            annotation(&twin, api::keys::UID) == Some(uid(&pod)),
            "the twin is of an older one"
        );
        ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
        Ok(uid(&pod).to_owned())
    })
    .await
    .with_context(|| rig.syncer.tail())
}

#[test]
fn f11_events_that_never_come_are_made_good_by_the_patrol() {
    let wish = Wish {
        periods: Periods {
            patrol: 3,
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        let guest = &rig.tenants[0];
        let lost = Rule::new(
            |asked| asked.resource == "configmaps" && asked.verb == "DELETED",
            Times::All,
            Action::Drop,
        );
        let third = Rule::new(
            |asked| {
                asked.resource == "configmaps" && asked.namespace == "work" && asked.verb == "ADDED"
            },
            Times::Every(3),
            Action::Drop,
        );
        guest.proxy.add(lost.clone());
        guest.proxy.add(third.clone());
        fill(rig, 0, "work", 60, Fill::ConfigMaps).await?;
        each(0..20, async |number| {
            Ok(guest
                .side
                .delete(CONFIG_MAP, "work", &format!("o{number}"))
                .await?)
        })
        .await?;
        eventually(PODS, "both sides say the same", async || {
            let found = oracle::pairs::differences(rig, guest).await?;
            ensure!(found.is_empty(), "{}", found.join("; "));
            Ok(())
        })
        .await?;
        eventually(SOON, "all events have come", async || {
            let (lost, third) = (lost.met(), third.met());
            ensure!(lost >= 20 && third >= 60, "{lost} and {third} came");
            Ok(())
        })
        .await?;
        let id = guest.id.to_string();
        for metric in ["checked", "drifted", "repaired"] {
            let name = format!("sublet_syncer_patrol_{metric}_total");
            ensure!(rig.syncer.metric(&name, &[&id]).await? > 0.0, "{name} is 0");
        }
        guest.proxy.clear();
        oracle::all(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn two_tenants_with_the_same_300_names_never_meet() {
    on_rig(
        Wish {
            tenants: 2,
            ..Wish::default()
        },
        async |rig| {
            fill(rig, 0, "work", 300, Fill::ConfigMaps).await?;
            fill(rig, 1, "work", 300, Fill::ConfigMaps).await?;
            oracle::all(rig).await?;
            let [guest, other] = &rig.tenants[..] else {
                anyhow::bail!("two tenants were wished for");
            };
            let before = on_both_sides(rig, other).await?;
            ensure!(before.len() >= 600, "{}", before.len());
            each(0..10, async |number| {
                let (name, patch) = (format!("o{number}"), json!({"data": {"k": "new"}}));
                guest.side.merge(CONFIG_MAP, "work", &name, patch).await?;
                Ok(())
            })
            .await?;
            oracle::all(rig).await?;
            let edited = on_both_sides(rig, guest).await?;
            let edited = edited.iter().filter(|object| object["data"]["k"] == "new");
            same("edited on both sides", &edited.count(), &20)?;
            ensure!(
                on_both_sides(rig, other).await? == before,
                "one tenant's edits reached another's objects"
            );
            guest.side.delete(NAMESPACE, "", "work").await?;
            oracle::all(rig).await?;
            ensure!(
                on_both_sides(rig, other).await? == before,
                "one tenant's deletions reached another's objects"
            );
            Ok(())
        },
    );
}

/// A tenant's ConfigMaps, as they are stored on either side.
async fn on_both_sides(rig: &Rig, guest: &Guest) -> anyhow::Result<Vec<Value>> {
    let mut all = guest.side.list(CONFIG_MAP, "work", "").await?;
    let (above, marked) = (&rig.side, "sublet.dev/tenant");
    all.extend(above.list(CONFIG_MAP, &guest.twin("work"), marked).await?);
    Ok(all)
}
