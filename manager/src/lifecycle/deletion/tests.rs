use super::*;
use crate::{
    decide::tests::seen_as,
    object::{CONFIG_MAP, DEPLOYMENT, NAMESPACE},
    spec::{
        claims::slice_claim,
        control_plane::tests::{owner, vcp},
    },
};
use api::{Condition, Phase, VirtualControlPlaneStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

const SYSTEM: &str = "sublet-system";

fn leaving() -> Seen {
    let mut vcp = vcp();
    vcp.metadata.finalizers = Some(vec![keys::FINALIZER.into()]);
    vcp.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    let mut seen = seen_as(vcp);
    seen.namespaces = vec![
        namespace("workload", "workload", None),
        namespace("cp", keys::ROLE_CONTROL_PLANE, None),
    ];
    seen.syncer_secret = Some(Object::new(
        SECRET,
        Some(SYSTEM),
        "tenant",
        json!({"metadata": {"uid": "s"}}),
    ));
    seen.route = Some(Object::new(
        CONFIG_MAP,
        Some(SYSTEM),
        "route",
        json!({"metadata": {"uid": "r", "labels": {keys::TENANT: owner().id.as_str()}}}),
    ));
    seen.slice_claims = vec![slice_claim(
        SYSTEM,
        "10.96.4.0/22".parse().unwrap(),
        &owner(),
    )];
    seen
}

fn namespace(name: &str, role: &str, going: Option<&str>) -> Object {
    let mut body = json!({"metadata": {"uid": name, "labels": {keys::ROLE: role}}});
    if let Some(message) = going {
        body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        body["status"]["conditions"] =
            json!([{"type": "NamespaceFinalizersRemaining", "status": "True", "message": message}]);
    }
    Object::new(NAMESPACE, None, name, body)
}

fn stopped(seen: &mut Seen) {
    let condition = Condition {
        type_: "Synced".into(),
        status: "False".into(),
        reason: "Stopped".into(),
        ..Condition::default()
    };
    seen.vcp.status = Some(VirtualControlPlaneStatus {
        conditions: vec![condition],
        ..Default::default()
    });
}

fn said(decision: &Decision) -> String {
    let actions: Vec<String> = decision
        .actions
        .iter()
        .map(|action| format!("{action:?}"))
        .collect();
    actions.join(", ")
}

#[test]
fn the_syncer_is_waited_for_but_not_for_ever() {
    let mut seen = leaving();
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty());
    assert_eq!(
        decision.report.message.unwrap(),
        "waiting for the syncer to stop, until 2026-01-01T00:00:30Z at most"
    );
    seen.now = "2026-01-01T00:00:30Z".parse().unwrap();
    assert_eq!(said(&decide(&seen, SYSTEM)), "Delete(Namespace workload)");
    let mut seen = leaving();
    stopped(&mut seen);
    assert_eq!(said(&decide(&seen, SYSTEM)), "Delete(Namespace workload)");
    seen = Seen {
        syncer_secret: None,
        ..leaving()
    };
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(Namespace workload)",
        "it never had the tenant"
    );
}

#[test]
fn workload_control_plane_secrets_claims_and_finalizer_go_in_this_order() {
    let mut seen = leaving();
    stopped(&mut seen);
    seen.namespaces[0] = namespace(
        "workload",
        "workload",
        Some("Some content has finalizers: x"),
    );
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty());
    assert_eq!(
        decision.report.message.unwrap(),
        "namespace workload: Some content has finalizers: x"
    );
    assert_eq!(decision.report.phase, Phase::Deleting);

    seen.namespaces.remove(0);
    seen.objects
        .insert(Object::new(POD, Some("cp"), "etcd-0", json!({})));
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(Namespace cp), EndPod(Pod cp/etcd-0)"
    );
    let going = vec![namespace("cp", keys::ROLE_CONTROL_PLANE, Some("x"))];
    seen.namespaces = going;
    assert!(
        decide(&seen, SYSTEM).actions.is_empty(),
        "its rights there may be gone by now"
    );
    seen.namespaces.clear();
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(Secret sublet-system/tenant), Delete(ConfigMap sublet-system/route)"
    );
    (seen.syncer_secret, seen.route) = (None, None);
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(ConfigMap sublet-system/slice-10-96-4-0)"
    );
    seen.slice_claims.clear();
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        format!(
            "Delete(ConfigMap sublet-system/claim-{}), Release",
            owner().id
        )
    );
}

#[test]
fn the_control_plane_ends_beside_namespaces_that_no_pod_runs_in_any_more() {
    let mut seen = leaving();
    stopped(&mut seen);
    seen.has_stopped = true;
    assert_eq!(said(&decide(&seen, SYSTEM)), "Delete(Namespace workload)");
    seen.namespaces[0] = namespace(
        "workload",
        "workload",
        Some("Some content has finalizers: x"),
    );
    let decision = decide(&seen, SYSTEM);
    assert_eq!(said(&decision), "Delete(Namespace cp)");
    let waits = decision.report.message.unwrap();
    assert!(waits.contains("namespace workload"), "{waits}");
    seen.has_stopped = false;
    assert_eq!(said(&decide(&seen, SYSTEM)), "", "its pods come first");

    // Of a Cluster the processes alone, and not before all is gone has it ended.
    seen.has_stopped = true;
    let held = [keys::INFRASTRUCTURE_FINALIZER, keys::FINALIZER].map(str::to_owned);
    seen.vcp.metadata.finalizers = Some(held.into());
    let main = Object::new(DEPLOYMENT, Some("cp"), "kube-apiserver", json!({}));
    seen.objects = [main].into_iter().collect();
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(Deployment cp/kube-apiserver)"
    );
    seen.objects = crate::object::Objects::default();
    let facts = decide(&seen, SYSTEM).report.conditions;
    assert!(!facts.iter().any(|fact| fact.reason == crate::status::ENDED));
}

#[test]
fn a_deletion_is_watched_closely_and_one_that_takes_long_is_not() {
    let mut seen = leaving();
    stopped(&mut seen);
    seen.namespaces = vec![namespace("workload", "workload", Some("x"))];
    let again = |seen: &Seen| crate::decide::decide(seen, SYSTEM).report.again.as_secs();
    assert_eq!(again(&seen), 1);
    seen.now = "2026-01-01T00:01:31Z".parse().unwrap();
    assert_eq!(again(&seen), 10);
}

#[test]
fn a_foreign_secret_under_the_kubeconfigs_name_stays() {
    let mut seen = leaving();
    stopped(&mut seen);
    seen.namespaces.clear();
    (seen.syncer_secret, seen.route) = (None, None);
    seen.slice_claims.clear();
    seen.user_secret = Some(Object::new(
        SECRET,
        Some("tenants"),
        "acme-kubeconfig",
        json!({}),
    ));
    assert!(said(&decide(&seen, SYSTEM)).ends_with("Release"));
}

#[test]
fn nothing_is_touched_for_one_that_never_had_its_identity() {
    let seen = Seen {
        standing: Standing::Theirs {
            holder: "a/b".into(),
        },
        ..leaving()
    };
    assert_eq!(said(&decide(&seen, SYSTEM)), "Release");
    let mut seen = leaving();
    seen.owner = None;
    assert_eq!(said(&decide(&seen, SYSTEM)), "Release");
}

#[test]
fn a_claim_that_got_lost_is_made_again_before_anything_is_deleted() {
    let free = Seen {
        standing: Standing::Free,
        claim: None,
        ..leaving()
    };
    assert!(said(&decide(&free, SYSTEM)).starts_with("Create(ConfigMap sublet-system/claim-"));
    let movable = Seen {
        standing: Standing::Movable,
        ..leaving()
    };
    assert!(said(&decide(&movable, SYSTEM)).starts_with("Replace(ConfigMap sublet-system/claim-"));
}

/// A tenant that is a Cluster: its infrastructure is deleted after its control plane.
#[test]
fn until_its_place_lets_go_a_tenant_keeps_keys_and_addresses() {
    let mut seen = leaving();
    stopped(&mut seen);
    seen.namespaces.remove(0);
    let finalizers = vec![
        keys::INFRASTRUCTURE_FINALIZER.to_owned(),
        keys::FINALIZER.to_owned(),
    ];
    seen.vcp.metadata.finalizers = Some(finalizers);
    let pod = |grace: Option<u32>| {
        let mut body = json!({"metadata": {"uid": "p"}});
        if let Some(grace) = grace {
            body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
            body["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        }
        Object::new(POD, Some("cp"), "kube-apiserver-0", body)
    };
    let main = Object::new(DEPLOYMENT, Some("cp"), "kube-apiserver", json!({}));
    seen.objects = [main, pod(None)].into_iter().collect();
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "Delete(Secret sublet-system/tenant), Delete(ConfigMap sublet-system/route), \
         Delete(Deployment cp/kube-apiserver)"
    );

    // A pod is hurried when the garbage collector has come to it, not before.
    (seen.syncer_secret, seen.route) = (None, None);
    seen.objects = [pod(None)].into_iter().collect();
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty());
    assert_eq!(
        decision.report.message.unwrap(),
        "waiting for 1 pods of the control plane to end: kube-apiserver-0"
    );
    seen.objects = [pod(Some(5))].into_iter().collect();
    assert_eq!(
        said(&decide(&seen, SYSTEM)),
        "EndPod(Pod cp/kube-apiserver-0)"
    );
    seen.objects = [pod(Some(1))].into_iter().collect();
    assert!(decide(&seen, SYSTEM).actions.is_empty());

    // Pods of a Job stay when they have ended, until it goes.
    let snapshot = Object::new(JOB, Some("cp"), "snapshot-a", json!({}));
    let labels = json!({"batch.kubernetes.io/job-name": "snapshot-a"});
    let body = json!({"metadata": {"labels": labels}, "status": {"phase": "Succeeded"}});
    let its = Object::new(POD, Some("cp"), "snapshot-a-x", body);
    assert!(of_a_job(&its) && !of_a_job(&pod(None)));
    seen.objects = [snapshot, its].into_iter().collect();
    assert_eq!(said(&decide(&seen, SYSTEM)), "Delete(Job cp/snapshot-a)");

    seen.objects = crate::object::Objects::default();
    let ended = decide(&seen, SYSTEM);
    assert!(ended.actions.is_empty());
    let said_of = |kind: &str| {
        let mut facts = ended.report.conditions.iter();
        facts.find(|fact| fact.kind == kind).unwrap()
    };
    assert_eq!(said_of("ControlPlaneReady").reason, crate::status::ENDED);

    seen.vcp.metadata.finalizers = Some(vec![keys::FINALIZER.into()]);
    assert_eq!(said(&decide(&seen, SYSTEM)), "Delete(Namespace cp)");
}
