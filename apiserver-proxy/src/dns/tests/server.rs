//! The server at work on sockets: pods are told apart by the address that they ask from.

use super::{place, read};
use crate::{
    accept::Room,
    dns::{Names, Server, Upstreams, domain},
    index::{
        Index, Tenant,
        tests::{PEM_AUTHORITY, place as twin, route},
    },
    metrics::Metrics,
    watch::Listed,
};
use api::keys;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::json;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, UdpSocket},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Addresses of pods of tenants 1 and 2, and of nobody.
const PODS: [&str; 3] = ["127.1.0.11", "127.1.0.12", "127.1.0.13"];

struct World {
    index: Arc<Index>,
    names: Arc<Names>,
    server: Arc<Server>,
    at: SocketAddr,
    streams: TcpListener,
    _running: tokio_util::sync::DropGuard,
}

fn set_pod(index: &Index, tenant: u8, address: &str) {
    let place = twin(tenant, "shop", &address.replace('.', "-"));
    let object = json!({
        "metadata": crate::index::tests::meta(tenant, "shop", &place.1),
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    });
    index.set_pod(place, &read(object));
}

/// Two tenants in shared mode and a third that isn't, each with a Service `web` at `10.96.4.N`.
async fn world(outside: SocketAddr) -> World {
    let (index, names, listed) = (
        Arc::new(Index::default()),
        Arc::new(Names::default()),
        Arc::new(Listed::default()),
    );
    for tenant in [1, 2, 3] {
        let mut map = route(tenant, "acme", &PEM_AUTHORITY);
        if let Some(data) = map.data.as_mut().filter(|_| tenant != 3) {
            data.insert(tenancy::route::DNS.into(), "10.96.0.53".into());
        }
        let tenant_read = Tenant::read(&map).unwrap();
        let id = tenant_read.id.to_string();
        index.set_tenant(place("sublet-system", &format!("route-{id}")), tenant_read);
        let space = twin(tenant, "shop", "web");
        let object = json!({"metadata": {
            "name": space.0, "labels": {keys::TENANT: id}, "annotations": {keys::NAME: "shop"},
        }});
        names.set_namespace(&place("", &space.0), &read(object));
        let object = json!({
            "metadata": crate::index::tests::meta(tenant, "shop", "web"),
            "spec": {"clusterIPs": [format!("10.96.4.{tenant}")], "ports": [{"port": 80}]},
        });
        names.set_service(&space, &read(object));
        let object = json!({
            "metadata": {
                "labels": {keys::TENANT: id},
                "annotations": {keys::NAMESPACE: "shop", keys::NAME: "out", keys::EXTERNAL_NAME: "example.com"},
            },
            "spec": {"clusterIPs": ["None"]},
        });
        names.set_service(&twin(tenant, "shop", "out"), &read(object));
    }
    set_pod(&index, 1, PODS[0]);
    set_pod(&index, 2, PODS[1]);
    listed.complete();
    let server = Server::new(
        (index.clone(), names.clone(), listed),
        Upstreams::new(vec![outside]),
        vec![domain("super.example").unwrap()],
        Arc::new(Metrics::new()),
    );
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let cancel = CancellationToken::new();
    tokio::spawn(
        server
            .clone()
            .datagrams(socket, TaskTracker::new(), cancel.clone()),
    );
    World {
        index,
        names,
        server,
        at,
        streams: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        _running: cancel.drop_guard(),
    }
}

/// A server outside that knows one address for every name; what it was asked comes out of the channel.
async fn outside() -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let (asked, told) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let name = question.queries[0].name().clone();
            let _ = asked.send(name.to_string()).await;
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.add_queries(question.queries);
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
            // What answers something else isn't taken for the answer.
            let mut wrong = reply.clone();
            wrong.metadata.id = wrong.metadata.id.wrapping_add(1);
            for message in [wrong, reply] {
                let _ = socket.send_to(&message.to_vec().unwrap(), client).await;
            }
        }
    });
    (at, told)
}

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// The code and the addresses that a pod gets.
fn told(asked: &Message, bytes: &[u8]) -> (ResponseCode, Vec<String>) {
    let reply = Message::from_vec(bytes).unwrap();
    assert_eq!(reply.metadata.id, asked.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    let data = reply.answers.iter().map(|record| record.data.to_string());
    (reply.metadata.response_code, data.collect())
}

async fn by_datagram(world: &World, pod: &str, name: &str) -> (ResponseCode, Vec<String>) {
    let socket = UdpSocket::bind((pod.parse::<IpAddr>().unwrap(), 0))
        .await
        .unwrap();
    socket.connect(world.at).await.unwrap();
    let asked = question(name);
    socket.send(&asked.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.unwrap();
    told(&asked, &buffer[..length])
}

#[tokio::test]
async fn t44_the_address_of_the_client_says_whose_names_are_meant() {
    let world = world(outside().await.0).await;
    for (pod, address) in [(PODS[0], "10.96.4.1"), (PODS[1], "10.96.4.2")] {
        let got = by_datagram(&world, pod, "web.shop.svc.cluster.local.").await;
        assert_eq!(got, (ResponseCode::NoError, vec![address.to_owned()]));
    }
}

#[tokio::test]
async fn an_address_that_passes_to_another_tenant_takes_its_names_along() {
    let world = world(outside().await.0).await;
    let (id, name) = (PODS[0].replace('.', "-"), "web.shop.svc.cluster.local.");
    world.index.drop_pod(&twin(1, "shop", &id));
    set_pod(&world.index, 2, PODS[0]);
    assert_eq!(by_datagram(&world, PODS[0], name).await.1, ["10.96.4.2"]);
}

#[tokio::test]
async fn a_question_of_a_new_pod_waits_until_its_address_is_known() {
    let world = world(outside().await.0).await;
    let ask = by_datagram(&world, PODS[2], "web.shop.svc.cluster.local.");
    let tell = async {
        // The question is there before the news of the pod.
        while world.server.waiting.len() == 0 {
            tokio::task::yield_now().await;
        }
        set_pod(&world.index, 2, PODS[2]);
    };
    let (got, ()) = tokio::join!(ask, tell);
    assert_eq!(got, (ResponseCode::NoError, vec!["10.96.4.2".to_owned()]));
}

/// Both tenants' pods say that an address is theirs while it passes on; the question is answered when the old one is gone.
#[tokio::test]
async fn a_question_waits_until_an_address_has_passed_on() {
    let world = world(outside().await.0).await;
    let id = PODS[0].replace('.', "-");
    for ends in ["it is gone", "it has ended"] {
        set_pod(&world.index, 1, PODS[0]);
        set_pod(&world.index, 2, PODS[0]);
        let ask = by_datagram(&world, PODS[0], "web.shop.svc.cluster.local.");
        let tell = async {
            while world.server.waiting.len() == 0 {
                tokio::task::yield_now().await;
            }
            if ends == "it is gone" {
                world.index.drop_pod(&twin(1, "shop", &id));
            } else {
                let ended = json!({
                    "metadata": crate::index::tests::meta(1, "shop", &id),
                    "status": {"phase": "Succeeded", "podIPs": [{"ip": PODS[0]}]},
                });
                world.index.set_pod(twin(1, "shop", &id), &read(ended));
            }
        };
        let (got, ()) = tokio::join!(ask, tell);
        assert_eq!(got.1, ["10.96.4.2"], "{ends}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobodys_address_is_refused() {
    let world = world(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let got = by_datagram(&world, PODS[2], "example.com.").await;
    assert_eq!(got, (ResponseCode::Refused, vec![]));
}

#[tokio::test]
async fn a_tenant_with_a_server_of_its_own_is_refused() {
    let world = world(outside().await.0).await;
    set_pod(&world.index, 3, PODS[2]);
    let got = by_datagram(&world, PODS[2], "web.shop.svc.cluster.local.").await;
    assert_eq!(got, (ResponseCode::Refused, vec![]));
}

#[tokio::test]
async fn names_outside_are_asked_outside_and_no_others() {
    let (at, mut asked) = outside().await;
    let world = world(at).await;
    let ask = async |name| by_datagram(&world, PODS[0], name).await;
    for name in [
        "nothing.shop.svc.cluster.local.",
        "web.shop.svc.super.example.",
        "9.0.0.10.in-addr.arpa.",
    ] {
        assert_eq!(ask(name).await, (ResponseCode::NXDomain, vec![]), "{name}");
    }
    assert!(asked.try_recv().is_err());
    let got = ask("www.example.org.").await;
    assert_eq!(got, (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
    assert_eq!(asked.recv().await.as_deref(), Some("www.example.org."));
    let got = ask("out.shop.svc.cluster.local.").await.1;
    assert_eq!(got, ["example.com.", "192.0.2.1"]);
    assert_eq!(asked.recv().await.as_deref(), Some("example.com."));
}

#[tokio::test]
async fn an_answer_from_outside_is_kept_for_its_tenant_alone() {
    let (at, mut asked) = outside().await;
    let world = world(at).await;
    for (pod, times) in [(PODS[0], 3), (PODS[1], 2)] {
        for _ in 0..times {
            let got = by_datagram(&world, pod, "www.example.org.").await;
            assert_eq!(got, (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
            let got = by_datagram(&world, pod, "out.shop.svc.cluster.local.")
                .await
                .1;
            assert_eq!(got, ["example.com.", "192.0.2.1"]);
        }
        // Once each, and once more for the other tenant: how fast an answer comes tells nothing of others.
        for name in ["www.example.org.", "example.com."] {
            assert_eq!(asked.recv().await.as_deref(), Some(name));
        }
        assert!(asked.try_recv().is_err());
    }
    // A full budget of questions that go out holds up nothing that is known.
    let tenant = world.index.tenant_at(PODS[0].parse().unwrap()).unwrap();
    let mut held = vec![];
    while let Ok(slot) = tenant.limits.dns_outside.take() {
        held.push(slot);
    }
    let got = by_datagram(&world, PODS[0], "WWW.example.org.").await;
    assert_eq!(got.1, ["192.0.2.1"]);
    assert_eq!(
        by_datagram(&world, PODS[0], "new.example.org.").await.0,
        ResponseCode::ServFail
    );
}

#[tokio::test]
async fn one_tenants_flood_isnt_anothers() {
    let world = world(outside().await.0).await;
    let tenant = world.index.tenant_at(PODS[0].parse().unwrap()).unwrap();
    let mut held = vec![];
    while let Ok(slot) = tenant.limits.dns.take() {
        held.push(slot);
    }
    let name = "web.shop.svc.cluster.local.";
    assert_eq!(
        by_datagram(&world, PODS[0], name).await.0,
        ResponseCode::ServFail
    );
    assert_eq!(by_datagram(&world, PODS[1], name).await.1, ["10.96.4.2"]);
}

/// T40: who makes a Service of thousands of endpoints pays for what it takes to look at them, and nobody else does.
#[tokio::test(start_paused = true)]
async fn t40_a_question_that_costs_much_counts_as_many() {
    let world = world(outside().await.0).await;
    let tenant = world.index.tenant_at(PODS[0].parse().unwrap()).unwrap();
    let big = twin(1, "shop", "big");
    let object = json!({
        "metadata": crate::index::tests::meta(1, "shop", "big"),
        "spec": {"clusterIPs": ["None"], "ports": [{"port": 80}]},
    });
    world.names.set_service(&big, &read(object));
    for slice in 0..10 {
        let endpoint =
            |n: usize| json!({"addresses": [format!("10.{slice}.{}.{}", n / 250, n % 250)]});
        let object = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "big"}}, "addressType": "IPv4",
            "ports": [{"port": 80, "protocol": "TCP"}],
            "endpoints": (0..1000).map(endpoint).collect::<Vec<_>>(),
        });
        let place = place(&big.0, &format!("big-{slice}"));
        world.names.set_slice(&place, &read(object));
    }
    // No time passes, so there is room for two hundred more.
    for _ in 0..3800 {
        drop(tenant.limits.dns.take().unwrap());
    }
    let mut answered = 0;
    while by_datagram(&world, PODS[0], "big.shop.svc.cluster.local.")
        .await
        .0
        == ResponseCode::NoError
    {
        answered += 1;
    }
    assert!((1..=4).contains(&answered), "{answered} were answered");
    let name = "web.shop.svc.cluster.local.";
    assert_eq!(by_datagram(&world, PODS[1], name).await.1, ["10.96.4.2"]);
}

#[tokio::test]
async fn streams_serve_many_questions() {
    let world = world(outside().await.0).await;
    let (at, server) = (world.streams.local_addr().unwrap(), world.server.clone());
    let room = Room::new(1);
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(PODS[0].parse().unwrap(), 0))
        .unwrap();
    let (client, accepted) = tokio::join!(socket.connect(at), world.streams.accept());
    let served = tokio::spawn(server.stream(accepted.unwrap().0, room.enter()));
    let mut client = client.unwrap();
    for (name, data) in [("web.shop", "10.96.4.1"), ("web.shop", "10.96.4.1")] {
        let asked = question(&format!("{name}.svc.cluster.local."));
        let bytes = asked.to_vec().unwrap();
        client
            .write_u16(u16::try_from(bytes.len()).unwrap())
            .await
            .unwrap();
        client.write_all(&bytes).await.unwrap();
        let mut reply = vec![0; client.read_u16().await.unwrap().into()];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(told(&asked, &reply).1, [data]);
    }
    // The place of those that aren't known yet is given back.
    assert_eq!(room.len(), 0);
    drop(client);
    served.await.unwrap();
    assert!(world.names.read().version() > 0);
}
