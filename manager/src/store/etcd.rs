//! A member of a tenant's etcd, asked by gRPC: how full it is, and what makes room in it.
//!
//! Five requests are all that is wanted of etcd, each a message of a few numbers ([`wire`]), so they are spoken here, over one
//! HTTP/2 connection as gRPC prescribes. A member proves itself by its authority, which signs for this tenant's etcd alone,
//! and is shown the API server's own certificate.

mod wire;

pub(crate) use wire::{Alarm, Status};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// A member that doesn't answer so long must not hold a pass.
const SHORT: Duration = Duration::from_secs(5);
/// A compaction, and a defragmentation, work through all that is stored.
const LONG: Duration = Duration::from_secs(60);
/// Bytes of the largest answer to any of these requests, many times over.
const LARGEST: usize = 64 << 10;
/// gRPC's code of what lies outside of what there is.
const OUT_OF_RANGE: &str = "11";
/// What etcd says of a revision that was forgotten already.
const COMPACTED: &str = "has been compacted";

/// How a tenant's etcd is reached.
pub(crate) struct Way {
    /// All members.
    pub(crate) members: Vec<SocketAddr>,
    /// The name that each one's certificate holds.
    pub(crate) name: String,
    /// PEM of the authority.
    pub(crate) authority: String,
    /// PEM of the certificate that is shown.
    pub(crate) certificate: String,
    /// PEM of its key.
    pub(crate) key: Zeroizing<String>,
}

/// Something that was asked of etcd failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection; what the system or TLS says of it.
    #[error("etcd at {at} can't be reached: {source}")]
    Unreachable {
        /// Address of the member.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates in the control plane's Secrets.
    #[error("etcd's certificates can't be used: {0}")]
    Keys(String),
    /// It was asked and gave no answer that can be read.
    #[error("etcd at {at} gives no good answer to {what}: {why}")]
    NoAnswer {
        /// Address of the member.
        at: SocketAddr,
        /// Service and method.
        what: &'static str,
        /// What came instead.
        why: String,
    },
    /// It said no.
    #[error("etcd at {at} refuses {what}: {message} (gRPC code {code})")]
    Refused {
        /// Address of the member.
        at: SocketAddr,
        /// Service and method.
        what: &'static str,
        /// gRPC's code, a number.
        code: String,
        /// In etcd's words.
        message: String,
    },
}

/// A connection to one member; it ends with its handle.
pub(crate) struct Member {
    at: SocketAddr,
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Member {
    /// Connects to a member.
    ///
    /// # Errors
    /// It can't be reached, isn't who it should be, or the certificates are damaged.
    pub(crate) async fn connect(way: &Way, at: SocketAddr) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable { at, source };
        let slow = || unreachable(std::io::ErrorKind::TimedOut.into());
        let tls = TlsConnector::from(Arc::new(client_config(way)?));
        let name = ServerName::try_from(way.name.clone());
        let name = name.map_err(|error| Error::Keys(error.to_string()))?;
        let open = async {
            let stream = TcpStream::connect(at).await?;
            tls.connect(name, stream).await
        };
        let stream = timeout(SHORT, open)
            .await
            .map_err(|_| slow())?
            .map_err(unreachable)?;
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let made = timeout(SHORT, made).await.map_err(|_| slow())?;
        let (requests, connection) =
            made.map_err(|error| unreachable(std::io::Error::other(error)))?;
        // How it ends is told by the request that it fails.
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self {
            at,
            requests,
            connection,
        })
    }

    /// How full it is.
    ///
    /// # Errors
    /// It doesn't answer.
    pub(crate) async fn status(&mut self) -> Result<Status, Error> {
        const WHAT: &str = "Maintenance/Status";
        let answer = self.call(WHAT, vec![], SHORT).await?;
        wire::status(&answer).ok_or_else(|| self.unreadable(WHAT))
    }

    /// The alarms of all members.
    ///
    /// # Errors
    /// It doesn't answer.
    pub(crate) async fn alarms(&mut self) -> Result<Vec<Alarm>, Error> {
        const WHAT: &str = "Maintenance/Alarm";
        let answer = self.call(WHAT, vec![], SHORT).await?;
        wire::alarms(&answer).ok_or_else(|| self.unreadable(WHAT))
    }

    /// Takes an alarm back, for all members.
    ///
    /// # Errors
    /// It doesn't answer, or refuses.
    pub(crate) async fn disarm(&mut self, alarm: Alarm) -> Result<(), Error> {
        let message = wire::disarm(alarm);
        self.call("Maintenance/Alarm", message, SHORT)
            .await
            .map(drop)
    }

    /// Has all members forget what was before a revision, and waits until this one has. What was forgotten already is none
    /// the worse.
    ///
    /// # Errors
    /// It doesn't answer, or refuses.
    pub(crate) async fn compact(&mut self, revision: u64) -> Result<(), Error> {
        let message = wire::compaction(revision);
        match self.call("KV/Compact", message, LONG).await {
            Err(Error::Refused { code, message, .. })
                if code == OUT_OF_RANGE && message.contains(COMPACTED) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Has this member give back to its disk what it doesn't use. It serves nothing meanwhile.
    ///
    /// # Errors
    /// It doesn't answer, or refuses.
    pub(crate) async fn defragment(&mut self) -> Result<(), Error> {
        self.call("Maintenance/Defragment", vec![], LONG)
            .await
            .map(drop)
    }

    fn unreadable(&self, what: &'static str) -> Error {
        self.no_answer(what, "it can't be read")
    }

    fn no_answer(&self, what: &'static str, why: impl ToString) -> Error {
        let (at, why) = (self.at, why.to_string());
        Error::NoAnswer { at, what, why }
    }

    async fn call(
        &mut self,
        what: &'static str,
        message: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, Error> {
        let request = Request::post(format!("https://etcd/etcdserverpb.{what}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(wire::frame(&message)))
            .expect("made of constants");
        let asking = async {
            let response = self.requests.send_request(request).await;
            let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
            if !head.status.is_success() {
                return Err(format!("HTTP {}", head.status));
            }
            let body = Limited::new(body, LARGEST).collect().await;
            let body = body.map_err(|error| error.to_string())?;
            // Without a message to follow, what is said at the end is said at once.
            let end = body.trailers().cloned().unwrap_or(head.headers);
            Ok((end, body.to_bytes()))
        };
        let answer = timeout(limit, asking).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("none within {limit:?}")));
        let (end, body) = answer.map_err(|why| self.no_answer(what, why))?;
        let said = |name: &str| text(&end, name).to_owned();
        match said("grpc-status").as_str() {
            "0" => wire::unframe(&body).ok_or_else(|| self.unreadable(what)),
            "" => Err(self.no_answer(what, "it has no end")),
            code => Err(Error::Refused {
                at: self.at,
                what,
                code: code.to_owned(),
                message: said("grpc-message"),
            }),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn client_config(way: &Way) -> Result<ClientConfig, Error> {
    let damaged = |error: &dyn std::error::Error| Error::Keys(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(way.authority.as_bytes()) {
        let authority = authority.map_err(|error| damaged(&error))?;
        roots.add(authority).map_err(|error| damaged(&error))?;
    }
    let own = CertificateDer::from_pem_slice(way.certificate.as_bytes());
    let own = own.map_err(|error| damaged(&error))?;
    let key = PrivateKeyDer::from_pem_slice(way.key.as_bytes()).map_err(|error| damaged(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| damaged(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(|error| damaged(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
pub(crate) mod tests;
