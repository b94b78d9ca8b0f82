//! What must hold of an answer whatever bytes the question was.

use super::{
    answer::{Verdict, answer},
    find::View,
    message::{Request, Transport, Unfit},
    names::Names,
    zone::Zone,
};
use crate::index::Place;
use api::keys;
use hickory_proto::{
    op::{Message, MessageType, Query},
    rr::{Name, RData, RecordType},
};
use serde_json::json;
use std::{cell::Cell, net::IpAddr, sync::LazyLock};

const OWN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Address of the other tenant's Service.
const SECRET: [u8; 4] = [10, 96, 8, 30];
/// Longest answer by UDP.
const LONGEST: usize = 1232;

/// A Service of the same name in the same namespace of two tenants.
static CLUSTER: LazyLock<Option<(Names, Zone)>> = LazyLock::new(|| {
    let names = Names::default();
    for (tenant, address) in [(OWN, [10, 96, 4, 20]), (OTHER, SECRET)] {
        let address = IpAddr::from(address).to_string();
        let twin = format!("{tenant}-shop");
        let object = json!({"metadata": {
            "name": twin, "labels": {keys::TENANT: tenant}, "annotations": {keys::NAME: "shop"},
        }});
        names.set_namespace(
            &(String::new(), twin.clone()),
            &serde_json::from_value(object).ok()?,
        );
        let object = json!({
            "metadata": {"labels": {keys::TENANT: tenant},
                "annotations": {keys::NAMESPACE: "shop", keys::NAME: "web"}},
            "spec": {"clusterIPs": [address], "ports": [{"name": "http", "port": 80}]},
        });
        let place: Place = (twin, "web".to_owned());
        names.set_service(&place, &serde_json::from_value(object).ok()?);
    }
    let server = IpAddr::from([10, 96, 0, 53]);
    let zone = Zone::new(OWN, "cluster.local", None, server, vec![]).ok()?;
    Some((names, zone))
});

/// Good questions, to be bent.
pub(crate) fn questions() -> Vec<Vec<u8>> {
    let asked = [
        ("web.shop.svc.cluster.local.", RecordType::A),
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        ("20.4.96.10.in-addr.arpa.", RecordType::PTR),
        ("30.8.96.10.in-addr.arpa.", RecordType::PTR),
        ("10-96-4-20.shop.pod.cluster.local.", RecordType::A),
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
