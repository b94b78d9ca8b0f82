use super::*;
use crate::{
    fake::{self, fake},
    table::{Roll, SuperSide, TenantSide},
    watch::Sink,
};
use api::keys;
use serde_json::json;
use std::sync::Arc;
use tenancy::arrival::KnownPart;

const KNOWN_BY_WRITE: u128 = 77;

struct Bench {
    engine: Arc<Engine>,
    tenant: Arc<Tenant>,
    key: Key,
}

impl Bench {
    fn new() -> Self {
        Self::below(usize::MAX)
    }

    /// Of the tenant's objects no more is remembered than so many bytes.
    fn below(bytes: usize) -> Self {
        let (cluster, _server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        let mut tenant = fake::tenant(&cluster);
        tenant.table = Arc::new(fake::table_below(bytes));
        let tenant = Arc::new(tenant);
        engine.tenants.insert(tenant.id.clone(), tenant.clone());
        engine
            .tables
            .insert(tenant.id.clone(), tenant.table.clone());
        let key = Key::new(kind::index("Pod"), "work", "web");
        Self {
            engine,
            tenant,
            key,
        }
    }

    fn tenant_sink(&self) -> TenantSink {
        TenantSink {
            engine: self.engine.clone(),
            tenant: self.tenant.clone(),
            kind: self.key.kind,
            roll: Roll::default(),
        }
    }

    fn super_sink(&self) -> SuperSink {
        SuperSink {
            engine: self.engine.clone(),
            kind: self.key.kind,
            roll: Roll::default(),
            owners: Roll::default(),
        }
    }

    fn side(&self) -> TenantSide {
        self.tenant.table.get(&self.key).tenant.unwrap()
    }

    /// As a status write leaves the entry.
    fn wrote_status(&self, version: u64) {
        self.tenant.table.update(&self.key, |entry| {
            let side = entry.tenant.as_mut().unwrap();
            (side.answered, side.projection) = (version, KNOWN_BY_WRITE);
        });
    }
}

fn pod(version: u64, label: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata(version, "u", label),
        "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending"},
    }))
    .unwrap()
}

fn metadata(version: u64, uid: &str, label: &str) -> Value {
    json!({
        "name": "web", "namespace": "work", "uid": uid, "resourceVersion": version.to_string(),
        "labels": {"app": label},
    })
}

#[tokio::test]
async fn the_event_of_ones_own_status_write_is_known_and_no_other() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    assert_eq!(
        sink.knows("MODIFIED", &metadata(6, "u", "x")),
        KnownPart::Nothing
    );
    sink.applied(pod(5, "x"));
    bench.wrote_status(6);
    for (change, known) in [
        ("ADDED", metadata(6, "u", "x")),
        ("MODIFIED", metadata(5, "u", "x")),
        ("MODIFIED", metadata(7, "u", "x")),
        ("MODIFIED", metadata(6, "another", "x")),
        ("MODIFIED", json!({"name": "web"})),
    ] {
        assert_eq!(
            sink.knows(change, &known),
            KnownPart::Nothing,
            "{change} {known}"
        );
    }
    assert_eq!(
        sink.knows("MODIFIED", &metadata(6, "u", "x")),
        KnownPart::All
    );
    assert_eq!(bench.side().version, 6);
}

#[tokio::test]
async fn an_edit_told_after_the_answer_to_a_later_status_write_goes_down() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    sink.applied(pod(5, "x"));
    assert!(bench.tenant.down.take(&bench.key).is_some());
    // The tenant edits its pod; the status is written on top, and the answer comes first.
    bench.wrote_status(7);
    sink.applied(pod(6, "edited"));
    let waits = bench.tenant.down.take(&bench.key).unwrap();
    assert_eq!(waits.label("app"), Some("edited"));
    assert_eq!(bench.side().projection, KNOWN_BY_WRITE);
    assert_eq!(
        sink.knows("MODIFIED", &metadata(7, "u", "edited")),
        KnownPart::All
    );
    // What somebody writes over it is news.
    sink.applied(pod(8, "edited"));
    assert_ne!(bench.side().projection, KNOWN_BY_WRITE);
}

/// A super pod as the first list tells of it.
fn listed_twin(bench: &Bench) -> Object {
    let twin = twin_name(&bench.tenant, &bench.key);
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": twin.name, "namespace": twin.namespace, "uid": "s", "resourceVersion": "9",
            "labels": {keys::TENANT: bench.tenant.id.as_str()},
            "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
        },
        "spec": {"containers": [], "nodeName": "n"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn what_was_listed_before_the_tenant_was_known_goes_up_without_a_read() {
    let bench = Bench::new();
    bench.engine.tenants.clear();
    let sink = bench.super_sink();
    sink.listing();
    sink.applied(listed_twin(&bench));
    bench
        .engine
        .tenants
        .insert(bench.tenant.id.clone(), bench.tenant.clone());
    bench.tenant_sink().applied(pod(5, "x"));
    let told = bench.tenant.up.take(&bench.key).unwrap();
    assert_eq!(told.text("/spec/nodeName"), Some("n"));
    let address = "10.0.0.1".parse().unwrap();
    assert!(bench.tenant.with_cx(|cx| cx.facts.is_pod_address(address)));
    assert!(
        bench.tenant.table.take_unjudged(&bench.key).is_some(),
        "the way down compares it too"
    );
}

#[tokio::test]
async fn what_others_write_onto_a_super_pod_is_no_reason_to_read_it_and_an_edit_of_ours_is() {
    let bench = Bench::new();
    let mut pod = listed_twin(&bench);
    let mut twin = fake::super_side("s", "u");
    twin.baseline = meta::state(&pod);
    bench
        .tenant
        .table
        .update(&bench.key, |entry| entry.twin = Some(twin));
    let sink = bench.super_sink();
    for (version, key, waiting) in [
        ("10", "cni.example.com/address", 0),
        ("11", keys::RESTORE_COUNTER, 1),
    ] {
        let metadata = &mut pod.value_mut()["metadata"];
        metadata["resourceVersion"] = version.into();
        metadata["annotations"][key] = "7".into();
        sink.applied(pod.clone());
        assert_eq!(bench.engine.down.depth(&bench.tenant.id), waiting, "{key}");
    }
}

#[tokio::test]
async fn r5_what_was_listed_at_the_start_and_has_changed_since_is_read_again() {
    let bench = Bench::new();
    bench.engine.tenants.clear();
    let sink = bench.super_sink();
    sink.listing();
    sink.applied(listed_twin(&bench));
    bench.tenant.table.update(&bench.key, |entry| {
        entry.twin.as_mut().unwrap().version = 10;
    });
    bench.tenant_sink().applied(pod(5, "x"));
    assert!(bench.tenant.up.take(&bench.key).is_none());
    assert_eq!(bench.engine.up.depth(&bench.tenant.id), 1);
}

#[tokio::test]
async fn the_first_event_of_a_pod_is_known_if_its_making_was_answered_and_the_tenant_sees_as_much()
{
    let bench = Bench::new();
    let sink = bench.super_sink();
    let marked = json!({
        "name": "web", "namespace": "acme-work", "uid": "s", "resourceVersion": "9",
        "labels": {keys::TENANT: bench.tenant.id.as_str()},
        "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
    });
    assert_eq!(
        sink.knows("ADDED", &marked),
        KnownPart::Nothing,
        "not yet answered"
    );
    let twin = |mirrored| SuperSide {
        uid: "s".into(),
        version: 9,
        owner_uid: "u".into(),
        applied: 1,
        state: 1,
        edition: 0,
        baseline: 1,
        ending: None,
        mirrored,
        counter: 0,
        node: None,
    };
    let set = |mirrored| {
        bench.tenant.table.update(&bench.key, |entry| {
            entry.twin = Some(twin(mirrored));
        });
    };
    set(0);
    assert_eq!(
        sink.knows("ADDED", &marked),
        KnownPart::Nothing,
        "the tenant sees less"
    );
    set(9);
    assert_eq!(sink.knows("ADDED", &marked), KnownPart::All);
    assert_eq!(sink.knows("MODIFIED", &marked), KnownPart::Nothing);
    let mut unmarked = marked;
    unmarked["labels"] = json!({});
    assert_eq!(sink.knows("ADDED", &unmarked), KnownPart::Nothing);
}

/// Metadata of a pod with this generation.
fn of_generation(generation: u64, mut metadata: Value) -> Value {
    metadata["generation"] = generation.into();
    metadata
}

/// A pod of which nothing but plain fields of the spec was read.
fn in_part(metadata: &Value, phase: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": phase},
    }))
    .unwrap()
}

#[tokio::test]
async fn a_pod_that_asks_for_the_same_is_read_without_its_spec_and_is_not_worked_downward() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    let first = of_generation(1, metadata(5, "u", "x"));
    let mut whole = pod(5, "x");
    whole.value_mut()["metadata"] = first;
    sink.applied(whole);
    assert!(bench.tenant.down.take(&bench.key).is_some());
    let intent = bench.side().intent;
    for (generation, uid, label) in [(2, "u", "x"), (1, "another", "x"), (1, "u", "edited")] {
        let other = of_generation(generation, metadata(6, uid, label));
        assert_eq!(
            sink.knows("MODIFIED", &other),
            KnownPart::Nothing,
            "{other}"
        );
    }
    let same = of_generation(1, metadata(6, "u", "x"));
    assert_eq!(sink.knows("ADDED", &same), KnownPart::Nothing);
    let edition = tenancy::meta::edition(&same);
    assert_eq!(sink.knows("MODIFIED", &same), KnownPart::Spec(edition));
    sink.went_on(in_part(&same, "Running"), edition);
    let side = bench.side();
    assert_eq!((side.version, side.intent), (6, intent));
    assert_eq!(side.node.as_deref(), Some("n"));
    assert!(bench.tenant.down.take(&bench.key).is_none());
    // What was known is something else by now.
    bench.tenant.table.update(&bench.key, |entry| {
        entry.tenant.as_mut().unwrap().edition = 1;
    });
    bench
        .tenant
        .down
        .put(bench.key.clone(), Arc::new(pod(6, "x")));
    let later = of_generation(1, metadata(7, "u", "x"));
    sink.went_on(in_part(&later, "Running"), edition);
    assert_eq!(bench.side().version, 6);
    assert!(bench.tenant.down.take(&bench.key).is_none(), "it is read");
}

#[tokio::test]
async fn a_super_pod_that_says_the_same_is_read_without_its_spec_and_goes_up() {
    let bench = Bench::new();
    let sink = bench.super_sink();
    let twin =
        tenancy::naming::super_namespace(&bench.tenant.id, &bench.tenant.rules().vcp_name, "work");
    let at = |version: u64, generation| {
        let marked = json!({
            "name": "web", "namespace": twin, "uid": "s", "resourceVersion": version.to_string(),
            "labels": {keys::TENANT: bench.tenant.id.as_str()},
            "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
        });
        of_generation(generation, marked)
    };
    let known = || bench.tenant.table.get(&bench.key).twin.unwrap();
    let mut whole = in_part(&at(9, 1), "Pending");
    whole.value_mut()["spec"]["containers"] = json!([{"name": "a"}]);
    sink.applied(whole);
    let state = known().state;
    assert_eq!(sink.knows("MODIFIED", &at(10, 2)), KnownPart::Nothing);
    let edition = tenancy::meta::edition(&at(10, 1));
    assert_eq!(sink.knows("MODIFIED", &at(10, 1)), KnownPart::Spec(edition));
    sink.went_on(in_part(&at(10, 1), "Running"), edition);
    assert_eq!((known().version, known().state), (10, state));
    let waits = bench.tenant.up.take(&bench.key).unwrap();
    assert_eq!(waits.text("/status/phase"), Some("Running"));
    // What was known is something else by now.
    bench.tenant.up.put(bench.key.clone(), waits);
    bench.tenant.table.update(&bench.key, |entry| {
        entry.twin.as_mut().unwrap().edition = 1;
    });
    sink.went_on(in_part(&at(11, 1), "Running"), edition);
    assert_eq!(known().version, 10);
    assert!(bench.tenant.up.take(&bench.key).is_none(), "it is read");
}

/// Nodes are published as soon as the tenant is served, so the first of them may be made while they are listed.
#[tokio::test]
async fn an_empty_list_is_doubtful_unless_what_is_known_is_newer() {
    let bench = Bench::new();
    let nodes = kind::index("Node");
    let sink = TenantSink {
        kind: nodes,
        ..bench.tenant_sink()
    };
    let made_at = |version| {
        bench
            .tenant
            .table
            .update(&Key::new(nodes, "", "node1"), |entry| {
                entry.tenant = Some(TenantSide {
                    uid: "n".into(),
                    version,
                    answered: 0,
                    intent: 1,
                    edition: 0,
                    projection: 0,
                    node: None,
                });
            });
    };
    made_at(9);
    sink.listing();
    sink.listed(7);
    assert_eq!(bench.tenant.gate.emptied(nodes), Vec::<u8>::new());
    made_at(6);
    sink.listing();
    sink.listed(7);
    assert_eq!(bench.tenant.gate.emptied(nodes), [nodes]);
    made_at(9);
    sink.listing();
    sink.listed(5);
    assert_eq!(
        bench.tenant.gate.emptied(nodes),
        [nodes],
        "the store went back"
    );
}

/// Whoever may write in some super namespace can put another tenant's marks there.
#[tokio::test]
async fn marks_out_of_their_place_take_no_hosts() {
    let bench = Bench::new();
    let kind = kind::index("Ingress");
    let sink = SuperSink {
        kind,
        ..bench.super_sink()
    };
    let at = |namespace: &str| {
        Object::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {
                "name": "web", "namespace": namespace, "uid": "i", "resourceVersion": "9",
                "labels": {keys::TENANT: bench.tenant.id.as_str()},
                "annotations": {
                    keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u",
                    keys::HOSTS: "{\"shop.example.com\":\"1970-01-01T00:00:00Z\"}",
                },
            },
            "spec": {"rules": [{"host": "shop.example.com"}]},
        }))
        .unwrap()
    };
    let knows = || {
        let hosts = bench.engine.offered.hosts.read();
        !hosts
            .missing(kind, &std::collections::HashSet::new())
            .is_empty()
    };
    sink.applied(at("another"));
    assert!(!knows());
    sink.applied(at(&twin_name(&bench.tenant, &bench.key).namespace));
    assert!(knows());
}

/// The DELETED events of a broken watch never come.
#[tokio::test]
async fn what_a_list_of_the_super_cluster_lacks_is_no_twin_whoever_leads_its_tenant() {
    let bench = Bench::new();
    let own = tenancy::quota::amount::Amounts::from([("pods".to_owned(), 5000)]);
    bench
        .tenant
        .quota
        .limit(&own, std::collections::BTreeMap::new());
    bench.tenant.quota.counted();
    let other = tenancy::tenant::TenantId::from_bits([2; 16]);
    let theirs = bench.engine.table(&other);
    let key = |name: &str| Key::new(bench.key.kind, "work", name);
    for (name, version) in [("web", 9), ("gone", 10), ("younger", 11)] {
        for table in [&bench.tenant.table, &theirs] {
            table.update(&key(name), |entry| {
                let mut twin = fake::super_side(&format!("s-{name}"), "u");
                (twin.version, twin.baseline) = (version, 1);
                entry.twin = Some(twin);
            });
        }
        let pod = json!({"metadata": {"name": name, "namespace": "s", "uid": format!("s-{name}")}});
        let pod = Object::from_value(pod).unwrap();
        quota::exists(&bench.engine, &bench.tenant, &key(name), &pod);
    }
    let sink = bench.super_sink();
    sink.listing();
    sink.applied(listed_twin(&bench));
    let mut copy = listed_twin(&bench);
    copy.value_mut()["metadata"]["labels"][keys::TENANT] = other.as_str().into();
    let place = tenancy::naming::super_namespace(&other, "theirs", "work");
    copy.value_mut()["metadata"]["namespace"] = place.into();
    sink.applied(copy);
    sink.listed(10);
    for table in [&bench.tenant.table, &theirs] {
        let has = |name: &str| table.get(&key(name)).twin.is_some();
        assert!(has("web") && !has("gone") && has("younger"));
    }
    assert_eq!(bench.tenant.quota.claim().held["pods"], 2000);
    assert!(bench.engine.down.has(&bench.tenant.id, &key("gone")));
    assert!(bench.engine.down.has(&bench.tenant.id, &key("younger")));
    assert_eq!(bench.engine.down.depth(&other), 0);
    sink.absent();
    assert_eq!(theirs.count(|_, entry| entry.twin.is_some()), 0);
    assert_eq!(bench.tenant.quota.claim().held["pods"], 0);
}

/// What was published to the tenant is there again as soon as it is missed, so that a look at it contradicts the list.
#[tokio::test]
async fn r2_a_contradicted_list_holds_no_longer_than_until_the_next_one() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    sink.applied(pod(5, "x"));
    sink.listing();
    sink.listed(7);
    assert!(sink.is_doubtful());
    sink.listing();
    sink.applied(pod(8, "x"));
    sink.listed(8);
    assert!(!sink.is_doubtful());
    let pods = kind::index("Pod");
    assert_eq!(bench.tenant.gate.emptied(pods), Vec::<u8>::new());
}

/// What its event told before the watch broke may be gone.
#[tokio::test]
async fn r1_what_a_new_list_lacks_is_read_though_its_event_waits_to_be_worked() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    sink.applied(pod(5, "x"));
    sink.listing();
    sink.listed(7);
    assert!(bench.tenant.down.take(&bench.key).is_none());
    assert_eq!(bench.engine.down.depth(&bench.tenant.id), 1);
}

/// A store that was restored while the syncer runs: its list is all there is, however new what was seen before was.
#[tokio::test]
async fn f15_what_a_list_tells_is_taken_up_though_it_is_older_and_is_read_before_it_is_worked() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    sink.applied(pod(9, "lost"));
    bench.wrote_status(10);
    let lost = bench.side();
    assert!(bench.tenant.down.take(&bench.key).is_some());
    sink.applied(pod(5, "restored"));
    assert_eq!(bench.side().version, 9, "a late event is no news");
    sink.listing();
    sink.applied(pod(5, "restored"));
    sink.listed(6);
    let side = bench.side();
    assert_eq!((side.version, side.answered), (5, 0));
    assert_ne!(side.intent, lost.intent);
    assert_ne!(side.projection, lost.projection);
    assert!(bench.tenant.down.take(&bench.key).is_none(), "it is read");
    assert_eq!(bench.engine.down.depth(&bench.tenant.id), 1);
    // The counter hasn't passed the lost one yet.
    sink.applied(pod(7, "edited"));
    let waits = bench.tenant.down.take(&bench.key).unwrap();
    assert_eq!(waits.label("app"), Some("edited"));
}

#[tokio::test]
async fn f15_a_write_that_is_under_way_outlives_a_list() {
    let bench = Bench::new();
    let sink = bench.tenant_sink();
    sink.applied(pod(5, "x"));
    bench.wrote_status(crate::table::UNDER_WAY);
    sink.listing();
    sink.applied(pod(6, "x"));
    let side = bench.side();
    assert_eq!(side.answered, crate::table::UNDER_WAY);
    assert_eq!(side.projection, KNOWN_BY_WRITE);
}

#[tokio::test]
async fn f16_what_a_list_tells_of_a_super_object_is_compared_though_it_is_older() {
    let bench = Bench::new();
    let sink = bench.super_sink();
    let mut twin = fake::super_side("s", "u");
    (twin.version, twin.mirrored, twin.baseline) = (20, 20, 1);
    let set = || {
        bench
            .tenant
            .table
            .update(&bench.key, |entry| entry.twin = Some(twin.clone()));
    };
    set();
    sink.applied(listed_twin(&bench));
    assert_eq!(bench.engine.down.depth(&bench.tenant.id), 0, "a late event");
    sink.listing();
    sink.applied(listed_twin(&bench));
    let known = bench.tenant.table.get(&bench.key).twin.unwrap();
    assert_eq!((known.version, known.baseline), (9, 0));
    assert!(bench.tenant.up.take(&bench.key).is_none(), "it is read");
    assert_eq!(bench.engine.down.depth(&bench.tenant.id), 1);
    assert_eq!(bench.engine.up.depth(&bench.tenant.id), 1);
}

/// The first pages were told, and may have been worked, before the last one tells the version.
#[tokio::test]
async fn f16_what_was_told_of_a_super_cluster_before_it_was_found_to_have_gone_back_is_told_again()
{
    let bench = Bench::new();
    let sink = bench.super_sink();
    bench.engine.super_seen(30);
    sink.listing();
    sink.applied(listed_twin(&bench));
    bench.engine.up.next().await;
    bench.engine.up.done(&bench.tenant.id, &bench.key);
    bench.tenant.table.update(&bench.key, |entry| {
        entry.twin.as_mut().unwrap().mirrored = 25;
    });
    sink.listed(10);
    let known = bench.tenant.table.get(&bench.key).twin.unwrap();
    assert_eq!((known.version, known.mirrored, known.baseline), (0, 0, 0));
    assert!(bench.tenant.up.take(&bench.key).is_none(), "it is read");
    assert_eq!(bench.engine.up.depth(&bench.tenant.id), 1);
    assert_eq!(bench.engine.down.depth(&bench.tenant.id), 1);
}

#[tokio::test]
async fn t9_a_node_is_in_use_by_what_the_super_cluster_bound_and_by_no_word_of_the_tenant() {
    let bench = Bench::new();
    let mut rules = (*bench.tenant.rules()).clone();
    rules.nodes = api::ShownNodes::Used;
    bench.tenant.revise(rules, bench.tenant.record());
    let is_queued = |node: &str| {
        let key = Key::new(kind::index("Node"), "", node);
        bench.engine.up.has(&bench.tenant.id, &key)
    };
    let is_used = |node: &str| bench.tenant.with_cx(|cx| cx.facts.runs_on(node));
    let mut named = pod(5, "x");
    named.value_mut()["spec"]["nodeName"] = "named".into();
    bench.tenant_sink().applied(named);
    assert!(!is_queued("named") && !is_used("named"));

    let twin = listed_twin(&bench);
    bench.super_sink().applied(twin.clone());
    assert!(is_queued("n") && is_used("n") && !is_used("named"));
    bench.super_sink().deleted(twin);
    assert!(!is_used("n"));
}

/// It is shown for the pods on it alone; one that isn't is shown in any case.
#[tokio::test]
async fn a_node_that_is_kept_for_others_is_looked_at_when_a_pod_of_the_tenant_comes_to_it() {
    for (taint, tolerations, is_news) in [
        ("kept", json!([]), true),
        ("kept", json!([{"key": "kept"}]), false),
        ("node.kubernetes.io/not-ready", json!([]), false),
    ] {
        let bench = Bench::new();
        let mut rules = (*bench.tenant.rules()).clone();
        rules.pods.tolerations = serde_json::from_value(tolerations).unwrap();
        bench.tenant.revise(rules, bench.tenant.record());
        let key = Key::new(kind::index("Node"), "", "n");
        let spec = json!({"taints": [{"key": taint, "effect": "NoSchedule"}]});
        let node = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": spec});
        let node = Object::from_value(node).unwrap();
        bench.engine.offered.note(&key, &node);
        let is_queued = || bench.engine.up.has(&bench.tenant.id, &key);
        bench.tenant_sink().applied(pod(5, "x"));
        assert!(!is_queued());
        bench.super_sink().applied(listed_twin(&bench));
        assert_eq!(is_queued(), is_news, "{taint}");
    }
}

/// A binding changes no generation.
#[tokio::test]
async fn a_node_comes_into_use_by_an_event_of_which_the_spec_is_left_unread() {
    let bench = Bench::new();
    let mut rules = (*bench.tenant.rules()).clone();
    rules.nodes = api::ShownNodes::Used;
    bench.tenant.revise(rules, bench.tenant.record());
    let mut waits = listed_twin(&bench);
    waits.value_mut()["metadata"]["generation"] = 1.into();
    let mut bound = waits.clone();
    waits.value_mut()["spec"]["nodeName"] = Value::Null;
    bench.super_sink().applied(waits);
    let is_used = || bench.tenant.with_cx(|cx| cx.facts.runs_on("n"));
    assert!(!is_used());
    let metadata = &mut bound.value_mut()["metadata"];
    metadata["resourceVersion"] = "10".into();
    let edition = tenancy::meta::edition(metadata);
    bench.super_sink().went_on(bound, edition);
    assert!(is_used());
}

/// Else the end of a pod that was made anew would count as told, and no breaker would hold it.
#[tokio::test]
async fn r5_the_end_of_a_super_pod_tells_of_the_pod_that_it_was_made_for_and_of_no_later_one() {
    for (uid, is_held) in [("u", false), ("anew", true)] {
        let bench = Bench::new();
        let twin = listed_twin(&bench);
        bench.super_sink().applied(twin.clone());
        let mut own = pod(5, "x");
        own.value_mut()["metadata"]["uid"] = uid.into();
        bench.tenant_sink().applied(own);
        bench.super_sink().deleted(twin);
        // So many others are missing that a breaker opens.
        let others = (0..200).map(|number| Key::new(bench.key.kind, "work", &format!("p{number}")));
        bench.tenant.breakers.missing_in_super(others.collect());
        let (table, gate) = (&bench.tenant.table, &bench.tenant.gate);
        let judged = bench.tenant.breakers.judge_up(&bench.key, table, gate);
        assert_eq!(judged.is_err(), is_held, "{uid}: {judged:?}");
    }
}

/// A pod of that name.
fn named(name: &str, version: u64) -> Object {
    let mut pod = pod(version, "x");
    pod.value_mut()["metadata"]["name"] = name.into();
    pod
}

#[tokio::test]
async fn t40_beyond_its_ceiling_nothing_new_is_taken_in_and_what_is_known_goes_on() {
    let bench = Bench::below(1);
    let (engine, tenant, sink) = (&bench.engine, &bench.tenant, bench.tenant_sink());
    sink.applied(named("web", 5));
    for number in 0..100 {
        sink.applied(named(&format!("more{number}"), 6));
    }
    assert_eq!(tenant.table.len(), 1);
    assert_eq!(engine.down.depth(&tenant.id), 1);
    let more = Key::new(bench.key.kind, "work", "more0");
    assert!(tenant.down.take(&more).is_none());
    assert!(tenant.untaken.has(bench.key.kind));
    // Nor does a key wait for each of them when they go.
    sink.deleted(named("more0", 7));
    assert_eq!(engine.down.depth(&tenant.id), 1);
    sink.applied(pod(8, "edited"));
    let waits = tenant.down.take(&bench.key).unwrap();
    assert_eq!(waits.label("app"), Some("edited"));
    engine.down.next().await;
    engine.down.done(&tenant.id, &bench.key);
    sink.deleted(pod(9, "edited"));
    assert!(engine.down.has(&tenant.id, &bench.key));
}

#[tokio::test]
async fn r1_what_a_list_told_of_and_is_not_taken_in_is_not_missing() {
    let bench = Bench::below(1);
    let (tenant, sink) = (&bench.tenant, bench.tenant_sink());
    let late = Key::new(bench.key.kind, "work", "late");
    let comes_down = |key: &Key| {
        tenant.table.update(key, |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
    };
    comes_down(&bench.key);
    sink.listing();
    sink.applied(named("late", 6));
    // Something refers to it, so that it goes down meanwhile.
    comes_down(&late);
    sink.listed(7);
    assert_eq!(tenant.gate.emptied(bench.key.kind), Vec::<u8>::new());
    assert_eq!(tenant.untaken.count(), 1);
    // What was known before the list and isn't on it counts as missing, as ever.
    let [(_, waiting), _] = tenant.breakers.state();
    assert_eq!(waiting, 1);
    // The next list finds room.
    for key in [&bench.key, &late] {
        tenant.table.update(key, |entry| entry.twin = None);
    }
    sink.listing();
    sink.applied(named("late", 6));
    sink.listed(8);
    assert!(tenant.table.get(&late).tenant.is_some());
    assert_eq!(tenant.untaken.count(), 0);
}

#[tokio::test]
async fn what_something_refers_to_goes_down_though_there_is_no_room_and_is_known_by_its_twin() {
    let bench = Bench::below(1);
    let (engine, tenant) = (&bench.engine, &bench.tenant);
    let kind = kind::index("ConfigMap");
    let sink = TenantSink {
        kind,
        ..bench.tenant_sink()
    };
    let reference = kind::Reference {
        kind: "ConfigMap",
        name: "wanted".into(),
    };
    tenant.index.refer(&bench.key, &[reference]);
    let settings = |name: &str| {
        let metadata =
            json!({"name": name, "namespace": "work", "uid": "u", "resourceVersion": "5"});
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        Object::from_value(value).unwrap()
    };
    for (name, is_worked) in [("other", false), ("wanted", true)] {
        let key = Key::new(kind, "work", name);
        sink.applied(settings(name));
        assert_eq!(engine.down.has(&tenant.id, &key), is_worked);
        assert!(!tenant.table.has(&key));
    }
    let key = Key::new(kind, "work", "wanted");
    take_in_late(engine, tenant, &key, &settings("wanted"));
    assert!(!tenant.table.has(&key), "it isn't there yet");
    tenant.table.update(&key, |entry| {
        entry.twin = Some(fake::super_side("s", "u"));
    });
    take_in_late(engine, tenant, &key, &settings("wanted"));
    assert!(tenant.table.get(&key).tenant.is_some());
}

/// What a tenant makes of its own beside what is shown to it, and what is shown to it.
#[tokio::test]
async fn t40_very_many_classes_of_a_tenant_are_not_remembered_and_those_of_the_platform_are() {
    let bench = Bench::below(1);
    let (engine, tenant) = (&bench.engine, &bench.tenant);
    tenant.table.update(&bench.key, |entry| {
        entry.twin = Some(fake::super_side("s", "u"));
    });
    let kind = kind::index("StorageClass");
    let sink = TenantSink {
        kind,
        ..bench.tenant_sink()
    };
    let class = |name: &str| {
        let metadata = json!({"name": name, "uid": "u", "resourceVersion": "5"});
        let value = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata});
        Object::from_value(value).unwrap()
    };
    let offered = Key::new(kind, "", "offered");
    engine.offered.note(&offered, &class("offered"));
    for (name, is_known) in [("own", false), ("offered", true)] {
        sink.applied(class(name));
        let key = Key::new(kind, "", name);
        assert_eq!(tenant.table.has(&key), is_known, "{name}");
        assert_eq!(engine.up.has(&tenant.id, &key), is_known, "{name}");
    }
    assert_eq!(tenant.untaken.count(), 0, "nobody would sync it");
}
