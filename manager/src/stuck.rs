//! API servers that are to replace those that run and don't come up; pure.
//!
//! Each new one is made beside those that run, which go on until it answers. So what no API server can start with, such as an
//! expression of `spec.authentication` that doesn't compile, takes nothing down, and somebody must be told of it.

use crate::{
    object::{DEPLOYMENT, Object, Objects, POD},
    parts,
    provision::apiserver,
    status::{Fact, Report},
};

/// Condition of one whose new API servers don't come up beside those that run.
pub(crate) const STUCK: &str = "RolloutStuck";

/// The report with what there is to say of that.
pub(crate) fn told(mut report: Report, seen: &Objects) -> Report {
    match pod_in_trouble(seen) {
        None => report.conditions.push(Fact::no(STUCK, "Over", "")),
        Some((pod, trouble)) => {
            let message = format!(
                "waiting for pod {trouble}; API servers that run go on as they were until it is ready, and its log says \
                 what it lacks: kubectl -n {} logs {}",
                pod.namespace().unwrap_or_default(),
                pod.name()
            );
            report.message.get_or_insert_with(|| message.clone());
            report.conditions.push(Fact {
                message,
                ..Fact::yes(STUCK, "PodNotReady")
            });
        }
    }
    report
}

/// A new one with what holds it up, while others are ready.
fn pod_in_trouble(seen: &Objects) -> Option<(&Object, String)> {
    let main = seen.get(DEPLOYMENT, apiserver::NAME)?;
    if !parts::is_replacing(main) || main.number("/status/readyReplicas") == 0 {
        return None;
    }
    let is_server = |pod: &&Object| {
        pod.label("app.kubernetes.io/name") == Some(apiserver::NAME) && !pod.is_going()
    };
    let mut waiting = seen
        .of(POD)
        .filter(is_server)
        .filter(|pod| !parts::is_ready(pod));
    waiting.find_map(|pod| Some((pod, parts::trouble(pod)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, status: Value) -> Object {
        let labels = json!({"app.kubernetes.io/name": apiserver::NAME});
        let body = json!({"metadata": {"labels": labels}, "status": status});
        Object::new(POD, Some("n"), name, body)
    }

    fn main(replicas: i64, updated: i64, ready: i64) -> Object {
        let body = json!({
            "spec": {"replicas": 1, "strategy": {"type": "RollingUpdate"}},
            "status": {"replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready},
        });
        Object::new(DEPLOYMENT, Some("n"), apiserver::NAME, body)
    }

    /// Whether it is stuck, and the message of the status.
    fn said(seen: Vec<Object>) -> (bool, Option<String>) {
        let mut report = Report::provisioning("");
        report.message = None;
        let report = told(report, &seen.into_iter().collect());
        let mut facts = report.conditions.iter();
        let fact = facts.find(|fact| fact.kind == STUCK).unwrap();
        (fact.holds, report.message)
    }

    #[test]
    fn a_new_api_server_that_does_not_come_up_is_named_while_another_one_answers() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let ended = json!({"terminated": {"exitCode": 1}});
        let broken = json!({"containerStatuses": [{"ready": false, "lastState": ended}]});
        let with = |main: Object, new: &Value| {
            vec![main, pod("a-old", ready.clone()), pod("b-new", new.clone())]
        };
        let message = "waiting for pod b-new: restarted after exit code 1; API servers that run go on as they were until \
                       it is ready, and its log says what it lacks: kubectl -n n logs b-new";
        assert_eq!(
            said(with(main(2, 1, 1), &broken)),
            (true, Some(message.to_owned()))
        );
        // One that takes its time has no trouble. Where all are new, or none is ready, others tell of it.
        assert_eq!(said(with(main(2, 1, 1), &json!({}))), (false, None));
        assert_eq!(said(with(main(2, 2, 1), &broken)), (false, None));
        assert_eq!(said(with(main(2, 1, 0), &broken)), (false, None));
        assert_eq!(said(vec![]), (false, None));
    }

    #[test]
    fn what_else_is_waited_for_is_told_first() {
        let waiting = json!({"state": {"waiting": {"reason": "ErrImagePull"}}});
        let broken = json!({"containerStatuses": [waiting]});
        let seen = [main(2, 1, 1), pod("new", broken)].into_iter().collect();
        let report = told(Report::provisioning("etcd"), &seen);
        assert_eq!(report.message.as_deref(), Some("etcd"));
        let fact = report.conditions.last().unwrap();
        assert!(fact.holds && fact.message.contains("new: ErrImagePull"));
    }
}
