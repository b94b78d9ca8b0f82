//! Keys and certificates: what a Secret must hold, when it is due, and the making of it.
//!
//! Authorities, the ServiceAccount key pair and the encryption key are made once and never overwritten. Leaf
//! certificates live [`LEAF_DAYS`], or shortly ([`SHORT_DAYS`]), and are made anew after two thirds of that, when their names
//! change, when their authority does, when somebody damaged them, or when an admin asks for it. All keys that are made here
//! are ECDSA P-256; authorities that a person brought ([`brought()`]) may have others. Randomness is used in [`issue`] alone;
//! when to issue is decided purely.

mod brought;
mod whole;

pub(crate) use brought::{Unusable, brought, end_of};

use crate::{
    clients::kubeconfig,
    object::{Object, SECRET},
};
use api::keys;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rand::TryRngCore;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};
use tenancy::naming;
use zeroize::Zeroizing;

/// Life of a leaf certificate.
pub(crate) const LEAF_DAYS: u64 = 90;
/// Life of one whose holder takes up the next by itself: it is good for some days more when it is made anew, so that it outlasts
/// a manager that doesn't run, or a pause.
pub(crate) const SHORT_DAYS: u64 = 14;
/// Life of an authority.
const AUTHORITY_DAYS: u64 = 3650;
/// When authorities begin: the first day of 2020. They are made once, and a root that hasn't begun is no good to most verifiers,
/// so the clock of their maker must not count; nothing depends on the day.
const AUTHORITY_BEGINS: Timestamp = Timestamp::constant(1_577_836_800, 0);
const DAY: u64 = 24 * 60 * 60;
/// Certificates begin this much in the past: clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Type of Secrets that only Sublet and their readers know the meaning of.
pub(crate) const OPAQUE: &str = "Opaque";

/// One of a tenant's certificate authorities; each signs for its own purpose alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Servers and clients of the Kubernetes API.
    Cluster,
    /// etcd, its peers and its clients.
    Etcd,
    /// The API server towards aggregated API servers.
    FrontProxy,
    /// The API server towards Sublet's proxy; it signs for nobody else, so what it signed proves the tenant.
    ProxyClient,
    /// Sublet's proxy towards all tenants' API servers. The only one that isn't a tenant's: it lies in Sublet's own
    /// namespace.
    ProxyServer,
    /// The addresses of virtual nodes, towards all tenants' API servers. Its key is the proxy's to use; it lies in
    /// Sublet's own namespace, too, and may sign for no other address and no name.
    ProxyNodes,
}

impl Authority {
    /// All of a tenant.
    pub(crate) const ALL: [Self; 4] = [
        Self::Cluster,
        Self::Etcd,
        Self::FrontProxy,
        Self::ProxyClient,
    ];

    /// Name of its Secret.
    pub(crate) fn secret(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
            Self::ProxyClient => "proxy-client-ca",
            Self::ProxyServer => keys::PROXY_AUTHORITY,
            Self::ProxyNodes => keys::PROXY_NODES,
        }
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
    /// Both: etcd members are clients of each other and of themselves.
    Both,
}

/// In which form a certificate and its key stand in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `tls.crt`, `tls.key`.
    Files,
    /// A kubeconfig.
    Kubeconfig {
        /// Key in the Secret.
        key: &'static str,
        /// URL of the API server.
        server: String,
        /// The name that the server's certificate is checked for, when it isn't the URL's host.
        tls_server_name: Option<String>,
        /// Name of context and cluster.
        context: String,
    },
}

/// A certificate for one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Who signs it.
    pub(crate) authority: Authority,
    /// Name of the holder.
    pub(crate) common_name: String,
    /// Group of the holder.
    pub(crate) organization: Option<&'static str>,
    /// What for.
    pub(crate) usage: Usage,
    /// DNS names and IP addresses of the holder.
    pub(crate) names: Vec<String>,
    /// How it is written.
    pub(crate) form: Form,
    /// Days of its life.
    pub(crate) days: u64,
}

/// What a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    /// Certificate and key of an authority.
    Authority(Authority),
    /// `sa.key`, `sa.pub`.
    ServiceAccountKeys,
    /// The API server's EncryptionConfiguration.
    EncryptionKey,
    /// A leaf certificate.
    Leaf(Leaf),
}

/// A Secret to be made.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Its coordinates, labels and annotations.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its labels, annotations and owner references.
    pub(crate) metadata: Value,
    /// What goes in.
    pub(crate) material: Material,
    /// Type of the Secret.
    pub(crate) secret_type: &'static str,
    /// Identity of the tenant: names its authorities.
    pub(crate) identity: String,
}

/// Keys or certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The crypto library refused.
    #[error("{0}")]
    Crypto(#[from] rcgen::Error),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] rand::rand_core::OsError),
    /// A Secret lacks a key or holds something else under it.
    #[error(
        "Secret {secret} has no usable {key}: restore it, or delete the Secret and all certificates are made anew"
    )]
    Damaged {
        /// Name of the Secret.
        secret: String,
        /// Key in it.
        key: &'static str,
    },
    /// A kubeconfig could not be written.
    #[error("{0}")]
    Kubeconfig(#[from] kubeconfig::Error),
}

/// Whether the order must be carried out, given what its Secret and its authority's Secret hold.
///
/// Authorities stand before their leaves in every list of orders.
pub(crate) fn is_due(
    order: &Order,
    existing: Option<&Object>,
    authority: Option<&Object>,
    now: Timestamp,
) -> bool {
    match (&order.material, existing, authority) {
        (Material::Leaf(leaf), Some(existing), Some(authority)) => {
            existing.annotation(keys::APPLIED) != Some(&fingerprint(order, leaf, authority))
                || is_old(leaf, existing, now)
                || !whole::is_whole(order, leaf, existing, authority)
        }
        (Material::Leaf(_), ..) => true,
        (_, existing, _) => existing.is_none(),
    }
}

/// Whether a leaf has lived two thirds of its life, or won't begin to be good for a while: it was made by a clock that was
/// ahead. One without a date counts as old.
fn is_old(leaf: &Leaf, existing: &Object, now: Timestamp) -> bool {
    let expires = existing
        .annotation(keys::EXPIRES)
        .and_then(|text| text.parse::<Timestamp>().ok());
    // Counted from now: who may write the Secret may write the first date of all, before which there is none.
    let third = jiff::SignedDuration::from_secs((leaf.days * DAY / 3) as i64);
    let most = third * 3 + jiff::SignedDuration::from_secs(BACKDATE.as_secs() as i64);
    expires.is_none_or(|expires| {
        let left = expires.duration_since(now);
        left <= third || left > most
    })
}

/// Makes what the order asks for. The key material leaves this function inside the Secret only.
pub(crate) fn issue(
    order: &Order,
    authority: Option<&Object>,
    now: Timestamp,
) -> Result<Object, Error> {
    let mut metadata = order.metadata.clone();
    let data = match &order.material {
        Material::Authority(authority) => make_authority(*authority, &order.identity, now)?,
        Material::ServiceAccountKeys => {
            let key = KeyPair::generate()?;
            BTreeMap::from([
                ("sa.key", key.serialize_pem()),
                ("sa.pub", key.public_key_pem()),
            ])
        }
        Material::EncryptionKey => BTreeMap::from([("encryption.json", make_encryption_config()?)]),
        Material::Leaf(leaf) => {
            let damaged = || Error::Damaged {
                secret: leaf.authority.secret().into(),
                key: "tls.key",
            };
            let authority = authority.ok_or_else(damaged)?;
            metadata["annotations"][keys::APPLIED] = json!(fingerprint(order, leaf, authority));
            // It is made anew by this, whenever its authority ends: another leaf of the same one would live no longer.
            let expires = after(now, leaf.days);
            metadata["annotations"][keys::EXPIRES] = json!(expires.to_string());
            make_leaf(leaf, authority, now)?
        }
    };
    let data: Map<String, Value> = data
        .into_iter()
        .map(|(key, text)| {
            let text = Zeroizing::new(text);
            (
                key.to_owned(),
                json!(BASE64_STANDARD.encode(text.as_bytes())),
            )
        })
        .collect();
    let body = json!({"metadata": metadata, "type": order.secret_type, "data": data});
    Ok(Object::new(
        SECRET,
        Some(&order.namespace),
        &order.name,
        body,
    ))
}

/// The text under `key` of a Secret of Sublet's own, which must be there.
pub(crate) fn text(secret: &Object, key: &'static str) -> Result<String, Error> {
    text_of(secret, key).ok_or_else(|| Error::Damaged {
        secret: secret.name().into(),
        key,
    })
}

/// The text under `key` of a Secret, if there is any.
pub(crate) fn text_of(secret: &Object, key: &str) -> Option<String> {
    let encoded = secret.body["data"][key].as_str()?;
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
}

fn make_authority(
    authority: Authority,
    identity: &str,
    now: Timestamp,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let mut params = authority_params(authority, identity);
    set_life(&mut params, [AUTHORITY_BEGINS, after(now, AUTHORITY_DAYS)]);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(BTreeMap::from([
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ]))
}

fn authority_params(authority: Authority, identity: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("{}.{identity}", authority.secret()),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    if authority == Authority::ProxyNodes {
        let (network, prefix) = naming::NODE_NETWORK;
        let network = CidrSubnet::from_addr_prefix(network.into(), prefix);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::IpAddress(network),
                // Without this all names would be permitted.
                GeneralSubtree::DnsName("nodes.sublet.invalid".into()),
            ],
            excluded_subtrees: vec![],
        });
    }
    params
}

fn make_leaf(
    leaf: &Leaf,
    authority: &Object,
    now: Timestamp,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let mut params = CertificateParams::new(leaf.names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.common_name.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match leaf.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    params.use_authority_key_identifier_extension = true;

    let ca = text(authority, "tls.crt")?;
    let end = after(now, leaf.days);
    // None outlives its authority.
    let end = end_of(&ca).map_or(end, |authoritys| authoritys.min(end));
    set_life(&mut params, [now, end]);
    let signer = Zeroizing::new(text(authority, "tls.key")?);
    let signer = KeyPair::from_pem(&signer)?;
    // By its certificate, since a person may have brought it under another name.
    let issuer = Issuer::from_ca_cert_pem(&ca, signer)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(match &leaf.form {
        Form::Files => BTreeMap::from([("tls.crt", certificate), ("tls.key", key.serialize_pem())]),
        Form::Kubeconfig {
            key: field,
            server,
            tls_server_name,
            context,
        } => {
            let credentials = kubeconfig::Credentials::Certificate {
                certificate,
                key: key.serialize_pem(),
            };
            let access = kubeconfig::Access {
                server: server.clone(),
                ca,
                tls_server_name: tls_server_name.clone(),
                namespace: None,
                credentials,
            };
            BTreeMap::from([(*field, access.to_yaml(context, &leaf.common_name)?)])
        }
    })
}

fn make_encryption_config() -> Result<String, Error> {
    let mut key = Zeroizing::new([0u8; 32]);
    rand::rngs::OsRng.try_fill_bytes(&mut *key)?;
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{"secretbox": {"keys": [{"name": "key1", "secret": BASE64_STANDARD.encode(key.as_slice())}]}}],
        }],
    });
    Ok(config.to_string())
}

/// What a leaf was made from: all that it says, the marks of its Secret, and its authority's certificate.
fn fingerprint(order: &Order, leaf: &Leaf, authority: &Object) -> String {
    let ca = authority.body["data"]["tls.crt"]
        .as_str()
        .unwrap_or_default();
    let parts = [
        // The usual life was the only one once, and no leaf is made anew for saying so.
        format!("{leaf:?}").replace(&format!(", days: {LEAF_DAYS} }}"), " }"),
        order.metadata.to_string(),
        ca.to_owned(),
    ];
    tenancy::naming::hash(&parts.each_ref().map(String::as_bytes))
}

fn after(now: Timestamp, days: u64) -> Timestamp {
    now + jiff::SignedDuration::from_secs((days * DAY) as i64)
}

/// Sets begin and end of a certificate.
fn set_life(params: &mut CertificateParams, life: [Timestamp; 2]) {
    // The crypto library's time type is reached through its own constructor; all dates here lie after 1970.
    let [begin, end] = life.map(|time| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    });
    params.not_before = begin - BACKDATE;
    params.not_after = end;
}

#[cfg(test)]
mod tests;
