//! An API object as JSON that keeps every field, with typed views of what the rules read.
//!
//! A field that this version doesn't know stays in the JSON: whether it crosses is a kind's decision, never an accident
//! of a struct. `metadata.managedFields` is dropped on arrival: it is large and nothing here reads it.

use serde_json::{Map, Value};

/// Namespace and name of an object; the namespace is empty where there is none.
pub type NamespacedName = (String, String);

/// A JSON object with `apiVersion`, `kind` and `metadata`.
#[derive(Clone, Debug)]
pub struct Object {
    value: Value,
    size: usize,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// The JSON isn't an API object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no API object: {0}")]
pub struct Malformed(&'static str);

impl Object {
    /// Takes the JSON of one object; it must be a map with a `metadata` map.
    pub fn from_value(mut value: Value) -> Result<Self, Malformed> {
        let map = value.as_object_mut().ok_or(Malformed("not a map"))?;
        let metadata = map
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or(Malformed("no metadata"))?;
        metadata.remove("managedFields");
        Ok(Self { value, size: 0 })
    }

    /// The same object, read from a text of about so many bytes.
    #[must_use]
    pub fn sized(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// About how many bytes the text had that it was read from; 0 if nobody said so.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The whole JSON, to change.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.value
    }

    /// The whole JSON, given up.
    pub fn into_value(self) -> Value {
        self.value
    }

    /// The field at a JSON pointer (RFC 6901), such as `/spec/nodeName`.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        at(&self.value, pointer)
    }

    /// The text at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    /// `metadata.name`; empty when missing.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    /// `metadata.uid`; empty when missing.
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid").unwrap_or_default()
    }

    /// `metadata.resourceVersion` as a number; comparable within one resource of one cluster only (KEP-5504).
    pub fn resource_version(&self) -> u64 {
        self.text("/metadata/resourceVersion")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// `metadata.labels[key]`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.at("/metadata/labels")?.get(key)?.as_str()
    }

    /// `metadata.annotations[key]`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.at("/metadata/annotations")?.get(key)?.as_str()
    }

    /// All labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        texts(self.at("/metadata/labels"))
    }

    /// All annotations.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        texts(self.at("/metadata/annotations"))
    }

    /// Whether deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.at("/metadata/deletionTimestamp").is_some()
    }

    /// The seconds that it has to end since its deletion was asked for; 0 where that says none. `None` while it wasn't.
    pub fn ending(&self) -> Option<u32> {
        let grace = || self.at("/metadata/deletionGracePeriodSeconds")?.as_u64();
        self.is_terminating()
            .then(|| u32::try_from(grace().unwrap_or_default()).unwrap_or(u32::MAX))
    }

    /// Sets `metadata.annotations[key]`.
    pub fn annotate(&mut self, key: &str, value: &str) {
        let metadata = &mut self.value["metadata"];
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = Value::Object(Map::new());
        }
        metadata["annotations"][key] = value.into();
    }
}

fn texts(map: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    map.and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// [`Value::pointer`], which copies each step of the pointer, without the copies: objects are asked like this all the time.
pub fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    let Some(mut rest) = pointer.strip_prefix('/') else {
        return pointer.is_empty().then_some(value);
    };
    let mut found = value;
    loop {
        let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'~'));
        let step = &rest[..end.unwrap_or(rest.len())];
        let is_escaped = end.is_some_and(|end| rest.as_bytes()[end] == b'~');
        found = match found {
            Value::Object(map) if !is_escaped => map.get(step)?,
            Value::Object(_) | Value::Array(_) => return value.pointer(pointer),
            _ => return None,
        };
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return Some(found),
        }
    }
}

/// Copies the named fields of `from` into a new map; absent fields stay absent.
pub(crate) fn pick(from: &Value, fields: &[&str]) -> Map<String, Value> {
    fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), from.get(field)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_stay_and_managed_fields_go() {
        let object = Object::from_value(json!({
            "kind": "Pod", "metadata": {"name": "a", "managedFields": [1], "labels": {"x": "y"}}, "future": {"field": 1},
        }))
        .unwrap();
        assert_eq!(object.at("/future/field"), Some(&json!(1)));
        assert_eq!(object.at("/metadata/managedFields"), None);
        assert_eq!((object.name(), object.label("x")), ("a", Some("y")));
    }

    #[test]
    fn a_pointer_is_followed_as_serde_json_follows_it() {
        let value = json!({"a": {"b/c": [{"d": 1}, 2], "~": {"": 3}}, "": 4, "0": null});
        for pointer in [
            "",
            "/",
            "/a",
            "a",
            "/a/",
            "/a/b~1c",
            "/a/b~1c/0/d",
            "/a/b~1c/1",
            "/a/~0/",
            "/0",
            "/0/x",
            "/x",
            "//",
            "/a/b/c",
        ] {
            assert_eq!(at(&value, pointer), value.pointer(pointer), "{pointer}");
        }
        let list = json!({"l": ["x", {"y": 1}]});
        for pointer in ["/l/0", "/l/1/y", "/l/01", "/l/+1", "/l/2", "/l/x"] {
            assert_eq!(at(&list, pointer), list.pointer(pointer), "{pointer}");
        }
    }

    #[test]
    fn what_ends_says_how_long_that_may_take() {
        let ending = |metadata| {
            let object = Object::from_value(json!({"metadata": metadata}));
            object.unwrap().ending()
        };
        let at = "2026-01-01T00:00:00Z";
        assert_eq!(ending(json!({"deletionGracePeriodSeconds": 5})), None);
        assert_eq!(ending(json!({"deletionTimestamp": at})), Some(0));
        let with = |seconds: i64| {
            ending(json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": seconds}))
        };
        assert_eq!(with(5), Some(5));
        assert_eq!(with(-1), Some(0));
        assert_eq!(with(i64::MAX), Some(u32::MAX));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for wrong in [json!(1), json!([]), json!({}), json!({"metadata": "x"})] {
            assert!(Object::from_value(wrong).is_err());
        }
    }
}
