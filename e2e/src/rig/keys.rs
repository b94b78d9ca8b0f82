//! The rig's own certificate authority.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
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
        self.sign(server_params(address)?)
    }

    /// A server on this machine whose certificate is good from a time on only, given as the time since 1970.
    pub fn server_from(&self, begin: Duration) -> anyhow::Result<Pair> {
        let mut params = server_params(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        params.not_before = date_time_ymd(1970, 1, 1) + begin;
        self.sign(params)
    }

    /// A server that clients ask for by a name.
    pub fn server_named(&self, name: &str) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client of a name, in a group.
    pub fn client(&self, name: &str, group: &str) -> anyhow::Result<Pair> {
        let mut params = holder(name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Whom a certificate is for: a name, in a group.
pub fn holder(name: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn server_params(address: IpAddr) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![
        SanType::IpAddress(address),
        SanType::DnsName("localhost".try_into()?),
    ];
    Ok(params)
}

/// Writes the keys that sign and prove the tokens of ServiceAccounts: `NAME.key` and `NAME.pub`.
pub fn service_account_keys(folder: &Path, name: &str) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    std::fs::write(folder.join(format!("{name}.pub")), key.public_key_pem())?;
    Ok(())
}
