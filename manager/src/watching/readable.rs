//! Watches of Sublet's own kinds, of which some objects may have a form that this version doesn't know: a newer one ran here.
//!
//! kube reads a list as a whole, so that one such object would make the manager deaf for all. It is set aside instead, and
//! told of once. What was known of it before stays known until it is gone or can be read again.

use crate::watching::{cache::CacheWriter, news};
use futures::{Stream, StreamExt, future::ready};
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher,
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use std::{collections::HashSet, fmt::Debug};

/// What happens to the objects of a kind that can be read, without who wrote what; each is known before it is handed on.
pub(crate) fn listen<K>(
    client: &Client,
    config: watcher::Config,
    writer: CacheWriter<K>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let all = Api::<DeserializeGuard<K>>::all(client.clone());
    let events = news::without_writers(watcher(all, config).default_backoff());
    let events = readable(events, writer.store());
    writer.records(events)
}

/// The events of objects that can be read, or could be when they were told of last.
fn readable<K>(
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>,
    known: Store<K>,
) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut aside = HashSet::new();
    let mut read = move |DeserializeGuard(object): DeserializeGuard<K>| {
        let invalid = match object {
            Ok(object) => {
                aside.remove(&ObjectRef::from_obj(&object));
                return Some(object);
            }
            Err(invalid) => invalid,
        };
        let at = ObjectRef::<K>::new(invalid.metadata.name.as_deref().unwrap_or_default());
        let at = match &invalid.metadata.namespace {
            Some(namespace) => at.within(namespace),
            None => at,
        };
        let before = known.get(&at).map(|known| K::clone(&known));
        if aside.insert(at.clone()) {
            let error = invalid.error;
            tracing::warn!(object = %at, error, "this version can't read it, and doesn't look after it");
        }
        before
    };
    events.filter_map(move |event| {
        let readable = event.map(|event| match event {
            Event::Init => Some(Event::Init),
            Event::InitApply(object) => read(object).map(Event::InitApply),
            Event::InitDone => Some(Event::InitDone),
            Event::Apply(object) => read(object).map(Event::Apply),
            Event::Delete(object) => read(object).map(Event::Delete),
        });
        ready(readable.transpose())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::control_plane::tests::{class, vcp},
        watching::{cache::Cache, patient},
    };
    use api::VirtualControlPlane;
    use futures::{FutureExt, stream};
    use http::{Request, Response};
    use kube::{ResourceExt, client::Body};
    use serde_json::{Value, json};
    use tower_test::mock;

    /// One of these names, as JSON.
    fn named(name: &str) -> Value {
        let mut vcp = vcp();
        vcp.metadata.name = Some(name.into());
        json!(vcp)
    }

    /// The same as a later version writes it.
    fn newer(name: &str) -> Value {
        let mut vcp = named(name);
        vcp["status"]["phase"] = json!("Levitating");
        vcp
    }

    fn names(known: &Store<VirtualControlPlane>) -> Vec<String> {
        let mut names: Vec<_> = known.state().iter().map(|vcp| vcp.name_any()).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_this_version_cannot_read_keeps_nobody_else_from_being_known() {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
        let (known, writer) = Cache::<VirtualControlPlane>::begin(());
        let client = Client::new(service, "default");
        let events = listen(&client, patient::config(), writer);
        let listening = tokio::spawn(events.for_each(|_| ready(())));
        let (_, send) = server.next_request().await.unwrap();
        let list = json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlaneList",
            "metadata": {"resourceVersion": "7"}, "items": [newer("a"), named("b")],
        });
        send.send_response(Response::new(Body::from(list.to_string().into_bytes())));
        let all = tokio::time::timeout(std::time::Duration::from_secs(60), known.all());
        let all = all.await.expect("it is listed").unwrap();
        assert_eq!(names(&all), ["b"]);
        listening.abort();
    }

    #[test]
    fn what_was_known_of_one_stays_until_it_is_gone_or_can_be_read_again() {
        let (known, writer) = Cache::<VirtualControlPlane>::begin(());
        let guarded = |object: Value| {
            let guarded = serde_json::from_value(object);
            guarded.unwrap()
        };
        let mut bigger = named("a");
        bigger["metadata"]["resourceVersion"] = json!("9");
        let events = [
            Event::Init,
            Event::InitApply(guarded(named("a"))),
            Event::InitApply(guarded(named("b"))),
            Event::InitDone,
            Event::Apply(guarded(newer("a"))),
            Event::Init,
            Event::InitApply(guarded(newer("a"))),
            Event::InitApply(guarded(newer("b"))),
            Event::InitApply(guarded(newer("c"))),
            Event::InitDone,
            Event::Apply(guarded(bigger)),
            Event::Delete(guarded(newer("b"))),
            Event::Delete(guarded(newer("c"))),
        ];
        let store = writer.store();
        let told = writer.records(readable(stream::iter(events.map(Ok)), store.clone()));
        let seen = told.map(|event| {
            let what = match event.unwrap() {
                Event::Apply(vcp) => format!("apply {}", vcp.name_any()),
                Event::Delete(vcp) => format!("delete {}", vcp.name_any()),
                Event::InitDone => "listed".to_owned(),
                _ => return None,
            };
            Some((what, names(known.store()).concat()))
        });
        let seen: Vec<_> = seen
            .filter_map(ready)
            .collect::<Vec<_>>()
            .now_or_never()
            .unwrap();
        let seen: Vec<(&str, &str)> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("listed", "ab"),
                ("apply a", "ab"),
                ("listed", "ab"),
                ("apply a", "ab"),
                ("delete b", "a"),
            ]
        );
        let version = store.state()[0].resource_version();
        assert_eq!(version.as_deref(), Some("9"));
    }

    #[test]
    fn what_can_be_read_is_read_as_it_is() {
        let (vcp, class) = (json!(vcp()), json!(class()));
        let read: DeserializeGuard<VirtualControlPlane> =
            serde_json::from_value(vcp.clone()).unwrap();
        assert_eq!(json!(read.0.unwrap()), vcp);
        let read: DeserializeGuard<api::ControlPlaneClass> =
            serde_json::from_value(class.clone()).unwrap();
        assert_eq!(json!(read.0.unwrap()), class);
    }
}
