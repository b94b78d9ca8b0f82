//! What the Leases look like by which syncers know of each other and of their tenants.
//!
//! Each syncer renews one Lease of its own, whatever the number of tenants. A tenant's Lease is written when its leader
//! changes and says nothing of time: it holds as long as the Lease of the syncer that it names is renewed.

use crate::{
    apply,
    client::Cluster,
    error::Error,
    watch::{Presence, Target},
};
use api::keys;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenancy::{
    fleet::{LEASE_DURATION, LeaseSighting, Title},
    kind::Resource,
    object::Object,
    tenant::TenantId,
};

/// Leases.
pub(crate) const LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    namespaced: true,
};

/// A tenant's Lease as it was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) title: Title,
    pub(crate) uid: String,
    pub(crate) version: String,
}

impl Stored {
    pub(crate) fn of(lease: &Object) -> Self {
        Self {
            title: title(lease),
            uid: lease.uid().to_owned(),
            version: lease
                .text("/metadata/resourceVersion")
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// Who leads the tenant of this Lease.
pub(crate) fn title(lease: &Object) -> Title {
    let holder = lease.text("/spec/holderIdentity").unwrap_or_default();
    let epoch = lease.at("/spec/leaseTransitions").and_then(Value::as_u64);
    Title {
        holder: holder.to_owned(),
        epoch: epoch.unwrap_or_default(),
    }
}

/// The spec of a tenant's Lease.
pub(crate) fn spec(title: &Title) -> Value {
    json!({"holderIdentity": title.holder, "leaseTransitions": title.epoch})
}

/// Name of a tenant's Lease.
pub(crate) fn name(tenant: &TenantId) -> String {
    format!("tenant-{tenant}")
}

fn path(name: &str) -> String {
    LEASES.path(api::SYSTEM_NAMESPACE, name)
}

/// All tenants' Leases.
pub(crate) fn titles() -> Target {
    Target {
        path: path(""),
        selector: Some(keys::TENANT.to_owned()),
        name: None,
        api_version: LEASES.api_version(),
        kind: LEASES.kind.to_owned(),
        presence: Presence::Certain,
    }
}

/// Takes a tenant's title, if its Lease is still as it was seen.
pub(crate) async fn take(
    cluster: &Cluster,
    tenant: &TenantId,
    seen: Option<&Stored>,
    new: &Title,
) -> Result<(), Error> {
    let mut spec = spec(new);
    spec["acquireTime"] = now().into();
    let Some(seen) = seen else {
        let metadata = json!({
            "name": name(tenant), "namespace": api::SYSTEM_NAMESPACE,
            "labels": {keys::TENANT: tenant.as_str()},
        });
        let body = json!({
            "apiVersion": LEASES.api_version(), "kind": LEASES.kind, "metadata": metadata, "spec": spec,
        });
        return apply::create_lease(cluster, &path(""), &body)
            .await
            .map(drop);
    };
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": seen.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": seen.version},
        {"op": "add", "path": "/spec", "value": spec},
    ]);
    apply::patch_lease(cluster, &path(&name(tenant)), &operations)
        .await
        .map(drop)
}

/// Gives a tenant's title back, if it is still the one that was taken.
pub(crate) async fn give(cluster: &Cluster, tenant: &TenantId, held: &Title) -> Result<(), Error> {
    // What else is written on the Lease doesn't matter here.
    let operations = json!([
        {"op": "test", "path": "/spec/holderIdentity", "value": held.holder},
        {"op": "test", "path": "/spec/leaseTransitions", "value": held.epoch},
        {"op": "replace", "path": "/spec/holderIdentity", "value": ""},
    ]);
    match apply::patch_lease(cluster, &path(&name(tenant)), &operations).await {
        Err(Error::Conflict(_) | Error::NotFound) => Ok(()),
        other => other.map(drop),
    }
}

/// The Lease of a syncer.
pub(crate) struct Own {
    name: String,
    identity: String,
    /// Mark of the lock that this process holds.
    lock: Option<String>,
}

impl Own {
    pub(crate) fn new(replica: &tenancy::fleet::Replica, lock: Option<String>) -> Self {
        Self {
            name: format!("syncer-{}-{}", replica.name, replica.instance),
            identity: replica.identity(),
            lock,
        }
    }

    /// Makes it; the answer is its UID.
    pub(crate) async fn create(&self, cluster: &Cluster) -> Result<String, Error> {
        let metadata = json!({
            "name": self.name, "namespace": api::SYSTEM_NAMESPACE,
            "labels": {keys::ROLE: keys::ROLE_SYNCER},
            "annotations": {keys::LOCK: self.lock.as_deref().unwrap_or_default()},
        });
        let spec = json!({
            "holderIdentity": self.identity, "acquireTime": now(), "renewTime": now(),
            "leaseDurationSeconds": LEASE_DURATION.as_secs(),
        });
        let body = json!({
            "apiVersion": LEASES.api_version(), "kind": LEASES.kind, "metadata": metadata, "spec": spec,
        });
        let stored = match apply::create_lease(cluster, &path(""), &body).await {
            // An answer was lost: nobody else makes this name.
            Err(Error::AlreadyExists) => cluster.get(&path(&self.name)).await?,
            other => other?,
        };
        Ok(stored["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Renews it. The time in it is for people.
    pub(crate) async fn renew(&self, cluster: &Cluster, uid: &str) -> Result<(), Error> {
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/spec/renewTime", "value": now()},
        ]);
        apply::patch_lease(cluster, &path(&self.name), &operations)
            .await
            .map(drop)
    }

    /// Deletes it: this process writes nothing any more.
    pub(crate) async fn delete(&self, cluster: &Cluster, uid: &str) -> Result<(), Error> {
        apply::delete_lease(cluster, &path(&self.name), uid).await
    }

    /// All syncers' Leases, read live, by identity.
    pub(crate) async fn list(&self, cluster: &Cluster) -> Result<BTreeMap<String, Listed>, Error> {
        let selector = crate::watch::encode(&format!("{}={}", keys::ROLE, keys::ROLE_SYNCER));
        let list = cluster
            .list(&format!("{}?labelSelector={selector}", path("")))
            .await?;
        let Some(items) = list["items"].as_array() else {
            return Err(Error::Malformed("a list without items".into()));
        };
        let listed = items.iter().map(|lease| {
            let text = |pointer: &str| {
                let found = lease.pointer(pointer).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            let identity = text("/spec/holderIdentity");
            let lock = text("/metadata/annotations/sublet.dev~1lock");
            let told = LeaseSighting {
                version: text("/metadata/resourceVersion"),
                has_ended: identity != self.identity
                    && self.lock.as_ref().is_some_and(|own| *own == lock),
            };
            let listed = Listed {
                told,
                name: text("/metadata/name"),
                uid: text("/metadata/uid"),
            };
            (identity, listed)
        });
        Ok(listed.collect())
    }
}

/// A syncer's Lease as a list shows it.
pub(crate) struct Listed {
    pub(crate) told: LeaseSighting,
    name: String,
    uid: String,
}

impl Listed {
    /// Deletes it: its syncer is gone for good.
    pub(crate) async fn delete(&self, cluster: &Cluster) -> Result<(), Error> {
        apply::delete_lease(cluster, &path(&self.name), &self.uid).await
    }
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string()
}
