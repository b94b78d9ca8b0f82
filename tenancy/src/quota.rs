//! One quota over all of a tenant's namespaces: what may be used, what is, and what waits for room.
//!
//! The amounts are those of the *super* objects, so nothing that a tenant can write changes them. Whoever wants to make an
//! object reserves its amounts first, in one step with the decision; the reservation becomes use when the object is seen.

pub mod amount;
pub mod demand;

use crate::tenant::Key;
use amount::{Amounts, shown};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What of a tenant's quota is taken, and by whom.
#[derive(Debug, Default)]
pub struct Ledger {
    hard: Amounts,
    entries: HashMap<Key, Entry>,
    used: Amounts,
    /// Objects that were refused, in the order in which they get room.
    waiting: BTreeSet<Key>,
    /// UIDs of objects that ended while the super cluster is being counted; `None` when it isn't.
    ended: Option<HashSet<String>>,
}

#[derive(Debug)]
struct Entry {
    /// UID of the super object; empty while it is only reserved.
    uid: String,
    amounts: Amounts,
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// What exists hasn't been counted yet.
    Uncounted,
    /// These are exceeded: name, what was asked, and the limit.
    Exceeded(Vec<(String, i128, i128)>),
}

impl Ledger {
    /// The limits; empty when there is no quota.
    pub fn hard(&self) -> &Amounts {
        &self.hard
    }

    /// Each limit with what is used of it.
    pub fn state(&self) -> BTreeMap<String, (i128, i128)> {
        let used = |name: &String| self.used.get(name).copied().unwrap_or_default();
        self.hard
            .iter()
            .map(|(name, hard)| (name.clone(), (used(name), *hard)))
            .collect()
    }

    /// Takes up limits; what exists must be counted anew, and nothing is granted meanwhile.
    ///
    /// Returns what waited when there is no limit any more.
    pub fn limit(&mut self, hard: Amounts) -> Vec<Key> {
        self.hard = hard;
        self.entries.clear();
        self.used.clear();
        if self.hard.is_empty() {
            self.ended = None;
            return self.wake();
        }
        self.ended = Some(HashSet::new());
        vec![]
    }

    /// Whether what exists has yet to be counted.
    pub fn is_counting(&self) -> bool {
        self.ended.is_some()
    }

    /// Everything that exists was seen; returns what waited.
    pub fn counted(&mut self) -> Vec<Key> {
        self.ended = None;
        self.wake()
    }

    /// Reserves what an object asks for, or notes that it waits; less than it has already is always granted.
    pub fn reserve(&mut self, key: &Key, demand: &Amounts) -> Result<(), NoRoom> {
        if self.hard.is_empty() {
            return Ok(());
        }
        let demand = self.limited(demand);
        if self.is_counting() {
            self.waiting.insert(key.clone());
            return Err(NoRoom::Uncounted);
        }
        let before = self.entries.get(key).map(|entry| &entry.amounts);
        let before = |name: &str| before.and_then(|amounts| amounts.get(name)).copied();
        let mut exceeded = vec![];
        for (name, asked) in &demand {
            let had = before(name).unwrap_or_default();
            let used = self.used.get(name).copied().unwrap_or_default();
            let hard = self.hard[name];
            if *asked > had && used - had + asked > hard {
                exceeded.push((name.clone(), *asked, hard));
            }
        }
        if !exceeded.is_empty() {
            self.waiting.insert(key.clone());
            return Err(NoRoom::Exceeded(exceeded));
        }
        self.waiting.remove(key);
        let uid = self.entries.get(key).map(|entry| entry.uid.clone());
        self.put(key, uid.unwrap_or_default(), demand);
        Ok(())
    }

    /// A super object exists, within the limits or not; returns what waited when it takes less than before.
    pub fn exists(&mut self, key: &Key, uid: &str, demand: &Amounts) -> Vec<Key> {
        if self.hard.is_empty() || self.ended.as_ref().is_some_and(|ended| ended.contains(uid)) {
            return vec![];
        }
        let demand = self.limited(demand);
        let before = self.entries.get(key).map(|entry| entry.amounts.clone());
        let shrinks = before
            .into_iter()
            .flatten()
            .any(|(name, amount)| demand.get(&name).copied().unwrap_or_default() < amount);
        self.put(key, uid.to_owned(), demand);
        if shrinks { self.wake() } else { vec![] }
    }

    /// A super object ended; returns what waited for room.
    pub fn ended(&mut self, key: &Key, uid: &str) -> Vec<Key> {
        if let Some(ended) = &mut self.ended {
            ended.insert(uid.to_owned());
        }
        if self.entries.get(key).is_some_and(|entry| entry.uid == uid) {
            self.remove(key)
        } else {
            vec![]
        }
    }

    /// What was reserved won't be made, or nothing of it is wanted any more; returns what waited for room.
    pub fn abandon(&mut self, key: &Key) -> Vec<Key> {
        self.waiting.remove(key);
        if self
            .entries
            .get(key)
            .is_some_and(|entry| entry.uid.is_empty())
        {
            self.remove(key)
        } else {
            vec![]
        }
    }

    fn limited(&self, demand: &Amounts) -> Amounts {
        let limited = demand
            .iter()
            .filter(|(name, _)| self.hard.contains_key(*name));
        limited
            .map(|(name, amount)| (name.clone(), *amount))
            .collect()
    }

    fn put(&mut self, key: &Key, uid: String, amounts: Amounts) {
        self.take_out(key);
        for (name, amount) in &amounts {
            *self.used.entry(name.clone()).or_default() += amount;
        }
        self.entries.insert(key.clone(), Entry { uid, amounts });
    }

    fn remove(&mut self, key: &Key) -> Vec<Key> {
        self.take_out(key);
        self.wake()
    }

    fn take_out(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        for (name, amount) in entry.amounts {
            *self.used.entry(name).or_default() -= amount;
        }
    }

    fn wake(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }
}

/// What a tenant is told of what it exceeds; the same text for as long as the limits are the same.
pub fn explain(exceeded: &[(String, i128, i128)]) -> String {
    let parts: Vec<String> = exceeded
        .iter()
        .map(|(name, asked, hard)| {
            format!(
                "{name}: {} more of at most {}",
                shown(name, *asked),
                shown(name, *hard)
            )
        })
        .collect();
    format!(
        "no room in the quota of this control plane ({}): it is made once something else is deleted or the platform \
         raises the quota; the ConfigMap {} in kube-system shows what is used",
        parts.join(", "),
        api::QUOTA_NAME,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: usize) -> Key {
        Key::new(crate::kind::index("Pod"), "default", &format!("p{number}"))
    }

    fn amounts(pairs: &[(&str, i128)]) -> Amounts {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), *amount))
            .collect()
    }

    fn one() -> Amounts {
        amounts(&[("pods", 1000), ("requests.cpu", 500)])
    }

    fn counted(hard: &[(&str, i128)]) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.limit(amounts(hard));
        ledger.counted();
        ledger
    }

    #[test]
    fn exactly_what_fits_is_granted_and_the_rest_waits() {
        let mut ledger = counted(&[("pods", 3000)]);
        let granted = (0..9).filter(|number| ledger.reserve(&pod(*number), &one()).is_ok());
        assert_eq!(granted.count(), 3);
        assert_eq!(ledger.state()["pods"], (3000, 3000));
        // Again and again changes nothing.
        assert_eq!(ledger.reserve(&pod(0), &one()), Ok(()));
        assert_eq!(
            ledger.reserve(&pod(5), &one()),
            Err(NoRoom::Exceeded(vec![("pods".into(), 1000, 3000)]))
        );
        ledger.exists(&pod(0), "u0", &one());
        let woken = ledger.ended(&pod(0), "u0");
        assert_eq!(woken.len(), 6);
        assert_eq!(ledger.reserve(&pod(5), &one()), Ok(()));
        assert_eq!(ledger.state()["pods"], (3000, 3000));
    }

    #[test]
    fn nothing_is_granted_before_what_exists_is_counted() {
        let mut ledger = Ledger::default();
        ledger.limit(amounts(&[("pods", 1000)]));
        assert_eq!(ledger.reserve(&pod(1), &one()), Err(NoRoom::Uncounted));
        // It ended after the list was made and before the list arrived.
        ledger.ended(&pod(2), "u2");
        ledger.exists(&pod(2), "u2", &one());
        assert_eq!(ledger.counted(), [pod(1)]);
        assert_eq!(ledger.reserve(&pod(1), &one()), Ok(()));
    }

    #[test]
    fn what_exists_counts_even_beyond_the_limit_and_may_shrink() {
        let mut ledger = Ledger::default();
        ledger.limit(amounts(&[("requests.cpu", 600)]));
        for number in 0..2 {
            ledger.exists(&pod(number), &format!("u{number}"), &one());
        }
        ledger.counted();
        assert_eq!(ledger.state()["requests.cpu"], (1000, 600));
        let smaller = amounts(&[("requests.cpu", 100)]);
        assert_eq!(ledger.reserve(&pod(0), &smaller), Ok(()));
        let larger = amounts(&[("requests.cpu", 200)]);
        assert!(ledger.reserve(&pod(0), &larger).is_err());
        assert_eq!(ledger.state()["requests.cpu"], (600, 600));
    }

    #[test]
    fn an_older_objects_end_frees_nothing_of_a_newer_one() {
        let mut ledger = counted(&[("pods", 1000)]);
        ledger.exists(&pod(1), "new", &one());
        ledger.ended(&pod(1), "old");
        assert_eq!(ledger.state()["pods"], (1000, 1000));
        ledger.abandon(&pod(1));
        assert_eq!(ledger.state()["pods"], (1000, 1000));
    }

    #[test]
    fn a_reservation_that_is_given_up_is_free_again() {
        let mut ledger = counted(&[("pods", 1000)]);
        ledger.reserve(&pod(1), &one()).unwrap();
        assert!(ledger.reserve(&pod(2), &one()).is_err());
        assert_eq!(ledger.abandon(&pod(1)), [pod(2)]);
        assert_eq!(ledger.state()["pods"], (0, 1000));
        assert_eq!(Ledger::default().reserve(&pod(1), &one()), Ok(()));
    }
}
