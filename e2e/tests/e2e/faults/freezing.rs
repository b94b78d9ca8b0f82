//! R2 and R5: what is missing is not gone until that is sure, and what is missing by the dozen needs a person.

use super::{Fill, crosses, fill, lag, pod, settings};
use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, NAMESPACE, POD},
    make, oracle,
    read::{condition, items, text, uid},
    rig::{Rig, Wish, ending::hasten, on_rig},
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Kind, name and UID of a tenant's twins in one namespace.
async fn twins(rig: &Rig, namespace: &str) -> anyhow::Result<Vec<String>> {
    let mut found = vec![];
    for kind in [CONFIG_MAP, POD] {
        let twin = rig.tenants[0].twin(namespace);
        let list = rig.side.list(kind, &twin, "sublet.dev/tenant").await?;
        found.extend(
            list.iter()
                .map(|object| format!("{} {}", kind.name, uid(object))),
        );
    }
    found.sort_unstable();
    Ok(found)
}

async fn held(rig: &Rig, reason: &str) -> anyhow::Result<String> {
    eventually(PODS, &format!("deletions are held: {reason}"), async || {
        let vcp = rig.vcp(0).await?;
        let found = items(&vcp, "/status/conditions").iter().find(|condition| {
            condition["type"] == "DeletionsHeld" && condition["status"] == "True"
        });
        let found = found.filter(|condition| condition["reason"] == reason);
        match found {
            Some(condition) => Ok(text(condition, "/message").to_owned()),
            None => anyhow::bail!("{}", conditions(&vcp)),
        }
    })
    .await
}

/// Writes one value into a ConfigMap of the tenant's namespace `work`.
async fn edit(rig: &Rig, name: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({"data": {"k": value}});
    rig.tenants[0]
        .side
        .merge(CONFIG_MAP, "work", name, patch)
        .await?;
    Ok(())
}

/// Waits until the twin of such a ConfigMap has that value.
async fn follows(rig: &Rig, name: &str, value: &str) -> anyhow::Result<()> {
    let what = format!("the twin of {name} says {value:?}");
    eventually(PODS, &what, async || {
        let twin = rig.tenants[0].twin("work");
        let found = rig.side.get(CONFIG_MAP, &twin, name).await?;
        ensure!(text(&found, "/data/k") == value, "{}", found["data"]);
        Ok(())
    })
    .await
}

async fn let_go(rig: &Rig, wish: &str) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"annotations": {api::keys::RELEASE: wish}}});
    rig.side
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, "t0", patch)
        .await?;
    eventually(PODS, "nothing is held any more", async || {
        let vcp = rig.vcp(0).await?;
        ensure!(
            condition(&vcp, "DeletionsHeld") == "False",
            "{}",
            conditions(&vcp)
        );
        Ok(())
    })
    .await
}

/// Lets go of what is held by `sublet breaker`, which says first why that is, and these words among others.
async fn by_command(rig: &Rig, reason: &str, words: &str) -> anyhow::Result<()> {
    let sublet = rig.sublet()?;
    let breaker = async |line: &str| {
        let line = format!("breaker {line} -n {NAMESPACE_OF_TESTS}");
        sublet.run(&line).await
    };
    let shown = breaker("show t0 -o json").await?.ok()?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(
        shown["held"] == true
            && shown["reason"] == reason
            && shown["why"].to_string().contains(words),
        "{shown}"
    );
    // There is nobody to ask.
    let asked = breaker("release t0").await?;
    asked.fails(2, &["Deletions are held for t0", "--yes"])?;
    let released = breaker("release t0 --yes").await?;
    released.says(&["t0: deletions are carried out again"])?;
    let again = breaker("release t0 --yes").await?;
    again.says(&["nothing is held for t0"])?;
    Ok(())
}

/// A tenant whose store is wiped keeps its workload; the breaker opens; what an operator lets go of goes.
async fn wiped(rig: &mut Rig, size: usize) -> anyhow::Result<()> {
    fill(rig, 0, "work", size, Fill::ConfigMaps).await?;
    oracle::pairs::agree(rig, &rig.tenants[0]).await?;
    let before = twins(rig, "work").await?;
    ensure!(before.len() >= size, "{} objects", before.len());
    rig.tenants[0].server.wipe()?;
    rig.tenants[0].server.ready().await?;
    let message = held(rig, "TenantIdentityChanged").await?;
    let id = rig.tenants[0].id.to_string();
    eventually(SOON, "the breaker is open", async || {
        let open = rig
            .syncer
            .metric("sublet_syncer_breaker_open", &[&id, "down"])
            .await?;
        let waiting = rig
            .syncer
            .metric("sublet_syncer_breaker_waiting", &[&id, "down"])
            .await?;
        ensure!(
            open > 0.5 && waiting >= size as f64,
            "open {open}, {waiting} wait; {message}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        twins(rig, "work").await? == before,
        "a wiped tenant's workload was deleted"
    );
    // It goes on working for what is new.
    rig.tenants[0].namespace("later").await?;
    eventually(SOON, "creates go on", async || {
        rig.side
            .get(NAMESPACE, "", &rig.tenants[0].twin("later"))
            .await?;
        Ok(())
    })
    .await?;
    // After a restart it is the same.
    rig.syncer.stop()?;
    rig.syncer.start().await?;
    held(rig, "TenantIdentityChanged").await?;
    rig.synced(0).await?;
    ensure!(
        twins(rig, "work").await? == before,
        "a restart deleted a wiped tenant's workload"
    );
    by_command(rig, "TenantIdentityChanged", "objects are missing at once").await?;
    eventually(PODS, "what was let go of is gone", async || {
        let twin = rig.tenants[0].twin("work");
        hasten(&rig.side, &twin).await?;
        let left = rig.side.find(NAMESPACE, "", &twin).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
        Ok(())
    })
    .await?;
    oracle::all(rig).await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f17_a_wiped_tenant_with_50_objects_opens_the_breaker_and_keeps_its_workload() {
    on_rig(Wish::default(), async |rig| wiped(rig, 50).await);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f17_a_wiped_tenant_with_5000_objects_opens_the_breaker_and_keeps_its_workload() {
    on_rig(Wish::default(), async |rig| wiped(rig, 5000).await);
}

/// Deletes so many of 100 ConfigMaps in the tenant while the syncer is down.
///
/// Returns their UIDs, and how many deletions there were in the super cluster before the syncer came back.
async fn deleted_meanwhile(rig: &Rig, count: usize) -> anyhow::Result<(BTreeSet<String>, usize)> {
    fill(rig, 0, "work", 100, Fill::ConfigMaps).await?;
    oracle::pairs::agree(rig, &rig.tenants[0]).await?;
    rig.syncer.stop()?;
    let side = &rig.tenants[0].side;
    let mut doomed = BTreeSet::new();
    for number in 0..count {
        let name = format!("o{number}");
        let object = side.get(CONFIG_MAP, "work", &name).await?;
        doomed.insert(uid(&object).to_owned());
        side.delete(CONFIG_MAP, "work", &name).await?;
    }
    let before = oracle::deeds::deletions(rig)?.len();
    rig.syncer.start().await?;
    Ok((doomed, before))
}

/// Waits until the syncer has deleted the twins of just these objects since, by the super cluster's audit log.
async fn deletes(rig: &Rig, before: usize, doomed: &BTreeSet<String>) -> anyhow::Result<()> {
    let what = format!("the syncer deletes {} twins", doomed.len());
    eventually(SOON, &what, async || {
        let all = oracle::deeds::deletions(rig)?;
        let done: BTreeSet<String> = all
            .into_iter()
            .skip(before)
            .map(|(_, owner)| owner)
            .collect();
        ensure!(
            done == *doomed,
            "{} are deleted, of which {} are to be",
            done.len(),
            done.intersection(doomed).count()
        );
        Ok(())
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r2_60_of_100_objects_that_go_while_the_syncer_is_down_open_the_breaker_until_an_operator_lets_go()
 {
    on_rig(Wish::default(), async |rig| {
        let (mut doomed, before) = deleted_meanwhile(rig, 60).await?;
        let message = held(rig, "BreakerOpen").await?;
        ensure!(message.contains("60 of "), "{message}");
        // Creates, updates and status go on, and so do deletions that the API tells of.
        let guest = &rig.tenants[0];
        crosses(rig, 0, ("work", "since"), SOON).await?;
        edit(rig, "o60", "since").await?;
        follows(rig, "o60", "since").await?;
        guest.side.create(POD, pod("work", "web")).await?;
        eventually(PODS, "the tenant sees that its pod runs", async || {
            let pod = guest.side.get(POD, "work", "web").await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
            Ok(())
        })
        .await?;
        let since = guest.side.get(CONFIG_MAP, "work", "since").await?;
        let since = uid(&since).to_owned();
        guest.side.delete(CONFIG_MAP, "work", "since").await?;
        deletes(rig, before, &BTreeSet::from([since.clone()])).await?;
        held(rig, "BreakerOpen").await?;
        lag::says(rig, 0, "what is held waits", |sync| {
            sync["toSuper"]["waiting"].as_u64() >= Some(60) && sync["behindSince"].is_string()
        })
        .await?;
        by_command(rig, "BreakerOpen", "60 of ").await?;
        doomed.insert(since);
        deletes(rig, before, &doomed).await?;
        lag::in_step(rig, 0).await?;
        oracle::all(rig).await?;
        deletes(rig, before, &doomed).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r2_20_of_100_objects_that_go_while_the_syncer_is_down_are_no_case_for_the_breaker() {
    on_rig(Wish::default(), async |rig| {
        let (doomed, before) = deleted_meanwhile(rig, 20).await?;
        deletes(rig, before, &doomed).await?;
        oracle::all(rig).await?;
        deletes(rig, before, &doomed).await?;
        let held = condition(&rig.vcp(0).await?, "DeletionsHeld").to_owned();
        let log = rig.syncer.log()?;
        ensure!(
            held == "False" && !log.contains("deletions are held"),
            "they were held: {held}\n{log}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f15_a_tenant_that_is_restored_from_an_older_backup_keeps_what_is_newer_than_that() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 5, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let backup = rig.folder().join("backup");
        rig.tenants[0].server.back_up(&backup)?;
        rig.tenants[0].server.ready().await?;
        rig.synced(0).await?;
        // Few enough that no breaker would mind.
        for number in 0..5 {
            let object = settings("work", &format!("newer{number}"));
            rig.tenants[0].side.create(CONFIG_MAP, object).await?;
        }
        for round in 0..20 {
            edit(rig, "o0", &format!("lost{round}")).await?;
            edit(rig, "o1", &format!("lost{round}")).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = twins(rig, "work").await?;
        rig.tenants[0].server.restore(&backup)?;
        rig.tenants[0].server.ready().await?;
        let message = held(rig, "TenantWentBack").await?;
        rig.synced(0).await?;
        // What was edited since the backup is as the backup has it, and so are edits that come before the store's counter
        // is where it was.
        follows(rig, "o0", "v").await?;
        edit(rig, "o1", "since").await?;
        follows(rig, "o1", "since").await?;
        ensure!(
            twins(rig, "work").await? == before,
            "objects newer than the backup were deleted: {message}"
        );
        // The same for a syncer that starts afterwards and has only the marks to go by.
        rig.syncer.kill();
        rig.syncer.start().await?;
        rig.synced(0).await?;
        held(rig, "TenantWentBack").await?;
        ensure!(
            twins(rig, "work").await? == before,
            "objects newer than the backup were deleted: {message}"
        );
        let_go(rig, "they may go").await?;
        oracle::all(rig).await?;
        ensure!(twins(rig, "work").await?.len() == before.len() - 5);
        // Whoever was let go of once isn't for ever.
        let object = settings("work", "later");
        rig.tenants[0].side.create(CONFIG_MAP, object).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.tenants[0].server.restore(&backup)?;
        rig.tenants[0].server.ready().await?;
        held(rig, "TenantWentBack").await.map(drop)
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r2_after_a_restore_by_sublet_what_the_backup_lacks_is_kept_until_an_operator_lets_go_of_it() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 3, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let backup = rig.folder().join("backup");
        rig.tenants[0].server.back_up(&backup)?;
        rig.tenants[0].server.ready().await?;
        rig.synced(0).await?;
        for number in 0..3 {
            let object = settings("work", &format!("newer{number}"));
            rig.tenants[0].side.create(CONFIG_MAP, object).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = twins(rig, "work").await?;
        // What Sublet's own restore does: the data, and the counter that says so.
        rig.syncer.stop()?;
        rig.tenants[0].server.restore(&backup)?;
        rig.tenants[0].server.ready().await?;
        let vcp = rig.vcp(0).await?;
        let mut proof = vcp["status"]["proof"].clone();
        proof["restoreCounter"] = json!(1);
        rig.side
            .merge_status(
                CONTROL_PLANE,
                NAMESPACE_OF_TESTS,
                "t0",
                json!({"proof": proof}),
            )
            .await?;
        rig.syncer.start().await?;
        rig.synced(0).await?;
        let message = held(rig, "Quarantined").await?;
        ensure!(message.contains("newer"), "{message}");
        ensure!(
            twins(rig, "work").await? == before,
            "objects from before the restore were deleted"
        );
        // What is made and deleted since is not in question.
        let guest = &rig.tenants[0];
        guest
            .side
            .create(CONFIG_MAP, settings("work", "since"))
            .await?;
        eventually(SOON, "creates go on", async || {
            rig.side
                .get(CONFIG_MAP, &guest.twin("work"), "since")
                .await?;
            Ok(())
        })
        .await?;
        guest.side.delete(CONFIG_MAP, "work", "since").await?;
        eventually(SOON, "deletions that are told of go on", async || {
            ensure!(twins(rig, "work").await? == before, "it is there");
            Ok(())
        })
        .await?;
        let_go(rig, "they may go").await?;
        eventually(PODS, "what was let go of is gone", async || {
            let left = twins(rig, "work").await?.len();
            ensure!(left == before.len() - 3, "{left} of {}", before.len());
            Ok(())
        })
        .await?;
        oracle::all(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f16_r5_a_super_cluster_that_is_restored_from_an_older_backup_ends_no_pod_that_ran() {
    on_rig(Wish::default(), async |rig| {
        rig.tenants[0].namespace("work").await?;
        let backup = rig.folder().join("backup");
        rig.above.back_up(&backup)?;
        rig.above.ready().await?;
        rig.synced(0).await?;
        fill(rig, 0, "work", 3, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let pods = async |rig: &Rig| -> anyhow::Result<Vec<String>> {
            let list = rig.tenants[0].side.list(POD, "work", "").await?;
            Ok(list.iter().map(|pod| uid(pod).to_owned()).collect())
        };
        let before = pods(rig).await?;
        ensure!(before.len() == 3);
        // The marks must tell of them before they are of use.
        let marked = async || -> anyhow::Result<()> {
            let mark = rig.tenants[0]
                .side
                .get(CONFIG_MAP, "kube-system", api::MARK_NAME)
                .await?;
            let newest = rig.side.list(POD, "", "").await?;
            let newest = newest
                .iter()
                .filter_map(|pod| text(pod, "/metadata/resourceVersion").parse::<u64>().ok());
            let known: u64 = text(&mark, "/data/superVersion").parse()?;
            ensure!(known >= newest.max().unwrap_or_default(), "{mark}");
            Ok(())
        };
        eventually(SOON, "the tenant's mark knows of the pods", marked).await?;
        rig.syncer.kill();
        rig.above.restore(&backup)?;
        rig.above.ready().await?;
        rig.syncer.start().await?;
        held(rig, "SuperClusterWentBack").await?;
        rig.synced(0).await?;
        ensure!(
            pods(rig).await? == before,
            "pods were ended though the super cluster is older than they are"
        );
        let_go(rig, "they ended").await?;
        eventually(PODS, "the pods have ended", async || {
            let left = pods(rig).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        rig.tenants[0]
            .side
            .create(POD, json!({"metadata": {"name": "next", "namespace": "work"}, "spec": make::pod_spec(make::idle())}))
            .await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f16_what_a_restored_super_cluster_lost_is_edited_again_by_a_syncer_that_goes_on() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 2, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let backup = rig.folder().join("backup");
        rig.above.back_up(&backup)?;
        rig.above.ready().await?;
        rig.synced(0).await?;
        for round in 0..20 {
            edit(rig, "o0", &format!("lost{round}")).await?;
            edit(rig, "o1", &format!("lost{round}")).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.above.restore(&backup)?;
        rig.above.ready().await?;
        follows(rig, "o0", "lost19").await?;
        edit(rig, "o1", "since").await?;
        follows(rig, "o1", "since").await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r5_pods_that_vanish_by_the_dozen_are_not_ended_in_the_tenant() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 40, Fill::Pods).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.syncer.kill();
        let twin = rig.tenants[0].twin("work");
        let path = POD.path(&twin, "") + "?gracePeriodSeconds=0";
        rig.side.request(http::Method::DELETE, &path, None).await?;
        eventually(SOON, "all super pods are gone", async || {
            let left = rig.side.list(POD, &twin, "").await?;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await?;
        rig.syncer.start().await?;
        let message = held(rig, "UpwardBreakerOpen").await?;
        ensure!(message.contains("40 of 40"), "{message}");
        rig.synced(0).await?;
        let left = rig.tenants[0].side.list(POD, "work", "").await?;
        ensure!(left.len() == 40, "{} of 40 pods are left", left.len());
        let_go(rig, "they are gone").await?;
        eventually(PODS, "the pods have ended", async || {
            let left = rig.tenants[0].side.list(POD, "work", "").await?;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn r2_the_end_of_a_large_namespace_is_no_case_for_the_breaker() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "doomed", 80, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        rig.tenants[0].side.delete(NAMESPACE, "", "doomed").await?;
        eventually(PODS, "the twin is gone", async || {
            let left = rig
                .side
                .find(NAMESPACE, "", &rig.tenants[0].twin("doomed"))
                .await?;
            ensure!(
                left.is_none(),
                "{}; {}",
                left.unwrap_or_default()["status"],
                conditions(&rig.vcp(0).await?)
            );
            Ok(())
        })
        .await?;
        oracle::all(rig).await
    });
}
