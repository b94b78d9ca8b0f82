//! What leads traffic, data and devices somewhere.

use serde_json::{Value, json};

use super::{Request, TENANT, broken};

const NETWORKING: &str = "networking.k8s.io";
const GATEWAY: &str = "gateway.networking.k8s.io";
const DEVICES: &str = "resource.k8s.io";
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";

/// Where a policy names whom it lets in, and whom it lets pods reach.
const BOTH_WAYS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// What a block of all addresses of IPv4 leaves out.
const EXCEPT: [&str; 6] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];

/// Rules that an object breaks when it is made; it breaks the same when it becomes so later.
fn judged(group: &'static str, resource: &'static str, object: &Value) -> Vec<String> {
    let of = |request| Request { group, ..request };
    let harmless = json!({"metadata": {"name": "n"}, "spec": {}});
    let create = of(Request::create(resource, object.clone()));
    let update = of(Request::update(resource, harmless, object.clone()));
    let found = broken("sublet-syncer-reach", &create);
    assert_eq!(found, broken("sublet-syncer-reach", &update));
    found
}

fn of_spec(group: &'static str, resource: &'static str, spec: Value) -> Vec<String> {
    judged(
        group,
        resource,
        &json!({"metadata": {"name": "n"}, "spec": spec}),
    )
}

fn nothing() -> Vec<String> {
    vec![]
}

#[test]
fn t45_a_policy_opens_nothing_beyond_its_tenant_and_what_is_named() {
    let policy = |spec: &Value| of_spec(NETWORKING, "networkpolicies", spec.clone());
    let own = json!({"matchLabels": {"sublet.dev/tenant": TENANT},
        "matchExpressions": [{"key": "sublet.dev/role", "operator": "DoesNotExist"}]});
    let named = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]});
    let nobodys = json!({"key": "sublet.dev/tenant", "operator": "DoesNotExist"});
    let platforms = json!({"matchExpressions": [named, nobodys]});
    let own_named =
        json!({"matchLabels": {"sublet.dev/tenant": TENANT}, "matchExpressions": [named]});
    let world = json!({"cidr": "0.0.0.0/0", "except": EXCEPT});
    let world6 = json!({"cidr": "::/0", "except": ["::1/128", "fc00::/7", "fe00::/8"]});
    let good = json!([{"namespaceSelector": own}, {"namespaceSelector": platforms, "podSelector": {}},
        {"namespaceSelector": own_named}, {"podSelector": {}}, {"ipBlock": world},
        {"ipBlock": {"cidr": "203.0.113.0/24"}}, {"ipBlock": world6}]);
    let both = json!({"podSelector": {}, "ingress": [{"from": good}], "egress": [{"to": good, "ports": []}]});
    assert_eq!(policy(&both), nothing());
    assert_eq!(policy(&json!({"podSelector": {}})), nothing());

    let everybody = "policies of tenants name whom they let in and out";
    let namespaces = "policies of tenants select namespaces of the same tenant, or name some that are no tenant's";
    let metadata = "policies of tenants open no cloud's metadata service";
    let foreign = json!({"matchLabels": {"sublet.dev/tenant": "victim"}});
    let by_label = json!({"matchLabels": {"team": "victim"}});
    let not_in = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["a"]}]});
    let of_others =
        json!({"matchLabels": {"sublet.dev/tenant": "victim"}, "matchExpressions": [named]});
    let anybodys = json!({"matchExpressions": [nobodys]});
    for (peers, rule) in [
        (json!([]), everybody),
        (json!([{"namespaceSelector": {}}]), namespaces),
        (
            json!([{"podSelector": {}}, {"namespaceSelector": foreign}]),
            namespaces,
        ),
        (json!([{"namespaceSelector": by_label}]), namespaces),
        (json!([{"namespaceSelector": not_in}]), namespaces),
        (
            json!([{"namespaceSelector": {"matchExpressions": [named]}}]),
            namespaces,
        ),
        (json!([{"namespaceSelector": of_others}]), namespaces),
        (json!([{"namespaceSelector": anybodys}]), namespaces),
    ] {
        for (rules, direction) in BOTH_WAYS {
            let spec = json!({"podSelector": {}, rules: [{direction: peers}]});
            assert_eq!(policy(&spec), [rule], "{spec}");
        }
    }
    for block in ["169.254.169.254/32", "169.254.0.0/16"] {
        let spec = json!({"egress": [{"to": [{"ipBlock": {"cidr": block}}]}]});
        assert_eq!(policy(&spec), [metadata], "{spec}");
    }
    // One rule for everybody, as people write it.
    assert_eq!(policy(&json!({"egress": [{}]})), [everybody]);
    // Sublet's own lets in whoever comes to a public port.
    let platforms = json!({"metadata": {"name": "n", "labels": {"sublet.dev/role": "isolation"}},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}});
    assert_eq!(judged(NETWORKING, "networkpolicies", &platforms), nothing());
}

#[test]
fn t45_a_policy_lets_in_no_private_addresses_and_goes_to_none_by_a_wide_block() {
    let inside =
        "policies of tenants let in no private addresses, which are pods, Services and nodes";
    let wide = "policies of tenants leave private addresses out of wide blocks";
    let spec = |(rules, direction): (&str, &str), block: &Value| {
        let peers = json!([{"podSelector": {}}, {"ipBlock": block}]);
        json!({"podSelector": {}, rules: [{direction: peers}]})
    };
    let policy = |way, block: &Value| of_spec(NETWORKING, "networkpolicies", spec(way, block));
    let [ingress, egress] = BOTH_WAYS;
    for cidr in ["10.244.0.0/16", "10.0.0.0/8", "192.168.1.7/32", "fd00::/64"] {
        let block = json!({"cidr": cidr});
        assert_eq!(policy(ingress, &block), [inside], "{cidr}");
        // A class may open it.
        assert_eq!(policy(egress, &block), nothing(), "{cidr}");
    }
    for left_out in EXCEPT {
        let except: Vec<&str> = EXCEPT
            .into_iter()
            .filter(|other| *other != left_out)
            .collect();
        let world = json!({"cidr": "0.0.0.0/0", "except": except});
        for way in BOTH_WAYS {
            let broken = policy(way, &world);
            assert!(broken.iter().any(|rule| rule == wide), "{left_out}");
        }
    }
    for way in BOTH_WAYS {
        assert_eq!(policy(way, &json!({"cidr": "::/0"})), [wide]);
        assert_eq!(policy(way, &json!({"cidr": "10.0.0.0/7"})), [wide]);
    }
    // Nodes are reached by tenants that are trusted with them.
    let nodes = spec(ingress, &json!({"cidr": "10.0.0.0/24"}));
    let object = json!({"metadata": {"name": "n"}, "spec": nodes});
    let labels =
        json!({"sublet.dev/tenant": TENANT, "pod-security.kubernetes.io/enforce": "privileged"});
    let request = Request {
        group: NETWORKING,
        labels,
        ..Request::create("networkpolicies", object)
    };
    assert_eq!(broken("sublet-syncer-reach", &request), nothing());
}

#[test]
fn t19_an_ingress_leads_to_services() {
    let service = json!({"service": {"name": "s", "port": {"number": 80}}});
    let resource = json!({"resource": {"kind": "Bucket", "name": "b"}});
    let ingress = |default: &Value, path: &Value| {
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": path}]);
        let spec = json!({"defaultBackend": default, "rules": [{"host": "a"}, {"http": {"paths": paths}}]});
        of_spec(NETWORKING, "ingresses", spec)
    };
    let rule = "Ingresses of tenants lead to Services only";
    assert_eq!(ingress(&service, &service), nothing());
    assert_eq!(ingress(&resource, &service), [rule]);
    assert_eq!(ingress(&service, &resource), [rule]);
}

#[test]
fn t19_a_gateway_is_its_tenants_alone() {
    let gateway = |field: &str, value: Value, listener: Value| {
        let mut spec = json!({"gatewayClassName": "public", "listeners": [{"name": "a", "port": 80}, listener]});
        spec[field] = value;
        of_spec(GATEWAY, "gateways", spec)
    };
    let listener = |from: &str, selector: Value| json!({"allowedRoutes": {"namespaces": {"from": from, "selector": selector}}});
    let own = json!({"matchLabels": {"sublet.dev/tenant": TENANT}});
    let whole = json!({"allowedRoutes": {"namespaces": {"from": "Same"}},
        "tls": {"certificateRefs": [{"group": "", "kind": "Secret", "name": "c"}]}});
    let plain = || json!("public");
    let at = "gatewayClassName";
    assert_eq!(gateway(at, plain(), whole), nothing());
    assert_eq!(gateway(at, plain(), listener("Selector", own)), nothing());
    let routes = "Gateways of tenants take routes of the same tenant only";
    let foreign = json!({"matchLabels": {"sublet.dev/tenant": "victim"}});
    for listener in [
        listener("All", json!({})),
        listener("Selector", json!({})),
        listener("Selector", foreign),
    ] {
        assert_eq!(gateway(at, plain(), listener), [routes]);
    }
    let chosen = "Gateways of tenants choose no addresses and nothing of what runs them";
    let address = json!([{"type": "IPAddress", "value": "192.0.2.1"}]);
    assert_eq!(gateway("addresses", address, json!({})), [chosen]);
    assert_eq!(gateway("infrastructure", json!({}), json!({})), [chosen]);
    let elsewhere = json!({"tls": {"certificateRefs": [{"name": "c", "namespace": "victim"}]}});
    let certificates = "certificates are Secrets beside the Gateway";
    assert_eq!(gateway(at, plain(), elsewhere), [certificates]);
}

#[test]
fn t19_routes_and_grants_lead_to_services() {
    let rule = "routes of tenants hang on Gateways, lead to Services and have no filters of a controller's own";
    let service =
        || json!({"group": "", "kind": "Service", "name": "s", "namespace": "own", "port": 80});
    let mirror = |kind: &str| json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"kind": kind, "name": "s"}}}]);
    let route = |parent: &str, backend: Value, filters: Value| {
        let rules = json!([{"name": "a"}, {"backendRefs": [backend], "filters": filters}]);
        json!({"parentRefs": [{"name": "g"}, {"kind": parent, "name": "g"}], "rules": rules})
    };
    for kind in [
        "httproutes",
        "grpcroutes",
        "tlsroutes",
        "tcproutes",
        "udproutes",
    ] {
        let of = |spec| of_spec(GATEWAY, kind, spec);
        assert_eq!(
            of(route("Gateway", service(), mirror("Service"))),
            nothing()
        );
        assert_eq!(of(json!({"parentRefs": []})), nothing());
        let import =
            json!({"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "s"});
        let own_filter =
            json!([{"type": "ExtensionRef", "extensionRef": {"kind": "Any", "name": "f"}}]);
        let mut filtered = service();
        filtered["filters"] = own_filter.clone();
        for spec in [
            route("Service", service(), json!([])),
            route("Gateway", import, json!([])),
            route("Gateway", filtered, json!([])),
            route("Gateway", service(), own_filter),
            route("Gateway", service(), mirror("ServiceImport")),
        ] {
            assert_eq!(of(spec.clone()), [rule], "{kind} {spec}");
        }
    }
    let grant = |group: &str, kind: &str| {
        let from = json!([{"group": group, "kind": "HTTPRoute", "namespace": "own"}]);
        of_spec(
            GATEWAY,
            "referencegrants",
            json!({"from": from, "to": [{"group": "", "kind": kind}]}),
        )
    };
    assert_eq!(grant(GATEWAY, "Secret"), nothing());
    assert_eq!(grant(GATEWAY, "ConfigMap").len(), 1);
    assert_eq!(grant("example.com", "Service").len(), 1);
}

#[test]
fn t20_a_snapshot_is_of_an_own_claim_and_a_named_class() {
    let rule = "snapshots of tenants are of their claims, and of a class that is named";
    let own = json!({"persistentVolumeClaimName": "data"});
    let of = |source: &Value, class: Value| {
        let spec = json!({"source": source, "volumeSnapshotClassName": class});
        of_spec(SNAPSHOTS, "volumesnapshots", spec)
    };
    assert_eq!(of(&own, "daily".into()), nothing());
    assert_eq!(of(&own, "".into()), [rule]);
    let victims = json!({"volumeSnapshotContentName": "victims"});
    assert_eq!(of(&victims, "daily".into()), [rule]);
    let silent = json!({"source": own});
    assert_eq!(of_spec(SNAPSHOTS, "volumesnapshots", silent), [rule]);
}

#[test]
fn a_claim_of_devices_reaches_none_of_others_and_tells_drivers_nothing() {
    let rule = "claims of tenants reach no devices of others, and say nothing to drivers";
    let of = |devices: &Value| {
        let claim = json!({"devices": devices});
        let direct = of_spec(DEVICES, "resourceclaims", claim.clone());
        let template = json!({"spec": claim});
        let by_template = of_spec(DEVICES, "resourceclaimtemplates", template);
        assert_eq!(direct, by_template);
        direct
    };
    let request = |more: &Value| {
        let mut exactly = json!({"deviceClassName": "gpu", "adminAccess": false});
        for (field, value) in more.as_object().unwrap() {
            exactly[field] = value.clone();
        }
        json!({"name": "one", "exactly": exactly})
    };
    let taints = json!([{"operator": "Exists"}]);
    let several = |first: Value| json!({"name": "any", "firstAvailable": [{"deviceClassName": "gpu"}, first]});
    let plain =
        json!({"requests": [request(&json!({})), several(json!({"deviceClassName": "fpga"}))]});
    assert_eq!(of(&plain), nothing());
    for devices in [
        json!({"requests": [request(&json!({"adminAccess": true}))]}),
        json!({"requests": [request(&json!({"tolerations": taints}))]}),
        json!({"requests": [several(json!({"tolerations": taints}))]}),
        json!({"requests": [request(&json!({}))], "config": [{"opaque": {"driver": "d", "parameters": {}}}]}),
    ] {
        assert_eq!(of(&devices), [rule], "{devices}");
    }
}
