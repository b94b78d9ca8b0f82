//! Counting what a tenant uses while its limits change.

use super::*;
use crate::fake::{self, Server, fake, tenant};
use api::keys;

fn limit(tenant: &Tenant, pods: i128) {
    let own = Amounts::from([("pods".to_owned(), pods * 1000)]);
    tenant.quota.limit(&own, BTreeMap::new());
}

fn pods(tenant: &Tenant, names: &[&str]) -> Value {
    let place = tenancy::naming::super_namespace(&tenant.id, "acme", "n");
    let pod = |name: &&str| {
        json!({"metadata": {"name": name, "namespace": place, "uid": name, "labels": {keys::TENANT: tenant.id.as_str()},
            "annotations": {keys::NAMESPACE: "n", keys::NAME: name, keys::UID: "u"}}})
    };
    let items: Vec<Value> = names.iter().map(pod).collect();
    json!({"kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": items})
}

fn engine() -> (Arc<Engine>, Arc<Tenant>, Server) {
    let (cluster, server) = fake();
    let engine = fake::engine(&cluster);
    (Arc::new(engine), Arc::new(tenant(&cluster)), server)
}

#[tokio::test]
async fn limits_that_change_during_a_count_are_counted_anew() {
    let (engine, tenant, mut server) = engine();
    limit(&tenant, 5);
    let answered = tenant.clone();
    let answering = tokio::spawn(async move {
        // They change while the list is on its way.
        limit(&answered, 7);
        let list = pods(&answered, &["a", "b"]);
        server.answer("GET", 200, &list).await;
        server
    });
    count(&engine, &tenant).await.unwrap();
    let mut server = answering.await.unwrap();
    assert!(
        tenant.quota.ledger.lock().is_counting(),
        "what was counted under the old limits is none of the new ones'"
    );

    let list = pods(&tenant, &["a", "b", "c"]);
    let answering = tokio::spawn(async move { server.answer("GET", 200, &list).await });
    count(&engine, &tenant).await.unwrap();
    answering.await.unwrap();
    let ledger = tenant.quota.ledger.lock();
    assert!(!ledger.is_counting());
    assert_eq!(ledger.state()["pods"], (3000, 7000));
}

/// T43: pods that are made at once count with what their runtime takes, which the super cluster writes into them.
#[test]
fn t43_the_overhead_of_a_runtime_counts_before_the_pod_exists() {
    let (cluster, _server) = fake();
    let tenant = tenant(&cluster);
    let own = Amounts::from([("requests.cpu".to_owned(), 3000)]);
    tenant.quota.limit(&own, BTreeMap::new());
    tenant.quota.counted();
    let class = json!({"metadata": {"name": "kata"}, "overhead": {"podFixed": {"cpu": "500m"}}});
    tenant.offered.note(
        &Key::new(kind::index("RuntimeClass"), "", "kata"),
        &Object::from_value(class).unwrap(),
    );
    let reserve = |name: &str, class: &str| {
        let resources = json!({"requests": {"cpu": "1"}});
        let spec = json!({"runtimeClassName": class, "containers": [{"resources": resources}]});
        let pod = Object::from_value(json!({"metadata": {"name": name}, "spec": spec}));
        let key = Key::new(kind::index("Pod"), "n", name);
        reserve(&tenant, &key, &pod.unwrap()).unwrap()
    };
    assert_eq!(reserve("a", "kata"), None);
    assert_eq!(reserve("b", "kata"), None);
    assert_eq!(tenant.quota.ledger.lock().state()["requests.cpu"].0, 3000);
    assert_eq!(reserve("c", "none").unwrap().reason, EXCEEDED);
}

/// T43: what ended stays in the super cluster's store until somebody deletes it.
#[tokio::test]
async fn t43_a_pod_that_has_ended_gives_its_room_back_and_keeps_its_place_among_all() {
    let (engine, tenant, _server) = engine();
    let own = Amounts::from([("pods".to_owned(), 1000), ("count/pods".to_owned(), 2000)]);
    tenant.quota.limit(&own, BTreeMap::new());
    tenant.quota.counted();
    let pod = |name: &str, phase: &str| {
        let metadata = json!({"name": name, "uid": name});
        let pod =
            json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}});
        Object::from_value(pod).unwrap()
    };
    let key = |name: &str| Key::new(kind::index("Pod"), "n", name);
    for name in ["a", "b"] {
        let refused = reserve(&tenant, &key(name), &pod(name, "Pending")).unwrap();
        assert_eq!(refused, None, "{name}");
        exists(&engine, &tenant, &key(name), &pod(name, "Succeeded"));
        // Its end is told to the tenant, and that brings the key back.
        tenant.table.update(&key(name), |entry| {
            entry.twin = Some(crate::fake::super_side(name, "own"));
        });
        let again = reserve(&tenant, &key(name), &pod(name, "Pending")).unwrap();
        assert_eq!(again, None, "{name}");
    }
    let third = || reserve(&tenant, &key("c"), &pod("c", "Pending")).unwrap();
    let refused = third().unwrap();
    assert_eq!(refused.reason, EXCEEDED);
    let says = &refused.message;
    assert!(says.contains("count/pods: 1 more of at most 2"), "{says}");
    assert!(!says.contains("(pods:"), "{says}");
    ended(&engine, &tenant, &key("a"), "a");
    assert!(engine.down.has(&tenant.id, &key("c")));
    assert_eq!(third(), None);
}

/// The platform sees what is used whatever the tenant thinks of being shown it.
#[tokio::test]
async fn t40_a_tenant_that_refuses_to_be_shown_its_quota_hides_it_from_nobody() {
    let (engine, tenant, mut server) = engine();
    limit(&tenant, 5);
    let answers = async {
        server.answer("GET", 200, &pods(&tenant, &["a"])).await;
        let vcp = json!({"metadata": {"name": "acme", "namespace": "tenants", "uid": "v"},
            "spec": {"identity": tenant.id.as_str()}, "status": {}});
        server.answer("GET", 200, &vcp).await;
        let told = server.answer("PATCH", 200, &vcp).await;
        server.answer("GET", 404, &json!({})).await;
        server
            .answer("POST", 422, &json!({"message": "a policy says no"}))
            .await;
        told
    };
    let shown = async {
        count(&engine, &tenant).await?;
        show(&engine, &tenant, &mut LastReport::default()).await
    };
    let (shown, told) = tokio::join!(shown, answers);
    assert!(shown.is_ok(), "{shown:?}");
    assert!(
        told.body.to_string().contains("\"pods\":\"1\""),
        "{}",
        told.body
    );
}
