//! Compares what the super cluster must hold with what it holds, and names the one request that closes the gap.

use crate::{
    kind::Kind,
    meta::{self, Owner},
    object::Object,
};
use api::keys;
use serde_json::{Value, json};

/// The next request for one super object.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It is as it must be.
    Nothing,
    /// POST.
    Create(Object),
    /// JSON Patch, guarded by UID and resourceVersion (R4); one for each subresource that changes.
    Patch(Vec<Patch>),
    /// DELETE, then create anew: an immutable field differs and the object belongs to an older incarnation.
    Replace,
    /// DELETE, then create anew: the tenant's object is the same one and became something else.
    Remake,
}

/// A JSON Patch (RFC 6902) for the object or one of its subresources.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Subresource it goes to, if any.
    pub subresource: Option<&'static str>,
    /// The operations, without the guard that [`guarded`] puts before them.
    pub operations: Vec<Value>,
}

/// One field that must become another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Subresource that the field is written through, if any.
    pub subresource: Option<&'static str>,
    /// JSON pointer of the field.
    pub pointer: String,
    /// What it must be; `None` removes it.
    pub value: Option<Value>,
}

/// The object at the target name isn't this tenant object's: it is never adopted, changed or deleted (R3, T2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the super cluster already has an object of that name that {}", whose(.owner.as_ref()))]
pub struct Foreign {
    /// Whose it is, when it carries marks.
    pub owner: Option<Owner>,
}

fn whose(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!(
            "belongs to tenant {} ({}/{})",
            owner.tenant, owner.namespace, owner.name
        ),
        None => "Sublet didn't make".into(),
    }
}

/// The request that makes `have` into `want`.
///
/// `want` is sealed ([`crate::kind::translate`]). An object of another tenant, or of none, is [`Foreign`]; one of the
/// same tenant object under an older UID is replaced.
pub fn plan(kind: &dyn Kind, want: Object, have: Option<&Object>) -> Result<Plan, Foreign> {
    let Some(have) = have else {
        return Ok(Plan::Create(want));
    };
    let owner = meta::owner(have);
    let wanted = meta::owner(&want);
    match (&owner, &wanted) {
        (Some(owner), Some(wanted)) if owner == wanted => {}
        (Some(owner), Some(wanted)) if is_edited_mark(owner, wanted, &want, have) => {}
        (Some(owner), Some(wanted))
            if owner.tenant == wanted.tenant
                && owner.namespace == wanted.namespace
                && owner.name == wanted.name =>
        {
            return Ok(Plan::Replace);
        }
        _ => return Err(Foreign { owner }),
    }
    if have.is_terminating() {
        // Nothing can be written to it any more; its end brings the key back.
        return Ok(Plan::Nothing);
    }
    if kind.must_be_remade(&want, have) {
        return Ok(Plan::Remake);
    }
    let mut changes = kind.changes(&want, have);
    changes.extend(key_changes(&want, have));
    #[cfg(feature = "without-layer-a")]
    changes.extend(crate::kind::metadata_changes(&want, have));
    Ok(if changes.is_empty() {
        Plan::Nothing
    } else {
        Plan::Patch(patches(changes))
    })
}

/// Whether `have` was made for the very object that is wanted, though its mark names another UID: the hash of what was applied
/// covers the mark as it was written. Somebody edited it, and that costs no pod its life.
fn is_edited_mark(owner: &Owner, wanted: &Owner, want: &Object, have: &Object) -> bool {
    let as_written = Owner {
        uid: wanted.uid.clone(),
        ..owner.clone()
    };
    as_written == *wanted && meta::applied(have) != 0 && meta::applied(have) == meta::applied(want)
}

/// Top-level fields of `want`, other than metadata and status, that differ from `have`, each replaced whole.
///
/// A field that the applied hash says is unchanged in the tenant is still compared, so edits made in the super cluster
/// are undone; fields that only the server's defaults added don't count as a difference.
pub fn whole_fields(want: &Object, have: &Object) -> Vec<Change> {
    let Some(fields) = want.value().as_object() else {
        return vec![];
    };
    let edited = meta::applied(want) != meta::applied(have);
    fields
        .iter()
        .filter(|(field, _)| {
            !matches!(
                field.as_str(),
                "apiVersion" | "kind" | "metadata" | "status"
            )
        })
        .filter(|(field, value)| {
            let now = have.value().get(field.as_str()).unwrap_or(&Value::Null);
            if edited || DATA.contains(&field.as_str()) {
                now != *value && !(is_empty(now) && is_empty(value))
            } else {
                !holds(now, value)
            }
        })
        .map(|(field, value)| Change {
            subresource: None,
            pointer: format!("/{field}"),
            value: Some(value.clone()),
        })
        .chain(removed_fields(want, have))
        .collect()
}

/// Fields in which the server adds nothing: a key that the tenant didn't write is somebody else's.
const DATA: [&str; 3] = ["data", "binaryData", "stringData"];

/// Data fields that `want` no longer has (a ConfigMap whose last key went).
fn removed_fields<'a>(want: &'a Object, have: &'a Object) -> impl Iterator<Item = Change> + 'a {
    DATA.into_iter()
        .filter(|field| want.value().get(field).is_none() && have.value().get(field).is_some())
        .map(|field| Change {
            subresource: None,
            pointer: format!("/{field}"),
            value: None,
        })
}

/// Whether `have` holds everything that `want` says: equal, apart from map entries that the server added.
pub fn holds(have: &Value, want: &Value) -> bool {
    match (have, want) {
        (Value::Object(have), Value::Object(want)) => {
            want.iter().all(|(key, value)| match have.get(key) {
                Some(now) => holds(now, value),
                None => is_empty(value),
            })
        }
        (Value::Array(have), Value::Array(want)) => {
            have.len() == want.len() && have.iter().zip(want).all(|(have, want)| holds(have, want))
        }
        (Value::Null, want) => is_empty(want),
        (have, want) => have == want,
    }
}

/// What the API server leaves out: null, and empty lists, maps and texts.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Labels and annotations: Sublet's own keys are set and removed one by one, those of others stay.
fn key_changes(want: &Object, have: &Object) -> Vec<Change> {
    let mut changes = vec![];
    let before: Vec<&str> = have
        .annotation(keys::APPLIED_KEYS)
        .unwrap_or_default()
        .split(',')
        .collect();
    for (field, mark) in [("labels", "l:"), ("annotations", "a:")] {
        let root = format!("/metadata/{field}");
        let wanted = want.at(&root).and_then(Value::as_object);
        let now = have.at(&root).and_then(Value::as_object);
        if now.is_none() && wanted.is_some_and(|map| !map.is_empty()) {
            changes.push(Change {
                subresource: None,
                pointer: root,
                value: wanted.cloned().map(Value::Object),
            });
            continue;
        }
        for (key, value) in wanted.into_iter().flatten() {
            if now.and_then(|map| map.get(key)) != Some(value) {
                let pointer = format!("{root}/{}", escape(key));
                changes.push(Change {
                    subresource: None,
                    pointer,
                    value: Some(value.clone()),
                });
            }
        }
        let gone = before
            .iter()
            .filter_map(|key| key.strip_prefix(mark))
            .filter(|key| {
                !wanted.is_some_and(|map| map.contains_key(*key))
                    && now.is_some_and(|map| map.contains_key(*key))
            });
        for key in gone {
            changes.push(Change {
                subresource: None,
                pointer: format!("{root}/{}", escape(key)),
                value: None,
            });
        }
    }
    changes
}

/// One patch for each subresource, the object itself last: its annotation with the applied hash says that all is done.
fn patches(changes: Vec<Change>) -> Vec<Patch> {
    let mut subresources: Vec<Option<&'static str>> =
        changes.iter().map(|change| change.subresource).collect();
    subresources.sort_unstable_by(|a, b| b.cmp(a));
    subresources.dedup();
    let of = |subresource| {
        changes
            .iter()
            .filter(move |change| change.subresource == subresource)
    };
    subresources
        .into_iter()
        .map(|subresource| Patch {
            subresource,
            operations: of(subresource).map(operation).collect(),
        })
        .collect()
}

fn operation(change: &Change) -> Value {
    match &change.value {
        Some(value) => json!({"op": "add", "path": change.pointer, "value": value}),
        None => json!({"op": "remove", "path": change.pointer}),
    }
}

/// The body of a JSON Patch that the API server applies only to this incarnation and this version of the object (R4).
pub fn guarded(operations: &[Value], uid: &str, resource_version: &str) -> Value {
    let tests = [
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": resource_version}),
    ];
    tests
        .into_iter()
        .chain(operations.iter().cloned())
        .collect()
}

/// A map key as part of a JSON pointer (RFC 6901 section 3).
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{KINDS, index};

    fn config_map() -> &'static dyn Kind {
        KINDS[usize::from(index("ConfigMap"))]
    }

    fn object(uid: &str, data: Value) -> Object {
        let mut object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "namespace": "s",
                "labels": {"app": "x", keys::TENANT: "aaaaaaaaaaaaaaaaaaaaaaaaaa"},
                "annotations": {keys::NAMESPACE: "n", keys::NAME: "a", keys::UID: uid},
            },
            "data": data,
        }))
        .unwrap();
        meta::seal(&mut object);
        object
    }

    /// The object as the API server gives it back.
    fn stored(mut object: Object) -> Object {
        object.value_mut()["metadata"]["uid"] = "super".into();
        object.value_mut()["metadata"]["resourceVersion"] = "7".into();
        object
    }

    fn apply(object: &Object, plan: Plan) -> Object {
        let Plan::Patch(patches) = plan else {
            panic!("no patch: {plan:?}")
        };
        let mut value = object.value().clone();
        for operation in patches.into_iter().flat_map(|patch| patch.operations) {
            let pointer = operation["path"].as_str().unwrap();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let map = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            match operation["op"].as_str().unwrap() {
                "add" => drop(map.insert(key, operation["value"].clone())),
                "remove" => drop(map.remove(&key).expect("removes what is there")),
                other => panic!("{other}"),
            }
        }
        Object::from_value(value).unwrap()
    }

    #[test]
    fn nothing_there_is_a_create_and_the_same_is_nothing() {
        let want = object("u", json!({"k": "v"}));
        assert_eq!(
            plan(config_map(), want.clone(), None),
            Ok(Plan::Create(want.clone()))
        );
        assert_eq!(
            plan(config_map(), want.clone(), Some(&stored(want))),
            Ok(Plan::Nothing)
        );
    }

    #[test]
    fn a_patch_leads_to_nothing_and_spares_the_keys_of_others() {
        let mut have = object("u", json!({"k": "v", "old": "1"}));
        have.value_mut()["metadata"]["labels"]["theirs"] = "1".into();
        have.annotate("gone", "1");
        meta::seal(&mut have);
        have.value_mut()["metadata"]["annotations"][keys::APPLIED_KEYS] = "l:app,a:gone".into();
        let have = stored(have);
        let want = object("u", json!({"k": "w"}));
        let after = apply(
            &have,
            plan(config_map(), want.clone(), Some(&have)).unwrap(),
        );
        assert_eq!(after.at("/data"), Some(&json!({"k": "w"})));
        assert_eq!(
            (after.label("theirs"), after.annotation("gone")),
            (Some("1"), None)
        );
        assert_eq!(plan(config_map(), want, Some(&after)), Ok(Plan::Nothing));
    }

    #[test]
    fn an_edit_in_the_super_cluster_is_undone() {
        let want = object("u", json!({"k": "v"}));
        let mut have = stored(want.clone());
        have.value_mut()["data"]["k"] = "edited".into();
        let after = apply(
            &have,
            plan(config_map(), want.clone(), Some(&have)).unwrap(),
        );
        assert_eq!(after.at("/data/k"), Some(&json!("v")));

        have = stored(want.clone());
        have.value_mut()["data"]["added"] = "x".into();
        let after = apply(&have, plan(config_map(), want, Some(&have)).unwrap());
        assert_eq!(after.at("/data"), Some(&json!({"k": "v"})));
    }

    #[test]
    fn foreign_objects_are_never_adopted() {
        let want = object("u", json!({}));
        let unmarked = Object::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert!(plan(config_map(), want.clone(), Some(&unmarked)).is_err());
        let mut other = stored(want.clone());
        other.value_mut()["metadata"]["labels"][keys::TENANT] = "bbbbbbbbbbbbbbbbbbbbbbbbbb".into();
        let foreign = plan(config_map(), want, Some(&other)).unwrap_err();
        assert!(foreign.to_string().contains("bbbbbbbbbbbbbbbbbbbbbbbbbb"));
    }

    #[test]
    fn an_older_incarnation_is_replaced() {
        let have = stored(object("old", json!({})));
        assert_eq!(
            plan(config_map(), object("new", json!({})), Some(&have)),
            Ok(Plan::Replace)
        );
    }

    #[test]
    fn an_edited_mark_is_put_right_and_what_it_is_on_stays() {
        let want = object("u", json!({"k": "v"}));
        let mut have = stored(want.clone());
        have.annotate(keys::UID, "edited");
        let after = apply(
            &have,
            plan(config_map(), want.clone(), Some(&have)).unwrap(),
        );
        assert_eq!(after.annotation(keys::UID), Some("u"));
        // Of what was applied to another object, or to nobody knows which, it says nothing.
        let mut others = stored(object("old", json!({"k": "v"})));
        for mark in [None, Some("0")] {
            if let Some(mark) = mark {
                others.annotate(keys::APPLIED, mark);
            }
            let planned = plan(config_map(), want.clone(), Some(&others));
            assert_eq!(planned, Ok(Plan::Replace));
        }
        let mut foreign = have;
        foreign.annotate(keys::NAME, "b");
        assert!(plan(config_map(), want, Some(&foreign)).is_err());
    }

    #[test]
    fn server_defaults_are_no_difference() {
        assert!(holds(&json!({"a": 1, "default": true}), &json!({"a": 1})));
        assert!(holds(&json!([{"a": 1, "b": 2}]), &json!([{"a": 1}])));
        assert!(holds(&json!({}), &json!({"a": [], "b": "", "c": null})));
        assert!(!holds(&json!([1, 2]), &json!([1])));
        assert!(!holds(&json!({"a": 2}), &json!({"a": 1})));
    }
}
