//! Services and claims.

use serde_json::{Value, json};

use super::{Request, broken};

#[test]
fn each_attack_by_a_service_or_claim_breaks_its_rule() {
    let asked = json!([{"manager": "sublet-syncer", "fieldsV1": {"f:spec": {"f:clusterIP": {}}}}]);
    let address = json!({"metadata": {"name": "s", "managedFields": asked},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}});
    assert_eq!(
        broken(
            "sublet-syncer-services",
            &Request::create("services", address)
        ),
        ["Services of tenants choose no load balancer's address"]
    );
    let health = "Services of tenants choose no port for the checks of a load balancer";
    let checked = |port: u16, asked: Value| {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
        let fields = json!([{"manager": "sublet-syncer", "fieldsV1": {"f:spec": asked}}]);
        json!({"metadata": {"name": "s", "managedFields": fields}, "spec": spec})
    };
    let given = checked(30_001, json!({"f:type": {}, "f:clusterIP": {}}));
    let chosen = checked(
        30_001,
        json!({"f:type": {}, "f:clusterIP": {}, "f:healthCheckNodePort": {}}),
    );
    let inside = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
    for (request, rules) in [
        (Request::create("services", given.clone()), vec![]),
        (Request::create("services", chosen.clone()), vec![health]),
        (
            Request::update("services", inside.clone(), given.clone()),
            vec![],
        ),
        (
            Request::update("services", inside, chosen.clone()),
            vec![health],
        ),
        (Request::update("services", given, chosen.clone()), vec![]),
        (
            Request::update("services", checked(30_002, json!({})), chosen),
            vec![health],
        ),
    ] {
        assert_eq!(broken("sublet-syncer-services", &request), rules);
    }
    let claim = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
    let create = |spec: Value| {
        let request = Request::create("persistentvolumeclaims", claim(spec));
        broken("sublet-syncer-claims", &request)
    };
    assert_eq!(
        create(json!({"storageClassName": "fast"})),
        Vec::<String>::new()
    );
    let named = json!({"volumeName": "victims"});
    assert_eq!(
        create(named.clone()),
        ["claims of tenants choose no volume by its name"]
    );
    assert_eq!(create(json!({"selector": {}})).len(), 1);
    let from = |source: Value| create(json!({"dataSourceRef": source}));
    let snapshots = "snapshot.storage.k8s.io";
    let across = json!({"apiGroup": snapshots, "kind": "VolumeSnapshot", "name": "s", "namespace": "victim"});
    assert_eq!(
        from(across),
        ["claims of tenants take no data from another namespace"]
    );
    for own in [
        json!({"kind": "PersistentVolumeClaim", "name": "c"}),
        json!({"apiGroup": snapshots, "kind": "VolumeSnapshot", "name": "s"}),
    ] {
        assert_eq!(from(own), Vec::<String>::new());
    }
    for filled in [
        json!({"apiGroup": "example.com", "kind": "Export", "name": "victims"}),
        json!({"apiGroup": "example.com", "kind": "PersistentVolumeClaim", "name": "c"}),
        json!({"apiGroup": "example.com", "kind": "VolumeSnapshot", "name": "s"}),
        json!({"kind": "VolumeSnapshot", "name": "s"}),
    ] {
        assert_eq!(
            from(filled.clone()),
            ["claims of tenants are filled from claims and snapshots"],
            "{filled}"
        );
    }
    let update = |old: Value, new: Value| {
        let request = Request::update("persistentvolumeclaims", claim(old), claim(new));
        broken("sublet-syncer-claims", &request)
    };
    // What the super cluster bound stays; another volume can't be chosen.
    assert_eq!(update(named.clone(), named.clone()), Vec::<String>::new());
    assert_eq!(update(json!({}), named.clone()).len(), 1);
    assert_eq!(update(json!({"volumeName": "own"}), named).len(), 1);
    let mut status = Request::update("persistentvolumeclaims", claim(json!({})), claim(json!({})));
    status.subresource = "status";
    assert_eq!(broken("sublet-syncer-claims", &status).len(), 1);
}

#[test]
fn t14_the_super_cluster_gives_no_service_an_address_by_itself() {
    let rule = "Services of tenants say which address they have, or that they have none";
    let one = "Services of tenants have one address";
    let both = json!(["10.0.0.1", "fd00::1"]);
    let service = |asked: Value, addresses: Value| {
        let fields = json!([{"manager": "sublet-syncer", "fieldsV1": asked}]);
        json!({"metadata": {"name": "s", "managedFields": fields}, "spec": {"clusterIPs": addresses}})
    };
    let asked = || json!({"f:metadata": {}, "f:spec": {"f:clusterIP": {}}});
    let has = |asked: Value| service(asked, json!(["10.0.0.1"]));
    let plain = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1"}});
    for (request, rules) in [
        (Request::create("services", has(asked())), vec![]),
        (
            Request::create("services", service(asked(), json!(["None"]))),
            vec![],
        ),
        (
            Request::create("services", has(json!({"f:spec": {"f:ports": {}}}))),
            vec![rule],
        ),
        (
            Request::create("services", has(json!({"f:metadata": {}}))),
            vec![rule],
        ),
        (Request::create("services", plain.clone()), vec![rule]),
        (Request::update("services", plain.clone(), plain), vec![]),
        (
            Request::create("services", service(asked(), both.clone())),
            vec![one],
        ),
        (
            Request::update("services", has(asked()), service(asked(), both.clone())),
            vec![one],
        ),
        // It may be older than the rule.
        (
            Request::update(
                "services",
                service(asked(), both.clone()),
                service(asked(), both),
            ),
            vec![],
        ),
    ] {
        assert_eq!(broken("sublet-syncer-services", &request), rules);
    }
}

#[test]
fn t17_no_endpoint_is_a_name_or_a_clouds_metadata_service() {
    let rule = "endpoints of tenants are addresses, and none of a cloud's metadata service";
    let judged = |family: &str, endpoints: Value| {
        let slice =
            json!({"metadata": {"name": "s"}, "addressType": family, "endpoints": endpoints});
        let of = |request| Request {
            group: "discovery.k8s.io",
            ..request
        };
        let create = Request::create("endpointslices", slice.clone());
        let later = Request::update(
            "endpointslices",
            json!({"metadata": {"name": "s"}, "addressType": family, "endpoints": []}),
            slice,
        );
        let [create, later] = [create, later].map(|request| broken("sublet-daemons", &of(request)));
        assert_eq!(create, later);
        create
    };
    let at = |address: &str| json!([{"addresses": ["10.1.0.5"]}, {"addresses": [address]}]);
    let at_six = |address: &str| json!([{"addresses": [address]}]);
    assert_eq!(judged("IPv4", at("10.1.0.6")), Vec::<String>::new());
    assert_eq!(judged("IPv6", at_six("fd00::6")), Vec::<String>::new());
    assert_eq!(judged("IPv4", json!([])), Vec::<String>::new());
    assert_eq!(judged("IPv4", Value::Null), Vec::<String>::new());
    for address in ["100.100.100.200", "168.63.129.16", "192.0.0.192"] {
        assert_eq!(judged("IPv4", at(address)), [rule], "{address}");
    }
    for address in ["fd00:ec2::254", "fd00:0ec2:0::0254"] {
        assert_eq!(judged("IPv6", at_six(address)), [rule], "{address}");
    }
    let name = json!([{"addresses": ["evil.example"]}]);
    assert_eq!(judged("FQDN", name), [rule]);
}
