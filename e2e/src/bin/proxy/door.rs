//! What the front door costs: throughput and latency beside a direct connection, memory of idle connections, and
//! whether clients that never finish their handshake are felt by others.
//!
//! On a running super cluster with Sublet: `SUBLET_KUBECONFIG=target/super/kubeconfig cargo run --release -p e2e --bin
//! door`. Figures of a debug build of the daemons say little.

use anyhow::{Context, ensure};
use clap::Parser;
use connection::{Connection, Way};
use e2e::{
    kind::{CONFIG_MAP, SERVICE},
    make,
    read::text,
    tenant::{A, B, Tenant},
};
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

mod connection;

/// Rounds in which both ways take turns, so that a busy moment of the machine meets both.
const ROUNDS: u32 = 5;
/// The object that is read.
const PATH: &str = "/api/v1/namespaces/default/configmaps/door";

/// Measures the front door.
#[derive(Parser)]
struct Args {
    /// How long one round of one way lasts, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections that do nothing
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Clients that never finish their first message
    #[arg(long, default_value_t = 10_000)]
    half_open: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
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
    let door = Way::by_the_door(a)?;
    let direct = door.at(direct(a).await?);
    for connections in [1, 64] {
        compare(
            &direct,
            &door,
            connections,
            Duration::from_secs(args.seconds),
        )
        .await?;
    }
    let others = Way::by_the_door(b)?;
    idle(&door, &others, args.idle).await?;
    half_open(&door, &others, args.half_open).await
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
    direct: &Way,
    door: &Way,
    connections: usize,
    time: Duration,
) -> anyhow::Result<()> {
    let mut ways = [(direct, vec![]), (door, vec![])];
    for _ in 0..ROUNDS {
        for (way, taken) in &mut ways {
            taken.extend(load(way, connections, time).await?);
        }
    }
    let all = time.as_secs_f64() * f64::from(ROUNDS);
    let figures = ways.map(|(_, mut taken)| {
        taken.sort_unstable();
        let rate = taken.len() as f64 / all;
        (
            rate,
            milliseconds(at(&taken, 0.5)),
            milliseconds(at(&taken, 0.99)),
        )
    });
    let [direct, door] = figures;
    println!(
        "{connections} connections: direct {:.0}/s p50 {:.2} ms p99 {:.2} ms; door {:.0}/s p50 {:.2} ms p99 {:.2} ms; \
         throughput x{:.3}, p50 {:+.2} ms",
        direct.0,
        direct.1,
        direct.2,
        door.0,
        door.1,
        door.2,
        door.0 / direct.0,
        door.1 - direct.1,
    );
    Ok(())
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
async fn idle(a: &Way, b: &Way, count: usize) -> anyhow::Result<()> {
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
    println!(
        "{count} idle connections: {before:.1} MB before, {after:.1} MB with them, all replicas together"
    );
    let mut last = open.pop().context("one is open")?;
    last.get(PATH).await.context("they still work")?;
    Ok(())
}

async fn half_open(door: &Way, others: &Way, count: usize) -> anyhow::Result<()> {
    let alone = new_clients(others).await?;
    let hello = door.half_a_hello()?;
    let mut open = vec![];
    while open.len() < count {
        let mut stream = TcpStream::connect(&door.address).await?;
        stream.write_all(&hello[..hello.len() / 2]).await?;
        open.push(stream);
    }
    let opened = open.len();
    let beside = new_clients(others).await?;
    println!(
        "{opened} half-open handshakes: a new client's first answer p50 {:.1} ms p99 {:.1} ms; without them p50 {:.1} ms \
         p99 {:.1} ms",
        milliseconds(at(&beside, 0.5)),
        milliseconds(at(&beside, 0.99)),
        milliseconds(at(&alone, 0.5)),
        milliseconds(at(&alone, 0.99)),
    );
    Ok(())
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

fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index)
        .or(sorted.last())
        .copied()
        .unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
