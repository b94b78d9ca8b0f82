//! One API server: the only file that sends requests.
//!
//! Every request ends within [`LIMIT`], so that a hanging API server holds one pass and not the manager, and no more is read
//! of what it answers than [`answer`] allows. Deletes name the UID that was observed; updates name the resource version.

use crate::{
    clients::answer::{self, Allowance, Unreadable},
    object::{Kind, Object},
};
use api::keys::FIELD_MANAGER;
use bytes::Bytes;
use http::{Method, Request};
use kube::{Client, core::Status};
use serde_json::{Value, json};
use std::{ops::ControlFlow, time::Duration};
use tenancy::paging::PageSize;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A fresh RoleBinding answers 403 for a moment; so long it is waited for.
const BINDING_LAG: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(600),
];
/// What an API server hands on of its etcd's refusal when that is full.
const NO_SPACE: &str = "database space exceeded";
/// Reason of a `Status` by which an API server says that there is no such object.
const NOT_FOUND: &str = "NotFound";

/// A client of one API server.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    allowance: Allowance,
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server answered with an error, or didn't answer.
    #[error("{verb} {what}: {}", told(source))]
    Request {
        /// What was asked for.
        verb: &'static str,
        /// Of which object.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// The API server answered with more than is read of one.
    #[error("{verb} {what}: the answer is larger than any should be")]
    TooLarge {
        /// What was asked for.
        verb: &'static str,
        /// Of which object.
        what: String,
    },
    /// The API server answered with something else than was asked for.
    #[error("{verb} {what}: the answer is another object")]
    Another {
        /// What was asked for.
        verb: &'static str,
        /// Of which object.
        what: String,
    },
    /// The API server took too long.
    #[error("{verb} {what}: no answer within {} s", LIMIT.as_secs())]
    Timeout {
        /// What was asked for.
        verb: &'static str,
        /// Of which object.
        what: String,
    },
}

impl Error {
    fn unreadable(why: Unreadable, verb: &'static str, what: String) -> Self {
        match why {
            Unreadable::TooLarge => Self::TooLarge { verb, what },
            Unreadable::Failed(source) => Self::Request { verb, what, source },
        }
    }

    /// The HTTP status, when the API server gave one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TooLarge { .. } | Self::Another { .. } | Self::Timeout { .. } => None,
        }
    }

    /// There is no such object, as the API server says itself. A proxy before it, or an API server that doesn't serve the
    /// kind, answers with the same HTTP status, and tells nothing of the object.
    pub(crate) fn is_not_found(&self) -> bool {
        let says = |status: &Status| status.code == 404 && status.reason == NOT_FOUND;
        matches!(self, Self::Request { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if says(status)))
    }

    /// Someone else wrote first: look again.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The API server's etcd is full: it takes nothing more, and answers all the same.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Request { source, .. } => matches!(
                source.as_ref(),
                kube::Error::Api(status) if status.message.contains(NO_SPACE)
            ),
            Self::TooLarge { .. } | Self::Another { .. } | Self::Timeout { .. } => false,
        }
    }
}

impl Cluster {
    /// The own super cluster's.
    pub(crate) fn new(client: Client) -> Self {
        let allowance = Allowance::of_each();
        Self { client, allowance }
    }

    /// Anybody's, for one look: of all its answers together little is read.
    pub(crate) fn of_anybody(client: Client) -> Self {
        let allowance = Allowance::of_all();
        Self { client, allowance }
    }

    /// The object, or `None` when there is none. What comes under another name or namespace is an error: whoever answers
    /// doesn't say what is written by it.
    pub(crate) async fn get(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Object>, Error> {
        let path = path(kind, namespace, Some(name));
        match self
            .send("get", kind, namespace, name, Method::GET, &path, None)
            .await
        {
            Ok(body) => {
                let object = Object::observed(kind, body);
                let is_there =
                    object.namespace().unwrap_or_default() == namespace.unwrap_or_default();
                if object.name() == name && is_there {
                    return Ok(Some(object));
                }
                let what = what(kind, namespace, name);
                Err(Error::Another { verb: "get", what })
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same of a kind that needn't be served: then there is none, either.
    pub(crate) async fn get_if_served(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Object>, Error> {
        match self.get(kind, namespace, name).await {
            Err(error) if error.code() == Some(404) => Ok(None),
            other => other,
        }
    }

    /// All objects that match the label selector (all when it is empty), in pages, read with quorum. An answer that is no list
    /// is an error: that there is nothing must have been said.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Object>, Error> {
        self.list_of(kind, namespace, selector, Some).await
    }

    /// What `keep` makes of each of them; of the objects themselves no more than a page is held.
    pub(crate) async fn list_of<T>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &str,
        keep: impl Fn(Object) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let base = path(kind, namespace, None);
        let mut all = vec![];
        let (mut token, mut size) = (String::new(), PageSize::default());
        loop {
            let url = format!(
                "{base}?limit={}&labelSelector={}&continue={}",
                size.objects(),
                encode(selector),
                encode(&token)
            );
            let page = self.send("list", kind, namespace, "", Method::GET, &url, None);
            let mut page = match page.await {
                // Half of it is asked for, from where it began.
                Err(Error::TooLarge { .. }) if size.shrink() => continue,
                other => other?,
            };
            if !is_list(&page) {
                let what = what(kind, namespace, "");
                return Err(Error::Another { verb: "list", what });
            }
            size.fitted();
            all.extend(items(&mut page).filter_map(|item| keep(Object::observed(kind, item))));
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(all),
            }
        }
    }

    /// At most `most` of all objects of a kind; none where it isn't served.
    pub(crate) async fn some(&self, kind: Kind, most: usize) -> Result<Vec<Object>, Error> {
        let url = format!("{}?limit={most}", path(kind, None, None));
        let listed = self.send("list", kind, None, "", Method::GET, &url, None);
        let mut page = match listed.await {
            Err(error) if error.code() == Some(404) => return Ok(vec![]),
            other => other?,
        };
        let items = items(&mut page).map(|item| Object::observed(kind, item));
        Ok(items.collect())
    }

    /// Creates; never touches an object that exists.
    pub(crate) async fn create(&self, object: &Object) -> Result<Object, Error> {
        let url = format!(
            "{}?fieldManager={FIELD_MANAGER}",
            path(object.kind, object.namespace(), None)
        );
        self.write("create", object, Method::POST, &url, &object.body)
            .await
    }

    /// Updates what carries the resource version that was observed.
    pub(crate) async fn replace(&self, object: &Object) -> Result<Object, Error> {
        let url = format!(
            "{}?fieldManager={FIELD_MANAGER}",
            path(object.kind, object.namespace(), Some(object.name()))
        );
        self.write("update", object, Method::PUT, &url, &object.body)
            .await
    }

    /// Server-side apply: the fields named become ours, all others stay.
    pub(crate) async fn apply(&self, object: &Object) -> Result<Object, Error> {
        let url = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true",
            path(object.kind, object.namespace(), Some(object.name()))
        );
        self.write("apply", object, Method::PATCH, &url, &object.body)
            .await
    }

    /// Merges `patch` into the object or one of its subresources, if it still is the one that was observed.
    pub(crate) async fn merge(
        &self,
        seen: &Object,
        subresource: &str,
        mut patch: Value,
    ) -> Result<Object, Error> {
        patch["metadata"]["resourceVersion"] = seen.body["metadata"]["resourceVersion"].clone();
        patch["metadata"]["uid"] = json!(seen.uid());
        let url = format!(
            "{}{subresource}?fieldManager={FIELD_MANAGER}",
            path(seen.kind, seen.namespace(), Some(seen.name()))
        );
        self.write("patch", seen, Method::PATCH, &url, &patch).await
    }

    /// Deletes the object that was observed and no other of its name; one that is gone already is fine. `grace` is how
    /// many seconds a pod gets, if not what its spec says.
    pub(crate) async fn delete(&self, seen: &Object, grace: Option<u32>) -> Result<(), Error> {
        let url = path(seen.kind, seen.namespace(), Some(seen.name()));
        let options = json!({
            "gracePeriodSeconds": grace,
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": seen.uid()},
        });
        match self
            .write("delete", seen, Method::DELETE, &url, &options)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks `/readyz`.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        self.text("/readyz", "*/*").await.map(drop)
    }

    /// How many objects there are at a path such as `/api/v1/configmaps`; none where nothing is served. An answer that is no
    /// list is an error, as in [`Self::list`].
    ///
    /// One is read, without its content, and the API server says how many come after it.
    pub(crate) async fn count(&self, path: &str) -> Result<u64, Error> {
        const NO_CONTENT: &str =
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let text = match self.text(&format!("{path}?limit=1"), NO_CONTENT).await {
            Err(error) if error.code() == Some(404) => return Ok(0),
            other => other?,
        };
        let page: Value = serde_json::from_str(&text).unwrap_or_default();
        if !is_list(&page) {
            let what = path.to_owned();
            return Err(Error::Another {
                verb: "count",
                what,
            });
        }
        let here = page["items"].as_array().map_or(0, Vec::len);
        let more = page["metadata"]["remainingItemCount"].as_u64();
        let here = u64::try_from(here).unwrap_or(u64::MAX);
        Ok(here.saturating_add(more.unwrap_or_default()))
    }

    /// The text at a path.
    pub(crate) async fn text(&self, path: &str, accept: &'static str) -> Result<String, Error> {
        let read = async {
            let bytes = self.ask(reading(path, accept)?).await?;
            String::from_utf8(bytes.into()).map_err(|error| kube::Error::FromUtf8(error).into())
        };
        in_time(read, "get", || path.to_owned()).await
    }

    /// Reads the text at a path line by line and keeps none of it, until `each` says that it has enough.
    pub(crate) async fn lines(
        &self,
        path: &str,
        accept: &'static str,
        each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let read = async {
            let response = self.client.send(reading(path, accept)?).await?;
            answer::lines(answer::good(response, &self.allowance).await?, each).await
        };
        in_time(read, "get", || path.to_owned()).await
    }

    async fn ask(&self, request: Request<kube::client::Body>) -> Result<Bytes, Unreadable> {
        let response = self.client.send(request).await?;
        let body = answer::good(response, &self.allowance).await?;
        answer::whole(body, &self.allowance).await
    }

    async fn write(
        &self,
        verb: &'static str,
        object: &Object,
        method: Method,
        url: &str,
        body: &Value,
    ) -> Result<Object, Error> {
        let answer = self.send(
            verb,
            object.kind,
            object.namespace(),
            object.name(),
            method,
            url,
            Some((verb, body)),
        );
        Ok(Object::observed(object.kind, answer.await?))
    }

    #[allow(clippy::too_many_arguments)] // One place builds every request.
    async fn send(
        &self,
        verb: &'static str,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        method: Method,
        url: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, Error> {
        let what = || what(kind, namespace, name);
        let mut lag = BINDING_LAG.iter();
        loop {
            let request = Request::builder()
                .method(method.clone())
                .uri(url)
                .header("accept", "application/json")
                .header("content-type", content_type(body.map(|(verb, _)| verb)))
                .body(
                    body.map(|(_, body)| body.to_string().into_bytes())
                        .unwrap_or_default()
                        .into(),
                );
            let read = async {
                let bytes = self.ask(request.map_err(kube::Error::HttpError)?).await?;
                serde_json::from_slice(&bytes)
                    .map_err(|error| kube::Error::SerdeError(error).into())
            };
            match in_time(read, verb, what).await {
                Ok(value) => return Ok(value),
                Err(error) => match (error.code(), namespace, lag.next()) {
                    (Some(403), Some(_), Some(wait)) => tokio::time::sleep(*wait).await,
                    _ => return Err(error),
                },
            }
        }
    }
}

fn reading(path: &str, accept: &'static str) -> Result<Request<kube::client::Body>, kube::Error> {
    let request = Request::get(path).header("accept", accept);
    request.body(vec![].into()).map_err(kube::Error::HttpError)
}

/// What was asked for, if it comes within [`LIMIT`].
async fn in_time<T>(
    read: impl Future<Output = Result<T, Unreadable>>,
    verb: &'static str,
    what: impl Fn() -> String,
) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, read).await {
        Ok(read) => read.map_err(|why| Error::unreadable(why, verb, what())),
        Err(_) => Err(Error::Timeout { verb, what: what() }),
    }
}

/// Which object is asked for, for people.
fn what(kind: Kind, namespace: Option<&str>, name: &str) -> String {
    let namespace = namespace.map(|namespace| format!("{namespace}/"));
    format!("{} {}{name}", kind.kind, namespace.unwrap_or_default())
}

fn path(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> String {
    let root = if kind.api_version.contains('/') {
        "/apis"
    } else {
        "/api"
    };
    let namespace = namespace
        .map(|namespace| format!("/namespaces/{namespace}"))
        .unwrap_or_default();
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    format!(
        "{root}/{}{namespace}/{}{name}",
        kind.api_version, kind.plural
    )
}

/// Whether a page is one: where there are no items it says at least that it is a list.
fn is_list(page: &Value) -> bool {
    let kind = page["kind"].as_str().unwrap_or_default();
    page["items"].is_array() || page["items"].is_null() && kind.ends_with("List")
}

/// The items of a page, which may be any JSON: some tenants write themselves what their API servers answer.
fn items(page: &mut Value) -> impl Iterator<Item = Value> + use<> {
    let items = page.get_mut("items").map(Value::take);
    let items = match items {
        Some(Value::Array(items)) => items,
        _ => vec![],
    };
    items.into_iter()
}

fn content_type(verb: Option<&str>) -> &'static str {
    match verb {
        Some("apply") => "application/apply-patch+yaml",
        Some("patch") => "application/merge-patch+json",
        _ => "application/json",
    }
}

/// Percent-encodes all but unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// What people need of an answer: the API server's own sentence, or the innermost cause.
fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
