//! The certificate that the proxy shows to tenants' API servers; it can change while the proxy runs.

use crate::identity::{Gate, provider};
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most bytes of what TLS carries in one record, as rustls counts them: with the 17 that encryption adds, a record of a
/// connection within a tunnel just fills one of the tunnel's. A whole one would take two.
const RECORD: usize = (16 << 10) - 17;

/// The current certificate and its key.
#[derive(Default)]
pub(crate) struct Serving {
    current: RwLock<Option<Arc<CertifiedKey>>>,
    refused: AtomicBool,
}

/// Certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// One of them isn't PEM; the parser's message could quote a key.
    #[error("the serving certificate or its key isn't PEM")]
    Pem,
    /// They don't belong together, or are of a kind that can't be served.
    #[error("the serving certificate can't be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Serving {
    /// Shows this certificate from now on; one that can't be used leaves the last good one.
    pub(crate) fn set(&self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let result = self.take_up(certificate, key);
        self.refused.store(result.is_err(), Ordering::Relaxed);
        result
    }

    fn take_up(&self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| Error::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::Pem)?;
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        *self.current.write() = Some(Arc::new(certified));
        Ok(())
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.current.read().is_some()
    }

    /// Whether the newest one couldn't be used.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().clone()
    }
}

/// TLS for callers that a tunnel brings of which it is known whose it is: no certificate is asked for.
pub(crate) fn within_a_tunnel(serving: Arc<Serving>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_fragment_size = Some(RECORD);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS for callers who must show a certificate of a tenant. HTTP/1.1 only: a tunnel and an upgrade take a connection each.
pub(crate) fn config(
    serving: Arc<dyn ResolvesServerCert>,
    gate: Arc<Gate>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(gate)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_fragment_size = Some(RECORD);
    // A resumed session would bring an identity that was verified earlier.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
    use std::io::Write;

    /// Of each byte of a log that goes through a tunnel the tunnel makes one, and no further records.
    #[test]
    fn a_record_fits_into_one_of_the_tunnel() {
        let serving = Arc::new(Serving::default());
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        serving.set(certificate.as_bytes(), key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(client), "a".try_into().unwrap()).unwrap();
        let server = Arc::new(within_a_tunnel(serving).unwrap());
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let (mut there, mut back) = (vec![], vec![]);
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            server.read_tls(&mut there.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            client.read_tls(&mut back.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        server.set_buffer_limit(None);
        server.writer().write_all(&[7; 100_000]).unwrap();
        let mut bytes = vec![];
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let (mut rest, mut sizes) = (bytes.as_slice(), vec![]);
        while let Some(head) = rest.first_chunk::<5>() {
            let size = 5 + usize::from(u16::from_be_bytes([head[3], head[4]]));
            sizes.push(size);
            rest = &rest[size..];
        }
        assert_eq!(sizes[0], 16 << 10, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 16 << 10), "{sizes:?}");
    }

    #[test]
    fn the_last_good_certificate_stays_and_the_refused_one_is_told_of() {
        let serving = Serving::default();
        assert!(!serving.is_refused());
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (good, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        serving.set(good.as_bytes(), key.as_bytes()).unwrap();
        serving.set(b"no certificate", key.as_bytes()).unwrap_err();
        assert!(serving.is_there() && serving.is_refused());
        serving.set(good.as_bytes(), key.as_bytes()).unwrap();
        assert!(!serving.is_refused());
    }
}
