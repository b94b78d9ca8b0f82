//! Requests to one API server: HTTP/2, JSON in and out, no retry of its own.
//!
//! A client that retries by itself would write behind the checks that every write needs, so each failure goes back to
//! the fair queue. Watches and other requests have connections of their own, so that a burst of one never starves the
//! other; a few requests at a time don't make a burst ([`Traffic`]).

use crate::{
    answer,
    connect::{Dial, ResponseBody, Stack, Unneeded, arriving},
    error::Error,
    lanes::Lanes,
    pace::{self, Pace},
    term::Permit,
};
use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::{Config, client::Body};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tenancy::{arrival::Shape, circuit::Advice};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tower::{BoxError, ServiceExt};

/// No unary request takes longer; watches have limits of their own.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Requests to a tenant's API server that go beside its watches. A quiet tenant thus needs one connection.
const BESIDE: usize = 2;
/// Lists that such an API server is asked for at once. A tenant that is served anew has dozens to list, and hundreds of
/// tenants begin at the same time: what all of those lists take together, the process would keep.
const LISTS: usize = 2;

/// What a DELETE is tied to.
#[derive(Debug, Default)]
pub(crate) struct Preconditions<'a> {
    /// UID; always given.
    pub(crate) uid: &'a str,
    /// Resource version, for kinds that only Sublet writes to.
    pub(crate) resource_version: Option<u64>,
    /// Seconds, for pods.
    pub(crate) grace: Option<i64>,
}

/// The content type of a patch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own.
    StrategicMerge,
}

/// How much is asked of an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Much, all the time: requests have a connection of their own, which stays.
    Steady,
    /// Mostly next to nothing: a few requests at a time go beside the watches. Those beyond have a connection that is
    /// closed again, since most of what a quiet tenant costs are its connections.
    Rare,
}

/// The right to list, of a few at a time.
pub(crate) struct Lister<'a> {
    cluster: &'a Cluster,
    _place: Option<SemaphorePermit<'a>>,
}

impl Lister<'_> {
    /// The page at `path`, and how many bytes it had.
    pub(crate) async fn page(&self, path: &str) -> Result<(Value, usize), Error> {
        let cluster = self.cluster;
        cluster
            .ask(Method::GET, path, None, Shape::List, None)
            .await
    }
}

/// One API server.
#[derive(Clone)]
pub(crate) struct Cluster {
    server: Arc<Server>,
}

struct Server {
    requests: Stack,
    watches: Lanes<Stack>,
    /// Places for requests beside the watches.
    beside: Semaphore,
    /// Places for lists.
    lists: Semaphore,
    pace: Arc<Pace>,
    /// Counts changes of the definitions of kinds.
    kinds: watch::Sender<u64>,
}

impl Cluster {
    /// Prepares connections; nothing is dialled yet.
    pub(crate) fn new(
        config: &Config,
        pace: Arc<Pace>,
        traffic: Traffic,
    ) -> Result<Self, kube::Error> {
        let dial = Dial::new(config)?;
        let requests = dial.stack(match traffic {
            Traffic::Steady => Unneeded::Stays,
            Traffic::Rare => Unneeded::Closes,
        });
        // The next watch on it may come later than a pool would wait.
        let watches = Lanes::new(move || dial.stack(Unneeded::Stays));
        Ok(Self::by(requests, watches, pace, traffic))
    }

    fn by(requests: Stack, watches: Lanes<Stack>, pace: Arc<Pace>, traffic: Traffic) -> Self {
        let (beside, lists) = match traffic {
            Traffic::Steady => (0, Semaphore::MAX_PERMITS),
            Traffic::Rare => (BESIDE, LISTS),
        };
        Self {
            server: Arc::new(Server {
                requests,
                watches,
                beside: Semaphore::new(beside),
                lists: Semaphore::new(lists),
                pace,
                kinds: watch::Sender::default(),
            }),
        }
    }

    /// One that a test answers for.
    #[cfg(test)]
    pub(crate) fn of(stack: Stack) -> Self {
        let watches = stack.clone();
        let lanes = Lanes::new(move || watches.clone());
        Self::by(stack, lanes, Pace::own("fake"), Traffic::Steady)
    }

    /// Whether both are the same API server.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.server, &other.server)
    }

    /// What is known of the server from how its requests ended.
    pub(crate) fn pace(&self) -> &Pace {
        &self.server.pace
    }

    /// The object at `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.unary(Method::GET, path, None, None).await
    }

    /// The page of a list at `path`.
    pub(crate) async fn list(&self, path: &str) -> Result<Value, Error> {
        let (page, _) = self.lister().await.page(path).await?;
        Ok(page)
    }

    /// The right to list, when it is this one's turn: whatever the server has said of itself.
    pub(crate) async fn lister(&self) -> Lister<'_> {
        Lister {
            cluster: self,
            // It is never closed, and each request has a time limit.
            _place: self.server.lists.acquire().await.ok(),
        }
    }

    /// The right to list once the server is worth asking, or for the one that sees for all who wait so whether it is.
    ///
    /// No place is kept meanwhile: who lists by [`Cluster::lister`] waits for nobody's return.
    pub(crate) async fn patient_lister(&self) -> Lister<'_> {
        loop {
            let changed = self.server.pace.changed();
            let lister = self.lister().await;
            // Looked at last: those before may have found that the server is gone.
            let Advice::Wait(until) = self.server.pace.turn() else {
                return lister;
            };
            drop(lister);
            pace::wait(changed, until).await;
        }
    }

    /// A kind was defined or its definition changed: who waits for one may look again.
    pub(crate) fn kinds_changed(&self) {
        self.server.kinds.send_modify(|count| *count += 1);
    }

    /// Tells of changes of the definitions of kinds.
    pub(crate) fn kinds(&self) -> watch::Receiver<u64> {
        self.server.kinds.subscribe()
    }

    /// The object at `path`, or nothing when there is none.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.get(path).await {
            Err(Error::NotFound) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Creates an object; the answer is the object as stored.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        permit: &Permit,
    ) -> Result<Value, Error> {
        let body = Some(("application/json", body));
        match self.unary(Method::POST, path, body, Some(permit)).await {
            Err(Error::Conflict(message)) if message.contains("already exists") => {
                Err(Error::AlreadyExists)
            }
            other => other,
        }
    }

    /// Patches the object or subresource at `path`; the answer is the object as stored.
    pub(crate) async fn patch(
        &self,
        path: &str,
        kind: PatchType,
        body: &Value,
        permit: &Permit,
    ) -> Result<Value, Error> {
        self.patch_for(Shape::Object, path, kind, body, permit)
            .await
    }

    /// The same, for who needs no more of the answer than a shape has.
    pub(crate) async fn patch_for(
        &self,
        answer: Shape,
        path: &str,
        kind: PatchType,
        body: &Value,
        permit: &Permit,
    ) -> Result<Value, Error> {
        let content_type = match kind {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::StrategicMerge => "application/strategic-merge-patch+json",
        };
        let joined = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joined}fieldManager={}", api::keys::FIELD_MANAGER);
        let body = Some((content_type, body));
        let patched = self.ask(Method::PATCH, &path, body, answer, Some(permit));
        match patched.await.map(|(patched, _)| patched) {
            // So the API server answers a JSON Patch whose `test` of UID or version fails.
            Err(Error::Invalid(message))
                if message.contains("rejected our request due to an error in our request") =>
            {
                Err(Error::Conflict(message))
            }
            other => other,
        }
    }

    /// Deletes the object at `path` under preconditions.
    pub(crate) async fn delete(
        &self,
        path: &str,
        preconditions: &Preconditions<'_>,
        permit: &Permit,
    ) -> Result<(), Error> {
        let mut tests = serde_json::json!({"uid": preconditions.uid});
        if let Some(version) = preconditions.resource_version {
            tests["resourceVersion"] = version.to_string().into();
        }
        let mut body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": tests});
        if let Some(seconds) = preconditions.grace {
            body["gracePeriodSeconds"] = seconds.into();
        }
        let body = Some(("application/json", &body));
        self.unary(Method::DELETE, path, body, Some(permit))
            .await
            .map(drop)
    }

    /// The body of a watch, as it arrives.
    pub(crate) async fn watch(&self, path: &str) -> Result<ResponseBody, Error> {
        let result = self.open(path).await;
        self.server.pace.observe(&result);
        result
    }

    async fn open(&self, path: &str) -> Result<ResponseBody, Error> {
        let request = request(Method::GET, path, None)?;
        let (lane, place) = self.server.watches.take();
        let begun = tokio::time::timeout(REQUEST_LIMIT, async {
            let response = send(&lane, request)
                .await
                .map_err(|err| answer::unavailable(&*err))?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            let (parts, body) = response.into_parts();
            let bytes = answer::body(body).await?;
            Err(answer::failure(&parts, &bytes))
        });
        let body = begun.await.map_err(|_| {
            Error::Unavailable(format!("no answer to a watch within {REQUEST_LIMIT:?}"))
        })??;
        // The place is the watch's as long as its answer goes on.
        Ok(arriving(body.map_frame(move |frame| {
            let _ = &place;
            frame
        })))
    }

    async fn unary(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        permit: Option<&Permit>,
    ) -> Result<Value, Error> {
        let asked = self.ask(method, path, body, Shape::Object, permit);
        asked.await.map(|(answer, _)| answer)
    }

    /// The answer, and how many bytes it had.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        answer: Shape,
        permit: Option<&Permit>,
    ) -> Result<(Value, usize), Error> {
        let mut request = request(method, path, body)?;
        let pass = self.server.pace.enter().await;
        let has_ended = || permit.is_some_and(|permit| !permit.holds());
        if has_ended() {
            return Err(Error::Revoked);
        }
        // Asked once more when the connection takes the body.
        if let Some(permit) = permit {
            request.extensions_mut().insert(permit.clone());
        }
        let result = self.exchange(request, answer).await;
        if matches!(result, Err(Error::Unavailable(_))) && has_ended() {
            // Perhaps nothing but the fence: that tells nothing of the server.
            return Err(Error::Revoked);
        }
        pass.end(&result);
        result
    }

    async fn exchange(
        &self,
        request: Request<Body>,
        shape: Shape,
    ) -> Result<(Value, usize), Error> {
        let beside = self.server.beside.try_acquire();
        let stack = match &beside {
            Ok(_place) => self.server.watches.first(),
            Err(_) => self.server.requests.clone(),
        };
        let exchange = async {
            let response = send(&stack, request)
                .await
                .map_err(|err| answer::unavailable(&*err))?;
            let (parts, body) = response.into_parts();
            let bytes = answer::body(body).await?;
            if parts.status.is_success() {
                return Ok((answer::json(&bytes, shape)?, bytes.len()));
            }
            Err(answer::failure(&parts, &bytes))
        };
        tokio::time::timeout(REQUEST_LIMIT, exchange)
            .await
            .map_err(|_| Error::Unavailable(format!("no answer within {REQUEST_LIMIT:?}")))?
    }
}

/// Sends a request when the stack is ready for it. The future's type is erased: it would be part of that of every task.
fn send(
    stack: &Stack,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<ResponseBody>, BoxError>> {
    stack.clone().oneshot(request).boxed()
}

fn request(
    method: Method,
    path: &str,
    body: Option<(&str, &Value)>,
) -> Result<Request<Body>, Error> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "application/json");
    if let Some((content_type, _)) = body {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    let bytes = body.map(|(_, value)| serde_json::to_vec(value));
    let bytes = bytes
        .transpose()
        .map_err(|err| Error::Malformed(format!("the body for {path}: {err}")))?
        .unwrap_or_default();
    builder
        .body(Body::from(bytes))
        .map_err(|err| Error::Malformed(format!("the path {path}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Server, line};
    use serde_json::json;

    /// A cluster with rare traffic, and who answers on the connection for requests and on the one for watches.
    fn quiet() -> (Cluster, [Server; 2]) {
        let (requests, own) = line();
        let (watches, shared) = line();
        let lanes = Lanes::new(move || watches.clone());
        let cluster = Cluster::by(requests, lanes, Pace::own("fake"), Traffic::Rare);
        (cluster, [own, shared])
    }

    #[tokio::test]
    async fn a_few_requests_go_beside_the_watches_and_the_others_by_a_connection_of_their_own() {
        let (cluster, [mut own, mut shared]) = quiet();
        let asked = async {
            let few = (0..=BESIDE).map(|_| cluster.get("/early"));
            let early = futures::future::join_all(few).await;
            early
                .into_iter()
                .chain([cluster.get("/late").await])
                .all(|answer| answer.is_ok())
        };
        let answers = async {
            // The last one is answered first: all are under way at once.
            let mut paths = vec![own.answer("GET", 200, &json!({})).await.path];
            for _ in 0..=BESIDE {
                paths.push(shared.answer("GET", 200, &json!({})).await.path);
            }
            paths
        };
        let (is_answered, paths) = tokio::join!(asked, answers);
        assert!(is_answered);
        assert_eq!(paths, ["/early", "/early", "/early", "/late"]);
    }

    /// Who waits for a server's return holds up nobody who lists and takes what comes.
    #[tokio::test(start_paused = true)]
    async fn no_place_is_kept_while_a_server_that_is_gone_is_waited_for() {
        let (cluster, [_own, mut shared]) = quiet();
        while !cluster.pace().is_open() {
            let failed: Result<(), Error> = Err(Error::Unavailable("refused".into()));
            cluster.pace().observe(&failed);
        }
        let waiting = futures::future::join_all((0..9).map(|_| cluster.patient_lister()));
        tokio::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        let answers = async {
            shared.answer("GET", 200, &json!({"items": []})).await;
        };
        let (listed, ()) = tokio::join!(cluster.list("/pods"), answers);
        assert!(listed.is_ok());
        // It was answered: the others go on, a few at a time.
        assert!(cluster.patient_lister().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_tenant_is_asked_for_a_few_lists_at_a_time() {
        let (cluster, [mut own, mut shared]) = quiet();
        let lists = (0..=LISTS).map(|_| cluster.list("/pods"));
        let asked = futures::future::join_all(lists);
        let answers = async {
            for _ in 0..=LISTS {
                assert!(own.is_silent());
                shared.answer("GET", 200, &json!({"items": []})).await;
            }
        };
        let (asked, ()) = tokio::join!(asked, answers);
        assert!(asked.iter().all(Result::is_ok));
    }
}
