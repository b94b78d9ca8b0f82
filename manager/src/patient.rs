//! A watch of a kind that may not be served yet.
//!
//! A controller waits with all its watches while one of them fails: where Cluster API's own kinds aren't installed, every
//! change of anything else would be seen up to half a minute late. So such a watch keeps its failures to itself, and
//! begins to tell once the kind is there.

use futures::{Stream, StreamExt};
use kube::{
    Api, Client,
    api::DynamicObject,
    core::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use std::time::Duration;

/// A watch that failed once rests so long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest rest: a kind that comes to be served is noticed after it at the latest.
const LONGEST: Duration = Duration::from_secs(10);

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
                let error = crate::args::whole(error);
                tracing::warn!(kind, error, "can't be watched yet");
            }
            Ok(_) if before > 0 && fails == 0 => tracing::info!(kind, "is watched"),
            _ => {}
        }
        let wait = if event.is_err() {
            pause(fails)
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

/// How long a watch rests after so many failures, one after the other.
fn pause(fails: u32) -> Duration {
    FIRST
        .saturating_mul(1 << fails.saturating_sub(1).min(10))
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tower_test::mock;

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
