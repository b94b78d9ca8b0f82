//! NetworkPolicies: every peer is one of the tenant's own pods, or outside of the cluster.
//!
//! Policies add up, so one that allowed more than the tenant could let others in or reach them. A namespace selector
//! becomes the tenant's namespaces that it matches, an empty one all of them, and a rule without peers the tenant and the
//! world outside. An address block never holds private addresses: those are the pods and Services of everybody.

use super::{Crossing, Down, LABEL_SELECTOR, NO_STATUS, list, list_mut, plain};
use crate::{
    kind::{
        Cx, Refused, Resource,
        pod::fields::{Fields, Rule},
    },
    meta,
    object::Object,
};
use api::keys;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The kind.
pub(in crate::kind) const POLICY: Down = Down {
    step,
    follows_namespaces: true,
    ..plain(
        &Resource {
            group: "networking.k8s.io",
            version: "v1",
            kind: "NetworkPolicy",
            plural: "networkpolicies",
            namespaced: true,
        },
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

fn step(spec: &mut Value, _: &Object, cx: &Cx<'_>) -> Result<Crossing, Refused> {
    for (rules, peers) in [("/ingress", "from"), ("/egress", "to")] {
        for rule in list_mut(spec, rules) {
            rule[peers] = confined(list(rule, &format!("/{peers}")), cx)?.into();
        }
    }
    Ok(Crossing::Now)
}

/// The peers that a rule may have; never none, which would mean everybody.
fn confined<'a>(
    peers: impl Iterator<Item = &'a Value>,
    cx: &Cx<'_>,
) -> Result<Vec<Value>, Refused> {
    let mut peers = peers.peekable();
    if peers.peek().is_none() {
        let mut all = vec![json!({"namespaceSelector": namespaces(&json!({}), cx)})];
        for everything in ["0.0.0.0/0", "::/0"] {
            all.extend(outside(&json!({"cidr": everything}))?);
        }
        return Ok(all);
    }
    let mut kept = vec![];
    for peer in peers {
        if let Some(block) = peer.get("ipBlock") {
            kept.extend(outside(block)?);
            continue;
        }
        let mut peer = peer.clone();
        if let Some(selector) = peer.get("namespaceSelector") {
            peer["namespaceSelector"] = namespaces(selector, cx);
        }
        kept.push(peer);
    }
    if kept.is_empty() {
        kept.push(json!({"namespaceSelector": named(&[], cx)}));
    }
    Ok(kept)
}

/// The tenant's namespaces that a selector matches, as a selector of super namespaces.
fn namespaces(selector: &Value, cx: &Cx<'_>) -> Value {
    let asks = |field: &str| {
        selector.get(field).is_some_and(|value| {
            value.as_object().is_some_and(|map| !map.is_empty())
                || value.as_array().is_some_and(|list| !list.is_empty())
        })
    };
    if asks("matchLabels") || asks("matchExpressions") {
        return named(&cx.facts.namespaces(selector), cx);
    }
    json!({"matchLabels": {keys::TENANT: cx.tenant.id.as_str()}})
}

fn named(namespaces: &[String], cx: &Cx<'_>) -> Value {
    // No tenant namespace has an empty name, so no super namespace is ever called like the twin of one.
    let nobody = [String::new()];
    let namespaces = if namespaces.is_empty() {
        &nobody
    } else {
        namespaces
    };
    let names: Vec<String> = namespaces
        .iter()
        .map(|namespace| meta::super_namespace(namespace, cx))
        .collect();
    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}]})
}

/// The part of an address block that is outside of the cluster, as a peer; nothing when there is no such part.
fn outside(block: &Value) -> Result<Option<Value>, Refused> {
    let text = block["cidr"].as_str().unwrap_or_default();
    let asked = Block::parse(text).ok_or_else(|| {
        Refused::new(
            "MalformedBlock",
            format!("{text:?} is no address block: write one such as 192.0.2.0/24"),
        )
    })?;
    let inside = INSIDE
        .iter()
        .filter_map(|text| Some((*text, Block::parse(text)?)));
    let mut except: Vec<Value> = list(block, "/except").cloned().collect();
    for (text, inside) in inside {
        if inside.holds(&asked) {
            return Ok(None);
        }
        let text = Value::from(text);
        if asked.holds(&inside) && !except.contains(&text) {
            except.push(text);
        }
    }
    let mut peer = json!({"ipBlock": {"cidr": text}});
    if !except.is_empty() {
        peer["ipBlock"]["except"] = except.into();
    }
    Ok(Some(peer))
}

/// An address block of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    bits: u128,
    width: u32,
    prefix: u32,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok()?;
        let (bits, width) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            // An address of the other family in disguise would get around the list.
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => return None,
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        (prefix <= width).then_some(Self {
            bits,
            width,
            prefix,
        })
    }

    fn holds(&self, other: &Self) -> bool {
        let spare = self.width - self.prefix;
        let cut = |bits: u128| bits.checked_shr(spare).unwrap_or_default();
        self.width == other.width
            && self.prefix <= other.prefix
            && cut(self.bits) == cut(other.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{
        testing::{Answers, object, tenant},
        translate,
    };
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
            tenant: &tenant(),
            facts: &facts,
        };
        let twin = translate(&POLICY, &policy, &cx)?.unwrap();
        Ok(twin.at("/spec").unwrap().clone())
    }

    fn becomes(spec: Value, expected: &Expect) {
        let spec = down(spec).unwrap();
        expected.assert_eq(&serde_saphyr::to_string(&spec).unwrap());
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
                  matchLabels:
                    sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
              - namespaceSelector:
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

    #[test]
    fn a_rule_without_peers_allows_the_tenant_and_the_world_outside() {
        let spec = json!({"podSelector": {}, "ingress": [{}], "egress": [{"to": [], "ports": [{"port": 53}]}]});
        becomes(
            spec,
            &expect![[r#"
            egress:
            - ports:
              - port: 53
              to:
              - namespaceSelector:
                  matchLabels:
                    sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
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
            ingress:
            - from:
              - namespaceSelector:
                  matchLabels:
                    sublet.dev/tenant: aeaqcaibaeaqcaibaeaqcaibae
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
        "#]],
        );
    }

    #[test]
    fn a_deny_all_stays_one() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        assert_eq!(down(spec.clone()), Ok(spec));
    }

    #[test]
    fn blocks_hold_no_address_of_the_cluster() {
        let peer = |cidr: &str| {
            let spec =
                json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]});
            down(spec).map(|spec| spec["egress"][0]["to"].clone())
        };
        let nobody = peer("10.96.0.0/12").unwrap();
        assert_eq!(nobody.as_array().unwrap().len(), 1, "none would be all");
        assert!(nobody[0].get("namespaceSelector").is_some());
        for inside in [
            "10.0.0.0/8",
            "169.254.169.254/32",
            "fd00::/8",
            "127.0.0.1/32",
        ] {
            assert_eq!(peer(inside).unwrap(), nobody, "{inside}");
        }
        assert_eq!(
            peer("192.0.2.0/24").unwrap(),
            json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}])
        );
        assert_eq!(
            peer("192.0.0.0/8").unwrap()[0]["ipBlock"]["except"],
            json!(["192.168.0.0/16"])
        );
        assert_eq!(
            peer("::ffff:10.0.0.0/104").unwrap_err().reason,
            "MalformedBlock"
        );
        assert_eq!(peer("nonsense").unwrap_err().reason, "MalformedBlock");
    }
}
