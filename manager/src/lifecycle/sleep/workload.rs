//! What a tenant runs, when it is to end before its control plane sleeps; pure.
//!
//! The manager asks for it by a condition and waits; the syncer, which alone writes what is synced, makes no pod any more while
//! the condition holds, and ends those that run in the tenant, by whose word they end in the super cluster. Whether any is
//! left is asked of the super cluster: before the syncer lets go of the tenant, and again when it has.

use super::{holds_since, wants};
use crate::{
    lifecycle::deletion::holdup,
    object::{DEPLOYMENT, Object, POD},
    observe::Seen,
    provision::apiserver,
    running::parts,
};
use api::{SleepingWorkload, VirtualControlPlane};
use jiff::SignedDuration;
use serde_json::json;
use std::time::Duration;

/// Condition of one whose pods are to end before it sleeps.
pub(crate) const STOPPING: &str = "StoppingWorkload";
/// Reason of one whose pods take long.
const REMAIN: &str = "PodsRemain";
/// When it is asked again which are left.
const AGAIN: Duration = Duration::from_secs(2);
/// The same when that has taken long.
const STILL: Duration = Duration::from_secs(10);
/// So long pods end without anybody wondering: most have 30 seconds.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// So many of those that are left are named.
const MOST: usize = 3;

/// Whether it must be known which pods are left: it shall sleep without them, and there is an API server that knows them.
/// Of one that sleeps already they run on.
pub(crate) fn is_asked_for(seen: &Seen) -> bool {
    let main = seen.objects.get(DEPLOYMENT, apiserver::NAME);
    let serves = main.is_some_and(|main| main.number("/spec/replicas") > 0);
    serves && seen.vcp.spec.sleep.workload == SleepingWorkload::Stop && wants(seen)
}

/// What must be known of a super pod of the tenant's; nothing of the control plane's own, `inside`, nor of one that has ended:
/// that one takes no room, and the tenant keeps it as a record.
pub(crate) fn essence(pod: &Object, inside: &str) -> Option<Object> {
    let namespace = pod.namespace().filter(|namespace| *namespace != inside)?;
    if parts::has_ended(pod) {
        return None;
    }
    let mut body = json!({"metadata": {}, "spec": {}});
    for (part, field) in [
        ("metadata", "deletionTimestamp"),
        ("metadata", "finalizers"),
        ("spec", "nodeName"),
    ] {
        if let Some(value) = pod.body[part].get(field) {
            body[part][field] = value.clone();
        }
    }
    Some(Object::new(POD, Some(namespace), pod.name(), body))
}

/// Whether its pods were asked to end.
pub(super) fn is_stopping(vcp: &VirtualControlPlane) -> bool {
    holds_since(vcp, STOPPING).is_some()
}

/// Whether a pod of the tenant's is known to run.
pub(super) fn is_left(seen: &Seen) -> bool {
    seen.workload.as_ref().is_some_and(|left| !left.is_empty())
}

/// Reason and message: what is waited for.
pub(super) fn told(seen: &Seen) -> (&'static str, String) {
    let left = seen.workload.as_deref().unwrap_or_default();
    let is_long = holds_since(&seen.vcp, STOPPING)
        .is_some_and(|since| seen.now.duration_since(since) > PATIENCE);
    // What ends by itself once it has had its time is named last.
    let rank = |pod: &&Object| match (pod.is_going(), is_held(pod)) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    };
    let mut named: Vec<&Object> = left.iter().collect();
    named.sort_by_key(|pod| (rank(pod), pod.namespace(), pod.name()));
    let named: Vec<String> = named.into_iter().take(MOST).map(words).collect();
    let more = match left.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    let message = format!(
        "falls asleep: its pods end first: {}{more}",
        named.join("; ")
    );
    if !is_long {
        return ("PodsEnding", message);
    }
    let help = "`sublet sleep` without --stop-workload leaves them running, and `sublet wake` keeps it awake";
    (REMAIN, format!("{message}; they are waited for: {help}"))
}

/// When to look again.
pub(super) fn again(reason: &str) -> Duration {
    if reason == REMAIN { STILL } else { AGAIN }
}

fn is_held(pod: &Object) -> bool {
    !pod.items("/metadata/finalizers").is_empty()
}

/// Why a pod is there still.
fn words(pod: &Object) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let why =
        holdup::holds(pod).unwrap_or_else(|| format!("Pod {} wasn't asked to end yet", pod.name()));
    format!("namespace {namespace}: {why}")
}

#[cfg(test)]
mod tests;
