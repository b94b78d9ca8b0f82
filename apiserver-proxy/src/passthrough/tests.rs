use super::*;
use crate::{
    accept::Room,
    index::tests::{PEM_AUTHORITY, route},
    metrics::NOBODY,
    sni::tests::hello,
    visits,
    world::counted,
};
use tenancy::naming;
use tokio::net::{TcpListener, TcpSocket};

struct World {
    door: Arc<Door>,
    index: Arc<Index>,
    told: visits::tests::ToldVisits,
    name: String,
    address: SocketAddr,
    backend: TcpListener,
}

impl World {
    /// A front door with one tenant, which trusts these networks to say who their clients are.
    async fn with(balancers: &[&str], sleep: Option<&str>) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let index = Arc::new(Index::default());
        let metrics = Arc::new(Metrics::new());
        let (visits, told) = visits::tests::told();
        let networks = balancers.iter().map(|text| Block::parse(text).unwrap());
        let door = Arc::new(Door {
            index: index.clone(),
            waker: Waker::new(index.clone(), visits, metrics.clone()),
            balancers: networks.collect(),
            metrics,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = door.clone();
        tokio::spawn(async move {
            let room = Room::new(100);
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, room.enter()));
            }
        });
        let mut world = Self {
            door,
            index,
            told,
            name: String::new(),
            address,
            backend,
        };
        world.name = world.say(sleep, None);
        world
    }

    /// Sets the tenant's route; returns its name.
    fn say(&self, sleep: Option<&str>, backend: Option<SocketAddr>) -> String {
        let mut map = route(1, "acme", &PEM_AUTHORITY);
        let data = map.data.as_mut().unwrap();
        let backend = backend.unwrap_or(self.backend.local_addr().unwrap());
        data.insert("backend".into(), backend.to_string());
        if let Some(word) = sleep {
            data.insert(tenancy::route::SLEEP.into(), word.into());
        }
        let tenant = Tenant::read(&map).unwrap();
        let name = naming::tenant_host(&tenant.id);
        self.index.set_tenant(("s".into(), "r".into()), tenant);
        name
    }

    async fn knock(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// What the tenant's API server hears first.
    async fn heard(&self, length: usize) -> (TcpStream, Vec<u8>) {
        let (mut server, _) = self.backend.accept().await.unwrap();
        let mut heard = vec![0; length];
        server.read_exact(&mut heard).await.unwrap();
        (server, heard)
    }

    /// What a client that is let go is told.
    async fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.knock(bytes).await;
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 258 443\r\n";

#[tokio::test]
async fn a_balancers_header_is_taken_off_and_the_rest_passes_whole() {
    let world = World::with(&["127.0.0.0/8"], None).await;
    let hello = hello(&world.name);
    let _client = world.knock(&[LINE, &hello].concat()).await;
    let (_server, heard) = world.heard(hello.len()).await;
    assert!(heard == hello);
}

#[tokio::test]
async fn t33_a_header_is_required_of_balancers_and_refused_from_all_others() {
    let world = World::with(&["127.0.0.0/8"], None).await;
    assert!(world.answer(&hello(&world.name)).await.is_empty());
    let others = World::with(&["192.0.2.0/24"], None).await;
    let answer = others.answer(&[LINE, &hello(&others.name)].concat()).await;
    assert_eq!(answer, UNRECOGNIZED_NAME);
}

#[tokio::test]
async fn a_connection_wakes_the_tenant_and_then_passes() {
    let world = World::with(&[], Some("wakeable")).await;
    let hello = hello(&world.name);
    let _client = world.knock(&hello).await;
    assert_eq!(world.told.next().await.len(), 1);
    // The route says so before the Service is on every node: nobody answers there yet.
    let late = TcpSocket::new_v4().unwrap();
    late.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    world.say(Some("awake"), Some(late.local_addr().unwrap()));
    let late = late.listen(16).unwrap();
    let (mut server, _) = late.accept().await.unwrap();
    let mut heard = vec![0; hello.len()];
    server.read_exact(&mut heard).await.unwrap();
    assert!(heard == hello);
    // It is there, so it counts as a visit.
    assert_eq!(world.door.index.visited().len(), 1);
}

#[tokio::test]
async fn t40_whoever_may_not_wake_a_tenant_is_told_so_at_once() {
    let world = World::with(&[], Some("shut")).await;
    assert_eq!(world.answer(&hello(&world.name)).await, ACCESS_DENIED);
    let world = World::with(&[], Some("wakeable")).await;
    assert_eq!(world.answer(&hello("api.example.com")).await, ACCESS_DENIED);
    assert!(world.told.is_silent());
}

/// T40: what names no tenant is let go with an alert where TLS was spoken, and counted by what it was.
#[tokio::test]
async fn t40_who_names_no_tenant_is_let_go_and_counted() {
    let world = World::with(&[], None).await;
    let good = hello(&world.name);
    // It promises a message of 64 KiB.
    let mut huge = good[..9].to_vec();
    huge[6] = 1;
    let rows: [(&str, &[u8]); 9] = [
        ("not_tls", b"GET / HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        ("not_tls", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("not_tls", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("not_tls", &[0; 64]),
        ("not_tls", &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 1, 0]),
        ("too_long", &huge),
        ("no_name", &hello("10.96.0.1")),
        (
            "unknown_name",
            &hello("aaaaaaaaaaaaaaaaaaaaaaaaaa.tenants.sublet.internal"),
        ),
        ("unknown_name", &hello("kubernetes.default.svc")),
    ];
    for (outcome, bytes) in rows {
        let before = world.door.metrics.counted(NOBODY, Plane::Door, outcome);
        let answer = world.answer(bytes).await;
        assert_eq!(answer, UNRECOGNIZED_NAME, "{outcome}");
        counted(
            &world.door.metrics,
            NOBODY,
            Plane::Door,
            outcome,
            before + 1,
        )
        .await;
    }
    drop(world.knock(&good[..20]).await);
    counted(&world.door.metrics, NOBODY, Plane::Door, "closed", 1).await;
    let upper = hello(&world.name.to_ascii_uppercase());
    let _client = world.knock(&upper).await;
    let (_server, heard) = world.heard(upper.len()).await;
    assert!(heard == upper, "names have no case");
}

/// A first message in as many packets as it has bytes.
#[tokio::test]
async fn a_hello_in_many_packets_arrives_whole() {
    let world = World::with(&[], None).await;
    let hello = hello(&world.name);
    let mut client = world.knock(&hello[..1]).await;
    client.set_nodelay(true).unwrap();
    for byte in &hello[1..] {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (_server, heard) = world.heard(hello.len()).await;
    assert!(heard == hello);
}

/// T40: silence is let go after a while. Time runs as soon as nothing else does.
#[tokio::test(start_paused = true)]
async fn t40_half_a_hello_is_let_go() {
    let world = World::with(&[], None).await;
    let hello = hello(&world.name);
    for said in [&hello[..0], &hello[..hello.len() / 2]] {
        assert!(world.answer(said).await.is_empty());
    }
    counted(&world.door.metrics, NOBODY, Plane::Door, "slow", 2).await;
}

/// T40: a tenant has its connections, and no more.
#[tokio::test]
async fn t40_a_tenants_connections_are_limited() {
    let world = World::with(&[], None).await;
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    let _all = tenant.limits.door.fill();
    let hello = hello(&world.name);
    assert!(world.answer(&hello).await.is_empty());
    let id = tenant.id.as_str();
    counted(&world.door.metrics, id, Plane::Door, "limited", 1).await;
}

/// T40: one client, which proves nothing, keeps others out of nothing.
#[tokio::test]
async fn t40_a_client_has_a_share_of_its_tenants_connections() {
    let world = World::with(&["127.0.0.0/8"], None).await;
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    let first = Some("192.0.2.1".parse().unwrap());
    let places = || tenant.limits.clients.take(first);
    let _all: Vec<_> = std::iter::from_fn(|| places().ok()).collect();
    let hello = hello(&world.name);
    assert!(world.answer(&[LINE, &hello].concat()).await.is_empty());
    let id = tenant.id.as_str();
    counted(&world.door.metrics, id, Plane::Door, "limited", 1).await;
    let other = b"PROXY TCP4 192.0.2.2 10.0.0.1 258 443\r\n";
    let _client = world.knock(&[&other[..], &hello].concat()).await;
    let (_server, heard) = world.heard(hello.len()).await;
    assert!(heard == hello);
}

/// As with a Service: an API server that isn't ready for a moment keeps its connections, and new ones wait.
#[tokio::test]
async fn while_no_api_server_is_ready_open_connections_live_on_and_new_ones_are_held() {
    let mut world = World::with(&[], None).await;
    // Nobody else takes a port of this address in between.
    world.backend = TcpListener::bind("127.0.0.77:0").await.unwrap();
    world.say(None, None);
    let hello = hello(&world.name);
    let mut old = world.knock(&hello).await;
    let (mut server, _) = world.heard(hello.len()).await;
    let backend = world.backend.local_addr().unwrap();
    // From now on it refuses, as a Service without endpoints does.
    world.backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _new = world.knock(&hello).await;
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    while tenant.limits.held.free() == wake::Places::of_one().free() {
        tokio::task::yield_now().await;
    }
    let mut byte = [0];
    server.write_all(b"a").await.unwrap();
    old.read_exact(&mut byte).await.unwrap();
    old.write_all(b"b").await.unwrap();
    server.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"b");
    // Ready again: who waited gets there, with all that it said.
    world.backend = TcpListener::bind(backend).await.unwrap();
    let (_server, heard) = world.heard(hello.len()).await;
    assert!(heard == hello);
    let id = tenant.id.as_str();
    assert_eq!(
        world.door.metrics.counted(id, Plane::Door, "unreachable"),
        0
    );

    // The tenant goes: now they end.
    world.index.drop_tenant(&("s".into(), "r".into()));
    assert_eq!(old.read(&mut byte).await.unwrap_or_default(), 0);
    counted(&world.door.metrics, id, Plane::Door, "gone", 2).await;
}

/// Other API servers take new connections at once, and those that are open have a while to end.
#[tokio::test(start_paused = true)]
async fn when_back_ends_change_open_connections_are_drained() {
    let world = World::with(&[], None).await;
    let hello = hello(&world.name);
    let mut old = world.knock(&hello).await;
    let (mut server, _) = world.heard(hello.len()).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.say(None, Some(elsewhere.local_addr().unwrap()));
    let moved = Instant::now();
    let mut byte = [0];
    server.write_all(b"a").await.unwrap();
    old.read_exact(&mut byte).await.unwrap();
    let _new = world.knock(&hello).await;
    let (mut there, _) = elsewhere.accept().await.unwrap();
    let mut heard = vec![0; hello.len()];
    there.read_exact(&mut heard).await.unwrap();
    assert!(heard == hello);
    assert_eq!(old.read(&mut byte).await.unwrap_or_default(), 0);
    let drained = moved.elapsed();
    assert!(
        drained >= MOVED_LIMIT && drained < MOVED_LIMIT * 2,
        "{drained:?}"
    );
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    let (metrics, id) = (&world.door.metrics, tenant.id.as_str());
    counted(metrics, id, Plane::Door, "gone", 1).await;
    assert_eq!(metrics.opened(id, Plane::Door), 1);
}

/// T40: what is held has its time and its place.
#[tokio::test(start_paused = true)]
async fn t40_nobody_is_held_for_longer_than_a_client_waits_nor_more_than_there_is_room_for() {
    let mut world = World::with(&[], None).await;
    world.backend = TcpListener::bind("127.0.0.78:0").await.unwrap();
    world.say(None, None);
    let hello = hello(&world.name);
    world.backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = Instant::now();
    assert!(world.answer(&hello).await.is_empty());
    let held = began.elapsed();
    assert!(
        held <= wake::HOLD + DIAL_AGAIN && held + DIAL_AGAIN_MOST * 2 >= wake::HOLD,
        "{held:?}"
    );
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    let id = tenant.id.as_str();
    counted(&world.door.metrics, id, Plane::Door, "unreachable", 1).await;

    drop(world.knock(&hello).await);
    counted(&world.door.metrics, id, Plane::Door, "closed", 1).await;

    let _all = tenant.limits.held.fill();
    let began = Instant::now();
    assert!(world.answer(&hello).await.is_empty());
    assert!(began.elapsed() < DIAL_AGAIN);
}

/// T40: a Service that drops packets holds no more than one that refuses, and who leaves meanwhile is noticed.
#[tokio::test]
async fn t40_who_waits_for_packets_that_are_dropped_has_a_place() {
    let world = World::with(&[], None).await;
    let full = TcpSocket::new_v4().unwrap();
    full.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let full = full.listen(1).unwrap();
    let backend = full.local_addr().unwrap();
    // Nobody accepts: after some connections the system takes no more of them.
    let mut waiting = vec![];
    while let Ok(stream) = timeout(PROMPT, TcpStream::connect(backend)).await {
        waiting.push(stream.unwrap());
    }
    world.say(None, Some(backend));
    let tenant = world.index.tenant_by_server_name(&world.name).unwrap();
    let free = || tenant.limits.held.free();
    let all = free();
    let client = world.knock(&hello(&world.name)).await;
    let held = async {
        while free() == all {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(wake::HOLD, held).await.is_ok());
    drop(client);
    let id = tenant.id.as_str();
    counted(&world.door.metrics, id, Plane::Door, "closed", 1).await;
    assert_eq!(free(), all);
}

/// Clients of a tenant whose API server Sublet doesn't run go there by themselves.
#[tokio::test]
async fn a_tenant_without_a_backend_is_nobody_at_the_front_door() {
    let world = World::with(&[], None).await;
    let mut map = route(1, "acme", &PEM_AUTHORITY);
    map.data.as_mut().unwrap().remove(tenancy::route::BACKEND);
    let tenant = Tenant::read(&map).unwrap();
    world.index.set_tenant(("s".into(), "r".into()), tenant);
    assert_eq!(world.answer(&hello(&world.name)).await, UNRECOGNIZED_NAME);
    counted(&world.door.metrics, NOBODY, Plane::Door, "unknown_name", 1).await;
}
