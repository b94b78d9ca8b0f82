//! API servers simulated in this process: real lists, watches and writes over TLS and HTTP/2, and nothing behind them.
//!
//! They answer what the syncer and this program ask, so that hundreds of tenants fit on one machine and the CPU time of
//! the syncer's process is that of the syncer alone. They have no admission, no controllers and no rights: what they say of
//! correctness is nothing. Whatever isn't served is answered with 404 or 405 and noted ([`Counts::gaps`]).

mod answer;
mod counts;
mod follow;
mod kinds;
mod object;
mod patch;
mod route;
mod select;
mod store;

use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{faultproxy::tls_server, rig::keys::Authority, side::Side};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use object::{Stored, Writer};
use parking_lot::Mutex;
use route::Route;
use select::Selector;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Event, HISTORY, Refusal, Store};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

pub(crate) use counts::Counts;

/// Streams on one connection: what kube-apiserver allows unless `--http2-max-streams-per-connection` says more.
const STREAMS: u32 = 100;
/// The token of this program itself.
const ADMIN: &str = "admin";

/// What all simulated API servers of a run share.
pub(crate) struct Realm {
    acceptor: TlsAcceptor,
    certificate: String,
}

impl Realm {
    /// A new authority, and a certificate for this machine.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let authority = Authority::make()?;
        Ok(Self {
            acceptor: tls_server(&authority.server()?)?,
            certificate: BASE64_STANDARD.encode(&authority.certificate),
        })
    }

    /// A kubeconfig for the API server at a port of this machine.
    pub(crate) fn kubeconfig(&self, port: u16, token: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "simulated",
            "clusters": [{"name": "simulated", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": self.certificate,
            }}],
            "users": [{"name": "simulated", "user": {"token": token}}],
            "contexts": [{"name": "simulated", "context": {"cluster": "simulated", "user": "simulated"}}],
        })
        .to_string()
    }
}

/// A simulated API server; it ends with its handle.
pub(crate) struct Simulated {
    port: u16,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// What its connections share.
struct Shared {
    store: Mutex<Store>,
    /// For each kind, the version of its newest change.
    news: Vec<watch::Sender<u64>>,
    counts: Arc<Counts>,
}

impl Simulated {
    /// Listens on a free port. The namespaces that every cluster has are there.
    pub(crate) async fn start(realm: &Realm) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        // Far from the others', so that one's versions are never taken for another's.
        let version = u64::from(rand::random::<u16>()) + 1_000;
        let news = kinds::SERVED.iter().map(|_| watch::Sender::new(version));
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new(version, HISTORY)),
            news: news.collect(),
            counts: Arc::default(),
        });
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            shared.seed("Namespace", json!({"metadata": {"name": name}}))?;
        }
        let serving = tokio::spawn(serve(listener, realm.acceptor.clone(), shared.clone()));
        Ok(Self {
            port,
            shared,
            serving,
        })
    }

    /// Where it listens, on this machine.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client of its admin.
    pub(crate) async fn side(&self, realm: &Realm, name: &str) -> anyhow::Result<Side> {
        Side::connect(name, &realm.kubeconfig(self.port, ADMIN)).await
    }

    /// What it was asked.
    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Makes an object without a request.
    pub(crate) fn seed(&self, kind: &str, value: Value) -> Result<(), Refusal> {
        self.shared.seed(kind, value)
    }

    /// Changes an object, or its status, without a request.
    pub(crate) fn change(
        &self,
        kind: &str,
        (namespace, name): (&str, &str),
        subresource: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<(), Refusal> {
        let kind = kinds::index(kind);
        let changed = self.shared.write(kind, |store, now| {
            let writer = Writer {
                manager: ADMIN,
                now,
            };
            store.change(kind, (namespace, name), subresource, writer, |value| {
                change(value);
                Ok(())
            })
        });
        changed.map(drop)
    }

    /// An object as it is now, if it is there.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let store = self.shared.store.lock();
        let found = store.get(kinds::index(kind), namespace, name);
        found.ok().map(|stored| stored.value())
    }

    /// How many objects of a kind it has.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.shared.store.lock().all(kinds::index(kind)).len()
    }

    /// All objects of a kind, as they are now.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        let store = self.shared.store.lock();
        let all: Vec<_> = store.all(kinds::index(kind)).cloned().collect();
        drop(store);
        all.iter().map(|stored| stored.value()).collect()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    /// Writes, and tells those who watch.
    fn write(
        &self,
        kind: usize,
        write: impl FnOnce(&mut Store, &str) -> Result<Arc<Stored>, Refusal>,
    ) -> Result<Arc<Stored>, Refusal> {
        let now = answer::now();
        let mut store = self.store.lock();
        let before = store.version();
        let stored = write(&mut store, &now)?;
        let version = store.version();
        drop(store);
        if version != before {
            self.news[kind].send_replace(version);
        }
        Ok(stored)
    }

    fn seed(&self, kind: &str, value: Value) -> Result<(), Refusal> {
        let kind = kinds::index(kind);
        let namespace = value["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let made = self.write(kind, |store, now| {
            let writer = Writer {
                manager: ADMIN,
                now,
            };
            store.create(kind, &namespace, value, &answer::uid(), writer)
        });
        made.map(drop)
    }

    /// The version now, and lines that say that all objects are added.
    fn all(&self, route: &Route, selector: &Selector) -> (u64, Option<bytes::Bytes>) {
        let store = self.store.lock();
        let page = store.list(route.kind, &route.namespace, selector, None, usize::MAX);
        let mut lines = vec![];
        for object in page.into_iter().flat_map(|page| page.objects) {
            follow::line(&mut lines, Event::Added, &object);
        }
        let first = (!lines.is_empty()).then(|| lines.into());
        (store.version(), first)
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    // All connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            // Small answers must not wait for an acknowledgement.
            let _ = stream.set_nodelay(true);
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let _open = shared.counts.connection();
            let service = hyper::service::service_fn(move |request| {
                let shared = shared.clone();
                async move { answer::answer(shared, request).await }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS);
            // A client that goes away is nothing special.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}
