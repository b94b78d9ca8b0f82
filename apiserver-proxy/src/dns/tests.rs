//! What a tenant's pod is told: the answers of CoreDNS with the same objects, and nothing of other tenants.

use super::{
    answer::{Verdict, answer},
    find::View,
    names::Names,
    zone::{Zone, domain},
};
use api::keys;
use hickory_proto::{
    op::Query,
    rr::{Name, Record, RecordType},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{cell::Cell, collections::HashSet};
use tenancy::block::Block;
use tenancy::object::NamespacedName;

mod server;
mod table;

/// Two tenants.
const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbb";

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn place(namespace: &str, name: &str) -> NamespacedName {
    (namespace.to_owned(), name.to_owned())
}

/// The twin of a namespace: super namespace `TENANT-NAMESPACE`.
fn namespace(names: &Names, tenant: &str, name: &str) {
    let twin = format!("{tenant}-{name}");
    let object = json!({"metadata": {
        "name": twin, "labels": {keys::TENANT: tenant}, "annotations": {keys::NAME: name},
    }});
    names.set_namespace(&place("", &twin), &read(object));
}

/// The twin of a Service in a namespace's twin.
fn service(names: &Names, tenant: &str, namespace: &str, name: &str, spec: Value, more: Value) {
    let twin = format!("{tenant}-{namespace}");
    let mut annotations = more;
    annotations[keys::NAMESPACE] = namespace.into();
    annotations[keys::NAME] = name.into();
    let object = json!({
        "metadata": {"name": name, "namespace": twin, "labels": {keys::TENANT: tenant}, "annotations": annotations},
        "spec": spec,
    });
    names.set_service(&place(&twin, name), &read(object));
}

/// A slice of a Service; an endpoint is an address, a host name or none, and whether it is ready.
fn slice(
    names: &Names,
    (tenant, namespace, service): (&str, &str, &str),
    ports: Value,
    endpoints: &[(&str, Option<&str>, Option<bool>)],
) {
    let twin = format!("{tenant}-{namespace}");
    let family = if endpoints.iter().any(|(address, ..)| address.contains(':')) {
        "IPv6"
    } else {
        "IPv4"
    };
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, hostname, ready)| {
            json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}})
        })
        .collect();
    let name = format!("{service}-{family}");
    let object = json!({
        "metadata": {"name": name, "namespace": twin, "labels": {
            keys::TENANT: tenant, "kubernetes.io/service-name": service,
        }},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    });
    names.set_slice(&place(&twin, &name), &read(object));
}

fn headless(ports: Value) -> Value {
    json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports})
}

/// A cluster with both tenants.
fn cluster() -> Names {
    let names = Names::default();
    for name in ["default", "kube-system", "shop", "empty"] {
        namespace(&names, A, name);
    }
    for name in ["shop", "secret"] {
        namespace(&names, B, name);
    }
    let none = || json!({});
    let own = |name: &str, spec, more| service(&names, A, "shop", name, spec, more);
    let ports = json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "https", "port": 443, "protocol": "TCP"},
        {"name": "quic", "port": 443, "protocol": "UDP"},
    ]);
    own(
        "web",
        json!({"clusterIPs": ["10.96.4.20"], "ports": ports}),
        none(),
    );
    slice(
        &names,
        (A, "shop", "web"),
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}]),
        &[("10.1.0.10", None, Some(true))],
    );
    let dual = json!({"clusterIPs": ["10.96.4.21", "fd00::21"], "ports": [{"port": 80, "protocol": "TCP"}]});
    own("dual", dual, none());
    let sql = json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]);
    own("db", headless(sql.clone()), none());
    slice(
        &names,
        (A, "shop", "db"),
        sql.clone(),
        &[
            ("10.1.0.5", Some("db-0"), Some(true)),
            ("10.1.0.6", Some("db-1"), None),
            ("10.1.0.7", Some("db-2"), Some(false)),
        ],
    );
    own("peers", headless(sql.clone()), none());
    slice(
        &names,
        (A, "shop", "peers"),
        sql.clone(),
        &[("10.1.0.8", None, Some(true))],
    );
    slice(
        &names,
        (A, "shop", "peers"),
        sql.clone(),
        &[
            ("fd00:1::8", None, Some(true)),
            ("fd00:2::", None, Some(true)),
        ],
    );
    own("idle", headless(sql.clone()), none());
    own("portless", headless(json!([])), none());
    slice(
        &names,
        (A, "shop", "portless"),
        json!([]),
        &[("10.1.0.9", None, Some(true))],
    );
    for (name, target) in [
        ("out", "example.com"),
        ("in", "web.shop.svc.cluster.local"),
        ("chain", "in.shop.svc.cluster.local"),
        ("ping", "pong.shop.svc.cluster.local"),
        ("pong", "ping.shop.svc.cluster.local"),
        ("self", "self.shop.svc.cluster.local"),
        ("gone", "nothing.shop.svc.cluster.local"),
        ("above", "web.shop.svc.super.example"),
        ("literal", "10.0.0.1"),
    ] {
        own(
            name,
            headless(json!([])),
            json!({keys::EXTERNAL_NAME: target}),
        );
    }
    own(
        "partner",
        headless(sql),
        json!({keys::SHOWN_ADDRESS: "10.96.8.9"}),
    );
    let secret = json!({"clusterIPs": ["10.96.8.30"], "ports": [{"port": 443, "protocol": "TCP"}]});
    service(&names, B, "secret", "vault", secret, none());
    let theirs = json!({"clusterIPs": ["10.96.8.31"], "ports": [{"port": 80, "protocol": "TCP"}]});
    service(&names, B, "shop", "theirs", theirs, none());
    slice(
        &names,
        (B, "shop", "theirs"),
        json!([{"port": 80, "protocol": "TCP"}]),
        &[("10.1.0.66", None, Some(true))],
    );
    names
}

fn zone(tenant: &str) -> Zone {
    let api = "10.96.4.1".parse().ok();
    let closed = vec![Block::parse("203.0.113.0/24").unwrap()];
    Zone::new(
        tenant,
        "cluster.local",
        api,
        "10.96.0.53".parse().unwrap(),
        closed,
    )
    .unwrap()
}

/// What a pod of tenant `tenant` is told; `@` stands for the domain.
fn told(names: &Names, tenant: &str, name: &str, kind: RecordType) -> String {
    let (zone, hidden) = (zone(tenant), [domain("super.example").unwrap()]);
    let name = name.replace('@', "cluster.local.");
    let known = names.read();
    let view = View {
        known: &known,
        zone: &zone,
        hidden: &hidden,
        looked: &Cell::new(0),
    };
    let lines = |records: &[Record]| {
        let line =
            |record: &Record| format!("{} {} {}", record.name, record.record_type(), record.data);
        let lines: Vec<String> = records.iter().map(line).collect();
        lines.join(", ")
    };
    let query = Query::query(Name::from_ascii(&name).unwrap(), kind);
    let text = match answer(view, &query) {
        Verdict::Forward => "asked outside".to_owned(),
        Verdict::Follow { chain, target } => format!("{}, then {target} outside", lines(&chain)),
        Verdict::Answer(answer) => {
            let mut text = match answer.records.is_empty() {
                true => format!("{}", answer.code).to_lowercase(),
                false => lines(&answer.records),
            };
            if !answer.additionals.is_empty() {
                text += &format!("; {}", lines(&answer.additionals));
            }
            if let [soa] = answer.authorities.as_slice() {
                text += &format!(" of {}", soa.name);
            }
            text
        }
    };
    text.replace("cluster.local.", "@")
}

#[test]
fn every_record_may_be_kept_for_thirty_seconds() {
    let names = cluster();
    let known = names.read();
    let zone = zone(A);
    let view = View {
        known: &known,
        zone: &zone,
        hidden: &[],
        looked: &Cell::new(0),
    };
    for (name, kind, seconds) in [
        ("web.shop.svc.cluster.local.", RecordType::SRV, 30),
        ("in.shop.svc.cluster.local.", RecordType::A, 30),
        ("nothing.shop.svc.cluster.local.", RecordType::A, 30),
        ("dns-version.cluster.local.", RecordType::TXT, 28_800),
    ] {
        let query = Query::query(Name::from_ascii(name).unwrap(), kind);
        let Verdict::Answer(answer) = answer(view, &query) else {
            panic!("{name} is asked outside");
        };
        let all = [answer.records, answer.authorities, answer.additionals].concat();
        assert!(
            !all.is_empty() && all.iter().all(|record| record.ttl == seconds),
            "{name}"
        );
    }
}

#[test]
fn a_name_is_answered_as_it_was_written() {
    let names = cluster();
    let asked = "wEB.Shop.SVC.cluster.LOCAL.";
    assert_eq!(
        told(&names, A, asked, RecordType::A),
        format!("{asked} A 10.96.4.20")
    );
}

#[test]
fn what_is_gone_has_no_name() {
    let names = cluster();
    let twin = format!("{A}-shop");
    let ask = |name: &str, kind| told(&names, A, name, kind);
    let reverse = "5.0.1.10.in-addr.arpa.";
    assert_eq!(
        ask(reverse, RecordType::PTR),
        format!("{reverse} PTR db-0.db.shop.svc.@")
    );
    names.drop_slice(&place(&twin, "db-IPv4"));
    assert_eq!(
        ask(reverse, RecordType::PTR),
        "non-existent domain of in-addr.arpa."
    );
    assert_eq!(
        ask("db.shop.svc.@", RecordType::A),
        "non-existent domain of @"
    );
    names.drop_service(&place(&twin, "web"));
    assert_eq!(
        ask("web.shop.svc.@", RecordType::A),
        "non-existent domain of @"
    );
    // A list that doesn't tell of an object says that it is gone.
    names.keep_services(&HashSet::from([place(&twin, "peers")]));
    assert_eq!(
        ask("dual.shop.svc.@", RecordType::A),
        "non-existent domain of @"
    );
    assert_eq!(
        ask("21.4.96.10.in-addr.arpa.", RecordType::PTR),
        "non-existent domain of in-addr.arpa."
    );
    assert_eq!(
        ask("peers.shop.svc.@", RecordType::A),
        "peers.shop.svc.@ A 10.1.0.8"
    );
    names.keep_slices(&HashSet::new());
    assert_eq!(
        ask("peers.shop.svc.@", RecordType::A),
        "non-existent domain of @"
    );
    assert_eq!(ask("shop.svc.@", RecordType::A), "no error of @");
    names.keep_namespaces(&HashSet::new());
    assert_eq!(ask("shop.svc.@", RecordType::A), "non-existent domain of @");
}

#[test]
fn an_object_is_of_the_tenant_whose_namespace_it_is_in() {
    let names = cluster();
    // It says that it is A's, and stands in a namespace of B.
    let object = json!({
        "metadata": {"name": "fake", "namespace": format!("{B}-shop"), "labels": {keys::TENANT: A},
            "annotations": {keys::NAMESPACE: "shop", keys::NAME: "fake"}},
        "spec": {"clusterIPs": ["10.96.4.66"], "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    names.set_service(&place(&format!("{B}-shop"), "fake"), &read(object));
    for tenant in [A, B] {
        let ask = |name: &str, kind| told(&names, tenant, name, kind);
        assert_eq!(
            ask("fake.shop.svc.@", RecordType::A),
            "non-existent domain of @"
        );
        assert_eq!(
            ask("66.4.96.10.in-addr.arpa.", RecordType::PTR),
            "non-existent domain of in-addr.arpa."
        );
    }
}

#[test]
fn other_tenants_names_are_not_told() {
    let names = cluster();
    for (name, kind) in [
        ("vault.secret.svc.@", RecordType::A),
        ("secret.svc.@", RecordType::A),
        ("theirs.shop.svc.@", RecordType::A),
        ("theirs.shop.svc.@", RecordType::SRV),
        ("10-1-0-66.secret.pod.@", RecordType::A),
    ] {
        assert_eq!(
            told(&names, A, name, kind),
            "non-existent domain of @",
            "{name}"
        );
        assert_ne!(
            told(&names, B, name, kind),
            "non-existent domain of @",
            "{name}"
        );
    }
    for address in ["30.8.96.10.in-addr.arpa.", "66.0.1.10.in-addr.arpa."] {
        let ask = |tenant| told(&names, tenant, address, RecordType::PTR);
        assert_eq!(ask(A), "non-existent domain of in-addr.arpa.");
        assert!(ask(B).contains("PTR"), "{}", ask(B));
    }
}
