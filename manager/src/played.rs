//! An API server that is played: it keeps what it is given, and what it was asked.
//!
//! Tests only. It knows versions and preconditions; of server-side apply it knows that what is named is set and that
//! nothing else is touched.

use crate::{clients::cluster::Cluster, watching::cache::CacheWriter};
use futures::{FutureExt, Stream, StreamExt, channel::mpsc};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::{
    Client,
    client::Body,
    runtime::watcher::{self, Event},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, convert::Infallible, hash::Hash, pin::Pin, sync::Arc};

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Played(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By path: `/api/v1/namespaces/n/secrets/s`.
    objects: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<String>,
}

impl Played {
    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let played = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let played = played.clone();
            async move { Ok::<_, Infallible>(played.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// The same.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::new(self.client())
    }

    /// Puts an object there, as others do.
    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.0.lock();
        object["metadata"]["name"] = json!(path.rsplit('/').next());
        if let Some(namespace) = namespace_of(path) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        state.write(path, object)
    }

    /// Changes an object that is there, as others do.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.0.lock();
        let mut object = state.objects[path].clone();
        change(&mut object);
        state.write(path, object)
    }

    /// Takes an object away, as others do.
    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().objects.remove(path);
    }

    /// The object at a path.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    /// The paths of all objects.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    /// What was asked since this was asked last: methods and paths.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().asked)
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default();
        let is_apply = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.contains("apply-patch")));
        let (code, body) =
            self.0
                .lock()
                .serve(&parts.method, parts.uri.path(), query, is_apply, body);
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        response
    }
}

/// A watch whose events are told by hand.
pub(crate) struct Watch<K> {
    tell: mpsc::UnboundedSender<watcher::Result<Event<K>>>,
    told: Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>,
}

impl<K> Watch<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// One that is heard.
    pub(crate) fn of(writer: CacheWriter<K>) -> Self {
        let (tell, events) = mpsc::unbounded();
        let told = Box::pin(writer.records(events));
        Self { tell, told }
    }

    /// Something happens.
    pub(crate) fn tell(&mut self, event: Event<K>) {
        self.tell.unbounded_send(Ok(event)).unwrap();
        self.told.next().now_or_never().unwrap();
    }

    /// All that there is.
    pub(crate) fn list(&mut self, objects: impl IntoIterator<Item = K>) {
        self.tell(Event::Init);
        for object in objects {
            self.tell(Event::InitApply(object));
        }
        self.tell(Event::InitDone);
    }
}

impl State {
    fn serve(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        is_apply: bool,
        mut body: Value,
    ) -> (u16, Value) {
        self.asked.push(format!("{method} {path}"));
        let (at, is_status) = match path.strip_suffix("/status") {
            Some(object) => (object, true),
            None => (path, false),
        };
        let known = self.objects.get(at).cloned();
        match (method, known) {
            (&Method::GET, _) if path == "/readyz" => (200, json!("ok")),
            (&Method::GET, Some(known)) => (200, known),
            (&Method::GET, None) if query.contains("limit=") => (200, self.list(path, query)),
            (&Method::POST, _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let at = format!("{path}/{name}");
                if self.objects.contains_key(&at) {
                    return failure(409);
                }
                (201, self.write(&at, body))
            }
            (&Method::PATCH, None) if is_apply => (201, self.write(at, body)),
            (_, None) => failure(404),
            (&Method::PATCH, Some(known)) => {
                for field in ["resourceVersion", "uid"] {
                    let metadata = body["metadata"].as_object_mut();
                    let asked = metadata.and_then(|metadata| metadata.remove(field));
                    if asked.is_some_and(|asked| asked != known["metadata"][field]) {
                        return failure(409);
                    }
                }
                if is_status {
                    body = json!({"status": body["status"]});
                }
                let mut object = known;
                merge(&mut object, &body);
                (200, self.write(at, object))
            }
            (&Method::DELETE, Some(_)) => {
                self.objects.remove(at);
                (200, json!({}))
            }
            (_, Some(_)) => failure(405),
        }
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let selector = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="));
        let selector = selector.unwrap_or_default();
        let selector = selector
            .replace("%2F", "/")
            .replace("%3D", "=")
            .replace("%2C", ",");
        let plural = path.rsplit('/').next().unwrap_or_default();
        let root = path.split("/namespaces/").next().unwrap_or_default();
        let root = root.trim_end_matches(plural).trim_end_matches('/');
        let everywhere = namespace_of(&format!("{path}/")).is_none();
        let is_meant = |at: &str, object: &Value| {
            let (collection, _) = at.rsplit_once('/').unwrap_or_default();
            let is_there = match everywhere {
                true => at.starts_with(root) && collection.ends_with(&format!("/{plural}")),
                false => collection == path,
            };
            let mut terms = selector.split(',').filter(|term| !term.is_empty());
            is_there
                && terms.all(|term| {
                    let (key, value) = term.split_once('=').unwrap();
                    object["metadata"]["labels"][key] == value
                })
        };
        let found = self
            .objects
            .iter()
            .filter(|(at, object)| is_meant(at, object));
        let items: Vec<&Value> = found.map(|(_, object)| object).collect();
        json!({"metadata": {}, "items": items})
    }

    /// As an API server does: an object that is written as it is isn't written.
    fn write(&mut self, at: &str, mut object: Value) -> Value {
        drop_nulls(&mut object);
        let before = self.objects.get(at);
        if before == Some(&object) {
            return object;
        }
        self.version += 1;
        let spec = before.map(|before| &before["spec"]);
        let generation = before.map_or(0, |before| {
            before["metadata"]["generation"]
                .as_i64()
                .unwrap_or_default()
        });
        let is_new_spec = spec != Some(&object["spec"]);
        object["metadata"]["generation"] = json!(generation + i64::from(is_new_spec));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        if at.contains("/services/") && object["spec"]["clusterIP"].is_null() {
            object["spec"]["clusterIP"] = json!(format!("10.96.0.{}", self.version % 250));
        }
        self.objects.insert(at.to_owned(), object.clone());
        object
    }
}

fn failure(code: u16) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": code.to_string(),
        "reason": if code == 404 { "NotFound" } else { "R" },
    });
    (code, body)
}

/// The namespace in a path, unless it is that of the Namespace object itself.
fn namespace_of(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/namespaces/")?;
    rest.split_once('/').map(|(namespace, _)| namespace)
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in fields {
        merge(&mut into[key.as_str()], value);
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
