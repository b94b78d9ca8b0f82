//! The front door: one address for all tenants; a connection goes to the API server that its server name says.
//!
//! TLS isn't ended here. The name proves nothing and needn't: whoever asks for another tenant's name talks to that
//! tenant's API server, which knows its own clients.

use crate::{
    accept::{self, Late, Unknown},
    index::{Index, Tenant},
    metrics::{Metrics, Plane},
    moved::{IDLE_LIMIT, Moved},
    proxy_header::{self, NoHeader},
    sni::{ACCESS_DENIED, Hello, UNRECOGNIZED_NAME},
    splice::splice,
    wake::{self, Waker},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tenancy::block::Block;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

/// How long a client may take to say whom it wants.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long an API server may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection that takes longer to be accepted is held.
const PROMPT: Duration = Duration::from_millis(100);
/// Between two tries to reach API servers that take no connection now, at first; the last of many.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
const DIAL_AGAIN_MOST: Duration = Duration::from_millis(500);

/// How long connections go on whose API servers are elsewhere now.
const MOVED_LIMIT: Duration = Duration::from_secs(30);

/// The front door.
pub(crate) struct Door {
    pub(crate) index: Arc<Index>,
    pub(crate) waker: Waker,
    /// Networks of load balancers that say who their client is.
    pub(crate) balancers: Vec<Block>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a client said first.
struct Said {
    /// Whom it wants.
    name: String,
    /// All that is meant for the tenant's API server.
    bytes: Vec<u8>,
    /// Its address.
    source: Option<IpAddr>,
}

impl Door {
    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, mut client: TcpStream, unknown: Unknown) {
        // What is over soon is boxed, so that thousands of connections that wait later don't hold room for it.
        let saying = Box::pin(self.hello(&mut client));
        let said = unknown.wait(HELLO_LIMIT, saying).await;
        let said = match said.map_err(Late::word).and_then(|said| said) {
            Ok(said) => said,
            Err(why) => return self.metrics.turned_away(Plane::Door, why),
        };
        let Some(mut tenant) = self.index.tenant_by_server_name(&said.name) else {
            self.metrics.turned_away(Plane::Door, "unknown_name");
            let _ = client.write_all(&UNRECOGNIZED_NAME).await;
            return;
        };
        let mut until = Instant::now() + wake::HOLD;
        if wake::is_asleep(&tenant) {
            let waking = self.waker.wake(&tenant, &said.name, &client, said.source);
            match Box::pin(waking).await {
                Ok(awake) => (tenant, until) = awake,
                Err(refusal) => {
                    let word = refusal.word();
                    if !refusal.is_told() {
                        return self.metrics.count(tenant.id.as_str(), Plane::Door, word);
                    }
                    self.metrics
                        .turned_down(&tenant, Plane::Door, word, said.source);
                    if refusal.is_final() {
                        let _ = client.write_all(&ACCESS_DENIED).await;
                    }
                    return;
                }
            }
        }
        let id = tenant.id.as_str();
        let share = tenant.limits.clients.take(said.source);
        let places = share.and_then(|place| Ok((place, tenant.limits.door.take()?)));
        let Ok(_places) = places else {
            return self
                .metrics
                .turned_down(&tenant, Plane::Door, "limited", said.source);
        };
        tenant.visit();
        let _open = self.metrics.open(id, Plane::Door);
        let moved = Moved::default();
        let outcome = tokio::select! {
            () = ended(&tenant) => "gone",
            outcome = self.pass(client, &tenant, said, until, &moved) => outcome.unwrap_or("broken"),
        };
        self.metrics.moved(id, Plane::Door, moved.all());
        self.metrics.count(id, Plane::Door, outcome);
    }

    /// Leads a connection on, until it ends. What becomes of the API servers then is between them and the client: one that
    /// isn't ready for a moment still answers those that it knows.
    async fn pass(
        &self,
        client: TcpStream,
        tenant: &Tenant,
        said: Said,
        until: Instant,
        moved: &Moved,
    ) -> io::Result<&'static str> {
        let began = Instant::now();
        let Said { bytes, source, .. } = said;
        let mut server = match self.reach(&client, tenant, source, until).await {
            Ok(server) => server,
            Err(why) => return Ok(why),
        };
        accept::prepare(&server);
        self.metrics
            .started(tenant.id.as_str(), Plane::Door, "connect", began.elapsed());
        server.write_all(&bytes).await?;
        moved.add_there(bytes.len());
        drop(bytes);
        splice(client, server, IDLE_LIMIT, moved).await?;
        Ok("done")
    }

    /// A connection to an API server of the tenant. As long as none is ready their Service refuses: they have just started,
    /// or failed a probe. That passes, as a rule, so the client is held for as long as it waits anyhow.
    async fn reach(
        &self,
        client: &TcpStream,
        tenant: &Tenant,
        source: Option<IpAddr>,
        until: Instant,
    ) -> Result<TcpStream, &'static str> {
        const NO: &str = "unreachable";
        let backend = tenant.backend.ok_or(NO)?;
        let mut dialling = Box::pin(dial(backend));
        let under_way = match timeout(PROMPT, &mut dialling).await {
            Ok(Some(server)) => return Ok(server),
            Ok(None) => None,
            // A Service may drop packets as well as refuse.
            Err(_) => Some(dialling),
        };
        let _held = self.waker.hold(tenant, source).map_err(|_| NO)?;
        let trying = async {
            if let Some(dialling) = under_way
                && let Some(server) = dialling.await
            {
                return server;
            }
            let mut pause = DIAL_AGAIN;
            loop {
                sleep(pause).await;
                if let Some(server) = dial(backend).await {
                    return server;
                }
                pause = (pause * 2).min(DIAL_AGAIN_MOST);
            }
        };
        tokio::select! {
            () = wake::left(client) => Err("closed"),
            server = timeout_at(until, trying) => server.map_err(|_| NO),
        }
    }

    /// Reads as much as is needed to tell whom the client wants.
    async fn hello(&self, client: &mut TcpStream) -> Result<Said, &'static str> {
        let peer = client.peer_addr().ok().map(|peer| peer.ip());
        let is_balancer = |peer: IpAddr| self.balancers.iter().any(|network| network.has(peer));
        let (source, mut more) = match peer {
            Some(peer) if is_balancer(peer) => announced(client).await?,
            peer => (peer, vec![]),
        };
        let mut hello = Hello::default();
        loop {
            match hello.feed(&more) {
                Ok(Some(name)) => {
                    let bytes = hello.into_bytes();
                    return Ok(Said {
                        name,
                        bytes,
                        source,
                    });
                }
                Ok(None) => more = read(client).await?,
                Err(refusal) => {
                    let _ = client.write_all(&UNRECOGNIZED_NAME).await;
                    return Err(refusal.word());
                }
            }
        }
    }
}

/// Ends when a connection must: at once with the tenant, in a while when its API servers are elsewhere.
async fn ended(tenant: &Tenant) {
    let moved = async {
        tenant.moved.cancelled().await;
        sleep(MOVED_LIMIT).await;
    };
    tokio::select! {
        () = tenant.gone.cancelled() => {}
        () = moved => {}
    }
}

/// What a load balancer says of its client, and what the client has said already.
async fn announced(client: &mut TcpStream) -> Result<(Option<IpAddr>, Vec<u8>), &'static str> {
    let mut bytes = vec![];
    loop {
        bytes.extend(read(client).await?);
        match proxy_header::read(&bytes) {
            Ok(Some(header)) => return Ok((header.source, bytes.split_off(header.length))),
            Ok(None) => {}
            Err(NoHeader) => return Err("no_proxy_header"),
        }
    }
}

async fn read(client: &mut TcpStream) -> Result<Vec<u8>, &'static str> {
    let mut buffer = [0; 1024];
    match client.read(&mut buffer).await {
        Ok(0) | Err(_) => Err("closed"),
        Ok(read) => Ok(buffer[..read].to_vec()),
    }
}

async fn dial(backend: SocketAddr) -> Option<TcpStream> {
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect(backend));
    connecting.await.ok()?.ok()
}

#[cfg(test)]
mod tests;
