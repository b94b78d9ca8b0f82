//! What of a tenant's metadata its twin lacks. Pure.

use kube::api::{DynamicObject, ObjectMeta};
use std::collections::BTreeMap;
use tenancy::meta;

/// Labels and annotations that a kind crosses without, in words; nothing of what only Sublet or kubectl goes by.
pub(super) fn of(object: &DynamicObject, twin: &DynamicObject) -> Vec<String> {
    let labels = missing(&object.metadata, &twin.metadata, |meta| {
        meta.labels.as_ref()
    });
    let annotations = missing(&object.metadata, &twin.metadata, |meta| {
        meta.annotations.as_ref()
    });
    // Of a pod some cross under another key.
    let carried = |key: &String| {
        let labels = twin.metadata.labels.as_ref().zip(meta::pod_label(key));
        labels.is_some_and(|(labels, carried)| labels.contains_key(&carried))
    };
    let labels = labels.into_iter().filter(|key| !carried(key));
    let labels = labels.map(|key| format!("label {key}"));
    let annotations = annotations
        .into_iter()
        .map(|key| format!("annotation {key}"));
    labels.chain(annotations).collect()
}

fn missing(
    object: &ObjectMeta,
    twin: &ObjectMeta,
    part: fn(&ObjectMeta) -> Option<&BTreeMap<String, String>>,
) -> Vec<String> {
    let is_of_tools = |key: &str| {
        key.starts_with(api::keys::PREFIX)
            || key == "kubectl.kubernetes.io/last-applied-configuration"
    };
    let has = |key: &str| part(twin).is_some_and(|keys| keys.contains_key(key));
    let keys = part(object).into_iter().flat_map(BTreeMap::keys);
    keys.filter(|key| !is_of_tools(key) && !has(key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_twin_lacks_is_named() {
        let object = |metadata: serde_json::Value| -> DynamicObject {
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata});
            serde_json::from_value(object).unwrap()
        };
        let own = object(json!({
            "labels": {"app": "a", "k8s.io/x": "b"},
            "annotations": {
                "a.example/b": "c", "note": "d", "sublet.dev/uid": "e", "kubectl.kubernetes.io/last-applied-configuration": "f",
            },
        }));
        let twin = object(json!({"labels": {"app": "other"}, "annotations": {"note": "d"}}));
        assert_eq!(
            of(&own, &twin),
            ["label k8s.io/x", "annotation a.example/b"]
        );
        assert!(of(&own, &own).is_empty());
        let key = meta::pod_label("k8s.io/x").unwrap();
        let carried = object(json!({"labels": {"app": "a", key: "b"}}));
        assert_eq!(
            of(&own, &carried),
            ["annotation a.example/b", "annotation note"]
        );
    }
}
