//! The front door: throughput and latency beside a direct connection, memory of idle connections, and whether clients
//! that never finish their handshake are felt by others.

use crate::{
    connection::{Connection, Way},
    figure::{Figure, Told, at, milliseconds},
    site::{Proxies, Site},
};
use anyhow::Context;
use serde_json::json;
use std::{io::ErrorKind, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

/// New clients whose first answer is waited for, with and without a crowd.
const CLIENTS: usize = 500;
/// All idle connections are open after so long: a tenant may open a hundred a second.
const OPENING: Duration = Duration::from_secs(180);

/// Its name among the results that are kept.
pub(crate) const SCENARIO: &str = "door";

/// Measures it with one connection and with 64, then with a crowd of so many idle and half-open connections.
pub(crate) async fn measure(
    site: &Site,
    rounds: u32,
    time: Duration,
    (idle_ones, half_open_ones): (usize, usize),
) -> anyhow::Result<Vec<Figure>> {
    allow_files()?;
    let mut figures = vec![];
    for connections in [1, 64] {
        eprintln!("front door: {connections} connections");
        figures.extend(compare(site, connections, rounds, time).await?);
    }
    eprintln!("front door: {idle_ones} idle connections");
    figures.push(idle(site, idle_ones).await?);
    eprintln!("front door: {half_open_ones} half-open handshakes");
    figures.push(half_open(site, half_open_ones).await?);
    Ok(figures)
}

/// As many open files as the system lets one process have.
fn allow_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}

async fn compare(
    site: &Site,
    connections: usize,
    rounds: u32,
    time: Duration,
) -> anyhow::Result<[Figure; 2]> {
    let mut ways = [(&site.direct, vec![]), (&site.tenants[0], vec![])];
    let mut cpu = Duration::ZERO;
    for _ in 0..rounds {
        for (way, taken) in &mut ways {
            let before = site.proxies.cpu()?;
            taken.extend(load(way, connections, time).await?);
            cpu += site.proxies.cpu()?.saturating_sub(before);
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
    let cpu = cpu.as_secs_f64() * 1e6 / (door.0 * all).max(1.0);
    let detail = json!({
        "direct": told(direct), "door": told(door), "proxyMicrosecondsPerRequest": cpu.round(),
    });
    Ok([
        Figure::new(
            SCENARIO,
            Told::new(
                format!("shareOfDirect{connections}"),
                format!("front door, {connections} connections: share of direct"),
                "",
            ),
            door.0 / direct.0,
            detail.clone(),
        ),
        Figure::new(
            SCENARIO,
            Told::new(
                format!("p50OverDirect{connections}"),
                format!("front door, {connections} connections: p50 over direct"),
                "ms",
            ),
            door.1 - direct.1,
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
                taken.push(connection.get(Site::PATH).await?);
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

/// The tenants share them: one may not have so many at one replica.
async fn idle(site: &Site, count: usize) -> anyhow::Result<Figure> {
    let before = site.proxies.memory()?;
    let mut open: Vec<Connection> = vec![];
    let began = Instant::now();
    while open.len() < count {
        let way = &site.tenants[open.len() % site.tenants.len()];
        match way.connect().await {
            Ok(connection) => open.push(connection),
            Err(trouble) if began.elapsed() > OPENING => {
                let held = open.len();
                return Err(trouble.context(format!("{held} of {count} connections are open")));
            }
            // Above the rate of new connections; it refills.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    let after = site.proxies.memory()?;
    let mut last = open.pop().context("one is open")?;
    last.get(Site::PATH).await.context("they still work")?;
    let of = match site.proxies {
        Proxies::All => "all replicas together",
        Proxies::Own(_) => "one replica",
    };
    let detail = json!({
        "before": before, "after": after, "of": of,
        "bytesPerConnection": ((after - before) * 1e6 / count as f64).round(),
    });
    let name = format!("front door, {count} idle connections: memory");
    let told = Told::new("idle", name, "MB");
    Ok(Figure::new(SCENARIO, told, after - before, detail))
}

async fn half_open(site: &Site, count: usize) -> anyhow::Result<Figure> {
    let (door, others) = (&site.tenants[0], &site.tenants[1]);
    let alone = new_clients(others).await?;
    let hello = door.half_a_hello()?;
    let mut open = vec![];
    let before = site.proxies.memory()?;
    while open.len() < count {
        let mut stream = TcpStream::connect(&door.address).await?;
        stream.write_all(&hello[..hello.len() / 2]).await?;
        open.push(stream);
    }
    let after = site.proxies.memory()?;
    let beside = new_clients(others).await?;
    // Those that the front door has let go meanwhile have an end to be read.
    let is_held = |stream: &&TcpStream| {
        let read = stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let held = open.iter().filter(is_held).count();
    let told = |times: &[Duration]| {
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(at(times, share)));
        json!({"p50": p50, "p99": p99})
    };
    Ok(Figure::new(
        SCENARIO,
        Told::new(
            "halfOpen",
            format!("front door, {count} half-open: p99 of new clients, more"),
            "ms",
        ),
        milliseconds(at(&beside, 0.99)) - milliseconds(at(&alone, 0.99)),
        json!({
            "alone": told(&alone), "beside": told(&beside), "clients": CLIENTS, "opened": open.len(),
            "heldToTheEnd": held, "memoryMB": after - before,
        }),
    ))
}

/// How long a new client waits for its first answer, in order of size.
async fn new_clients(way: &Way) -> anyhow::Result<Vec<Duration>> {
    let mut taken = vec![];
    while taken.len() < CLIENTS {
        let began = Instant::now();
        match way.connect().await {
            Ok(mut connection) => {
                connection.get(Site::PATH).await?;
                taken.push(began.elapsed());
            }
            // A tenant may open only so many in a second.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    taken.sort_unstable();
    Ok(taken)
}
