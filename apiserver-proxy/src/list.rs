//! What the super API server answers, read with a limit, and lists page by page.
//!
//! A tenant's objects may be large, and lists of the super cluster hold those of all tenants: where an answer is too large,
//! pages get smaller (T40). Answers above a mebibyte are read one after the other.

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::{Resource, ResourceExt, client::Body};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tenancy::object::NamespacedName;
use tenancy::paging::PageSize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes of the largest answer: etcd stores no object above 1.5 MiB, and JSON of it is larger, but not by so much.
const MOST_BYTES: usize = 16 << 20;
/// Values in the largest answer. Parsed, each takes some dozens of bytes, whereas a text needs but two.
const MOST_VALUES: usize = 1 << 19;
/// Above so many bytes an answer waits for its turn.
const SMALL: usize = 1 << 20;
/// How long a page may take, and wait for its turn.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

/// Places for large answers.
pub(crate) type Turns = Arc<Semaphore>;

/// An answer, and its turn as long as it is there.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    _turn: Vec<OwnedSemaphorePermit>,
}

/// No answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server can't be reached, or its answer broke off.
    #[error(transparent)]
    Unavailable(#[from] kube::Error),
    /// It says something else.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// More than may be read.
    #[error("the answer is too large")]
    TooLarge,
    /// Not in time.
    #[error("no answer in time")]
    Late,
    /// Not what it should be.
    #[error("the answer can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The path can't be asked for.
    #[error(transparent)]
    Path(#[from] http::Error),
}

/// Asks for a path and reads the answer; one that is large takes a place in each of `turns` first.
pub(crate) async fn get(
    client: &kube::Client,
    path: &str,
    turns: &[&Turns],
) -> Result<Read, Error> {
    read(client, path, turns, MOST_VALUES).await
}

async fn read(
    client: &kube::Client,
    path: &str,
    turns: &[&Turns],
    most: usize,
) -> Result<Read, Error> {
    let answer = client.send(Request::get(path).body(Body::empty())?).await?;
    if answer.status() != StatusCode::OK {
        return Err(Error::Status(answer.status()));
    }
    let (mut body, mut bytes, mut turn) = (answer.into_body(), vec![], vec![]);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > MOST_BYTES {
            return Err(Error::TooLarge);
        }
        if bytes.len() + data.len() > SMALL && turn.is_empty() {
            for place in turns {
                turn.extend(Arc::clone(place).acquire_owned().await);
            }
        }
        bytes.extend_from_slice(&data);
    }
    // It can't have more values than commas, but for those that hold others.
    if bytes.len() > most && bytes.iter().filter(|byte| **byte == b',').count() > most {
        return Err(Error::TooLarge);
    }
    Ok(Read { bytes, _turn: turn })
}

/// One page.
pub(crate) struct Page<K> {
    /// Its objects.
    pub(crate) items: Vec<K>,
    /// Namespace and name of those that can't be read.
    pub(crate) unread: Vec<(String, String)>,
    /// The resource version of the list.
    pub(crate) version: String,
}

/// Where a list stands.
pub(crate) struct Pages<'a> {
    client: &'a kube::Client,
    turns: &'a [&'a Turns],
    /// Path and query.
    path: String,
    size: PageSize,
    /// Where the next page begins; none after the last one.
    token: Option<String>,
}

#[derive(Deserialize)]
struct List<K> {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<K>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

impl<'a> Pages<'a> {
    /// The list at `path`, which ends in a query.
    pub(crate) fn of(client: &'a kube::Client, path: String, turns: &'a [&'a Turns]) -> Self {
        Self {
            client,
            turns,
            path,
            size: PageSize::default(),
            token: Some(String::new()),
        }
    }

    /// The next page; none after the last one.
    pub(crate) async fn next<K: DeserializeOwned>(&mut self) -> Result<Option<Page<K>>, Error> {
        while let Some(token) = &self.token {
            let objects = self.size.objects();
            let mut further = vec![("limit", objects.to_string())];
            if !token.is_empty() {
                further.push(("continue", token.clone()));
            }
            let path = format!("{}&{}", self.path, crate::query::build(&further));
            // One object is no larger than etcd takes it, and no other page is smaller: refused, the list would never end.
            let most = if objects == 1 {
                MOST_BYTES
            } else {
                MOST_VALUES
            };
            let page = timeout(PAGE_LIMIT, read(self.client, &path, self.turns, most)).await;
            match page.unwrap_or(Err(Error::Late)) {
                Err(Error::TooLarge) if self.size.shrink() => {}
                other => {
                    let (page, token) = parse(&other?.bytes)?;
                    self.token = (!token.is_empty()).then_some(token);
                    self.size.fitted();
                    return Ok(Some(page));
                }
            }
        }
        Ok(None)
    }
}

/// Where the server stands now: the version of a list at `path`, which ends in a query. Its objects aren't read.
pub(crate) async fn version(
    client: &kube::Client,
    path: &str,
    turns: &[&Turns],
) -> Result<String, Error> {
    let path = format!("{path}&limit=1");
    let page = timeout(PAGE_LIMIT, read(client, &path, turns, MOST_BYTES)).await;
    let page = page.unwrap_or(Err(Error::Late))?;
    let list: List<IgnoredAny> = serde_json::from_slice(&page.bytes)?;
    Ok(list.metadata.resource_version)
}

/// A page, and where the next one begins. An object that can't be read is set aside, and costs no other.
pub(crate) fn parse<K: DeserializeOwned>(bytes: &[u8]) -> Result<(Page<K>, String), Error> {
    let (items, unread, metadata) = match serde_json::from_slice::<List<K>>(bytes) {
        Ok(list) => (list.items.unwrap_or_default(), vec![], list.metadata),
        Err(_) => {
            let list: List<Value> = serde_json::from_slice(bytes)?;
            let (mut items, mut unread) = (vec![], vec![]);
            for item in list.items.unwrap_or_default() {
                let text = |field: &str| {
                    let text = item["metadata"][field].as_str();
                    text.unwrap_or_default().to_owned()
                };
                let place = (text("namespace"), text("name"));
                match serde_json::from_value(item) {
                    Ok(item) => items.push(item),
                    Err(error) => {
                        tracing::warn!(namespace = place.0, name = place.1, %error, "an object can't be read and is set aside");
                        unread.push(place);
                    }
                }
            }
            (items, unread, list.metadata)
        }
    };
    let page = Page {
        items,
        unread,
        version: metadata.resource_version,
    };
    Ok((page, metadata.r#continue))
}

/// Namespace and name.
pub(crate) fn place<K: Resource>(object: &K) -> NamespacedName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::text;
    use http::Response;
    use std::convert::Infallible;

    /// A server of one answer.
    fn answering(bytes: Vec<u8>) -> kube::Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            let response = Response::new(text(bytes.clone()));
            async move { Ok::<_, Infallible>(response) }
        });
        kube::Client::new(service, "s")
    }

    /// T40: no answer takes more than its share of memory, whatever is in it.
    #[tokio::test]
    async fn t40_an_answer_of_too_many_bytes_or_values_is_read_no_further() {
        let turns = Turns::new(Semaphore::new(1));
        for (bytes, fits) in [
            (vec![b' '; MOST_BYTES], true),
            (vec![b' '; MOST_BYTES + 1], false),
            (vec![b','; MOST_VALUES], true),
            (vec![b','; MOST_VALUES + 1], false),
        ] {
            let got = get(&answering(bytes), "/", &[&turns]).await;
            assert!(matches!(got, Ok(_) | Err(Error::TooLarge)), "{got:?}");
            assert_eq!(got.is_ok(), fits);
        }
    }

    /// T40: what one tenant makes keeps no list from its end.
    #[tokio::test]
    async fn t40_one_object_full_of_commas_is_listed() {
        let argument = ",".repeat(MOST_VALUES + 1);
        let list = serde_json::json!({"metadata": {"resourceVersion": "7"}, "items": [{"spec": argument}]});
        let client = answering(list.to_string().into_bytes());
        let mut pages = Pages::of(&client, "/pods?a=b".into(), &[]);
        let page = pages.next::<serde_json::Value>().await.unwrap().unwrap();
        assert_eq!((page.items.len(), page.version.as_str()), (1, "7"));
        assert!(pages.next::<serde_json::Value>().await.unwrap().is_none());
    }

    /// T40: large answers are read one after the other, and small ones don't wait for them.
    #[tokio::test(start_paused = true)]
    async fn t40_large_answers_take_turns() {
        let turns = Turns::new(Semaphore::new(1));
        let (large, small) = (
            answering(vec![b' '; 2 * SMALL]),
            answering(vec![b' '; SMALL]),
        );
        let first = get(&large, "/", &[&turns]).await.unwrap();
        let turns = [&turns];
        let second = get(&large, "/", &turns);
        assert!(timeout(PAGE_LIMIT, second).await.is_err());
        assert!(get(&small, "/", &turns).await.is_ok());
        drop(first);
        assert!(get(&large, "/", &turns).await.is_ok());
    }
}
