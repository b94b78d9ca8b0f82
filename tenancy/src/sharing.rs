//! Services that a tenant is shown beside its own, and those of its own that others may reach.
//!
//! What is shown has no cluster IP of its own: the tenant's DNS answers with the address of the Service in the super cluster,
//! so nothing is allocated twice and no endpoint of others is copied. NetworkPolicies open the pods behind it on its ports
//! and nothing else, on both sides.

use crate::{naming, object::Object, tenant::TenantId};
use api::{ServiceRef, keys};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A Service of the super cluster that a tenant is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// What it is called in the tenant.
    pub shown_as: ServiceRef,
    /// Where it is in the super cluster.
    pub source: ServiceRef,
    /// The tenant whose Service it is; the platform's when there is none.
    pub of: Option<TenantId>,
}

/// A Service of a tenant that another tenant may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    /// The Service, in the super cluster.
    pub service: ServiceRef,
    /// Who may reach it.
    pub by: TenantId,
}

/// Who shares what with a tenant, as its class, its VirtualControlPlane and others' say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// What it is shown.
    pub links: Vec<Link>,
    /// Who may reach what of it.
    pub visits: Vec<Visit>,
}

/// What is opened for shared Services, by what they select just now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opened {
    /// Egress rules for all pods of the tenant.
    pub egress: Vec<Value>,
    /// NetworkPolicies: super namespace, name and spec.
    pub ingress: Vec<(String, String, Value)>,
}

/// Prefix of the NetworkPolicy that lets others reach a shared Service.
const POLICY: &str = "sublet-shared-";

/// Whether a NetworkPolicy is one of those that open a shared Service.
pub fn is_policy(name: &str) -> bool {
    name.starts_with(POLICY)
}

/// Where a tenant's Service is in the super cluster.
pub fn in_super(id: &TenantId, control_plane: &str, service: &ServiceRef) -> ServiceRef {
    ServiceRef {
        namespace: naming::super_namespace(id, control_plane, &service.namespace),
        name: service.name.clone(),
    }
}

impl Opened {
    /// Adds what a link needs: the way to the pods behind the Service.
    pub fn link(&mut self, link: &Link, source: &Object) {
        let (Some(pods), Some(ports)) = (selector(source), ports(source)) else {
            return;
        };
        let namespace =
            json!({"matchLabels": {"kubernetes.io/metadata.name": link.source.namespace}});
        self.egress.push(json!({
            "to": [{"namespaceSelector": namespace, "podSelector": pods}], "ports": ports,
        }));
    }

    /// Adds what a visit needs: the way in, for pods of which the tenant itself says nothing.
    pub fn visit(&mut self, visit: &Visit, service: &Object) {
        let (Some(mut pods), Some(ports)) = (selector(service), ports(service)) else {
            return;
        };
        pods["matchLabels"][keys::INGRESS] = keys::BY_DEFAULT.into();
        let from = json!({
            "namespaceSelector": {
                "matchLabels": {keys::TENANT: visit.by.as_str()},
                "matchExpressions": [{"key": keys::ROLE, "operator": "DoesNotExist"}],
            },
        });
        let name = format!("{POLICY}{}", visit.service.name);
        let known = self
            .ingress
            .iter_mut()
            .find(|(namespace, other, _)| *namespace == visit.service.namespace && *other == name);
        if let Some((.., spec)) = known {
            if let Some(peers) = spec["ingress"][0]["from"].as_array_mut() {
                peers.push(from);
            }
            return;
        }
        let spec = json!({
            "podSelector": pods, "policyTypes": ["Ingress"], "ingress": [{"from": [from], "ports": ports}],
        });
        self.ingress
            .push((visit.service.namespace.clone(), name, spec));
    }
}

/// What the tenant is shown of a link: a Service and its EndpointSlice; nothing of a source without an address.
pub fn shown(link: &Link, source: &Object) -> Option<(Value, Value)> {
    let address: IpAddr = source.text("/spec/clusterIP")?.parse().ok()?;
    let named = source.at("/spec/ports")?.as_array()?.iter();
    let (mut ports, mut endpoints) = (vec![], vec![]);
    for port in named {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let name = port["name"].as_str().unwrap_or_default();
        ports.push(json!({"name": name, "protocol": protocol, "port": port["port"]}));
        endpoints.push(json!({"name": name, "protocol": protocol, "port": port["port"]}));
    }
    let ServiceRef { namespace, name } = &link.shown_as;
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let service = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {keys::SHARED: "true"},
            "annotations": {keys::SHOWN_ADDRESS: address.to_string()}},
        "spec": {"clusterIP": "None", "type": "ClusterIP", "ports": ports},
    });
    let slice = json!({
        "metadata": {
            "name": slice_name(name), "namespace": namespace,
            "labels": {
                keys::SHARED: "true", "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "sublet.dev",
            },
        },
        "addressType": family, "ports": endpoints,
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
    });
    Some((service, slice))
}

/// Name of the EndpointSlice of what is shown.
pub fn slice_name(service: &str) -> String {
    format!("{service}-shared")
}

/// Whether an object in a tenant is there for a shared Service; it doesn't go down.
pub fn is_shown(object: &Object) -> bool {
    object.label(keys::SHARED).is_some()
}

/// The pods behind a Service; one without a selector has none that can be opened.
fn selector(service: &Object) -> Option<Value> {
    let selector = service.at("/spec/selector")?.as_object()?;
    (!selector.is_empty()).then(|| json!({"matchLabels": selector}))
}

/// The ports of those pods.
fn ports(service: &Object) -> Option<Vec<Value>> {
    let ports = service.at("/spec/ports")?.as_array()?.iter();
    let ports = ports.map(|port| {
        let target = port.get("targetPort").unwrap_or(&port["port"]);
        json!({"protocol": port["protocol"].as_str().unwrap_or("TCP"), "port": target})
    });
    Some(ports.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Object {
        Object::from_value(json!({
            "metadata": {"name": "db", "namespace": "s"},
            "spec": {"clusterIP": "10.96.4.9", "selector": {"app": "db"},
                "ports": [{"name": "sql", "port": 5432, "targetPort": 15432, "protocol": "TCP"}]},
        }))
        .unwrap()
    }

    fn at(namespace: &str, name: &str) -> ServiceRef {
        ServiceRef {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn link() -> Link {
        Link {
            shown_as: at("partners", "db"),
            source: at("s", "db"),
            of: None,
        }
    }

    fn visit(by: u8) -> Visit {
        Visit {
            service: at("s", "db"),
            by: TenantId::from_bits([by; 16]),
        }
    }

    #[test]
    fn what_is_shown_leads_to_the_address_in_the_super_cluster() {
        let (service, slice) = shown(&link(), &source()).unwrap();
        assert_eq!(service["spec"]["clusterIP"], "None");
        assert_eq!(service["spec"]["ports"][0]["port"], 5432);
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.96.4.9"]));
        assert_eq!(
            slice["metadata"]["labels"]["kubernetes.io/service-name"],
            "db"
        );
        for object in [service, slice] {
            assert!(is_shown(&Object::from_value(object).unwrap()));
        }
        let mut headless = source();
        headless.value_mut()["spec"]["clusterIP"] = "None".into();
        assert_eq!(shown(&link(), &headless), None);
    }

    #[test]
    fn exactly_the_pods_behind_it_are_opened_on_its_ports() {
        let mut opened = Opened::default();
        opened.link(&link(), &source());
        assert_eq!(
            opened.egress,
            [json!({
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "s"}},
                    "podSelector": {"matchLabels": {"app": "db"}},
                }],
                "ports": [{"protocol": "TCP", "port": 15432}],
            })]
        );
        opened.visit(&visit(1), &source());
        opened.visit(&visit(2), &source());
        let [(namespace, name, spec)] = opened.ingress.as_slice() else {
            panic!("one policy for both: {:?}", opened.ingress);
        };
        assert_eq!(
            (namespace.as_str(), name.as_str()),
            ("s", "sublet-shared-db")
        );
        assert_eq!(spec["ingress"][0]["from"].as_array().unwrap().len(), 2);
        assert_eq!(
            spec["podSelector"]["matchLabels"][keys::INGRESS],
            keys::BY_DEFAULT
        );
        assert!(is_policy(name));
    }

    #[test]
    fn without_a_selector_nothing_is_opened() {
        let mut bare = source();
        bare.value_mut()["spec"]["selector"] = json!({});
        let mut opened = Opened::default();
        opened.link(&link(), &bare);
        opened.visit(&visit(1), &bare);
        assert_eq!(opened, Opened::default());
    }
}
