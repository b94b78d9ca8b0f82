//! What somebody else does wrong costs a tenant that runs nothing.

use super::*;

/// Something that somebody does.
type Change = fn(&mut Facts);

/// One that runs, whose two objects a second Cluster names as well.
fn owned_twice(kind: Kind) -> Facts {
    let mut seen = match kind {
        SUBLET_CONTROL_PLANE => comes_up(),
        _ => is_kept(),
    };
    seen.object.body["metadata"]["ownerReferences"] =
        json!([cluster_reference("blue"), cluster_reference("thief")]);
    read(&mut seen);
    seen.named_after = seen.cluster.take();
    seen
}

fn decide(seen: &Facts) -> Decision {
    match seen.object.kind {
        SUBLET_CONTROL_PLANE => control_plane::decide(seen),
        _ => infrastructure::decide(seen),
    }
}

fn ends(cluster: &mut Option<Object>) {
    let cluster = cluster.as_mut().unwrap();
    cluster.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

/// Cluster API deletes what a Cluster names, whoever else names it.
#[test]
fn the_deletion_of_a_second_cluster_does_not_end_the_tenant_of_the_first() {
    for kind in [SUBLET_CONTROL_PLANE, SUBLET_CLUSTER] {
        let mut seen = going(owned_twice(kind));
        let held = decide(&seen);
        assert!(held.actions.is_empty(), "{held:?}");
        let (status, reason, message) = fact(&held, "Deleting");
        assert_eq!((status, reason.as_str()), ("True", "OwnedTwice"));
        assert!(message.contains("Cluster blue"), "{message}");

        // Somebody takes the second one's reference away: that ends nothing either.
        let patch = held.report.unwrap().patch(&seen).unwrap();
        let mut alone = seen.clone();
        alone.object.body["status"] = patch["status"].clone();
        alone.object.body["metadata"]["ownerReferences"] = json!([cluster_reference("blue")]);
        read(&mut alone);
        alone.cluster = alone.named_after.take();
        assert!(decide(&alone).actions.is_empty());
        ends(&mut alone.cluster);
        assert!(!decide(&alone).actions.is_empty());

        // It ends with its own Cluster.
        ends(&mut seen.named_after);
        assert!(!decide(&seen).actions.is_empty());
        seen.named_after = None;
        assert!(!decide(&seen).actions.is_empty());
    }
}

#[test]
fn one_that_runs_stays_available_whatever_is_wrong_around_it() {
    let cases: [(Change, &str); 5] = [
        (
            |seen| *seen = owned_twice(SUBLET_CONTROL_PLANE),
            "OwnedTwice",
        ),
        (
            |seen| {
                let named = json!("another");
                seen.cluster.as_mut().unwrap().body["spec"]["controlPlaneRef"]["name"] = named;
            },
            "NotNamed",
        ),
        (|seen| seen.other = None, "InfrastructureMissing"),
        (|seen| seen.cluster = None, "ClusterMissing"),
        (
            |seen| seen.object.body["spec"]["replicas"] = json!("two"),
            "SpecRefused",
        ),
    ];
    for (wrong, reason) in cases {
        let mut seen = comes_up();
        wrong(&mut seen);
        let decision = decide(&seen);
        assert!(decision.actions.is_empty(), "{reason}: {decision:?}");
        assert_eq!(fact(&decision, "Ready").1, reason);
        assert_eq!(fact(&decision, "Available").0, "True", "{reason}");
        assert_eq!(field(&decision, "readyReplicas"), Some(&json!(2)));
        assert_eq!(field(&decision, "version"), Some(&json!("v1.36.3")));
    }
}

#[test]
fn a_foreign_owner_of_the_tenant_is_no_reason_to_apply_it_anew() {
    let mut seen = comes_up();
    let vcp = &mut seen.tenant.as_mut().unwrap().object;
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": "foreign"});
    let owners = vcp.body["metadata"]["ownerReferences"].as_array_mut();
    owners.unwrap().insert(0, foreign);
    assert!(decide(&seen).actions.is_empty());
    let owners = &mut seen.tenant.as_mut().unwrap().object.body["metadata"]["ownerReferences"];
    owners.as_array_mut().unwrap().pop();
    assert!(matches!(decide(&seen).actions[..], [Action::Apply(_)]));
}

#[test]
fn the_pause_of_a_control_plane_alone_is_handed_to_the_manager_and_taken_off_again() {
    let mut seen = comes_up();
    seen.object.body["metadata"]["annotations"] = json!({"cluster.x-k8s.io/paused": ""});
    let change = |seen: &mut Facts| {
        let decision = decide(seen);
        let [Action::PatchTenant(_, patch)] = &decision.actions[..] else {
            panic!("{decision:?}");
        };
        let told = patch["metadata"]["annotations"]["cluster.x-k8s.io/paused"].clone();
        let vcp = &mut seen.tenant.as_mut().unwrap().object;
        vcp.body["metadata"]["annotations"]["cluster.x-k8s.io/paused"] = told.clone();
        told
    };
    assert!(change(&mut seen).is_string());
    assert_eq!(fact(&decide(&seen), "Paused").0, "True");

    let mut unpaused = seen.clone();
    unpaused.object.body["metadata"]["annotations"] = json!({});
    assert_eq!(change(&mut unpaused), Value::Null);
    // Or its deletion would wait for ever.
    let mut leaving = going(seen);
    leaving.object.body["metadata"]["annotations"] = json!({});
    assert_eq!(change(&mut leaving), Value::Null);
    assert!(matches!(decide(&leaving).actions[..], [Action::Delete(_)]));

    // A person's own pause of the tenant stays.
    let mut theirs = comes_up();
    let vcp = &mut theirs.tenant.as_mut().unwrap().object;
    vcp.body["metadata"]["annotations"]["cluster.x-k8s.io/paused"] = json!("mine");
    assert!(decide(&theirs).actions.is_empty());
}

#[test]
fn a_spec_that_a_pause_holds_back_does_not_count_as_seen() {
    let mut seen = comes_up();
    seen.object.body["status"] = json!({"observedGeneration": 2});
    seen.cluster.as_mut().unwrap().body["spec"]["paused"] = json!(true);
    let patch = decide(&seen).report.unwrap().patch(&seen).unwrap();
    assert_eq!(patch["status"]["observedGeneration"], 2);
    let paused = &patch["status"]["conditions"][0];
    assert_eq!(paused["observedGeneration"], 3, "the pause itself is");
}

#[test]
fn nothing_scales_up_while_the_tenant_sleeps_or_rolls_out_while_a_pod_is_not_ready() {
    let mut asleep = running();
    asleep["phase"] = json!("Sleeping");
    asleep["apiServers"]["replicas"] = json!(0);
    let conditions = asleep["conditions"].as_array_mut().unwrap();
    conditions.push(condition("Sleeping", "True", "Asleep"));
    let decision = settled(asleep);
    assert_eq!(fact(&decision, "ScalingUp").0, "False");
    assert_eq!(fact(&decision, "RollingOut").0, "False");

    // A change of the number of API servers that the manager hasn't seen yet rolls nothing out, another version does.
    let mut seen = comes_up();
    let vcp = &mut seen.tenant.as_mut().unwrap().vcp;
    vcp.metadata.generation = Some(9);
    assert_eq!(fact(&decide(&seen), "RollingOut").0, "False");
    seen.tenant.as_mut().unwrap().vcp.spec.version = Some("v1.37.0".into());
    seen.object.body["spec"]["version"] = json!("v1.36.3");
    assert_eq!(fact(&decide(&seen), "RollingOut").0, "True");
}

/// Whoever asks for the next minor version goes by it.
#[test]
fn a_version_is_shown_once_all_parts_run_it() {
    let mut status = running();
    status["version"] = json!("1.35.4");
    let decision = settled(status.clone());
    assert_eq!(field(&decision, "version"), Some(&json!("v1.35.4")));
    assert_eq!(
        field(&decision, "versions"),
        Some(
            &json!([{"version": "v1.35.4", "replicas": 0}, {"version": "v1.36.3", "replicas": 2}])
        )
    );
    status["version"] = json!("1.36.3");
    assert_eq!(field(&settled(status), "version"), Some(&json!("v1.36.3")));
}
