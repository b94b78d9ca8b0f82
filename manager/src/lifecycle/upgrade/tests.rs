use super::*;
use crate::{
    decide::{
        Action,
        tests::{answer, decided, members, offer, play, rest, seen, settle, with_three_members},
    },
    lifecycle::sleep::tests::{awake, fall_asleep, replicas},
    object::{Kind, POD},
    observe::INSIDE,
    running::parts::LIMIT,
    status::condition,
    tenant::Tenant,
};

use jiff::SignedDuration;

const NEW: &str = "1.37.0";

/// A tenant that runs 1.36.3, of a class that offers the next version too.
fn running() -> Seen {
    let mut seen = seen();
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    offer(&mut seen, NEW, "new");
    seen
}

fn has_new(seen: &Seen, (kind, part): (Kind, &str)) -> bool {
    let main = seen.objects.get(kind, part);
    let image = main.map(|main| main.text("/spec/template/spec/containers/0/image"));
    image.is_some_and(|image| image.ends_with(":new"))
}

/// Plays until there is nothing to do; a part whose new image is broken doesn't become ready with it.
fn settle_with(seen: &mut Seen, broken: (Kind, &str)) {
    for _ in 0..20 {
        let actions = decided(seen).actions;
        if actions.is_empty() {
            return;
        }
        play(seen, actions);
        if has_new(seen, broken) {
            let (kind, part) = broken;
            let mut main = seen.objects.get(kind, part).unwrap().clone();
            main.body["status"]["readyReplicas"] = json!(0);
            seen.objects.insert(main);
            let waiting = json!({"state": {"waiting": {"reason": "ErrImagePull"}}});
            let pod = json!({
                "metadata": {"labels": {"app.kubernetes.io/name": part}},
                "status": {"containerStatuses": [waiting]},
            });
            seen.objects.insert(Object::new(POD, Some("n"), part, pod));
        }
    }
    panic!("it doesn't settle");
}

fn ready(seen: &Seen) -> (String, String) {
    let report = decided(seen).report;
    let fact = report
        .conditions
        .into_iter()
        .find(|fact| fact.kind == "Ready");
    let fact = fact.unwrap();
    (fact.reason, fact.message)
}

#[test]
fn a_part_that_is_not_ready_in_time_gets_back_what_it_had_and_so_do_those_after_it() {
    for (at, broken) in MAINS.into_iter().enumerate() {
        let part = broken.1;
        let mut seen = running();
        seen.vcp.spec.version = Some(NEW.into());
        settle_with(&mut seen, broken);
        assert!(has_new(&seen, broken), "{part} was tried");
        seen.now += LIMIT;
        settle_with(&mut seen, broken);
        assert!(has_new(&seen, broken), "{part} has its time");
        seen.now += SignedDuration::from_secs(1);
        settle_with(&mut seen, broken);
        for (place, main) in MAINS.into_iter().enumerate() {
            assert_eq!(has_new(&seen, main), place < at, "{part}: {main:?}");
        }
        let (reason, message) = ready(&seen);
        assert_eq!(reason, "UpgradeRolledBack", "{message}");
        let words = format!("{part} wasn't ready");
        assert!(
            message.contains(&words) && message.contains("ErrImagePull"),
            "{message}"
        );
        assert!(is_taken_back(&seen));

        // It stays so, until something else is asked for.
        seen.now += LIMIT + LIMIT;
        assert!(decided(&seen).actions.is_empty());
        if at == 0 {
            seen.vcp.spec.version = Some("1.36.3".into());
            settle(&mut seen);
            assert!(!is_taken_back(&seen) && ready(&seen).0 != "UpgradeRolledBack");
            seen.vcp.spec.version = Some(NEW.into());
        } else {
            let images = &mut seen.class.as_mut().unwrap().spec.versions[2].images;
            for image in [
                &mut images.kube_apiserver,
                &mut images.kube_controller_manager,
            ] {
                *image = format!("mended/{image}");
            }
        }
        settle(&mut seen);
        assert!(MAINS.into_iter().all(|main| has_new(&seen, main)), "{part}");
        assert_eq!(read(&seen), None);
    }
}

/// What a newer etcd wrote an older one may be unable to read.
#[test]
fn an_etcd_that_ran_stays_when_somebody_goes_back_to_the_version_before() {
    let mut seen = running();
    seen.vcp.spec.version = Some(NEW.into());
    let broken = MAINS[1];
    settle_with(&mut seen, broken);
    rest(&mut seen);
    seen.now += LIMIT + SignedDuration::from_secs(1);
    settle_with(&mut seen, broken);
    assert!(is_taken_back(&seen));
    let new = MAINS.map(|main| has_new(&seen, main));
    assert_eq!(new, [true, false, false]);

    seen.vcp.spec.version = Some("1.36.3".into());
    let (kind, part) = MAINS[0];
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    for _ in 0..2 {
        settle_with(&mut seen, broken);
        rest(&mut seen);
        assert_eq!(read(&seen), None);
        let new = MAINS.map(|main| has_new(&seen, main));
        assert_eq!(new, [true, false, false], "ready or not");
        let said = condition(&seen.vcp, version::ETCD_KEPT).unwrap();
        assert!(said.message.contains("registry/etcd:new"), "{said:?}");
    }
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(1);
    seen.objects.insert(main);
    seen.vcp.spec.version = Some(NEW.into());
    settle(&mut seen);
    rest(&mut seen);
    assert!(MAINS.into_iter().all(|main| has_new(&seen, main)));
    assert!(condition(&seen.vcp, version::ETCD_KEPT).is_none());
}

#[test]
fn an_etcd_that_never_ran_goes_when_somebody_goes_back_at_once() {
    let mut seen = running();
    rest(&mut seen);
    seen.vcp.spec.version = Some(NEW.into());
    settle_with(&mut seen, MAINS[0]);
    rest(&mut seen);
    assert!(has_new(&seen, MAINS[0]));
    seen.vcp.spec.version = Some("1.36.3".into());
    settle_with(&mut seen, MAINS[0]);
    assert!(!MAINS.into_iter().any(|main| has_new(&seen, main)));
}

/// It may wait for its turn to start for longer than a part has time.
#[test]
fn an_etcd_that_ran_and_breaks_before_the_next_part_is_changed_is_not_taken_back() {
    let mut seen = running();
    seen.vcp.spec.version = Some(NEW.into());
    for _ in 0..20 {
        let mut actions = decided(&seen).actions;
        actions.retain(
            |action| !matches!(action, Action::Apply(main) if (main.kind, main.name()) == MAINS[1]),
        );
        play(&mut seen, actions);
    }
    rest(&mut seen);
    assert!(has_new(&seen, MAINS[0]) && !has_new(&seen, MAINS[1]));
    seen.now += LIMIT + SignedDuration::from_secs(1);
    let (kind, part) = MAINS[0];
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    settle(&mut seen);
    assert!(!is_taken_back(&seen) && has_new(&seen, MAINS[0]));
}

#[test]
fn a_class_that_offers_the_new_version_alone_takes_no_rollback_away() {
    for (at, broken) in MAINS.into_iter().enumerate() {
        let mut seen = running();
        seen.class.as_mut().unwrap().spec.versions.drain(..2);
        seen.vcp.spec.version = Some(NEW.into());
        settle_with(&mut seen, broken);
        assert!(has_new(&seen, broken));
        seen.now += LIMIT + SignedDuration::from_secs(1);
        settle_with(&mut seen, broken);
        assert!(is_taken_back(&seen), "{broken:?}");
        for (place, main) in MAINS.into_iter().enumerate() {
            assert_eq!(has_new(&seen, main), place < at, "{broken:?}: {main:?}");
        }
    }
}

#[test]
fn a_workload_that_is_applied_again_as_it_was_keeps_its_time() {
    let mut seen = running();
    let (kind, part) = MAINS[1];
    let before = seen.objects.get(kind, part).unwrap().clone();
    // As an API server that stores it in another way.
    let mut other = before.clone();
    other.body["spec"]["revisionHistoryLimit"] = json!(99);
    other.body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("rewritten");
    seen.objects.insert(other);
    seen.now += SignedDuration::from_secs(60);
    let applied = decided(&seen)
        .actions
        .into_iter()
        .find_map(|action| match action {
            Action::Apply(object) if object.name() == part && object.kind == kind => Some(object),
            _ => None,
        });
    let applied = applied.unwrap();
    assert_eq!(
        applied.annotation(keys::CHANGED),
        before.annotation(keys::CHANGED)
    );
    assert!(before.annotation(keys::CHANGED).is_some());
}

#[test]
fn a_record_with_images_that_nobody_offers_is_none() {
    let mut seen = running();
    let mut record = Record {
        from: version::as_it_runs(&seen).unwrap(),
        to: seen.class.as_ref().unwrap().spec.versions[1].clone(),
        since: seen.now.to_string(),
        back: Some(Back {
            part: MAINS[0].1.into(),
            why: "so".into(),
        }),
    };
    let told = |seen: &mut Seen, record: &Record| {
        seen.object.body["metadata"]["annotations"][keys::UPGRADE] =
            json!(json!(record).to_string());
        read(seen)
    };
    assert_eq!(told(&mut seen, &record), Some(record.clone()));
    record.from.images.etcd = "a-tenants-own/etcd".into();
    assert_eq!(told(&mut seen, &record), None);
}

#[test]
fn a_part_that_was_through_is_not_blamed_for_what_came_later() {
    let mut seen = running();
    seen.vcp.spec.version = Some(NEW.into());
    let [etcd, _, last] = MAINS;
    settle_with(&mut seen, last);
    // In truth the parts are changed one after the other.
    seen.now += SignedDuration::from_secs(60);
    let main = seen.objects.get(last.0, last.1).unwrap().clone();
    seen.objects.insert(stamped(main, None, seen.now));
    seen.now += LIMIT + SignedDuration::from_secs(1);
    let mut main = seen.objects.get(etcd.0, etcd.1).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    let record = read(&seen).unwrap();
    assert_eq!(late(&seen, &record).unwrap().part, last.1);
}

#[test]
fn what_ran_is_written_down_before_anything_is_changed_and_let_go_of_at_the_end() {
    let mut seen = running();
    seen.vcp.spec.version = Some(NEW.into());
    let actions = decided(&seen).actions;
    assert!(matches!(actions[..], [Action::Patch(_)]), "{actions:?}");
    play(&mut seen, actions);
    let record = read(&seen).unwrap();
    let versions = [&record.from, &record.to].map(|of| of.version.as_str());
    assert_eq!(versions, ["1.36.3", NEW]);
    assert_eq!(record.from.images.etcd, "registry/etcd");
    settle(&mut seen);
    assert_eq!(read(&seen), None);
    // A pod that breaks later is no upgrade's.
    seen.now += LIMIT + LIMIT;
    let (kind, part) = MAINS[1];
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    assert!(decided(&seen).actions.is_empty());
}

#[test]
fn a_part_that_was_not_changed_for_it_is_never_late() {
    let mut seen = running();
    let old = seen.class.as_ref().unwrap().spec.versions[0]
        .images
        .etcd
        .clone();
    seen.class.as_mut().unwrap().spec.versions[2].images.etcd = old;
    // Its pod ends for a while, long after it was made.
    seen.now += LIMIT + LIMIT;
    seen.vcp.spec.version = Some(NEW.into());
    let actions = decided(&seen).actions;
    play(&mut seen, actions);
    let (kind, part) = MAINS[0];
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    settle(&mut seen);
    assert!(!is_taken_back(&seen));
}

/// One that sleeps, of a class that offers the next version too.
fn asleep() -> Seen {
    let mut seen = awake();
    offer(&mut seen, NEW, "new");
    seen.vcp.spec.sleep.asleep = true;
    fall_asleep(&mut seen);
    assert_eq!(replicas(&seen), [0, 0, 0]);
    seen
}

/// It is to run again; its API doesn't answer yet.
fn wake(seen: &mut Seen) {
    seen.vcp.spec.sleep.asleep = false;
    settle(seen);
    assert_eq!(replicas(seen), [1, 1, 1]);
}

fn waits(seen: &Seen) -> Option<&str> {
    condition(&seen.vcp, WAITS).map(|waits| waits.message.as_str())
}

#[test]
fn a_version_that_is_asked_for_while_it_sleeps_waits_until_it_is_awake_and_is_judged_then() {
    let mut seen = asleep();
    seen.vcp.spec.version = Some(NEW.into());
    assert!(decided(&seen).actions.is_empty());
    rest(&mut seen);
    let said = waits(&seen).unwrap();
    assert!(said.contains(NEW) && said.contains("1.36.3"), "{said}");
    assert_eq!(read(&seen), None, "nothing has begun");

    wake(&mut seen);
    assert!(
        !MAINS.into_iter().any(|main| has_new(&seen, main)),
        "it wakes with what it had"
    );
    answer(&mut seen);
    rest(&mut seen);
    let broken = MAINS[1];
    settle_with(&mut seen, broken);
    assert!(read(&seen).is_some() && has_new(&seen, broken));
    rest(&mut seen);
    assert_eq!(waits(&seen), None);
    seen.now += LIMIT + SignedDuration::from_secs(1);
    settle_with(&mut seen, broken);
    assert!(is_taken_back(&seen) && !has_new(&seen, broken));
}

#[test]
fn an_upgrade_that_falls_asleep_in_the_middle_is_judged_when_it_wakes() {
    let mut seen = awake();
    offer(&mut seen, NEW, "new");
    seen.vcp.spec.version = Some(NEW.into());
    let broken = MAINS[1];
    settle_with(&mut seen, broken);
    seen.vcp.spec.sleep.asleep = true;
    fall_asleep(&mut seen);
    let record = read(&seen);
    assert!(record.is_some() && !is_taken_back(&seen));
    seen.now += LIMIT + LIMIT;
    rest(&mut seen);
    assert!(decided(&seen).actions.is_empty(), "nothing is late there");

    seen.vcp.spec.sleep.asleep = false;
    seen.tenant = Tenant::NotAsked;
    settle_with(&mut seen, broken);
    assert!(has_new(&seen, broken) && read(&seen) == record);
    seen.now += LIMIT + SignedDuration::from_secs(1);
    settle_with(&mut seen, broken);
    assert!(is_taken_back(&seen) && !has_new(&seen, broken));
}

#[test]
fn what_was_taken_back_stays_so_while_a_workload_is_missing() {
    for (missing, name) in MAINS {
        let mut seen = running();
        seen.vcp.spec.version = Some(NEW.into());
        let broken = MAINS[0];
        settle_with(&mut seen, broken);
        seen.now += LIMIT + SignedDuration::from_secs(1);
        settle_with(&mut seen, broken);
        assert!(is_taken_back(&seen));
        without(&mut seen, missing, name);
        settle_with(&mut seen, broken);
        assert!(
            is_taken_back(&seen) && !MAINS.into_iter().any(|main| has_new(&seen, main)),
            "{name}"
        );
    }
}

#[test]
fn an_upgrade_is_written_down_and_judged_though_a_workload_is_missing() {
    for (missing, name) in MAINS {
        let mut seen = running();
        seen.vcp.status.get_or_insert_default().version = Some("1.36.3".into());
        without(&mut seen, missing, name);
        seen.vcp.spec.version = Some(NEW.into());
        let broken = MAINS[0];
        settle_with(&mut seen, broken);
        let record = read(&seen).unwrap();
        assert_eq!(record.from.images.etcd, "registry/etcd", "{name}");
        without(&mut seen, missing, name);
        settle_with(&mut seen, broken);
        assert_eq!(read(&seen), Some(record), "{name}");
        seen.now += LIMIT + SignedDuration::from_secs(1);
        settle_with(&mut seen, broken);
        assert!(is_taken_back(&seen), "{name}");
    }
}

/// It would cost the quorum, and a time that ends before anything was changed would take back what can be done later.
#[test]
fn an_etcd_that_waits_for_a_member_is_not_late_and_has_all_its_time_when_that_one_is_back() {
    let mut seen = with_three_members();
    offer(&mut seen, NEW, "new");
    members(&mut seen, [false, true, true]);
    seen.vcp.spec.version = Some(NEW.into());
    for _ in 0..2 {
        settle(&mut seen);
        assert!(read(&seen).is_some() && !is_taken_back(&seen));
        assert!(!MAINS.into_iter().any(|main| has_new(&seen, main)));
        rest(&mut seen);
        let said = waits(&seen).unwrap();
        assert!(
            said.contains(NEW) && said.contains("waits for etcd-0"),
            "{said}"
        );
        let etcd = condition(&seen.vcp, "EtcdReady").unwrap();
        assert_eq!((&*etcd.status, &*etcd.reason), ("True", "MemberMissing"));
        seen.now += LIMIT * 9;
    }
    members(&mut seen, [true, true, true]);
    let broken = MAINS[0];
    settle_with(&mut seen, broken);
    assert!(has_new(&seen, broken));
    rest(&mut seen);
    assert_eq!(waits(&seen), None);
    seen.now += LIMIT * 3;
    settle_with(&mut seen, broken);
    assert!(!is_taken_back(&seen), "it has its time");
    // What is taken back waits for nobody: the change is why one is missing.
    members(&mut seen, [false, true, true]);
    seen.now += SignedDuration::from_secs(1);
    settle_with(&mut seen, broken);
    assert!(is_taken_back(&seen) && !has_new(&seen, broken));
}

fn without(seen: &mut Seen, kind: Kind, name: &str) {
    let all = INSIDE.into_iter().flat_map(|kind| seen.objects.of(kind));
    let left = all.filter(|object| (object.kind, object.name()) != (kind, name));
    seen.objects = left.cloned().collect();
}
