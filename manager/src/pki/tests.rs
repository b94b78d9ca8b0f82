use super::*;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};
use std::sync::Arc;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

const NOW: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn order(material: Material) -> Order {
    Order {
        namespace: "n".into(),
        name: "s".into(),
        metadata: json!({"labels": {"a": "b"}}),
        material,
        secret_type: OPAQUE,
        identity: "acme".into(),
    }
}

fn leaf(form: Form) -> Leaf {
    Leaf {
        authority: Authority::Cluster,
        common_name: "kube-apiserver".into(),
        organization: Some("sublet:admins"),
        usage: Usage::Server,
        names: vec!["kubernetes".into(), "10.96.4.1".into()],
        form,
        days: LEAF_DAYS,
    }
}

/// PEM of a leaf that this authority signed.
pub(super) fn signed_by(authority: &Object) -> String {
    let order = order(Material::Leaf(leaf(Form::Files)));
    text(&issue(&order, Some(authority), now()).unwrap(), "tls.crt").unwrap()
}

pub(super) fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    BASE64_STANDARD.decode(lines).unwrap()
}

#[test]
fn a_leaf_has_its_names_its_life_and_its_authoritys_signature() {
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let made = issue(&order(Material::Leaf(leaf(Form::Files))), Some(&ca), now()).unwrap();
    let (ca, made) = (
        der(&text(&ca, "tls.crt").unwrap()),
        der(&text(&made, "tls.crt").unwrap()),
    );
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let (_, made) = X509Certificate::from_der(&made).unwrap();

    assert!(ca.is_ca() && !made.is_ca());
    assert_eq!(made.issuer(), ca.subject());
    assert_eq!(
        made.subject().to_string(),
        "O=sublet:admins, CN=kube-apiserver"
    );
    let names = &made
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names,
        &[
            GeneralName::DNSName("kubernetes"),
            GeneralName::IPAddress(&[10, 96, 4, 1])
        ]
    );
    let usage = made.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    let days = (made.validity().not_after.timestamp() - now().as_second()) / DAY as i64;
    assert_eq!(days, LEAF_DAYS as i64);
    assert!(made.validity().not_before.timestamp() < now().as_second());
}

#[test]
fn t35_a_client_of_one_tenants_etcd_is_nobody_at_anothers() {
    let authority = |identity: &str| {
        let order = Order {
            identity: identity.into(),
            ..order(Material::Authority(Authority::Etcd))
        };
        issue(&order, None, now()).unwrap()
    };
    let (own, other) = (authority("acme"), authority("globex"));
    let client = Leaf {
        authority: Authority::Etcd,
        usage: Usage::Client,
        names: vec![],
        ..leaf(Form::Files)
    };
    let client = issue(&order(Material::Leaf(client)), Some(&own), now()).unwrap();
    let certificate =
        |secret: &Object| CertificateDer::from(der(&text(secret, "tls.crt").unwrap()));
    let is_let_in = |authority: &Object| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(authority)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let time = u64::try_from(now().as_second()).unwrap();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
        let verifier = verifier.build().unwrap();
        verifier
            .verify_client_cert(&certificate(&client), &[], time)
            .is_ok()
    };
    assert!(is_let_in(&own));
    assert!(!is_let_in(&other));
}

#[test]
fn a_leaf_does_not_outlive_its_authority_and_is_made_anew_no_more_often_for_it() {
    let order = order(Material::Leaf(leaf(Form::Files)));
    let days = |days: u64| jiff::SignedDuration::from_secs((days * DAY) as i64);
    let made = now() - days(AUTHORITY_DAYS - 30);
    let ca = authority_made_at(made);
    let leaf = issue(&order, Some(&ca), now()).unwrap();
    let end = end_of(&text(&leaf, "tls.crt").unwrap());
    assert_eq!(end, end_of(&text(&ca, "tls.crt").unwrap()));
    assert_eq!(end, Some(now() + days(30)));
    assert!(!is_due(&order, Some(&leaf), Some(&ca), now()));
}

/// The authority of the API, made then.
fn authority_made_at(time: Timestamp) -> Object {
    issue(&order(Material::Authority(Authority::Cluster)), None, time).unwrap()
}

#[test]
fn a_date_that_nobody_can_reckon_with_ends_nothing() {
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let order = order(Material::Leaf(leaf(Form::Files)));
    let mut made = issue(&order, Some(&ca), now()).unwrap();
    for (date, is_old) in [
        (Timestamp::MIN.to_string(), true),
        ("soon".to_owned(), true),
        // No clock that was right wrote that.
        (Timestamp::MAX.to_string(), true),
    ] {
        made.body["metadata"]["annotations"][keys::EXPIRES] = json!(date);
        assert_eq!(
            is_due(&order, Some(&made), Some(&ca), now()),
            is_old,
            "{date}"
        );
    }
}

/// F18: nobody would take it until the time has come that its maker's clock showed.
#[test]
fn f18_a_certificate_of_a_clock_that_was_ahead_is_made_anew_when_it_is_put_right() {
    let hour = jiff::SignedDuration::from_hours(1);
    let second = jiff::SignedDuration::from_secs(1);
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let order = order(Material::Leaf(leaf(Form::Files)));
    let is_due = |made: Timestamp| {
        let made = issue(&order, Some(&ca), made).unwrap();
        is_due(&order, Some(&made), Some(&ca), now())
    };
    assert!(!is_due(now() + hour), "it has just begun");
    assert!(is_due(now() + hour + second));
    assert!(is_due(now() + hour * 24 * 365));
}

/// F18: authorities are never made anew, and most verifiers look at when a root begins.
#[test]
fn f18_an_authority_of_a_clock_that_was_ahead_is_good_at_once_and_for_ten_years() {
    for authority in [Authority::Cluster, Authority::ProxyNodes] {
        let ahead = now() + jiff::SignedDuration::from_hours(24 * 365);
        let made = issue(&order(Material::Authority(authority)), None, ahead).unwrap();
        let made = der(&text(&made, "tls.crt").unwrap());
        let (_, made) = X509Certificate::from_der(&made).unwrap();
        let life = made.validity();
        assert!(life.not_before.timestamp() < now().as_second(), "{life:?}");
        let days = (life.not_after.timestamp() - ahead.as_second()) / DAY as i64;
        assert_eq!(days, AUTHORITY_DAYS as i64);
    }
}

/// F18: two hosts whose clocks are off by ten minutes take turns, on the day on which the certificate is due.
#[test]
fn f18_clocks_that_are_off_make_a_certificate_anew_once() {
    let off = jiff::SignedDuration::from_mins(10);
    let two_thirds = jiff::SignedDuration::from_secs((LEAF_DAYS * DAY / 3 * 2) as i64);
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let order = order(Material::Leaf(leaf(Form::Files)));
    let mut made = issue(&order, Some(&ca), now()).unwrap();
    let mut times = 0;
    for round in 0..60 {
        let time = now() + two_thirds - off + jiff::SignedDuration::from_mins(round);
        for clock in [time - off, time, time + off] {
            if is_due(&order, Some(&made), Some(&ca), clock) {
                made = issue(&order, Some(&ca), clock).unwrap();
                times += 1;
            }
        }
    }
    assert_eq!(times, 1);
    // Made by a clock that is ahead, it is good at once for those that are behind, and kept.
    let ahead = issue(&order, Some(&ca), now() + off).unwrap();
    let pem = text(&ahead, "tls.crt").unwrap();
    let certificate = der(&pem);
    let (_, certificate) = X509Certificate::from_der(&certificate).unwrap();
    assert!(certificate.validity().not_before.timestamp() <= (now() - off).as_second());
    assert!(!is_due(&order, Some(&ahead), Some(&ca), now()));
    assert!(!is_due(&order, Some(&ahead), Some(&ca), now() - off));
}

#[test]
fn authorities_are_made_once_and_leaves_when_due() {
    let authority = order(Material::Authority(Authority::Cluster));
    assert!(is_due(&authority, None, None, now()));
    let ca = issue(&authority, None, now()).unwrap();
    assert!(!is_due(&authority, Some(&ca), None, now()));

    let wanted = order(Material::Leaf(leaf(Form::Files)));
    assert!(
        is_due(&wanted, None, None, now()),
        "its authority is made just before"
    );
    assert!(is_due(&wanted, None, Some(&ca), now()));
    let made = issue(&wanted, Some(&ca), now()).unwrap();
    let after = |days: i64| now() + jiff::SignedDuration::from_secs(days * DAY as i64);
    assert!(!is_due(&wanted, Some(&made), Some(&ca), now()));
    assert!(!is_due(&wanted, Some(&made), Some(&ca), after(59)));
    assert!(
        is_due(&wanted, Some(&made), Some(&ca), after(60)),
        "two thirds of its life"
    );

    let other = issue(&authority, None, now()).unwrap();
    assert!(
        is_due(&wanted, Some(&made), Some(&other), now()),
        "another authority"
    );
    let moved = Order {
        metadata: json!({"labels": {"a": "c"}}),
        ..wanted
    };
    assert!(is_due(&moved, Some(&made), Some(&ca), now()), "other marks");
    let renamed = order(Material::Leaf(Leaf {
        names: vec!["other".into()],
        ..leaf(Form::Files)
    }));
    assert!(
        is_due(&renamed, Some(&made), Some(&ca), now()),
        "other names"
    );
}

#[test]
fn a_short_life_is_a_life_of_its_own() {
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let usual = order(Material::Leaf(leaf(Form::Files)));
    let short = order(Material::Leaf(Leaf {
        days: SHORT_DAYS,
        ..leaf(Form::Files)
    }));
    let after = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    let made = issue(&short, Some(&ca), now()).unwrap();
    let certificate = der(&text(&made, "tls.crt").unwrap());
    let (_, certificate) = X509Certificate::from_der(&certificate).unwrap();
    let life = certificate.validity().not_after.timestamp() - now().as_second();
    assert_eq!(life, (SHORT_DAYS * DAY) as i64);
    let third = (SHORT_DAYS * 24 / 3) as i64;
    assert!(!is_due(
        &short,
        Some(&made),
        Some(&ca),
        after(2 * third - 1)
    ));
    assert!(is_due(&short, Some(&made), Some(&ca), after(2 * third + 1)));
    // One that was made with the usual life is due at once.
    let long = issue(&usual, Some(&ca), now()).unwrap();
    assert!(is_due(&short, Some(&long), Some(&ca), now()));
}

/// All that runs would be rolled for nothing.
#[test]
fn the_usual_life_changes_no_fingerprint() {
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let leaf = leaf(Form::Files);
    let before = "Leaf { authority: Cluster, common_name: \"kube-apiserver\", organization: Some(\"sublet:admins\"), \
                  usage: Server, names: [\"kubernetes\", \"10.96.4.1\"], form: Files }";
    let order = order(Material::Leaf(leaf.clone()));
    let parts = [
        before.to_owned(),
        order.metadata.to_string(),
        ca.text("/data/tls.crt").to_owned(),
    ];
    assert_eq!(
        fingerprint(&order, &leaf, &ca),
        tenancy::naming::hash(&parts.each_ref().map(String::as_bytes))
    );
}

#[test]
fn a_kubeconfig_is_a_leaf_in_another_form() {
    let ca = issue(&order(Material::Authority(Authority::Cluster)), None, now()).unwrap();
    let form = Form::Kubeconfig {
        key: "value",
        tls_server_name: None,
        server: "https://host:30000".into(),
        context: "acme".into(),
    };
    let made = issue(&order(Material::Leaf(leaf(form))), Some(&ca), now()).unwrap();
    let access = kubeconfig::Access::parse(&text(&made, "value").unwrap()).unwrap();
    assert_eq!(access.server, "https://host:30000");
    assert_eq!(access.ca, text(&ca, "tls.crt").unwrap());
}

#[test]
fn a_damaged_authority_is_named() {
    let ca = Object::new(SECRET, Some("n"), "ca", json!({"data": {"tls.crt": "!"}}));
    let error = issue(&order(Material::Leaf(leaf(Form::Files))), Some(&ca), now()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Secret ca has no usable tls.crt"),
        "{error}"
    );
}
