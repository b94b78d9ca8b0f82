//! Certificates in Secrets: whose they are and until when they are good.

use api::keys;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt;
use tenancy::kubeconfig::{Access, Credentials};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// `NAMESPACE/NAME` of its Secret.
    pub(crate) secret: String,
    /// What is known of it; `None` when it can't be read.
    pub(crate) life: Option<Life>,
    /// Whether Sublet makes it anew.
    pub(crate) is_renewed: bool,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Whose it is.
    pub(crate) holder: String,
    /// Whether it signs others.
    pub(crate) is_authority: bool,
    /// When it begins.
    pub(crate) begins: Timestamp,
    /// When it ends.
    pub(crate) expires: Timestamp,
}

impl Certificate {
    /// The certificate in a Secret: its own, or that of the user of a kubeconfig. `None` when it holds none.
    pub(crate) fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| {
            let bytes = data.get(key)?;
            Some(String::from_utf8_lossy(&bytes.0).into_owned())
        };
        let kubeconfig = || text("value").or_else(|| text("kubeconfig"));
        let pem = match text("tls.crt") {
            // Cluster API puts the public half of a key pair there, too.
            Some(pem) if pem.contains("PUBLIC KEY") => return None,
            Some(pem) => Some(pem),
            None => match Access::parse(&kubeconfig()?).map(|access| access.credentials) {
                Ok(Credentials::Certificate { certificate, .. }) => Some(certificate),
                Ok(Credentials::Token(_)) => return None,
                Err(_) => None,
            },
        };
        Some(Self::holding(secret, pem.as_deref().and_then(Life::of)))
    }

    fn holding(secret: &Secret, life: Option<Life>) -> Self {
        let namespace = secret.namespace().unwrap_or_default();
        Self {
            secret: format!("{namespace}/{}", secret.name_any()),
            life,
            is_renewed: secret.annotations().contains_key(keys::EXPIRES),
        }
    }

    /// Whether nobody takes it yet: it was made by a clock that was ahead, or this one is behind.
    pub(crate) fn is_early(&self, now: Timestamp) -> bool {
        self.life.as_ref().is_some_and(|life| life.begins > now)
    }

    /// Whether nobody takes it any more.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.life.as_ref().is_none_or(|life| life.expires <= now)
    }
}

impl Life {
    /// Of the first certificate of a PEM.
    fn of(pem: &str) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
        let parsed = pem.parse_x509().ok()?;
        let holder = parsed.subject().iter_common_name().next();
        let holder = holder.and_then(|name| name.as_str().ok());
        let validity = parsed.validity();
        Some(Self {
            holder: holder.unwrap_or_default().to_owned(),
            is_authority: parsed.is_ca(),
            begins: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            expires: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// Whole days that are left; negative when it is over.
    pub(crate) fn days_left(&self, now: Timestamp) -> i64 {
        (self.expires.as_second() - now.as_second()).div_euclid(DAY)
    }

    /// Whether it waits for something: Sublet makes one anew when a third of its life is left, and at most 30 days.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        let third = (self.expires.as_second() - self.begins.as_second()) / 3;
        self.expires.as_second() - now.as_second() < third.min(30 * DAY) - DAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};
    use k8s_openapi::ByteString;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
    use serde_json::{Value, json};

    /// PEM of a certificate that ends with 2030.
    fn pem(holder: &str, is_ca: IsCa) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, holder);
        params.is_ca = is_ca;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2031, 1, 1);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    }

    fn secret(name: &str, key: &str, text: &str) -> Secret {
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "annotations": {keys::EXPIRES: "2031-01-01T00:00:00Z"}},
        }))
        .unwrap();
        let text = ByteString(text.as_bytes().to_vec());
        secret.data = Some([(key.to_owned(), text)].into());
        secret
    }

    #[test]
    fn certificates_are_found_in_files_and_in_kubeconfigs() {
        let leaf = pem("kube-apiserver", IsCa::ExplicitNoCa);
        let found = Certificate::of(&secret("apiserver", "tls.crt", &leaf)).unwrap();
        let life = found.life.clone().unwrap();
        assert_eq!(
            (found.secret.as_str(), life.holder.as_str()),
            ("n/apiserver", "kube-apiserver")
        );
        assert!(found.is_renewed && !life.is_authority);
        assert_eq!(life.expires.to_string(), "2031-01-01T00:00:00Z");
        let kubeconfig = |user: Value| {
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "clusters": [{"name": "a", "cluster": {
                    "server": "https://a", "certificate-authority-data": BASE64_STANDARD.encode(&leaf),
                }}],
                "users": [{"name": "a", "user": user}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            });
            Certificate::of(&secret("a-kubeconfig", "value", &config.to_string()))
        };
        let encoded = BASE64_STANDARD.encode(&leaf);
        let user =
            kubeconfig(json!({"client-certificate-data": encoded, "client-key-data": "S0VZ"}));
        assert_eq!(user.unwrap().life, Some(life));
        assert_eq!(kubeconfig(json!({"token": "t"})), None);
        let root = pem("ca", IsCa::Ca(BasicConstraints::Unconstrained));
        let root = Certificate::of(&secret("ca", "tls.crt", &root)).unwrap();
        assert!(root.life.unwrap().is_authority);
        let public = KeyPair::generate().unwrap().public_key_pem();
        assert_eq!(Certificate::of(&secret("a-sa", "tls.crt", &public)), None);
        assert_eq!(Certificate::of(&secret("x", "sa.pub", &public)), None);
    }

    #[test]
    fn one_is_late_a_day_after_it_was_to_be_made_anew() {
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        let life = |begins: &str| Life {
            holder: "a".into(),
            is_authority: false,
            begins: at(begins),
            expires: at("2026-03-31T00:00:00Z"),
        };
        // Of 90 days, of 15, and of ten years.
        for (begins, good, late) in [
            (
                "2025-12-31T00:00:00Z",
                "2026-03-02T00:00:00Z",
                "2026-03-02T00:00:01Z",
            ),
            (
                "2026-03-16T00:00:00Z",
                "2026-03-27T00:00:00Z",
                "2026-03-27T00:00:01Z",
            ),
            (
                "2016-03-31T00:00:00Z",
                "2026-03-02T00:00:00Z",
                "2026-03-02T00:00:01Z",
            ),
        ] {
            let life = life(begins);
            assert!(!life.is_late(at(good)), "{begins}");
            assert!(life.is_late(at(late)), "{begins}");
        }
    }

    #[test]
    fn what_is_over_or_cannot_be_read_is_told_from_what_is_good() {
        let leaf = pem("a", IsCa::ExplicitNoCa);
        let good = Certificate::of(&secret("a", "tls.crt", &leaf)).unwrap();
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        assert!(!good.is_over(at("2030-12-31T23:59:59Z")));
        assert!(good.is_over(at("2031-01-01T00:00:00Z")));
        let life = good.life.unwrap();
        assert_eq!(life.days_left(at("2030-12-30T12:00:00Z")), 1);
        assert_eq!(life.days_left(at("2031-01-01T00:00:01Z")), -1);
        let damaged = Certificate::of(&secret("a", "tls.crt", "?")).unwrap();
        assert!(damaged.is_over(at("2026-01-01T00:00:00Z")));
    }
}
