//! F22: tenants of another version than the super cluster's. What a newer one knows more is passed on or refused, and
//! never lost in silence.

use super::pod;
use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, EVENT, Kind, NAMESPACE, POD, SECRET, SERVICE},
    make, oracle,
    read::{self, condition, items, text, uid},
    rig::{Rig, Wish, on_rig},
    schema,
    side::PatchType,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Reasons by which the syncer tells of a field that can't cross.
const REFUSALS: [&str; 3] = ["UnknownField", "SourceRefused", "RefusedBySuperCluster"];

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
        e2e::told!("F22: newer fields of pods: {pods}; of Services: {services}");
        pods.is_as_written("Pod", NEVER_STORED)?;
        services.is_as_written("Service", &[])?;
        ensure!(pods.refused > 0, "no newer field of a pod was refused");
        ensure!(
            services.count() == 0,
            "Services have newer fields in this version: {services}"
        );
        debugged(rig).await?;
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

/// What became of the fields that only the tenant knows.
#[derive(Default, Debug)]
struct Newer {
    passed: usize,
    refused: usize,
    /// The tenant's own API server refuses or drops the value; with its words.
    not_stored: Vec<(String, String)>,
}

impl Newer {
    fn count(&self) -> usize {
        self.passed + self.refused + self.not_stored.len()
    }

    /// None is passed on, since the super cluster's API server is the older one and has no place for it; and only those
    /// weren't tried of which it is written why.
    fn is_as_written(&self, kind: &str, never_stored: &[(&str, &str)]) -> anyhow::Result<()> {
        let is_written = |path: &str| never_stored.iter().any(|(part, _)| path.starts_with(part));
        let untried: Vec<_> = self
            .not_stored
            .iter()
            .filter(|(path, _)| !is_written(path))
            .collect();
        ensure!(
            untried.is_empty(),
            "fields of a {kind} that want a value or what belongs to it: {untried:#?}"
        );
        ensure!(
            self.passed == 0,
            "the super cluster serves a field that its schema lacks: {self:?}"
        );
        Ok(())
    }
}

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not_stored = self.not_stored.len();
        let Self {
            passed, refused, ..
        } = self;
        write!(
            f,
            "{passed} passed on, {refused} refused with an event, {not_stored} not taken by the tenant's API server"
        )
    }
}

/// Fields that no API server stores when a pod is made, and why.
const NEVER_STORED: &[(&str, &str)] = &[(
    "spec.ephemeralContainers[]",
    "they come to a pod that runs (`debugged`), and have neither probes nor hooks",
)];

/// A debug container with a newer field is told of and not taken down, and its pod goes on.
async fn debugged(rig: &Rig) -> anyhow::Result<()> {
    let (guest, side) = (&rig.tenants[0], &rig.tenants[0].side);
    let mut object = pod("ahead", "debugged");
    object["spec"]["volumes"] = json!([{"name": "a", "emptyDir": {}}]);
    let made = side.create(POD, object).await?;
    let twin = guest.twin("ahead");
    eventually(PODS, "the pod crosses", async || {
        Ok(rig.side.get(POD, &twin, "debugged").await?)
    })
    .await?;
    let mount = json!({"name": "a", "mountPath": "/a", "bindMountOptions": ["noexec"]});
    let container = json!({"name": "debug", "image": make::PAUSE, "volumeMounts": [mount]});
    let path = POD.path("ahead", "debugged") + "/ephemeralcontainers";
    let patch = json!({"spec": {"ephemeralContainers": [container]}});
    let stored = side.patch(&path, PatchType::Merge, patch).await?;
    let field = "spec.ephemeralContainers[].volumeMounts[].bindMountOptions";
    ensure!(at(&stored, field) == Some(&json!(["noexec"])), "{stored}");
    read::event(side, POD, &made, REFUSALS[0]).await?;
    let twin = rig.side.get(POD, &twin, "debugged").await?;
    ensure!(
        items(&twin, "/spec/ephemeralContainers").is_empty(),
        "{twin}"
    );
    Ok(())
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
    let leaves = fresh.filter_map(|(path, kind)| {
        let value = value(&path, &kind)?;
        Some((path, value))
    });
    let mut found = Newer::default();
    for (number, (path, value)) in leaves.enumerate() {
        let mut object = base.clone();
        let name = format!("n{number}");
        object["metadata"]["name"] = name.as_str().into();
        surround(&mut object, &path);
        put(&mut object, &path, value.clone());
        let stored = match guest.side.create(kind, object).await {
            Ok(stored) => stored,
            Err(problem) => {
                found.not_stored.push((path, problem.to_string()));
                continue;
            }
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
        match (is_stored, crossed) {
            (false, _) => found.not_stored.push((path, "dropped".into())),
            (true, true) => found.passed += 1,
            (true, false) => found.refused += 1,
        }
    }
    Ok(found)
}

/// A value for a field: one of its own, or else any of its type; none for objects, whose fields are tried one by one.
fn value(path: &str, kind: &str) -> Option<Value> {
    let own = [
        ("httpGet.protocol", json!("HTTP2")),
        ("grpc.mode", json!("TLS")),
        ("bindMountOptions", json!(["noexec"])),
        ("evictionResponders[].name", json!("example.com/a")),
        ("evictionResponders[].priority", json!(10_000)),
    ];
    if let Some((_, value)) = own.into_iter().find(|(end, _)| path.ends_with(end)) {
        return Some(value);
    }
    Some(match kind {
        "string" => json!("a"),
        "integer" => json!(1),
        "boolean" => json!(true),
        "[string]" => json!(["a"]),
        "{string}" => json!({"a": "b"}),
        _ => return None,
    })
}

/// Makes what an API server wants to stand around a field.
fn surround(object: &mut Value, path: &str) {
    let init = json!({"name": "first", "image": make::PAUSE, "restartPolicy": "Always"});
    let around = [
        ("initContainers[]", init),
        ("httpGet", json!({"port": 80})),
        ("grpc", json!({"port": 80})),
        ("volumeMounts[]", json!({"name": "a", "mountPath": "/a"})),
        (
            "evictionResponders[]",
            json!({"name": "example.com/a", "priority": 10_000}),
        ),
        ("configMap", json!({"name": "a"})),
        ("volumes[].secret", json!({"secretName": "a"})),
        ("sources[].secret", json!({"name": "a"})),
        (
            "downwardAPI.items[]",
            json!({"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}),
        ),
        ("items[]", json!({"key": "k", "path": "p"})),
        ("clusterTrustBundle", json!({"name": "a", "path": "p"})),
        (
            "podCertificate",
            json!({"signerName": "example.com/a", "keyType": "ED25519", "credentialBundlePath": "p"}),
        ),
        ("serviceAccountToken", json!({"path": "p"})),
    ];
    if path.contains("volumeMounts[]") {
        put(object, "spec.volumes[].emptyDir", json!({}));
    }
    for (end, _) in path.match_indices('.') {
        let above = &path[..end];
        if let Some((_, value)) = around.iter().find(|(part, _)| above.ends_with(part)) {
            put(object, above, value.clone());
        }
    }
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
