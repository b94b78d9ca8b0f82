//! One pass over a VirtualControlPlane: observe, decide, act, until nothing is left to do; then say so.

use crate::{
    act::{self, View},
    decide::{Action, Deed, decide},
    metrics::Metrics,
    observe::{self, Observer, Seen},
    status::Report,
    watching::{
        answers::{FRESH, Whose},
        growing,
    },
};
use api::{Phase, VirtualControlPlane};
use kube::{ResourceExt, runtime::controller};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Rounds within a pass: more than a new control plane needs. What isn't settled by then is settled by the next pass.
const ROUNDS: usize = 16;
/// When the next pass begins, if something is to be done still.
const AT_ONCE: Duration = Duration::from_millis(50);
/// The same after a pass in which nothing settled: whoever works against the manager doesn't make it work without end.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What passes share.
pub(crate) struct Context {
    /// Where to look and to act.
    pub(crate) observer: Observer,
    /// Held from reading the Service range to claiming a slice of it: two sizes at two places may overlap.
    pub(crate) slices: tokio::sync::Mutex<()>,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// How many passes failed, one after the other.
    pub(crate) fails: Fails,
}

/// Passes that failed one after the other, by VirtualControlPlane.
#[derive(Default)]
pub(crate) struct Fails(Mutex<HashMap<Whose, u32>>);

impl Fails {
    /// One more failed; how many are that?
    fn count(&self, whose: Whose) -> u32 {
        let mut all = self.0.lock();
        let fails = all.entry(whose).or_default();
        *fails = fails.saturating_add(1);
        *fails
    }

    fn forget(&self, whose: &Whose) {
        self.0.lock().remove(whose);
    }
}

/// A pass ended early; the next one begins anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something could not be read.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// Something could not be done.
    #[error(transparent)]
    Act(#[from] act::Error),
}

impl Error {
    /// Nothing went wrong: it was no good moment.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Observe(observe::Error::Busy))
    }

    /// Someone else wrote first: look again at once.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Act(error) if error.is_conflict())
    }
}

/// Brings one VirtualControlPlane as far as it can be brought now.
pub(crate) async fn reconcile(
    vcp: Arc<VirtualControlPlane>,
    cx: Arc<Context>,
) -> Result<controller::Action, Error> {
    let (namespace, name) = (vcp.namespace().unwrap_or_default(), vcp.name_any());
    let _timer = cx.metrics.time_pass();
    let outcome = pass(&namespace, &name, &cx).await;
    let whose = (namespace, name);
    if outcome.is_err() {
        // What was gone by may be why.
        cx.observer.forget(&whose);
    } else {
        cx.fails.forget(&whose);
    }
    cx.metrics.count_pass(match &outcome {
        Ok(_) => "settled",
        Err(error) if error.is_conflict() => "conflict",
        Err(error) if error.is_busy() => "busy",
        Err(_) => "failed",
    });
    outcome
}

/// When to try again after a failure: ever later, so that one that always fails costs the others little.
pub(crate) fn retry(
    vcp: Arc<VirtualControlPlane>,
    error: &Error,
    cx: Arc<Context>,
) -> controller::Action {
    let (first, longest) = match error {
        conflict if conflict.is_conflict() => (50, 2_000),
        busy if busy.is_busy() => (500, 4_000),
        // Something that it needs isn't there yet, as a rule: a right, or what an API server makes for itself at its start.
        Error::Act(_) => (1_000, 60_000),
        // The super cluster's API server doesn't answer, and nobody tells when it does.
        Error::Observe(_) => (3_000, 12_000),
    };
    let fails = cx
        .fails
        .count((vcp.namespace().unwrap_or_default(), vcp.name_any()));
    let [first, longest] = [first, longest].map(Duration::from_millis);
    controller::Action::requeue(growing::pause(first, fails, longest))
}

async fn pass(namespace: &str, name: &str, cx: &Context) -> Result<controller::Action, Error> {
    let observer = &cx.observer;
    let mut done = BTreeSet::new();
    let mut refused = None;
    let mut rounds = 0..ROUNDS;
    while rounds.next().is_some() {
        let Some(mut seen) = observer.look(namespace, name).await? else {
            cx.metrics.forget(namespace, name);
            return Ok(controller::Action::await_change());
        };
        seen.refused = refused.take();
        for _ in rounds.by_ref() {
            seen.range = None;
            let mut claiming = None;
            if let (true, Some(owner)) = (Observer::wants_slice(&seen), &seen.owner) {
                claiming = Some(cx.slices.lock().await);
                seen.range = Some(observer.look_at_range(owner).await?);
            }
            let mut decision = decide(&seen, &observer.system);
            // An API server may write a value another way than it was given; once per pass is enough.
            decision.actions.retain(|action| is_new(action, &mut done));
            if decision.actions.is_empty() {
                return Ok(rest(cx, &mut seen, &decision.report).await?);
            }
            tracing::debug!(namespace, name, actions = decision.actions.len(), "acting");
            let acted = act::act(observer, &mut seen, decision.actions).await;
            drop(claiming);
            match acted {
                Ok(View::Current) => {}
                Ok(View::Stale) => {
                    refused = seen.refused.take();
                    break;
                }
                Err(error) => {
                    if !error.is_conflict() {
                        let report = Report::failed_to_act(&seen, &error, decision.report);
                        rest(cx, &mut seen, &report).await?;
                    }
                    return Err(error.into());
                }
            }
        }
    }
    tracing::warn!(
        namespace,
        name,
        "what is done doesn't last: somebody else undoes it; the next pass goes on"
    );
    Ok(controller::Action::requeue(UNSETTLED))
}

/// Writes the status if it changed.
///
/// Nobody tells of that write ([`crate::watching::news`]), so it is asked here whether more is to be done now that it was made.
async fn rest(
    cx: &Context,
    seen: &mut Seen,
    report: &Report,
) -> Result<controller::Action, act::Error> {
    let mut again = report.again;
    if let Some(patch) = report.patch(&seen.vcp, &seen.object, seen.now) {
        let before = seen.vcp.status.as_ref().and_then(|status| status.phase);
        act::say(&cx.observer, seen, patch).await?;
        announce(seen, before, report);
        let next = decide(seen, &cx.observer.system).report;
        if next.patch(&seen.vcp, &seen.object, seen.now).is_some() {
            again = again.min(AT_ONCE);
        }
    }
    cx.metrics.set_phase(&seen.object, report.phase);
    let is_at_rest = match report.phase {
        Phase::Provisioning | Phase::Degraded => false,
        // Whoever puts right what it failed for may do so where no watch looks.
        Phase::Failed => true,
        _ => again > FRESH,
    };
    if is_at_rest {
        cx.observer.forget(&seen.whose());
    }
    Ok(controller::Action::requeue(again))
}

fn announce(seen: &Seen, before: Option<Phase>, report: &Report) {
    let (namespace, name) = (
        seen.object.namespace().unwrap_or_default(),
        seen.object.name(),
    );
    let waits = report.message.as_deref().unwrap_or_default();
    if before == Some(report.phase) {
        tracing::debug!(namespace, name, phase = ?report.phase, waits, "status changed");
    } else {
        tracing::info!(namespace, name, phase = ?report.phase, waits, "phase changed");
    }
}

fn is_new(action: &Action, done: &mut BTreeSet<String>) -> bool {
    match action {
        Action::Apply(object) => done.insert(format!("{object:?} {}", digest(object))),
        Action::ApplyInTenant(object) => {
            done.insert(format!("tenant {object:?} {}", digest(object)))
        }
        Action::Issue(order) => done.insert(format!(
            "{}/{} {:?}",
            order.namespace, order.name, order.material
        )),
        Action::Tell(patch) => done.insert(format!("tell {patch}")),
        Action::Note(claim, patch) => done.insert(format!("note {claim:?} {patch}")),
        Action::Remind(pod, patch) => done.insert(format!("remind {pod:?} {patch}")),
        Action::Delete(object) | Action::EndPod(object) => {
            done.insert(format!("delete {object:?} {}", object.uid()))
        }
        Action::Beyond(Deed::Apply(object)) => {
            done.insert(format!("beyond {object:?} {}", digest(object)))
        }
        Action::Beyond(deed) => done.insert(format!("beyond {deed:?}")),
        Action::MakeRoom(_) => done.insert("room".to_owned()),
        Action::Adopt
        | Action::Patch(_)
        | Action::Create(_)
        | Action::Replace(_)
        | Action::TakePlace
        | Action::Release => true,
    }
}

fn digest(object: &crate::object::Object) -> &str {
    object.annotation(api::keys::APPLIED).unwrap_or_default()
}

#[cfg(test)]
mod tests;
