//! Kubeconfigs of tenants whose API server Sublet didn't make: each is watched where its owner put it.
//!
//! A Secret beside the VirtualControlPlane is read by name, one watch for each; the right to do so comes from a
//! RoleBinding that `sublet attach` makes. Where it is missing, the copy that the manager makes is used.

use crate::{
    client::Cluster,
    error::Error,
    kubeconfig::Text,
    lasting,
    registry::Registry,
    watch::{self, Presence, Sink, Target},
};
use api::VirtualControlPlane;
use data_encoding::BASE64;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tenancy::object::{NamespacedName, Object};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info_span;

/// What the Secrets say, by their place: the texts under their keys.
pub(crate) type Texts = HashMap<NamespacedName, BTreeMap<String, Text>>;

/// Where a tenant's kubeconfig is, if its API server runs elsewhere.
pub(crate) fn place(namespace: &str, vcp: &VirtualControlPlane) -> Option<NamespacedName> {
    let reference = &vcp.spec.external.as_ref()?.kubeconfig_secret_ref;
    Some((namespace.to_owned(), reference.name.clone()))
}

/// The text of a tenant's kubeconfig, once its Secret was read.
pub(crate) fn text(namespace: &str, vcp: &VirtualControlPlane, texts: &Texts) -> Option<Text> {
    let key = &vcp.spec.external.as_ref()?.kubeconfig_secret_ref.key;
    texts.get(&place(namespace, vcp)?)?.get(key).cloned()
}

/// Why a tenant has no kubeconfig, if it must have its own and its Secret has been looked for.
pub(crate) fn missing(namespace: &str, vcp: &VirtualControlPlane, texts: &Texts) -> Option<String> {
    let reference = &vcp.spec.external.as_ref()?.kubeconfig_secret_ref;
    let (name, key) = (&reference.name, &reference.key);
    let found = texts.get(&place(namespace, vcp)?)?;
    (!found.contains_key(key))
        .then(|| format!("no kubeconfig: there is no Secret {namespace}/{name} with the key {key}"))
}

/// Starts a watch for each Secret that is wanted and has none, and ends those that nobody wants.
pub(crate) fn follow(
    registry: &Arc<Registry>,
    cluster: &Cluster,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
    running: &mut HashMap<NamespacedName, CancellationToken>,
    wanted: &HashSet<NamespacedName>,
) {
    running.retain(|place, watch| {
        let stays = wanted.contains(place);
        if !stays {
            watch.cancel();
            registry.heard_external(|texts| drop(texts.remove(place)));
        }
        stays
    });
    for place in wanted {
        if running.contains_key(place) {
            continue;
        }
        let stop = cancel.child_token();
        running.insert(place.clone(), stop.clone());
        let target = Target {
            path: format!("/api/v1/namespaces/{}/secrets", place.0),
            selector: None,
            name: Some(place.1.clone()),
            api_version: "v1".into(),
            kind: "Secret".into(),
            presence: Presence::Certain,
        };
        let sink = SecretSink {
            registry: registry.clone(),
            place: place.clone(),
            is_found: AtomicBool::new(false),
        };
        let cluster = cluster.clone();
        lasting::spawn(
            tasks,
            info_span!("kubeconfig watch"),
            &stop.clone(),
            async move {
                watch::run(&cluster, &target, &sink, &stop).await;
            },
        );
    }
}

struct SecretSink {
    registry: Arc<Registry>,
    place: NamespacedName,
    /// The list that goes on has it.
    is_found: AtomicBool,
}

impl Sink for SecretSink {
    fn listing(&self) {
        self.is_found.store(false, Ordering::Relaxed);
    }

    fn applied(&self, object: Object) {
        self.is_found.store(true, Ordering::Relaxed);
        let data = object.at("/data").and_then(serde_json::Value::as_object);
        let texts = data.into_iter().flatten().filter_map(|(key, value)| {
            let bytes = BASE64.decode(value.as_str()?.as_bytes()).ok()?;
            Some((key.clone(), Text::new(String::from_utf8(bytes).ok()?)))
        });
        let found: BTreeMap<String, Text> = texts.collect();
        self.registry
            .heard_external(|texts| drop(texts.insert(self.place.clone(), found)));
    }

    fn deleted(&self, _object: Object) {
        self.registry.heard_external(|texts| {
            texts.insert(self.place.clone(), BTreeMap::new());
        });
    }

    /// A Secret that isn't there is one without keys.
    fn listed(&self, _version: u64) {
        if !self.is_found.swap(false, Ordering::Relaxed) {
            self.registry.heard_external(|texts| {
                texts.insert(self.place.clone(), BTreeMap::new());
            });
        }
    }

    fn interrupted(&self, error: &Error) {
        tracing::debug!(namespace = %self.place.0, secret = %self.place.1, err = %error, "a kubeconfig can't be watched");
    }
}
