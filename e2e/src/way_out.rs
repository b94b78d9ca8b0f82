//! Speaking with the proxy as a tenant's API server does, or as somebody who pretends to be one.

use crate::{
    kind::{NETWORK_POLICY, SECRET, SERVICE},
    read::text,
    side::Side,
    tenant::Tenant,
    wait::{SOON, seldom},
};
use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// No answer of the proxy takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// What a stream needs to be.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The way out.
#[derive(Clone)]
pub struct WayOut {
    /// Where it is.
    at: (String, u16),
    /// What its certificate is checked for.
    name: String,
    authority: Vec<u8>,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Everything that came.
    pub text: String,
}

impl Answer {
    /// What came after the head, unless it came in chunks.
    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }
}

impl Identity {
    /// What a tenant's API server shows to the proxy.
    pub async fn of_api_server(tenant: &Tenant) -> anyhow::Result<Self> {
        Self::of_api_server_in(&tenant.above, &tenant.control_plane_namespace()).await
    }

    /// The same of the control plane in a namespace.
    pub async fn of_api_server_in(above: &Side, namespace: &str) -> anyhow::Result<Self> {
        let secret = above
            .get(SECRET, namespace, "apiserver-kubelet-client")
            .await?;
        Ok(Self {
            certificate: data(&secret, "tls.crt")?,
            key: data(&secret, "tls.key")?,
        })
    }

    /// A certificate and its key, as PEM.
    pub fn of_pair(certificate: &str, key: &str) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
        }
    }

    /// What a tenant's admin has in the kubeconfig.
    pub fn of_admin(tenant: &Tenant) -> anyhow::Result<Self> {
        let config: Value = serde_saphyr::from_str(&tenant.kubeconfig)?;
        let field = |name: &str| {
            let text = config["users"][0]["user"][name].as_str();
            let text = text.with_context(|| format!("the kubeconfig has {name}"))?;
            Ok::<_, anyhow::Error>(BASE64_STANDARD.decode(text)?)
        };
        Ok(Self {
            certificate: field("client-certificate-data")?,
            key: field("client-key-data")?,
        })
    }
}

impl WayOut {
    /// Finds it.
    pub async fn find(above: &Side) -> anyhow::Result<Self> {
        open_to_this_host(above).await?;
        let mut found = Self::of_this_machine(above, tenancy::naming::WAY_OUT_PORT).await?;
        found.at.0.clone_from(&found.name);
        Ok(found)
    }

    /// That of a proxy which runs on this machine.
    pub async fn of_this_machine(above: &Side, port: u16) -> anyhow::Result<Self> {
        let system = api::SYSTEM_NAMESPACE;
        let service = above.get(SERVICE, system, api::keys::PROXY).await?;
        let secret = above
            .get(SECRET, system, api::keys::PROXY_AUTHORITY)
            .await?;
        Ok(Self {
            at: ("127.0.0.1".to_owned(), port),
            name: text(&service, "/spec/clusterIP").to_owned(),
            authority: data(&secret, "tls.crt")?,
        })
    }

    /// Connects; in TLS 1.3 a refused certificate is noticed by the first read only.
    pub async fn connect(
        &self,
        identity: Option<&Identity>,
    ) -> anyhow::Result<impl Stream + use<>> {
        let tcp = TcpStream::connect((self.at.0.as_str(), self.at.1)).await?;
        self.secure(tcp, &self.name, identity).await
    }

    /// TLS over a connection, checked for a name.
    pub async fn secure<S: Stream>(
        &self,
        stream: S,
        name: &str,
        identity: Option<&Identity>,
    ) -> anyhow::Result<tokio_rustls::client::TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.authority)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => config.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&identity.certificate)?.into_owned()],
                PrivateKeyDer::from_pem_slice(&identity.key)?,
            )?,
        };
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(name.to_owned())?;
        Ok(timeout(LIMIT, connector.connect(name, stream)).await??)
    }

    /// Asks a virtual node's kubelet as one identity, through the way out as another.
    pub async fn kubelet(
        &self,
        outer: &Identity,
        inner: &Identity,
        head: &str,
    ) -> anyhow::Result<Answer> {
        self.kubelet_of(outer, inner, "any", head).await
    }

    /// The same, of the node with that name; asked again while the tenant's other tests ask too much.
    pub async fn kubelet_of(
        &self,
        outer: &Identity,
        inner: &Identity,
        node: &str,
        head: &str,
    ) -> anyhow::Result<Answer> {
        seldom(SOON, "the proxy has time for a question", async || {
            let answer = self.kubelet_now(outer, inner, node, head).await;
            // Whatever else comes of it is the caller's to judge.
            ensure!(
                !matches!(&answer, Ok(answer) if answer.code == 429),
                "{answer:?}"
            );
            Ok(answer)
        })
        .await?
    }

    /// Asks a virtual node's kubelet for a stream, and reads no more of the answer than its head: the connection goes on.
    pub async fn stream(&self, identity: &Identity, head: &str) -> anyhow::Result<Answer> {
        seldom(SOON, "the proxy has time for a stream", async || {
            let mut kubelet = self.tunnel(identity, identity, "any").await?;
            kubelet.write_all(head.as_bytes()).await?;
            let answer = read_head(&mut kubelet).await?;
            ensure!(answer.code != 429, "{answer:?}");
            Ok(answer)
        })
        .await
    }

    async fn kubelet_now(
        &self,
        outer: &Identity,
        inner: &Identity,
        node: &str,
        head: &str,
    ) -> anyhow::Result<Answer> {
        let mut kubelet = self.tunnel(outer, inner, node).await?;
        ask(&mut kubelet, head).await
    }

    /// A connection to a virtual node's kubelet.
    async fn tunnel(
        &self,
        outer: &Identity,
        inner: &Identity,
        node: &str,
    ) -> anyhow::Result<impl Stream + use<>> {
        let host = tenancy::naming::node_host(node);
        let mut tunnel = self.connect(Some(outer)).await?;
        let line = format!("CONNECT {host}:10250 HTTP/1.1\r\nHost: x\r\n\r\n");
        tunnel.write_all(line.as_bytes()).await?;
        let answer = read_head(&mut tunnel).await?;
        ensure!(answer.code == 200, "{answer:?}");
        self.secure(tunnel, &host, Some(inner)).await
    }
}

/// Sends a request head as it is and reads all of the answer.
pub async fn ask(stream: &mut (impl Stream + ?Sized), head: &str) -> anyhow::Result<Answer> {
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = vec![];
    // A peer that closes without TLS's goodbye has said all the same what it had to say.
    let read = timeout(LIMIT, stream.read_to_end(&mut bytes)).await?;
    if bytes.is_empty() {
        read?;
    }
    answer(&bytes)
}

/// Reads the head of an answer and not a byte more.
pub async fn read_head(stream: &mut (impl Stream + ?Sized)) -> anyhow::Result<Answer> {
    let mut bytes = vec![];
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(timeout(LIMIT, stream.read_u8()).await??);
    }
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> anyhow::Result<Answer> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        code: code.with_context(|| format!("no HTTP answer: {text:?}"))?,
        text,
    })
}

fn data(secret: &Value, key: &str) -> anyhow::Result<Vec<u8>> {
    let text = secret["data"][key].as_str();
    let text = text.with_context(|| format!("the Secret has no {key}"))?;
    Ok(BASE64_STANDARD.decode(text)?)
}

/// Nobody but control planes may come to the way out; tests come from this machine, by the nodes' network.
async fn open_to_this_host(above: &Side) -> anyhow::Result<()> {
    let nodes = json!([{"ipBlock": {"cidr": "10.210.0.0/24"}}]);
    let policy = json!({
        "metadata": {"name": "e2e-way-out", "namespace": api::SYSTEM_NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": api::keys::PROXY}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": nodes, "ports": [{"port": tenancy::naming::WAY_OUT_PORT}]}],
        },
    });
    match above.create(NETWORK_POLICY, policy).await {
        Err(problem) if problem.code != 409 => Err(problem.into()),
        _ => Ok(()),
    }
}
