//! Whether a control plane sleeps, and the way there and back; pure.
//!
//! ```text
//! awake ──▶ stopping ──▶ letting go ──▶ ending ──▶ asleep ──▶ waking ──▶ awake
//!           if asked     the syncer     API servers, then     as any start, a few
//!           for: pods    stops first    etcd go               at a time
//! ```
//!
//! Pods are stopped first, where that is asked for ([`workload`]); meanwhile all works as before, but that none is made.
//!
//! The condition `Sleeping` holds from the first step until the API answers again. While it does, the syncer serves the
//! tenant as little as one that is paused: what the tenant runs is left as it is, and nobody is alarmed.
//!
//! Who wakes a tenant isn't written into its spec. The proxy tells of visits at the front door by a mark that is another
//! one whenever somebody came ([`Visit`]); the mark that was known when the tenant fell asleep stands in `status.visit`. So
//! another mark means that somebody came since, whenever this process began to look.

use crate::{
    lifecycle::{restore, starts},
    object::{Object, POD},
    observe::Seen,
    provision::{apiserver, controller_manager, etcd},
    spec::control_plane::ControlPlane,
    status::{Fact, Report, condition},
};
use api::{Phase, VirtualControlPlane};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tenancy::route;

pub(crate) mod workload;

/// Condition of one that sleeps, or is on the way there or back.
pub(crate) const SLEEPING: &str = "Sleeping";
/// Condition of one that shall sleep and can't.
pub(crate) const REFUSED: &str = "SleepRefused";
/// Reason of `Sleeping`, and of all that doesn't hold because of it, once nothing runs any more.
const ASLEEP: &str = "Asleep";

/// How long the syncer is waited for: a dead one must keep no tenant awake.
const SYNCER_PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// How long one that a connection woke stays awake when nobody comes any more, if nothing else is said.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// The proxy tells of visits that go on twice a minute; less than a few of these would be chance.
const IDLE_LEAST: Duration = Duration::from_secs(120);

/// What the front door told of a tenant's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Another one whenever somebody came; empty when nobody ever did.
    pub(crate) mark: String,
    /// Since when nobody has come, as far as this process knows: at most since it began to look.
    pub(crate) quiet: Duration,
}

/// Where a control plane is between awake and asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It runs.
    #[default]
    Awake,
    /// It shall sleep without what the tenant runs; the syncer, which serves it still, ends that.
    Stopping,
    /// It shall sleep; the syncer, which still may write, goes first.
    LettingGo,
    /// API servers and controller-manager end, while they can still write to etcd.
    Ending,
    /// Nothing runs, or only an etcd that ends.
    Asleep,
    /// It starts, and doesn't answer yet.
    Waking,
}

/// How much of a control plane runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    StoreAlone,
    Nothing,
}

impl Scale {
    /// Members of etcd, of so many.
    pub(crate) fn store(self, members: i32) -> i32 {
        if self == Self::Nothing { 0 } else { members }
    }

    /// Pods of another part, of so many.
    pub(crate) fn others(self, replicas: i32) -> i32 {
        if self == Self::Full { replicas } else { 0 }
    }
}

impl Stage {
    pub(crate) fn scale(self) -> Scale {
        match self {
            Self::Awake | Self::Stopping | Self::LettingGo | Self::Waking => Scale::Full,
            Self::Ending => Scale::StoreAlone,
            Self::Asleep => Scale::Nothing,
        }
    }
}

/// Where the control plane is now.
pub(crate) fn stage(seen: &Seen, cp: &ControlPlane) -> Stage {
    let sleeps = is_sleeping(&seen.vcp);
    let restoring = restore::sleeps(cp);
    let shall_sleep = restoring.unwrap_or_else(|| wants(seen));
    if !shall_sleep || cp.storage.ephemeral {
        return if sleeps.is_some() && !seen.tenant.answers() {
            Stage::Waking
        } else {
            Stage::Awake
        };
    }
    // A restore leaves it running.
    let has_pods = restoring.is_none() && workload::is_left(seen);
    match sleeps {
        None if has_pods => Stage::Stopping,
        None => Stage::LettingGo,
        Some(since) if syncer_at_work(seen, since) => Stage::LettingGo,
        // The syncer made one before it had heard that it is to make none: back to where it serves the tenant.
        Some(_) if has_pods => Stage::Stopping,
        Some(_) if runs(seen, &[apiserver::NAME, controller_manager::NAME]) => Stage::Ending,
        Some(_) => Stage::Asleep,
    }
}

/// What the front door does meanwhile.
pub(crate) fn at_the_door(cp: &ControlPlane) -> route::Sleep {
    match (cp.stage, cp.wakes) {
        // Who is still there as it falls asleep is no visitor: else nobody that is connected could be left behind.
        (Stage::Stopping | Stage::LettingGo, _) | (Stage::Awake, false) => route::Sleep::Never,
        (Stage::Awake, true) => route::Sleep::Awake,
        (Stage::Ending | Stage::Asleep, false) => route::Sleep::Shut,
        // Until it answers a connection is held, whoever woke it.
        (Stage::Waking, _) | (Stage::Ending | Stage::Asleep, true) => route::Sleep::Wakeable,
    }
}

/// The report with what there is to say of sleep.
pub(crate) fn told(mut report: Report, seen: &Seen, cp: &ControlPlane) -> Report {
    let known = seen.vcp.status.as_ref().and_then(|s| s.visit.as_ref());
    if wants(seen) && cp.storage.ephemeral {
        let why = "its etcd keeps its data in an emptyDir, which ends with the pod: nothing would be left to wake up; \
                   unset spec.sleep, or make the tenant with a claim (spec.etcd.storage)";
        report.conditions.push(Fact {
            message: why.into(),
            ..Fact::yes(REFUSED, "StorageIsEphemeral")
        });
    } else {
        report.conditions.push(Fact::no(REFUSED, "Over", ""));
    }
    if cp.stage != Stage::Stopping {
        report
            .conditions
            .push(Fact::no(workload::STOPPING, "Over", ""));
    }
    match cp.stage {
        Stage::Awake => {
            report.conditions.push(Fact::no(SLEEPING, "Awake", ""));
            let may_sleep = seen.vcp.spec.sleep.asleep || seen.vcp.spec.sleep.after_idle.is_some();
            if !may_sleep && known.is_some() {
                report.fields.push(("visit", Value::Null));
            }
        }
        Stage::Waking => report.conditions.push(Fact {
            message: "etcd, API server and controller-manager start".into(),
            ..Fact::yes(SLEEPING, "WakingUp")
        }),
        Stage::Stopping => say_stopping(&mut report, seen),
        Stage::LettingGo | Stage::Ending | Stage::Asleep => say_asleep(&mut report, seen, cp),
    }
    report
}

fn say_stopping(report: &mut Report, seen: &Seen) {
    let (reason, words) = workload::told(seen);
    // Of DNS it is no news that its pod ends as well.
    say_no(report, &["DNSReady", "Ready"], reason, &words);
    report.conditions.extend([
        Fact::no(SLEEPING, "NotYet", ""),
        Fact {
            message: words,
            ..Fact::yes(workload::STOPPING, reason)
        },
    ]);
    note_visit(report, seen);
    report.again = workload::again(reason);
}

/// That conditions don't hold since it falls asleep, or sleeps.
fn say_no(report: &mut Report, kinds: &[&'static str], reason: &str, words: &str) {
    report.conditions.retain(|fact| !kinds.contains(&fact.kind));
    let facts = kinds.iter().copied();
    let facts = facts.map(|kind| Fact::no(kind, reason, words));
    report.conditions.extend(facts);
    report.conditions.extend(starts::over());
    report.phase = Phase::Sleeping;
    report.message = Some(words.into());
}

/// What came until it began to fall asleep doesn't count; what comes from then on does.
fn note_visit(report: &mut Report, seen: &Seen) {
    if is_on_the_way(&seen.vcp) {
        return;
    }
    let mark = seen.visit.as_ref().map(|visit| visit.mark.as_str());
    report
        .fields
        .push(("visit", json!(mark.unwrap_or_default())));
}

fn say_asleep(report: &mut Report, seen: &Seen, cp: &ControlPlane) {
    let restoring = restore::stopped(seen, cp);
    let store = runs(seen, &[etcd::NAME]);
    let (reason, words) = match (cp.stage, cp.wakes) {
        (Stage::LettingGo, _) => ("FallingAsleep", "falls asleep: the syncer goes first"),
        (Stage::Ending, _) => ("FallingAsleep", "falls asleep: its API servers end"),
        (_, _) if store => ("FallingAsleep", "falls asleep: its etcd ends"),
        (_, true) => (
            ASLEEP,
            "asleep: a connection to its front door wakes it, and so does `sublet wake`",
        ),
        (_, false) => (ASLEEP, "asleep: `sublet wake` wakes it"),
    };
    let (reason, words) = match &restoring {
        Some(words) => (restore::RESTORING, words.as_str()),
        None => (reason, words),
    };
    let silent = [
        "ControlPlaneReady",
        "EtcdReady",
        "APIServerReady",
        "DNSReady",
        "Ready",
    ];
    say_no(report, &silent, ASLEEP, words);
    report.conditions.push(Fact {
        message: words.into(),
        ..Fact::yes(SLEEPING, reason)
    });
    if restoring.is_none() {
        note_visit(report, seen);
    }
    report.again = match reason {
        ASLEEP => Duration::from_secs(60),
        _ => Duration::from_secs(1),
    };
}

/// Whether it shall sleep now.
fn wants(seen: &Seen) -> bool {
    let sleep = &seen.vcp.spec.sleep;
    if !sleep.wake_on_connection {
        return sleep.asleep;
    }
    let Some(limit) = idle_limit(seen) else {
        return false;
    };
    let is_on_the_way = is_on_the_way(&seen.vcp);
    let Some(visit) = &seen.visit else {
        // Nobody knows yet who came: it stays as it is.
        return is_on_the_way;
    };
    let known = seen.vcp.status.as_ref().and_then(|s| s.visit.as_deref());
    match known {
        None if sleep.asleep => true,
        Some(known) if known == visit.mark => true,
        // Marks were lost. That isn't a visit.
        Some(_) if visit.mark.is_empty() && is_on_the_way => true,
        _ => visit.quiet >= limit,
    }
}

/// How long nobody may come before it falls asleep; `None`: it doesn't fall asleep by itself.
fn idle_limit(seen: &Seen) -> Option<Duration> {
    let sleep = &seen.vcp.spec.sleep;
    let given = sleep.after_idle.as_deref().map(|text| {
        // The schema lets nothing else through.
        duration(text).unwrap_or(IDLE).max(IDLE_LEAST)
    });
    given.or(sleep.asleep.then_some(IDLE))
}

/// A number with its unit, such as `30m`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// Whether it sleeps, or began to fall asleep.
fn is_on_the_way(vcp: &VirtualControlPlane) -> bool {
    is_sleeping(vcp).is_some() || workload::is_stopping(vcp)
}

/// Since when it sleeps, or is on the way there or back.
pub(crate) fn is_sleeping(vcp: &VirtualControlPlane) -> Option<Timestamp> {
    holds_since(vcp, SLEEPING)
}

/// Since when a condition holds.
fn holds_since(vcp: &VirtualControlPlane, kind: &str) -> Option<Timestamp> {
    let holds = condition(vcp, kind).filter(|condition| condition.status == "True")?;
    // A time that nobody can read is long ago.
    Some(holds.last_transition_time.parse().unwrap_or_default())
}

/// Whether the syncer may still write; one that never says that it stopped is waited for only so long.
fn syncer_at_work(seen: &Seen, asked: Timestamp) -> bool {
    let stopped = condition(&seen.vcp, "Synced").is_none_or(|synced| synced.reason == "Stopped");
    seen.syncer_secret.is_some() && !stopped && seen.now.duration_since(asked) < SYNCER_PATIENCE
}

/// Whether a pod of one of these parts is there.
pub(crate) fn runs(seen: &Seen, parts: &[&str]) -> bool {
    let is_of_them = |pod: &Object| {
        let part = pod.label("app.kubernetes.io/name");
        part.is_some_and(|part| parts.contains(&part))
            && !["Succeeded", "Failed"].contains(&pod.text("/status/phase"))
    };
    seen.objects.of(POD).any(is_of_them)
}

#[cfg(test)]
pub(crate) mod tests;
