//! NetworkPolicies: every peer is one of the tenant's own pods, or outside of the cluster.
//!
//! Policies add up, so one that allowed more than the tenant could let others in or reach them. A namespace selector
//! becomes the tenant's namespaces that it matches, an empty one all of them, and a rule without peers what the default
//! of [`isolation`] allows. Address blocks that pods may reach are cut to what the tenant's class opens; those that may
//! reach pods hold no private addresses, which are the pods and Services of everybody.

use super::{Crossing, Down, LABEL_SELECTOR, NO_STATUS, list, list_mut, plain};
use crate::{
    block::Block,
    kind::{
        Cx, Refused, Resource,
        isolation::{self, Scope},
        pod::fields::{Fields, Rule},
    },
    left_out, meta,
    object::Object,
    selector,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// NetworkPolicies.
pub(in crate::kind) const RESOURCE: &Resource = &Resource {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    namespaced: true,
};

/// The kind.
pub(in crate::kind) const POLICY: Down = Down {
    step,
    follows_namespaces: true,
    shortfall,
    ..plain(
        RESOURCE,
        &[
            (
                "egress",
                Rule::List(&[("ports", PORTS), ("to", Rule::List(PEER))]),
            ),
            (
                "ingress",
                Rule::List(&[("from", Rule::List(PEER)), ("ports", PORTS)]),
            ),
            ("podSelector", Rule::Object(LABEL_SELECTOR)),
            ("policyTypes", Rule::Pass),
        ],
        NO_STATUS,
    )
};

const PORTS: Rule = Rule::List(&[
    ("endPort", Rule::Pass),
    ("port", Rule::Pass),
    ("protocol", Rule::Pass),
]);

const PEER: Fields = &[
    (
        "ipBlock",
        Rule::Object(&[("cidr", Rule::Pass), ("except", Rule::Pass)]),
    ),
    ("namespaceSelector", Rule::Object(LABEL_SELECTOR)),
    ("podSelector", Rule::Object(LABEL_SELECTOR)),
];

/// Addresses that mean something inside: pods, Services, nodes, metadata services of clouds.
const INSIDE: [&str; 9] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// How the names of Sublet's own begin, which stand in the same super namespaces.
const OURS: &str = "sublet-";

fn step(spec: &mut Value, object: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    if object.name().starts_with(OURS) {
        return Err(Refused::new(
            "ReservedName",
            format!(
                "NetworkPolicies whose names begin with {OURS} are Sublet's own: choose another name"
            ),
        ));
    }
    // What it rules mustn't depend on how many of its rules are left.
    spec["policyTypes"] = Scope::of(object).types();
    if let Some(ruled) = spec.get_mut("podSelector") {
        selector::carry(ruled);
    }
    for rule in list_mut(spec, "/ingress") {
        rule["from"] = sources(rule, cx)?.into();
    }
    let mut egress = vec![];
    for rule in list(spec, "/egress") {
        egress.extend(destinations(rule, object.namespace(), cx)?);
    }
    if let Some(rules) = spec.get_mut("egress") {
        *rules = egress.into();
    }
    Ok(Crossing::Now)
}

/// Who a rule lets in; never nobody said, which would mean everybody.
fn sources(rule: &Value, cx: &Cx<'_>) -> Result<Vec<Value>, Refused> {
    let mut kept = vec![];
    for peer in list(rule, "/from") {
        match peer.get("ipBlock") {
            Some(block) => kept.extend(outside(block, cx)?),
            None => kept.push(pods(peer, cx)),
        }
    }
    if list(rule, "/from").next().is_none() {
        kept = isolation::from_everybody(cx);
        for everything in ["0.0.0.0/0", "::/0"] {
            kept.extend(outside(&json!({"cidr": everything}), cx)?);
        }
    }
    if kept.is_empty() {
        kept.push(json!({"namespaceSelector": twins(&[], cx)}));
    }
    Ok(kept)
}

/// The rules that a rule for what pods may reach becomes.
///
/// Blocks are cut to what the tenant's class opens. One that holds the address of the tenant's API server means that
/// server, which answers under another address and port than its Service's.
fn destinations(rule: &Value, namespace: &str, cx: &Cx<'_>) -> Result<Vec<Value>, Refused> {
    let ports = rule.get("ports").unwrap_or(&Value::Null);
    if list(rule, "/to").next().is_none() {
        return Ok(isolation::to_everybody(ports, cx));
    }
    let (mut peers, mut open, mut api_server, mut dns) = (vec![], vec![], false, false);
    for peer in list(rule, "/to") {
        let Some(block) = peer.get("ipBlock") else {
            dns |= means_dns(peer, namespace, cx);
            peers.push(pods(peer, cx));
            continue;
        };
        let (asked, except) = parsed(block)?;
        open.extend(cx.rules.reach.within(&asked, &except));
        api_server |= holds_api_server(&asked, &except, cx);
    }
    let mut rules = isolation::to(peers, open, ports);
    if api_server {
        rules.extend(isolation::to_api_server(ports, cx));
    }
    if dns {
        rules.extend(isolation::to_dns(ports, cx));
    }
    Ok(rules)
}

/// Whether a peer would hold the pods of a cluster's DNS, as people write it: `k8s-app: kube-dns` in kube-system. Where the
/// tenant has none of its own, the server that it asks instead is meant.
fn means_dns(peer: &Value, namespace: &str, cx: &Cx<'_>) -> bool {
    const HOME: &str = "kube-system";
    let labels = BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
    let is_home = match peer.get("namespaceSelector") {
        None => namespace == HOME,
        Some(selector) if says_nothing(selector) => true,
        Some(selector) => cx
            .facts
            .namespaces(selector)
            .iter()
            .any(|name| name == HOME),
    };
    let pods = peer.get("podSelector");
    is_home && pods.is_none_or(|pods| selector::matches(pods, &labels))
}

/// Labels that super pods don't have, or else blocks of which nothing is open.
fn shortfall(policy: &Object, cx: &Cx<'_>) -> Option<Refused> {
    unmatched(policy).or_else(|| unopened(policy, cx))
}

/// Labels that it selects pods by and that don't cross. Pods that it rules in the tenant are closed all the same
/// ([`Scope::rules`]).
fn unmatched(policy: &Object) -> Option<Refused> {
    let spec = policy.at("/spec")?;
    let rules = |direction: &'static str, peers: &'static str| {
        list(spec, direction).flat_map(move |rule| list(rule, peers))
    };
    let peers = rules("/ingress", "/from").chain(rules("/egress", "/to"));
    let selectors = peers.chain([spec]).filter_map(|one| one.get("podSelector"));
    left_out::of_selector(
        selectors.flat_map(selector::keys),
        "and what it opens by one stays closed",
    )
}

/// Blocks of which nothing is open.
fn unopened(policy: &Object, cx: &Cx<'_>) -> Option<Refused> {
    let blocks = list(policy.value(), "/spec/egress")
        .flat_map(|rule| list(rule, "/to"))
        .filter_map(|peer| peer.get("ipBlock"));
    let closed: Vec<&str> = blocks
        .filter(|block| {
            parsed(block).is_ok_and(|(asked, except)| {
                cx.rules.reach.within(&asked, &except).is_empty()
                    && !holds_api_server(&asked, &except, cx)
            })
        })
        .filter_map(|block| block["cidr"].as_str())
        .collect();
    (!closed.is_empty()).then(|| {
        let message = format!(
            "the platform opens nothing of {} to this tenant, so the policy doesn't either: ask its admins for \
             podNetwork.egress in your ControlPlaneClass",
            closed.join(", ")
        );
        Refused::new("EgressNotOpen", message)
    })
}

fn holds_api_server(asked: &Block, except: &[Block], cx: &Cx<'_>) -> bool {
    let address = cx.rules.slice.map(|slice| slice.api_address());
    let address = address.and_then(|address| Block::parse(&format!("{address}/32")));
    address.is_some_and(|address| {
        asked.holds(&address) && !except.iter().any(|block| block.holds(&address))
    })
}

/// Pods of the tenant, as a peer.
fn pods(peer: &Value, cx: &Cx<'_>) -> Value {
    let mut peer = peer.clone();
    if let Some(selector) = peer.get("namespaceSelector") {
        peer["namespaceSelector"] = namespaces(selector, cx);
    }
    if let Some(meant) = peer.get_mut("podSelector") {
        selector::carry(meant);
    }
    peer
}

/// The tenant's namespaces that a selector matches, as a selector of super namespaces.
fn namespaces(selector: &Value, cx: &Cx<'_>) -> Value {
    if says_nothing(selector) {
        return isolation::own_namespaces(cx);
    }
    twins(&cx.facts.namespaces(selector), cx)
}

/// Whether a selector selects everything.
fn says_nothing(selector: &Value) -> bool {
    let asks = |field: &str| {
        selector.get(field).is_some_and(|value| {
            value.as_object().is_some_and(|map| !map.is_empty())
                || value.as_array().is_some_and(|list| !list.is_empty())
        })
    };
    !asks("matchLabels") && !asks("matchExpressions")
}

fn twins(namespaces: &[String], cx: &Cx<'_>) -> Value {
    // No tenant namespace has an empty name, so no super namespace is ever called like the twin of one.
    let nobody = [String::new()];
    let namespaces = if namespaces.is_empty() {
        &nobody
    } else {
        namespaces
    };
    let twins = namespaces
        .iter()
        .map(|namespace| meta::super_namespace(namespace, cx));
    isolation::own(twins, cx)
}

/// The part of an address block that is outside of the cluster, as a peer; nothing when there is no such part.
fn outside(block: &Value, cx: &Cx<'_>) -> Result<Option<Value>, Refused> {
    let (asked, except) = parsed(block)?;
    let inside = INSIDE.iter().filter_map(|text| Block::parse(text));
    // Nodes and pods may have public addresses.
    let inside = inside.chain(cx.rules.reach.of_cluster().iter().copied());
    let mut closed: Vec<Block> = except;
    for inside in inside {
        if inside.holds(&asked) {
            return Ok(None);
        }
        if asked.holds(&inside) && !closed.contains(&inside) {
            closed.push(inside);
        }
    }
    let mut peer = json!({"ipBlock": {"cidr": asked.to_string()}});
    if !closed.is_empty() {
        peer["ipBlock"]["except"] = closed.iter().map(Block::to_string).collect();
    }
    Ok(Some(peer))
}

/// A block and what it leaves out.
fn parsed(block: &Value) -> Result<(Block, Vec<Block>), Refused> {
    let parse = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        Block::parse(text).ok_or_else(|| {
            Refused::new(
                "MalformedBlock",
                format!("{text:?} is no address block: write one such as 192.0.2.0/24"),
            )
        })
    };
    let except: Result<Vec<Block>, Refused> = list(block, "/except").map(parse).collect();
    Ok((parse(&block["cidr"])?, except?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        testing::{Answers, object, tenant},
        translate,
    };
    use crate::resolver::Resolver;
    use api::keys;
    use expect_test::{Expect, expect};

    fn down(spec: Value) -> Result<Value, Refused> {
        let policy = object(json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec,
        }));
        let facts = Answers {
            namespaces: vec!["web".into()],
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant(),
            facts: &facts,
        };
        let twin = translate(&POLICY, &policy, &cx)?.unwrap();
        Ok(twin.at("/spec").unwrap().clone())
    }

    fn becomes(spec: Value, expected: &Expect) {
        let spec = down(spec).unwrap();
        expected.assert_eq(&serde_saphyr::to_string(&spec).unwrap());
    }

    /// What a policy of the namespace `default` opens of the shared DNS server.
    fn dns_of(egress: Value) -> Vec<Value> {
        let mut tenant = tenant();
        tenant.resolver = Resolver::Shared(None);
        let facts = Answers {
            namespaces: vec!["kube-system".into()],
            ..Answers::default()
        };
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let policy = object(json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "u"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [egress]},
        }));
        let twin = translate(&POLICY, &policy, &cx).unwrap().unwrap();
        let port = |rule: &&Value| list(rule, "/ports").any(|port| port["port"] == 1053);
        list(twin.value(), "/spec/egress")
            .filter(port)
            .cloned()
            .collect()
    }

    #[test]
    fn a_way_to_the_clusters_dns_is_one_to_the_server_that_stands_for_it() {
        let home = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
        let pods = |value: &str| json!({"matchLabels": {"k8s-app": value}});
        let udp = json!([{"protocol": "UDP", "port": 53}]);
        for (rule, opens) in [
            (
                json!({"to": [{"namespaceSelector": home, "podSelector": pods("kube-dns")}], "ports": udp}),
                true,
            ),
            (
                json!({"to": [{"namespaceSelector": {}, "podSelector": pods("kube-dns")}]}),
                true,
            ),
            (
                json!({"to": [{"namespaceSelector": home}], "ports": udp}),
                true,
            ),
            (json!({"ports": udp}), true),
            (
                json!({"to": [{"namespaceSelector": home, "podSelector": pods("other")}]}),
                false,
            ),
            // Of the policy's own namespace.
            (json!({"to": [{"podSelector": pods("kube-dns")}]}), false),
            (
                json!({"to": [{"namespaceSelector": {}}], "ports": [{"port": 443}]}),
                false,
            ),
            (
                json!({"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}),
                false,
            ),
        ] {
            assert_eq!(dns_of(rule.clone()).len(), usize::from(opens), "{rule}");
        }
    }

    #[test]
    fn nodes_and_pods_with_public_addresses_are_nobody_outside() {
        let mut tenant = tenant();
        let network = api::PodNetwork {
            cluster_ranges: vec!["203.0.113.0/24".into(), "2001:db8::/32".into()],
            ..api::PodNetwork::default()
        };
        tenant.reach = crate::reach::Reach::of(&network, None);
        let cx = Cx {
            rules: &tenant,
            facts: &Answers::default(),
        };
        let block = |cidr: &str| outside(&json!({"cidr": cidr}), &cx).unwrap();
        let except = |cidr: &str| block(cidr).unwrap()["ipBlock"]["except"].to_string();
        assert!(except("0.0.0.0/0").contains("203.0.113.0/24"));
        assert!(except("::/0").contains("2001:db8::/32"));
        assert_eq!(block("203.0.113.7/32"), None);
        assert!(block("198.51.100.0/24").is_some());
    }

    #[test]
    fn selectors_stay_inside_the_tenant() {
        let spec = json!({
            "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 5432, "protocol": "TCP"}], "from": [
                {"podSelector": {"matchLabels": {"app": "web"}}},
                {"namespaceSelector": {}},
                {"namespaceSelector": {"matchLabels": {}}, "podSelector": {"matchLabels": {"app": "web"}}},
                {"namespaceSelector": {"matchLabels": {"team": "web"}}},
            ]}],
        });
        becomes(
            spec,
            &expect![[r#"
                ingress:
                - from:
                  - podSelector:
                      matchLabels:
                        app: web
                  - namespaceSelector:
                      matchExpressions:
                      - key: sublet.dev/role
                        operator: DoesNotExist
                      matchLabels:
                        sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
                  - namespaceSelector:
                      matchExpressions:
                      - key: sublet.dev/role
                        operator: DoesNotExist
                      matchLabels:
                        sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
                    podSelector:
                      matchLabels:
                        app: web
                  - namespaceSelector:
                      matchExpressions:
                      - key: kubernetes.io/metadata.name
                        operator: In
                        values:
                        - acme-web-fzsnety4nbbj4b2y5f7j3lot34
                      matchLabels:
                        sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
                  ports:
                  - port: 5432
                    protocol: TCP
                podSelector:
                  matchLabels:
                    app: db
                policyTypes:
                - Ingress
            "#]],
        );
    }

    /// What admission asks for of all that isn't the platform's.
    #[test]
    fn t45_a_namespace_that_is_named_has_the_tenants_label() {
        let tenant = tenant();
        let select = |selector: Value| {
            let peers = json!([{"namespaceSelector": selector}]);
            let spec =
                json!({"podSelector": {}, "ingress": [{"from": peers}], "egress": [{"to": peers}]});
            let spec = down(spec).unwrap();
            let [from, to] = ["/ingress/0/from/0", "/egress/0/to/0"]
                .map(|at| spec.pointer(at).unwrap()["namespaceSelector"].clone());
            assert_eq!(from, to);
            from
        };
        for selector in [
            json!({}),
            json!({"matchLabels": {"team": "web"}}),
            // What the tenant writes doesn't cross, such as the name of another's namespace.
            json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["victims"]}]}),
        ] {
            let twin = select(selector);
            assert_eq!(
                twin["matchLabels"],
                json!({keys::TENANT: tenant.id.as_str()})
            );
            assert!(!twin.to_string().contains("victims"), "{twin}");
        }
        let cx = Cx {
            rules: &tenant,
            facts: &Answers::default(),
        };
        let nobody = twins(&[], &cx);
        assert_eq!(nobody["matchLabels"][keys::TENANT], tenant.id.as_str());
    }

    #[test]
    fn pods_are_meant_by_the_labels_that_super_pods_have() {
        let (ruled, meant) = (
            "jobset.sigs.k8s.io/jobset-name",
            "linkerd.io/control-plane-component",
        );
        let lacks =
            |key: &str| json!({"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]});
        let is = |key: &str| json!({"matchLabels": {key: "x", "app": "a"}});
        let policy = |ruled: &str, meant: &str| {
            json!({
                "podSelector": lacks(ruled), "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": is(meant)}]}],
                "egress": [{"to": [{"podSelector": lacks(meant)}]}],
            })
        };
        let carried = |key: &str| meta::pod_label(key).unwrap();
        assert_eq!(
            down(policy(ruled, meant)),
            Ok(policy(&carried(ruled), &carried(meant)))
        );
    }

    #[test]
    fn a_rule_without_peers_allows_what_the_default_does() {
        let spec = json!({"podSelector": {}, "ingress": [{}], "egress": [{"to": [], "ports": [{"port": 53}]}]});
        becomes(
            spec,
            &expect![[r#"
                egress:
                - ports:
                  - port: 53
                  to:
                  - namespaceSelector:
                      matchExpressions:
                      - key: sublet.dev/role
                        operator: DoesNotExist
                      matchLabels:
                        sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
                  - ipBlock:
                      cidr: 0.0.0.0/0
                      except:
                      - 0.0.0.0/8
                      - 10.0.0.0/8
                      - 100.64.0.0/10
                      - 127.0.0.0/8
                      - 168.63.129.16/32
                      - 169.254.0.0/16
                      - 172.16.0.0/12
                      - 192.0.0.0/24
                      - 192.168.0.0/16
                      - 224.0.0.0/4
                      - 255.255.255.255/32
                  - ipBlock:
                      cidr: "::/0"
                      except:
                      - "::/128"
                      - "::1/128"
                      - 64:ff9b::/104
                      - 64:ff9b::a00:0/104
                      - 64:ff9b::6440:0/106
                      - 64:ff9b::7f00:0/104
                      - 64:ff9b::a83f:8110/128
                      - 64:ff9b::a9fe:0/112
                      - 64:ff9b::ac10:0/108
                      - 64:ff9b::c000:0/120
                      - 64:ff9b::c0a8:0/112
                      - 64:ff9b::e000:0/100
                      - 64:ff9b::ffff:ffff/128
                      - 64:ff9b:1::/48
                      - 2002::/16
                      - fc00::/7
                      - fe80::/10
                      - fec0::/10
                      - ff00::/8
                ingress:
                - from:
                  - namespaceSelector:
                      matchExpressions:
                      - key: sublet.dev/role
                        operator: DoesNotExist
                      matchLabels:
                        sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
                  - namespaceSelector:
                      matchExpressions:
                      - key: kubernetes.io/metadata.name
                        operator: In
                        values:
                        - sublet-system
                      - key: sublet.dev/tenant
                        operator: DoesNotExist
                    podSelector:
                      matchLabels:
                        app.kubernetes.io/name: sublet-apiserver-proxy
                  - ipBlock:
                      cidr: 0.0.0.0/0
                      except:
                      - 10.0.0.0/8
                      - 100.64.0.0/10
                      - 127.0.0.0/8
                      - 169.254.0.0/16
                      - 172.16.0.0/12
                      - 192.168.0.0/16
                  - ipBlock:
                      cidr: "::/0"
                      except:
                      - "::1/128"
                      - fc00::/7
                      - fe80::/10
                podSelector: {}
                policyTypes:
                - Ingress
                - Egress
            "#]],
        );
    }

    #[test]
    fn a_policy_takes_no_name_of_those_that_isolate() {
        let facts = Answers::default();
        let tenant = tenant();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        for (name, is_reserved) in [
            ("sublet-isolation", true),
            ("sublet-service-web", true),
            ("sublet-shared-db", true),
            ("sublet", false),
            ("my-sublet-policy", false),
        ] {
            let policy = object(json!({
                "metadata": {"name": name, "namespace": "default", "uid": "u"}, "spec": {"podSelector": {}},
            }));
            let refused = translate(&POLICY, &policy, &cx).err();
            let reason = refused.map(|refused| refused.reason);
            assert_eq!(reason, is_reserved.then_some("ReservedName"), "{name}");
        }
    }

    #[test]
    fn a_deny_all_stays_one() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        assert_eq!(down(spec.clone()), Ok(spec));
    }

    #[test]
    fn blocks_hold_no_address_of_the_cluster() {
        let egress = |cidr: &str| {
            let spec =
                json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]});
            down(spec).map(|spec| spec["egress"].clone())
        };
        let peer = |cidr: &str| egress(cidr).map(|egress| egress[0]["to"].clone());
        for inside in [
            "192.168.0.0/16",
            "169.254.169.254/32",
            "fd00::/8",
            "127.0.0.1/32",
        ] {
            assert_eq!(egress(inside).unwrap(), json!([]), "{inside}");
        }
        // The tenant's API server is behind an address in them, and nothing else of them is open.
        for around in ["10.0.0.0/8", "10.96.0.0/12", "10.96.4.1/32"] {
            let egress = egress(around).unwrap();
            assert_eq!(egress.as_array().unwrap().len(), 1, "{around}");
            assert_eq!(
                egress[0]["ports"],
                json!([{"protocol": "TCP", "port": 6443}])
            );
            let pods = &egress[0]["to"][0]["podSelector"]["matchLabels"];
            assert_eq!(pods["app.kubernetes.io/name"], "kube-apiserver");
        }
        assert_eq!(
            peer("192.0.2.0/24").unwrap(),
            json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}])
        );
        assert_eq!(
            peer("192.0.0.0/8").unwrap()[0]["ipBlock"]["except"],
            json!(["192.0.0.0/24", "192.168.0.0/16"])
        );
        assert_eq!(
            peer("::ffff:10.0.0.0/104").unwrap_err().reason,
            "MalformedBlock"
        );
        assert_eq!(peer("nonsense").unwrap_err().reason, "MalformedBlock");
    }
}
