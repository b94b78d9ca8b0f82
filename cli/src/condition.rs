//! What a tenant's conditions say, for people: whether it works, and what holds it up.

use crate::error;
use api::{Condition, Dns, Phase, VirtualControlPlane};

/// Conditions that say what is amiss, or waited for, when `True`; they come before all others.
const ALARMS: [&str; 4] = [
    "IdentityConflict",
    "TenantIdentityChanged",
    "DeletionsHeld",
    "WaitingToStart",
];
/// Conditions that hold up nothing, and say what is amiss when `True`.
const COMPLAINTS: [&str; 3] = ["SleepRefused", "BackupFailing", "RestoreFailed"];
/// Conditions of the syncer, which writes them anew when they change, and not when the spec does: their generation may be
/// an old one. The manager's always have the newest that it has seen.
const SYNCERS: [&str; 3] = ["Synced", "DeletionsHeld", "TenantIdentityChanged"];
/// Conditions that are waited for, in the order in which they become `True`.
const STEPS: [&str; 4] = ["ControlPlaneReady", "DNSReady", "Synced", "Ready"];

/// What a tenant waits for that has no condition yet.
pub(crate) const UNSEEN: &str = "waiting for the manager to take it up";

/// Where a tenant stands on its way to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// API, DNS and a first synced pod work.
    Working,
    /// Under way; the text names what is waited for.
    Waiting(String),
    /// Its control plane sleeps, as it shall; the text says what wakes it.
    Asleep(String),
    /// Can't go on without a person; the text says why.
    Stuck(String),
}

/// Reads the state out of phase and conditions of the current generation.
pub(crate) fn state(vcp: &VirtualControlPlane) -> State {
    let blocker = || blocker(vcp).unwrap_or_else(|| UNSEEN.to_owned());
    if is_true(vcp, "IdentityConflict") || phase(vcp) == Some(Phase::Failed) {
        return State::Stuck(blocker());
    }
    if vcp.spec.paused {
        return State::Stuck("it is paused: nothing happens until the pause ends".to_owned());
    }
    if phase(vcp) == Some(Phase::Sleeping) {
        let told = vcp
            .status
            .as_ref()
            .and_then(|status| status.message.clone());
        let told = told.unwrap_or_default();
        // Until its pods have ended its API answers as before.
        let stops = find(vcp, "StoppingWorkload").is_some_and(|stops| stops.status == "True");
        return if stops {
            State::Waiting(told)
        } else {
            State::Asleep(told)
        };
    }
    let mut wanted = vec!["Ready"];
    // The syncer of another super cluster isn't heard here; Ready has its word.
    if vcp.spec.super_cluster.is_none() {
        wanted.push("Synced");
    }
    if vcp.spec.network.dns != Dns::None && vcp.spec.external.is_none() {
        wanted.push("DNSReady");
    }
    if wanted.into_iter().all(|type_| is_true(vcp, type_)) {
        State::Working
    } else {
        State::Waiting(blocker())
    }
}

/// Whether the manager has seen the spec as it is now.
pub(crate) fn is_seen(vcp: &VirtualControlPlane) -> bool {
    let status = vcp.status.as_ref();
    status.and_then(|status| status.observed_generation) >= vcp.metadata.generation
}

/// Whether the condition was observed to hold, one of the manager's for the spec as it is now.
pub(crate) fn is_true(vcp: &VirtualControlPlane, type_: &str) -> bool {
    let current =
        |condition: &Condition| match (condition.observed_generation, vcp.metadata.generation) {
            (Some(observed), Some(now)) => observed >= now || SYNCERS.contains(&type_),
            _ => true,
        };
    find(vcp, type_).is_some_and(|condition| condition.status == "True" && current(condition))
}

/// The condition of that type.
pub(crate) fn find<'a>(vcp: &'a VirtualControlPlane, type_: &str) -> Option<&'a Condition> {
    conditions(vcp)
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// All conditions; none before the manager has seen the object.
pub(crate) fn conditions(vcp: &VirtualControlPlane) -> &[Condition] {
    vcp.status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default()
}

/// The phase, if there is one yet.
pub(crate) fn phase(vcp: &VirtualControlPlane) -> Option<Phase> {
    if vcp.metadata.deletion_timestamp.is_some() {
        return Some(Phase::Deleting);
    }
    vcp.status.as_ref().and_then(|status| status.phase)
}

/// The phase as a word.
pub(crate) fn phase_word(vcp: &VirtualControlPlane) -> String {
    phase(vcp).map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}"))
}

/// What holds the tenant up: the first condition that isn't as it should be, in words.
pub(crate) fn blocker(vcp: &VirtualControlPlane) -> Option<String> {
    let alarm = ALARMS
        .iter()
        .filter_map(|type_| find(vcp, type_))
        .find(|condition| condition.status == "True");
    let step = || {
        STEPS
            .iter()
            .filter_map(|type_| find(vcp, type_))
            .find(|condition| condition.status != "True")
    };
    let other = || {
        conditions(vcp).iter().find(|condition| {
            condition.status == "False" && !ALARMS.contains(&condition.type_.as_str())
        })
    };
    let message = || {
        vcp.status
            .as_ref()
            .and_then(|status| status.message.clone())
            .filter(|message| !message.is_empty())
    };
    alarm
        .or_else(step)
        .or_else(other)
        .map(words)
        .or_else(message)
}

fn words(condition: &Condition) -> String {
    let message = error::one_line(&condition.message);
    if message.is_empty() {
        format!("{}: {}", condition.type_, condition.reason)
    } else {
        message
    }
}

/// The first of the things that hold a tenant up, short enough for one line, and the same until another comes first.
///
/// The kubelet's counting of its back-off changes all the time and says nothing.
pub(crate) fn brief(text: &str) -> String {
    let text = without_back_off(text);
    text.split("; ").next().unwrap_or_default().to_owned()
}

/// Removes `(back-off …)`, with the parentheses inside it.
fn without_back_off(text: &str) -> String {
    let Some(start) = text.find(" (back-off") else {
        return text.to_owned();
    };
    let mut depth = 0;
    let end = text[start..].char_indices().find_map(|(at, c)| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (c == ')' && depth == 0).then_some(start + at + 1)
    });
    match end {
        Some(end) => format!("{}{}", &text[..start], without_back_off(&text[end..])),
        None => text.to_owned(),
    }
}

/// The steps that are done, in order; each is told once when it is reached.
pub(crate) fn done_steps(vcp: &VirtualControlPlane) -> Vec<&'static str> {
    [
        ("APIServerReady", "the tenant's API answers"),
        ("ControlPlaneReady", "its controllers run"),
        ("DNSReady", "DNS works"),
        ("Synced", "objects are synced"),
    ]
    .into_iter()
    .filter(|(type_, _)| is_true(vcp, type_))
    .map(|(_, words)| words)
    .collect()
}

/// Whether a condition is as it should be.
pub(crate) fn is_good(condition: &Condition) -> bool {
    let type_ = condition.type_.as_str();
    let wanted = if ALARMS.contains(&type_) || COMPLAINTS.contains(&type_) {
        "False"
    } else {
        "True"
    };
    condition.status == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn vcp(
        spec: serde_json::Value,
        phase: &str,
        conditions: &[(&str, &str, &str)],
    ) -> VirtualControlPlane {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status, message)| {
                json!({"type": type_, "status": status, "reason": "R", "message": message,
                       "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": 2})
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "generation": 2}, "spec": spec,
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    const ALL: [(&str, &str, &str); 4] = [
        ("ControlPlaneReady", "True", ""),
        ("DNSReady", "True", ""),
        ("Synced", "True", ""),
        ("Ready", "True", ""),
    ];

    #[test]
    fn a_tenant_works_when_api_dns_and_sync_do() {
        assert_eq!(state(&vcp(json!({}), "Ready", &ALL)), State::Working);
        let without_dns = [("Ready", "True", ""), ("Synced", "True", "")];
        assert_eq!(
            state(&vcp(
                json!({"network": {"dns": "none"}}),
                "Ready",
                &without_dns
            )),
            State::Working
        );
        assert!(matches!(
            state(&vcp(json!({}), "Ready", &without_dns)),
            State::Waiting(_)
        ));
    }

    #[test]
    fn an_old_generation_is_not_believed() {
        let mut vcp = vcp(json!({}), "Ready", &ALL);
        vcp.metadata.generation = Some(3);
        assert!(matches!(state(&vcp), State::Waiting(_)));
    }

    #[test]
    fn an_old_generation_of_the_syncers_conditions_is_believed() {
        let mut vcp = vcp(json!({}), "Ready", &ALL);
        vcp.metadata.generation = Some(7);
        let conditions = &mut vcp.status.as_mut().unwrap().conditions;
        for condition in conditions.iter_mut().filter(|one| one.type_ != "Synced") {
            condition.observed_generation = Some(7);
        }
        assert_eq!(state(&vcp), State::Working);
    }

    #[test]
    fn the_first_step_that_is_missing_is_the_blocker() {
        let waiting = [
            ("Ready", "False", "not ready"),
            ("Synced", "Unknown", "no syncer"),
            ("ControlPlaneReady", "False", "etcd-0 is\n Pending"),
        ];
        assert_eq!(
            state(&vcp(json!({}), "Provisioning", &waiting)),
            State::Waiting("etcd-0 is Pending".into())
        );
        let alarm = [
            ("ControlPlaneReady", "False", "x"),
            ("IdentityConflict", "True", "taken by b"),
        ];
        assert_eq!(
            state(&vcp(json!({}), "Failed", &alarm)),
            State::Stuck("taken by b".into())
        );
    }

    #[test]
    fn a_new_object_waits_for_the_manager() {
        let new: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"}, "spec": {},
        }))
        .unwrap();
        assert_eq!(
            state(&new),
            State::Waiting("waiting for the manager to take it up".into())
        );
        assert_eq!(phase_word(&new), "Pending");
        assert_eq!(blocker(&new), None);
    }

    #[test]
    fn a_paused_tenant_is_stuck() {
        assert!(matches!(
            state(&vcp(json!({"paused": true}), "Paused", &[])),
            State::Stuck(_)
        ));
    }

    #[test]
    fn a_tenant_that_sleeps_is_well_and_one_that_wakes_is_waited_for() {
        let sleeping = [("Sleeping", "True", "asleep"), ("Ready", "False", "x")];
        let mut vcp = vcp(json!({"sleep": {"asleep": true}}), "Sleeping", &sleeping);
        let status = vcp.status.as_mut().unwrap();
        status.message = Some("asleep".into());
        assert_eq!(state(&vcp), State::Asleep("asleep".into()));
        vcp.status.as_mut().unwrap().phase = Some(Phase::Provisioning);
        assert!(matches!(state(&vcp), State::Waiting(_)));
    }

    #[test]
    fn a_tenant_whose_pods_end_before_it_sleeps_is_waited_for() {
        let stopping = [
            ("Ready", "False", "x"),
            ("StoppingWorkload", "True", "one is left"),
        ];
        let mut vcp = vcp(json!({"sleep": {"asleep": true}}), "Sleeping", &stopping);
        vcp.status.as_mut().unwrap().message = Some("one is left".into());
        assert_eq!(state(&vcp), State::Waiting("one is left".into()));
    }

    #[test]
    fn what_complains_is_good_when_it_is_false() {
        let told = [
            ("Synced", "True", ""),
            ("SleepRefused", "True", ""),
            ("DeletionsHeld", "False", ""),
        ];
        let good = conditions(&vcp(json!({}), "Ready", &told))
            .iter()
            .map(is_good)
            .collect::<Vec<_>>();
        assert_eq!(good, [true, false, true]);
    }

    #[test]
    fn one_line_names_the_first_of_several() {
        assert_eq!(brief("waiting for a"), "waiting for a");
        let told = "waiting for pod a: CrashLoopBackOff (back-off 1m restarting c of a(uid)); waiting for b";
        assert_eq!(brief(told), "waiting for pod a: CrashLoopBackOff");
        assert_eq!(brief("x (back-off"), "x (back-off");
    }

    #[test]
    fn steps_are_told_in_order() {
        assert_eq!(
            done_steps(&vcp(json!({}), "Ready", &ALL[..2])),
            ["its controllers run", "DNS works"]
        );
    }
}
