//! Certificates for the addresses of virtual nodes, made when one is dialled.
//!
//! A tenant's API server checks a node's certificate for the address that the Node shows. There are as many addresses as
//! nodes, and they come and go, so none is known beforehand. The authority that signs here may sign for nothing but the
//! network of those addresses, which no other part of a cluster uses.

use crate::{
    identity::{Gate, provider},
    serving,
};
use parking_lot::RwLock;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    net::Ipv6Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Life of a certificate; a connection checks it once, at its begin.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates begin this much in the past: clocks differ.
const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// Signs for the addresses of virtual nodes, once its authority is known.
#[derive(Default)]
pub(crate) struct Signer {
    issuer: RwLock<Option<Arc<Issuer<'static, KeyPair>>>>,
    refused: AtomicBool,
}

/// The authority can't be used, or signs nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A parser's message could quote a key.
    #[error("the authority of nodes, or its key, can't be read")]
    Unreadable,
    /// Not seen yet.
    #[error("the authority of nodes isn't there yet: the manager makes it")]
    Missing,
    /// The crypto library refused.
    #[error("no certificate can be made: {0}")]
    Crypto(#[from] rcgen::Error),
    /// It can't be served.
    #[error("the certificate can't be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Signer {
    /// Signs with this authority from now on; one that can't be used leaves the last good one.
    pub(crate) fn set(&self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let result = self.take_up(certificate, key);
        self.refused.store(result.is_err(), Ordering::Relaxed);
        result
    }

    fn take_up(&self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let der = CertificateDer::from_pem_slice(certificate).map_err(|_| Error::Unreadable)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| Error::Unreadable)?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok());
        let key = std::str::from_utf8(key).map_err(|_| Error::Unreadable)?;
        let key = KeyPair::from_pem(key).map_err(|_| Error::Unreadable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = name.ok_or(Error::Unreadable)?;
        params.distinguished_name.push(DnType::CommonName, name);
        *self.issuer.write() = Some(Arc::new(Issuer::new(params, key)));
        Ok(())
    }

    /// Whether there is an authority.
    pub(crate) fn is_there(&self) -> bool {
        self.issuer.read().is_some()
    }

    /// Whether the newest one couldn't be used.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// TLS for a caller who dialled this address and must show a certificate of a tenant; `now` in seconds since 1970.
    pub(crate) fn config(
        &self,
        address: Ipv6Addr,
        gate: Arc<Gate>,
        now: u64,
    ) -> Result<ServerConfig, Error> {
        let certified = Arc::new(self.certify(address, now)?);
        Ok(serving::config(Arc::new(One(certified)), gate)?)
    }

    fn certify(&self, address: Ipv6Addr, now: u64) -> Result<CertifiedKey, Error> {
        let issuer = self.issuer.read().clone().ok_or(Error::Missing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, api::keys::PROXY);
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let begin = date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
        params.not_before = begin - BACKDATE;
        params.not_after = begin + LIFE;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer.as_ref())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(CertifiedKey::from_der(
            vec![certificate.der().clone()],
            key,
            &provider(),
        )?)
    }
}

/// Always the same certificate.
struct One(Arc<CertifiedKey>);

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("One")
    }
}

impl ResolvesServerCert for One {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CidrSubnet, GeneralSubtree, NameConstraints};
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };
    use std::net::IpAddr;

    /// T33: what it signs is good for the address that was dialled and for no other, and for no name.
    #[test]
    fn t33_a_certificate_is_for_one_address() {
        let node = tenancy::naming::node_address("n1");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "nodes");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let (network, prefix) = tenancy::naming::NODE_NETWORK;
        let subnet = CidrSubnet::from_addr_prefix(IpAddr::V6(network), prefix);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::IpAddress(subnet)],
            excluded_subtrees: vec![],
        });
        let authority = params.self_signed(&key).unwrap();
        let signer = Signer::default();
        assert!(matches!(signer.certify(node, 0), Err(Error::Missing)));
        signer
            .set(authority.pem().as_bytes(), key.serialize_pem().as_bytes())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .unwrap();
        let now = 1_800_000_000;
        let good_at = |of: Ipv6Addr, name: ServerName<'_>, then: u64| {
            let certified = signer.certify(of, now).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(then));
            let checked = verifier.verify_server_cert(&certified.cert[0], &[], &name, &[], now);
            checked.is_ok()
        };
        let good = |of, name: ServerName<'_>| good_at(of, name, now);
        let at = |address: Ipv6Addr| ServerName::from(IpAddr::V6(address));
        assert!(good(node, at(node)));
        assert!(!good(node, at(tenancy::naming::node_address("n2"))));
        assert!(!good(
            node,
            ServerName::try_from("n1.nodes.sublet.internal").unwrap()
        ));
        // Outside of the network its signature is worth nothing.
        let elsewhere: Ipv6Addr = "fd00::1".parse().unwrap();
        assert!(!good(elsewhere, at(elsewhere)));
        // The API server's clock may be behind.
        assert!(good_at(node, at(node), now - 59 * 60));
        assert!(!good_at(node, at(node), now - 61 * 60));
    }
}
