//! ReferenceGrants: a namespace of the tenant lets routes of another one of its own lead to its Services.
//!
//! Namespaces become the tenant's super namespaces, so a grant lets nobody else in.

use super::{Resource, resource};
use crate::{
    kind::{
        Cx, Refused,
        down::{Crossing, Down, NO_STATUS, list_mut, plain},
        pod::fields::Rule,
    },
    meta,
    object::Object,
};
use serde_json::Value;

static RESOURCE: Resource = resource("v1beta1", "ReferenceGrant", "referencegrants");

const FROM_GATEWAYS: &str = "grants let in Gateways and routes";
const TO_OWN: &str = "grants are for Services and Secrets";

/// ReferenceGrant.
pub(in crate::kind) const GRANT: Down = Down {
    step,
    is_optional: true,
    ..plain(
        &RESOURCE,
        &[
            (
                "from",
                Rule::List(&[
                    (
                        "group",
                        Rule::Only(
                            &["gateway.networking.k8s.io"],
                            "GrantRefused",
                            FROM_GATEWAYS,
                        ),
                    ),
                    ("kind", Rule::Pass),
                    ("namespace", Rule::Pass),
                ]),
            ),
            (
                "to",
                Rule::List(&[
                    ("group", Rule::Only(&[""], "GrantRefused", TO_OWN)),
                    (
                        "kind",
                        Rule::Only(&["Service", "Secret"], "GrantRefused", TO_OWN),
                    ),
                    ("name", Rule::Pass),
                ]),
            ),
        ],
        NO_STATUS,
    )
};

fn step(spec: &mut Value, _: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    for from in list_mut(spec, "/from") {
        let namespace = from["namespace"].as_str().unwrap_or_default();
        from["namespace"] = meta::super_namespace(namespace, cx).into();
    }
    Ok(Crossing::Now)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{down, twin_of},
        *,
    };
    use serde_json::json;

    #[test]
    fn a_grant_lets_in_namespaces_of_its_tenant_and_no_other_kinds() {
        let grant = |group: &str, namespace: &str, kind: &str| {
            json!({
                "from": [{"group": group, "kind": "HTTPRoute", "namespace": namespace}],
                "to": [{"group": "", "kind": kind, "name": "db"}],
            })
        };
        let gateway = "gateway.networking.k8s.io";
        let crossed = down(&GRANT, &grant(gateway, "infra", "Service"));
        assert_eq!(crossed, Ok(grant(gateway, &twin_of("infra"), "Service")));
        let stolen = down(&GRANT, &grant(gateway, &twin_of("infra"), "Service")).unwrap();
        assert_eq!(
            stolen["from"][0]["namespace"],
            twin_of(&twin_of("infra")),
            "a super namespace's name is no way into it"
        );
        for wrong in [
            grant("example.com", "infra", "Service"),
            grant(gateway, "infra", "ServiceImport"),
        ] {
            assert_eq!(down(&GRANT, &wrong).unwrap_err().reason, "GrantRefused");
        }
    }
}
