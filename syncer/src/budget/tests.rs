//! Claims against a group whose status others write to as well.

use super::*;
use crate::fake::{self, Server, fake, tenant};
use api::keys;
use serde_json::json;
use tenancy::kind::index;

/// An engine, a tenant under the budget of a group of two, and the super cluster's side.
fn group_of_two() -> (Arc<Engine>, Arc<Tenant>, Server) {
    let (cluster, server) = fake();
    let engine = fake::engine(&cluster);
    let tenant = tenant(&cluster);
    let members = Members::from([
        (tenant.id.clone(), "tenants/acme".to_owned()),
        (other(), "tenants/other".to_owned()),
    ]);
    let shared = Shared {
        hard: Amounts::from([("pods".to_owned(), 2000)]),
        members: Arc::new(members),
    };
    let shared = BTreeMap::from([("customer".to_owned(), shared)]);
    tenant.quota.limit(&Amounts::new(), shared);
    tenant.quota.counted();
    (Arc::new(engine), Arc::new(tenant), server)
}

fn other() -> TenantId {
    TenantId::from_bits([2; 16])
}

fn stored(version: u64, status: &Value) -> Value {
    json!({
        "apiVersion": "sublet.dev/v1alpha1", "kind": "ControlPlaneGroup",
        "metadata": {"name": "customer", "uid": "g", "resourceVersion": version.to_string()},
        "spec": {"namespaces": ["tenants"], "quota": {"pods": "2"}},
        "status": status,
    })
}

/// The status in which the other tenant has so many pods.
fn others(pods: usize) -> Value {
    let share = json!({"controlPlane": "tenants/other", "used": {"pods": pods.to_string()}});
    json!({"shares": {other().as_str(): share}})
}

fn key(number: usize) -> Key {
    Key::new(index("Pod"), "default", &format!("p{number}"))
}

fn reserve(tenant: &Tenant, number: usize) -> Result<Option<&'static str>, Failure> {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
    let pod = Object::from_value(pod).unwrap();
    quota::reserve(tenant, &key(number), &pod).map(|refused| refused.map(|refused| refused.reason))
}

fn conflict() -> Value {
    json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "it changed"})
}

#[tokio::test]
async fn a_share_is_raised_first_by_a_write_that_holds_for_what_was_read() {
    let (engine, tenant, mut server) = group_of_two();
    assert!(matches!(reserve(&tenant, 0), Err(Failure::Waiting(_))));
    let answering = tokio::spawn(async move {
        server.answer("GET", 200, &stored(1, &others(0))).await;
        server.answer("PATCH", 409, &conflict()).await;
        // Another syncer was first, and took one.
        server.answer("GET", 200, &stored(2, &others(1))).await;
        let written = server.answer("PATCH", 200, &stored(3, &others(1))).await;
        (server, written)
    });
    claim(&engine, &tenant).await.unwrap();
    let (mut server, written) = answering.await.unwrap();
    assert!(
        written
            .path
            .ends_with("/controlplanegroups/customer/status")
    );
    let tests = written.body.to_string();
    assert!(
        tests.contains(r#""path":"/metadata/resourceVersion","value":"2""#),
        "{tests}"
    );
    let status = &written.body.as_array().unwrap().last().unwrap()["value"];
    assert_eq!(status["quota"]["used"]["pods"], "2");
    assert_eq!(status["shares"][tenant.id.as_str()]["used"]["pods"], "1");
    assert_eq!(reserve(&tenant, 0).unwrap(), None);

    // Whoever finds no room is refused only by what is stored now, and nothing is written.
    assert!(matches!(reserve(&tenant, 1), Err(Failure::Waiting(_))));
    let status = status.clone();
    let answering = tokio::spawn(async move {
        server.answer("GET", 200, &stored(3, &status)).await;
        server
    });
    claim(&engine, &tenant).await.unwrap();
    let mut server = answering.await.unwrap();
    assert!(server.is_silent());
    assert_eq!(reserve(&tenant, 1).unwrap(), Some(quota::EXCEEDED));
    assert!(!tenant.quota.must_claim());

    // The other gives one back, and the watch tells of it.
    let group = serde_json::from_value(stored(4, &others(0))).unwrap();
    engine.tenants.insert(tenant.id.clone(), tenant.clone());
    heard(&engine, 4, &group);
    assert!(tenant.quota.must_claim());
}

#[tokio::test]
async fn nothing_is_granted_before_all_members_are_counted() {
    let (engine, tenant, mut server) = group_of_two();
    assert!(matches!(reserve(&tenant, 0), Err(Failure::Waiting(_))));
    let answering = tokio::spawn(async move {
        server.answer("GET", 200, &stored(1, &json!({}))).await;
        let pod = |name: &str| {
            let owner = other();
            let place = tenancy::naming::super_namespace(&owner, "acme", "n");
            json!({"metadata": {"name": name, "namespace": place, "uid": name, "labels": {keys::TENANT: owner.as_str()},
                "annotations": {keys::NAMESPACE: "n", keys::NAME: name, keys::UID: "u"}}})
        };
        let pods = json!({"kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": [pod("a"), pod("b")]});
        let listed = server.answer("GET", 200, &pods).await;
        let written = server.answer("PATCH", 200, &stored(2, &json!({}))).await;
        (listed, written)
    });
    claim(&engine, &tenant).await.unwrap();
    let (listed, written) = answering.await.unwrap();
    assert!(listed.query.contains(other().as_str()), "{}", listed.query);
    let status = &written.body.as_array().unwrap().last().unwrap()["value"];
    assert_eq!(status["shares"][other().as_str()]["used"]["pods"], "2");
    assert_eq!(reserve(&tenant, 0).unwrap(), Some(quota::EXCEEDED));
}

#[tokio::test]
async fn a_share_of_a_control_plane_that_is_gone_is_free() {
    let (engine, tenant, mut server) = group_of_two();
    assert!(matches!(reserve(&tenant, 0), Err(Failure::Waiting(_))));
    let gone = TenantId::from_bits([3; 16]);
    let mut status = others(0);
    status["shares"][gone.as_str()] =
        json!({"controlPlane": "tenants/gone", "used": {"pods": "2"}});
    let answering = tokio::spawn(async move {
        server.answer("GET", 200, &stored(1, &status)).await;
        let missing = json!({"kind": "Status", "reason": "NotFound", "code": 404});
        let asked = server.answer("GET", 404, &missing).await;
        let written = server.answer("PATCH", 200, &stored(2, &others(0))).await;
        (asked, written)
    });
    claim(&engine, &tenant).await.unwrap();
    let (asked, written) = answering.await.unwrap();
    assert!(
        asked.path.ends_with("/virtualcontrolplanes/gone"),
        "{}",
        asked.path
    );
    let status = &written.body.as_array().unwrap().last().unwrap()["value"];
    assert!(status["shares"].get(gone.as_str()).is_none(), "{status}");
    assert_eq!(reserve(&tenant, 0).unwrap(), None);
}
