//! Names in the super cluster: readable at the front, unforgeable at the end.
//!
//! A short hash can be collided offline and a separator can be imitated, so a super name ends in 128 bits of SHA-256
//! over length-prefixed parts. The readable part is cut to fit; uniqueness rests on the hash alone.

use crate::tenant::TenantId;
use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use std::net::Ipv6Addr;

/// Longest namespace or label value in Kubernetes.
const LABEL_MAX: usize = 63;
/// Longest name of an object.
const NAME_MAX: usize = 253;
/// Characters of base32 for 128 bits.
const HASH_LEN: usize = 26;
/// Room for the VCP's name, so that the tenant namespace stays readable too.
const PREFIX_MAX: usize = 16;

/// The super namespace of a tenant's namespace.
///
/// `VCP-NAMESPACE-HASH`, at most 63 characters. Distinct (identity, namespace) pairs give distinct names; the VCP's
/// name is only there to be read and must therefore never change for an identity.
pub fn super_namespace(tenant: &TenantId, vcp_name: &str, namespace: &str) -> String {
    readable(vcp_name, namespace, &of_namespace(tenant, namespace))
}

/// Whether this is the super namespace of a tenant's namespace, whatever the VCP's name: the hash alone says so.
pub fn is_super_namespace(name: &str, tenant: &TenantId, namespace: &str) -> bool {
    let front = name.strip_suffix(&of_namespace(tenant, namespace));
    front.is_some_and(|front| front.is_empty() || front.ends_with('-'))
}

fn of_namespace(tenant: &TenantId, namespace: &str) -> String {
    hash(&[
        b"namespace",
        tenant.as_str().as_bytes(),
        namespace.as_bytes(),
    ])
}

/// The super namespace of the control plane's own pods; no synced object ever enters it.
pub fn control_plane_namespace(tenant: &TenantId, vcp_name: &str) -> String {
    let hash = hash(&[b"control-plane", tenant.as_str().as_bytes()]);
    readable(vcp_name, "control-plane", &hash)
}

/// Name of the Secret that carries the tokens of one incarnation of a tenant's pod.
///
/// It depends on the pod's UID, so a new pod under an old name never reads its predecessor's tokens.
pub fn token_secret(tenant: &TenantId, pod_uid: &str) -> String {
    let hash = hash(&[b"token", tenant.as_str().as_bytes(), pod_uid.as_bytes()]);
    format!("{TOKEN_PREFIX}{hash}")
}

/// Prefix of [`token_secret`] names; a tenant's own Secret may not begin with it.
pub const TOKEN_PREFIX: &str = "sublet-token-";

/// Name of the Secret in Sublet's own namespace by which the syncer reaches a tenant.
pub fn tenant_kubeconfig(tenant: &TenantId) -> String {
    format!("tenant-{tenant}")
}

/// Where virtual nodes say that their kubelet listens.
pub const KUBELET_PORT: u16 = 10250;

/// Where tenants' API servers reach the proxy: its way out.
pub const WAY_OUT_PORT: u16 = 8131;

/// Where pods of tenants in shared mode reach DNS, by UDP and TCP: the port of the proxy behind port 53 of its Service.
pub const DNS_PORT: u16 = 1053;

/// Domain of the host names of virtual nodes. No DNS server knows it: tenants' API servers reach nodes by the proxy's
/// way out, which takes such a name for the kubelet that it serves itself.
const NODE_DOMAIN: &str = ".nodes.sublet.internal";

/// Network of the addresses of virtual nodes, and its prefix: a unique local one that nobody routes. Tenants' API servers
/// dial them by the proxy's way out, as they dial host names, which they can't resolve when they proxy requests to nodes.
pub const NODE_NETWORK: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd53, 0x5542, 0x4c45, 0, 0, 0, 0, 0), 48);

/// Address of a virtual node in [`NODE_NETWORK`], 80 bits of a hash of its name.
pub fn node_address(node: &str) -> Ipv6Addr {
    let mut octets = NODE_NETWORK.0.octets();
    octets[6..].copy_from_slice(&digest(&[b"node address", node.as_bytes()])[..10]);
    octets.into()
}

/// Whether an address is in [`NODE_NETWORK`].
pub fn is_node_address(address: Ipv6Addr) -> bool {
    address.octets()[..6] == NODE_NETWORK.0.octets()[..6]
}

/// Host name of a tenant's metrics API, which the proxy serves. No DNS server knows it either.
pub const METRICS_HOST: &str = "metrics.sublet.internal";

/// Port of a tenant's metrics API.
pub const METRICS_PORT: u16 = 443;

/// Domain of the names by which the front door tells tenants apart.
const TENANT_DOMAIN: &str = ".tenants.sublet.internal";

/// Pattern of [`node_host`] names, for certificates.
pub fn node_host_pattern() -> String {
    format!("*{NODE_DOMAIN}")
}

/// Host name of a virtual node: one label under one domain, so that one wildcard certificate covers all.
pub fn node_host(node: &str) -> String {
    if node.contains('.') || node.len() > LABEL_MAX {
        format!("{}{NODE_DOMAIN}", hash(&[b"node", node.as_bytes()]))
    } else {
        format!("{node}{NODE_DOMAIN}")
    }
}

/// The label in a [`node_host`] name.
pub fn node_of_host(host: &str) -> Option<&str> {
    let node = host.strip_suffix(NODE_DOMAIN)?;
    (!node.is_empty() && !node.contains('.')).then_some(node)
}

/// The name by which the front door knows a tenant; its API servers' certificates carry it.
pub fn tenant_host(tenant: &TenantId) -> String {
    format!("{tenant}{TENANT_DOMAIN}")
}

/// The tenant of a [`tenant_host`] name.
pub fn tenant_of_host(host: &str) -> Option<TenantId> {
    TenantId::parse(host.strip_suffix(TENANT_DOMAIN)?).ok()
}

/// 128 bits over length-prefixed parts, in lower-case base32.
pub fn hash(parts: &[&[u8]]) -> String {
    base32(&digest(parts)[..16])
}

/// SHA-256 over length-prefixed parts: no two different lists of parts give the same input.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::default();
    for part in parts {
        add(&mut sha, part);
    }
    sha.finalize().into()
}

/// The first half of a hash as a number.
pub(crate) fn half(hash: [u8; 32]) -> u128 {
    u128::from_be_bytes(hash[..16].try_into().expect("16 of 32 bytes"))
}

fn add(sha: &mut Sha256, part: &[u8]) {
    sha.update((part.len() as u64).to_be_bytes());
    sha.update(part);
}

/// Lower-case base32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Whether a text is a DNS label as Kubernetes has it: the name of a namespace.
pub fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_plain(text)
}

/// Whether a text is a DNS name as Kubernetes has it: the name of whatever goes down.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_plain)
}

fn is_plain(label: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
        && bytes.iter().all(|byte| is_edge(byte) || *byte == b'-')
}

fn readable(vcp_name: &str, namespace: &str, hash: &str) -> String {
    let prefix = cut(vcp_name, PREFIX_MAX);
    let rest = cut(namespace, LABEL_MAX - HASH_LEN - 2 - prefix.len());
    let parts = [prefix.as_str(), rest.as_str(), hash];
    let said = parts.into_iter().filter(|part| !part.is_empty());
    said.collect::<Vec<_>>().join("-")
}

/// The begin of a text, as far as it may stand in a label: what an API server says may be a lie (T42).
fn cut(text: &str, length: usize) -> String {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let plain: String = text.chars().filter(plain).take(length).collect();
    plain.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::from_bits([n; 16])
    }

    #[test]
    fn a_super_namespace_is_told_without_the_name_of_its_control_plane() {
        let name = super_namespace(&tenant(1), "acme", "work");
        assert!(is_super_namespace(&name, &tenant(1), "work"));
        assert!(!is_super_namespace(&name, &tenant(2), "work"));
        assert!(!is_super_namespace(&name, &tenant(1), "other"));
        assert!(!is_super_namespace("work", &tenant(1), "work"));
    }

    /// T1: what is to be had where names are only joined, or end in a few bits, and isn't here.
    #[test]
    fn t1_names_that_are_joined_or_end_in_few_bits_collide_and_ours_do_not() {
        let joined = |vcp: &str, namespace: &str| format!("{vcp}-{namespace}");
        assert_eq!(joined("a-b", "c"), joined("a", "b-c"));
        let own = super_namespace(&tenant(1), "a-b", "c");
        assert_ne!(own, super_namespace(&tenant(2), "a", "b-c"));

        // With 20 bits at their end two of a few thousand names agree in them; in all 128 they don't.
        let mut seen = std::collections::HashMap::new();
        let mut names = (0..20_000).map(|n| super_namespace(&tenant(1), "v", &format!("n{n}")));
        let pair = names.find_map(|name| {
            let few = name[name.len() - 4..].to_owned();
            Some((seen.insert(few, name.clone())?, name))
        });
        let (one, other) = pair.unwrap();
        let hash = |name: &str| name[name.len() - HASH_LEN..].to_owned();
        assert_ne!(hash(&one), hash(&other));
    }

    /// T42: whatever an API server calls a namespace, its twin's name is one, and means the same namespace alone.
    #[test]
    fn t42_a_namespace_that_no_api_server_would_take_becomes_a_label_all_the_same() {
        let lies = [
            "",
            "..",
            "b?x=",
            "a/../kube-system",
            "-",
            "\u{1f980}\u{1f980}\u{1f980}\u{1f980}\u{1f980}",
            "A b",
        ];
        let names = lies.map(|lie| super_namespace(&tenant(1), "acme", lie));
        for (lie, name) in lies.iter().zip(&names) {
            assert!(
                is_label(name) && name.starts_with("acme-"),
                "{lie:?} becomes {name:?}"
            );
        }
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), lies.len());
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        let long = [
            "a".repeat(63),
            "a".repeat(64),
            ["a"; 127].join("."),
            ["a"; 128].join("."),
        ];
        for (text, label, name) in [
            ("a", true, true),
            ("0a-1", true, true),
            (long[0].as_str(), true, true),
            (&long[1], false, true),
            (&long[2], false, true),
            (&long[3], false, false),
            ("a.b", false, true),
            ("", false, false),
            ("..", false, false),
            ("a..b", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("A", false, false),
            ("a/b", false, false),
            ("a?b", false, false),
            ("\u{e4}", false, false),
        ] {
            assert_eq!((is_label(text), is_name(text)), (label, name), "{text:?}");
        }
    }

    #[test]
    fn a_super_namespace_reads_well() {
        let name = super_namespace(&tenant(1), "team-a", "default");
        assert!(name.starts_with("team-a-default-"), "{name}");
        assert_eq!(name.len(), "team-a-default-".len() + HASH_LEN);
    }

    #[test]
    fn host_names_lead_back() {
        assert_ne!(node_address("n1"), node_address("n2"));
        assert!(is_node_address(node_address("n1")));
        assert!(!is_node_address("fd53:5542:4c46::1".parse().unwrap()));
        assert_eq!(node_of_host(&node_host("n1")), Some("n1"));
        let long = node_host("ip-10-0-0-1.example.internal");
        assert!(
            node_of_host(&long).is_some_and(|label| label.len() == HASH_LEN),
            "{long}"
        );
        assert_eq!(tenant_of_host(&tenant_host(&tenant(1))), Some(tenant(1)));
        for other in ["n1", ".nodes.sublet.internal", "a.b.nodes.sublet.internal"] {
            assert_eq!(node_of_host(other), None);
            assert_eq!(tenant_of_host(other), None);
        }
    }

    #[test]
    fn the_control_plane_has_a_namespace_that_no_tenant_namespace_maps_to() {
        let own = control_plane_namespace(&tenant(1), "a");
        assert_ne!(own, super_namespace(&tenant(1), "a", "control-plane"));
    }

    proptest! {
        #[test]
        fn distinct_owners_give_distinct_names(
            a in "[a-z][-a-z0-9]{0,61}[a-z0-9]", b in "[a-z][-a-z0-9]{0,61}[a-z0-9]", m in 0u8..3, n in 0u8..3,
        ) {
            let one = super_namespace(&tenant(m), "vcp", &a);
            let other = super_namespace(&tenant(n), "vcp", &b);
            prop_assert_eq!(one == other, (m, &a) == (n, &b));
        }

        #[test]
        fn names_are_valid_labels(vcp in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?", namespace in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?") {
            for name in [super_namespace(&tenant(3), &vcp, &namespace), control_plane_namespace(&tenant(3), &vcp)] {
                prop_assert!(name.len() <= LABEL_MAX);
                prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
                prop_assert!(name.as_bytes()[0].is_ascii_lowercase());
            }
        }
    }
}
