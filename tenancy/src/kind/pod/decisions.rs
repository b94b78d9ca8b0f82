//! What becomes of every field of a pod, path by path, as the tables say it.
//!
//! Tests hold the list against the schema of running API servers, and each entry against what translation really does. A
//! path is written out to its end: nothing is decided by a prefix alone.

use super::{
    SPEC,
    fields::{Fields, Rule},
};
use crate::refs::Referent;

/// What becomes of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It crosses as it is, if the Pod Security level permits its value.
    Pass,
    /// What it asks for crosses in other words or in another place.
    Translate,
    /// The super cluster's value is the same whatever the tenant writes.
    Force,
    /// A pod that sets it is refused, at the levels `baseline` and `restricted`.
    Refuse,
}

/// Every known path of a pod spec with its decision, such as `spec.containers[].image`.
pub fn decisions() -> Vec<(String, Decision)> {
    let mut found = vec![];
    walk(SPEC, "spec", None, &mut found);
    found
}

type Found = Vec<(String, Decision)>;

/// `inherited` is set below fields that no rule looks into.
fn walk(fields: Fields, path: &str, inherited: Option<Decision>, found: &mut Found) {
    for (name, rule) in fields {
        let path = format!("{path}.{name}");
        let decision = inherited.unwrap_or_else(|| decision(rule));
        found.push((path.clone(), decision));
        let inherited = (decision == Decision::Refuse).then_some(decision);
        below(rule, &path, inherited, found);
    }
}

fn below(rule: &Rule, path: &str, inherited: Option<Decision>, found: &mut Found) {
    match rule {
        Rule::Object(fields) | Rule::Known(fields) => walk(fields, path, inherited, found),
        Rule::List(fields) => walk(fields, &format!("{path}[]"), inherited, found),
        Rule::AboveBaseline(inner) | Rule::Translated(inner) | Rule::Privileged(inner, ..) => {
            below(inner, path, inherited, found);
        }
        Rule::Whole(inner, names) => listed(names, path, decision(inner), found),
        Rule::Pass
        | Rule::Judged
        | Rule::Refers(_)
        | Rule::Omit(_)
        | Rule::Only(..)
        | Rule::Refuse(..) => {}
    }
}

fn decision(rule: &Rule) -> Decision {
    match rule {
        Rule::Pass | Rule::Judged | Rule::Object(_) | Rule::List(_) | Rule::Only(..) => {
            Decision::Pass
        }
        // Secrets and claims keep their names.
        Rule::Refers(Referent::Secret | Referent::Claim) => Decision::Pass,
        Rule::Refers(Referent::ConfigMap) | Rule::Translated(_) | Rule::Known(_) => {
            Decision::Translate
        }
        Rule::Omit(_) => Decision::Force,
        Rule::AboveBaseline(_) | Rule::Privileged(..) | Rule::Refuse(..) => Decision::Refuse,
        Rule::Whole(inner, _) => decision(inner),
    }
}

/// Reads the names of [`Rule::Whole`].
fn listed(names: &str, path: &str, decision: Decision, found: &mut Found) {
    let mut parents = vec![path.to_owned()];
    let mut word = String::new();
    for character in names.chars() {
        let parent = parents.last().map_or("", String::as_str);
        match character {
            '{' => {
                let (name, list) = match word.strip_suffix("[]") {
                    Some(name) => (name, "[]"),
                    None => (word.as_str(), ""),
                };
                let mut next = parent.to_owned();
                if !name.is_empty() {
                    next = format!("{next}.{name}");
                    found.push((next.clone(), decision));
                }
                parents.push(next + list);
                word.clear();
            }
            '}' | ' ' => {
                if !word.is_empty() {
                    found.push((format!("{parent}.{word}"), decision));
                    word.clear();
                }
                if character == '}' {
                    parents.pop();
                }
            }
            _ => word.push(character),
        }
    }
}

#[cfg(test)]
mod tests;
