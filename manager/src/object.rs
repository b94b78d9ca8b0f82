//! Objects as JSON, and the kinds that the manager handles.
//!
//! JSON keeps fields that this version doesn't know, and one pair of functions serves every kind.

use api::keys;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zeroize::Zeroize;

/// A resource as it is addressed in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    /// `v1` or `GROUP/VERSION`.
    pub(crate) api_version: &'static str,
    /// Such as `Pod`.
    pub(crate) kind: &'static str,
    /// Such as `pods`.
    pub(crate) plural: &'static str,
}

const fn kind(api_version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        api_version,
        kind,
        plural,
    }
}

pub(crate) const NAMESPACE: Kind = kind("v1", "Namespace", "namespaces");
pub(crate) const NODE: Kind = kind("v1", "Node", "nodes");
pub(crate) const POD: Kind = kind("v1", "Pod", "pods");
pub(crate) const SECRET: Kind = kind("v1", "Secret", "secrets");
pub(crate) const CONFIG_MAP: Kind = kind("v1", "ConfigMap", "configmaps");
pub(crate) const SERVICE: Kind = kind("v1", "Service", "services");
pub(crate) const SERVICE_ACCOUNT: Kind = kind("v1", "ServiceAccount", "serviceaccounts");
pub(crate) const CLAIM: Kind = kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims");
pub(crate) const JOB: Kind = kind("batch/v1", "Job", "jobs");
pub(crate) const DEPLOYMENT: Kind = kind("apps/v1", "Deployment", "deployments");
pub(crate) const STATEFUL_SET: Kind = kind("apps/v1", "StatefulSet", "statefulsets");
pub(crate) const DISRUPTION_BUDGET: Kind =
    kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
pub(crate) const NETWORK_POLICY: Kind =
    kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
pub(crate) const SERVICE_CIDR: Kind = kind("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs");
pub(crate) const IP_ADDRESS: Kind = kind("networking.k8s.io/v1", "IPAddress", "ipaddresses");
pub(crate) const ROLE_BINDING: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    "rolebindings",
);
pub(crate) const CLUSTER_ROLE: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "ClusterRole",
    "clusterroles",
);
pub(crate) const CLUSTER_ROLE_BINDING: Kind = kind(
    "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
);
pub(crate) const API_SERVICE: Kind = kind("apiregistration.k8s.io/v1", "APIService", "apiservices");
pub(crate) const VIRTUAL_CONTROL_PLANE: Kind = kind(
    "sublet.dev/v1alpha1",
    "VirtualControlPlane",
    "virtualcontrolplanes",
);
pub(crate) const CONTROL_PLANE_CLASS: Kind = kind(
    "sublet.dev/v1alpha1",
    "ControlPlaneClass",
    "controlplaneclasses",
);
pub(crate) const CONTROL_PLANE_GROUP: Kind = kind(
    "sublet.dev/v1alpha1",
    "ControlPlaneGroup",
    "controlplanegroups",
);

pub(crate) const CLUSTER: Kind = kind("cluster.x-k8s.io/v1beta2", "Cluster", "clusters");
pub(crate) const SUBLET_CONTROL_PLANE: Kind = kind(
    "controlplane.cluster.x-k8s.io/v1alpha1",
    "SubletControlPlane",
    "subletcontrolplanes",
);
pub(crate) const SUBLET_CLUSTER: Kind = kind(
    "infrastructure.cluster.x-k8s.io/v1alpha1",
    "SubletCluster",
    "subletclusters",
);

/// An object with its kind. `Debug` shows the coordinates only, since the body may hold keys; those of a Secret are
/// overwritten in memory when it goes.
#[derive(Clone, PartialEq)]
pub(crate) struct Object {
    /// What it is.
    pub(crate) kind: Kind,
    /// All of it, `apiVersion` and `kind` included.
    pub(crate) body: Value,
}

impl Object {
    /// An object to be written: `body` holds everything but `apiVersion`, `kind`, name and namespace.
    pub(crate) fn new(kind: Kind, namespace: Option<&str>, name: &str, mut body: Value) -> Self {
        body["apiVersion"] = json!(kind.api_version);
        body["kind"] = json!(kind.kind);
        body["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            body["metadata"]["namespace"] = json!(namespace);
        }
        Self { kind, body }
    }

    /// An object as an API server gave it; list items lack `apiVersion` and `kind`. Who wrote which field is half of many an
    /// object, and nobody asks for it.
    pub(crate) fn observed(kind: Kind, mut body: Value) -> Self {
        if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        Self { kind, body }
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.body.pointer("/metadata/namespace")?.as_str()
    }

    pub(crate) fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.body.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.body
            .pointer("/metadata/annotations")?
            .get(key)?
            .as_str()
    }

    /// Whether its deletion was asked for.
    pub(crate) fn is_going(&self) -> bool {
        self.body.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// The string at a JSON pointer, empty when there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The number at a JSON pointer, 0 when there is none.
    pub(crate) fn number(&self, pointer: &str) -> i64 {
        self.body
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    }

    /// The list at a JSON pointer, empty when there is none.
    pub(crate) fn items(&self, pointer: &str) -> &[Value] {
        self.body
            .pointer(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn set_annotation(&mut self, key: &str, value: &str) {
        let slot = &mut self.body["metadata"]["annotations"];
        if !slot.is_object() {
            *slot = json!({});
        }
        slot[key] = json!(value);
    }

    /// Writes the hash of the whole object into it, so that a later pass knows what was applied.
    pub(crate) fn sealed(mut self) -> Self {
        let hash = tenancy::naming::hash(&[self.body.to_string().as_bytes()]);
        self.set_annotation(keys::APPLIED, &hash);
        self
    }

    /// Whether it holds all of these fields, whatever it was applied from.
    pub(crate) fn holds(&self, fields: &Value) -> bool {
        covers(&self.body, fields)
    }

    /// Whether `observed` holds all that `self` asks for, and was applied from just this.
    ///
    /// The hash tells of what this version no longer asks for, the comparison of what someone else edited.
    pub(crate) fn is_met_by(&self, observed: &Object) -> bool {
        self.annotation(keys::APPLIED) == observed.annotation(keys::APPLIED)
            && covers(&observed.body, &self.body)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.kind != SECRET {
            return;
        }
        for field in ["/data", "/stringData"] {
            if let Some(data) = self.body.pointer_mut(field) {
                wipe(data);
            }
        }
    }
}

/// Overwrites all texts in a value.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = self
            .namespace()
            .map(|n| format!("{n}/"))
            .unwrap_or_default();
        write!(f, "{} {namespace}{}", self.kind.kind, self.name())
    }
}

/// Objects by kind and name; all of one namespace, or cluster-scoped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<(Kind, String), Object>);

impl Objects {
    pub(crate) fn insert(&mut self, object: Object) {
        self.0
            .insert((object.kind, object.name().to_owned()), object);
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.0.get(&(kind, name.to_owned()))
    }

    #[cfg(test)]
    pub(crate) fn remove(&mut self, kind: Kind, name: &str) {
        self.0.remove(&(kind, name.to_owned()));
    }

    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.0.values().filter(move |object| object.kind == kind)
    }
}

impl Extend<Object> for Objects {
    fn extend<I: IntoIterator<Item = Object>>(&mut self, objects: I) {
        objects.into_iter().for_each(|object| self.insert(object));
    }
}

impl FromIterator<Object> for Objects {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|object| all.insert(object));
        all
    }
}

/// Whether `have` holds all of `want`: maps may hold more, lists hold exactly as many items, in order.
fn covers(have: &Value, want: &Value) -> bool {
    match (have, want) {
        (Value::Object(have), Value::Object(want)) => {
            want.iter().all(|(key, want)| match have.get(key) {
                // An empty selector selects everything, and a fuller one less.
                Some(have) if key.ends_with("Selector") && is_empty(want) => is_empty(have),
                Some(have) if key == "ownerReferences" => owns(have, want),
                Some(have) => covers(have, want),
                // An API server drops empty values, and list items carry no type.
                None => is_empty(want) || key == "apiVersion" || key == "kind",
            })
        }
        (Value::Array(have), Value::Array(want)) => {
            have.len() == want.len() && have.iter().zip(want).all(|(have, want)| covers(have, want))
        }
        _ => have == want,
    }
}

/// Whether all owners that are asked for are there: an object may have others.
fn owns(have: &Value, want: &Value) -> bool {
    let (have, mut want) = (items(have).iter(), items(want).iter());
    want.all(|want| {
        have.clone()
            .any(|have| have["uid"] == want["uid"] && covers(have, want))
    })
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_texts_of_a_value_are_overwritten() {
        let mut data = json!({"tls.key": "a", "list": ["b", 1], "map": {"c": "d"}});
        wipe(&mut data);
        assert_eq!(
            data,
            json!({"tls.key": "", "list": ["", 1], "map": {"c": ""}})
        );
    }

    #[test]
    fn defaults_of_the_server_are_no_drift_and_edits_are() {
        let want = Object::new(
            SERVICE,
            Some("n"),
            "s",
            json!({"spec": {"ports": [{"port": 1}], "selector": {"a": "b"}, "externalIPs": []}}),
        )
        .sealed();
        let mut have = want.clone();
        have.body["spec"]["type"] = json!("ClusterIP");
        have.body["spec"]["ports"][0]["protocol"] = json!("TCP");
        have.body["spec"]
            .as_object_mut()
            .unwrap()
            .remove("externalIPs");
        assert!(want.is_met_by(&have));

        let mut edited = have.clone();
        edited.body["spec"]["selector"]["a"] = json!("c");
        assert!(!want.is_met_by(&edited));
        edited = have.clone();
        edited.body["spec"]["ports"] = json!([{"port": 1}, {"port": 2}]);
        assert!(!want.is_met_by(&edited));
    }

    #[test]
    fn a_selector_of_everything_that_is_narrowed_is_an_edit() {
        let spec = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
        let want = Object::new(NETWORK_POLICY, Some("n"), "default-deny", spec).sealed();
        assert!(want.is_met_by(&want));
        let mut narrowed = want.clone();
        narrowed.body["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}});
        assert!(!want.is_met_by(&narrowed));
    }

    #[test]
    fn what_is_no_longer_asked_for_shows_by_the_hash() {
        let old =
            Object::new(CONFIG_MAP, None, "c", json!({"data": {"a": "1", "b": "2"}})).sealed();
        let new = Object::new(CONFIG_MAP, None, "c", json!({"data": {"a": "1"}})).sealed();
        assert!(!new.is_met_by(&old));
    }

    #[test]
    fn debug_output_never_shows_a_body() {
        let secret = Object::new(SECRET, Some("n"), "s", json!({"data": {"key": "hidden"}}));
        assert_eq!(format!("{secret:?}"), "Secret n/s");
    }
}
