//! The three kinds of patches.

use super::store::Refusal;
use serde_json::{Map, Value};

/// Applies a patch of a content type to an object.
pub(crate) fn apply(kind: &str, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    match kind {
        "application/json-patch+json" => json(object, patch),
        "application/merge-patch+json" => {
            json_patch::merge(object, patch);
            Ok(())
        }
        "application/strategic-merge-patch+json" => {
            strategic(object, patch);
            Ok(())
        }
        other => Err(Refusal::new(
            415,
            "UnsupportedMediaType",
            format!("the patch type {other:?}"),
        )),
    }
}

fn json(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations: Vec<json_patch::PatchOperation> = serde_json::from_value(patch.clone())
        .map_err(|err| Refusal::new(400, "BadRequest", format!("the patch: {err}")))?;
    json_patch::patch(object, &operations).map_err(|_| {
        // These are the words of API servers, by which clients know a failed test.
        let text = "the server rejected our request due to an error in our request";
        Refusal::new(422, "Invalid", text.into())
    })
}

/// Lists that are merged, by the key of their entries; all others are replaced.
const MERGED: &[(&str, &str)] = &[("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];
const DIRECTIVE: &str = "$patch";

fn strategic(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for (field, wanted) in patch {
        let key = MERGED.iter().find(|(list, _)| list == field);
        match (wanted, key) {
            (Value::Null, _) => drop(fields.remove(field)),
            (Value::Array(wanted), Some((_, key))) => {
                let have = fields.entry(field).or_insert_with(|| Value::Array(vec![]));
                merge_list(have, wanted, key);
            }
            (Value::Object(_), _) => {
                strategic(fields.entry(field).or_insert(Value::Null), wanted);
            }
            _ => drop(fields.insert(field.clone(), wanted.clone())),
        }
    }
}

fn merge_list(have: &mut Value, wanted: &[Value], key: &str) {
    let mut entries = match have.take() {
        Value::Array(entries) => entries,
        _ => vec![],
    };
    if wanted.iter().any(|entry| entry[DIRECTIVE] == "replace") {
        entries.clear();
    }
    for entry in wanted {
        let found = entries.iter().position(|known| known[key] == entry[key]);
        match (entry[DIRECTIVE].as_str(), found) {
            (Some("delete"), Some(found)) => drop(entries.remove(found)),
            (Some(_), _) => {}
            (None, Some(found)) => strategic(&mut entries[found], entry),
            (None, None) => {
                let mut new = Value::Null;
                strategic(&mut new, entry);
                entries.push(new);
            }
        }
    }
    *have = Value::Array(entries);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(kind: &str, object: &Value, patch: &Value) -> Result<Value, u16> {
        let mut object = object.clone();
        let applied = apply(&format!("application/{kind}+json"), &mut object, patch);
        applied.map(|()| object).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_json_patch_holds_only_if_its_tests_do() {
        let object = json!({"metadata": {"uid": "u"}, "data": {"a": "1"}});
        let test = |uid: &str| json!({"op": "test", "path": "/metadata/uid", "value": uid});
        let set = json!({"op": "add", "path": "/data", "value": {"b": "2"}});
        let done = patched("json-patch", &object, &json!([test("u"), set])).unwrap();
        assert_eq!(done["data"], json!({"b": "2"}));
        assert_eq!(
            patched("json-patch", &object, &json!([test("v"), set])),
            Err(422)
        );
        assert_eq!(patched("gzip", &object, &set), Err(415));
    }

    #[test]
    fn a_strategic_merge_patch_merges_conditions_and_replaces_when_told() {
        let object = json!({"status": {
            "phase": "Pending", "conditions": [{"type": "Ready", "status": "False", "reason": "x"}, {"type": "Old"}],
            "podIPs": [{"ip": "10.0.0.1"}], "message": "wait",
        }});
        let patch = json!({"status": {
            "phase": "Running", "message": null,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": null}, {"$patch": "delete", "type": "Old"},
                {"type": "New", "status": "True", "message": null},
            ],
            "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
            "containerStatuses": [{"name": "main"}],
        }});
        let done = patched("strategic-merge-patch", &object, &patch).unwrap();
        let expected = json!({"status": {
            "phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "containerStatuses": [{"name": "main"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}],
        }});
        assert_eq!(done, expected);
    }
}
