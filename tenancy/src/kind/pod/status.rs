//! Status: binding and status go up, conditions of readiness gates go down, and nothing else does either (T37).
//!
//! What goes up is built by a table, like all that goes down. The tenant's status is compared by the same table, so a
//! write happens exactly when the tenant sees something else than it should.

use super::{
    containers,
    fields::{Fields, Rule, items, select, text},
    placement::pins_node,
    scrub::Scrub,
};
use crate::{
    kind::{Cx, Refused, TenantView, Upward, UpwardVerb},
    meta,
    object::{Object, pick},
};
use api::keys::GENERATION;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Conditions that the super cluster's scheduler, kubelet and controllers set.
const CONDITIONS: [&str; 9] = [
    "AllContainersRestarting",
    "ContainersReady",
    DISRUPTION,
    "Initialized",
    "PodReadyToStartContainers",
    "PodResizeInProgress",
    "PodResizePending",
    "PodScheduled",
    "Ready",
];

/// Fields of a condition that cross, in either direction; generations are each side's own.
const CONDITION_FIELDS: [&str; 5] = [
    "lastProbeTime",
    "lastTransitionTime",
    "message",
    "reason",
    "status",
];

/// Whether a condition is the super cluster's to set, whatever a readiness gate is called.
pub(super) fn is_of_super_cluster(condition: &str) -> bool {
    CONDITIONS.contains(&condition)
}

/// Whether the pod has ended: it is never made again in the super cluster.
pub fn is_finished(pod: &Object) -> bool {
    matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed"))
}

/// The addresses that are a pod's own, or were until it ended: none when it uses its node's.
pub fn own_addresses(pod: &Object) -> Vec<IpAddr> {
    if pod.at("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return vec![];
    }
    let listed = pod.at("/status/podIPs").and_then(Value::as_array);
    let all = listed.into_iter().flatten();
    all.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok())
        .collect()
}

/// The addresses that are a running pod's own: that of one that has ended is given to the next.
pub fn running_addresses(pod: &Object) -> Vec<IpAddr> {
    if is_finished(pod) {
        return vec![];
    }
    own_addresses(pod)
}

/// What the tenant is told of a super pod that can't end, because somebody in the super cluster put a finalizer on it.
pub fn held_up(pod: &Object) -> Option<Refused> {
    let finalizers = pod.at("/metadata/finalizers")?.as_array()?;
    let own_order = |name: &&str| !matches!(*name, "foregroundDeletion" | "orphan");
    let names: Vec<&str> = finalizers
        .iter()
        .filter_map(Value::as_str)
        .filter(own_order)
        .collect();
    (pod.is_terminating() && !names.is_empty()).then(|| {
        let message = format!(
            "the pod is being deleted and waits for the platform, which holds it by {}: it goes once that is done; ask \
             the platform's people if it stays",
            names.join(", ")
        );
        Refused::new("DeletionHeldUp", message)
    })
}

/// The requests that show the tenant where its pod runs and how it is.
///
/// A pod that the tenant sees bound while the super pod isn't has lost its super pod; what becomes of it is for R5, and
/// the new one's status isn't its own.
pub(super) fn up(pod: &Object, tenant: &TenantView, _cx: &Cx<'_>) -> Vec<Upward> {
    let Some(owner) = meta::owner(pod) else {
        return vec![];
    };
    let node = pod.text("/spec/nodeName").filter(|node| !node.is_empty());
    if node.is_none() && tenant.bound {
        return vec![];
    }
    let mut status = projection(pod);
    if let Some(generation) = observed_generation(pod) {
        status["observedGeneration"] = generation.into();
    }
    let scrub = Scrub {
        namespace: (pod.namespace(), &owner.namespace),
        uid: (pod.uid(), &owner.uid),
    };
    for (field, value) in status.as_object_mut().into_iter().flatten() {
        match value {
            Value::String(text) if field == "message" => *text = scrub.text(text),
            // What a container wrote about its own end is no text of the scheduler's, whatever it looks like.
            _ if field.ends_with("ontainerStatuses") => scrub.messages(value, Scrub::names),
            _ => scrub.messages(value, Scrub::text),
        }
    }
    let shows = judged(&mut status);
    let binding = node.filter(|_| !tenant.bound).map(|node| Upward {
        subresource: Some("binding"),
        verb: UpwardVerb::Create,
        body: json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": owner.name, "namespace": owner.namespace, "uid": tenant.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }),
        shows: Some(shows),
    });
    let is_shown = shows == tenant.projection
        || binding.is_some() && without_schedule(&status) == Some(tenant.projection);
    let write = (!is_shown).then(|| Upward {
        subresource: Some("status"),
        verb: UpwardVerb::StrategicMerge,
        // `json!` copies what is put into it.
        body: Value::Object(Map::from_iter([("status".to_owned(), patch(status))])),
        shows: Some(shows),
    });
    binding.into_iter().chain(write).collect()
}

/// Fingerprint of a status in its canonical form.
///
/// When a pod was scheduled is no part of it: the tenant's API server notes the condition by itself, with its own time,
/// when the binding is mirrored. Nor is whether something is about to end the pod: both sides say so of what they do
/// themselves, an eviction for instance, and neither takes it back. What the super cluster says goes up with the next
/// change, which is the pod's end.
fn judged(status: &mut Value) -> u128 {
    if let Some(mut rest) = without(status, is_disruption) {
        return judged(&mut rest);
    }
    let taken = scheduled(status).and_then(|condition| condition.remove(TIME));
    let fingerprint = meta::fingerprint(status);
    if let (Some(time), Some(condition)) = (taken, scheduled(status)) {
        condition.insert(TIME.into(), time);
    }
    fingerprint
}

/// Fingerprint of a status as it was before the binding, if the condition that a binding sets is all that came with it.
fn without_schedule(status: &Value) -> Option<u128> {
    let before = without(status, is_scheduled)?;
    let calm = without(&before, is_disruption);
    Some(meta::fingerprint(calm.as_ref().unwrap_or(&before)))
}

/// A status without one of its conditions, if it has it.
fn without(status: &Value, is: impl Fn(&Value) -> bool) -> Option<Value> {
    items(status, "conditions").find(|condition| is(condition))?;
    let mut rest = status.clone();
    let conditions = rest.get_mut("conditions")?.as_array_mut()?;
    conditions.retain(|condition| !is(condition));
    if conditions.is_empty() {
        rest.as_object_mut()?.remove("conditions");
    }
    Some(rest)
}

/// The condition that the binding of a pod sets, if there is one.
fn scheduled(status: &mut Value) -> Option<&mut Map<String, Value>> {
    let conditions = status.get_mut("conditions")?.as_array_mut()?;
    let found = conditions.iter_mut().find(|entry| is_scheduled(entry))?;
    found.as_object_mut()
}

/// Whether a condition is as the binding of a pod sets it.
fn is_scheduled(condition: &Value) -> bool {
    let plain = condition
        .get("message")
        .or_else(|| condition.get("reason"))
        .is_none();
    plain && text(condition, "type") == "PodScheduled" && text(condition, "status") == "True"
}

/// Whether a condition says that something is about to end the pod.
fn is_disruption(condition: &Value) -> bool {
    text(condition, "type") == DISRUPTION
}

const TIME: &str = "lastTransitionTime";
const DISRUPTION: &str = "DisruptionTarget";

/// The part of a tenant's pod that [`up`] is responsible for.
pub(super) fn up_projection(pod: &Object) -> Value {
    let mut status = projection(pod);
    status = without(&status, is_disruption).unwrap_or(status);
    if let Some(generation) = pod.at("/status/observedGeneration") {
        status["observedGeneration"] = generation.clone();
    }
    if let Some(condition) = scheduled(&mut status) {
        condition.remove(TIME);
    }
    status
}

/// The generation of the tenant's pod whose spec the kubelet has seen, when it has seen all that was applied.
fn observed_generation(pod: &Object) -> Option<i64> {
    let observed = pod.at("/status/observedGeneration")?.as_i64()?;
    let latest = pod.at("/metadata/generation")?.as_i64()?;
    if observed < latest {
        None
    } else {
        pod.annotation(GENERATION)?.parse().ok()
    }
}

/// Status in its canonical form: by the table, without conditions that are the tenant's, ordered.
fn projection(pod: &Object) -> Value {
    let mut status = select(STATUS, pod.at("/status").unwrap_or(&json!({})));
    let Some(fields) = status.as_object_mut() else {
        return status;
    };
    if pins_node(pod) {
        // The API server lets nobody nominate a node for a bound pod, and this is left from before.
        fields.remove("nominatedNodeName");
    }
    if let Some(Value::Array(mut conditions)) = fields.remove("conditions") {
        conditions.retain(|condition| is_of_super_cluster(text(condition, "type")));
        conditions.sort_by(|a, b| text(a, "type").cmp(text(b, "type")));
        if !conditions.is_empty() {
            fields.insert("conditions".into(), conditions.into());
        }
    }
    status
}

/// A strategic merge patch that leads to `status`, whatever was there before.
///
/// In that dialect (`patchStrategy` in the types of the core API) maps and conditions are merged, so what must be gone is
/// named; address lists merge too, so they are replaced outright. Lists of container statuses are replaced anyway.
fn patch(status: Value) -> Value {
    let Value::Object(mut patch) = status else {
        return status;
    };
    let written = STATUS
        .iter()
        .filter(|(_, rule)| !matches!(rule, Rule::Omit(_)));
    for (field, _) in written {
        let value = match (*field, patch.remove(*field)) {
            ("conditions", conditions) => conditions_patch(conditions),
            ("hostIPs" | "podIPs", Some(Value::Array(mut list))) => {
                list.insert(0, json!({"$patch": "replace"}));
                list.into()
            }
            ("allocatedResources", Some(quantities)) => quantities_patch(&quantities),
            ("resources", Some(resources)) => {
                let of = |field| {
                    resources
                        .get(field)
                        .map(quantities_patch)
                        .unwrap_or_default()
                };
                json!({"limits": of("limits"), "requests": of("requests")})
            }
            (_, value) => value.unwrap_or_default(),
        };
        patch.insert((*field).to_owned(), value);
    }
    Value::Object(patch)
}

/// Quantities of a whole pod, with what must be gone named. `$patch: replace` won't do: the API server drops a map that
/// holds it where there was none before.
fn quantities_patch(quantities: &Value) -> Value {
    let mut patch = json!({"cpu": null, "memory": null});
    for (name, quantity) in quantities.as_object().into_iter().flatten() {
        patch[name] = quantity.clone();
    }
    patch
}

fn conditions_patch(conditions: Option<Value>) -> Value {
    let mut patch = match conditions {
        Some(Value::Array(conditions)) => conditions,
        _ => vec![],
    };
    for condition in patch.iter_mut().filter_map(Value::as_object_mut) {
        for field in CONDITION_FIELDS {
            condition.entry(field).or_insert(Value::Null);
        }
    }
    let missing: Vec<Value> = CONDITIONS
        .iter()
        .filter(|kind| **kind != DISRUPTION)
        .filter(|kind| !patch.iter().any(|entry| text(entry, "type") == **kind))
        .map(|kind| json!({"$patch": "delete", "type": kind}))
        .collect();
    patch.extend(missing);
    patch.into()
}

/// The conditions of the tenant's pod that its readiness gates wait for, as the super pod must have them.
///
/// They are the tenant's to set, so they go down; a gate named like a condition of the super cluster's doesn't make that
/// condition the tenant's.
pub(super) fn gate_conditions(pod: &Object) -> Vec<Value> {
    let (Some(spec), Some(status)) = (pod.at("/spec"), pod.at("/status")) else {
        return vec![];
    };
    let gates: Vec<&str> = items(spec, "readinessGates")
        .map(|gate| text(gate, "conditionType"))
        .collect();
    items(status, "conditions")
        .filter(|condition| {
            gates.contains(&text(condition, "type"))
                && !is_of_super_cluster(text(condition, "type"))
        })
        .map(|condition| {
            let mut kept = pick(condition, &CONDITION_FIELDS);
            kept.insert("type".into(), text(condition, "type").into());
            kept.retain(|_, value| !value.is_null());
            Value::Object(kept)
        })
        .collect()
}

/// PodStatus, as a tenant sees it.
pub(super) const STATUS: Fields = &[
    ("allocatedResources", Rule::Pass),
    ("conditions", Rule::List(CONDITION)),
    ("containerStatuses", Rule::List(CONTAINER_STATUS)),
    ("ephemeralContainerStatuses", Rule::List(CONTAINER_STATUS)),
    (
        "extendedResourceClaimStatus",
        Rule::Omit("claims are made by the super cluster"),
    ),
    ("hostIP", Rule::Pass),
    ("hostIPs", Rule::List(&[("ip", Rule::Pass)])),
    ("initContainerStatuses", Rule::List(CONTAINER_STATUS)),
    ("message", Rule::Pass),
    (
        "nodeAllocatableResourceClaimStatuses",
        Rule::Omit("claims are made by the super cluster"),
    ),
    ("nominatedNodeName", Rule::Pass),
    (
        "observedGeneration",
        Rule::Omit("of the tenant's own generation: computed"),
    ),
    ("phase", Rule::Pass),
    ("podIP", Rule::Pass),
    ("podIPs", Rule::List(&[("ip", Rule::Pass)])),
    (
        "qosClass",
        Rule::Omit("the tenant's API server set it for good"),
    ),
    ("reason", Rule::Pass),
    ("resize", Rule::Pass),
    (
        "resourceClaimStatuses",
        Rule::Omit("the tenant's own controllers say which claims are the pod's"),
    ),
    ("resources", Rule::Object(containers::RESOURCES)),
    ("startTime", Rule::Pass),
];

const CONDITION: Fields = &[
    ("lastProbeTime", Rule::Pass),
    ("lastTransitionTime", Rule::Pass),
    ("message", Rule::Pass),
    (
        "observedGeneration",
        Rule::Omit("of the super pod's generation"),
    ),
    ("reason", Rule::Pass),
    ("status", Rule::Pass),
    ("type", Rule::Pass),
];

const CONTAINER_STATUS: Fields = &[
    ("allocatedResources", Rule::Pass),
    (
        "allocatedResourcesStatus",
        Rule::Omit("names devices of the node"),
    ),
    ("containerID", Rule::Pass),
    ("image", Rule::Pass),
    ("imageID", Rule::Pass),
    ("lastState", Rule::Object(STATE)),
    ("name", Rule::Pass),
    ("ready", Rule::Pass),
    ("resources", Rule::Object(containers::RESOURCES)),
    ("restartCount", Rule::Pass),
    ("started", Rule::Pass),
    ("state", Rule::Object(STATE)),
    ("stopSignal", Rule::Pass),
    (
        "user",
        Rule::Object(&[(
            "linux",
            Rule::Object(&[
                ("gid", Rule::Pass),
                ("supplementalGroups", Rule::Pass),
                ("uid", Rule::Pass),
            ]),
        )]),
    ),
    ("volumeMounts", Rule::List(VOLUME_MOUNT_STATUS)),
];

const STATE: Fields = &[
    ("running", Rule::Object(&[("startedAt", Rule::Pass)])),
    ("terminated", Rule::Object(TERMINATED)),
    (
        "waiting",
        Rule::Object(&[("message", Rule::Pass), ("reason", Rule::Pass)]),
    ),
];

const TERMINATED: Fields = &[
    ("containerID", Rule::Pass),
    ("exitCode", Rule::Pass),
    ("finishedAt", Rule::Pass),
    ("message", Rule::Pass),
    ("reason", Rule::Pass),
    ("signal", Rule::Pass),
    ("startedAt", Rule::Pass),
];

const VOLUME_MOUNT_STATUS: Fields = &[
    ("mountPath", Rule::Pass),
    ("name", Rule::Pass),
    ("readOnly", Rule::Pass),
    ("recursiveReadOnly", Rule::Pass),
    (
        "volumeStatus",
        Rule::Object(&[("image", Rule::Object(&[("imageRef", Rule::Pass)]))]),
    ),
];

#[cfg(test)]
mod tests;
