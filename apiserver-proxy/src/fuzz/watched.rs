//! Objects of the super cluster as tenants may have made them, and where tenants' API servers want to go.

use super::{Random, dns};
use crate::{
    destination::{self, Places, Verdict},
    dns_load,
    index::{SuperPod, Tenant},
    list,
};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};
use tenancy::{naming, route};

/// Names of fields that are read of objects.
const FIELDS: [&str; 24] = [
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "sublet.dev/tenant",
    "sublet.dev/namespace",
    "sublet.dev/name",
    "sublet.dev/external-name",
    "sublet.dev/shown-address",
    "kubernetes.io/service-name",
    "spec",
    "status",
    "clusterIPs",
    "ports",
    "port",
    "protocol",
    "endpoints",
    "addresses",
    "hostname",
    "conditions",
    "ready",
    "podIPs",
    "items",
];

/// T44: whatever tenants' objects say, a tenant is told of its own, and what is gone is forgotten.
pub(super) fn names(random: &mut Random) {
    let mut objects = dns::objects();
    for (_, object) in &mut objects {
        if random.below(2) == 0 {
            let kind = object["kind"].clone();
            random.bend_json(object, &FIELDS);
            if let Some(object) = object.as_object_mut() {
                object.insert("kind".into(), kind);
            }
        }
    }
    // News come in any order, and more than once.
    for at in 0..objects.len() {
        let other = random.below(objects.len());
        objects.swap(at, other);
    }
    dns::judge_objects(&objects);
}

/// T40: one object that can't be read costs no other, and none is counted twice.
pub(super) fn pages(random: &mut Random) {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "acme-shop", "labels": {"sublet.dev/tenant": "a"}},
        "spec": {"nodeName": "n", "hostNetwork": false},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    let mut list = json!({
        "metadata": {"resourceVersion": "7", "continue": "x"}, "items": [pod, pod, pod],
    });
    random.bend_json(&mut list, &FIELDS);
    let mut bytes = list.to_string().into_bytes();
    if random.below(4) == 0 {
        random.bend(&mut bytes, b"{}[]\",:\\0e- u\xff");
    }
    let Ok((page, _)) = list::parse::<SuperPod>(&bytes) else {
        return;
    };
    if let Ok(list) = serde_json::from_slice::<Value>(&bytes) {
        let all = list["items"].as_array().map_or(0, Vec::len);
        assert_eq!(page.items.len() + page.unread.len(), all, "{list}");
    }
}

/// A tenant whose class lets its API server go to all addresses, as far as a class can.
static TENANT: LazyLock<Option<Tenant>> = LazyLock::new(|| {
    let authority = dns_load::authority().ok()?;
    let map = json!({
        "metadata": {
            "labels": {"sublet.dev/tenant": "aaaaaaaaaaaaaaaaaaaaaaaaaa"},
            "annotations": {"sublet.dev/control-plane": "tenants/acme"},
        },
        "data": {route::AUTHORITY: authority, route::BACKEND: "10.96.0.51:6443", route::API_ADDRESS: "10.96.4.1",
            route::ALLOWED: "0.0.0.0/0\n::/0"},
    });
    Tenant::read(&serde_json::from_value(map).ok()?).ok()
});

/// No pod and no Service.
struct Nowhere;

impl Places for Nowhere {
    fn is_pod(&self, _: &Tenant, _: IpAddr) -> bool {
        false
    }

    fn is_service(&self, _: &Tenant, _: IpAddr, _: u16) -> bool {
        false
    }

    fn is_anothers(&self, _: &Tenant, _: IpAddr) -> bool {
        false
    }

    fn service_address(&self, _: &Tenant, _: &str, _: &str) -> Option<IpAddr> {
        // What the super cluster says may be wrong as well.
        Some(Ipv4Addr::new(169, 254, 169, 254).into())
    }
}

/// T28, T29: whatever is asked for, what is dialled at once is public or the tenant's own.
pub(super) fn destinations(random: &mut Random) {
    const WORDS: [&str; 34] = [
        "10.96.4.1",
        "10.96.0.51",
        "10.96.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "192.0.2.7",
        "8.8.8.8",
        "::1",
        "::",
        "::ffff:",
        "64:ff9b::",
        "2002:",
        "fd00::1",
        "fe80::1",
        "fd53:5542:4c45::1",
        "[",
        "]",
        ".",
        ":",
        "%25",
        "%",
        "0x7f",
        "1",
        "kubernetes",
        ".default",
        ".svc",
        ".cluster.local",
        ".nodes.sublet.internal",
        "metrics.sublet.internal",
        "example.com",
        "a",
        "7f00:1",
        "a9fe:a9fe",
    ];
    let Some(tenant) = TENANT.as_ref() else {
        return;
    };
    let host = match random.below(3) {
        0 => IpAddr::from((random.number() as u32).to_be_bytes()).to_string(),
        1 => {
            let high = random.pick(&[
                0_u64,
                0xffff,
                0x0064_ff9b_0000_0000,
                0x2002_7f00_0001_0000,
                0xfd00 << 48,
            ]);
            let bits = u128::from(high) << 64 | u128::from(random.number());
            IpAddr::from(bits.to_be_bytes()).to_string()
        }
        _ => random.text(&WORDS),
    };
    let port = random.pick(&[0, 53, 80, 443, 6443, 8131, 10250]);
    match destination::decide(tenant, &host, port, &Nowhere) {
        Ok(Verdict::Dial(address)) => {
            let own = [("10.96.4.1", 443), ("10.96.0.51", 6443)];
            let is_own = own
                .iter()
                .any(|(own, at)| own.parse() == Ok(address) && *at == port);
            assert!(is_own || is_public(address), "{host}: {address}");
            assert_ne!(port, 0);
        }
        Ok(Verdict::Kubelet(_)) => assert_eq!(port, naming::KUBELET_PORT),
        Ok(Verdict::Figures) => assert_eq!(port, naming::METRICS_PORT),
        Ok(Verdict::Resolve(name)) => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            assert!(name.chars().all(is_plain), "{name}");
        }
        Err(_) => {}
    }
}

/// Judged in other words than the program's.
fn is_public(address: IpAddr) -> bool {
    let v4 = |v4: Ipv4Addr| {
        let [a, b, ..] = v4.octets();
        !(v4.is_private()
            || v4.is_loopback()
            || v4.is_link_local()
            || v4.is_multicast()
            || v4.is_broadcast())
            && a != 0
            && !(a == 100 && (64..128).contains(&b))
    };
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => {
            let [first, second, third, _, _, sixth, high, low] = address.segments();
            let inner = |high: u16, low: u16| {
                v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
            };
            address.to_ipv4_mapped().is_none()
                && !address.is_loopback()
                && !address.is_unspecified()
                && !matches!(first, 0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xff00..)
                && (first != 0x2002 || inner(second, third))
                && (first != 0x64
                    || second != 0xff9b
                    || third != 0
                    || sixth != 0
                    || inner(high, low))
        }
    }
}
