use super::*;
use crate::decide::{
    Action,
    tests::{decided, play, seen, settle},
};
use serde_json::Value;

/// A class's first version is another one from now on; the old ones stay behind it if `keep` says so.
fn offer_first(seen: &mut Seen, version: &str, keep: impl Fn(&Version) -> bool) {
    let versions = &mut seen.class.as_mut().unwrap().spec.versions;
    let mut new = versions[0].clone();
    new.version = version.into();
    for image in [
        &mut new.images.etcd,
        &mut new.images.kube_apiserver,
        &mut new.images.kube_controller_manager,
    ] {
        image.push_str(":new");
    }
    versions.retain(keep);
    versions.insert(0, new);
}

/// One that is made without a version, by a class that offers 1.36.3 first.
fn made() -> Seen {
    let mut seen = seen();
    seen.vcp.spec.version = None;
    settle(&mut seen);
    seen
}

fn said_of_the_version(seen: &Seen) -> Option<(bool, String)> {
    let report = decided(seen).report;
    let mut facts = report.conditions.into_iter();
    let fact = facts.find(|fact| fact.kind == OFFERED)?;
    Some((fact.holds, fact.message))
}

#[test]
fn a_tenant_without_a_version_gets_the_classes_first_in_its_spec_before_anything_is_made() {
    let mut seen = seen();
    seen.vcp.spec.version = None;
    let actions = decided(&seen).actions;
    let [Action::Patch(patch)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(patch.pointer("/spec/version"), Some(&Value::from("1.36.3")));
    play(&mut seen, actions);
    assert_eq!(seen.vcp.spec.version.as_deref(), Some("1.36.3"));
}

#[test]
fn another_first_version_of_the_class_upgrades_nobody_and_a_person_does() {
    let mut seen = made();
    offer_first(&mut seen, "1.37.0", |_| true);
    assert!(decided(&seen).actions.is_empty());
    assert_eq!(said_of_the_version(&seen), None);
    seen.vcp.spec.version = Some("1.37.0".into());
    settle(&mut seen);
    assert_eq!(running(&seen), Some("1.37.0"));
}

#[test]
fn a_version_that_is_no_longer_offered_goes_on_and_is_told() {
    let mut seen = made();
    offer_first(&mut seen, "1.36.4", |old| old.version != "1.36.3");
    assert!(decided(&seen).actions.is_empty(), "nothing is changed");
    let (holds, words) = said_of_the_version(&seen).unwrap();
    assert!(!holds);
    assert!(
        words.contains("1.36.3") && words.contains("one of 1.36.4, 1.35.4"),
        "{words}"
    );
    // It is looked after: what is lost of it is made again.
    let etcd = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap().clone();
    let mut edited = etcd.clone();
    edited.body["spec"]["template"]["spec"]["containers"][0]["args"] = Value::Null;
    edited.body["metadata"]["annotations"] = Value::Null;
    seen.objects.insert(edited);
    settle(&mut seen);
    let mended = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap();
    assert_eq!(
        mended.body["spec"]["template"],
        etcd.body["spec"]["template"]
    );
    // A person takes another one.
    seen.vcp.spec.version = Some("1.36.4".into());
    settle(&mut seen);
    assert_eq!(running(&seen), Some("1.36.4"));
    assert_eq!(
        said_of_the_version(&seen),
        None,
        "it was never written down"
    );
}

/// As after an update of Sublet, or a move to another management cluster without the status.
#[test]
fn one_that_runs_without_a_version_in_its_spec_keeps_what_runs() {
    let mut seen = made();
    seen.vcp.spec.version = None;
    offer_first(&mut seen, "1.37.0", |_| true);
    settle(&mut seen);
    assert_eq!(seen.vcp.spec.version.as_deref(), Some("1.36.3"));
    assert_eq!(running(&seen), Some("1.36.3"));

    // Not even its objects are known any more.
    seen.vcp.spec.version = None;
    seen.objects = crate::object::Objects::default();
    seen.vcp.status.get_or_insert_default().version = Some("1.35.4".into());
    let class = seen.class.clone().unwrap();
    assert_eq!(to_record(&seen, &class).as_deref(), Some("1.35.4"));
}

#[test]
fn a_minor_version_follows_what_the_class_offers_of_it() {
    let mut seen = made();
    seen.vcp.spec.version = Some("1.36".into());
    offer_first(&mut seen, "1.36.4", |_| true);
    settle(&mut seen);
    assert_eq!(running(&seen), Some("1.36.4"));
    offer_first(&mut seen, "1.37.0", |_| true);
    assert!(decided(&seen).actions.is_empty());
}

#[test]
fn the_version_is_the_classes_first_or_the_one_asked_for() {
    let version = |asked: Option<&str>| {
        let mut seen = seen();
        seen.vcp.spec.version = asked.map(str::to_owned);
        let class = seen.class.clone().unwrap();
        choose(&class, &seen).map(|choice| choice.version.version)
    };
    assert_eq!(version(None).unwrap(), "1.36.3");
    assert_eq!(version(Some("1.35")).unwrap(), "1.35.4");
    assert_eq!(version(Some("v1.35.4")).unwrap(), "1.35.4");
    assert_eq!(
        version(Some("1.3")).unwrap_err().to_string(),
        "ControlPlaneClass default doesn't offer version 1.3: it offers 1.36.3, 1.35.4"
    );
}

#[test]
fn versions_follow_each_other_one_minor_at_a_time() {
    let refused = |running: Option<&str>, wanted: &str| may_follow(running, wanted).is_err();
    assert!(!refused(None, "1.36.3"));
    assert!(!refused(Some("1.35.4"), "1.36.3"));
    assert!(!refused(Some("1.36.3"), "1.36.1"));
    assert!(refused(Some("1.34.4"), "1.36.3"));
    assert!(refused(Some("1.36.3"), "1.35.4"));
}

#[test]
fn whether_an_etcd_is_older_is_told_by_tags_or_else_by_the_versions_that_come_with_it() {
    assert_eq!(
        release("registry:5000/k8s/etcd:v3.6.4-0@sha256:ab"),
        Some([3, 6])
    );
    for unreadable in ["registry:5000/etcd", "etcd:new", "etcd@sha256:3.6", ""] {
        assert_eq!(release(unreadable), None, "{unreadable}");
    }
    let mut seen = crate::decide::tests::seen();
    crate::decide::tests::offer(&mut seen, "1.37.0", "new");
    let mut version = seen.class.as_ref().unwrap().spec.versions[0].clone();
    let mut is_older = |own: &str, other: &str| {
        version.images.etcd = own.into();
        has_older_store(&seen, &version, other)
    };
    assert!(is_older("e:3.5.21", "elsewhere/e:3.6.0"));
    assert!(!is_older("e:3.6.1", "e:3.6.4"), "a patch");
    assert!(!is_older("e:3.10.0", "e:3.6.4"));
    assert!(is_older("registry/etcd", "registry/etcd:new"));
    assert!(!is_older("registry/etcd:other", "registry/etcd"));
    assert!(!is_older("registry/etcd", "nobody/knows"));
}
