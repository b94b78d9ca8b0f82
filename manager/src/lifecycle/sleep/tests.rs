use super::*;
use crate::{
    decide::tests::{answer, decided, play, rest, say, seen, settle},
    object::{DEPLOYMENT, STATEFUL_SET},
    tenant::Tenant,
};
use api::{EtcdStorage, Sleep};

/// A tenant that works.
pub(crate) fn awake() -> Seen {
    let mut seen = seen();
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    say(&mut seen, &[Fact::yes("Synced", "Watching")]);
    seen
}

fn visit(mark: &str, quiet_minutes: u64) -> Option<Visit> {
    Some(Visit {
        mark: mark.into(),
        quiet: Duration::from_secs(quiet_minutes * 60),
    })
}

pub(crate) fn replicas(seen: &Seen) -> [i64; 3] {
    [
        (STATEFUL_SET, etcd::NAME),
        (DEPLOYMENT, apiserver::NAME),
        (DEPLOYMENT, controller_manager::NAME),
    ]
    .map(|(kind, name)| {
        seen.objects
            .get(kind, name)
            .unwrap()
            .number("/spec/replicas")
    })
}

/// The pods of one part have ended.
fn end(seen: &mut Seen, part: &str) {
    let pods = seen.objects.of(POD).filter(|pod| pod.name() != part);
    let left: Vec<Object> = pods.cloned().collect();
    let others = [
        crate::object::SECRET,
        crate::object::CONFIG_MAP,
        crate::object::SERVICE,
        crate::object::NETWORK_POLICY,
        STATEFUL_SET,
        DEPLOYMENT,
    ];
    let kept = others.map(|kind| seen.objects.of(kind).cloned().collect::<Vec<_>>());
    seen.objects = kept.into_iter().flatten().chain(left).collect();
    if part == apiserver::NAME {
        seen.tenant = Tenant::NotAsked;
    }
}

fn route_says(seen: &Seen) -> Option<&str> {
    let route = seen.route.as_ref().unwrap();
    route.body["data"][route::SLEEP].as_str()
}

/// All the way there.
pub(crate) fn fall_asleep(seen: &mut Seen) {
    rest(seen);
    say(seen, &[Fact::no("Synced", "Stopped", "")]);
    settle(seen);
    end(seen, apiserver::NAME);
    end(seen, controller_manager::NAME);
    settle(seen);
    end(seen, etcd::NAME);
    settle(seen);
    rest(seen);
}

#[test]
fn the_syncer_goes_first_then_api_servers_then_etcd() {
    let mut seen = awake();
    seen.vcp.spec.sleep.asleep = true;
    assert!(decided(&seen).actions.is_empty());
    let report = rest(&mut seen);
    assert_eq!(report.phase, Phase::Sleeping);
    assert!(is_sleeping(&seen.vcp).is_some());
    assert!(decided(&seen).actions.is_empty(), "the syncer still writes");
    assert_eq!(
        rest(&mut seen).message.unwrap(),
        "falls asleep: the syncer goes first"
    );

    say(&mut seen, &[Fact::no("Synced", "Stopped", "")]);
    settle(&mut seen);
    // The test's API servers put a pod there whenever a workload changes.
    assert_eq!(replicas(&seen), [1, 0, 0]);
    assert_eq!(route_says(&seen), Some("shut"));
    end(&mut seen, apiserver::NAME);
    end(&mut seen, controller_manager::NAME);
    settle(&mut seen);
    assert_eq!(replicas(&seen), [0, 0, 0]);
    assert!(rest(&mut seen).message.unwrap().contains("its etcd ends"));
    end(&mut seen, etcd::NAME);
    let report = rest(&mut seen);
    assert_eq!(
        report.message.as_deref(),
        Some("asleep: `sublet wake` wakes it")
    );
    assert!(decided(&seen).actions.is_empty(), "it stays so");

    seen.vcp.spec.sleep.asleep = false;
    seen.vcp.status.as_mut().unwrap().visit = None;
    settle(&mut seen);
    assert_eq!(replicas(&seen), [1, 1, 1]);
    assert_eq!(route_says(&seen), Some("wakeable"), "until it answers");
    let waking = rest(&mut seen).conditions;
    assert!(
        waking
            .iter()
            .any(|fact| fact.kind == SLEEPING && fact.reason == "WakingUp")
    );
    answer(&mut seen);
    settle(&mut seen);
    rest(&mut seen);
    assert_eq!((route_says(&seen), is_sleeping(&seen.vcp)), (None, None));
}

#[test]
fn a_dead_syncer_keeps_no_tenant_awake() {
    let mut seen = awake();
    seen.vcp.spec.sleep.asleep = true;
    rest(&mut seen);
    assert!(decided(&seen).actions.is_empty());
    seen.now += SYNCER_PATIENCE;
    assert!(!decided(&seen).actions.is_empty());
}

#[test]
fn one_that_wakes_stands_in_line_like_any_that_starts() {
    let mut seen = awake();
    seen.vcp.spec.sleep.asleep = true;
    fall_asleep(&mut seen);
    assert_eq!(replicas(&seen), [0, 0, 0]);
    // Its place from before is over.
    seen.now += SignedDuration::from_mins(10);
    seen.vcp.spec.sleep.asleep = false;
    let actions = decided(&seen).actions;
    let said = play(&mut seen, actions);
    assert!(said.contains(&"take a place".to_owned()), "{said:?}");
    assert_eq!(replicas(&seen), [0, 0, 0], "not before it has one");
    let actions = decided(&seen).actions;
    let said = play(&mut seen, actions).join(" ");
    assert!(said.contains("StatefulSet") && said.contains("/kube-apiserver"));
}

#[test]
fn a_visit_wakes_it_and_quiet_puts_it_to_sleep_again() {
    let mut seen = awake();
    let sleep = |asleep, after: Option<&str>| Sleep {
        asleep,
        wake_on_connection: true,
        after_idle: after.map(str::to_owned),
        ..Sleep::default()
    };
    seen.vcp.spec.sleep = sleep(true, None);
    // As long as nobody knows who came, it stays as it is.
    assert!(!wants(&seen));
    seen.visit = visit("a", 0);
    assert!(wants(&seen), "asked for just now");
    fall_asleep(&mut seen);
    assert_eq!(route_says(&seen), Some("wakeable"));
    assert_eq!(
        seen.vcp.status.as_ref().unwrap().visit.as_deref(),
        Some("a")
    );
    seen.visit = visit("a", 600);
    assert!(wants(&seen));
    seen.visit = None;
    assert!(wants(&seen), "a manager that has just started");
    seen.visit = visit("", 0);
    assert!(wants(&seen), "its mark was lost");
    seen.visit = visit("b", 0);
    assert!(!wants(&seen));
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    rest(&mut seen);
    assert_eq!(
        (is_sleeping(&seen.vcp), route_says(&seen)),
        (None, Some("awake"))
    );
    seen.visit = visit("", 14);
    assert!(!wants(&seen), "its mark was lost");
    seen.visit = visit("b", 14);
    assert!(!wants(&seen));
    seen.visit = visit("b", 15);
    assert!(wants(&seen));

    seen.vcp.spec.sleep = sleep(false, Some("30m"));
    assert!(!wants(&seen));
    seen.visit = visit("b", 30);
    assert!(wants(&seen));
    seen.vcp.spec.sleep = sleep(false, Some("1s"));
    seen.visit = visit("b", 1);
    assert!(
        !wants(&seen),
        "what comes in between two reports isn't idleness"
    );
    // Without anything to sleep by, what was known is forgotten.
    seen.vcp.spec.sleep = sleep(false, None);
    assert!(!wants(&seen));
    rest(&mut seen);
    assert_eq!(seen.vcp.status.as_ref().unwrap().visit, None);
}

#[test]
fn a_visit_while_it_falls_asleep_turns_it_round() {
    let mut seen = awake();
    seen.vcp.spec.sleep = Sleep {
        asleep: true,
        wake_on_connection: true,
        ..Sleep::default()
    };
    seen.visit = visit("a", 0);
    rest(&mut seen);
    say(&mut seen, &[Fact::no("Synced", "Stopped", "")]);
    settle(&mut seen);
    assert_eq!(replicas(&seen)[1], 0);
    seen.visit = visit("b", 0);
    rest(&mut seen);
    assert!(!wants(&seen));
}

#[test]
fn what_would_be_lost_is_not_put_to_sleep() {
    let mut seen = seen();
    seen.vcp.spec.etcd = Some(api::Etcd {
        storage: Some(EtcdStorage {
            ephemeral: true,
            ..EtcdStorage::default()
        }),
        ..api::Etcd::default()
    });
    settle(&mut seen);
    seen.vcp.spec.sleep.asleep = true;
    settle(&mut seen);
    assert_eq!(replicas(&seen), [1, 1, 1]);
    let report = rest(&mut seen);
    let refused = report.conditions.iter().find(|fact| fact.kind == REFUSED);
    assert_eq!(refused.unwrap().reason, "StorageIsEphemeral");
    assert!(refused.unwrap().holds && is_sleeping(&seen.vcp).is_none());
    seen.vcp.spec.sleep.asleep = false;
    rest(&mut seen);
    assert!(condition(&seen.vcp, REFUSED).is_none());
}

#[test]
fn durations_are_read_as_the_schema_lets_them_through() {
    assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
    assert_eq!(duration("30m"), Some(Duration::from_secs(1800)));
    assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
    assert_eq!(
        (duration(""), duration("m"), duration("1d")),
        (None, None, None)
    );
}
