//! What is refused of a change costs nothing of what runs.

use super::*;
use crate::spec::authentication::tests::issuer;

/// Something that somebody does.
type Change = fn(&mut Seen);

/// A tenant that runs and answers, as its status says.
fn running() -> Seen {
    let mut seen = seen();
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    rest(&mut seen);
    seen
}

fn version(report: &Report) -> Option<String> {
    let mut fields = report.fields.iter();
    let (_, version) = fields.find(|(field, _)| *field == "version")?;
    version.as_str().map(str::to_owned)
}

/// Whether a condition holds, and its reason.
fn fact(report: &Report, kind: &str) -> (bool, String) {
    let said: Vec<_> = report
        .conditions
        .iter()
        .filter(|fact| fact.kind == kind)
        .collect();
    let [fact] = said[..] else {
        panic!("{kind}: {said:?}");
    };
    (fact.holds, fact.reason.clone())
}

/// A pod of a part isn't ready any more.
fn break_pod(seen: &mut Seen, kind: crate::object::Kind, part: &str) {
    let mut main = seen.objects.get(kind, part).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(main);
    let pod = json!({"metadata": {"labels": {"app.kubernetes.io/name": part}}});
    seen.objects.insert(Object::new(POD, Some("n"), part, pod));
}

fn foreign(name: &str) -> Object {
    let data = json!({"data": {"value": "bWluZQ=="}});
    Object::new(SECRET, Some(&owner().namespace), name, data)
}

#[test]
fn what_runs_is_looked_after_and_shown_while_a_change_is_refused() {
    let refusals: [(Change, &str); 5] = [
        (
            |seen| seen.vcp.spec.version = Some("9.9.9".into()),
            "VersionNotOffered",
        ),
        (
            |seen| {
                offer(seen, "1.38.0", "1.38.0");
                seen.vcp.spec.version = Some("1.38.0".into());
            },
            "VersionSkew",
        ),
        (
            |seen| seen.vcp.spec.etcd.get_or_insert_default().replicas = Some(3),
            "EtcdReplicasFixed",
        ),
        (
            |seen| {
                let mut issuer = issuer("https://login.example.com");
                issuer.issuer.certificate_authority = Some("-----BEGIN CERTIFICATE-----".into());
                seen.vcp.spec.authentication.jwt = vec![issuer];
            },
            "AuthenticationRefused",
        ),
        (
            |seen| seen.user_secret = Some(foreign("acme-kubeconfig")),
            "NameTaken",
        ),
    ];
    for (refuse, reason) in refusals {
        let mut seen = running();
        refuse(&mut seen);
        let decision = decided(&seen);
        assert!(
            decision.actions.is_empty(),
            "{reason}: {:?}",
            decision.actions
        );
        let report = rest(&mut seen);
        assert_eq!(report.phase, Phase::Failed);
        assert_eq!(fact(&report, "Ready"), (false, reason.into()));
        assert_eq!(fact(&report, "ControlPlaneReady"), (true, "Answers".into()));
        assert_eq!(version(&report).as_deref(), Some("1.36.3"));

        // Certificates age, and somebody edits something.
        seen.now = "2026-03-15T00:00:00Z".parse().unwrap();
        let policy = crate::object::NETWORK_POLICY;
        seen.objects.remove(policy, "default-deny");
        let actions = decided(&seen).actions;
        let did = play(&mut seen, actions);
        for mended in ["/default-deny", "/apiserver"] {
            assert!(
                did.iter().any(|did| did.ends_with(mended)),
                "{reason}: {did:?}"
            );
        }
        settle(&mut seen);
        break_pod(&mut seen, DEPLOYMENT, apiserver::NAME);
        let report = decided(&seen).report;
        assert_eq!(
            fact(&report, "ControlPlaneReady"),
            (false, "PodsNotReady".into())
        );
        assert_eq!(fact(&report, "Ready").1, reason);
    }
}

/// One that is refused later takes none of those away that are believed.
#[test]
fn issuers_are_taken_up_by_a_rollout_and_a_wrong_one_changes_nothing() {
    let mut seen = running();
    let believed = |seen: &Seen| {
        let main = seen.objects.get(DEPLOYMENT, apiserver::NAME).unwrap();
        let annotations = &main.body["spec"]["template"]["metadata"]["annotations"];
        annotations["sublet.dev/authentication"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(believed(&seen), None);
    seen.vcp.spec.authentication.jwt = vec![issuer("https://login.example.com")];
    settle(&mut seen);
    let before = believed(&seen).unwrap();
    assert!(before.contains("https://login.example.com"), "{before}");

    let mut wrong = issuer("https://login.example.net");
    wrong.issuer.certificate_authority = Some("-----BEGIN CERTIFICATE-----".into());
    seen.vcp.spec.authentication.jwt.push(wrong);
    assert!(decided(&seen).actions.is_empty());
    seen.vcp.spec.authentication.jwt.clear();
    settle(&mut seen);
    assert_eq!(believed(&seen), None);
}

#[test]
fn what_runs_is_shown_while_its_class_is_gone() {
    let mut seen = running();
    seen.class = None;
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    assert_eq!(fact(&decision.report, "Ready").1, "ClassMissing");
    assert_eq!(fact(&decision.report, "ControlPlaneReady").1, "Answers");
    break_pod(&mut seen, STATEFUL_SET, etcd::NAME);
    let report = decided(&seen).report;
    assert_eq!(fact(&report, "EtcdReady").1, "PodsNotReady");
    assert_eq!(fact(&report, "ControlPlaneReady").1, "PodsNotReady");
}

#[test]
fn one_that_never_ran_is_not_begun_by_a_spec_that_is_refused() {
    let mut seen = seen();
    seen.vcp.spec.version = Some("9.9.9".into());
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    assert_eq!(decision.report.phase, Phase::Failed);
    seen.vcp.spec.version = Some("1.36.3".into());
    seen.user_secret = Some(foreign("acme-kubeconfig"));
    settle(&mut seen);
    assert!(!has_begun(&seen));
    assert_eq!(fact(&decided(&seen).report, "Ready").1, "NameTaken");
}

#[test]
fn the_next_minor_version_is_refused_only_until_all_parts_run_the_one_before() {
    let mut seen = running();
    offer(&mut seen, "1.37.0", "1.37.0");
    offer(&mut seen, "1.38.0", "1.38.0");
    seen.vcp.spec.version = Some("1.37.0".into());
    settle(&mut seen);
    // The controller-manager starts anew still.
    let runs = seen
        .objects
        .get(DEPLOYMENT, controller_manager::NAME)
        .unwrap()
        .clone();
    break_pod(&mut seen, DEPLOYMENT, controller_manager::NAME);
    seen.vcp.spec.version = Some("1.38.0".into());
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(fact(&rest(&mut seen), "Ready").1, "VersionSkew");
    let settled = |seen: &Seen| seen.vcp.status.as_ref().unwrap().version.clone();
    assert_eq!(settled(&seen).as_deref(), Some("1.36.3"));

    seen.objects.insert(runs);
    assert_eq!(fact(&rest(&mut seen), "Ready").1, "VersionSkew");
    assert_eq!(settled(&seen).as_deref(), Some("1.37.0"));
    settle(&mut seen);
    assert_eq!(version(&rest(&mut seen)).as_deref(), Some("1.38.0"));
}

/// As between the API servers' turn and the controller-manager's.
#[test]
fn an_upgrade_that_was_begun_is_brought_to_its_end_when_another_is_refused() {
    let mut seen = running();
    let old = seen
        .objects
        .get(DEPLOYMENT, controller_manager::NAME)
        .unwrap()
        .clone();
    offer(&mut seen, "1.37.0", "1.37.0");
    offer(&mut seen, "1.38.0", "1.38.0");
    seen.vcp.spec.version = Some("1.37.0".into());
    settle(&mut seen);
    seen.objects.insert(old);
    seen.vcp.spec.version = Some("1.38.0".into());
    settle(&mut seen);
    let now = seen
        .objects
        .get(DEPLOYMENT, controller_manager::NAME)
        .unwrap();
    let image = now.text("/spec/template/spec/containers/0/image");
    assert!(image.ends_with(":1.37.0"), "{image}");
}

#[test]
fn a_version_that_waits_for_its_turn_is_not_said_to_run() {
    let mut seen = running();
    offer(&mut seen, "1.37.0", "1.37.0");
    seen.vcp.spec.version = Some("1.37.0".into());
    // What runs is written down first, and in its own namespace too.
    for _ in 0..2 {
        let actions = decided(&seen).actions;
        play(&mut seen, actions);
    }
    seen.turn = Some(Turn::Later {
        starting: 1,
        before: 0,
        again: Duration::from_secs(7),
    });
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(version(&decision.report).as_deref(), Some("1.36.3"));
}

/// The status isn't moved, and may be an older one when it is restored.
#[test]
fn what_may_follow_is_told_by_what_runs_and_not_by_the_status_alone() {
    for status in [None, Some("1.37.0")] {
        let mut seen = running();
        offer(&mut seen, "1.38.0", "1.38.0");
        let version = status.map(str::to_owned);
        seen.vcp.status.as_mut().unwrap().version = version;
        seen.vcp.spec.version = Some("1.38.0".into());
        let report = decided(&seen).report;
        assert_eq!(fact(&report, "Ready").1, "VersionSkew", "{status:?}");
    }
}

#[test]
fn one_that_runs_is_shown_as_it_is_while_the_proxy_or_a_node_is_missing() {
    let missing: [fn(&mut Seen); 2] = [|seen| seen.proxy = None, |seen| seen.node = None];
    for miss in missing {
        let mut seen = running();
        seen.vcp.status.as_mut().unwrap().phase = Some(Phase::Ready);
        miss(&mut seen);
        let report = decided(&seen).report;
        assert_eq!(report.phase, Phase::Degraded);
        assert_eq!(fact(&report, "ControlPlaneReady"), (true, "Answers".into()));
        assert_eq!(fact(&report, "EtcdReady").1, "MembersReady");
        assert_eq!(fact(&report, "Ready"), (false, "Provisioning".into()));
        assert!(
            report
                .fields
                .iter()
                .any(|(field, _)| *field == "apiServers")
        );
    }
}

/// As one that a person wrote anew from a copy; nobody but its type tells Cluster API that it is there.
#[test]
fn a_kubeconfig_secret_of_a_wrong_type_is_deleted_and_made_anew() {
    let mut seen = running();
    seen.user_secret.as_mut().unwrap().body["type"] = json!("theirs");
    let actions = decided(&seen).actions;
    let [Action::Delete(secret)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(secret.name(), "acme-kubeconfig");
    seen.user_secret = None;
    settle(&mut seen);
    assert_eq!(seen.user_secret.unwrap().text("/type"), crate::pki::OPAQUE);
}

/// Its identity is free there, and a new etcd would be made.
#[test]
fn one_that_moved_to_another_super_cluster_is_not_begun_there_anew() {
    let mut seen = seen();
    seen.here = Some("west".into());
    let actions = decided(&seen).actions;
    assert!(matches!(actions[..], [Action::Patch(_)]), "{actions:?}");
    play(&mut seen, actions);
    settle(&mut seen);
    assert!(has_begun(&seen));

    let mut moved = super::seen();
    moved.object = seen.object.clone();
    moved.standing = Standing::Free;
    moved.here = Some("east".into());
    let decision = decided(&moved);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(fact(&decision.report, "Ready").1, "AnotherSuperCluster");
    let message = decision.report.message.unwrap();
    assert!(message.contains("UID west"), "{message}");
}

fn at_most(seen: &mut Seen, max: Value) {
    seen.class.as_mut().unwrap().spec.max = serde_json::from_value(max).unwrap();
}

fn servers(seen: &Seen) -> i64 {
    let main = seen.objects.get(DEPLOYMENT, apiserver::NAME).unwrap();
    main.number("/spec/replicas")
}

#[test]
fn nothing_is_made_of_what_is_more_than_its_class_allows() {
    let wishes = [
        (
            json!({"replicas": 3}),
            "spec.replicas is 3 and may be 2 at most",
        ),
        (json!({"etcd": {"replicas": 3}}), "spec.etcd.replicas is 3"),
        (
            json!({"etcd": {"storage": {"size": "17Gi"}}}),
            "may be 16Gi at most",
        ),
        (
            json!({"etcd": {"storage": {"storageClassName": "gold"}}}),
            "is gold",
        ),
    ];
    for (wish, words) in wishes {
        let mut seen = seen();
        seen.vcp.spec.replicas = wish["replicas"].as_i64().map(|n| n as i32);
        seen.vcp.spec.etcd = serde_json::from_value(wish["etcd"].clone()).unwrap();
        at_most(
            &mut seen,
            json!({"replicas": 2, "etcd": {"replicas": 1, "storage": {"size": "16Gi", "storageClassNames": []}}}),
        );
        let decision = decided(&seen);
        assert!(
            decision.actions.is_empty(),
            "{wish}: {:?}",
            decision.actions
        );
        assert_eq!(decision.report.phase, Phase::Failed);
        assert_eq!(
            fact(&decision.report, "Ready"),
            (false, "BeyondClass".into())
        );
        let message = decision.report.message.unwrap();
        assert!(message.contains("ControlPlaneClass default"), "{message}");
        assert!(message.contains(words), "{message}");

        at_most(&mut seen, json!({}));
        settle(&mut seen);
        assert!(has_begun(&seen), "{wish}");
    }
}

#[test]
fn what_runs_goes_on_when_more_is_asked_for_than_its_class_allows() {
    let mut seen = running();
    at_most(&mut seen, json!({"replicas": 2}));
    seen.vcp.spec.replicas = Some(3);
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(fact(&decision.report, "Ready").1, "BeyondClass");
    assert_eq!(fact(&decision.report, "ControlPlaneReady").1, "Answers");

    seen.vcp.spec.replicas = Some(2);
    settle(&mut seen);
    assert_eq!(servers(&seen), 2);
}

#[test]
fn what_runs_stays_when_its_class_comes_to_allow_less() {
    let mut seen = seen();
    seen.vcp.spec.replicas = Some(3);
    seen.vcp.spec.etcd =
        serde_json::from_value(json!({"replicas": 3, "storage": {"size": "99Gi"}})).unwrap();
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    let before = rest(&mut seen);
    at_most(
        &mut seen,
        json!({"replicas": 1, "etcd": {"replicas": 1, "storage": {"size": "16Gi"}}}),
    );
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(decision.report.conditions, before.conditions);
    // Once somebody deleted them they are new.
    seen.objects.remove(DEPLOYMENT, apiserver::NAME);
    settle(&mut seen);
    assert_eq!(servers(&seen), 1);
    assert_eq!(fact(&decided(&seen).report, "Ready").1, "BeyondClass");
}

#[test]
fn a_class_is_refused_to_other_namespaces_than_it_is_for_and_what_runs_is_shown() {
    let elsewhere = |seen: &mut Seen| {
        seen.class.as_mut().unwrap().spec.namespaces = vec!["platform".into()];
    };
    let mut new = seen();
    elsewhere(&mut new);
    let decision = decided(&new);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(fact(&decision.report, "Ready").1, "ClassNotAllowed");
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("ControlPlaneClass default isn't for namespace tenants"),
        "{message}"
    );

    let mut seen = running();
    elsewhere(&mut seen);
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    assert_eq!(fact(&decision.report, "Ready").1, "ClassNotAllowed");
    assert_eq!(fact(&decision.report, "ControlPlaneReady").1, "Answers");
    let class = seen.class.as_mut().unwrap();
    class.spec.namespaces.push("tenants".into());
    assert_eq!(
        fact(&decided(&seen).report, "ControlPlaneReady").1,
        "Answers"
    );
    assert_ne!(fact(&decided(&seen).report, "Ready").1, "ClassNotAllowed");
}
