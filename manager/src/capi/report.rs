//! What is said about an object of the provider; pure.

use super::facts::Facts;
use api::{Condition, set_condition};
use serde_json::{Value, json};

/// Field that says which spec was gone by.
const SEEN: &str = "observedGeneration";

/// What the status shall say; conditions and fields that aren't named stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Report {
    /// Conditions to set.
    pub(super) conditions: Vec<Fact>,
    /// Fields to set.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// Type of the condition.
    pub(super) kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub(super) status: &'static str,
    /// Word for programs.
    pub(super) reason: String,
    /// Sentence for people.
    pub(super) message: String,
}

/// Why something isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocker {
    /// Word for programs.
    pub(super) reason: String,
    /// Sentence for people: what is wrong, with which object, and what to do.
    pub(super) message: String,
}

impl Blocker {
    pub(super) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

impl Fact {
    pub(super) fn yes(kind: &'static str, reason: &str) -> Self {
        Self::of(kind, "True", Blocker::new(reason, ""))
    }

    pub(super) fn no(kind: &'static str, blocker: Blocker) -> Self {
        Self::of(kind, "False", blocker)
    }

    pub(super) fn of(kind: &'static str, status: &'static str, blocker: Blocker) -> Self {
        Self {
            kind,
            status,
            reason: blocker.reason,
            message: blocker.message,
        }
    }
}

fn paused(why: &str) -> Fact {
    let message = format!("{why}: nothing is changed until it is unset");
    Fact::of("Paused", "True", Blocker::new("Paused", message))
}

impl Report {
    /// Set aside: nothing else is said, since nothing else was looked at; the spec that was gone by last stays that.
    pub(super) fn paused(seen: &Facts, why: &str) -> Self {
        Self {
            conditions: vec![paused(why)],
            fields: vec![(SEEN, seen.object.body["status"][SEEN].clone())],
        }
    }

    /// Something is said, and that the object isn't set aside.
    pub(super) fn of(mut conditions: Vec<Fact>) -> Self {
        conditions.push(Fact::no("Paused", Blocker::new("NotPaused", "")));
        Self {
            conditions,
            fields: vec![],
        }
    }

    /// The same, of an object that is set aside besides, if it is.
    pub(super) fn set_aside(mut self, why: Option<&str>) -> Self {
        if let Some(why) = why {
            self.set(paused(why));
        }
        self
    }

    /// The same with fields.
    pub(super) fn with(mut self, fields: Vec<(&'static str, Value)>) -> Self {
        self.fields = fields;
        self
    }

    /// Says a condition in place of what was to be said of it.
    pub(super) fn set(&mut self, fact: Fact) {
        self.conditions.retain(|said| said.kind != fact.kind);
        self.conditions.push(fact);
    }

    /// The merge patch that makes the status say this; `None` when it does already.
    pub(super) fn patch(&self, seen: &Facts) -> Option<Value> {
        let current = &seen.object.body["status"];
        let generation = seen.metadata.generation;
        // A list that doesn't parse was written by somebody else: it is written anew.
        let mut conditions: Vec<Condition> =
            serde_json::from_value(current["conditions"].clone()).unwrap_or_default();
        let now = seen.now.round(jiff::Unit::Second).unwrap_or(seen.now);
        for fact in &self.conditions {
            set_condition(
                &mut conditions,
                Condition {
                    type_: fact.kind.into(),
                    status: fact.status.into(),
                    reason: fact.reason.clone(),
                    message: fact.message.clone(),
                    last_transition_time: now.to_string(),
                    observed_generation: generation,
                },
            );
        }
        let mut status = json!({SEEN: generation, "conditions": conditions});
        for (field, value) in &self.fields {
            status[*field] = value.clone();
        }
        let says_it = |(field, value): (&String, &Value)| &current[field] == value;
        let same = status
            .as_object()
            .is_some_and(|fields| fields.iter().all(says_it));
        (!same).then(|| json!({"status": status}))
    }
}
