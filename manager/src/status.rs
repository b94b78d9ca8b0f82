//! What is said about a VirtualControlPlane: phase, conditions that name the blocker, and when to look again.
//!
//! `Synced`, `DeletionsHeld` and `TenantIdentityChanged` are the syncer's: they are read here and never written.

use crate::{
    act,
    decide::{has_begun, lacking, unready_phase, used},
    lifecycle::{sleep, starts},
    network::service_cidr::{self, Verdict},
    object::{DEPLOYMENT, Object},
    observe::Seen,
    provision::{Addresses, cluster_keys, coredns, keys},
    running::{
        parts::{self, Parts},
        rollout,
    },
    spec::control_plane::{ControlPlane, Refusal},
    store::{
        room::{self, Space},
        stored,
    },
    tenant::Tenant,
};
use api::{Condition, Dns, Phase, SecretRef, TenantProof, VirtualControlPlane, set_condition};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

mod observed;

use observed::Observed;

/// Looked at again so often when nothing is waited for: certificates age, and someone may have edited something.
const SETTLED: Duration = Duration::from_secs(60);
/// Looked at again so often while something that no watch tells of is waited for.
const WAITING: Duration = Duration::from_secs(1);
/// The same when it has been waited for longer than [`PATIENCE`]: a pass costs some twenty requests then.
const STILL_WAITING: Duration = Duration::from_secs(10);
/// How long a start may take.
const PATIENCE: SignedDuration = SignedDuration::from_secs(90);

/// Field that says what the tenant stores.
const STORED: &str = "stored";

/// Reason of `ControlPlaneReady` when the control plane was taken down for good.
pub(crate) const ENDED: &str = "Ended";

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

    /// Something outside the control plane isn't there, without which nothing goes on; what runs already does.
    pub(crate) fn lacking(seen: &Seen, waits: &str) -> Self {
        let report = Self::provisioning(waits);
        if !has_begun(seen) {
            return report;
        }
        let ready = Fact::no("Ready", "Provisioning", waits);
        let report = Self {
            phase: unready_phase(seen),
            conditions: vec![ready],
            ..report
        };
        report.with_what_runs(seen)
    }

    /// Nothing may be changed; `why` says who wants it so.
    pub(crate) fn paused(why: String) -> Self {
        Self {
            phase: Phase::Paused,
            message: Some(why),
            conditions: vec![],
            fields: vec![],
            again: SETTLED,
        }
    }

    /// A person must change something first.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let (reason, message) = (refusal.reason(), refusal.to_string());
        let mut conditions = vec![Fact::no("Ready", reason, message.clone())];
        conditions.extend(starts::over());
        if matches!(
            refusal,
            Refusal::IdentityConflict { .. } | Refusal::SliceTaken { .. }
        ) {
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

    /// The same where a change was refused and all else is looked after.
    pub(crate) fn but(mut self, refusal: &Refusal) -> Self {
        let refused = Self::refused(refusal);
        let ready = |fact: &Fact| fact.kind == "Ready";
        self.conditions.retain(|fact| !ready(fact));
        self.conditions
            .extend(refused.conditions.into_iter().filter(ready));
        Self {
            phase: refused.phase,
            message: refused.message,
            again: self.again.min(refused.again),
            ..self
        }
    }

    /// The same with what is seen of a control plane that runs, for which nothing can be done now.
    pub(crate) fn with_what_runs(mut self, seen: &Seen) -> Self {
        if has_begun(seen) && sleep::is_sleeping(&seen.vcp).is_none() {
            let wanted = parts::asked_version(&seen.objects).unwrap_or_default();
            let observed = Observed::of(seen, &Parts::of(&seen.objects, seen.now), wanted);
            self.conditions.extend(observed.facts);
            self.fields.extend(observed.fields);
            self = rollout::told(self, &seen.objects, seen.now);
        }
        self
    }

    /// Being deleted; `waits` says what for.
    pub(crate) fn deleting(waits: &str) -> Self {
        let mut conditions = vec![Fact::no("Ready", "Deleting", waits)];
        conditions.extend(starts::over());
        Self {
            phase: Phase::Deleting,
            message: Some(waits.to_owned()),
            conditions,
            fields: vec![],
            again: WAITING,
        }
    }

    /// Workload and control plane have ended; keys and addresses are kept for somebody else to let go of.
    pub(crate) fn ended() -> Self {
        let waits = "workload and control plane have ended; keys, addresses and identity stay until the \
                     SubletCluster is deleted";
        let mut report = Self::deleting(waits);
        report
            .conditions
            .push(Fact::no("ControlPlaneReady", ENDED, waits));
        report.again(SETTLED)
    }

    /// An action failed; the next pass tries again. Of what was `decided` to say, what the tenant stores is said still:
    /// it may be the cause. So is that it doesn't sleep, where it was the tenant that refused: it is awake, and as long as
    /// that isn't said nothing is synced, which may be what it waits for.
    pub(crate) fn failed_to_act(seen: &Seen, error: &act::Error, decided: Self) -> Self {
        let deleting = seen.vcp.metadata.deletion_timestamp.is_some();
        let phase = if deleting {
            Phase::Deleting
        } else {
            unready_phase(seen)
        };
        let is_awake =
            |fact: &Fact| fact.kind == sleep::SLEEPING && !fact.holds && error.is_of_tenant();
        let why = error.to_string();
        let ready = Fact::no("Ready", "Error", &why);
        let said = decided.conditions.into_iter();
        let said = said.filter(|fact| fact.kind == stored::CONDITION || is_awake(fact));
        Self {
            phase,
            conditions: [ready].into_iter().chain(said).collect(),
            message: Some(why),
            fields: decided
                .fields
                .into_iter()
                .filter(|(field, _)| *field == STORED)
                .collect(),
            again: WAITING,
        }
    }

    /// The same, where the spec as it is now wasn't gone by: the generation that was stays.
    pub(crate) fn unseen(mut self, seen: &Seen) -> Self {
        let status = seen.vcp.status.as_ref();
        let before = status.and_then(|status| status.observed_generation);
        self.fields.push(("observedGeneration", json!(before)));
        self
    }

    /// The same of a deletion, looked at less often once it has taken long.
    pub(crate) fn patient(self, seen: &Seen) -> Self {
        let asked = seen.vcp.metadata.deletion_timestamp.as_ref();
        let is_long = asked.is_some_and(|asked| seen.now - PATIENCE > asked.0);
        let least = if is_long { STILL_WAITING } else { WAITING };
        let again = self.again.max(least);
        self.again(again)
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
            ("dnsAddress", json!(shared_dns(seen, cp))),
            // An empty list isn't written: the contract of Cluster API knows none.
            (
                "failureDomains",
                json!((!seen.zones.is_empty()).then_some(&seen.zones)),
            ),
        ];
        let Observed {
            facts: [control_plane, etcd, api],
            fields: of_parts,
        } = Observed::of(seen, parts, &cp.version);
        fields.extend(of_parts);
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
        let stored = stored_within(seen, cp);
        // It works as before, and so it is Ready; unless something is missing that finds no room.
        let is_blocked = seen.refused.is_some() && !lacking(seen, cp).is_empty();
        let mut facts = vec![control_plane, etcd, api];
        let cidrs = service_cidr(seen, cp);
        if let Verdict::Blocking(fact) = &cidrs {
            facts.push(fact.clone());
        }
        facts.extend(stored.clone().filter(|_| is_blocked));
        facts.push(dns);
        facts.extend(cluster_keys::fact(cp, seen));
        let mut report = Self::summed_up(seen, facts, fields, again);
        report.conditions.extend(stored.filter(|_| !is_blocked));
        match cidrs {
            Verdict::Served(fact) => report.conditions.push(fact),
            Verdict::Blocking(_) => report.again = report.again.min(waiting(seen)),
            Verdict::Nothing => {}
        }
        let used = used(seen);
        if let Some(used) = used {
            report.fields.push((STORED, json!(cp.stored.status(used))));
        }
        let told = seen.vcp.status.as_ref();
        let told = told.and_then(|status| status.stored.as_ref());
        let is_full = seen.refused.is_some() || room::is_lacking(seen, cp);
        if is_full || used.is_some_and(|used| cp.stored.is_near(used, told)) {
            report.again = report.again.min(stored::CLOSELY);
        }
        report.message = report.message.or_else(|| parts.held.clone());
        let report = rollout::told(report, &seen.objects, seen.now);
        starts::told(report, seen, parts.rolled_out)
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
        let conditions = conditions(vcp, &self.conditions, now);
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

/// The conditions of a VirtualControlPlane when these facts are told of it.
pub(crate) fn conditions(
    vcp: &VirtualControlPlane,
    facts: &[Fact],
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = vcp.status.clone().unwrap_or_default().conditions;
    for fact in facts {
        if !fact.holds && starts::is_passing(fact.kind) {
            conditions.retain(|condition| condition.type_ != fact.kind);
            continue;
        }
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
    conditions
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
pub(crate) fn waiting(seen: &Seen) -> Duration {
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

/// Whether the tenant stores no more than it may; `None` when nobody knows, or nothing is limited.
fn stored_within(seen: &Seen, cp: &ControlPlane) -> Option<Fact> {
    let said = room::is_lacking(seen, cp).then_some("etcd takes no more writes");
    let refused = seen.refused.as_deref().or(said);
    let used = used(seen);
    if used.is_none() && refused.is_none() {
        return None;
    }
    let was_limited = condition(&seen.vcp, stored::CONDITION).is_some();
    let no_more = was_limited.then(|| Fact::yes(stored::CONDITION, "NotLimited"));
    let mut fact = cp.stored.fact(used, refused).or(no_more)?;
    let has_room = used.is_none_or(|used| cp.stored.has_room(used));
    let is_etcd_full = refused.is_some() || !has_room;
    match &seen.store {
        Some(Err(why)) if is_etcd_full => {
            fact.message += &format!("; etcd can't give room back now: {why}");
        }
        Some(Ok(store)) if is_etcd_full => {
            let (used, most) = (store.in_use(), store.most(Space::of(cp)));
            let [used, most] = [used, most].map(stored::bytes_shown);
            fact.message += &format!("; of etcd {used} is in use, and at most {most} may be");
        }
        _ => {}
    }
    Some(fact)
}

/// Address of the shared DNS server, where it is the tenant's.
fn shared_dns<'a>(seen: &'a Seen, cp: &ControlPlane) -> Option<&'a str> {
    let proxy = seen.proxy.as_ref().filter(|_| cp.dns == Dns::Shared);
    proxy.and_then(|proxy| proxy.dns.as_deref())
}

/// What there is to say of the ranges that the tenant's Services get addresses from.
fn service_cidr(seen: &Seen, cp: &ControlPlane) -> Verdict {
    match &seen.tenant {
        Tenant::Answers { objects, .. } => service_cidr::told(objects, cp.slice),
        _ => Verdict::Nothing,
    }
}

fn dns_ready(seen: &Seen, cp: &ControlPlane) -> Fact {
    match (cp.dns, shared_dns(seen, cp)) {
        (Dns::None, _) => return Fact::yes("DNSReady", "NotOurs"),
        (Dns::Dedicated, _) => {}
        // It knows the tenant since its route was written, which precedes this.
        (Dns::Shared, Some(_)) => return Fact::yes("DNSReady", "Shared"),
        (Dns::Shared, None) => {
            return Fact::no(
                "DNSReady",
                "NoSharedServer",
                "waiting for the Service sublet-dns of the shared DNS server; if it doesn't come, run `sublet install`",
            );
        }
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
            "waiting for a coredns pod in the tenant's kube-system; if it doesn't come, `sublet events` tells whether it is refused",
        ),
        None => Fact::no(
            "DNSReady",
            "NotInstalled",
            "waiting for CoreDNS to be installed in the tenant",
        ),
    }
}
