//! Routes below HTTP: of TLS connections by their server name, and of all that comes to a port.
//!
//! TCPRoutes and UDPRoutes name no host. What they are given is decided by the listener that they hang on, which is of a
//! Gateway of the same tenant.

use super::{PARENT, Resource, SERVICE_GROUP, SERVICE_KIND, resource, route};
use crate::kind::{
    down::Down,
    pod::fields::{Fields, Rule},
};

static TLS_RESOURCE: Resource = resource("v1", "TLSRoute", "tlsroutes");
static TCP_RESOURCE: Resource = resource("v1alpha2", "TCPRoute", "tcproutes");
static UDP_RESOURCE: Resource = resource("v1alpha2", "UDPRoute", "udproutes");

/// TLSRoute.
pub(in crate::kind) const TLS_ROUTE: Down = route(
    &TLS_RESOURCE,
    &[
        ("hostnames", Rule::Pass),
        ("parentRefs", Rule::List(PARENT)),
        ("rules", RULES),
    ],
);

/// TCPRoute.
pub(in crate::kind) const TCP_ROUTE: Down = route(&TCP_RESOURCE, BY_PORT);

/// UDPRoute.
pub(in crate::kind) const UDP_ROUTE: Down = route(&UDP_RESOURCE, BY_PORT);

const BY_PORT: Fields = &[("parentRefs", Rule::List(PARENT)), ("rules", RULES)];

const RULES: Rule = Rule::List(&[("backendRefs", Rule::List(BACKEND)), ("name", Rule::Pass)]);

const BACKEND: Fields = &[
    ("group", SERVICE_GROUP),
    ("kind", SERVICE_KIND),
    ("name", Rule::Pass),
    ("namespace", Rule::Pass),
    ("port", Rule::Pass),
    ("weight", Rule::Pass),
];

#[cfg(test)]
mod tests {
    use super::{super::tests::down, *};
    use crate::kind::down::gateway::tests::twin_of;
    use serde_json::json;

    fn rules(namespace: &str) -> serde_json::Value {
        json!([{"name": "r", "backendRefs": [{"name": "db", "namespace": namespace, "port": 5432, "weight": 1}]}])
    }

    #[test]
    fn routes_below_http_cross_with_namespaces_of_their_tenant() {
        for kind in [TLS_ROUTE, TCP_ROUTE, UDP_ROUTE] {
            let mut spec = json!({
                "parentRefs": [{"name": "edge", "namespace": "infra", "sectionName": "db"}], "rules": rules("infra"),
            });
            let mut want = json!({
                "parentRefs": [{"name": "edge", "namespace": twin_of("infra"), "sectionName": "db"}],
                "rules": rules(&twin_of("infra")),
            });
            if kind.resource.kind == "TLSRoute" {
                spec["hostnames"] = json!(["db.acme.example"]);
                want["hostnames"] = json!(["db.acme.example"]);
            }
            assert_eq!(down(&kind, &spec), Ok(want));
        }
    }

    #[test]
    fn server_names_backends_and_parents_of_others_are_refused() {
        let cases = [
            (
                TLS_ROUTE,
                json!({"hostnames": ["victim.example"]}),
                "HostNotAllowed",
            ),
            (
                TCP_ROUTE,
                json!({"rules": [{"backendRefs": [{"kind": "ServiceImport", "name": "x"}]}]}),
                "BackendRefused",
            ),
            (
                UDP_ROUTE,
                json!({"parentRefs": [{"kind": "Service", "name": "x"}]}),
                "ParentRefused",
            ),
            (UDP_ROUTE, json!({"hostnames": []}), "UnknownField"),
        ];
        for (kind, spec, reason) in cases {
            assert_eq!(down(&kind, &spec).unwrap_err().reason, reason, "{spec}");
        }
    }
}
