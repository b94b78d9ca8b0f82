use super::*;
use crate::{
    index::tests::{PEM_AUTHORITY, route},
    sni::tests::hello,
    visits,
};
use tenancy::naming;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};

struct World {
    door: Arc<Door>,
    index: Arc<Index>,
    told: visits::tests::Told,
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
            let room = Arc::new(Semaphore::new(100));
            while let Ok((stream, _)) = listener.accept().await {
                let unknown = room.clone().acquire_owned().await.unwrap();
                tokio::spawn(serving.clone().serve(stream, unknown));
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
