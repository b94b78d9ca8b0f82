//! Flags, and the only wiring.

use crate::{
    accept::Accept,
    dns::{self, Names, Upstreams},
    egress::Egress,
    forward::Upstream,
    identity::Gate,
    index::Index,
    kubelet::{self, Kubelet},
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
            log,
        } = self;
        log.start()?;
        telemetry::raise_file_limit();
        let config = telemetry::config(kubeconfig).await?;
        let server = config.cluster_url.clone();
        let client = super_client::client(config)?;
        let bind = async |address: SocketAddr| {
            let listener = TcpListener::bind(address).await;
            listener.with_context(|| format!("listening on {address}"))
        };
        let (page, door, out, streams) = (
            bind(listen).await?,
            bind(front_door).await?,
            bind(way_out).await?,
            bind(dns).await?,
        );
        let datagrams = UdpSocket::bind(dns).await;
        let datagrams = datagrams.with_context(|| format!("listening on {dns} by UDP"))?;
        let upstreams = upstreams(dns_upstream)?;
        let hidden = super_domain
            .iter()
            .map(|domain| dns::domain(domain).with_context(|| format!("--super-domain {domain}")));
        let hidden = hidden.collect::<anyhow::Result<Vec<_>>>()?;

        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (index, serving) = (Arc::new(Index::default()), Arc::new(Serving::default()));
        let names = Arc::new(Names::default());
        let (metrics, listed) = (Arc::new(Metrics::new()), Arc::new(Listed::default()));
        let gate = Arc::new(Gate::new(index.clone()));
        let tls = TlsAcceptor::from(Arc::new(serving::config(serving.clone(), gate.clone())?));
        let signer = Arc::new(Signer::default());
        let usage = Usage::new(client.clone(), index.clone());
        let counters = Arc::new(Counters::default());
        let inner = |plane, head_max| Inner {
            plane,
            head_max,
            metrics: metrics.clone(),
            cancel: cancel.clone(),
        };
        let figures = Arc::new(MetricsApi {
            inner: inner(Plane::Figures, metrics_api::HEAD_MAX),
            tls: TlsAcceptor::from(Arc::new(serving::within_a_tunnel(serving.clone())?)),
            usage: usage.clone(),
            metrics: metrics.clone(),
        });
        let kubelet = Arc::new(Kubelet {
            gate: gate.clone(),
            index: index.clone(),
            inner: inner(Plane::Kubelet, kubelet::HEAD_MAX),
            upstream: Upstream::new(client.clone()),
            usage,
            counters: counters.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        let egress = Arc::new(Egress {
            tls,
            gate,
            index: index.clone(),
            kubelet,
            figures,
            signer: signer.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        let visits = Visits::new(client.clone(), api::SYSTEM_NAMESPACE);
        let front = Arc::new(Door {
            index: index.clone(),
            waker: Waker::new(index.clone(), visits.clone(), metrics.clone()),
            balancers: proxy_protocol_from,
            metrics: metrics.clone(),
        });
        let resolver = dns::Server::new(
            (index.clone(), names.clone(), listed.clone()),
            upstreams,
            hidden,
            metrics.clone(),
        );
        let shown = Arc::new(Shown {
            metrics: metrics.clone(),
            index: index.clone(),
            listed: listed.clone(),
            serving: serving.clone(),
            signer: signer.clone(),
            ending: AtomicBool::new(false),
        });

        let mut parts = JoinSet::new();
        let mut part = |name: &'static str, work: BoxFuture<'static, ()>| {
            let span = info_span!("part", part = name);
            parts.spawn(work.map(move |()| name).instrument(span));
        };
        let accept = |listener, plane| {
            let (metrics, tasks, cancel) = (metrics.clone(), tasks.clone(), cancel.clone());
            Accept {
                listener,
                plane,
                metrics,
                tasks,
                cancel,
            }
        };
        part("probes", telemetry::serve(page, shown.clone()).boxed());
        part("watches", {
            let (index, serving) = (index.clone(), serving.clone());
            let watching = async move {
                watch::run(
                    client,
                    api::SYSTEM_NAMESPACE,
                    (index, names),
                    serving,
                    signer,
                    listed,
                )
                .await;
            };
            watching.boxed()
        });
        part("front door", {
            let serve = move |stream, unknown| front.clone().serve(stream, unknown);
            accept(door, Plane::Door).run(serve).boxed()
        });
        part("way out", {
            let serve = move |stream, unknown| egress.clone().serve(stream, unknown);
            accept(out, Plane::Out).run(serve).boxed()
        });
        part("DNS by TCP", {
            let resolver = resolver.clone();
            let serve = move |stream, unknown| resolver.clone().stream(stream, unknown);
            accept(streams, Plane::Dns).run(serve).boxed()
        });
        part(
            "DNS by UDP",
            resolver
                .datagrams(datagrams, tasks.clone(), cancel.clone())
                .boxed(),
        );
        part("visits", visits.clone().keep(index.clone()).boxed());
        part(
            "housekeeping",
            housekeeping(index.clone(), metrics, counters).boxed(),
        );
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %server, "started");

        tokio::select! {
            asked = telemetry::asked_to_end() => asked?,
            // Without one of them the others would look well.
            ended = parts.join_next() => anyhow::bail!("a part of the proxy ended: {ended:?}"),
        }
        shown.ending.store(true, Ordering::Relaxed);
        tokio::time::sleep(LAG).await;
        cancel.cancel();
        tasks.close();
        tracing::info!(open = tasks.len(), "waiting for open connections to end");
        let _ = tokio::time::timeout(Duration::from_secs(drain), tasks.wait()).await;
        // No more rounds after this word.
        parts.shutdown().await;
        visits.leave(&index).await;
        Ok(())
    }
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
        ] {
            let args = ["sublet-apiserver-proxy", wrong[0], wrong[1]];
            assert!(Args::try_parse_from(args).is_err(), "{wrong:?}");
        }
    }
}
