//! F22: tenants of another version than the super cluster's. What a newer one knows more is passed on or refused, and
//! never lost in silence.

use super::pod;
use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, EVENT, Kind, NAMESPACE, POD, SECRET, SERVICE},
    make, oracle,
    read::{condition, text, uid},
    rig::{Rig, Wish, on_rig},
    schema,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Reasons by which the syncer tells of a field that can't cross.
const REFUSALS: [&str; 2] = ["UnknownField", "RefusedBySuperCluster"];

/// All features but those by which it waits for others of its kind before it serves.
const FEATURES: &str =
    "AllAlpha=true,AllBeta=true,StorageVersionAPI=false,CoordinatedLeaderElection=false";

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f22_a_tenant_that_is_two_minor_versions_older_is_served() {
    on_rig(of("1.34"), async |rig| served(rig, "v1.34.").await);
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f22_a_tenant_that_is_a_minor_version_ahead_is_served_and_loses_no_field() {
    // Without its features a newer API server stores hardly a field that an older one doesn't know.
    let wish = Wish {
        flags: vec![format!("--feature-gates={FEATURES}")],
        ..of("1.37")
    };
    on_rig(wish, async |rig| {
        served(rig, "v1.37.").await?;
        rig.tenants[0].namespace("ahead").await?;
        let pods = ahead(rig, POD, "Pod", &pod("ahead", "base")).await?;
        let mut service = make::service("base");
        service["metadata"]["namespace"] = "ahead".into();
        let services = ahead(rig, SERVICE, "Service", &service).await?;
        println!("F22: newer fields of pods: {pods}; of Services: {services}");
        ensure!(
            pods.passed + pods.refused > 0,
            "no newer field of a pod is stored by the tenant's API server: nothing was tried"
        );
        oracle::all(rig).await
    });
}

fn of(version: &'static str) -> Wish {
    Wish {
        version: Some(version),
        ..Wish::default()
    }
}

/// What every tenant does works: objects of the common kinds go down, status comes up, changes and deletions cross.
async fn served(rig: &mut Rig, version: &str) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    let told: Value = serde_json::from_str(&guest.side.text("/version").await?)?;
    ensure!(text(&told, "/gitVersion").starts_with(version), "{told}");
    guest.namespace("work").await?;
    let create = async |kind: Kind, mut object: Value| {
        object["metadata"]["namespace"] = "work".into();
        guest.side.create(kind, object).await
    };
    create(CONFIG_MAP, make::config_map("settings", "k", "v")).await?;
    create(
        SECRET,
        json!({"metadata": {"name": "key"}, "stringData": {"k": "v"}}),
    )
    .await?;
    create(SERVICE, make::service("web")).await?;
    create(POD, pod("work", "web")).await?;
    eventually(PODS, "the pod runs, as the tenant sees it", async || {
        let pod = guest.side.get(POD, "work", "web").await?;
        ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
        Ok(())
    })
    .await?;
    let label = json!({"metadata": {"labels": {"tier": "front"}}});
    guest.side.merge(POD, "work", "web", label).await?;
    let change = json!({"data": {"k": "w"}});
    guest
        .side
        .merge(CONFIG_MAP, "work", "settings", change)
        .await?;
    oracle::all(rig).await?;
    let guest = &rig.tenants[0];
    guest.side.delete(NAMESPACE, "", "work").await?;
    eventually(PODS, "the namespace goes on both sides", async || {
        let left = rig.side.find(NAMESPACE, "", &guest.twin("work")).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
        Ok(())
    })
    .await
}

/// How many fields there are that only the tenant knows, and what became of them.
#[derive(Default, Debug)]
struct Newer {
    passed: usize,
    refused: usize,
    /// The tenant's own API server refuses or drops the value: a feature that is off, or a rule of its own.
    not_stored: usize,
}

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            refused,
            not_stored,
        } = self;
        write!(
            f,
            "{passed} passed on, {refused} refused with an event, {not_stored} not taken by the tenant's API server"
        )
    }
}

/// Sets each field that only the tenant knows, one object for each, and looks what becomes of it.
async fn ahead(rig: &Rig, kind: Kind, schema: &str, base: &Value) -> anyhow::Result<Newer> {
    let guest = &rig.tenants[0];
    let spec = format!("{schema}Spec");
    let known: BTreeSet<String> = schema::paths(&rig.side, &spec, "spec")
        .await?
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let theirs = schema::paths(&guest.side, &spec, "spec").await?;
    let fresh = theirs.into_iter().filter(|(path, _)| !known.contains(path));
    let leaves = fresh.filter_map(|(path, kind)| Some((path, sample(&kind)?)));
    let mut found = Newer::default();
    for (number, (path, value)) in leaves.enumerate() {
        let mut object = base.clone();
        let name = format!("n{number}");
        object["metadata"]["name"] = name.as_str().into();
        put(&mut object, &path, value.clone());
        let Ok(stored) = guest.side.create(kind, object).await else {
            found.not_stored += 1;
            continue;
        };
        let is_stored = at(&stored, &path) == Some(&value);
        let crossed = eventually(SOON, &format!("{path} crosses or is refused"), async || {
            let twin = rig.side.find(kind, &guest.twin("ahead"), &name).await?;
            if twin.is_some_and(|twin| !is_stored || at(&twin, &path) == Some(&value)) {
                return Ok(true);
            }
            let told = guest.side.list(EVENT, "ahead", "").await?;
            let refusal = told.iter().find(|event| {
                text(event, "/involvedObject/uid") == uid(&stored)
                    && REFUSALS.contains(&text(event, "/reason"))
            });
            ensure!(refusal.is_some(), "neither is so");
            Ok(false)
        })
        .await?;
        if !crossed {
            // What the super cluster refuses has no twin, which the comparison of both sides can't know.
            guest.side.delete(kind, "ahead", &name).await?;
        }
        *match (is_stored, crossed) {
            (false, _) => &mut found.not_stored,
            (true, true) => &mut found.passed,
            (true, false) => &mut found.refused,
        } += 1;
    }
    Ok(found)
}

/// A value of a type of the schema; none for objects, whose fields are tried one by one.
fn sample(kind: &str) -> Option<Value> {
    Some(match kind {
        "string" => json!("a"),
        "integer" => json!(1),
        "boolean" => json!(true),
        "[string]" => json!(["a"]),
        "{string}" => json!({"a": "b"}),
        _ => return None,
    })
}

/// Sets the field at a path like `spec.containers[].name`, making what is missing on the way.
fn put(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for part in path.split('.') {
        let (field, is_list) = match part.strip_suffix("[]") {
            Some(field) => (field, true),
            None => (part, false),
        };
        place = &mut place[field];
        if is_list {
            if !place.is_array() {
                *place = json!([{"name": "a"}]);
            }
            place = &mut place[0];
        }
    }
    *place = value;
}

/// The value at such a path.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(object, |place, part| match part.strip_suffix("[]") {
            Some(field) => place.get(field)?.get(0),
            None => place.get(part),
        })
}
