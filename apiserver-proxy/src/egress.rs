//! The way out: an HTTP CONNECT server for tenants' API servers, which have no other.
//!
//! Webhooks, aggregated API servers, pod and Service proxies, and the kubelets of virtual nodes are reached through it.
//! The caller is known by its certificate; where it may go is [`destination`]'s to say.

use crate::{
    accept::{self, Unknown},
    destination::{self, Refusal, Verdict},
    identity::Gate,
    index::{Index, Tenant},
    kubelet::Kubelet,
    limit::Slot,
    metrics::{Metrics, Plane},
    metrics_api::MetricsApi,
    moved::{IDLE_LIMIT, Moved},
    node_certificate::Signer,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::UnixTime;
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// How long a handshake, and the request after it, may take.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a destination may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Tunnels look no more often than that whether they still lead to the tenant's own: pods of others come and go all the time.
const CALM: Duration = Duration::from_millis(100);
/// Room for the request's head: a line, and hardly a header.
const HEAD_MAX: usize = 16 << 10;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The way out.
pub(crate) struct Egress {
    pub(crate) tls: TlsAcceptor,
    pub(crate) gate: Arc<Gate>,
    pub(crate) index: Arc<Index>,
    pub(crate) kubelet: Arc<Kubelet>,
    pub(crate) figures: Arc<MetricsApi>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: TaskTracker,
}

/// One caller's connection.
struct Session {
    egress: Arc<Egress>,
    tenant: Arc<Tenant>,
    slot: Arc<Slot>,
}

impl Egress {
    /// Serves one connection until its request is answered; a tunnel goes on in a task of its own.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, unknown: Unknown) {
        let source = stream.peer_addr().ok().map(|peer| peer.ip());
        let tls = match unknown.wait(START_LIMIT, self.tls.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(_)) => return self.metrics.turned_away(Plane::Out, "no_identity"),
            Err(late) => return self.metrics.turned_away(Plane::Out, late.word()),
        };
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let Ok(tenant) = self.gate.identify(chain, UnixTime::now()) else {
            return self.metrics.turned_away(Plane::Out, "no_identity");
        };
        let Ok(slot) = tenant.limits.out.take() else {
            return self
                .metrics
                .turned_down(&tenant, Plane::Out, "limited", source);
        };
        let metrics = self.metrics.clone();
        let session = Arc::new(Session {
            egress: self,
            tenant: tenant.clone(),
            slot: Arc::new(slot),
        });
        let service = service_fn(move |request| {
            let session = session.clone();
            async move { Ok::<_, Infallible>(session.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(START_LIMIT)
            .max_buf_size(HEAD_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(tls), service)
            .with_upgrades();
        tokio::select! {
            () = tenant.known.cancelled() => {}
            // Any other end is of no interest: the caller sees it.
            ended = connection => if ended.is_err_and(|error| error.is_parse()) {
                metrics.malformed(&tenant, Plane::Out);
            },
        }
    }
}

impl Egress {
    /// What a node shows that is called so: a host name is in the proxy's own certificate, an address gets one now.
    fn tls_of(&self, node: &str) -> Option<TlsAcceptor> {
        let Ok(address) = node.parse() else {
            return Some(self.tls.clone());
        };
        let now = UnixTime::now().as_secs();
        match self.signer.config(address, self.gate.clone(), now) {
            Ok(config) => Some(TlsAcceptor::from(Arc::new(config))),
            Err(error) => {
                tracing::warn!(%error, "a virtual node has no certificate for its address");
                None
            }
        }
    }
}

impl Session {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let (egress, tenant) = (&self.egress, &self.tenant);
        let id = tenant.id.as_str();
        let is_plain = request.headers().get("content-length").is_none()
            && request.headers().get("transfer-encoding").is_none();
        let authority = request.uri().authority().cloned();
        let place = authority.as_ref().and_then(|authority| {
            let port = authority.port_u16()?;
            let has_user = authority.as_str().contains('@');
            (!has_user).then_some((authority.host(), port))
        });
        let (Some((host, port)), true) = (place, is_plain && request.method() == Method::CONNECT)
        else {
            egress.metrics.malformed(tenant, Plane::Out);
            return status(StatusCode::METHOD_NOT_ALLOWED);
        };
        let verdict = destination::decide(tenant, host, port, &*egress.index);
        let upgrade = hyper::upgrade::on(&mut request);
        let began = Instant::now();
        let dialled = match verdict {
            Ok(Verdict::Kubelet(node)) => {
                self.to_kubelet(upgrade, node);
                return status(StatusCode::OK);
            }
            Ok(Verdict::Figures) => {
                self.to_figures(upgrade);
                return status(StatusCode::OK);
            }
            Ok(Verdict::Dial(address)) => dial(&[address], port).await,
            Ok(Verdict::Resolve(name)) => match self.resolve(&name, port).await {
                Ok(addresses) => dial(&addresses, port).await,
                Err(refusal) => return self.refused(host, port, refusal),
            },
            Err(refusal) => return self.refused(host, port, refusal),
        };
        match dialled {
            Some((stream, address)) => {
                egress
                    .metrics
                    .started(id, Plane::Out, "connect", began.elapsed());
                self.to_address(upgrade, stream, address);
                status(StatusCode::OK)
            }
            None => {
                egress.metrics.count(id, Plane::Out, "unreachable");
                status(StatusCode::BAD_GATEWAY)
            }
        }
    }

    /// Resolves a name once, and keeps the addresses that the tenant may reach.
    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<IpAddr>, Refusal> {
        let looking = self.tenant.limits.lookups.addresses(name);
        let found = timeout(CONNECT_LIMIT, looking).await;
        let Ok(Ok(found)) = found else {
            return Ok(vec![]);
        };
        let judged: Vec<_> = found
            .into_iter()
            .take(ADDRESSES_MAX)
            .map(|found| destination::judge(&self.tenant, found, port, &*self.egress.index))
            .collect();
        let allowed: Vec<IpAddr> = judged.iter().filter_map(|one| one.ok()).collect();
        if allowed.is_empty() && !judged.is_empty() {
            return Err(Refusal::Foreign);
        }
        Ok(allowed)
    }

    fn refused(&self, host: &str, port: u16, refusal: Refusal) -> Response<Empty<Bytes>> {
        let id = self.tenant.id.as_str();
        self.egress.metrics.count(id, Plane::Out, "refused");
        if self.tenant.limits.noise.may_speak(Plane::Out, "refused") {
            tracing::warn!(tenant = id, host, port, why = %refusal, "refused a connection of a tenant's API server");
        }
        status(match refusal {
            Refusal::Malformed => StatusCode::BAD_REQUEST,
            Refusal::Foreign => StatusCode::FORBIDDEN,
        })
    }

    fn to_kubelet(&self, upgrade: OnUpgrade, node: String) {
        let (egress, tenant, slot) = (self.egress.clone(), self.tenant.clone(), self.slot.clone());
        self.egress.tasks.spawn(async move {
            let Ok(tunnel) = upgrade.await else { return };
            let known = tenant.known.clone();
            let kubelet = egress.kubelet.clone();
            let Some(tls) = egress.tls_of(&node) else {
                return egress
                    .metrics
                    .count(tenant.id.as_str(), Plane::Kubelet, "no_certificate");
            };
            // Streams that the connection becomes hold the slot as well.
            let serving = kubelet.serve(TokioIo::new(tunnel), tls, tenant, node, slot);
            tokio::select! {
                () = known.cancelled() => {}
                () = serving => {}
            }
        });
    }

    fn to_figures(&self, upgrade: OnUpgrade) {
        let (egress, tenant, slot) = (self.egress.clone(), self.tenant.clone(), self.slot.clone());
        self.egress.tasks.spawn(async move {
            let Ok(tunnel) = upgrade.await else { return };
            let known = tenant.known.clone();
            let serving = egress.figures.clone().serve(TokioIo::new(tunnel), tenant);
            tokio::select! {
                () = known.cancelled() => {}
                () = serving => {}
            }
            drop(slot);
        });
    }

    fn to_address(&self, upgrade: OnUpgrade, stream: TcpStream, address: SocketAddr) {
        let (egress, tenant, slot) = (self.egress.clone(), self.tenant.clone(), self.slot.clone());
        self.egress.tasks.spawn(async move {
            let Ok(tunnel) = upgrade.await else { return };
            let id = tenant.id.as_str();
            let _open = egress.metrics.open(id, Plane::Out);
            let moved = Moved::default();
            let tunnel = TokioIo::new(tunnel);
            let outcome = tokio::select! {
                outcome = moved.pass(tunnel, stream, IDLE_LIMIT, &tenant.let_out) => outcome,
                () = passed_on(&egress.index, &tenant, address) => "gone",
            };
            egress.metrics.moved(id, Plane::Out, moved.all());
            egress.metrics.count(id, Plane::Out, outcome);
            drop(slot);
        });
    }
}

/// Ends once the tenant may no longer go where a tunnel leads: its pod or Service is gone, and the next that has the address
/// may be another tenant's.
async fn passed_on(index: &Index, tenant: &Tenant, address: SocketAddr) {
    loop {
        // What is told from here on is looked at in the next turn.
        let news = index.news();
        if destination::judge(tenant, address.ip(), address.port(), index).is_err() {
            return;
        }
        news.await;
        sleep(CALM).await;
    }
}

async fn dial(addresses: &[IpAddr], port: u16) -> Option<(TcpStream, SocketAddr)> {
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            accept::prepare(&stream);
            return Some((stream, address));
        }
    }
    None
}

fn status(code: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests;
