use super::super::model;
use super::*;
use serde_json::json;

/// Namespaces `a` and `b` with pods `web` (named port), `db` in `a` and `web` in `b`.
fn state(policies: Value) -> State {
    let mut state = State::default();
    for namespace in ["a", "b"] {
        let labels = [("team".to_owned(), namespace.to_owned())];
        state
            .namespaces
            .insert(format!("/{namespace}"), labels.into());
    }
    for (namespace, name, address, port) in [
        ("a", "web", "10.0.0.1", 8080),
        ("a", "db", "10.0.0.2", 5432),
        ("b", "web", "10.0.0.3", 9090),
    ] {
        let pod = json!({
            "metadata": {"namespace": namespace, "labels": {"app": name}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"podIP": address},
        });
        let key = format!("{namespace}/{name}");
        state.pods.insert(key, model::pod(&pod).unwrap());
    }
    for (number, policy) in items(&policies).enumerate() {
        let policy = json!({"metadata": {"namespace": "a"}, "spec": policy});
        let key = format!("a/{number}");
        state.policies.insert(key, model::policy(&policy).unwrap());
    }
    state
}

fn ingress(policies: Value) -> Vec<String> {
    shown(Direction::Ingress, policies)
}

fn egress(policies: Value) -> Vec<String> {
    shown(Direction::Egress, policies)
}

fn shown(direction: Direction, policies: Value) -> Vec<String> {
    chain(direction, &state(policies))
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn without_policies_nothing_is_filtered() {
    assert!(ingress(json!([])).is_empty());
    let text = rules("t", &state(json!([])));
    assert!(
        text.starts_with("add table ip t\ndelete table ip t\n"),
        "{text}"
    );
    assert!(!text.contains("drop"), "{text}");
}

#[test]
fn a_deny_all_drops_what_comes_to_its_namespace() {
    let policy = json!([{"podSelector": {}, "policyTypes": ["Ingress"]}]);
    let expected = ["ip daddr != { 10.0.0.1, 10.0.0.2 } return", "counter drop"];
    assert_eq!(ingress(policy.clone()), expected);
    assert!(egress(policy).is_empty());
}

#[test]
fn peers_are_pods_of_the_namespace_of_others_and_blocks() {
    let policy = json!([{
        "podSelector": {"matchLabels": {"app": "db"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]},
            {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}}]},
        ],
    }]);
    let expected = [
        "ip daddr != { 10.0.0.2 } return",
        "ip daddr { 10.0.0.2 } ip saddr 192.0.2.0/24 ip saddr != { 192.0.2.1/32 } return",
        "ip daddr { 10.0.0.2 } ip saddr { 10.0.0.1 } tcp dport 5432 return",
        "ip daddr { 10.0.0.2 } ip saddr { 10.0.0.3 } return",
        "counter drop",
    ];
    assert_eq!(ingress(policy), expected);
}

#[test]
fn an_ipv6_block_is_nobody_here_whatever_it_leaves_out() {
    let block = json!({"cidr": "::/0", "except": ["fe80::/10"]});
    let policy = json!([{
        "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}]}],
    }]);
    assert_eq!(
        egress(policy),
        [
            "ip saddr != { 10.0.0.2 } return",
            "ip saddr { 10.0.0.2 } ip daddr 255.255.255.255 return",
            "counter drop",
        ]
    );
}

#[test]
fn ports_are_numbers_ranges_and_the_receivers_names() {
    let ports = json!([{"port": "http"}, {"protocol": "UDP", "port": 53}, {"port": 80, "endPort": 90}, {"protocol": "SCTP"}]);
    let policy = |direction: &str, rules: &str| {
        json!([{
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": [direction], rules: [{"ports": ports}],
        }])
    };
    assert_eq!(
        ingress(policy("Ingress", "ingress")),
        [
            "ip daddr != { 10.0.0.1 } return",
            "ip daddr { 10.0.0.1 } meta l4proto sctp return",
            "ip daddr { 10.0.0.1 } tcp dport 80-90 return",
            "ip daddr { 10.0.0.1 } tcp dport 8080 return",
            "ip daddr { 10.0.0.1 } udp dport 53 return",
            "counter drop",
        ]
    );
    let named = json!([{"port": "http"}]);
    for rule in [
        json!({"to": [{"namespaceSelector": {}}], "ports": named}),
        json!({"ports": named}),
    ] {
        let to_all = json!([{
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [rule],
        }]);
        assert_eq!(
            egress(to_all),
            [
                "ip saddr != { 10.0.0.1 } return",
                "ip saddr { 10.0.0.1 } ip daddr { 10.0.0.1 } tcp dport 8080 return",
                "ip saddr { 10.0.0.1 } ip daddr { 10.0.0.2 } tcp dport 5432 return",
                "ip saddr { 10.0.0.1 } ip daddr { 10.0.0.3 } tcp dport 9090 return",
                "counter drop",
            ]
        );
    }
}

#[test]
fn policies_add_up_and_a_peer_that_is_nobody_lets_nobody_in() {
    let policies = json!([
        {"podSelector": {}, "policyTypes": ["Ingress"]},
        {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{}]},
        {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "c"}}}]},
        ]},
    ]);
    let expected = [
        "ip daddr != { 10.0.0.1, 10.0.0.2 } return",
        "ip daddr { 10.0.0.1 } return",
        "counter drop",
    ];
    assert_eq!(ingress(policies), expected);
}

#[test]
fn pods_of_the_node_and_pods_that_have_ended_have_no_address_of_their_own() {
    let pod = |field: &str, value: Value| {
        let mut pod = json!({
            "metadata": {"namespace": "a"}, "spec": {}, "status": {"podIP": "10.0.0.1"},
        });
        *pod.pointer_mut(field).unwrap() = value;
        model::pod(&pod)
    };
    assert!(pod("/metadata", json!({"namespace": "a"})).is_some());
    assert!(pod("/spec", json!({"hostNetwork": true})).is_none());
    let ended = json!({"podIP": "10.0.0.1", "phase": "Succeeded"});
    assert!(pod("/status", ended).is_none());
}
