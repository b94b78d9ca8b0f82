//! How many bytes a tenant's objects take of the super cluster's etcd, which all tenants share.
//!
//! What is there is known from the objects themselves; here is what is about to be made or to grow, reserved in one step with
//! the decision and held until what came of it is known. So the sum of both never exceeds the limit, whoever asks at once.

use super::amount::{Amounts, shown};
use crate::{object::Object, tenant::Key};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};

/// Its name among the limits of a quota.
pub const NAME: &str = "sublet.dev/bytes";

/// What a tenant may take whose class doesn't say: 128Mi, of the 2Gi that an etcd holds by default.
pub const DEFAULT: u64 = 128 << 20;

/// A number that isn't whole, or is less than nothing.
const NUMBER: usize = 24;

/// The bytes that an object takes as JSON as API servers write it, without its status and who manages which field: both are
/// written by others than the tenant.
pub fn of(object: &Object) -> u32 {
    let Some(fields) = object.value().as_object() else {
        return 0;
    };
    let managed = fields
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    let managed = managed.map_or(0, |value| member("managedFields", value));
    let bytes = members(fields, "status").saturating_sub(managed);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn members(fields: &Map<String, Value>, left_out: &str) -> usize {
    let said = fields.iter().filter(|(name, _)| *name != left_out);
    2 + said.map(|(name, value)| member(name, value)).sum::<usize>()
}

fn member(name: &str, value: &Value) -> usize {
    string(name) + size(value) + 2
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(_) => 5,
        Value::Number(number) => match number.as_u64() {
            Some(whole) => whole.checked_ilog10().map_or(1, digits),
            None => NUMBER,
        },
        Value::String(text) => string(text),
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(fields) => members(fields, ""),
    }
}

fn digits(log: u32) -> usize {
    usize::try_from(log).map_or(NUMBER, |log| log + 1)
}

/// Custom resources are stored as JSON, in which one byte may become six.
fn string(text: &str) -> usize {
    let written = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        b'<' | b'>' | b'&' | 0..=31 => 6,
        _ => 1,
    });
    2 + written.sum::<usize>()
}

/// The limit that a quota says; [`DEFAULT`] where it says none.
pub fn limit(quota: &Amounts) -> u64 {
    quota.get(NAME).map_or(DEFAULT, |amount| {
        u64::try_from(amount / 1000).unwrap_or(u64::MAX)
    })
}

/// As an amount of a quota.
pub fn amount(bytes: u64) -> i128 {
    i128::from(bytes) * 1000
}

/// What is used, in whole Mi, so that not every object changes what is shown.
pub fn rounded(used: u64) -> u64 {
    used.div_ceil(1 << 20) << 20
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Not all that exists is known yet.
    Uncounted,
    /// The limit is reached.
    Exceeded {
        /// What is wanted beside what is there.
        growth: u64,
        /// What is used, with what is being made.
        used: u64,
        /// The limit.
        limit: u64,
    },
}

/// What is known of a write that something was reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What it made is part of what is used, or it made nothing.
    Known,
    /// It may have had effect.
    Unknown,
}

/// What is about to be made, and who waits for room. What is used is the caller's to know, and told with each question.
#[derive(Debug)]
pub struct Ledger {
    limit: u64,
    is_counting: bool,
    /// Sum of the reservations.
    reserved: u64,
    reservations: HashMap<Key, Reservation>,
    /// Objects that were refused, in the order in which they get room.
    waiting: BTreeSet<Key>,
    /// The least that one of them asked for.
    least: u64,
}

#[derive(Debug, Default)]
struct Reservation {
    bytes: u64,
    /// Writes under way.
    makers: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            limit: DEFAULT,
            is_counting: false,
            reserved: 0,
            reservations: HashMap::new(),
            waiting: BTreeSet::new(),
            least: u64::MAX,
        }
    }
}

impl Ledger {
    /// The limit that counts.
    pub fn most(&self) -> u64 {
        self.limit
    }

    /// Takes up a limit; returns who may have room now.
    pub fn limit(&mut self, limit: u64, used: u64) -> Vec<Key> {
        self.limit = limit;
        self.freed(used)
    }

    /// Not all that exists is known: nothing grows until [`Ledger::counted`].
    pub fn count(&mut self) {
        self.is_counting = true;
    }

    /// Whether that is so.
    pub fn is_counting(&self) -> bool {
        self.is_counting
    }

    /// What exists is known; returns who waited.
    pub fn counted(&mut self) -> Vec<Key> {
        self.is_counting = false;
        self.wake()
    }

    /// Reserves what an object grows by, or notes that it waits; one that doesn't grow is always granted. What is granted
    /// must be settled.
    pub fn reserve(&mut self, key: &Key, used: u64, growth: u64) -> Result<(), NoRoom> {
        if growth > 0 {
            let own = self.reservations.get(key).map_or(0, |own| own.bytes);
            let used = used.saturating_add(self.reserved.saturating_sub(own));
            let is_too_much = used.saturating_add(growth) > self.limit;
            if self.is_counting || is_too_much {
                self.waiting.insert(key.clone());
                self.least = self.least.min(growth);
            }
            if self.is_counting {
                return Err(NoRoom::Uncounted);
            }
            if is_too_much {
                let limit = self.limit;
                return Err(NoRoom::Exceeded {
                    growth,
                    used,
                    limit,
                });
            }
        }
        self.waiting.remove(key);
        let own = self.reservations.entry(key.clone()).or_default();
        own.makers += 1;
        // One whose write was never answered may have been made as large as it was.
        let more = growth.saturating_sub(own.bytes);
        own.bytes += more;
        self.reserved += more;
        Ok(())
    }

    /// A write came to an end; returns who may have room now.
    pub fn settle(&mut self, key: &Key, used: u64, outcome: Outcome) -> Vec<Key> {
        let Some(own) = self.reservations.get_mut(key) else {
            return vec![];
        };
        own.makers = own.makers.saturating_sub(1);
        match outcome {
            Outcome::Known => self.let_go(key, used),
            Outcome::Unknown => vec![],
        }
    }

    /// Whatever was reserved for a key that nobody writes is free again; returns who may have room now.
    pub fn let_go(&mut self, key: &Key, used: u64) -> Vec<Key> {
        let is_idle = |own: &Reservation| own.makers == 0;
        if !self.reservations.get(key).is_some_and(is_idle) {
            return vec![];
        }
        if let Some(own) = self.reservations.remove(key) {
            self.reserved = self.reserved.saturating_sub(own.bytes);
        }
        self.freed(used)
    }

    /// Nothing of an object is wanted any more; returns who may have room now.
    pub fn forget(&mut self, key: &Key, used: u64) -> Vec<Key> {
        self.waiting.remove(key);
        self.let_go(key, used)
    }

    /// Less may be used than before; returns who waited, once one of them may have room.
    pub fn freed(&mut self, used: u64) -> Vec<Key> {
        let taken = used.saturating_add(self.reserved);
        let has_room = taken.saturating_add(self.least) <= self.limit;
        if self.is_counting || self.waiting.is_empty() || !has_room {
            return vec![];
        }
        self.wake()
    }

    fn wake(&mut self) -> Vec<Key> {
        self.least = u64::MAX;
        std::mem::take(&mut self.waiting).into_iter().collect()
    }
}

/// What a tenant is told of an object that finds no room.
pub fn explain(growth: u64, used: u64, limit: u64) -> String {
    let said = |bytes: u64| shown(NAME, amount(bytes));
    format!(
        "no room for the bytes of this control plane's objects ({NAME}: {} more of at most {}, of which {} are used): what is \
         there stays as it is, and this is taken up once other objects are deleted or made smaller or the platform raises \
         {NAME} of the quota",
        said(growth),
        said(limit),
        said(rounded(used)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(number: usize) -> Key {
        Key::new(
            crate::kind::index("ConfigMap"),
            "default",
            &format!("c{number}"),
        )
    }

    fn limited(limit: u64) -> Ledger {
        let mut ledger = Ledger::default();
        assert!(ledger.limit(limit, 0).is_empty());
        ledger
    }

    fn weight(object: Value) -> u32 {
        of(&Object::from_value(object).unwrap())
    }

    #[test]
    fn an_object_takes_about_what_is_written_of_it_and_never_less() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "n", "labels": {"a": "b"}, "generation": 1_234},
            "data": {"text": "line\n\"quoted\" \\ \u{1} ünï", "number": "0"},
            "list": [null, true, 0, -7, 1.5],
        });
        let written = object.to_string().len();
        let weighed = usize::try_from(weight(object)).unwrap();
        assert!(weighed >= written, "{weighed} {written}");
        assert!(weighed < written + 100, "{weighed} {written}");
    }

    #[test]
    fn what_others_write_is_not_weighed() {
        let mut object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
        let before = weight(object.clone());
        object["status"] = json!({"text": "x".repeat(1_000)});
        object["metadata"]["managedFields"] = json!([{"manager": "x".repeat(1_000)}]);
        assert_eq!(weight(object), before);
    }

    #[test]
    fn t40_what_makes_json_longer_counts() {
        let long = weight(json!({"metadata": {}, "data": {"k": "<".repeat(1_000)}}));
        assert!(long > 6_000, "{long}");
    }

    #[test]
    fn t43_those_who_ask_at_once_get_no_more_than_the_limit() {
        let mut ledger = limited(1_000);
        let granted = (0..9).filter(|number| ledger.reserve(&key(*number), 0, 300).is_ok());
        assert_eq!(granted.count(), 3);
        // What was made is used before its reservation ends.
        assert!(ledger.settle(&key(0), 300, Outcome::Known).is_empty());
        assert!(ledger.reserve(&key(5), 300, 300).is_err());
        // What was refused by the super cluster gives its room back.
        let woken = ledger.settle(&key(1), 300, Outcome::Known);
        assert_eq!(woken, [key(3), key(4), key(5), key(6), key(7), key(8)]);
        assert_eq!(ledger.reserve(&key(5), 300, 300), Ok(()));
        let no_room = NoRoom::Exceeded {
            growth: 300,
            used: 900,
            limit: 1_000,
        };
        assert_eq!(ledger.reserve(&key(4), 300, 300), Err(no_room));
    }

    #[test]
    fn what_may_have_been_made_is_held_until_it_is_known() {
        let mut ledger = limited(1_000);
        ledger.reserve(&key(0), 0, 800).unwrap();
        assert!(ledger.settle(&key(0), 0, Outcome::Unknown).is_empty());
        assert!(ledger.reserve(&key(1), 0, 300).is_err());
        // Tried again, it asks for no more than it has, and keeps what it may have been.
        ledger.reserve(&key(0), 0, 100).unwrap();
        assert!(ledger.reserve(&key(1), 0, 300).is_err());
        assert_eq!(ledger.settle(&key(0), 100, Outcome::Known), [key(1)]);
        assert_eq!(ledger.reserve(&key(1), 100, 300), Ok(()));
    }

    #[test]
    fn two_writers_of_one_object_hold_its_room_until_both_are_done() {
        let mut ledger = limited(1_000);
        ledger.reserve(&key(0), 0, 600).unwrap();
        ledger.reserve(&key(0), 0, 600).unwrap();
        ledger.settle(&key(0), 0, Outcome::Known);
        assert!(ledger.reserve(&key(1), 0, 600).is_err());
        assert_eq!(ledger.settle(&key(0), 0, Outcome::Known), [key(1)]);
    }

    #[test]
    fn what_is_beyond_the_limit_stays_and_may_shrink() {
        let mut ledger = limited(1_000);
        assert_eq!(ledger.reserve(&key(0), 5_000, 0), Ok(()));
        assert!(ledger.settle(&key(0), 4_000, Outcome::Known).is_empty());
        assert!(ledger.reserve(&key(0), 4_000, 1).is_err());
        assert!(ledger.freed(1_000).is_empty());
        assert_eq!(ledger.freed(999), [key(0)]);
        assert!(ledger.freed(0).is_empty(), "nobody waits any more");
    }

    #[test]
    fn nothing_grows_before_what_exists_is_known() {
        let mut ledger = limited(1_000);
        ledger.count();
        assert_eq!(ledger.reserve(&key(0), 0, 10), Err(NoRoom::Uncounted));
        assert_eq!(ledger.reserve(&key(1), 0, 0), Ok(()));
        assert!(ledger.freed(0).is_empty());
        assert_eq!(ledger.counted(), [key(0)]);
        assert_eq!(ledger.reserve(&key(0), 0, 10), Ok(()));
    }

    #[test]
    fn a_higher_limit_wakes_and_what_is_gone_waits_no_longer() {
        let mut ledger = limited(100);
        for number in 0..2 {
            ledger.reserve(&key(number), 0, 200).unwrap_err();
        }
        assert!(ledger.forget(&key(0), 0).is_empty());
        assert!(ledger.limit(199, 0).is_empty());
        assert_eq!(ledger.limit(200, 0), [key(1)]);
    }

    #[test]
    fn a_class_that_says_nothing_has_a_limit_all_the_same() {
        assert_eq!(limit(&Amounts::new()), DEFAULT);
        let said = Amounts::from([(NAME.to_owned(), amount(7))]);
        assert_eq!(limit(&said), 7);
        assert_eq!(rounded(1), 1 << 20);
        let told = explain(921_600, 15 << 20, 16 << 20);
        assert!(
            told.contains("sublet.dev/bytes: 900Ki more of at most 16Mi, of which 15Mi are used"),
            "{told}"
        );
    }
}
