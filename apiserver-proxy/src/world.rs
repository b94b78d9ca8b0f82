//! The way out and the kubelet behind it on real sockets, before a super API server that is played; for tests.

use crate::{
    accept::Accept,
    egress::Egress,
    forward::Upstream,
    identity::{Gate, provider},
    index::{
        Index, Tenant,
        tests::{Pair, TestAuthority, authority, place, pod, route, running},
    },
    kubelet::{self, Kubelet},
    metrics::{Metrics, Plane},
    metrics_api::{self, MetricsApi},
    node_certificate::Signer,
    node_figures::Counters,
    serving::{self, Serving},
    super_client,
    tunnel::Inner,
    usage::Usage,
};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tenancy::{naming, tenant::TenantId};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Names of the proxy, and of a node.
pub(crate) const PROXY: &str = "proxy.example";
pub(crate) const NODE: &str = "n1.nodes.sublet.internal";
/// A test that waits for so long hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What the super API server says.
pub(crate) type Said = UnsyncBoxBody<Bytes, Infallible>;

/// Two tenants, 1 and 2, each with a pod `default/web`, at 127.0.0.11 and 127.0.0.12.
pub(crate) struct World {
    pub(crate) index: Arc<Index>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) serving: Arc<Serving>,
    /// Of the tenants; what they sign is known by the proxy.
    pub(crate) authorities: [TestAuthority; 2],
    /// Signs for the proxy.
    pub(crate) own: TestAuthority,
    /// Where the way out is.
    pub(crate) address: SocketAddr,
    /// What the super API server was asked.
    pub(crate) asked: Arc<Mutex<Vec<Parts>>>,
    /// Connections that are open.
    pub(crate) tasks: TaskTracker,
    /// Ends the way out.
    pub(crate) cancel: CancellationToken,
}

/// How a client speaks TLS.
#[derive(Clone, Copy)]
pub(crate) struct Speaks<'a> {
    pub(crate) who: Option<&'a Pair>,
    pub(crate) version: &'static SupportedProtocolVersion,
    pub(crate) protocol: &'static str,
}

impl<'a> Speaks<'a> {
    /// As API servers do.
    pub(crate) fn well(who: Option<&'a Pair>) -> Self {
        Self {
            who,
            version: &rustls::version::TLS13,
            protocol: "http/1.1",
        }
    }
}

/// A text that is said at once.
pub(crate) fn text(text: impl Into<Bytes>) -> Said {
    Full::new(text.into()).boxed_unsync()
}

pub(crate) fn id(n: u8) -> String {
    TenantId::from_bits([n; 16]).to_string()
}

impl World {
    /// The super API server answers by `answer`, which is told the path.
    pub(crate) async fn new(
        answer: impl Fn(&str) -> Response<Said> + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<Parts>>> = Arc::default();
        let service = {
            let asked = asked.clone();
            tower::service_fn(move |request: Request<Body>| {
                let response = answer(request.uri().path());
                asked.lock().push(request.into_parts().0);
                async move { Ok::<_, Infallible>(response) }
            })
        };
        Self::before(Client::new(service, "s"), asked).await
    }

    /// The super API server says yes to every upgrade, and sends back whatever it hears.
    pub(crate) async fn echoing() -> Self {
        const YES: &[u8] =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    head(&mut stream).await?;
                    stream.write_all(YES).await?;
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let config = kube::Config::new(server.parse().unwrap());
        Self::before(super_client::client(config).unwrap(), Arc::default()).await
    }

    async fn before(client: Client, asked: Arc<Mutex<Vec<Parts>>>) -> Self {
        let (index, metrics) = (Arc::new(Index::default()), Arc::new(Metrics::new()));
        let authorities = ["one", "two"].map(authority);
        for (n, authority) in (1u8..).zip(&authorities) {
            let mut map = route(n, "acme", &authority.pem);
            let data = map.data.as_mut().unwrap();
            data.insert(tenancy::route::ALLOWED.into(), "0.0.0.0/0\n::/0".into());
            let tenant = Tenant::read(&map).unwrap();
            index.set_tenant(("s".into(), n.to_string()), tenant);
            let address = format!("127.0.0.1{n}");
            let web = pod(n, "default", "web", running(&address));
            index.set_pod(place(n, "default", "web"), &web);
        }
        let own = authority("proxy-ca");
        let serving = Arc::new(Serving::default());
        let gate = Arc::new(Gate::new(index.clone()));
        let tls = serving::config(serving.clone(), gate.clone()).unwrap();
        let within = serving::within_a_tunnel(serving.clone()).unwrap();
        let (tasks, usage) = (
            TaskTracker::new(),
            Usage::new(client.clone(), index.clone()),
        );
        let cancel = CancellationToken::new();
        let inner = |plane, head_max| Inner {
            plane,
            head_max,
            metrics: metrics.clone(),
            cancel: cancel.clone(),
        };
        let egress = Arc::new(Egress {
            tls: TlsAcceptor::from(Arc::new(tls)),
            gate: gate.clone(),
            index: index.clone(),
            kubelet: Arc::new(Kubelet {
                gate,
                index: index.clone(),
                inner: inner(Plane::Kubelet, kubelet::HEAD_MAX),
                upstream: Upstream::new(client),
                usage: usage.clone(),
                counters: Arc::new(Counters::default()),
                metrics: metrics.clone(),
                tasks: tasks.clone(),
            }),
            figures: Arc::new(MetricsApi {
                inner: inner(Plane::Figures, metrics_api::HEAD_MAX),
                tls: TlsAcceptor::from(Arc::new(within)),
                usage,
                metrics: metrics.clone(),
            }),
            signer: Arc::new(Signer::default()),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way_out = Accept {
            listener,
            plane: Plane::Out,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        };
        tokio::spawn(way_out.run(move |stream, unknown| egress.clone().serve(stream, unknown)));
        let world = Self {
            index,
            metrics,
            serving,
            authorities,
            own,
            address,
            asked,
            tasks,
            cancel,
        };
        world.renew();
        world
    }

    /// The proxy gets another certificate, which is returned.
    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = self.own.server(&[PROXY, NODE]);
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        self.serving.set(pem.as_bytes(), key.as_bytes()).unwrap();
        certificate.der().clone()
    }

    /// What tenant 1's API server shows.
    pub(crate) fn one(&self) -> Pair {
        self.authorities[0].client(36_500)
    }

    /// Tenant 1.
    pub(crate) fn tenant(&self) -> Arc<Tenant> {
        let name = naming::tenant_host(&TenantId::from_bits([1; 16]));
        self.index.tenant_by_server_name(&name).unwrap()
    }

    /// TLS to the way out.
    pub(crate) async fn connect(&self, speaks: Speaks<'_>) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        self.secure(stream, PROXY, speaks).await
    }

    /// TLS to the kubelet of a node, through the way out.
    pub(crate) async fn tunnel(
        &self,
        outer: &Pair,
        inner: &Pair,
    ) -> io::Result<TlsStream<TlsStream<TcpStream>>> {
        let mut stream = self.connect(Speaks::well(Some(outer))).await?;
        let line = format!("CONNECT {NODE}:10250 HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(line.as_bytes()).await?;
        assert_eq!(code(&head(&mut stream).await?), 200);
        self.secure(stream, NODE, Speaks::well(Some(inner))).await
    }

    async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
        speaks: Speaks<'_>,
    ) -> io::Result<TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.own.pem.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[speaks.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match speaks.who {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = vec![speaks.protocol.into()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let connecting = connector.connect(name, stream);
        timeout(HANGS, connecting).await.expect("an answer")
    }
}

/// Says something and hears all of the answer; nothing, if it is closed without one.
pub(crate) async fn say(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
) -> String {
    let mut heard = vec![];
    let talk = async {
        // Who is refused early may be unable to say all.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut heard).await;
    };
    timeout(HANGS, talk).await.expect("an end");
    String::from_utf8_lossy(&heard).into_owned()
}

/// Reads the head of an answer and not a byte more.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut bytes = vec![];
    while !bytes.ends_with(b"\r\n\r\n") {
        let byte = timeout(HANGS, stream.read_u8()).await;
        bytes.push(byte.expect("an answer")?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The status of an answer; none is 0.
pub(crate) fn code(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// Waits until something was counted: that follows the end of a connection by a moment.
pub(crate) async fn counted(
    metrics: &Metrics,
    tenant: &str,
    plane: Plane,
    outcome: &'static str,
    times: u64,
) {
    let counting = async {
        while metrics.counted(tenant, plane, outcome) < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = timeout(HANGS, counting).await;
    assert!(waited.is_ok(), "{outcome} wasn't counted {times} times");
    assert_eq!(metrics.counted(tenant, plane, outcome), times, "{outcome}");
}
