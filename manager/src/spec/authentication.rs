//! Whom a tenant's API servers believe: their `AuthenticationConfiguration`; pure.
//!
//! Anonymous requests reach the health paths only. Issuers are those that the VirtualControlPlane names, with two things that
//! it has no say in: all that is asked of an issuer goes by the way out, and nobody whom an issuer vouches for has no name, or
//! a name or a group of Kubernetes' or Sublet's own.
//!
//! Whether an expression compiles only an API server knows, and one that is given a wrong one doesn't start. So the
//! configuration is part of the pods' template: those that run keep theirs, also when they are started again, until one with
//! another answers.

use crate::{
    object::Object,
    provision::{
        apiserver::{self, AUTHENTICATION},
        pod::Source,
    },
    spec::control_plane::Refusal,
};
use api::{Issuer, JwtAuthenticator, keys};
use serde_json::{Value, json};
use x509_parser::pem::Pem;

/// The most bytes of it that a pod bears: all its annotations have room for twice as much.
const LARGEST: usize = 128 << 10;
/// The egress selection by which an issuer is asked; it leads to the way out, as all do.
const SELECTION: &str = "controlplane";

/// What holds of every user of an issuer: an expression, and what is logged where it doesn't hold.
const RULES: [(&str, &str); 3] = [
    ("user.username != ''", "a user without a name is nobody"),
    (
        "!user.username.startsWith('system:') && !user.username.startsWith('sublet:')",
        "names that begin with system: or sublet: are no issuer's to give",
    ),
    (
        "user.groups.all(group, !group.startsWith('system:') && !group.startsWith('sublet:'))",
        "groups that begin with system: or sublet: are no issuer's to give",
    ),
];

/// The configuration with these issuers.
pub(crate) fn configuration(issuers: &[JwtAuthenticator]) -> Value {
    let mut configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}, {"path": "/readyz"}, {"path": "/healthz"}]},
    });
    if !issuers.is_empty() {
        configuration["jwt"] = issuers.iter().map(authenticator).collect();
    }
    configuration
}

fn authenticator(asked: &JwtAuthenticator) -> Value {
    let mut authenticator = json!(asked);
    authenticator["issuer"]["egressSelectorType"] = json!(SELECTION);
    // An API server takes no expression twice.
    let theirs = asked.user_validation_rules.iter();
    let theirs = theirs.filter(|rule| RULES.iter().all(|(ours, _)| rule.expression != *ours));
    let ours =
        RULES.map(|(expression, message)| json!({"expression": expression, "message": message}));
    authenticator["userValidationRules"] = ours
        .into_iter()
        .chain(theirs.map(|rule| json!(rule)))
        .collect();
    authenticator
}

/// What API servers get where there are issuers, as text. Where what is asked for can't be used, they get what `main`, their
/// Deployment, has. `own` is the issuer of the tenant's ServiceAccounts.
pub(crate) fn settle(
    issuers: &[JwtAuthenticator],
    own: &str,
    main: Option<&Object>,
) -> (Option<String>, Option<Refusal>) {
    if issuers.is_empty() {
        return (None, None);
    }
    let text = configuration(issuers).to_string();
    match check(issuers, own, &text) {
        Ok(()) => (Some(text), None),
        Err(refusal) => (main.and_then(as_it_is), Some(refusal)),
    }
}

/// What a Deployment of API servers has now.
fn as_it_is(main: &Object) -> Option<String> {
    let annotations = &main.body["spec"]["template"]["metadata"]["annotations"];
    annotations[keys::AUTHENTICATION]
        .as_str()
        .map(str::to_owned)
}

fn check(issuers: &[JwtAuthenticator], own: &str, text: &str) -> Result<(), Refusal> {
    let refused = |field: String, why: String| Refusal::AuthenticationRefused { field, why };
    for (at, asked) in issuers.iter().enumerate() {
        if asked.issuer.url == own {
            let why = "is the issuer of the tenant's own ServiceAccounts, whose tokens are taken without: leave this entry out";
            return Err(refused(format!("jwt[{at}].issuer.url"), why.to_owned()));
        }
        authorities(&asked.issuer)
            .map_err(|why| refused(format!("jwt[{at}].issuer.certificateAuthority"), why))?;
    }
    if text.len() > LARGEST {
        let why = format!(
            "takes {} bytes, and there is room for {LARGEST}: leave out what isn't needed, certificates above all",
            text.len()
        );
        return Err(refused("jwt".into(), why));
    }
    Ok(())
}

/// Whether the authorities of an issuer can be read. What else stands in PEM is passed over, as an API server does.
fn authorities(issuer: &Issuer) -> Result<(), String> {
    let Some(text) = &issuer.certificate_authority else {
        return Ok(());
    };
    let mut found = 0;
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| format!("isn't PEM ({error}): write whole certificates"))?;
        if pem.label == "CERTIFICATE" {
            found += 1;
            pem.parse_x509()
                .map_err(|error| format!("has a certificate that can't be read ({error})"))?;
        }
    }
    match found {
        0 => Err("has no certificate: write one in PEM, or leave it out".into()),
        _ => Ok(()),
    }
}

/// The template of pods that have this configuration.
pub(crate) fn annotated(configuration: Option<&str>, mut template: Value) -> Value {
    if let Some(configuration) = configuration {
        template["metadata"]["annotations"][keys::AUTHENTICATION] = json!(configuration);
    }
    template
}

/// The file of it in such a pod.
pub(crate) fn source(configuration: Option<&str>) -> Source {
    match configuration {
        None => Source::ConfigMap(apiserver::NAME, AUTHENTICATION, AUTHENTICATION),
        Some(_) => Source::Annotation(keys::AUTHENTICATION, AUTHENTICATION),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::object::DEPLOYMENT;
    use api::{
        AudienceMatchPolicy, ClaimMappings, ClaimOrExpression, ClaimValidationRule, ExtraMapping,
        PrefixedClaimOrExpression, UserValidationRule,
    };
    use expect_test::expect;
    use std::slice::from_ref;

    /// The issuer of the tenant's ServiceAccounts.
    const OWN: &str = "https://id.kubernetes.default.svc.cluster.local";

    /// An issuer of which as little is said as may be.
    pub(crate) fn issuer(url: &str) -> JwtAuthenticator {
        JwtAuthenticator {
            issuer: Issuer {
                url: url.into(),
                audiences: vec!["kubernetes".into()],
                ..Issuer::default()
            },
            claim_mappings: ClaimMappings {
                username: PrefixedClaimOrExpression {
                    claim: Some("sub".into()),
                    prefix: Some("oidc:".into()),
                    expression: None,
                },
                ..ClaimMappings::default()
            },
            ..JwtAuthenticator::default()
        }
    }

    /// One of which all is said that can be.
    fn whole() -> JwtAuthenticator {
        let text = |text: &str| Some(text.to_owned());
        JwtAuthenticator {
            issuer: Issuer {
                url: "https://login.example.com/realm".into(),
                discovery_url: text("https://login.example.net/.well-known/openid-configuration"),
                certificate_authority: Some(certificate()),
                audiences: vec!["a".into(), "b".into()],
                audience_match_policy: Some(AudienceMatchPolicy::MatchAny),
            },
            claim_validation_rules: vec![
                ClaimValidationRule {
                    claim: text("hd"),
                    required_value: text("example.com"),
                    ..ClaimValidationRule::default()
                },
                ClaimValidationRule {
                    expression: text("claims.exp - claims.nbf <= 86400"),
                    message: text("a day at most"),
                    ..ClaimValidationRule::default()
                },
            ],
            claim_mappings: ClaimMappings {
                username: PrefixedClaimOrExpression {
                    expression: text("'oidc:' + claims.sub"),
                    ..PrefixedClaimOrExpression::default()
                },
                groups: Some(PrefixedClaimOrExpression {
                    claim: text("groups"),
                    prefix: text(""),
                    expression: None,
                }),
                uid: Some(ClaimOrExpression {
                    claim: text("sub"),
                    expression: None,
                }),
                extra: vec![ExtraMapping {
                    key: "example.com/tenant".into(),
                    value_expression: "claims.tenant".into(),
                }],
            },
            user_validation_rules: vec![
                UserValidationRule {
                    expression: "user.username != 'oidc:root'".into(),
                    message: None,
                },
                // As Sublet's own.
                UserValidationRule {
                    expression: RULES[2].0.into(),
                    message: text("in other words"),
                },
            ],
        }
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["login.example.com".to_owned()]);
        params.unwrap().self_signed(&key).unwrap().pem()
    }

    fn shown(configuration: &Value) -> String {
        serde_json::to_string_pretty(configuration).unwrap()
    }

    #[test]
    fn without_issuers_those_alone_are_believed_whom_the_tenant_itself_vouches_for() {
        expect![[r#"
            {
              "anonymous": {
                "conditions": [
                  {
                    "path": "/livez"
                  },
                  {
                    "path": "/readyz"
                  },
                  {
                    "path": "/healthz"
                  }
                ],
                "enabled": true
              },
              "apiVersion": "apiserver.config.k8s.io/v1",
              "kind": "AuthenticationConfiguration"
            }"#]]
        .assert_eq(&shown(&configuration(&[])));
        assert_eq!(settle(&[], OWN, None), (None, None));
    }

    #[test]
    fn t28_t34_an_issuer_is_asked_by_the_way_out_and_gives_no_name_of_kubernetes_or_sublets_own() {
        let made = configuration(&[issuer("https://login.example.com")]);
        expect![[r#"
            [
              {
                "claimMappings": {
                  "username": {
                    "claim": "sub",
                    "prefix": "oidc:"
                  }
                },
                "issuer": {
                  "audiences": [
                    "kubernetes"
                  ],
                  "egressSelectorType": "controlplane",
                  "url": "https://login.example.com"
                },
                "userValidationRules": [
                  {
                    "expression": "user.username != ''",
                    "message": "a user without a name is nobody"
                  },
                  {
                    "expression": "!user.username.startsWith('system:') && !user.username.startsWith('sublet:')",
                    "message": "names that begin with system: or sublet: are no issuer's to give"
                  },
                  {
                    "expression": "user.groups.all(group, !group.startsWith('system:') && !group.startsWith('sublet:'))",
                    "message": "groups that begin with system: or sublet: are no issuer's to give"
                  }
                ]
              }
            ]"#]]
        .assert_eq(&shown(&made["jwt"]));
        assert_eq!(made["anonymous"], configuration(&[])["anonymous"]);
    }

    /// All that Kubernetes knows reaches the API server under the name that it has there.
    #[test]
    fn all_that_is_said_of_an_issuer_arrives_and_no_rule_stands_there_twice() {
        let mut made = configuration(&[whole()])["jwt"][0].clone();
        let authority = made["issuer"]["certificateAuthority"].take();
        let authority = authority.as_str().unwrap();
        assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"));
        let rules = made["userValidationRules"].take();
        let rules = rules.as_array().unwrap().iter();
        let rules: Vec<&str> = rules
            .map(|rule| rule["expression"].as_str().unwrap())
            .collect();
        assert_eq!(
            rules,
            [
                RULES[0].0,
                RULES[1].0,
                RULES[2].0,
                "user.username != 'oidc:root'"
            ]
        );
        assert_eq!(
            made,
            json!({
                "issuer": {
                    "url": "https://login.example.com/realm",
                    "discoveryURL": "https://login.example.net/.well-known/openid-configuration",
                    "certificateAuthority": null,
                    "audiences": ["a", "b"],
                    "audienceMatchPolicy": "MatchAny",
                    "egressSelectorType": "controlplane",
                },
                "claimValidationRules": [
                    {"claim": "hd", "requiredValue": "example.com"},
                    {"expression": "claims.exp - claims.nbf <= 86400", "message": "a day at most"},
                ],
                "claimMappings": {
                    "username": {"expression": "'oidc:' + claims.sub"},
                    "groups": {"claim": "groups", "prefix": ""},
                    "uid": {"claim": "sub"},
                    "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
                },
                "userValidationRules": null,
            })
        );
    }

    #[test]
    fn what_no_api_server_can_read_is_refused_and_those_that_run_keep_what_they_have() {
        let body = json!({"spec": {"template": {"metadata": {"annotations": {keys::AUTHENTICATION: "before"}}}}});
        let main = Object::new(DEPLOYMENT, Some("n"), apiserver::NAME, body);
        let good = whole();
        let (text, refusal) = settle(from_ref(&good), OWN, Some(&main));
        assert_eq!(refusal, None);
        assert_eq!(text, Some(configuration(from_ref(&good)).to_string()));
        let pem = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        for (authority, words) in [
            (
                "-----BEGIN CERTIFICATE-----\n".to_owned(),
                "jwt[1].issuer.certificateAuthority isn't PEM",
            ),
            (
                certificate() + &pem("CERTIFICATE", "AAAA"),
                "a certificate that can't be read",
            ),
            (pem("PUBLIC KEY", "AAAA"), "has no certificate"),
        ] {
            let mut wrong = good.clone();
            wrong.issuer.certificate_authority = Some(authority);
            let (text, refusal) = settle(&[good.clone(), wrong.clone()], OWN, Some(&main));
            assert_eq!(text.as_deref(), Some("before"));
            let said = refusal.unwrap().to_string();
            assert!(said.contains(words), "{said}");
            assert_eq!(
                settle(&[wrong], OWN, None).0,
                None,
                "at first there is none"
            );
        }
        let (text, refusal) = settle(&[good.clone(), issuer(OWN)], OWN, Some(&main));
        assert_eq!(text.as_deref(), Some("before"));
        let said = refusal.unwrap().to_string();
        assert!(
            said.contains("jwt[1].issuer.url is the issuer of"),
            "{said}"
        );
        let mut large = good;
        // Characters are counted by the definition, and take up to four bytes.
        let rule = |rule: u8| UserValidationRule {
            expression: format!("'{rule}' != '{}'", "\u{10000}".repeat(1000)),
            message: None,
        };
        large.user_validation_rules = (0..16).map(rule).collect();
        let all = [large.clone(), large.clone(), large];
        let (text, refusal) = settle(&all, OWN, Some(&main));
        assert_eq!(text.as_deref(), Some("before"));
        let said = refusal.unwrap().to_string();
        assert!(said.contains("there is room for 131072"), "{said}");
    }
}
