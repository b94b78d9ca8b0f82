//! The super cluster's published objects, as far as all tenants share what must be known of them.

use api::Toleration;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tenancy::{hosts::Hosts, kind, meta, object::Object, offer, taint, tenant::Key};

/// Names, versions and labels of published objects, and what runtimes cost; never the objects.
#[derive(Default)]
pub(crate) struct Offered {
    seen: Mutex<HashMap<Key, OfferedObject>>,
    /// Who has which host.
    pub(crate) hosts: RwLock<Hosts>,
}

struct OfferedObject {
    version: u64,
    /// Fingerprint of what is published of it.
    source: u128,
    labelled: bool,
    /// Of a StorageClass: whether its volumes stay when their claims are gone.
    keeps: bool,
    /// Its namespace in the super cluster.
    namespace: Box<str>,
    /// Of a RuntimeClass: what each pod takes beside its containers.
    overhead: Option<Box<Value>>,
    /// Of a DeviceClass: the extended resource by which pods have its devices.
    resource: Option<Box<str>>,
    /// Of a node: the taints that say whom it is for.
    taints: Box<[Value]>,
}

/// What an event of a published object means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing: all that is published of this version is known.
    None,
    /// Its content may have changed.
    Content,
    /// It is there, or offered, or not offered any more, since now.
    Offer,
}

impl Offered {
    /// An object exists in this state.
    pub(crate) fn note(&self, key: &Key, object: &Object) -> News {
        put(&mut self.seen.lock(), key, object)
    }

    /// An object was read in this state, which is no news if a later one was told.
    pub(crate) fn found(&self, key: &Key, object: &Object) -> News {
        let mut seen = self.seen.lock();
        if seen
            .get(key)
            .is_some_and(|known| known.version >= object.resource_version())
        {
            return News::None;
        }
        put(&mut seen, key, object)
    }

    /// An object is gone.
    pub(crate) fn gone(&self, key: &Key) {
        self.seen.lock().remove(key);
    }

    /// An object that was known at this version wasn't found; returns whether nothing was told of it since.
    pub(crate) fn lost(&self, key: &Key, version: u64) -> bool {
        let mut seen = self.seen.lock();
        let is_it = seen.get(key).is_some_and(|known| known.version == version);
        if is_it {
            seen.remove(key);
        }
        is_it
    }

    /// Version at which an object was last seen, if there is one.
    pub(crate) fn version(&self, key: &Key) -> Option<u64> {
        self.seen.lock().get(key).map(|seen| seen.version)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.seen.lock().keys().cloned().collect()
    }

    /// All keys of a kind.
    pub(crate) fn of(&self, kind: u8) -> Vec<Key> {
        self.missing(kind, &HashSet::new())
    }

    /// Keys of a kind that aren't among `present`.
    pub(crate) fn missing(&self, kind: u8, present: &HashSet<Key>) -> Vec<Key> {
        let seen = self.seen.lock();
        seen.keys()
            .filter(|key| key.kind == kind && !present.contains(key))
            .cloned()
            .collect()
    }

    /// Namespace of the super object; empty when it has none or isn't known.
    pub(crate) fn namespace(&self, key: &Key) -> String {
        let seen = self.seen.lock();
        seen.get(key)
            .map(|seen| seen.namespace.to_string())
            .unwrap_or_default()
    }

    /// What each pod of a RuntimeClass takes beside its containers.
    pub(crate) fn overhead(&self, runtime_class: &str) -> Option<Value> {
        let key = Key::new(kind::index("RuntimeClass"), "", runtime_class);
        self.seen.lock().get(&key)?.overhead.as_deref().cloned()
    }

    /// DeviceClasses whose devices a pod has by this extended resource.
    pub(crate) fn device_classes(&self, resource: &str) -> Vec<String> {
        let kind = kind::index("DeviceClass");
        let seen = self.seen.lock();
        let classes = seen
            .iter()
            .filter(|(key, class)| key.kind == kind && class.resource.as_deref() == Some(resource));
        classes.map(|(key, _)| key.name.to_string()).collect()
    }

    /// Whether a node's taints keep pods out for good that have these tolerations.
    pub(crate) fn keeps_out(&self, key: &Key, tolerations: &[Toleration]) -> bool {
        let seen = self.seen.lock();
        let mut taints = seen
            .get(key)
            .into_iter()
            .flat_map(|node| node.taints.iter());
        taints.any(|taint| taint::keeps_out(taint, tolerations))
    }

    /// Whether it is a StorageClass whose volumes stay when their claims are gone.
    pub(crate) fn keeps_volumes(&self, key: &Key) -> bool {
        self.seen.lock().get(key).is_some_and(|seen| seen.keeps)
    }

    /// Whether the object is offered to every tenant; `None` when there is no such object.
    pub(crate) fn is_labelled(&self, key: &Key) -> Option<bool> {
        self.seen.lock().get(key).map(|seen| seen.labelled)
    }
}

fn put(seen: &mut HashMap<Key, OfferedObject>, key: &Key, object: &Object) -> News {
    let now = OfferedObject {
        version: object.resource_version(),
        source: meta::fingerprint(&key.kind().published_source(object)),
        labelled: offer::is_labelled(object),
        keeps: offer::keeps_volumes(object),
        namespace: object.namespace().into(),
        overhead: object.at("/overhead/podFixed").cloned().map(Box::new),
        resource: object.text("/spec/extendedResourceName").map(Into::into),
        taints: taint::lasting(object).cloned().collect(),
    };
    let (version, source) = (now.version, now.source);
    let (labelled, keeps) = (now.labelled, now.keeps);
    match seen.insert(key.clone(), now) {
        Some(before) if (before.labelled, before.keeps) != (labelled, keeps) => News::Offer,
        Some(before) if before.version == version || before.source == source => News::None,
        Some(_) => News::Content,
        None => News::Offer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changed_is_news() {
        let offered = Offered::default();
        let key = Key::new(kind::index("StorageClass"), "", "fast");
        let object = |version: &str, label: &str, provisioner: &str| {
            let labels = json!({api::keys::PUBLISHED: label});
            Object::from_value(
                json!({"metadata": {"name": "fast", "resourceVersion": version, "labels": labels}, "provisioner": provisioner}),
            )
            .unwrap()
        };
        assert_eq!(offered.note(&key, &object("1", "", "a")), News::Offer);
        assert_eq!(offered.note(&key, &object("1", "", "a")), News::None);
        assert_eq!(offered.note(&key, &object("2", "", "a")), News::None);
        assert_eq!(offered.note(&key, &object("3", "", "b")), News::Content);
        assert_eq!(offered.note(&key, &object("4", "true", "b")), News::Offer);
        assert_eq!(offered.is_labelled(&key), Some(true));
        // One that was made anew while nobody watched.
        let mut kept = object("5", "true", "b").into_value();
        kept["reclaimPolicy"] = "Retain".into();
        let kept = Object::from_value(kept).unwrap();
        assert!(!offered.keeps_volumes(&key));
        assert_eq!(offered.note(&key, &kept), News::Offer);
        assert!(offered.keeps_volumes(&key));
        assert_eq!(
            offered.missing(key.kind, &HashSet::new()),
            std::slice::from_ref(&key)
        );
        offered.gone(&key);
        assert_eq!(offered.is_labelled(&key), None);
    }

    #[test]
    fn a_device_class_is_known_by_its_resource() {
        let offered = Offered::default();
        let key = Key::new(kind::index("DeviceClass"), "", "gpu");
        let class = json!({"metadata": {"name": "gpu", "resourceVersion": "1"},
            "spec": {"extendedResourceName": "example.com/gpu"}});
        offered.note(&key, &Object::from_value(class).unwrap());
        assert_eq!(offered.device_classes("example.com/gpu"), ["gpu"]);
        assert!(offered.device_classes("example.com/fpga").is_empty());
    }

    #[test]
    fn r10_what_is_read_is_no_news_once_something_later_was_told() {
        let offered = Offered::default();
        let key = Key::new(kind::index("StorageClass"), "", "fast");
        let at = |version: &str| {
            let metadata = json!({"name": "fast", "resourceVersion": version});
            Object::from_value(json!({"metadata": metadata, "provisioner": version})).unwrap()
        };
        offered.note(&key, &at("5"));
        assert_eq!(offered.found(&key, &at("4")), News::None);
        assert_eq!(offered.found(&key, &at("6")), News::Content);
        assert!(!offered.lost(&key, 5), "it was told of since");
        assert!(offered.lost(&key, 6));
        assert_eq!(offered.version(&key), None);
    }
}
