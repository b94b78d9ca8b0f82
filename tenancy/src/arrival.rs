//! JSON of API servers, read no further than it is needed.
//!
//! `metadata.managedFields` is often larger than the rest of its object and nothing here reads it, so it is passed over
//! before anything is allocated for it. Only where it is what it is called: a field of that name elsewhere is somebody's
//! data. An API server writes an object's metadata first, so what follows it can be left unread too, all of it or most of
//! its `spec`, when the metadata says that it is known ([`event`]) or nothing else is asked for ([`Shape::Metadata`]).

pub mod size;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::{cell::Cell, fmt};

/// What a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One object.
    Object,
    /// One object of which nothing but what stands before and in its metadata is needed; what follows is left unread.
    Metadata,
    /// A list, with objects in `items`.
    List,
}

/// Reads one text.
pub fn read(text: &[u8], shape: Shape) -> Result<Value, serde_json::Error> {
    let place = match shape {
        Shape::Object => Position::Object(None),
        Shape::Metadata => Position::Object(Some(&|_| KnownPart::All)),
        Shape::List => Position::List,
    };
    whole(place, text)
}

/// How much of an object is known before it is read, and so left unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KnownPart {
    /// Nothing of it: all is read.
    #[default]
    Nothing,
    /// What its `spec` says, by the edition that its metadata tell ([`crate::meta::edition`]): of that only fields are read
    /// that are neither lists nor maps, such as a pod's `nodeName`.
    Spec(u128),
    /// All of it, in just this state: only what stands before and in its metadata is read.
    All,
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event, with its object in `object`.
    pub value: Value,
    /// What was left unread of the object.
    pub known: KnownPart,
}

/// Reads an event of a watch. `known` is asked with the type (`ADDED`, `MODIFIED`…) and the object's metadata how much of
/// the object is known, so that it needn't be read.
pub fn event(
    text: &[u8],
    known: &dyn Fn(&str, &Value) -> KnownPart,
) -> Result<Event, serde_json::Error> {
    let was_known = Cell::new(KnownPart::Nothing);
    let ask = |kind: &str, metadata: &Value| {
        was_known.set(known(kind, metadata));
        was_known.get()
    };
    let value = whole(Position::Event(&ask), text)?;
    Ok(Event {
        value,
        known: was_known.get(),
    })
}

fn whole(place: Position<'_>, text: &[u8]) -> Result<Value, serde_json::Error> {
    // Once for the whole, rather than for every name and text in it.
    let text = std::str::from_utf8(text).map_err(serde_json::Error::custom)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = place.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Asked with an object's metadata: what of the rest is left unread.
type Ask<'a> = &'a dyn Fn(&Value) -> KnownPart;
/// The same, with the type of the event.
type AskOfEvent<'a> = &'a dyn Fn(&str, &Value) -> KnownPart;

/// Where a value stands.
#[derive(Clone, Copy)]
enum Position<'a> {
    Event(AskOfEvent<'a>),
    List,
    Items,
    Object(Option<Ask<'a>>),
    Metadata,
    /// A map of which only fields are read that are neither lists nor maps.
    Scalars,
    Other,
}

impl Position<'_> {
    /// Where the value of a field stands; nothing for what is passed over.
    fn field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Metadata, "managedFields") => None,
            (Self::Object(_), "metadata") => Some(Self::Metadata),
            (Self::List, "items") => Some(Self::Items),
            (Self::Event(_), "object") => Some(Self::Object(None)),
            _ => Some(Self::Other),
        }
    }

    /// Where the values of a sequence stand.
    fn element(self) -> Self {
        match self {
            Self::Items => Self::Object(None),
            _ => Self::Other,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Position<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = vec![];
        while let Some(value) = sequence.next_element_seed(self.element())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        let mut known = KnownPart::Nothing;
        while let Some(name) = map.next_key::<String>()? {
            let Some(place) = self.field(&name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = match (self, name.as_str()) {
                (Position::Event(ask), "object") => {
                    let kind = fields.get("type").and_then(Value::as_str);
                    let ask = |metadata: &Value| ask(kind.unwrap_or_default(), metadata);
                    map.next_value_seed(Position::Object(Some(&ask)))?
                }
                (Position::Object(_), "spec") if matches!(known, KnownPart::Spec(_)) => {
                    map.next_value_seed(Position::Scalars)?
                }
                (Position::Scalars, _) => match map.next_value_seed(Scalar)? {
                    Some(value) => value,
                    None => continue,
                },
                _ => map.next_value_seed(place)?,
            };
            if let (Position::Object(Some(ask)), "metadata") = (self, name.as_str()) {
                known = ask(&value);
            }
            fields.insert(name, value);
            if known == KnownPart::All {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(Value::Object(fields))
    }
}

/// Reads a value unless it is a list or a map.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Position::Other.visit_unit().map(Some)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Position::Other.visit_bool(value).map(Some)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Position::Other.visit_i64(value).map(Some)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Position::Other.visit_u64(value).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Position::Other.visit_f64(value).map(Some)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Position::Other.visit_str(value).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(value: &Value, shape: Shape) -> Value {
        read(value.to_string().as_bytes(), shape).unwrap()
    }

    fn of_event(value: &Value) -> Value {
        event(value.to_string().as_bytes(), &|_, _| KnownPart::Nothing)
            .unwrap()
            .value
    }

    #[test]
    fn managed_fields_go_where_they_are_metadata_and_stay_where_they_are_data() {
        let object = |managed: Value| {
            json!({
                "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": managed, "labels": {"managedFields": "x"}},
                "data": {"managedFields": "mine"}, "spec": {"metadata": {"managedFields": [1]}, "items": [{"metadata": {"managedFields": 2}}]},
            })
        };
        let mut without = object(json!([]));
        without["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        let with = object(json!([{"manager": "x", "fieldsV1": {"f:a": {}}}]));
        assert_eq!(of(&with, Shape::Object), without);
        let list =
            |object: &Value| json!({"metadata": {"continue": ""}, "items": [object, object]});
        assert_eq!(of(&list(&with), Shape::List), list(&without));
        let added = |object: &Value| json!({"type": "ADDED", "object": object});
        assert_eq!(of_event(&added(&with)), added(&without));
    }

    #[test]
    fn what_follows_the_metadata_of_a_known_object_is_left_unread() {
        let text = br#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a"},"spec":{"x":[1,{}]},"status":{}},"last":1}"#;
        let known = |kind: &str, metadata: &Value| match (kind, &metadata["name"]) {
            ("ADDED", name) if name == "a" => KnownPart::All,
            _ => KnownPart::Nothing,
        };
        let head = json!({"kind": "Pod", "metadata": {"name": "a"}});
        let read_on = event(text, &known).unwrap();
        assert_eq!(
            read_on.value,
            json!({"type": "ADDED", "object": head, "last": 1})
        );
        assert_eq!(read_on.known, KnownPart::All);
        let unknown = event(text, &|_, _| KnownPart::Nothing).unwrap();
        assert_eq!(unknown.known, KnownPart::Nothing);
        assert_eq!(unknown.value["object"]["spec"], json!({"x": [1, {}]}));
        let object = br#"{"kind":"Pod","metadata":{"name":"a"},"spec":{"metadata":2}}"#;
        assert_eq!(read(object, Shape::Metadata).unwrap(), head);
        // Only what is right JSON to its end.
        assert!(event(&text[..text.len() - 1], &known).is_err());
        assert!(read(&object[..object.len() - 2], Shape::Metadata).is_err());
    }

    #[test]
    fn of_a_known_spec_only_plain_fields_are_read() {
        let text = br#"{"type":"MODIFIED","object":{"metadata":{"name":"a","spec":{"b":[1]}},"spec":{"nodeName":"n",
            "containers":[{"name":"c"}],"hostNetwork":true,"x":null,"n":[],"affinity":{"a":{}},"priority":7},
            "status":{"podIPs":[{"ip":"1"}]}}}"#;
        let read = event(text, &|_, _| KnownPart::Spec(7)).unwrap();
        let expected = json!({"type": "MODIFIED", "object": {
            "metadata": {"name": "a", "spec": {"b": [1]}},
            "spec": {"nodeName": "n", "hostNetwork": true, "x": null, "priority": 7},
            "status": {"podIPs": [{"ip": "1"}]},
        }});
        assert_eq!((read.value, read.known), (expected, KnownPart::Spec(7)));
        assert!(event(&text[..text.len() - 3], &|_, _| KnownPart::Spec(7)).is_err());
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_an_error() {
        for text in ["", "{", "{}x", r#"{"a":}"#] {
            assert!(read(text.as_bytes(), Shape::Object).is_err(), "{text}");
        }
        assert!(read(b"{\"a\": \"\xff\"}", Shape::Object).is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9f64..1e9).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn everything_else_is_read_as_it_is(value in json()) {
            let plain: Value = serde_json::from_str(&value.to_string()).unwrap();
            for shape in [Shape::Object, Shape::List] {
                prop_assert_eq!(of(&value, shape), plain.clone());
            }
            prop_assert_eq!(of_event(&value), plain);
        }
    }
}
