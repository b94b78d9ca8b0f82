//! The rig's own certificate authority.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Signs the certificates of API servers and proxies.
pub struct Authority {
    /// PEM of its certificate.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn make() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "sublet-rig");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// PEM of its key.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server on this machine.
    pub fn server(&self) -> anyhow::Result<Pair> {
        self.server_at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// A server on this machine that others reach by an address.
    pub fn server_at(&self, address: IpAddr) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![
            SanType::IpAddress(address),
            SanType::DnsName("localhost".try_into()?),
        ];
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Writes the keys that sign and prove the tokens of ServiceAccounts: `sa.key` and `sa.pub`.
pub fn service_account_keys(folder: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    std::fs::write(folder.join("sa.key"), key.serialize_pem())?;
    std::fs::write(folder.join("sa.pub"), key.public_key_pem())?;
    Ok(())
}
