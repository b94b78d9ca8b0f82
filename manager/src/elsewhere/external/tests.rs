use super::*;
use crate::{
    clients::kubeconfig::Credentials,
    decide::{decide, tests::seen_as},
    spec::control_plane::tests::{owner, vcp},
};
use api::{Phase, SecretRef};

const SYSTEM: &str = "sublet-system";

/// An external tenant whose Secret holds `kubeconfig`.
fn seen(kubeconfig: &str) -> Seen {
    let mut vcp = vcp();
    vcp.metadata.finalizers = Some(vec![api::keys::FINALIZER.into()]);
    let reference = SecretRef {
        name: "theirs".into(),
        key: "value".into(),
    };
    vcp.spec.external = Some(External {
        kubeconfig_secret_ref: reference,
        way_out: None,
    });
    let data = json!({"data": {"value": BASE64_STANDARD.encode(kubeconfig)}});
    let mut seen = seen_as(vcp);
    seen.access_beside = Some(provision::access_beside(&owner(), SYSTEM));
    seen.external_secret = Some(Object::new(SECRET, Some("tenants"), "theirs", data));
    seen
}

fn kubeconfig() -> String {
    let access = Access {
        server: "https://elsewhere:6443".into(),
        ca: "authority".into(),
        tls_server_name: None,
        namespace: None,
        credentials: Credentials::Token("hidden".into()),
    };
    access.to_yaml("theirs", "they").unwrap()
}

#[test]
fn nothing_is_provisioned_and_the_syncer_gets_what_was_understood() {
    let mut seen = seen(&kubeconfig());
    let decision = decide(&seen, SYSTEM);
    let [Action::Apply(copy)] = &decision.actions[..] else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!(copy.name(), naming::tenant_kubeconfig(&owner().id));
    assert_eq!(
        copy.label(api::keys::ROLE),
        Some(api::keys::ROLE_TENANT_KUBECONFIG)
    );
    let text = pki::text_of(copy, keys::SYNCER_KEY).unwrap();
    assert_eq!(
        Access::parse(&text).unwrap().server,
        "https://elsewhere:6443"
    );

    seen.syncer_secret = Some(copy.clone());
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty());
    assert!(decision.report.message.unwrap().contains("syncer"));
    assert!(
        decision
            .report
            .fields
            .contains(&("endpoint", json!("https://elsewhere:6443")))
    );
}

#[test]
fn a_kubeconfig_that_could_do_more_is_refused_in_a_condition_without_its_secrets() {
    let text = kubeconfig().replace("token:", "exec: {command: sh}\n    token:");
    let decision = decide(&seen(&text), SYSTEM);
    assert!(decision.actions.is_empty());
    assert_eq!(decision.report.phase, Phase::Failed);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("tenants/theirs") && message.contains("exec"),
        "{message}"
    );
    assert!(!message.contains("hidden"), "{message}");

    let missing = Seen {
        external_secret: None,
        ..seen("")
    };
    assert!(
        decide(&missing, SYSTEM)
            .report
            .message
            .unwrap()
            .contains("doesn't exist")
    );
}

#[test]
fn a_slice_that_is_given_is_claimed_and_must_be_free() {
    let mut seen = seen(&kubeconfig());
    seen.vcp.spec.network.service_cidr = Some("10.96.8.0/22".into());
    let decision = decide(&seen, SYSTEM);
    assert!(
        matches!(&decision.actions[..], [Action::Create(claim)] if claim.name() == "slice-10-96-8-0")
    );
    seen.vcp.spec.network.service_cidr = Some("10.0.0.0/22".into());
    assert_eq!(decide(&seen, SYSTEM).report.phase, Phase::Failed);
}

#[test]
fn one_whose_class_is_missing_is_refused() {
    let missing = Seen {
        class: None,
        ..seen(&kubeconfig())
    };
    let decision = decide(&missing, SYSTEM);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let message = decision.report.message.unwrap();
    assert!(
        message.contains("there is no ControlPlaneClass"),
        "{message}"
    );
}

#[test]
fn one_whose_class_is_for_other_namespaces_is_refused() {
    let mut seen = seen(&kubeconfig());
    seen.class.as_mut().unwrap().spec.namespaces = vec!["platform".into()];
    let decision = decide(&seen, SYSTEM);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let message = decision.report.message.unwrap();
    assert!(message.contains("isn't for namespace tenants"), "{message}");
    seen.class
        .as_mut()
        .unwrap()
        .spec
        .namespaces
        .push("tenants".into());
    assert!(!decide(&seen, SYSTEM).actions.is_empty());
}
