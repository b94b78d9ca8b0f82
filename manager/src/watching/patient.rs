//! Watches that fail, and controllers that go on meanwhile.
//!
//! A controller rests with all its watches whenever one of them fails, as a rule for longer each time: a dozen of them that
//! an API server's restart ended would make it deaf for minutes. So each watch rests by itself, and the controller hardly.
//!
//! A kind that may not be served yet, such as Cluster API's own where they aren't installed, fails for ever. Its watch keeps
//! that to itself, and begins to tell once the kind is there.

use crate::watching::growing;
use futures::{
    Stream, StreamExt,
    future::{Ready, ready},
};
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    core::ApiResource,
    runtime::{Controller, WatchStreamExt, controller, reflector::Store, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, hash::Hash, time::Duration};

/// Passes of one kind that run at once: one that waits for an answer must not hold up the others.
const CONCURRENCY: u16 = 16;
/// Events of one object that come together make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Objects per page of a watch's first list.
const PAGE: u32 = 200;
/// Seconds after which a watch is asked for anew: a connection that died without a word is noticed a moment later.
const ASKED_ANEW: u32 = 60;
/// A controller rests so long when one of its watches failed.
const HARDLY: Duration = Duration::from_millis(50);

/// A watch that failed once rests so long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest rest: a kind that comes to be served is noticed after it at the latest.
const LONGEST: Duration = Duration::from_secs(10);

/// How objects are watched.
pub(crate) fn config() -> watcher::Config {
    watcher::Config::default()
        .page_size(PAGE)
        .timeout(ASKED_ANEW)
}

/// A controller that goes on while watches fail; each of those must rest by itself.
pub(crate) fn controller<K>(
    own: impl Stream<Item = watcher::Result<K>> + Send + 'static,
    known: Store<K>,
) -> Controller<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash,
{
    let config = controller::Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    Controller::for_stream(own, known)
        .with_config(config)
        .trigger_backoff(Brief)
}

/// Logs the passes that ended early, and once that nothing can be watched until a pass is made again.
pub(crate) fn telling<T, E, Q>(
    kind: &str,
    settles: impl Fn(&E) -> bool,
) -> impl FnMut(Result<T, controller::Error<E, Q>>) -> Ready<()>
where
    E: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    let mut is_deaf = false;
    move |outcome| {
        match &outcome {
            Err(controller::Error::QueueError(error)) => {
                if !is_deaf {
                    let error = telemetry::with_causes(error);
                    tracing::warn!(kind, error, "watches fail, and are begun anew");
                }
                is_deaf = true;
            }
            // Gone since it was queued, or changed while it was worked: both settle by themselves.
            Ok(_) | Err(controller::Error::ObjectNotFound(_)) => is_deaf = false,
            Err(controller::Error::ReconcilerFailed(error, _)) if settles(error) => is_deaf = false,
            Err(error) => tracing::warn!(
                kind,
                error = telemetry::with_causes(error),
                "a pass ended early"
            ),
        }
        ready(())
    }
}

/// The same short rest each time.
struct Brief;

impl Iterator for Brief {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(HARDLY)
    }
}

impl Backoff for Brief {
    fn reset(&mut self) {}
}

/// All that happens to the objects of a kind. Of their status nothing is kept, nor who wrote what.
pub(crate) fn events(
    client: &Client,
    kind: &ApiResource,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + use<> {
    let events = watcher(Api::all_with(client.clone(), kind), config);
    let kind = kind.kind.clone();
    let mut fails = 0;
    let served = events.filter_map(move |event| {
        let before = fails;
        match &event {
            // That a list begins doesn't say that it will be answered.
            Ok(watcher::Event::Init) => {}
            Ok(_) => fails = 0,
            Err(_) => fails += 1,
        }
        match &event {
            Err(error) if before == 0 => {
                let error = telemetry::with_causes(error);
                tracing::warn!(kind, error, "can't be watched yet");
            }
            Ok(_) if before > 0 && fails == 0 => tracing::info!(kind, "is watched"),
            _ => {}
        }
        let wait = if event.is_err() {
            growing::pause(FIRST, fails, LONGEST)
        } else {
            Duration::ZERO
        };
        async move {
            tokio::time::sleep(wait).await;
            event.ok().map(Ok)
        }
    });
    served.modify(|object: &mut DynamicObject| {
        object.metadata.managed_fields = None;
        if let Some(fields) = object.data.as_object_mut() {
            fields.remove("status");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec::control_plane::tests::vcp, watching::cache::Cache};
    use api::VirtualControlPlane;
    use bytes::Bytes;
    use futures::stream;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
    use hyper::body::Frame;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        client::Body,
        runtime::{reflector::ObjectRef, watcher::Event},
    };
    use serde_json::json;
    use std::{convert::Infallible, sync::Arc};
    use tokio::{sync::mpsc, time::Instant};
    use tower_test::mock;

    /// As when the API server is started anew: one watch is back, the others aren't yet.
    #[tokio::test(start_paused = true)]
    async fn a_controller_hears_at_once_what_one_watch_tells_while_others_fail() {
        const LATER: Duration = Duration::from_secs(60);
        let (known, writer) = Cache::<VirtualControlPlane>::begin(());
        let listed = [Event::Init, Event::InitApply(vcp()), Event::InitDone].map(Ok);
        let changed = stream::once(async {
            tokio::time::sleep(LATER).await;
            Ok(Event::Apply(vcp()))
        });
        let told = stream::iter(listed).chain(changed).chain(stream::pending());
        let own = writer.records(told).touched_objects();
        let mut controller = controller(own, known.store().clone());
        for _ in 0..9 {
            let fails = stream::repeat_with(|| Err(watcher::Error::NoResourceVersion));
            controller = controller.watches_stream(fails.default_backoff(), |_: ConfigMap| {
                None::<ObjectRef<VirtualControlPlane>>
            });
        }
        let began = Instant::now();
        let (send, mut passes) = mpsc::unbounded_channel();
        let pass = move |_, _| {
            let _ = send.send(began.elapsed());
            async { Ok::<_, Infallible>(controller::Action::await_change()) }
        };
        let retry = |_, _: &Infallible, _| controller::Action::await_change();
        let all = controller.run(pass, retry, Arc::new(()));
        tokio::spawn(all.for_each(|_| std::future::ready(())));
        let first = passes.recv().await.unwrap();
        assert!(first < Duration::from_secs(2), "{first:?}");
        let second = passes.recv().await.unwrap();
        assert!(second < LATER + Duration::from_secs(2), "{second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_went_silent_is_asked_for_anew_after_a_minute() {
        let (service, mut server) = mock::pair::<Request<Body>, Response<BoxBody<_, Infallible>>>();
        let client = Client::new(service, "default");
        let visits = Api::<ConfigMap>::all(client);
        let mut events = Box::pin(watcher(visits, config()));
        let asked = tokio::spawn(async move {
            let (_, send) = server.next_request().await.unwrap();
            let list = json!({
                "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": {"resourceVersion": "7"}, "items": [],
            });
            send.send_response(Response::new(Full::<Bytes>::from(list.to_string()).boxed()));
            let (_, send) = server.next_request().await.unwrap();
            let silent = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            send.send_response(Response::new(BodyExt::boxed(StreamBody::new(silent))));
            let began = Instant::now();
            let (again, _) = server.next_request().await.unwrap();
            (again.uri().to_string(), began.elapsed())
        });
        let watched = async { while events.next().await.is_some() {} };
        let (again, after) = tokio::select! {
            asked = asked => asked.unwrap(),
            () = watched => panic!("the watch ended"),
        };
        assert!(again.contains("watch=true"), "{again}");
        assert!(after < Duration::from_secs(70), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_served_yet_is_no_failure_and_is_told_of_later() {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "default");
        let kind = crate::capi::clusters();
        let mut objects =
            Box::pin(events(&client, &kind, watcher::Config::default()).touched_objects());
        let answers = tokio::spawn(async move {
            let (_, send) = server.next_request().await.unwrap();
            let mut absent = Response::new(Body::from(b"404 page not found\n".to_vec()));
            *absent.status_mut() = http::StatusCode::NOT_FOUND;
            send.send_response(absent);
            let (_, send) = server.next_request().await.unwrap();
            let list = json!({
                "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "ClusterList",
                "metadata": {"resourceVersion": "7"},
                "items": [{"metadata": {"name": "blue", "namespace": "team"}}],
            });
            send.send_response(Response::new(Body::from(list.to_string().into_bytes())));
            server
        });
        let first = tokio::time::timeout(Duration::from_secs(300), objects.next()).await;
        let cluster = first.unwrap().unwrap().unwrap();
        assert_eq!(cluster.metadata.name.as_deref(), Some("blue"));
        drop(answers);
    }
}
