//! What the proxy knows of tenants, and of their pods and Services in the super cluster.
//!
//! Every dial target and every name in a request to the super API server comes from here. Guards stay in this module:
//! what is handed out is a copy or an `Arc`.

use crate::{
    destination::Places,
    limit::{Caps, Limits},
};
use k8s_openapi::api::core::v1::Service as SuperService;
use kube::ResourceExt;
use parking_lot::RwLock;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};
use tenancy::{naming, object::NamespacedName, route::Sleep, tenant::TenantId};
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

mod super_pod;
mod tenant;

pub(crate) use super_pod::SuperPod;
pub(crate) use tenant::Tenant;

/// A pod of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Whose it is.
    tenant: String,
    /// Namespace, name and UID in the tenant.
    namespace: String,
    name: String,
    uid: String,
    /// Name of its node, once it has one.
    node: String,
    /// Addresses that are the pod's own: none once it has ended, or when it uses its node's.
    addresses: Vec<IpAddr>,
}

/// A Service of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    tenant: String,
    namespace: String,
    name: String,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Pod {
    /// Whether it is the tenant's: marks say so, and it stands where they may.
    fn is_of(&self, tenant: &Tenant, place: &NamespacedName) -> bool {
        is_of((&self.tenant, &self.namespace), tenant, place)
    }
}

impl Service {
    /// Whether it is the tenant's.
    fn is_of(&self, tenant: &Tenant, place: &NamespacedName) -> bool {
        is_of((&self.tenant, &self.namespace), tenant, place)
    }
}

/// Whoever may write in some other super namespace can put a tenant's marks there, and they say nothing.
fn is_of((id, namespace): (&str, &str), tenant: &Tenant, place: &NamespacedName) -> bool {
    id == tenant.id.as_str() && naming::is_super_namespace(&place.0, &tenant.id, namespace)
}

/// A pod that a caller may reach, by its coordinates in the super cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SuperPodRef {
    /// Super namespace.
    pub(crate) namespace: String,
    /// Name, which is the same on both sides.
    pub(crate) name: String,
    /// UID in the tenant.
    pub(crate) uid: String,
    /// Name of its node.
    pub(crate) node: String,
}

/// A pod as its tenant knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantPodRef {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// UID.
    pub(crate) uid: String,
    /// Name of its node.
    pub(crate) node: String,
}

/// All that is known.
#[derive(Default)]
pub(crate) struct Index {
    known: RwLock<IndexTables>,
    /// Told when whose an address is may have changed.
    news: Notify,
    /// Told when a route came or changed.
    route_news: Notify,
    /// What each tenant may use.
    caps: Caps,
}

#[derive(Default)]
struct IndexTables {
    tenants: HashMap<NamespacedName, Arc<Tenant>>,
    /// Where a tenant's route is, by its identity.
    routes: HashMap<String, NamespacedName>,
    pods: HashMap<NamespacedName, Pod>,
    services: HashMap<NamespacedName, Service>,
    /// Which pods say that an address is theirs.
    pod_addresses: HashMap<IpAddr, Vec<NamespacedName>>,
    service_addresses: HashMap<IpAddr, NamespacedName>,
}

impl Index {
    /// Nothing is known yet; each tenant may use so much.
    pub(crate) fn new(caps: Caps) -> Self {
        Self {
            caps,
            ..Self::default()
        }
    }

    /// A tenant's route is there, or has changed.
    pub(crate) fn set_tenant(&self, place: NamespacedName, mut tenant: Tenant) {
        // One that was known goes on under the limits that count what it uses.
        tenant.limits = Arc::new(Limits::of(self.caps));
        let (ended, rival) = {
            let mut known = self.known.write();
            let (ended, had) = match known.tenants.get(&place) {
                Some(before) if before.is_same(&tenant) => return,
                Some(before) => (tenant.succeed(before), before.host.clone()),
                None => (vec![], None),
            };
            let new = tenant.host.clone().filter(|_| tenant.host != had);
            let id = tenant.id.clone();
            known.routes.insert(tenant.id.to_string(), place.clone());
            known.tenants.insert(place, Arc::new(tenant));
            let rival = new.and_then(|host| known.rival(&id, host));
            (ended, rival)
        };
        if let Some((host, first)) = rival {
            tracing::warn!(host, leads_to = %first, "several tenants ask for a host: it leads to the one that asked first");
        }
        self.route_news.notify_waiters();
        self.news.notify_waiters();
        ended.iter().for_each(CancellationToken::cancel);
    }

    /// Ends with the next news of a route, from when it is enabled on.
    pub(crate) fn route_news(&self) -> Notified<'_> {
        self.route_news.notified()
    }

    /// Tenants that sleep when nobody comes, and somebody did since this was asked last.
    pub(crate) fn visited(&self) -> Vec<Arc<Tenant>> {
        let known = self.known.read();
        let wanted = known
            .tenants
            .values()
            .filter(|tenant| tenant.sleep == Sleep::Awake && tenant.was_visited());
        wanted.cloned().collect()
    }

    /// Whether there are tenants that sleep when nobody comes.
    pub(crate) fn has_sleepers(&self) -> bool {
        let known = self.known.read();
        let mut tenants = known.tenants.values();
        tenants.any(|tenant| tenant.sleep == Sleep::Awake)
    }

    /// A tenant's route is gone: so are its connections.
    pub(crate) fn drop_tenant(&self, place: &NamespacedName) {
        let gone = {
            let mut known = self.known.write();
            let gone = known.tenants.remove(place);
            known.routes.retain(|_, route| route != place);
            gone
        };
        if let Some(tenant) = gone {
            tracing::info!(tenant = %tenant.id, "the tenant is gone");
            tenant.gone.cancel();
        }
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_tenants(&self, listed: &HashSet<NamespacedName>) {
        let gone: Vec<NamespacedName> = {
            let known = self.known.read();
            let unlisted = known
                .tenants
                .keys()
                .filter(|place| !listed.contains(*place));
            unlisted.cloned().collect()
        };
        gone.iter().for_each(|place| self.drop_tenant(place));
    }

    /// A pod is there, or has changed.
    pub(crate) fn set_pod(&self, place: NamespacedName, pod: &SuperPod) {
        let mut known = self.known.write();
        let before = known.drop_pod(&place);
        let pod = read_pod(pod);
        let now = pod.as_ref().map(|pod| pod.addresses.clone());
        if let Some(pod) = pod {
            for address in &pod.addresses {
                let owners = known.pod_addresses.entry(*address).or_default();
                owners.push(place.clone());
            }
            known.pods.insert(place, pod);
        }
        drop(known);
        if before != now.unwrap_or_default() {
            self.news.notify_waiters();
        }
    }

    /// Ends with the next news of whose an address is, from now on.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// A pod is gone.
    pub(crate) fn drop_pod(&self, place: &NamespacedName) {
        let addresses = self.known.write().drop_pod(place);
        if !addresses.is_empty() {
            self.news.notify_waiters();
        }
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_pods(&self, listed: &HashSet<NamespacedName>) {
        let known = self.known.read();
        let unlisted = known.pods.keys().filter(|place| !listed.contains(*place));
        let gone: Vec<NamespacedName> = unlisted.cloned().collect();
        drop(known);
        gone.iter().for_each(|place| self.drop_pod(place));
    }

    /// A Service is there, or has changed.
    pub(crate) fn set_service(&self, place: NamespacedName, service: &SuperService) {
        let mut known = self.known.write();
        let before = known.drop_service(&place);
        let now = read_service(service);
        let is_another = before.is_some() && before != now;
        if let Some(service) = now {
            for address in &service.addresses {
                known.service_addresses.insert(*address, place.clone());
            }
            known.services.insert(place, service);
        }
        drop(known);
        if is_another {
            self.news.notify_waiters();
        }
    }

    /// A Service is gone.
    pub(crate) fn drop_service(&self, place: &NamespacedName) {
        let gone = self.known.write().drop_service(place);
        if gone.is_some() {
            self.news.notify_waiters();
        }
    }

    /// Drops what a complete list didn't tell of.
    pub(crate) fn keep_services(&self, listed: &HashSet<NamespacedName>) {
        let known = self.known.read();
        let unlisted = known
            .services
            .keys()
            .filter(|place| !listed.contains(*place));
        let gone: Vec<NamespacedName> = unlisted.cloned().collect();
        drop(known);
        gone.iter().for_each(|place| self.drop_service(place));
    }

    /// The tenants whose authority has that subject. Two may: which one signed a certificate is told by verifying it.
    pub(crate) fn tenants_by_authority(&self, subject: &[u8]) -> Vec<Arc<Tenant>> {
        let known = self.known.read();
        let named = known.tenants.values();
        let named = named.filter(|tenant| tenant.authority.subject() == subject);
        named.cloned().collect()
    }

    /// The tenant that clients mean by a server name. Its own name comes first; a host that several tenants ask for
    /// belongs to the one that asked first. Those whose clients go elsewhere aren't among them.
    pub(crate) fn tenant_by_server_name(&self, name: &str) -> Option<Arc<Tenant>> {
        let known = self.known.read();
        match naming::tenant_of_host(name) {
            Some(id) => {
                let tenant = known.tenants.get(known.routes.get(id.as_str())?)?;
                tenant.backend.is_some().then(|| tenant.clone())
            }
            None => known.first_with(name).cloned(),
        }
    }

    /// The tenant whose pods alone have the address.
    pub(crate) fn tenant_at(&self, address: IpAddr) -> Option<Arc<Tenant>> {
        let known = self.known.read();
        let owners = known.pod_addresses.get(&address.to_canonical())?;
        let mut owners = owners
            .iter()
            .filter_map(|place| known.pods.get_key_value(place));
        let first = &owners.clone().next()?.1.tenant;
        let tenant = known.tenants.get(known.routes.get(first)?)?;
        // While an address passes from one pod to the next, both may claim it.
        owners
            .all(|(place, pod)| pod.is_of(tenant, place))
            .then(|| tenant.clone())
    }

    /// The tenant's pod of that name, if it is the incarnation that `uid` names or none is named.
    pub(crate) fn pod(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Option<SuperPodRef> {
        let place = (
            naming::super_namespace(&tenant.id, &tenant.name, namespace),
            name.to_owned(),
        );
        let known = self.known.read();
        let pod = known.pods.get(&place)?;
        // The namespace's name holds a hash over tenant and namespace; what stands on the pod must say the same.
        let is_it = pod.tenant == tenant.id.as_str()
            && (pod.namespace.as_str(), pod.name.as_str()) == (namespace, name)
            && uid.is_none_or(|uid| uid == pod.uid);
        is_it.then_some(SuperPodRef {
            namespace: place.0,
            name: place.1,
            uid: pod.uid.clone(),
            node: pod.node.clone(),
        })
    }

    /// The super namespace of one of the tenant's namespaces.
    pub(crate) fn place(&self, tenant: &Tenant, namespace: &str) -> String {
        naming::super_namespace(&tenant.id, &tenant.name, namespace)
    }

    /// What a pod of the super cluster is to the tenant; `None` if it isn't the tenant's.
    pub(crate) fn own_pod(&self, tenant: &Tenant, place: &NamespacedName) -> Option<TenantPodRef> {
        let known = self.known.read();
        let pod = known.pods.get(place)?;
        let is_own = pod.is_of(tenant, place) && pod.name == place.1;
        is_own.then(|| TenantPodRef {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
        })
    }

    /// The name of the node that a label of its host name means, as far as the tenant's pods tell.
    pub(crate) fn node_of(&self, tenant: &Tenant, label: &str) -> Option<String> {
        let known = self.known.read();
        let mut own = known
            .pods
            .iter()
            .filter(|(_, pod)| pod.tenant == tenant.id.as_str());
        let (_, pod) = own.find(|(place, pod)| {
            crate::node_figures::is_node(&pod.node, label) && pod.is_of(tenant, place)
        })?;
        Some(pod.node.clone())
    }

    /// Identities of all tenants.
    pub(crate) fn tenants(&self) -> HashSet<String> {
        let known = self.known.read();
        let ids = known.tenants.values().map(|tenant| tenant.id.to_string());
        ids.collect()
    }

    /// How many tenants, pods and Services are known.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let known = self.known.read();
        [known.tenants.len(), known.pods.len(), known.services.len()]
    }
}

impl Places for Index {
    fn is_pod(&self, tenant: &Tenant, address: IpAddr) -> bool {
        let known = self.known.read();
        let owners = known.pod_addresses.get(&address).into_iter().flatten();
        let mut owners = owners
            .filter_map(|place| known.pods.get_key_value(place))
            .map(|(place, pod)| pod.is_of(tenant, place))
            .peekable();
        // While an address passes from one pod to the next, both may claim it: only if all are the tenant's.
        owners.peek().is_some() && owners.all(|own| own)
    }

    fn is_service(&self, tenant: &Tenant, address: IpAddr, port: u16) -> bool {
        let known = self.known.read();
        let place = known.service_addresses.get(&address);
        place
            .and_then(|place| known.services.get_key_value(place))
            .is_some_and(|(place, service)| {
                service.is_of(tenant, place) && service.ports.contains(&port)
            })
    }

    fn is_anothers(&self, tenant: &Tenant, address: IpAddr) -> bool {
        let known = self.known.read();
        let pods = known.pod_addresses.get(&address).into_iter().flatten();
        let mut pods = pods.filter_map(|place| known.pods.get_key_value(place));
        let service = known.service_addresses.get(&address);
        let service = service.and_then(|place| known.services.get_key_value(place));
        pods.any(|(place, pod)| !pod.is_of(tenant, place))
            || service.is_some_and(|(place, service)| !service.is_of(tenant, place))
    }

    fn service_address(&self, tenant: &Tenant, namespace: &str, name: &str) -> Option<IpAddr> {
        let place = (
            naming::super_namespace(&tenant.id, &tenant.name, namespace),
            name.to_owned(),
        );
        let known = self.known.read();
        let service = known.services.get(&place)?;
        let is_it = service.tenant == tenant.id.as_str()
            && (service.namespace.as_str(), service.name.as_str()) == (namespace, name);
        is_it.then(|| service.addresses.first().copied())?
    }
}

impl IndexTables {
    /// Tenants that the front door leads to.
    fn served(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        let all = self.tenants.values();
        all.filter(|tenant| tenant.backend.is_some())
    }

    /// The one that asked first for a host.
    fn first_with(&self, host: &str) -> Option<&Arc<Tenant>> {
        let all = self.served();
        let asking = all.filter(|tenant| tenant.host.as_deref() == Some(host));
        asking.min_by_key(|tenant| (tenant.since, tenant.id.as_str()))
    }

    /// Whom a tenant's host leads to, if another asks for it as well.
    fn rival(&self, id: &TenantId, host: String) -> Option<(String, TenantId)> {
        let mut others = self.served().filter(|tenant| tenant.id != *id);
        let is_asked = others.any(|other| other.host.as_deref() == Some(host.as_str()));
        let first = self.first_with(&host)?.id.clone();
        is_asked.then_some((host, first))
    }

    /// Returns the addresses that it had.
    fn drop_pod(&mut self, place: &NamespacedName) -> Vec<IpAddr> {
        let Some(pod) = self.pods.remove(place) else {
            return vec![];
        };
        for address in &pod.addresses {
            if let Some(owners) = self.pod_addresses.get_mut(address) {
                owners.retain(|owner| owner != place);
                if owners.is_empty() {
                    self.pod_addresses.remove(address);
                }
            }
        }
        pod.addresses
    }

    /// Returns it as it was.
    fn drop_service(&mut self, place: &NamespacedName) -> Option<Service> {
        let service = self.services.remove(place)?;
        for address in &service.addresses {
            if self.service_addresses.get(address) == Some(place) {
                self.service_addresses.remove(address);
            }
        }
        Some(service)
    }
}

/// `None`: not a pod that was made from a tenant's.
fn read_pod(pod: &SuperPod) -> Option<Pod> {
    let has_ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    let addresses = if has_ended || pod.spec.host_network {
        vec![]
    } else {
        let all = pod.status.pod_ips.iter();
        all.filter_map(|ip| ip.ip.parse().ok()).collect()
    };
    Some(Pod {
        tenant: pod.labels().get(api::keys::TENANT)?.clone(),
        namespace: pod.annotations().get(api::keys::NAMESPACE)?.clone(),
        name: pod.annotations().get(api::keys::NAME)?.clone(),
        uid: pod.annotations().get(api::keys::UID)?.clone(),
        node: pod.spec.node_name.clone(),
        addresses,
    })
}

/// `None`: not a Service that was made from a tenant's, or one without an address.
fn read_service(service: &SuperService) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    // An external name has no address of its own, whatever the fields say.
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let addresses = spec.cluster_ips.iter().flatten();
    let ports = spec.ports.iter().flatten();
    Some(Service {
        tenant: service.labels().get(api::keys::TENANT)?.clone(),
        namespace: service.annotations().get(api::keys::NAMESPACE)?.clone(),
        name: service.annotations().get(api::keys::NAME)?.clone(),
        addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
        ports: ports
            .filter_map(|port| u16::try_from(port.port).ok())
            .collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
