//! Watches of one client, which share connections as HTTP/2 lets them.

use crate::{kind::CONFIG_MAP, side::provider};
use bytes::Bytes;
use futures::future;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Watches of one connection: no more than servers allow.
const OF_ONE: usize = 100;
/// Before a watch that ended is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// One connection, by a client certificate.
struct Line {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    server: Uri,
}

/// Keeps `count` watches of a namespace's ConfigMaps open until it is dropped, and counts in `open` those that are: a tenth is
/// told of everything, the others of one object that nobody touches.
///
/// # Errors
/// The kubeconfig can't be read.
pub(super) async fn keep(
    kubeconfig: &str,
    namespace: &str,
    count: usize,
    open: &AtomicUsize,
) -> anyhow::Result<()> {
    let config = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let lines = count.div_ceil(OF_ONE);
    let lines: Vec<Line> = (0..lines)
        .map(|_| Line::new(&config))
        .collect::<anyhow::Result<_>>()?;
    let all = CONFIG_MAP.path(namespace, "") + "?watch=true";
    let one = format!("{all}&fieldSelector=metadata.name%3Dkube-root-ca.crt");
    let watches = (0..count).map(|number| {
        let path = if number % 10 == 0 { &all } else { &one };
        lines[number / OF_ONE].watch(path, open)
    });
    future::join_all(watches).await;
    Ok(())
}

impl Line {
    fn new(config: &Config) -> anyhow::Result<Self> {
        provider();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.rustls_client_config()?)
            .https_only();
        let connector = match &config.tls_server_name {
            Some(name) => connector
                .with_server_name_resolver(FixedServerNameResolver::new(name.clone().try_into()?)),
            None => connector,
        };
        let connector = connector.enable_http2().wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector),
            server: config.cluster_url.clone(),
        })
    }

    /// One watch, opened again whenever it ends.
    async fn watch(&self, path: &str, open: &AtomicUsize) {
        loop {
            let _ = self.once(path, open).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, path: &str, open: &AtomicUsize) -> anyhow::Result<()> {
        let server = self.server.to_string();
        let uri = format!("{}{path}", server.trim_end_matches('/'));
        let request = Request::get(uri).body(Empty::new())?;
        let answer = self.client.request(request).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        open.fetch_add(1, Ordering::Relaxed);
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        open.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}
