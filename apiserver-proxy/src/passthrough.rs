//! The front door: one address for all tenants; a connection goes to the API server that its server name says.
//!
//! TLS isn't ended here. The name proves nothing and needn't: whoever asks for another tenant's name talks to that
//! tenant's API server, which knows its own clients.

use crate::{
    accept::{self, Unknown},
    index::{Index, Tenant},
    metrics::{Metrics, NOBODY, Plane},
    sni::{Hello, UNRECOGNIZED_NAME},
    splice::splice,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// How long a client may take to say whom it wants.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long an API server may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection without a byte for so long is closed; a `kubectl exec` may well wait for hours.
const IDLE_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// The front door.
pub(crate) struct Door {
    pub(crate) index: Arc<Index>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Door {
    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, mut client: TcpStream, unknown: Unknown) {
        let outcome = match timeout(HELLO_LIMIT, hello(&mut client)).await {
            Err(_) => Err("slow"),
            Ok(outcome) => outcome,
        };
        let (name, bytes) = match outcome {
            Ok(known) => known,
            Err(why) => return self.metrics.count(NOBODY, Plane::Door, why),
        };
        drop(unknown);
        let Some(tenant) = self.index.tenant_by_server_name(&name) else {
            self.metrics.count(NOBODY, Plane::Door, "unknown_name");
            let _ = client.write_all(&UNRECOGNIZED_NAME).await;
            return;
        };
        let id = tenant.id.as_str();
        let Ok(_slot) = tenant.limits.door.take() else {
            return self.metrics.count(id, Plane::Door, "limited");
        };
        let _open = self.metrics.open(id, Plane::Door);
        let outcome = tokio::select! {
            () = tenant.gone.cancelled() => "gone",
            outcome = self.pass(client, &tenant, &bytes) => outcome.unwrap_or("broken"),
        };
        self.metrics.count(id, Plane::Door, outcome);
    }

    async fn pass(
        &self,
        client: TcpStream,
        tenant: &Tenant,
        bytes: &[u8],
    ) -> io::Result<&'static str> {
        let began = Instant::now();
        let dialled = timeout(CONNECT_LIMIT, TcpStream::connect(tenant.backend)).await;
        let Ok(Ok(mut server)) = dialled else {
            return Ok("unreachable");
        };
        accept::prepare(&server);
        self.metrics
            .started(Plane::Door, "connect", began.elapsed());
        server.write_all(bytes).await?;
        let moved = splice(client, server, IDLE_LIMIT).await?;
        let all = moved.there + moved.back + bytes.len() as u64;
        self.metrics.moved(tenant.id.as_str(), Plane::Door, all);
        Ok("done")
    }
}

/// Reads as much as is needed to tell whom the client wants; the name, and all that was read.
async fn hello(client: &mut TcpStream) -> Result<(String, Vec<u8>), &'static str> {
    let mut hello = Hello::default();
    loop {
        let mut buffer = [0; 1024];
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err("closed"),
            Ok(read) => match hello.feed(&buffer[..read]) {
                Ok(Some(name)) => return Ok((name, hello.into_bytes())),
                Ok(None) => {}
                Err(refusal) => {
                    let _ = client.write_all(&UNRECOGNIZED_NAME).await;
                    return Err(refusal.word());
                }
            },
        }
    }
}
