//! Layer A switched off: super objects that are copies of what tenants write.
//!
//! For the test that the other layers hold alone, and that what is attacked can be attacked at all. Only the feature
//! `without-layer-a` has this, and a build with it and without debug assertions, as images are made of, ends with an error.

use super::{Cx, Kind, pod::raw_sockets, service::is_api_server};
use crate::{meta, object::Object, plan::Change};
use api::keys;
use serde_json::Value;

#[cfg(not(debug_assertions))]
compile_error!(
    "`without-layer-a` is for tests: a release with it would let tenants into the super cluster"
);

/// The kinds that are copied, and their fields beside metadata.
const COPIED: [(&str, &[&str]); 17] = [
    ("Pod", SPEC),
    ("Service", SPEC),
    ("PersistentVolumeClaim", SPEC),
    ("EndpointSlice", &["addressType", "endpoints", "ports"]),
    ("Ingress", SPEC),
    ("NetworkPolicy", SPEC),
    ("PodDisruptionBudget", SPEC),
    ("ResourceClaim", SPEC),
    ("ResourceClaimTemplate", SPEC),
    ("VolumeSnapshot", SPEC),
    ("Gateway", SPEC),
    ("HTTPRoute", SPEC),
    ("GRPCRoute", SPEC),
    ("TLSRoute", SPEC),
    ("TCPRoute", SPEC),
    ("UDPRoute", SPEC),
    ("ReferenceGrant", SPEC),
];

const SPEC: &[&str] = &["spec"];

/// Metadata that is copied beside labels: what holds up or asks for an end (T25, T26).
const METADATA: [&str; 2] = ["ownerReferences", "finalizers"];

/// A copy of the tenant's object under its super name; `None` for a kind that isn't copied.
///
/// What a syncer can't do without stays: ownership, an account that is there, unless the tenant names one, and capabilities that
/// are dropped, unless it says which.
pub(super) fn copy(kind: &dyn Kind, object: &Object, cx: &Cx<'_>) -> Option<Object> {
    let resource = kind.resource();
    let (_, fields) = COPIED.iter().find(|(name, _)| *name == resource.kind)?;
    let service = object.label("kubernetes.io/service-name");
    if is_api_server(object.namespace(), service.unwrap_or(object.name())) {
        return None;
    }
    let mut twin = meta::twin(resource, object, &kind.super_name(object.name(), cx), cx);
    for (key, value) in object.labels() {
        twin.value_mut()["metadata"]["labels"][key] = value.into();
    }
    for field in METADATA {
        if let Some(value) = object.value()["metadata"].get(field) {
            twin.value_mut()["metadata"][field] = value.clone();
        }
    }
    for field in *fields {
        if let Some(value) = object.value().get(*field) {
            twin.value_mut()[*field] = value.clone();
        }
    }
    if resource.kind == "Pod" {
        account(&mut twin.value_mut()["spec"]);
        raw_sockets::drop_unsaid(&mut twin.value_mut()["spec"]);
    }
    Some(twin)
}

/// What of [`METADATA`] a twin that is there lacks.
pub(crate) fn metadata_changes(want: &Object, have: &Object) -> Vec<Change> {
    let of = |object: &Object, field: &str| object.value()["metadata"].get(field).cloned();
    METADATA
        .into_iter()
        .filter_map(|field| {
            let value = of(want, field)?;
            let differs = of(have, field).as_ref() != Some(&value);
            differs.then(|| Change {
                subresource: None,
                pointer: format!("/metadata/{field}"),
                value: Some(value),
            })
        })
        .collect()
}

fn account(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    spec.remove("serviceAccount");
    let named = spec.get("serviceAccountName").and_then(Value::as_str);
    if matches!(named, None | Some("" | "default")) {
        spec.insert(
            "serviceAccountName".into(),
            keys::POD_SERVICE_ACCOUNT.into(),
        );
    }
    spec.entry("automountServiceAccountToken")
        .or_insert(false.into());
}

#[cfg(test)]
mod tests {
    use crate::kind::{
        Cx, index, rule,
        testing::{Answers, object, tenant},
        translate,
    };
    use serde_json::json;

    #[test]
    fn owners_and_finalizers_are_copied_when_it_is_made_and_later() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let service = |finalizers: serde_json::Value| {
            let object = object(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "s", "namespace": "n", "uid": "u", "finalizers": finalizers},
                "spec": {"ports": [{"port": 80}]},
            }));
            translate(rule(index("Service")), &object, &cx)
                .unwrap()
                .unwrap()
        };
        let before = service(json!([]));
        let after = service(json!(["example.com/hold"]));
        assert_eq!(
            after.text("/metadata/finalizers/0"),
            Some("example.com/hold")
        );
        let changes = super::metadata_changes(&after, &before);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].pointer, "/metadata/finalizers");
        assert!(super::metadata_changes(&after, &after).is_empty());
    }

    #[test]
    fn every_kind_that_leads_somewhere_is_copied_as_the_tenant_wrote_it() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        for (kind, _) in super::COPIED {
            let written = object(json!({
                "kind": kind, "metadata": {"name": "a", "namespace": "n", "uid": "u", "finalizers": ["example.com/hold"]},
                "spec": {"leads": "anywhere"}, "endpoints": [{"addresses": ["anywhere"]}],
            }));
            let twin = translate(rule(index(kind)), &written, &cx)
                .unwrap()
                .unwrap();
            assert!(twin.value().to_string().contains("anywhere"), "{kind}");
            assert_eq!(
                twin.text("/metadata/finalizers/0"),
                Some("example.com/hold"),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_the_tenant_writes_is_copied_and_belongs_to_it() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let pod = object(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"hostNetwork": true, "serviceAccountName": "default", "containers": []},
        }));
        let twin = translate(rule(index("Pod")), &pod, &cx).unwrap().unwrap();
        assert_eq!(twin.at("/spec/hostNetwork"), Some(&true.into()));
        assert_eq!(twin.text("/spec/serviceAccountName"), Some("sublet-pod"));
        assert_eq!(crate::meta::owner(&twin).unwrap().uid, "u");
    }
}
