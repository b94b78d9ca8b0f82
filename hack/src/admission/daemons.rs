//! What holds all daemons, whatever they write, and those who write VirtualControlPlanes.

use serde_json::{Value, json};

use super::{Request, TENANT, broken, pods::pod};

const FINALIZERS: &str = "finalizers of tenants stay in tenants";
const OWNERS: &str = "Pods own Secrets, Services own NetworkPolicies, and nothing else is owned";

#[test]
fn finalizers_and_marks_of_other_tenants_break_a_rule_and_what_others_wrote_stays() {
    let service =
        |metadata: Value| json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
    let held = |name: &str| service(json!({"name": "n", "finalizers": [name]}));
    let create = |object: Value| broken("sublet-daemons", &Request::create("services", object));
    let rule = FINALIZERS;
    assert_eq!(create(held("example.com/hold")), [rule]);
    // What the super cluster's own admission adds while a claim is made, and to nothing else.
    let protected = held("kubernetes.io/pvc-protection");
    let claim = Request::create("persistentvolumeclaims", protected.clone());
    assert_eq!(broken("sublet-daemons", &claim), Vec::<String>::new());
    assert_eq!(create(protected), [rule]);
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
fn the_manager_holds_classes_and_says_nothing_in_them() {
    let class = |finalizers: &[&str], level: &str| json!({"metadata": {"name": "gold", "finalizers": finalizers}, "spec": {"podSecurity": level}});
    let of_manager = |request: Request| {
        let request = Request {
            account: "sublet-manager",
            group: "sublet.dev",
            namespace: "",
            ..request
        };
        broken("sublet-daemons", &request).len()
    };
    let update = |finalizers: &[&str], level: &str| {
        let (old, new) = (class(&[], "baseline"), class(finalizers, level));
        of_manager(Request::update("controlplaneclasses", old, new))
    };
    assert_eq!(update(&["sublet.dev/in-use"], "baseline"), 0);
    assert_eq!(update(&[], "privileged"), 1);
    let new = Request::create("controlplaneclasses", class(&[], "baseline"));
    assert_eq!(of_manager(new), 1);
    let gone = Request {
        operation: "DELETE",
        ..Request::update("controlplaneclasses", class(&[], "baseline"), Value::Null)
    };
    assert_eq!(of_manager(gone), 1);
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

#[test]
fn t4_labels_of_kubernetes_own_domains_stay_in_the_tenant_but_for_those_that_selectors_need() {
    let labelled = |key: &str| {
        let mut object = pod(json!({}));
        object["metadata"]["labels"][key] = "x".into();
        object
    };
    let kinds = [
        ("sublet-daemons", "services"),
        ("sublet-syncer-pods", "pods"),
    ];
    for (policy, resource) in kinds {
        for key in [
            "app",
            "example.com/x",
            "notkubernetes.io/x",
            "notk8s.io/x",
            "app.kubernetes.io/name",
            "batch.kubernetes.io/job-name",
            "apps.kubernetes.io/pod-index",
            "statefulset.kubernetes.io/pod-name",
            // As labels of pods cross that don't under their own keys.
            "label.sublet.dev/hmmw7veqppw7khbqsduygxzppq",
        ] {
            let request = Request::create(resource, labelled(key));
            assert_eq!(broken(policy, &request), Vec::<String>::new(), "{key}");
        }
        for key in [
            "kubernetes.io/service-name",
            "k8s.io/a",
            "a.k8s.io/b",
            "pod-security.kubernetes.io/enforce",
            "topology.kubernetes.io/zone",
        ] {
            let request = Request::create(resource, labelled(key));
            let rule = "labels of Kubernetes' own domains steer what the platform runs";
            assert_eq!(broken(policy, &request), [rule], "{resource} {key}");
            // What the super cluster put there stays.
            let request = Request::update(resource, labelled(key), labelled(key));
            assert_eq!(broken(policy, &request), Vec::<String>::new(), "{key}");
        }
    }
    let slice = json!({"metadata": {"name": "n", "labels": {
        "kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": "sublet.dev",
    }}, "addressType": "IPv4"});
    let request = Request::create("endpointslices", slice);
    assert_eq!(broken("sublet-daemons", &request), Vec::<String>::new());
    for key in ["sidecar.istio.io/inject", "aadpodidbinding"] {
        let request = Request::create("pods", labelled(key));
        let rule = "pods of tenants ask for nothing that the platform injects";
        assert_eq!(broken("sublet-syncer-pods", &request), [rule]);
    }
}

#[test]
fn t25_t26_no_kind_of_any_group_crosses_with_finalizers_or_owners() {
    let metadata = |field: &str, value: Value| json!({"metadata": {"name": "n", field: value}});
    let held = metadata("finalizers", json!(["example.com/hold"]));
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"});
    let owned = metadata("ownerReferences", json!([owner]));
    for (group, resource) in [
        ("", "configmaps"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "networkpolicies"),
        ("gateway.networking.k8s.io", "gateways"),
        ("gateway.networking.k8s.io", "httproutes"),
        ("policy", "poddisruptionbudgets"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
        ("snapshot.storage.k8s.io", "volumesnapshots"),
        ("example.com", "widgets"),
    ] {
        let of = |request: Request| Request { group, ..request };
        let judged = |request| broken("sublet-daemons", &of(request));
        for (object, rule) in [(&held, FINALIZERS), (&owned, OWNERS)] {
            let plain = json!({"metadata": {"name": "n"}, "addressType": "IPv4"});
            let mut object = object.clone();
            object["addressType"] = "IPv4".into();
            let create = Request::create(resource, object.clone());
            assert_eq!(judged(create), [rule], "{resource}");
            let later = Request::update(resource, plain, object.clone());
            assert_eq!(judged(later), [rule], "{resource}");
            // Whoever else put it there, it stays.
            let kept = Request::update(resource, object.clone(), object);
            assert_eq!(judged(kept), Vec::<String>::new(), "{resource}");
        }
    }
}

#[test]
fn t25_a_pod_owns_its_tokens_a_service_its_policy_and_nothing_else_is_owned() {
    let judged = |group: &'static str, resource, kind: &str| {
        let owner = json!({"apiVersion": "v1", "kind": kind, "name": "o", "uid": "u"});
        let owned = json!({"metadata": {"name": "n", "ownerReferences": [owner]}});
        let mut request = Request::create(resource, owned);
        request.group = group;
        broken("sublet-daemons", &request)
    };
    let networking = "networking.k8s.io";
    assert_eq!(judged("", "secrets", "Pod"), Vec::<String>::new());
    assert_eq!(
        judged(networking, "networkpolicies", "Service"),
        Vec::<String>::new()
    );
    for (group, resource, kind) in [
        ("", "configmaps", "Pod"),
        ("", "secrets", "Service"),
        ("", "secrets", "Node"),
        ("", "services", "Pod"),
        (networking, "networkpolicies", "Pod"),
        (networking, "ingresses", "Service"),
    ] {
        assert_eq!(judged(group, resource, kind), [OWNERS], "{resource}");
    }
}

#[test]
fn t37_of_a_pods_status_the_syncer_sets_conditions_of_its_readiness_gates_alone() {
    let whole = "of a pod's status the syncer sets conditions and nothing else";
    let others = "of a pod's conditions the syncer sets those of its readiness gates and no others";
    let gate = |status: &str| json!({"type": "example.com/ready", "status": status});
    let ready = |status: &str| json!({"type": "Ready", "status": status});
    // One that is named like a condition of the kubelet's makes that none of the tenant's.
    let gates = json!([{"conditionType": "example.com/ready"}, {"conditionType": "Ready"}]);
    let shown = |status: Value| {
        let mut pod = pod(json!({"readinessGates": gates}));
        pod["status"] = status;
        pod
    };
    let runs = |conditions: Value| {
        shown(json!({"phase": "Running", "podIP": "10.1.0.5", "conditions": conditions}))
    };
    let judge = |old: &Value, new: Value| {
        let mut request = Request::update("pods", old.clone(), new);
        request.subresource = "status";
        broken("sublet-daemons", &request)
    };
    let before = runs(json!([ready("True")]));
    let opened = runs(json!([ready("True"), gate("True")]));
    let nothing = Vec::<String>::new();
    assert_eq!(judge(&before, opened.clone()), nothing);
    let closed = runs(json!([ready("True"), gate("False")]));
    assert_eq!(judge(&opened, closed), nothing);
    assert_eq!(judge(&opened, before.clone()), nothing);
    let first = shown(json!({"phase": "Pending", "conditions": [gate("True")]}));
    assert_eq!(judge(&shown(json!({"phase": "Pending"})), first), nothing);

    for conditions in [
        json!([ready("False")]),
        json!([]),
        json!([ready("True"), {"type": "example.com/other", "status": "True"}]),
    ] {
        assert_eq!(
            judge(&before, runs(conditions.clone())),
            [others],
            "{conditions}"
        );
    }
    for (field, value) in [
        ("podIP", json!("10.99.0.66")),
        ("phase", json!("Succeeded")),
        ("hostIP", json!("10.99.0.66")),
    ] {
        let mut changed = before.clone();
        changed["status"][field] = value;
        assert_eq!(judge(&before, changed), [whole], "{field}");
    }
    let gone = shown(json!({"phase": "Running", "conditions": [ready("True")]}));
    assert_eq!(judge(&before, gone), [whole]);
    let mut labelled = opened;
    labelled["metadata"]["labels"]["sidecar.istio.io/inject"] = "true".into();
    assert_eq!(judge(&before, labelled), [whole]);
}
