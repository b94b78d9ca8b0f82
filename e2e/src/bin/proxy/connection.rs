//! HTTP/1.1 over one connection, with nothing between the clock and the wire.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::read::text;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A way to an API server.
#[derive(Clone)]
pub(crate) struct Way {
    /// `HOST:PORT`.
    pub(crate) address: String,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// An open connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

impl Way {
    /// As a kubeconfig says: by the front door, when it is a tenant's.
    pub(crate) fn of(kubeconfig: &str) -> anyhow::Result<Self> {
        let config: Value = serde_saphyr::from_str(kubeconfig)?;
        let pem = |pointer: &str| BASE64_STANDARD.decode(text(&config, pointer));
        let mut roots = RootCertStore::empty();
        let authority = pem("/clusters/0/cluster/certificate-authority-data")?;
        roots.add(CertificateDer::from_pem_slice(&authority)?)?;
        let certificate = pem("/users/0/user/client-certificate-data")?;
        let key = pem("/users/0/user/client-key-data")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&certificate)?.into_owned()],
                PrivateKeyDer::from_pem_slice(&key)?,
            )?;
        let server = text(&config, "/clusters/0/cluster/server");
        let address = server
            .strip_prefix("https://")
            .context("the kubeconfig's server is https")?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = match text(&config, "/clusters/0/cluster/tls-server-name") {
            "" => host,
            name => name,
        };
        Ok(Self {
            address: address.to_owned(),
            name: ServerName::try_from(name.to_owned())?,
            tls: Arc::new(tls),
        })
    }

    /// A server that is known by its certificate, and asks for none.
    pub(crate) fn trusting(
        address: String,
        name: &str,
        certificate: &CertificateDer<'static>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            name: ServerName::try_from(name.to_owned())?,
            tls: Arc::new(tls),
        })
    }

    /// The same server at another address.
    pub(crate) fn at(&self, address: String) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Ok(Connection {
            stream: self.open().await?,
            answer: vec![],
        })
    }

    /// Connects, for whatever is said over it.
    pub(crate) async fn open(&self) -> anyhow::Result<TlsStream<TcpStream>> {
        let opening = async {
            let tcp = TcpStream::connect(&self.address).await?;
            tcp.set_nodelay(true)?;
            let tls = TlsConnector::from(self.tls.clone());
            tls.connect(self.name.clone(), tcp).await
        };
        Ok(timeout(LIMIT, opening).await??)
    }

    /// The first bytes of a client, less the last one.
    pub(crate) fn half_a_hello(&self) -> anyhow::Result<Vec<u8>> {
        let mut client = ClientConnection::new(self.tls.clone(), self.name.clone())?;
        let mut bytes = vec![];
        client.write_tls(&mut bytes)?;
        bytes.pop();
        Ok(bytes)
    }
}

impl Connection {
    /// Asks and reads the whole answer; the time between.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Duration> {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: tenant\r\nAccept: application/json\r\n\r\n");
        let began = Instant::now();
        self.stream.write_all(head.as_bytes()).await?;
        self.answer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.answer)).await??;
            ensure!(read > 0, "the connection has ended");
            if whole.is_none() {
                whole = length(&self.answer)?;
            }
        }
        Ok(began.elapsed())
    }
}

/// Of the whole answer, once its head is there.
fn length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    ensure!(head.starts_with("HTTP/1.1 200"), "{text}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.with_context(|| format!("an answer of known length: {head}"))?;
    Ok(Some(head.len() + 4 + length))
}
