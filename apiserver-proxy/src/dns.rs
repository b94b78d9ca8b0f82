//! DNS of tenants that have no server of their own: one for all of them.
//!
//! ```text
//! pod ──▶ whose is the address that it asks from? ──▶ that tenant's names ──┬─▶ answered from the index
//!                                                                            └─▶ a name outside ─▶ servers outside
//! ```
//!
//! Whose names are asked for is told by the address of the client alone: by nothing that a question holds. An address that
//! is no pod's of a tenant in `shared` mode gets no answer.

mod names;
mod waiting;
mod zone;

mod question;

mod find;
mod outside;

mod answer;

mod message;

mod cache;
mod upstream;

mod bent;

pub(crate) use bent::{judge, judge_objects, objects, questions};
pub(crate) use cache::Cache;
pub(crate) use names::Names;
pub(crate) use upstream::Upstreams;
pub(crate) use zone::{Zone, domain};

use crate::{
    accept::Unknown,
    index::{Index, Tenant},
    limit::Slot,
    metrics::{Metrics, Plane},
    watch::Listed,
};
use answer::{Answer, Verdict};
use find::View;
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, Record},
};
use message::{Request, Transport, Unfit};
use socket2::SockRef;
use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use waiting::Waiting;

/// How long a question waits for the watch to tell whose its address is: a container may ask before the kubelet has said
/// which address its pod got. Shorter than clients wait.
const NEW_POD: Duration = Duration::from_secs(4);
/// A stream without a question for so long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of questions that may wait to be read.
const ROOM: usize = 4 << 20;
/// Longest question by UDP.
const QUESTION: usize = 4096;
/// Endpoints and ports that are looked at for one question; if there are more, it counts as several.
const FOR_ONE: usize = 256;

/// The server.
pub(crate) struct Server {
    index: Arc<Index>,
    names: Arc<Names>,
    listed: Arc<Listed>,
    upstreams: Upstreams,
    hidden: Vec<Name>,
    metrics: Arc<Metrics>,
    waiting: Arc<Waiting>,
}

/// Whose an address is can't be told.
enum Stranger {
    /// It is no tenant's pod's, or no single one's.
    Nobodys,
    /// Too many ask that aren't known yet: it may be told later.
    Crowded,
}

impl Stranger {
    /// For metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Nobodys => "unknown_address",
            Self::Crowded => "crowded",
        }
    }

    /// What is answered; clients ask again after a failure, and not when they are refused.
    fn code(&self) -> ResponseCode {
        match self {
            Self::Nobodys => ResponseCode::Refused,
            Self::Crowded => ResponseCode::ServFail,
        }
    }
}

/// What a question needs.
enum Step {
    /// Nothing: it wasn't one.
    Nothing,
    /// These bytes are its answer.
    Reply(Vec<u8>),
    /// Servers outside are asked the same, while the place is held.
    Forward(Request, Vec<u8>, Slot),
    /// Servers outside are asked for what comes after these records.
    Follow(Request, Vec<Record>, Name, Slot),
}

impl Server {
    /// A server that tells tenants nothing of the domains `hidden`.
    pub(crate) fn new(
        (index, names, listed): (Arc<Index>, Arc<Names>, Arc<Listed>),
        upstreams: Upstreams,
        hidden: Vec<Name>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            index,
            names,
            listed,
            upstreams,
            hidden,
            metrics,
            waiting: Arc::default(),
        })
    }

    /// Answers datagrams until cancelled. What is known is answered at once; whatever waits, waits in a task of its own.
    pub(crate) async fn datagrams(
        self: Arc<Self>,
        socket: UdpSocket,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) {
        // A burst of one tenant's mustn't push out another's. The host may allow less.
        let _ = SockRef::from(&socket).set_recv_buffer_size(ROOM);
        let socket = Arc::new(socket);
        let mut buffer = vec![0; QUESTION];
        loop {
            let received = tokio::select! {
                () = cancel.cancelled() => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            let (bytes, client) = match received {
                Ok((length, client)) => (&buffer[..length], client),
                Err(error) => {
                    tracing::debug!(%error, "a datagram could not be received");
                    continue;
                }
            };
            let known = self.index.tenant_at(client.ip());
            let step = known.map(|tenant| {
                let step = self.step(&tenant, bytes, Transport::Udp);
                (tenant, step)
            });
            match step {
                Some((_, Step::Nothing)) => {}
                Some((_, Step::Reply(reply))) => send(&socket, &reply, client).await,
                Some((tenant, step)) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    tasks.spawn(async move {
                        if let Some(reply) = server.finish(&tenant, step).await {
                            send(&socket, &reply, client).await;
                        }
                    });
                }
                None => {
                    let (server, socket, bytes) = (self.clone(), socket.clone(), bytes.to_vec());
                    tasks.spawn(async move {
                        if let Some(reply) = server.for_a_stranger(&bytes, client.ip()).await {
                            send(&socket, &reply, client).await;
                        }
                    });
                }
            }
        }
    }

    /// Answers the questions of one stream, one after the other, to its end.
    pub(crate) async fn stream(self: Arc<Self>, mut stream: TcpStream, unknown: Unknown) {
        let Ok(client) = stream.peer_addr() else {
            return;
        };
        let tenant = match self.await_tenant(client.ip()).await {
            Ok(tenant) => tenant,
            Err(stranger) => return self.metrics.turned_away(Plane::Dns, stranger.word()),
        };
        drop(unknown);
        let id = tenant.id.as_str();
        let Ok(_slot) = tenant.limits.dns_streams.take() else {
            let source = Some(client.ip());
            return self
                .metrics
                .turned_down(&tenant, Plane::Dns, "limited", source);
        };
        let _open = self.metrics.open(id, Plane::Dns);
        let talk = async {
            while let Ok(Ok(bytes)) = timeout(IDLE_LIMIT, upstream::read(&mut stream)).await {
                // The address may be another tenant's pod's by now.
                let now = self.index.tenant_at(client.ip());
                let Some(now) = now.filter(|now| now.id == tenant.id) else {
                    return;
                };
                let step = self.step(&now, &bytes, Transport::Tcp);
                let Some(reply) = self.finish(&now, step).await else {
                    return;
                };
                let written = timeout(IDLE_LIMIT, upstream::write(&mut stream, &reply)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return;
                }
            }
        };
        tokio::select! {
            () = tenant.gone.cancelled() => {}
            () = talk => {}
        }
    }

    /// A datagram from an address that is nobody's yet.
    async fn for_a_stranger(&self, bytes: &[u8], address: IpAddr) -> Option<Vec<u8>> {
        match self.await_tenant(address).await {
            Ok(tenant) => {
                let step = self.step(&tenant, bytes, Transport::Udp);
                self.finish(&tenant, step).await
            }
            Err(stranger) => {
                self.metrics.turned_away(Plane::Dns, stranger.word());
                let request = Request::read(bytes, Transport::Udp).ok()?;
                Some(request.fail(stranger.code()))
            }
        }
    }

    /// Whose an address is, once the watch tells.
    async fn await_tenant(&self, address: IpAddr) -> Result<Arc<Tenant>, Stranger> {
        if let Some(tenant) = self.index.tenant_at(address) {
            return Ok(tenant);
        }
        let place = self.waiting.enter(address);
        let _place = place.ok_or(Stranger::Crowded)?;
        let told = timeout(NEW_POD, async {
            loop {
                let news = self.index.news();
                if let Some(tenant) = self.index.tenant_at(address) {
                    return tenant;
                }
                news.await;
            }
        });
        told.await.map_err(|_| Stranger::Nobodys)
    }

    /// Decides what a question of a tenant's pod needs; waits for nothing.
    fn step(&self, tenant: &Tenant, bytes: &[u8], transport: Transport) -> Step {
        let id = tenant.id.as_str();
        let count = |outcome| self.metrics.count(id, Plane::Dns, outcome);
        let request = match Request::read(bytes, transport) {
            Ok(request) => request,
            Err(unfit) => {
                count("malformed");
                return match unfit {
                    Unfit::Silent => Step::Nothing,
                    Unfit::Refused(reply) => Step::Reply(reply),
                };
            }
        };
        let refuse = |outcome, code| {
            count(outcome);
            Step::Reply(request.fail(code))
        };
        let limited = || {
            self.metrics
                .turned_down(tenant, Plane::Dns, "limited", None);
            Step::Reply(request.fail(ResponseCode::ServFail))
        };
        let Some(zone) = &tenant.zone else {
            return refuse("not_shared", ResponseCode::Refused);
        };
        if tenant.limits.dns.take().is_err() {
            return limited();
        }
        if !self.listed.all() {
            // What isn't known yet isn't denied.
            return refuse("starting", ResponseCode::ServFail);
        }
        let looked = Cell::new(0);
        let verdict = {
            let known = self.names.read();
            let view = View {
                known: &known,
                zone,
                hidden: &self.hidden,
                looked: &looked,
            };
            answer::answer(view, &request.query)
        };
        if looked.get() > FOR_ONE {
            // What a tenant made large costs it as much as it costs.
            let more = u32::try_from(looked.get() / FOR_ONE).unwrap_or(u32::MAX);
            tenant.limits.dns.charge(more);
        }
        if let Verdict::Answer(answer) = verdict {
            count(outcome(&answer));
            return Step::Reply(request.reply(answer));
        }
        if let Some(reply) = kept(tenant, &request, &verdict) {
            count("kept");
            return Step::Reply(reply);
        }
        let Ok(slot) = tenant.limits.dns_outside.take() else {
            return limited();
        };
        match verdict {
            Verdict::Follow { chain, target } => Step::Follow(request, chain, target, slot),
            _ => Step::Forward(request, bytes.to_vec(), slot),
        }
    }

    /// Asks outside what is to be asked there.
    async fn finish(&self, tenant: &Tenant, step: Step) -> Option<Vec<u8>> {
        let began = Instant::now();
        let (reply, _slot) = match step {
            Step::Nothing => return None,
            Step::Reply(reply) => return Some(reply),
            Step::Forward(request, bytes, slot) => {
                let reply = self.upstreams.ask(&bytes, request.transport).await;
                if let Some(reply) = reply.as_ref().filter(|_| request.is_plain()) {
                    let (name, kind) = (request.query.name(), request.query.query_type());
                    let mut cache = tenant.outside.lock();
                    cache.put(name, kind, reply, Instant::now());
                }
                let failed = || request.fail(ResponseCode::ServFail);
                (reply.ok_or_else(failed), slot)
            }
            Step::Follow(request, chain, target, slot) => {
                let records = self.records_of(tenant, &target, &request).await;
                let reply = match records {
                    Some(records) => Ok(request.reply(Answer {
                        records: chain.into_iter().chain(records).collect(),
                        ..Answer::empty(ResponseCode::NoError)
                    })),
                    None => Err(request.fail(ResponseCode::ServFail)),
                };
                (reply, slot)
            }
        };
        let outcome = match reply {
            Ok(_) => "forwarded",
            Err(_) => "no_answer_outside",
        };
        let id = tenant.id.as_str();
        self.metrics
            .started(id, Plane::Dns, "forward", began.elapsed());
        self.metrics.count(id, Plane::Dns, outcome);
        Some(reply.unwrap_or_else(|failed| failed))
    }

    /// The records of a name outside, whole.
    async fn records_of(
        &self,
        tenant: &Tenant,
        target: &Name,
        request: &Request,
    ) -> Option<Vec<Record>> {
        let kind = request.query.query_type();
        let question = message::ask(target, kind)?;
        let mut reply = self.upstreams.ask(&question, Transport::Udp).await?;
        if message::is_cut(&reply) {
            reply = self.upstreams.ask(&question, Transport::Tcp).await?;
        }
        let mut cache = tenant.outside.lock();
        cache.put(target, kind, &reply, Instant::now());
        message::records(&reply)
    }
}

/// What a server outside answered this tenant to the same question before.
fn kept(tenant: &Tenant, request: &Request, verdict: &Verdict) -> Option<Vec<u8>> {
    let find = |name: &Name| {
        let cache = tenant.outside.lock();
        cache.get(name, request.query.query_type(), Instant::now())
    };
    match verdict {
        Verdict::Follow { chain, target } => {
            let records = find(target)?.answers;
            Some(request.reply(Answer {
                records: chain.iter().cloned().chain(records).collect(),
                ..Answer::empty(ResponseCode::NoError)
            }))
        }
        _ if request.is_plain() => Some(request.repeat(find(request.query.name())?)),
        _ => None,
    }
}

/// For the metrics.
fn outcome(answer: &Answer) -> &'static str {
    match (answer.code, answer.records.is_empty()) {
        (ResponseCode::NoError, false) => "answered",
        (ResponseCode::NoError, true) => "empty",
        (ResponseCode::NXDomain, _) => "no_such_name",
        _ => "refused",
    }
}

/// A client that has gone is told nothing.
async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

#[cfg(test)]
mod tests;
