//! Layer A switched off: super objects that are copies of what tenants write.
//!
//! For the test that the other layers hold alone, and that what is attacked can be attacked at all. Only the feature
//! `without-layer-a` has this, and a build with it and without debug assertions, as images are made of, ends with an error.

use super::{Cx, Kind, service::is_api_server};
use crate::{meta, object::Object};
use api::keys;
use serde_json::Value;

#[cfg(not(debug_assertions))]
compile_error!(
    "`without-layer-a` is for tests: a release with it would let tenants into the super cluster"
);

/// The kinds that are copied, and their fields beside metadata.
const COPIED: [(&str, &[&str]); 4] = [
    ("Pod", &["spec"]),
    ("Service", &["spec"]),
    ("PersistentVolumeClaim", &["spec"]),
    ("EndpointSlice", &["addressType", "endpoints", "ports"]),
];

/// A copy of the tenant's object under its super name; `None` for a kind that isn't copied.
///
/// What a syncer can't do without stays: ownership, and an account that is there, unless the tenant names one.
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
    for field in *fields {
        if let Some(value) = object.value().get(*field) {
            twin.value_mut()[*field] = value.clone();
        }
    }
    if resource.kind == "Pod" {
        account(&mut twin.value_mut()["spec"]);
    }
    Some(twin)
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
    fn what_the_tenant_writes_is_copied_and_belongs_to_it() {
        let (tenant, facts) = (tenant(), Answers::default());
        let cx = Cx {
            tenant: &tenant,
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
