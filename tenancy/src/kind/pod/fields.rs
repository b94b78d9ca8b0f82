//! Tables of known fields, and the walk that builds one object from another by them.
//!
//! A super object is built from what a table names; it is never a copy with fields removed. So a field that the table
//! doesn't name, at any depth, can't cross by accident: a newer Kubernetes gives it a meaning that this version can't
//! judge (T38). The same tables say where a pod refers to other objects, so no reference can be forgotten (T22).

use crate::{
    kind::{Reference, Refused},
    refs::Referent,
};
use api::PodSecurity;
use serde_json::{Map, Value};
use std::fmt;

/// The known fields of one type of object.
pub(in crate::kind) type Fields = &'static [(&'static str, Rule)];

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub(in crate::kind) enum Rule {
    /// Copied: a scalar, or a list or map of scalars.
    Pass,
    /// Copied; whether its value is allowed is for the Pod Security level (`security.rs`).
    Judged,
    /// Treated by the inner rule, and then refused by every level but `privileged` (`security.rs`).
    AboveBaseline(&'static Rule),
    /// Treated by the inner rule, and then changed by a step.
    Translated(&'static Rule),
    /// An object, built by its own table.
    Object(Fields),
    /// A list of objects, each built by the table.
    List(Fields),
    /// An object of known fields that is left out, since a step puts something else in its place.
    Known(Fields),
    /// Treated by the inner rule without a look at what is in it. The text names the fields of Kubernetes 1.36 below it,
    /// `[]` before a brace for a list: `{a b{c} d[]{e}}`.
    Whole(&'static Rule, &'static str),
    /// The name of another object, translated.
    Refers(Referent),
    /// Left out; the text says why, or what a later step puts in its place.
    Omit(
        #[allow(dead_code, reason = "for readers of the table and of its golden file")]
        &'static str,
    ),
    /// Copied if it has one of these values, else refused with a reason and a remedy.
    Only(&'static [&'static str], &'static str, &'static str),
    /// Treated by the inner rule at the level `privileged`, else refused with a reason and a remedy.
    Privileged(&'static Rule, &'static str, &'static str),
    /// Refused with a reason and a remedy.
    Refuse(&'static str, &'static str),
}

impl Rule {
    /// The rule that says what the field is made of, without those around it.
    pub(in crate::kind) fn inner(&self) -> &Rule {
        match self {
            Rule::AboveBaseline(inner)
            | Rule::Translated(inner)
            | Rule::Whole(inner, _)
            | Rule::Privileged(inner, ..) => inner.inner(),
            rule => rule,
        }
    }
}

/// Where in an object the walk is, for messages.
#[derive(Clone, Copy)]
pub(in crate::kind) enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Builds an object of the type `fields` from `from`.
///
/// At the level `privileged` unknown fields are passed on, else the whole object is refused.
pub(in crate::kind) fn build(
    fields: Fields,
    from: &Value,
    path: &Path<'_>,
    level: PodSecurity,
) -> Result<Value, Refused> {
    let from = from.as_object().ok_or_else(|| malformed(path))?;
    let mut built = Map::new();
    for (name, value) in from.iter().filter(|(_, value)| !value.is_null()) {
        let path = Path::Field(path, name);
        let value = match fields.iter().find(|(field, _)| field == name) {
            Some((_, rule)) => apply(rule, value, &path, level)?,
            None if level == PodSecurity::Privileged => Some(value.clone()),
            None => return Err(unknown(&path)),
        };
        built.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(Value::Object(built))
}

fn apply(
    rule: &Rule,
    value: &Value,
    path: &Path<'_>,
    level: PodSecurity,
) -> Result<Option<Value>, Refused> {
    match rule {
        Rule::Pass | Rule::Judged => flat(value, path, level).map(Some),
        Rule::AboveBaseline(inner) | Rule::Translated(inner) | Rule::Whole(inner, _) => {
            apply(inner, value, path, level)
        }
        Rule::Object(fields) => build(fields, value, path, level).map(Some),
        Rule::Known(fields) => build(fields, value, path, level).map(|_| None),
        Rule::List(fields) => {
            let items = value.as_array().ok_or_else(|| malformed(path))?;
            let build = |(index, item)| build(fields, item, &Path::Item(path, index), level);
            items
                .iter()
                .enumerate()
                .map(build)
                .collect::<Result<Vec<_>, _>>()
                .map(|list| Some(list.into()))
        }
        Rule::Refers(referent) => {
            let name = value.as_str().ok_or_else(|| malformed(path))?;
            referent.super_name(name).map(|name| Some(name.into()))
        }
        Rule::Omit(_) => Ok(None),
        Rule::Only(values, reason, remedy) => {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            if text.is_empty() || values.contains(&text.as_str()) {
                return Ok(Some(value.clone()));
            }
            Err(Refused::new(reason, format!("{path} is {value}: {remedy}")))
        }
        Rule::Privileged(..) | Rule::Refuse(..) if is_unset(value) => Ok(None),
        Rule::Privileged(inner, ..) if level == PodSecurity::Privileged => {
            apply(inner, value, path, level)
        }
        Rule::Privileged(_, reason, remedy) | Rule::Refuse(reason, remedy) => {
            Err(Refused::new(reason, format!("{path} is refused: {remedy}")))
        }
    }
}

/// A leaf keeps its shape: fields below it would be unknown ones.
fn flat(value: &Value, path: &Path<'_>, level: PodSecurity) -> Result<Value, Refused> {
    let scalar = |value: &Value| !value.is_array() && !value.is_object();
    let flat = match value {
        Value::Array(items) => items.iter().all(scalar),
        Value::Object(map) => map.values().all(scalar),
        _ => true,
    };
    if flat || level == PodSecurity::Privileged {
        Ok(value.clone())
    } else {
        Err(unknown(path))
    }
}

/// What the API server stores for a field that nobody set. An empty map isn't: `gitRepo: {}` chooses a volume type.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        Value::Object(_) => false,
    }
}

fn unknown(path: &Path<'_>) -> Refused {
    Refused::new(
        "UnknownField",
        format!(
            "{path} isn't known to this version of Sublet, which can't tell what it would permit: remove the field, or \
             ask the platform for a newer Sublet or for the Pod Security level privileged"
        ),
    )
}

fn malformed(path: &Path<'_>) -> Refused {
    Refused::new(
        "MalformedPod",
        format!("{path} hasn't the form that Kubernetes gives it: write it anew"),
    )
}

/// The part of `from` that the table passes; all else is left out, and so are nulls and empty lists and texts.
///
/// For status, where what isn't known is merely not shown.
pub(in crate::kind) fn select(fields: Fields, from: &Value) -> Value {
    let Some(from) = from.as_object() else {
        return Value::Null;
    };
    let mut selected = Map::new();
    for (name, value) in from.iter().filter(|(_, value)| !is_absent(value)) {
        let Some((_, rule)) = fields.iter().find(|(field, _)| field == name) else {
            continue;
        };
        let value = match rule {
            Rule::Pass => value.clone(),
            Rule::Object(fields) => select(fields, value),
            Rule::List(fields) => value
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| select(fields, item))
                .collect(),
            _ => continue,
        };
        selected.insert(name.clone(), value);
    }
    Value::Object(selected)
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Null)
        || value.as_str() == Some("")
        || value.as_array().is_some_and(Vec::is_empty)
}

/// Every ConfigMap and Secret that `from` refers to, by its name in the tenant.
pub(in crate::kind) fn references(fields: Fields, from: &Value, found: &mut Vec<Reference>) {
    for (name, value) in from.as_object().into_iter().flatten() {
        let Some((_, rule)) = fields.iter().find(|(field, _)| field == name) else {
            continue;
        };
        match rule.inner() {
            Rule::Object(fields) => references(fields, value, found),
            Rule::List(fields) => {
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|item| references(fields, item, found));
            }
            Rule::Refers(referent @ (Referent::ConfigMap | Referent::Secret)) => {
                let name = value.as_str().filter(|name| !name.is_empty());
                found.extend(name.map(|name| Reference {
                    kind: referent.kind(),
                    name: name.to_owned(),
                }));
            }
            _ => {}
        }
    }
}

/// Whether an object of the type `fields` may refer to ConfigMaps or Secrets.
pub(in crate::kind) fn may_refer(fields: Fields) -> bool {
    fields.iter().any(|(_, rule)| match rule.inner() {
        Rule::Object(fields) | Rule::List(fields) => may_refer(fields),
        Rule::Refers(referent) => matches!(referent, Referent::ConfigMap | Referent::Secret),
        _ => false,
    })
}

/// Calls `visit` with the path and rule of every field of a table, at every depth.
#[cfg(test)]
pub(in crate::kind) fn each(fields: Fields, path: &str, visit: &mut dyn FnMut(&str, &Rule)) {
    for (name, rule) in fields {
        let path = format!("{path}.{name}");
        visit(&path, rule);
        match rule.inner() {
            Rule::Object(fields) | Rule::Known(fields) => each(fields, &path, visit),
            Rule::List(fields) => each(fields, &format!("{path}[]"), visit),
            _ => {}
        }
    }
}

/// The table `fields` with one field more; `N` is their number.
pub(in crate::kind) const fn with<const N: usize>(
    fields: Fields,
    more: (&'static str, Rule),
) -> [(&'static str, Rule); N] {
    let mut all = [more; N];
    let mut index = 0;
    while index < fields.len() {
        all[index] = fields[index];
        index += 1;
    }
    all
}

/// The objects of a list field; none when it is missing.
pub(in crate::kind) fn items<'a>(
    object: &'a Value,
    field: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    object
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The objects of a list field, to change.
pub(in crate::kind) fn items_mut<'a>(
    object: &'a mut Value,
    field: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// The text of a field; empty when it is missing.
pub(in crate::kind) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a field is `true`.
pub(in crate::kind) fn is_true(object: &Value, field: &str) -> bool {
    object
        .get(field)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}
