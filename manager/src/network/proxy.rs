//! The proxy as tenants' API servers and clients reach it, and the certificate that it shows.
//!
//! Its authority and certificate lie in Sublet's own namespace and are made by a loop of their own: they belong to no
//! tenant, and every tenant needs them.

use crate::{
    clients::cluster::{self, Cluster},
    elsewhere::external::way_out,
    object::{Object, SECRET, SERVICE},
    pki::{self, Authority, Form, LEAF_DAYS, Leaf, Material, Order, Usage},
    provision::figures,
    watching::cache::{Cache, Gone},
};
use api::{Endpoint, VirtualControlPlane, keys};
use jiff::Timestamp;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tenancy::naming;

/// How often the certificate's age is looked at.
const ROUND: Duration = Duration::from_secs(60);
/// The same as long as it can't be made.
const RETRY: Duration = Duration::from_secs(2);

/// Hosts of ways out that the certificate names: all of them in a message that every TLS client reads, with room to spare.
const MOST_HOSTS: usize = 128;
/// The same of the tenants of one namespace.
const MOST_HOSTS_OF_ONE: usize = 16;

/// What is said as long as [`look`] finds none.
pub(crate) const AWAITED: &str =
    "waiting for the proxy's Services and certificate; if they don't come, run `sublet install`";

/// What tenants' control planes must know of the proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proxy {
    /// Address of its Service.
    pub(crate) address: String,
    /// PEM of the authority of its certificate.
    pub(crate) authority: String,
    /// PEM of the authority by which it signs for the addresses of virtual nodes.
    pub(crate) nodes: String,
    /// Where its front door is.
    pub(crate) door: Door,
    /// Address of the Service by which pods reach its DNS server; none in a super cluster that was installed without.
    pub(crate) dns: Option<String>,
}

/// How clients outside reach the front door.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Door {
    /// At this port of any node.
    NodePort(u16),
    /// At a load balancer.
    LoadBalancer(Endpoint),
}

/// The proxy's certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An API server's answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] pki::Error),
    /// Without the Service its address isn't known.
    #[error("Service {0} isn't there: run `sublet install`")]
    NoService(&'static str),
}

/// Looks at the proxy's Services and authority; `None` while one is missing.
pub(crate) async fn look(cluster: &Cluster, system: &str) -> Result<Option<Proxy>, cluster::Error> {
    let system = Some(system);
    let service = cluster.get(SERVICE, system, keys::PROXY).await?;
    let door = cluster.get(SERVICE, system, keys::FRONT_DOOR).await?;
    let dns = cluster.get(SERVICE, system, keys::SHARED_DNS).await?;
    let authority = cluster.get(SECRET, system, keys::PROXY_AUTHORITY).await?;
    let nodes = cluster.get(SECRET, system, keys::PROXY_NODES).await?;
    let (Some(service), Some(door), Some(authority), Some(nodes)) =
        (service, door, authority, nodes)
    else {
        return Ok(None);
    };
    let known = address(&service).zip(front_door(&door));
    let certificate = |secret| pki::text(secret, "tls.crt").ok();
    let known = known.zip(certificate(&authority).zip(certificate(&nodes)));
    Ok(known.map(|((address, door), (authority, nodes))| Proxy {
        address,
        authority,
        nodes,
        door,
        dns: dns.as_ref().and_then(self::address),
    }))
}

/// Makes the proxy's certificate and renews it, until the task is dropped.
pub(crate) async fn keep(
    cluster: Cluster,
    system: String,
    tenants: Cache<VirtualControlPlane>,
) -> Result<(), Gone> {
    // Before all tenants are known, hosts would be missing.
    let tenants = tenants.all().await?;
    let mut failing = false;
    loop {
        let known = tenants.state();
        let hosts = hosts(known.iter().map(AsRef::as_ref));
        let wait = match renew(&cluster, &system, &hosts).await {
            Ok(()) => {
                failing = false;
                ROUND
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the proxy's certificate can't be made yet");
                }
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Hosts by which API servers that Sublet doesn't run reach the way out, of those that were offered it: the older first, and
/// no more than a certificate has room for. What no certificate may carry is left out; its VirtualControlPlane is told.
fn hosts<'a>(tenants: impl Iterator<Item = &'a VirtualControlPlane>) -> BTreeSet<String> {
    let mut offered: Vec<_> = tenants.filter(|vcp| way_out::is_offered(vcp)).collect();
    offered.sort_by_key(|vcp| {
        let about = &vcp.metadata;
        (&about.creation_timestamp, &about.namespace, &about.name)
    });
    let (mut hosts, mut of_each) = (BTreeSet::new(), BTreeMap::<_, usize>::new());
    for vcp in offered {
        let asked = vcp.spec.external.as_ref();
        let asked = asked.and_then(|external| external.way_out.as_ref());
        let Some(host) = asked.map(|asked| &asked.host) else {
            continue;
        };
        let of_this = of_each.entry(&vcp.metadata.namespace).or_default();
        let has_room = hosts.len() < MOST_HOSTS && *of_this < MOST_HOSTS_OF_ONE;
        if has_room && way_out::is_host(host) && hosts.insert(host.clone()) {
            *of_this += 1;
        }
    }
    hosts
}

async fn renew(cluster: &Cluster, system: &str, hosts: &BTreeSet<String>) -> Result<(), Error> {
    let service = cluster.get(SERVICE, Some(system), keys::PROXY).await?;
    let service = service.and_then(|service| address(&service));
    let service = service.ok_or(Error::NoService(keys::PROXY))?;
    let (now, mut signer) = (Timestamp::now(), None);
    for order in orders(system, &service, hosts) {
        let existing = cluster.get(SECRET, Some(system), &order.name).await?;
        signer = match kept(&order, existing, signer.as_ref(), now) {
            Some(existing) => Some(existing),
            None => {
                let secret = pki::issue(&order, signer.as_ref(), now)?;
                tracing::info!(name = order.name, "making a Secret of the proxy");
                Some(match order.material {
                    Material::Leaf(_) => cluster.apply(&secret).await?,
                    // Made once: if one turns up, it is kept.
                    _ => cluster.create(&secret).await?,
                })
            }
        };
    }
    Ok(())
}

/// What is there, unless it must be made anew.
fn kept(
    order: &Order,
    existing: Option<Object>,
    signer: Option<&Object>,
    now: Timestamp,
) -> Option<Object> {
    existing.filter(|existing| !pki::is_due(order, Some(existing), signer, now))
}

/// The authority, then what it signs, then the one that the proxy signs with itself.
fn orders(system: &str, address: &str, hosts: &BTreeSet<String>) -> [Order; 3] {
    let order = |name: &str, material| Order {
        namespace: system.to_owned(),
        name: name.to_owned(),
        metadata: json!({"labels": {"app.kubernetes.io/part-of": "sublet"}, "annotations": {}}),
        material,
        secret_type: pki::OPAQUE,
        identity: "sublet".into(),
    };
    let mut names = vec![
        naming::node_host_pattern(),
        format!("{}.{system}.svc", keys::PROXY),
        figures::server_name(),
        address.to_owned(),
    ];
    let new = hosts.iter().filter(|host| !names.contains(host));
    let new: Vec<String> = new.cloned().collect();
    names.extend(new);
    let leaf = Leaf {
        authority: Authority::ProxyServer,
        common_name: keys::PROXY.into(),
        organization: None,
        usage: Usage::Server,
        names,
        form: Form::Files,
        days: LEAF_DAYS,
    };
    [
        order(
            keys::PROXY_AUTHORITY,
            Material::Authority(Authority::ProxyServer),
        ),
        order(keys::PROXY_SERVER, Material::Leaf(leaf)),
        order(
            keys::PROXY_NODES,
            Material::Authority(Authority::ProxyNodes),
        ),
    ]
}

fn address(service: &Object) -> Option<String> {
    let address = service.text("/spec/clusterIP");
    let is_one = address.parse::<std::net::IpAddr>().is_ok();
    is_one.then(|| address.to_owned())
}

/// A load balancer that isn't there yet has a node port already, which serves until then.
fn front_door(service: &Object) -> Option<Door> {
    let port = |pointer| {
        u16::try_from(service.number(pointer))
            .ok()
            .filter(|port| *port > 0)
    };
    let ingress = service.items("/status/loadBalancer/ingress").first();
    let host = ingress.and_then(|ingress| {
        let host = ingress["hostname"].as_str().or(ingress["ip"].as_str());
        host.map(str::to_owned)
    });
    match host {
        Some(host) => Some(Door::LoadBalancer(Endpoint {
            host,
            port: port("/spec/ports/0/port")?,
        })),
        None => port("/spec/ports/0/nodePort").map(Door::NodePort),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn proxy() -> Proxy {
        Proxy {
            address: "10.96.0.60".into(),
            authority: "proxy authority".into(),
            nodes: "nodes' authority".into(),
            door: Door::NodePort(30443),
            dns: Some("10.96.0.53".into()),
        }
    }

    fn service(body: serde_json::Value) -> Object {
        Object::new(SERVICE, Some("s"), "x", body)
    }

    #[test]
    fn what_is_there_is_kept_and_the_certificate_is_made_anew_for_another_host() {
        let now = Timestamp::now();
        let made = |hosts: &[&str], there: &[Object]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let mut signer: Option<Object> = None;
            let mut made = vec![];
            let mut all = vec![];
            for order in orders("s", "10.96.0.60", &hosts) {
                let existing = there.iter().find(|secret| secret.name() == order.name);
                let current = kept(&order, existing.cloned(), signer.as_ref(), now);
                let current = current.unwrap_or_else(|| {
                    made.push(order.name.clone());
                    pki::issue(&order, signer.as_ref(), now).unwrap()
                });
                all.push(current.clone());
                signer = Some(current);
            }
            (made, all)
        };
        let (first, all) = made(&[], &[]);
        assert_eq!(first.len(), 3);
        assert!(made(&[], &all).0.is_empty());
        assert_eq!(made(&["192.0.2.7"], &all).0, [keys::PROXY_SERVER]);
    }

    #[test]
    fn the_front_door_is_at_a_node_port_or_a_load_balancer() {
        let ports = json!({"ports": [{"port": 443, "nodePort": 30443}]});
        let mut door = json!({"spec": ports});
        assert_eq!(
            front_door(&service(door.clone())),
            Some(Door::NodePort(30443))
        );
        door["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
        let endpoint = Endpoint {
            host: "192.0.2.9".into(),
            port: 443,
        };
        assert_eq!(
            front_door(&service(door)),
            Some(Door::LoadBalancer(endpoint))
        );
        assert_eq!(front_door(&service(json!({}))), None);
        assert_eq!(
            address(&service(json!({"spec": {"clusterIP": "None"}}))),
            None
        );
    }

    /// All objects of a text that hold what `kind` says.
    fn objects(text: &str, kind: &str) -> Vec<serde_json::Value> {
        let read = text.split("\n---\n").map(serde_saphyr::from_str);
        let read = read.filter_map(|object: Result<serde_json::Value, _>| object.ok());
        read.filter(|object| object["kind"] == kind).collect()
    }

    #[test]
    fn the_gateway_of_the_docs_leads_to_the_front_door() {
        let page = include_str!("../../../docs/access.md");
        let yaml = page.split("```yaml\n").skip(1);
        let yaml: Vec<&str> = yaml.filter_map(|rest| rest.split("```").next()).collect();
        let one = |kind| {
            let mut found = yaml.iter().flat_map(|text| objects(text, kind));
            found.next().expect("the page has one")
        };
        let (gateway, route) = (one("Gateway"), one("TLSRoute"));
        let listener = &gateway["spec"]["listeners"][0];
        assert_eq!(listener["protocol"], "TLS");
        assert_eq!(
            listener["tls"]["mode"], "Passthrough",
            "TLS ends nowhere else"
        );
        let pattern = listener["hostname"].as_str().unwrap();
        assert_eq!(route["spec"]["hostnames"][0], pattern);
        let host = naming::tenant_host(&tenancy::tenant::TenantId::from_bits([7; 16]));
        let (_, domain) = host.split_once('.').unwrap();
        assert_eq!(pattern, format!("*.{domain}"));
        assert_eq!(
            route["spec"]["parentRefs"][0]["name"],
            gateway["metadata"]["name"]
        );
        for object in [&gateway, &route] {
            assert_eq!(object["metadata"]["namespace"], api::SYSTEM_NAMESPACE);
        }
        // What it leads to is what is installed.
        let behind = &route["spec"]["rules"][0]["backendRefs"][0];
        let services = objects(include_str!("../../../manifests/install.yaml"), "Service");
        let door = services
            .iter()
            .find(|service| service["metadata"]["name"] == behind["name"]);
        let door = door.expect("the Service is installed");
        assert_eq!(behind["name"], keys::FRONT_DOOR);
        assert_eq!(behind["port"], door["spec"]["ports"][0]["port"]);
        // And the kubeconfigs of a class that says so lead to the Gateway.
        let class = one("ControlPlaneClass");
        assert_eq!(class["spec"]["endpointPort"], listener["port"]);
    }

    /// The manager offers it a way out.
    fn offered(vcp: &mut VirtualControlPlane) {
        let fact = crate::status::Fact::yes(way_out::CONDITION, "Offered");
        let conditions = crate::status::conditions(vcp, &[fact], Timestamp::UNIX_EPOCH);
        vcp.status.get_or_insert_default().conditions = conditions;
    }

    #[test]
    fn the_certificate_names_no_host_of_one_that_nothing_is_offered_and_only_so_many() {
        let asking = |namespace: &str, number: usize| {
            let mut vcp = VirtualControlPlane::new(
                &format!("t{number:03}"),
                api::VirtualControlPlaneSpec::default(),
            );
            vcp.metadata.namespace = Some(namespace.into());
            let way_out = Endpoint {
                host: format!("{namespace}-{number:03}.example.com"),
                port: 8131,
            };
            vcp.spec.external = Some(api::External {
                way_out: Some(way_out),
                ..api::External::default()
            });
            vcp
        };
        let mut all = vec![];
        for namespace in 0..20 {
            let tenants = (0..40).map(|number| asking(&format!("n{namespace:02}"), number));
            all.extend(tenants);
        }
        assert!(hosts(all.iter()).is_empty());
        all.iter_mut().for_each(offered);
        let named = hosts(all[..40].iter());
        assert_eq!(named.len(), MOST_HOSTS_OF_ONE);
        assert!(named.contains("n00-000.example.com"), "{named:?}");
        let named = hosts(all.iter());
        assert_eq!(named.len(), MOST_HOSTS);
        assert_eq!(named, hosts(all.iter().rev()));
    }

    #[test]
    fn the_certificate_names_all_virtual_nodes_the_service_and_hosts_that_are_asked_for() {
        let mut vcp = VirtualControlPlane::new("beta", api::VirtualControlPlaneSpec::default());
        let asked = |host: &str| Endpoint {
            host: host.into(),
            port: 8131,
        };
        offered(&mut vcp);
        let mut tenants = vec![];
        for host in ["way.example.com", "192.0.2.7", "10.96.0.60", "no host", ""] {
            vcp.spec.external = Some(api::External {
                way_out: Some(asked(host)),
                ..api::External::default()
            });
            tenants.push(vcp.clone());
        }
        let hosts = hosts(tenants.iter());
        assert_eq!(hosts.len(), 3, "{hosts:?}");
        let [authority, server, _] = orders("s", "10.96.0.60", &hosts);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = pki::issue(&authority, None, now).unwrap();
        let secret = pki::issue(&server, Some(&authority), now).unwrap();
        assert!(!pki::is_due(&server, Some(&secret), Some(&authority), now));
        let pem = pki::text(&secret, "tls.crt").unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let names = pem.parse_x509().unwrap();
        let names = names.subject_alternative_name().unwrap().unwrap();
        let names = format!("{:?}", names.value.general_names);
        for name in [
            "*.nodes.sublet.internal",
            "sublet-apiserver-proxy.s.svc",
            "sublet-metrics.kube-system.svc",
            "[10, 96, 0, 60]",
            "way.example.com",
            "[192, 0, 2, 7]",
        ] {
            assert!(names.contains(name), "{name} in {names}");
        }
    }
}
