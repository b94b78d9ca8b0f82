//! What must hold of an answer whatever bytes the question was.

use super::{
    answer::{Verdict, answer},
    find::View,
    message::{Request, Transport, Unfit},
    names::Names,
    zone::Zone,
};
use api::keys;
use hickory_proto::{
    op::{Message, MessageType, Query},
    rr::{Name, RData, RecordType},
};
use serde_json::{Value, json};
use std::{cell::Cell, collections::HashSet, net::IpAddr, sync::LazyLock};
use tenancy::object::NamespacedName;

const OWN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Address of the other tenant's Service.
const SECRET: [u8; 4] = [10, 96, 8, 30];
/// Longest answer by UDP.
const LONGEST: usize = 1232;

/// Objects of the super cluster, each with its place: a Service of the same name in the same namespace of two tenants, and a
/// headless one.
pub(crate) fn objects() -> Vec<(NamespacedName, Value)> {
    let all = [(OWN, [10, 96, 4, 20]), (OTHER, SECRET)].map(|(tenant, address)| {
        let (address, twin) = (IpAddr::from(address).to_string(), format!("{tenant}-shop"));
        let service = |name: &str, addresses: Value| {
            json!({
                "kind": "Service",
                "metadata": {"name": name, "namespace": twin, "labels": {keys::TENANT: tenant},
                    "annotations": {keys::NAMESPACE: "shop", keys::NAME: name}},
                "spec": {"clusterIPs": addresses, "ports": [{"name": "http", "port": 80}]},
            })
        };
        let slice = json!({
            "kind": "EndpointSlice",
            "metadata": {"name": "db-x", "namespace": twin,
                "labels": {keys::TENANT: tenant, "kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "hostname": "db-0", "conditions": {"ready": true}}],
        });
        let namespace = json!({
            "kind": "Namespace", "metadata": {
                "name": twin, "labels": {keys::TENANT: tenant}, "annotations": {keys::NAME: "shop"},
            },
        });
        let place = |name: &str| (twin.clone(), name.to_owned());
        [
            ((String::new(), twin.clone()), namespace),
            (place("web"), service("web", json!([address]))),
            (place("db"), service("db", json!(["None"]))),
            (place("db-x"), slice),
        ]
    });
    all.into_iter().flatten().collect()
}

/// What is known of them; what can't be read is left out.
fn known(objects: &[(NamespacedName, Value)]) -> Names {
    let names = Names::default();
    for (place, object) in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        match kind {
            "Namespace" => {
                let read = serde_json::from_value(object.clone()).ok();
                read.inspect(|object| names.set_namespace(place, object));
            }
            "Service" => {
                let read = serde_json::from_value(object.clone()).ok();
                read.inspect(|object| names.set_service(place, object));
            }
            _ => {
                let read = serde_json::from_value(object.clone()).ok();
                read.inspect(|object| names.set_slice(place, object));
            }
        }
    }
    names
}

fn zone() -> Option<Zone> {
    let server = IpAddr::from([10, 96, 0, 53]);
    Zone::new(OWN, "cluster.local", None, server, vec![]).ok()
}

static CLUSTER: LazyLock<Option<(Names, Zone)>> =
    LazyLock::new(|| Some((known(&objects()), zone()?)));

/// Asks all questions, and then takes all objects away again.
///
/// # Panics
/// If an answer breaks a rule, or something stays.
pub(crate) fn judge_objects(objects: &[(NamespacedName, Value)]) {
    let (names, zone) = (known(objects), zone().expect("a domain"));
    for question in questions() {
        judge_with(&question, &names, &zone);
    }
    names.keep_services(&HashSet::new());
    names.keep_slices(&HashSet::new());
    names.keep_namespaces(&HashSet::new());
    assert!(names.read().is_empty(), "something stays");
}

/// Good questions, to be bent.
pub(crate) fn questions() -> Vec<Vec<u8>> {
    let asked = [
        ("web.shop.svc.cluster.local.", RecordType::A),
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        ("20.4.96.10.in-addr.arpa.", RecordType::PTR),
        ("30.8.96.10.in-addr.arpa.", RecordType::PTR),
        ("10-96-4-20.shop.pod.cluster.local.", RecordType::A),
        ("db.shop.svc.cluster.local.", RecordType::A),
        ("db-0.db.shop.svc.cluster.local.", RecordType::SRV),
        ("shop.svc.cluster.local.", RecordType::TXT),
        ("cluster.local.", RecordType::NS),
        ("example.com.", RecordType::AAAA),
    ];
    let bytes = asked.iter().filter_map(|(name, kind)| {
        let mut message = Message::query();
        message.metadata.id = 7;
        message.add_query(Query::query(Name::from_ascii(name).ok()?, *kind));
        message.to_vec().ok()
    });
    bytes.collect()
}

/// Answers bytes as a question of one tenant.
///
/// # Panics
/// If what is answered is no answer to it, is too long, or tells of the other tenant.
pub(crate) fn judge(bytes: &[u8]) {
    let (names, zone) = CLUSTER.as_ref().expect("the objects are well formed");
    judge_with(bytes, names, zone);
}

fn judge_with(bytes: &[u8], names: &Names, zone: &Zone) {
    let reply = match Request::read(bytes, Transport::Udp) {
        Err(Unfit::Silent) => return,
        Err(Unfit::Refused(reply)) => reply,
        Ok(request) => {
            let known = names.read();
            let view = View {
                known: &known,
                zone,
                hidden: &[],
                looked: &Cell::new(0),
            };
            let Verdict::Answer(answer) = answer(view, &request.query) else {
                return;
            };
            // A pod's name holds its address: whoever asks for that one knows it.
            let is_named = request.query.name().to_ascii().contains("-30.");
            let secret = |data: &RData| !is_named && data.ip_addr() == Some(IpAddr::from(SECRET));
            let told = answer.records.iter().chain(&answer.additionals);
            assert!(
                !told.into_iter().any(|record| secret(&record.data)),
                "{answer:?}"
            );
            request.reply(answer)
        }
    };
    assert!(reply.len() <= LONGEST, "{} bytes", reply.len());
    let read = Message::from_vec(&reply).expect("an answer can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(reply[..2], bytes[..2], "it has the question's number");
}
