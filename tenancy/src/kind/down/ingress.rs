//! Ingresses: hosts that the tenant may use, its own Services and Secrets, and no annotation that steers a controller.

use super::{Crossing, Down, list, plain, require_offered};
use crate::{
    hosts,
    kind::{
        Cx, Refused, Resource,
        pod::fields::{Fields, Rule},
    },
    left_out,
    object::Object,
    refs::Referent,
};
use serde_json::Value;

/// The kind.
pub(in crate::kind) const INGRESS: Down = Down {
    step,
    shortfall: |ingress, cx| left_out::of_steered("Ingress", ingress, &[], cx),
    ..plain(
        &Resource {
            group: "networking.k8s.io",
            version: "v1",
            kind: "Ingress",
            plural: "ingresses",
            namespaced: true,
        },
        &[
            ("defaultBackend", Rule::Object(BACKEND)),
            ("ingressClassName", Rule::Pass),
            (
                "rules",
                Rule::List(&[
                    ("host", Rule::Pass),
                    (
                        "http",
                        Rule::Object(&[(
                            "paths",
                            Rule::List(&[
                                ("backend", Rule::Object(BACKEND)),
                                ("path", Rule::Pass),
                                ("pathType", Rule::Pass),
                            ]),
                        )]),
                    ),
                ]),
            ),
            (
                "tls",
                Rule::List(&[
                    ("hosts", Rule::Pass),
                    ("secretName", Rule::Refers(Referent::Secret)),
                ]),
            ),
        ],
        &[(
            "loadBalancer",
            Rule::Object(&[(
                "ingress",
                Rule::List(&[
                    ("hostname", Rule::Pass),
                    ("ip", Rule::Pass),
                    (
                        "ports",
                        Rule::List(&[
                            ("error", Rule::Pass),
                            ("port", Rule::Pass),
                            ("protocol", Rule::Pass),
                        ]),
                    ),
                ]),
            )]),
        )],
    )
};

const BACKEND: Fields = &[
    (
        "resource",
        Rule::Refuse(
            "BackendRefused",
            "only Services are reached: name one in backend.service",
        ),
    ),
    (
        "service",
        Rule::Object(&[
            ("name", Rule::Pass),
            (
                "port",
                Rule::Object(&[("name", Rule::Pass), ("number", Rule::Pass)]),
            ),
        ]),
    ),
];

/// How a class was named before it had a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

fn step(spec: &mut Value, ingress: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    let class = spec
        .get("ingressClassName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if class.is_empty() && ingress.annotation(CLASS_ANNOTATION).is_some() {
        // It would get the default class instead, which may face the world.
        return Err(Refused::new(
            "IngressClassNotOffered",
            format!(
                "annotation {CLASS_ANNOTATION} chooses no class here: name it in spec.ingressClassName"
            ),
        ));
    }
    // Without a class every controller of the super cluster that takes such Ingresses would serve it.
    require_offered(
        "IngressClass",
        "spec.ingressClassName",
        class,
        "IngressClassNotOffered",
        cx,
    )?;
    let hosts = list(spec, "/rules").map(|rule| rule["host"].as_str().unwrap_or_default());
    let certified = list(spec, "/tls")
        .flat_map(|tls| list(tls, "/hosts").map(|host| host.as_str().unwrap_or_default()));
    for host in hosts.chain(certified) {
        check_host(host, cx)?;
    }
    if spec.get("defaultBackend").is_some() {
        check_host("", cx)?;
    }
    for path in list(spec, "/rules").flat_map(|rule| list(rule, "/http/paths")) {
        check_path(path["path"].as_str().unwrap_or_default())?;
    }
    Ok(Crossing::Now)
}

/// Refuses a path that is more than one: some controllers write it into their configuration as it stands (CVE-2021-25745,
/// CVE-2021-25748).
fn check_path(path: &str) -> Result<(), Refused> {
    // Of the characters of RFC 3986 those that end nothing and quote nothing there.
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || "/-._~%!$&()*+,=:@".contains(letter);
    match path.chars().find(|letter| !is_plain(*letter)) {
        Some(letter) => Err(Refused::new(
            "PathRefused",
            format!(
                "path {path:?} holds {letter:?}, which no path needs: write letters, digits and %-encoded ones"
            ),
        )),
        None => Ok(()),
    }
}

/// Refuses a host that the tenant may not use, or that another one had first; an empty one stands for all.
pub(super) fn check_host(host: &str, cx: &Cx<'_>) -> Result<(), Refused> {
    allow_host(host, cx)?;
    if cx.facts.is_host_taken(host) {
        let asked = asked(host);
        return Err(Refused::new(
            hosts::TAKEN,
            format!("{asked} overlaps with one that somebody else had first: choose another"),
        ));
    }
    Ok(())
}

/// Refuses a host that the tenant may not use, whoever had it first; an empty one stands for all.
pub(super) fn allow_host(host: &str, cx: &Cx<'_>) -> Result<(), Refused> {
    let offers = &cx.rules.offers;
    if offers.allows_any_host() || !host.is_empty() && offers.allows_host(host) {
        return Ok(());
    }
    let allowed = if offers.hosts.is_empty() {
        "no host is allowed to this tenant".to_owned()
    } else if !host.starts_with('*') {
        format!("allowed are {}", offers.hosts.join(", "))
    } else if offers.wildcards.is_empty() {
        format!(
            "name each host of {}, or ask the platform's admins for wildcards (wildcardHosts of your ControlPlaneClass)",
            offers.hosts.join(", ")
        )
    } else {
        format!("wildcards are allowed of {}", offers.wildcards.join(", "))
    };
    Err(Refused::new(
        "HostNotAllowed",
        format!("{} takes traffic of others: {allowed}", asked(host)),
    ))
}

fn asked(host: &str) -> String {
    if host.is_empty() {
        "a rule for all hosts".to_owned()
    } else {
        format!("host {host:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        Kind, TenantView,
        testing::{Answers, object, tenant},
        translate,
    };
    use expect_test::expect;
    use serde_json::json;

    fn ingress(spec: Value) -> Object {
        object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": spec,
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 3, "annotations": {
                "cert-manager.io/issuer": "evil", "kubernetes.io/ingress.class": "x", "mine": "1",
            }},
        }))
    }

    fn with<R>(rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let mut tenant = tenant();
        tenant.offers.hosts = vec!["*.acme.example".into()];
        let facts = Answers {
            offered: vec![("IngressClass", "public")],
            ..Answers::default()
        };
        rule(&Cx {
            rules: &tenant,
            facts: &facts,
        })
    }

    fn spec() -> Value {
        json!({
            "ingressClassName": "public",
            "rules": [{"host": "shop.acme.example", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}],
            "tls": [{"hosts": ["shop.acme.example"], "secretName": "shop-tls"}],
        })
    }

    /// T19: what a controller may take for its own configuration.
    #[test]
    fn t19_a_path_is_nothing_but_a_path() {
        for (path, is_plain) in [
            ("/", true),
            ("/api/v1/~user/a%20b", true),
            ("/shop(.*)", true),
            ("/;} location /x {", false),
            ("/a b", false),
            ("/a\n", false),
            ("/a\t", false),
            ("/{x", false),
            ("/x}", false),
            ("/\"x", false),
            ("/'x", false),
            ("/a\\b", false),
            ("/a#b", false),
            ("/(a|b)", false),
            ("/ä", false),
        ] {
            for kind in ["Prefix", "Exact", "ImplementationSpecific"] {
                let mut spec = spec();
                let at = spec.pointer_mut("/rules/0/http/paths/0").unwrap();
                at["path"] = path.into();
                at["pathType"] = kind.into();
                let twin = with(|cx| translate(&INGRESS, &ingress(spec), cx));
                let reason = twin.err().map(|refused| refused.reason);
                assert_eq!(
                    reason,
                    (!is_plain).then_some("PathRefused"),
                    "{path} {kind}"
                );
            }
        }
    }

    #[test]
    fn hosts_backends_and_secrets_cross_and_annotations_that_steer_do_not() {
        let twin = with(|cx| translate(&INGRESS, &ingress(spec()), cx))
            .unwrap()
            .unwrap();
        assert_eq!(twin.at("/spec"), Some(&spec()));
        assert_eq!(twin.annotation("mine"), Some("1"));
        assert!(!twin.value().to_string().contains("evil"));
        assert_eq!(twin.annotation("kubernetes.io/ingress.class"), None);
        let references = INGRESS.references(&ingress(spec()), &[]);
        assert_eq!(
            (references[0].kind, references[0].name.as_str()),
            ("Secret", "shop-tls")
        );
    }

    #[test]
    fn what_takes_traffic_of_others_is_refused() {
        let cases = [
            ("/rules/0/host", json!("victim.example"), "HostNotAllowed"),
            ("/rules/0/host", json!(""), "HostNotAllowed"),
            ("/rules/0/host", json!("*.example"), "HostNotAllowed"),
            // Below a pattern that other tenants may have as well.
            ("/rules/0/host", json!("*.acme.example"), "HostNotAllowed"),
            ("/tls/0/hosts/0", json!("*.acme.example"), "HostNotAllowed"),
            ("/tls/0/hosts/0", json!("victim.example"), "HostNotAllowed"),
            (
                "/ingressClassName",
                json!("internal"),
                "IngressClassNotOffered",
            ),
            ("/ingressClassName", Value::Null, "IngressClassNotOffered"),
            ("/ingressClassName", json!(""), "IngressClassNotOffered"),
            (
                "/rules/0/http/paths/0/backend",
                json!({"resource": {"kind": "Bucket", "name": "x"}}),
                "BackendRefused",
            ),
        ];
        for (pointer, value, reason) in cases {
            let mut spec = spec();
            *spec.pointer_mut(pointer).unwrap() = value;
            let refused = with(|cx| translate(&INGRESS, &ingress(spec), cx)).unwrap_err();
            assert_eq!(refused.reason, reason, "{pointer}");
        }
        let mut spec = spec();
        spec["defaultBackend"] = json!({"service": {"name": "web", "port": {"number": 80}}});
        let refused = with(|cx| translate(&INGRESS, &ingress(spec), cx)).unwrap_err();
        assert_eq!(refused.reason, "HostNotAllowed");
    }

    #[test]
    fn an_ingress_that_names_its_class_in_an_annotation_does_not_get_the_default_one() {
        let mut spec = spec();
        spec.as_object_mut().unwrap().remove("ingressClassName");
        let mut tenant = tenant();
        tenant.offers.hosts = vec!["*".into()];
        let facts = Answers {
            offers_all: true,
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let mut named = ingress(spec);
        let refused = translate(&INGRESS, &named, &cx).unwrap_err();
        assert_eq!(refused.reason, "IngressClassNotOffered");
        assert!(refused.message.contains("spec.ingressClassName"));
        named.value_mut()["metadata"]["annotations"] = json!({});
        assert!(translate(&INGRESS, &named, &cx).is_ok());
    }

    #[test]
    fn an_ingress_without_a_class_is_told_that_none_is_named() {
        let mut spec = spec();
        spec.as_object_mut().unwrap().remove("ingressClassName");
        let mut unclassed = ingress(spec);
        unclassed.value_mut()["metadata"]["annotations"] = json!({});
        let refused = with(|cx| translate(&INGRESS, &unclassed, cx)).unwrap_err();
        assert_eq!(
            refused.message,
            "spec.ingressClassName names no IngressClass, and none that the platform offers is the default: name one, \
             see which there are"
        );
    }

    #[test]
    fn a_host_that_another_tenant_had_first_is_refused() {
        let mut tenant = tenant();
        tenant.offers.hosts = vec!["*".into()];
        let facts = Answers {
            offers_all: true,
            taken: vec!["shop.acme.example"],
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let refused = translate(&INGRESS, &ingress(spec()), &cx).unwrap_err();
        assert_eq!(refused.reason, hosts::TAKEN);
        let mut other = spec();
        other["rules"][0]["host"] = "other.example".into();
        other["tls"] = json!([]);
        assert!(translate(&INGRESS, &ingress(other), &cx).is_ok());
    }

    #[test]
    fn the_address_comes_up() {
        let mut twin = with(|cx| translate(&INGRESS, &ingress(spec()), cx))
            .unwrap()
            .unwrap();
        twin.value_mut()["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]}});
        let writes = with(|cx| INGRESS.up(&twin, &TenantView::default(), cx));
        expect![[r#"
            - op: add
              path: /status
              value:
                loadBalancer:
                  ingress:
                  - ip: "192.0.2.1"
                    ports:
                    - port: 80
                      protocol: TCP
        "#]]
        .assert_eq(&serde_saphyr::to_string(&writes[0].body).unwrap());
        assert_eq!(writes.len(), 1);
    }
}
