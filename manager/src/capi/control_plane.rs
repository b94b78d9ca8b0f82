//! What comes next for a SubletControlPlane; pure.
//!
//! Its VirtualControlPlane is named after the Cluster, carries the SubletCluster's identity and is owned by both. When it
//! is deleted, workload and control plane end; what outlives them ends with the SubletCluster.

use super::{
    Action, Decision,
    facts::{Facts, Tenant, is_managed_elsewhere},
    network,
    report::{Blocker, Fact, Report},
    stage::{self, Stage},
    without,
};
use crate::{
    lifecycle::{sleep::SLEEPING, version},
    network::endpoint,
    object::{Object, SUBLET_CLUSTER, VIRTUAL_CONTROL_PLANE},
    provision::apiserver,
};
use api::{
    ApiServers, RunningVersion, VirtualControlPlaneStatus,
    capi::{CLUSTER_NAME, MANAGED_BY, PAUSED, SubletClusterSpec, SubletControlPlaneSpec},
    keys,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Value of the annotation by which a VirtualControlPlane is paused with its SubletControlPlane.
const HANDED_ON: &str = "SubletControlPlane";
/// Condition of a VirtualControlPlane of which an API server answers.
const API_SERVER: &str = "APIServerReady";
/// Longest name of a VirtualControlPlane.
const LONGEST_NAME: usize = 63;

/// Decides.
pub(super) fn decide(seen: &Facts) -> Decision {
    let owner = match stage::of(seen, "controlPlaneRef") {
        Stage::Decided(decision) => return decision,
        Stage::Paused(why) => {
            let is_still = seen.tenant.as_ref().is_none_or(Tenant::is_paused);
            let action = hand_on_pause(seen).or_else(|| stage::let_move(seen).filter(|_| is_still));
            return match action {
                Some(action) => Decision::act(action),
                None => Decision::say(Report::paused(seen, why)),
            };
        }
        Stage::Unowned(blocker, paused) => {
            return Decision::say(held_up(seen, blocker).set_aside(paused));
        }
        Stage::Leaving => return leave(seen),
        Stage::Held(blocker) => {
            let deleting = Fact::of("Deleting", "True", blocker.clone());
            let mut report = held_up(seen, blocker);
            report.set(deleting);
            return Decision::say(report);
        }
        Stage::Owned(owner) => owner,
    };
    if let Some(action) = complete_version(seen) {
        return Decision::act(action);
    }
    let wanted = match wanted(seen, owner) {
        Ok(wanted) => wanted,
        Err(blocker) => return Decision::say(held_up(seen, blocker)),
    };
    let Some(tenant) = &seen.tenant else {
        return Decision::act(Action::Apply(applied(seen, wanted)));
    };
    if let Some(action) = take_pause_off(tenant) {
        return Decision::act(action);
    }
    if tenant.object.is_going() {
        let message = format!(
            "VirtualControlPlane {owner} is being deleted by somebody else: delete Cluster {owner} to make it anew"
        );
        return Decision::say(waiting(
            &Blocker::new("TenantDeleted", message),
            &servers(tenant),
        ));
    }
    if !wanted.is_met_by(&tenant.object) {
        return Decision::act(Action::Apply(applied(seen, wanted)));
    }
    if let Some(endpoint) = new_endpoint(seen, tenant) {
        return Decision::act(Action::Patch(
            json!({"spec": {"controlPlaneEndpoint": endpoint}}),
        ));
    }
    if let (true, Some(action)) = (tenant.answers(), stage::let_move(seen)) {
        return Decision::act(action);
    }
    Decision::say(settled(seen, tenant))
}

/// Workload and control plane end; then the finalizer goes. Where the Cluster names another control plane, both are that
/// one's.
fn leave(seen: &Facts) -> Decision {
    if stage::named_instead(seen, "controlPlaneRef").is_some() {
        return Decision::act(Action::Release);
    }
    let Some(tenant) = seen.tenant.as_ref().filter(|tenant| is_ours(seen, tenant)) else {
        return Decision::act(Action::Release);
    };
    // It would hold up what is left of the tenant, whose pause comes before its end.
    if let Some(action) = take_pause_off(tenant) {
        return Decision::act(action);
    }
    if let Some(action) = let_go(seen, tenant) {
        return Decision::act(action);
    }
    if tenant.has_ended() {
        return Decision::act(Action::Release);
    }
    if !tenant.object.is_going() {
        return Decision::act(Action::Delete(tenant.object.clone()));
    }
    let waits = || Blocker::new("Deleting", tenant.message());
    let no = |kind| Fact::no(kind, waits());
    let report = Report::of(vec![
        Fact::of("Deleting", "True", waits()),
        no("Available"),
        no("Ready"),
        no("RollingOut"),
        no("ScalingUp"),
        no("ScalingDown"),
        mirrored(tenant, "EtcdClusterAvailable", "EtcdReady"),
        mirrored(tenant, "CertificatesAvailable", "CertificatesAvailable"),
    ]);
    Decision::say(report.with(counts(&servers(tenant))))
}

/// Cluster API compares versions by their text, which begins with a `v` everywhere: the missing one is added.
fn complete_version(seen: &Facts) -> Option<Action> {
    let version = seen.object.body["spec"]["version"].as_str()?;
    let is_complete = version.starts_with('v');
    (!is_complete).then(|| Action::Patch(json!({"spec": {"version": format!("v{version}")}})))
}

/// The manager reads a Cluster's pause itself, and is told of this object's own by the same annotation.
fn hand_on_pause(seen: &Facts) -> Option<Action> {
    let tenant = seen
        .tenant
        .as_ref()
        .filter(|tenant| is_ours(seen, tenant))?;
    let is_told = tenant.object.annotation(PAUSED).is_some();
    let is_own = seen.object.annotation(PAUSED).is_some();
    (is_own && !is_told).then(|| annotate(tenant, &json!(HANDED_ON)))
}

/// Takes off what was handed on, and no other pause.
fn take_pause_off(tenant: &Tenant) -> Option<Action> {
    let is_told = tenant.object.annotation(PAUSED) == Some(HANDED_ON);
    is_told.then(|| annotate(tenant, &Value::Null))
}

fn annotate(tenant: &Tenant, paused: &Value) -> Action {
    let patch = json!({"metadata": {"annotations": {PAUSED: paused}}});
    Action::PatchTenant(tenant.object.clone(), patch)
}

/// Nothing is done for it; a tenant that was made for it goes on, and is shown as it is.
fn held_up(seen: &Facts, blocker: Blocker) -> Report {
    let made =
        |tenant: &&Tenant| tenant.is_owned_by(seen.object.uid()) && !tenant.object.is_going();
    let Some(tenant) = seen.tenant.as_ref().filter(made) else {
        return waiting(&blocker, &ApiServers::default());
    };
    let mut report = settled(seen, tenant);
    report.set(Fact::no("Ready", blocker));
    report
}

/// Whether the VirtualControlPlane was made for this object, or for the SubletCluster beside it before a move.
fn is_ours(seen: &Facts, tenant: &Tenant) -> bool {
    let identity = seen
        .other
        .as_ref()
        .and_then(|other| other.body["spec"]["identity"].as_str());
    tenant.is_owned_by(seen.object.uid())
        || (identity.is_some() && identity == tenant.vcp.spec.identity.as_deref())
}

/// The VirtualControlPlane, or what is missing for it.
fn wanted(seen: &Facts, owner: &str) -> Result<Object, Blocker> {
    let cluster = seen.cluster.as_ref().ok_or_else(|| {
        let message =
            format!("Cluster {owner} owns this object and doesn't exist: delete the object");
        Blocker::new("ClusterMissing", message)
    })?;
    let Some(name) = Facts::referred(cluster, "infrastructureRef", SUBLET_CLUSTER) else {
        let message = format!(
            "Cluster {owner} names no SubletCluster in spec.infrastructureRef: create one and name it there"
        );
        return Err(Blocker::new("InfrastructureMissing", message));
    };
    let Some(infrastructure) = &seen.other else {
        let message = format!("waiting for SubletCluster {name}: create it in this namespace");
        return Err(Blocker::new("InfrastructureMissing", message));
    };
    let place: SubletClusterSpec = parsed(infrastructure)?;
    let spec: SubletControlPlaneSpec = parsed(&seen.object)?;
    let Some(identity) = &place.identity else {
        let message = match is_managed_elsewhere(infrastructure) {
            false => format!("waiting for SubletCluster {name} to get an identity"),
            true => format!(
                "SubletCluster {name} is managed by somebody else ({MANAGED_BY}), who must write its spec.identity and its \
                 status: take that key off, and Sublet does"
            ),
        };
        return Err(Blocker::new("WaitingForInfrastructure", message));
    };
    if !is_name(owner) {
        let message = format!(
            "Cluster {owner} can't be a tenant: its name must have at most {LONGEST_NAME} lower-case letters, digits \
             and '-' and begin with a letter; create a Cluster of another name"
        );
        return Err(Blocker::new("NameRefused", message));
    }
    if let Some(tenant) = &seen.tenant
        && tenant.vcp.spec.identity.as_ref() != Some(identity)
    {
        let message = format!(
            "VirtualControlPlane {owner} exists and isn't this Cluster's: delete it, or create a Cluster of another name"
        );
        return Err(Blocker::new("NameTaken", message));
    }
    let owner_reference = |object: &Object| {
        json!({
            "apiVersion": object.kind.api_version, "kind": object.kind.kind,
            "name": object.name(), "uid": object.uid(),
        })
    };
    let mut control_plane = owner_reference(&seen.object);
    control_plane["controller"] = json!(true);
    let settings = &spec.tenant;
    let mut body = json!({
        "metadata": {
            "labels": {CLUSTER_NAME: owner},
            "ownerReferences": [control_plane, owner_reference(infrastructure)],
        },
        "spec": {"identity": identity, "network": {}},
    });
    for (pointer, value) in [
        ("/spec/className", json!(settings.class_name)),
        ("/spec/version", json!(spec.version)),
        ("/spec/replicas", json!(spec.replicas)),
        ("/spec/rollout", json!(spec.rollout)),
        ("/spec/etcd", json!(settings.etcd)),
        ("/spec/authentication", json!(settings.authentication)),
        ("/spec/sync", json!(settings.sync)),
        ("/spec/policy", json!(settings.policy)),
        ("/spec/network/serviceCIDR", json!(place.service_cidr)),
        (
            "/spec/network/clusterDomain",
            place
                .place
                .cluster_domain
                .as_ref()
                .map_or_else(|| network::domain(seen), |domain| json!(domain)),
        ),
        ("/spec/network/dns", json!(place.place.dns)),
        ("/spec/superCluster", json!(place.place.super_cluster)),
        ("/spec/endpoint", given_endpoint(seen, &spec)),
    ] {
        let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
        if let (false, Some(parent)) = (value.is_null(), body.pointer_mut(parent)) {
            parent[field] = value;
        }
    }
    let namespace = seen.object.namespace();
    Ok(Object::new(VIRTUAL_CONTROL_PLANE, namespace, owner, body).sealed())
}

/// The endpoint that a person chose: one that was there before the VirtualControlPlane, and what came of that.
fn given_endpoint(seen: &Facts, spec: &SubletControlPlaneSpec) -> Value {
    match &seen.tenant {
        None => json!(spec.control_plane_endpoint),
        Some(tenant) => json!(tenant.vcp.spec.endpoint),
    }
}

/// With the finalizer that lets its keys outlive it, if we look after what takes it off. Not compared: others have finalizers in
/// the same list.
fn applied(seen: &Facts, mut wanted: Object) -> Object {
    if !seen.other.as_ref().is_some_and(is_managed_elsewhere) {
        wanted.body["metadata"]["finalizers"] = json!([keys::INFRASTRUCTURE_FINALIZER]);
    }
    wanted
}

/// Takes that finalizer off where nobody else will.
fn let_go(seen: &Facts, tenant: &Tenant) -> Option<Action> {
    seen.other
        .as_ref()
        .filter(|other| is_managed_elsewhere(other))?;
    let held = tenant.object.items("/metadata/finalizers");
    let is_held = held
        .iter()
        .any(|held| held == keys::INFRASTRUCTURE_FINALIZER);
    let patch = || without(&tenant.object, keys::INFRASTRUCTURE_FINALIZER);
    is_held.then(|| Action::PatchTenant(tenant.object.clone(), patch()))
}

fn parsed<T: for<'a> Deserialize<'a>>(object: &Object) -> Result<T, Blocker> {
    T::deserialize(&object.body["spec"])
        .map_err(|error| Blocker::new("SpecRefused", format!("{object:?}: {error}")))
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The endpoint to write down: once, when the API server answers there.
fn new_endpoint(seen: &Facts, tenant: &Tenant) -> Option<Value> {
    if !tenant.answers() || seen.object.body["spec"]["controlPlaneEndpoint"].is_object() {
        return None;
    }
    reached_at(tenant)
}

/// Where clients reach the tenant now.
fn reached_at(tenant: &Tenant) -> Option<Value> {
    let url = tenant.vcp.status.as_ref()?.endpoint.as_deref()?;
    let port: u16 = url.rsplit_once(':')?.1.parse().ok()?;
    Some(json!({"host": endpoint::host(url)?, "port": port}))
}

fn servers(tenant: &Tenant) -> ApiServers {
    let status = tenant.vcp.status.clone().unwrap_or_default();
    status.api_servers.unwrap_or_default()
}

/// The contract's counts; zeros are written, since a missing count isn't zero.
fn counts(servers: &ApiServers) -> Vec<(&'static str, Value)> {
    vec![
        ("replicas", json!(servers.replicas)),
        ("readyReplicas", json!(servers.ready_replicas)),
        ("availableReplicas", json!(servers.available_replicas)),
        ("upToDateReplicas", json!(servers.up_to_date_replicas)),
        ("externalManagedControlPlane", json!(true)),
    ]
}

/// The versions that run, the oldest first. Whoever asks for the next minor version goes by them, so the one that all parts
/// ran last is among them until all run another, though no API server may have it any more.
fn versions(status: &VirtualControlPlaneStatus, servers: &ApiServers) -> Vec<RunningVersion> {
    let mut versions = servers.versions.clone();
    if let (Some(old), Some(lowest)) = (status.version.as_deref(), versions.first())
        && version::order(old) < version::order(&lowest.version)
    {
        let version = old.to_owned();
        versions.insert(
            0,
            RunningVersion {
                version,
                replicas: 0,
            },
        );
    }
    for running in &mut versions {
        running.version.insert(0, 'v');
    }
    versions
}

/// Not begun, or stopped: `blocker` says why.
fn waiting(blocker: &Blocker, servers: &ApiServers) -> Report {
    let no = |kind| Fact::no(kind, blocker.clone());
    Report::of(vec![
        no("Available"),
        no("Ready"),
        Fact::no("Deleting", Blocker::new("NotDeleting", "")),
    ])
    .with(counts(servers))
}

/// A condition of the VirtualControlPlane under another name.
fn mirrored(tenant: &Tenant, kind: &'static str, source: &str) -> Fact {
    match tenant.condition(source) {
        Some(condition) if condition.status == "True" => Fact::yes(kind, &condition.reason),
        Some(condition) => Fact::no(kind, Blocker::new(&*condition.reason, &*condition.message)),
        None => Fact::no(kind, Blocker::new("Provisioning", tenant.message())),
    }
}

/// All that was asked for is on its way or there.
fn settled(seen: &Facts, tenant: &Tenant) -> Report {
    let status = tenant.vcp.status.clone().unwrap_or_default();
    let servers = servers(tenant);
    let mirrored = |kind, source| mirrored(tenant, kind, source);
    // It comes up as a whole; later a controller-manager that is replaced takes no answer away.
    let has_begun = seen.object.body["status"]["initialization"]["controlPlaneInitialized"] == true;
    let answer = if has_begun && tenant.condition(API_SERVER).is_some() {
        API_SERVER
    } else {
        "ControlPlaneReady"
    };
    let initialized = tenant.answers() || has_begun;
    let refused = status.phase == Some(api::Phase::Failed);
    let mut available = mirrored("Available", answer);
    if let (true, Some(endpoint)) = (tenant.answers(), reached_at(tenant))
        && endpoint != seen.object.body["spec"]["controlPlaneEndpoint"]
    {
        available.message = format!(
            "clients reach the API server at {}:{} now, which spec.controlPlaneEndpoint can't follow: the kubeconfig \
             Secret has the new address; give the class an endpointHost that stays",
            endpoint["host"].as_str().unwrap_or_default(),
            endpoint["port"]
        );
    }
    let replicas = seen.object.body["spec"]["replicas"].as_i64().unwrap_or(1);
    let sleeping = tenant.condition(SLEEPING);
    let is_awake = sleeping.is_none_or(|sleeping| sleeping.status != "True");
    let scaling = |kind, holds: bool, reason: &str| {
        if holds && is_awake {
            let message = format!("{} of {replicas} API servers", servers.replicas);
            Fact::of(kind, "True", Blocker::new(reason, message))
        } else {
            Fact::no(kind, Blocker::new(format!("Not{reason}"), ""))
        }
    };
    // Of what the manager hasn't seen yet only another version replaces pods.
    let is_seen = status.observed_generation >= tenant.vcp.metadata.generation;
    let asked = tenant.vcp.spec.version.as_deref();
    let runs =
        |running: &RunningVersion| asked.is_none_or(|asked| version::is(&running.version, asked));
    let is_another = !is_seen && !servers.versions.iter().all(runs);
    let rolls = initialized && is_awake && (!servers.rolled_out || is_another);
    let rolling = match (rolls, refused) {
        // What can't be done isn't under way, but what went before may be.
        (_, true) if servers.rolled_out => {
            Fact::no("RollingOut", Blocker::new("Refused", tenant.message()))
        }
        (true, _) => Fact::of(
            "RollingOut",
            "True",
            Blocker::new("RollingOut", tenant.message()),
        ),
        (false, _) => Fact::no("RollingOut", Blocker::new("NotRollingOut", "")),
    };
    let now = i64::from(servers.replicas);
    let mut ready = mirrored("Ready", "Ready");
    if refused && ready.message.is_empty() {
        ready.message = tenant.message().to_owned();
    }
    let conditions = vec![
        available,
        ready,
        mirrored("CertificatesAvailable", "CertificatesAvailable"),
        mirrored("EtcdClusterAvailable", "EtcdReady"),
        rolling,
        scaling("ScalingUp", now < replicas, "ScalingUp"),
        scaling("ScalingDown", now > replicas && !rolls, "ScalingDown"),
        Fact::no("Deleting", Blocker::new("NotDeleting", "")),
    ];
    let versions = versions(&status, &servers);
    let mut fields = counts(&servers);
    if initialized {
        fields.push(("initialization", json!({"controlPlaneInitialized": true})));
    }
    if let Some(lowest) = versions.first() {
        fields.push(("version", json!(lowest.version)));
        fields.push(("versions", json!(versions)));
    }
    let identity = tenant.vcp.spec.identity.as_deref().unwrap_or_default();
    let selector = format!(
        "{}={identity},app.kubernetes.io/name={}",
        keys::TENANT,
        apiserver::NAME
    );
    fields.push(("selector", json!(selector)));
    Report::of(conditions).with(fields)
}
