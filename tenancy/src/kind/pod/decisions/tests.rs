//! Every path of the schema has a decision, and a pod made for it shows that the decision is what happens.
//!
//! `paths_1_36.txt` has the paths and types of a running API server; e2e compares it with real ones and renews it.
//! `decisions_1_36.txt` shows each path's decision with a value before and after.

use super::*;
use crate::{
    kind::{
        Cx, Facts, Refused, Resource,
        isolation::Ruled,
        pod::{Pod, fields, tests::pod},
        testing::tenant,
        token_requests, translate,
    },
    object::Object,
};
use expect_test::expect_file;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// Facts that tell selectors apart.
struct BySelector;

impl Facts for BySelector {
    fn is_referenced(&self, _: &Resource, _: &str, _: &str) -> bool {
        true
    }

    fn is_pod_address(&self, _: IpAddr) -> bool {
        false
    }

    fn namespaces(&self, selector: &Value) -> Vec<String> {
        vec![format!("matching-{selector}")]
    }

    fn has_selector(&self, _: &str, _: &str) -> Option<bool> {
        None
    }

    fn uid(&self, _: &str, _: &str, _: &str, _: &str) -> Option<String> {
        None
    }

    fn ruled(&self, _: &str, _: &BTreeMap<String, String>) -> Ruled {
        Ruled::default()
    }

    fn is_offered(&self, _: &str, _: &str) -> bool {
        true
    }
}

/// Two values for a path, and what must stand beside it for them to mean anything.
struct Sample {
    one: Value,
    other: Value,
    beside: Value,
}

/// Values for paths where those that go by the type say nothing; the longest suffix counts.
///
/// Each: end of the path, one value, another, fields of the same object beside it.
fn special() -> Vec<(&'static str, Value, Value, Value)> {
    let condition = "node.kubernetes.io/not-ready";
    vec![
        (
            "spec.dnsPolicy",
            json!("ClusterFirst"),
            json!("Default"),
            json!({}),
        ),
        ("spec.hostUsers", json!(false), Value::Null, json!({})),
        (
            "spec.schedulerName",
            json!("default-scheduler"),
            Value::Null,
            json!({}),
        ),
        (
            "spec.setHostnameAsFQDN",
            json!(true),
            json!(false),
            json!({"subdomain": "db"}),
        ),
        (
            ".fieldRef.fieldPath",
            json!("metadata.namespace"),
            json!("metadata.uid"),
            json!({}),
        ),
        (
            "configMapKeyRef.name",
            json!("kube-root-ca.crt"),
            json!("b"),
            json!({}),
        ),
        (
            "configMapRef.name",
            json!("kube-root-ca.crt"),
            json!("b"),
            json!({}),
        ),
        (
            "configMap.name",
            json!("kube-root-ca.crt"),
            json!("b"),
            json!({}),
        ),
        (
            ".seccompProfile",
            json!({"type": "RuntimeDefault"}),
            Value::Null,
            json!({}),
        ),
        (
            ".seccompProfile.type",
            json!("RuntimeDefault"),
            json!("Localhost"),
            json!({}),
        ),
        (
            ".seccompProfile.localhostProfile",
            json!("a"),
            json!("b"),
            json!({"type": "Localhost"}),
        ),
        (
            ".appArmorProfile",
            json!({"type": "RuntimeDefault"}),
            Value::Null,
            json!({}),
        ),
        (
            ".appArmorProfile.type",
            json!("RuntimeDefault"),
            json!("Localhost"),
            json!({}),
        ),
        (
            ".appArmorProfile.localhostProfile",
            json!("a"),
            json!("b"),
            json!({"type": "Localhost"}),
        ),
        (
            ".seLinuxOptions.type",
            json!("container_t"),
            json!("container_init_t"),
            json!({}),
        ),
        (
            ".capabilities.add",
            json!(["CHOWN"]),
            json!(["KILL"]),
            json!({}),
        ),
        (".procMount", json!("Default"), Value::Null, json!({})),
        (
            ".sysctls",
            json!([{"name": "net.ipv4.tcp_syncookies"}]),
            Value::Null,
            json!({}),
        ),
        (
            ".sysctls[].name",
            json!("net.ipv4.tcp_syncookies"),
            Value::Null,
            json!({}),
        ),
        (
            ".sysctls[].value",
            json!("1"),
            json!("0"),
            json!({"name": "net.ipv4.tcp_syncookies"}),
        ),
        ("tolerations[].key", json!(condition), json!("a"), json!({})),
        (
            "tolerations[].effect",
            json!("NoExecute"),
            json!("NoSchedule"),
            json!({"key": condition}),
        ),
        (
            "tolerations[].operator",
            json!("Exists"),
            json!("Equal"),
            json!({"key": condition}),
        ),
        (
            "tolerations[].tolerationSeconds",
            json!(1),
            json!(2),
            json!({"key": condition}),
        ),
        (
            "tolerations[].value",
            json!("a"),
            json!("b"),
            json!({"key": condition}),
        ),
        (
            "atchLabelKeys",
            json!(["a"]),
            json!(["b"]),
            json!({"labelSelector": {}}),
        ),
    ]
}

fn sample(path: &str, kind: &str) -> Sample {
    let found = special()
        .into_iter()
        .filter(|(suffix, ..)| path.ends_with(suffix))
        .max_by_key(|(suffix, ..)| suffix.len());
    if let Some((_, one, other, beside)) = found {
        return Sample { one, other, beside };
    }
    let (one, other) = match kind {
        "string" => (json!("a"), json!("b")),
        "[string]" => (json!(["a"]), json!(["b"])),
        "integer" => (json!(1), json!(2)),
        "[integer]" => (json!([1]), json!([2])),
        "boolean" => (json!(true), json!(false)),
        "IntOrString" => (json!(1), json!("http")),
        "Quantity" => (json!("1"), json!("2")),
        "{string}" => (json!({"a": "1"}), json!({"b": "2"})),
        "{Quantity}" => (json!({"cpu": "1"}), json!({"memory": "2"})),
        "Time" => (json!("2026-01-01T00:00:00Z"), json!("2026-02-01T00:00:00Z")),
        "object" | "FieldsV1" => (json!({}), Value::Null),
        "[object]" => (json!([{}]), Value::Null),
        other => panic!("{path}: no values for the type {other}"),
    };
    Sample {
        one,
        other,
        beside: json!({}),
    }
}

/// Writes `value` to a path like `spec.volumes[].name`, making what is above it; lists get one item.
fn set(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for step in path.split('.') {
        let (name, list) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        place = &mut place[name];
        if list {
            if !place.is_array() {
                *place = json!([{}]);
            }
            place = &mut place[0];
        }
    }
    *place = value;
}

/// All values at a path, whichever items they are in.
fn at(object: &Value, path: &str) -> Vec<Value> {
    let mut places = vec![object];
    for step in path.split('.') {
        let (name, list) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        places = places
            .into_iter()
            .filter_map(|place| place.get(name))
            .flat_map(|value| match value {
                Value::Array(items) if list => items.iter().collect(),
                value => vec![value],
            })
            .collect();
    }
    places.into_iter().cloned().collect()
}

/// A pod in which `path` has this value, or is the one thing missing.
fn with_path(path: &str, value: Option<&Value>, beside: &Value) -> Object {
    let mut whole = pod("{}");
    whole.value_mut()["metadata"]["labels"] = json!({"a": "1", "b": "2"});
    let (parent, name) = path.rsplit_once('.').unwrap();
    let mut object = beside.clone();
    if let Some(value) = value {
        object[name] = value.clone();
    }
    set(whole.value_mut(), parent, object);
    whole
}

/// All that follows from a pod: the super pod's spec and annotations, and the tokens that are asked for.
fn outcome(pod: &Object) -> Result<Value, Refused> {
    let mut tenant = tenant();
    tenant.node_selector.insert("pool".into(), "tenants".into());
    let cx = Cx {
        rules: &tenant,
        facts: &BySelector,
    };
    let down = translate(&Pod, pod, &cx)?.unwrap();
    let annotations: BTreeMap<&str, &str> = down
        .annotations()
        .filter(|(key, _)| key.starts_with("downward."))
        .collect();
    Ok(json!({
        "spec": down.at("/spec"), "annotations": annotations,
        "tokens": format!("{:?}", token_requests(pod)),
    }))
}

/// Whether what was written at the path is there afterwards; of objects, whether one is.
fn stays(path: &str, kind: &str, before: &Object, after: &Value) -> bool {
    let (before, after) = (at(before.value(), path), at(after, path));
    if matches!(kind, "object" | "[object]") {
        return !after.is_empty();
    }
    before.iter().all(|value| after.contains(value))
}

/// What happens to the path, and a line that shows it.
fn observe(path: &str, kind: &str) -> (Decision, String) {
    let Sample { one, other, beside } = sample(path, kind);
    let pods = [Some(&one), Some(&other).filter(|other| !other.is_null())]
        .into_iter()
        .flatten()
        .map(|value| with_path(path, Some(value), &beside));
    let absent = outcome(&with_path(path, None, &beside));
    let mut seen = vec![];
    for pod in pods {
        match outcome(&pod) {
            Ok(after) => seen.push((pod, after)),
            Err(refused) if seen.is_empty() => {
                return (Decision::Refuse, format!("{one} → {}", refused.reason));
            }
            Err(refused) => panic!("{path}: {one} crosses and {other} doesn't: {refused}"),
        }
    }
    let shown = at(&seen[0].1, path);
    let shown = match &shown[..] {
        [] => "nothing there".to_owned(),
        [value] => value.to_string(),
        all => Value::from(all.to_vec()).to_string(),
    };
    let decision = if seen
        .iter()
        .all(|(pod, after)| stays(path, kind, pod, after))
    {
        Decision::Pass
    } else if seen.iter().all(|(_, after)| Ok(after) == absent.as_ref()) {
        Decision::Force
    } else {
        Decision::Translate
    };
    (decision, format!("{one} → {shown}"))
}

fn schema() -> Vec<(&'static str, &'static str)> {
    include_str!("../paths_1_36.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect()
}

#[test]
fn every_path_of_the_schema_is_decided_and_does_what_was_decided() {
    let decided: BTreeMap<String, Decision> = decisions().into_iter().collect();
    assert_eq!(decided.len(), decisions().len(), "a path is decided twice");
    let (mut lines, mut wrong) = (vec![], vec![]);
    for (path, kind) in schema() {
        let Some(decision) = decided.get(path) else {
            wrong.push(format!("{path} has no decision"));
            continue;
        };
        let (observed, line) = observe(path, kind);
        if observed != *decision {
            wrong.push(format!(
                "{path}: decided {decision:?}, but {observed:?}: {line}"
            ));
        }
        lines.push(format!(
            "{path}: {}: {line}\n",
            format!("{observed:?}").to_lowercase()
        ));
    }
    let known: Vec<&str> = schema().into_iter().map(|(path, _)| path).collect();
    wrong.extend(
        decided
            .keys()
            .filter(|path| !known.contains(&path.as_str()))
            .map(|path| format!("{path} isn't in the schema")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    expect_file!["../decisions_1_36.txt"].assert_eq(&lines.concat());
}

/// Values that the tables pass on and the level `restricted` refuses, by the end of the path.
fn forbidden() -> Vec<(&'static str, Value)> {
    vec![
        ("spec.hostUsers", json!(true)),
        ("spec.schedulerName", json!("mine")),
        ("Profile.type", json!("Unconfined")),
        (".seLinuxOptions.type", json!("spc_t")),
        (".capabilities.add", json!(["SYS_ADMIN"])),
        (".capabilities.drop", json!(["KILL"])),
        (".procMount", json!("Unmasked")),
        (".sysctls[].name", json!("kernel.msgmax")),
        (".runAsNonRoot", json!(false)),
        (".runAsUser", json!(0)),
        (".allowPrivilegeEscalation", json!(true)),
    ]
}

#[test]
fn every_judged_field_has_a_value_that_is_refused() {
    let mut judged = vec![];
    fields::each(SPEC, "spec", &mut |path, rule| {
        if matches!(rule.inner(), Rule::Judged | Rule::Only(..)) {
            judged.push(path.to_owned());
        }
    });
    assert!(judged.len() > 20, "{judged:?}");
    for path in judged {
        let (_, value) = forbidden()
            .into_iter()
            .find(|(suffix, _)| path.ends_with(suffix))
            .unwrap_or_else(|| panic!("{path} has no value that is refused"));
        let mut tenant = tenant();
        tenant.pod_security = api::PodSecurity::Restricted;
        let cx = Cx {
            rules: &tenant,
            facts: &BySelector,
        };
        // Without the value the pod must be allowed, so that the value is what is refused.
        let mut allowed = pod("
          securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
          initContainers: [{name: a, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
          containers: [{name: b, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
          ephemeralContainers: [{name: c, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]");
        translate(&Pod, &allowed, &cx).unwrap();
        set(allowed.value_mut(), &path, value);
        assert!(translate(&Pod, &allowed, &cx).is_err(), "{path}");
    }
}
