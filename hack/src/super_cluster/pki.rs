//! Keys, certificates and kubeconfigs of the super cluster: made anew at each start, never kept.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::layout::{self, HOST_ADDRESS, KUBERNETES_SERVICE, Node};
use super::metrics_server;
use crate::paths;

/// A certificate authority that signs leaves.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who a certificate speaks for.
struct Subject<'a> {
    name: &'a str,
    organization: Option<&'a str>,
    addresses: Vec<String>,
    usages: &'a [ExtendedKeyUsagePurpose],
}

const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];
const SERVER: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ServerAuth];
const PEER: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

/// Writes everything that signs, proves or verifies something.
pub(crate) fn make(nodes: &[Node]) -> Result<()> {
    fs::create_dir_all(layout::pki(""))?;
    fs::set_permissions(layout::pki(""), fs::Permissions::from_mode(0o700))?;
    let cluster = Authority::make("ca", "sublet-super-ca")?;
    let front_proxy = Authority::make("front-proxy-ca", "sublet-super-front-proxy-ca")?;
    let etcd = Authority::make("etcd-ca", "sublet-super-etcd-ca")?;

    etcd.server(
        "etcd",
        "etcd",
        PEER,
        vec!["127.0.0.1".into(), "localhost".into()],
    )?;
    etcd.client("etcd-client", "kube-apiserver", None)?;
    front_proxy.client("front-proxy-client", "front-proxy-client", None)?;
    cluster.server(
        "apiserver",
        "kube-apiserver",
        SERVER,
        api_server_addresses(),
    )?;
    cluster.server(
        metrics_server::NAME,
        metrics_server::NAME,
        SERVER,
        metrics_server::server_names(),
    )?;
    cluster.client(
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    )?;
    for node in nodes {
        let file = format!("{}-kubelet", node.name());
        cluster.server(
            &file,
            &node.name(),
            SERVER,
            vec![node.name(), node.address()],
        )?;
        let user = format!("system:node:{}", node.name());
        cluster.kubeconfig(&node.name(), &user, Some("system:nodes"))?;
    }
    cluster.kubeconfig(
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    )?;
    cluster.kubeconfig("kube-scheduler", "system:kube-scheduler", None)?;
    cluster.kubeconfig("kube-proxy", "system:kube-proxy", None)?;
    cluster.kubeconfig("admin", "super-admin", Some("system:masters"))?;

    let service_account = KeyPair::generate()?;
    write("sa.key", &service_account.serialize_pem())?;
    write("sa.pub", &service_account.public_key_pem())?;
    hand_out_kubeconfig()
}

/// Copies the admin kubeconfig to where people and tests look for it.
pub(crate) fn hand_out_kubeconfig() -> Result<()> {
    let place = paths::kubeconfig();
    fs::create_dir_all(paths::handout())?;
    let draft = place.with_extension("draft");
    fs::copy(layout::pki("admin.kubeconfig"), &draft)
        .context("cannot copy the admin kubeconfig")?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
    fs::rename(&draft, &place).with_context(|| format!("cannot write {}", place.display()))
}

fn api_server_addresses() -> Vec<String> {
    let first = Node { number: 1 };
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        KUBERNETES_SERVICE,
        HOST_ADDRESS,
    ];
    names
        .map(str::to_owned)
        .into_iter()
        .chain([first.address(), first.name()])
        .collect()
}

impl Authority {
    fn make(file: &str, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        write(&format!("{file}.crt"), &certificate)?;
        write(&format!("{file}.key"), &key.serialize_pem())?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    fn server(
        &self,
        file: &str,
        name: &str,
        usages: &[ExtendedKeyUsagePurpose],
        addresses: Vec<String>,
    ) -> Result<()> {
        let subject = Subject {
            name,
            organization: None,
            addresses,
            usages,
        };
        self.write_leaf(file, &subject).map(drop)
    }

    fn client(
        &self,
        file: &str,
        name: &str,
        organization: Option<&str>,
    ) -> Result<(String, String)> {
        let subject = Subject {
            name,
            organization,
            addresses: Vec::new(),
            usages: CLIENT,
        };
        self.write_leaf(file, &subject)
    }

    fn write_leaf(&self, file: &str, subject: &Subject<'_>) -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(subject.name, subject.organization);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = subject.usages.to_vec();
        for address in &subject.addresses {
            params
                .subject_alt_names
                .push(match address.parse::<IpAddr>() {
                    Ok(ip) => SanType::IpAddress(ip),
                    Err(_) => SanType::DnsName(address.as_str().try_into()?),
                });
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        write(&format!("{file}.crt"), &certificate)?;
        write(&format!("{file}.key"), &key)?;
        Ok((certificate, key))
    }

    fn kubeconfig(&self, file: &str, user: &str, organization: Option<&str>) -> Result<()> {
        let (certificate, key) = self.client(file, user, organization)?;
        let encode = |text: &str| BASE64.encode(text.as_bytes());
        // JSON is YAML, so this is a kubeconfig like any other.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sublet-super", "cluster": {
                "server": layout::api_url(),
                "certificate-authority-data": encode(&self.certificate),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": encode(&certificate),
                "client-key-data": encode(&key),
            }}],
            "contexts": [{"name": "sublet-super", "context": {"cluster": "sublet-super", "user": user}}],
            "current-context": "sublet-super",
        });
        write(
            &format!("{file}.kubeconfig"),
            &serde_json::to_string_pretty(&config)?,
        )
    }
}

fn distinguished_name(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    if let Some(organization) = organization {
        distinguished.push(DnType::OrganizationName, organization);
    }
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = layout::pki(file);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
