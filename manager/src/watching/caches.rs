//! What watches have told of kinds that every pass goes by and that are few and small: it needn't be asked for.
//!
//! Whatever changes them makes new passes, so one that goes by an older state is followed by one that doesn't.

use crate::{
    object::{CLUSTER, Object},
    watching::cache::{Cache, CacheWriter},
};
use api::{ControlPlaneClass, ControlPlaneGroup, VirtualControlPlane};
use kube::{api::DynamicObject, runtime::reflector::ObjectRef};
use serde_json::json;

/// What is known of each kind.
#[derive(Clone)]
pub(crate) struct Caches {
    /// All VirtualControlPlanes.
    pub(crate) tenants: Cache<VirtualControlPlane>,
    /// All classes.
    pub(crate) classes: Cache<ControlPlaneClass>,
    groups: Cache<ControlPlaneGroup>,
    clusters: Cache<DynamicObject>,
}

/// What fills them.
pub(crate) struct CacheWriters {
    /// Of VirtualControlPlanes.
    pub(crate) tenants: CacheWriter<VirtualControlPlane>,
    /// Of classes.
    pub(crate) classes: CacheWriter<ControlPlaneClass>,
    /// Of groups.
    pub(crate) groups: CacheWriter<ControlPlaneGroup>,
    /// Of Clusters of Cluster API, whose status needn't be kept.
    pub(crate) clusters: CacheWriter<DynamicObject>,
}

/// Empty ones, and what fills them.
pub(crate) fn begin() -> (Caches, CacheWriters) {
    let (tenants, of_tenants) = Cache::begin(());
    let (classes, of_classes) = Cache::begin(());
    let (groups, of_groups) = Cache::begin(());
    let (clusters, of_clusters) = Cache::begin(crate::capi::clusters());
    let caches = Caches {
        tenants,
        classes,
        groups,
        clusters,
    };
    let writers = CacheWriters {
        tenants: of_tenants,
        classes: of_classes,
        groups: of_groups,
        clusters: of_clusters,
    };
    (caches, writers)
}

impl Caches {
    /// The version that a VirtualControlPlane was told in last.
    pub(crate) fn version_of(&self, namespace: &str, name: &str) -> Option<String> {
        let of = ObjectRef::new(name).within(namespace);
        let heard = self.tenants.now()?.get(&of)?;
        heard.metadata.resource_version.clone()
    }

    /// A class; `None` also when it wasn't heard of yet.
    pub(crate) fn class(&self, name: &str) -> Option<ControlPlaneClass> {
        let heard = self.classes.now()?.get(&ObjectRef::new(name))?;
        Some(ControlPlaneClass::clone(&heard))
    }

    /// All groups, once all are known.
    pub(crate) fn groups(&self) -> Option<Vec<ControlPlaneGroup>> {
        let groups = self.groups.now()?.state().into_iter();
        Some(
            groups
                .map(|group| ControlPlaneGroup::clone(&group))
                .collect(),
        )
    }

    /// A Cluster; `None` also when it wasn't heard of yet.
    pub(crate) fn cluster(&self, namespace: &str, name: &str) -> Option<Object> {
        let of = ObjectRef::new_with(name, crate::capi::clusters()).within(namespace);
        let heard = self.clusters.now()?.get(&of)?;
        Some(Object::observed(CLUSTER, json!(&*heard)))
    }
}
