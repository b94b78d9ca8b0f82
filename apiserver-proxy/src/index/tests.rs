use super::*;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// An authority with its key.
pub(crate) struct TestAuthority {
    pub(crate) pem: String,
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

/// PEM of some authority.
pub(crate) static PEM_AUTHORITY: LazyLock<String> = LazyLock::new(|| authority("some").pem);

pub(crate) fn authority(name: &str) -> TestAuthority {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let key = rcgen::KeyPair::generate().unwrap();
    TestAuthority {
        pem: params.self_signed(&key).unwrap().pem(),
        params,
        key,
    }
}

/// A certificate and its key.
pub(crate) type Pair = (
    rustls::pki_types::CertificateDer<'static>,
    rustls::pki_types::PrivateKeyDer<'static>,
);

impl TestAuthority {
    /// For a client, good for so many days from 2020 on.
    pub(crate) fn client(&self, days: i64) -> Pair {
        let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        let (certificate, key) = self.sign(rcgen::CertificateParams::default(), usage, days);
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }

    /// For a server that is called so: certificate and key.
    pub(crate) fn server(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let usage = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
        self.sign(rcgen::CertificateParams::new(names).unwrap(), usage, 36_500)
    }

    fn sign(
        &self,
        mut params: rcgen::CertificateParams,
        usage: rcgen::ExtendedKeyUsagePurpose,
        days: i64,
    ) -> (rcgen::Certificate, rcgen::KeyPair) {
        params.extended_key_usages = vec![usage];
        let year = 2020 + i32::try_from(days / 365).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        let issuer = rcgen::Issuer::new(self.params.clone(), own);
        (params.signed_by(&key, &issuer).unwrap(), key)
    }
}

/// DER of a client certificate that the authority signed.
pub(crate) fn leaf(
    authority: &TestAuthority,
    days: i64,
) -> rustls::pki_types::CertificateDer<'static> {
    authority.client(days).0
}

fn id(n: u8) -> TenantId {
    TenantId::from_bits([n; 16])
}

pub(crate) fn route(n: u8, name: &str, authority: &str) -> ConfigMap {
    from(json!({
        "metadata": {
            "name": format!("route-{}", id(n)), "labels": {"sublet.dev/tenant": id(n).as_str()},
            "annotations": {"sublet.dev/control-plane": format!("tenants/{name}")},
            "creationTimestamp": format!("2026-01-0{n}T00:00:00Z"),
        },
        "data": {"authority.crt": authority, "backend": "10.96.8.8:6443", "apiAddress": "10.96.4.1", "host": "Api.Example.com"},
    }))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn tenant(n: u8) -> Tenant {
    Tenant::read(&route(n, "acme", &PEM_AUTHORITY)).unwrap()
}

pub(crate) fn place(n: u8, namespace: &str, name: &str) -> NamespacedName {
    (
        naming::super_namespace(&id(n), "acme", namespace),
        name.to_owned(),
    )
}

pub(crate) fn meta(n: u8, namespace: &str, name: &str) -> Value {
    json!({
        "labels": {"sublet.dev/tenant": id(n).as_str()},
        "annotations": {"sublet.dev/namespace": namespace, "sublet.dev/name": name, "sublet.dev/uid": "u1"},
    })
}

pub(crate) fn pod(n: u8, namespace: &str, name: &str, status: Value) -> SuperPod {
    from(
        json!({"metadata": meta(n, namespace, name), "spec": {"containers": []}, "status": status}),
    )
}

pub(crate) fn running(address: &str) -> Value {
    json!({"phase": "Running", "podIPs": [{"ip": address}]})
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// T30, T32: a pod is found by tenant, namespace, name and UID, and only where the tenant's namespace leads.
#[test]
fn t32_a_tenant_finds_its_own_pods_only() {
    let index = Index::default();
    index.set_pod(
        place(1, "default", "web"),
        &pod(1, "default", "web", running("10.0.0.1")),
    );
    index.set_pod(
        place(2, "default", "web"),
        &pod(2, "default", "web", running("10.0.0.2")),
    );
    let (one, two) = (tenant(1), tenant(2));
    let found = index.pod(&one, "default", "web", None).unwrap();
    assert_eq!(found.namespace, place(1, "default", "web").0);
    assert_ne!(
        index.pod(&two, "default", "web", None).unwrap().namespace,
        found.namespace
    );
    assert!(index.pod(&one, "default", "web", Some("u1")).is_some());
    assert_eq!(index.pod(&one, "default", "web", Some("u2")), None);
    assert_eq!(index.pod(&one, "default", "db", None), None);
    assert_eq!(index.pod(&one, "kube-system", "web", None), None);
    // By the super namespace's own name nothing is found.
    assert_eq!(index.pod(&one, &found.namespace, "web", None), None);

    // A super admin's pod that carries the tenant's label in some other namespace isn't the tenant's.
    let stray = ("default".to_owned(), "web".to_owned());
    index.set_pod(stray, &pod(3, "default", "web", running("10.0.0.3")));
    assert_eq!(index.pod(&tenant(3), "default", "web", None), None);
    index.set_tenant(("s".into(), "3".into()), tenant(3));
    assert_eq!(
        index.tenant_at(ip("10.0.0.3")).map(|of| of.id.clone()),
        None
    );
    assert!(
        !index.is_pod(&tenant(3), ip("10.0.0.3")) && index.is_anothers(&tenant(3), ip("10.0.0.3"))
    );
    // Nor is one in the right place that says that it is another's.
    index.set_pod(
        place(4, "default", "web"),
        &pod(5, "default", "web", running("10.0.0.4")),
    );
    assert_eq!(index.pod(&tenant(4), "default", "web", None), None);

    index.drop_pod(&place(1, "default", "web"));
    assert_eq!(index.pod(&one, "default", "web", None), None);
}

#[test]
fn an_address_belongs_to_the_pod_that_runs() {
    let index = Index::default();
    let at = ip("10.0.0.1");
    index.set_pod(
        place(1, "default", "a"),
        &pod(1, "default", "a", running("10.0.0.1")),
    );
    assert!(index.is_pod(&tenant(1), at) && !index.is_pod(&tenant(2), at));
    // Both say so while it passes on: nobody's.
    index.set_pod(
        place(2, "default", "b"),
        &pod(2, "default", "b", running("10.0.0.1")),
    );
    assert!(!index.is_pod(&tenant(1), at) && !index.is_pod(&tenant(2), at));
    let ended = json!({"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}]});
    index.set_pod(place(1, "default", "a"), &pod(1, "default", "a", ended));
    assert!(!index.is_pod(&tenant(1), at) && index.is_pod(&tenant(2), at));
    let mut host = pod(2, "default", "b", running("10.0.0.1"));
    host.spec.host_network = true;
    index.set_pod(place(2, "default", "b"), &host);
    assert!(!index.is_pod(&tenant(2), at), "that is the node's address");
    index.keep_pods(&HashSet::new());
    assert_eq!(index.counts(), [0, 0, 0]);
}

#[test]
fn services_count_with_their_ports() {
    let index = Index::default();
    let service = |kind: &str| -> SuperService {
        from(json!({
            "metadata": meta(1, "default", "hook"),
            "spec": {"type": kind, "clusterIPs": ["10.96.4.9"], "ports": [{"port": 443}]},
        }))
    };
    index.set_service(place(1, "default", "hook"), &service("ClusterIP"));
    let (own, at) = (tenant(1), ip("10.96.4.9"));
    assert!(index.is_service(&own, at, 443));
    assert!(!index.is_service(&own, at, 80) && !index.is_service(&tenant(2), at, 443));
    assert_eq!(index.service_address(&own, "default", "hook"), Some(at));
    assert_eq!(index.service_address(&tenant(2), "default", "hook"), None);
    index.set_service(place(1, "default", "hook"), &service("ExternalName"));
    assert!(!index.is_service(&own, at, 443));
}

#[test]
fn a_name_leads_to_one_tenant_and_a_shared_host_to_the_first() {
    let index = Index::default();
    for n in [2, 1] {
        index.set_tenant(("s".into(), format!("{n}")), tenant(n));
    }
    let led = |name: &str| {
        index
            .tenant_by_server_name(name)
            .map(|tenant| tenant.id.clone())
    };
    assert_eq!(led(&naming::tenant_host(&id(2))), Some(id(2)));
    assert_eq!(led("api.example.com"), Some(id(1)));
    assert_eq!(led(&naming::tenant_host(&id(3))), None);
    assert_eq!(led("10.96.0.1"), None);
}

/// An older tenant that asks for a host later gets it no more than a younger one, whatever the proxy saw of it: one that has
/// just started leads to the same tenant. Of two that asked at once it is always the same one.
#[test]
fn a_host_stays_with_the_tenant_that_asked_for_it_first() {
    let map = |n: u8, host: &str, since: Option<&str>| {
        let mut map = route(n, "acme", &PEM_AUTHORITY);
        let data = map.data.as_mut().unwrap();
        data.insert("host".into(), host.into());
        data.extend(since.map(|since| ("hostSince".into(), since.into())));
        map.metadata.creation_timestamp = from(json!(format!("2026-01-0{n}T00:00:00Z")));
        (("s".to_owned(), n.to_string()), map)
    };
    let owner = |host: &str, maps: &[(NamespacedName, ConfigMap)]| {
        let read = |order: &[usize]| {
            let index = Index::default();
            for at in order {
                let (place, map) = &maps[*at];
                index.set_tenant(place.clone(), Tenant::read(map).unwrap());
            }
            index.tenant_by_server_name(host).unwrap().id.clone()
        };
        assert_eq!(read(&[0, 1]), read(&[1, 0]), "another order of news");
        read(&[0, 1])
    };
    let (noon, soon) = (
        Some("2026-03-01T12:00:00.5Z"),
        Some("2026-03-01T12:00:00.7Z"),
    );
    let host = "a.example.com";
    assert_eq!(
        owner(host, &[map(1, host, soon), map(2, host, noon)]),
        id(2)
    );
    assert_eq!(
        owner(host, &[map(1, host, noon), map(2, host, soon)]),
        id(1)
    );
    let first = id(1).as_str().min(id(2).as_str()).to_owned();
    let at_once = [map(1, host, noon), map(2, host, noon)];
    assert_eq!(owner(host, &at_once).as_str(), first);
    // A manager that notes nothing: then the older route has it.
    assert_eq!(
        owner(host, &[map(1, host, None), map(2, host, None)]),
        id(1)
    );
    let (_, wrong) = map(1, host, Some("yesterday"));
    assert!(Tenant::read(&wrong).is_err());
}

/// What a change of the route ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    all: bool,
    /// At the front door, in a while.
    door: bool,
    /// At the way out: all, and tunnels to addresses.
    out: [bool; 2],
}

#[test]
fn connections_outlive_a_change_that_does_not_concern_them() {
    use tenancy::route::{
        ALLOWED, API_ADDRESS, AUTHORITY, BACKEND, CLOSED, DNS, DOMAIN, HOST, NODE_AFFINITY,
        NODE_SELECTOR, RANGES, SLEEP,
    };
    let read = |edits: &[(&str, &str)]| {
        let mut map = route(1, "acme", &PEM_AUTHORITY);
        let data = map.data.as_mut().unwrap();
        data.insert(ALLOWED.into(), "10.0.0.0/8 443".into());
        data.insert(SLEEP.into(), "awake".into());
        for (key, value) in edits {
            data.insert((*key).into(), (*value).into());
        }
        Tenant::read(&map).unwrap()
    };
    let none = Ended {
        all: false,
        door: false,
        out: [false; 2],
    };
    let all = Ended {
        all: true,
        door: true,
        out: [true; 2],
    };
    let (tunnels, callers) = (
        Ended {
            out: [false, true],
            ..none
        },
        Ended {
            out: [true; 2],
            ..none
        },
    );
    let other = authority("new").pem;
    for (edits, wanted) in [
        (&[(HOST, "other.example.com")][..], none),
        (&[(ALLOWED, "192.0.2.0/24\n10.0.0.0/8 443")], none),
        (&[(SLEEP, "")], none),
        (&[(NODE_SELECTOR, "tier=gold")], none),
        (&[(NODE_AFFINITY, "[]")], none),
        (&[(DNS, "10.96.0.10"), (RANGES, "10.96.0.0/12")], none),
        (
            &[(ALLOWED, "192.0.2.0/24"), (HOST, "other.example.com")],
            tunnels,
        ),
        (&[(ALLOWED, "")], tunnels),
        (&[(CLOSED, "10.96.0.0/12")], tunnels),
        (&[(AUTHORITY, other.as_str())], callers),
        (&[(API_ADDRESS, "10.96.4.2")], callers),
        (&[(DOMAIN, "corp.example")], callers),
        (&[(BACKEND, "10.96.8.9:6443")], Ended { door: true, ..none }),
        (&[(SLEEP, "wakeable")], all),
        (&[(SLEEP, "shut")], all),
    ] {
        let index = Index::default();
        let at = || ("s".to_owned(), "route".to_owned());
        let now = || {
            index
                .tenant_by_server_name(&naming::tenant_host(&id(1)))
                .unwrap()
        };
        let ended = |tenant: &Tenant| Ended {
            all: tenant.gone.is_cancelled(),
            door: tenant.moved.is_cancelled(),
            out: [&tenant.known, &tenant.let_out].map(CancellationToken::is_cancelled),
        };
        index.set_tenant(at(), read(&[]));
        let before = now();
        let slot = before.limits.door.take().unwrap();
        index.set_tenant(at(), read(edits));
        assert_eq!(ended(&before), wanted, "{edits:?}");
        // What is open counts at the new route, under which new connections go on, and ends with it.
        assert_eq!(ended(&now()), none, "{edits:?}");
        let open = usize::from(!wanted.all);
        assert_eq!(now().limits.door.open(), open, "{edits:?}");
        index.keep_tenants(&HashSet::new());
        assert_eq!(ended(&before), all);
        drop(slot);
    }
    let mut moved = Tenant::read(&route(1, "other", &PEM_AUTHORITY)).unwrap();
    let mut second = tenant(2);
    for other in [&mut moved, &mut second] {
        let before = tenant(1);
        let ended = other.succeed(&before);
        ended.iter().for_each(CancellationToken::cancel);
        assert!(before.gone.is_cancelled(), "its pods are others");
    }
}

#[test]
fn connections_end_with_the_route_and_with_its_change() {
    let index = Index::default();
    let at = || ("s".to_owned(), "route".to_owned());
    let gone = || {
        index
            .tenant_by_server_name("api.example.com")
            .unwrap()
            .gone
            .clone()
    };
    index.set_tenant(at(), tenant(1));
    let first = gone();
    index.set_tenant(at(), tenant(1));
    assert!(!first.is_cancelled(), "nothing has changed");
    let changed = Tenant::read(&route(1, "acme", &authority("new").pem)).unwrap();
    index.set_tenant(at(), changed);
    assert!(!first.is_cancelled(), "the front door knows nobody by it");
    let second = gone();
    index.keep_tenants(&HashSet::new());
    assert!(second.is_cancelled());
}
