//! Environment: where the API server is, and what a pod learns about itself.
//!
//! The kubelet gives every container the address of the *super* cluster's API server, whatever
//! `enableServiceLinks` says. A variable of that name in the container's own `env` takes its place, so the tenant's
//! address stands there, first in the list so that later ones can use it as `$(KUBERNETES_SERVICE_HOST)`.
//!
//! A container with `envFrom` may define such a variable itself, by keys that aren't known here, and must win. `env`
//! beats `envFrom` in the kubelet, so such a container has ours from a ConfigMap that comes first in its `envFrom`, where
//! all that the tenant wrote beats it. The others don't: a pod then waits for no further object.

use super::{
    containers, downward,
    downward::FieldPath,
    fields::{Fields, Rule, items, text},
};
use crate::{
    kind::Cx,
    object::Object,
    refs::{self, Referent},
};
use serde_json::{Value, json};

/// Translates the environment of every container.
pub(super) fn step(spec: &mut Value, pod: &Object, cx: &Cx<'_>) {
    let ours = api_server(cx);
    containers::for_each(spec, |container| {
        let named =
            |name: &str| items(container, "env").any(|variable| text(variable, "name") == name);
        let mut sources: Vec<Value> = items(container, "envFrom").cloned().collect();
        let mut env: Vec<Value> = vec![];
        if sources.is_empty() {
            let missing = ours.iter().filter(|(name, _)| !named(name));
            env.extend(missing.map(|(name, value)| json!({"name": name, "value": value})));
        } else if !ours.is_empty() {
            sources.insert(0, json!({"configMapRef": {"name": refs::ENVIRONMENT}}));
            container["envFrom"] = sources.into();
        }
        env.extend(items(container, "env").map(|variable| variable_of(variable, pod)));
        if !env.is_empty() {
            container["env"] = env.into();
        }
    });
}

/// The variables by which clients in a pod find the API server; none when the tenant has no Service range.
pub(in crate::kind) fn api_server(cx: &Cx<'_>) -> Vec<(&'static str, String)> {
    let Some(slice) = cx.rules.slice else {
        return vec![];
    };
    let host = slice.api_address();
    let url = format!("tcp://{host}:443");
    vec![
        ("KUBERNETES_SERVICE_HOST", host.to_string()),
        ("KUBERNETES_SERVICE_PORT", "443".into()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443".into()),
        ("KUBERNETES_PORT", url.clone()),
        ("KUBERNETES_PORT_443_TCP", url),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp".into()),
        ("KUBERNETES_PORT_443_TCP_PORT", "443".into()),
        ("KUBERNETES_PORT_443_TCP_ADDR", host.to_string()),
    ]
}

/// A variable from the downward API becomes a literal where the super pod would answer for itself.
///
/// A literal is exact: what it stands for can't change, or Kubernetes too reads it only when the container starts.
fn variable_of(variable: &Value, pod: &Object) -> Value {
    let path = variable
        .pointer("/valueFrom/fieldRef")
        .map(|field| FieldPath::parse(text(field, "fieldPath")));
    let literal = match path {
        Some(FieldPath::Namespace) => pod.namespace().to_owned(),
        Some(FieldPath::Uid) => pod.uid().to_owned(),
        Some(FieldPath::ServiceAccount) => super::identity::service_account(pod).to_owned(),
        Some(path) if !path.crosses() => downward::value(&path, pod).unwrap_or_default(),
        _ => return variable.clone(),
    };
    // The kubelet expands `$(NAME)` in literals; `$$` stands for `$`.
    json!({"name": text(variable, "name"), "value": literal.replace('$', "$$")})
}

/// EnvVar.
pub(super) const ENV_VAR: Fields = &[
    ("name", Rule::Pass),
    ("value", Rule::Pass),
    ("valueFrom", Rule::Object(ENV_VAR_SOURCE)),
];

const ENV_VAR_SOURCE: Fields = &[
    ("configMapKeyRef", Rule::Object(CONFIG_MAP_KEY)),
    ("fieldRef", Rule::Object(FIELD)),
    ("fileKeyRef", Rule::Object(FILE_KEY)),
    ("resourceFieldRef", Rule::Object(RESOURCE_FIELD)),
    ("secretKeyRef", Rule::Object(SECRET_KEY)),
];

/// EnvFromSource.
pub(super) const ENV_FROM: Fields = &[
    (
        "configMapRef",
        Rule::Object(&[
            ("name", Rule::Refers(Referent::ConfigMap)),
            ("optional", Rule::Pass),
        ]),
    ),
    ("prefix", Rule::Pass),
    (
        "secretRef",
        Rule::Object(&[
            ("name", Rule::Refers(Referent::Secret)),
            ("optional", Rule::Pass),
        ]),
    ),
];

const CONFIG_MAP_KEY: Fields = &[
    ("key", Rule::Pass),
    ("name", Rule::Refers(Referent::ConfigMap)),
    ("optional", Rule::Pass),
];

const SECRET_KEY: Fields = &[
    ("key", Rule::Pass),
    ("name", Rule::Refers(Referent::Secret)),
    ("optional", Rule::Pass),
];

/// A file in a volume of the pod itself.
const FILE_KEY: Fields = &[
    ("key", Rule::Pass),
    ("optional", Rule::Pass),
    ("path", Rule::Pass),
    ("volumeName", Rule::Pass),
];

/// ObjectFieldSelector.
pub(super) const FIELD: Fields = &[
    ("apiVersion", Rule::Pass),
    ("fieldPath", Rule::Translated(&Rule::Pass)),
];

/// ResourceFieldSelector.
pub(super) const RESOURCE_FIELD: Fields = &[
    ("containerName", Rule::Pass),
    ("divisor", Rule::Pass),
    ("resource", Rule::Pass),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::pod::tests::{down, down_as, pod};
    use expect_test::expect;

    /// The environment of one container, a variable a line.
    fn env(pod: &Object, list: &str) -> String {
        let variables = pod
            .at(&format!("/spec/{list}/0/env"))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let line = |variable: &Value| {
            format!(
                "{} {}",
                text(variable, "name"),
                variable.get("value").unwrap_or(&variable["valueFrom"])
            )
        };
        variables.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_container_finds_the_tenants_api_server() {
        let pod = down(&pod(
            "{initContainers: [{name: a}], containers: [{name: b}], ephemeralContainers: [{name: c}]}",
        ));
        expect![[r#"
            KUBERNETES_SERVICE_HOST "10.96.4.1"
            KUBERNETES_SERVICE_PORT "443"
            KUBERNETES_SERVICE_PORT_HTTPS "443"
            KUBERNETES_PORT "tcp://10.96.4.1:443"
            KUBERNETES_PORT_443_TCP "tcp://10.96.4.1:443"
            KUBERNETES_PORT_443_TCP_PROTO "tcp"
            KUBERNETES_PORT_443_TCP_PORT "443"
            KUBERNETES_PORT_443_TCP_ADDR "10.96.4.1""#]]
        .assert_eq(&env(&pod, "initContainers"));
        for list in ["containers", "ephemeralContainers"] {
            assert_eq!(env(&pod, list), env(&pod, "initContainers"));
        }
    }

    #[test]
    fn a_variable_of_the_containers_own_stays() {
        let pod = down(&pod(
            "{containers: [{name: b, env: [{name: KUBERNETES_SERVICE_HOST, value: mine}, {name: A, value: $(B)}]}]}",
        ));
        let env = env(&pod, "containers");
        assert!(
            env.contains("KUBERNETES_SERVICE_HOST \"mine\"") && env.ends_with("A \"$(B)\""),
            "{env}"
        );
        assert_eq!(env.matches("KUBERNETES_SERVICE_HOST").count(), 1);
    }

    #[test]
    fn what_env_from_defines_beats_ours() {
        let pod = down(&pod(
            "{containers: [{name: b, envFrom: [{configMapRef: {name: m}}], env: [{name: A, value: b}]}, {name: c}]}",
        ));
        assert_eq!(
            pod.at("/spec/containers/0/envFrom"),
            Some(
                &json!([{"configMapRef": {"name": "sublet-environment"}}, {"configMapRef": {"name": "m"}}])
            )
        );
        assert_eq!(env(&pod, "containers"), "A \"b\"");
        assert_eq!(pod.at("/spec/containers/1/envFrom"), None);
        assert!(pod.at("/spec/containers/1/env/7").is_some());
    }

    #[test]
    fn without_a_service_range_nothing_is_set() {
        let spec = "{containers: [{name: c}, {name: d, envFrom: [{secretRef: {name: s}}]}]}";
        let pod = down_as(&pod(spec), |tenant, _| {
            tenant.slice = None;
        })
        .unwrap();
        assert_eq!(pod.at("/spec/containers/0/env"), None);
        assert_eq!(pod.at("/spec/containers/1/envFrom/1"), None);
    }

    #[test]
    fn the_downward_api_answers_for_the_tenants_pod() {
        let mut pod = pod("
          serviceAccountName: builder
          containers:
          - name: c
            env:
            - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
            - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
            - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
            - {name: ZONE, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['topology.kubernetes.io/zone']\"}}}
            - {name: KEPT, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['example.com/kept']\"}}}
            - {name: OURS, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['sublet.dev/tenant']\"}}}
            - {name: MAP, valueFrom: {configMapKeyRef: {name: kube-root-ca.crt, key: ca.crt}}}
            - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}");
        pod.annotate("example.com/kept", "a$(NAME)");
        let down = down(&pod);
        let env = env(&down, "containers");
        expect![[r#"
             "10.96.4.1"
            NAMESPACE "shop"
            UID "tenant-uid"
            ACCOUNT "builder"
            NAME {"fieldRef":{"fieldPath":"metadata.name"}}
            NODE {"fieldRef":{"fieldPath":"spec.nodeName"}}
            LABEL {"fieldRef":{"fieldPath":"metadata.labels['app']"}}
            ZONE {"fieldRef":{"fieldPath":"metadata.labels['topology.kubernetes.io/zone']"}}
            KEPT "a$$(NAME)"
            OURS ""
            MAP {"configMapKeyRef":{"key":"ca.crt","name":"kube-root-ca.crt.tenant"}}
            CPU {"resourceFieldRef":{"resource":"limits.cpu"}}"#]]
        .assert_eq(env.split_once("_ADDR").unwrap().1);
        assert_eq!(down.annotation("example.com/kept"), None);
    }
}
