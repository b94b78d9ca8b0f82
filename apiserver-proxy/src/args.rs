//! Flags, and the only wiring.

use crate::{
    accept::Accept,
    dns::{self, Names, Upstreams},
    egress::Egress,
    forward::Upstream,
    identity::Gate,
    index::Index,
    kubelet::{self, Kubelet},
    limit::Caps,
    metrics::{Metrics, Plane, Shown},
    metrics_api::{self, MetricsApi},
    node_certificate::Signer,
    node_figures::Counters,
    passthrough::Door,
    serving::{self, Serving},
    super_client,
    tunnel::Inner,
    usage::Usage,
    visits::Visits,
    wake::Waker,
    watch::{self, Listed},
};
use anyhow::Context;
use clap::Parser;
use futures::{FutureExt, future::BoxFuture};
use hickory_proto::rr::Name;
use kube::Client;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use telemetry::LogArgs;
use tenancy::{block::Block, naming};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span};

/// After a signal new connections are still taken for so long, until nobody is sent here any more.
const LAG: Duration = Duration::from_secs(3);
/// Names the DNS servers that the host asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often series of tenants that are gone are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Front door, kubelet of the virtual nodes, way out of tenants' API servers, and DNS for tenants without their own.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  sublet-apiserver-proxy                          inside the super cluster\n  \
                  sublet-apiserver-proxy --kubeconfig super.conf  outside it"
)]
pub struct Args {
    /// Kubeconfig of the super cluster; inside a pod its service account is used
    #[arg(long, env = "SUBLET_KUBECONFIG", value_name = "PATH")]
    kubeconfig: Option<PathBuf>,

    /// Address of /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Address of the front door, where clients reach tenants
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:6443")]
    front_door: SocketAddr,

    /// A network of load balancers that put a PROXY header, version 1 or 2, before each connection to the front door;
    /// several may be given. The header is required from there and refused from elsewhere
    #[arg(long, value_name = "CIDR", value_parser = network)]
    proxy_protocol_from: Vec<Block>,

    /// Address of the way out, where tenants' API servers reach pods, Services and virtual nodes
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8131")]
    way_out: SocketAddr,

    /// Address of DNS for pods of tenants in shared mode, by UDP and TCP
    #[arg(long, value_name = "ADDRESS", default_value_t = dns_address())]
    dns: SocketAddr,

    /// A DNS server for names outside; several may be given. Without any, those of /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns_upstream: Vec<SocketAddr>,

    /// A DNS domain of the super cluster, of which tenants are told nothing; several may be given
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    super_domain: Vec<String>,

    /// Seconds that open connections may take to end after a signal
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    drain: u64,

    #[command(flatten)]
    caps: Caps,

    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            kubeconfig,
            listen,
            front_door,
            proxy_protocol_from,
            way_out,
            dns,
            dns_upstream,
            super_domain,
            drain,
            caps,
            log,
        } = self;
        log.start()?;
        telemetry::raise_file_limit();
        let config = telemetry::config(kubeconfig).await?;
        let server = config.cluster_url.clone();
        let shared = Shared::new(super_client::client(config)?, caps);
        let listeners = Listeners {
            page: listener(listen).await?,
            door: listener(front_door).await?,
            out: listener(way_out).await?,
            dns_streams: listener(dns).await?,
            dns_datagrams: UdpSocket::bind(dns)
                .await
                .with_context(|| format!("listening on {dns} by UDP"))?,
        };
        let planes = Planes {
            door: shared.door(proxy_protocol_from),
            egress: shared.egress()?,
            resolver: shared.resolver(upstreams(dns_upstream)?, hidden_domains(&super_domain)?),
            shown: shared.shown(),
        };
        let shown = planes.shown.clone();
        let mut parts = shared.begin(listeners, planes);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %server, "started");

        tokio::select! {
            asked = telemetry::asked_to_end() => asked?,
            // Without one of them the others would look well.
            ended = parts.join_next() => anyhow::bail!("a part of the proxy ended: {ended:?}"),
        }
        shown.ending.store(true, Ordering::Relaxed);
        tokio::time::sleep(LAG).await;
        shared.end(parts, Duration::from_secs(drain)).await;
        Ok(())
    }
}

/// The sockets, all bound before anything begins: an address that is taken ends the start.
struct Listeners {
    /// Probes and metrics.
    page: TcpListener,
    door: TcpListener,
    out: TcpListener,
    dns_streams: TcpListener,
    dns_datagrams: UdpSocket,
}

/// What answers on them.
struct Planes {
    door: Arc<Door>,
    /// Leads on to the kubelet of the virtual nodes and to the metrics API, which have no sockets of their own.
    egress: Arc<Egress>,
    resolver: Arc<dns::Server>,
    shown: Arc<Shown>,
}

/// What the planes have in common.
struct Shared {
    client: Client,
    index: Arc<Index>,
    names: Arc<Names>,
    listed: Arc<Listed>,
    serving: Arc<Serving>,
    signer: Arc<Signer>,
    counters: Arc<Counters>,
    visits: Visits,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Shared {
    /// Nothing is known yet.
    fn new(client: Client, caps: Caps) -> Self {
        Self {
            visits: Visits::new(client.clone(), api::SYSTEM_NAMESPACE),
            client,
            index: Arc::new(Index::new(caps)),
            names: Arc::default(),
            listed: Arc::default(),
            serving: Arc::default(),
            signer: Arc::default(),
            counters: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn door(&self, balancers: Vec<Block>) -> Arc<Door> {
        let (index, metrics) = (self.index.clone(), self.metrics.clone());
        Arc::new(Door {
            waker: Waker::new(index.clone(), self.visits.clone(), metrics.clone()),
            index,
            balancers,
            metrics,
        })
    }

    fn egress(&self) -> anyhow::Result<Arc<Egress>> {
        let gate = Arc::new(Gate::new(self.index.clone()));
        let tls = serving::config(self.serving.clone(), gate.clone())?;
        let usage = Usage::new(self.client.clone(), self.index.clone());
        let figures = Arc::new(MetricsApi {
            inner: self.inner(Plane::Figures, metrics_api::HEAD_MAX),
            tls: TlsAcceptor::from(Arc::new(serving::within_a_tunnel(self.serving.clone())?)),
            usage: usage.clone(),
            metrics: self.metrics.clone(),
        });
        let kubelet = Arc::new(Kubelet {
            gate: gate.clone(),
            index: self.index.clone(),
            inner: self.inner(Plane::Kubelet, kubelet::HEAD_MAX),
            upstream: Upstream::new(self.client.clone()),
            usage,
            counters: self.counters.clone(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
        });
        Ok(Arc::new(Egress {
            tls: TlsAcceptor::from(Arc::new(tls)),
            gate,
            index: self.index.clone(),
            kubelet,
            figures,
            signer: self.signer.clone(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
        }))
    }

    fn resolver(&self, upstreams: Upstreams, hidden: Vec<Name>) -> Arc<dns::Server> {
        dns::Server::new(
            (self.index.clone(), self.names.clone(), self.listed.clone()),
            upstreams,
            hidden,
            self.metrics.clone(),
        )
    }

    fn shown(&self) -> Arc<Shown> {
        Arc::new(Shown {
            metrics: self.metrics.clone(),
            index: self.index.clone(),
            listed: self.listed.clone(),
            serving: self.serving.clone(),
            signer: self.signer.clone(),
            ending: AtomicBool::new(false),
        })
    }

    /// What a plane of HTTP inside the way out has.
    fn inner(&self, plane: Plane, head_max: usize) -> Inner {
        Inner {
            plane,
            head_max,
            metrics: self.metrics.clone(),
            cancel: self.cancel.clone(),
        }
    }

    fn accept(&self, listener: TcpListener, plane: Plane) -> Accept {
        Accept {
            listener,
            plane,
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// All that runs for as long as the process does; each part ends with its name.
    fn begin(&self, listeners: Listeners, planes: Planes) -> JoinSet<&'static str> {
        let Listeners {
            page,
            door: door_listener,
            out,
            dns_streams,
            dns_datagrams,
        } = listeners;
        let Planes {
            door,
            egress,
            resolver,
            shown,
        } = planes;
        let mut parts = JoinSet::new();
        let mut part = |name: &'static str, work: BoxFuture<'static, ()>| {
            let span = info_span!("part", part = name);
            parts.spawn(work.map(move |()| name).instrument(span));
        };
        part("probes", telemetry::serve(page, shown).boxed());
        part("watches", self.watches().boxed());
        part("front door", {
            let serve = move |stream, unknown| door.clone().serve(stream, unknown);
            self.accept(door_listener, Plane::Door).run(serve).boxed()
        });
        part("way out", {
            let serve = move |stream, unknown| egress.clone().serve(stream, unknown);
            self.accept(out, Plane::Out).run(serve).boxed()
        });
        part("DNS by TCP", {
            let resolver = resolver.clone();
            let serve = move |stream, unknown| resolver.clone().stream(stream, unknown);
            self.accept(dns_streams, Plane::Dns).run(serve).boxed()
        });
        part("DNS by UDP", {
            let (tasks, cancel) = (self.tasks.clone(), self.cancel.clone());
            resolver.datagrams(dns_datagrams, tasks, cancel).boxed()
        });
        let visits = self.visits.clone();
        part("visits", visits.keep(self.index.clone()).boxed());
        part("housekeeping", {
            let (index, metrics) = (self.index.clone(), self.metrics.clone());
            housekeeping(index, metrics, self.counters.clone()).boxed()
        });
        parts
    }

    /// Fills all that is known of the super cluster.
    fn watches(&self) -> impl Future<Output = ()> + Send + use<> {
        watch::run(
            self.client.clone(),
            api::SYSTEM_NAMESPACE,
            (self.index.clone(), self.names.clone()),
            self.serving.clone(),
            self.signer.clone(),
            self.listed.clone(),
        )
    }

    /// Asks open connections to end and waits for them, but not for ever; then takes leave.
    async fn end(self, mut parts: JoinSet<&'static str>, drain: Duration) {
        self.cancel.cancel();
        self.tasks.close();
        tracing::info!(
            open = self.tasks.len(),
            "waiting for open connections to end"
        );
        let _ = tokio::time::timeout(drain, self.tasks.wait()).await;
        // No more rounds after this word.
        parts.shutdown().await;
        self.visits.leave(&self.index).await;
    }
}

async fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("listening on {address}"))
}

/// Forgets what was counted for tenants that are gone, or for nobody.
async fn housekeeping(index: Arc<Index>, metrics: Arc<Metrics>, counters: Arc<Counters>) {
    let mut rounds = tokio::time::interval(HOUSEKEEPING);
    loop {
        rounds.tick().await;
        let known = index.tenants();
        metrics.keep(|tenant| known.contains(tenant));
        counters.forget();
    }
}

/// The servers that were given, or those that the host asks.
fn upstreams(given: Vec<SocketAddr>) -> anyhow::Result<Upstreams> {
    if !given.is_empty() {
        return Ok(Upstreams::new(given));
    }
    let text = std::fs::read_to_string(RESOLV_CONF);
    let text = text.with_context(|| format!("reading {RESOLV_CONF}: give --dns-upstream"))?;
    let upstreams = Upstreams::from_resolv_conf(&text);
    if upstreams.is_empty() {
        tracing::warn!(
            "{RESOLV_CONF} names no DNS server: tenants in shared mode resolve no names outside"
        );
    }
    Ok(upstreams)
}

/// The values of --super-domain.
fn hidden_domains(domains: &[String]) -> anyhow::Result<Vec<Name>> {
    let parsed = domains
        .iter()
        .map(|domain| dns::domain(domain).with_context(|| format!("--super-domain {domain}")));
    parsed.collect()
}

/// A value of --proxy-protocol-from.
fn network(text: &str) -> Result<Block, String> {
    Block::parse(text)
        .ok_or_else(|| format!("{text:?} is no network: write one such as 10.0.0.0/8"))
}

/// The default of --dns.
fn dns_address() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], naming::DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::{CommandFactory, Parser};

    #[test]
    fn flags_are_consistent_and_wrong_ones_are_refused() {
        Args::command().debug_assert();
        for wrong in [
            ["--way-out", "nowhere"],
            ["--drain", "soon"],
            ["--dns-upstream", "10.0.0.2"],
            ["--proxy-protocol-from", "10.0.0.2"],
            ["--tenant-connections", "0"],
            ["--tenant-metrics-rate", "many"],
        ] {
            let args = ["sublet-apiserver-proxy", wrong[0], wrong[1]];
            assert!(Args::try_parse_from(args).is_err(), "{wrong:?}");
        }
    }
}
