//! Holds the admission policies of the manifest to what they are for, without an API server.
//!
//! Their expressions are evaluated as an API server does it, by another implementation of the language. What the super
//! cluster itself says of them is a test of the real cluster.

use std::fs;

use cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

use crate::paths;

const TENANT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
const HOLDER: &str = "tenants/acme";

/// One request of the syncer.
struct Request {
    operation: &'static str,
    resource: &'static str,
    subresource: &'static str,
    object: Value,
    old: Value,
    trusted: bool,
    account: &'static str,
    /// Whose namespace it is in.
    holder: &'static str,
    group: &'static str,
    namespace: &'static str,
    /// Of its namespace.
    labels: Value,
}

impl Request {
    fn create(resource: &'static str, object: Value) -> Self {
        Self {
            operation: "CREATE",
            resource,
            subresource: "",
            object,
            old: Value::Null,
            trusted: false,
            account: "sublet-syncer",
            holder: HOLDER,
            group: "",
            namespace: "ns",
            labels: json!({"sublet.dev/managed": "true", "sublet.dev/tenant": TENANT}),
        }
    }

    fn update(resource: &'static str, old: Value, object: Value) -> Self {
        Self {
            operation: "UPDATE",
            old,
            ..Self::create(resource, object)
        }
    }
}

fn documents() -> Vec<Value> {
    let file = paths::repository().join("manifests/install.yaml");
    let text = fs::read_to_string(file).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// Messages of the rules of a policy that a request breaks.
fn broken(policy: &str, request: &Request) -> Vec<String> {
    let documents = documents();
    let policy = documents
        .iter()
        .find(|document| {
            document["kind"] == "ValidatingAdmissionPolicy"
                && document["metadata"]["name"] == policy
        })
        .unwrap();
    let mut about = json!({
        "operation": request.operation, "namespace": request.namespace, "name": "n",
        "resource": {"group": request.group, "version": "v1", "resource": request.resource},
        "userInfo": {"username": format!("system:serviceaccount:sublet-system:{}", request.account)},
    });
    if !request.subresource.is_empty() {
        about["subResource"] = request.subresource.into();
    }
    let labels = &request.labels;
    let holder = json!({"sublet.dev/control-plane": request.holder});
    let params = match request.trusted {
        true => json!({"data": {TENANT: HOLDER}}),
        false => json!({}),
    };
    let mut variables = serde_json::Map::new();
    let evaluate = |expression: &str, variables: &serde_json::Map<String, Value>| {
        let mut context = Context::default();
        for (name, value) in [
            ("request", &about),
            ("object", &request.object),
            ("oldObject", &request.old),
            ("params", &params),
            (
                "namespaceObject",
                &json!({"metadata": {"name": request.namespace, "labels": labels, "annotations": holder}}),
            ),
            ("variables", &Value::Object(variables.clone())),
        ] {
            context.add_variable(name, value.clone()).unwrap();
        }
        Program::compile(expression).unwrap().execute(&context)
    };
    let list = |field: &str| {
        policy["spec"][field]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    for variable in list("variables") {
        // An API server evaluates them when they are asked for; one that fails is missed then.
        if let Ok(value) = evaluate(variable["expression"].as_str().unwrap(), &variables) {
            let name = variable["name"].as_str().unwrap();
            variables.insert(name.to_owned(), plain(&value));
        }
    }
    // Rights are for an API server to tell.
    let identifies = || request.trusted.into();
    variables.entry("identifies").or_insert_with(identifies);
    let rules = list("validations");
    let fails = |rule: &&Value| match evaluate(rule["expression"].as_str().unwrap(), &variables) {
        Ok(Cel::Bool(holds)) => !holds,
        other => panic!("{}: {other:?}", rule["expression"]),
    };
    let messages = rules.iter().filter(fails).map(|rule| &rule["message"]);
    messages
        .map(|message| message.as_str().unwrap().to_owned())
        .collect()
}

fn plain(value: &Cel) -> Value {
    match value {
        Cel::Bool(is) => (*is).into(),
        Cel::String(text) => text.as_str().into(),
        Cel::Int(number) => (*number).into(),
        Cel::UInt(number) => (*number).into(),
        Cel::List(list) => list.iter().map(plain).collect(),
        Cel::Map(map) => map
            .map
            .iter()
            .map(|(key, value)| (key.to_string(), plain(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

fn pod(spec: Value) -> Value {
    let metadata = json!({"name": "n", "labels": {"sublet.dev/tenant": TENANT}});
    let mut pod = json!({"metadata": metadata, "spec": {
        "serviceAccountName": "sublet-pod", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": "i"}],
    }});
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn pods(spec: Value) -> Vec<String> {
    broken("sublet-syncer-pods", &Request::create("pods", pod(spec)))
}

#[test]
fn every_expression_is_one_and_every_policy_denies() {
    let documents = documents();
    let of_kind = |kind: &str| -> Vec<&Value> {
        let found = documents.iter().filter(|document| document["kind"] == kind);
        found.collect()
    };
    let policies = of_kind("ValidatingAdmissionPolicy");
    let mut names: Vec<&str> = vec![];
    for policy in policies {
        names.push(policy["metadata"]["name"].as_str().unwrap());
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        for field in ["matchConditions", "variables", "validations"] {
            for entry in spec[field].as_array().into_iter().flatten() {
                let expression = entry["expression"].as_str().unwrap();
                if let Err(error) = Program::compile(expression) {
                    panic!("{expression}: {error}");
                }
            }
        }
    }
    names.sort_unstable();
    let bindings = of_kind("ValidatingAdmissionPolicyBinding");
    for name in &names {
        let bound = bindings.iter().any(|binding| {
            binding["spec"]["policyName"] == *name
                && binding["spec"]["validationActions"] == json!(["Deny"])
        });
        assert!(bound, "{name}");
    }
    // The syncer waits for these, and `sublet doctor` looks at them.
    let keys = fs::read_to_string(paths::repository().join("api/src/lib.rs")).unwrap();
    for name in &names {
        assert!(keys.contains(&format!("\"{name}\"")), "{name}");
    }
    assert!(keys.contains(&format!("ADMISSION_POLICIES: [&str; {}]", names.len())));
}

#[test]
fn what_the_syncer_makes_breaks_no_rule() {
    let own = json!({"matchLabels": {"app": "web", "sublet.dev/tenant": TENANT}});
    let term = json!({"labelSelector": own, "topologyKey": "kubernetes.io/hostname"});
    let whole = json!({
        "priorityClassName": "paid", "schedulerName": "default-scheduler", "runtimeClassName": "sandboxed",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "t"}}, {"configMap": {"name": "m"}}]}}],
        "securityContext": {"seLinuxOptions": {"type": "container_t"}},
        "affinity": {
            "nodeAffinity": {},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "podAffinityTerm": term}]},
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "labelSelector": own}, {"maxSkew": 1}],
    });
    assert_eq!(pods(json!({})), Vec::<String>::new());
    assert_eq!(pods(whole), Vec::<String>::new());
    let service =
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
    let request = Request::create("services", service);
    assert_eq!(
        broken("sublet-syncer-services", &request),
        Vec::<String>::new()
    );
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
    let debugger = json!({"name": "d", "securityContext": levelled});
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

/// A policy whose list of trusted tenants is missing denies whoever writes what it matches.
#[test]
fn what_needs_the_list_of_trusted_tenants_matches_namespaces_of_sublet_only() {
    let own = json!({"matchLabels": {"sublet.dev/managed": "true"}});
    let with_list: Vec<Value> = documents()
        .into_iter()
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
fn a_toleration_added_later_is_judged_and_what_cannot_change_is_not() {
    let foreign = json!({"topologySpreadConstraints": [{"labelSelector": {}}]});
    let request = Request::update("pods", pod(foreign.clone()), pod(foreign));
    assert_eq!(broken("sublet-syncer-pods", &request), Vec::<String>::new());
    let later = pod(json!({"tolerations": [{"operator": "Exists"}]}));
    let request = Request::update("pods", pod(json!({})), later);
    assert_eq!(broken("sublet-syncer-pods", &request).len(), 1);
}

#[test]
fn each_attack_by_a_service_or_claim_breaks_its_rule() {
    let address = json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}});
    assert_eq!(
        broken(
            "sublet-syncer-services",
            &Request::create("services", address)
        ),
        ["Services of tenants choose no load balancer's address"]
    );
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
    let across =
        json!({"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s", "namespace": "victim"}});
    assert_eq!(create(across).len(), 1);
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
