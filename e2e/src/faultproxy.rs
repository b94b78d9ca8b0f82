//! Stands between the syncer and one API server, and does harm at a chosen request or event, every time the same.
//!
//! TLS ends here under the rig's own authority; the syncer authenticates by a token, which passes as it is. HTTP/1.1 and
//! HTTP/2 are carried. Before it stands a [`link`], which can hold all bytes back or cut all connections, and so plays a
//! partitioned network: not even a ping is answered then. Every request, answer and event is kept in a trace.

pub mod link;
pub mod rule;
mod stream;

use crate::rig::keys::{Authority, Pair};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use link::Link;
use parking_lot::Mutex;
use rule::{Action, Asked, Rule};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

type Body = BoxBody<Bytes, hyper::Error>;
type Upstream = Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What happened, in the order in which it happened.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked, or what kind of event passed.
    pub asked: Asked,
    /// The answer's status; 0 when there was none.
    pub code: u16,
}

/// A proxy at work; it ends with its handle.
pub struct Faultproxy {
    link: Link,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    tls: Mutex<tokio_rustls::TlsAcceptor>,
    upstream: Upstream,
    port: AtomicU16,
    /// TLS connections that were begun.
    greeted: AtomicU64,
    rules: Mutex<Vec<Rule>>,
    trace: Mutex<Vec<Record>>,
}

impl Faultproxy {
    /// Listens on a free port and passes on to `port` of this machine.
    pub async fn start(authority: &Authority, port: u16) -> anyhow::Result<Self> {
        let inner = TcpListener::bind(("127.0.0.1", 0)).await?;
        let link = Link::start(inner.local_addr()?.port()).await?;
        let tls = tls_server(&authority.server()?)?;
        let shared = Arc::new(Shared {
            tls: Mutex::new(tls),
            upstream: upstream(authority)?,
            port: AtomicU16::new(port),
            greeted: AtomicU64::new(0),
            rules: Mutex::default(),
            trace: Mutex::default(),
        });
        let serving = tokio::spawn(serve(inner, shared.clone()));
        Ok(Self {
            link,
            shared,
            serving,
        })
    }

    /// The port to which the syncer connects.
    pub fn port(&self) -> u16 {
        self.link.port()
    }

    /// The network before it.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// From now on new requests go to another port of this machine.
    pub fn lead_to(&self, port: u16) {
        self.shared.port.store(port, Ordering::SeqCst);
    }

    /// From now on new connections are shown another certificate.
    pub fn show(&self, pair: &Pair) -> anyhow::Result<()> {
        *self.shared.tls.lock() = tls_server(pair)?;
        Ok(())
    }

    /// How many TLS connections were begun, whatever became of them.
    pub fn greeted(&self) -> u64 {
        self.shared.greeted.load(Ordering::SeqCst)
    }

    /// Adds a rule; the first one that applies decides.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().push(rule);
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.shared.rules.lock().clear();
    }

    /// What has happened since the last call.
    pub fn take_trace(&self) -> Vec<Record> {
        std::mem::take(&mut self.shared.trace.lock())
    }

    /// How many requests that change something were passed on since the trace was last taken.
    pub fn writes(&self) -> usize {
        let trace = self.shared.trace.lock();
        trace
            .iter()
            .filter(|record| record.asked.is_write())
            .count()
    }
}

impl Drop for Faultproxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Takes TLS connections with a certificate, for HTTP/2 and HTTP/1.1.
pub fn tls_server(pair: &Pair) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    crate::side::provider();
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

fn upstream(authority: &Authority) -> anyhow::Result<Upstream> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.certificate.as_bytes(),
    )?)?;
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http2()
        .build();
    Ok(Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build(connector))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // All connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (shared.tls.lock().clone(), shared.clone());
        shared.greeted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.pass(request).await }
            });
            // A connection that breaks is what tests are about.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    /// Passes a request on, unless a rule says otherwise.
    async fn pass(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, hyper::Error> {
        let asked = Asked::of(request.method(), request.uri());
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let action = rule::decide(&self.rules.lock(), &asked);
        match &action {
            Some(Action::KillBefore(kill)) => {
                kill();
                return std::future::pending().await;
            }
            Some(Action::Answer(code)) => {
                self.note(&asked, *code);
                return Ok(answer(*code, "the faultproxy says so"));
            }
            Some(Action::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Action::First(step)) => step().await,
            _ => {}
        }
        let uri = format!(
            "https://127.0.0.1:{}{}",
            self.port.load(Ordering::SeqCst),
            parts.uri.path_and_query().map_or("/", |path| path.as_str())
        );
        let mut onward = Request::builder().method(parts.method).uri(uri);
        for (name, value) in &parts.headers {
            if name != http::header::HOST && name != http::header::CONNECTION {
                onward = onward.header(name, value);
            }
        }
        let onward = onward
            .body(Full::new(body))
            .expect("made of the parts of a request");
        let response = match self.upstream.request(onward).await {
            Ok(response) => response,
            Err(err) => {
                self.note(&asked, 0);
                return Ok(answer(
                    502,
                    &format!("no answer from the API server: {err}"),
                ));
            }
        };
        self.note(&asked, response.status().as_u16());
        if asked.verb == "watch" && response.status().is_success() {
            let (parts, body) = response.into_parts();
            return Ok(Response::from_parts(
                parts,
                stream::events(self, asked, body),
            ));
        }
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(err) => return Ok(answer(502, &format!("the answer broke off: {err}"))),
        };
        if let Some(Action::KillAfter(kill)) = &action {
            kill();
            return std::future::pending().await;
        }
        Ok(Response::from_parts(parts, whole(bytes)))
    }

    fn note(&self, asked: &Asked, code: u16) {
        self.trace.lock().push(Record {
            asked: asked.clone(),
            code,
        });
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn answer(code: u16, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message});
    let mut response = Response::new(whole(status.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    response
}

/// A step that a rule takes before a request is passed on.
pub type Step = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Makes a [`Step`] of an async block that is made anew each time.
pub fn step<F: Future<Output = ()> + Send + 'static>(
    make: impl Fn() -> F + Send + Sync + 'static,
) -> Step {
    Arc::new(move || make().boxed())
}

/// How long an event is held back by default: longer than anything that should depend on it.
pub const LONG: Duration = Duration::from_secs(3);
