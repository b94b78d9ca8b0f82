//! Counting what a tenant uses while its limits change.

use super::*;
use crate::fake::{self, Server, fake, tenant};
use api::keys;

fn limit(tenant: &Tenant, pods: i128) {
    let own = Amounts::from([("pods".to_owned(), pods * 1000)]);
    tenant.quota.limit(&own, BTreeMap::new());
}

fn pods(tenant: &Tenant, names: &[&str]) -> Value {
    let pod = |name: &&str| {
        json!({"metadata": {"name": name, "namespace": "s", "uid": name, "labels": {keys::TENANT: tenant.id.as_str()},
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
