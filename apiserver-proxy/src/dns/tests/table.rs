//! Questions and what CoreDNS 1.15 answers them with the same objects and the Corefile that a `dedicated` tenant has.

use super::{cluster, told};
use hickory_proto::rr::RecordType::{self, *};

const NONE: &str = "non-existent domain of @";
const EMPTY: &str = "no error of @";

/// Each with its type and its answer: records, then `;` and what comes with them, then the domain that says so.
const TABLE: &[(&str, RecordType, &str)] = &[
    // Services with a cluster IP.
    ("web.shop.svc.@", A, "web.shop.svc.@ A 10.96.4.20"),
    ("web.shop.svc.@", AAAA, EMPTY),
    ("dual.shop.svc.@", A, "dual.shop.svc.@ A 10.96.4.21"),
    ("dual.shop.svc.@", AAAA, "dual.shop.svc.@ AAAA fd00::21"),
    ("web.shop.svc.@", TXT, EMPTY),
    ("web.shop.svc.@", MX, EMPTY),
    ("web.shop.svc.@", HTTPS, EMPTY),
    ("web.shop.svc.@", ANY, EMPTY),
    ("web.shop.svc.@", CNAME, EMPTY),
    ("web.shop.svc.@", NS, EMPTY),
    ("web.shop.svc.@", PTR, EMPTY),
    ("web.shop.svc.@", SOA, EMPTY),
    ("web.shop.svc.@", AXFR, "query refused"),
    ("nothing.shop.svc.@", A, NONE),
    ("nothing.shop.svc.@", AAAA, NONE),
    ("nothing.shop.svc.@", SRV, NONE),
    ("nothing.shop.svc.@", TXT, NONE),
    ("nothing.shop.svc.@", SOA, EMPTY),
    ("web.nowhere.svc.@", A, NONE),
    ("web.shop.@", A, NONE),
    ("web.@", A, NONE),
    ("web.shop.svc.web.shop.svc.@", A, NONE),
    // Ports.
    (
        "_http._tcp.web.shop.svc.@",
        SRV,
        "_http._tcp.web.shop.svc.@ SRV 0 100 80 web.shop.svc.@; web.shop.svc.@ A 10.96.4.20",
    ),
    (
        "_quic._udp.web.shop.svc.@",
        SRV,
        "_quic._udp.web.shop.svc.@ SRV 0 100 443 web.shop.svc.@; web.shop.svc.@ A 10.96.4.20",
    ),
    (
        "web.shop.svc.@",
        SRV,
        "web.shop.svc.@ SRV 0 33 80 web.shop.svc.@, web.shop.svc.@ SRV 0 33 443 web.shop.svc.@; \
         web.shop.svc.@ A 10.96.4.20",
    ),
    (
        "dual.shop.svc.@",
        SRV,
        "dual.shop.svc.@ SRV 0 50 80 dual.shop.svc.@; dual.shop.svc.@ A 10.96.4.21, dual.shop.svc.@ AAAA fd00::21",
    ),
    ("_http._udp.web.shop.svc.@", SRV, NONE),
    ("_ftp._tcp.web.shop.svc.@", SRV, NONE),
    ("_tcp.web.shop.svc.@", SRV, NONE),
    (
        "_http._tcp.web.shop.svc.@",
        A,
        "_http._tcp.web.shop.svc.@ A 10.96.4.20",
    ),
    // Headless Services and their endpoints.
    (
        "db.shop.svc.@",
        A,
        "db.shop.svc.@ A 10.1.0.5, db.shop.svc.@ A 10.1.0.6",
    ),
    ("db.shop.svc.@", AAAA, EMPTY),
    ("db-0.db.shop.svc.@", A, "db-0.db.shop.svc.@ A 10.1.0.5"),
    ("DB-1.db.shop.svc.@", A, "DB-1.db.shop.svc.@ A 10.1.0.6"),
    ("db-2.db.shop.svc.@", A, NONE),
    ("db-9.db.shop.svc.@", A, NONE),
    ("10-1-0-5.db.shop.svc.@", A, NONE),
    (
        "10-1-0-8.peers.shop.svc.@",
        A,
        "10-1-0-8.peers.shop.svc.@ A 10.1.0.8",
    ),
    (
        "fd00-1--8.peers.shop.svc.@",
        AAAA,
        "fd00-1--8.peers.shop.svc.@ AAAA fd00:1::8",
    ),
    (
        "fd00-2--0.peers.shop.svc.@",
        AAAA,
        "fd00-2--0.peers.shop.svc.@ AAAA fd00:2::",
    ),
    ("peers.shop.svc.@", A, "peers.shop.svc.@ A 10.1.0.8"),
    (
        "_sql._tcp.db.shop.svc.@",
        SRV,
        "_sql._tcp.db.shop.svc.@ SRV 0 50 5432 db-0.db.shop.svc.@, \
         _sql._tcp.db.shop.svc.@ SRV 0 50 5432 db-1.db.shop.svc.@; \
         db-0.db.shop.svc.@ A 10.1.0.5, db-1.db.shop.svc.@ A 10.1.0.6",
    ),
    (
        "db-0.db.shop.svc.@",
        SRV,
        "db-0.db.shop.svc.@ SRV 0 100 5432 db-0.db.shop.svc.@; db-0.db.shop.svc.@ A 10.1.0.5",
    ),
    ("idle.shop.svc.@", A, NONE),
    ("idle.shop.svc.@", SRV, NONE),
    ("portless.shop.svc.@", A, "portless.shop.svc.@ A 10.1.0.9"),
    ("portless.shop.svc.@", SRV, EMPTY),
    // An endpoint of a Service that has a cluster IP has a name too.
    (
        "10-1-0-10.web.shop.svc.@",
        A,
        "10-1-0-10.web.shop.svc.@ A 10.1.0.10",
    ),
    // Names that lead to others.
    (
        "out.shop.svc.@",
        A,
        "out.shop.svc.@ CNAME example.com., then example.com. outside",
    ),
    (
        "out.shop.svc.@",
        AAAA,
        "out.shop.svc.@ CNAME example.com., then example.com. outside",
    ),
    ("out.shop.svc.@", CNAME, "out.shop.svc.@ CNAME example.com."),
    ("out.shop.svc.@", SRV, EMPTY),
    ("out.shop.svc.@", TXT, EMPTY),
    ("a.out.shop.svc.@", A, NONE),
    (
        "in.shop.svc.@",
        A,
        "in.shop.svc.@ CNAME web.shop.svc.@, web.shop.svc.@ A 10.96.4.20",
    ),
    ("in.shop.svc.@", AAAA, EMPTY),
    (
        "chain.shop.svc.@",
        A,
        "chain.shop.svc.@ CNAME in.shop.svc.@, in.shop.svc.@ CNAME web.shop.svc.@, web.shop.svc.@ A 10.96.4.20",
    ),
    ("ping.shop.svc.@", A, EMPTY),
    ("self.shop.svc.@", A, EMPTY),
    ("gone.shop.svc.@", A, EMPTY),
    (
        "above.shop.svc.@",
        A,
        "above.shop.svc.@ CNAME web.shop.svc.super.example.",
    ),
    ("literal.shop.svc.@", A, NONE),
    // What the tenant is shown of others.
    ("partner.shop.svc.@", A, "partner.shop.svc.@ A 10.96.8.9"),
    (
        "_sql._tcp.partner.shop.svc.@",
        SRV,
        "_sql._tcp.partner.shop.svc.@ SRV 0 100 5432 10-96-8-9.partner.shop.svc.@; \
         10-96-8-9.partner.shop.svc.@ A 10.96.8.9",
    ),
    // The API server, under its own name and as the issuer of tokens.
    (
        "kubernetes.default.svc.@",
        A,
        "kubernetes.default.svc.@ A 10.96.4.1",
    ),
    (
        "_https._tcp.kubernetes.default.svc.@",
        SRV,
        "_https._tcp.kubernetes.default.svc.@ SRV 0 100 443 kubernetes.default.svc.@; \
         kubernetes.default.svc.@ A 10.96.4.1",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaa.kubernetes.default.svc.@",
        A,
        "aaaaaaaaaaaaaaaaaaaaaaaaaa.kubernetes.default.svc.@ A 10.96.4.1",
    ),
    (
        "bbbbbbbbbbbbbbbbbbbbbbbbbb.kubernetes.default.svc.@",
        A,
        NONE,
    ),
    // Pods.
    ("10-1-0-5.shop.pod.@", A, "10-1-0-5.shop.pod.@ A 10.1.0.5"),
    ("1-2-3-4.shop.pod.@", A, "1-2-3-4.shop.pod.@ A 1.2.3.4"),
    ("1-2-3-4.shop.pod.@", AAAA, EMPTY),
    (
        "fd00--7.shop.pod.@",
        AAAA,
        "fd00--7.shop.pod.@ AAAA fd00::7",
    ),
    (
        "1-2-3-4.shop.pod.@",
        SRV,
        "1-2-3-4.shop.pod.@ SRV 0 100 0 1-2-3-4.shop.pod.@; 1-2-3-4.shop.pod.@ A 1.2.3.4",
    ),
    ("1-2-3-4.shop.pod.@", TXT, EMPTY),
    ("1-2-3-4.shop.pod.@", PTR, EMPTY),
    ("1-2-3.shop.pod.@", A, NONE),
    ("1-2-3.shop.pod.@", SRV, NONE),
    ("client.shop.pod.@", A, NONE),
    ("1-2-3-4.nowhere.pod.@", A, NONE),
    ("shop.pod.@", A, EMPTY),
    // Branches, namespaces and the domain itself.
    ("@", A, EMPTY),
    ("svc.@", A, EMPTY),
    ("pod.@", A, EMPTY),
    ("shop.svc.@", A, EMPTY),
    ("shop.svc.@", SRV, EMPTY),
    ("shop.svc.@", TXT, NONE),
    ("empty.svc.@", AAAA, EMPTY),
    ("nowhere.svc.@", A, NONE),
    ("dns-version.@", TXT, "dns-version.@ TXT 1.1.0"),
    ("dns-version.@", A, NONE),
    (
        "@",
        NS,
        "@ NS kube-dns.kube-system.svc.@; kube-dns.kube-system.svc.@ A 10.96.0.53",
    ),
    ("ns.dns.@", A, "ns.dns.@ A 10.96.0.53"),
    ("ns.dns.@", AAAA, EMPTY),
    ("ns.dns.@", SRV, EMPTY),
    ("ns.dns.@", CNAME, EMPTY),
    ("ns.dns.@", TXT, NONE),
    ("ns.dns.@", PTR, NONE),
    ("dns.@", A, NONE),
    ("*.shop.svc.@", A, NONE),
    ("*.*.svc.@", SRV, NONE),
    ("web.shop.svc.@", DS, EMPTY),
    (
        "kube-dns.kube-system.svc.@",
        A,
        "kube-dns.kube-system.svc.@ A 10.96.0.53",
    ),
    (
        "_dns._udp.kube-dns.kube-system.svc.@",
        SRV,
        "_dns._udp.kube-dns.kube-system.svc.@ SRV 0 100 53 kube-dns.kube-system.svc.@; \
         kube-dns.kube-system.svc.@ A 10.96.0.53",
    ),
    // Names of addresses.
    (
        "20.4.96.10.in-addr.arpa.",
        PTR,
        "20.4.96.10.in-addr.arpa. PTR web.shop.svc.@",
    ),
    (
        "1.4.96.10.in-addr.arpa.",
        PTR,
        "1.4.96.10.in-addr.arpa. PTR kubernetes.default.svc.@",
    ),
    (
        "53.0.96.10.in-addr.arpa.",
        PTR,
        "53.0.96.10.in-addr.arpa. PTR kube-dns.kube-system.svc.@",
    ),
    (
        "5.0.1.10.in-addr.arpa.",
        PTR,
        "5.0.1.10.in-addr.arpa. PTR db-0.db.shop.svc.@",
    ),
    (
        "8.0.1.10.in-addr.arpa.",
        PTR,
        "8.0.1.10.in-addr.arpa. PTR 10-1-0-8.peers.shop.svc.@",
    ),
    (
        "10.0.1.10.in-addr.arpa.",
        PTR,
        "10.0.1.10.in-addr.arpa. PTR 10-1-0-10.web.shop.svc.@",
    ),
    (
        "1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
        PTR,
        "1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. PTR dual.shop.svc.@",
    ),
    // Of what isn't the tenant's and can only be known inside, nobody is asked.
    (
        "7.0.1.10.in-addr.arpa.",
        PTR,
        "non-existent domain of in-addr.arpa.",
    ),
    (
        "1.0.96.10.in-addr.arpa.",
        PTR,
        "non-existent domain of in-addr.arpa.",
    ),
    (
        "96.10.in-addr.arpa.",
        NS,
        "non-existent domain of in-addr.arpa.",
    ),
    (
        "20.4.96.10.in-addr.arpa.",
        TXT,
        "non-existent domain of in-addr.arpa.",
    ),
    (
        "b._dns-sd._udp.0.4.96.10.in-addr.arpa.",
        PTR,
        "non-existent domain of in-addr.arpa.",
    ),
    (
        "7.113.0.203.in-addr.arpa.",
        PTR,
        "non-existent domain of in-addr.arpa.",
    ),
    // Everything else is outside, but what is the super cluster's.
    ("8.8.8.8.in-addr.arpa.", PTR, "asked outside"),
    ("example.com.", A, "asked outside"),
    ("web.shop.svc.", A, "asked outside"),
    ("web.", A, "asked outside"),
    ("mycluster.local.", A, "asked outside"),
    ("web.shop.svc.super.example.", A, "non-existent domain"),
    ("super.example.", NS, "non-existent domain"),
];

#[test]
fn a_tenant_is_told_what_its_own_coredns_would_tell() {
    let names = cluster();
    assert!(TABLE.len() >= 60);
    let wrong: Vec<String> = TABLE
        .iter()
        .filter_map(|(name, kind, expected)| {
            let got = told(&names, super::A, name, *kind);
            (got != *expected)
                .then(|| format!("{name} {kind}\n  got      {got}\n  expected {expected}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} answers differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_search_list_is_the_clients() {
    // With five dots to reach, a client asks for a short name in each of its domains; the server adds nothing of its own.
    let names = cluster();
    for (asked, answered) in [
        ("web.shop.svc.@", true),
        ("web.svc.@", false),
        ("web.@", false),
        ("web.", false),
    ] {
        let got = told(&names, super::A, asked, RecordType::A);
        assert_eq!(got.contains("10.96.4.20"), answered, "{asked}: {got}");
    }
}
