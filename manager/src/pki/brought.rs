//! Authorities and keys that a person put down for a tenant before Sublet made any: used, not replaced.

use super::{Material, text_of};
use crate::object::Object;
use jiff::Timestamp;
use rcgen::KeyPair;
use std::collections::BTreeMap;
use x509_parser::pem::parse_x509_pem;

/// What a person brought can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// A key of the Secret isn't there, or is no text.
    #[error("there is no text under {0}")]
    Missing(&'static str),
    /// No PEM of a private key.
    #[error("tls.key isn't the PEM of a private key that is supported: RSA or ECDSA")]
    Key,
    /// No PEM of a certificate.
    #[error("tls.crt isn't the PEM of a certificate")]
    Certificate,
    /// The certificate may not sign others.
    #[error("the certificate in tls.crt isn't an authority's (CA:TRUE)")]
    NotAnAuthority,
    /// Its key may be used for other things only.
    #[error("the certificate in tls.crt may not sign others (no keyCertSign)")]
    MayNotSign,
    /// Certificate and key don't belong together.
    #[error("tls.key isn't the key of the certificate in tls.crt")]
    NotAPair,
    /// Nobody trusts the certificate any more, nor what it signs.
    #[error("the certificate in tls.crt has expired")]
    Expired,
}

/// The data of the Secret of `material` in the control plane's namespace, from `tls.crt` and `tls.key` of the Secret that
/// a person brought; for ServiceAccount keys `tls.crt` is the public key, as Cluster API has it.
pub(crate) fn brought(
    material: &Material,
    secret: &Object,
    now: Timestamp,
) -> Result<BTreeMap<&'static str, String>, Unusable> {
    let read = |key: &'static str| text_of(secret, key).ok_or(Unusable::Missing(key));
    let (certificate, key) = (read("tls.crt")?, read("tls.key")?);
    let pair = KeyPair::from_pem(&key).map_err(|_| Unusable::Key)?;
    if *material == Material::ServiceAccountKeys {
        // Whatever stands in tls.crt, tokens must verify with this.
        let public = pair.public_key_pem();
        return Ok(BTreeMap::from([("sa.key", key), ("sa.pub", public)]));
    }
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).map_err(|_| Unusable::Certificate)?;
    let parsed = pem.parse_x509().map_err(|_| Unusable::Certificate)?;
    if !parsed.is_ca() {
        return Err(Unusable::NotAnAuthority);
    }
    let usage = parsed.key_usage().map_err(|_| Unusable::Certificate)?;
    // Without a word about it, it may.
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(Unusable::MayNotSign);
    }
    if parsed.validity().not_after.timestamp() <= now.as_second() {
        return Err(Unusable::Expired);
    }
    let public = &parsed.public_key().subject_public_key.data;
    if public.as_ref() != pair.public_key_raw() {
        return Err(Unusable::NotAPair);
    }
    Ok(BTreeMap::from([("tls.crt", certificate), ("tls.key", key)]))
}

/// Until when a certificate is good, by its PEM.
pub(crate) fn end_of(certificate: &str) -> Option<Timestamp> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::SECRET,
        pki::{Authority, tests::der},
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, date_time_ymd,
    };
    use serde_json::json;
    use x509_parser::prelude::{FromDer, X509Certificate};

    const CA: Material = Material::Authority(Authority::Cluster);

    /// Certificate and key, made with other tools than Sublet's own, and not for it.
    pub(super) fn theirs(is_ca: IsCa) -> (String, String) {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        params
            .distinguished_name
            .push(DnType::CommonName, "Example Root");
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// One that lets its key be used for this, until then.
    fn limited(usage: KeyUsagePurpose, year: i32) -> (String, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![usage];
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    fn authority() -> (String, String) {
        theirs(IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn secret(certificate: &str, key: &str) -> Object {
        let data = json!({
            "tls.crt": BASE64_STANDARD.encode(certificate), "tls.key": BASE64_STANDARD.encode(key),
        });
        Object::new(SECRET, Some("n"), "blue-ca", json!({"data": data}))
    }

    #[test]
    fn an_authority_that_a_person_brought_signs_under_its_own_name() {
        let (certificate, key) = authority();
        let data = brought(&CA, &secret(&certificate, &key), now()).unwrap();
        assert_eq!((&data["tls.crt"], &data["tls.key"]), (&certificate, &key));

        let signed = crate::pki::tests::signed_by(&secret(&certificate, &key));
        let (ca, signed) = (der(&certificate), der(&signed));
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        let (_, signed) = X509Certificate::from_der(&signed).unwrap();
        assert_eq!(signed.issuer(), ca.subject());
        assert!(signed.verify_signature(Some(ca.public_key())).is_ok());
    }

    #[test]
    fn what_can_not_be_used_is_told() {
        let ((certificate, key), (_, other)) = (authority(), authority());
        let (leaf, leafs_key) = theirs(IsCa::NoCa);
        let (crls, crls_key) = limited(KeyUsagePurpose::CrlSign, 2030);
        let (old, olds_key) = limited(KeyUsagePurpose::KeyCertSign, 2026);
        for (secret, why) in [
            (secret(&certificate, &other), Unusable::NotAPair),
            (secret(&leaf, &leafs_key), Unusable::NotAnAuthority),
            (secret(&crls, &crls_key), Unusable::MayNotSign),
            (secret(&old, &olds_key), Unusable::Expired),
            (secret("mine", &key), Unusable::Certificate),
            (secret(&certificate, "mine"), Unusable::Key),
            (
                Object::new(SECRET, Some("n"), "blue-ca", json!({"data": {}})),
                Unusable::Missing("tls.crt"),
            ),
        ] {
            assert_eq!(brought(&CA, &secret, now()), Err(why));
        }
    }

    #[test]
    fn keys_of_service_accounts_are_a_pair_whatever_the_public_half_says() {
        let (certificate, key) = authority();
        let data = brought(
            &Material::ServiceAccountKeys,
            &secret(&certificate, &key),
            now(),
        )
        .unwrap();
        assert_eq!(data["sa.key"], key);
        assert!(data["sa.pub"].contains("PUBLIC KEY"));
    }
}
