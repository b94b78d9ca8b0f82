//! DNS: a pod asks its tenant's server, and no name of the super cluster is in its search path (T44).
//!
//! `ClusterFirst` means the kubelet's server and domain, which are the super cluster's; so it becomes `None` with all
//! that the kubelet would have derived, from the tenant's point of view. The node's own search domains aren't added.

use super::fields::{Fields, Rule, is_true, items, text};
use crate::{
    kind::{Cx, Refused},
    left_out,
    object::Object,
    resolver::Resolver,
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Limits of the API (`MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars`); the kubelet cuts to them when
/// it merges, the API server refuses what exceeds them.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

/// PodDNSConfig.
pub(super) const DNS_CONFIG: Fields = &[
    ("nameservers", Rule::Translated(&Rule::Pass)),
    (
        "options",
        Rule::List(&[("name", Rule::Pass), ("value", Rule::Pass)]),
    ),
    ("searches", Rule::Translated(&Rule::Pass)),
];

/// Sets the DNS policy and configuration.
///
/// A tenant without a Service range has no DNS address that pods can reach, so its pods get the node's resolver. The shared
/// server knows pods by their addresses, so a pod that has none of its own can't ask it.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) -> Result<(), Refused> {
    let on_the_node = is_true(spec, "hostNetwork");
    let of_the_cluster = match text(spec, "dnsPolicy") {
        "" | "ClusterFirst" => !on_the_node,
        "ClusterFirstWithHostNet" => true,
        _ => return Ok(()),
    };
    let own = cx.rules.slice.map(|slice| IpAddr::V4(slice.dns_address()));
    let server = match cx.rules.resolver {
        _ if !of_the_cluster => None,
        Resolver::Own => own,
        Resolver::Shared(_) if on_the_node => {
            return Err(Refused::new(
                "NoAddressOfItsOwn",
                "this tenant's DNS server knows pods by their addresses, and a pod on its node's network has none: write \
                 dnsPolicy Default, or None with nameservers, or leave hostNetwork out",
            ));
        }
        Resolver::Shared(None) => {
            return Err(Refused::new(
                "DNSNotReady",
                "the address of the DNS server isn't known yet: the pod is made once it is; if it doesn't come, the \
                 platform's admins find the reason in the condition DNSReady",
            ));
        }
        Resolver::Shared(server) => server,
    };
    let Some(server) = server else {
        spec["dnsPolicy"] = "Default".into();
        return Ok(());
    };
    let domain = &cx.rules.cluster_domain;
    let own = spec.get("dnsConfig").cloned().unwrap_or_default();
    let mut searches = merged(
        [
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.clone(),
        ],
        &own,
        "searches",
    );
    searches.truncate(SEARCHES_MAX);
    while searches
        .iter()
        .map(|search| search.len() + 1)
        .sum::<usize>()
        > SEARCH_CHARACTERS_MAX + 1
    {
        searches.pop();
    }
    let mut nameservers = merged([server.to_string()], &own, "nameservers");
    nameservers.truncate(NAMESERVERS_MAX);
    let mut options: Vec<Value> = items(&own, "options").cloned().collect();
    if !options.iter().any(|option| text(option, "name") == "ndots") {
        options.insert(0, json!({"name": "ndots", "value": "5"}));
    }
    spec["dnsPolicy"] = "None".into();
    spec["dnsConfig"] =
        json!({"nameservers": nameservers, "searches": searches, "options": options});
    Ok(())
}

/// What of the pod's own DNS settings is beyond what Kubernetes takes beside the cluster's.
pub(super) fn left_out(spec: &Value, pod: &Object, cx: &Cx<'_>) -> Option<String> {
    let own = spec.get("dnsConfig")?;
    let mut whole = spec.clone();
    step(&mut whole, pod, cx).ok()?;
    let is_cut = |field: &&str| {
        let kept: Vec<&Value> = items(&whole["dnsConfig"], field).collect();
        items(own, field).any(|entry| !kept.contains(&entry))
    };
    let cut = ["nameservers", "searches"].into_iter().filter(is_cut);
    left_out::named("the last of dnsConfig's", cut)
}

/// What the cluster gives, then the pod's own, without duplicates.
fn merged<const N: usize>(first: [String; N], own: &Value, field: &str) -> Vec<String> {
    let mut all = Vec::from(first);
    for entry in items(own, field).filter_map(Value::as_str) {
        if !all.iter().any(|known| known == entry) {
            all.push(entry.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::kind::pod::tests::{down_as, field, pod, yaml};
    use crate::resolver::Resolver;
    use api::PodSecurity;
    use expect_test::expect;

    #[test]
    fn the_pods_own_settings_come_after_the_clusters() {
        let spec = "
          dnsPolicy: ClusterFirst
          dnsConfig:
            nameservers: [1.1.1.1, 10.96.4.10, 1.1.1.1, 2.2.2.2, 3.3.3.3]
            searches: [example.com, cluster.local]
            options: [{name: edns0}, {name: ndots, value: '2'}]";
        expect![[r#"
            nameservers:
            - "10.96.4.10"
            - "1.1.1.1"
            - "2.2.2.2"
            options:
            - name: edns0
            - name: ndots
              value: "2"
            searches:
            - shop.svc.cluster.local
            - svc.cluster.local
            - cluster.local
            - example.com
        "#]]
        .assert_eq(&field(spec, "/dnsConfig"));
        assert_eq!(
            field(spec, "/dnsPolicy"),
            field("{dnsPolicy: ClusterFirstWithHostNet}", "/dnsPolicy")
        );
    }

    #[test]
    fn other_policies_stay() {
        assert_eq!(field("{dnsPolicy: Default}", "/dnsPolicy"), "Default\n");
        let own = "{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1]}}";
        assert_eq!(field(own, "/dnsConfig"), "nameservers:\n- \"1.1.1.1\"\n");
    }

    #[test]
    fn the_node_resolves_for_pods_on_its_network_and_without_a_service_range() {
        let on_host = down_as(
            &pod("{hostNetwork: true, dnsPolicy: ClusterFirst}"),
            |tenant, _| {
                tenant.pod_security = PodSecurity::Privileged;
            },
        );
        assert_eq!(on_host.unwrap().text("/spec/dnsPolicy"), Some("Default"));
        let without = down_as(&pod("{dnsPolicy: ClusterFirst}"), |tenant, _| {
            tenant.slice = None;
        })
        .unwrap();
        assert_eq!(
            (
                without.text("/spec/dnsPolicy"),
                without.at("/spec/dnsConfig")
            ),
            (Some("Default"), None)
        );
    }

    #[test]
    fn without_a_server_of_its_own_a_tenants_pods_ask_the_shared_one() {
        let shared = |spec: &str, address: Option<&str>| {
            down_as(&pod(spec), |tenant, _| {
                tenant.resolver = Resolver::of(api::Dns::Shared, address);
                tenant.pod_security = PodSecurity::Privileged;
            })
        };
        let down = shared("{dnsPolicy: ClusterFirst}", Some("10.96.0.53")).unwrap();
        expect![[r#"
            nameservers:
            - "10.96.0.53"
            options:
            - name: ndots
              value: "5"
            searches:
            - shop.svc.cluster.local
            - svc.cluster.local
            - cluster.local
        "#]]
        .assert_eq(&yaml(&down.at("/spec/dnsConfig").unwrap().clone()));
        let reason = |spec, address| shared(spec, address).unwrap_err().reason;
        assert_eq!(reason("{}", None), "DNSNotReady");
        let on_host = "{hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}";
        assert_eq!(reason(on_host, Some("10.96.0.53")), "NoAddressOfItsOwn");
        for other in ["{hostNetwork: true}", "{dnsPolicy: Default}"] {
            assert_eq!(
                shared(other, None).unwrap().text("/spec/dnsPolicy"),
                Some("Default")
            );
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let many: Vec<String> = (0..40)
            .map(|n| format!("d{n}.{}", "x".repeat(60)))
            .collect();
        let down = down_as(
            &pod(&format!("dnsConfig: {{searches: [{}]}}", many.join(", "))),
            |_, _| (),
        )
        .unwrap();
        let searches = down
            .at("/spec/dnsConfig/searches")
            .unwrap()
            .as_array()
            .unwrap();
        let line: Vec<&str> = searches
            .iter()
            .filter_map(|search| search.as_str())
            .collect();
        assert!(
            line.len() <= 32 && line.join(" ").len() <= 2048,
            "{}",
            yaml(&searches.clone().into())
        );
        assert_eq!(line[..2], ["shop.svc.cluster.local", "svc.cluster.local"]);
    }
}
