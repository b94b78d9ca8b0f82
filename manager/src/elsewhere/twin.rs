//! A tenant that runs in another super cluster: its VirtualControlPlane has a twin there; pure.
//!
//! ```text
//! management cluster                      super cluster
//! VirtualControlPlane ──spec──▶ twin ──▶ the manager and the syncer there
//!        ▲                        │
//!        └──── status, Secrets ───┘
//! ```
//!
//! Nothing of the tenant runs here. The twin has the same name and identity, so that whoever moves this object to another
//! management cluster finds it again. What comes from there is not trusted: kubeconfigs are read by allow-list and
//! written anew (T47), and of other Secrets certificate and key alone are taken.
//!
//! No watch leads there, since kubeconfigs come and go: it is asked every second while something is awaited, and every
//! [`SETTLED`] otherwise.

use crate::{
    clients::kubeconfig::Access,
    decide::{Action, Decision, Deed, push_unmet, unready_phase},
    lifecycle::deletion::is_held,
    network::service_cidr,
    object::{Object, SECRET, VIRTUAL_CONTROL_PLANE},
    observe::{Beyond, Seen},
    pki::{self, OPAQUE},
    provision::{self, cluster_keys, keys, owner_reference},
    spec::control_plane::{Owner, Refusal},
    status::{self, Fact, Report},
    store::stored,
};
use api::{Condition, Phase, SecretRef, SuperCluster, capi, keys as marks};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) mod brought;
pub(crate) mod kept;

/// Asked again so often when nothing is awaited.
const SETTLED: Duration = Duration::from_secs(10);
/// Whether the super cluster answers.
pub(crate) const REACHABLE: &str = "SuperClusterReachable";
/// Conditions that are shown as the twin has them. Those of the syncer aren't among them: another syncer may be at work
/// here, which says of its own what it does. Of the lag of a tenant that another one serves it says nothing.
const SHOWN: [&str; 9] = [
    "ControlPlaneReady",
    "EtcdReady",
    "APIServerReady",
    "DNSReady",
    service_cidr::CONDITION,
    "CertificatesAvailable",
    "IdentityConflict",
    stored::CONDITION,
    "Ready",
];
/// Fields of the status that are.
const FIELDS: [&str; 5] = [
    "endpoint",
    "version",
    "apiServers",
    "controlPlaneNamespace",
    "proof",
];

/// The twin's namespace.
pub(crate) fn namespace<'a>(owner: &'a Owner, super_cluster: &'a SuperCluster) -> &'a str {
    super_cluster
        .namespace
        .as_deref()
        .unwrap_or(&owner.namespace)
}

/// Names of the Secrets that are brought here; they are the same on both sides.
pub(crate) fn secrets(owner: &Owner) -> Vec<String> {
    let mut names = cluster_keys::names(owner);
    names.push(owner.kubeconfig_secret());
    names
}

/// What comes next for a VirtualControlPlane whose identity is claimed here.
pub(crate) fn decide(seen: &Seen, owner: &Owner, system: &str) -> Result<Decision, Refusal> {
    if let Some(action) = may_read(seen, owner, system) {
        return Ok(Decision::act(vec![action]));
    }
    let (twin, secrets) = match &seen.beyond {
        Beyond::Reached { twin, secrets } => (twin, secrets),
        Beyond::NotAsked => return Ok(Decision::rest(Report::provisioning("starting"))),
        Beyond::Refused(why) => return Ok(Decision::rest(no_way(seen, "KubeconfigRefused", why))),
        Beyond::Unreachable(why) => {
            return Ok(Decision::rest(no_way(seen, "SuperClusterUnreachable", why)));
        }
    };
    let wanted = wanted(seen, owner);
    let marked = seen.object.annotation(marks::TWIN).is_some();
    let apply = |wanted: Object| {
        if marked {
            Action::Beyond(Deed::Apply(held(seen, wanted)))
        } else {
            Action::Patch(json!({"metadata": {"annotations": {marks::TWIN: path(&wanted)}}}))
        }
    };
    let Some(twin) = twin else {
        let namespace = wanted.namespace().unwrap_or_default();
        // Once it is written down that something may be there.
        let ahead = match marked {
            true => brought::ahead(seen, owner, namespace, secrets)?,
            false => vec![],
        };
        let kept = kept::due(seen, owner, system).filter(|_| marked);
        let mut actions: Vec<Action> = kept.into_iter().collect();
        actions.extend(ahead.into_iter().map(Action::Beyond));
        actions.push(apply(wanted));
        return Ok(Decision::act(actions));
    };
    if twin.uid() == owner.uid {
        let why = "the kubeconfig of spec.superCluster leads to this cluster itself: leave spec.superCluster out";
        return Ok(Decision::rest(no_way(seen, "KubeconfigRefused", why)));
    }
    if !is_ours(twin, owner) {
        return Err(Refusal::ForeignTwin(path(twin)));
    }
    if twin.is_going() {
        let why = format!(
            "VirtualControlPlane {} is being deleted in the super cluster",
            path(twin)
        );
        return Ok(Decision::rest(Report::provisioning(&why)));
    }
    let slice = twin.text("/spec/network/serviceCIDR");
    if seen.vcp.spec.network.service_cidr.is_none() && !slice.is_empty() {
        // A move must find it in the spec.
        let patch = json!({"spec": {"network": {"serviceCIDR": slice}}});
        return Ok(Decision::act(vec![Action::Patch(patch)]));
    }
    let mut actions: Vec<Action> = kept::due(seen, owner, system).into_iter().collect();
    if !marked || !wanted.is_met_by(twin) {
        // An older Sublet there may not know all of it: what it does is shown all the same.
        actions.push(apply(wanted));
    }
    let owned = brought::owned(seen, owner, twin, secrets);
    actions.extend(owned.into_iter().map(Action::Beyond));
    let brought = brought::names(owner, &seen.cluster_secrets);
    for secret in secrets.of(SECRET) {
        let have = here(seen, owner, secret.name());
        if brought.iter().any(|name| name == secret.name()) {
            continue;
        }
        if have.is_some_and(|have| cluster_keys::is_anothers(owner, have)) {
            let path = format!("{}/{}", owner.namespace, secret.name());
            return Err(Refusal::ForeignSecret(path));
        }
        push_unmet(&mut actions, copy(owner, secret)?, have);
    }
    let mut report = mirrored(seen, owner, twin);
    if let Some(fact) = brought::too_late(seen, owner, secrets) {
        report.conditions.retain(|said| said.kind != fact.kind);
        report.conditions.push(fact);
    }
    Ok(Decision { actions, report })
}

/// What comes next for one that is deleted; `None` once there is no twin.
pub(crate) fn leave(seen: &Seen, owner: &Owner, system: &str) -> Option<Decision> {
    // None was ever made.
    seen.object.annotation(marks::TWIN)?;
    if let Some(action) = may_read(seen, owner, system) {
        match (
            seen.home.as_ref().filter(|home| home.is_going()),
            &seen.kept,
        ) {
            (None, _) => return Some(Decision::act(vec![action])),
            // Nothing can be made there any more, and nothing is needed from there.
            (Some(_), Some(_)) => {}
            (Some(home), None) => {
                let why = format!(
                    "namespace {} is being deleted, and with it went the way to the super cluster",
                    home.name()
                );
                return Some(Decision::rest(left_behind(owner, &why)));
            }
        }
    }
    let ours = |twin: &&Object| is_ours(twin, owner) && twin.uid() != owner.uid;
    let twin = match &seen.beyond {
        Beyond::Reached { twin, secrets } => match twin.as_ref().filter(ours) {
            Some(twin) => twin,
            None => {
                let left = brought::left(owner, secrets).into_iter();
                let mut actions: Vec<Action> = left.map(Action::Beyond).collect();
                // Once nothing is left there, nobody looks for it again.
                if actions.is_empty() {
                    let unmark = json!({"metadata": {"annotations": {marks::TWIN: null}}});
                    actions.push(Action::Patch(unmark));
                }
                return Some(Decision::act(actions));
            }
        },
        Beyond::NotAsked => return None,
        Beyond::Refused(why) | Beyond::Unreachable(why) => {
            return Some(Decision::rest(left_behind(owner, why)));
        }
    };
    if !twin.is_going() {
        return Some(Decision::act(vec![Action::Beyond(Deed::Delete(
            twin.clone(),
        ))]));
    }
    let holds = |finalizer: &&Value| **finalizer == marks::INFRASTRUCTURE_FINALIZER;
    let finalizers = twin.items("/metadata/finalizers");
    if !is_held(seen) && finalizers.iter().any(|held| holds(&held)) {
        let rest: Vec<&Value> = finalizers.iter().filter(|held| !holds(held)).collect();
        let patch = json!({"metadata": {"finalizers": rest}});
        return Some(Decision::act(vec![Action::Beyond(Deed::Merge(
            twin.clone(),
            patch,
        ))]));
    }
    if is_held(seen) && has_ended(twin) {
        let ours = |secret: &&Object| !cluster_keys::is_anothers(owner, secret);
        let user = seen.user_secret.iter();
        let secrets = seen.cluster_secrets.of(SECRET).chain(user).filter(ours);
        return Some(Decision {
            actions: secrets.cloned().map(Action::Delete).collect(),
            report: Report::ended(),
        });
    }
    let waits = twin.text("/status/message");
    let waits = if waits.is_empty() {
        "waiting for the super cluster's manager"
    } else {
        waits
    };
    Some(Decision::rest(Report::deleting(waits)))
}

/// One that is deleted can't be told so in its super cluster.
fn left_behind(owner: &Owner, why: &str) -> Report {
    let waits = format!(
        "{why}. The tenant may still be there: once its VirtualControlPlane there or the super cluster is gone for good, \
         take the finalizer {} off VirtualControlPlane {} here",
        marks::FINALIZER,
        owner.path()
    );
    let mut report = Report::deleting(&waits).again(SETTLED);
    let reachable = Fact::no(REACHABLE, "Unreachable", why);
    report.conditions.push(reachable);
    report
}

/// The manager's right to Secrets beside the VirtualControlPlane, when it has none yet.
fn may_read(seen: &Seen, owner: &Owner, system: &str) -> Option<Action> {
    let beside = provision::access_beside(owner, system);
    let met = seen
        .access_beside
        .as_ref()
        .is_some_and(|have| beside.is_met_by(have));
    (!met).then_some(Action::Apply(beside))
}

/// The twin: what is asked for here, but for where it is.
fn wanted(seen: &Seen, owner: &Owner) -> Object {
    let mut spec = seen.object.body["spec"].clone();
    if let Value::Object(fields) = &mut spec {
        fields.remove("superCluster");
    }
    let mut labels = json!(owner.labels());
    if let Some(membership) = &owner.cluster {
        // By it the manager there makes the Secrets of the contract.
        labels[capi::CLUSTER_NAME] = json!(membership.cluster);
    }
    let mut annotations = json!({marks::TWIN_OF: owner.path()});
    if let Some(asked) = seen.object.annotation(marks::RENEW_CERTIFICATES) {
        annotations[marks::RENEW_CERTIFICATES] = json!(asked);
    }
    let body = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec});
    let super_cluster = seen.vcp.spec.super_cluster.clone().unwrap_or_default();
    let namespace = namespace(owner, &super_cluster);
    Object::new(VIRTUAL_CONTROL_PLANE, Some(namespace), &owner.name, body).sealed()
}

/// With the finalizer that lets its keys outlive its control plane, when there is one here.
fn held(seen: &Seen, mut wanted: Object) -> Object {
    if is_held(seen) {
        wanted.body["metadata"]["finalizers"] = json!([marks::INFRASTRUCTURE_FINALIZER]);
    }
    wanted
}

fn is_ours(twin: &Object, owner: &Owner) -> bool {
    twin.text("/spec/identity") == owner.id.as_str()
}

fn path(twin: &Object) -> String {
    format!("{}/{}", twin.namespace().unwrap_or_default(), twin.name())
}

fn has_ended(twin: &Object) -> bool {
    let said = condition(twin, "ControlPlaneReady");
    // Without the manager's own finalizer nothing was ever done for it.
    said.is_some_and(|said| said.reason == status::ENDED)
        || !twin
            .items("/metadata/finalizers")
            .iter()
            .any(|held| held == marks::FINALIZER)
}

fn here<'a>(seen: &'a Seen, owner: &Owner, name: &str) -> Option<&'a Object> {
    if name == owner.kubeconfig_secret() {
        seen.user_secret.as_ref()
    } else {
        seen.cluster_secrets.get(SECRET, name)
    }
}

/// A Secret as it is written here.
fn copy(owner: &Owner, secret: &Object) -> Result<Object, Refusal> {
    let is_users = secret.name() == owner.kubeconfig_secret();
    let is_kubeconfig = is_users
        || owner.cluster_secret(cluster_keys::KUBECONFIG).as_deref() == Some(secret.name());
    let refused = |why: &dyn std::fmt::Display| {
        let path = path(secret);
        Refusal::Kubeconfig(format!("Secret {path} in the super cluster: {why}"))
    };
    let data = if is_kubeconfig {
        let text = pki::text_of(secret, keys::USER_KEY).unwrap_or_default();
        let access = Access::parse(&text).map_err(|error| refused(&error))?;
        let text = access
            .to_yaml(&owner.name, "admin")
            .map_err(|error| refused(&error))?;
        json!({keys::USER_KEY: BASE64_STANDARD.encode(text)})
    } else {
        json!({"tls.crt": secret.body["data"]["tls.crt"], "tls.key": secret.body["data"]["tls.key"]})
    };
    if !is_users && let Some(copy) = cluster_keys::secret(owner, secret.name(), &data) {
        return Ok(copy);
    }
    let body = json!({
        "metadata": {
            "labels": owner.labels(),
            "annotations": {marks::CONTROL_PLANE: owner.path()},
            "ownerReferences": [owner_reference(owner)],
        },
        "type": OPAQUE,
        "data": data,
    });
    Ok(Object::new(SECRET, Some(&owner.namespace), secret.name(), body).sealed())
}

fn condition(twin: &Object, kind: &str) -> Option<Condition> {
    let all = twin.items("/status/conditions").iter();
    all.filter_map(|said| Condition::deserialize(said).ok())
        .find(|said| said.type_ == kind)
}

/// The twin's status as it is shown here.
fn mirrored(seen: &Seen, owner: &Owner, twin: &Object) -> Report {
    let status = &twin.body["status"];
    let mut phase = Phase::deserialize(&status["phase"]).unwrap_or(Phase::Pending);
    let mut message = match status["message"].as_str() {
        None if phase == Phase::Pending => {
            Some("waiting for the super cluster's manager to take it up".to_owned())
        }
        message => message.map(str::to_owned),
    };
    let said = SHOWN.into_iter().filter_map(|kind| {
        let said = condition(twin, kind)?;
        Some(Fact {
            kind,
            holds: said.status == "True",
            reason: said.reason,
            message: said.message,
        })
    });
    let mut conditions: Vec<Fact> = said.collect();
    if !conditions.iter().any(|fact| fact.kind == "Ready") {
        let waits = message.clone().unwrap_or_default();
        conditions.push(Fact::no("Ready", "Provisioning", waits));
    }
    let answers = |fact: &Fact| fact.kind == "ControlPlaneReady" && fact.holds;
    if conditions.iter().any(answers)
        && let Some(why) = lacks_kubeconfig(seen, owner, twin)
    {
        conditions.retain(|fact| !["ControlPlaneReady", "Ready"].contains(&fact.kind));
        let no = |kind| Fact::no(kind, "KubeconfigMissing", &why);
        conditions.extend(["ControlPlaneReady", "Ready"].map(no));
        if phase == Phase::Ready {
            phase = unready_phase(seen);
        }
        message = Some(why);
    }
    conditions.push(Fact::yes(REACHABLE, "Answers"));
    let told = FIELDS.into_iter().filter(|field| !status[*field].is_null());
    let mut fields: Vec<(&'static str, Value)> =
        told.map(|field| (field, status[field].clone())).collect();
    // Those that there are no more aren't left standing.
    for field in ["failureDomains", "snapshots", "restore", "sync"] {
        fields.push((field, status[field].clone()));
    }
    if seen.user_secret.is_some() {
        let secret = SecretRef {
            name: owner.kubeconfig_secret(),
            key: keys::USER_KEY.into(),
        };
        fields.push(("kubeconfigSecretRef", json!(secret)));
    }
    let report = Report {
        phase,
        message,
        conditions,
        fields,
        again: if phase == Phase::Ready {
            SETTLED
        } else {
            status::waiting(seen)
        },
    };
    // What the twin says of an older spec is so here, too.
    match twin.number("/status/observedGeneration") < twin.number("/metadata/generation") {
        true => report.unseen(seen),
        false => report,
    }
}

/// Why a Cluster's tenant that answers can't be used here; `None` when it can. Once Cluster API hears that it answers it asks
/// for the kubeconfig, and finding none, asks again only half a minute later.
fn lacks_kubeconfig(seen: &Seen, owner: &Owner, twin: &Object) -> Option<String> {
    let name = owner.cluster_secret(cluster_keys::KUBECONFIG)?;
    let have = seen.cluster_secrets.get(SECRET, &name);
    if have.is_some_and(|have| !cluster_keys::is_anothers(owner, have)) {
        return None;
    }
    let there = twin.namespace().unwrap_or_default();
    Some(format!(
        "the super cluster has no Secret {there}/{name} yet: Sublet there makes it, if it is this version or a later one"
    ))
}

/// The super cluster can't be asked; what it said last of the control plane is left standing, and the spec may not be there.
fn no_way(seen: &Seen, reason: &str, why: &str) -> Report {
    let report = Report {
        phase: unready_phase(seen),
        message: Some(why.to_owned()),
        conditions: vec![
            Fact::no(REACHABLE, reason, why),
            Fact::no("Ready", reason, why),
        ],
        fields: vec![],
        again: SETTLED,
    };
    report.unseen(seen)
}

#[cfg(test)]
pub(crate) mod tests;
