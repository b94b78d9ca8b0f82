//! Which changes are news to a pass.
//!
//! A pass makes some twenty requests. Of what is written to the objects that it looks at, most changes nothing that it
//! goes by: what it wrote itself, what the syncer counts, a pod's steps on its way. So each object is boiled down to its
//! *essence*, which stands beside the code that reads it, and is told of when that changes and when it is gone.
//!
//! Not promised: that everything is told. What an essence leaves out is seen by the next pass, a minute later at most.

use crate::object::{DEPLOYMENT, Kind, Object, POD, STATEFUL_SET};
use api::{VirtualControlPlane, keys};
use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::DynamicObject,
    core::{ApiResource, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    future::ready,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Namespace and name.
type Key = (Option<String>, String);

/// The versions of VirtualControlPlanes that the manager's own last words in them made.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnWords(Arc<Mutex<HashMap<Key, String>>>);

impl OwnWords {
    /// Takes note of what an API server answered to a write.
    pub(crate) fn note(&self, written: &Object) {
        let key = (
            written.namespace().map(str::to_owned),
            written.name().into(),
        );
        let version = written.text("/metadata/resourceVersion").to_owned();
        self.0.lock().insert(key, version);
    }

    /// Whether the object is just what such a write made of it.
    fn made(&self, vcp: &VirtualControlPlane) -> bool {
        self.0.lock().get(&key(vcp)) == vcp.metadata.resource_version.as_ref()
    }

    fn forget(&self, vcp: &VirtualControlPlane) {
        self.0.lock().remove(&key(vcp));
    }
}

/// VirtualControlPlanes that somebody else than the manager itself told something of.
pub(crate) fn of_virtual_control_planes(
    events: impl Stream<Item = watcher::Result<watcher::Event<VirtualControlPlane>>>,
    own: OwnWords,
) -> impl Stream<Item = watcher::Result<VirtualControlPlane>> {
    let listened = events.inspect({
        let own = own.clone();
        move |event| {
            if let Ok(watcher::Event::Delete(vcp)) = event {
                own.forget(vcp);
            }
        }
    });
    only(listened, move |vcp| match own.made(vcp) {
        true => Relevance::OnDeletion,
        false => Relevance::IfChanged(digest(&essence_of(vcp))),
    })
}

/// A VirtualControlPlane as those see it who tell of it in their own status: all but what the syncer counts.
pub(crate) fn but_counts(vcp: &VirtualControlPlane) -> Relevance {
    Relevance::IfChanged(digest(&essence_of(vcp)))
}

/// Whether two states of a VirtualControlPlane are the same but for that. What can't be read is another.
pub(crate) fn differ_in_counts(one: &Object, other: &Object) -> bool {
    let essence = |object: &Object| {
        let vcp = VirtualControlPlane::deserialize(&object.body);
        vcp.ok().map(|vcp| essence_of(&vcp))
    };
    essence(one).is_some_and(|essence_of_one| Some(essence_of_one) == essence(other))
}

/// Objects of which something else than the status has changed: that is for others to read.
pub(crate) fn beside_status<K: Resource>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> impl Stream<Item = watcher::Result<K>> {
    only(events, but_status)
}

/// All of an object but its status.
pub(crate) fn but_status<K: Resource>(object: &K) -> Relevance {
    let metadata = object.meta();
    // The generation stands for the spec.
    Relevance::IfChanged(digest(&json!([
        metadata.uid,
        metadata.generation,
        metadata.labels,
        metadata.annotations,
        metadata.finalizers,
        metadata.owner_references,
        metadata.deletion_timestamp,
    ])))
}

/// The same events; of those that are news by what is `told` of an object, somebody else is told as well.
pub(crate) fn telling<K: Resource>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    told: impl Fn(&K) -> Relevance,
    tell: impl Fn(&K),
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> {
    let mut sieve = Sieve::new(told);
    events.inspect(move |event| {
        let is_news = sieve.lets_through(event);
        match event {
            Ok(
                watcher::Event::Apply(object)
                | watcher::Event::InitApply(object)
                | watcher::Event::Delete(object),
            ) if is_news => tell(object),
            _ => {}
        }
    })
}

/// The same events, without who wrote what of an object.
pub(crate) fn without_writers<K: Resource>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> {
    events.modify(|object: &mut K| object.meta_mut().managed_fields = None)
}

/// Pods and workloads of control planes, when something has changed that `essence` holds.
pub(crate) fn of_parts(
    client: &Client,
    kind: Kind,
    config: watcher::Config,
    essence: fn(&Object) -> Value,
) -> impl Stream<Item = watcher::Result<DynamicObject>> + use<> {
    let events = watcher(Api::all_with(client.clone(), &resource(kind)), config).default_backoff();
    only(events, move |object: &DynamicObject| {
        // What can't be read is told of: the pass says what is wrong.
        let read = serde_json::to_value(object).ok();
        match read.map(|body| essence(&Object::observed(kind, body))) {
            Some(essence) => Relevance::IfChanged(digest(&essence)),
            None => Relevance::Always,
        }
    })
}

/// Namespaces: those of control planes whenever they change, and the tenants' own while they end.
pub(crate) fn of_namespaces<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<K>>>>,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()>,
{
    only(events, |namespace: &PartialObjectMeta<K>| {
        let role = namespace.labels().get(keys::ROLE).map(String::as_str);
        let is_told =
            role == Some(keys::ROLE_CONTROL_PLANE) || namespace.meta().deletion_timestamp.is_some();
        if is_told {
            Relevance::Always
        } else {
            Relevance::OnDeletion
        }
    })
}

/// How the type is known to the API.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    let (group, version) = kind
        .api_version
        .split_once('/')
        .unwrap_or(("", kind.api_version));
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: kind.api_version.into(),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
    }
}

/// Kinds that [`of_parts`] watches.
pub(crate) const PARTS: [Kind; 3] = [POD, DEPLOYMENT, STATEFUL_SET];

/// What is told of a change.
pub(crate) enum Relevance {
    /// It is news.
    Always,
    /// It is news if this differs from what was known.
    IfChanged(u64),
    /// It is none: the object's end will be.
    OnDeletion,
}

/// The objects of those events that are news. What is there at the beginning is, too.
fn only<K: Resource>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    told: impl Fn(&K) -> Relevance,
) -> impl Stream<Item = watcher::Result<K>> {
    let mut sieve = Sieve::new(told);
    let news = events.filter_map(move |event| {
        let is_news = sieve.lets_through(&event);
        ready(is_news.then_some(event))
    });
    news.touched_objects()
}

/// Tells news from what is known.
struct Sieve<F> {
    told: F,
    known: HashMap<Key, u64>,
    /// What was known before a list began.
    before: HashMap<Key, u64>,
}

impl<F> Sieve<F> {
    fn new(told: F) -> Self {
        Self {
            told,
            known: HashMap::new(),
            before: HashMap::new(),
        }
    }

    fn lets_through<K: Resource>(&mut self, event: &watcher::Result<watcher::Event<K>>) -> bool
    where
        F: Fn(&K) -> Relevance,
    {
        match event {
            Ok(watcher::Event::Init) => {
                self.before = std::mem::take(&mut self.known);
                true
            }
            Ok(watcher::Event::InitDone) => {
                self.before.clear();
                true
            }
            Ok(watcher::Event::Delete(object)) => {
                self.known.remove(&key(object));
                true
            }
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let key = key(object);
                match (self.told)(object) {
                    Relevance::Always => true,
                    Relevance::OnDeletion => false,
                    Relevance::IfChanged(essence) => {
                        let listed_before = self.before.remove(&key);
                        self.known.insert(key, essence).or(listed_before) != Some(essence)
                    }
                }
            }
            Err(_) => true,
        }
    }
}

/// All but what changes with each write, and what the syncer counts.
fn essence_of(vcp: &VirtualControlPlane) -> Value {
    let metadata = &vcp.metadata;
    let mut status = json!(vcp.status);
    status["quota"].take();
    status["sync"].take();
    json!([
        metadata.uid,
        metadata.labels,
        metadata.annotations,
        metadata.finalizers,
        metadata.owner_references,
        metadata.deletion_timestamp,
        vcp.spec,
        status,
    ])
}

fn digest(essence: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    essence.hash(&mut hasher);
    hasher.finish()
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, stream};
    use kube::runtime::watcher::Event;

    fn vcp(version: &str, status: Value) -> VirtualControlPlane {
        let metadata = json!({"name": "a", "namespace": "n", "resourceVersion": version});
        let body = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": metadata, "spec": {}, "status": status,
        });
        serde_json::from_value(body).unwrap()
    }

    /// The resource versions of those that are told of.
    fn told<K: Resource>(news: impl Stream<Item = watcher::Result<K>>) -> Vec<String> {
        let all = news.map(|object| object.unwrap().resource_version().unwrap());
        all.collect::<Vec<_>>().now_or_never().unwrap()
    }

    #[test]
    fn what_the_manager_said_itself_is_no_news_and_what_the_syncer_says_is() {
        let own = OwnWords::default();
        let written = json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "2"}});
        own.note(&Object::observed(
            crate::object::VIRTUAL_CONTROL_PLANE,
            written,
        ));
        let synced = json!([{
            "type": "Synced", "status": "True", "reason": "Watching", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        let events = [
            Event::InitApply(vcp("1", json!({}))),
            Event::Apply(vcp("2", json!({"phase": "Provisioning"}))),
            Event::Apply(vcp("3", json!({"conditions": synced}))),
            // The same said once more, as by a write that changes nothing that is gone by.
            Event::Apply(vcp("4", json!({"conditions": synced}))),
            Event::Delete(vcp("5", json!({"conditions": synced}))),
        ];
        let news = of_virtual_control_planes(stream::iter(events.map(Ok)), own.clone());
        assert_eq!(told(news), ["1", "3", "5"]);
        assert!(own.0.lock().is_empty());
    }

    #[test]
    fn what_is_listed_anew_is_news_only_if_it_differs() {
        let pod = |version: &str, ip: &str| {
            let body = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "etcd-0", "namespace": "n", "resourceVersion": version},
                "ip": ip,
            });
            serde_json::from_value::<DynamicObject>(body).unwrap()
        };
        let events = [
            Event::Init,
            Event::InitApply(pod("1", "a")),
            Event::InitDone,
            Event::Apply(pod("2", "b")),
            Event::Init,
            Event::InitApply(pod("3", "b")),
            Event::InitDone,
            Event::Apply(pod("4", "b")),
            Event::Init,
            Event::InitApply(pod("5", "c")),
        ];
        let essence = |pod: &DynamicObject| Relevance::IfChanged(digest(&pod.data["ip"]));
        let news = only(stream::iter(events.map(Ok)), essence);
        assert_eq!(told(news), ["1", "2", "5"]);
    }

    #[test]
    fn a_status_is_no_news_and_a_spec_a_label_and_the_end_are() {
        let cluster = |version: &str, generation: i64, label: &str, phase: &str| {
            let body = json!({
                "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
                "metadata": {
                    "name": "blue", "namespace": "team", "resourceVersion": version,
                    "generation": generation, "labels": {"a": label},
                },
                "status": {"phase": phase},
            });
            serde_json::from_value::<DynamicObject>(body).unwrap()
        };
        let events = [
            Event::InitApply(cluster("1", 1, "x", "Pending")),
            Event::Apply(cluster("2", 1, "x", "Provisioning")),
            Event::Apply(cluster("3", 2, "x", "Provisioning")),
            Event::Apply(cluster("4", 2, "y", "Provisioned")),
            Event::Delete(cluster("5", 2, "y", "Deleting")),
        ];
        let news = beside_status(stream::iter(events.map(Ok)));
        assert_eq!(told(news), ["1", "3", "4", "5"]);
    }

    #[test]
    fn a_tenants_own_namespace_is_told_of_while_it_ends() {
        let namespace = |version: &str, role: &str, going: Option<&str>| {
            let metadata = json!({
                "name": format!("{role}-namespace"), "resourceVersion": version,
                "labels": {keys::ROLE: role}, "deletionTimestamp": going,
            });
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            serde_json::from_value::<PartialObjectMeta<k8s_openapi::api::core::v1::Namespace>>(body)
                .unwrap()
        };
        let events = [
            Event::Apply(namespace("1", keys::ROLE_CONTROL_PLANE, None)),
            Event::Apply(namespace("2", "synced", None)),
            Event::Apply(namespace("3", "synced", Some("2026-01-01T00:00:00Z"))),
            Event::Delete(namespace("4", "synced", None)),
        ];
        let news = of_namespaces(stream::iter(events.map(Ok)));
        assert_eq!(told(news), ["1", "3", "4"]);
    }
}
