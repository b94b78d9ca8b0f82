use super::*;
use crate::{
    index::SuperPod,
    world::{Said, text},
};
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::{Notify, Semaphore};

/// What a sink was told: names that are there, and how often all were listed.
#[derive(Default)]
struct Recorder {
    there: Mutex<HashSet<String>>,
    lists: Mutex<usize>,
    news: Notify,
    freshness: Freshness,
}

impl Sink<SuperPod> for Recorder {
    fn set(&self, place: NamespacedName, _: SuperPod) {
        self.there.lock().insert(place.1);
        self.news.notify_one();
    }
    fn gone(&self, place: &NamespacedName) {
        self.there.lock().remove(&place.1);
        self.news.notify_one();
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        let listed: HashSet<_> = listed.iter().map(|place| place.1.as_str()).collect();
        let mut there = self.there.lock();
        there.retain(|name| listed.contains(name.as_str()));
        *self.lists.lock() += 1;
        self.news.notify_one();
    }
}

impl Recorder {
    async fn until(&self, names: &[&str]) {
        let names: HashSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let waiting = async {
            while *self.there.lock() != names {
                self.news.notified().await;
            }
        };
        let waited = timeout(Duration::from_secs(600), waiting).await;
        assert!(waited.is_ok(), "{:?} and not {names:?}", self.there.lock());
    }
}

fn pod(name: &str, version: u32, weight: usize) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "ns", "resourceVersion": version.to_string(),
            "managedFields": [{"fieldsV1": {"f:x": {}}}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "command": ["x".repeat(weight)]}]},
    })
}

fn list(items: &[Value], version: u32, token: &str) -> Response<Said> {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
    let list = json!({"kind": "PodList", "metadata": metadata, "items": items});
    Response::new(text(list.to_string()))
}

/// A watch that tells of these events and then stays open, or ends.
fn watch(events: &[(&str, Value)], stays: bool) -> Response<Said> {
    let lines = events.iter().map(|(kind, object)| {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(line)))
    });
    let lines = futures::stream::iter(lines.collect::<Vec<_>>());
    if stays {
        let open = lines.chain(futures::stream::pending());
        return Response::new(StreamBody::new(open).boxed_unsync());
    }
    Response::new(StreamBody::new(lines).boxed_unsync())
}

fn number_in(query: &str, name: &str) -> Option<u32> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name))?;
    value.parse().ok()
}

/// Whether it is asked where it stands, and not what is there.
fn is_comparison(query: &str) -> bool {
    number_in(query, "limit=") == Some(1)
}

/// Follows pods of a server that answers by `answer`, which is told the query.
fn follow(
    answer: impl Fn(&str) -> Response<Said> + Clone + Send + Sync + 'static,
) -> (Arc<Recorder>, tokio::task::JoinHandle<()>) {
    let service = tower::service_fn(move |request: Request<Body>| {
        assert_eq!(request.uri().path(), "/api/v1/pods");
        let response = answer(request.uri().query().unwrap());
        async move { Ok::<_, Infallible>(response) }
    });
    let client = kube::Client::new(service, "s");
    let told = Arc::new(Recorder::default());
    let sink = told.clone();
    let task = tokio::spawn(async move {
        let which = Which {
            namespace: None,
            selector: ("labelSelector", "a".into()),
        };
        let turns = Arc::new(Semaphore::new(1));
        run::<SuperPod>(&client, &which, &[&turns], &*sink, &sink.freshness).await;
    });
    (told, task)
}

/// T40: a page of one tenant's large pods is asked for again in parts, and little of it is read.
#[tokio::test(start_paused = true)]
async fn t40_large_objects_are_listed_in_smaller_pages() {
    const ALL: u32 = 40;
    let (told, task) = follow(|query| {
        if query.contains("watch=true") {
            return watch(&[], true);
        }
        let from = number_in(query, "continue=").unwrap_or_default();
        let to = ALL.min(from + number_in(query, "limit=").unwrap());
        let items: Vec<_> = (from..to)
            .map(|n| pod(&n.to_string(), n, 1_500_000))
            .collect();
        let token = if to < ALL {
            to.to_string()
        } else {
            String::new()
        };
        list(&items, 7, &token)
    });
    let names: Vec<String> = (0..ALL).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    told.until(&names).await;
    assert_eq!(*told.lists.lock(), 1);
    task.abort();
}

/// A watch goes on where it was; what came in an order that can't be told any more is listed again.
#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_and_is_begun_anew_when_its_place_is_gone() {
    let asked = Arc::new(Mutex::new(vec![]));
    let asking = asked.clone();
    let (told, task) = follow(move |query| {
        if is_comparison(query) {
            return list(&[pod("a", 1, 0)], 9, "more");
        }
        let mut asked = asking.lock();
        let from = number_in(query, "resourceVersion=");
        asked.push(from);
        match (asked.len(), from) {
            (1, None) => list(&[pod("a", 1, 0), pod("b", 2, 0)], 2, ""),
            (2, Some(2)) => watch(
                &[
                    ("ADDED", pod("c", 3, 0)),
                    ("DELETED", pod("a", 4, 0)),
                    (
                        "BOOKMARK",
                        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}}),
                    ),
                ],
                false,
            ),
            (3, Some(9)) => watch(
                &[(
                    "ERROR",
                    json!({"kind": "Status", "status": "Failure", "code": 410, "message": "too old", "reason": "Expired", "metadata": {}}),
                )],
                false,
            ),
            (4, None) => list(&[pod("d", 12, 0)], 12, ""),
            (5, Some(12)) => watch(&[("MODIFIED", pod("e", 13, 0))], true),
            other => panic!("{other:?}"),
        }
    });
    told.until(&["d", "e"]).await;
    assert_eq!(*told.lists.lock(), 2);
    task.abort();
}

/// What can't be read is set aside, and stops nothing; when it is deleted, that is told.
#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_stops_nothing() {
    let odd = |name: &str, version| {
        let mut odd = pod(name, version, 0);
        odd["spec"] = json!("x");
        odd
    };
    let (told, task) = follow(move |query| match number_in(query, "resourceVersion=") {
        None => list(&[odd("odd", 1), pod("a", 2, 0)], 2, ""),
        Some(2) => watch(
            &[
                ("MODIFIED", odd("odd", 3)),
                ("ADDED", pod("b", 4, 0)),
                ("DELETED", odd("a", 5)),
            ],
            true,
        ),
        other => panic!("{other:?}"),
    });
    told.until(&["b"]).await;
    assert_eq!(*told.lists.lock(), 1);
    task.abort();
}

/// A server that is silent, or that fails, is asked again, ever less often, and nothing that is known goes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_watch_without_a_word_is_begun_again() {
    let asked = Arc::new(Mutex::new(vec![]));
    let asking = asked.clone();
    let (told, task) = follow(move |query| {
        asking.lock().push(Instant::now());
        match asking.lock().len() {
            1 => list(&[pod("a", 1, 0)], 1, ""),
            2 => watch(&[], true),
            3..8 => {
                let mut response = Response::new(text(""));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
            8 => list(&[pod("a", 1, 0)], 1, ""),
            _ => {
                assert!(query.contains("watch=true"));
                watch(&[("ADDED", pod("b", 2, 0))], true)
            }
        }
    });
    told.until(&["a", "b"]).await;
    assert_eq!(*told.lists.lock(), 2);
    let asked = asked.lock();
    let gaps: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let given_up = SILENCE..Duration::from_secs(100);
    assert!(given_up.contains(&gaps[1]), "{gaps:?}");
    assert!(
        gaps[2] <= 2 * PAUSES.first && gaps[6] >= 4 * PAUSES.first,
        "{gaps:?}"
    );
    task.abort();
}

/// A server whose store was put back: a watch from a version that it has yet to reach is answered, and tells nothing.
fn restored(ending: fn() -> Response<Said>) -> (Arc<Recorder>, tokio::task::JoinHandle<()>) {
    let watches = Arc::new(Mutex::new(0));
    follow(move |query| {
        let from = number_in(query, "resourceVersion=");
        match (*watches.lock(), from, is_comparison(query)) {
            (0, None, _) => return list(&[pod("lost", 90, 0)], 90, ""),
            (_, None, false) => return list(&[pod("kept", 30, 0)], 40, ""),
            (_, None, true) => return list(&[pod("kept", 30, 0)], 40, "more"),
            _ => {}
        }
        *watches.lock() += 1;
        match (*watches.lock(), from) {
            (1, Some(90)) => ending(),
            (_, Some(40)) => watch(&[("ADDED", pod("new", 41, 0))], true),
            _ => watch(&[], true),
        }
    })
}

/// R5: what went with a restore of the super cluster goes from the index, and what comes later is seen.
#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_listed_again_after_a_watch_that_broke() {
    let (told, task) = restored(|| {
        let mut response = Response::new(text(""));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    });
    told.until(&["kept", "new"]).await;
    assert_eq!(*told.lists.lock(), 2);
    task.abort();
}

/// An API server that is shut down ends its watches as if nothing were wrong.
#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_listed_again_after_a_watch_that_ended() {
    let (told, task) = restored(|| watch(&[], false));
    told.until(&["kept", "new"]).await;
    assert_eq!(*told.lists.lock(), 2);
    task.abort();
}

/// The versions of a store that can't be compared are no proof that it goes on.
#[test]
fn a_version_is_as_new_as_another_or_older() {
    assert!(is_before("9", "10") && is_before("", "10") && is_before("10", "x"));
    assert!(!is_before("10", "10") && !is_before("11", "9"));
}

/// A watch where nothing changes is heard of by its bookmarks, and none is where the server fails.
#[tokio::test(start_paused = true)]
async fn a_watch_is_heard_of_as_long_as_the_server_says_something() {
    let is_down = Arc::new(Mutex::new(false));
    let down = is_down.clone();
    let (told, task) = follow(move |query| {
        if *down.lock() {
            let mut response = Response::new(text(""));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        if !query.contains("watch=true") {
            return list(&[pod("a", 1, 0)], 1, "");
        }
        let mark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}});
        let line = json!({"type": "BOOKMARK", "object": mark}).to_string() + "\n";
        let marks = futures::stream::unfold(0, move |count| {
            let line = bytes::Bytes::from(line.clone());
            async move {
                sleep(Duration::from_secs(60)).await;
                (count < 5).then(|| (Ok::<_, Infallible>(Frame::data(line)), count + 1))
            }
        });
        Response::new(StreamBody::new(marks).boxed_unsync())
    });
    assert_eq!(told.freshness.silence(), None);
    told.until(&["a"]).await;
    for _ in 0..20 {
        sleep(Duration::from_secs(61)).await;
        let silence = told.freshness.silence().unwrap();
        assert!(
            told.freshness.is_listed() && silence < SILENCE,
            "{silence:?}"
        );
    }
    assert_eq!(*told.lists.lock(), 1);
    *is_down.lock() = true;
    sleep(Duration::from_secs(900)).await;
    let silence = told.freshness.silence().unwrap();
    assert!(silence > Duration::from_secs(500), "{silence:?}");
    task.abort();
}

/// An event may come in any pieces.
#[tokio::test(start_paused = true)]
async fn events_come_in_pieces() {
    let line = json!({"type": "ADDED", "object": pod("b", 2, 0)}).to_string();
    let (told, task) = follow(move |query| match number_in(query, "resourceVersion=") {
        None => list(&[], 1, ""),
        Some(1) => {
            let line = line.clone();
            let pieces = line
                .into_bytes()
                .into_iter()
                .chain([b'\n'])
                .map(|byte| Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(vec![byte]))));
            let pieces: Vec<_> = pieces.collect();
            let open = futures::stream::iter(pieces).chain(futures::stream::pending());
            Response::new(StreamBody::new(open).boxed_unsync())
        }
        other => panic!("{other:?}"),
    });
    told.until(&["b"]).await;
    task.abort();
}
