//! Who calls: told by a client certificate, which the caller's tenant's own authority must have signed.
//!
//! The authority signs nothing but the certificates by which that tenant's API servers reach the proxy, and its key
//! never leaves the control plane's namespace. The issuer that a certificate names only says which authority to verify
//! it with; no name in it is trusted.

use crate::index::{Index, Tenant};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{fmt, sync::Arc};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Characters of a subject that are logged.
const SUBJECT_MAX: usize = 200;

/// The authority of one tenant.
pub(crate) struct Authority {
    subject: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The text isn't an authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not a certificate.
    #[error("its authority isn't the PEM of a certificate")]
    Pem,
    /// A certificate that can't sign for clients.
    #[error("its authority can't be used: {0}")]
    Verifier(String),
}

impl Authority {
    /// Reads PEM; only the first certificate counts.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Pem)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| Error::Pem)?;
        let subject = parsed.subject().as_raw().to_vec();
        let unusable = |error: &dyn fmt::Display| Error::Verifier(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| unusable(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Self { subject, verifier })
    }

    /// The name that certificates give as their issuer's.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }
}

/// Lets in who shows a certificate of a known tenant.
pub(crate) struct Gate {
    index: Arc<Index>,
}

impl Gate {
    pub(crate) fn new(index: Arc<Index>) -> Self {
        Self { index }
    }

    /// The tenant that a chain proves, as of now.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Tenant>, rustls::Error> {
        let (leaf, others) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let mut why = CertificateError::UnknownIssuer.into();
        for tenant in self.index.tenants_by_authority(parsed.issuer().as_raw()) {
            match tenant
                .authority
                .verifier
                .verify_client_cert(leaf, others, now)
            {
                Ok(_) => return Ok(tenant),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// Whom the first certificate of a chain names, for logs; an excerpt, if it is long.
pub(crate) fn subject(chain: &[CertificateDer<'_>]) -> String {
    let parsed = chain.first().map(|leaf| X509Certificate::from_der(leaf));
    let Some(Ok((_, leaf))) = parsed else {
        return String::new();
    };
    let subject = leaf.subject().to_string();
    subject.chars().take(SUBJECT_MAX).collect()
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl ClientCertVerifier for Gate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A list of them would tell who else is here.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let mut chain = vec![end_entity.clone()];
        chain.extend_from_slice(intermediates);
        self.identify(&chain, now)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The one provider that is compiled in.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

#[cfg(test)]
mod tests;
