//! What watches have told of kinds that every pass goes by and that are few and small: it needn't be asked for.
//!
//! Whatever changes them makes new passes, so one that goes by an older state is followed by one that doesn't.

use crate::{
    known::{Ear, Known},
    object::{CLUSTER, Object},
};
use api::{ControlPlaneClass, ControlPlaneGroup, VirtualControlPlane};
use kube::{api::DynamicObject, runtime::reflector::ObjectRef};
use serde_json::json;

/// What was heard so far.
#[derive(Clone)]
pub(crate) struct Heard {
    /// All VirtualControlPlanes.
    pub(crate) tenants: Known<VirtualControlPlane>,
    /// All classes.
    pub(crate) classes: Known<ControlPlaneClass>,
    groups: Known<ControlPlaneGroup>,
    clusters: Known<DynamicObject>,
}

/// What hears it.
pub(crate) struct Ears {
    /// Of VirtualControlPlanes.
    pub(crate) tenants: Ear<VirtualControlPlane>,
    /// Of classes.
    pub(crate) classes: Ear<ControlPlaneClass>,
    /// Of groups.
    pub(crate) groups: Ear<ControlPlaneGroup>,
    /// Of Clusters of Cluster API, whose status needn't be kept.
    pub(crate) clusters: Ear<DynamicObject>,
}

/// Nothing, and what hears more.
pub(crate) fn begin() -> (Heard, Ears) {
    let (tenants, of_tenants) = Known::begin(());
    let (classes, of_classes) = Known::begin(());
    let (groups, of_groups) = Known::begin(());
    let (clusters, of_clusters) = Known::begin(crate::capi::clusters());
    let heard = Heard {
        tenants,
        classes,
        groups,
        clusters,
    };
    let ears = Ears {
        tenants: of_tenants,
        classes: of_classes,
        groups: of_groups,
        clusters: of_clusters,
    };
    (heard, ears)
}

impl Heard {
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
