use super::*;
use crate::{
    decide::tests::{answer, decided, play, rest, say, with_three_members, without_volumes},
    lifecycle::sleep::tests::{awake, fall_asleep, replicas},
    provision::controller_manager,
    spec::control_plane::tests::control_plane,
};
use api::{Backup, Snapshot, SnapshotState, TenantProof, Trigger};

const SNAPSHOT: &str = "before-upgrade";

/// One that works, with a snapshot.
fn with_snapshot(mut seen: Seen) -> Seen {
    let cp = control_plane();
    let mut claim = snapshot::claim(&cp, SNAPSHOT);
    let complete = Snapshot {
        name: SNAPSHOT.into(),
        time: None,
        state: SnapshotState::Complete,
        message: None,
        trigger: Trigger::Manual,
    };
    claim.body["metadata"]["annotations"][keys::SNAPSHOT] = json!(json!(complete).to_string());
    seen.objects.insert(claim);
    seen.objects.insert(restore::claim(&cp, 0, 0));
    seen.vcp.spec.backup = Some(Backup {
        snapshots: vec![SNAPSHOT.into()],
        ..Backup::default()
    });
    let status = seen.vcp.status.get_or_insert_default();
    status.proof = Some(TenantProof {
        kube_system_uid: "uid".into(),
        restore_counter: 2,
    });
    seen
}

fn ask(seen: &mut Seen, snapshot: &str, request: &str) {
    seen.vcp.spec.restore = Some(Restore {
        snapshot: snapshot.into(),
        request: request.into(),
    });
}

/// Plays until nothing is to be done; returns what was.
fn go(seen: &mut Seen) -> Vec<String> {
    let mut said = vec![];
    loop {
        let actions = decided(seen).actions;
        if actions.is_empty() {
            return said;
        }
        assert!(said.len() < 200, "it never ends: {said:?}");
        for action in actions {
            match action {
                Action::Tell(patch) => {
                    said.push(format!("tell {patch}"));
                    let proof = seen.vcp.status.as_mut().unwrap().proof.as_mut().unwrap();
                    let counter = &patch["status"]["proof"]["restoreCounter"];
                    proof.restore_counter = counter.as_i64().unwrap();
                }
                Action::Note(mut claim, patch) => {
                    let noted = patch["metadata"]["annotations"][keys::SNAPSHOT].clone();
                    claim.body["metadata"]["annotations"][keys::SNAPSHOT] = noted;
                    seen.objects.insert(claim);
                }
                Action::Delete(gone) => {
                    said.push(format!("delete {gone:?}"));
                    seen.objects.remove(gone.kind, gone.name());
                }
                other => said.extend(play(seen, vec![other])),
            }
        }
    }
}

/// The Job ends in such a way.
fn end_job(seen: &mut Seen, name: &str, kind: &str) {
    let mut job = seen.objects.get(JOB, name).unwrap().clone();
    let condition = json!({"type": kind, "status": "True", "reason": "R", "message": "m"});
    job.body["status"]["conditions"] = json!([condition]);
    seen.objects.insert(job);
}

/// The control plane goes, as far as it is told to.
fn stop(seen: &mut Seen) -> Vec<String> {
    rest(seen);
    say(seen, &[Fact::no("Synced", "Stopped", "")]);
    let mut said = go(seen);
    for part in [apiserver::NAME, controller_manager::NAME] {
        seen.objects.remove(POD, part);
    }
    seen.tenant = Tenant::NotAsked;
    said.extend(go(seen));
    seen.objects.remove(POD, etcd::NAME);
    said.extend(go(seen));
    said
}

fn state(seen: &Seen) -> Option<RestoreState> {
    read(seen).map(|record| record.state)
}

fn counter_of(seen: &Seen) -> i64 {
    counter(&seen.vcp).unwrap()
}

fn template(seen: &Seen) -> &str {
    let set = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap();
    set.text("/spec/volumeClaimTemplates/0/metadata/name")
}

fn claims(seen: &Seen) -> Vec<&str> {
    let claims = seen.objects.of(CLAIM);
    let members = claims.filter(|claim| etcd::store_of_claim(claim).is_some());
    members.map(Object::name).collect()
}

fn holds(seen: &Seen, kind: &str) -> bool {
    let report = decided(seen).report;
    let mut all = report.conditions.iter();
    all.any(|fact| fact.kind == kind && fact.holds)
}

/// Its data are written, and it starts with them.
fn start(seen: &mut Seen) -> Vec<String> {
    ask(seen, SNAPSHOT, "");
    let mut said = go(seen);
    end_job(seen, "restore-1-0", "Complete");
    said.extend(go(seen));
    said.extend(stop(seen));
    said
}

/// No pod of a part is ready.
fn fails(seen: &mut Seen, part: &str) {
    let (kind, _) = *MAINS.iter().find(|(_, name)| *name == part).unwrap();
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"] = json!({"replicas": 1, "readyReplicas": 0, "updatedReplicas": 1});
    seen.objects.insert(main);
    let pod = json!({"metadata": {"labels": {"app.kubernetes.io/name": part}}});
    seen.objects.insert(Object::new(POD, Some("n"), part, pod));
}

/// Its etcd doesn't become ready, for too long.
fn etcd_fails(seen: &mut Seen) {
    fails(seen, etcd::NAME);
    seen.now += SignedDuration::from_mins(6);
}

#[test]
fn without_a_wish_nothing_is_noted_and_nothing_is_said() {
    let mut seen = with_snapshot(awake());
    assert_eq!(go(&mut seen), [] as [&str; 0]);
    assert_eq!(state(&seen), None);
    assert!(!concerns(&seen) && !holds(&seen, RESTORING) && !holds(&seen, FAILED));
}

#[test]
fn it_works_while_the_data_are_written_beside_those_that_it_has() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    let said = go(&mut seen);
    assert!(said[0].contains("Namespace"), "it is noted first: {said:?}");
    assert_eq!(claims(&seen), ["data-etcd-0", "data-r1-etcd-0"]);
    assert!(seen.objects.get(JOB, "restore-1-0").is_some());
    assert_eq!(state(&seen), Some(RestoreState::Writing));
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data"));
    assert!(holds(&seen, RESTORING) && !holds(&seen, sleep::SLEEPING));
    assert!(decided(&seen).report.again <= CLOSELY);
    assert_eq!(counter_of(&seen), 2);
}

#[test]
fn it_stops_as_one_that_falls_asleep_then_the_counter_goes_up_then_it_starts_with_the_new_volumes()
{
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Stopping));
    let report = rest(&mut seen);
    let sleeping = report
        .conditions
        .iter()
        .find(|fact| fact.kind == sleep::SLEEPING);
    assert_eq!(sleeping.unwrap().reason, RESTORING);
    assert_eq!(replicas(&seen), [1, 1, 1], "the syncer goes first");

    let said = stop(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data-r1"));
    assert_eq!(counter_of(&seen), 3);
    let at = |words: &str| {
        let found = said.iter().position(|text| text.contains(words));
        found.unwrap_or_else(|| panic!("{words}: {said:?}"))
    };
    assert!(at("restoreCounter") < at("delete StatefulSet"));
    let made = said
        .iter()
        .rposition(|text| text.starts_with("apply StatefulSet"));
    assert!(Some(at("delete StatefulSet")) < made);
    assert_eq!(
        claims(&seen).len(),
        2,
        "it isn't known yet whether it works"
    );
    assert!(
        !decided(&seen)
            .report
            .fields
            .iter()
            .any(|(field, _)| *field == "visit")
    );
}

#[test]
fn once_it_answers_with_the_new_volumes_the_old_ones_go_and_all_is_done() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    answer(&mut seen);
    let said = go(&mut seen);
    assert!(
        said.iter().any(|text| text.ends_with("data-etcd-0")),
        "{said:?}"
    );
    assert_eq!(claims(&seen), ["data-r1-etcd-0"]);
    assert!(seen.objects.get(JOB, "restore-1-0").is_none());
    assert_eq!(state(&seen), Some(RestoreState::Complete));
    assert!(!concerns(&seen) && !holds(&seen, RESTORING) && !holds(&seen, FAILED));
    let snapshots = seen.objects.get(CLAIM, &snapshot::name(SNAPSHOT));
    assert!(snapshots.is_some(), "the snapshot itself stays");

    // Whatever becomes of the status, none is restored twice for one wish.
    seen.vcp.status = None;
    assert!(!concerns(&seen));
    say(&mut seen, &[Fact::yes("Synced", "Watching")]);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Complete));
    ask(&mut seen, SNAPSHOT, "again");
    go(&mut seen);
    assert_eq!(claims(&seen), ["data-r1-etcd-0", "data-r2-etcd-0"]);
}

#[test]
fn a_note_of_long_ago_takes_no_volumes_from_an_etcd_that_runs() {
    let mut before = with_snapshot(awake());
    ask(&mut before, "other", "");
    go(&mut before);
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    seen.namespace = before.namespace;
    ask(&mut seen, "other", "");
    go(&mut seen);
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data-r1"));
}

#[test]
fn nothing_is_complete_by_what_an_api_server_answered_before_it_stopped() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    etcd_fails(&mut seen);
    seen.now -= SignedDuration::from_mins(6);
    answer(&mut seen);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert_eq!(claims(&seen).len(), 2);
}

#[test]
fn data_that_cannot_be_written_cost_the_tenant_nothing() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    let pod = json!({
        "metadata": {"labels": {"batch.kubernetes.io/job-name": "restore-1-0"}},
        "status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 1, "message": "first\nno room left\n"}}}]},
    });
    seen.objects
        .insert(Object::new(POD, Some("n"), "restore-1-0-x", pod));
    end_job(&mut seen, "restore-1-0", "Failed");
    let said = go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Failed));
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data"));
    assert_eq!(claims(&seen), ["data-etcd-0"], "{said:?}");
    assert!(holds(&seen, FAILED) && !holds(&seen, RESTORING));
    let message = decided(&seen).report.conditions;
    let message = message.into_iter().find(|fact| fact.kind == FAILED);
    assert!(message.unwrap().message.contains("m: no room left"));
    assert_eq!(go(&mut seen), [] as [&str; 0], "it isn't tried again");
    assert_eq!(counter_of(&seen), 2);

    ask(&mut seen, SNAPSHOT, "again");
    go(&mut seen);
    assert_eq!(claims(&seen), ["data-etcd-0", "data-r2-etcd-0"]);
}

#[test]
fn one_whose_etcd_does_not_become_ready_goes_back_to_the_volumes_that_it_had() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    etcd_fails(&mut seen);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Returning));
    assert_eq!(claims(&seen), ["data-etcd-0", "data-r1-etcd-0"]);
    let said = stop(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Failed));
    assert_eq!(
        (replicas(&seen), template(&seen)),
        ([1, 1, 1], "data"),
        "{said:?}"
    );
    assert_eq!(claims(&seen), ["data-etcd-0"]);
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    assert!(holds(&seen, FAILED));
}

#[test]
fn another_tenants_data_are_not_kept() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    answer(&mut seen);
    if let Tenant::Answers {
        kube_system_uid, ..
    } = &mut seen.tenant
    {
        *kube_system_uid = "another".into();
    }
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Returning));
    assert_eq!(claims(&seen).len(), 2);
}

#[test]
fn what_is_not_there_or_keeps_nothing_is_refused_at_once() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, "other", "");
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Failed));
    assert_eq!(claims(&seen), ["data-etcd-0"]);
    assert!(read(&seen).unwrap().message.contains("other"));
    assert!(!concerns(&seen));

    let mut ephemeral = with_snapshot(awake());
    without_volumes(&mut ephemeral);
    ask(&mut ephemeral, SNAPSHOT, "");
    go(&mut ephemeral);
    assert_eq!(state(&ephemeral), Some(RestoreState::Failed));
    assert!(read(&ephemeral).unwrap().message.contains("emptyDir"));
    assert_eq!(replicas(&ephemeral), [1, 1, 1]);
}

#[test]
fn a_wish_that_is_taken_away_changes_nothing_and_another_one_takes_its_place() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    ask(&mut seen, SNAPSHOT, "another");
    go(&mut seen);
    assert_eq!(claims(&seen), ["data-etcd-0", "data-r2-etcd-0"]);
    seen.vcp.spec.restore = None;
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Failed));
    assert_eq!(claims(&seen), ["data-etcd-0"]);
    assert!(!holds(&seen, FAILED), "nobody wants it any more");
}

#[test]
fn one_that_sleeps_is_awake_until_it_is_restored_and_sleeps_again() {
    let mut seen = awake();
    seen.vcp.spec.sleep.asleep = true;
    fall_asleep(&mut seen);
    let mut seen = with_snapshot(seen);
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data-r1"));
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Complete));
    assert!(holds(&seen, sleep::SLEEPING));
    stop(&mut seen);
    assert_eq!((replicas(&seen), template(&seen)), ([0, 0, 0], "data-r1"));
}

#[test]
fn a_stateful_set_that_is_not_there_is_made_as_it_was() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    seen.objects.remove(STATEFUL_SET, etcd::NAME);
    seen.vcp.spec.etcd = Some(serde_json::from_value(json!({"replicas": 3})).unwrap());
    go(&mut seen);
    assert_eq!((replicas(&seen), template(&seen)), ([1, 1, 1], "data-r1"));
}

#[test]
fn all_three_members_are_written_before_any_starts_and_all_have_new_volumes() {
    let mut seen = with_three_members();
    say(&mut seen, &[Fact::yes("Synced", "Watching")]);
    let mut seen = with_snapshot(seen);
    for number in 1..3 {
        let claim = restore::claim(&control_plane(), 0, number);
        seen.objects.insert(claim);
    }
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    for number in 0..3 {
        assert_eq!(state(&seen), Some(RestoreState::Writing));
        end_job(&mut seen, &format!("restore-1-{number}"), "Complete");
        go(&mut seen);
    }
    stop(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert_eq!((replicas(&seen), template(&seen)), ([3, 1, 1], "data-r1"));
    assert_eq!(claims(&seen).len(), 6);
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Complete));
    let new = ["data-r1-etcd-0", "data-r1-etcd-1", "data-r1-etcd-2"];
    assert_eq!(claims(&seen), new);
}

#[test]
fn what_was_written_into_a_claim_that_is_gone_is_not_written() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    let mut claim = seen.objects.get(CLAIM, "data-r1-etcd-0").unwrap().clone();
    claim.body["metadata"]["uid"] = json!("another");
    seen.objects.insert(claim);
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Writing));
}

#[test]
fn one_whose_api_servers_do_not_become_ready_goes_back_with_another_count() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    fails(&mut seen, apiserver::NAME);
    seen.now += SignedDuration::from_mins(9);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert_eq!(counter_of(&seen), 3);
    seen.now += SignedDuration::from_mins(2);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Returning));
    let said = stop(&mut seen);
    assert_eq!(template(&seen), "data", "{said:?}");
    assert_eq!(counter_of(&seen), 4, "what came meanwhile is held, too");
    let message = read(&seen).unwrap().message;
    assert!(
        message.starts_with("kube-apiserver wasn't ready"),
        "{message}"
    );
}

#[test]
fn it_is_complete_without_a_controller_manager_which_changes_no_data() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    fails(&mut seen, controller_manager::NAME);
    answer(&mut seen);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Complete));
}

#[test]
fn a_count_that_was_lost_with_the_status_goes_on_where_it_was() {
    let mut seen = with_snapshot(awake());
    start(&mut seen);
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    let proof = seen.vcp.status.as_mut().unwrap().proof.as_mut().unwrap();
    proof.restore_counter = 0;
    ask(&mut seen, SNAPSHOT, "again");
    go(&mut seen);
    assert_eq!(read(&seen).unwrap().counter, 4);
}

#[test]
fn one_that_is_restored_again_has_greater_revisions_than_the_last_time() {
    let mut seen = with_snapshot(awake());
    let bump = |seen: &Seen, job: &str| {
        let job = seen.objects.get(JOB, job).unwrap();
        let command = job.items("/spec/template/spec/containers/0/command");
        let mut flags = command.iter().filter_map(Value::as_str);
        let flag = flags.find_map(|flag| flag.strip_prefix("--bump-revision="));
        flag.unwrap().parse::<u64>().unwrap()
    };
    start(&mut seen);
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    // One of the new volumes.
    let asked = &mut seen.vcp.spec.backup.as_mut().unwrap().snapshots;
    asked.push("later".into());
    go(&mut seen);
    end_job(&mut seen, "snapshot-later", "Complete");
    go(&mut seen);
    ask(&mut seen, "later", "");
    go(&mut seen);
    let of_later = bump(&seen, "restore-2-0");
    ask(&mut seen, SNAPSHOT, "again");
    go(&mut seen);
    assert_eq!(bump(&seen, "restore-3-0"), 3 * of_later);
}

#[test]
fn a_snapshot_under_way_is_begun_again_with_the_new_volumes() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    let asked = &mut seen.vcp.spec.backup.as_mut().unwrap().snapshots;
    asked.push("other".into());
    go(&mut seen);
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    stop(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Starting));
    assert!(seen.objects.get(JOB, "snapshot-other").is_none());
    rest(&mut seen);
    answer(&mut seen);
    go(&mut seen);
    assert!(seen.objects.get(JOB, "snapshot-other").is_some());
}

#[test]
fn what_does_not_end_is_named() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    let message = |seen: &Seen| {
        let facts = decided(seen).report.conditions;
        let fact = facts.into_iter().find(|fact| fact.kind == RESTORING);
        fact.unwrap().message
    };
    let said = message(&seen);
    assert!(said.contains("waiting for etcd, kube-apiserver"), "{said}");
    seen.now += SignedDuration::from_mins(11);
    go(&mut seen);
    assert_eq!(state(&seen), Some(RestoreState::Failed));
    let said = read(&seen).unwrap().message;
    assert!(said.contains("10 min: ") && said.contains("etcd"), "{said}");
}

#[test]
fn a_snapshot_that_is_read_is_not_deleted() {
    let mut seen = with_snapshot(awake());
    ask(&mut seen, SNAPSHOT, "");
    go(&mut seen);
    seen.vcp.spec.backup = Some(Backup::default());
    go(&mut seen);
    let claim = snapshot::name(SNAPSHOT);
    assert!(seen.objects.get(CLAIM, &claim).is_some());
    end_job(&mut seen, "restore-1-0", "Complete");
    go(&mut seen);
    assert!(seen.objects.get(CLAIM, &claim).is_none());
}
