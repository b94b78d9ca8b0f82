//! Who may start now; pure.
//!
//! A control plane that starts takes a core for some seconds, so of many that shall start, or start anew for a new version
//! or certificate, only so many do at a time. Each has a *place* meanwhile; the others stand in *line*, and who came first
//! goes first. Places and line are conditions of the VirtualControlPlanes, so a manager that starts anew finds them.
//!
//! A place is given back when the control plane is ready. One that isn't ready in time loses it, and one that doesn't come
//! when it is its turn loses that, so that whatever is broken holds up nobody for long.

mod limit;

pub(crate) use limit::Limit;

use crate::{
    decide::Action,
    lifecycle::{backup, restore, sleep, upgrade, version},
    object::{DEPLOYMENT, Object},
    observe::Seen,
    provision::apiserver,
    running::{parts::MAINS, rollout},
    status::{Fact, Report, condition},
};
use api::{Phase, VirtualControlPlane};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Condition of one that has a place.
pub(crate) const STARTING: &str = "Starting";
/// Condition of one that stands in line.
pub(crate) const WAITING: &str = "WaitingToStart";
/// How long a place is kept: several times what a start takes on a busy machine.
const PLACE_KEPT: SignedDuration = SignedDuration::from_mins(3);
/// How long others wait for one that stands before them and may never come.
const TURN_KEPT: SignedDuration = SignedDuration::from_mins(30);
/// Asked again at least so often while standing in front; a place that becomes free is told at once.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The same further back, where those in front must go first.
const FAR_BACK: SignedDuration = SignedDuration::from_mins(5);

/// One that has a place or stands in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// `NAMESPACE/NAME`.
    who: String,
    /// When it was created.
    made: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In line since then.
    Waits(Timestamp),
    /// With a place since then.
    Starts(Timestamp),
}

impl Stage {
    fn of(vcp: &VirtualControlPlane) -> Option<Self> {
        match (since(vcp, STARTING), since(vcp, WAITING)) {
            (Some(since), _) => Some(Self::Starts(since)),
            (None, Some(since)) => Some(Self::Waits(since)),
            (None, None) => None,
        }
    }

    /// Whether it is a place, and kept for not too long.
    fn is_place(self, now: Timestamp) -> bool {
        matches!(self, Self::Starts(since) if now - PLACE_KEPT < since)
    }
}

/// The answer to one that wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A place is free for it.
    Now,
    /// None is.
    Later {
        /// How many have a place.
        starting: usize,
        /// How many stand in line before it.
        before: usize,
        /// When to ask again without being told.
        again: Duration,
    },
}

impl Start {
    /// As it says itself; `None` when it has nothing to do with the line. Who is deleted or paused doesn't start, and what
    /// runs elsewhere takes nothing of this cluster.
    pub(crate) fn of(vcp: &VirtualControlPlane) -> Option<Self> {
        if is_set_aside(vcp) || is_hidden(vcp) {
            return None;
        }
        Some(Self {
            who: who(vcp),
            made: made(vcp),
            stage: Stage::of(vcp)?,
        })
    }

    /// Whether it has a place that others must respect.
    fn has_place(&self, now: Timestamp) -> bool {
        self.stage.is_place(now)
    }

    /// Its rank in line, if others must respect that.
    fn rank(&self, now: Timestamp) -> Option<Rank<'_>> {
        match self.stage {
            Stage::Waits(since) if now - TURN_KEPT < since => Some((since, self.made, &self.who)),
            _ => None,
        }
    }
}

/// Who came first, who was created first, and then any order that stays.
type Rank<'a> = (Timestamp, Timestamp, &'a str);

/// Whether one that wants to start may, when so many may at a time.
pub(crate) fn turn(all: &[Start], vcp: &VirtualControlPlane, limit: usize, now: Timestamp) -> Turn {
    let who = who(vcp);
    let since = since(vcp, WAITING).unwrap_or_else(|| to_the_second(now));
    let own = (since, made(vcp), who.as_str());
    let others = || all.iter().filter(|other| other.who != who);
    let starting = others().filter(|other| other.has_place(now)).count();
    let ranks = others().filter_map(|other| other.rank(now));
    let before = ranks.filter(|rank| *rank < own).count();
    if starting + before < limit {
        return Turn::Now;
    }
    // That a place was kept for long enough is told by nobody.
    let ends = others().filter_map(|other| match other.stage {
        Stage::Starts(since) if other.has_place(now) => {
            Some(PLACE_KEPT - now.duration_since(since))
        }
        _ => None,
    });
    let again = if before < limit {
        ends.fold(AGAIN, SignedDuration::min)
    } else {
        FAR_BACK
    };
    Turn::Later {
        starting,
        before,
        again: again.max(SignedDuration::from_secs(1)).unsigned_abs(),
    }
}

/// Those in line for whom a place is free, as `NAMESPACE/NAME`, the first first.
pub(crate) fn next(all: &[Start], limit: usize, now: Timestamp) -> Vec<&str> {
    let starting = all.iter().filter(|start| start.has_place(now)).count();
    let mut line: Vec<Rank> = all.iter().filter_map(|start| start.rank(now)).collect();
    line.sort_unstable();
    let free = limit.saturating_sub(starting);
    line.into_iter().map(|(.., who)| who).take(free).collect()
}

/// Whether the VirtualControlPlane has a place. It is asked by one that goes on: that its status still says that it is
/// paused is no matter.
pub(crate) fn has_place(vcp: &VirtualControlPlane, now: Timestamp) -> bool {
    !is_set_aside(vcp) && Stage::of(vcp).is_some_and(|stage| stage.is_place(now))
}

/// Whether it neither starts nor waits for it by what it is told to be.
fn is_set_aside(vcp: &VirtualControlPlane) -> bool {
    let is_elsewhere = vcp.spec.external.is_some() || vcp.spec.super_cluster.is_some();
    vcp.metadata.deletion_timestamp.is_some() || vcp.spec.paused || is_elsewhere
}

/// The same by what its status says, whatever its conditions are.
pub(crate) fn is_hidden(vcp: &VirtualControlPlane) -> bool {
    let phase = vcp.status.as_ref().and_then(|status| status.phase);
    matches!(phase, Some(Phase::Paused | Phase::Deleting))
}

/// Whether something starts by this: an etcd, an API server or a controller-manager is made, or becomes another one.
pub(crate) fn is_start(actions: &[Action]) -> bool {
    let starts = |object: &Object| MAINS.contains(&(object.kind, object.name()));
    actions
        .iter()
        .any(|action| matches!(action, Action::Apply(object) if starts(object)))
}

/// What the status says of one that got a place. One that it had before is over: its time was that one's.
pub(crate) fn begun() -> [Fact; 3] {
    let said = "etcd, API server and controller-manager start";
    let place = Fact {
        message: said.into(),
        ..Fact::yes(STARTING, "Starting")
    };
    let [no_place, no_line] = over();
    [no_place, no_line, place]
}

/// What the status says of one that neither starts nor waits for it.
pub(crate) fn over() -> [Fact; 2] {
    [STARTING, WAITING].map(|kind| Fact::no(kind, "Over", ""))
}

/// The report of a control plane with what there is to say of its start: that it waits, goes on, or is over.
pub(crate) fn told(mut report: Report, seen: &Seen, rolled_out: bool) -> Report {
    let ready = |fact: &Fact| fact.kind == "ControlPlaneReady" && fact.holds;
    let is_through = rolled_out && report.conditions.iter().any(ready);
    match seen.turn {
        Some(Turn::Later {
            starting,
            before,
            again,
        }) => {
            let words = words(starting, before);
            // What runs already may have other troubles to tell of.
            if seen.objects.get(DEPLOYMENT, apiserver::NAME).is_none() {
                let unmet = report.conditions.iter_mut().filter(|fact| {
                    !fact.holds && ["ControlPlaneReady", "Ready"].contains(&fact.kind)
                });
                for fact in unmet {
                    fact.reason = WAITING.into();
                    fact.message.clone_from(&words);
                }
                report.message = None;
            }
            let line = Fact {
                message: words.clone(),
                ..Fact::yes(WAITING, WAITING)
            };
            report
                .conditions
                .extend([Fact::no(STARTING, WAITING, ""), line]);
            report.message.get_or_insert(words);
            report.again = again;
        }
        _ if is_through || !has_place(&seen.vcp, seen.now) => report.conditions.extend(over()),
        _ => {}
    }
    report
}

/// What one waits for, for people. Others aren't named: they may be somebody else's.
pub(crate) fn words(starting: usize, before: usize) -> String {
    let line = match before {
        0 => String::new(),
        1 => "; 1 more waits before it".into(),
        more => format!("; {more} more wait before it"),
    };
    match starting {
        0 => format!("waits for its turn to start{line}"),
        1 => format!("waits for 1 other that starts{line}"),
        more => format!("waits for {more} others that start{line}"),
    }
}

/// Whether a condition is there only while it holds.
pub(crate) fn is_passing(kind: &str) -> bool {
    [
        STARTING,
        WAITING,
        sleep::workload::STOPPING,
        sleep::SLEEPING,
        sleep::REFUSED,
        upgrade::WAITS,
        version::ETCD_KEPT,
        rollout::STUCK,
        backup::FAILING,
        restore::RESTORING,
        restore::FAILED,
    ]
    .contains(&kind)
}

/// Since when a condition has held.
fn since(vcp: &VirtualControlPlane, kind: &str) -> Option<Timestamp> {
    let condition = condition(vcp, kind).filter(|condition| condition.status == "True")?;
    // A time that nobody can read is long ago.
    Some(condition.last_transition_time.parse().unwrap_or_default())
}

fn who(vcp: &VirtualControlPlane) -> String {
    let of = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", of(&vcp.metadata.namespace), of(&vcp.metadata.name))
}

fn made(vcp: &VirtualControlPlane) -> Timestamp {
    let made = vcp.metadata.creation_timestamp.as_ref();
    made.map(|made| made.0).unwrap_or_default()
}

fn to_the_second(now: Timestamp) -> Timestamp {
    now.round(jiff::Unit::Second).unwrap_or(now)
}

#[cfg(test)]
mod tests;
