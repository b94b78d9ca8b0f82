use super::*;
use crate::fake::{self, Server, fake, numbered_tenant};
use serde_json::{Value, json};
use std::time::Duration;

/// An engine that serves two tenants, and the super cluster's side.
fn with_two_tenants() -> (Engine, [Arc<Tenant>; 2], Server) {
    let (above, server) = fake();
    let engine = fake::engine(&above);
    let tenants = [1, 2].map(|number| {
        let (own, _server) = fake();
        let tenant = Arc::new(numbered_tenant(number, &own));
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        tenant
    });
    (engine, tenants, server)
}

fn key() -> Key {
    Key::new(kind::index("Node"), "", "n")
}

fn node(version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "v", "resourceVersion": version.to_string()}})
}

/// The same, of which this version changed what is shown.
fn changed(version: u64) -> Value {
    let mut node = node(version);
    node["metadata"]["labels"] = json!({"edition": version.to_string()});
    node
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn page(items: &[Value]) -> Value {
    json!({"metadata": {"resourceVersion": "9"}, "items": items})
}

/// One round, in which the super cluster lists these nodes, nothing of other kinds, and then answers this.
async fn patrolled(
    engine: &Engine,
    server: &mut Server,
    nodes: &[Value],
    read: Option<(u16, Value)>,
) {
    let answers = async {
        let kinds = watched().filter(|kind| is_published(kind::rule(*kind)));
        for kind in kinds {
            let plural = kind::rule(kind).resource().plural;
            let items = if plural == "nodes" { nodes } else { &[] };
            let asked = server.answer("GET", 200, &page(items)).await;
            assert!(asked.path.ends_with(plural), "{}", asked.path);
            if let Some((status, body)) = read.as_ref().filter(|_| plural == "nodes") {
                let asked = server.answer("GET", *status, body).await;
                assert_eq!(asked.path, "/api/v1/nodes/n");
            }
        }
    };
    let (done, ()) = tokio::join!(round(engine), answers);
    assert!(done.is_ok(), "{done:?}");
    assert!(
        server.is_silent(),
        "one list of each kind, whatever the tenants"
    );
}

fn is_suspected(engine: &Engine, tenant: &Tenant) -> bool {
    let is_queued = engine.up.has(&tenant.id, &key());
    assert_eq!(is_queued, tenant.suspected.lock().contains(&key()));
    is_queued
}

#[tokio::test]
async fn f11_a_super_node_of_which_no_event_told_is_shown_to_all_tenants_by_one_list() {
    let (engine, tenants, mut server) = with_two_tenants();
    engine.offered.note(&key(), &object(node(5)));
    patrolled(&engine, &mut server, &[node(5)], None).await;
    assert!(tenants.iter().all(|tenant| !is_suspected(&engine, tenant)));
    patrolled(&engine, &mut server, &[changed(6)], Some((200, changed(7)))).await;
    for tenant in &tenants {
        assert!(is_suspected(&engine, tenant));
        let read = tenant.up.take(&key()).unwrap();
        assert_eq!(read.resource_version(), 7, "what was read live");
    }
    patrolled(&engine, &mut server, &[changed(7)], None).await;
}

#[tokio::test]
async fn f11_a_super_node_whose_end_no_event_told_goes_from_those_that_hold_it() {
    let (engine, [holds, other], mut server) = with_two_tenants();
    engine.offered.note(&key(), &object(node(5)));
    let copy = crate::table::TenantSide::published(&object(node(1)), 1);
    holds.table.update(&key(), |entry| {
        (entry.tenant, entry.published) = (Some(copy), 1);
    });
    let gone = json!({"kind": "Status", "code": 404});
    patrolled(&engine, &mut server, &[], Some((404, gone))).await;
    assert!(is_suspected(&engine, &holds));
    assert!(other.suspected.lock().is_empty());
    assert_eq!(engine.offered.version(&key()), None);
}

#[tokio::test]
async fn r10_a_super_node_that_a_list_lacks_and_that_is_there_stays() {
    let (engine, tenants, mut server) = with_two_tenants();
    engine.offered.note(&key(), &object(node(5)));
    patrolled(&engine, &mut server, &[], Some((200, node(5)))).await;
    assert!(tenants.iter().all(|tenant| !is_suspected(&engine, tenant)));
    assert_eq!(engine.offered.version(&key()), Some(5));
}

#[tokio::test]
async fn what_is_published_and_cannot_be_listed_keeps_nothing_else_from_being_looked_at() {
    let (engine, tenants, mut server) = with_two_tenants();
    let forbidden = json!({"kind": "Status", "code": 403, "message": "is forbidden: User"});
    let answers = async {
        let kinds = watched().filter(|kind| is_published(kind::rule(*kind)));
        for (at, kind) in kinds.enumerate() {
            let is_node = kind == key().kind;
            let items: Vec<Value> = is_node.then(|| node(5)).into_iter().collect();
            let (status, answer) = if at == 1 {
                (403, forbidden.clone())
            } else {
                (200, page(&items))
            };
            assert!(at != 1 || !is_node);
            server.answer("GET", status, &answer).await;
            if is_node {
                server.answer("GET", 200, &node(5)).await;
            }
        }
    };
    let (done, ()) = tokio::join!(round(&engine), answers);
    assert!(matches!(done, Err(Failure::Api(Error::Forbidden(_)))));
    assert!(tenants.iter().all(|tenant| is_suspected(&engine, tenant)));
    assert!(server.is_silent(), "all were listed");
}

#[test]
fn r10_what_was_told_while_the_list_was_taken_is_no_difference() {
    let offered = Offered::default();
    offered.note(&key(), &object(node(5)));
    let listed = Listed::new(&offered, key().kind);
    listed.applied(object(node(6)));
    offered.note(&key(), &object(node(6)));
    assert_eq!(listed.suspects(), Found::default());
    let listed = Listed::new(&offered, key().kind);
    offered.note(&key(), &object(node(7)));
    assert_eq!(listed.suspects(), Found::default());
}

/// A tenant that holds the node, which was written to it in this state, and the tenant's side.
fn with_a_copy() -> (Engine, Tenant, Server) {
    let (above, _super_server) = fake();
    let (own, server) = fake();
    let (engine, tenant) = (fake::engine(&above), numbered_tenant(1, &own));
    let copy = object(node(5));
    let state = meta::fingerprint(&key().kind().published_state(&copy));
    tenant.table.update(&key(), |entry| {
        let side = crate::table::TenantSide::published(&copy, state);
        (entry.tenant, entry.published) = (Some(side), state);
    });
    fake::list_all(&tenant);
    (engine, tenant, server)
}

#[tokio::test]
async fn f11_a_copy_that_a_tenant_edited_or_deleted_is_found_and_one_as_it_was_written_is_not() {
    let mut edited = node(6);
    edited["spec"] = json!({"unschedulable": true});
    for (listed, is_found) in [
        (vec![node(5)], false),
        // An annotation is no difference.
        (vec![node(6)], false),
        (vec![edited], true),
        (vec![], true),
    ] {
        let (engine, tenant, mut server) = with_a_copy();
        let page = page(&listed);
        let (done, asked) =
            tokio::join!(copies(&engine, &tenant), server.answer("GET", 200, &page));
        assert!(done.is_ok(), "{done:?}");
        assert_eq!(asked.path, "/api/v1/nodes");
        assert!(server.is_silent(), "of other kinds it holds nothing");
        assert_eq!(is_suspected(&engine, &tenant), is_found, "{listed:?}");
    }
}

#[tokio::test]
async fn a_copy_that_is_about_to_be_worked_is_no_difference() {
    let (engine, tenant, mut server) = with_a_copy();
    engine.up.add(&tenant.id, key());
    let page = page(&[]);
    let (done, _) = tokio::join!(copies(&engine, &tenant), server.answer("GET", 200, &page));
    assert!(done.is_ok(), "{done:?}");
    assert!(tenant.suspected.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_patrolled_once_in_every_period() {
    let (above, mut server) = fake();
    let engine = Arc::new(fake::engine(&above));
    for kind in watched() {
        engine.super_listed(kind);
    }
    let cancel = CancellationToken::new();
    let rounds = tokio::spawn(keep(engine.clone(), cancel.clone()));
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert!(server.is_silent(), "the watches have just listed it");
    server.wait().await;
    let asked = server.answer("GET", 200, &page(&[])).await;
    assert_eq!(asked.path, "/api/v1/nodes");
    cancel.cancel();
    rounds.await.unwrap();
}
