//! Updates: the few fields of a pod that can change after its creation, each through its own door.
//!
//! The API server refuses any other change (`ValidatePodUpdate`, `ValidatePodResize` and
//! `ValidatePodEphemeralContainersUpdate` of Kubernetes 1.36), so nothing else is compared, and what the super cluster
//! added when the pod was made (defaults, limits of a LimitRange, tolerations) stays.

use super::{
    defaults,
    fields::{items, text},
    status,
};
use crate::{
    meta,
    object::Object,
    plan::{Change, holds},
};
use serde_json::{Map, Value, json};

/// What must change in the super pod `have` to make it `want`.
pub(super) fn changes(want: &Object, have: &Object) -> Vec<Change> {
    let (Some(want_spec), Some(have_spec)) = (defaults::asked(want), have.at("/spec")) else {
        return vec![];
    };
    let want_spec = &*want_spec;
    let mut changes = vec![];
    for list in ["initContainers", "containers"] {
        for (index, (have, want)) in pairs(have_spec, want_spec, list).enumerate() {
            images(&format!("/spec/{list}/{index}"), want, have, &mut changes);
            resources(
                &format!("/spec/{list}/{index}/resources"),
                want,
                have,
                &mut changes,
            );
        }
    }
    resources("/spec/resources", want_spec, have_spec, &mut changes);
    deadlines(want_spec, have_spec, &mut changes);
    changes.extend(tolerations(want_spec, have_spec));
    gates(want_spec, have_spec, &mut changes);
    changes.extend(ephemeral_containers(want_spec, have_spec));
    gate_conditions(want, have, &mut changes);
    changes
}

/// `want` without what a create may not set, if it has any of it; [`changes`] adds it afterwards.
pub(super) fn creatable(want: &Object) -> Option<Object> {
    want.at("/status")
        .or_else(|| want.at("/spec/ephemeralContainers"))?;
    let mut first = want.clone();
    let object = first.value_mut().as_object_mut()?;
    object.remove("status");
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("ephemeralContainers");
    }
    meta::seal(&mut first);
    Some(first)
}

/// The containers of `have`, in its order, each with the one of that name in `want`.
///
/// A container that only `have` has was injected by the super cluster; it is paired with itself, to keep positions.
fn pairs<'a>(
    have: &'a Value,
    want: &'a Value,
    list: &str,
) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let wanted: Vec<&Value> = items(want, list).collect();
    items(have, list).map(move |have| {
        let named = wanted
            .iter()
            .find(|want| text(want, "name") == text(have, "name"));
        (have, named.copied().unwrap_or(have))
    })
}

fn images(pointer: &str, want: &Value, have: &Value, changes: &mut Vec<Change>) {
    if text(want, "image") != text(have, "image") {
        changes.push(set(
            None,
            format!("{pointer}/image"),
            text(want, "image").into(),
        ));
    }
}

/// Requests and limits that differ are set; those that only `have` has stay, since a resize can't remove any.
fn resources(pointer: &str, want: &Value, have: &Value, changes: &mut Vec<Change>) {
    let Some(wanted) = want.get("resources") else {
        return;
    };
    let now = have.get("resources").unwrap_or(&Value::Null);
    if holds(now, wanted) {
        return;
    }
    let mut merged: Map<String, Value> = now.as_object().cloned().unwrap_or_default();
    for field in ["requests", "limits"] {
        let mut quantities = now
            .get(field)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        quantities.extend(
            wanted
                .get(field)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        );
        if !quantities.is_empty() {
            merged.insert(field.into(), quantities.into());
        }
    }
    changes.push(set(Some("resize"), pointer.to_owned(), merged.into()));
}

/// A deadline may be set or shortened, and a negative grace period may become 1.
fn deadlines(want: &Value, have: &Value, changes: &mut Vec<Change>) {
    let number = |spec: &Value, field: &str| spec.get(field).and_then(Value::as_i64);
    if let Some(deadline) = number(want, "activeDeadlineSeconds")
        && number(have, "activeDeadlineSeconds").is_none_or(|now| deadline < now)
    {
        changes.push(set(
            None,
            "/spec/activeDeadlineSeconds".into(),
            deadline.into(),
        ));
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    if number(want, GRACE) == Some(1) && number(have, GRACE).is_some_and(|now| now < 0) {
        changes.push(set(None, format!("/spec/{GRACE}"), 1.into()));
    }
}

/// Tolerations may be added, and their seconds changed; those that the super cluster added stay.
fn tolerations(want: &Value, have: &Value) -> Option<Change> {
    let identity = |toleration: &Value| {
        let operator = Some(text(toleration, "operator"))
            .filter(|operator| !operator.is_empty())
            .unwrap_or("Equal");
        ["key", "value", "effect"]
            .map(|field| text(toleration, field).to_owned())
            .into_iter()
            .chain([operator.to_owned()])
            .collect::<Vec<_>>()
    };
    let before: Vec<Value> = items(have, "tolerations").cloned().collect();
    let mut after = before.clone();
    for toleration in items(want, "tolerations") {
        match after
            .iter_mut()
            .find(|known| identity(known) == identity(toleration))
        {
            Some(known)
                if known.get("tolerationSeconds") != toleration.get("tolerationSeconds") =>
            {
                *known = toleration.clone();
            }
            Some(_) => {}
            None => after.push(toleration.clone()),
        }
    }
    (after != before).then(|| set(None, "/spec/tolerations".into(), after.into()))
}

/// Scheduling gates may be removed; while there are any, the node selector and node affinity may be narrowed.
fn gates(want: &Value, have: &Value, changes: &mut Vec<Change>) {
    let wanted: Vec<&str> = items(want, "schedulingGates")
        .map(|gate| text(gate, "name"))
        .collect();
    let now: Vec<&Value> = items(have, "schedulingGates").collect();
    if now.is_empty() {
        return;
    }
    let left: Vec<&Value> = now
        .iter()
        .copied()
        .filter(|gate| wanted.contains(&text(gate, "name")))
        .collect();
    if left.len() < now.len() {
        let pointer = "/spec/schedulingGates".to_owned();
        let value = (!left.is_empty()).then(|| left.into_iter().cloned().collect());
        changes.push(Change {
            subresource: None,
            pointer,
            value,
        });
    }
    if let Some(selector) = want.get("nodeSelector")
        && !holds(have.get("nodeSelector").unwrap_or(&Value::Null), selector)
    {
        changes.push(set(None, "/spec/nodeSelector".into(), selector.clone()));
    }
    if let Some(affinity) = want.pointer("/affinity/nodeAffinity")
        && !holds(
            have.pointer("/affinity/nodeAffinity")
                .unwrap_or(&Value::Null),
            affinity,
        )
        && may_become(have.pointer(TERMS), want.pointer(TERMS))
    {
        changes.push(match have.get("affinity") {
            Some(_) => set(None, "/spec/affinity/nodeAffinity".into(), affinity.clone()),
            None => set(
                None,
                "/spec/affinity".into(),
                json!({"nodeAffinity": affinity}),
            ),
        });
    }
}

/// Node terms of a pod that is there.
const TERMS: &str =
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// Whether node terms may become these: each only grows at its end (`validateNodeAffinityMutation`). A pod that was made while
/// its class asked for other nodes keeps its terms, so that its gates can go all the same.
fn may_become(have: Option<&Value>, want: Option<&Value>) -> bool {
    let list = |terms: Option<&Value>| terms.and_then(Value::as_array).cloned().unwrap_or_default();
    let (have, want) = (list(have), list(want));
    let mut pairs = have.iter().zip(&want);
    have.is_empty() || have.len() == want.len() && pairs.all(|(have, want)| grows(have, want))
}

/// Whether a node term has all of another at its beginning. One that asks for nothing, which no node meets, stays so.
fn grows(have: &Value, want: &Value) -> bool {
    const PARTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let is_empty = |term: &Value| PARTS.iter().all(|part| items(term, part).next().is_none());
    let is_kept = |part: &&str| {
        let mut after = items(want, part);
        items(have, part).all(|one| after.next() == Some(one))
    };
    PARTS.iter().all(is_kept) && (!is_empty(have) || is_empty(want))
}

/// Ephemeral containers may be added.
fn ephemeral_containers(want: &Value, have: &Value) -> Option<Change> {
    const LIST: &str = "ephemeralContainers";
    let mut all: Vec<&Value> = items(have, LIST).collect();
    let before = all.len();
    let known = |name: &str| items(have, LIST).any(|container| text(container, "name") == name);
    all.extend(items(want, LIST).filter(|container| !known(text(container, "name"))));
    (all.len() > before).then(|| {
        set(
            Some("ephemeralcontainers"),
            format!("/spec/{LIST}"),
            all.into_iter().cloned().collect(),
        )
    })
}

/// Conditions of readiness gates: fields of those that are there, then removals from the end, then new ones, so that
/// every position still holds when its operation is carried out.
fn gate_conditions(want: &Object, have: &Object, changes: &mut Vec<Change>) {
    let have_status = have.at("/status").unwrap_or(&Value::Null);
    let wanted: Vec<&Value> = want
        .at("/status")
        .map(|status| items(status, "conditions").collect())
        .unwrap_or_default();
    // A gate that the super cluster injected is for the super cluster to open.
    let is_gate = |kind: &str| {
        want.at("/spec").is_some_and(|spec| {
            items(spec, "readinessGates").any(|gate| text(gate, "conditionType") == kind)
        }) && !status::is_of_super_cluster(kind)
    };
    let (mut removals, mut known) = (vec![], vec![]);
    for (index, condition) in items(have_status, "conditions").enumerate() {
        let kind = text(condition, "type");
        known.push(kind);
        let pointer = format!("/status/conditions/{index}");
        match wanted.iter().find(|want| text(want, "type") == kind) {
            Some(want) => changes.extend(condition_fields(&pointer, want, condition)),
            None if is_gate(kind) => removals.push(Change {
                subresource: Some("status"),
                pointer,
                value: None,
            }),
            None => {}
        }
    }
    changes.extend(removals.into_iter().rev());
    let missing: Vec<Value> = wanted
        .into_iter()
        .filter(|want| !known.contains(&text(want, "type")))
        .cloned()
        .collect();
    if known.is_empty() && !missing.is_empty() {
        changes.push(set(
            Some("status"),
            "/status/conditions".into(),
            missing.into(),
        ));
    } else {
        changes.extend(
            missing
                .into_iter()
                .map(|new| set(Some("status"), "/status/conditions/-".into(), new)),
        );
    }
}

fn condition_fields(pointer: &str, want: &Value, have: &Value) -> Vec<Change> {
    let fields = ["lastTransitionTime", "message", "reason", "status"];
    let differing = fields
        .into_iter()
        .filter(|field| want.get(*field) != have.get(*field));
    differing
        .map(|field| Change {
            subresource: Some("status"),
            pointer: format!("{pointer}/{field}"),
            value: want.get(field).cloned(),
        })
        .collect()
}

fn set(subresource: Option<&'static str>, pointer: String, value: Value) -> Change {
    Change {
        subresource,
        pointer,
        value: Some(value),
    }
}

#[cfg(test)]
mod tests;
