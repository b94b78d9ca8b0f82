use super::*;
use crate::{
    decide::tests::{decided, play, without_volumes},
    lifecycle::sleep::tests::{awake, fall_asleep},
};

const MANUAL: &str = "before-upgrade";

fn backup(snapshots: &[&str]) -> Backup {
    Backup {
        snapshots: snapshots.iter().map(|name| (*name).to_owned()).collect(),
        ..Backup::default()
    }
}

/// By schedule, every hour, and as many are kept.
fn hourly(retain: u8) -> Backup {
    Backup {
        schedule: Some("@hourly".into()),
        retain,
        snapshots: vec![],
    }
}

fn seen(wish: Backup) -> Seen {
    let mut seen = awake();
    seen.vcp.spec.backup = Some(wish);
    seen
}

/// Plays until nothing is to be done; returns what was.
fn go(seen: &mut Seen) -> Vec<String> {
    let mut said = vec![];
    loop {
        let actions = decided(seen).actions;
        if actions.is_empty() {
            return said;
        }
        for action in actions {
            match action {
                Action::Note(mut claim, patch) => {
                    let noted = patch["metadata"]["annotations"][keys::SNAPSHOT].clone();
                    claim.body["metadata"]["annotations"][keys::SNAPSHOT] = noted;
                    said.push(format!("note {claim:?}"));
                    seen.objects.insert(claim);
                }
                Action::Delete(gone) if KINDS.contains(&gone.kind) => {
                    said.push(format!("delete {gone:?}"));
                    seen.objects.remove(gone.kind, gone.name());
                }
                other => said.extend(play(seen, vec![other])),
            }
        }
    }
}

/// The Job ends in such a way.
fn end(seen: &mut Seen, name: &str, kind: &str) {
    let job = seen.objects.get(JOB, &snapshot::name(name)).unwrap();
    let mut job = job.clone();
    job.body["status"]["conditions"] = json!([{
        "type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "no room",
        "lastTransitionTime": "2026-01-01T00:00:09Z",
    }]);
    seen.objects.insert(job);
}

fn told(seen: &Seen) -> Vec<(String, SnapshotState)> {
    let report = decided(seen).report;
    let mut fields = report.fields.iter();
    let field = fields.find(|(field, _)| *field == FIELD);
    let all: Vec<Snapshot> = field
        .map(|(_, value)| serde_json::from_value(value.clone()).unwrap_or_default())
        .unwrap_or_default();
    all.into_iter().map(|one| (one.name, one.state)).collect()
}

fn failing(seen: &Seen) -> Option<String> {
    let report = decided(seen).report;
    let mut facts = report.conditions.into_iter();
    let fact = facts.find(|fact| fact.kind == FAILING).unwrap();
    fact.holds.then_some(fact.reason)
}

/// Lets the time pass that a snapshot by schedule takes, well or not.
fn hour(seen: &mut Seen, kind: &str) {
    seen.now += jiff::SignedDuration::from_hours(1);
    go(seen);
    let name = scheduled(Schedule::last(&"@hourly".parse().unwrap(), seen.now).unwrap());
    end(seen, &name, kind);
    go(seen);
}

#[test]
fn without_a_wish_nothing_is_made_and_nothing_is_said() {
    let mut seen = awake();
    assert_eq!(go(&mut seen), [] as [&str; 0]);
    assert_eq!(told(&seen), []);
    assert_eq!(failing(&seen), None);
}

#[test]
fn one_that_is_asked_for_becomes_a_claim_then_a_job_and_stays_without_it() {
    let mut seen = seen(backup(&[MANUAL]));
    let said = go(&mut seen);
    assert!(said.iter().any(|text| text.contains("Job")), "{said:?}");
    let claim = said
        .iter()
        .position(|text| text.contains("PersistentVolumeClaim"));
    assert!(claim < said.iter().position(|text| text.contains("Job")));
    assert!(
        said.iter()
            .any(|text| text.contains("NetworkPolicy") && text.contains("etcd-snapshot"))
    );
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Running)]);
    assert!(decided(&seen).report.again <= CLOSELY);

    end(&mut seen, MANUAL, "Complete");
    go(&mut seen);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Complete)]);
    assert!(seen.objects.get(JOB, &snapshot::name(MANUAL)).is_none());
    let claim = seen.objects.get(CLAIM, &snapshot::name(MANUAL)).unwrap();
    let noted: Snapshot = serde_json::from_str(claim.annotation(keys::SNAPSHOT).unwrap()).unwrap();
    assert_eq!(noted.time.as_deref(), Some("2026-01-01T00:00:09Z"));
}

#[test]
fn one_that_fails_says_why_and_is_not_tried_again() {
    let mut seen = seen(backup(&[MANUAL]));
    go(&mut seen);
    end(&mut seen, MANUAL, "Failed");
    go(&mut seen);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Failed)]);
    let claim = seen.objects.get(CLAIM, &snapshot::name(MANUAL)).unwrap();
    let said = claim.annotation(keys::SNAPSHOT).unwrap();
    assert!(said.contains("BackoffLimitExceeded: no room"), "{said}");
    assert!(seen.objects.get(JOB, &snapshot::name(MANUAL)).is_none());
}

/// Its pod is on a node that is gone, so the Job never says that it failed.
#[test]
fn one_whose_job_will_have_failed_once_its_pods_have_ended_has_failed() {
    let mut seen = seen(backup(&[MANUAL]));
    go(&mut seen);
    end(&mut seen, MANUAL, "FailureTarget");
    go(&mut seen);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Failed)]);
    assert!(seen.objects.get(JOB, &snapshot::name(MANUAL)).is_none());
}

#[test]
fn one_that_is_asked_for_again_while_its_old_claim_goes_is_told_and_made_once_that_is_gone() {
    let mut seen = seen(backup(&[MANUAL]));
    go(&mut seen);
    end(&mut seen, MANUAL, "Complete");
    go(&mut seen);
    let name = snapshot::name(MANUAL);
    let mut claim = seen.objects.get(CLAIM, &name).unwrap().clone();
    claim.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:10Z");
    seen.objects.insert(claim);
    assert_eq!(go(&mut seen), [] as [&str; 0]);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Running)]);
    let again = decided(&seen).report.again;
    assert!(again <= SLOWLY, "of claims nobody tells: {again:?}");
    seen.objects.remove(CLAIM, &name);
    let said = go(&mut seen);
    assert!(said.iter().any(|text| text.contains("Job")), "{said:?}");
}

#[test]
fn one_whose_name_is_taken_away_goes_and_without_any_word_all_stay() {
    let mut seen = seen(backup(&[MANUAL, "other"]));
    go(&mut seen);
    end(&mut seen, MANUAL, "Complete");
    go(&mut seen);
    seen.vcp.spec.backup = None;
    seen.vcp.status.get_or_insert_default().snapshots = vec![running("other", "")];
    go(&mut seen);
    assert_eq!(told(&seen).len(), 2);

    // The other one's Job still runs.
    seen.vcp.spec.backup = Some(backup(&[MANUAL]));
    go(&mut seen);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Complete)]);
    assert!(seen.objects.get(JOB, "snapshot-other").is_none());
    assert!(seen.objects.get(CLAIM, "snapshot-other").is_none());

    seen.vcp.spec.backup = Some(backup(&[]));
    go(&mut seen);
    let report = decided(&seen).report;
    let last = report.fields.iter().find(|(field, _)| *field == FIELD);
    assert_eq!(last.unwrap().1, Value::Null, "what was told is taken back");
}

#[test]
fn what_came_of_a_claim_that_is_gone_is_not_said_of_the_next_one() {
    let mut seen = seen(backup(&[MANUAL]));
    go(&mut seen);
    end(&mut seen, MANUAL, "Complete");
    // Somebody deletes the claim, and another one comes.
    let mut claim = seen
        .objects
        .get(CLAIM, &snapshot::name(MANUAL))
        .unwrap()
        .clone();
    claim.body["metadata"]["uid"] = json!("another");
    seen.objects.insert(claim);
    go(&mut seen);
    assert_eq!(told(&seen), [(MANUAL.to_owned(), SnapshotState::Running)]);
    let job = seen.objects.get(JOB, &snapshot::name(MANUAL)).unwrap();
    assert!(job.body["status"].is_null(), "another Job fills it");
}

#[test]
fn what_the_super_cluster_refuses_is_told_and_asked_for_again_later() {
    let mut seen = seen(backup(&[MANUAL]));
    seen.unmade = Some("exceeded quota".into());
    let said = go(&mut seen);
    assert!(!said.iter().any(|text| text.contains("Claim")), "{said:?}");
    assert_eq!(failing(&seen).as_deref(), Some("Refused"));
    // No sooner than if there were none.
    let again = |seen: &Seen| decided(seen).report.again;
    assert_eq!(again(&seen), again(&awake()));
}

#[test]
fn etcds_own_claims_are_no_snapshots() {
    let mut seen = seen(backup(&[]));
    let mut data = snapshot::claim(&crate::spec::control_plane::tests::control_plane(), "a");
    data.body["metadata"]["labels"]["app.kubernetes.io/name"] = json!("etcd");
    seen.objects.insert(data);
    assert_eq!(go(&mut seen), [] as [&str; 0]);
}

#[test]
fn none_is_made_while_it_sleeps_and_a_time_that_was_missed_is_made_up_for_once() {
    let mut seen = awake();
    seen.vcp.spec.sleep.asleep = true;
    fall_asleep(&mut seen);
    seen.vcp.spec.backup = Some(hourly(3));
    seen.now += jiff::SignedDuration::from_hours(5);
    let said = go(&mut seen);
    assert!(!said.iter().any(|text| text.contains("Claim")), "{said:?}");
    assert_eq!(told(&seen).len(), 1, "it is waited for");

    let mut awake = self::seen(hourly(3));
    awake.now = seen.now;
    go(&mut awake);
    assert_eq!(
        told(&awake),
        [("scheduled-20260101-0500".to_owned(), SnapshotState::Running)]
    );
}

#[test]
fn as_many_as_are_asked_for_are_kept_of_those_made_by_schedule() {
    let mut seen = seen(hourly(2));
    for _ in 0..4 {
        hour(&mut seen, "Complete");
    }
    let names = |seen: &Seen| {
        let mut names: Vec<String> = told(seen).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&seen),
        ["scheduled-20260101-0300", "scheduled-20260101-0400"]
    );
    assert_eq!(failing(&seen), None);

    // Failed ones push nothing out, and go once another is tried.
    hour(&mut seen, "Failed");
    hour(&mut seen, "Failed");
    assert_eq!(
        names(&seen),
        [
            "scheduled-20260101-0300",
            "scheduled-20260101-0400",
            "scheduled-20260101-0600"
        ]
    );
    assert_eq!(failing(&seen).as_deref(), Some("SnapshotFailed"));
    hour(&mut seen, "Complete");
    assert_eq!(
        names(&seen),
        ["scheduled-20260101-0400", "scheduled-20260101-0700"]
    );
    assert_eq!(failing(&seen), None);
}

/// Else storage that gives nothing is asked for one more each time, by all tenants.
#[test]
fn of_those_made_by_schedule_one_is_made_at_a_time() {
    let mut seen = seen(hourly(3));
    go(&mut seen);
    let first = told(&seen);
    assert_eq!(first.len(), 1);
    for _ in 0..3 {
        seen.now += jiff::SignedDuration::from_hours(1);
        assert_eq!(go(&mut seen), [] as [&str; 0]);
    }
    assert_eq!(told(&seen), first);
    end(&mut seen, &first[0].0, "Complete");
    go(&mut seen);
    let names: Vec<String> = told(&seen).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["scheduled-20260101-0300", "scheduled-20260101-0000"],
        "what was missed is made up for once"
    );
}

#[test]
fn manual_ones_are_kept_whatever_the_schedule_keeps() {
    let mut seen = seen(backup(&[MANUAL]));
    go(&mut seen);
    end(&mut seen, MANUAL, "Complete");
    go(&mut seen);
    seen.vcp.spec.backup = Some(Backup {
        snapshots: vec![MANUAL.to_owned()],
        ..hourly(1)
    });
    for _ in 0..3 {
        hour(&mut seen, "Complete");
    }
    let names: Vec<String> = told(&seen).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&MANUAL.to_owned()));
}

#[test]
fn nothing_is_made_twice_for_one_time() {
    let mut seen = seen(hourly(2));
    hour(&mut seen, "Failed");
    seen.now += jiff::SignedDuration::from_mins(59);
    assert_eq!(go(&mut seen), [] as [&str; 0]);
    let again = decided(&seen).report.again;
    assert!(again <= Duration::from_secs(60), "{again:?}");
}

#[test]
fn a_schedule_that_is_none_and_an_etcd_without_a_volume_are_told() {
    let wish = Backup {
        schedule: Some("whenever".into()),
        ..backup(&[MANUAL])
    };
    let mut wrong = seen(wish);
    go(&mut wrong);
    assert_eq!(failing(&wrong).as_deref(), Some("ScheduleInvalid"));
    assert_eq!(told(&wrong), [(MANUAL.to_owned(), SnapshotState::Running)]);

    let mut ephemeral = seen(backup(&[MANUAL]));
    without_volumes(&mut ephemeral);
    let said = go(&mut ephemeral);
    assert!(!said.iter().any(|text| text.contains("Claim")), "{said:?}");
    assert_eq!(failing(&ephemeral).as_deref(), Some("StorageIsEphemeral"));
}
