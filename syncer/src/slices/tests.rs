use super::*;
use crate::{
    fake::{self, Server, fake, tenant},
    intake::{self, SuperSink},
    table::Roll,
    tenants::Tenant,
    watch::Sink,
};
use serde_json::{Value, json};
use tenancy::naming;

/// A super cluster in which this process leads a tenant.
struct Bench {
    engine: Arc<Engine>,
    server: Server,
    id: TenantId,
}

impl Bench {
    fn new(tenant: &Tenant) -> Self {
        let (above, server) = fake();
        let engine = Arc::new(fake::engine(&above));
        engine.guard.let_pass();
        engine.fleet.lead(&tenant.id);
        Self {
            engine,
            server,
            id: tenant.id.clone(),
        }
    }

    fn sink(&self, kind: &str) -> SuperSink {
        SuperSink {
            engine: self.engine.clone(),
            kind: kind::index(kind),
            roll: Roll::default(),
            owners: Roll::default(),
        }
    }

    fn keep(&self, cancel: &CancellationToken) -> tokio::task::JoinHandle<()> {
        tokio::spawn(keep(self.engine.clone(), cancel.clone()))
    }

    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name, "namespace": naming::super_namespace(&self.id, "acme", "work"),
            "uid": format!("s-{name}"), "resourceVersion": "9", "labels": {keys::TENANT: self.id.as_str()},
            "annotations": {keys::NAMESPACE: "work", keys::NAME: name, keys::UID: "u"},
        })
    }

    fn pod(&self, name: &str, phase: &str, address: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": self.metadata(name), "spec": {},
            "status": {"phase": phase, "podIPs": [{"ip": address}]},
        })
    }

    fn slice(&self, name: &str, addresses: &[&str]) -> Value {
        let endpoints: Vec<_> = addresses.iter().map(|address| of(address)).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": self.metadata(name), "endpoints": endpoints,
        })
    }

    /// Slices first, pods then, as a start lists them.
    fn list(&self, slices: &[Value], pods: &[Value]) {
        for (kind, all) in [("EndpointSlice", slices), ("Pod", pods)] {
            let sink = self.sink(kind);
            sink.listing();
            for one in all {
                sink.applied(object(one));
            }
            sink.listed(9);
        }
    }

    /// Answers for one slice and the tenant's pods; the patch of the former.
    async fn answer(&mut self, slice: &Value, pods: &[Value]) -> Value {
        self.server.wait().await;
        self.server.answer("GET", 200, slice).await;
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": pods});
        self.server.wait().await;
        let listed = self.server.answer("GET", 200, &list).await;
        assert_eq!(listed.path, "/api/v1/pods");
        assert!(listed.query.contains(self.id.as_str()), "{}", listed.query);
        self.server.wait().await;
        self.server.answer("PATCH", 200, slice).await.body
    }
}

fn of(address: &str) -> Value {
    json!({"addresses": [address]})
}

fn object(value: &Value) -> Object {
    Object::from_value(value.clone()).unwrap()
}

/// Neither its API server nor anything that it said is known: it sleeps, or this syncer has just started.
#[tokio::test(start_paused = true)]
async fn t17_a_pod_that_ends_leaves_the_slices_of_a_tenant_that_rests() {
    let (own, _tenant_server) = fake();
    let mut bench = Bench::new(&tenant(&own));
    let slice = bench.slice("db-1", &["10.1.0.5", "10.1.0.6"]);
    let pods = [("a", "10.1.0.5"), ("b", "10.1.0.6")];
    let pods = pods.map(|(name, address)| bench.pod(name, "Running", address));
    bench.list(std::slice::from_ref(&slice), &pods);
    let cancel = CancellationToken::new();
    let keeping = bench.keep(&cancel);
    tokio::time::sleep(2 * PATIENCE).await;
    assert!(bench.server.is_silent(), "each is a running pod's");
    let ended = bench.pod("a", "Succeeded", "10.1.0.5");
    bench.sink("Pod").applied(object(&ended));
    let patch = bench.answer(&slice, &[ended, pods[1].clone()]).await;
    assert_eq!(patch[0]["value"], "s-db-1");
    assert_eq!(patch[1]["value"], "9");
    assert_eq!(patch[2]["value"], json!([of("10.1.0.6")]));
    let left = bench.slice("db-1", &["10.1.0.6"]);
    bench.sink("EndpointSlice").applied(object(&left));
    // Gone without an end that was told; its event has the state of before.
    bench.sink("Pod").deleted(object(&pods[1]));
    let patch = bench.answer(&left, &[]).await;
    assert_eq!(patch[2]["value"], json!([]));
    let empty = bench.slice("db-1", &[]);
    bench.sink("EndpointSlice").applied(object(&empty));
    tokio::time::sleep(2 * PATIENCE).await;
    assert!(bench.server.is_silent() && bench.engine.slices.tenants().is_empty());
    cancel.cancel();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t17_what_no_event_told_is_found_at_the_start_and_by_the_patrol() {
    let (own, _tenant_server) = fake();
    let mut bench = Bench::new(&tenant(&own));
    let slice = bench.slice("db-1", &["10.1.0.5", "10.1.0.6"]);
    let pods = [bench.pod("b", "Running", "10.1.0.6")];
    bench.list(std::slice::from_ref(&slice), &pods);
    let cancel = CancellationToken::new();
    let keeping = bench.keep(&cancel);
    let patch = bench.answer(&slice, &pods).await;
    assert_eq!(patch[2]["value"], json!([of("10.1.0.6")]));
    let left = bench.slice("db-1", &["10.1.0.6"]);
    bench.sink("EndpointSlice").applied(object(&left));
    tokio::time::sleep(2 * PATIENCE).await;
    assert!(bench.server.is_silent());
    // A copy of a pod's marks in a namespace that isn't the tenant's makes no pod its own.
    let mut copy = pods[0].clone();
    copy["metadata"]["namespace"] = "elsewhere".into();
    let patch = bench.answer(&left, &[copy]).await;
    assert_eq!(patch[2]["value"], json!([]));
    cancel.cancel();
    keeping.await.unwrap();
}

/// R7, R10: only who leads the tenant writes; what is doubted stays so until somebody does.
#[tokio::test(start_paused = true)]
async fn r7_only_the_leader_takes_addresses_out_and_what_failed_is_done_again() {
    let (own, _tenant_server) = fake();
    let tenant = tenant(&own);
    let mut bench = Bench::new(&tenant);
    bench.engine.fleet.forget(&tenant.id);
    let slice = bench.slice("db-1", &["10.1.0.5"]);
    bench.list(std::slice::from_ref(&slice), &[]);
    let cancel = CancellationToken::new();
    let keeping = bench.keep(&cancel);
    tokio::time::sleep(2 * PATIENCE).await;
    assert!(bench.server.is_silent(), "another one leads it");
    bench.engine.fleet.lead(&tenant.id);
    bench.engine.slices.led(|id| *id == tenant.id);
    bench.server.wait().await;
    bench.server.answer("GET", 500, &json!({})).await;
    // No list that can't be read to its end says that a pod is gone.
    bench.server.wait().await;
    bench.server.answer("GET", 200, &slice).await;
    bench.server.wait().await;
    bench.server.answer("GET", 500, &json!({})).await;
    let patch = bench.answer(&slice, &[]).await;
    assert_eq!(patch[2]["value"], json!([]));
    cancel.cancel();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t17_a_slice_that_its_tenant_works_in_time_is_left_to_it() {
    let (own, mut tenant_server) = fake();
    let tenant = Arc::new(tenant(&own));
    let mut bench = Bench::new(&tenant);
    let engine = bench.engine.clone();
    engine.tenants.insert(tenant.id.clone(), tenant.clone());
    let service = json!({"metadata": {"name": "db", "namespace": "work"}, "spec": {}});
    let db = Key::new(kind::index("Service"), "work", "db");
    tenant.index.service(&db, Some(&object(&service)));
    let key = Key::new(kind::index("EndpointSlice"), "work", "db-1");
    tenant.table.update(&key, |entry| {
        entry.twin = Some(fake::super_side("s-db-1", "u"));
    });
    let slice = bench.slice("db-1", &["10.1.0.5"]);
    let running = bench.pod("a", "Running", "10.1.0.5");
    bench.list(std::slice::from_ref(&slice), std::slice::from_ref(&running));
    let pod = Key::new(kind::index("Pod"), "work", "a");
    intake::note_addresses(&engine, &tenant, &pod, Some(&object(&running)));
    engine.down.remove(&tenant.id);
    let cancel = CancellationToken::new();
    let keeping = bench.keep(&cancel);
    intake::note_addresses(&engine, &tenant, &pod, None);
    assert!(
        engine.down.has(&tenant.id, &key),
        "the tenant's own slice is worked"
    );
    let empty = bench.slice("db-1", &[]);
    bench.sink("EndpointSlice").applied(object(&empty));
    tokio::time::sleep(2 * PATIENCE).await;
    assert!(bench.server.is_silent() && tenant_server.is_silent());
    cancel.cancel();
    keeping.await.unwrap();
}
