//! Fingerprints: 128 bits by which a process tells whether something is as it was.
//!
//! They are worked out for every event, of all that it holds, so they are made to be cheap: JSON is not written as text, and
//! the hash is no cryptographic one. They are kept in memory and never written anywhere. A tenant that finds two states of its
//! own object with one fingerprint keeps the second from being seen, and misleads nobody but itself. Whatever is written
//! onto objects, and names, have hashes of [`crate::naming`].

use serde_json::{Number, Value};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// What a fingerprint is taken of, part by part: no two different lists of parts are the same bytes.
#[derive(Debug)]
pub(crate) struct Print {
    bytes: Vec<u8>,
}

impl Default for Print {
    fn default() -> Self {
        // Most objects are a few hundred bytes to a few thousand.
        Self {
            bytes: Vec::with_capacity(4096),
        }
    }
}

impl Print {
    /// Adds a text.
    pub(crate) fn text(&mut self, text: &str) {
        self.sized(b't', text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.fixed(b'u', number);
    }

    /// Adds a field that may be missing.
    pub(crate) fn field(&mut self, value: Option<&Value>) {
        match value {
            Some(value) => self.value(value),
            None => self.bytes.push(b'-'),
        }
    }

    /// Adds a JSON value. The map of serde_json is ordered, so equal values are the same bytes.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(b'0'),
            Value::Bool(false) => self.bytes.push(b'n'),
            Value::Bool(true) => self.bytes.push(b'y'),
            Value::Number(number) => self.any_number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.sized(b'a', items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(map) => {
                self.sized(b'm', map.len());
                for (name, value) in map {
                    self.text(name);
                    self.value(value);
                }
            }
        }
    }

    /// The fingerprint.
    pub(crate) fn end(self) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write(&self.bytes);
        hasher.finish128().as_u128()
    }

    fn any_number(&mut self, number: &Number) {
        if let Some(number) = number.as_u64() {
            self.number(number);
        } else if let Some(number) = number.as_i64() {
            self.fixed(b'i', number.cast_unsigned());
        } else {
            let number = number.as_f64().unwrap_or_default();
            self.fixed(b'f', number.to_bits());
        }
    }

    fn fixed(&mut self, kind: u8, number: u64) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn sized(&mut self, kind: u8, size: usize) {
        self.fixed(kind, size as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashSet;

    fn of(value: &Value) -> u128 {
        let mut print = Print::default();
        print.value(value);
        print.end()
    }

    #[test]
    fn whatever_differs_has_another_fingerprint() {
        let values = [
            json!(null),
            json!(false),
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(u64::MAX),
            json!(0.0),
            json!(1.0),
            json!(""),
            json!("0"),
            json!("null"),
            json!([]),
            json!([[]]),
            json!([[], []]),
            json!({}),
            json!([{}]),
            json!({"": null}),
            json!({"a": "bc"}),
            json!({"ab": "c"}),
            json!({"a": "b", "c": "d"}),
            json!({"a": {"b": "c"}}),
            json!(["a", "b", "c", "d"]),
            json!(["a", ["b", "c"], "d"]),
            json!(["ab", "cd"]),
        ];
        let all: HashSet<u128> = values.iter().map(of).collect();
        assert_eq!(all.len(), values.len());
    }

    #[test]
    fn parts_are_told_from_one_another_and_from_what_is_missing() {
        let of = |parts: &[Option<&str>]| {
            let mut print = Print::default();
            for part in parts {
                print.field(part.map(Value::from).as_ref());
            }
            print.end()
        };
        let parts: [&[Option<&str>]; 7] = [
            &[],
            &[None],
            &[None, None],
            &[Some("")],
            &[Some("ab")],
            &[Some("a"), Some("b")],
            &[Some("a"), None, Some("b")],
        ];
        let all: HashSet<u128> = parts.into_iter().map(of).collect();
        assert_eq!(all.len(), parts.len());
    }
}
