//! One kind of the super cluster's objects, listed and watched: what is there, what changes, and what is gone.
//!
//! A watch that ends goes on where it was, if the server still stands there or further on. After one that broke all is
//! listed again, ever less often, and what is known stays meanwhile. The reason for both: a watch from a version that is yet to come,
//! as after a restore of the server's store, is answered and tells nothing.

use crate::{
    freshness::Freshness,
    list::{self, Pages, Turns, place},
    query,
};
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::{
    Resource,
    client::Body,
    core::{ObjectMeta, WatchEvent},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::HashSet, time::Duration};
use tenancy::{object::NamespacedName, pause::Pauses};
use tokio::time::{Instant, sleep, timeout};

/// How long a watch is asked to last.
const WATCH: u64 = 290;
/// Even where nothing changes, a bookmark comes about every minute.
const SILENCE: Duration = Duration::from_secs(90);
/// How long a watch may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the largest event.
const LINE_MAX: usize = 16 << 20;
/// Between two tries.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(800),
    longest: Duration::from_secs(30),
};
/// What went well for so long is no reason to wait.
const STEADY: Duration = Duration::from_secs(20);

/// What a watch tells.
pub(crate) trait Sink<K>: Send + Sync {
    /// An object is there, or has changed.
    fn set(&self, place: NamespacedName, object: K);
    /// An object is gone.
    fn gone(&self, place: &NamespacedName);
    /// A complete list told of these and no others.
    fn keep(&self, listed: &HashSet<NamespacedName>);
}

/// Which objects.
pub(crate) struct Which {
    /// In which namespace; in all of them.
    pub(crate) namespace: Option<String>,
    /// `labelSelector` or `fieldSelector`, and its value.
    pub(crate) selector: (&'static str, String),
}

/// Why a watch isn't there any more.
enum End {
    /// The server ended it.
    Over,
    /// The server doesn't know where it was.
    Expired,
    /// Something is wrong.
    Broken(Error),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    List(#[from] list::Error),
    #[error("nothing came for too long")]
    Silent,
    #[error("an event is too large")]
    TooLarge,
    #[error("an event can't be read")]
    Unreadable,
    #[error("the server says {0}")]
    Told(String),
}

/// An object of which only the metadata can be read.
#[derive(Clone, Deserialize)]
struct Unread {
    metadata: ObjectMeta,
}

/// Follows one kind until the task is dropped, and notes in `freshness` what the server says.
pub(crate) async fn run<K>(
    client: &kube::Client,
    which: &Which,
    turns: &[&Turns],
    sink: &dyn Sink<K>,
    freshness: &Freshness,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Send,
{
    let kind = K::kind(&()).into_owned();
    let path = K::url_path(&(), which.namespace.as_deref());
    let selector = query::build(&[(which.selector.0, which.selector.1.clone())]);
    let path = format!("{path}?{selector}");
    let (mut version, mut failing) = (None, false);
    // Replicas whose watches broke together begin them anew one after the other.
    let (mut failures, who) = (0, rand::random::<u64>());
    loop {
        let began = Instant::now();
        let end = match &mut version {
            None => match all(Pages::of(client, path.clone(), turns), sink, freshness).await {
                Ok(from) => {
                    version = Some(from);
                    continue;
                }
                Err(error) => End::Broken(error.into()),
            },
            Some(version) => {
                let goes_on = || {
                    if std::mem::take(&mut failing) {
                        tracing::info!(%kind, "the watch goes on");
                    }
                };
                changes(client, &path, version, (sink, freshness), goes_on).await
            }
        };
        let is_steady = began.elapsed() >= STEADY;
        if is_steady {
            failures = 0;
        }
        let end = match (end, &version) {
            (End::Over, Some(known)) => compared(client, &path, turns, known).await,
            (end, _) => end,
        };
        match end {
            End::Over if is_steady => continue,
            End::Over => {}
            End::Expired => version = None,
            End::Broken(error) => {
                version = None;
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%kind, %error, "the watch is interrupted; what is known stays");
                }
            }
        }
        failures += 1;
        sleep(PAUSES.after(failures, &who)).await;
    }
}

/// Lists all; returns from where a watch goes on.
async fn all<K>(
    mut pages: Pages<'_>,
    sink: &dyn Sink<K>,
    freshness: &Freshness,
) -> Result<String, list::Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let (mut seen, mut version) = (HashSet::new(), String::new());
    while let Some(page) = pages.next::<K>().await? {
        freshness.renew();
        version = page.version;
        seen.extend(page.unread);
        for object in page.items {
            let place = place(&object);
            seen.insert(place.clone());
            sink.set(place, object);
        }
    }
    sink.keep(&seen);
    freshness.complete();
    Ok(version)
}

/// Whether a watch that has ended may go on from the version that it knows: not if the server stands before that.
async fn compared(client: &kube::Client, path: &str, turns: &[&Turns], known: &str) -> End {
    match list::version(client, path, turns).await {
        Ok(now) if is_before(&now, known) => {
            tracing::warn!(path, now, known, "the super cluster's store went back");
            End::Expired
        }
        Ok(_) => End::Over,
        Err(error) => End::Broken(error.into()),
    }
}

/// Whether a version is older than another, or can't be told to be as new.
fn is_before(version: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(version)
        .zip(number(other))
        .is_none_or(|(version, other)| version < other)
}

/// Tells of changes until the watch ends; `version` is where it stands.
async fn changes<K>(
    client: &kube::Client,
    path: &str,
    version: &mut String,
    (sink, freshness): (&dyn Sink<K>, &Freshness),
    goes_on: impl FnOnce(),
) -> End
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
{
    let further = query::build(&[
        ("watch", "true".to_owned()),
        ("allowWatchBookmarks", "true".to_owned()),
        ("timeoutSeconds", WATCH.to_string()),
        ("resourceVersion", version.clone()),
    ]);
    let request = Request::get(format!("{path}&{further}")).body(Body::empty());
    let request = match request {
        Ok(request) => request,
        Err(error) => return End::Broken(list::Error::from(error).into()),
    };
    let answer = match timeout(BEGIN_LIMIT, client.send(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return End::Broken(list::Error::from(error).into()),
        Err(_) => return End::Broken(list::Error::Late.into()),
    };
    match answer.status() {
        StatusCode::OK => goes_on(),
        StatusCode::GONE => return End::Expired,
        status => return End::Broken(list::Error::Status(status).into()),
    }
    freshness.renew();
    let (mut chunks, mut line) = (answer.into_body().into_data_stream(), vec![]);
    loop {
        let chunk = match timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return End::Broken(list::Error::from(error).into()),
            Ok(None) => return End::Over,
            Err(_) => return End::Broken(Error::Silent),
        };
        freshness.renew();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > LINE_MAX {
                return End::Broken(Error::TooLarge);
            }
            if part.ends_with(b"\n")
                && let Err(end) = event(&std::mem::take(&mut line), version, sink)
            {
                return end;
            }
        }
    }
}

/// One event.
fn event<K>(line: &[u8], version: &mut String, sink: &dyn Sink<K>) -> Result<(), End>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
{
    let mut moved = |metadata: &ObjectMeta| {
        if let Some(now) = &metadata.resource_version {
            version.clone_from(now);
        }
    };
    match serde_json::from_slice(line) {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            let object: K = object;
            moved(object.meta());
            sink.set(place(&object), object);
        }
        Ok(WatchEvent::Deleted(object)) => {
            moved(object.meta());
            sink.gone(&place(&object));
        }
        Ok(WatchEvent::Bookmark(mark)) => *version = mark.metadata.resource_version,
        Ok(WatchEvent::Error(status)) if status.code == StatusCode::GONE.as_u16() => {
            return Err(End::Expired);
        }
        Ok(WatchEvent::Error(status)) => return Err(End::Broken(Error::Told(status.message))),
        Err(error) => {
            let known = serde_json::from_slice::<WatchEvent<Unread>>(line);
            let (object, is_gone) = match known {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                Ok(WatchEvent::Deleted(object)) => (object, true),
                _ => return Err(End::Broken(Error::Unreadable)),
            };
            moved(&object.metadata);
            let place = (
                object.metadata.namespace.unwrap_or_default(),
                object.metadata.name.unwrap_or_default(),
            );
            if is_gone {
                sink.gone(&place);
            } else {
                tracing::warn!(namespace = place.0, name = place.1, %error, "an object can't be read and is set aside");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
