use super::*;
use crate::{
    capi::{facts::Tenant, report::Fact},
    object::{CLUSTER, VIRTUAL_CONTROL_PLANE},
};
use api::{VirtualControlPlane, capi::BLOCK_MOVE, keys};
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;

const IDENTITY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";

fn cluster_reference(name: &str) -> Value {
    json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": name, "uid": name})
}

fn facts(kind: Kind, spec: Value) -> Facts {
    let body = json!({
        "metadata": {
            "uid": "own", "resourceVersion": "7", "generation": 3, "finalizers": [FINALIZER],
            "ownerReferences": [cluster_reference("blue")],
        },
        "spec": spec,
    });
    let name = if kind == SUBLET_CLUSTER {
        "blue-place"
    } else {
        "blue-x7k2p"
    };
    let object = Object::new(kind, Some("ns"), name, body);
    let cluster = json!({"spec": {
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "SubletCluster", "name": "blue-place"},
        "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "SubletControlPlane", "name": "blue-x7k2p"},
    }});
    let mut seen = Facts {
        metadata: Default::default(),
        object,
        cluster: Some(Object::new(CLUSTER, Some("ns"), "blue", cluster)),
        other: None,
        tenant: None,
        named_after: None,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    read(&mut seen);
    seen
}

/// Brings the typed metadata up to the object's.
fn read(seen: &mut Facts) {
    seen.metadata = serde_json::from_value(seen.object.body["metadata"].clone()).unwrap();
}

fn place(identity: Option<&str>) -> Object {
    let mut spec = json!({"dns": "none"});
    if let Some(identity) = identity {
        spec["identity"] = json!(identity);
    }
    let body = json!({"metadata": {"uid": "place"}, "spec": spec});
    Object::new(SUBLET_CLUSTER, Some("ns"), "blue-place", body)
}

fn control_plane() -> Facts {
    let spec = json!({"version": "v1.36.3", "replicas": 2, "className": "gold"});
    Facts {
        other: Some(place(Some(IDENTITY))),
        ..facts(SUBLET_CONTROL_PLANE, spec)
    }
}

fn infrastructure() -> Facts {
    facts(SUBLET_CLUSTER, json!({"identity": IDENTITY}))
}

fn tenant(object: &Object, status: Value) -> Tenant {
    let mut object = object.clone();
    object.body["status"] = status;
    object.body["metadata"]["uid"] = json!("vcp");
    Tenant {
        vcp: serde_json::from_value(object.body.clone()).unwrap(),
        object,
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn running() -> Value {
    json!({
        "phase": "Ready", "endpoint": "https://192.0.2.1:40443",
        "apiServers": {
            "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "upToDateReplicas": 2, "rolledOut": true,
            "versions": [{"version": "1.36.3", "replicas": 2}],
        },
        "conditions": [
            condition("ControlPlaneReady", "True", "Answers"),
            condition("EtcdReady", "True", "MembersReady"),
            condition("Ready", "True", "Ready"),
            condition("CertificatesAvailable", "True", "Issued"),
        ],
    })
}

/// A control plane with its VirtualControlPlane in that state.
fn with_tenant(status: Value) -> Facts {
    let seen = control_plane();
    let wanted = wanted(&seen);
    Facts {
        tenant: Some(tenant(&wanted, status)),
        ..seen
    }
}

/// A control plane that runs and has nothing left to do.
pub(super) fn comes_up() -> Facts {
    let mut seen = with_tenant(running());
    seen.object.body["spec"]["controlPlaneEndpoint"] = json!({"host": "192.0.2.1", "port": 40443});
    seen
}

/// The place of one.
pub(super) fn is_kept() -> Facts {
    Facts {
        tenant: Some(tenant(&wanted(&control_plane()), running())),
        ..infrastructure()
    }
}

fn wanted(seen: &Facts) -> Object {
    match &control_plane::decide(seen).actions[..] {
        [Action::Apply(object)] => object.clone(),
        other => panic!("{other:?}"),
    }
}

fn going(mut seen: Facts) -> Facts {
    seen.object.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    read(&mut seen);
    seen
}

fn fact(decision: &Decision, kind: &str) -> (&'static str, String, String) {
    let report = decision.report.as_ref().expect("something is said");
    let fact: &Fact = report
        .conditions
        .iter()
        .find(|fact| fact.kind == kind)
        .expect(kind);
    (fact.status, fact.reason.clone(), fact.message.clone())
}

fn field<'a>(decision: &'a Decision, name: &str) -> Option<&'a Value> {
    let report = decision.report.as_ref()?;
    let field = report.fields.iter().find(|(field, _)| *field == name)?;
    Some(&field.1)
}

#[test]
fn issuers_that_a_control_plane_names_are_the_tenants() {
    let mut seen = control_plane();
    let jwt = json!([{
        "issuer": {"url": "https://login.example.com", "audiences": ["kubernetes"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
    }]);
    seen.object.body["spec"]["authentication"] = json!({"jwt": jwt});
    let vcp = wanted(&seen);
    assert_eq!(vcp.body["spec"]["authentication"], json!({"jwt": jwt}));
}

#[test]
fn the_tenant_is_named_after_the_cluster_and_has_identity_settings_and_both_owners() {
    let vcp = wanted(&control_plane());
    assert_eq!((vcp.kind, vcp.name()), (VIRTUAL_CONTROL_PLANE, "blue"));
    let spec = &vcp.body["spec"];
    assert_eq!(
        *spec,
        json!({
            "identity": IDENTITY, "version": "v1.36.3", "replicas": 2, "className": "gold", "network": {"dns": "none"},
        })
    );
    assert_eq!(vcp.label("cluster.x-k8s.io/cluster-name"), Some("blue"));
    let owners: Vec<&str> = vcp
        .items("/metadata/ownerReferences")
        .iter()
        .map(|owner| owner["kind"].as_str().unwrap())
        .collect();
    assert_eq!(owners, ["SubletControlPlane", "SubletCluster"]);
    assert_eq!(
        vcp.body["metadata"]["finalizers"],
        json!([keys::INFRASTRUCTURE_FINALIZER])
    );
    serde_json::from_value::<VirtualControlPlane>(vcp.body.clone()).unwrap();
}

/// Pitfall 14, for both kinds; and 13: one that was paused from the start has its finalizer too.
#[test]
fn the_finalizer_comes_before_anything_else() {
    for (mut seen, decide) in [
        (
            control_plane(),
            control_plane::decide as fn(&Facts) -> Decision,
        ),
        (infrastructure(), infrastructure::decide),
    ] {
        seen.object.body["metadata"]["finalizers"] = json!(["foreign"]);
        seen.object.body["metadata"]["annotations"] = json!({"cluster.x-k8s.io/paused": ""});
        read(&mut seen);
        let decision = decide(&seen);
        let [Action::Patch(patch)] = &decision.actions[..] else {
            panic!("{decision:?}");
        };
        assert_eq!(
            patch["metadata"]["finalizers"],
            json!(["foreign", FINALIZER])
        );
    }
}

#[test]
fn a_move_waits_until_all_is_written_down_or_nothing_is_written_any_more() {
    let held = |mut seen: Facts| {
        seen.object.body["metadata"]["annotations"] = json!({BLOCK_MOVE: ""});
        read(&mut seen);
        seen
    };
    let lets_go = |decision: &Decision| {
        let free = json!({"metadata": {"annotations": {BLOCK_MOVE: null}}});
        matches!(&decision.actions[..], [Action::Patch(patch)] if *patch == free)
    };
    let paused = |mut seen: Facts| {
        seen.cluster.as_mut().unwrap().body["spec"]["paused"] = json!(true);
        seen
    };
    let mut both = [
        (
            control_plane(),
            control_plane::decide as fn(&Facts) -> Decision,
        ),
        (infrastructure(), infrastructure::decide),
    ];
    for (seen, decide) in &mut both {
        seen.object.body["metadata"]["finalizers"] = json!([]);
        read(seen);
        let decision = decide(seen);
        let [Action::Patch(patch)] = &decision.actions[..] else {
            panic!("{decision:?}");
        };
        assert_eq!(patch["metadata"]["annotations"][BLOCK_MOVE], "");
        let decision = decide(&paused(seen.clone()));
        let [Action::Patch(patch)] = &decision.actions[..] else {
            panic!("{decision:?}");
        };
        assert_eq!(patch["metadata"]["annotations"], Value::Null);
    }

    let comes = held(with_tenant(json!({"phase": "Provisioning"})));
    assert!(control_plane::decide(&comes).actions.is_empty());
    let mut endpoint = held(with_tenant(running()));
    let actions = control_plane::decide(&endpoint).actions;
    assert!(
        matches!(&actions[..], [Action::Patch(patch)] if patch["spec"].is_object()),
        "{actions:?}"
    );
    endpoint = held(comes_up());
    assert!(lets_go(&control_plane::decide(&endpoint)));
    assert!(
        infrastructure::decide(&held(infrastructure()))
            .actions
            .is_empty()
    );
    assert!(lets_go(&infrastructure::decide(&held(is_kept()))));

    // The manager may still be at work on the tenant.
    assert!(control_plane::decide(&paused(comes)).actions.is_empty());
    let mut still = comes_up();
    still.tenant = Some(tenant(
        &wanted(&control_plane()),
        json!({"phase": "Paused"}),
    ));
    assert!(lets_go(&control_plane::decide(&paused(held(still)))));
    assert!(lets_go(&control_plane::decide(&paused(held(
        control_plane()
    )))));
    assert!(lets_go(&infrastructure::decide(&paused(held(
        infrastructure()
    )))));
}

/// Pitfalls 6 and 10, and what else keeps a control plane from beginning: each is told, and nothing is done.
#[test]
fn what_is_missing_or_wrong_is_told_by_a_condition() {
    let change = |change: fn(&mut Facts)| {
        let mut seen = control_plane();
        change(&mut seen);
        read(&mut seen);
        seen
    };
    let cases = [
        (
            change(|seen| seen.object.body["metadata"]["ownerReferences"] = json!([])),
            "WaitingForCluster",
            "no Cluster owns this object",
        ),
        (
            change(|seen| {
                seen.object.body["metadata"]["ownerReferences"] =
                    json!([cluster_reference("blue"), cluster_reference("red")]);
            }),
            "OwnedTwice",
            "Clusters blue, red all name this object",
        ),
        (
            change(|seen| seen.cluster = None),
            "ClusterMissing",
            "Cluster blue owns this object and doesn't exist",
        ),
        (
            change(|seen| {
                let cluster = seen.cluster.as_mut().unwrap();
                cluster.body["spec"]["infrastructureRef"]["kind"] = json!("DockerCluster");
            }),
            "InfrastructureMissing",
            "Cluster blue names no SubletCluster in spec.infrastructureRef",
        ),
        (
            change(|seen| seen.other = None),
            "InfrastructureMissing",
            "waiting for SubletCluster blue-place",
        ),
        (
            change(|seen| seen.other = Some(place(None))),
            "WaitingForInfrastructure",
            "to get an identity",
        ),
        (
            change(|seen| {
                seen.object.body["metadata"]["ownerReferences"] =
                    json!([cluster_reference("9blue")]);
            }),
            "NameRefused",
            "Cluster 9blue can't be a tenant",
        ),
        (
            change(|seen| {
                let mut foreign = wanted(seen);
                foreign.body["spec"]["identity"] = json!("b".repeat(26));
                foreign.body["metadata"]["ownerReferences"] = json!([]);
                seen.tenant = Some(tenant(&foreign, json!({})));
            }),
            "NameTaken",
            "VirtualControlPlane blue exists and isn't this Cluster's",
        ),
        (
            change(|seen| {
                let mut leaving = wanted(seen);
                leaving.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                seen.tenant = Some(tenant(&leaving, json!({})));
            }),
            "TenantDeleted",
            "is being deleted by somebody else",
        ),
    ];
    for (seen, reason, words) in cases {
        let decision = control_plane::decide(&seen);
        assert!(decision.actions.is_empty(), "{reason}: {decision:?}");
        let (status, told, message) = fact(&decision, "Available");
        assert_eq!((status, told.as_str()), ("False", reason));
        assert!(message.contains(words), "{message}");
        assert_eq!(fact(&decision, "Paused").0, "False");
        assert_eq!(field(&decision, "replicas"), Some(&json!(0)), "{reason}");
        assert_eq!(field(&decision, "initialization"), None);
    }
}

#[test]
fn an_infrastructure_cluster_tells_what_it_lacks() {
    let mut alone = infrastructure();
    alone.object.body["metadata"]["ownerReferences"] = json!([]);
    read(&mut alone);
    assert_eq!(
        fact(&infrastructure::decide(&alone), "Ready").1,
        "WaitingForCluster"
    );
    let waiting = infrastructure::decide(&infrastructure());
    assert_eq!(fact(&waiting, "Ready").1, "WaitingForControlPlane");
    let mut headless = infrastructure();
    headless.cluster.as_mut().unwrap().body["spec"] = json!({});
    assert_eq!(
        fact(&infrastructure::decide(&headless), "Ready").1,
        "ControlPlaneMissing"
    );
    assert_eq!(field(&waiting, "initialization"), None);
}

#[test]
fn a_super_cluster_is_handed_on_and_told_of_when_it_is_dead() {
    let super_cluster = json!({"kubeconfigSecretRef": {"name": "west", "key": "value"}});
    let mut seen = control_plane();
    seen.other.as_mut().unwrap().body["spec"]["superCluster"] = super_cluster.clone();
    let vcp = wanted(&seen);
    assert_eq!(vcp.body["spec"]["superCluster"], super_cluster);
    serde_json::from_value::<VirtualControlPlane>(vcp.body.clone()).unwrap();
    let mut status = running();
    let dead = [
        condition("SuperClusterReachable", "False", "SuperClusterUnreachable"),
        condition("Ready", "False", "SuperClusterUnreachable"),
    ];
    status["conditions"].as_array_mut().unwrap().extend(dead);
    let place = Facts {
        tenant: Some(tenant(&vcp, status)),
        ..infrastructure()
    };
    assert_eq!(
        fact(&infrastructure::decide(&place), "Ready").1,
        "SuperClusterUnreachable"
    );
}

#[test]
fn an_identity_is_given_once_and_the_slice_is_written_down() {
    let nameless = facts(SUBLET_CLUSTER, json!({}));
    assert!(matches!(
        infrastructure::decide(&nameless).actions[..],
        [Action::Identify]
    ));
    let mut vcp = wanted(&control_plane());
    vcp.body["spec"]["network"]["serviceCIDR"] = json!("10.96.4.0/22");
    let seen = Facts {
        tenant: Some(tenant(&vcp, json!({}))),
        ..infrastructure()
    };
    let decision = infrastructure::decide(&seen);
    let [Action::Patch(patch)] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(*patch, json!({"spec": {"serviceCIDR": "10.96.4.0/22"}}));
}

/// Pitfall 8: Cluster API connects once infrastructure is provisioned, and waits long when nobody answers.
#[test]
fn infrastructure_is_provisioned_when_the_tenant_answers_and_stays_so() {
    let vcp = wanted(&control_plane());
    let with = |status: Value| Facts {
        tenant: Some(tenant(&vcp, status)),
        ..infrastructure()
    };
    let starting = infrastructure::decide(&with(json!({"message": "waiting for pod etcd-0"})));
    assert_eq!(fact(&starting, "Ready").2, "waiting for pod etcd-0");
    assert_eq!(field(&starting, "initialization"), None);
    let provisioned = infrastructure::decide(&with(running()));
    assert_eq!(
        field(&provisioned, "initialization"),
        Some(&json!({"provisioned": true}))
    );
    assert_eq!(fact(&provisioned, "Ready").0, "True");
    let mut later =
        with(json!({"conditions": [condition("ControlPlaneReady", "False", "PodsNotReady")]}));
    later.object.body["status"] = json!({"initialization": {"provisioned": true}});
    assert_eq!(
        field(&infrastructure::decide(&later), "initialization"),
        Some(&json!({"provisioned": true}))
    );
}

/// Pitfalls 11 and 16: once, into the spec, and never changed.
#[test]
fn the_endpoint_is_written_once_and_a_change_is_told() {
    let seen = with_tenant(running());
    let decision = control_plane::decide(&seen);
    let [Action::Patch(patch)] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(
        *patch,
        json!({"spec": {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 40443}}})
    );
    let mut written = seen;
    written.object.body["spec"]["controlPlaneEndpoint"] =
        patch["spec"]["controlPlaneEndpoint"].clone();
    let decision = control_plane::decide(&written);
    assert_eq!(
        fact(&decision, "Available"),
        ("True", "Answers".into(), String::new())
    );
    written
        .tenant
        .as_mut()
        .unwrap()
        .vcp
        .status
        .as_mut()
        .unwrap()
        .endpoint = Some("https://192.0.2.9:40443".into());
    let decision = control_plane::decide(&written);
    assert!(decision.actions.is_empty());
    let (status, _, message) = fact(&decision, "Available");
    assert_eq!(status, "True");
    assert!(message.contains("192.0.2.9:40443"), "{message}");
}

fn settled(status: Value) -> Decision {
    let mut seen = with_tenant(status);
    seen.object.body["spec"]["controlPlaneEndpoint"] = json!({"host": "192.0.2.1", "port": 40443});
    control_plane::decide(&seen)
}

/// Pitfalls 12 and 3, and the counts: zeros are written.
#[test]
fn the_status_has_all_that_the_contract_asks_for() {
    let decision = settled(running());
    let fields: serde_json::Map<String, Value> = decision
        .report
        .clone()
        .unwrap()
        .fields
        .into_iter()
        .map(|(field, value)| (field.to_owned(), value))
        .collect();
    assert_eq!(
        Value::from(fields.clone()),
        json!({
            "initialization": {"controlPlaneInitialized": true},
            "version": "v1.36.3", "versions": [{"version": "v1.36.3", "replicas": 2}],
            "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "upToDateReplicas": 2,
            "selector": format!("sublet.dev/tenant={IDENTITY},app.kubernetes.io/name=kube-apiserver"),
            "externalManagedControlPlane": true,
        })
    );
    let status: api::capi::SubletControlPlaneStatus =
        serde_json::from_value(fields.into()).unwrap();
    assert_eq!(status.replicas, Some(2));
    for (kind, status) in [
        ("Available", "True"),
        ("Ready", "True"),
        ("CertificatesAvailable", "True"),
        ("EtcdClusterAvailable", "True"),
        ("RollingOut", "False"),
        ("ScalingUp", "False"),
        ("ScalingDown", "False"),
        ("Deleting", "False"),
        ("Paused", "False"),
    ] {
        assert_eq!(fact(&decision, kind).0, status, "{kind}");
    }
    let starting = settled(json!({"message": "waiting for pod etcd-0"}));
    assert_eq!(field(&starting, "initialization"), None);
    assert_eq!(field(&starting, "version"), None);
    assert_eq!(field(&starting, "readyReplicas"), Some(&json!(0)));
    assert_eq!(fact(&starting, "Available").2, "waiting for pod etcd-0");
}

#[test]
fn an_upgrade_shows_the_lowest_version_and_rolls_out_until_the_last_pod_of_it_is_gone() {
    let mut status = running();
    status["apiServers"]["versions"] =
        json!([{"version": "1.35.4", "replicas": 1}, {"version": "1.36.3", "replicas": 1}]);
    status["apiServers"]["rolledOut"] = json!(false);
    status["apiServers"]["replicas"] = json!(3);
    let decision = settled(status);
    assert_eq!(field(&decision, "version"), Some(&json!("v1.35.4")));
    assert_eq!(fact(&decision, "RollingOut").0, "True");
    assert_eq!(
        fact(&decision, "ScalingDown").0,
        "False",
        "the third one is there for the roll-out"
    );
    let mut refused = running();
    refused["phase"] = json!("Failed");
    refused["message"] = json!("ControlPlaneClass gold doesn't offer version 1.40");
    refused["conditions"][2] = condition("Ready", "False", "VersionNotOffered");
    let decision = settled(refused);
    assert_eq!(fact(&decision, "Available").0, "True");
    let (status, reason, message) = fact(&decision, "Ready");
    assert_eq!((status, reason.as_str()), ("False", "VersionNotOffered"));
    assert!(message.contains("doesn't offer version 1.40"), "{message}");
    assert_eq!(fact(&decision, "RollingOut").1, "Refused");
    let mut rolled_back = running();
    rolled_back["phase"] = json!("Failed");
    rolled_back["apiServers"]["rolledOut"] = json!(false);
    assert_eq!(fact(&settled(rolled_back), "RollingOut").0, "True");
}

#[test]
fn a_controller_manager_that_is_replaced_takes_no_answer_away() {
    let mut status = running();
    status["conditions"][0] = condition("ControlPlaneReady", "False", "PodsNotReady");
    let conditions = status["conditions"].as_array_mut().unwrap();
    conditions.push(condition("APIServerReady", "True", "Answers"));
    let mut seen = comes_up();
    seen.tenant = Some(tenant(&wanted(&control_plane()), status));
    let available = |seen: &Facts| fact(&control_plane::decide(seen), "Available").0;
    assert_eq!(available(&seen), "False", "it comes up as a whole");
    seen.object.body["status"] = json!({"initialization": {"controlPlaneInitialized": true}});
    assert_eq!(available(&seen), "True");
}

#[test]
fn a_version_without_its_v_gets_it() {
    let mut seen = comes_up();
    seen.object.body["spec"]["version"] = json!("1.36.3");
    let decision = control_plane::decide(&seen);
    let [Action::Patch(patch)] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(*patch, json!({"spec": {"version": "v1.36.3"}}));
}

#[test]
fn a_pause_is_told_of_what_no_cluster_owns_too() {
    for mut seen in [control_plane(), infrastructure()] {
        seen.object.body["metadata"]["ownerReferences"] = json!([]);
        seen.object.body["metadata"]["annotations"] = json!({api::capi::PAUSED: ""});
        read(&mut seen);
        let decide = match seen.object.kind.kind {
            "SubletCluster" => infrastructure::decide,
            _ => control_plane::decide,
        };
        let decision = decide(&seen);
        assert_eq!(fact(&decision, "Paused").0, "True");
        assert_eq!(fact(&decision, "Ready").1, "WaitingForCluster");
    }
}

#[test]
fn scaling_is_told_by_pods_against_the_spec() {
    let mut status = running();
    status["apiServers"]["replicas"] = json!(1);
    assert_eq!(fact(&settled(status.clone()), "ScalingUp").0, "True");
    status["apiServers"]["replicas"] = json!(3);
    assert_eq!(fact(&settled(status), "ScalingDown").0, "True");
}

/// Pitfall 13, and that a pause holds while deleting.
#[test]
fn what_is_paused_is_left_alone_also_while_it_is_deleted_and_says_so() {
    for (seen, decide) in [
        (
            with_tenant(running()),
            control_plane::decide as fn(&Facts) -> Decision,
        ),
        (infrastructure(), infrastructure::decide),
    ] {
        let mut by_cluster = seen.clone();
        by_cluster.cluster.as_mut().unwrap().body["spec"]["paused"] = json!(true);
        let mut by_annotation = seen;
        by_annotation.object.body["metadata"]["annotations"] =
            json!({"cluster.x-k8s.io/paused": ""});
        if let Some(tenant) = &mut by_annotation.tenant {
            let annotations = &mut tenant.object.body["metadata"]["annotations"];
            annotations["cluster.x-k8s.io/paused"] = json!("handed on");
        }
        for paused in [by_cluster, by_annotation] {
            for seen in [paused.clone(), going(paused)] {
                let decision = decide(&seen);
                assert!(decision.actions.is_empty(), "{decision:?}");
                let (status, reason, _) = fact(&decision, "Paused");
                assert_eq!((status, reason.as_str()), ("True", "Paused"));
            }
        }
    }
}

/// Pitfall 15: the control plane ends with its own finalizer, keys and addresses with the SubletCluster's.
#[test]
fn a_deletion_takes_the_control_plane_first_and_its_place_last() {
    let seen = going(with_tenant(running()));
    assert!(matches!(
        control_plane::decide(&seen).actions[..],
        [Action::Delete(_)]
    ));

    let mut leaving = seen;
    let vcp = leaving.tenant.as_mut().unwrap();
    let mut object = vcp.object.clone();
    object.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object.body["metadata"]["finalizers"] =
        json!([keys::INFRASTRUCTURE_FINALIZER, keys::FINALIZER]);
    *vcp = tenant(
        &object,
        json!({"message": "waiting for the syncer to stop"}),
    );
    let decision = control_plane::decide(&leaving);
    assert!(decision.actions.is_empty());
    assert_eq!(
        fact(&decision, "Deleting").2,
        "waiting for the syncer to stop"
    );

    let ended = tenant(
        &object,
        json!({"conditions": [condition("ControlPlaneReady", "False", "Ended")]}),
    );
    leaving.tenant = Some(ended.clone());
    assert!(matches!(
        control_plane::decide(&leaving).actions[..],
        [Action::Release]
    ));

    // Now the place.
    let mut place = going(infrastructure());
    place.tenant = Some(ended);
    place.other = Some(leaving.object);
    let decision = infrastructure::decide(&place);
    assert!(decision.actions.is_empty());
    assert!(
        fact(&decision, "Deleting")
            .2
            .contains("SubletControlPlane blue-x7k2p to go first")
    );
    place.other = None;
    let decision = infrastructure::decide(&place);
    let [Action::PatchTenant(_, patch)] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(patch["metadata"]["finalizers"], json!([keys::FINALIZER]));
    place.tenant = None;
    assert!(matches!(
        infrastructure::decide(&place).actions[..],
        [Action::Release]
    ));
}

#[test]
fn what_never_had_a_cluster_or_a_tenant_of_its_own_just_goes() {
    let mut alone = going(control_plane());
    alone.object.body["metadata"]["ownerReferences"] = json!([]);
    read(&mut alone);
    assert!(matches!(
        control_plane::decide(&alone).actions[..],
        [Action::Release]
    ));
    // A VirtualControlPlane of another is not touched.
    let mut foreign = wanted(&control_plane());
    foreign.body["spec"]["identity"] = json!("b".repeat(26));
    foreign.body["metadata"]["ownerReferences"] = json!([]);
    let beside = Facts {
        tenant: Some(tenant(&foreign, json!({}))),
        ..going(control_plane())
    };
    assert!(matches!(
        control_plane::decide(&beside).actions[..],
        [Action::Release]
    ));
    let beside = Facts {
        tenant: Some(tenant(&foreign, json!({}))),
        ..going(infrastructure())
    };
    assert!(matches!(
        infrastructure::decide(&beside).actions[..],
        [Action::Release]
    ));
}

#[test]
fn an_externally_managed_infrastructure_cluster_is_not_touched() {
    for field in ["labels", "annotations"] {
        let mut seen = facts(SUBLET_CLUSTER, json!({}));
        seen.object.body["metadata"][field] = json!({"cluster.x-k8s.io/managed-by": "somebody"});
        let decision = infrastructure::decide(&seen);
        assert!(decision.actions.is_empty() && decision.report.is_none());
    }
}

/// What only we take off isn't put on where we touch nothing.
#[test]
fn a_tenant_whose_place_is_managed_elsewhere_is_held_by_nothing_of_ours() {
    let managed = |identity| {
        let mut place = place(identity);
        place.body["metadata"]["labels"] = json!({"cluster.x-k8s.io/managed-by": "somebody"});
        place
    };
    let mut seen = control_plane();
    assert_eq!(
        wanted(&seen).items("/metadata/finalizers"),
        [json!(keys::INFRASTRUCTURE_FINALIZER)]
    );
    seen.other = Some(managed(None));
    let (_, reason, message) = fact(&control_plane::decide(&seen), "Available");
    assert_eq!(reason, "WaitingForInfrastructure");
    assert!(message.contains("is managed by somebody else"), "{message}");
    seen.other = Some(managed(Some(IDENTITY)));
    assert!(wanted(&seen).items("/metadata/finalizers").is_empty());

    // One that was ours before lets go with its control plane.
    let mut leaving = going(with_tenant(running()));
    leaving.other = seen.other;
    let decision = control_plane::decide(&leaving);
    let [Action::PatchTenant(_, patch)] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(patch["metadata"]["finalizers"], json!([]));
    let vcp = &mut leaving.tenant.as_mut().unwrap().object;
    vcp.body["metadata"]["finalizers"] = json!([]);
    assert!(matches!(
        control_plane::decide(&leaving).actions[..],
        [Action::Delete(_)]
    ));
}

#[test]
fn after_a_move_the_tenant_is_taken_up_by_its_identity_under_new_uids() {
    let mut seen = with_tenant(running());
    seen.object.body["metadata"]["uid"] = json!("new");
    seen.object.body["spec"]["controlPlaneEndpoint"] = json!({"host": "192.0.2.1", "port": 40443});
    let again = wanted(&seen);
    assert_eq!(again.body["metadata"]["ownerReferences"][0]["uid"], "new");
    assert_eq!(again.body["spec"]["identity"], IDENTITY);
    seen.tenant = Some(tenant(&again, running()));
    let decision = control_plane::decide(&seen);
    assert!(decision.actions.is_empty());
    assert_eq!(
        field(&decision, "initialization"),
        Some(&json!({"controlPlaneInitialized": true}))
    );
}

#[test]
fn a_status_that_says_it_already_is_not_written_again() {
    let mut seen = with_tenant(running());
    seen.object.body["spec"]["controlPlaneEndpoint"] = json!({"host": "192.0.2.1", "port": 40443});
    let report = control_plane::decide(&seen).report.unwrap();
    let patch = report.patch(&seen).expect("nothing was said yet");
    seen.object.body["status"] = patch["status"].clone();
    assert_eq!(report.patch(&seen), None);
    assert_eq!(patch["status"]["observedGeneration"], 3);
}

#[test]
fn zones_of_the_super_cluster_become_failure_domains() {
    let zones = json!([{"name": "a", "controlPlane": true, "attributes": {"region": "west"}}]);
    let told = |status: Value| {
        let seen = Facts {
            tenant: Some(tenant(&wanted(&control_plane()), status)),
            ..infrastructure()
        };
        field(&infrastructure::decide(&seen), "failureDomains").cloned()
    };
    let mut status = running();
    status["failureDomains"] = zones.clone();
    assert_eq!(told(status), Some(zones.clone()));
    let status: api::capi::SubletClusterStatus =
        serde_json::from_value(json!({"failureDomains": zones})).unwrap();
    assert_eq!(status.failure_domains[0].control_plane, Some(true));
    // Nodes without zones: the field goes; as long as nothing is known it stays as it is.
    assert_eq!(told(running()), Some(Value::Null));
    let nothing_known = infrastructure::decide(&infrastructure());
    assert_eq!(field(&nothing_known, "failureDomains"), None);
}

/// Its deletion must not end the tenant of the one that the Cluster names.
#[test]
fn an_object_that_its_cluster_does_not_name_says_so_and_takes_nothing_along() {
    for (mut seen, reference) in [
        (with_tenant(running()), "controlPlaneRef"),
        (is_kept(), "infrastructureRef"),
    ] {
        let other = json!("another");
        seen.cluster.as_mut().unwrap().body["spec"][reference]["name"] = other;
        let decide = |seen: &Facts| match reference {
            "controlPlaneRef" => control_plane::decide(seen),
            _ => infrastructure::decide(seen),
        };
        let decision = decide(&seen);
        assert!(decision.actions.is_empty(), "{decision:?}");
        let (status, reason, message) = fact(&decision, "Ready");
        assert_eq!((status, reason.as_str()), ("False", "NotNamed"));
        assert!(
            message.contains(&format!("another in spec.{reference}")),
            "{message}"
        );
        if reference == "controlPlaneRef" {
            let leaving = decide(&going(seen));
            assert!(
                matches!(leaving.actions[..], [Action::Release]),
                "{leaving:?}"
            );
        }
    }
}

#[test]
fn a_clusters_dns_suffix_is_used_once_and_what_else_it_says_of_its_network_is_told() {
    let network = json!({
        "serviceDomain": "blue.example", "pods": {"cidrBlocks": ["192.168.0.0/16"]},
        "services": {"cidrBlocks": ["10.128.0.0/12"]},
    });
    let with = |mut seen: Facts| {
        seen.cluster.as_mut().unwrap().body["spec"]["clusterNetwork"] = network.clone();
        seen
    };
    let mut vcp = wanted(&with(control_plane()));
    assert_eq!(vcp.body["spec"]["network"]["clusterDomain"], "blue.example");
    // What the SubletCluster says counts more.
    let mut chosen = with(control_plane());
    chosen.other.as_mut().unwrap().body["spec"]["clusterDomain"] = json!("place.example");
    assert_eq!(
        wanted(&chosen).body["spec"]["network"]["clusterDomain"],
        "place.example"
    );
    // A tenant that there is keeps its own.
    vcp.body["spec"]["network"]["clusterDomain"] = json!("old.example");
    vcp.body["spec"]["network"]["serviceCIDR"] = json!("10.96.4.0/22");
    let kept = Facts {
        tenant: Some(tenant(&vcp, running())),
        ..with(control_plane())
    };
    assert_eq!(
        wanted(&kept).body["spec"]["network"]["clusterDomain"],
        "old.example"
    );

    let told = |cluster: Facts| {
        let mut seen = Facts {
            tenant: Some(tenant(&vcp, running())),
            ..cluster
        };
        seen.object.body["spec"]["serviceCIDR"] = json!("10.96.4.0/22");
        fact(&infrastructure::decide(&seen), "Ready")
    };
    let (status, _, message) = told(with(infrastructure()));
    assert_eq!(status, "True");
    assert_eq!(
        message,
        "of spec.clusterNetwork of Cluster blue isn't used: serviceDomain (it is old.example), services (their addresses \
         are of 10.96.4.0/22), pods (their addresses are the super cluster's)"
    );
    assert_eq!(told(infrastructure()).2, "");
}

#[test]
fn a_watch_filter_leaves_the_objects_of_other_providers_out() {
    let selector = |filter| those_of(filter, watcher::Config::default()).label_selector;
    assert_eq!(
        selector(Some("mine")).as_deref(),
        Some("cluster.x-k8s.io/watch-filter=mine")
    );
    assert_eq!(selector(None), None);
}

/// What a VirtualControlPlane's own rules refuse, such as another number of etcd members, isn't for the log alone.
#[tokio::test]
async fn what_the_api_server_refuses_is_told() {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let cx = Arc::new(Context {
        cluster: Cluster::new(Client::new(service, "default")),
        caches: Arc::new(ProviderCaches::begin(crate::watching::caches::begin().0).0),
    });
    let seen = with_tenant(running());
    let mut own = SubletControlPlane::new("blue-x7k2p", Default::default());
    own.metadata.namespace = Some("ns".into());
    let pass = tokio::spawn(reconcile(Arc::new(own), cx));
    let mut changed = seen.object.body.clone();
    changed["spec"]["etcd"] = json!({"replicas": 3});
    let refusal = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "reason": "Invalid",
        "message": "spec.etcd.replicas can't change",
    });
    let answers = [
        (200, changed),
        (200, seen.cluster.unwrap().body.clone()),
        (200, seen.other.unwrap().body.clone()),
        (200, seen.tenant.unwrap().object.body.clone()),
        (422, refusal),
        (200, json!({})),
    ];
    let mut last = (String::new(), Value::Null);
    for (status, body) in answers {
        let (request, send) = server.next_request().await.unwrap();
        let (parts, sent) = request.into_parts();
        let sent = sent.collect().await.unwrap().to_bytes();
        let sent = serde_json::from_slice(&sent).unwrap_or_default();
        last = (format!("{} {}", parts.method, parts.uri.path()), sent);
        let body = Body::from(body.to_string().into_bytes());
        send.send_response(Response::builder().status(status).body(body).unwrap());
    }
    assert!(pass.await.unwrap().is_err(), "it is tried again");
    let (request, patch) = last;
    assert!(
        request.starts_with("PATCH ")
            && request.ends_with("/subletcontrolplanes/blue-x7k2p/status"),
        "{request}"
    );
    let ready = &patch["status"]["conditions"][0];
    assert_eq!(
        (&ready["type"], &ready["reason"]),
        (&json!("Ready"), &json!("Refused"))
    );
    let message = ready["message"].as_str().unwrap();
    assert!(
        message.contains("spec.etcd.replicas can't change"),
        "{message}"
    );
}

mod wrongs;
