//! ResourceClaims and their templates: devices of classes that the tenant is offered.

use super::{Crossing, Down, NO_STATUS, list, list_mut, plain, require_offered};
use crate::{
    kind::{
        Cx, Refused, Resource,
        pod::fields::{Fields, Rule},
    },
    meta,
    object::Object,
};
use serde_json::Value;

/// ResourceClaim.
pub(in crate::kind) const CLAIM: Down = Down {
    step: |spec, _, cx| check(spec, "", cx),
    upward: consumers,
    is_kept: true,
    is_optional: true,
    ..plain(
        &Resource {
            group: "resource.k8s.io",
            version: "v1",
            kind: "ResourceClaim",
            plural: "resourceclaims",
            namespaced: true,
        },
        CLAIM_SPEC,
        &[
            ("allocation", Rule::Object(ALLOCATION)),
            ("devices", Rule::Pass),
            ("reservedFor", Rule::Pass),
        ],
    )
};

/// ResourceClaimTemplate. Pods refer to the claims that the tenant's controller makes from it.
pub(in crate::kind) const TEMPLATE: Down = Down {
    step: |spec, _, cx| check(spec, "/spec", cx),
    is_optional: true,
    ..plain(
        &Resource {
            group: "resource.k8s.io",
            version: "v1",
            kind: "ResourceClaimTemplate",
            plural: "resourceclaimtemplates",
            namespaced: true,
        },
        &[
            (
                "metadata",
                Rule::Omit("labels for claims that aren't made here"),
            ),
            ("spec", Rule::Object(CLAIM_SPEC)),
        ],
        NO_STATUS,
    )
};

/// What was given. What the class tells the driver, what an admin tolerates and which nodes it is on isn't the tenant's.
const ALLOCATION: Fields = &[
    ("allocationTimestamp", Rule::Pass),
    (
        "devices",
        Rule::Object(&[(
            "results",
            Rule::List(&[
                ("bindingConditions", Rule::Pass),
                ("bindingFailureConditions", Rule::Pass),
                ("consumedCapacity", Rule::Pass),
                ("device", Rule::Pass),
                ("driver", Rule::Pass),
                ("pool", Rule::Pass),
                ("request", Rule::Pass),
                ("shareID", Rule::Pass),
            ]),
        )]),
    ),
];

const CLAIM_SPEC: Fields = &[(
    "devices",
    Rule::Object(&[
        (
            "config",
            Rule::Refuse(
                "DeviceConfigRefused",
                "its parameters reach a driver on the node: leave it out",
            ),
        ),
        (
            "constraints",
            Rule::List(&[
                ("distinctAttribute", Rule::Pass),
                ("matchAttribute", Rule::Pass),
                ("requests", Rule::Pass),
            ]),
        ),
        (
            "requests",
            Rule::List(&[
                ("exactly", Rule::Object(REQUEST)),
                ("firstAvailable", Rule::List(REQUEST)),
                ("name", Rule::Pass),
            ]),
        ),
    ]),
)];

const REQUEST: Fields = &[
    (
        "adminAccess",
        Rule::Refuse(
            "AdminAccessRefused",
            "it reaches devices that others use: leave it out",
        ),
    ),
    ("allocationMode", Rule::Pass),
    ("capacity", Rule::Object(&[("requests", Rule::Pass)])),
    ("count", Rule::Pass),
    ("deviceClassName", Rule::Pass),
    ("name", Rule::Pass),
    (
        "selectors",
        Rule::List(&[("cel", Rule::Object(&[("expression", Rule::Pass)]))]),
    ),
    (
        "tolerations",
        Rule::Refuse(
            "DeviceTolerationRefused",
            "taints say whom a device is for: leave it out",
        ),
    ),
];

fn check(spec: &Value, root: &str, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    for request in list(spec, &format!("{root}/devices/requests")) {
        let exactly = request.get("exactly").into_iter();
        for asked in exactly.chain(list(request, "/firstAvailable")) {
            let class = asked["deviceClassName"].as_str().unwrap_or_default();
            require_offered(
                "DeviceClass",
                "deviceClassName",
                class,
                "DeviceClassNotOffered",
                cx,
            )?;
        }
    }
    Ok(Crossing::Now)
}

/// Consumers are the tenant's pods, under the UIDs that it knows; what isn't its pod isn't told.
fn consumers(status: &mut Value, super_object: &Object, cx: &Cx<'_>) {
    let namespace = meta::owner(super_object)
        .map(|owner| owner.namespace)
        .unwrap_or_default();
    for consumer in list_mut(status, "/reservedFor") {
        let text = |field: &str| consumer[field].as_str().unwrap_or_default();
        match cx.facts.uid("Pod", &namespace, text("name"), text("uid")) {
            Some(uid) => consumer["uid"] = uid.into(),
            None => *consumer = Value::Null,
        }
    }
    if let Some(consumers) = status.get_mut("reservedFor").and_then(Value::as_array_mut) {
        consumers.retain(|consumer| !consumer.is_null());
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
    use serde_json::json;

    fn with<R>(rule: impl FnOnce(&Cx<'_>) -> R) -> R {
        let facts = Answers {
            offered: vec![("DeviceClass", "gpu")],
            uid: Some("tenant-pod".into()),
            ..Answers::default()
        };
        rule(&Cx {
            rules: &tenant(),
            facts: &facts,
        })
    }

    fn claim(devices: &Value) -> Object {
        object(json!({
            "metadata": {"name": "c", "namespace": "default", "uid": "u"}, "spec": {"devices": devices},
        }))
    }

    fn devices() -> Value {
        json!({
            "requests": [
                {"name": "one", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1,
                    "selectors": [{"cel": {"expression": "true"}}]}},
                {"name": "any", "firstAvailable": [{"name": "a", "deviceClassName": "gpu"}]},
            ],
            "constraints": [{"requests": ["one"], "matchAttribute": "example.com/numa"}],
        })
    }

    #[test]
    fn claims_on_offered_classes_cross() {
        let spec = json!({"devices": devices()});
        let twin = with(|cx| translate(&CLAIM, &claim(&devices()), cx));
        assert_eq!(twin.unwrap().unwrap().at("/spec"), Some(&spec));
        let template = object(json!({
            "metadata": {"name": "t", "namespace": "default", "uid": "u"},
            "spec": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        }));
        let twin = with(|cx| translate(&TEMPLATE, &template, cx)).unwrap();
        assert_eq!(twin.unwrap().at("/spec"), Some(&json!({"spec": spec})));
    }

    #[test]
    fn what_reaches_the_node_or_the_devices_of_others_is_refused() {
        let cases = [
            (
                "/requests/0/exactly/deviceClassName",
                json!("fpga"),
                "DeviceClassNotOffered",
            ),
            (
                "/requests/1/firstAvailable/0/deviceClassName",
                json!("fpga"),
                "DeviceClassNotOffered",
            ),
            (
                "/requests/0/exactly",
                json!({"deviceClassName": "gpu", "adminAccess": true}),
                "AdminAccessRefused",
            ),
            (
                "/requests/0/exactly",
                json!({"deviceClassName": "gpu", "tolerations": [{"operator": "Exists"}]}),
                "DeviceTolerationRefused",
            ),
        ];
        for (pointer, value, reason) in cases {
            let mut devices = devices();
            *devices.pointer_mut(pointer).unwrap() = value;
            let refused = with(|cx| translate(&CLAIM, &claim(&devices), cx)).unwrap_err();
            assert_eq!(refused.reason, reason);
        }
        let mut devices = devices();
        devices["config"] = json!([{"opaque": {"driver": "d"}}]);
        let refused = with(|cx| translate(&CLAIM, &claim(&devices), cx)).unwrap_err();
        assert_eq!(refused.reason, "DeviceConfigRefused");
    }

    #[test]
    fn the_allocation_comes_up_for_the_tenants_pods() {
        let mut twin = with(|cx| translate(&CLAIM, &claim(&devices()), cx))
            .unwrap()
            .unwrap();
        twin.value_mut()["status"] = json!({
            "allocation": {
                "devices": {
                    "results": [{"request": "one", "driver": "d", "pool": "n1", "device": "g0",
                        "tolerations": [{"operator": "Exists"}], "adminAccess": false}],
                    "config": [{"source": "FromClass", "opaque": {"driver": "d", "parameters": {"licence": "secret"}}}],
                },
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "values": ["n1"]}]}]},
            },
            "reservedFor": [{"resource": "pods", "name": "web", "uid": "super-pod"}],
        });
        let writes = with(|cx| CLAIM.up(&twin, &TenantView::default(), cx));
        let status = &writes[0].body[0]["value"];
        assert_eq!(
            status["reservedFor"],
            json!([{"resource": "pods", "name": "web", "uid": "tenant-pod"}])
        );
        let result = json!({"request": "one", "driver": "d", "pool": "n1", "device": "g0"});
        assert_eq!(
            status["allocation"],
            json!({"devices": {"results": [result]}})
        );
    }
}
