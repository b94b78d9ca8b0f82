//! The front door: throughput and latency beside a direct connection, memory of idle connections, and whether clients
//! that never finish their handshake are felt by others.

use crate::{
    connection::{Connection, Way},
    figure::{Figure, Wanted, at, milliseconds},
};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CONFIG_MAP, SERVICE},
    make,
    read::text,
    tenant::{A, B, Tenant},
};
use serde_json::json;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

/// The object that is read.
const PATH: &str = "/api/v1/namespaces/default/configmaps/door";

/// Measures it with one connection and with 64, then with a crowd of so many idle and half-open connections.
pub(crate) async fn measure(
    rounds: u32,
    time: Duration,
    (idle_ones, half_open_ones): (usize, usize),
) -> anyhow::Result<Vec<Figure>> {
    allow_files()?;
    let (a, b) = (A.get().await?, B.get().await?);
    let mut object = make::config_map("door", "a", "b");
    object["metadata"]["namespace"] = "default".into();
    for tenant in [a, b] {
        match tenant.side.create(CONFIG_MAP, object.clone()).await {
            Err(problem) if problem.code != 409 => return Err(problem.into()),
            _ => {}
        }
    }
    let door = Way::of(&a.kubeconfig)?;
    let direct = door.at(direct(a).await?);
    let mut figures = vec![];
    for connections in [1, 64] {
        eprintln!("front door: {connections} connections");
        figures.extend(compare((&direct, &door), connections, rounds, time).await?);
    }
    let others = Way::of(&b.kubeconfig)?;
    eprintln!("front door: {idle_ones} idle connections");
    figures.push(idle(&door, &others, idle_ones).await?);
    eprintln!("front door: {half_open_ones} half-open handshakes");
    figures.push(half_open(&door, &others, half_open_ones).await?);
    Ok(figures)
}

/// As many open files as the system lets one process have.
fn allow_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}

/// `HOST:PORT` of the tenant's API servers.
async fn direct(tenant: &Tenant) -> anyhow::Result<String> {
    let namespace = tenant.control_plane_namespace();
    let service = tenant
        .above
        .get(SERVICE, &namespace, "kube-apiserver")
        .await?;
    let port = service["spec"]["ports"][0]["port"].as_u64();
    let port = port.context("the Service has a port")?;
    Ok(format!("{}:{port}", text(&service, "/spec/clusterIP")))
}

async fn compare(
    (direct, door): (&Way, &Way),
    connections: usize,
    rounds: u32,
    time: Duration,
) -> anyhow::Result<[Figure; 2]> {
    let mut ways = [(direct, vec![]), (door, vec![])];
    for _ in 0..rounds {
        for (way, taken) in &mut ways {
            taken.extend(load(way, connections, time).await?);
        }
    }
    let all = time.as_secs_f64() * f64::from(rounds);
    let [direct, door] = ways.map(|(_, mut taken)| {
        taken.sort_unstable();
        let rate = taken.len() as f64 / all;
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(at(&taken, share)));
        (rate, p50, p99)
    });
    let told = |(rate, p50, p99)| json!({"perSecond": rate, "p50": p50, "p99": p99});
    let detail = json!({"direct": told(direct), "door": told(door)});
    Ok([
        Figure::new(
            format!("front door, {connections} connections: share of direct"),
            door.0 / direct.0,
            "",
            Wanted::AtLeast(0.95),
            detail.clone(),
        ),
        Figure::new(
            format!("front door, {connections} connections: p50 over direct"),
            door.1 - direct.1,
            "ms",
            Wanted::AtMost(0.3),
            detail,
        ),
    ])
}

/// How long each request took.
async fn load(way: &Way, connections: usize, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut open = vec![];
    for _ in 0..connections {
        open.push(way.connect().await?);
    }
    let end = Instant::now() + time;
    let all = open.into_iter().map(|mut connection| {
        tokio::spawn(async move {
            let mut taken = vec![];
            while Instant::now() < end {
                taken.push(connection.get(PATH).await?);
            }
            anyhow::Ok(taken)
        })
    });
    let mut taken = vec![];
    for one in all.collect::<Vec<_>>() {
        taken.extend(one.await??);
    }
    Ok(taken)
}

/// Half of them of each tenant: one may not have so many at one replica.
async fn idle(a: &Way, b: &Way, count: usize) -> anyhow::Result<Figure> {
    let before = memory()?;
    let mut open: Vec<Connection> = vec![];
    while open.len() < count {
        let way = if open.len().is_multiple_of(2) { a } else { b };
        match way.connect().await {
            Ok(connection) => open.push(connection),
            // Above the rate of new connections; it refills.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    let after = memory()?;
    let mut last = open.pop().context("one is open")?;
    last.get(PATH).await.context("they still work")?;
    let detail = json!({"before": before, "after": after, "of": "all replicas together"});
    Ok(Figure::new(
        format!("front door, {count} idle connections: memory"),
        after - before,
        "MB",
        Wanted::AtMost(60.0),
        detail,
    ))
}

async fn half_open(door: &Way, others: &Way, count: usize) -> anyhow::Result<Figure> {
    let alone = new_clients(others).await?;
    let hello = door.half_a_hello()?;
    let mut open = vec![];
    while open.len() < count {
        let mut stream = TcpStream::connect(&door.address).await?;
        stream.write_all(&hello[..hello.len() / 2]).await?;
        open.push(stream);
    }
    let beside = new_clients(others).await?;
    let told = |times: &[Duration]| {
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(at(times, share)));
        json!({"p50": p50, "p99": p99})
    };
    Ok(Figure::new(
        format!("front door, {count} half-open: p99 of new clients, more"),
        milliseconds(at(&beside, 0.99)) - milliseconds(at(&alone, 0.99)),
        "ms",
        Wanted::AtMost(20.0),
        json!({"alone": told(&alone), "beside": told(&beside), "held": open.len()}),
    ))
}

/// How long a new client waits for its first answer, in order of size.
async fn new_clients(way: &Way) -> anyhow::Result<Vec<Duration>> {
    let mut taken = vec![];
    for _ in 0..200 {
        let began = Instant::now();
        way.connect().await?.get(PATH).await?;
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    Ok(taken)
}

/// Memory of all replicas of the proxy on this machine, in MB.
fn memory() -> anyhow::Result<f64> {
    let mut kilobytes = 0;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        let comm = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        // The kernel keeps fifteen characters of a name.
        if comm.trim() != &api::keys::PROXY[..15] {
            continue;
        }
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        kilobytes += number
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or_default();
    }
    ensure!(kilobytes > 0, "no proxy runs on this machine");
    Ok(kilobytes as f64 / 1024.0)
}
