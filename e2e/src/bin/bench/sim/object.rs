//! One object as a simulated API server keeps it: serialised, beside the little that is asked of it.

use super::kinds::Served;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// A state of an object.
#[derive(Debug)]
pub(crate) struct Stored {
    /// JSON, as it is sent.
    pub(crate) bytes: Bytes,
    /// Version at which it got this state.
    pub(crate) version: u64,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
}

impl Stored {
    /// Serialises a state.
    pub(crate) fn of(mut value: Value, version: u64) -> Self {
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let metadata = &value["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        Self {
            version,
            uid: text("uid"),
            namespace: text("namespace"),
            name: text("name"),
            labels: labels
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            bytes: value.to_string().into(),
        }
    }

    /// The state as JSON.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    /// RFC 3339, whole seconds.
    pub(crate) now: &'a str,
}

/// What an API server adds to an object at its birth, as far as the syncer or a player reads it, or its size depends on
/// it.
pub(crate) fn born(served: &Served, value: &mut Value, uid: &str, writer: Writer<'_>) {
    value["apiVersion"] = served.api_version.as_str().into();
    value["kind"] = served.kind.into();
    let metadata = &mut value["metadata"];
    metadata["uid"] = uid.into();
    metadata["creationTimestamp"] = writer.now.into();
    metadata["generation"] = 1.into();
    match served.kind {
        "Pod" => {
            defaults(&mut value["spec"], POD_DEFAULTS);
            for container in value["spec"]["containers"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                defaults(container, CONTAINER_DEFAULTS);
            }
            value["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        }
        "Namespace" => {
            let name = value["metadata"]["name"].clone();
            value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            value["status"] = json!({"phase": "Active"});
        }
        "Secret" => encode(value),
        _ => {}
    }
    manage(value, writer, "");
}

const POD_DEFAULTS: &str = r#"{"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {},
    "schedulerName": "default-scheduler", "enableServiceLinks": true, "priority": 0,
    "preemptionPolicy": "PreemptLowerPriority"}"#;
const CONTAINER_DEFAULTS: &str = r#"{"resources": {}, "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"}"#;

fn defaults(target: &mut Value, text: &str) {
    let all: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    for (field, value) in all {
        if target[&field].is_null() {
            target[&field] = value;
        }
    }
}

/// Texts become data, as in every Secret.
fn encode(secret: &mut Value) {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let Some(texts) = secret
        .as_object_mut()
        .and_then(|secret| secret.remove("stringData"))
    else {
        return;
    };
    for (key, text) in texts.as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        secret["data"][key] = BASE64_STANDARD.encode(text).into();
    }
}

/// Notes who wrote the fields of a subresource, or of the object itself, as real API servers do it: this is a third of
/// what a pod's event weighs.
pub(crate) fn manage(value: &mut Value, writer: Writer<'_>, subresource: &str) {
    let written = match subresource {
        "" => {
            let parts = value.as_object().into_iter().flatten();
            let own = ["apiVersion", "kind", "status", "metadata"];
            let parts = parts.filter(|(field, _)| !own.contains(&field.as_str()));
            let mut all: Map<String, Value> = parts
                .map(|(field, part)| (format!("f:{field}"), fields(part)))
                .collect();
            let labels = fields(&value["metadata"]["labels"]);
            all.insert("f:metadata".into(), json!({"f:labels": labels}));
            Value::Object(all)
        }
        _ => json!({"f:status": fields(&value["status"])}),
    };
    let mut entry = json!({
        "manager": writer.manager, "operation": "Update", "apiVersion": value["apiVersion"], "time": writer.now,
        "fieldsType": "FieldsV1", "fieldsV1": written,
    });
    if !subresource.is_empty() {
        entry["subresource"] = subresource.into();
    }
    let managed = &mut value["metadata"]["managedFields"];
    if let Some(entries) = managed.as_array_mut() {
        entries.retain(|known| {
            known["manager"] != entry["manager"] || known["subresource"] != entry["subresource"]
        });
        entries.push(entry);
    } else {
        *managed = json!([entry]);
    }
}

fn fields(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(field, value)| (format!("f:{field}"), fields(value)))
            .collect(),
        Value::Array(entries) => entries
            .iter()
            .filter_map(|entry| {
                let key = ["name", "type", "ip"]
                    .into_iter()
                    .find(|key| entry[*key].is_string())?;
                Some((format!("k:{{\"{key}\":{}}}", entry[key]), fields(entry)))
            })
            .collect(),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::kinds::{SERVED, index};

    const WRITER: Writer<'_> = Writer {
        manager: "test",
        now: "2026-01-01T00:00:00Z",
    };

    #[test]
    fn a_pod_is_born_with_its_defaults_and_keeps_what_it_says() {
        let mut pod = json!({
            "metadata": {"name": "a", "labels": {"app": "x"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]},
        });
        born(&SERVED[index("Pod")], &mut pod, "u", WRITER);
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["dnsPolicy"], "ClusterFirst");
        assert_eq!(
            pod["spec"]["containers"][0]["terminationMessagePolicy"],
            "File"
        );
        assert_eq!(pod["status"]["phase"], "Pending");
        let managed = &pod["metadata"]["managedFields"][0]["fieldsV1"];
        let container = r#"k:{"name":"main"}"#;
        assert!(managed["f:spec"]["f:containers"][container].is_object());
        let stored = Stored::of(pod, 7);
        assert_eq!((stored.version, stored.name.as_str()), (7, "a"));
        assert_eq!(stored.value()["metadata"]["resourceVersion"], "7");
        assert_eq!(stored.labels, [("app".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn each_writer_is_noted_once_for_each_part() {
        let mut node = json!({"metadata": {"name": "n"}, "spec": {"a": 1}});
        born(&SERVED[index("Node")], &mut node, "u", WRITER);
        node["status"] = json!({"conditions": [{"type": "Ready"}]});
        for _ in 0..2 {
            manage(&mut node, WRITER, "status");
        }
        let managed = node["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(managed.len(), 2);
        assert_eq!(managed[1]["subresource"], "status");
    }

    #[test]
    fn texts_of_a_secret_become_data() {
        let mut secret = json!({"metadata": {"name": "s"}, "stringData": {"value": "abc"}});
        born(&SERVED[index("Secret")], &mut secret, "u", WRITER);
        assert_eq!(secret["data"], json!({"value": "YWJj"}));
        assert_eq!(secret["stringData"], Value::Null);
    }
}
