//! A pod of a control plane: one container that meets the `restricted` Pod Security level.
//!
//! All three parts are built here, so that none can be less strict than the others.

use super::{labels, selector};
use crate::{network::zones::ZONE, object::Object, spec::control_plane::ControlPlane};
use api::{PodResources, Toleration};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenancy::quota::amount::parse;

/// Numeric user and group of every control-plane process: images may name none.
const USER: i64 = 65532;
/// Keys are readable by the pod's group alone.
const KEY_MODE: i32 = 0o440;
/// PriorityClass of control planes, above workloads.
const PRIORITY_CLASS: &str = "sublet-control-plane";
/// Where Secrets and ConfigMaps are mounted.
pub(crate) const CONFIG_DIR: &str = "/etc/kubernetes";
/// Annotation of a pod with the hash of what it reads only at start.
pub(crate) const FILES: &str = "sublet.dev/config";

/// What differs from part to part.
pub(crate) struct Part<'a> {
    /// Name of the part and its container.
    pub(crate) name: &'static str,
    /// Image of the container.
    pub(crate) image: &'a str,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Variables beside the pod's own address and name, and what its memory's limit makes of Go's.
    pub(crate) env: Vec<(&'static str, &'static str)>,
    /// Name and number of each port.
    pub(crate) ports: Vec<(&'static str, u16)>,
    /// Answers once it works; asked every second until then.
    pub(crate) startup: Value,
    /// Answers while it works, when that can end.
    pub(crate) readiness: Option<Value>,
    /// Answers while a restart wouldn't help.
    pub(crate) liveness: Value,
    /// Requests and limits of the class.
    pub(crate) resources: &'a PodResources,
    /// Requests when the class gives none.
    pub(crate) default_requests: [(&'static str, &'static str); 2],
    /// Keys and files.
    pub(crate) files: Vec<Source>,
    /// A volume of its own.
    pub(crate) data: Option<Data>,
    /// Time to end in, in seconds.
    pub(crate) grace: u32,
    /// Hash of what it reads only at start.
    pub(crate) digest: &'a str,
    /// Whether its pods are kept on different nodes where possible.
    pub(crate) spread: Spread,
}

/// A volume that a part keeps its data in.
pub(crate) struct Data {
    /// What it is called.
    pub(crate) name: String,
    /// The volume; null where a claim template brings it.
    pub(crate) volume: Value,
    /// Where it is mounted.
    pub(crate) path: &'static str,
}

/// A file under [`CONFIG_DIR`].
pub(crate) enum Source {
    /// (Secret, key, file).
    Secret(&'static str, &'static str, &'static str),
    /// (ConfigMap, key, file).
    ConfigMap(&'static str, &'static str, &'static str),
    /// (Annotation of the pod itself, file): it changes with the pod's template and never in a pod that runs.
    Annotation(&'static str, &'static str),
}

/// How pods of a part lie to each other.
pub(crate) enum Spread {
    /// There is one.
    Single,
    /// On different nodes and in different zones where possible.
    Preferred,
}

/// `spec.template` of a workload.
pub(crate) fn template(cp: &ControlPlane, part: Part<'_>) -> Value {
    let mut volumes = vec![json!({
        "name": "config",
        "projected": key_files(&part.files),
    })];
    let mut mounts = vec![json!({"name": "config", "mountPath": CONFIG_DIR, "readOnly": true})];
    if let Some(data) = part.data {
        mounts.push(json!({"name": data.name, "mountPath": data.path}));
        if !data.volume.is_null() {
            volumes.push(data.volume);
        }
    }
    let mut env = vec![
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
    ];
    env.extend(
        part.env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    );
    if let Some(bytes) = memory_goal(part.resources) {
        env.push(json!({"name": "GOMEMLIMIT", "value": bytes.to_string()}));
    }
    let mut container = json!({
        "name": part.name,
        "image": part.image,
        "imagePullPolicy": "IfNotPresent",
        "command": part.command,
        "env": env,
        "ports": part.ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect::<Vec<_>>(),
        "resources": resources(part.resources, part.default_requests),
        "startupProbe": probe(&part.startup, 1, 180),
        "livenessProbe": probe(&part.liveness, 10, 6),
        "volumeMounts": mounts,
        "securityContext": no_rights(),
    });
    if let Some(readiness) = &part.readiness {
        container["readinessProbe"] = probe(readiness, 5, 3);
    }
    let mut spec = base(cp);
    spec["terminationGracePeriodSeconds"] = json!(part.grace);
    spec["containers"] = json!([container]);
    spec["volumes"] = json!(volumes);
    match part.spread {
        Spread::Single => {}
        Spread::Preferred => spec["affinity"] = apart(part.name),
    }
    json!({
        "metadata": {
            "labels": labels(cp, part.name),
            "annotations": {
                api::keys::CONTROL_PLANE: cp.owner.path(),
                FILES: part.digest,
            },
        },
        "spec": spec,
    })
}

/// What every pod of a control plane has: where it runs, and no more than it needs.
pub(super) fn base(cp: &ControlPlane) -> Value {
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "priorityClassName": PRIORITY_CLASS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    if !cp.pods.node_selector.is_empty() {
        spec["nodeSelector"] = json!(cp.pods.node_selector);
    }
    if !cp.pods.tolerations.is_empty() {
        spec["tolerations"] = cp.pods.tolerations.iter().map(Toleration::of_pod).collect();
    }
    spec
}

/// What every container of a control plane may do.
pub(super) fn no_rights() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
    })
}

/// On different nodes and in different zones where possible. Where no node names its zone, the second term says nothing.
fn apart(part: &str) -> Value {
    let term = |topology: &str| json!({"labelSelector": {"matchLabels": selector(part)}, "topologyKey": topology});
    let mut zones = term(ZONE);
    // As new pods of a Deployment come while the old ones run, they are spread among each other.
    zones["matchLabelKeys"] = json!(["pod-template-hash"]);
    let preferred = [term("kubernetes.io/hostname"), zones]
        .map(|term| json!({"weight": 100, "podAffinityTerm": term}));
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
}

/// The time at which the pods of a workload were to be started anew last.
pub(crate) fn mark(main: &Object) -> Option<Timestamp> {
    let annotations = &main.body["spec"]["template"]["metadata"]["annotations"];
    annotations[api::keys::ROLLOUT].as_str()?.parse().ok()
}

/// The template of pods that are started anew when the VirtualControlPlane says so.
pub(crate) fn begun_anew(cp: &ControlPlane, mut template: Value) -> Value {
    if let Some(after) = cp.rollout {
        template["metadata"]["annotations"][api::keys::ROLLOUT] = json!(after.to_string());
    }
    template
}

/// An HTTP probe of `port`; control-plane parts serve TLS except etcd's health port.
pub(crate) fn http(scheme: &str, port: &str, path: &str) -> Value {
    json!({"scheme": scheme, "port": port, "path": path})
}

fn probe(http_get: &Value, period: u32, failures: u32) -> Value {
    json!({"httpGet": http_get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures})
}

/// A projected volume of keys and files.
pub(crate) fn key_files(files: &[Source]) -> Value {
    json!({"defaultMode": KEY_MODE, "sources": files.iter().map(source).collect::<Vec<_>>()})
}

fn source(source: &Source) -> Value {
    match source {
        Source::Secret(name, key, path) => {
            json!({"secret": {"name": name, "items": [{"key": key, "path": path}]}})
        }
        Source::ConfigMap(name, key, path) => {
            json!({"configMap": {"name": name, "items": [{"key": key, "path": path}]}})
        }
        Source::Annotation(key, path) => {
            let field = json!({"fieldPath": format!("metadata.annotations['{key}']")});
            json!({"downwardAPI": {"items": [{"path": path, "fieldRef": field}]}})
        }
    }
}

/// Bytes from which on Go collects garbage more often than `GOGC` says: nine tenths of what the container may use, if that is
/// limited. Else the garbage that it would have collected a moment later ends the process.
fn memory_goal(class: &PodResources) -> Option<i128> {
    let limit = parse(class.limits.0.get("memory")?)?;
    // Amounts are thousandths, and a limit of nothing is none.
    (limit > 0).then_some(limit / 10_000 * 9)
}

fn resources(class: &PodResources, default_requests: [(&str, &str); 2]) -> Value {
    let mut requests: BTreeMap<&str, &str> = BTreeMap::from(default_requests);
    requests.extend(
        class
            .requests
            .0
            .iter()
            .map(|(name, amount)| (name.as_str(), amount.as_str())),
    );
    let mut resources = json!({"requests": requests});
    if !class.limits.is_empty() {
        resources["limits"] = json!(class.limits);
    }
    resources
}
