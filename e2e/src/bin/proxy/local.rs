//! A front door without a cluster: the proxy as a process of this machine, between this program's clients and a server of
//! this program's own that plays the tenants' API servers.
//!
//! The proxy learns of its tenants from a super API server that this program plays as well: it lists two kinds of objects
//! and tells of no change. So the proxy is the whole program as images hold it, and only what is before and behind it isn't
//! real.

use crate::{
    connection::Way,
    site::{Proxies, Site},
};
use anyhow::Context;
use api::keys;
use bytes::Bytes;
use e2e::program::Folder;
use futures::stream::{Pending, pending};
use http::{Request, Response};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tenancy::{naming, route, tenant::TenantId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_rustls::TlsAcceptor;

/// Tenants: 5,000 connections are more than three may have at one replica.
const TENANTS: u8 = 4;
/// How long the proxy may take to know its tenants.
const START: Duration = Duration::from_secs(30);

/// A proxy that was started; it ends with this.
pub(crate) struct Running {
    _proxy: Child,
    _folder: Folder,
}

type Body = Either<Full<Bytes>, StreamBody<Pending<Result<Frame<Bytes>, Infallible>>>>;

/// Starts a proxy; the server behind it works for so long on each request, as an API server would.
pub(crate) async fn start(proxy: &Path, work: Duration) -> anyhow::Result<Site> {
    let names: Vec<String> = (1..=TENANTS).map(|n| naming::tenant_host(&id(n))).collect();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names.clone())?.self_signed(&key)?;
    let server = listen().await?;
    let backend = server.local_addr()?.to_string();
    tokio::spawn(serve(server, acceptor(certificate.der(), &key)?, work));

    let above = listen().await?;
    let folder = Folder::make()?;
    let kubeconfig = folder.path().join("super.conf");
    std::fs::write(&kubeconfig, kubeconfig_of(above.local_addr()?.port()))?;
    tokio::spawn(play_super(above, routes(&backend, &certificate.pem())));

    // Whoever takes the port meanwhile is noticed: the proxy then ends at once.
    let address = listen().await?.local_addr()?.to_string();
    let mut child = Command::new(proxy);
    child
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args(["--front-door", &address, "--drain", "0"])
        .args(["--dns-upstream", "127.0.0.1:53"])
        .env("SUBLET_LOG", "warn")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for port in ["--listen", "--way-out", "--dns"] {
        child.args([port, "127.0.0.1:0"]);
    }
    let child = child.spawn();
    let child = child.with_context(|| format!("starting {}", proxy.display()))?;
    let pid = child.id().context("the proxy runs")?;
    let ways = names
        .iter()
        .map(|name| Way::trusting(address.clone(), name, certificate.der()));
    let tenants = ways.collect::<anyhow::Result<Vec<_>>>()?;
    known(&tenants).await?;
    Ok(Site {
        direct: tenants[0].at(backend),
        tenants,
        proxies: Proxies::Own(pid),
        _running: Some(Running {
            _proxy: child,
            _folder: folder,
        }),
    })
}

/// Waits until the front door leads to every tenant.
async fn known(tenants: &[Way]) -> anyhow::Result<()> {
    let began = Instant::now();
    for way in tenants {
        while let Err(trouble) = way.connect().await {
            if began.elapsed() > START {
                return Err(trouble.context("the proxy doesn't know its tenants"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

fn id(number: u8) -> TenantId {
    TenantId::from_bits([number; 16])
}

async fn listen() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

fn acceptor(certificate: &CertificateDer<'static>, key: &KeyPair) -> anyhow::Result<TlsAcceptor> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Plays the API servers of all tenants.
async fn serve(listener: TcpListener, tls: TlsAcceptor, work: Duration) {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "b"},
        "metadata": {"name": "door", "namespace": "default", "uid": "0a7b3c1e-5d0f-4d8a-9d59-1f6f0e2b7c11",
            "resourceVersion": "481", "creationTimestamp": "2026-01-01T00:00:00Z"},
    })
    .to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
    let answer: Arc<str> = format!("{head}{}\r\n\r\n{object}", object.len()).into();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(talk(stream, tls.clone(), answer.clone(), work));
    }
}

async fn talk(stream: TcpStream, tls: TlsAcceptor, answer: Arc<str>, work: Duration) {
    let Ok(mut stream) = tls.accept(stream).await else {
        return;
    };
    let mut question = vec![];
    while stream
        .read_buf(&mut question)
        .await
        .is_ok_and(|read| read > 0)
    {
        if !question.ends_with(b"\r\n\r\n") {
            continue;
        }
        question.clear();
        let began = Instant::now();
        while began.elapsed() < work {
            std::hint::spin_loop();
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn kubeconfig_of(port: u16) -> String {
    let cluster = json!({"server": format!("http://127.0.0.1:{port}")});
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "played",
        "clusters": [{"name": "played", "cluster": cluster}],
        "users": [{"name": "played", "user": {}}],
        "contexts": [{"name": "played", "context": {"cluster": "played", "user": "played"}}],
    })
    .to_string()
}

/// The routes of all tenants, which lead to one server.
fn routes(backend: &str, authority: &str) -> Vec<Value> {
    let route = |number| {
        let name = format!("t{number}");
        json!({
            "metadata": {
                "name": format!("route-{name}"), "namespace": api::SYSTEM_NAMESPACE, "uid": name,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {keys::TENANT: id(number).as_str(), keys::ROLE: keys::ROLE_ROUTE},
                "annotations": {keys::CONTROL_PLANE: format!("bench/{name}")},
            },
            "data": {route::AUTHORITY: authority, route::BACKEND: backend},
        })
    };
    (1..=TENANTS).map(route).collect()
}

/// Plays the super API server.
async fn play_super(listener: TcpListener, routes: Vec<Value>) {
    let routes = Arc::new(routes);
    while let Ok((stream, _)) = listener.accept().await {
        let routes = routes.clone();
        let service = service_fn(move |request| {
            let response = told(&request, &routes);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A list; a watch is silent.
fn told(request: &Request<Incoming>, routes: &[Value]) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    if query.contains("watch=true") {
        return Response::new(Either::Right(StreamBody::new(pending())));
    }
    let items = match request.uri().path().ends_with("/configmaps") {
        true => routes,
        false => &[],
    };
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
    Response::new(Either::Left(Full::from(list.to_string())))
}
