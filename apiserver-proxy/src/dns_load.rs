//! How much the DNS server of all tenants holds and answers: `cargo xtask bench dns`.
//!
//! Server and clients are in one process and meet on the loopback device, so the figures are those of the server on its
//! share of the machine, without a network. Each tenant has one pod, whose address is one of 127.0.0.0/8.

use crate::{
    dns::{Names, Server, Upstreams},
    identity::provider,
    index::{Index, Tenant},
    metrics::Metrics,
    watch::Listed,
};
use anyhow::Context;
use api::keys;
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tenancy::{naming, route, tenant::TenantId};
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where all tenants' objects are.
const NAMESPACE: &str = "shop";
/// A question that isn't answered in so long counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Endpoints behind a Service.
const ENDPOINTS: usize = 4;

/// Measures the shared DNS server: memory of a tenant, answers a second, and how long they take
#[derive(Clone, Copy, Debug, clap::Parser)]
pub struct Plan {
    /// Tenants; each has a socket of its own
    #[arg(long, default_value_t = 500)]
    pub tenants: u16,
    /// Services of each with four endpoints, every other one headless
    #[arg(long, default_value_t = 40)]
    pub services: usize,
    /// Questions that are open at once
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Seconds in which questions are asked
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Bytes of memory that one tenant's names and pod took.
    pub memory_per_tenant: u64,
    /// Answers a second.
    pub per_second: f64,
    /// Seconds until an answer: of the median, and of the slowest one in a hundred.
    pub median: f64,
    /// See above.
    pub p99: f64,
    /// Answers.
    pub answered: usize,
    /// Questions without a right answer.
    pub wrong: usize,
}

impl Figures {
    /// As the task keeps them.
    #[must_use]
    pub fn told(&self) -> Value {
        json!({
            "memoryKiBPerTenant": self.memory_per_tenant as f64 / 1024.0,
            "answersPerSecond": self.per_second,
            "milliseconds": {"p50": self.median * 1000.0, "p99": self.p99 * 1000.0},
            "answers": self.answered,
            "wrong": self.wrong,
        })
    }
}

/// Fills a server with tenants and asks it.
///
/// # Errors
/// If the machine has no loopback device with all of 127.0.0.0/8, or not enough sockets.
pub async fn run(plan: Plan) -> anyhow::Result<Figures> {
    let before = memory();
    let (index, names, listed) = <(Arc<Index>, Arc<Names>, Arc<Listed>)>::default();
    let authority = authority()?;
    for number in 0..plan.tenants {
        fill(&index, &names, number, plan.services, &authority)?;
    }
    listed.complete();
    let memory_per_tenant = memory().saturating_sub(before) / u64::from(plan.tenants.max(1));
    let server = Server::new(
        (index, names, listed),
        Upstreams::default(),
        vec![],
        Arc::new(Metrics::new()),
    );
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let (at, cancel) = (socket.local_addr()?, CancellationToken::new());
    let served = tokio::spawn(server.datagrams(socket, TaskTracker::new(), cancel.clone()));

    let mut clients = JoinSet::new();
    for client in 0..plan.clients {
        clients.spawn(ask(at, client, plan));
    }
    let mut times = vec![];
    let mut wrong = 0;
    while let Some(done) = clients.join_next().await {
        let (answered, failed) = done??;
        times.extend(answered);
        wrong += failed;
    }
    cancel.cancel();
    served.await?;
    times.sort_unstable();
    let at_share = |share: usize| {
        let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, Duration::as_secs_f64)
    };
    Ok(Figures {
        memory_per_tenant,
        per_second: times.len() as f64 / plan.seconds,
        median: at_share(50),
        p99: at_share(99),
        answered: times.len(),
        wrong,
    })
}

/// One client after the other's answer, each question from the next of its tenants.
async fn ask(at: SocketAddr, client: usize, plan: Plan) -> anyhow::Result<(Vec<Duration>, usize)> {
    let mut sockets = vec![];
    for number in (0..plan.tenants).skip(client).step_by(plan.clients) {
        let socket = UdpSocket::bind((IpAddr::V4(pod(number)), 0)).await;
        let socket = socket.with_context(|| format!("a socket for pod {}", pod(number)))?;
        socket.connect(at).await?;
        sockets.push((number, socket));
    }
    let (mut times, mut wrong, mut turn) = (vec![], 0, 0);
    let end = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let mut buffer = [0; 4096];
    while Instant::now() < end && !sockets.is_empty() {
        let (number, socket) = &sockets[turn % sockets.len()];
        let (question, expected) = question(*number, turn, plan.services)?;
        let began = Instant::now();
        socket.send(&question).await?;
        match timeout(PATIENCE, socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                times.push(began.elapsed());
                let reply = Message::from_vec(&buffer[..length])?;
                let said = (reply.metadata.response_code, reply.answers.len());
                wrong += usize::from(said != expected);
            }
            _ => wrong += 1,
        }
        turn += 1;
    }
    Ok((times, wrong))
}

/// What is answered rightly: a code, and so many records.
type Expected = (ResponseCode, usize);

/// What pods ask most: a Service by its name and by the longer ones of the search list, ports, and names of addresses.
fn question(tenant: u16, turn: usize, services: usize) -> anyhow::Result<(Vec<u8>, Expected)> {
    let service = (turn / 5) % services.max(1);
    let full = format!("s{service}.{NAMESPACE}.svc.cluster.local.");
    let addresses = if is_headless(service) { ENDPOINTS } else { 1 };
    let (name, kind, records) = match turn % 5 {
        0 | 1 => (full, RecordType::A, Some(addresses)),
        2 => (full, RecordType::AAAA, Some(0)),
        3 => (
            format!("s{service}.{NAMESPACE}.svc.{NAMESPACE}.svc.cluster.local."),
            RecordType::A,
            None,
        ),
        _ => (
            format!("_http._tcp.{full}"),
            RecordType::SRV,
            Some(addresses),
        ),
    };
    let expected = records.map_or((ResponseCode::NXDomain, 0), |records| {
        (ResponseCode::NoError, records)
    });
    let mut message = Message::query();
    message.metadata.id = tenant ^ turn as u16;
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    Ok((message.to_vec()?, expected))
}

/// Every other Service has no address of its own.
fn is_headless(service: usize) -> bool {
    service % 2 == 1
}

/// One tenant: its route, its pod and its Services.
fn fill(
    index: &Index,
    names: &Names,
    number: u16,
    services: usize,
    authority: &str,
) -> anyhow::Result<()> {
    let mut bits = [0; 16];
    bits[..2].copy_from_slice(&number.to_be_bytes());
    let id = TenantId::from_bits(bits);
    let twin = naming::super_namespace(&id, "load", NAMESPACE);
    let marks = |name: &str| {
        json!({
            "name": name, "namespace": twin, "labels": {keys::TENANT: id.as_str()},
            "annotations": {keys::NAMESPACE: NAMESPACE, keys::NAME: name, keys::UID: name},
        })
    };
    let map = json!({
        "metadata": {"labels": {keys::TENANT: id.as_str()}, "annotations": {keys::CONTROL_PLANE: "load/load"}},
        "data": {route::AUTHORITY: authority, route::BACKEND: "127.0.0.1:1", route::DNS: "127.0.0.1"},
    });
    let tenant = Tenant::read(&read(map)?)?;
    index.set_tenant(("load".into(), route::name(&id)), tenant);
    let object = json!({
        "metadata": marks("client"), "spec": {"containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": pod(number)}]},
    });
    index.set_pod((twin.clone(), "client".into()), &read(object)?);
    let object = json!({"metadata": {
        "labels": {keys::TENANT: id.as_str()}, "annotations": {keys::NAME: NAMESPACE},
    }});
    names.set_namespace(&(String::new(), twin.clone()), &read(object)?);
    for service in 0..services {
        let name = format!("s{service}");
        let place = (twin.clone(), name.clone());
        let addresses = if is_headless(service) {
            vec!["None".to_owned()]
        } else {
            vec![
                Ipv4Addr::from_bits(0x0a60_0000 | u32::from(number) << 8 | service as u32)
                    .to_string(),
            ]
        };
        let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
        let object =
            json!({"metadata": marks(&name), "spec": {"clusterIPs": addresses, "ports": ports}});
        let object = read(object)?;
        index.set_service(place.clone(), &object);
        names.set_service(&place, &object);
        let endpoints = (0..ENDPOINTS).map(|endpoint| {
            let bits = u32::from(number) << 12 | (service * ENDPOINTS + endpoint) as u32;
            json!({"addresses": [Ipv4Addr::from_bits(0x6440_0000 | bits & 0x003f_ffff)]})
        });
        let object = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "ports": ports, "endpoints": endpoints.collect::<Value>(),
        });
        names.set_slice(&(twin.clone(), format!("{name}-x")), &read(object)?);
    }
    Ok(())
}

/// Address of a tenant's pod.
fn pod(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1 + high, low, 1)
}

fn read<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// PEM of an authority, which every route names.
pub(crate) fn authority() -> anyhow::Result<String> {
    // A process may have been started without one.
    let _ = (*provider()).clone().install_default();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let key = rcgen::KeyPair::generate()?;
    Ok(params.self_signed(&key)?.pem())
}

/// Bytes of memory that the process holds.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_question_of_a_short_run_is_answered_rightly_and_told_as_the_task_reads_it() {
        let plan = Plan {
            tenants: 4,
            services: 6,
            clients: 2,
            seconds: 0.2,
        };
        let figures = run(plan).await.unwrap();
        assert!(figures.answered > 0);
        assert_eq!(figures.wrong, 0, "{figures:?}");
        let read = include_str!("../../e2e/src/bin/dns/figures.json");
        let read: Value = serde_json::from_str(read).unwrap();
        let names = |figures: &Value| -> Vec<String> {
            figures.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            names(&figures.told()),
            names(&read),
            "the task reads others"
        );
    }
}
