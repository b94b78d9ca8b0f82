use super::*;
use crate::{
    decide::tests::seen_as,
    object::{CLUSTER, SECRET},
};
use serde_json::{Value, json};

/// Makes it the control plane of the Cluster `cluster`, in every respect.
pub(crate) fn join(seen: &mut Seen, cluster: &str) {
    let owner = seen.owner.as_mut().unwrap();
    owner.cluster = Some(Membership {
        cluster: cluster.to_owned(),
        control_plane: Some(json!({
            "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha1", "kind": "SubletControlPlane",
            "name": "maker", "uid": "maker",
        })),
    });
    let namespace = Some(&*owner.namespace);
    let spec = json!({"metadata": {"uid": "c"}, "spec": {
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "SubletCluster", "name": "place"},
        "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "SubletControlPlane", "name": "maker"},
    }});
    seen.cluster = Some(Object::new(CLUSTER, namespace, cluster, spec));
    let identity = json!({"metadata": {"uid": "p"}, "spec": {"identity": owner.id.as_str()}});
    seen.place = Some(Object::new(SUBLET_CLUSTER, namespace, "place", identity));
}

fn member() -> Seen {
    let mut seen = seen_as(crate::spec::control_plane::tests::vcp());
    join(&mut seen, "acme");
    seen
}

fn refused(seen: &Seen) -> bool {
    check(seen, seen.owner.as_ref().unwrap()).is_err()
}

#[test]
fn one_that_the_cluster_does_not_name_is_not_its_control_plane() {
    assert!(!refused(&member()));
    let mut alone = member();
    alone.owner.as_mut().unwrap().cluster = None;
    alone.cluster = None;
    assert!(!refused(&alone), "it names none");

    let wrongs: [fn(&mut Seen); 9] = [
        |seen| seen.cluster = None,
        |seen| seen.place = None,
        |seen| {
            seen.owner
                .as_mut()
                .unwrap()
                .cluster
                .as_mut()
                .unwrap()
                .control_plane = None;
        },
        // Another provider's Cluster.
        |seen| {
            let spec = &mut seen.cluster.as_mut().unwrap().body["spec"];
            spec["controlPlaneRef"]["kind"] = json!("KubeadmControlPlane");
        },
        |seen| {
            let spec = &mut seen.cluster.as_mut().unwrap().body["spec"];
            spec["infrastructureRef"]["kind"] = json!("DockerCluster");
        },
        // Another Cluster of ours.
        |seen| {
            let spec = &mut seen.cluster.as_mut().unwrap().body["spec"];
            spec["controlPlaneRef"]["name"] = json!("other");
        },
        |seen| seen.place.as_mut().unwrap().body["spec"]["identity"] = json!("other"),
        |seen| {
            seen.owner
                .as_mut()
                .unwrap()
                .cluster
                .as_mut()
                .unwrap()
                .cluster = "prod".into();
        },
        // That it is a twin, too, which has no Cluster beside it.
        |seen| {
            seen.place = None;
            let twin_of = json!({marks::TWIN_OF: "any/acme"});
            seen.object.body["metadata"]["annotations"] = twin_of;
        },
    ];
    for (number, wrong) in wrongs.into_iter().enumerate() {
        let mut seen = member();
        wrong(&mut seen);
        assert!(refused(&seen), "{number}");
    }
}

#[test]
fn a_twin_is_one_by_its_name_and_has_what_was_handed_on_to_it() {
    let mut twin = member();
    twin.cluster = None;
    twin.place = None;
    for (of, is_refused) in [("east/acme", false), ("east/other", true)] {
        twin.object.body["metadata"]["annotations"] = json!({marks::TWIN_OF: of});
        assert_eq!(refused(&twin), is_refused, "{of}");
    }
    twin.object.body["metadata"]["annotations"] = json!({marks::TWIN_OF: "east/acme"});
    let is_for = |annotations: Value| {
        let labels = json!({capi::CLUSTER_NAME: "acme"});
        let body = json!({"metadata": {"labels": labels, "annotations": annotations}});
        let secret = Object::new(SECRET, Some("tenants"), "acme-ca", body);
        super::is_for(&twin, twin.owner.as_ref().unwrap(), &secret)
    };
    assert!(is_for(json!({marks::TWIN_OF: "east/acme"})));
    assert!(!is_for(json!({})) && !is_for(json!({marks::TWIN_OF: "west/acme"})));
    let of = twin.owner.as_mut().unwrap().cluster.as_mut();
    of.unwrap().cluster = "prod".into();
    assert!(refused(&twin), "of a Cluster of another name");
}

#[test]
fn a_secret_of_another_provider_is_not_for_the_tenant() {
    let seen = member();
    let is_for = |label: &str, holder: Value| {
        let labels = json!({capi::CLUSTER_NAME: label});
        let body = json!({"metadata": {"labels": labels, "ownerReferences": [holder]}});
        let secret = Object::new(SECRET, Some("tenants"), "acme-ca", body);
        super::is_for(&seen, seen.owner.as_ref().unwrap(), &secret)
    };
    let own = json!({"kind": "VirtualControlPlane", "uid": "vcp-uid"});
    assert!(is_for("acme", own.clone()));
    for (kind, uid) in [
        ("Cluster", "c"),
        ("SubletCluster", "p"),
        ("SubletControlPlane", "maker"),
    ] {
        assert!(is_for("acme", json!({"kind": kind, "uid": uid})), "{kind}");
        let another = json!({"kind": kind, "uid": "another"});
        assert!(!is_for("acme", another), "another {kind}");
    }
    assert!(!is_for("other", own));
    assert!(!is_for(
        "acme",
        json!({"kind": "KubeadmControlPlane", "uid": "k"})
    ));
    assert!(!is_for(
        "acme",
        json!({"kind": "VirtualControlPlane", "uid": "another"})
    ));
}
