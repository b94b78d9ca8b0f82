//! What is said about a VirtualControlPlane: phase, conditions that name the blocker, and when to look again.
//!
//! `Synced`, `DeletionsHeld` and `TenantIdentityChanged` are the syncer's: they are read here and never written.

use crate::{
    control_plane::{ControlPlane, Refusal},
    decide::unready_phase,
    object::{DEPLOYMENT, Object, Objects, POD, STATEFUL_SET},
    observe::Seen,
    provision::{Addresses, apiserver, controller_manager, coredns, etcd, keys},
    tenant::Tenant,
};
use api::{Condition, Dns, Phase, SecretRef, TenantProof, VirtualControlPlane, set_condition};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// Looked at again so often when nothing is waited for: certificates age, and someone may have edited something.
const SETTLED: Duration = Duration::from_secs(60);
/// Looked at again so often while something that no watch tells of is waited for.
const WAITING: Duration = Duration::from_secs(1);
/// The same when it has been waited for longer than [`PATIENCE`]: a pass costs some thirty requests.
const STILL_WAITING: Duration = Duration::from_secs(10);
/// How long a start may take.
const PATIENCE: SignedDuration = SignedDuration::from_secs(90);

/// What the status shall say.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Summary.
    pub(crate) phase: Phase,
    /// One line for people; `None`: nothing is waited for.
    pub(crate) message: Option<String>,
    /// Conditions to set; those not named stay.
    pub(crate) conditions: Vec<Fact>,
    /// Fields to set; those not named stay.
    pub(crate) fields: Vec<(&'static str, Value)>,
    /// When to look again without being told.
    pub(crate) again: Duration,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Type of the condition.
    pub(crate) kind: &'static str,
    /// Its status.
    pub(crate) holds: bool,
    /// Word for programs.
    pub(crate) reason: String,
    /// Sentence for people.
    pub(crate) message: String,
}

/// What each part of the control plane waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Why a part isn't ready, in order of the parts; empty: all are.
    pub(crate) blockers: Vec<String>,
    /// Whether all run what was asked for.
    pub(crate) rolled_out: bool,
}

impl Fact {
    pub(crate) fn yes(kind: &'static str, reason: &str) -> Self {
        Self {
            kind,
            holds: true,
            reason: reason.into(),
            message: String::new(),
        }
    }

    pub(crate) fn no(kind: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: false,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

impl Report {
    /// Being started; `waits` says what for.
    pub(crate) fn provisioning(waits: &str) -> Self {
        Self {
            phase: Phase::Provisioning,
            message: Some(waits.to_owned()),
            conditions: vec![
                Fact::no("ControlPlaneReady", "Provisioning", waits),
                Fact::no("Ready", "Provisioning", waits),
            ],
            fields: vec![],
            again: Duration::from_secs(5),
        }
    }

    /// `spec.paused`.
    pub(crate) fn paused() -> Self {
        Self {
            phase: Phase::Paused,
            message: Some(
                "spec.paused is set: nothing is changed for this tenant until it is unset".into(),
            ),
            conditions: vec![],
            fields: vec![],
            again: SETTLED,
        }
    }

    /// A person must change something first.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let (reason, message) = (refusal.reason(), refusal.to_string());
        let mut conditions = vec![Fact::no("Ready", reason, message.clone())];
        if matches!(refusal, Refusal::IdentityConflict { .. }) {
            conditions.push(Fact {
                kind: "IdentityConflict",
                holds: true,
                reason: reason.into(),
                message: message.clone(),
            });
        }
        Self {
            phase: Phase::Failed,
            message: Some(message),
            conditions,
            fields: vec![],
            again: Duration::from_secs(30),
        }
    }

    /// Being deleted; `waits` says what for.
    pub(crate) fn deleting(waits: &str) -> Self {
        Self {
            phase: Phase::Deleting,
            message: Some(waits.to_owned()),
            conditions: vec![Fact::no("Ready", "Deleting", waits)],
            fields: vec![],
            again: WAITING,
        }
    }

    /// An action failed; the next pass tries again.
    pub(crate) fn failed_to_act(seen: &Seen, error: &str) -> Self {
        let deleting = seen.vcp.metadata.deletion_timestamp.is_some();
        let phase = if deleting {
            Phase::Deleting
        } else {
            unready_phase(seen)
        };
        Self {
            phase,
            message: Some(error.to_owned()),
            conditions: vec![Fact::no("Ready", "Error", error)],
            fields: vec![],
            again: WAITING,
        }
    }

    /// The same, looked at again after `again`.
    pub(crate) fn again(self, again: Duration) -> Self {
        Self { again, ..self }
    }

    /// A control plane whose objects are all in place.
    pub(crate) fn of(seen: &Seen, cp: &ControlPlane, addresses: &Addresses, parts: &Parts) -> Self {
        let endpoint = keys::url(&addresses.endpoint.host, addresses.endpoint.port);
        let secret = SecretRef {
            name: cp.owner.kubeconfig_secret(),
            key: keys::USER_KEY.into(),
        };
        let mut fields = vec![
            ("endpoint", json!(endpoint)),
            ("kubeconfigSecretRef", json!(secret)),
            ("controlPlaneNamespace", json!(cp.namespace)),
        ];
        let control_plane = match (&seen.tenant, parts.blockers.is_empty()) {
            (Tenant::Answers { .. }, true) => Fact::yes("ControlPlaneReady", "Answers"),
            (Tenant::Silent(why), true) => Fact::no(
                "ControlPlaneReady",
                "NoAnswer",
                format!("the API server doesn't answer yet: {why}"),
            ),
            (Tenant::NotAsked, true) => Fact::no(
                "ControlPlaneReady",
                "NotAsked",
                "no API server pod was asked yet",
            ),
            // Each part waits for those before it: the first blocker is the cause of the others.
            (_, false) => Fact::no(
                "ControlPlaneReady",
                "PodsNotReady",
                parts.blockers[0].as_str(),
            ),
        };
        if parts.rolled_out {
            fields.push(("version", json!(cp.version)));
        }
        if let Tenant::Answers {
            kube_system_uid, ..
        } = &seen.tenant
            && proof(&seen.vcp).is_none()
        {
            // Never changed afterwards: a different UID means different data, and deletions freeze on it.
            fields.push((
                "proof",
                json!(TenantProof {
                    kube_system_uid: kube_system_uid.clone(),
                    restore_counter: 0
                }),
            ));
        }
        let dns = dns_ready(seen, cp);
        let again = match (&seen.tenant, control_plane.holds, dns.holds) {
            (Tenant::Silent(_), ..) => waiting(seen) / 4,
            (_, false, _) => Duration::from_secs(5),
            (_, true, false) => waiting(seen),
            (_, true, true) => SETTLED,
        };
        Self::summed_up(seen, vec![control_plane, dns], fields, again)
    }

    /// Ready when all facts hold and the syncer says that it syncs.
    pub(crate) fn summed_up(
        seen: &Seen,
        mut facts: Vec<Fact>,
        fields: Vec<(&'static str, Value)>,
        again: Duration,
    ) -> Self {
        let blocker = facts
            .iter()
            .find(|fact| !fact.holds)
            .cloned()
            .or_else(|| not_synced(&seen.vcp));
        let (phase, message, ready) = match blocker {
            None => (Phase::Ready, None, Fact::yes("Ready", "Ready")),
            Some(blocker) => {
                let message = blocker.message.clone();
                (
                    unready_phase(seen),
                    Some(message.clone()),
                    Fact::no("Ready", &blocker.reason, message),
                )
            }
        };
        facts.push(ready);
        if condition(&seen.vcp, "IdentityConflict").is_some() {
            facts.push(Fact::no("IdentityConflict", "Claimed", ""));
        }
        Self {
            phase,
            message,
            conditions: facts,
            fields,
            again,
        }
    }

    /// The merge patch that makes the status say this; `None` when it does already.
    pub(crate) fn patch(
        &self,
        vcp: &VirtualControlPlane,
        seen: &Object,
        now: Timestamp,
    ) -> Option<Value> {
        let mut conditions = vcp.status.clone().unwrap_or_default().conditions;
        for fact in &self.conditions {
            set_condition(
                &mut conditions,
                Condition {
                    type_: fact.kind.into(),
                    status: if fact.holds { "True" } else { "False" }.into(),
                    reason: fact.reason.clone(),
                    message: fact.message.clone(),
                    last_transition_time: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
                    observed_generation: vcp.metadata.generation,
                },
            );
        }
        let mut status = json!({
            "phase": self.phase,
            "message": self.message,
            "observedGeneration": vcp.metadata.generation,
            "conditions": conditions,
        });
        for (field, value) in &self.fields {
            status[*field] = value.clone();
        }
        let current = &seen.body["status"];
        let says_it = |(field, value): (&String, &Value)| &current[field] == value;
        let same = status
            .as_object()
            .is_some_and(|fields| fields.iter().all(says_it));
        (!same).then(|| json!({"status": status}))
    }
}

impl Parts {
    /// Looks at the three workloads and their pods.
    pub(crate) fn of(seen: &Objects) -> Self {
        let mains = [
            (STATEFUL_SET, etcd::NAME),
            (DEPLOYMENT, apiserver::NAME),
            (DEPLOYMENT, controller_manager::NAME),
        ];
        let mut parts = Self {
            blockers: vec![],
            rolled_out: true,
        };
        for (kind, name) in mains {
            let main = seen.get(kind, name);
            parts.rolled_out &= main.is_some_and(rolled_out);
            let wanted = main.map_or(1, |main| main.number("/spec/replicas"));
            let ready = main.map_or(0, |main| main.number("/status/readyReplicas"));
            // A majority of etcd's members is enough, and so is one API server.
            let enough = if kind == STATEFUL_SET {
                wanted / 2 + 1
            } else {
                1
            };
            if ready < enough {
                parts.blockers.push(blocker(seen, main, name));
            }
        }
        parts
    }
}

/// Whether a Deployment or StatefulSet runs what its spec says, and nothing else.
pub(crate) fn rolled_out(main: &Object) -> bool {
    let wanted = main.number("/spec/replicas");
    main.number("/status/observedGeneration") >= main.number("/metadata/generation")
        && main.number("/status/updatedReplicas") == wanted
        && main.number("/status/readyReplicas") == wanted
        && main.number("/status/replicas") == wanted
}

/// Host of a URL such as `https://HOST:PORT`.
pub(crate) fn host(url: &str) -> Option<&str> {
    let (host, _port) = url.strip_prefix("https://")?.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Address of the node that clients are sent to: `current` while a node has it, else the first ready node's.
pub(crate) fn node_address(nodes: &[Object], current: Option<&str>) -> Option<String> {
    let address = |node: &Object| {
        let internal = node
            .items("/status/addresses")
            .iter()
            .find(|address| address["type"] == "InternalIP")?;
        internal["address"].as_str().map(str::to_owned)
    };
    let is_ready = |node: &&Object| {
        node.items("/status/conditions")
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let kept = nodes
        .iter()
        .filter_map(address)
        .find(|address| Some(address.as_str()) == current);
    kept.or_else(|| nodes.iter().filter(is_ready).find_map(address))
}

/// The condition of a type.
pub(crate) fn condition<'a>(vcp: &'a VirtualControlPlane, kind: &str) -> Option<&'a Condition> {
    vcp.status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// A start is watched closely; what has been waited for long is not.
fn waiting(seen: &Seen) -> Duration {
    let since = condition(&seen.vcp, "ControlPlaneReady")
        .and_then(|c| c.last_transition_time.parse::<Timestamp>().ok());
    let long = since.is_some_and(|since| seen.now - PATIENCE > since);
    if long { STILL_WAITING } else { WAITING }
}

fn proof(vcp: &VirtualControlPlane) -> Option<&TenantProof> {
    vcp.status.as_ref()?.proof.as_ref()
}

fn not_synced(vcp: &VirtualControlPlane) -> Option<Fact> {
    match condition(vcp, "Synced") {
        Some(synced) if synced.status == "True" => None,
        Some(synced) => Some(Fact::no(
            "Synced",
            &synced.reason,
            format!("waiting for the syncer: {}", synced.message),
        )),
        None => Some(Fact::no(
            "Synced",
            "NotSynced",
            "waiting for the syncer: it hasn't taken up this tenant yet",
        )),
    }
}

fn dns_ready(seen: &Seen, cp: &ControlPlane) -> Fact {
    if cp.dns == Dns::None {
        return Fact::yes("DNSReady", "NotOurs");
    }
    let Tenant::Answers { objects, .. } = &seen.tenant else {
        return Fact::no(
            "DNSReady",
            "ControlPlaneNotReady",
            "waiting for the control plane",
        );
    };
    match objects.get(DEPLOYMENT, coredns::NAME) {
        Some(deployment) if deployment.number("/status/availableReplicas") > 0 => {
            Fact::yes("DNSReady", "Answers")
        }
        Some(_) => Fact::no(
            "DNSReady",
            "PodsNotReady",
            "waiting for a coredns pod in the tenant's kube-system",
        ),
        None => Fact::no(
            "DNSReady",
            "NotInstalled",
            "waiting for CoreDNS to be installed in the tenant",
        ),
    }
}

/// Why a part isn't ready, as its pods or its controller tell.
fn blocker(seen: &Objects, main: Option<&Object>, part: &str) -> String {
    let pods: Vec<&Object> = seen
        .of(POD)
        .filter(|pod| pod.label("app.kubernetes.io/name") == Some(part))
        .collect();
    if let Some(text) = pods.iter().find_map(|pod| trouble(pod)) {
        return format!("waiting for pod {text}");
    }
    if let Some(pod) = pods.first() {
        return format!("waiting for pod {} to be ready", pod.name());
    }
    let conditions = main
        .map(|main| main.items("/status/conditions"))
        .unwrap_or_default();
    let failure = conditions
        .iter()
        .find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
    match failure.and_then(|failure| failure["message"].as_str()) {
        Some(message) => format!("no pod of {part} can be created: {message}"),
        None => format!("waiting for a pod of {part}"),
    }
}

/// What holds a pod up, when that is more than time.
fn trouble(pod: &Object) -> Option<String> {
    let says = |reason: &Value, message: &Value| {
        let reason = reason.as_str()?;
        let message = message
            .as_str()
            .map(|message| format!(" ({message})"))
            .unwrap_or_default();
        Some(format!("{}: {reason}{message}", pod.name()))
    };
    for container in pod.items("/status/containerStatuses") {
        let waiting = &container["state"]["waiting"];
        if waiting["reason"]
            .as_str()
            .is_some_and(|reason| reason != "ContainerCreating" && reason != "PodInitializing")
        {
            return says(&waiting["reason"], &waiting["message"]);
        }
        let ended = &container["lastState"]["terminated"];
        if container["ready"] == false && ended.is_object() {
            let code = ended["exitCode"].as_i64().unwrap_or_default();
            return Some(format!("{}: restarted after exit code {code}", pod.name()));
        }
    }
    let unscheduled = |c: &&Value| c["type"] == "PodScheduled" && c["status"] == "False";
    let condition = pod.items("/status/conditions").iter().find(unscheduled)?;
    says(&condition["reason"], &condition["message"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::NODE;

    #[test]
    fn a_blocker_names_pod_and_reason() {
        let pod = |status: Value| {
            let body = json!({"metadata": {"labels": {"app.kubernetes.io/name": "etcd"}}, "status": status});
            Object::new(POD, Some("n"), "etcd-0", body)
        };
        let text = |status: Value| blocker(&[pod(status)].into_iter().collect(), None, "etcd");
        let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image"});
        assert_eq!(
            text(json!({"containerStatuses": [{"state": {"waiting": waiting}}]})),
            "waiting for pod etcd-0: ImagePullBackOff (Back-off pulling image)"
        );
        let unscheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2"});
        assert_eq!(
            text(json!({"conditions": [unscheduled]})),
            "waiting for pod etcd-0: Unschedulable (0/2)"
        );
        assert_eq!(text(json!({})), "waiting for pod etcd-0 to be ready");

        let failure = json!({"type": "ReplicaFailure", "status": "True", "message": "quota"});
        let main = Object::new(
            DEPLOYMENT,
            Some("n"),
            "etcd",
            json!({"status": {"conditions": [failure]}}),
        );
        assert_eq!(
            blocker(&Objects::default(), Some(&main), "etcd"),
            "no pod of etcd can be created: quota"
        );
    }

    #[test]
    fn clients_stay_with_a_node_as_long_as_it_exists() {
        let node = |name: &str, address: &str, ready: &str| {
            let status = json!({
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": ready}],
            });
            Object::new(NODE, None, name, json!({"status": status}))
        };
        let nodes = [
            node("a", "10.0.0.1", "False"),
            node("b", "10.0.0.2", "True"),
        ];
        assert_eq!(node_address(&nodes, None).as_deref(), Some("10.0.0.2"));
        assert_eq!(
            node_address(&nodes, Some("10.0.0.1")).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(
            node_address(&nodes, Some("10.0.0.9")).as_deref(),
            Some("10.0.0.2")
        );
        assert_eq!(node_address(&[], None), None);
        assert_eq!(host("https://10.0.0.2:30001"), Some("10.0.0.2"));
        assert_eq!(host("https://[fd00::1]:30001"), Some("fd00::1"));
    }
}
