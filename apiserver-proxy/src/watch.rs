//! Watches of the super cluster that keep the index and the serving certificate up to date.

use crate::{
    dns::Names,
    follow::{self, Sink, Which},
    freshness::Freshness,
    index::{Index, SuperPod, Tenant},
    list::Turns,
    node_certificate::Signer,
    serving::Serving,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::Client;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tenancy::object::NamespacedName;
use tokio::sync::Semaphore;
use zeroize::Zeroize;

/// What is watched, as metrics call it.
const WHAT: [&str; 7] = [
    "routes",
    "pods",
    "services",
    "namespaces",
    "endpointslices",
    "certificate",
    "node_authority",
];

/// What was heard on each watch, in the order of [`WHAT`].
#[derive(Default)]
pub(crate) struct Listed([Freshness; WHAT.len()]);

impl Listed {
    /// As if all first lists were complete.
    pub(crate) fn complete(&self) {
        self.0.iter().for_each(Freshness::complete);
    }

    /// Whether all first lists are complete.
    pub(crate) fn all(&self) -> bool {
        self.0.iter().all(Freshness::is_listed)
    }

    /// For how long nothing was heard on each watch that heard something once.
    pub(crate) fn silences(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let silences = WHAT.into_iter().zip(&self.0);
        silences.filter_map(|(what, freshness)| Some((what, freshness.silence()?)))
    }
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
    let labelled = |selector: String| ("labelSelector", selector);
    let everywhere = |selector| Which {
        namespace: None,
        selector,
    };
    let here = |selector| Which {
        namespace: Some(system.to_owned()),
        selector,
    };
    let named = |name: &str| here(("fieldSelector", format!("metadata.name={name}")));
    let all = everywhere(labelled(api::keys::TENANT.into()));
    // Without those of control planes, which are no namespaces of tenants.
    let twins = format!("{},!{}", api::keys::TENANT, api::keys::ROLE);
    let twins = everywhere(labelled(twins));
    let routes = format!("{}={}", api::keys::ROLE, api::keys::ROLE_ROUTE);
    let routes = here(labelled(routes));
    let (certificate, nodes) = (
        named(api::keys::PROXY_SERVER),
        named(api::keys::PROXY_NODES),
    );
    let turns: Turns = Arc::new(Semaphore::new(1));
    let turns = [&turns];
    let client = &client;
    let (tenants, pods) = (Routes(index.clone()), Pods(index.clone()));
    let (services, namespaces) = (Services(index, names.clone()), Namespaces(names.clone()));
    let slices = Slices(names);
    let (own, authority) = (Certificate(serving), NodeAuthority(signer));
    let [
        of_routes,
        of_pods,
        of_services,
        of_namespaces,
        of_slices,
        of_certificate,
        of_nodes,
    ] = &listed.0;
    tokio::join!(
        follow::run(client, &routes, &turns, &tenants, of_routes),
        follow::run(client, &all, &turns, &pods, of_pods),
        follow::run(client, &all, &turns, &services, of_services),
        follow::run(client, &twins, &turns, &namespaces, of_namespaces),
        follow::run(client, &all, &turns, &slices, of_slices),
        follow::run(client, &certificate, &turns, &own, of_certificate),
        follow::run(client, &nodes, &turns, &authority, of_nodes),
    );
}

struct Routes(Arc<Index>);

impl Sink<ConfigMap> for Routes {
    fn set(&self, place: NamespacedName, map: ConfigMap) {
        match Tenant::read(&map) {
            Ok(tenant) => self.0.set_tenant(place, tenant),
            Err(error) => {
                tracing::warn!(name = place.1, %error, "a tenant's route can't be used: the tenant isn't served");
                self.0.drop_tenant(&place);
            }
        }
    }
    fn gone(&self, place: &NamespacedName) {
        self.0.drop_tenant(place);
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        self.0.keep_tenants(listed);
    }
}

struct Pods(Arc<Index>);

impl Sink<SuperPod> for Pods {
    fn set(&self, place: NamespacedName, pod: SuperPod) {
        self.0.set_pod(place, &pod);
    }
    fn gone(&self, place: &NamespacedName) {
        self.0.drop_pod(place);
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        self.0.keep_pods(listed);
    }
}

struct Services(Arc<Index>, Arc<Names>);

impl Sink<Service> for Services {
    fn set(&self, place: NamespacedName, service: Service) {
        self.1.set_service(&place, &service);
        self.0.set_service(place, &service);
    }
    fn gone(&self, place: &NamespacedName) {
        self.0.drop_service(place);
        self.1.drop_service(place);
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        self.0.keep_services(listed);
        self.1.keep_services(listed);
    }
}

struct Namespaces(Arc<Names>);

impl Sink<Namespace> for Namespaces {
    fn set(&self, place: NamespacedName, namespace: Namespace) {
        self.0.set_namespace(&place, &namespace);
    }
    fn gone(&self, place: &NamespacedName) {
        self.0.drop_namespace(place);
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        self.0.keep_namespaces(listed);
    }
}

struct Slices(Arc<Names>);

impl Sink<EndpointSlice> for Slices {
    fn set(&self, place: NamespacedName, slice: EndpointSlice) {
        self.0.set_slice(&place, &slice);
    }
    fn gone(&self, place: &NamespacedName) {
        self.0.drop_slice(place);
    }
    fn keep(&self, listed: &HashSet<NamespacedName>) {
        self.0.keep_slices(listed);
    }
}

struct NodeAuthority(Arc<Signer>);

impl Sink<Secret> for NodeAuthority {
    fn set(&self, _place: NamespacedName, secret: Secret) {
        match using(secret, |certificate, key| self.0.set(certificate, key)) {
            Ok(()) => tracing::info!("the authority of nodes is taken up"),
            Err(error) => tracing::warn!(%error, "the last good authority of nodes stays"),
        }
    }
    fn gone(&self, _place: &NamespacedName) {}
    fn keep(&self, _listed: &HashSet<NamespacedName>) {}
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
    fn set(&self, _place: NamespacedName, secret: Secret) {
        match using(secret, |certificate, key| self.0.set(certificate, key)) {
            Ok(()) => tracing::info!("a serving certificate is taken up"),
            Err(error) => tracing::warn!(%error, "the last good certificate stays"),
        }
    }
    fn gone(&self, _place: &NamespacedName) {}
    fn keep(&self, _listed: &HashSet<NamespacedName>) {}
}
