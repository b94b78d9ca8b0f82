//! Services and network policies of a control plane.

use super::{MANAGER, apiserver, etcd, metadata, selector};
use crate::{
    object::{NETWORK_POLICY, Object, SERVICE},
    spec::control_plane::ControlPlane,
};
use ::api::keys as marks;
use serde_json::{Value, json};
use tenancy::naming;

/// The API server under the tenant's first Service address; claims it in the super cluster too.
pub(crate) const KUBERNETES: &str = "kubernetes";

/// All Services: etcd, and the API server for the super cluster and for the tenant's pods. From outside it is reached by
/// the front door.
pub(crate) fn services(cp: &ControlPlane) -> Vec<Object> {
    let mut services = vec![
        service(
            cp,
            KUBERNETES,
            apiserver::NAME,
            json!({
                "clusterIP": cp.slice.api_address().to_string(),
                "ports": [{"name": "https", "port": 443, "targetPort": apiserver::PORT}],
            }),
        ),
        service(
            cp,
            apiserver::NAME,
            apiserver::NAME,
            json!({
                "ports": [{"name": "https", "port": apiserver::PORT, "targetPort": apiserver::PORT}],
            }),
        ),
        // Reachable from the first moment: the API server keeps asking anyhow, and is told sooner.
        service(
            cp,
            etcd::NAME,
            etcd::NAME,
            json!({
                "publishNotReadyAddresses": true,
                "ports": [{"name": "client", "port": etcd::CLIENT_PORT, "targetPort": etcd::CLIENT_PORT}],
            }),
        ),
    ];
    if cp.members > 1 {
        services.push(service(
            cp,
            etcd::PEERS,
            etcd::NAME,
            json!({
                "clusterIP": "None",
                // Members must find each other before any is ready.
                "publishNotReadyAddresses": true,
                "ports": [{"name": "peer", "port": etcd::PEER_PORT, "targetPort": etcd::PEER_PORT}],
            }),
        ));
    }
    services
}

/// Nothing reaches or leaves a control-plane pod but what its part needs.
pub(crate) fn policies(cp: &ControlPlane, system: &str) -> Vec<Object> {
    let tcp = |port: u16| json!({"protocol": "TCP", "port": port});
    let part = |name: &str| json!([{"podSelector": {"matchLabels": selector(name)}}]);
    let mut from_etcd = vec![
        json!({"to": part(etcd::NAME), "ports": [tcp(etcd::CLIENT_PORT), tcp(etcd::PEER_PORT)]}),
    ];
    // Members find each other by names, whichever server knows them. One alone asks nobody, and is let out to nobody.
    if cp.members > 1 {
        from_etcd.push(
            json!({"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}),
        );
    }
    vec![
        policy(
            cp,
            "default-deny",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        policy(
            cp,
            etcd::NAME,
            json!({
                "podSelector": {"matchLabels": selector(etcd::NAME)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": part(apiserver::NAME), "ports": [tcp(etcd::CLIENT_PORT)]},
                    // The manager, which makes room in one that is full.
                    {"from": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system}},
                        "podSelector": {"matchLabels": selector(MANAGER)},
                    }], "ports": [tcp(etcd::CLIENT_PORT)]},
                    {"from": part(etcd::NAME), "ports": [tcp(etcd::CLIENT_PORT), tcp(etcd::PEER_PORT)]},
                ],
                "egress": from_etcd,
            }),
        ),
        // Webhooks, aggregated servers, pods and kubelets: all by the way out, which knows what is the tenant's.
        policy(
            cp,
            apiserver::NAME,
            json!({
                "podSelector": {"matchLabels": selector(apiserver::NAME)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [
                    // The front door, the syncer and the manager.
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system}}},
                    // The tenant's own pods, and what else is of its control plane.
                    {"namespaceSelector": {"matchLabels": {marks::TENANT: cp.owner.id.as_str()}}},
                ], "ports": [tcp(apiserver::PORT)]}],
                "egress": [
                    {"to": part(etcd::NAME), "ports": [tcp(etcd::CLIENT_PORT)]},
                    {"to": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system}},
                        "podSelector": {"matchLabels": selector(api::keys::PROXY)},
                    }], "ports": [tcp(naming::WAY_OUT_PORT)]},
                ],
            }),
        ),
        policy(
            cp,
            super::controller_manager::NAME,
            json!({
                "podSelector": {"matchLabels": selector(super::controller_manager::NAME)},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": part(apiserver::NAME), "ports": [tcp(apiserver::PORT)]}],
            }),
        ),
    ]
}

fn service(cp: &ControlPlane, name: &str, part: &str, mut spec: Value) -> Object {
    spec["selector"] = selector(part);
    let body = json!({"metadata": metadata(cp, part), "spec": spec});
    Object::new(SERVICE, Some(&cp.namespace), name, body)
}

fn policy(cp: &ControlPlane, name: &str, spec: Value) -> Object {
    let body = json!({"metadata": metadata(cp, name), "spec": spec});
    Object::new(NETWORK_POLICY, Some(&cp.namespace), name, body)
}
