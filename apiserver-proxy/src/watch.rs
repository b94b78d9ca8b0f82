//! Watches of the super cluster that keep the index and the serving certificate up to date.

use crate::{
    dns::Names,
    index::{Index, Place, Tenant},
    node_certificate::Signer,
    serving::Serving,
};
use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use zeroize::Zeroize;

/// Objects per page of a first list.
const PAGE: u32 = 500;
/// Kinds that are watched.
const KINDS: usize = 7;

/// How many first lists are complete.
#[derive(Default)]
pub(crate) struct Listed(AtomicUsize);

impl Listed {
    /// As if all were.
    pub(crate) fn complete(&self) {
        self.0.store(KINDS, Ordering::Relaxed);
    }

    /// Whether all are.
    pub(crate) fn all(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= KINDS
    }
}

/// What a watch tells.
trait Sink<K>: Send + Sync {
    /// An object is there, or has changed.
    fn set(&self, place: Place, object: K);
    /// An object is gone.
    fn gone(&self, place: &Place);
    /// A complete list told of these and no others.
    fn keep(&self, listed: &HashSet<Place>);
}

/// Watches until the task is dropped; `system` is Sublet's own namespace.
pub(crate) async fn run(
    client: Client,
    system: &str,
    (index, names): (Arc<Index>, Arc<Names>),
    serving: Arc<Serving>,
    signer: Arc<Signer>,
    listed: Arc<Listed>,
) {
    let labelled = |selector: &str| watcher::Config::default().page_size(PAGE).labels(selector);
    let routes = labelled(&format!("{}={}", api::keys::ROLE, api::keys::ROLE_ROUTE));
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (tenants, pods, services, certificate) = (
        Routes(index.clone()),
        Pods(index.clone()),
        Services(index, names.clone()),
        Certificate(serving),
    );
    let (namespaces, slices) = (Namespaces(names.clone()), Slices(names));
    let nodes = NodeAuthority(signer);
    let all = || labelled(api::keys::TENANT);
    // Without those of control planes, which are no namespaces of tenants.
    let twins = labelled(&format!("{},!{}", api::keys::TENANT, api::keys::ROLE));
    tokio::join!(
        follow(
            Api::namespaced(client.clone(), system),
            routes,
            &tenants,
            &listed
        ),
        follow(Api::all(client.clone()), all(), &pods, &listed),
        follow(Api::all(client.clone()), all(), &services, &listed),
        follow(Api::all(client.clone()), twins, &namespaces, &listed),
        follow(Api::all(client.clone()), all(), &slices, &listed),
        follow(
            Api::namespaced(client.clone(), system),
            named(api::keys::PROXY_SERVER),
            &certificate,
            &listed
        ),
        follow(
            Api::namespaced(client, system),
            named(api::keys::PROXY_NODES),
            &nodes,
            &listed
        ),
    );
}

/// One watch. An object that can't be read is set aside, and stops nothing.
async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    sink: &dyn Sink<K>,
    listed: &Listed,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let events = kube::runtime::watcher(api, config).default_backoff();
    tokio::pin!(events);
    let mut seen = HashSet::new();
    let (mut is_first, mut failing) = (true, false);
    let set = |object: DeserializeGuard<K>| {
        let place = place(&object);
        match object.0 {
            Ok(object) => sink.set(place.clone(), object),
            Err(error) => tracing::warn!(%kind, %error, "an object can't be read and is set aside"),
        }
        place
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => drop(seen.insert(set(object))),
            Ok(Event::InitDone) => {
                sink.keep(&seen);
                seen = HashSet::new();
                if std::mem::take(&mut is_first) {
                    listed.0.fetch_add(1, Ordering::Relaxed);
                }
                if std::mem::take(&mut failing) {
                    tracing::info!(%kind, "the watch goes on");
                }
            }
            Ok(Event::Apply(object)) => drop(set(object)),
            Ok(Event::Delete(object)) => sink.gone(&place(&object)),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%kind, %error, "the watch is interrupted; what is known stays");
                }
            }
        }
    }
}

fn place(object: &impl ResourceExt) -> Place {
    (object.namespace().unwrap_or_default(), object.name_any())
}

struct Routes(Arc<Index>);

impl Sink<ConfigMap> for Routes {
    fn set(&self, place: Place, map: ConfigMap) {
        match Tenant::read(&map) {
            Ok(tenant) => self.0.set_tenant(place, tenant),
            Err(error) => {
                tracing::warn!(name = place.1, %error, "a tenant's route can't be used: the tenant isn't served");
                self.0.drop_tenant(&place);
            }
        }
    }
    fn gone(&self, place: &Place) {
        self.0.drop_tenant(place);
    }
    fn keep(&self, listed: &HashSet<Place>) {
        self.0.keep_tenants(listed);
    }
}

struct Pods(Arc<Index>);

impl Sink<Pod> for Pods {
    fn set(&self, place: Place, pod: Pod) {
        self.0.set_pod(place, &pod);
    }
    fn gone(&self, place: &Place) {
        self.0.drop_pod(place);
    }
    fn keep(&self, listed: &HashSet<Place>) {
        self.0.keep_pods(listed);
    }
}

struct Services(Arc<Index>, Arc<Names>);

impl Sink<Service> for Services {
    fn set(&self, place: Place, service: Service) {
        self.1.set_service(&place, &service);
        self.0.set_service(place, &service);
    }
    fn gone(&self, place: &Place) {
        self.0.drop_service(place);
        self.1.drop_service(place);
    }
    fn keep(&self, listed: &HashSet<Place>) {
        self.0.keep_services(listed);
        self.1.keep_services(listed);
    }
}

struct Namespaces(Arc<Names>);

impl Sink<Namespace> for Namespaces {
    fn set(&self, place: Place, namespace: Namespace) {
        self.0.set_namespace(&place, &namespace);
    }
    fn gone(&self, place: &Place) {
        self.0.drop_namespace(place);
    }
    fn keep(&self, listed: &HashSet<Place>) {
        self.0.keep_namespaces(listed);
    }
}

struct Slices(Arc<Names>);

impl Sink<EndpointSlice> for Slices {
    fn set(&self, place: Place, slice: EndpointSlice) {
        self.0.set_slice(&place, &slice);
    }
    fn gone(&self, place: &Place) {
        self.0.drop_slice(place);
    }
    fn keep(&self, listed: &HashSet<Place>) {
        self.0.keep_slices(listed);
    }
}

struct NodeAuthority(Arc<Signer>);

impl Sink<Secret> for NodeAuthority {
    fn set(&self, _place: Place, secret: Secret) {
        match using(secret, |certificate, key| self.0.set(certificate, key)) {
            Ok(()) => tracing::info!("the authority of nodes is taken up"),
            Err(error) => tracing::warn!(%error, "the last good authority of nodes stays"),
        }
    }
    fn gone(&self, _place: &Place) {}
    fn keep(&self, _listed: &HashSet<Place>) {}
}

/// Uses certificate and key of a Secret, whose data is overwritten in memory afterwards.
fn using<R>(mut secret: Secret, take_up: impl FnOnce(&[u8], &[u8]) -> R) -> R {
    let data = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|data| data.0.as_slice()).unwrap_or_default()
    };
    let result = take_up(data("tls.crt"), data("tls.key"));
    for data in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
        data.0.zeroize();
    }
    result
}

struct Certificate(Arc<Serving>);

impl Sink<Secret> for Certificate {
    fn set(&self, _place: Place, secret: Secret) {
        match using(secret, |certificate, key| self.0.set(certificate, key)) {
            Ok(()) => tracing::info!("a serving certificate is taken up"),
            Err(error) => tracing::warn!(%error, "the last good certificate stays"),
        }
    }
    fn gone(&self, _place: &Place) {}
    fn keep(&self, _listed: &HashSet<Place>) {}
}
