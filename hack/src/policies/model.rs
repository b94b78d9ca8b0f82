//! What the rules depend on: as little of pods, namespaces and policies as decides who may reach whom.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// All that is known, by `NAMESPACE/NAME`.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) policies: BTreeMap<String, Policy>,
}

/// A pod with an address of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) address: Ipv4Addr,
    /// Named ports: name, protocol, number.
    pub(super) ports: Vec<(String, String, u16)>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) namespace: String,
    pub(super) spec: Value,
}

impl State {
    /// The keys of the kind with that path for which a condition holds.
    pub(super) fn keys(&self, path: &str, condition: impl Fn(&String) -> bool) -> Vec<String> {
        let keys: Vec<&String> = match path.rsplit('/').next() {
            Some("pods") => self.pods.keys().collect(),
            Some("namespaces") => self.namespaces.keys().collect(),
            _ => self.policies.keys().collect(),
        };
        keys.into_iter()
            .filter(|key| condition(key))
            .cloned()
            .collect()
    }
}

/// Puts or removes one entry; true when that changes anything.
pub(super) fn put<T: PartialEq + Clone>(
    map: &mut BTreeMap<String, T>,
    key: String,
    value: Option<T>,
) -> bool {
    match value {
        Some(value) => map.insert(key, value.clone()) != Some(value),
        None => map.remove(&key).is_some(),
    }
}

/// A pod that runs and has an address of its own.
pub(super) fn pod(object: &Value) -> Option<Pod> {
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) || object["spec"]["hostNetwork"] == true {
        return None;
    }
    let containers = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| items(&object["spec"][field]));
    let ports = containers
        .flat_map(|container| items(&container["ports"]))
        .filter_map(|port| {
            let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            Some((port["name"].as_str()?.into(), protocol.into(), number))
        });
    Some(Pod {
        namespace: object["metadata"]["namespace"].as_str()?.into(),
        labels: labels(object),
        address: object.pointer("/status/podIP")?.as_str()?.parse().ok()?,
        ports: ports.collect(),
    })
}

/// The labels of an object.
pub(super) fn labels(object: &Value) -> Labels {
    let labels = object["metadata"]["labels"].as_object();
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A policy.
pub(super) fn policy(object: &Value) -> Option<Policy> {
    Some(Policy {
        namespace: object["metadata"]["namespace"].as_str()?.into(),
        spec: object["spec"].clone(),
    })
}

/// Whether labels match a LabelSelector; an empty one matches everything.
pub(super) fn matches(selector: &Value, labels: &Labels) -> bool {
    let equal = selector["matchLabels"].as_object();
    let equal = equal
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    equal
        && items(&selector["matchExpressions"]).all(|term| {
            let value = term["key"].as_str().and_then(|key| labels.get(key));
            let is_listed =
                || value.is_some_and(|value| items(&term["values"]).any(|item| item == value));
            match term["operator"].as_str() {
                Some("In") => is_listed(),
                Some("NotIn") => !is_listed(),
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// The items of a list; none when it isn't one.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
