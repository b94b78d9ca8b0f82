use super::*;
use crate::{
    decide::tests::{decided, rest, say, settle},
    lifecycle::sleep::{SLEEPING, Visit, is_sleeping, tests},
    spec::control_plane::tests::owner,
    status::condition,
    status::{Fact, Report},
};
use api::{Phase, Sleep};

const SPACE: &str = "acme-work";

fn pod(name: &str, more: &serde_json::Value) -> Object {
    let mut body = json!({"metadata": {}, "spec": {"nodeName": "n1"}});
    for (part, fields) in more.as_object().into_iter().flatten() {
        for (field, value) in fields.as_object().into_iter().flatten() {
            body[part][field] = value.clone();
        }
    }
    Object::new(POD, Some(SPACE), name, body)
}

fn running(name: &str) -> Object {
    pod(name, &json!({}))
}

/// One that works and shall sleep without its pods, of which these run.
fn to_stop(left: &[Object]) -> Seen {
    let mut seen = tests::awake();
    seen.vcp.spec.sleep = Sleep {
        asleep: true,
        workload: SleepingWorkload::Stop,
        ..Sleep::default()
    };
    seen.workload = Some(left.to_vec());
    seen
}

fn holds(seen: &Seen, kind: &str) -> bool {
    condition(&seen.vcp, kind).is_some_and(|condition| condition.status == "True")
}

/// A pass, with the reason and message that it told of pods that end.
fn pass(seen: &mut Seen) -> (Report, Option<(String, String)>) {
    settle(seen);
    let report = rest(seen);
    let told = condition(&seen.vcp, STOPPING);
    let told = told.map(|told| (told.reason.clone(), told.message.clone()));
    (report, told)
}

#[test]
fn pods_end_while_the_syncer_serves_the_tenant_and_only_then_it_lets_go() {
    let mut seen = to_stop(&[running("web")]);
    assert!(is_asked_for(&seen));
    let (report, told) = pass(&mut seen);
    let words =
        "falls asleep: its pods end first: namespace acme-work: Pod web wasn't asked to end yet";
    assert_eq!(told, Some(("PodsEnding".into(), words.into())));
    assert_eq!(report.phase, Phase::Sleeping);
    assert_eq!(report.message.as_deref(), Some(words));
    let ready = condition(&seen.vcp, "Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.message), ("False", words));
    assert!(!holds(&seen, SLEEPING), "else the syncer would let go");
    assert!(holds(&seen, "APIServerReady"), "it answers as before");
    assert_eq!(tests::replicas(&seen), [1, 1, 1]);
    assert_eq!(pass(&mut seen).0.message.as_deref(), Some(words));

    seen.workload = Some(vec![]);
    let (_, told) = pass(&mut seen);
    assert_eq!(told, None);
    assert!(holds(&seen, SLEEPING));
    assert_eq!(tests::replicas(&seen), [1, 1, 1], "the syncer goes first");
    tests::fall_asleep(&mut seen);
    assert_eq!(tests::replicas(&seen), [0, 0, 0]);
    assert!(!is_asked_for(&seen), "nobody could end them any more");
    assert!(decided(&seen).actions.is_empty(), "it stays so");
}

/// A syncer that hadn't heard yet makes a pod, and says that it let go; nothing of that is lost by a crash of either.
#[test]
fn a_pod_that_was_made_before_the_syncer_let_go_takes_the_tenant_back_to_where_pods_end() {
    let mut seen = to_stop(&[]);
    pass(&mut seen);
    assert!(holds(&seen, SLEEPING) && !holds(&seen, STOPPING));
    say(&mut seen, &[Fact::no("Synced", "Stopped", "")]);
    seen.workload = Some(vec![running("late")]);
    let (_, told) = pass(&mut seen);
    assert!(told.unwrap().1.contains("Pod late"));
    assert!(!holds(&seen, SLEEPING), "so that the syncer serves it");
    assert_eq!(tests::replicas(&seen), [1, 1, 1]);
    seen.workload = Some(vec![]);
    pass(&mut seen);
    assert!(holds(&seen, SLEEPING));
    tests::fall_asleep(&mut seen);
    assert_eq!(tests::replicas(&seen), [0, 0, 0]);
}

#[test]
fn who_is_woken_meanwhile_goes_on_at_once() {
    let wake = |seen: &mut Seen| seen.vcp.spec.sleep.asleep = false;
    let keep = |seen: &mut Seen| seen.vcp.spec.sleep.workload = SleepingWorkload::Keep;
    type Change = fn(&mut Seen);
    let cases: [(Change, bool); 2] = [(wake, false), (keep, true)];
    for (change, sleeps) in cases {
        let mut seen = to_stop(&[running("web")]);
        pass(&mut seen);
        assert!(holds(&seen, STOPPING));
        change(&mut seen);
        assert!(!is_asked_for(&seen));
        seen.workload = None;
        let (_, told) = pass(&mut seen);
        assert_eq!((told, holds(&seen, SLEEPING)), (None, sleeps));
    }
}

#[test]
fn a_visit_that_sublet_wake_leaves_turns_one_round_that_sleeps_when_idle() {
    let visit = |mark: &str, minutes: u64| {
        Some(Visit {
            mark: mark.into(),
            quiet: Duration::from_secs(60 * minutes),
        })
    };
    let mut seen = to_stop(&[running("web")]);
    seen.vcp.spec.sleep = Sleep {
        asleep: false,
        wake_on_connection: true,
        after_idle: Some("30m".into()),
        workload: SleepingWorkload::Stop,
    };
    seen.visit = visit("a", 30);
    pass(&mut seen);
    assert!(holds(&seen, STOPPING));
    seen.visit = visit("a", 0);
    pass(&mut seen);
    assert!(holds(&seen, STOPPING), "who came before counts no more");
    // A manager that has just started, and one that lost what the proxy told it.
    for unknown in [None, visit("", 0)] {
        seen.visit = unknown;
        assert!(is_asked_for(&seen));
        pass(&mut seen);
        assert!(holds(&seen, STOPPING));
    }
    seen.visit = visit("a", 0);
    pass(&mut seen);
    seen.visit = visit("b", 0);
    let (_, told) = pass(&mut seen);
    assert_eq!((told, is_sleeping(&seen.vcp)), (None, None));
}

#[test]
fn what_takes_long_is_named_with_its_reason_the_hardest_first() {
    let at = "2026-01-01T00:00:00Z";
    let held = json!({"metadata": {"deletionTimestamp": at, "finalizers": ["example.com/audit"]}});
    let ends = json!({"metadata": {"deletionTimestamp": at}});
    let mut seen = to_stop(&[
        pod("a", &ends),
        running("b"),
        pod("c", &held),
        pod("d", &ends),
        pod("e", &ends),
    ]);
    let (_, told) = pass(&mut seen);
    let words = "falls asleep: its pods end first: \
        namespace acme-work: Pod c is held by the finalizer example.com/audit; \
        namespace acme-work: Pod b wasn't asked to end yet; \
        namespace acme-work: Pod a ends, if its node n1 is alive; 2 more";
    assert_eq!(told, Some(("PodsEnding".into(), words.into())));
    seen.now += PATIENCE + SignedDuration::from_secs(1);
    let (report, told) = pass(&mut seen);
    let (reason, message) = told.unwrap();
    assert_eq!(reason, "PodsRemain");
    assert!(message.starts_with(words) && message.contains("without --stop-workload"));
    assert_eq!(report.again, STILL, "it goes on trying");
}

#[test]
fn only_what_runs_and_is_the_tenants_counts() {
    let inside = owner().control_plane_namespace();
    let observed = |namespace: &str, phase: &str| {
        let body = json!({
            "metadata": {"name": "web", "namespace": namespace, "uid": "u", "finalizers": ["f"]},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}, "status": {"phase": phase},
        });
        essence(&Object::observed(POD, body), &inside)
    };
    for (namespace, phase, counts) in [
        (SPACE, "Running", true),
        (SPACE, "Pending", true),
        (SPACE, "Unknown", true),
        (SPACE, "Succeeded", false),
        (SPACE, "Failed", false),
        (inside.as_str(), "Running", false),
    ] {
        let kept = observed(namespace, phase);
        assert_eq!(kept.is_some(), counts, "{namespace} {phase}");
    }
    let kept = observed(SPACE, "Running").unwrap();
    assert_eq!((kept.namespace(), kept.name()), (Some(SPACE), "web"));
    assert_eq!(kept.items("/metadata/finalizers").len(), 1);
    assert_eq!(kept.body["spec"], json!({"nodeName": "n1"}));
}

#[test]
fn it_is_asked_only_of_who_shall_sleep_without_pods_and_is_awake() {
    let awake = || to_stop(&[]);
    assert!(is_asked_for(&awake()));
    let keeps = |seen: &mut Seen| seen.vcp.spec.sleep.workload = SleepingWorkload::Keep;
    let stays = |seen: &mut Seen| seen.vcp.spec.sleep.asleep = false;
    type Change = fn(&mut Seen);
    let changes: [Change; 2] = [keeps, stays];
    for change in changes {
        let mut seen = awake();
        change(&mut seen);
        assert!(!is_asked_for(&seen));
    }
    // It fell asleep with them.
    let mut seen = awake();
    tests::fall_asleep(&mut seen);
    seen.workload = None;
    assert!(!is_asked_for(&seen));
}
