//! What watches have told of all that the provider goes by, and who is to be looked at because of it.
//!
//! A pass goes by it as long as there is nothing to do but to say something: what is said is tied to the version of the
//! object, and is said anew when something else is told. Before anything is done all is read ([`facts::look`]).

use super::{
    belonging,
    facts::{self, Facts, Tenant},
    owner,
};
use crate::{
    object::{Kind, Object, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, VIRTUAL_CONTROL_PLANE},
    watching::{
        bell::Bell,
        cache::{Cache, CacheWriter},
        caches::Caches,
    },
};
use api::{
    VirtualControlPlane,
    capi::{SubletCluster, SubletControlPlane},
};
use kube::{
    Resource, ResourceExt,
    api::DynamicObject,
    runtime::reflector::{ObjectRef, Store},
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;

/// A kind, a namespace and a name.
type ObjectKey = (Kind, String, String);

/// What is known without asking.
pub(crate) struct ProviderCaches {
    shared: Caches,
    /// All SubletControlPlanes that are this provider's.
    pub(super) control_planes: Cache<SubletControlPlane>,
    /// All SubletClusters that are.
    pub(super) places: Cache<SubletCluster>,
    /// For SubletControlPlanes.
    pub(super) of_control_planes: Bell<SubletControlPlane>,
    /// For SubletClusters.
    pub(super) of_places: Bell<SubletCluster>,
    /// The versions in which objects were read or written here last.
    own: Mutex<HashMap<ObjectKey, String>>,
}

/// What hears of the provider's own kinds.
pub(crate) struct ProviderWriters {
    pub(super) control_planes: CacheWriter<SubletControlPlane>,
    pub(super) places: CacheWriter<SubletCluster>,
}

impl ProviderCaches {
    /// Nothing of its own kinds so far.
    pub(crate) fn begin(shared: Caches) -> (Self, ProviderWriters) {
        let (control_planes, of_control_planes) = Cache::begin(());
        let (places, of_places) = Cache::begin(());
        let caches = Self {
            shared,
            control_planes,
            places,
            of_control_planes: Bell::default(),
            of_places: Bell::default(),
            own: Mutex::default(),
        };
        let writers = ProviderWriters {
            control_planes: of_control_planes,
            places: of_places,
        };
        (caches, writers)
    }

    /// Something has changed in a VirtualControlPlane.
    pub(crate) fn tenant(&self, vcp: &VirtualControlPlane) {
        self.of_control_planes.ring(owners_of(vcp));
        self.of_places.ring(owners_of(vcp));
        // Whosever it is: its name is the Cluster's, and may be in that one's way.
        self.of_cluster(vcp.namespace().as_deref(), &vcp.name_any());
    }

    /// Something has changed in a Cluster.
    pub(crate) fn cluster(&self, cluster: &DynamicObject) {
        self.of_cluster(cluster.namespace().as_deref(), &cluster.name_any());
    }

    fn of_cluster(&self, namespace: Option<&str>, name: &str) {
        let control_planes = belonging(self.control_planes.store(), namespace, &[name]);
        self.of_control_planes.ring(control_planes);
        let places = belonging(self.places.store(), namespace, &[name]);
        self.of_places.ring(places);
    }

    /// What one of the provider's objects goes by, if all of it was told of; a deletion goes by what is read alone.
    pub(super) fn recall(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Facts>, facts::Error> {
        let Some(object) = self.provided(kind, namespace, name) else {
            return Ok(None);
        };
        let place = (kind, namespace.to_owned(), name.to_owned());
        let is_last = match self.own.lock().get(&place) {
            Some(version) => object.text("/metadata/resourceVersion") == version,
            None => true,
        };
        if !is_last || object.is_going() {
            return Ok(None);
        }
        let mut seen = Facts::alone(object)?;
        let [owner] = seen.owners()[..] else {
            return Ok(None);
        };
        let of_tenant = ObjectRef::new(owner).within(namespace);
        let tenant = self
            .shared
            .tenants
            .now()
            .and_then(|all| all.get(&of_tenant));
        let cluster = self.shared.cluster(namespace, owner);
        let (Some(tenant), Some(cluster)) = (tenant, cluster) else {
            return Ok(None);
        };
        let (field, other) = facts::counterpart(kind);
        let named = Facts::referred(&cluster, field, other);
        let Some(other) = named.and_then(|named| self.provided(other, namespace, named)) else {
            return Ok(None);
        };
        seen.tenant = Some(Tenant {
            object: Object::observed(VIRTUAL_CONTROL_PLANE, json!(&*tenant)),
            vcp: VirtualControlPlane::clone(&tenant),
        });
        seen.other = Some(other);
        seen.cluster = Some(cluster);
        Ok(Some(seen))
    }

    /// Takes note of an object that was read or written.
    pub(super) fn note(&self, object: &Object) {
        let version = object.text("/metadata/resourceVersion").to_owned();
        let namespace = object.namespace().unwrap_or_default().to_owned();
        let place = (object.kind, namespace, object.name().to_owned());
        self.own.lock().insert(place, version);
    }

    /// An object is gone.
    pub(super) fn forget(&self, kind: Kind, namespace: &str, name: &str) {
        let place = (kind, namespace.to_owned(), name.to_owned());
        self.own.lock().remove(&place);
    }

    fn provided(&self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        match kind {
            SUBLET_CONTROL_PLANE => one(kind, self.control_planes.now()?, namespace, name),
            SUBLET_CLUSTER => one(kind, self.places.now()?, namespace, name),
            _ => None,
        }
    }
}

fn one<K>(kind: Kind, all: &Store<K>, namespace: &str, name: &str) -> Option<Object>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + 'static,
{
    let found = all.get(&ObjectRef::new(name).within(namespace))?;
    Some(Object::observed(kind, json!(&*found)))
}

/// The objects of a kind that own a VirtualControlPlane.
fn owners_of<K>(vcp: &VirtualControlPlane) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()>,
{
    let namespace = vcp.namespace().unwrap_or_default();
    let names = owner::names(&vcp.metadata, &K::group(&()), &K::kind(&()));
    let refs = names.into_iter().map(ObjectRef::new);
    refs.map(|of| of.within(&namespace)).collect()
}

#[cfg(test)]
mod tests;
