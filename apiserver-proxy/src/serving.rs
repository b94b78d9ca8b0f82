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
    // A resumed session would bring an identity that was verified earlier.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

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
