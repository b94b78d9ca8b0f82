//! JSON of API servers, read without `metadata.managedFields`.
//!
//! That field is often larger than the rest of its object and nothing here reads it, so it is passed over before anything
//! is allocated for it. Only where it is what it is called: a field of that name elsewhere is somebody's data.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// What a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One object.
    Object,
    /// A list, with objects in `items`.
    List,
    /// An event of a watch, with its object in `object`.
    Event,
}

/// Reads one text.
pub fn read(text: &[u8], shape: Shape) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let place = match shape {
        Shape::Object => Place::Object,
        Shape::List => Place::List,
        Shape::Event => Place::Event,
    };
    let value = place.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    Event,
    List,
    Items,
    Object,
    Metadata,
    Other,
}

impl Place {
    /// Where the value of a field stands; nothing for what is passed over.
    fn field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Metadata, "managedFields") => None,
            (Self::Object, "metadata") => Some(Self::Metadata),
            (Self::List, "items") => Some(Self::Items),
            (Self::Event, "object") => Some(Self::Object),
            _ => Some(Self::Other),
        }
    }

    /// Where the values of a sequence stand.
    fn element(self) -> Self {
        match self {
            Self::Items => Self::Object,
            _ => Self::Other,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
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
        while let Some(name) = map.next_key::<String>()? {
            match self.field(&name) {
                Some(place) => drop(fields.insert(name, map.next_value_seed(place)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
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
        let event = |object: &Value| json!({"type": "ADDED", "object": object});
        assert_eq!(of(&event(&with), Shape::Event), event(&without));
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_an_error() {
        for text in ["", "{", "{}x", r#"{"a":}"#] {
            assert!(read(text.as_bytes(), Shape::Object).is_err(), "{text}");
        }
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
            for shape in [Shape::Object, Shape::List, Shape::Event] {
                prop_assert_eq!(of(&value, shape), plain.clone());
            }
        }
    }
}
