//! An etcd of one member that is played: it speaks gRPC over TLS and does what is asked of it in numbers.

use super::*;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "etcd.cp.svc";

type Said = UnsyncBoxBody<Bytes, Infallible>;

/// A played member; it ends with its handle.
pub(crate) struct Played {
    at: SocketAddr,
    authority: String,
    certificate: String,
    key: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

struct State {
    status: Status,
    alarms: Vec<Alarm>,
    compacted: u64,
    asked: Vec<String>,
    refuses: Option<String>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Certificate and key of an authority, as PEM.
pub(crate) fn pair(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, Issuer::new(params, key))
}

fn leaf(names: Vec<String>, issuer: &Issuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap().pem();
    (certificate, key.serialize_pem())
}

impl Played {
    /// One that is as full as `status` says.
    pub(crate) async fn start(status: Status, alarms: Vec<Alarm>) -> Self {
        let (authority, issuer) = pair("etcd-ca");
        let (certificate, key) = leaf(vec![], &issuer);
        let server = leaf(vec![NAME.to_owned()], &issuer);
        let tls = acceptor(&authority, &server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            status,
            alarms,
            compacted: 0,
            asked: vec![],
            refuses: None,
        }));
        let serving = tokio::spawn(serve(listener, tls, state.clone()));
        Self {
            at,
            authority,
            certificate,
            key,
            state,
            serving,
        }
    }

    /// How it is reached.
    pub(crate) fn way(&self) -> Way {
        Way {
            members: vec![self.at],
            name: NAME.to_owned(),
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: Zeroizing::new(self.key.clone()),
        }
    }

    /// What it was asked since the last call.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().asked)
    }

    /// From now on it refuses all, in these words.
    pub(crate) fn refuse(&self, words: &str) {
        self.state.lock().refuses = Some(words.to_owned());
    }
}

fn acceptor(authority: &str, (certificate, key): &(String, String)) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let service = hyper::service::service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(request, &state).await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Response<Said> {
    let headers = request.headers();
    assert_eq!(headers[header::CONTENT_TYPE], "application/grpc");
    assert_eq!(headers[header::TE], "trailers");
    let what = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message = wire::unframe(&body).unwrap();
    let mut state = state.lock();
    let what = what.strip_prefix("/etcdserverpb.").unwrap();
    let (told, outcome) = state.play(what, &message);
    state.asked.push(told);
    match outcome {
        Ok(message) => {
            let end = async { Some(Ok(said("0", ""))) };
            let body = Full::new(wire::frame(&message)).with_trailers(end);
            Response::new(body.boxed_unsync())
        }
        // As etcd does: without a message what is said at the end comes with the head.
        Err((code, words)) => {
            let mut response = Response::new(Full::default().boxed_unsync());
            *response.headers_mut() = said(code, &words);
            response
        }
    }
}

fn said(code: &str, words: &str) -> HeaderMap {
    let pairs = [("grpc-status", code), ("grpc-message", words)];
    let pairs =
        pairs.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    HeaderMap::from_iter(pairs)
}

type Outcome = Result<Vec<u8>, (&'static str, String)>;

impl State {
    fn play(&mut self, what: &str, message: &[u8]) -> (String, Outcome) {
        if let Some(words) = &self.refuses {
            return (what.to_owned(), Err(("12", words.clone())));
        }
        match (what, message) {
            ("Maintenance/Status", []) => (what.to_owned(), Ok(wire::tests::status(&self.status))),
            ("Maintenance/Alarm", []) => (what.to_owned(), Ok(wire::tests::alarms(&self.alarms))),
            ("Maintenance/Alarm", disarm) => {
                let taken = self
                    .alarms
                    .iter()
                    .position(|alarm| wire::disarm(*alarm) == disarm);
                let taken = self.alarms.remove(taken.expect("an alarm that there is"));
                (format!("{what} disarm {}", taken.member), Ok(vec![]))
            }
            ("Maintenance/Defragment", []) => {
                self.status.size = self.status.in_use;
                (what.to_owned(), Ok(vec![]))
            }
            ("KV/Compact", compaction) => {
                let all = 0..=self.status.revision;
                let revision = all
                    .rev()
                    .find(|&revision| wire::compaction(revision) == compaction);
                let revision = revision.expect("a revision that there is");
                let told = format!("{what} {revision}");
                if revision <= self.compacted {
                    let words = "etcdserver: mvcc: required revision has been compacted";
                    return (told, Err(("11", words.to_owned())));
                }
                self.compacted = revision;
                (told, Ok(vec![]))
            }
            other => panic!("{other:?}"),
        }
    }
}
