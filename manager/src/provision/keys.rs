//! Which keys and certificates a control plane has, and who holds them.
//!
//! The certificate in group `system:masters` is the manager's own and never leaves the control plane's namespace. Users
//! and the syncer get groups that the tenant's RBAC binds, so that their rights can be taken away.

use super::{
    Addresses, apiserver, cluster_keys, controller_manager, etcd, metadata, owner_reference,
};
use crate::{
    pki::{Authority, Form, LEAF_DAYS, Leaf, Material, OPAQUE, Order, SHORT_DAYS, Usage},
    spec::control_plane::ControlPlane,
};
use api::{capi, keys as marks};
use serde_json::{Value, json};
use tenancy::naming;

/// Secret with the ServiceAccount key pair.
pub(crate) const SERVICE_ACCOUNT: &str = "service-account";
/// Secret with the EncryptionConfiguration.
pub(crate) const ENCRYPTION: &str = "encryption";
/// Secret with the client certificate by which the API server reaches the proxy, and through it kubelets.
pub(crate) const PROXY_CLIENT: &str = "apiserver-kubelet-client";
/// Secret with the manager's own client certificate.
pub(crate) const MANAGER: &str = "manager";
/// Group of a tenant's admins.
pub(crate) const ADMINS: &str = "sublet:admins";
/// Group of the syncer.
pub(crate) const SYNCER: &str = "sublet:syncer";
/// Key of the users' kubeconfig, as Cluster API names it.
pub(crate) const USER_KEY: &str = "value";
/// Key of the syncer's kubeconfig.
pub(crate) const SYNCER_KEY: &str = "kubeconfig";

/// Everything that lies in the control plane's namespace.
pub(crate) fn orders(cp: &ControlPlane, addresses: &Addresses) -> Vec<Order> {
    let mut orders: Vec<Order> = Authority::ALL
        .map(|authority| own(cp, authority.secret(), Material::Authority(authority)))
        .into();
    orders.push(own(cp, SERVICE_ACCOUNT, Material::ServiceAccountKeys));
    orders.push(own(cp, ENCRYPTION, Material::EncryptionKey));
    orders.extend(
        leaves(cp, addresses)
            .into_iter()
            .map(|(name, leaf)| own(cp, name, Material::Leaf(leaf))),
    );
    orders
}

/// The kubeconfig beside the VirtualControlPlane.
pub(crate) fn user_kubeconfig(cp: &ControlPlane, addresses: &Addresses) -> Order {
    let form = Form::Kubeconfig {
        key: USER_KEY,
        server: url(&addresses.endpoint.host, addresses.endpoint.port),
        // The front door tells tenants apart by this name; a host name of the tenant's own does as well, but wakes none.
        tls_server_name: match own_host(cp) {
            Some(_) if !cp.wakes => None,
            _ => Some(naming::tenant_host(&cp.owner.id)),
        },
        context: cp.owner.name.clone(),
    };
    Order {
        namespace: cp.owner.namespace.clone(),
        name: cp.owner.kubeconfig_secret(),
        metadata: json!({
            "labels": cp.owner.labels(),
            "annotations": {marks::CONTROL_PLANE: cp.owner.path()},
            "ownerReferences": [owner_reference(&cp.owner)],
        }),
        material: Material::Leaf(Leaf {
            form,
            ..client("sublet:admin", Some(ADMINS))
        }),
        secret_type: OPAQUE,
        identity: cp.owner.id.to_string(),
    }
}

/// The kubeconfig by which Cluster API and operators reach a tenant that is a Cluster: name, type, label and key are as
/// the contract asks for them. Tenants get one of their own.
pub(crate) fn cluster_kubeconfig(cp: &ControlPlane, addresses: &Addresses) -> Option<Order> {
    let mut order = user_kubeconfig(cp, addresses);
    order.name = cp.owner.cluster_secret(cluster_keys::KUBECONFIG)?;
    order.secret_type = capi::SECRET_TYPE;
    order.metadata = cluster_keys::contract_metadata(&cp.owner)?;
    if let Material::Leaf(leaf) = &mut order.material {
        leaf.common_name = "sublet:cluster-api".into();
        leaf.days = SHORT_DAYS;
    }
    Some(order)
}

/// The kubeconfig by which the syncer reaches the tenant; its server is an address, no name is looked up.
pub(crate) fn syncer_kubeconfig(cp: &ControlPlane, addresses: &Addresses, system: &str) -> Order {
    let form = Form::Kubeconfig {
        key: SYNCER_KEY,
        server: url(&addresses.apiserver, apiserver::PORT),
        tls_server_name: None,
        context: cp.owner.name.clone(),
    };
    Order {
        namespace: system.to_owned(),
        name: naming::tenant_kubeconfig(&cp.owner.id),
        metadata: syncer_metadata(&cp.owner),
        material: Material::Leaf(Leaf {
            form,
            ..client(SYNCER, Some(SYNCER))
        }),
        secret_type: OPAQUE,
        identity: cp.owner.id.to_string(),
    }
}

/// Labels and annotations by which the syncer finds a tenant's kubeconfig.
pub(crate) fn syncer_metadata(owner: &crate::spec::control_plane::Owner) -> Value {
    let mut labels = json!(owner.labels());
    labels[marks::ROLE] = json!(marks::ROLE_TENANT_KUBECONFIG);
    json!({"labels": labels, "annotations": {marks::CONTROL_PLANE: owner.path()}})
}

/// The host name that the tenant's clients reach it by, when it has one of its own.
pub(crate) fn own_host(cp: &ControlPlane) -> Option<&str> {
    let host = cp.endpoint.as_ref()?.host.as_str();
    host.parse::<std::net::IpAddr>().is_err().then_some(host)
}

/// `https://HOST:PORT`; an IPv6 address stands in brackets.
pub(crate) fn url(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

fn leaves(cp: &ControlPlane, addresses: &Addresses) -> Vec<(&'static str, Leaf)> {
    let mut etcd_names = vec![
        "localhost".to_owned(),
        "127.0.0.1".into(),
        addresses.etcd.clone(),
        format!("{}.{}.svc", etcd::NAME, cp.namespace),
    ];
    let mut peer_names = vec!["127.0.0.1".to_owned()];
    if cp.members > 1 {
        etcd_names.extend(etcd::members(cp));
        peer_names.extend(etcd::members(cp));
    }
    let etcd_leaf = |name: &str, usage, names| Leaf {
        authority: Authority::Etcd,
        usage,
        names,
        ..client(name, None)
    };
    vec![
        (
            "apiserver",
            Leaf {
                usage: Usage::Server,
                names: apiserver::names(cp, addresses),
                ..client(apiserver::NAME, None)
            },
        ),
        (
            PROXY_CLIENT,
            Leaf {
                authority: Authority::ProxyClient,
                ..client("kube-apiserver-kubelet-client", None)
            },
        ),
        (
            "apiserver-etcd-client",
            etcd_leaf("kube-apiserver-etcd-client", Usage::Client, vec![]),
        ),
        (
            "etcd-server",
            etcd_leaf("etcd-server", Usage::Both, etcd_names),
        ),
        ("etcd-peer", etcd_leaf("etcd-peer", Usage::Both, peer_names)),
        (
            "front-proxy-client",
            Leaf {
                authority: Authority::FrontProxy,
                ..client(apiserver::FRONT_PROXY_CLIENT, None)
            },
        ),
        ("controller-manager", client(controller_manager::USER, None)),
        (MANAGER, client("sublet:manager", Some("system:masters"))),
    ]
}

fn client(common_name: &str, organization: Option<&'static str>) -> Leaf {
    Leaf {
        authority: Authority::Cluster,
        common_name: common_name.to_owned(),
        organization,
        usage: Usage::Client,
        names: vec![],
        form: Form::Files,
        days: LEAF_DAYS,
    }
}

fn own(cp: &ControlPlane, name: &str, material: Material) -> Order {
    Order {
        namespace: cp.namespace.clone(),
        name: name.to_owned(),
        metadata: metadata(cp, name),
        material,
        secret_type: OPAQUE,
        identity: cp.owner.id.to_string(),
    }
}
