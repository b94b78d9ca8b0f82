//! T43: the budget of a group of tenants that several syncers lead, which no number of creators gets around.

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, GROUP, NAMESPACE, POD},
    make, oracle,
    read::{annotation, event, label, name, text, uid},
    rig::{Rig, Wish, audit::deeds, on_rig, syncer::Syncer},
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, SOON, eventually},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::HashSet;
use tenancy::fleet::{Replica, owner};

const TENANTS: usize = 5;
const CREATORS: usize = 50;
const LIMIT: usize = 20;
const GROUP_NAME: &str = "customer";
/// A label that the group puts on what is its.
const CUSTOMER: &str = "example.com/customer";

fn wish() -> Wish {
    Wish {
        tenants: TENANTS,
        // Six API servers are enough for one machine; what controllers would make, the test makes.
        controllers: false,
        ..Wish::default()
    }
}

/// A syncer beside the first, with a name by which each leads some of the tenants.
fn second(rig: &Rig) -> anyhow::Result<Syncer> {
    let replica = |name: &str| Replica {
        name: name.to_owned(),
        instance: "x".to_owned(),
    };
    let shares = |name: &String| {
        let pair = [replica(&rig.syncer.name), replica(name)];
        let its = rig
            .tenants
            .iter()
            .filter(|guest| owner(&guest.id, &pair).is_some_and(|owner| owner.name == *name));
        (1..TENANTS).contains(&its.count())
    };
    let name = ('b'..='z').map(String::from).find(shares);
    rig.another_syncer(&name.context("no name shares the tenants")?)
}

async fn prepare(rig: &Rig) -> anyhow::Result<()> {
    for guest in &rig.tenants {
        guest.account().await?;
    }
    Ok(())
}

async fn budget(rig: &Rig, quota: Value) -> anyhow::Result<()> {
    let labels = json!({CUSTOMER: "acme"});
    let spec = json!({"namespaces": [NAMESPACE_OF_TESTS], "quota": quota, "labels": labels});
    let group = json!({"metadata": {"name": GROUP_NAME}, "spec": spec});
    match rig.side.find(GROUP, "", GROUP_NAME).await? {
        None => rig.side.create(GROUP, group).await?,
        Some(_) => {
            let patch = json!({"spec": {"quota": quota}});
            rig.side.merge(GROUP, "", GROUP_NAME, patch).await?
        }
    };
    Ok(())
}

/// Waits until the group's status says so many pods of so many, in shares that add up.
async fn shown(rig: &Rig, used: usize, hard: usize) -> anyhow::Result<()> {
    eventually(
        PODS,
        &format!("{used} of {hard} pods are shown"),
        async || {
            let group = rig.side.get(GROUP, "", GROUP_NAME).await?;
            let status = &group["status"];
            let said = |pointer: &str| text(status, pointer).parse::<usize>();
            ensure!(said("/quota/used/pods") == Ok(used), "{status}");
            ensure!(said("/quota/hard/pods") == Ok(hard), "{status}");
            let shares = status["shares"].as_object().context("no shares")?;
            ensure!(shares.len() == TENANTS, "{status}");
            let sum: usize = shares
                .values()
                .map(|share| text(share, "/used/pods").parse::<usize>().unwrap_or(1000))
                .sum();
            ensure!(sum == used, "{status}");
            Ok(())
        },
    )
    .await
}

/// All super pods of tenants.
async fn twins(rig: &Rig) -> anyhow::Result<Vec<Value>> {
    Ok(rig.side.list(POD, "", keys::TENANT).await?)
}

async fn exactly(rig: &Rig, count: usize) -> anyhow::Result<Vec<Value>> {
    super::exactly(count, async || twins(rig).await).await
}

/// Fifty creators at once, in all tenants in turn.
async fn create(rig: &Rig, round: usize) -> anyhow::Result<Vec<(usize, Value)>> {
    let creators = stream::iter(0..CREATORS).map(async |number| {
        let tenant = number % TENANTS;
        let metadata = json!({"name": format!("r{round}-p{number}"), "namespace": "default"});
        let pod = json!({"metadata": metadata, "spec": make::pod_spec(make::idle())});
        let made = rig.tenants[tenant].side.create(POD, pod).await?;
        anyhow::Ok((tenant, made))
    });
    creators.buffer_unordered(CREATORS).try_collect().await
}

/// Waits until the super namespace of each tenant says whose it is.
async fn labelled(rig: &Rig) -> anyhow::Result<()> {
    for guest in &rig.tenants {
        let twin = guest.twin("default");
        eventually(SOON, &format!("{twin} is labelled"), async || {
            let namespace = rig.side.get(NAMESPACE, "", &twin).await?;
            let says = label(&namespace, CUSTOMER);
            ensure!(says == Some("acme"), "{}", namespace["metadata"]);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn is_made(pod: &Value, twins: &[Value]) -> bool {
    twins
        .iter()
        .any(|twin| annotation(twin, keys::UID) == Some(uid(pod)))
}

/// In the whole history there were never more super pods at once.
pub(super) fn never_more(rig: &Rig, limit: usize) -> anyhow::Result<()> {
    let mut alive = HashSet::new();
    for deed in deeds(&rig.above.audit_log())? {
        if deed.resource != "pods" {
            continue;
        }
        let pod = (deed.namespace.clone(), deed.name.clone());
        match deed.verb.as_str() {
            "create" if deed.code == 201 => drop(alive.insert(pod)),
            "delete" => drop(alive.remove(&pod)),
            _ => {}
        }
        ensure!(alive.len() <= limit, "{} at {}", alive.len(), deed.at);
    }
    Ok(())
}

async fn rounds(rig: &Rig, rounds: usize) -> anyhow::Result<()> {
    let other = second(rig)?;
    other.start().await?;
    prepare(rig).await?;
    budget(rig, json!({"pods": LIMIT.to_string()})).await?;
    shown(rig, 0, LIMIT).await?;
    for round in 0..rounds {
        let made = create(rig, round).await?;
        if round == 1 {
            // Whoever takes over goes on with the shares that it finds.
            other.kill();
        }
        let twins = exactly(rig, LIMIT).await?;
        shown(rig, LIMIT, LIMIT).await?;
        labelled(rig).await?;
        let (runs, waits): (Vec<_>, Vec<_>) =
            made.iter().partition(|(_, pod)| is_made(pod, &twins));
        ensure!(runs.len() == LIMIT, "{} of them run", runs.len());
        if round == 0 {
            for (tenant, pod) in &waits {
                let event = event(&rig.tenants[*tenant].side, POD, pod, "QuotaExceeded").await?;
                let says = text(&event, "/message");
                ensure!(
                    says.contains("shares with others (pods: 1 more of at most 20)"),
                    "{says}"
                );
            }
        }
        if round == 1 {
            other.start().await?;
        }
        // Whose room is free is used by others, and by those who waited longest no less.
        for (tenant, pod) in runs.iter().take(3) {
            let side = &rig.tenants[*tenant].side;
            side.delete(POD, "default", name(pod)).await?;
        }
        let gone: Vec<&str> = runs.iter().take(3).map(|(_, pod)| uid(pod)).collect();
        eventually(PODS, "room is used again", async || {
            let now = self::twins(rig).await?;
            ensure!(now.len() == LIMIT, "{} pods", now.len());
            let is_old =
                |twin: &Value| annotation(twin, keys::UID).is_some_and(|uid| gone.contains(&uid));
            ensure!(!now.iter().any(is_old), "the old ones are there");
            Ok(())
        })
        .await?;
        for (tenant, pod) in &made {
            let side = &rig.tenants[*tenant].side;
            side.delete(POD, "default", name(pod)).await?;
        }
        exactly(rig, 0).await?;
        shown(rig, 0, LIMIT).await?;
    }
    never_more(rig, LIMIT)?;
    oracle::deeds::are_lawful(rig).await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t43_five_control_planes_of_a_group_get_exactly_its_budget() {
    on_rig(wish(), async |rig| rounds(rig, 3).await);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t43_five_control_planes_of_a_group_get_exactly_its_budget_in_20_runs() {
    on_rig(wish(), async |rig| rounds(rig, 20).await);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_groups_budget_is_counted_anew_and_left_by_those_who_go() {
    let wish = Wish {
        tenants: 2,
        controllers: false,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        prepare(rig).await?;
        let pod = async |tenant: usize, name: &str| {
            let metadata = json!({"name": name, "namespace": "default"});
            let pod = json!({"metadata": metadata, "spec": make::pod_spec(make::idle())});
            rig.tenants[tenant].side.create(POD, pod).await
        };
        // What exists counts, though nobody had a budget when it was made.
        for number in 0..3 {
            pod(0, &format!("old{number}")).await?;
        }
        exactly(rig, 3).await?;
        budget(rig, json!({"pods": "4"})).await?;
        pod(1, "a").await?;
        exactly(rig, 4).await?;
        eventually(SOON, "the tenant sees its part", async || {
            let guest = &rig.tenants[1].side;
            let map = guest
                .get(CONFIG_MAP, "kube-system", api::QUOTA_NAME)
                .await?;
            let shown = &map["data"]["shared_pods"];
            ensure!(shown == "1 here, of 4 for all who share it", "{shown}");
            Ok(())
        })
        .await?;
        let waits = pod(1, "b").await?;
        event(&rig.tenants[1].side, POD, &waits, "QuotaExceeded").await?;

        // Shares that somebody takes out of the status are counted again before anything is granted.
        let path = GROUP.path("", GROUP_NAME) + "/status";
        let nothing = json!({"status": {"shares": null, "quota": null}});
        rig.side
            .patch(&path, e2e::side::PatchType::Merge, nothing)
            .await?;
        let more = pod(1, "c").await?;
        event(&rig.tenants[1].side, POD, &more, "QuotaExceeded").await?;
        ensure!(twins(rig).await?.len() == 4);

        // A higher budget lets those in who wait.
        budget(rig, json!({"pods": "5"})).await?;
        exactly(rig, 5).await?;
        // A tenant that leaves the super cluster leaves its room to others.
        for number in 0..3 {
            rig.tenants[0]
                .side
                .delete(POD, "default", &format!("old{number}"))
                .await?;
        }
        eventually(SOON, "those who waited are made", async || {
            let own = format!("{}={}", keys::TENANT, rig.tenants[1].id);
            let twins = rig.side.list(POD, "", &own).await?;
            ensure!(twins.len() == 3, "{}", twins.len());
            Ok(())
        })
        .await?;
        never_more(rig, 5)
    });
}
