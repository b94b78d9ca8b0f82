//! A tenant's etcd that is set back to a snapshot: what comes next, and what is said of it; pure.
//!
//! ```text
//! writing ──▶ stopping ──▶ starting ──▶ complete
//! into new    counter      with them       the old
//! volumes     goes up          │         volumes go
//!    │            │            ▼
//!    └─▶ failed ◀─┴──────── returning
//!        the new ones go    to the old ones,
//!                           counter goes up
//! ```
//!
//! The data are written to volumes beside those that etcd has, while the tenant works on; so most of what can go wrong costs
//! it nothing. It is stopped as one that falls asleep: the syncer lets go of it first. Those that it had go only when its
//! API answers from the new ones, and it goes back to them when etcd or the API servers don't become ready.
//!
//! How far a restore is stands in an annotation of the control plane's namespace, written before anything is done by it: a
//! manager that starts anew goes on from there. It also says for which wish that was, so that none is granted twice, and
//! which volumes etcd has, until a StatefulSet of that name says so itself.
//!
//! Not promised: room. For a while there are twice as many volumes.

use crate::{
    decide::{Action, Decision},
    lifecycle::{
        backup,
        sleep::{self, Stage},
    },
    object::{CLAIM, DEPLOYMENT, JOB, Object, POD, STATEFUL_SET},
    observe::Seen,
    provision::{apiserver, etcd, restore, snapshot},
    running::parts::{self, MAINS, Parts},
    spec::control_plane::ControlPlane,
    status::Fact,
    tenant::Tenant,
};
use api::{EtcdStorage, Restore, RestoreState, Restored, VirtualControlPlane, keys};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Condition of one that is restored just now.
pub(crate) const RESTORING: &str = "Restoring";
/// Condition of one whose last restore failed.
pub(crate) const FAILED: &str = "RestoreFailed";
/// The field of the status.
const FIELD: &str = "restore";
/// How often it is looked at: of a Job's own status no watch tells.
const CLOSELY: Duration = Duration::from_secs(2);
/// How long it may take to write the data: a Job's own limit, and some for its claim.
const WRITING: SignedDuration = SignedDuration::from_mins(35);
/// How long pods may take to end, one of them perhaps on a node that is gone.
const STOPPING: SignedDuration = SignedDuration::from_mins(10);

/// The last restore, as it is noted in the control plane's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    snapshot: String,
    request: String,
    state: RestoreState,
    /// When it got there.
    since: String,
    /// Why it failed.
    message: String,
    /// The volumes that etcd has.
    store: u32,
    /// Those that it had when it worked last.
    back: u32,
    /// Those that the snapshot's data are written to.
    next: u32,
    /// What the tenant's restore counter becomes.
    counter: i64,
    /// What a StatefulSet was like that isn't there for a moment.
    members: i32,
    storage: EtcdStorage,
    /// Whether no other volume and no Job is left.
    swept: bool,
}

impl Record {
    fn is_for(&self, wish: &Restore) -> bool {
        (&self.snapshot, &self.request) == (&wish.snapshot, &wish.request)
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, RestoreState::Complete | RestoreState::Failed)
    }

    fn at(&self, state: RestoreState, now: Timestamp) -> Self {
        let since = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        Self {
            state,
            since,
            ..self.clone()
        }
    }

    /// Not to be: it keeps, or goes back to, the volumes that it had.
    fn failed(&self, why: impl Into<String>, now: Timestamp) -> Self {
        // What was written meanwhile is missing in what it goes back to, as after any restore.
        let (state, counter) = match self.store == self.back {
            true => (RestoreState::Failed, self.counter),
            false => (RestoreState::Returning, self.counter + 1),
        };
        Self {
            message: why.into(),
            counter,
            ..self.at(state, now)
        }
    }

    /// Whether it has been there for longer than `limit`.
    fn is_late(&self, limit: SignedDuration, now: Timestamp) -> bool {
        // A time that nobody can read is long ago.
        let since: Timestamp = self.since.parse().unwrap_or_default();
        now.duration_since(since) > limit
    }

    fn keeps(&self, store: u32) -> bool {
        [self.store, self.back].contains(&store) || (store == self.next && !self.is_settled())
    }

    fn has_jobs(&self) -> bool {
        self.state == RestoreState::Writing
    }
}

/// The last restore, if there was any.
pub(crate) fn read(seen: &Seen) -> Option<Record> {
    let namespace = seen.namespace.as_ref()?;
    let owner = seen.owner.as_ref()?;
    let is_ours = namespace.label(keys::TENANT) == Some(owner.id.as_str());
    let text = namespace.annotation(keys::RESTORE).filter(|_| is_ours)?;
    serde_json::from_str(text).ok()
}

/// The same as text.
pub(crate) fn noted(cp: &ControlPlane) -> Option<String> {
    cp.restore.as_ref().map(|record| json!(record).to_string())
}

/// Whether there is something to be done: else nothing of claims and Jobs is read.
pub(crate) fn concerns(seen: &Seen) -> bool {
    let wish = seen.vcp.spec.restore.as_ref();
    match read(seen) {
        None => wish.is_some(),
        Some(record) => {
            !record.is_settled() || !record.swept || wish.is_some_and(|wish| !record.is_for(wish))
        }
    }
}

/// Gives a control plane the volumes that the last restore says it has.
pub(crate) fn keep(cp: &mut ControlPlane, seen: &Seen) {
    let Some(record) = read(seen) else { return };
    let is_there = seen.objects.get(STATEFUL_SET, etcd::NAME).is_some();
    if !is_there {
        cp.members = record.members;
        cp.storage = record.storage.clone();
    }
    // Once all is done, what is there says so itself.
    if !is_there || !record.swept {
        cp.store = record.store;
    }
    cp.restore = Some(record);
}

/// Whether the control plane sleeps for it, or is awake; `None`: as is asked for otherwise.
pub(crate) fn sleeps(cp: &ControlPlane) -> Option<bool> {
    match cp.restore.as_ref()?.state {
        RestoreState::Stopping | RestoreState::Returning => Some(true),
        RestoreState::Starting => Some(false),
        RestoreState::Writing | RestoreState::Complete | RestoreState::Failed => None,
    }
}

/// What there is to say of a control plane that sleeps for it.
pub(crate) fn stopped(seen: &Seen, cp: &ControlPlane) -> Option<String> {
    let record = cp.restore.as_ref()?;
    (sleeps(cp) == Some(true)).then(|| words(record, seen))
}

/// Whether a snapshot is read just now.
pub(crate) fn needs(cp: &ControlPlane, snapshot: &str) -> bool {
    let record = cp.restore.as_ref();
    record.is_some_and(|record| record.has_jobs() && record.snapshot == snapshot)
}

/// What is to be noted before anything else is done.
pub(crate) fn step(seen: &Seen, cp: &ControlPlane) -> Option<Record> {
    let is_known = |namespace: &Object| {
        let id = cp.owner.id.as_str();
        !namespace.is_going() && namespace.label(keys::TENANT) == Some(id)
    };
    // Until the manager may look into it, nobody knows what is there.
    if !seen.namespace.as_ref().is_some_and(is_known) || seen.access.is_none() {
        return None;
    }
    let wish = seen.vcp.spec.restore.as_ref();
    let Some(record) = &cp.restore else {
        return wish.map(|wish| begun(seen, cp, wish));
    };
    match wish {
        Some(wish) if !record.is_for(wish) && record.state != RestoreState::Returning => {
            Some(begun(seen, cp, wish))
        }
        wish => go_on(seen, cp, record, wish),
    }
}

fn begun(seen: &Seen, cp: &ControlPlane, wish: &Restore) -> Record {
    let before = cp.restore.as_ref();
    let under_way = before.filter(|before| !before.is_settled());
    let claims = seen.objects.of(CLAIM);
    let highest = claims.filter_map(etcd::store_of_claim).max();
    let tried = before.map_or(0, |before| before.next);
    // The status may have been lost by a move, and would begin again at 0.
    let counted = before.map_or(0, |before| before.counter);
    let counted = counted.max(counter(&seen.vcp).unwrap_or_default());
    let record = Record {
        snapshot: wish.snapshot.clone(),
        request: wish.request.clone(),
        state: RestoreState::Writing,
        since: String::new(),
        message: String::new(),
        store: cp.store,
        // Those that it hasn't worked with yet are nothing to go back to.
        back: under_way.map_or(cp.store, |before| before.back),
        next: tried.max(cp.store).max(highest.unwrap_or_default()) + 1,
        counter: counted + 1,
        members: cp.members,
        storage: cp.storage.clone(),
        swept: false,
    };
    match cannot(seen, cp, &wish.snapshot) {
        Some(why) => record.failed(why, seen.now),
        None => record.at(RestoreState::Writing, seen.now),
    }
}

/// Why it isn't even tried.
fn cannot(seen: &Seen, cp: &ControlPlane, snapshot: &str) -> Option<String> {
    if cp.storage.ephemeral {
        let why = "its etcd keeps its data in an emptyDir, which ends with the pod: nothing can be restored to it";
        return Some(why.to_owned());
    }
    if seen.objects.get(STATEFUL_SET, etcd::NAME).is_none() {
        return Some("it has no etcd yet".to_owned());
    }
    match backup::is_complete(seen, snapshot) {
        true => None,
        false => Some(format!(
            "there is no complete snapshot {snapshot}: `sublet snapshot list` names those that there are"
        )),
    }
}

fn go_on(
    seen: &Seen,
    cp: &ControlPlane,
    record: &Record,
    wish: Option<&Restore>,
) -> Option<Record> {
    let now = seen.now;
    match record.state {
        RestoreState::Writing | RestoreState::Stopping | RestoreState::Starting
            if wish.is_none() =>
        {
            Some(record.failed("spec.restore was taken away before it was through", now))
        }
        RestoreState::Writing => match written(seen, record) {
            Written::All => Some(record.at(RestoreState::Stopping, now)),
            Written::Failed(why) => Some(record.failed(why, now)),
            Written::Not(why) if record.is_late(WRITING, now) => {
                let minutes = WRITING.as_mins();
                Some(record.failed(format!("not written within {minutes} min: {why}"), now))
            }
            Written::Not(_) => None,
        },
        RestoreState::Stopping if is_down(seen, cp) => {
            (!lacks_counter(seen, record)).then(|| Record {
                store: record.next,
                ..record.at(RestoreState::Starting, now)
            })
        }
        RestoreState::Stopping if record.is_late(STOPPING, now) => {
            let (minutes, pods) = (STOPPING.as_mins(), running(seen).join(", "));
            let why = format!("not all has ended within {minutes} min: {pods}");
            Some(record.failed(why, now))
        }
        RestoreState::Starting => started(seen, cp, record),
        RestoreState::Returning if is_down(seen, cp) => {
            (!lacks_counter(seen, record)).then(|| Record {
                store: record.back,
                ..record.at(RestoreState::Failed, now)
            })
        }
        RestoreState::Complete | RestoreState::Failed
            if !record.swept
                && has_its_volumes(seen, record)
                && leftovers(seen, record).is_empty() =>
        {
            Some(Record {
                swept: true,
                ..record.clone()
            })
        }
        _ => None,
    }
}

/// How far its members' data are written.
enum Written {
    All,
    /// What is waited for.
    Not(String),
    Failed(String),
}

fn written(seen: &Seen, record: &Record) -> Written {
    let mut all = true;
    for number in 0..record.members {
        let claim = etcd::claim_name(record.next, number);
        let claim = seen.objects.get(CLAIM, &claim);
        let claim = claim.filter(|claim| !claim.is_going());
        let job = restore::job_name(record.next, number);
        let job = seen.objects.get(JOB, &job);
        // What was written into a claim that is gone is gone with it.
        let is_its = |job: &&Object| claim.is_some_and(|claim| snapshot::fills(job, claim));
        let Some(job) = job.filter(is_its) else {
            all = false;
            continue;
        };
        if let Some(why) = backup::failure(seen, job) {
            return Written::Failed(why);
        }
        all &= backup::holds(job, "Complete").is_some();
    }
    match all {
        true => Written::All,
        false => Written::Not(match &seen.unmade {
            Some(why) => format!("a claim or a Job can't be made: {why}"),
            None => parts::blocker(&seen.objects, None, restore::NAME),
        }),
    }
}

/// Whether the StatefulSet is for the volumes that etcd shall have.
fn has_its_volumes(seen: &Seen, record: &Record) -> bool {
    let set = seen.objects.get(STATEFUL_SET, etcd::NAME);
    set.is_some_and(|set| etcd::store_of(set).unwrap_or_default() == record.store)
}

/// Whether nothing runs that has etcd's volumes.
fn is_down(seen: &Seen, cp: &ControlPlane) -> bool {
    let set = seen.objects.get(STATEFUL_SET, etcd::NAME);
    let has_pods = |set: &Object| {
        let counts = ["/spec/replicas", "/status/replicas"];
        counts.iter().any(|count| set.number(count) > 0)
    };
    cp.stage == Stage::Asleep
        && !set.is_some_and(has_pods)
        && !sleep::runs(seen, &[etcd::NAME])
        && of_snapshots(seen).next().is_none()
}

/// Jobs of snapshots. None outlasts a restore: nobody knew of which volumes it is.
fn of_snapshots(seen: &Seen) -> impl Iterator<Item = &Object> {
    let is_one = |job: &&Object| job.label("app.kubernetes.io/name") == Some(snapshot::NAME);
    seen.objects.of(JOB).filter(is_one)
}

/// Pods of the control plane that are waited for to end.
fn running(seen: &Seen) -> Vec<&str> {
    let is_of_it = |pod: &&Object| {
        let part = pod.label("app.kubernetes.io/name");
        MAINS.iter().any(|(_, name)| part == Some(*name)) && !parts::has_ended(pod)
    };
    let pods = seen.objects.of(POD).filter(is_of_it);
    pods.map(Object::name).collect()
}

/// Whether the syncer would take what is missing in the tenant for deleted.
fn lacks_counter(seen: &Seen, record: &Record) -> bool {
    counter(&seen.vcp).is_some_and(|counter| counter < record.counter)
}

/// How often it was restored; `None` when it never answered.
fn counter(vcp: &VirtualControlPlane) -> Option<i64> {
    let proof = vcp.status.as_ref()?.proof.as_ref()?;
    Some(proof.restore_counter)
}

/// Whether it works with the new volumes, or doesn't.
fn started(seen: &Seen, cp: &ControlPlane, record: &Record) -> Option<Record> {
    let set = seen.objects.get(STATEFUL_SET, etcd::NAME)?;
    if !has_its_volumes(seen, record) {
        return None;
    }
    let parts = Parts::of(&seen.objects, seen.now);
    // What it says while none is ready it said before it stopped.
    let is_new = parts.etcd.is_none() && parts.server.is_none();
    if let (
        Stage::Awake,
        Tenant::Answers {
            kube_system_uid, ..
        },
        true,
    ) = (cp.stage, &seen.tenant, is_new)
    {
        let proof = seen.vcp.status.as_ref().and_then(|s| s.proof.as_ref());
        let is_anothers = proof.is_some_and(|proof| proof.kube_system_uid != *kube_system_uid);
        return Some(match is_anothers {
            true => record.failed("the snapshot has another tenant's data", seen.now),
            false => Record {
                back: record.store,
                ..record.at(RestoreState::Complete, seen.now)
            },
        });
    }
    let changed: Option<Timestamp> = set.annotation(keys::CHANGED).and_then(|at| at.parse().ok());
    let server = seen.objects.get(DEPLOYMENT, apiserver::NAME);
    let (part, why, limit) = match (parts.etcd, parts.server) {
        (Some(why), _) => (etcd::NAME, why, parts::time_for(set)),
        // They start beside etcd, and wait for it.
        (None, why) => {
            let limit = parts::time_for(set) + parts::time_for(server?);
            (apiserver::NAME, why?, limit)
        }
    };
    changed.filter(|at| seen.now.duration_since(*at) > limit)?;
    let minutes = limit.as_mins();
    Some(record.failed(
        format!("{part} wasn't ready with the snapshot's data within {minutes} min: {why}"),
        seen.now,
    ))
}

/// Claims and Jobs that nobody needs any more.
fn leftovers<'a>(seen: &'a Seen, record: &Record) -> Vec<&'a Object> {
    let is_left = |claim: &&Object| {
        let store = etcd::store_of_claim(claim);
        store.is_some_and(|store| !record.keeps(store))
    };
    let first = restore::job_name(record.next, 0);
    let own = first.trim_end_matches('0');
    let is_over = |job: &&Object| {
        job.label("app.kubernetes.io/name") == Some(restore::NAME)
            && !(record.has_jobs() && job.name().starts_with(own))
    };
    let claims = seen.objects.of(CLAIM).filter(is_left);
    let all = claims.chain(seen.objects.of(JOB).filter(is_over));
    all.filter(|object| !object.is_going()).collect()
}

/// The decision with what is to be done for it, once nothing else is, and with what there is to say of it.
pub(crate) fn added(mut decision: Decision, seen: &Seen, cp: &ControlPlane) -> Decision {
    let report = &mut decision.report;
    let Some(record) = &cp.restore else {
        let over = [RESTORING, FAILED].map(|kind| Fact::no(kind, "Over", ""));
        report.conditions.extend(over);
        let told = seen.vcp.status.as_ref();
        if told.is_some_and(|status| status.restore.is_some()) {
            report.fields.push((FIELD, Value::Null));
        }
        return decision;
    };
    let wish = seen.vcp.spec.restore.as_ref();
    let is_asked = wish.is_some_and(|wish| record.is_for(wish));
    let text = words(record, seen);
    let fact = |kind, holds: bool, reason: &str| Fact {
        kind,
        holds,
        reason: reason.to_owned(),
        message: text.clone(),
    };
    report.conditions.extend([
        fact(
            RESTORING,
            !record.is_settled(),
            &format!("{:?}", record.state),
        ),
        fact(
            FAILED,
            record.state == RestoreState::Failed && is_asked,
            "NotRestored",
        ),
    ]);
    let told = Restored {
        snapshot: record.snapshot.clone(),
        request: record.request.clone(),
        state: record.state,
        message: text,
        time: record.since.clone(),
    };
    report.fields.push((FIELD, json!(told)));
    if !record.is_settled() || !record.swept {
        report.again = report.again.min(CLOSELY);
    }
    if decision.actions.is_empty() {
        decision.actions = actions(seen, cp, record);
    }
    decision
}

fn words(record: &Record, seen: &Seen) -> String {
    let (snapshot, why) = (&record.snapshot, &record.message);
    let pods = match running(seen)[..] {
        [] => String::new(),
        ref pods => format!("; waiting for {} to end", pods.join(", ")),
    };
    match record.state {
        RestoreState::Writing => {
            let waits = match written(seen, record) {
                Written::Not(why) => format!(": {why}"),
                Written::All | Written::Failed(_) => String::new(),
            };
            format!("the data of the snapshot {snapshot} are written to new volumes{waits}")
        }
        RestoreState::Stopping => {
            format!(
                "the control plane stops, to start with the data of the snapshot {snapshot}{pods}"
            )
        }
        RestoreState::Starting => {
            format!("the control plane starts with the data of the snapshot {snapshot}")
        }
        RestoreState::Returning => {
            format!("the control plane stops, to start with the data that it had: {why}{pods}")
        }
        RestoreState::Complete => format!("it has the data of the snapshot {snapshot}"),
        RestoreState::Failed => {
            format!(
                "the snapshot {snapshot} wasn't restored, its data are those that it had: {why}"
            )
        }
    }
}

fn actions(seen: &Seen, cp: &ControlPlane, record: &Record) -> Vec<Action> {
    let left = leftovers(seen, record).into_iter().cloned();
    let mut actions: Vec<Action> = left.map(Action::Delete).collect();
    // Before it starts with other data, and not later.
    let stops = matches!(
        record.state,
        RestoreState::Stopping | RestoreState::Returning
    );
    if stops {
        let jobs = of_snapshots(seen).filter(|job| !job.is_going());
        actions.extend(jobs.cloned().map(Action::Delete));
    }
    if stops && is_down(seen, cp) && lacks_counter(seen, record) {
        let proof = json!({"restoreCounter": record.counter});
        actions.push(Action::Tell(json!({"status": {"proof": proof}})));
    }
    if !record.has_jobs() || seen.unmade.is_some() {
        return actions;
    }
    for number in 0..record.members {
        let name = etcd::claim_name(record.next, number);
        let job = restore::job_name(record.next, number);
        let made = match seen.objects.get(CLAIM, &name) {
            None => restore::claim(cp, record.next, number),
            Some(_) if seen.objects.get(JOB, &job).is_some() => continue,
            Some(claim) => {
                let from = backup::store_of(seen, &record.snapshot);
                let bump = restore::bump(from, record.next);
                restore::job(cp, claim, &job, number, &record.snapshot, bump)
            }
        };
        actions.push(Action::Create(made));
    }
    actions
}

#[cfg(test)]
mod tests;
