use super::*;
use crate::{
    decide::tests::seen,
    pki::{Order, issue},
    spec::control_plane::{Membership, tests::control_plane},
};

/// A control plane that is a Cluster's.
fn cluster_plane() -> ControlPlane {
    let mut cp = control_plane();
    let reference = json!({"kind": "SubletControlPlane", "name": "blue-x", "uid": "scp"});
    cp.owner.cluster = Some(Membership {
        cluster: "blue".into(),
        control_plane: Some(reference),
    });
    cp
}

/// All keys in the control plane's namespace.
fn with_keys(cp: &ControlPlane) -> Seen {
    let mut seen = seen();
    for shown in shown() {
        let order = Order {
            namespace: cp.namespace.clone(),
            name: shown.secret.to_owned(),
            metadata: json!({}),
            material: shown.material,
            secret_type: OPAQUE,
            identity: cp.owner.id.to_string(),
        };
        seen.objects.insert(issue(&order, None, seen.now).unwrap());
    }
    seen
}

fn theirs(name: &str, source: &Object) -> Object {
    let data = json!({
        "tls.crt": source.body["data"]["tls.crt"], "tls.key": source.body["data"]["tls.key"],
    });
    beside(name, data)
}

/// A Secret of the Cluster, as a person puts it down.
fn beside(name: &str, data: Value) -> Object {
    let labels = json!({"cluster.x-k8s.io/cluster-name": "blue"});
    let body = json!({"metadata": {"labels": labels}, "data": data});
    Object::new(SECRET, Some("tenants"), name, body)
}

#[test]
fn the_four_secrets_have_the_contracts_names_type_label_and_keys() {
    let cp = cluster_plane();
    let seen = with_keys(&cp);
    let made = objects(&cp, &seen);
    let names: Vec<&str> = made.iter().map(Object::name).collect();
    assert_eq!(names, ["blue-ca", "blue-etcd", "blue-proxy", "blue-sa"]);
    for secret in &made {
        assert_eq!(secret.text("/type"), "cluster.x-k8s.io/secret");
        assert_eq!(secret.label("cluster.x-k8s.io/cluster-name"), Some("blue"));
        assert_eq!(secret.namespace(), Some("tenants"));
        let owners = secret.items("/metadata/ownerReferences");
        assert_eq!(owners[0]["kind"], "SubletControlPlane");
        assert!(
            pki::text(secret, "tls.crt")
                .unwrap()
                .starts_with("-----BEGIN")
        );
        assert!(
            pki::text(secret, "tls.key")
                .unwrap()
                .contains("PRIVATE KEY")
        );
    }
    assert!(
        pki::text(&made[3], "tls.crt")
            .unwrap()
            .contains("PUBLIC KEY")
    );
    assert!(objects(&control_plane(), &seen).is_empty(), "no Cluster");
    assert_eq!(fact(&control_plane(), &seen), None);
    assert!(fact(&cp, &seen).unwrap().holds);
}

#[test]
fn an_authority_that_was_there_first_is_used_and_kept() {
    let cp = cluster_plane();
    let source = with_keys(&cp);
    let brought = theirs("blue-ca", source.objects.get(SECRET, "ca").unwrap());
    let mut seen = seen();
    seen.cluster_secrets.insert(brought.clone());
    let made = from_a_person(&cp, &seen).unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(
        (made[0].name(), made[0].namespace()),
        ("ca", Some(&*cp.namespace))
    );
    assert_eq!(made[0].body["data"], brought.body["data"]);

    seen.objects.insert(made[0].clone());
    assert!(from_a_person(&cp, &seen).unwrap().is_empty(), "once");
    assert!(objects(&cp, &seen).is_empty(), "theirs is left as it is");
    assert!(fact(&cp, &seen).unwrap().holds);

    seen.cluster_secrets.insert(beside("blue-etcd", json!({})));
    let refusal = from_a_person(&cp, &seen).unwrap_err();
    assert_eq!(refusal.reason(), "AuthorityRefused");
    assert!(
        refusal.to_string().contains("tenants/blue-etcd"),
        "{refusal}"
    );
}

#[test]
fn an_authority_of_another_provider_is_neither_used_nor_written() {
    let cp = cluster_plane();
    let source = with_keys(&cp);
    let mut brought = theirs("blue-ca", source.objects.get(SECRET, "ca").unwrap());
    let holder = json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane",
        "name": "blue", "uid": "kcp"});
    brought.body["metadata"]["ownerReferences"] = json!([holder]);
    let mut seen = seen();
    seen.cluster_secrets.insert(brought);
    let refusal = from_a_person(&cp, &seen).unwrap_err();
    assert_eq!(refusal.reason(), "NameTaken");
    assert!(usable(&seen, &cp.owner).is_err());
}

#[test]
fn an_authority_that_comes_too_late_is_left_alone_and_told_of() {
    let cp = cluster_plane();
    let mut seen = with_keys(&cp);
    let other = with_keys(&cp);
    seen.cluster_secrets
        .insert(theirs("blue-ca", other.objects.get(SECRET, "ca").unwrap()));
    assert!(from_a_person(&cp, &seen).unwrap().is_empty());
    assert_eq!(objects(&cp, &seen).len(), 3);
    let fact = fact(&cp, &seen).unwrap();
    assert!(
        !fact.holds && fact.message.contains("tenants/blue-ca"),
        "{fact:?}"
    );
}

/// Cluster API reads the Secret anew; people who fetched theirs don't.
#[test]
fn the_kubeconfig_of_cluster_api_lives_shortly() {
    let days = |order: Order| match order.material {
        Material::Leaf(leaf) => leaf.days,
        other => panic!("{other:?}"),
    };
    let (cp, addresses) = (cluster_plane(), crate::provision::tests::addresses());
    let for_core = keys::cluster_kubeconfig(&cp, &addresses).unwrap();
    assert_eq!(days(for_core), pki::SHORT_DAYS);
    let for_people = keys::user_kubeconfig(&cp, &addresses);
    assert_eq!(days(for_people), pki::LEAF_DAYS);
}

#[test]
fn an_authority_that_has_expired_is_refused_before_it_is_used() {
    let cp = cluster_plane();
    let source = with_keys(&cp);
    let brought = theirs("blue-ca", source.objects.get(SECRET, "ca").unwrap());
    let end = pki::end_of(&pki::text(&brought, "tls.crt").unwrap()).unwrap();
    let mut seen = seen();
    seen.cluster_secrets.insert(brought);
    seen.now = end;
    let refusal = from_a_person(&cp, &seen).unwrap_err();
    assert_eq!(refusal.reason(), "AuthorityRefused");
    assert!(refusal.to_string().contains("has expired"), "{refusal}");
}
