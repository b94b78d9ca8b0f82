//! The client of the super cluster's API server.

use crate::accept::{KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES};
use futures::{FutureExt, future::BoxFuture};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use std::time::Duration;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take, its handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A client that speaks HTTP/1.1, so that connections can be upgraded; repeats no request: an exec that was begun isn't begun
/// again; and limits no request's time, since streams last as long as they like. A server that died without a word is
/// noticed after about two minutes.
pub(crate) fn client(config: Config) -> anyhow::Result<Client> {
    anyhow::ensure!(
        config.proxy_url.is_none(),
        "a proxy on the way to the super cluster's API server is not supported"
    );
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let connector = ServiceBuilder::new().map_future(in_time).service(tls);
    let http: Http<_, Body> = Http::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

fn in_time<T: 'static>(
    connecting: impl Future<Output = Result<T, BoxError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, BoxError>> {
    async move { timeout(CONNECT_LIMIT, connecting).await? }.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use tokio::net::TcpListener;

    /// A server that takes connections and says nothing is given up in time: nothing else limits a request.
    #[tokio::test(start_paused = true)]
    async fn a_handshake_without_an_answer_ends() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", silent.local_addr().unwrap());
        let client = client(Config::new(server.parse().unwrap())).unwrap();
        let asking = client.send(Request::get("/").body(Body::empty()).unwrap());
        let asked = timeout(2 * CONNECT_LIMIT, asking).await;
        assert!(asked.expect("an end").is_err());
    }
}
