//! Which syncer leads a tenant, as the Leases in Sublet's own namespace say.

use crate::{cluster::Cluster, paging};
use api::{SYSTEM_NAMESPACE, keys};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use std::collections::{BTreeMap, BTreeSet};

/// Who leads whom.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// Identity of each tenant to that of its syncer.
    of: BTreeMap<String, String>,
    /// Syncers that have a Lease of their own, by identity.
    syncers: BTreeSet<String>,
}

/// Reads it from the Leases.
pub(crate) async fn all(cluster: &Cluster) -> Result<Leaders, kube::Error> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let leases = paging::all(&api, &ListParams::default()).await?;
    Ok(Leaders::from_leases(&leases))
}

impl Leaders {
    fn from_leases(leases: &[Lease]) -> Self {
        let mut leaders = Self::default();
        for lease in leases {
            let holder = lease
                .spec
                .as_ref()
                .and_then(|spec| spec.holder_identity.clone());
            let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
                continue;
            };
            let labels = lease.labels();
            if let Some(tenant) = labels.get(keys::TENANT) {
                leaders.of.insert(tenant.clone(), holder);
            } else if labels
                .get(keys::ROLE)
                .is_some_and(|role| role == keys::ROLE_SYNCER)
            {
                leaders.syncers.insert(holder);
            }
        }
        leaders
    }

    /// Name of the syncer that leads a tenant; with a remark if that has no Lease any more.
    pub(crate) fn name(&self, tenant: &str) -> Option<String> {
        let holder = self.of.get(tenant)?;
        let name = short(holder);
        Some(if self.syncers.contains(holder) {
            name.to_owned()
        } else {
            format!("{name} (gone)")
        })
    }

    /// Whether a syncer that has a Lease leads a tenant.
    pub(crate) fn has(&self, tenant: &str) -> bool {
        let holder = self.of.get(tenant);
        holder.is_some_and(|holder| self.syncers.contains(holder))
    }

    /// Whether the syncer that led a tenant last has no Lease any more.
    pub(crate) fn is_gone(&self, tenant: &str) -> bool {
        let holder = self.of.get(tenant);
        holder.is_some_and(|holder| !self.syncers.contains(holder))
    }

    /// Names of the syncers that have a Lease, and how many tenants each leads.
    pub(crate) fn shares(&self) -> Vec<(String, usize)> {
        let count = |syncer: &String| self.of.values().filter(|holder| *holder == syncer).count();
        let shares = self.syncers.iter();
        shares
            .map(|syncer| (short(syncer).to_owned(), count(syncer)))
            .collect()
    }
}

/// The name in an identity, which also tells one process from those before it.
fn short(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two syncers, one of them gone, and three tenants.
    fn sample() -> Leaders {
        let lease = |labels: serde_json::Value, holder: &str| -> Lease {
            let lease = json!({"metadata": {"labels": labels}, "spec": {"holderIdentity": holder}});
            serde_json::from_value(lease).unwrap()
        };
        let tenant = |id: &str, holder: &str| lease(json!({keys::TENANT: id}), holder);
        Leaders::from_leases(&[
            lease(json!({keys::ROLE: keys::ROLE_SYNCER}), "sublet-syncer-1_k3"),
            lease(json!({}), "somebody"),
            tenant("a", "sublet-syncer-1_k3"),
            tenant("b", "sublet-syncer-2_x4"),
            tenant("c", ""),
        ])
    }

    #[test]
    fn a_tenant_is_led_by_a_syncer_that_has_a_lease() {
        let leaders = sample();
        assert_eq!(leaders.name("a").unwrap(), "sublet-syncer-1");
        assert_eq!(leaders.name("b").unwrap(), "sublet-syncer-2 (gone)");
        assert_eq!(leaders.name("c"), None);
        assert_eq!(
            ["a", "b", "c"].map(|id| leaders.has(id)),
            [true, false, false]
        );
        assert_eq!(leaders.shares(), [("sublet-syncer-1".to_owned(), 1)]);
    }
}
