use super::*;
use crate::{
    object::{CONFIG_MAP, DEPLOYMENT, Kind, NETWORK_POLICY, STATEFUL_SET},
    spec::control_plane::tests::control_plane,
    store::stored::{Limits, Used},
    tenant,
};
use api::Toleration;
use expect_test::expect;
use jiff::Timestamp;
use std::collections::BTreeSet;

pub(super) fn addresses() -> Addresses {
    Addresses {
        etcd: "10.96.0.50".into(),
        apiserver: "10.96.0.51".into(),
        endpoint: api::Endpoint {
            host: "192.0.2.1".into(),
            port: 30443,
        },
        proxy: crate::network::proxy::tests::proxy(),
    }
}

/// One tenant as small and one as large as can be asked for.
fn control_planes() -> [ControlPlane; 2] {
    let small = control_plane();
    let mut large = control_plane();
    large.replicas = 3;
    large.members = 3;
    large.storage.ephemeral = true;
    large
        .pods
        .node_selector
        .insert("pool".into(), "control-planes".into());
    large.pods.tolerations = vec![
        Toleration {
            key: "pool".into(),
            value: Some("control-planes".into()),
            effect: Some("NoSchedule".into()),
        },
        Toleration {
            key: "example.com/set-aside".into(),
            ..Toleration::default()
        },
    ];
    large
        .pods
        .resources
        .etcd
        .limits
        .0
        .insert("memory".into(), "1Gi".into());
    [small, large]
}

fn all(cp: &ControlPlane) -> Vec<Object> {
    let mut all = vec![namespace(cp), access(cp, "sublet-system")];
    all.extend(base(cp, "sublet-system"));
    all.extend(workloads(cp, &addresses(), &Objects::default()).concat());
    all
}

#[test]
fn pods_run_where_the_class_says() {
    let [small, large] = control_planes().map(|cp| {
        let workloads = workloads(&cp, &addresses(), &Objects::default()).concat();
        let specs = workloads.into_iter().filter_map(|object| {
            let spec = object.body.pointer("/spec/template/spec")?;
            Some(json!([spec["nodeSelector"], spec["tolerations"]]))
        });
        specs.collect::<Vec<_>>()
    });
    assert_eq!(small, vec![json!([null, null]); 3]);
    let said = json!([
        {"pool": "control-planes"},
        [
            {"key": "pool", "operator": "Equal", "value": "control-planes", "effect": "NoSchedule"},
            {"key": "example.com/set-aside", "operator": "Exists"},
        ],
    ]);
    assert_eq!(large, vec![said; 3], "etcd, API server, controller-manager");
}

/// T40: what is limited by the class is kept to by the process itself, before its node ends it.
#[test]
fn t40_a_part_whose_memory_is_limited_collects_garbage_before_it_is_ended() {
    let goals = |memory: Option<&str>| {
        let mut cp = control_plane();
        let parts = &mut cp.pods.resources;
        for part in [
            &mut parts.etcd,
            &mut parts.kube_apiserver,
            &mut parts.kube_controller_manager,
        ] {
            let memory = memory.map(|most| ("memory".to_owned(), most.to_owned()));
            part.limits.0.extend(memory);
        }
        let workloads = workloads(&cp, &addresses(), &Objects::default()).concat();
        let goals = workloads.iter().filter_map(|object| {
            let container = object.body.pointer("/spec/template/spec/containers/0")?;
            let env = container["env"].as_array()?;
            let goal = env.iter().find(|one| one["name"] == "GOMEMLIMIT");
            Some(goal.map_or(Value::Null, |goal| goal["value"].clone()))
        });
        goals.collect::<Vec<_>>()
    };
    assert_eq!(goals(None), vec![Value::Null; 3]);
    assert_eq!(goals(Some("0")), vec![Value::Null; 3]);
    assert_eq!(goals(Some("2G")), vec![json!("1800000000"); 3]);
    assert_eq!(goals(Some("1Gi")), vec![json!("966367638"); 3]);
}

#[test]
fn every_pod_meets_the_restricted_level() {
    for cp in control_planes() {
        let mut objects = all(&cp);
        objects.extend(tenant::objects(&cp, &addresses().proxy, Some(&Used::new())));
        let mut pods = 0;
        for object in objects
            .iter()
            .filter(|object| object.body.pointer("/spec/template/spec").is_some())
        {
            let spec = &object.body["spec"]["template"]["spec"];
            pods += 1;
            for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
                assert!(spec[field].is_null(), "{object:?} sets {field}");
            }
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{object:?}");
            assert_eq!(spec["securityContext"]["runAsUser"], 65532, "{object:?}");
            assert_eq!(
                spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                "{object:?}"
            );
            for volume in spec["volumes"].as_array().unwrap() {
                let kinds = [
                    "projected",
                    "emptyDir",
                    "configMap",
                    "persistentVolumeClaim",
                ];
                assert!(
                    kinds.iter().any(|kind| !volume[kind].is_null()),
                    "{object:?}: {volume}"
                );
            }
            for container in spec["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{object:?}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{object:?}");
                assert_eq!(
                    context["capabilities"],
                    json!({"drop": ["ALL"]}),
                    "{object:?}"
                );
                assert!(
                    container["ports"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|port| port["hostPort"].is_null())
                );
                assert!(!container["resources"]["requests"].is_null(), "{object:?}");
            }
            if object.namespace() == Some(&cp.namespace) {
                assert_eq!(spec["automountServiceAccountToken"], false, "{object:?}");
                assert_eq!(spec["enableServiceLinks"], false, "{object:?}");
            }
        }
        assert_eq!(pods, 4);
    }
}

#[test]
fn every_object_is_marked_and_in_the_control_planes_namespace() {
    for cp in control_planes() {
        for object in all(&cp) {
            assert_eq!(
                object.label(marks::TENANT),
                Some(cp.owner.id.as_str()),
                "{object:?}"
            );
            assert_eq!(
                object.annotation(marks::CONTROL_PLANE),
                Some("tenants/acme"),
                "{object:?}"
            );
            assert!(object.annotation(marks::APPLIED).is_some(), "{object:?}");
            assert!(
                object
                    .namespace()
                    .is_none_or(|namespace| namespace == cp.namespace),
                "{object:?}"
            );
        }
    }
}

#[test]
fn every_file_of_a_pod_is_in_a_secret_that_is_ordered() {
    let cp = control_plane();
    let orders = keys::orders(&cp, &addresses());
    let objects = all(&cp);
    for object in objects
        .iter()
        .filter(|object| [STATEFUL_SET, DEPLOYMENT].contains(&object.kind))
    {
        for source in object.items("/spec/template/spec/volumes/0/projected/sources") {
            if let Some(name) = source["configMap"]["name"].as_str() {
                assert!(
                    objects
                        .iter()
                        .any(|object| object.name() == name && object.kind.kind == "ConfigMap")
                );
                continue;
            }
            let name = source["secret"]["name"].as_str().unwrap();
            let order = orders.iter().find(|order| order.name == name);
            let order = order.unwrap_or_else(|| panic!("{object:?} mounts Secret {name}"));
            let secret = issue(order, &orders);
            let key = source["secret"]["items"][0]["key"].as_str().unwrap();
            assert!(
                !secret.body["data"][key].is_null(),
                "Secret {name} has no {key}"
            );
        }
    }
}

/// The key of etcd's and the front proxy's authority stays out of pods; the cluster's goes to the signer alone.
#[test]
fn keys_of_authorities_reach_the_signer_alone() {
    let holders: Vec<String> = all(&control_plane())
        .iter()
        .flat_map(|object| {
            let sources = object
                .items("/spec/template/spec/volumes/0/projected/sources")
                .to_vec();
            let is_key = |source: &Value| source["secret"]["items"][0]["key"] == "tls.key";
            let of_ca = |source: &Value| {
                source["secret"]["name"]
                    .as_str()
                    .is_some_and(|name| name.ends_with("ca"))
            };
            let held = sources
                .into_iter()
                .filter(move |source| is_key(source) && of_ca(source));
            held.map(|source| format!("{} holds {}", object.name(), source["secret"]["name"]))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(holders, ["kube-controller-manager holds \"ca\""]);
}

fn issue(order: &crate::pki::Order, orders: &[crate::pki::Order]) -> Object {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let authority = match &order.material {
        crate::pki::Material::Leaf(leaf) => orders
            .iter()
            .find(|order| order.name == leaf.authority.secret()),
        _ => None,
    };
    let authority = authority.map(|order| crate::pki::issue(order, None, now).unwrap());
    crate::pki::issue(order, authority.as_ref(), now).unwrap()
}

#[test]
fn nobody_but_the_manager_is_in_system_masters() {
    let cp = control_plane();
    let mut orders = keys::orders(&cp, &addresses());
    orders.push(keys::user_kubeconfig(&cp, &addresses()));
    orders.push(keys::syncer_kubeconfig(&cp, &addresses(), "sublet-system"));
    let groups: Vec<String> = orders
        .iter()
        .filter_map(|order| match &order.material {
            crate::pki::Material::Leaf(leaf) => {
                Some(format!("{}: {}", order.name, leaf.organization?))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        groups,
        [
            "manager: system:masters",
            "acme-kubeconfig: sublet:admins",
            &format!("tenant-{}: sublet:syncer", cp.owner.id),
        ]
    );
}

#[test]
fn the_api_servers_names_are_exact() {
    let cp = control_plane();
    let names = apiserver::names(&cp, &addresses())
        .join("\n")
        .replace(&cp.owner.id.to_string(), "IDENTITY");
    let names = names.replace(&cp.namespace, "NAMESPACE");
    expect![[r#"
        kubernetes
        kubernetes.default
        kubernetes.default.svc
        kubernetes.default.svc.cluster.local
        IDENTITY.kubernetes.default.svc.cluster.local
        kube-apiserver.NAMESPACE.svc
        localhost
        127.0.0.1
        10.96.4.1
        10.96.0.51
        192.0.2.1
        IDENTITY.tenants.sublet.internal"#]]
    .assert_eq(&names);
}

#[test]
fn the_api_server_runs_with_these_flags() {
    let cp = control_plane();
    let objects = workloads(&cp, &addresses(), &Objects::default()).concat();
    let main = objects
        .iter()
        .find(|object| object.kind == DEPLOYMENT && object.name() == apiserver::NAME)
        .unwrap();
    let flags = main.items("/spec/template/spec/containers/0/command");
    let flags: Vec<&str> = flags
        .iter()
        .filter_map(Value::as_str)
        .filter(|flag| !flag.contains("/etc/"))
        .collect();
    let flags = flags
        .join("\n")
        .replace(&cp.owner.id.to_string(), "IDENTITY");
    expect![[r#"
        kube-apiserver
        --advertise-address=$(POD_IP)
        --secure-port=6443
        --service-cluster-ip-range=10.96.4.0/22
        --allow-privileged=true
        --profiling=false
        --shutdown-delay-duration=3s
        --requestheader-allowed-names=front-proxy-client
        --requestheader-extra-headers-prefix=X-Remote-Extra-
        --requestheader-group-headers=X-Remote-Group
        --requestheader-username-headers=X-Remote-User
        --service-account-issuer=https://IDENTITY.kubernetes.default.svc.cluster.local
        --service-account-jwks-uri=https://kubernetes.default.svc.cluster.local/openid/v1/jwks
        --service-account-extend-token-expiration=false
        --authorization-mode=Node,RBAC
        --enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs,EventRateLimit
        --disable-admission-plugins=TaintNodesByCondition
        --max-requests-inflight=200
        --max-mutating-requests-inflight=100
        --etcd-servers=https://10.96.0.50:2379
        --kubelet-preferred-address-types=InternalDNS,Hostname"#]]
    .assert_eq(&flags);
}

#[test]
fn requests_are_written_down_where_the_class_asks_for_it() {
    let made = |cp: &ControlPlane| {
        let objects = workloads(cp, &addresses(), &Objects::default()).concat();
        let find = |kind: Kind| {
            let of = |object: &&Object| object.kind == kind && object.name() == apiserver::NAME;
            objects.iter().find(of).unwrap().clone()
        };
        (find(DEPLOYMENT), find(CONFIG_MAP))
    };
    let mut cp = control_plane();
    let (main, config) = made(&cp);
    assert!(!main.body.to_string().contains("audit"));
    assert!(config.body["data"]["audit.json"].is_null());
    cp.audit = api::Audit::Metadata;
    let (main, config) = made(&cp);
    let pod = &main.body["spec"]["template"]["spec"];
    let flags: Vec<&str> = pod["containers"][0]["command"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|flag| flag.contains("audit"))
        .collect();
    let policy = format!("--audit-policy-file={}/audit.json", pod::CONFIG_DIR);
    assert_eq!(
        flags,
        [
            policy.as_str(),
            "--audit-log-path=-",
            "--audit-log-mode=batch"
        ]
    );
    assert!(pod["volumes"].to_string().contains("audit.json"));
    let policy = config.body["data"]["audit.json"].as_str().unwrap();
    let policy: Value = serde_json::from_str(policy).unwrap();
    let rules = policy["rules"].as_array().unwrap();
    let levels = |rule: &Value| rule["level"].as_str().unwrap().to_owned();
    let levels: BTreeSet<String> = rules.iter().map(levels).collect();
    let none_with_bodies = ["Metadata", "None"].map(str::to_owned);
    assert_eq!(levels, BTreeSet::from(none_with_bodies));
}

#[test]
fn etcd_and_its_peers_are_shut_to_all_but_the_api_server_and_the_manager() {
    let policies = base(&control_plane(), "sublet-system");
    let policies: Vec<&Object> = policies
        .iter()
        .filter(|object| object.kind == NETWORK_POLICY)
        .collect();
    let of = |name: &str| {
        policies
            .iter()
            .find(|policy| policy.name() == name)
            .unwrap()
    };
    assert_eq!(of("default-deny").body["spec"]["podSelector"], json!({}));
    let from: Vec<&str> = of("etcd")
        .items("/spec/ingress")
        .iter()
        .filter_map(|rule| {
            rule.pointer("/from/0/podSelector/matchLabels/app.kubernetes.io~1name")?
                .as_str()
        })
        .collect();
    assert_eq!(from, ["kube-apiserver", "sublet-manager", "etcd"]);
    let manager = &of("etcd").items("/spec/ingress")[1]["from"][0];
    let there = json!({"kubernetes.io/metadata.name": "sublet-system"});
    assert_eq!(manager["namespaceSelector"]["matchLabels"], there);
}

/// T28, T45: whoever may ask any server for names reaches any server, and may tell it things.
#[test]
fn t45_etcd_asks_for_names_only_where_members_find_each_other_by_them() {
    let asks = control_planes().map(|cp| {
        let policies = base(&cp, "sublet-system");
        let policy = policies
            .iter()
            .find(|object| object.kind == NETWORK_POLICY && object.name() == "etcd");
        let egress = policy.unwrap().items("/spec/egress");
        egress
            .iter()
            .any(|rule| rule.to_string().contains("\"port\":53"))
    });
    assert_eq!(asks, [false, true]);
}

#[test]
fn a_change_of_keys_read_at_start_rolls_their_pods_alone() {
    let cp = control_plane();
    let secret = |name: &str, text: &str| {
        Object::new(
            SECRET,
            Some(&cp.namespace),
            name,
            json!({"data": {"k": text}}),
        )
    };
    let digests = |objects: &Objects| {
        workloads(&cp, &addresses(), objects)
            .concat()
            .iter()
            .filter_map(|object| {
                Some(
                    object
                        .body
                        .pointer("/spec/template/metadata/annotations/sublet.dev~1config")?
                        .to_string(),
                )
            })
            .collect::<Vec<_>>()
    };
    let before: Objects = [secret("etcd-ca", "1"), secret("apiserver", "1")]
        .into_iter()
        .collect();
    let renewed: Objects = [secret("etcd-ca", "1"), secret("apiserver", "2")]
        .into_iter()
        .collect();
    let rolled: Objects = [secret("etcd-ca", "2"), secret("apiserver", "1")]
        .into_iter()
        .collect();
    assert_eq!(digests(&before), digests(&renewed));
    let changed: Vec<bool> = digests(&before)
        .iter()
        .zip(digests(&rolled))
        .map(|(a, b)| *a != b)
        .collect();
    assert_eq!(changed, [true, true, false]);
}

#[test]
fn an_endpoint_that_is_given_is_used_as_it_is() {
    let mut cp = control_plane();
    let service = |name: &str, spec: Value| {
        Object::new(SERVICE, Some(&cp.namespace), name, json!({"spec": spec}))
    };
    let seen: Objects = [
        service(etcd::NAME, json!({"clusterIP": "10.96.0.50"})),
        service(apiserver::NAME, json!({"clusterIP": "10.96.0.51"})),
    ]
    .into_iter()
    .collect();
    let endpoint = |cp: &ControlPlane, node| {
        Addresses::of(cp, &seen, &crate::network::proxy::tests::proxy(), node)
            .map(|found| format!("{}:{}", found.endpoint.host, found.endpoint.port))
    };
    assert_eq!(endpoint(&cp, None), None);
    assert_eq!(endpoint(&cp, Some("192.0.2.1")).unwrap(), "192.0.2.1:30443");
    cp.endpoint_host = Some("nodes.example".into());
    assert_eq!(
        endpoint(&cp, Some("192.0.2.1")).unwrap(),
        "nodes.example:30443"
    );
    // Something of the admin's own stands in front of the front door.
    cp.endpoint_port = Some(8443);
    assert_eq!(endpoint(&cp, None).unwrap(), "nodes.example:8443");
    cp.endpoint = Some(api::Endpoint {
        host: "acme.example".into(),
        port: 443,
    });
    assert_eq!(endpoint(&cp, None).unwrap(), "acme.example:443");
}

#[test]
fn intervals_of_the_class_become_flags() {
    let flags = |cp: &ControlPlane| {
        let text = serde_json::to_string(
            &all(cp)
                .iter()
                .map(|object| &object.body)
                .collect::<Vec<_>>(),
        )
        .unwrap();
        (
            text.contains("--etcd-compaction-interval=30s"),
            text.contains("--resource-quota-sync-period=10s"),
        )
    };
    let mut cp = control_plane();
    assert_eq!(flags(&cp), (false, false));
    cp.intervals.etcd_compaction = Some("30s".into());
    assert_eq!(flags(&cp), (true, false));
    cp.intervals.resource_quota_sync = Some("10s".into());
    assert_eq!(flags(&cp), (true, true));
    cp.feature_gates = [("A".to_owned(), true), ("B".to_owned(), false)].into();
    assert_eq!(
        cp.feature_flag().as_deref(),
        Some("--feature-gates=A=true,B=false")
    );
}

/// T43: what is full stands in a file that is read anew.
#[test]
fn what_is_full_starts_no_api_server_anew() {
    let mut cp = control_plane();
    let most = api::Quantities([("configmaps".to_owned(), "5".to_owned())].into());
    cp.stored = Limits::of(&most, &api::Quantities::default());
    let made = |count: u64| {
        let mut cp = cp.clone();
        let used = Used::from([("configmaps".to_owned(), count)]);
        cp.authorizers =
            cp.authorizers_for(Some(&used), None, &crate::store::uncounted::Lasting::new());
        apiserver::objects(&cp, &addresses(), "")
    };
    let (room, full) = (made(1), made(5));
    assert!(
        !room[0]
            .text("/data/authorization.json")
            .contains("full.configmaps")
    );
    assert!(
        full[0]
            .text("/data/authorization.json")
            .contains("full.configmaps")
    );
    assert_eq!(room[1].body, full[1].body);
    let text = room[1].body.to_string();
    assert!(text.contains("--authorization-config=/etc/kubernetes/authorization.json"));
    assert!(text.contains("nowhere.kubeconfig") && !text.contains("--authorization-mode"));
}

/// Else a wrong expression would stop API servers that run, as soon as they are started again.
#[test]
fn issuers_are_part_of_the_pods_that_believe_them_and_reach_no_others() {
    let mut cp = control_plane();
    let made = |cp: &ControlPlane| {
        let objects = apiserver::objects(cp, &addresses(), "");
        let [config, main] = &objects[..] else {
            panic!("a ConfigMap and a Deployment");
        };
        let sources = main.items("/spec/template/spec/volumes/0/projected/sources");
        let is_it = |source: &&Value| source.to_string().contains("authentication.json");
        let source: Vec<Value> = sources.iter().filter(is_it).cloned().collect();
        let annotations = &main.body["spec"]["template"]["metadata"]["annotations"];
        let believed = annotations["sublet.dev/authentication"].clone();
        (config.body.clone(), source, believed)
    };
    let (config, source, believed) = made(&cp);
    let text = config["data"]["authentication.json"].as_str().unwrap();
    assert_eq!(
        text,
        r#"{"anonymous":{"conditions":[{"path":"/livez"},{"path":"/readyz"},{"path":"/healthz"}],"enabled":true},"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration"}"#
    );
    let file = json!({"key": "authentication.json", "path": "authentication.json"});
    assert_eq!(
        source,
        [json!({"configMap": {"name": "kube-apiserver", "items": [file]}})]
    );
    assert_eq!(believed, Value::Null);

    cp.authentication = Some("{}".into());
    let (same, source, believed) = made(&cp);
    assert_eq!(same, config);
    let field = json!({"fieldPath": "metadata.annotations['sublet.dev/authentication']"});
    let file = json!({"path": "authentication.json", "fieldRef": field});
    assert_eq!(source, [json!({"downwardAPI": {"items": [file]}})]);
    assert_eq!(believed, "{}");
}

/// T28: all contexts are listed, and the network leaves no way beside the way out.
#[test]
fn t28_the_api_server_goes_out_through_the_proxy_alone() {
    let cp = control_plane();
    let objects = apiserver::objects(&cp, &addresses(), "");
    let egress = objects[0].text("/data/egress.json");
    let egress: Value = serde_json::from_str(egress).unwrap();
    let contexts: Vec<String> = egress["egressSelections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let connection = &one["connection"];
            let url = connection["transport"]["tcp"]["url"].as_str();
            format!(
                "{} {} {}",
                one["name"].as_str().unwrap(),
                connection["proxyProtocol"].as_str().unwrap(),
                url.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        contexts,
        [
            "cluster HTTPConnect https://10.96.0.60:8131",
            "controlplane HTTPConnect https://10.96.0.60:8131",
            "etcd Direct "
        ]
    );
    assert_eq!(objects[0].text("/data/proxy-ca.crt"), "proxy authority");
    let policies = base(&cp, "sublet-system");
    let policy = policies
        .iter()
        .find(|object| object.kind == NETWORK_POLICY && object.name() == apiserver::NAME)
        .unwrap();
    let ports: Vec<i64> = policy
        .items("/spec/egress")
        .iter()
        .filter_map(|rule| rule["ports"][0]["port"].as_i64())
        .collect();
    assert_eq!(ports, [2379, 8131]);
}

fn route(cp: &ControlPlane, before: Option<&Object>, now: Timestamp) -> Object {
    route::route(cp, &addresses(), "authority", "s", (before, now))
}

fn asks_for(cp: &mut ControlPlane, host: &str) {
    cp.endpoint = Some(api::Endpoint {
        host: host.into(),
        port: 443,
    });
}

/// Who has a host is known to whoever reads the route, now and after a restart.
#[test]
fn a_route_tells_since_when_its_host_is_asked_for() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let since = |route: &Object| route.text("/data/hostSince").to_owned();
    let mut cp = control_plane();
    let none = route(&cp, None, at(1));
    assert_eq!(since(&none), "");
    asks_for(&mut cp, "acme.example");
    let first = route(&cp, Some(&none), at(2));
    assert_eq!(since(&first), "1970-01-01T00:00:02Z");
    // Nothing else that changes makes it younger, nor does another writing of the name.
    cp.egress = vec!["203.0.113.0/24".into()];
    asks_for(&mut cp, "Acme.example");
    let second = route(&cp, Some(&first), at(3));
    assert_eq!(since(&second), since(&first));
    asks_for(&mut cp, "other.example");
    let other = route(&cp, Some(&second), at(4));
    assert_eq!(since(&other), "1970-01-01T00:00:04Z");
    asks_for(&mut cp, "acme.example");
    assert_eq!(
        since(&route(&cp, Some(&other), at(5))),
        "1970-01-01T00:00:05Z"
    );
    // Of one that an earlier manager wrote its creation is what decided.
    let mut old = first;
    old.body["data"]
        .as_object_mut()
        .unwrap()
        .remove("hostSince");
    old.body["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:01Z");
    assert_eq!(
        since(&route(&cp, Some(&old), at(6))),
        "1970-01-01T00:00:01Z"
    );
}

#[test]
fn clients_are_told_the_name_that_leads_to_their_tenant() {
    let names = |cp: &ControlPlane| {
        let order = keys::user_kubeconfig(cp, &addresses());
        let crate::pki::Material::Leaf(crate::pki::Leaf {
            form: crate::pki::Form::Kubeconfig {
                tls_server_name, ..
            },
            ..
        }) = order.material
        else {
            panic!("a kubeconfig");
        };
        let route = route(cp, None, Timestamp::UNIX_EPOCH);
        let host = route.text("/data/host").to_owned();
        (tls_server_name.is_some(), host)
    };
    let mut cp = control_plane();
    assert_eq!(names(&cp), (true, String::new()));
    for (host, expected) in [
        ("192.0.2.7", (true, String::new())),
        ("acme.example", (false, "acme.example".to_owned())),
    ] {
        asks_for(&mut cp, host);
        assert_eq!(names(&cp), expected, "{host}");
    }
    // A host name may be guessed: what wakes a tenant is the name that can't be.
    cp.wakes = true;
    assert_eq!(names(&cp), (true, "acme.example".to_owned()));
}

#[test]
fn a_route_says_what_the_proxy_needs_and_no_secret() {
    let mut cp = control_plane();
    cp.egress = vec!["203.0.113.0/24 443".into(), "192.168.7.0/24".into()];
    cp.closed = vec!["10.96.0.0/12".into(), "192.168.9.0/24".into()];
    let route = route(&cp, None, Timestamp::UNIX_EPOCH);
    expect![[r#"
        {
          "allowedEgress": "203.0.113.0/24 443\n192.168.7.0/24",
          "apiAddress": "10.96.4.1",
          "authority.crt": "authority",
          "backend": "10.96.0.51:6443",
          "closedRanges": "10.96.0.0/12\n192.168.9.0/24",
          "clusterDomain": "cluster.local",
          "nodeSelector": ""
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&route.body["data"]).unwrap());
}

#[test]
fn the_proxy_is_told_whose_names_it_serves() {
    let mut cp = control_plane();
    cp.ranges = vec!["10.244.0.0/16".into()];
    let told = |cp: &ControlPlane| {
        let data = route(cp, None, Timestamp::UNIX_EPOCH).body["data"].clone();
        (data["dnsAddress"].clone(), data["clusterRanges"].clone())
    };
    let nothing = (Value::Null, Value::Null);
    for dns in [api::Dns::Dedicated, api::Dns::None] {
        cp.dns = dns;
        assert_eq!(told(&cp), nothing);
    }
    cp.dns = api::Dns::Shared;
    let ranges = format!("10.244.0.0/16\n{}", cp.slice);
    assert_eq!(told(&cp), (json!("10.96.0.53"), json!(ranges)));
}
