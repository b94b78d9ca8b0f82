//! The objects of a simulated API server, their versions, and what changed since any of these.
//!
//! The rules of writes are those of real API servers as far as the syncer builds on them: versions and UIDs, tests and
//! preconditions, the status apart from the rest, finalizers, a write that changes nothing. There are no controllers: a
//! namespace ends alone, and a pod that is deleted is gone at once.

use super::{
    kinds::{SERVED, index},
    object::{Stored, Writer, born, manage},
    select::Selector,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Changes of one kind that are kept; who asks for older ones must list again. Real API servers keep up to 102,400.
pub(crate) const HISTORY: usize = 32_768;

/// Why a request isn't answered with success.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
        }
    }

    fn missing(kind: usize, name: &str) -> Self {
        let message = format!("{} {name:?} not found", SERVED[kind].plural);
        Self::new(404, "NotFound", message)
    }

    fn conflict(message: &str) -> Self {
        Self::new(409, "Conflict", message.into())
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Added,
    Modified,
    Deleted,
}

/// A change.
#[derive(Debug)]
pub(crate) struct Change {
    event: Event,
    object: Arc<Stored>,
    before: Option<Arc<Stored>>,
}

impl Change {
    /// What a watch with this selector tells of it: an object that comes to be meant, or not any more, is born or gone.
    pub(crate) fn told(&self, namespace: &str, selector: &Selector) -> Option<(Event, &Stored)> {
        let is_meant = |object: &Stored| {
            (namespace.is_empty() || namespace == object.namespace)
                && selector.takes(&object.name, &object.labels)
        };
        let before = self.before.as_deref().is_some_and(is_meant);
        let now = self.event != Event::Deleted && is_meant(&self.object);
        let event = match (before, now) {
            (false, false) => return None,
            (false, true) => Event::Added,
            (true, true) => Event::Modified,
            (true, false) => Event::Deleted,
        };
        Some((event, &self.object))
    }
}

/// The changes that a watch asks for are no longer known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// A page of a list.
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Stored>>,
    /// Version of the whole list.
    pub(crate) version: u64,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// What a deletion is tied to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
}

type Place = (String, String);

#[derive(Default)]
struct Collection {
    objects: BTreeMap<Place, Arc<Stored>>,
    history: VecDeque<Change>,
    versions: VecDeque<u64>,
    /// Version of the newest change that isn't kept.
    forgotten: u64,
}

/// All objects.
pub(crate) struct Store {
    version: u64,
    /// Changes of one kind that are kept.
    history: usize,
    collections: Vec<Collection>,
}

impl Store {
    /// An empty one; versions go up from `version`, and so many changes of each kind are kept.
    pub(crate) fn new(version: u64, history: usize) -> Self {
        let mut collections = vec![];
        collections.resize_with(SERVED.len(), Collection::default);
        Self {
            version,
            history,
            collections,
        }
    }

    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// All objects of a kind.
    pub(crate) fn all(&self, kind: usize) -> impl ExactSizeIterator<Item = &Arc<Stored>> {
        self.collections[kind].objects.values()
    }

    /// The object.
    pub(crate) fn get(
        &self,
        kind: usize,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Stored>, Refusal> {
        let found = self.collections[kind]
            .objects
            .get(&(namespace.to_owned(), name.to_owned()));
        found.cloned().ok_or_else(|| Refusal::missing(kind, name))
    }

    /// Some of the objects; `from` is what the last page said, and `limit` what a page holds.
    pub(crate) fn list(
        &self,
        kind: usize,
        namespace: &str,
        selector: &Selector,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let mut version = self.version;
        let mut start = (namespace.to_owned(), String::new());
        if let Some(from) = from {
            let parts: Vec<&str> = from.split('/').collect();
            let [at, in_namespace, name] = parts[..] else {
                let message = format!("the continue token {from:?} isn't one");
                return Err(Refusal::new(400, "BadRequest", message));
            };
            version = at.parse().unwrap_or(version);
            start = (in_namespace.to_owned(), name.to_owned());
        }
        let all = self.collections[kind].objects.range(start..);
        let mut meant = all
            .take_while(|((place, _), _)| namespace.is_empty() || place == namespace)
            .filter(|(_, object)| selector.takes(&object.name, &object.labels));
        let objects = meant.by_ref().take(limit);
        let objects = objects.map(|(_, object)| object.clone()).collect();
        let next = meant
            .next()
            .map(|((namespace, name), _)| format!("{version}/{namespace}/{name}"));
        Ok(Page {
            objects,
            version,
            next,
        })
    }

    /// What changed after a version, in order.
    pub(crate) fn since(
        &self,
        kind: usize,
        version: u64,
    ) -> Result<impl Iterator<Item = &Change>, Expired> {
        let collection = &self.collections[kind];
        if version < collection.forgotten {
            return Err(Expired);
        }
        let start = collection.versions.partition_point(|at| *at <= version);
        Ok(collection.history.range(start..))
    }

    /// Creates an object.
    pub(crate) fn create(
        &mut self,
        kind: usize,
        namespace: &str,
        mut value: Value,
        uid: &str,
        writer: Writer<'_>,
    ) -> Result<Arc<Stored>, Refusal> {
        let served = &SERVED[kind];
        let name = value["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let invalid = |why: &str| {
            let message = format!("{} {name:?} is invalid: {why}", served.kind);
            Err(Refusal::new(422, "Invalid", message))
        };
        if name.is_empty() {
            return invalid("metadata.name: Required value");
        }
        if served.namespaced {
            if namespace.is_empty() {
                return invalid("metadata.namespace: Required value");
            }
            self.get(index("Namespace"), "", namespace)?;
            value["metadata"]["namespace"] = namespace.into();
        }
        let place = (namespace.to_owned(), name);
        if self.collections[kind].objects.contains_key(&place) {
            let message = format!("{} {:?} already exists", served.plural, place.1);
            return Err(Refusal::new(409, "AlreadyExists", message));
        }
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
        }
        born(served, &mut value, uid, writer);
        Ok(self.put(kind, place, Some(value)))
    }

    /// Changes an object, or one of its subresources, by `change`. What stays as it was gets no new version.
    pub(crate) fn change(
        &mut self,
        kind: usize,
        (namespace, name): (&str, &str),
        subresource: &str,
        writer: Writer<'_>,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Stored>, Refusal> {
        let stored = self.get(kind, namespace, name)?;
        let before = stored.value();
        let mut after = before.clone();
        change(&mut after)?;
        for (field, words) in [
            ("uid", "Precondition failed: UID in precondition"),
            ("resourceVersion", "the object has been modified"),
        ] {
            if after["metadata"][field] != before["metadata"][field] {
                return Err(Refusal::conflict(words));
            }
        }
        if subresource.is_empty() {
            restore(&mut after, &before, "status");
        } else if subresource == "status" {
            let mut whole = before.clone();
            restore(&mut whole, &after, "status");
            after = whole;
        }
        if after == before {
            return Ok(stored);
        }
        // As a real one, which writes a binding past the rules that count changes of a spec.
        if subresource != "binding" && after.get("spec") != before.get("spec") {
            let generation = before["metadata"]["generation"]
                .as_u64()
                .unwrap_or_default();
            after["metadata"]["generation"] = (generation + 1).into();
        }
        manage(&mut after, writer, subresource);
        let metadata = &after["metadata"];
        let is_over = metadata["deletionTimestamp"].is_string() && !has_finalizers(metadata);
        let place = (namespace.to_owned(), name.to_owned());
        if is_over {
            self.put(kind, place, None);
            return Ok(stored);
        }
        Ok(self.put(kind, place, Some(after)))
    }

    /// Deletes an object; one with finalizers waits for them.
    pub(crate) fn delete(
        &mut self,
        kind: usize,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        now: &str,
    ) -> Result<Arc<Stored>, Refusal> {
        let stored = self.get(kind, namespace, name)?;
        let differs = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_some_and(|wanted| wanted != found)
        };
        if differs(&preconditions.uid, &stored.uid)
            || differs(&preconditions.version, &stored.version.to_string())
        {
            return Err(Refusal::conflict("Precondition failed"));
        }
        let mut value = stored.value();
        let place = (namespace.to_owned(), name.to_owned());
        if !has_finalizers(&value["metadata"]) {
            self.put(kind, place, None);
            return Ok(stored);
        }
        if value["metadata"]["deletionTimestamp"].is_string() {
            return Ok(stored);
        }
        value["metadata"]["deletionTimestamp"] = now.into();
        value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        Ok(self.put(kind, place, Some(value)))
    }

    /// Stores a new state, or that there is no object any more, as the next version.
    fn put(&mut self, kind: usize, place: Place, value: Option<Value>) -> Arc<Stored> {
        self.version += 1;
        let version = self.version;
        let collection = &mut self.collections[kind];
        let (event, object, before) = match value {
            Some(value) => {
                let object = Arc::new(Stored::of(value, version));
                let before = collection.objects.insert(place, object.clone());
                let event = if before.is_some() {
                    Event::Modified
                } else {
                    Event::Added
                };
                (event, object, before)
            }
            None => {
                let before = collection.objects.remove(&place);
                let last = before.as_ref().map(|last| last.value()).unwrap_or_default();
                (Event::Deleted, Arc::new(Stored::of(last, version)), before)
            }
        };
        collection.versions.push_back(version);
        collection.history.push_back(Change {
            event,
            object: object.clone(),
            before,
        });
        if collection.history.len() > self.history {
            collection.history.pop_front();
            collection.forgotten = collection.versions.pop_front().unwrap_or_default();
        }
        object
    }
}

/// Makes a field what it is in another state.
fn restore(object: &mut Value, from: &Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        match from.get(field) {
            Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
            None => drop(fields.remove(field)),
        }
    }
}

fn has_finalizers(metadata: &Value) -> bool {
    let finalizers = metadata["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

#[cfg(test)]
mod tests;
