//! What a control plane consists of in the super cluster; pure: a parsed VirtualControlPlane in, objects out.
//!
//! The order of [`base`], [`network::services`], [`keys::orders`] and [`workloads`] is the order of creation, since each needs
//! addresses or Secrets of those before. Within [`workloads`] etcd, API server and controller-manager are created
//! together and upgraded one after the other.

pub(crate) mod pod;

pub(crate) mod etcd;

pub(crate) mod apiserver;

mod audit;

pub(crate) mod controller_manager;

pub(crate) mod coredns;

pub(crate) mod figures;

pub(crate) mod keys;

pub(crate) mod cluster_keys;

pub(crate) mod network;

pub(crate) mod route;

pub(crate) mod snapshot;

pub(crate) mod restore;

use crate::{
    lifecycle::restore as restored,
    network::proxy::{Door, Proxy},
    object::{NAMESPACE, Object, Objects, ROLE_BINDING, SECRET, SERVICE},
    spec::control_plane::{ControlPlane, Owner},
};
use ::api::keys as marks;
use serde_json::{Value, json};

/// ClusterRole with the manager's rights in a control plane's namespace.
const ROLE_CONTROL_PLANE: &str = "sublet-manager-control-plane";
/// ClusterRole with the manager's rights beside a VirtualControlPlane: its kubeconfig Secrets.
const ROLE_BESIDE: &str = "sublet-manager-kubeconfig";
/// Name of the RoleBinding that gives the manager [`ROLE_CONTROL_PLANE`].
pub(crate) const ACCESS: &str = "sublet-manager";
/// ServiceAccount that the manager runs under, and name of its pods.
const MANAGER: &str = "sublet-manager";

/// Addresses that are known once the Services exist.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addresses {
    /// ClusterIP of etcd.
    pub(crate) etcd: String,
    /// ClusterIP of the API server.
    pub(crate) apiserver: String,
    /// Where clients outside reach it.
    pub(crate) endpoint: api::Endpoint,
    /// How its API servers reach the proxy.
    pub(crate) proxy: Proxy,
}

impl Addresses {
    /// Reads the Services; `None` while one has no address yet.
    pub(crate) fn of(
        cp: &ControlPlane,
        seen: &Objects,
        proxy: &Proxy,
        node: Option<&str>,
    ) -> Option<Self> {
        let cluster_ip = |name: &str| {
            let address = seen.get(SERVICE, name)?.text("/spec/clusterIP");
            (!address.is_empty()).then(|| address.to_owned())
        };
        let of_class = cp.endpoint_host.clone().zip(cp.endpoint_port);
        let of_class = of_class.map(|(host, port)| api::Endpoint { host, port });
        let endpoint = match (cp.endpoint.as_ref().or(of_class.as_ref()), &proxy.door) {
            (Some(given), _) => given.clone(),
            (None, Door::LoadBalancer(endpoint)) => endpoint.clone(),
            (None, Door::NodePort(port)) => api::Endpoint {
                host: cp.endpoint_host.as_deref().or(node)?.to_owned(),
                port: *port,
            },
        };
        Some(Self {
            etcd: cluster_ip(etcd::NAME)?,
            apiserver: cluster_ip(apiserver::NAME)?,
            endpoint,
            proxy: proxy.clone(),
        })
    }
}

/// The namespace of the control plane's own pods.
pub(crate) fn namespace(cp: &ControlPlane) -> Object {
    let mut labels = cp.group_labels.clone();
    labels.extend([
        (marks::MANAGED.to_owned(), "true".to_owned()),
        (marks::TENANT.to_owned(), cp.owner.id.to_string()),
        (marks::SHARD.to_owned(), cp.owner.id.shard().to_string()),
        (marks::ROLE.to_owned(), marks::ROLE_CONTROL_PLANE.to_owned()),
        (
            "pod-security.kubernetes.io/enforce".to_owned(),
            "restricted".to_owned(),
        ),
    ]);
    let mut annotations = json!({marks::CONTROL_PLANE: cp.owner.path()});
    if let Some(upgrade) = &cp.upgrade {
        annotations[marks::UPGRADE] = json!(upgrade);
    }
    if let Some(record) = restored::noted(cp) {
        annotations[marks::RESTORE] = json!(record);
    }
    let body = json!({"metadata": {"labels": labels, "annotations": annotations}});
    Object::new(NAMESPACE, None, &cp.namespace, body).sealed()
}

/// The manager's own rights inside the control plane's namespace.
pub(crate) fn access(cp: &ControlPlane, system: &str) -> Object {
    role_binding(
        &cp.namespace,
        ACCESS,
        ROLE_CONTROL_PLANE,
        system,
        metadata(cp, "access"),
    )
    .sealed()
}

/// The manager's right to the kubeconfig Secret beside the VirtualControlPlane; it ends with the latter.
pub(crate) fn access_beside(owner: &Owner, system: &str) -> Object {
    let name = format!("{MANAGER}-{}", owner.name);
    let metadata = json!({
        "labels": owner.labels(),
        "annotations": {marks::CONTROL_PLANE: owner.path()},
        "ownerReferences": [owner_reference(owner)],
    });
    role_binding(&owner.namespace, &name, ROLE_BESIDE, system, metadata).sealed()
}

/// Services and network policies.
pub(crate) fn base(cp: &ControlPlane, system: &str) -> Vec<Object> {
    let mut objects = network::services(cp);
    objects.extend(network::policies(cp, system));
    objects.into_iter().map(Object::sealed).collect()
}

/// etcd, the API server and the controller-manager, each with what it needs to be made before it.
pub(crate) fn workloads(
    cp: &ControlPlane,
    addresses: &Addresses,
    seen: &Objects,
) -> [Vec<Object>; 3] {
    [
        etcd::objects(cp, &digest(seen, &["etcd-ca"])),
        apiserver::objects(
            cp,
            addresses,
            &digest(
                seen,
                &[
                    "ca",
                    "etcd-ca",
                    "front-proxy-ca",
                    keys::SERVICE_ACCOUNT,
                    keys::ENCRYPTION,
                    // The way out's files are read once.
                    keys::PROXY_CLIENT,
                ],
            ),
        ),
        controller_manager::objects(cp, addresses, &digest(seen, &["ca", keys::SERVICE_ACCOUNT])),
    ]
    .map(|objects| objects.into_iter().map(Object::sealed).collect())
}

/// Labels and annotations of an object that belongs to one part of the control plane.
///
/// The annotation leads watches back to the VirtualControlPlane.
pub(crate) fn metadata(cp: &ControlPlane, part: &str) -> Value {
    json!({
        "labels": labels(cp, part),
        "annotations": {marks::CONTROL_PLANE: cp.owner.path()},
    })
}

/// Labels of an object or pod of one part.
pub(crate) fn labels(cp: &ControlPlane, part: &str) -> Value {
    json!({
        "app.kubernetes.io/name": part,
        "app.kubernetes.io/part-of": "sublet",
        marks::TENANT: cp.owner.id.as_str(),
        marks::ROLE: marks::ROLE_CONTROL_PLANE,
    })
}

/// The part that a pod belongs to.
pub(crate) fn selector(part: &str) -> Value {
    json!({"app.kubernetes.io/name": part})
}

/// A reference that lets an object end with the VirtualControlPlane in the same namespace.
pub(crate) fn owner_reference(owner: &Owner) -> Value {
    json!({
        "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
        "name": owner.name, "uid": owner.uid,
    })
}

/// Changes when key material that is read only at start changes; its pods then start anew.
fn digest(seen: &Objects, secrets: &[&str]) -> String {
    let data: Vec<String> = secrets
        .iter()
        .map(|name| {
            seen.get(SECRET, name)
                .map(|secret| secret.body["data"].to_string())
                .unwrap_or_default()
        })
        .collect();
    let parts: Vec<&[u8]> = data.iter().map(String::as_bytes).collect();
    tenancy::naming::hash(&parts)
}

fn role_binding(namespace: &str, name: &str, role: &str, system: &str, metadata: Value) -> Object {
    let body = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": MANAGER, "namespace": system}],
    });
    Object::new(ROLE_BINDING, Some(namespace), name, body)
}

#[cfg(test)]
mod tests;
