//! How an API server is connected to: TLS prepared once, and a connection of HTTP/2 for each stack that is made of it.
//!
//! kube's own client speaks HTTP/1.1 only and would open a connection for every watch. It also hands each request to a
//! task of its own and back: with two processors the ways between tasks cost as much as the rest.

use crate::{ahead::Ahead, fence};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use kube::{
    Config,
    client::{
        Body, ConfigExt,
        middleware::{AuthLayer, BaseUriLayer},
    },
};
use rustls::client::Resumption;
use std::time::Duration;
use tokio::net::TcpStream;
use tower::{
    BoxError, ServiceBuilder,
    util::{BoxCloneSyncService, MapResponse},
};

/// TLS sessions that are kept to resume: of one server.
const SESSIONS: usize = 8;
/// How long opening a connection may take, before TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How often an idle connection is asked whether it lives, and how long the answer may take (R9).
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// A connection that closes when nothing needs it does so when it wasn't needed for this long, or for twice as long: that
/// is how often the pool looks.
const REST: Duration = Duration::from_secs(10);

/// All that stands between a request and a connection.
pub(crate) type Stack = BoxCloneSyncService<Request<Body>, Response<ResponseBody>, BoxError>;

/// The body of an answer, as it arrives.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// What opens connections, each of which is read ahead.
type Tcp = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<Ahead<TcpStream>>>;

fn ahead(stream: TokioIo<TcpStream>) -> TokioIo<Ahead<TcpStream>> {
    TokioIo::new(Ahead::of(stream.into_inner()))
}

/// What becomes of a connection that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unneeded {
    /// It stays, and is asked now and then whether it lives.
    Stays,
    /// It is closed, and another one is opened when there is something to ask.
    Closes,
}

/// What is needed to connect to one API server.
pub(crate) struct Dial {
    connector: HttpsConnector<Tcp>,
    base: BaseUriLayer,
    auth: Option<AuthLayer>,
}

impl Dial {
    /// Reads certificates and keys; nothing is dialled yet.
    pub(crate) fn new(config: &Config) -> Result<Self, kube::Error> {
        let mut tls = config.rustls_client_config()?;
        // By default room for the sessions of 256 servers is set aside, for each of hundreds of tenants.
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let tcp: Tcp = MapResponse::new(tcp, ahead as fn(_) -> _);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let connector = match &config.tls_server_name {
            Some(name) => {
                let name = rustls::pki_types::ServerName::try_from(name.clone())
                    .map_err(|err| kube::Error::Service(Box::new(err)))?;
                connector
                    .with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
            }
            None => connector,
        };
        Ok(Self {
            connector: connector.enable_http2().wrap_connector(tcp),
            base: config.base_uri_layer(),
            auth: config.auth_layer()?,
        })
    }

    /// A stack with a connection of its own, which is opened by the first request.
    pub(crate) fn stack(&self, unneeded: Unneeded) -> Stack {
        let rest = match unneeded {
            Unneeded::Stays => None,
            Unneeded::Closes => Some(REST),
        };
        let http: Http<_, fence::Fenced> = Http::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(rest)
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_LIMIT)
            .http2_keep_alive_while_idle(true)
            .build(self.connector.clone());
        let service = ServiceBuilder::new()
            .layer(&self.base)
            .option_layer(self.auth.as_ref())
            .map_err(BoxError::from)
            .map_request(fence::fence)
            .map_response(|response: Response<_>| response.map(arriving))
            .service(http);
        BoxCloneSyncService::new(service)
    }
}

/// Any body as an [`ResponseBody`].
pub(crate) fn arriving<B>(body: B) -> ResponseBody
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}
