use super::*;
use crate::{
    clients::kubeconfig::Credentials,
    decide::{decide, tests::seen_as},
    object::Objects,
    spec::control_plane::tests::{owner, vcp},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const SYSTEM: &str = "sublet-system";

/// A VirtualControlPlane of a Cluster whose super cluster is another one and was asked.
fn seen() -> Seen {
    let mut vcp = vcp();
    vcp.metadata.finalizers = Some(vec![
        marks::FINALIZER.into(),
        marks::INFRASTRUCTURE_FINALIZER.into(),
    ]);
    vcp.metadata.annotations =
        Some([(marks::TWIN.to_owned(), "tenants-of-east/acme".to_owned())].into());
    vcp.metadata.labels = Some([(capi::CLUSTER_NAME.to_owned(), "acme".to_owned())].into());
    vcp.spec.super_cluster = Some(SuperCluster {
        kubeconfig_secret_ref: SecretRef {
            name: "west".into(),
            key: "value".into(),
        },
        namespace: Some("tenants-of-east".into()),
    });
    let mut seen = seen_as(vcp);
    seen.class = None;
    crate::spec::membership::tests::join(&mut seen, "acme");
    let owner = seen.owner.clone().unwrap();
    seen.access_beside = Some(provision::access_beside(&owner, SYSTEM));
    reach(&mut seen, None);
    seen
}

fn reach(seen: &mut Seen, twin: Option<Object>) {
    seen.beyond = Beyond::Reached {
        twin,
        secrets: Objects::default(),
    };
}

/// The twin as it is made, in that state.
fn twin(status: Value) -> Object {
    let decision = decide(&seen(), SYSTEM);
    let [Action::Beyond(Deed::Apply(twin))] = &decision.actions[..] else {
        panic!("{:?}", decision.actions);
    };
    let mut twin = twin.clone();
    twin.body["metadata"]["uid"] = json!("twin");
    twin.body["metadata"]["generation"] = json!(1);
    twin.body["status"] = status;
    twin
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn running() -> Value {
    json!({
        "phase": "Ready", "endpoint": "https://192.0.2.1:40443", "version": "1.36.3", "observedGeneration": 1,
        "kubeconfigSecretRef": {"name": "acme-user-kubeconfig", "key": "value"},
        "conditions": [
            condition("ControlPlaneReady", "True", "Answers"),
            condition("Ready", "True", "Ready"),
            condition("Synced", "True", "Synced"),
        ],
    })
}

pub(crate) fn kubeconfig(server: &str) -> String {
    let access = Access {
        server: server.into(),
        ca: "authority".into(),
        tls_server_name: Some("tenant".into()),
        namespace: None,
        credentials: Credentials::Token("hidden".into()),
    };
    access.to_yaml("theirs", "they").unwrap()
}

fn secret(name: &str, data: Value) -> Object {
    Object::new(SECRET, Some("tenants-of-east"), name, json!({"data": data}))
}

fn going(mut seen: Seen) -> Seen {
    seen.vcp.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    seen
}

fn fact<'a>(decision: &'a Decision, kind: &str) -> Option<&'a Fact> {
    decision
        .report
        .conditions
        .iter()
        .find(|fact| fact.kind == kind)
}

/// Nothing is left there, and that is written down.
fn is_over(seen: &Seen) -> bool {
    let actions = leave(seen, &owner(), SYSTEM).unwrap().actions;
    let over = json!({"metadata": {"annotations": {marks::TWIN: null}}});
    matches!(&actions[..], [Action::Patch(patch)] if *patch == over)
}

/// The Secret leads there, and so does what is kept of it.
fn given(seen: &mut Seen) {
    seen.given = Some(Access::parse(&kubeconfig("https://west:1")).unwrap());
    if let Some(Action::Apply(kept)) = kept::due(seen, &owner(), SYSTEM) {
        seen.kept = Some(kept);
    }
}

#[test]
fn the_way_there_is_kept_before_there_is_a_twin_and_follows_its_secret() {
    let mut seen = seen();
    seen.given = Some(Access::parse(&kubeconfig("https://west:1")).unwrap());
    let decision = decide(&seen, SYSTEM);
    let [Action::Apply(kept), Action::Beyond(Deed::Apply(_))] = &decision.actions[..] else {
        panic!("{:?}", decision.actions);
    };
    assert_eq!(
        (kept.namespace(), kept.name()),
        (Some(SYSTEM), &*kept::name(&owner().id))
    );
    assert_eq!(
        kept.label(marks::ROLE),
        None,
        "the syncer takes it for no tenant's"
    );
    let text = pki::text_of(kept, kept::KEY).unwrap();
    assert_eq!(Access::parse(&text).unwrap().server, "https://west:1");

    given(&mut seen);
    reach(&mut seen, Some(twin(running())));
    assert!(decide(&seen, SYSTEM).actions.is_empty());
    seen.given = Some(Access::parse(&kubeconfig("https://west:2")).unwrap());
    let actions = decide(&seen, SYSTEM).actions;
    assert!(matches!(&actions[..], [Action::Apply(kept)] if kept.kind == SECRET));

    // Before it is written down that there may be a twin, nothing is.
    seen.object.body["metadata"]["annotations"] = json!({});
    reach(&mut seen, None);
    let actions = decide(&seen, SYSTEM).actions;
    assert!(matches!(&actions[..], [Action::Patch(_)]), "{actions:?}");
}

#[test]
fn the_twin_asks_for_the_same_elsewhere_and_nothing_is_made_here() {
    let twin = twin(json!({}));
    assert_eq!(
        (twin.namespace(), twin.name()),
        (Some("tenants-of-east"), "acme")
    );
    assert_eq!(twin.body["spec"]["identity"], owner().id.as_str());
    assert_eq!(twin.body["spec"]["superCluster"], Value::Null);
    assert_eq!(twin.label(capi::CLUSTER_NAME), Some("acme"));
    assert_eq!(twin.annotation(marks::TWIN_OF), Some("tenants/acme"));
    assert_eq!(
        twin.items("/metadata/finalizers"),
        [json!(marks::INFRASTRUCTURE_FINALIZER)]
    );
    let mut edited = seen();
    reach(&mut edited, Some(twin));
    assert!(decide(&edited, SYSTEM).actions.is_empty());
    edited.object.body["spec"]["replicas"] = json!(3);
    assert!(matches!(
        &decide(&edited, SYSTEM).actions[..],
        [Action::Beyond(Deed::Apply(twin))] if twin.body["spec"]["replicas"] == 3
    ));
}

#[test]
fn that_there_may_be_a_twin_is_written_down_first_and_without_it_a_deletion_waits_for_nobody() {
    let mut unmarked = seen();
    unmarked.object.body["metadata"]["annotations"] = json!({});
    let decision = decide(&unmarked, SYSTEM);
    let [Action::Patch(patch)] = &decision.actions[..] else {
        panic!("{:?}", decision.actions);
    };
    assert_eq!(
        patch["metadata"]["annotations"][marks::TWIN],
        "tenants-of-east/acme"
    );
    let unmarked = going(Seen {
        beyond: Beyond::Refused("no Secret".into()),
        ..unmarked
    });
    assert!(leave(&unmarked, &owner(), SYSTEM).is_none());
}

#[test]
fn status_secrets_and_slice_come_from_the_twin() {
    let mut there = twin(running());
    there.body["spec"]["network"]["serviceCIDR"] = json!("10.96.4.0/22");
    let mut seen = seen();
    reach(&mut seen, Some(there.clone()));
    let decision = decide(&seen, SYSTEM);
    let [Action::Patch(patch)] = &decision.actions[..] else {
        panic!("{:?}", decision.actions);
    };
    assert_eq!(patch["spec"]["network"]["serviceCIDR"], "10.96.4.0/22");
    seen.vcp.spec.network.service_cidr = Some("10.96.4.0/22".into());

    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let secrets = [
        secret(
            "acme-kubeconfig",
            json!({"value": encoded(&kubeconfig("https://there:1"))}),
        ),
        secret(
            "acme-user-kubeconfig",
            json!({"value": encoded(&kubeconfig("https://there:1"))}),
        ),
        secret(
            "acme-ca",
            json!({"tls.crt": "YQ==", "tls.key": "Yg==", "more": "Yw=="}),
        ),
    ];
    seen.beyond = Beyond::Reached {
        twin: Some(there),
        secrets: secrets.into_iter().collect(),
    };
    let decision = decide(&seen, SYSTEM);
    let written: Vec<&Object> = decision
        .actions
        .iter()
        .map(|action| match action {
            Action::Apply(secret) => secret,
            other => panic!("{other:?}"),
        })
        .collect();
    let names: Vec<&str> = written.iter().map(|secret| secret.name()).collect();
    assert_eq!(
        names,
        ["acme-ca", "acme-kubeconfig", "acme-user-kubeconfig"]
    );
    assert_eq!(
        written[0].body["data"],
        json!({"tls.crt": "YQ==", "tls.key": "Yg=="})
    );
    assert_eq!(written[1].text("/type"), capi::SECRET_TYPE);
    assert_eq!(written[2].text("/type"), OPAQUE);
    let text = pki::text_of(written[1], "value").unwrap();
    assert_eq!(Access::parse(&text).unwrap().server, "https://there:1");

    for secret in written.into_iter().cloned() {
        if secret.name() == "acme-user-kubeconfig" {
            seen.user_secret = Some(secret);
        } else {
            seen.cluster_secrets.insert(secret);
        }
    }
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(decision.report.phase, Phase::Ready);
    assert!(fact(&decision, "ControlPlaneReady").unwrap().holds);
    assert!(fact(&decision, REACHABLE).unwrap().holds);
    assert_eq!(fact(&decision, "Synced"), None, "that is the syncer's");
    assert!(
        decision
            .report
            .fields
            .contains(&("endpoint", json!("https://192.0.2.1:40443")))
    );
}

/// Told sooner, Cluster API looks for the kubeconfig at once and then only half a minute later.
#[test]
fn a_tenant_does_not_answer_before_its_kubeconfig_is_here() {
    let mut seen = seen();
    reach(&mut seen, Some(twin(running())));
    let decision = decide(&seen, SYSTEM);
    for kind in ["ControlPlaneReady", "Ready"] {
        let fact = fact(&decision, kind).unwrap();
        assert_eq!(
            (fact.holds, fact.reason.as_str()),
            (false, "KubeconfigMissing")
        );
    }
    assert_eq!(decision.report.phase, Phase::Provisioning);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("tenants-of-east/acme-kubeconfig"),
        "{message}"
    );

    // One of foreign make isn't the tenant's.
    let mut secret = secret("acme-kubeconfig", json!({}));
    seen.cluster_secrets.insert(secret.clone());
    let decision = decide(&seen, SYSTEM);
    assert!(!fact(&decision, "ControlPlaneReady").unwrap().holds);
    secret.body["metadata"]["labels"] = json!(owner().labels());
    seen.cluster_secrets.insert(secret);
    let decision = decide(&seen, SYSTEM);
    assert!(fact(&decision, "ControlPlaneReady").unwrap().holds);
    assert_eq!(decision.report.phase, Phase::Ready);

    // Whoever isn't a Cluster has none to wait for.
    seen.cluster_secrets = Objects::default();
    seen.owner.as_mut().unwrap().cluster = None;
    let decision = decide(&seen, SYSTEM);
    assert!(fact(&decision, "ControlPlaneReady").unwrap().holds);

    // What the super cluster says of a part that isn't ready goes first.
    seen.owner = self::seen().owner;
    let mut status = running();
    status["conditions"] = json!([condition("ControlPlaneReady", "False", "PodsNotReady")]);
    reach(&mut seen, Some(twin(status)));
    let decision = decide(&seen, SYSTEM);
    assert_eq!(
        fact(&decision, "ControlPlaneReady").unwrap().reason,
        "PodsNotReady"
    );
}

/// T47: a kubeconfig that names a program never reaches who would run it.
#[test]
fn a_kubeconfig_from_there_that_could_do_more_is_refused() {
    let text = kubeconfig("https://there:1").replace("token:", "exec: {command: sh}\n    token:");
    let mut seen = seen();
    seen.beyond = Beyond::Reached {
        twin: Some(twin(running())),
        secrets: [secret(
            "acme-kubeconfig",
            json!({"value": BASE64_STANDARD.encode(text)}),
        )]
        .into_iter()
        .collect(),
    };
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("exec") && !message.contains("hidden"),
        "{message}"
    );
}

#[test]
fn what_is_of_others_is_left_alone() {
    let mut foreign = twin(json!({}));
    foreign.body["spec"]["identity"] = json!("b".repeat(26));
    let mut seen = seen();
    reach(&mut seen, Some(foreign.clone()));
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty());
    assert!(
        decision
            .report
            .message
            .unwrap()
            .contains("tenants-of-east/acme")
    );
    let mut leaving = going(seen);
    assert!(is_over(&leaving));

    // The kubeconfig leads back here.
    let mut own = twin(json!({}));
    own.body["metadata"]["uid"] = json!("vcp-uid");
    reach(&mut leaving, Some(own));
    assert!(is_over(&leaving));
    leaving.vcp.metadata.deletion_timestamp = None;
    let decision = decide(&leaving, SYSTEM);
    assert!(decision.actions.is_empty());
    assert_eq!(
        fact(&decision, REACHABLE).unwrap().reason,
        "KubeconfigRefused"
    );
}

#[test]
fn a_dead_super_cluster_is_told_and_changes_nothing() {
    for (beyond, reason) in [
        (
            Beyond::Unreachable("no answer".into()),
            "SuperClusterUnreachable",
        ),
        (Beyond::Refused("no Secret".into()), "KubeconfigRefused"),
    ] {
        let seen = Seen { beyond, ..seen() };
        let decision = decide(&seen, SYSTEM);
        assert!(decision.actions.is_empty());
        for kind in [REACHABLE, "Ready"] {
            let fact = fact(&decision, kind).unwrap();
            assert_eq!((fact.holds, fact.reason.as_str()), (false, reason));
        }
        assert_eq!(
            fact(&decision, "ControlPlaneReady"),
            None,
            "what it said last stands"
        );
        // What was asked for since then isn't there.
        let before = decision.report.fields.iter();
        let said = before.filter(|(field, _)| *field == "observedGeneration");
        assert_eq!(
            said.map(|(_, before)| before).collect::<Vec<_>>(),
            [&Value::Null]
        );
        let decision = leave(&going(seen), &owner(), SYSTEM).unwrap();
        assert!(decision.actions.is_empty(), "{:?}", decision.actions);
        assert!(decision.report.message.unwrap().contains(marks::FINALIZER));
    }
}

/// Nothing can be made in it, the manager's right to the kubeconfig among that.
#[test]
fn one_whose_namespace_goes_with_the_kubeconfig_says_what_is_left_and_does_not_try_for_ever() {
    let mut seen = going(seen());
    seen.access_beside = None;
    let home = |body| Some(Object::new(crate::object::NAMESPACE, None, "tenants", body));
    seen.home = home(json!({}));
    let decision = leave(&seen, &owner(), SYSTEM).unwrap();
    assert!(matches!(decision.actions[..], [Action::Apply(_)]));
    seen.home = home(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let decision = leave(&seen, &owner(), SYSTEM).unwrap();
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(fact(&decision, REACHABLE).unwrap().reason, "Unreachable");
    assert_eq!(decision.report.again, SETTLED);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("namespace tenants") && message.contains(marks::FINALIZER),
        "{message}"
    );
    given(&mut seen);
    reach(&mut seen, Some(twin(running())));
    let actions = leave(&seen, &owner(), SYSTEM).unwrap().actions;
    assert!(
        matches!(&actions[..], [Action::Beyond(Deed::Delete(_))]),
        "{actions:?}"
    );
}

#[test]
fn the_twin_goes_first_and_its_keys_with_the_place() {
    let mut there = twin(json!({}));
    let mut seen = going(seen());
    reach(&mut seen, Some(there.clone()));
    let said = |seen: &Seen| {
        let decision = leave(seen, seen.owner.as_ref().unwrap(), SYSTEM).unwrap();
        let actions = decision.actions.iter().map(|action| format!("{action:?}"));
        (actions.collect::<Vec<_>>().join(" "), decision.report)
    };
    assert_eq!(
        said(&seen).0,
        "Beyond(Delete(VirtualControlPlane tenants-of-east/acme))"
    );

    there.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    there.body["metadata"]["finalizers"] =
        json!([marks::FINALIZER, marks::INFRASTRUCTURE_FINALIZER]);
    there.body["status"] = json!({"message": "waiting for pods"});
    reach(&mut seen, Some(there.clone()));
    let (actions, report) = said(&seen);
    assert_eq!(
        (actions.as_str(), report.message.as_deref()),
        ("", Some("waiting for pods"))
    );

    there.body["status"] =
        json!({"conditions": [condition("ControlPlaneReady", "False", "Ended")]});
    reach(&mut seen, Some(there.clone()));
    let ended = |fact: &Fact| fact.kind == "ControlPlaneReady" && fact.reason == status::ENDED;
    assert!(said(&seen).1.conditions.iter().any(ended));

    // The place lets go.
    seen.vcp.metadata.finalizers = Some(vec![marks::FINALIZER.into()]);
    assert!(
        said(&seen)
            .0
            .starts_with("Beyond(Merge(VirtualControlPlane tenants-of-east/acme")
    );
    there.body["metadata"]["finalizers"] = json!([marks::FINALIZER]);
    reach(&mut seen, Some(there));
    assert_eq!(said(&seen).0, "");
    reach(&mut seen, None);
    assert!(is_over(&seen));
    seen.object.body["metadata"]["annotations"] = json!({});
    assert!(leave(&seen, &owner(), SYSTEM).is_none());
    assert!(matches!(
        decide(&seen, SYSTEM).actions.last(),
        Some(Action::Release)
    ));
}

#[test]
fn a_status_of_an_older_spec_is_not_passed_off_as_the_newest() {
    let mut there = twin(running());
    there.body["metadata"]["generation"] = json!(2);
    let mut seen = seen();
    reach(&mut seen, Some(there));
    let decision = decide(&seen, SYSTEM);
    assert!(
        decision
            .report
            .fields
            .contains(&("observedGeneration", Value::Null))
    );
}

/// An authority as a person would put it down here.
fn brought(seen: &Seen, name: &str) -> Object {
    let order = pki::Order {
        namespace: "n".into(),
        name: "ca".into(),
        metadata: json!({}),
        material: pki::Material::Authority(pki::Authority::Cluster),
        secret_type: OPAQUE,
        identity: "person".into(),
    };
    let made = pki::issue(&order, None, seen.now).unwrap();
    beside(name, made.body["data"].clone())
}

/// A Secret of the Cluster, as a person puts it down.
fn beside(name: &str, data: Value) -> Object {
    let labels = json!({capi::CLUSTER_NAME: "acme"});
    let body = json!({"metadata": {"labels": labels}, "data": data});
    Object::new(SECRET, Some(&owner().namespace), name, body)
}

fn beyond(decision: &Decision) -> Vec<String> {
    let done = decision.actions.iter().map(|action| match action {
        Action::Beyond(Deed::Apply(object)) => format!("apply {object:?}"),
        Action::Beyond(Deed::Delete(object)) => format!("delete {object:?}"),
        other => format!("{other:?}"),
    });
    done.collect()
}

#[test]
fn an_authority_that_a_person_brought_is_handed_on_before_the_twin_and_goes_with_it() {
    let mut seen = seen();
    let theirs = brought(&seen, "acme-ca");
    seen.cluster_secrets.insert(theirs.clone());
    let decision = decide(&seen, SYSTEM);
    assert_eq!(
        beyond(&decision),
        [
            "apply Secret tenants-of-east/acme-ca",
            "apply VirtualControlPlane tenants-of-east/acme"
        ]
    );
    let Action::Beyond(Deed::Apply(there)) = &decision.actions[0] else {
        panic!("{decision:?}");
    };
    assert_eq!(there.body["data"], theirs.body["data"]);
    assert!(
        cluster_keys::is_anothers(&owner(), there),
        "as if a person had put it there"
    );
    // Once.
    let secrets = |there: &Object| Objects::from_iter([there.clone()]);
    seen.beyond = Beyond::Reached {
        twin: None,
        secrets: secrets(there),
    };
    assert_eq!(
        beyond(&decide(&seen, SYSTEM)),
        ["apply VirtualControlPlane tenants-of-east/acme"]
    );
    // Without a twin a deletion takes it back.
    let leaving = going(Seen {
        cluster_secrets: seen.cluster_secrets.clone(),
        beyond: seen.beyond.clone(),
        ..self::seen()
    });
    let left = leave(&leaving, leaving.owner.as_ref().unwrap(), SYSTEM).unwrap();
    assert_eq!(beyond(&left), ["delete Secret tenants-of-east/acme-ca"]);

    // The twin owns it, and what is here stays a person's.
    let twin = self::twin(running());
    seen.beyond = Beyond::Reached {
        twin: Some(twin.clone()),
        secrets: secrets(there),
    };
    let decision = decide(&seen, SYSTEM);
    let [Action::Beyond(Deed::Apply(owned))] = &decision.actions[..] else {
        panic!("{:?}", decision.actions);
    };
    assert_eq!(
        owned.body["metadata"]["ownerReferences"][0]["uid"],
        twin.uid()
    );
    seen.beyond = Beyond::Reached {
        twin: Some(twin),
        secrets: secrets(owned),
    };
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert_eq!(
        fact(&decision, "CertificatesAvailable"),
        None,
        "the twin says nothing else"
    );

    // Another one that comes later isn't used.
    seen.cluster_secrets.insert(brought(&seen, "acme-ca"));
    let late = decide(&seen, SYSTEM);
    assert!(late.actions.is_empty(), "{:?}", late.actions);
    let told = fact(&late, "CertificatesAvailable").unwrap();
    assert_eq!((told.holds, &*told.reason), (false, "NotUsed"));
}

#[test]
fn what_can_not_be_handed_on_is_told_and_the_twin_is_not_made() {
    let mut damaged = seen();
    damaged
        .cluster_secrets
        .insert(beside("acme-etcd", json!({})));
    let mut taken = seen();
    let theirs = brought(&taken, "acme-ca");
    taken.cluster_secrets.insert(theirs.clone());
    taken.beyond = Beyond::Reached {
        twin: None,
        secrets: [secret("acme-ca", theirs.body["data"].clone())]
            .into_iter()
            .collect(),
    };
    for (seen, words) in [
        (damaged, "/acme-etcd"),
        (
            taken,
            "tenants-of-east/acme-ca exists and isn't this tenant's",
        ),
    ] {
        let decision = decide(&seen, SYSTEM);
        assert!(decision.actions.is_empty(), "{:?}", decision.actions);
        assert_eq!(decision.report.phase, Phase::Failed);
        let message = decision.report.message.unwrap();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn new_certificates_are_asked_for_where_they_are_made() {
    let mut seen = seen();
    let time = "2026-01-01T00:00:00Z";
    seen.object.body["metadata"]["annotations"][marks::RENEW_CERTIFICATES] = json!(time);
    let asked = wanted(&seen, seen.owner.as_ref().unwrap());
    assert_eq!(asked.annotation(marks::RENEW_CERTIFICATES), Some(time));
    assert!(!asked.is_met_by(&twin(json!({}))));
}
