//! Pods, the namespaces that they are in, and whom an admin trusts with more.

use serde_json::{Value, json};

use super::{HOLDER, Request, TENANT, broken, documents};

pub(super) fn pod(spec: Value) -> Value {
    let metadata = json!({"name": "n", "labels": {"sublet.dev/tenant": TENANT}});
    let mut pod = json!({"metadata": metadata, "spec": {
        "serviceAccountName": "sublet-pod", "automountServiceAccountToken": false, "dnsPolicy": "None",
        "containers": [{"name": "main", "image": "i", "securityContext": no_raw_sockets()}],
    }});
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn no_raw_sockets() -> Value {
    json!({"capabilities": {"drop": ["NET_RAW"]}})
}

pub(super) fn pods(spec: Value) -> Vec<String> {
    broken("sublet-syncer-pods", &Request::create("pods", pod(spec)))
}

#[test]
fn each_attack_by_a_pod_breaks_its_rule() {
    let foreign =
        json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "victim"}}});
    let other = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"sublet.dev/tenant": "other"}}});
    let nothing = json!({"topologyKey": "zone", "labelSelector": {}});
    let required = |kind: &str, term: &Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let preferred = |kind: &str, term: &Value| {
        let weighted = json!([{"weight": 1, "podAffinityTerm": term}]);
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}})
    };
    let volume = |source: Value| json!({"volumes": [source]});
    let seen = "affinity and spread constraints look at pods of the same tenant only";
    let volumes = "volumes of tenants come from their own objects";
    let taints = "pods of tenants tolerate no taint of all, and none of the control plane's nodes";
    let level = "containers of tenants have the SELinux level that they are given";
    let levelled = json!({"seLinuxOptions": {"level": "s0:c1,c2"}});
    let mut debugger = json!({"name": "d", "securityContext": levelled});
    debugger["securityContext"]["capabilities"] = no_raw_sockets()["capabilities"].clone();
    for (spec, rule) in [
        (json!({"securityContext": levelled}), level),
        (json!({"ephemeralContainers": [debugger]}), level),
        (
            volume(json!({"name": "v", "nfs": {"server": "s", "path": "/"}})),
            volumes,
        ),
        (
            volume(json!({"name": "v", "csi": {"driver": "d"}})),
            volumes,
        ),
        (json!({"tolerations": [{"operator": "Exists"}]}), taints),
        (
            json!({"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}),
            taints,
        ),
        (
            json!({"schedulerName": "other"}),
            "the super cluster's scheduler places pods of tenants",
        ),
        (required("podAffinity", &foreign), seen),
        (required("podAntiAffinity", &nothing), seen),
        (preferred("podAffinity", &other), seen),
        (preferred("podAntiAffinity", &foreign), seen),
        (json!({"topologySpreadConstraints": [foreign]}), seen),
    ] {
        assert_eq!(pods(spec.clone()), [rule], "{spec}");
    }
    let both = json!({"affinity": {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [foreign]},
    }});
    assert_eq!(pods(both), [seen]);
    // Whom an admin trusts may have what is the node's, and still sees no pods of others.
    let trusted = |spec: Value| {
        let mut request = Request::create("pods", pod(spec));
        request.trusted = true;
        broken("sublet-syncer-pods", &request)
    };
    assert_eq!(
        trusted(
            json!({"hostPID": true, "tolerations": [{"operator": "Exists"}], "securityContext": levelled})
        ),
        Vec::<String>::new()
    );
    assert_eq!(trusted(required("podAffinity", &foreign)), [seen]);
    // Another one that took up the identity isn't meant.
    let mut request = Request::create("pods", pod(json!({"hostPID": true})));
    (request.trusted, request.holder) = (true, "tenants/another");
    assert_eq!(broken("sublet-syncer-pods", &request).len(), 1);
}

#[test]
fn pods_are_written_by_the_syncer_only_and_have_neither_owners_nor_finalizers() {
    let with = |field: &str, value: Value| {
        let mut pod = pod(json!({}));
        pod["metadata"][field] = value;
        pod
    };
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let owned = with("ownerReferences", json!([owner]));
    let held = with("finalizers", json!(["example.com/hold"]));
    let marked = with("labels", json!({"sublet.dev/tenant": "victim"}));
    let whose = "objects belong to the tenant whose namespace they are in";
    for (object, rule) in [
        (
            &owned,
            "pods of tenants have no owners in the super cluster",
        ),
        (&held, "finalizers of tenants stay in tenants"),
        (&marked, whose),
    ] {
        let request = Request::create("pods", object.clone());
        assert_eq!(broken("sublet-syncer-pods", &request), [rule], "{object}");
    }
    // What the super cluster put there stays.
    for object in [owned, held] {
        let request = Request::update("pods", object.clone(), object);
        assert_eq!(broken("sublet-syncer-pods", &request), Vec::<String>::new());
    }
    for account in ["sublet-manager", "sublet-apiserver-proxy"] {
        let mut request = Request::create("pods", pod(json!({})));
        request.account = account;
        assert_eq!(
            broken("sublet-syncer-pods", &request),
            ["pods are written by Sublet's syncer only, in super namespaces of tenants only"]
        );
    }
    assert_eq!(
        broken(
            "sublet-daemons-pods",
            &Request::create("pods", pod(json!({})))
        )
        .len(),
        1
    );
}

/// A policy whose list of trusted tenants is missing denies whoever writes what it matches.
#[test]
fn what_needs_the_list_of_trusted_tenants_matches_namespaces_of_sublet_only() {
    let own = json!({"matchLabels": {"sublet.dev/managed": "true"}});
    let with_list: Vec<&Value> = documents()
        .iter()
        .filter(|document| !document["spec"]["paramKind"].is_null())
        .collect();
    assert_eq!(with_list.len(), 2);
    for policy in with_list {
        let constraints = &policy["spec"]["matchConstraints"];
        let selects = [
            &constraints["namespaceSelector"],
            &constraints["objectSelector"],
        ];
        assert!(selects.contains(&&own), "{policy}");
    }
}

#[test]
fn trust_is_in_a_tenant_of_one_control_plane() {
    let level = |level: &str, holder: Option<&str>, is_trusted: bool| {
        let labels = json!({
            "sublet.dev/managed": "true", "sublet.dev/tenant": TENANT, "pod-security.kubernetes.io/enforce": level,
        });
        let mut namespace = json!({"metadata": {"name": "n", "labels": labels}});
        if let Some(holder) = holder {
            namespace["metadata"]["annotations"] = json!({"sublet.dev/control-plane": holder});
        }
        let mut request = Request::create("namespaces", namespace);
        request.trusted = is_trusted;
        broken("sublet-syncer-levels", &request).is_empty()
    };
    assert!(level("baseline", None, false));
    assert!(level("privileged", Some(HOLDER), true));
    assert!(!level("privileged", Some(HOLDER), false));
    assert!(!level("privileged", Some("tenants/another"), true));
    assert!(!level("privileged", None, true));
}

/// What the policy of all daemons leaves out is judged by one of the two of pods, whatever namespace it is in.
#[test]
fn every_pod_that_a_daemon_writes_is_judged_by_one_policy() {
    let documents = documents();
    let spec = |name: &str| {
        let found = documents.iter().find(|document| {
            document["kind"] == "ValidatingAdmissionPolicy" && document["metadata"]["name"] == name
        });
        found.unwrap()["spec"].clone()
    };
    let all = spec("sublet-daemons");
    let left_out = &all["matchConstraints"]["excludeResourceRules"];
    assert_eq!(left_out.as_array().unwrap().len(), 1);
    let mut selectors = vec![];
    for name in ["sublet-syncer-pods", "sublet-daemons-pods"] {
        let pods = spec(name);
        assert_eq!(pods["matchConditions"], all["matchConditions"]);
        let judged = &pods["matchConstraints"]["resourceRules"];
        for field in ["apiGroups", "apiVersions", "operations", "resources"] {
            assert_eq!(judged[0][field], left_out[0][field], "{name}: {field}");
        }
        selectors.push(pods["matchConstraints"]["namespaceSelector"].clone());
    }
    let (key, value) = ("sublet.dev/managed", "true");
    assert_eq!(
        selectors,
        [
            json!({"matchLabels": {key: value}}),
            json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}),
        ]
    );
}

#[test]
fn t10_of_a_nodes_condition_what_layer_a_lets_cross_is_tolerated_with_its_one_effect() {
    let rule = "of the taints of a node's condition pods of tenants tolerate those alone that DaemonSets do";
    let tolerating = |key: &str, effect: Option<&str>| {
        let mut toleration = json!({"key": key, "operator": "Exists"});
        if let Some(effect) = effect {
            toleration["effect"] = effect.into();
        }
        pods(json!({"tolerations": [toleration]}))
    };
    for (name, effect, other) in [
        ("not-ready", "NoExecute", "NoSchedule"),
        ("unreachable", "NoExecute", "NoSchedule"),
        ("memory-pressure", "NoSchedule", "NoExecute"),
        ("disk-pressure", "NoSchedule", "NoExecute"),
        ("pid-pressure", "NoSchedule", "NoExecute"),
        ("network-unavailable", "NoSchedule", "NoExecute"),
        ("unschedulable", "NoSchedule", "NoExecute"),
    ] {
        let key = format!("node.kubernetes.io/{name}");
        assert_eq!(tolerating(&key, Some(effect)), Vec::<String>::new());
        assert_eq!(tolerating(&key, Some(other)), [rule], "{key}");
        assert_eq!(tolerating(&key, None), [rule], "{key}");
    }
    for key in [
        "node.kubernetes.io/out-of-service",
        "node.cloudprovider.kubernetes.io/uninitialized",
    ] {
        for effect in [Some("NoExecute"), Some("NoSchedule"), None] {
            assert_eq!(tolerating(key, effect), [rule], "{key}");
        }
    }
    // What a class gives, and what the super cluster adds for a device.
    for key in ["customer", "nvidia.com/gpu"] {
        assert_eq!(tolerating(key, None), Vec::<String>::new());
    }
}

#[test]
fn t45_each_new_container_drops_raw_sockets_where_its_namespace_does_not_allow_them() {
    let rule = "containers of tenants drop NET_RAW, unless their class lets them keep it";
    let container = |name: &str, capabilities: &Value| json!({"name": name, "image": "i", "securityContext": {"capabilities": capabilities}});
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    for list in lists {
        for (capabilities, is_right) in [
            (json!({"drop": ["NET_RAW"]}), true),
            (json!({"drop": ["ALL"], "add": ["CHOWN"]}), true),
            (json!({"drop": ["KILL", "NET_RAW"]}), true),
            (json!({"drop": ["KILL"]}), false),
            (json!({}), false),
        ] {
            let broken = pods(json!({list: [container("other", &capabilities)]}));
            assert_eq!(
                broken.is_empty(),
                is_right,
                "{list} {capabilities}: {broken:?}"
            );
            assert!(is_right || broken == [rule], "{broken:?}");
        }
        let plain = json!([{"name": "other", "image": "i"}]);
        assert_eq!(pods(json!({list: plain})), [rule], "{list}");
        assert_eq!(
            pods(json!({list: plain, "os": {"name": "windows"}})),
            Vec::<String>::new()
        );
        let mut request = Request::create("pods", pod(json!({list: plain})));
        for (value, is_allowed) in [("allowed", true), ("refused", false)] {
            request.labels["sublet.dev/raw-sockets"] = value.into();
            let broken = broken("sublet-syncer-pods", &request);
            assert_eq!(broken.is_empty(), is_allowed, "{list} {value}");
        }
        request.trusted = true;
        assert!(broken("sublet-syncer-pods", &request).is_empty());
    }
    // One that is older than the rule goes on, and gets no further container that doesn't keep it.
    let old = pod(json!({"containers": [{"name": "main", "image": "i"}]}));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"]["a"] = "b".into();
    let request = Request::update("pods", old.clone(), labelled);
    assert_eq!(broken("sublet-syncer-pods", &request), Vec::<String>::new());
    for (capabilities, expected) in [
        (json!({"drop": ["NET_RAW"]}), vec![]),
        (json!({}), vec![rule]),
    ] {
        let mut debugged = old.clone();
        debugged["spec"]["ephemeralContainers"] = json!([container("debug", &capabilities)]);
        let request = Request::update("pods", old.clone(), debugged);
        assert_eq!(broken("sublet-syncer-pods", &request), expected);
    }
}

#[test]
fn t44_a_pod_asks_its_tenants_dns_server_or_the_nodes() {
    let of = |policy: Value| pods(json!({"dnsPolicy": policy}));
    let rule = "pods of tenants don't ask the super cluster's DNS server";
    for policy in ["None", "Default"] {
        assert_eq!(of(policy.into()), Vec::<String>::new());
    }
    for policy in ["ClusterFirst", "ClusterFirstWithHostNet"] {
        assert_eq!(of(policy.into()), [rule]);
    }
    let asks = pod(json!({"dnsPolicy": "ClusterFirst"}));
    // It can't change, and may be older than the rule.
    let request = Request::update("pods", asks.clone(), asks);
    assert_eq!(broken("sublet-syncer-pods", &request), Vec::<String>::new());
}

#[test]
fn a_toleration_added_later_is_judged_and_what_cannot_change_is_not() {
    let foreign = json!({"topologySpreadConstraints": [{"labelSelector": {}}]});
    let request = Request::update("pods", pod(foreign.clone()), pod(foreign));
    assert_eq!(broken("sublet-syncer-pods", &request), Vec::<String>::new());
    let later = pod(json!({"tolerations": [{"operator": "Exists"}]}));
    let request = Request::update("pods", pod(json!({})), later);
    assert_eq!(broken("sublet-syncer-pods", &request).len(), 1);
}
