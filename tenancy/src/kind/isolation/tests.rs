use super::*;
use crate::kind::testing::{Answers, object as parsed, tenant};
use crate::{reach::Reach, resolver::Resolver};
use api::{Egress, PodNetwork};
use expect_test::expect;

fn with<R>(network: &PodNetwork, body: impl FnOnce(&Cx<'_>) -> R) -> R {
    let mut tenant = tenant();
    tenant.reach = Reach::of(network, None);
    body(&Cx {
        rules: &tenant,
        facts: &Answers::default(),
    })
}

fn shown(policies: &[Object]) -> String {
    let tenant = tenant();
    let control_plane = naming::control_plane_namespace(&tenant.id, &tenant.vcp_name);
    let specs: Vec<String> = policies
        .iter()
        .map(|policy| {
            let spec = serde_saphyr::to_string(policy.at("/spec").unwrap()).unwrap();
            format!("--- {}\n{spec}", policy.name())
        })
        .collect();
    specs
        .concat()
        .replace(tenant.id.as_str(), "TENANT")
        .replace(&control_plane, "CONTROL-PLANE")
}

#[test]
fn by_default_a_tenant_meets_itself_its_api_server_and_nobody_else() {
    let policies = with(&PodNetwork::default(), |cx| of_namespace("web", "twin", cx));
    expect![[r#"
        --- sublet-isolation
        podSelector: {}
        policyTypes:
        - Egress
        - Ingress
        --- sublet-ingress
        ingress:
        - from:
          - namespaceSelector:
              matchExpressions:
              - key: sublet.dev/role
                operator: DoesNotExist
              matchLabels:
                sublet.dev/tenant: TENANT
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
        podSelector:
          matchLabels:
            sublet.dev/ingress: default
        policyTypes:
        - Ingress
        --- sublet-egress
        egress:
        - to:
          - namespaceSelector:
              matchExpressions:
              - key: sublet.dev/role
                operator: DoesNotExist
              matchLabels:
                sublet.dev/tenant: TENANT
        - ports:
          - port: 6443
            protocol: TCP
          to:
          - namespaceSelector:
              matchExpressions:
              - key: kubernetes.io/metadata.name
                operator: In
                values:
                - CONTROL-PLANE
              matchLabels:
                sublet.dev/tenant: TENANT
            podSelector:
              matchLabels:
                app.kubernetes.io/name: kube-apiserver
        podSelector:
          matchLabels:
            sublet.dev/egress: default
        policyTypes:
        - Egress
    "#]]
    .assert_eq(&shown(&policies));
}

#[test]
fn t44_pods_without_a_dns_server_of_their_own_reach_the_shared_one() {
    let mut tenant = tenant();
    tenant.resolver = Resolver::Shared(None);
    let facts = Answers::default();
    let cx = Cx {
        rules: &tenant,
        facts: &facts,
    };
    let policies = of_namespace("kube-system", "twin", &cx);
    // No pod of the tenant may ask the super cluster's server.
    assert!(policies.iter().all(|policy| policy.name() != DNS));
    let egress = policies
        .iter()
        .find(|policy| policy.name() == EGRESS)
        .unwrap();
    let rules = egress.at("/spec/egress").and_then(Value::as_array).unwrap();
    let rule = to_dns(&Value::Null, &cx).unwrap();
    assert!(rules.contains(&rule));
    assert_eq!(
        rule,
        json!({
            "to": [{
                "namespaceSelector": platforms(["sublet-system"]),
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "sublet-apiserver-proxy"}},
            }],
            "ports": [{"protocol": "UDP", "port": 1053}, {"protocol": "TCP", "port": 1053}],
        })
    );
    // A policy that lets pods go to a web server doesn't let them ask for names.
    assert_eq!(to_dns(&json!([{"port": 443}]), &cx), None);
    let udp = to_dns(&json!([{"port": 53, "protocol": "UDP"}]), &cx).unwrap();
    assert_eq!(udp["ports"], json!([{"protocol": "UDP", "port": 1053}]));
    let own = Cx {
        rules: &super::super::testing::tenant(),
        ..cx
    };
    assert_eq!(to_dns(&Value::Null, &own), None);
}

#[test]
fn only_the_tenants_dns_server_asks_outside() {
    let system = with(&PodNetwork::default(), |cx| {
        of_namespace("kube-system", "twin", cx)
    });
    expect![[r#"
        --- sublet-dns
        egress:
        - ports:
          - port: 53
            protocol: UDP
          - port: 53
            protocol: TCP
          to:
          - namespaceSelector:
              matchExpressions:
              - key: kubernetes.io/metadata.name
                operator: In
                values:
                - kube-system
              - key: sublet.dev/tenant
                operator: DoesNotExist
            podSelector:
              matchLabels:
                k8s-app: kube-dns
        podSelector:
          matchLabels:
            k8s-app: kube-dns
        policyTypes:
        - Egress
    "#]]
    .assert_eq(&shown(&system[3..]));
}

#[test]
fn a_class_opens_what_it_names() {
    let network = PodNetwork {
        ingress_namespaces: vec!["ingress-nginx".into()],
        egress_namespaces: vec!["monitoring".into()],
        egress: vec![
            Egress {
                cidr: "203.0.113.0/24".into(),
                port: Some(443),
            },
            Egress {
                cidr: "192.0.2.0/24".into(),
                port: None,
            },
        ],
        ..PodNetwork::default()
    };
    let policies = with(&network, |cx| of_namespace("web", "twin", cx));
    let text = shown(&policies);
    assert!(
        text.contains("- ingress-nginx") && text.contains("- monitoring"),
        "{text}"
    );
    let rules = policies[2].at("/spec/egress").unwrap();
    // No tenant's namespace is one of the platform's, though a class names it.
    assert_eq!(
        rules[0]["to"][1],
        json!({"namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["monitoring"]},
            {"key": keys::TENANT, "operator": "DoesNotExist"},
        ]}})
    );
    assert_eq!(
        rules[0]["to"][2],
        json!({"ipBlock": {"cidr": "192.0.2.0/24"}})
    );
    assert_eq!(
        rules[1],
        json!({
            "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 443}],
        })
    );
}

#[test]
fn pods_and_nodes_reach_each_other_in_privileged_tenants_of_a_class_that_says_where_nodes_are() {
    let nodes = json!({"ipBlock": {"cidr": "10.0.0.0/24"}});
    let network = PodNetwork {
        node_ranges: vec!["10.0.0.0/24".into()],
        ..PodNetwork::default()
    };
    let opened = |level| {
        let mut tenant = tenant();
        tenant.reach = Reach::of(&network, None);
        tenant.pod_security = level;
        let facts = Answers::default();
        let cx = Cx {
            rules: &tenant,
            facts: &facts,
        };
        let has_it = |peers: &Value| peers.as_array().unwrap().contains(&nodes);
        let policies = of_namespace("web", "twin", &cx);
        [
            has_it(policies[1].at("/spec/ingress/0/from").unwrap()),
            has_it(policies[2].at("/spec/egress/0/to").unwrap()),
        ]
    };
    assert_eq!(opened(api::PodSecurity::Privileged), [true; 2]);
    assert_eq!(opened(api::PodSecurity::Baseline), [false; 2]);
    assert_eq!(opened(api::PodSecurity::Restricted), [false; 2]);
}

#[test]
fn a_service_with_a_port_outside_opens_that_of_its_pods_unless_the_tenant_rules_them() {
    const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
    let service = |kind: &str| {
        parsed(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": kind, "selector": {"app": "web", GATEWAY: "g"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }))
    };
    let carried = meta::pod_label(GATEWAY).unwrap();
    let carried = carried.as_str();
    let policy = |kind: &str| {
        with(&PodNetwork::default(), |cx| {
            of_service(&service(kind), "twin", cx)
        })
    };
    assert!(policy("ClusterIP").is_none());
    for kind in ["NodePort", "LoadBalancer"] {
        let policy = policy(kind).unwrap();
        assert_eq!(service_of(policy.name()), Some("web"));
        assert_eq!(
            policy.at("/spec").unwrap(),
            &json!({
                "podSelector": {"matchLabels": {"app": "web", carried: "g", "sublet.dev/ingress": "default"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": "http"}]}],
            })
        );
    }
}

#[test]
fn a_policy_rules_the_pods_that_it_selects_in_the_directions_that_it_names() {
    let scope = |spec: Value| Scope::of(&parsed(json!({"metadata": {"name": "p"}, "spec": spec})));
    let labels = BTreeMap::from([
        ("app".to_owned(), "web".to_owned()),
        ("topology.kubernetes.io/zone".to_owned(), "a".to_owned()),
    ]);
    let both = scope(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    assert_eq!(
        both.rules(&labels),
        Ruled {
            ingress: true,
            egress: true
        }
    );
    let one =
        scope(json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}));
    assert_eq!(
        one.rules(&labels),
        Ruled {
            ingress: false,
            egress: true
        }
    );
    assert_eq!(one.rules(&BTreeMap::new()), Ruled::default());
    let implied = scope(json!({"podSelector": {}, "ingress": []}));
    assert_eq!(
        implied.rules(&labels),
        Ruled {
            ingress: true,
            egress: false
        }
    );
    // A label that crosses under another key is one like others.
    let key = "jobset.sigs.k8s.io/jobset-name";
    let mut of_jobset = labels.clone();
    of_jobset.insert(key.to_owned(), "j".to_owned());
    for (operator, is_ruled) in [("Exists", true), ("DoesNotExist", false)] {
        let term = json!({"key": key, "operator": operator});
        let carried =
            scope(json!({"podSelector": {"matchExpressions": [term]}, "policyTypes": ["Ingress"]}));
        assert_eq!(carried.rules(&of_jobset).ingress, is_ruled, "{operator}");
        assert_eq!(carried.rules(&labels).ingress, !is_ruled, "{operator}");
    }
    // The super pod may lack the label, and the policy of the super cluster may match or not: both ways are closed.
    for operator in ["Exists", "DoesNotExist"] {
        let term = json!({"key": "topology.kubernetes.io/zone", "operator": operator});
        let reserved =
            scope(json!({"podSelector": {"matchExpressions": [term]}, "policyTypes": ["Ingress"]}));
        assert!(reserved.rules(&labels).ingress, "{operator}");
    }
}
