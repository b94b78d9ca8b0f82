//! Holds the admission policies of the manifest to what they are for, without an API server.
//!
//! Their expressions are evaluated as an API server does it, by another implementation of the language. What the super
//! cluster itself says of them is a test of the real cluster.

mod daemons;
mod pods;
mod reach;
mod services;

use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use cel::{Context, Program, Value as Cel, extractors::This};
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

/// The documents of the manifest.
fn documents() -> &'static [Value] {
    static DOCUMENTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let file = paths::repository().join("manifests/install.yaml");
        let text = fs::read_to_string(file).unwrap();
        serde_saphyr::from_multiple(&text).unwrap()
    });
    &DOCUMENTS
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
        library(&mut context);
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

/// What Kubernetes adds to the language, as far as the policies use it: texts stand for addresses.
fn library(context: &mut Context<'_, '_>) {
    let address = |text: Arc<String>| {
        let parsed: IpAddr = text.parse().unwrap();
        Arc::new(parsed.to_string())
    };
    context.add_function("ip", address).unwrap();
    context
        .add_function("cidr", |text: Arc<String>| text)
        .unwrap();
    let holds = |This(block): This<Arc<String>>, address: Arc<String>| {
        let (first, length) = network(&block);
        let address: IpAddr = address.parse().unwrap();
        first.is_ipv4() == address.is_ipv4()
            && first_bits(first, length) == first_bits(address, length)
    };
    context.add_function("containsIP", holds).unwrap();
    let covers = |This(block): This<Arc<String>>, other: Arc<String>| {
        let ((address, length), (first, longer)) = (network(&block), network(&other));
        length <= longer && first_bits(address, length) == first_bits(first, length)
    };
    context.add_function("containsCIDR", covers).unwrap();
}

/// An address of a network, and how many of its bits all others have too.
fn network(text: &str) -> (IpAddr, u32) {
    let (address, length) = text.split_once('/').unwrap();
    (address.parse().unwrap(), length.parse().unwrap())
}

/// The first bits of an address, beside how many it has.
fn first_bits(address: IpAddr, length: u32) -> (u32, u128) {
    let (width, bits) = match address {
        IpAddr::V4(address) => (32, u128::from(address.to_bits())),
        IpAddr::V6(address) => (128, address.to_bits()),
    };
    (width, bits.checked_shr(width - length).unwrap_or_default())
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
    assert_eq!(pods::pods(json!({})), Vec::<String>::new());
    assert_eq!(pods::pods(whole), Vec::<String>::new());
    let asked = json!([{"manager": "sublet-syncer", "fieldsV1": {"f:spec": {"f:clusterIP": {}, "f:type": {}}}}]);
    let service = json!({"metadata": {"name": "s", "managedFields": asked},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}});
    let request = Request::create("services", service);
    assert_eq!(
        broken("sublet-syncer-services", &request),
        Vec::<String>::new()
    );
}
