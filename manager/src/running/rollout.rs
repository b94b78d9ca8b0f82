//! What pods that take the place of others wait for, while the control plane works as before; pure.
//!
//! Of API servers each new one is made beside those that run, which go on until it answers. So what none can start with, such
//! as an expression of `spec.authentication` that doesn't compile, takes nothing down, and somebody must be told of it.

use crate::{
    object::{Kind, Objects},
    running::parts::{self, MAINS},
    status::{Fact, Report},
};
use jiff::Timestamp;

/// Condition of one whose new pods don't come up beside those that run.
pub(crate) const STUCK: &str = "RolloutStuck";

/// A part whose pods are replaced just now.
struct Rollout {
    /// What is waited for.
    words: String,
    /// Whether that is more than time.
    is_stuck: bool,
}

/// The report with what there is to say of that, if nothing else is waited for first.
pub(crate) fn told(mut report: Report, seen: &Objects, now: Timestamp) -> Report {
    let all = MAINS.iter().filter_map(|main| of(seen, *main, now));
    let (stuck, others): (Vec<Rollout>, Vec<Rollout>) = all.partition(|one| one.is_stuck);
    report.conditions.push(match stuck.first() {
        None => Fact::no(STUCK, "Over", ""),
        Some(stuck) => Fact {
            message: stuck.words.clone(),
            ..Fact::yes(STUCK, "PodNotReady")
        },
    });
    let first = stuck.into_iter().chain(others).next();
    report.message = report.message.or(first.map(|one| one.words));
    report
}

fn of(seen: &Objects, (kind, part): (Kind, &str), now: Timestamp) -> Option<Rollout> {
    let main = seen.get(kind, part)?;
    if main.number("/spec/replicas") == 0 || parts::is_through(main, now) {
        return None;
    }
    let waits = parts::blocker(seen, Some(main), part);
    let pod = parts::in_trouble(seen, part).map(|(pod, _)| pod);
    let log = pod.filter(|pod| parts::crashes(pod)).map(|pod| {
        let namespace = pod.namespace().unwrap_or_default();
        format!(
            "; its log says why: kubectl -n {namespace} logs --previous {}",
            pod.name()
        )
    });
    let works = main.number("/status/readyReplicas") > 0;
    Some(Rollout {
        words: format!(
            "{part} is being replaced, one pod after the other: {waits}{}",
            log.unwrap_or_default()
        ),
        is_stuck: works && parts::is_replacing(main) && pod.is_some_and(|pod| !pod.is_going()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::{DEPLOYMENT, Object, POD},
        provision::apiserver,
    };
    use serde_json::{Value, json};

    fn pod(name: &str, status: Value) -> Object {
        let labels = json!({"app.kubernetes.io/name": apiserver::NAME});
        let body = json!({"metadata": {"labels": labels}, "status": status});
        Object::new(POD, Some("n"), name, body)
    }

    fn main([wanted, there, updated, ready]: [i64; 4]) -> Object {
        let body = json!({
            "spec": {"replicas": wanted, "strategy": {"type": "RollingUpdate"}},
            "status": {"replicas": there, "updatedReplicas": updated, "readyReplicas": ready},
        });
        Object::new(DEPLOYMENT, Some("n"), apiserver::NAME, body)
    }

    /// Of an API server that is ready and another one: whether that is stuck, and the message of the status.
    fn said(counts: [i64; 4], container: &Value) -> (bool, Option<String>) {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let new = json!({
            "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [container],
        });
        let all = [main(counts), pod("a-old", ready), pod("b-new", new)];
        let mut report = Report::provisioning("");
        report.message = None;
        let report = told(report, &all.into_iter().collect(), Timestamp::UNIX_EPOCH);
        let mut facts = report.conditions.iter();
        let fact = facts.find(|fact| fact.kind == STUCK).unwrap();
        if fact.holds {
            assert_eq!(Some(&fact.message), report.message.as_ref());
        }
        (fact.holds, report.message)
    }

    const REPLACED: &str =
        "kube-apiserver is being replaced, one pod after the other: waiting for pod b-new";

    #[test]
    fn a_new_pod_that_does_not_come_up_is_named_with_the_cause_while_another_one_works() {
        let unpulled = json!({"image": "r/a:1", "state": {"waiting": {
            "reason": "ErrImagePull", "message": "failed to resolve \"r/a:1\": r/a:1: not found",
        }}});
        let words = format!("{REPLACED}: ErrImagePull (r/a:1: not found)");
        assert_eq!(said([1, 2, 1, 1], &unpulled), (true, Some(words)));

        let ended = json!({"terminated": {"exitCode": 1}});
        let crashes = json!({"ready": false, "lastState": ended});
        let words = format!(
            "{REPLACED}: restarted after exit code 1; its log says why: kubectl -n n logs --previous b-new"
        );
        assert_eq!(said([1, 2, 1, 1], &crashes), (true, Some(words.clone())));
        // Where all are new, or none works, that says more.
        for counts in [[1, 2, 2, 1], [1, 2, 1, 0]] {
            assert_eq!(said(counts, &crashes), (false, Some(words.clone())));
        }
    }

    #[test]
    fn one_that_takes_its_time_is_not_stuck_and_what_sleeps_or_is_through_waits_for_nothing() {
        let runs = json!({"state": {"running": {}}});
        let words = format!("{REPLACED} to be ready");
        assert_eq!(said([1, 2, 1, 1], &runs), (false, Some(words)));
        assert_eq!(said([1, 1, 1, 1], &runs), (false, None));
        assert_eq!(said([0, 1, 1, 0], &runs), (false, None));
    }

    #[test]
    fn what_else_is_waited_for_is_told_first() {
        let waiting = json!({"state": {"waiting": {"reason": "ErrImagePull"}}});
        let broken = json!({"containerStatuses": [waiting]});
        let seen = [main([1, 2, 1, 1]), pod("new", broken)]
            .into_iter()
            .collect();
        let report = told(Report::provisioning("etcd"), &seen, Timestamp::UNIX_EPOCH);
        assert_eq!(report.message.as_deref(), Some("etcd"));
        let fact = report.conditions.last().unwrap();
        assert!(fact.holds && fact.message.ends_with("new: ErrImagePull"));
    }
}
