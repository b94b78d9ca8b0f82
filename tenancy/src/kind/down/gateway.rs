//! Gateways and routes of the Gateway API: hosts that the tenant may use, its own Services and Secrets.
//!
//! A tenant's Gateway is of a class that it is offered; its routes hang on its own Gateways. What hangs on or leads to an
//! object of another kind is refused: whose it would be in the super cluster can't be told. A route that leads into another
//! namespace of its tenant needs a ReferenceGrant there, as on any cluster.

pub(in crate::kind) mod grant;
pub(in crate::kind) mod transport;

use super::{
    Crossing, Down, LABEL_SELECTOR,
    ingress::{allow_host, check_host},
    list, list_mut, plain,
};
use crate::{
    hosts,
    kind::{
        Cx, Refused, Resource,
        pod::fields::{Fields, Rule},
    },
    left_out, meta,
    object::Object,
    refs::Referent,
};
use api::keys;
use serde_json::{Value, json};

const fn resource(version: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    Resource {
        group: "gateway.networking.k8s.io",
        version,
        kind,
        plural,
        namespaced: true,
    }
}

static GATEWAY_RESOURCE: Resource = resource("v1", "Gateway", "gateways");
static HTTP_RESOURCE: Resource = resource("v1", "HTTPRoute", "httproutes");
static GRPC_RESOURCE: Resource = resource("v1", "GRPCRoute", "grpcroutes");

/// Gateway.
pub(in crate::kind) const GATEWAY: Down = Down {
    step: gateway,
    shortfall: |gateway, cx| left_out::of_steered("Gateway", gateway, &[], cx),
    is_optional: true,
    ..plain(
        &GATEWAY_RESOURCE,
        &[
            (
                "addresses",
                Rule::Refuse(
                    "AddressRefused",
                    "addresses are given, not chosen: leave them out",
                ),
            ),
            ("gatewayClassName", Rule::Pass),
            (
                "infrastructure",
                Rule::Refuse(
                    "InfrastructureRefused",
                    "it is the platform's: leave it out",
                ),
            ),
            (
                "listeners",
                Rule::List(&[
                    (
                        "allowedRoutes",
                        Rule::Object(&[
                            (
                                "kinds",
                                Rule::List(&[("group", Rule::Pass), ("kind", Rule::Pass)]),
                            ),
                            (
                                "namespaces",
                                Rule::Object(&[
                                    ("from", Rule::Pass),
                                    ("selector", Rule::Object(LABEL_SELECTOR)),
                                ]),
                            ),
                        ]),
                    ),
                    ("hostname", Rule::Pass),
                    ("name", Rule::Pass),
                    ("port", Rule::Pass),
                    ("protocol", Rule::Pass),
                    (
                        "tls",
                        Rule::Object(&[
                            ("certificateRefs", Rule::List(SECRET)),
                            ("mode", Rule::Pass),
                        ]),
                    ),
                ]),
            ),
        ],
        &[
            ("addresses", Rule::Pass),
            ("conditions", Rule::Pass),
            ("listeners", Rule::Pass),
        ],
    )
};

/// HTTPRoute.
pub(in crate::kind) const HTTP_ROUTE: Down = Down {
    shortfall: |route, cx| left_out::of_steered("HTTPRoute", route, &[], cx),
    ..route(
        &HTTP_RESOURCE,
        &[
            ("hostnames", Rule::Pass),
            ("parentRefs", Rule::List(PARENT)),
            (
                "rules",
                Rule::List(&[
                    ("backendRefs", Rule::List(HTTP_BACKEND)),
                    ("filters", Rule::List(HTTP_FILTER)),
                    (
                        "matches",
                        Rule::List(&[
                            ("headers", Rule::List(MATCH)),
                            ("method", Rule::Pass),
                            (
                                "path",
                                Rule::Object(&[("type", Rule::Pass), ("value", Rule::Pass)]),
                            ),
                            ("queryParams", Rule::List(MATCH)),
                        ]),
                    ),
                    ("name", Rule::Pass),
                    (
                        "timeouts",
                        Rule::Object(&[("backendRequest", Rule::Pass), ("request", Rule::Pass)]),
                    ),
                ]),
            ),
        ],
    )
};

/// GRPCRoute.
pub(in crate::kind) const GRPC_ROUTE: Down = Down {
    shortfall: |route, cx| left_out::of_steered("GRPCRoute", route, &[], cx),
    ..route(
        &GRPC_RESOURCE,
        &[
            ("hostnames", Rule::Pass),
            ("parentRefs", Rule::List(PARENT)),
            (
                "rules",
                Rule::List(&[
                    ("backendRefs", Rule::List(GRPC_BACKEND)),
                    ("filters", Rule::List(GRPC_FILTER)),
                    (
                        "matches",
                        Rule::List(&[
                            ("headers", Rule::List(MATCH)),
                            (
                                "method",
                                Rule::Object(&[
                                    ("method", Rule::Pass),
                                    ("service", Rule::Pass),
                                    ("type", Rule::Pass),
                                ]),
                            ),
                        ]),
                    ),
                    ("name", Rule::Pass),
                ]),
            ),
        ],
    )
};

const fn route(resource: &'static Resource, spec: Fields) -> Down {
    Down {
        step: hosts_and_namespaces,
        upward: parents,
        is_optional: true,
        ..plain(resource, spec, &[("parents", Rule::Pass)])
    }
}

const ELSEWHERE: Rule = Rule::Refuse(
    "CrossNamespaceReference",
    "it must be in the namespace of what refers to it: leave the namespace out",
);

const SECRET: Fields = &[
    (
        "group",
        Rule::Only(&[""], "ReferenceRefused", "certificates are in Secrets"),
    ),
    (
        "kind",
        Rule::Only(
            &["Secret"],
            "ReferenceRefused",
            "certificates are in Secrets",
        ),
    ),
    ("name", Rule::Refers(Referent::Secret)),
    ("namespace", ELSEWHERE),
];

const PARENT: Fields = &[
    (
        "group",
        Rule::Only(
            &["gateway.networking.k8s.io"],
            "ParentRefused",
            "routes hang on Gateways",
        ),
    ),
    (
        "kind",
        Rule::Only(&["Gateway"], "ParentRefused", "routes hang on Gateways"),
    ),
    ("name", Rule::Pass),
    ("namespace", Rule::Pass),
    ("port", Rule::Pass),
    ("sectionName", Rule::Pass),
];

const MATCH: Fields = &[
    ("name", Rule::Pass),
    ("type", Rule::Pass),
    ("value", Rule::Pass),
];

const SERVICE_ONLY: &str = "traffic goes to Services";
/// What a backend's group and kind may be.
const SERVICE_GROUP: Rule = Rule::Only(&[""], "BackendRefused", SERVICE_ONLY);
const SERVICE_KIND: Rule = Rule::Only(&["Service"], "BackendRefused", SERVICE_ONLY);

const HTTP_BACKEND: Fields = &[
    ("filters", Rule::List(HTTP_FILTER)),
    ("group", SERVICE_GROUP),
    ("kind", SERVICE_KIND),
    ("name", Rule::Pass),
    ("namespace", Rule::Pass),
    ("port", Rule::Pass),
    ("weight", Rule::Pass),
];

const GRPC_BACKEND: Fields = &[
    ("filters", Rule::List(GRPC_FILTER)),
    ("group", SERVICE_GROUP),
    ("kind", SERVICE_KIND),
    ("name", Rule::Pass),
    ("namespace", Rule::Pass),
    ("port", Rule::Pass),
    ("weight", Rule::Pass),
];

const EXTENSION: Rule = Rule::Refuse(
    "FilterRefused",
    "filters of a controller's own can't be judged: leave it out",
);

const HEADERS: Rule = Rule::Object(&[
    ("add", Rule::List(HEADER)),
    ("remove", Rule::Pass),
    ("set", Rule::List(HEADER)),
]);

const HEADER: Fields = &[("name", Rule::Pass), ("value", Rule::Pass)];

const MIRROR: Rule = Rule::Object(&[
    (
        "backendRef",
        Rule::Object(&[
            ("group", SERVICE_GROUP),
            ("kind", SERVICE_KIND),
            ("name", Rule::Pass),
            ("namespace", Rule::Pass),
            ("port", Rule::Pass),
        ]),
    ),
    (
        "fraction",
        Rule::Object(&[("denominator", Rule::Pass), ("numerator", Rule::Pass)]),
    ),
    ("percent", Rule::Pass),
]);

const PATH: Rule = Rule::Object(&[
    ("replaceFullPath", Rule::Pass),
    ("replacePrefixMatch", Rule::Pass),
    ("type", Rule::Pass),
]);

const HTTP_FILTER: Fields = &[
    ("extensionRef", EXTENSION),
    ("requestHeaderModifier", HEADERS),
    ("requestMirror", MIRROR),
    (
        "requestRedirect",
        Rule::Object(&[
            ("hostname", Rule::Pass),
            ("path", PATH),
            ("port", Rule::Pass),
            ("scheme", Rule::Pass),
            ("statusCode", Rule::Pass),
        ]),
    ),
    ("responseHeaderModifier", HEADERS),
    ("type", Rule::Pass),
    (
        "urlRewrite",
        Rule::Object(&[("hostname", Rule::Pass), ("path", PATH)]),
    ),
];

const GRPC_FILTER: Fields = &[
    ("extensionRef", EXTENSION),
    ("requestHeaderModifier", HEADERS),
    ("requestMirror", MIRROR),
    ("responseHeaderModifier", HEADERS),
    ("type", Rule::Pass),
];

fn gateway(spec: &mut Value, _: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    let class = spec["gatewayClassName"].as_str().unwrap_or_default();
    super::require_offered(
        "GatewayClass",
        "spec.gatewayClassName",
        class,
        "GatewayClassNotOffered",
        cx,
    )?;
    for listener in list_mut(spec, "/listeners") {
        if hosts::has_host(listener) {
            check_host(listener["hostname"].as_str().unwrap_or_default(), cx)?;
        } else {
            // It takes what comes to its port.
            allow_host("", cx)?;
        }
        let Some(namespaces) = listener.pointer_mut("/allowedRoutes/namespaces") else {
            continue;
        };
        match namespaces["from"].as_str() {
            Some("All") => {
                *namespaces = json!({
                    "from": "Selector",
                    "selector": {"matchLabels": {keys::TENANT: cx.rules.id.as_str()}},
                });
            }
            Some("Selector") => {
                return Err(Refused::new(
                    "RouteSelectorRefused",
                    "allowedRoutes.namespaces can't select by label: write from: Same or from: All",
                ));
            }
            _ => {}
        }
    }
    Ok(Crossing::Now)
}

fn hosts_and_namespaces(spec: &mut Value, _: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    for host in list(spec, "/hostnames") {
        check_host(host.as_str().unwrap_or_default(), cx)?;
    }
    // A route without a host takes those of its Gateway, which were judged there.
    for parent in list_mut(spec, "/parentRefs") {
        into_super_namespace(parent, cx);
    }
    for rule in list_mut(spec, "/rules") {
        mirrors(rule, cx);
        for backend in list_mut(rule, "/backendRefs") {
            into_super_namespace(backend, cx);
            mirrors(backend, cx);
        }
    }
    Ok(Crossing::Now)
}

/// Where the filters of a rule or a backend lead to.
fn mirrors(filtered: &mut Value, cx: &Cx<'_>) {
    for filter in list_mut(filtered, "/filters") {
        if let Some(backend) = filter.pointer_mut("/requestMirror/backendRef") {
            into_super_namespace(backend, cx);
        }
    }
}

/// A reference to another namespace is one to the tenant's own.
fn into_super_namespace(reference: &mut Value, cx: &Cx<'_>) {
    let namespace = reference.get("namespace").and_then(Value::as_str);
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        reference["namespace"] = meta::super_namespace(namespace, cx).into();
    }
}

/// What is told of a parent names it as the tenant does.
fn parents(status: &mut Value, super_object: &Object, cx: &Cx<'_>) {
    let own = meta::owner(super_object)
        .map(|owner| owner.namespace)
        .unwrap_or_default();
    for parent in list_mut(status, "/parents") {
        let Some(reference) = parent.get_mut("parentRef") else {
            continue;
        };
        let Some(twin) = reference.get("namespace").and_then(Value::as_str) else {
            continue;
        };
        let all = cx.facts.namespaces(&json!({}));
        let named = all
            .into_iter()
            .find(|namespace| meta::super_namespace(namespace, cx) == twin);
        reference["namespace"] = named.unwrap_or_else(|| own.clone()).into();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kind::{
        Kind, TenantView,
        testing::{Answers, object, tenant},
        translate,
    };

    fn with<R>(rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let mut tenant = tenant();
        tenant.offers.hosts = vec!["*.acme.example".into()];
        tenant.offers.wildcards = tenant.offers.hosts.clone();
        let facts = Answers {
            offered: vec![("GatewayClass", "public")],
            namespaces: vec!["infra".into()],
            ..Answers::default()
        };
        rule(&Cx {
            rules: &tenant,
            facts: &facts,
        })
    }

    fn named(spec: &Value) -> Object {
        object(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 5}, "spec": spec,
        }))
    }

    /// What a namespace of the tenant becomes.
    pub(super) fn twin_of(namespace: &str) -> String {
        with(|cx| meta::super_namespace(namespace, cx))
    }

    pub(super) fn down(kind: &Down, spec: &Value) -> Result<Value, Refused> {
        let twin = with(|cx| translate(kind, &named(spec), cx))?.unwrap();
        Ok(twin.at("/spec").unwrap().clone())
    }

    fn listener() -> Value {
        json!({
            "gatewayClassName": "public",
            "listeners": [{"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "*.acme.example",
                "tls": {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": "cert"}]},
                "allowedRoutes": {"namespaces": {"from": "All"}}}],
        })
    }

    fn route() -> Value {
        json!({
            "hostnames": ["shop.acme.example"],
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra"}],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}],
            }],
        })
    }

    #[test]
    fn a_gateway_takes_routes_of_its_tenant_only() {
        let spec = down(&GATEWAY, &listener()).unwrap();
        let namespaces = &spec["listeners"][0]["allowedRoutes"]["namespaces"];
        assert_eq!(namespaces["from"], "Selector");
        assert!(namespaces["selector"]["matchLabels"][keys::TENANT].is_string());
        assert_eq!(
            GATEWAY.references(&named(&listener()), &[])[0].name,
            "cert",
            "the certificate goes down first"
        );
    }

    #[test]
    fn a_listener_without_hosts_needs_a_tenant_that_may_use_all_and_takes_none() {
        let spec = json!({"gatewayClassName": "public", "listeners": [{"name": "db", "port": 5432, "protocol": "TCP"}]});
        assert_eq!(down(&GATEWAY, &spec).unwrap_err().reason, "HostNotAllowed");
        let mut tenant = tenant();
        tenant.offers.hosts = vec!["*".into()];
        let facts = Answers {
            offers_all: true,
            taken: vec![""],
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        assert!(GATEWAY.down(&named(&spec), &cx).is_ok());
        let mut by_host = spec;
        by_host["listeners"][0]["protocol"] = "HTTP".into();
        let refused = GATEWAY.down(&named(&by_host), &cx).unwrap_err();
        assert_eq!(refused.reason, hosts::TAKEN);
    }

    #[test]
    fn routes_name_the_super_namespace_of_their_parent_and_their_status_the_tenants() {
        let spec = down(&HTTP_ROUTE, &route()).unwrap();
        let twin = with(|cx| meta::super_namespace("infra", cx));
        let mut want = route();
        want["parentRefs"][0]["namespace"] = twin.as_str().into();
        assert_eq!(spec, want);
        let mut object = with(|cx| translate(&HTTP_ROUTE, &named(&route()), cx))
            .unwrap()
            .unwrap();
        object.value_mut()["metadata"]["generation"] = 2.into();
        object.value_mut()["status"] = json!({"parents": [{
            "parentRef": {"name": "edge", "namespace": twin},
            "conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 2}],
        }]});
        let writes = with(|cx| HTTP_ROUTE.up(&object, &TenantView::default(), cx));
        let parent = &writes[0].body[0]["value"]["parents"][0];
        assert_eq!(parent["parentRef"]["namespace"], "infra");
        assert_eq!(parent["conditions"][0]["observedGeneration"], 5);
    }

    #[test]
    fn what_reaches_others_is_refused() {
        let gateways = [
            (
                "/gatewayClassName",
                json!("internal"),
                "GatewayClassNotOffered",
            ),
            (
                "/listeners/0/hostname",
                json!("victim.example"),
                "HostNotAllowed",
            ),
            ("/listeners/0/hostname", json!(""), "HostNotAllowed"),
            (
                "/listeners/0/tls/certificateRefs/0",
                json!({"name": "cert", "namespace": "victim"}),
                "CrossNamespaceReference",
            ),
            (
                "/listeners/0/allowedRoutes/namespaces",
                json!({"from": "Selector", "selector": {}}),
                "RouteSelectorRefused",
            ),
        ];
        let routes = [
            ("/hostnames/0", json!("victim.example"), "HostNotAllowed"),
            ("/parentRefs/0/kind", json!("Service"), "ParentRefused"),
            (
                "/rules/0/backendRefs/0/kind",
                json!("ServiceImport"),
                "BackendRefused",
            ),
            (
                "/rules/0/filters/0",
                json!({"type": "ExtensionRef", "extensionRef": {"name": "x"}}),
                "FilterRefused",
            ),
        ];
        let cases = gateways
            .into_iter()
            .map(|case| (&GATEWAY, listener(), case));
        let cases = cases.chain(routes.into_iter().map(|case| (&HTTP_ROUTE, route(), case)));
        for (kind, mut spec, (pointer, value, reason)) in cases {
            *spec.pointer_mut(pointer).unwrap() = value;
            assert_eq!(down(kind, &spec).unwrap_err().reason, reason, "{pointer}");
        }
    }

    #[test]
    fn every_reference_of_a_route_to_another_namespace_is_one_to_its_tenants() {
        let mirror = |namespace: &str| {
            let backend = json!({"name": "copy", "namespace": namespace, "port": 80});
            json!([{"type": "RequestMirror", "requestMirror": {"backendRef": backend}}])
        };
        let spec = |namespace: &str| {
            json!({
                "hostnames": ["shop.acme.example"], "parentRefs": [{"name": "edge", "namespace": namespace}],
                "rules": [{
                    "backendRefs": [{"name": "web", "namespace": namespace, "port": 80, "filters": mirror(namespace)}],
                    "filters": mirror(namespace),
                }],
            })
        };
        for kind in [&HTTP_ROUTE, &GRPC_ROUTE] {
            let crossed = down(kind, &spec("victim")).unwrap();
            assert_eq!(crossed, spec(&twin_of("victim")));
        }
    }

    #[test]
    fn grpc_routes_cross_likewise() {
        let spec = json!({
            "hostnames": ["api.acme.example"], "parentRefs": [{"name": "edge"}],
            "rules": [{"matches": [{"method": {"service": "a.B", "type": "Exact"}}], "backendRefs": [{"name": "api", "port": 9000}]}],
        });
        assert_eq!(down(&GRPC_ROUTE, &spec), Ok(spec));
    }
}
