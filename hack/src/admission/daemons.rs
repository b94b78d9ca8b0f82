//! What holds all daemons, whatever they write, and those who write VirtualControlPlanes.

use serde_json::{Value, json};

use super::{Request, TENANT, broken};

#[test]
fn finalizers_and_marks_of_other_tenants_break_a_rule_and_what_others_wrote_stays() {
    let service =
        |metadata: Value| json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
    let held = |name: &str| service(json!({"name": "n", "finalizers": [name]}));
    let create = |object: Value| broken("sublet-daemons", &Request::create("services", object));
    let rule = "finalizers of tenants stay in tenants";
    assert_eq!(create(held("example.com/hold")), [rule]);
    // What the super cluster's own admission adds while a claim is made.
    assert_eq!(
        create(held("kubernetes.io/pvc-protection")),
        Vec::<String>::new()
    );
    let update = |old: Value, new: Value| {
        let request = Request::update("services", old, new);
        broken("sublet-daemons", &request)
    };
    let cloud = held("service.kubernetes.io/load-balancer-cleanup");
    assert_eq!(update(cloud.clone(), cloud.clone()), Vec::<String>::new());
    assert_eq!(update(cloud, held("example.com/hold")), [rule]);
    assert_eq!(
        update(service(json!({"name": "n"})), held("example.com/hold")),
        [rule]
    );

    let marked = |tenant: &str| {
        let labels = json!({"sublet.dev/tenant": tenant});
        create(service(json!({"name": "n", "labels": labels})))
    };
    assert_eq!(marked(TENANT), Vec::<String>::new());
    assert_eq!(
        marked("victim"),
        ["objects belong to the tenant whose namespace they are in"]
    );
}

#[test]
fn the_manager_gives_itself_no_rights_in_namespaces_of_tenants_of_sublet_or_of_kubernetes() {
    let bind = |role: &str, namespace: &'static str, labels: Value| {
        let manager = json!([{"kind": "ServiceAccount", "namespace": "sublet-system", "name": "sublet-manager"}]);
        let binding = json!({
            "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": manager,
        });
        let mut request = Request::create("rolebindings", binding);
        request.group = "rbac.authorization.k8s.io";
        (request.account, request.namespace, request.labels) =
            ("sublet-manager", namespace, labels);
        broken("sublet-daemons", &request).is_empty()
    };
    let (inside, beside) = ("sublet-manager-control-plane", "sublet-manager-kubeconfig");
    let tenants = json!({"sublet.dev/managed": "true"});
    let planes = json!({"sublet.dev/managed": "true", "sublet.dev/role": "control-plane"});
    for (role, namespace, labels, may) in [
        (inside, "acme-control-plane", &planes, true),
        (beside, "acme-control-plane", &planes, false),
        (inside, "acme-work", &tenants, false),
        (beside, "acme-work", &tenants, false),
        (inside, "default", &json!({}), false),
        (beside, "default", &json!({}), true),
        (beside, "kube-system", &json!({}), false),
        (beside, "sublet-system", &json!({}), false),
    ] {
        assert_eq!(
            bind(role, namespace, labels.clone()),
            may,
            "{role} in {namespace}"
        );
    }
}

#[test]
fn t46_an_identity_or_a_slice_is_given_later_by_the_manager_alone() {
    let vcp = |spec: Value| json!({"metadata": {"name": "n"}, "spec": spec});
    let update = |old: &Value, new: &Value, trusted: bool| {
        let mut request =
            Request::update("virtualcontrolplanes", vcp(old.clone()), vcp(new.clone()));
        request.trusted = trusted;
        broken("sublet-identities", &request).len()
    };
    let none = json!({"paused": true, "network": {"dns": "none"}});
    let identity = json!({"identity": TENANT});
    let slice = json!({"network": {"serviceCIDR": "10.96.4.0/22"}});
    let both = json!({"identity": TENANT, "network": {"serviceCIDR": "10.96.4.0/22"}});
    for (old, new, rules) in [
        (&none, &identity, 1),
        (&none, &slice, 1),
        (&none, &both, 2),
        (&identity, &both, 1),
        (&none, &none, 0),
        (&both, &both, 0),
        (&both, &none, 0),
    ] {
        assert_eq!(update(old, new, false), rules, "{old} to {new}");
        assert_eq!(update(old, new, true), 0, "{old} to {new}");
    }
}
