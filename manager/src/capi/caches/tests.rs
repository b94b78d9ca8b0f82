use super::*;
use crate::{
    capi::{Context, Role, reconcile, tests::comes_up},
    played::{Played, Watch},
    watching::caches,
};
use api::keys;
use futures::{FutureExt, StreamExt};
use kube::runtime::{controller, watcher::Event};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

const OWN: &str =
    "/apis/controlplane.cluster.x-k8s.io/v1alpha1/namespaces/ns/subletcontrolplanes/blue-x7k2p";
const PLACE: &str =
    "/apis/infrastructure.cluster.x-k8s.io/v1alpha1/namespaces/ns/subletclusters/blue-place";
const CLUSTER: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/ns/clusters/blue";
const TENANT: &str = "/apis/sublet.dev/v1alpha1/namespaces/ns/virtualcontrolplanes/blue";

/// A Cluster that is a tenant, and a provider that was told of all of it.
struct World {
    played: Played,
    cx: Arc<Context>,
    own: Watch<SubletControlPlane>,
    tenants: Watch<VirtualControlPlane>,
}

impl World {
    fn new() -> Self {
        let played = Played::default();
        let seen = comes_up();
        played.put(OWN, seen.object.body.clone());
        played.put(PLACE, seen.other.as_ref().unwrap().body.clone());
        played.put(CLUSTER, seen.cluster.as_ref().unwrap().body.clone());
        let mut tenant = seen.tenant.as_ref().unwrap().object.body.clone();
        // Whatever becomes of its spec was seen already.
        tenant["status"]["observedGeneration"] = json!(100);
        played.put(TENANT, tenant);

        let (shared, writers) = caches::begin();
        let (caches, own_writers) = ProviderCaches::begin(shared);
        Watch::of(writers.clusters).list([typed(&played, CLUSTER)]);
        Watch::of(own_writers.places).list([typed(&played, PLACE)]);
        let mut own = Watch::of(own_writers.control_planes);
        own.list([typed(&played, OWN)]);
        let mut tenants = Watch::of(writers.tenants);
        tenants.list([typed(&played, TENANT)]);
        let cx = Context {
            cluster: played.cluster(),
            caches: Arc::new(caches),
        };
        Self {
            played,
            cx: Arc::new(cx),
            own,
            tenants,
        }
    }

    /// What a pass asks for.
    async fn pass(&self) -> Vec<String> {
        self.pass_and_next().await.0
    }

    /// The same, and when the next one comes.
    async fn pass_and_next(&self) -> (Vec<String>, controller::Action) {
        let own: SubletControlPlane = typed(&self.played, OWN);
        let next = reconcile(Arc::new(own), self.cx.clone()).await.unwrap();
        (self.played.take_asked(), next)
    }
}

fn typed<T: DeserializeOwned>(played: &Played, path: &str) -> T {
    serde_json::from_value(played.get(path).unwrap()).unwrap()
}

fn status() -> String {
    format!("PATCH {OWN}/status")
}

/// All that a pass goes by.
fn all_read() -> Vec<String> {
    [OWN, CLUSTER, PLACE, TENANT]
        .map(|path| format!("GET {path}"))
        .into()
}

#[tokio::test]
async fn what_there_is_to_say_is_said_without_a_question() {
    let mut world = World::new();
    assert_eq!(world.pass().await, [status()]);
    let said = typed::<SubletControlPlane>(&world.played, OWN)
        .status
        .unwrap();
    let available = said
        .conditions
        .iter()
        .find(|said| said.type_ == "Available");
    assert_eq!(available.unwrap().status, "True");
    // Its own words may not have been told of yet: then it is asked.
    assert_eq!(world.pass().await, all_read());
    world.own.tell(Event::Apply(typed(&world.played, OWN)));
    assert!(world.pass().await.is_empty());

    // What is told of as it is said, is as what is read.
    let read = facts::look(&world.cx.cluster, SUBLET_CONTROL_PLANE, "ns", "blue-x7k2p");
    let read = SubletControlPlane::decide(&read.await.unwrap().unwrap());
    let heard = world
        .cx
        .caches
        .recall(SUBLET_CONTROL_PLANE, "ns", "blue-x7k2p");
    let heard = SubletControlPlane::decide(&heard.unwrap().unwrap());
    assert_eq!(read.report, heard.report);
}

#[tokio::test]
async fn before_anything_is_done_all_is_read() {
    let mut world = World::new();
    world.pass().await;
    world.own.tell(Event::Apply(typed(&world.played, OWN)));
    let edited = world
        .played
        .change(TENANT, |vcp| vcp["spec"]["replicas"] = json!(1));
    // It was put right again, which wasn't told of yet.
    world
        .played
        .change(TENANT, |vcp| vcp["spec"]["replicas"] = json!(2));
    world.tenants.tell(Event::Apply(
        serde_json::from_value(edited.clone()).unwrap(),
    ));
    assert_eq!(world.pass().await, all_read());

    world
        .played
        .change(TENANT, |vcp| vcp["spec"]["replicas"] = json!(1));
    let asked = world.pass().await;
    let mut wanted = all_read();
    wanted.push(format!("PATCH {TENANT}"));
    assert_eq!(asked[..wanted.len()], wanted);
    assert_eq!(world.played.get(TENANT).unwrap()["spec"]["replicas"], 2);
}

/// Somebody else wrote since: what was said would be of another state.
#[tokio::test]
async fn what_is_said_of_an_older_state_is_said_anew() {
    let world = World::new();
    world
        .played
        .change(OWN, |own| own["metadata"]["labels"] = json!({"a": "b"}));
    let mut wanted = vec![status()];
    wanted.extend(all_read());
    wanted.push(status());
    assert_eq!(world.pass().await, wanted);
}

#[tokio::test]
async fn a_deletion_and_what_was_not_told_of_are_read() {
    let mut world = World::new();
    let pass = world.pass().await;
    assert_eq!(pass.len(), 1);
    let going = world.played.change(OWN, |own| {
        own["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    world
        .own
        .tell(Event::Apply(serde_json::from_value(going).unwrap()));
    assert_eq!(world.pass().await[..4], all_read());

    let mut world = World::new();
    world.tenants.tell(Event::Init);
    assert_eq!(world.pass().await[..4], all_read(), "a list is coming");
}

/// A list that comes anew doesn't tell what is gone since.
#[tokio::test]
async fn one_that_goes_looks_soon_whether_what_it_waits_for_is_gone() {
    let world = World::new();
    for going in [OWN, TENANT] {
        world.played.change(going, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
    }
    world.played.change(TENANT, |tenant| {
        tenant["metadata"]["finalizers"] = json!([keys::FINALIZER]);
    });
    let (_, next) = world.pass_and_next().await;
    assert_eq!(next, controller::Action::requeue(Duration::from_secs(10)));
    assert!(world.played.get(TENANT).is_some());
}

/// It was in the way: with it gone, the Cluster's own can be made.
#[tokio::test]
async fn a_clusters_objects_are_told_of_whatever_has_its_name() {
    let world = World::new();
    let mut foreign: VirtualControlPlane = typed(&world.played, TENANT);
    foreign.metadata.owner_references = None;
    foreign.metadata.labels = None;
    world.cx.caches.tenant(&foreign);
    let rung = world.cx.caches.of_control_planes.rung();
    let rung = Box::pin(rung).next().now_or_never().flatten();
    assert_eq!(rung.map(|of| of.name), Some("blue-x7k2p".to_owned()));
}
