//! API servers that lag behind what is stored: F3.
//!
//! Two API servers serve one etcd, and the way of the second one to it is stopped: from then on it knows nothing newer, and
//! what it knows is in the past as soon as the first one has written something.

use super::{Fill, each, fill, settings};
use anyhow::ensure;
use e2e::{
    faultproxy::{Faultproxy, Record, link::Link},
    kind::{CONFIG_MAP, POD},
    oracle::{self, clock::Clock},
    read::{annotation, name, text, uid},
    rig::{Rig, Wish, on_rig, server::Server},
    side::Side,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long it is looked whether something is done for want of knowledge; a syncer that would, does so in moments.
const WATCHED: Duration = Duration::from_secs(15);

/// The second API server of one side.
struct Second {
    another: e2e::rig::server::Another,
    /// Its way to etcd.
    way: Link,
}

impl Second {
    async fn start(server: &mut Server) -> anyhow::Result<Self> {
        let way = Link::start(server.etcd_port()).await?;
        let another = server.start_another(way.port())?;
        let side = Side::connect("another", &server.admin_kubeconfig_of(&another)).await?;
        let ready = eventually(PODS, "the second API server answers", async || {
            let said = side.text("/readyz").await?;
            ensure!(said.trim() == "ok", "{said}");
            // What it serves from its memory is there now.
            side.list(CONFIG_MAP, "", "").await?;
            side.list(POD, "", "").await?;
            Ok(())
        });
        ready.await.map_err(|err| err.context(another.tail()))?;
        Ok(Self { another, way })
    }

    /// From now on it is in the past, and the syncer is led to it by `proxy`.
    fn take_over(&self, proxy: &Faultproxy) {
        self.way.stall();
        proxy.lead_to(self.another.port);
        proxy.link().reset();
        drop(proxy.take_trace());
    }
}

/// Twins with all that is written on them: kind, name, UID, version.
async fn twins(rig: &Rig) -> anyhow::Result<BTreeSet<String>> {
    let twin = rig.tenants[0].twin("work");
    let mut all = BTreeSet::new();
    for kind in [CONFIG_MAP, POD] {
        for object in rig.side.list(kind, &twin, "sublet.dev/tenant").await? {
            let version = text(&object, "/metadata/resourceVersion");
            let (own, id) = (name(&object), uid(&object));
            all.insert(format!("{} {own} {id} {version}", kind.name));
        }
    }
    Ok(all)
}

/// Creates, changes and deletes ten ConfigMaps, and creates two pods, numbered from `first` on.
async fn work(side: &Side, first: usize) -> anyhow::Result<()> {
    each(first..first + 10, async |number| {
        let made = settings("work", &format!("w{number}"));
        side.create(CONFIG_MAP, made).await?;
        let old = format!("o{number}");
        if number % 2 == 0 {
            side.delete(CONFIG_MAP, "work", &old).await?;
        } else {
            let patch = json!({"data": {"k": "changed"}});
            side.merge(CONFIG_MAP, "work", &old, patch).await?;
        }
        Ok(())
    })
    .await?;
    for number in first..first + 2 {
        let made = super::pod("work", &format!("w{number}"));
        side.create(POD, made).await?;
    }
    Ok(())
}

/// Waits until the tenant's pods run and both sides say the same.
async fn settled(rig: &Rig) -> anyhow::Result<()> {
    eventually(PODS, "the pods run", async || {
        let pods = rig.tenants[0].side.list(POD, "work", "").await?;
        let waits = pods
            .iter()
            .find(|pod| text(pod, "/status/phase") != "Running");
        ensure!(waits.is_none(), "{:?}", waits.map(|pod| &pod["status"]));
        Ok(())
    })
    .await?;
    oracle::pairs::agree(rig, &rig.tenants[0]).await
}

/// What of the synced objects was read with success.
fn reads(trace: &[Record]) -> Vec<String> {
    let answered = trace.iter().filter(|record| {
        let asked = &record.asked;
        ["get", "list"].contains(&asked.verb.as_str())
            && ["configmaps", "pods"].contains(&asked.resource.as_str())
            && record.code == 200
    });
    let told = |record: &Record| format!("{} {}", record.asked.verb, record.asked.resource);
    answered.map(told).collect()
}

/// UIDs of the tenant's objects whose twins were deleted.
fn deleted(rig: &Rig) -> anyhow::Result<BTreeSet<String>> {
    let all = oracle::deeds::deletions(rig)?.into_iter();
    let maps = all.filter(|(deed, _)| deed.resource == "configmaps");
    Ok(maps.map(|(_, owner)| owner).collect())
}

async fn ids(side: &Side) -> anyhow::Result<BTreeSet<String>> {
    let all = side.list(CONFIG_MAP, "work", "").await?;
    Ok(all.iter().map(|object| uid(object).to_owned()).collect())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f3_a_tenants_api_server_that_is_in_the_past_brings_nothing_back_and_deletes_nothing() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 40, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = ids(&rig.tenants[0].side).await?;
        let second = Second::start(&mut rig.tenants[0].server).await?;
        second.way.stall();
        work(&rig.tenants[0].side, 0).await?;
        settled(rig).await?;
        let now = twins(rig).await?;

        // Led to the past, by its watches first, then by lists as after a start.
        let guest = &rig.tenants[0];
        second.take_over(&guest.proxy);
        nothing_changes(rig, &now).await?;
        rig.syncer.kill();
        rig.syncer.launch()?;
        nothing_changes(rig, &now).await?;
        let answered = reads(&guest.proxy.take_trace());
        ensure!(answered.is_empty(), "it was told of the past: {answered:?}");

        // What happens meanwhile is seen as soon as there is something new to be seen.
        work(&guest.side, 10).await?;
        nothing_changes(rig, &now).await?;
        second.way.resume();
        oracle::all(rig).await?;
        rig.synced(0).await?;
        let gone: BTreeSet<String> = &before - &ids(&guest.side).await?;
        ensure!(gone.len() == 10, "{} were deleted", gone.len());
        let deleted = deleted(rig)?;
        ensure!(
            deleted == gone,
            "of {gone:?} were to be deleted, and {deleted:?} were"
        );
        changes_are_there(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f3_a_super_api_server_that_is_in_the_past_takes_no_status_back_and_ends_no_pod() {
    on_rig(Wish::default(), async |rig| {
        fill(rig, 0, "work", 40, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let clock = Clock::start(&rig.tenants[0].side).await?;
        let second = Second::start(&mut rig.above).await?;
        second.way.stall();
        // Pods of which the past knows nothing.
        work(&rig.tenants[0].side, 0).await?;
        settled(rig).await?;
        let now = twins(rig).await?;
        let shown = statuses(rig).await?;

        second.take_over(&rig.proxy);
        let began = Instant::now();
        while began.elapsed() < WATCHED {
            let seen = statuses(rig).await?;
            ensure!(seen == shown, "{seen:?} instead of {shown:?}");
            ensure!(twins(rig).await? == now, "something was written");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let answered = reads(&rig.proxy.take_trace());
        ensure!(answered.is_empty(), "it was told of the past: {answered:?}");
        work(&rig.tenants[0].side, 10).await?;
        second.way.resume();
        for tenant in 0..rig.tenants.len() {
            rig.synced(tenant).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        clock.never_went_back()?;
        let guest = &rig.tenants[0];
        let pods = guest.side.list(POD, "work", "").await?;
        ensure!(pods.len() == 4, "{} of 4 pods are left", pods.len());
        oracle::all(rig).await?;
        changes_are_there(rig).await
    });
}

/// Nothing is deleted, made or written in the tenant's super namespace for a while.
async fn nothing_changes(rig: &Rig, wanted: &BTreeSet<String>) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        let seen = twins(rig).await?;
        let lost: Vec<&String> = wanted.difference(&seen).collect();
        let more: Vec<&String> = seen.difference(wanted).collect();
        ensure!(
            lost.is_empty() && more.is_empty(),
            "{lost:?} became {more:?}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// UID and phase of the tenant's pods.
async fn statuses(rig: &Rig) -> anyhow::Result<BTreeSet<String>> {
    let pods = rig.tenants[0].side.list(POD, "work", "").await?;
    let told = |pod: &Value| format!("{} {}", uid(pod), text(pod, "/status/phase"));
    Ok(pods.iter().map(told).collect())
}

/// What was written last is what the twins say, on all that were changed.
async fn changes_are_there(rig: &Rig) -> anyhow::Result<()> {
    let twin = rig.tenants[0].twin("work");
    for number in (1..20).step_by(2) {
        let name = format!("o{number}");
        let object = rig.side.get(CONFIG_MAP, &twin, &name).await?;
        ensure!(text(&object, "/data/k") == "changed", "{object}");
        ensure!(annotation(&object, api::keys::UID).is_some(), "{object}");
    }
    Ok(())
}
