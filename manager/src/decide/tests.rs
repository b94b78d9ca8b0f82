use super::*;
use crate::{
    act,
    lifecycle::starts::{self, Turn},
    object::{DEPLOYMENT, NAMESPACE, Objects, POD, SERVICE, VIRTUAL_CONTROL_PLANE},
    spec::{
        claims::Range,
        control_plane::{
            Membership,
            tests::{class, owner, vcp},
        },
    },
    status,
    store::{etcd as etcd_says, room::Store, stored},
};
use api::VirtualControlPlane;
use std::time::Duration;

const SYSTEM: &str = "sublet-system";

/// A VirtualControlPlane as it is after its claim, with its class and an empty Service range.
pub(crate) fn seen() -> Seen {
    let mut vcp = vcp();
    vcp.metadata.finalizers = Some(vec![marks::FINALIZER.into()]);
    vcp.spec.version = Some("1.36.3".into());
    seen_as(vcp)
}

pub(crate) fn seen_as(vcp: VirtualControlPlane) -> Seen {
    let body = serde_json::to_value(&vcp).unwrap();
    let object = Object::observed(VIRTUAL_CONTROL_PLANE, body);
    Seen {
        standing: Standing::Ours,
        claim: Some(claims::identity_claim(SYSTEM, &owner())),
        range: Some(Ok(Range {
            range: "10.96.0.0/16".parse().unwrap(),
            taken: vec![],
            used: vec![],
        })),
        class: Some(class()),
        proxy: Some(crate::network::proxy::tests::proxy()),
        node: Some("192.0.2.1".into()),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        ..Seen::nothing(object, vcp)
    }
}

/// The tenant's API answers, and nothing is in it yet.
pub(crate) fn answer(seen: &mut Seen) {
    seen.tenant = Tenant::Answers {
        kube_system_uid: "uid".into(),
        objects: Objects::default(),
        stored: None,
    };
}

/// The class offers one more version, whose images have this tag.
pub(crate) fn offer(seen: &mut Seen, version: &str, tag: &str) {
    let versions = &mut seen.class.as_mut().unwrap().spec.versions;
    let mut new = versions[0].clone();
    new.version = version.into();
    let images = &mut new.images;
    for image in [
        &mut images.etcd,
        &mut images.kube_apiserver,
        &mut images.kube_controller_manager,
    ] {
        *image = format!("{image}:{tag}");
    }
    versions.push(new);
}

/// Writes the report into the status, as the end of a pass does.
pub(crate) fn rest(seen: &mut Seen) -> Report {
    let report = decided(seen).report;
    say(seen, &report.conditions);
    let status = seen.vcp.status.get_or_insert_default();
    status.phase = Some(report.phase);
    for (field, value) in &report.fields {
        let told = match *field {
            "version" => &mut status.version,
            "visit" => &mut status.visit,
            "etcdImage" => &mut status.etcd_image,
            _ => continue,
        };
        *told = value.as_str().map(str::to_owned);
    }
    report
}

/// Plays until there is nothing to do.
pub(crate) fn settle(seen: &mut Seen) {
    loop {
        let actions = decided(seen).actions;
        if actions.is_empty() {
            break;
        }
        play(seen, actions);
    }
}

/// The same, where nothing comes of some actions.
fn settle_but(seen: &mut Seen, vain: impl Fn(&Action) -> bool) {
    loop {
        let mut actions = decided(seen).actions;
        actions.retain(|action| !vain(action));
        if actions.is_empty() {
            break;
        }
        play(seen, actions);
    }
}

/// Carries out actions on what was seen, as API servers would; returns their names.
pub(crate) fn play(seen: &mut Seen, actions: Vec<Action>) -> Vec<String> {
    let mut said = vec![];
    for action in actions {
        let (verb, object) = match action {
            Action::Create(object) => ("create", object),
            Action::Apply(object) => ("apply", object),
            Action::ApplyInTenant(object) => {
                said.push(format!("in tenant {object:?}"));
                if let Tenant::Answers { objects, .. } = &mut seen.tenant {
                    objects.insert(object);
                }
                continue;
            }
            Action::Issue(order) => ("issue", seen.issue(&order).unwrap()),
            Action::TakePlace => {
                said.push("take a place".into());
                say(seen, &starts::begun());
                continue;
            }
            Action::Patch(patch) if patch["metadata"].is_object() => {
                let annotations = patch["metadata"]["annotations"].as_object();
                for (key, text) in annotations.into_iter().flatten() {
                    said.push(format!("annotate {key}"));
                    seen.object.body["metadata"]["annotations"][key] = text.clone();
                }
                continue;
            }
            Action::Patch(patch) => {
                let text = |pointer: &str| patch.pointer(pointer)?.as_str().map(str::to_owned);
                if let Some(version) = text("/spec/version") {
                    said.push(format!("patch {version}"));
                    seen.vcp.spec.version = Some(version);
                    continue;
                }
                let cidr = text("/spec/network/serviceCIDR").unwrap();
                said.push(format!("patch {cidr}"));
                seen.vcp.spec.network.service_cidr = Some(cidr);
                continue;
            }
            other => {
                said.push(format!("{other:?}"));
                continue;
            }
        };
        said.push(format!("{verb} {object:?}"));
        put(seen, object);
    }
    said
}

/// Puts facts into the status.
pub(crate) fn say(seen: &mut Seen, facts: &[status::Fact]) {
    let conditions = status::conditions(&seen.vcp, facts, seen.now);
    seen.vcp.status.get_or_insert_default().conditions = conditions;
}

fn put(seen: &mut Seen, mut object: Object) {
    let inside = owner().control_plane_namespace();
    if object.kind == SERVICE && object.text("/spec/clusterIP").is_empty() {
        object.body["spec"]["clusterIP"] = json!("10.96.0.50");
    }
    if object.kind == DEPLOYMENT || object.kind == STATEFUL_SET {
        let replicas = object.body["spec"]["replicas"].clone();
        object.body["status"] =
            json!({"replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas});
        let pod = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": object.name()}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        seen.objects
            .insert(Object::new(POD, object.namespace(), object.name(), pod));
    }
    match (object.kind.kind, object.namespace()) {
        ("Namespace", _) => seen.namespace = Some(object),
        ("RoleBinding", Some(namespace)) if namespace == inside => seen.access = Some(object),
        ("RoleBinding", _) => seen.access_beside = Some(object),
        ("ConfigMap", Some(SYSTEM)) if object.name().starts_with("route-") => {
            seen.route = Some(object);
        }
        ("ConfigMap", Some(SYSTEM)) => seen.slice_claims.push(object),
        ("Secret", Some(SYSTEM)) => seen.syncer_secret = Some(object),
        ("Secret", Some(namespace)) if namespace == owner().namespace => {
            seen.user_secret = Some(object);
        }
        _ => seen.objects.insert(object),
    }
}

pub(crate) fn decided(seen: &Seen) -> Decision {
    decide(seen, SYSTEM)
}

#[test]
fn adoption_then_the_claim_come_before_anything_else() {
    let mut fresh = vcp();
    fresh.spec.identity = None;
    assert!(matches!(
        decided(&seen_as(fresh)).actions[..],
        [Action::Adopt]
    ));
    assert!(
        matches!(decided(&seen_as(vcp())).actions[..], [Action::Adopt]),
        "without its finalizer"
    );
    let free = Seen {
        standing: Standing::Free,
        claim: None,
        ..seen()
    };
    assert!(
        matches!(&decided(&free).actions[..], [Action::Create(claim)] if claim.name().starts_with("claim-"))
    );
    let movable = Seen {
        standing: Standing::Movable,
        ..seen()
    };
    assert!(matches!(
        &decided(&movable).actions[..],
        [Action::Replace(_)]
    ));
}

#[test]
fn nothing_is_done_for_a_stolen_identity_and_the_holder_is_named() {
    let stolen = Seen {
        standing: Standing::Theirs {
            holder: "a/b".into(),
        },
        ..seen()
    };
    let decision = decided(&stolen);
    assert!(decision.actions.is_empty());
    assert_eq!(decision.report.phase, Phase::Failed);
    let conflict = decision
        .report
        .conditions
        .iter()
        .find(|fact| fact.kind == "IdentityConflict")
        .unwrap();
    assert!(conflict.holds && conflict.message.contains("a/b"));
}

#[test]
fn t46_one_that_is_paused_is_told_of_a_conflict_and_one_that_is_deleted_goes() {
    let mut paused = seen();
    paused.vcp.spec.paused = true;
    paused.standing = Standing::Theirs {
        holder: "a/b".into(),
    };
    let has_conflict = |report: &Report| {
        let mut conditions = report.conditions.iter();
        conditions.any(|fact| fact.kind == "IdentityConflict" && fact.holds)
    };
    assert!(has_conflict(&decided(&paused).report));
    paused.vcp.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let ending = decided(&paused).report;
    assert_eq!(
        (ending.phase, has_conflict(&ending)),
        (Phase::Paused, false)
    );
}

#[test]
fn t46_a_slice_of_anothers_is_a_conflict_and_one_that_is_too_wide_is_refused() {
    let told = |cidr: &str| {
        let mut seen = seen();
        seen.vcp.spec.network.service_cidr = Some(cidr.into());
        let Some(Ok(range)) = &mut seen.range else {
            panic!()
        };
        let taken = ("10.96.4.0/22".parse().unwrap(), "a/b".to_owned());
        range.taken.push(taken);
        let decision = decided(&seen);
        let conditions = &decision.report.conditions;
        let is_conflict = conditions
            .iter()
            .any(|fact| fact.kind == "IdentityConflict" && fact.holds);
        (decision.actions.len(), decision.report.phase, is_conflict)
    };
    assert_eq!(told("10.96.4.0/24"), (0, Phase::Failed, true));
    assert_eq!(told("10.96.16.0/20"), (0, Phase::Failed, false));
    assert_eq!(told("10.96.16.0/22").0, 1);
}

#[test]
fn a_missing_class_is_named_with_those_that_exist() {
    let missing = Seen {
        class: None,
        classes: vec!["gold".into()],
        ..seen()
    };
    let report = decided(&missing).report;
    assert_eq!(
        report.message.unwrap(),
        "there is no ControlPlaneClass default: set spec.className to one of gold"
    );
}

#[test]
fn a_pause_of_cluster_api_keeps_no_external_tenant_from_being_claimed() {
    let mut external = seen();
    external.standing = Standing::Free;
    external.owner.as_mut().unwrap().cluster = Some(Membership {
        cluster: "none".into(),
        control_plane: None,
    });
    external.object.body["metadata"]["annotations"] = json!({api::capi::PAUSED: ""});
    assert!(decided(&external).actions.is_empty());
    external.vcp.spec.external = Some(api::External::default());
    let actions = decided(&external).actions;
    assert!(
        matches!(&actions[..], [Action::Create(claim)] if claim.kind == crate::object::CONFIG_MAP),
        "{actions:?}"
    );
}

#[test]
fn a_paused_tenant_is_left_alone_even_when_it_is_deleted() {
    let mut paused = seen();
    paused.vcp.spec.paused = true;
    assert!(decided(&paused).actions.is_empty());
    assert_eq!(decided(&paused).report.phase, Phase::Paused);

    // The pause is in this spec, and so it counts as seen; under that of a Cluster nothing else of a spec is.
    let told = |seen: &Seen| {
        let status = decided(seen)
            .report
            .patch(&seen.vcp, &seen.object, seen.now);
        status.unwrap()["status"]["observedGeneration"].clone()
    };
    paused.vcp.metadata.generation = Some(5);
    paused
        .vcp
        .status
        .get_or_insert_default()
        .observed_generation = Some(4);
    assert_eq!(told(&paused), 5);
    paused.vcp.spec.paused = false;
    paused.owner.as_mut().unwrap().cluster = Some(Membership {
        cluster: "blue".into(),
        control_plane: None,
    });
    let cluster = json!({"spec": {"paused": true}});
    paused.cluster = Some(Object::new(
        crate::object::CLUSTER,
        Some("tenants"),
        "blue",
        cluster,
    ));
    assert_eq!(told(&paused), 4);
}

/// From nothing to a running tenant, in rounds; after the last one there is nothing left to do.
#[test]
fn a_control_plane_comes_up_in_this_order() {
    let mut seen = seen();
    let mut rounds = vec![];
    loop {
        let decision = decided(&seen);
        if decision.actions.is_empty() {
            break;
        }
        rounds.push(play(&mut seen, decision.actions).join("\n"));
        assert!(rounds.len() < 12, "it doesn't settle: {rounds:#?}");
    }
    let text = rounds
        .join("\n\n")
        .replace(&owner().control_plane_namespace(), "CP");
    expect_test::expect![[r#"
        create ConfigMap sublet-system/slice-10-96-4-0
        patch 10.96.4.0/22

        apply Namespace CP
        apply RoleBinding CP/sublet-manager
        apply RoleBinding tenants/sublet-manager-acme
        apply Service CP/kubernetes
        apply Service CP/kube-apiserver
        apply Service CP/etcd
        apply NetworkPolicy CP/default-deny
        apply NetworkPolicy CP/etcd
        apply NetworkPolicy CP/kube-apiserver
        apply NetworkPolicy CP/kube-controller-manager

        issue Secret CP/ca
        issue Secret CP/etcd-ca
        issue Secret CP/front-proxy-ca
        issue Secret CP/proxy-client-ca
        issue Secret CP/service-account
        issue Secret CP/encryption
        issue Secret CP/apiserver
        issue Secret CP/apiserver-kubelet-client
        issue Secret CP/apiserver-etcd-client
        issue Secret CP/etcd-server
        issue Secret CP/etcd-peer
        issue Secret CP/front-proxy-client
        issue Secret CP/controller-manager
        issue Secret CP/manager

        apply ConfigMap sublet-system/route-a4dqobyha4dqobyha4dqobyha4
        take a place
        issue Secret tenants/acme-kubeconfig

        apply StatefulSet CP/etcd
        apply ConfigMap CP/kube-apiserver
        apply Deployment CP/kube-apiserver

        apply ConfigMap CP/kube-controller-manager
        apply Deployment CP/kube-controller-manager"#]]
    .assert_eq(&text);

    let report = decided(&seen).report;
    assert_eq!(
        (report.phase, report.message.as_deref()),
        (Phase::Provisioning, Some("no API server pod was asked yet"))
    );

    answer(&mut seen);
    let actions = decided(&seen).actions;
    let said = play(&mut seen, actions);
    assert_eq!(
        said.first().unwrap(),
        "in tenant ClusterRoleBinding sublet:admins"
    );
    assert!(
        said.last()
            .unwrap()
            .starts_with("issue Secret sublet-system/tenant-"),
        "the syncer's comes last"
    );
    assert!(decided(&seen).actions.is_empty());
    let report = decided(&seen).report;
    assert!(
        report
            .fields
            .iter()
            .any(|(field, value)| *field == "proof" && value["kubeSystemUID"] == "uid")
    );
    assert!(report.message.unwrap().contains("coredns"));
}

#[test]
fn a_tenant_of_the_shared_dns_server_gets_none_of_its_own() {
    let mut seen = seen();
    seen.vcp.spec.network.dns = api::Dns::Shared;
    let mut said = vec![];
    loop {
        let actions = decided(&seen).actions;
        if actions.is_empty() && matches!(seen.tenant, Tenant::Answers { .. }) {
            break;
        }
        if actions.is_empty() {
            answer(&mut seen);
            continue;
        }
        said.extend(play(&mut seen, actions));
    }
    let of_a_server = |line: &String| line.contains("dns") && line.starts_with("in tenant");
    assert!(!said.iter().any(of_a_server), "{said:#?}");
    let shown = |seen: &Seen| {
        let report = decided(seen).report;
        let fact = report
            .conditions
            .into_iter()
            .find(|fact| fact.kind == "DNSReady");
        let address = report
            .fields
            .into_iter()
            .find(|(field, _)| *field == "dnsAddress");
        (fact.unwrap().reason, address.unwrap().1)
    };
    assert_eq!(shown(&seen), ("Shared".into(), json!("10.96.0.53")));
    seen.proxy.as_mut().unwrap().dns = None;
    let (reason, address) = shown(&seen);
    assert_eq!((reason.as_str(), address), ("NoSharedServer", Value::Null));
}

#[test]
fn an_upgrade_waits_for_the_part_before_it() {
    let mut seen = seen();
    settle(&mut seen);
    let images = &mut seen.class.as_mut().unwrap().spec.versions[0].images;
    images.etcd.push_str(":new");
    images.kube_apiserver.push_str(":new");
    images.kube_controller_manager.push_str(":new");
    let mut rounds = vec![];
    loop {
        let actions = decided(&seen).actions;
        if actions.is_empty() {
            break;
        }
        let said = play(&mut seen, actions);
        rounds.push(
            said.join(" ")
                .replace(&owner().control_plane_namespace(), "CP"),
        );
    }
    assert_eq!(
        rounds,
        [
            "apply StatefulSet CP/etcd",
            "apply Deployment CP/kube-apiserver",
            "apply Deployment CP/kube-controller-manager",
        ]
    );

    let etcd = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap();
    let mut rolling = etcd.clone();
    rolling.body["status"]["updatedReplicas"] = json!(0);
    seen.objects.insert(rolling);
    seen.class.as_mut().unwrap().spec.versions[0]
        .images
        .kube_apiserver
        .push_str(":newer");
    assert!(decided(&seen).actions.is_empty(), "etcd is still rolling");
}

#[test]
fn api_servers_and_controller_manager_are_started_anew_when_their_time_has_come() {
    let mut seen = seen();
    let settle = |seen: &mut Seen| {
        let mut said = vec![];
        loop {
            let actions = decided(seen).actions;
            if actions.is_empty() {
                return said
                    .join(" ")
                    .replace(&owner().control_plane_namespace(), "CP");
            }
            said.extend(play(seen, actions));
        }
    };
    settle(&mut seen);
    seen.vcp.spec.rollout = Some(api::Rollout {
        after: Some("2026-01-01T00:10:00Z".into()),
    });
    assert_eq!(settle(&mut seen), "", "not yet");
    seen.now = "2026-01-01T00:10:00Z".parse().unwrap();
    assert_eq!(
        settle(&mut seen),
        "take a place apply Deployment CP/kube-apiserver apply Deployment CP/kube-controller-manager"
    );
    assert_eq!(settle(&mut seen), "", "once");
    for after in [Some("2026-01-02T00:00:00Z"), None] {
        let after = after.map(str::to_owned);
        seen.vcp.spec.rollout = after.map(|after| api::Rollout { after: Some(after) });
        assert_eq!(
            settle(&mut seen),
            "",
            "another time that hasn't come, or none"
        );
    }
}

/// What the conditions of the status say, as `TYPE REASON: MESSAGE`.
fn told(seen: &Seen, report: &Report) -> Vec<String> {
    let conditions = status::conditions(&seen.vcp, &report.conditions, seen.now);
    let said = conditions.iter();
    said.map(|said| format!("{} {}: {}", said.type_, said.reason, said.message))
        .collect()
}

#[test]
fn one_that_waits_for_its_turn_is_prepared_and_says_so() {
    let mut seen = seen();
    let later = Turn::Later {
        starting: 4,
        before: 1,
        again: Duration::from_secs(7),
    };
    let report = loop {
        let mut decision = decided(&seen);
        if decision
            .actions
            .iter()
            .any(|action| matches!(action, Action::TakePlace))
        {
            seen.turn = Some(later);
            decision = decided(&seen);
        }
        if decision.actions.is_empty() {
            break decision.report;
        }
        play(&mut seen, decision.actions);
    };
    assert!(seen.objects.get(STATEFUL_SET, etcd::NAME).is_none());
    assert!(seen.objects.get(DEPLOYMENT, apiserver::NAME).is_none());
    assert!(
        seen.user_secret.is_some(),
        "all that starts nothing is there"
    );
    let words = "waits for 4 others that start; 1 more waits before it";
    assert_eq!(report.message.as_deref(), Some(words));
    assert_eq!(report.again, Duration::from_secs(7));
    let said = told(&seen, &report);
    for kind in ["ControlPlaneReady", "Ready", "WaitingToStart"] {
        let line = format!("{kind} WaitingToStart: {words}");
        assert!(said.contains(&line), "{said:?}");
    }

    // It gets a place; while it starts it says so, and it waits no more.
    seen.turn = None;
    say(&mut seen, &report.conditions);
    settle(&mut seen);
    let starting = |said: &[String], kind: &str| said.iter().any(|said| said.starts_with(kind));
    let said = told(&seen, &decided(&seen).report);
    assert!(
        starting(&said, "Starting ") && !starting(&said, "WaitingToStart "),
        "{said:?}"
    );

    // The place is given back when the API answers.
    answer(&mut seen);
    settle(&mut seen);
    let said = told(&seen, &decided(&seen).report);
    assert!(!starting(&said, "Starting "), "{said:?}");
}

#[test]
fn a_start_that_takes_too_long_loses_its_place_and_is_not_stopped() {
    let mut seen = seen();
    settle(&mut seen);
    assert!(starts::has_place(&seen.vcp, seen.now));
    seen.now = "2026-01-01T00:03:01Z".parse().unwrap();
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    let said = told(&seen, &decision.report);
    assert!(
        !said.iter().any(|said| said.starts_with("Starting ")),
        "{said:?}"
    );
}

#[test]
fn one_that_was_paused_takes_one_place_and_goes_on_though_its_status_says_paused_still() {
    let mut seen = seen();
    settle(&mut seen);
    say(&mut seen, &starts::over());
    let images = &mut seen.class.as_mut().unwrap().spec.versions[0].images;
    images.etcd.push_str(":new");
    seen.vcp.status.as_mut().unwrap().phase = Some(Phase::Paused);
    let decision = decided(&seen);
    assert!(matches!(decision.actions[..], [Action::TakePlace]));
    play(&mut seen, decision.actions);
    let next = decided(&seen).actions;
    assert!(matches!(next[..], [Action::Apply(_)]), "{next:?}");
}

#[test]
fn a_new_version_waits_for_its_turn_while_the_old_one_works() {
    let mut seen = seen();
    answer(&mut seen);
    settle(&mut seen);
    let over = decided(&seen).report.conditions;
    say(&mut seen, &over);
    let images = &mut seen.class.as_mut().unwrap().spec.versions[0].images;
    images.kube_apiserver.push_str(":new");
    assert!(matches!(decided(&seen).actions[..], [Action::TakePlace]));
    seen.turn = Some(Turn::Later {
        starting: 1,
        before: 0,
        again: Duration::from_secs(7),
    });
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    let said = told(&seen, &decision.report);
    assert!(
        said.contains(&"ControlPlaneReady Answers: ".to_owned()),
        "{said:?}"
    );
    let line = "WaitingToStart WaitingToStart: waits for 1 other that starts";
    assert!(said.contains(&line.to_owned()), "{said:?}");
}

#[test]
fn foreign_objects_are_never_taken_over() {
    let foreign = Object::new(
        NAMESPACE,
        None,
        &owner().control_plane_namespace(),
        json!({}),
    );
    let mut seen = seen();
    let actions = decided(&seen).actions;
    play(&mut seen, actions);
    seen.namespace = Some(foreign);
    let decision = decided(&seen);
    assert!(decision.actions.is_empty());
    assert!(
        decision
            .report
            .message
            .unwrap()
            .contains("isn't this tenant's")
    );
}

#[test]
fn a_pod_that_cannot_start_is_named_in_the_condition() {
    let mut seen = seen();
    settle(&mut seen);
    let mut etcd = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap().clone();
    etcd.body["status"]["readyReplicas"] = json!(0);
    seen.objects.insert(etcd);
    seen.objects.insert(Object::new(
        POD,
        Some("n"),
        "etcd-0",
        json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "etcd"}},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]},
        }),
    ));
    seen.objects
        .insert(Object::new(POD, Some("n"), "etcd", json!({})));
    let report = decided(&seen).report;
    let fact = report
        .conditions
        .iter()
        .find(|fact| fact.kind == "ControlPlaneReady")
        .unwrap();
    assert_eq!(
        (fact.holds, fact.message.as_str()),
        (false, "waiting for pod etcd-0: ErrImagePull")
    );
}

/// A tenant that runs, may store 48 MiB and 500 ConfigMaps, and has room.
fn limited() -> Seen {
    let mut seen = seen();
    let most = [("size", "48Mi"), ("configmaps", "500")]
        .map(|(name, most)| (name.to_owned(), most.to_owned()));
    seen.class.as_mut().unwrap().spec.stored = api::Quantities(most.into());
    settle(&mut seen);
    answer(&mut seen);
    stores(&mut seen, 20);
    settle(&mut seen);
    seen
}

/// It stores so many MiB.
fn stores(seen: &mut Seen, mebibytes: u64) {
    if let Tenant::Answers { stored, .. } = &mut seen.tenant {
        let used = [("size", mebibytes << 20), ("configmaps", 12)];
        *stored = Some(used.map(|(name, used)| (name.to_owned(), used)).into());
    }
}

fn within_limits(seen: &Seen, report: &Report) -> String {
    let all = told(seen, report);
    let said = all
        .iter()
        .find(|said| said.starts_with("StoredWithinLimits "));
    said.unwrap_or_else(|| panic!("{all:?}")).clone()
}

#[test]
fn what_a_tenant_stores_is_told_while_its_etcd_is_full_and_nothing_is_written_there() {
    let mut seen = limited();
    let decision = decided(&seen);
    assert!(within_limits(&seen, &decision.report).starts_with("StoredWithinLimits Room"));

    // Numbers that changed are shown to the tenant, as long as there is room for that.
    stores(&mut seen, 30);
    let shows = |decision: &Decision| {
        let shows = |action: &Action| matches!(action, Action::ApplyInTenant(object) if object.name() == "sublet-stored");
        decision.actions.iter().any(shows)
    };
    assert!(shows(&decided(&seen)));
    stores(&mut seen, 47);
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let said = within_limits(&seen, &decision.report);
    assert!(
        said.starts_with("StoredWithinLimits Full: ") && said.contains("size: 47Mi of 48Mi"),
        "{said}"
    );
    let ready = told(&seen, &decision.report);
    assert!(
        !ready.iter().any(|said| said.starts_with("Ready Full")),
        "{ready:?}"
    );
    stores(&mut seen, 10);
    assert!(shows(&decided(&seen)), "there is room again");
}

#[test]
fn what_a_full_etcd_refuses_is_told_and_keeps_nothing_else_from_being_done() {
    let refusal =
        "apply ClusterRoleBinding sublet:admins: etcdserver: mvcc: database space exceeded";
    let mut seen = seen();
    settle(&mut seen);
    answer(&mut seen);
    assert!(matches!(
        decided(&seen).actions[0],
        Action::ApplyInTenant(_)
    ));
    seen.refused = Some(refusal.into());
    let actions = decided(&seen).actions;
    let said = play(&mut seen, actions);
    let [credentials] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(credentials.starts_with("issue Secret sublet-system/tenant-"));
    // Whatever is limited; and what is missing in the tenant keeps it from being Ready.
    let report = decided(&seen).report;
    let said = within_limits(&seen, &report);
    assert!(said.contains(&format!("size: {refusal}")), "{said}");
    assert!(report.again <= stored::CLOSELY);
    let all = told(&seen, &report);
    assert!(
        all.iter()
            .any(|said| said.starts_with("ControlPlaneReady Answers")),
        "{all:?}"
    );
    assert!(report.message.unwrap().contains("database space exceeded"));
}

/// Whether the size is limited or not: etcd always has one.
#[test]
fn room_is_made_in_an_etcd_that_says_it_is_full_before_anything_is_written_there() {
    let mut seen = limited();
    seen.class.as_mut().unwrap().spec.stored = api::Quantities::default();
    settle(&mut seen);
    let alarms = vec![etcd_says::Alarm {
        member: 7,
        kind: etcd_says::Alarm::NO_SPACE,
    }];
    let members = vec![etcd_says::Status {
        size: 6 << 30,
        in_use: 2 << 30,
        ..Default::default()
    }];
    seen.store = Some(Ok(Store { members, alarms }));
    let Tenant::Answers { objects, .. } = &mut seen.tenant else {
        panic!("it answers");
    };
    *objects = Objects::default();
    let actions = decided(&seen).actions;
    let [Action::MakeRoom(space), Action::ApplyInTenant(_), ..] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((space.quota, space.volume), (6 << 30, Some(8 << 30)));
    settle_but(&mut seen, |action| matches!(action, Action::MakeRoom(_)));
    let report = decided(&seen).report;
    let said = within_limits(&seen, &report);
    assert!(said.contains("(size: etcd takes no more writes)"), "{said}");
    assert!(
        said.ends_with("2Gi is in use, and at most 1536Mi may be"),
        "{said}"
    );
    assert!(report.again <= stored::CLOSELY);

    // What keeps it from being done is told.
    seen.refused = Some("database space exceeded".into());
    seen.store = Some(Err("etcd at 10.0.0.1:2379 can't be reached".into()));
    let report = decided(&seen).report;
    let said = within_limits(&seen, &report);
    assert!(said.ends_with("can't be reached"), "{said}");
    seen.refused = None;
    seen.store = Some(Ok(Store::default()));
    let decision = decided(&seen);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
}

/// How long something else has been full says nothing of a count that failed once.
#[test]
fn what_fails_to_be_counted_once_is_not_closed_because_something_else_has_long_been_full() {
    let mut seen = limited();
    if let Tenant::Answers { stored, .. } = &mut seen.tenant {
        *stored = Some([("configmaps".to_owned(), 500)].into());
    }
    rest(&mut seen);
    seen.now += jiff::SignedDuration::from_hours(24);
    let most = &mut seen.class.as_mut().unwrap().spec.stored.0;
    most.insert("secrets".into(), "10".into());
    let closed = |seen: &Seen| {
        let read = |action: &Action| match action {
            Action::Apply(map) if map.kind == CONFIG_MAP && map.name() == apiserver::NAME => {
                Some(map.body["data"][apiserver::AUTHORIZERS].to_string())
            }
            _ => None,
        };
        let file = decided(seen).actions.iter().find_map(read).unwrap();
        ["full.configmaps", "uncounted.secrets"].map(|name| file.contains(name))
    };
    assert_eq!(closed(&seen), [true, false]);
    let said = within_limits(&seen, &decided(&seen).report);
    assert!(
        said.contains("how many the tenant stores of secrets"),
        "{said}"
    );
    seen.uncounted.insert("secrets".into());
    assert_eq!(closed(&seen), [true, true]);
}

#[test]
fn a_pass_that_fails_tells_of_what_is_stored_all_the_same() {
    let mut seen = limited();
    stores(&mut seen, 47);
    let decision = decided(&seen);
    let error = act::Error::Slow("in the tenant: a webhook hangs".into());
    let report = Report::failed_to_act(&seen, &error, decision.report);
    assert!(within_limits(&seen, &report).starts_with("StoredWithinLimits Full: "));
    let fields: Vec<&str> = report.fields.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, ["stored"]);
    assert_eq!(
        report.message.as_deref(),
        Some("in the tenant: a webhook hangs")
    );
}

/// A volume may be smaller than what the class lets tenants keep, and then it counts.
#[test]
fn the_limit_that_is_told_is_what_etcd_was_given() {
    let mut seen = limited();
    let class = &mut seen.class.as_mut().unwrap().spec;
    class.stored = api::Quantities([("size".to_owned(), "1Ti".to_owned())].into());
    settle(&mut seen);
    let report = decided(&seen).report;
    let (_, stored) = report
        .fields
        .iter()
        .find(|(field, _)| *field == "stored")
        .unwrap();
    let etcd = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap();
    let flag = etcd.body.to_string();
    let bytes =
        tenancy::quota::amount::parse(stored["hard"]["size"].as_str().unwrap()).unwrap() / 1000;
    assert!(
        flag.contains(&format!("--quota-backend-bytes={bytes}\"")),
        "{stored}"
    );
}

#[test]
fn zones_are_told_and_none_are_taken_away() {
    let mut seen = limited();
    let zones = |seen: &Seen| {
        let fields = decided(seen).report.fields.into_iter();
        fields
            .filter(|(field, _)| *field == "failureDomains")
            .map(|(_, zones)| zones)
            .next()
            .unwrap()
    };
    assert_eq!(zones(&seen), Value::Null);
    seen.zones = vec![api::FailureDomain {
        name: "a".into(),
        control_plane: Some(true),
        attributes: Default::default(),
    }];
    assert_eq!(zones(&seen), json!([{"name": "a", "controlPlane": true}]));
}

#[test]
fn a_kubeconfig_secret_of_foreign_make_is_told_and_kept() {
    let mut seen = seen();
    settle(&mut seen);
    crate::spec::membership::tests::join(&mut seen, "acme");
    let foreign = Object::new(
        SECRET,
        Some(&owner().namespace),
        "acme-kubeconfig",
        json!({"data": {"value": "bWluZQ=="}}),
    );
    seen.cluster_secrets.insert(foreign);
    let decision = decided(&seen);
    let writes = |action: &Action| match action {
        Action::Issue(order) => order.name == "acme-kubeconfig",
        Action::Apply(object) => object.name() == "acme-kubeconfig",
        _ => false,
    };
    assert!(!decision.actions.iter().any(writes));
    assert_eq!(decision.report.phase, Phase::Failed);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("/acme-kubeconfig exists and isn't this tenant's"),
        "{message}"
    );
}

#[test]
fn certificates_are_made_anew_once_when_an_admin_asks_for_it() {
    let mut seen = seen();
    settle(&mut seen);
    let issued = |seen: &Seen| -> Vec<String> {
        let actions = decided(seen).actions.into_iter();
        let orders = actions.filter_map(|action| match action {
            Action::Issue(order) => Some(order.name),
            _ => None,
        });
        orders.collect()
    };
    assert!(issued(&seen).is_empty());
    // Whoever asks has a clock of its own, or none.
    for text in ["2026-01-02T00:10:00Z", "2025-12-31T23:50:00Z", "again"] {
        seen.object.body["metadata"]["annotations"][marks::RENEW_CERTIFICATES] = json!(text);
        let anew = issued(&seen);
        assert!(anew.iter().any(|name| name == "apiserver"), "{anew:?}");
        assert!(!anew.iter().any(|name| name.ends_with("ca")), "{anew:?}");
        settle(&mut seen);
        assert!(issued(&seen).is_empty());
    }
    seen.now = "2026-01-03T00:00:00Z".parse().unwrap();
    assert!(issued(&seen).is_empty());
}

mod refusals;

/// One that works, with three members.
pub(crate) fn with_three_members() -> Seen {
    let mut seen = seen();
    seen.vcp.spec.etcd = Some(api::Etcd {
        replicas: Some(3),
        ..api::Etcd::default()
    });
    settle(&mut seen);
    answer(&mut seen);
    settle(&mut seen);
    seen
}

/// Its etcd keeps its data in the pods.
pub(crate) fn without_volumes(seen: &mut Seen) {
    let mut set = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap().clone();
    let spec = set.body["spec"].as_object_mut().unwrap();
    spec.remove("volumeClaimTemplates");
    seen.objects.insert(set);
}

/// Three members, of which so many are ready.
fn three_members(ready: i32) -> Seen {
    let mut seen = with_three_members();
    let mut main = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap().clone();
    main.body["status"]["readyReplicas"] = json!(ready);
    seen.objects.insert(main);
    let server = &mut seen.class.as_mut().unwrap().spec.versions[0];
    server.images.kube_apiserver = "registry/apiserver:mended".into();
    seen
}

fn changes_servers(seen: &Seen) -> bool {
    let is_server = |object: &Object| (object.kind, object.name()) == MAINS[1];
    let mut actions = decided(seen).actions.into_iter();
    actions.any(|action| matches!(action, Action::Apply(object) if is_server(&object)))
}

/// Else one volume that is lost would keep a tenant from every mend.
#[test]
fn a_member_of_etcd_that_does_not_come_back_keeps_nothing_else_from_being_changed() {
    let minutes = jiff::SignedDuration::from_mins;
    for (ready, may) in [(3, true), (2, true), (1, false)] {
        let mut seen = three_members(ready);
        assert_eq!(changes_servers(&seen), ready == 3, "{ready} are ready");
        seen.now += minutes(15);
        say(&mut seen, &starts::begun());
        assert_eq!(changes_servers(&seen), ready == 3, "it has its time");
        seen.now += minutes(1);
        say(&mut seen, &starts::over());
        say(&mut seen, &starts::begun());
        assert_eq!(changes_servers(&seen), may, "{ready} are ready");
    }
    let mut seen = three_members(2);
    seen.now += minutes(16);
    let report = decided(&seen).report;
    let fact = report.conditions.iter().find(|f| f.kind == "EtcdReady");
    let fact = fact.unwrap();
    assert!(fact.holds && fact.reason == "MemberMissing", "{fact:?}");
    assert!(fact.message.contains("2 of 3 members"), "{fact:?}");
    // While one waits to be changed still, that comes first.
    let mut main = seen.objects.get(STATEFUL_SET, etcd::NAME).unwrap().clone();
    main.body["status"]["updatedReplicas"] = json!(1);
    seen.objects.insert(main);
    say(&mut seen, &starts::over());
    say(&mut seen, &starts::begun());
    assert!(!changes_servers(&seen));
}

/// Which of its members are ready, as their pods say.
pub(crate) fn members(seen: &mut Seen, ready: [bool; 3]) {
    for (n, is_ready) in ready.into_iter().enumerate() {
        let status = if is_ready { "True" } else { "False" };
        let body = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        let name = format!("etcd-{n}");
        seen.objects
            .insert(Object::new(POD, Some("n"), &name, body));
    }
}

/// Else the member that is replaced first takes the quorum along.
#[test]
fn a_change_of_etcd_waits_for_a_member_that_is_missing_and_api_servers_do_not_wait_for_it() {
    let changed = |seen: &Seen| -> Vec<String> {
        let actions = decided(seen).actions.into_iter();
        let names = actions.filter_map(|action| match action {
            Action::Apply(object) => Some(object.name().to_owned()),
            _ => None,
        });
        names.collect()
    };
    let mut seen = three_members(2);
    let pods = &mut seen.class.as_mut().unwrap().spec.control_plane;
    let limits = &mut pods.resources.etcd.limits.0;
    limits.insert("memory".into(), "1Gi".into());
    seen.now += jiff::SignedDuration::from_mins(16);
    say(&mut seen, &starts::begun());
    members(&mut seen, [true, true, false]);
    assert_eq!(
        changed(&seen),
        ["etcd"],
        "the missing one is replaced first"
    );
    members(&mut seen, [false, true, true]);
    assert_eq!(changed(&seen), [apiserver::NAME]);
    let report = decided(&seen).report;
    let said = told(&seen, &report);
    let waits = said.iter().find(|said| said.starts_with("EtcdReady "));
    let waits = waits.unwrap();
    assert!(waits.starts_with("EtcdReady MemberMissing: "), "{waits}");
    assert!(
        waits.contains("a change of etcd waits for etcd-0"),
        "{waits}"
    );
    // Another authority is another matter: API servers that know the new one alone would find no etcd.
    seen.objects
        .remove(SECRET, crate::pki::Authority::Etcd.secret());
    settle_but(&mut seen, |action| matches!(action, Action::Apply(_)));
    assert!(changed(&seen).is_empty(), "{:?}", changed(&seen));
    members(&mut seen, [true, true, true]);
    assert_eq!(changed(&seen), ["etcd"]);
}

#[test]
fn another_image_of_a_running_version_waits_for_its_turn_in_each_part() {
    for (part, (_, name)) in MAINS.into_iter().enumerate() {
        let mut seen = seen();
        settle(&mut seen);
        answer(&mut seen);
        settle(&mut seen);
        say(&mut seen, &starts::over());
        let images = &mut seen.class.as_mut().unwrap().spec.versions[0].images;
        let image = [
            &mut images.etcd,
            &mut images.kube_apiserver,
            &mut images.kube_controller_manager,
        ]
        .into_iter()
        .nth(part)
        .unwrap();
        *image = "registry/mended".into();
        let changed = |seen: &Seen| {
            let actions = decided(seen).actions.into_iter();
            let names = actions.map(|action| match action {
                Action::Apply(object) => object.name().to_owned(),
                Action::TakePlace => "a place".to_owned(),
                other => format!("{other:?}"),
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(changed(&seen), ["a place"]);
        seen.turn = Some(Turn::Later {
            starting: 2,
            before: 1,
            again: Duration::from_secs(30),
        });
        assert!(changed(&seen).is_empty());
        rest(&mut seen);
        let waits = status::condition(&seen.vcp, starts::WAITING).unwrap();
        assert!(waits.message.contains("2 others that start"), "{waits:?}");
        seen.turn = Some(Turn::Now);
        say(&mut seen, &starts::begun());
        assert_eq!(changed(&seen), [name]);
    }
}
