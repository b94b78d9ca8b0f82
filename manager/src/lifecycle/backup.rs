//! Snapshots of a tenant's etcd: which are made, which go, and what is said of them; pure.
//!
//! ```text
//! no claim ──▶ claim ──▶ claim and Job ──▶ claim that says what came of it ──▶ (its name is taken away, or newer ones came)
//! ```
//!
//! A claim is a snapshot, and all that is known of it stands on it: a manager that starts anew goes on where the last one
//! stopped. One that was asked for is called as it was asked for, in `spec.backup.snapshots`; one that is made by schedule
//! bears its time in its name, so that none is made twice, and a time that was missed is made up for once: one is due as long
//! as the newest is older than the last time. Of these one is made at a time, so that storage that is slow, or gives nothing,
//! isn't asked for one more each time.
//!
//! Nothing is made while the control plane sleeps or its etcd isn't ready: it is waited for.
//!
//! Not promised: that the snapshot is of that minute. It is of when its Job came to it.

mod schedule;

use crate::{
    decide::{Action, Decision},
    lifecycle::{restore, sleep::Stage},
    object::{CLAIM, JOB, NETWORK_POLICY, Object, POD, SERVICE, STATEFUL_SET},
    observe::Seen,
    provision::{etcd, snapshot},
    spec::control_plane::ControlPlane,
    status::Fact,
};
use api::{Backup, SCHEDULED, Snapshot, SnapshotState, Trigger, VirtualControlPlane, keys};
use jiff::Timestamp;
use schedule::Schedule;
use serde_json::{Value, json};
use std::time::Duration;

/// Condition of one whose snapshots can't be made.
pub(crate) const FAILING: &str = "BackupFailing";
/// The field of the status.
const FIELD: &str = "snapshots";
/// What is noted of a snapshot beside what the status says: which volumes it is of.
const STORE: &str = "store";
/// How often a Job is looked at: of its pods watches tell, of its own status nobody does.
const CLOSELY: Duration = Duration::from_secs(2);
/// How often it is looked whether a name is free, which may take as long as whoever uses the old claim.
const SLOWLY: Duration = Duration::from_secs(10);
/// As much of what a pod said last is told, in characters.
const MOST_WORDS: usize = 300;

/// Kinds of what snapshots are made of.
pub(crate) const KINDS: [crate::object::Kind; 2] = [CLAIM, JOB];

/// Whether there are snapshots, or shall be some: else nothing of them is read.
pub(crate) fn concerns(vcp: &VirtualControlPlane) -> bool {
    let told = vcp.status.as_ref();
    vcp.spec.backup.is_some() || told.is_some_and(|status| !status.snapshots.is_empty())
}

/// The decision with what is to be done for snapshots, once nothing else is, and with what there is to say of them.
pub(crate) fn added(mut decision: Decision, seen: &Seen, cp: &ControlPlane) -> Decision {
    if !concerns(&seen.vcp) {
        decision
            .report
            .conditions
            .push(Fact::no(FAILING, "Over", ""));
        return decision;
    }
    let plan = plan(seen, cp);
    if decision.actions.is_empty() {
        decision.actions = plan.actions;
    }
    decision.report.conditions.push(plan.fact);
    let is_told = |status: &api::VirtualControlPlaneStatus| !status.snapshots.is_empty();
    if !plan.told.is_empty() {
        decision.report.fields.push((FIELD, json!(plan.told)));
    } else if seen.vcp.status.as_ref().is_some_and(is_told) {
        decision.report.fields.push((FIELD, Value::Null));
    }
    decision.report.again = decision.report.again.min(plan.again);
    decision
}

struct Plan {
    actions: Vec<Action>,
    told: Vec<Snapshot>,
    fact: Fact,
    again: Duration,
}

/// A snapshot that there is.
struct Found<'a> {
    claim: &'a Object,
    job: Option<&'a Object>,
    snapshot: Snapshot,
    is_settled: bool,
}

fn plan(seen: &Seen, cp: &ControlPlane) -> Plan {
    let nothing = Backup::default();
    let wish = seen.vcp.spec.backup.as_ref().unwrap_or(&nothing);
    let found = found(seen);
    // A spec that says nothing of snapshots asks for none, and has none deleted.
    let stays = |one: &Found<'_>| {
        seen.vcp.spec.backup.is_none()
            || is_wanted(one, wish, &found)
            || restore::needs(cp, &one.snapshot.name)
    };
    let mut actions = vec![];
    for one in &found {
        if stays(one) {
            actions.extend(settled(one, seen, cp));
        } else {
            let job = one.job.filter(|job| !job.is_going());
            actions.extend(job.map(|job| Action::Delete(job.clone())));
            actions.push(Action::Delete(one.claim.clone()));
        }
    }
    let Missing {
        names: missing,
        due,
        refused,
    } = missing(seen, cp, wish, &found);
    let unmade = seen.unmade.as_ref().map(|why| Fact {
        message: format!("a snapshot can't be made: {why}"),
        ..Fact::yes(FAILING, "Refused")
    });
    let fact = refused.or(unmade);
    let fact = fact.unwrap_or_else(|| newest_failed(&found));
    if !missing.is_empty() || found.iter().any(|one| !one.is_settled) {
        for policy in snapshot::policies(cp) {
            let have = seen.objects.get(NETWORK_POLICY, policy.name());
            crate::decide::push_unmet(&mut actions, policy, have);
        }
    }
    if let (Some(address), None) = (ready(seen, cp), &seen.unmade) {
        let free = missing.iter().filter(|name| is_free(seen, name));
        let made = free.map(|name| snapshot::claim(cp, name));
        actions.extend(made.map(Action::Create));
        let idle = found
            .iter()
            .filter(|one| !one.is_settled && one.job.is_none());
        let wanted = idle.filter(|one| stays(one));
        let jobs = wanted.map(|one| snapshot::job(cp, one.claim, address));
        actions.extend(jobs.map(Action::Create));
    }
    let waits = match (seen.unmade.as_deref(), cp.stage) {
        (Some(why), _) => why,
        (None, Stage::Awake | Stage::Waking) => "waiting for etcd",
        (None, _) => "waiting until the control plane is awake",
    };
    let mut told: Vec<Snapshot> = missing
        .iter()
        .map(|name| match is_free(seen, name) {
            true => running(name, waits),
            false => running(name, "waiting for the claim that has its name to go"),
        })
        .collect();
    told.extend(found.iter().map(|one| one.snapshot.clone()));
    let may_come = ready(seen, cp).is_some() && seen.unmade.is_none();
    let again = match due {
        _ if may_come && found.iter().any(|one| !one.is_settled) => CLOSELY,
        _ if may_come && !missing.is_empty() => SLOWLY,
        Some(due) => Duration::try_from(due.duration_since(seen.now)).unwrap_or(CLOSELY),
        None => Duration::MAX,
    };
    Plan {
        actions,
        told,
        fact,
        again,
    }
}

/// What is to be done for one that shall be there and isn't settled, or whose Job is still there.
fn settled(one: &Found<'_>, seen: &Seen, cp: &ControlPlane) -> Option<Action> {
    let job = one.job.filter(|job| !job.is_going())?;
    // One that filled an older claim of the name says nothing of this one.
    if one.is_settled || !snapshot::fills(job, one.claim) {
        return Some(Action::Delete(job.clone()));
    }
    let mut noted = json!(outcome(&one.snapshot, job, seen)?);
    // No Job outlasts a restore.
    noted[STORE] = json!(cp.store);
    let patch = json!({"metadata": {"annotations": {keys::SNAPSHOT: noted.to_string()}}});
    Some(Action::Note(one.claim.clone(), patch))
}

/// What came of a Job; `None` while it runs.
fn outcome(snapshot: &Snapshot, job: &Object, seen: &Seen) -> Option<Snapshot> {
    if let Some(why) = failure(seen, job) {
        return Some(Snapshot {
            state: SnapshotState::Failed,
            message: Some(why),
            ..snapshot.clone()
        });
    }
    let complete = holds(job, "Complete")?;
    let told = complete["lastTransitionTime"].as_str();
    Some(Snapshot {
        state: SnapshotState::Complete,
        time: Some(told.map_or_else(|| seen.now.to_string(), str::to_owned)),
        message: None,
        ..snapshot.clone()
    })
}

/// The condition of a Job, if it holds.
pub(crate) fn holds<'a>(job: &'a Object, kind: &str) -> Option<&'a Value> {
    let mut all = job.items("/status/conditions").iter();
    all.find(|one| one["type"] == kind && one["status"] == "True")
}

/// Why a Job failed, if it did. It says so only when all of its pods have ended, and one on a node that is gone doesn't; that
/// it will have failed by then it says before.
pub(crate) fn failure(seen: &Seen, job: &Object) -> Option<String> {
    let failed = holds(job, "Failed").or_else(|| holds(job, "FailureTarget"))?;
    let text = |field: &str| failed[field].as_str().unwrap_or_default();
    let words = last_words(seen, job).map(|words| format!(": {words}"));
    Some(format!(
        "its Job failed: {}: {}{}",
        text("reason"),
        text("message"),
        words.unwrap_or_default()
    ))
}

/// What a pod of a Job that failed said last.
fn last_words(seen: &Seen, job: &Object) -> Option<String> {
    let its = |pod: &&Object| pod.label("batch.kubernetes.io/job-name") == Some(job.name());
    let said = |pod: &Object| -> Option<String> {
        let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
        let mut all = lists.into_iter().flat_map(|list| pod.items(list));
        all.find_map(|container| {
            let ended = &container["state"]["terminated"];
            let has_failed = ended["exitCode"].as_i64().is_some_and(|code| code != 0);
            let last = ended["message"].as_str()?.trim_end().lines().next_back()?;
            has_failed.then(|| last.chars().take(MOST_WORDS).collect())
        })
    };
    seen.objects.of(POD).filter(its).find_map(said)
}

/// Whether there is a snapshot of that name, to restore it.
pub(crate) fn is_complete(seen: &Seen, name: &str) -> bool {
    let mut found = found(seen).into_iter().map(|one| one.snapshot);
    found.any(|one| one.name == name && one.state == SnapshotState::Complete)
}

/// Which volumes of etcd a snapshot is of.
pub(crate) fn store_of(seen: &Seen, name: &str) -> u32 {
    let claim = seen.objects.get(CLAIM, &snapshot::name(name));
    let noted = claim.and_then(|claim| claim.annotation(keys::SNAPSHOT));
    let noted: Option<Value> = noted.and_then(|text| serde_json::from_str(text).ok());
    let store = noted.and_then(|noted| noted[STORE].as_u64());
    store
        .and_then(|store| store.try_into().ok())
        .unwrap_or_default()
}

/// All that there are, the newest first; those that are going are gone.
fn found(seen: &Seen) -> Vec<Found<'_>> {
    let claims = seen.objects.of(CLAIM).filter(|claim| !claim.is_going());
    let mut found: Vec<Found<'_>> = claims
        .filter_map(|claim| {
            let name = snapshot::of_claim(claim)?;
            let noted = claim.annotation(keys::SNAPSHOT);
            let noted = noted.and_then(|text| serde_json::from_str::<Snapshot>(text).ok());
            Some(Found {
                claim,
                job: seen.objects.get(JOB, &snapshot::name(name)),
                is_settled: noted.is_some(),
                // Its name is its claim's, whatever was noted.
                snapshot: Snapshot {
                    name: name.to_owned(),
                    trigger: trigger(name),
                    ..noted.unwrap_or_else(|| running(name, "waiting for its Job"))
                },
            })
        })
        .collect();
    let made = |one: &Found<'_>| one.claim.text("/metadata/creationTimestamp").to_owned();
    found.sort_by_key(|one| std::cmp::Reverse((made(one), one.snapshot.name.clone())));
    found
}

fn running(name: &str, waits: &str) -> Snapshot {
    Snapshot {
        name: name.to_owned(),
        time: None,
        state: SnapshotState::Running,
        message: Some(waits.to_owned()),
        trigger: trigger(name),
    }
}

fn trigger(name: &str) -> Trigger {
    match name.starts_with(SCHEDULED) {
        true => Trigger::Schedule,
        false => Trigger::Manual,
    }
}

/// Whether one shall stay. Of those made by schedule, as many complete ones do as is said, nothing that is older than the
/// last of them, and a failed one only until another is tried.
fn is_wanted(one: &Found<'_>, wish: &Backup, found: &[Found<'_>]) -> bool {
    let name = &one.snapshot.name;
    if one.snapshot.trigger == Trigger::Manual {
        return wish.snapshots.contains(name);
    }
    let all = found.iter().map(|other| &other.snapshot);
    let newer = all.filter(|other| other.trigger == Trigger::Schedule && other.name > *name);
    let newer: Vec<SnapshotState> = newer.map(|other| other.state).collect();
    let complete = newer
        .iter()
        .filter(|state| **state == SnapshotState::Complete);
    let is_over = one.snapshot.state == SnapshotState::Failed && !newer.is_empty();
    complete.count() < usize::from(wish.retain) && !is_over
}

/// What shall be there and isn't.
#[derive(Default)]
struct Missing {
    names: Vec<String>,
    /// When the next one is due.
    due: Option<Timestamp>,
    /// Why some or all aren't made.
    refused: Option<Fact>,
}

fn missing(seen: &Seen, cp: &ControlPlane, wish: &Backup, found: &[Found<'_>]) -> Missing {
    let failing = |reason: &str, message: String| {
        Some(Fact {
            message,
            ..Fact::yes(FAILING, reason)
        })
    };
    if cp.storage.ephemeral && seen.vcp.spec.backup.is_some() {
        let why = "no snapshots are made: its etcd keeps its data in an emptyDir, which ends with the pod, and nothing could \
                   be restored to it; unset spec.backup, or make the tenant with a claim (spec.etcd.storage)";
        return Missing {
            refused: failing("StorageIsEphemeral", why.to_owned()),
            ..Missing::default()
        };
    }
    let is_there = |name: &str| found.iter().any(|one| one.snapshot.name == name);
    // The schema lets no name through that a schedule gives.
    let asked = wish.snapshots.iter();
    let asked = asked.filter(|name| trigger(name) == Trigger::Manual && !is_there(name));
    let mut missing = Missing {
        names: asked.cloned().collect(),
        ..Missing::default()
    };
    let Some(schedule) = &wish.schedule else {
        return missing;
    };
    let schedule = match schedule.parse::<Schedule>() {
        Ok(schedule) => schedule,
        Err(error) => {
            missing.refused = failing("ScheduleInvalid", error.to_string());
            return missing;
        }
    };
    missing.due = schedule.next(seen.now);
    if let Some(due) = schedule.last(seen.now).map(scheduled) {
        let mut made = found.iter().map(|one| &one.snapshot);
        let stands_against = |one: &Snapshot| {
            one.trigger == Trigger::Schedule
                && (one.name >= due || one.state == SnapshotState::Running)
        };
        if !made.any(stands_against) {
            missing.names.push(due);
        }
    }
    missing
}

/// Whether no claim has the name of a snapshot: one that is going has it still.
fn is_free(seen: &Seen, name: &str) -> bool {
    seen.objects.get(CLAIM, &snapshot::name(name)).is_none()
}

/// The name of the one that is due at a time: the later, the greater.
fn scheduled(due: Timestamp) -> String {
    format!("{SCHEDULED}{}", due.strftime("%Y%m%d-%H%M"))
}

/// What there is to say of the newest of those made by schedule that was tried.
fn newest_failed(found: &[Found<'_>]) -> Fact {
    let scheduled = found.iter().map(|one| &one.snapshot);
    let scheduled = scheduled
        .filter(|one| one.trigger == Trigger::Schedule && one.state != SnapshotState::Running);
    match scheduled.max_by(|a, b| a.name.cmp(&b.name)) {
        Some(newest) if newest.state == SnapshotState::Failed => Fact {
            message: format!(
                "the snapshot {} failed: {}",
                newest.name,
                newest.message.as_deref().unwrap_or_default()
            ),
            ..Fact::yes(FAILING, "SnapshotFailed")
        },
        _ => Fact::no(FAILING, "Over", ""),
    }
}

/// The address of an etcd that snapshots can be taken from now.
fn ready<'a>(seen: &'a Seen, cp: &ControlPlane) -> Option<&'a str> {
    let set = seen.objects.get(STATEFUL_SET, etcd::NAME)?;
    let address = seen
        .objects
        .get(SERVICE, etcd::NAME)?
        .text("/spec/clusterIP");
    let is_ready = set.number("/status/readyReplicas") > 0 && !address.is_empty();
    (cp.stage == Stage::Awake && is_ready).then_some(address)
}

#[cfg(test)]
mod tests;
