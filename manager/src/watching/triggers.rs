//! What makes passes: all that may change what a VirtualControlPlane needs is watched, and leads back to it.

use crate::{
    capi,
    clients::cluster::Cluster,
    elsewhere::twin::kept,
    lifecycle::{
        sleep,
        starts::{self, Limit, Start},
        visits::Visits,
    },
    object::{Kind, NAMESPACE, Object, POD, SERVICE},
    observe::Provider,
    running::parts,
    watching::{
        answers::{self, Answers},
        bell::Bell,
        cache::{Cache, CacheWriter},
        caches::CacheWriters,
        groups::Groups,
        news::{self, OwnWords, Relevance},
        patient,
        readable::listen,
    },
};
use api::{ControlPlaneClass, ControlPlaneGroup, VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ObjectMeta},
    core::PartialObjectMeta,
    runtime::{
        Controller, WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde_json::Value;
use std::sync::Arc;

/// What tells which passes are due.
pub(crate) struct Triggers {
    /// Sublet's own namespace.
    pub(crate) system: String,
    /// Who came to tenants that sleep.
    pub(crate) visits: Arc<Visits>,
    /// Whether Clusters are looked after.
    pub(crate) provider: Provider,
    /// How many may start at the same time.
    pub(crate) limit: Limit,
    /// Which VirtualControlPlanes the manager wrote itself.
    pub(crate) own_words: OwnWords,
    /// What was answered a moment ago.
    pub(crate) answers: Answers,
    /// Passes over Clusters, which VirtualControlPlanes make due and which make passes over those.
    pub(crate) of_clusters: Arc<capi::ProviderCaches>,
}

impl Triggers {
    /// The controller that makes these passes.
    pub(crate) fn controller(
        &self,
        client: &Client,
        known: &Cache<VirtualControlPlane>,
        writers: CacheWriters,
    ) -> Controller<VirtualControlPlane> {
        let controller = self.by_themselves(client, known, writers.tenants);
        let of_class = controller.store();
        let classes = listen(client, patient::config(), writers.classes);
        let controller = controller.watches_stream(
            classes.touched_objects(),
            move |class: ControlPlaneClass| naming(&of_class, &class.name_any()),
        );
        let (groups, of_group) = (Groups::default(), controller.store());
        let controller = controller.watches_stream(
            listen(client, patient::config(), writers.groups).touched_objects(),
            move |group: ControlPlaneGroup| {
                if !groups.is_news(&group) {
                    return vec![];
                }
                of_group
                    .state()
                    .into_iter()
                    .map(|vcp| ObjectRef::from_obj(vcp.as_ref()))
                    .collect::<Vec<_>>()
            },
        );
        let controller = self.by_visits(client, controller);
        let controller = self.by_their_parts(client, known, controller);
        match self.provider {
            Provider::Off => controller,
            Provider::On => self.by_clusters(client, controller, writers.clusters),
        }
    }

    /// What VirtualControlPlanes make due, of themselves and of each other.
    fn by_themselves(
        &self,
        client: &Client,
        known: &Cache<VirtualControlPlane>,
        writer: CacheWriter<VirtualControlPlane>,
    ) -> Controller<VirtualControlPlane> {
        let of_clusters = self.of_clusters.clone();
        let told = listen(client, patient::config(), writer);
        let told = kept::tidied(told, Cluster::new(client.clone()), self.system.clone());
        let told = news::telling(told, news::but_counts, move |vcp| of_clusters.tenant(vcp));
        // A place that was given back is news to those who wait for one.
        let (line, of_line) = (Bell::default(), known.store().clone());
        let (in_line, limit) = (line.clone(), self.limit.clone());
        let told = news::telling(
            told,
            |_: &VirtualControlPlane| Relevance::Always,
            move |vcp| {
                line.ring(next_in_line(&of_line, vcp, limit.now()));
            },
        );
        let told = news::of_virtual_control_planes(told, self.own_words.clone());
        patient::controller(told, known.store().clone())
            .reconcile_on(in_line.rung())
            .shutdown_on_signal()
    }

    /// Who sleeps and was visited may have to wake.
    fn by_visits(
        &self,
        client: &Client,
        controller: Controller<VirtualControlPlane>,
    ) -> Controller<VirtualControlPlane> {
        let at_the_door = patient::config().fields(&format!("metadata.name={}", keys::VISITS));
        let maps = Api::<ConfigMap>::namespaced(client.clone(), &self.system);
        let (visits, of_visits) = (self.visits.clone(), controller.store());
        controller.watches_stream(
            watcher(maps, at_the_door)
                .default_backoff()
                .touched_objects(),
            move |map| asleep(&of_visits, &visits.heard(&map)),
        )
    }

    /// What stands for a tenant in the super cluster.
    fn by_their_parts(
        &self,
        client: &Client,
        known: &Cache<VirtualControlPlane>,
        controller: Controller<VirtualControlPlane>,
    ) -> Controller<VirtualControlPlane> {
        let own = format!("{}={}", keys::ROLE, keys::ROLE_CONTROL_PLANE);
        let own = patient::config().labels(&own);
        let managed = patient::config().labels(&format!("{}=true", keys::MANAGED));
        let services = watcher(metadata::<Service>(client), own.clone()).default_backoff();
        let namespaces = watcher(metadata::<Namespace>(client), managed).default_backoff();
        let controller = controller
            .watches_stream(
                services.touched_objects(),
                concerning(SERVICE, known.store(), self.answers.clone()),
            )
            .watches_stream(
                news::of_namespaces(namespaces),
                concerning(NAMESPACE, known.store(), self.answers.clone()),
            );
        news::PARTS
            .into_iter()
            .fold(controller, |controller, kind| {
                let told = news::of_parts(client, kind, own.clone(), essence(kind));
                let owner = concerning(kind, known.store(), self.answers.clone());
                controller.watches_stream_with(told, owner, news::resource(kind))
            })
    }

    /// A Cluster of Cluster API that is no longer paused.
    fn by_clusters(
        &self,
        client: &Client,
        controller: Controller<VirtualControlPlane>,
        writer: CacheWriter<DynamicObject>,
    ) -> Controller<VirtualControlPlane> {
        let clusters = capi::clusters();
        let (of_cluster, of_clusters) = (controller.store(), self.of_clusters.clone());
        let told = writer.records(patient::events(client, &clusters, patient::config()));
        let told = news::telling(told, news::but_status, move |cluster| {
            of_clusters.cluster(cluster);
        });
        controller.watches_stream_with(
            news::beside_status(told),
            move |cluster| of_a_cluster(&of_cluster, &cluster),
            clusters,
        )
    }
}

/// What of a part's object is gone by.
fn essence(kind: Kind) -> fn(&Object) -> Value {
    match kind {
        POD => parts::essence_of_pod,
        _ => parts::essence_of_workload,
    }
}

/// The control plane that an object of a kind belongs to, when it isn't known there already.
fn concerning<K: Resource>(
    kind: Kind,
    tenants: &Store<VirtualControlPlane>,
    answers: Answers,
) -> impl Fn(K) -> Option<ObjectRef<VirtualControlPlane>> + use<K> {
    let tenants = tenants.clone();
    move |object| {
        let metadata = object.meta();
        let owner = owner_of(metadata, &tenants)?;
        let whose = (owner.namespace.clone()?, owner.name.clone());
        let told = answers::ObjectVersion {
            kind,
            name: metadata.name.as_deref()?,
            version: metadata.resource_version.as_deref().unwrap_or_default(),
        };
        answers.heard(&whose, &told).then_some(owner)
    }
}

/// Only metadata is watched: what an object holds is read when it is needed.
fn metadata<K>(client: &Client) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    Api::all(client.clone())
}

/// The annotation on each object of a control plane leads back to it. One that was moved has another name or namespace by
/// now than what wasn't written since says; its identity it keeps.
fn owner_of(
    metadata: &ObjectMeta,
    tenants: &Store<VirtualControlPlane>,
) -> Option<ObjectRef<VirtualControlPlane>> {
    let (namespace, name) = metadata
        .annotations
        .as_ref()?
        .get(keys::CONTROL_PLANE)?
        .split_once('/')?;
    let named = ObjectRef::new(name).within(namespace);
    if tenants.get(&named).is_some() {
        return Some(named);
    }
    let identity = metadata
        .labels
        .as_ref()
        .and_then(|own| own.get(keys::TENANT));
    let moved = identity.and_then(|identity| {
        let has_it = |vcp: &VirtualControlPlane| vcp.spec.identity.as_ref() == Some(identity);
        tenants.find(has_it)
    });
    Some(moved.map_or(named, |vcp| ObjectRef::from_obj(vcp.as_ref())))
}

/// The VirtualControlPlanes that name the class.
fn naming(store: &Store<VirtualControlPlane>, class: &str) -> Vec<ObjectRef<VirtualControlPlane>> {
    let named = store
        .state()
        .into_iter()
        .filter(|vcp| vcp.spec.class_name == class);
    named.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
}

/// Those who may start now that one has changed. Of that one the store may not have heard yet.
fn next_in_line(
    store: &Store<VirtualControlPlane>,
    changed: &VirtualControlPlane,
    starts_at_once: usize,
) -> Vec<ObjectRef<VirtualControlPlane>> {
    let is_other = |vcp: &Arc<VirtualControlPlane>| vcp.metadata.uid != changed.metadata.uid;
    let others = store.state().into_iter().filter(is_other);
    let known: Vec<Start> = others
        .filter_map(|vcp| Start::of(&vcp))
        .chain(Start::of(changed))
        .collect();
    let next = starts::next(&known, starts_at_once, jiff::Timestamp::now());
    let places = next.into_iter().filter_map(|who| who.split_once('/'));
    places
        .map(|(namespace, name)| ObjectRef::new(name).within(namespace))
        .collect()
}

/// Of these identities the VirtualControlPlanes that sleep.
fn asleep(
    store: &Store<VirtualControlPlane>,
    identities: &[String],
) -> Vec<ObjectRef<VirtualControlPlane>> {
    if identities.is_empty() {
        return vec![];
    }
    let is_meant = |vcp: &Arc<VirtualControlPlane>| {
        let identity = vcp.spec.identity.as_ref();
        sleep::is_sleeping(vcp).is_some() && identity.is_some_and(|id| identities.contains(id))
    };
    let found = store.state().into_iter().filter(is_meant);
    found.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
}

/// The VirtualControlPlane that is the control plane of a Cluster of Cluster API.
fn of_a_cluster(
    store: &Store<VirtualControlPlane>,
    cluster: &DynamicObject,
) -> Vec<ObjectRef<VirtualControlPlane>> {
    let belongs = |vcp: &Arc<VirtualControlPlane>| {
        vcp.namespace() == cluster.namespace()
            && vcp.labels().get(api::capi::CLUSTER_NAME) == cluster.metadata.name.as_ref()
    };
    let found = store.state().into_iter().filter(belongs);
    found.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::owner_of;
    use crate::spec::control_plane::tests::vcp;
    use api::keys;
    use kube::{
        api::ObjectMeta,
        runtime::{reflector::store::Writer, watcher::Event},
    };
    use std::collections::BTreeMap;

    /// Pods of an etcd that keeps nothing are never made anew, so they bear the name that was theirs at the start.
    #[test]
    fn what_belongs_to_a_tenant_that_moved_is_found_by_its_identity() {
        let mut tenants = Writer::default();
        tenants.apply_watcher_event(&Event::Apply(vcp()));
        let pod = |named: &str, identity: Option<String>| ObjectMeta {
            annotations: Some(BTreeMap::from([(
                keys::CONTROL_PLANE.to_owned(),
                named.to_owned(),
            )])),
            labels: identity.map(|id| BTreeMap::from([(keys::TENANT.to_owned(), id)])),
            ..ObjectMeta::default()
        };
        let owner = |pod: &ObjectMeta| {
            let found = owner_of(pod, &tenants.as_reader()).unwrap();
            format!("{}/{}", found.namespace.unwrap(), found.name)
        };
        let identity = vcp().spec.identity;
        assert_eq!(owner(&pod("tenants/acme", None)), "tenants/acme");
        assert_eq!(owner(&pod("before/acme", identity)), "tenants/acme");
        // One that is gone is told of, too: its deletion may wait for that.
        assert_eq!(owner(&pod("gone/beta", Some("other".into()))), "gone/beta");
        assert!(owner_of(&ObjectMeta::default(), &tenants.as_reader()).is_none());
    }
}
