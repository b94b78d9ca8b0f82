use super::*;
use crate::index::tests::{PEM_AUTHORITY, route};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// One pod, one Service, and nothing else.
struct World;

impl Places for World {
    fn is_pod(&self, _: &Tenant, address: IpAddr) -> bool {
        address == ip("10.244.1.7")
    }
    fn is_service(&self, _: &Tenant, address: IpAddr, port: u16) -> bool {
        address == ip("10.96.4.9") && port == 443
    }
    fn is_anothers(&self, _: &Tenant, address: IpAddr) -> bool {
        [ip("10.244.1.8"), ip("2a01:db8::8")].contains(&address)
    }
    fn service_address(&self, _: &Tenant, namespace: &str, name: &str) -> Option<IpAddr> {
        ((namespace, name) == ("default", "hook")).then(|| ip("10.96.4.9"))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tenant(allowed: &str) -> Tenant {
    let mut map = route(1, "acme", &PEM_AUTHORITY);
    let data = map.data.as_mut().unwrap();
    data.insert("allowedEgress".into(), allowed.into());
    Tenant::read(&map).unwrap()
}

fn go(allowed: &str, host: &str, port: u16) -> Result<Verdict, Refusal> {
    decide(&tenant(allowed), host, port, &World)
}

#[test]
fn own_pods_services_nodes_and_api_are_reached() {
    let dial = |address: &str| Ok(Verdict::Dial(ip(address)));
    assert_eq!(go("", "10.244.1.7", 9443), dial("10.244.1.7"));
    assert_eq!(go("", "[::ffff:10.244.1.7]", 9443), dial("10.244.1.7"));
    assert_eq!(go("", "10.96.4.9", 443), dial("10.96.4.9"));
    assert_eq!(go("", "hook.default.svc", 443), dial("10.96.4.9"));
    assert_eq!(
        go("", "Hook.default.svc.cluster.local.", 443),
        dial("10.96.4.9")
    );
    assert_eq!(go("", "10.96.4.1", 443), dial("10.96.4.1"));
    assert_eq!(
        go("", "n1.nodes.sublet.internal", 10250),
        Ok(Verdict::Kubelet("n1".into()))
    );
    let node = naming::node_address("n1").to_string();
    assert_eq!(
        go("", &format!("[{node}]"), 10250),
        Ok(Verdict::Kubelet(node))
    );
    assert_eq!(go("", "metrics.sublet.internal", 443), Ok(Verdict::Figures));
}

/// T28, T29: neither by address nor by name, in whatever spelling, and not by a wide entry of the class either.
#[test]
fn t28_t29_nothing_else_is_reached() {
    let foreign = [
        ("10.96.0.1", 443),
        ("10.244.1.8", 9443),
        ("10.96.4.9", 80),
        ("10.0.0.1", 10250),
        ("169.254.169.254", 80),
        ("[fd00:ec2::254]", 80),
        ("[fd20:ce::254]", 80),
        ("168.63.129.16", 80),
        ("192.0.0.192", 80),
        // What a network may translate to 10.0.0.1, to the metadata service, and to anything.
        ("[64:ff9b::a00:1]", 443),
        ("[64:ff9b::a9fe:a9fe]", 80),
        ("[2002:a00:1::1]", 443),
        ("[64:ff9b:1::5db8:d822]", 443),
        ("127.0.0.1", 8080),
        ("[::1]", 8080),
        ("[::ffff:127.0.0.1]", 8080),
        ("0.0.0.0", 8080),
        ("224.0.0.1", 80),
        ("192.168.1.1", 80),
        ("n1.nodes.sublet.internal", 443),
        ("metrics.sublet.internal", 6443),
        ("[fd53:5542:4c45::1]", 443),
        ("[fd53:5542:4c45:1::1]", 80),
        ("other.default.svc", 443),
        ("hook.default.svc", 80),
    ];
    for allowed in ["", "0.0.0.0/0\n::/0"] {
        for (host, port) in foreign {
            assert_eq!(
                go(allowed, host, port),
                Err(Refusal::Foreign),
                "{host}:{port} with {allowed:?}"
            );
        }
    }
    for (host, port) in [
        ("example.com", 443),
        ("metadata.google.internal", 80),
        ("2130706433", 80),
    ] {
        assert_eq!(go("", host, port), Err(Refusal::Foreign), "{host}");
    }
    for host in [
        "",
        "a b",
        "a..b",
        "user@host",
        "host/path",
        "%31",
        &"a".repeat(254),
    ] {
        assert_eq!(go("", host, 443), Err(Refusal::Malformed), "{host}");
    }
}

#[test]
fn a_class_allows_what_it_names() {
    let wide = "0.0.0.0/0 443";
    assert_eq!(
        go(wide, "93.184.216.34", 443),
        Ok(Verdict::Dial(ip("93.184.216.34")))
    );
    assert_eq!(go(wide, "93.184.216.34", 80), Err(Refusal::Foreign));
    assert_eq!(
        go(wide, "example.com", 443),
        Ok(Verdict::Resolve("example.com".into()))
    );
    assert!(
        go("::/0", "[64:ff9b::5db8:d822]", 443).is_ok(),
        "a public one"
    );
    // What the name led to is judged by itself.
    for rebound in [
        "169.254.169.254",
        "10.96.0.1",
        "::ffff:10.96.0.1",
        "127.0.0.1",
    ] {
        assert_eq!(
            judge(&tenant(wide), ip(rebound), 443, &World),
            Err(Refusal::Foreign),
            "{rebound}"
        );
    }
    assert_eq!(
        go("192.168.7.0/24", "192.168.7.3", 8443),
        Ok(Verdict::Dial(ip("192.168.7.3")))
    );
    assert_eq!(
        go("192.168.7.0/24", "192.168.8.3", 8443),
        Err(Refusal::Foreign)
    );
    // An entry for all of a private network is one for that network; half of the world isn't.
    assert!(go("10.0.0.0/8", "10.1.2.3", 1).is_ok());
    assert!(go("0.0.0.0/1", "10.1.2.3", 1).is_err());
    for wrong in [
        "10.0.0.0",
        "10.0.0.0/33",
        "x/8",
        "10.0.0.0/8 x",
        "10.0.0.0/8 1 2",
        "",
    ] {
        assert_eq!(wrong.parse::<Allowed>(), Err(Refusal::Malformed), "{wrong}");
    }
}

/// T28, T45: the super cluster's networks may be public, and a class may name the private one that they lie in.
#[test]
fn t28_t45_an_opening_opens_neither_the_super_cluster_nor_other_tenants() {
    let mut tenant = tenant("0.0.0.0/0\n::/0\n10.0.0.0/8");
    let may = |tenant: &Tenant, host: &str| judge(tenant, ip(host), 443, &World).is_ok();
    for (host, is_open) in [
        ("10.1.2.3", true),
        ("10.96.4.7", true),
        ("198.51.100.7", true),
        // Pods of others, by either family.
        ("10.244.1.8", false),
        ("2a01:db8::8", false),
    ] {
        assert_eq!(may(&tenant, host), is_open, "{host}");
    }
    let closed = ["10.96.0.0/12", "198.51.100.0/24", "2a01:db8:7::/48"];
    tenant.closed = closed
        .map(|text| tenancy::block::Block::parse(text).unwrap())
        .to_vec();
    for host in [
        "10.96.4.7",
        "198.51.100.7",
        "2a01:db8:7::1",
        "::ffff:198.51.100.7",
        "64:ff9b::c633:6407",
    ] {
        assert!(!may(&tenant, host), "{host}");
    }
    // What is its own stays so.
    for (host, port) in [("10.244.1.7", 9443), ("10.96.4.9", 443), ("10.96.4.1", 443)] {
        assert!(judge(&tenant, ip(host), port, &World).is_ok(), "{host}");
    }
    assert!(may(&tenant, "10.1.2.3"));
}

proptest! {
    #[test]
    fn any_host_leads_to_something_known(host in "\\PC{0,60}", port: u16) {
        match go("", &host, port) {
            Ok(Verdict::Dial(address)) => prop_assert!(
                ["10.244.1.7", "10.96.4.9", "10.96.4.1", "10.96.8.8"].iter().any(|known| address == ip(known))
            ),
            Ok(Verdict::Kubelet(node)) => prop_assert!(!node.contains('.')),
            Ok(Verdict::Figures) => prop_assert!(host.to_ascii_lowercase().starts_with("metrics.sublet.internal")),
            Ok(Verdict::Resolve(_)) => prop_assert!(false, "{host} would be looked up"),
            Err(_) => {}
        }
    }

    #[test]
    fn no_address_but_those_known(bits: u32, port: u16) {
        let address = Ipv4Addr::from_bits(bits).to_string();
        prop_assume!(!["10.244.1.7", "10.96.4.9", "10.96.4.1", "10.96.8.8"].contains(&&*address));
        prop_assert_eq!(go("", &address, port), Err(Refusal::Foreign));
    }
}

/// A tenant whose API server Sublet doesn't run reaches its own, and there is no API server of it to reach.
#[test]
fn without_a_backend_the_way_out_leads_to_what_is_the_tenants() {
    let mut map = route(1, "acme", &PEM_AUTHORITY);
    let data = map.data.as_mut().unwrap();
    data.retain(|key, _| key == tenancy::route::AUTHORITY);
    let tenant = Tenant::read(&map).unwrap();
    let go = |host: &str, port| decide(&tenant, host, port, &World);
    assert_eq!(go("10.244.1.7", 9443), Ok(Verdict::Dial(ip("10.244.1.7"))));
    assert_eq!(
        go("n1.nodes.sublet.internal", 10250),
        Ok(Verdict::Kubelet("n1".into()))
    );
    assert_eq!(go("metrics.sublet.internal", 443), Ok(Verdict::Figures));
    for (host, port) in [
        ("10.96.4.1", 443),
        ("10.96.8.8", 6443),
        ("0.0.0.0", 0),
        ("example.com", 443),
    ] {
        assert_eq!(go(host, port), Err(Refusal::Foreign), "{host}");
    }
}
