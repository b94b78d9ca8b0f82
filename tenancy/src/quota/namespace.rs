//! The second layer: a ResourceQuota in each super namespace, by which the super cluster's own API server holds a tenant to
//! its limits.
//!
//! Each says the whole of the tenant's limits, since one namespace may use all of them: what the ledger grants finds room
//! here as well. So it holds only what both layers count alike, and what nobody but the tenant takes anything of.
//!
//! The super cluster's admission may put containers into pods that say nothing of a limited resource, for which its API
//! server would refuse every pod of the namespace. There this layer holds that resource no longer; the first one does.
//!
//! Not promised: anything over several namespaces. The super cluster's controller counts what ended, so room may come a
//! moment later than the ledger knows of it.

use super::{
    Excess,
    amount::{Amounts, MOST, parse, shown},
};
use crate::{
    kind::{Cx, Resource},
    meta,
    object::Object,
};
use api::keys;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// ResourceQuotas of the super cluster.
pub const RESOURCE: &Resource = &Resource {
    group: "",
    version: "v1",
    kind: "ResourceQuota",
    plural: "resourcequotas",
    namespaced: true,
};

/// Amounts that are no number of all objects of a kind: pods of that name are those that haven't ended.
const SUMS: [&str; 10] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "services.loadbalancers",
    "services.nodeports",
];

/// Kinds whose number is held: of all others Sublet, the super cluster or the platform makes some beside the tenant's, or
/// the first layer doesn't count them.
const COUNTED: [&str; 15] = [
    "configmaps",
    "count/gateways.gateway.networking.k8s.io",
    "count/grpcroutes.gateway.networking.k8s.io",
    "count/httproutes.gateway.networking.k8s.io",
    "count/ingresses.networking.k8s.io",
    "count/poddisruptionbudgets.policy",
    "count/pods",
    "count/referencegrants.gateway.networking.k8s.io",
    "count/resourceclaimtemplates.resource.k8s.io",
    "count/tcproutes.gateway.networking.k8s.io",
    "count/tlsroutes.gateway.networking.k8s.io",
    "count/udproutes.gateway.networking.k8s.io",
    "count/volumesnapshots.snapshot.storage.k8s.io",
    "persistentvolumeclaims",
    "services",
];

/// Room beside the tenant's: ConfigMaps of the super cluster (its authority), of Sublet (variables of pods), and of a
/// platform that puts its own into every namespace.
const BESIDE: (&str, i128) = ("configmaps", 16_000);

/// Suffixes of limits for a storage class.
const OF_CLASS: [&str; 2] = [
    ".storageclass.storage.k8s.io/persistentvolumeclaims",
    ".storageclass.storage.k8s.io/requests.storage",
];

/// How the API server begins what it says of a ResourceQuota of Sublet.
const TOO_MUCH: &str = "exceeded quota: sublet-quota, requested: ";
const UNKNOWN: &str = "status unknown for quota: sublet-quota,";
const FAILED: &str = "failed quota: sublet-quota: must specify ";

/// What of a tenant's limits a ResourceQuota holds; never less than them.
pub fn hard(limits: &Amounts) -> Amounts {
    let held = limits.iter().filter(|(name, _)| is_held(name));
    held.map(|(name, limit)| (name.clone(), in_force(name, *limit)))
        .collect()
}

/// A limit as a ResourceQuota may say it: all but CPUs is counted in whole.
fn in_force(name: &str, limit: i128) -> i128 {
    let beside = if name == BESIDE.0 { BESIDE.1 } else { 0 };
    let limit = limit.min(MOST) + beside;
    let whole = match name {
        "limits.cpu" | "requests.cpu" => limit,
        _ => (limit + 999) / 1000 * 1000,
    };
    whole.min(MOST)
}

/// Whether a ResourceQuota counts this as the first layer does, and takes the name.
fn is_held(name: &str) -> bool {
    if SUMS.contains(&name) || COUNTED.contains(&name) {
        return true;
    }
    let Some((prefix, last)) = name.split_once('/') else {
        let pages = name.strip_prefix("requests.hugepages-");
        return pages.is_some_and(is_word) && is_word(name);
    };
    let is_of_class = OF_CLASS.iter().any(|suffix| name.ends_with(suffix));
    let is_extended = name.starts_with("requests.") && !name.contains("kubernetes.io/");
    (is_of_class || is_extended) && is_subdomain(prefix) && is_word(last)
}

/// The name part of a qualified name.
fn is_word(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let mut all = bytes.iter();
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && all.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// The prefix of a qualified name.
fn is_subdomain(text: &str) -> bool {
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && bytes.all(|byte| is_lower(byte) || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// The ResourceQuota of a super namespace; none where no limit can be held by one.
pub fn wanted(namespace: &str, cx: &Cx<'_>) -> Option<Object> {
    let hard: Map<String, Value> = hard(&cx.rules.limits())
        .into_iter()
        .map(|(name, amount)| {
            let text = shown(&name, amount);
            (name, text.into())
        })
        .collect();
    let metadata = json!({
        "name": api::QUOTA_NAME, "namespace": namespace, "labels": meta::tenant_labels(cx),
    });
    let object = json!({
        "apiVersion": RESOURCE.api_version(), "kind": RESOURCE.kind,
        "metadata": metadata, "spec": {"hard": hard},
    });
    let is_empty = object["spec"]["hard"].as_object().is_none_or(Map::is_empty);
    (!is_empty).then(|| Object::from_value(object).expect("metadata is a map"))
}

/// What must happen to the ResourceQuota of a super namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is as it must be.
    Nothing,
    /// It is made.
    Create(Object),
    /// Its spec becomes this.
    Replace(Object, Value),
    /// It is removed.
    Delete(Object),
    /// Somebody else made one under its name.
    Foreign,
}

/// From what must stand and what does to what must happen. What the super cluster writes into it, its status, is no
/// difference.
pub fn step(want: Option<Object>, have: Option<Object>, cx: &Cx<'_>) -> Step {
    let is_ours = |have: &Object| have.label(keys::TENANT) == Some(cx.rules.id.as_str());
    match (want, have) {
        (None, None) => Step::Nothing,
        (Some(want), None) => Step::Create(want),
        (None, Some(have)) if !is_ours(&have) || have.is_terminating() => Step::Nothing,
        (None, Some(have)) => Step::Delete(have),
        (Some(_), Some(have)) if !is_ours(&have) => Step::Foreign,
        (Some(mut want), Some(have)) => {
            leave_out(&mut want, &unheld(&have));
            if says(&want) == says(&have) {
                return Step::Nothing;
            }
            let spec = want.at("/spec").cloned().unwrap_or_default();
            Step::Replace(have, spec)
        }
    }
}

/// What a ResourceQuota holds no longer, as it says itself.
fn unheld(have: &Object) -> BTreeSet<String> {
    let names = have.annotation(keys::UNHELD).unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn leave_out(want: &mut Object, names: &BTreeSet<String>) {
    let hard = want.value_mut().pointer_mut("/spec/hard");
    if let Some(hard) = hard.and_then(Value::as_object_mut) {
        hard.retain(|name, _| !names.contains(name));
    }
}

/// Annotations and spec of a tenant's ResourceQuota that no longer holds these limits; nothing if it doesn't already.
pub fn less(have: &Object, limits: &BTreeSet<String>, cx: &Cx<'_>) -> Option<(Value, Value)> {
    let before = unheld(have);
    let names: BTreeSet<String> = before.union(limits).cloned().collect();
    let mut want = wanted(have.namespace(), cx)?;
    if names == before || have.label(keys::TENANT) != Some(cx.rules.id.as_str()) {
        return None;
    }
    leave_out(&mut want, &names);
    let names: Vec<String> = names.into_iter().collect();
    let mut annotations = have.at("/metadata/annotations").cloned();
    annotations.get_or_insert_with(|| json!({}))[keys::UNHELD] = names.join(",").into();
    Some((annotations?, want.at("/spec")?.clone()))
}

/// What a ResourceQuota says, whichever way the API server writes quantities; `None` of one that says more than limits.
fn says(quota: &Object) -> Option<Amounts> {
    let spec = quota.at("/spec").and_then(Value::as_object)?;
    let hard = spec.get("hard").and_then(Value::as_object)?;
    let read = |(name, text): (&String, &Value)| Some((name.clone(), parse(text.as_str()?)?));
    (spec.len() == 1).then(|| hard.iter().map(read).collect())?
}

/// A limited resource, and the containers that say nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// The name of the limit.
    pub limit: String,
    /// Names of containers.
    pub containers: Vec<String>,
}

/// The limits of which only containers say nothing that aren't the pod's own; none if one of its own doesn't, either.
pub fn unsaid_by_others(unsaid: &[Unsaid], pod: &Object) -> BTreeSet<String> {
    let own: BTreeSet<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .filter_map(|field| pod.at(&format!("/spec/{field}"))?.as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let mut names = unsaid.iter().flat_map(|one| &one.containers);
    if names.any(|name| own.contains(name.as_str())) {
        return BTreeSet::new();
    }
    unsaid.iter().map(|one| one.limit.clone()).collect()
}

/// Why the ResourceQuota had a write refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These limits would be exceeded.
    Full(Vec<Excess>),
    /// Containers say nothing of these.
    Unsaid(Vec<Unsaid>),
    /// It doesn't say yet what it shall, or nobody has counted yet.
    Unsettled,
}

/// Reads why a write was refused out of the API server's words; `None` when it wasn't by a ResourceQuota of Sublet.
pub fn refusal(message: &str, limits: &Amounts) -> Option<Refusal> {
    if message.contains(UNKNOWN) {
        return Some(Refusal::Unsettled);
    }
    if let Some((_, missing)) = message.split_once(FAILED) {
        let unsaid = missing.split("; ").filter_map(|part| {
            let (limit, containers) = part.split_once(" for: ")?;
            Some(Unsaid {
                limit: limit.to_owned(),
                containers: containers.split(',').map(str::to_owned).collect(),
            })
        });
        return Some(Refusal::Unsaid(unsaid.collect()));
    }
    let (_, said) = message.split_once(TOO_MUCH)?;
    let (requested, rest) = said.split_once(", used: ").unwrap_or_default();
    let (_, limited) = rest.split_once(", limited: ").unwrap_or_default();
    let (requested, limited) = (listed(requested), listed(limited));
    let shall = hard(limits);
    let is_settled = |(name, limit): (&String, &i128)| shall.get(name) == Some(limit);
    if limited.is_empty() || !limited.iter().all(is_settled) {
        return Some(Refusal::Unsettled);
    }
    let excess = limited.keys().filter_map(|name| {
        let asked = requested.get(name).copied().unwrap_or_default();
        Some((name.clone(), asked, *limits.get(name)?))
    });
    Some(Refusal::Full(excess.collect()))
}

/// `NAME=QUANTITY,NAME=QUANTITY`.
fn listed(text: &str) -> Amounts {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(name, quantity)| Some((name.to_owned(), parse(quantity)?)))
        .collect()
}

#[cfg(test)]
mod tests;
