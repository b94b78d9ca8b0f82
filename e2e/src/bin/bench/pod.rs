//! The pods that are made, and what is read of them.

use crate::world::NODE;
use e2e::{
    make,
    read::{condition, label, text},
    side::Side,
};
use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use std::time::Duration;

/// Label that holds the name of the run; all syncers keep labels.
const RUN: &str = "bench-run";
/// Label that holds the number of the pod.
const NUMBER: &str = "bench-pod";

/// Whether pods get a token of their ServiceAccount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    Off,
    On,
}

impl Tokens {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// A pod of a run.
pub(crate) fn make(run: &str, namespace: &str, number: usize, tokens: Tokens) -> Value {
    let mut spec = make::pod_spec(make::idle());
    if tokens == Tokens::Off {
        spec["automountServiceAccountToken"] = false.into();
    }
    // Where there is a scheduler it agrees with the player: nothing real runs.
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
    spec["tolerations"] = json!([{
        "key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule",
    }]);
    let labels = json!({RUN: run, NUMBER: number.to_string(), "app": "bench"});
    json!({
        "metadata": {"name": format!("{run}-{number}"), "namespace": namespace, "labels": labels}, "spec": spec,
    })
}

/// Selects the pods of a run.
pub(crate) fn selector(run: &str) -> String {
    format!("{RUN}%3D{run}")
}

/// The number of a pod.
pub(crate) fn number(pod: &Value) -> Option<usize> {
    label(pod, NUMBER)?.parse().ok()
}

/// The number of the pod that a token Secret belongs to, if it is one.
pub(crate) fn number_of_owner(secret: &Value, run: &str) -> Option<usize> {
    if label(secret, api::keys::ROLE)? != api::keys::ROLE_TOKEN {
        return None;
    }
    let owner = text(secret, "/metadata/ownerReferences/0/name");
    owner.strip_prefix(run)?.strip_prefix('-')?.parse().ok()
}

/// Opens a watch anew that the API server ended, as often as it takes.
pub(crate) async fn watch_again(side: &Side, path: &str) -> BoxStream<'static, Value> {
    loop {
        match side.watch(path).await {
            Ok(events) => return events.boxed(),
            Err(problem) => {
                eprintln!("a watch can't be opened again: {problem}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Whether it says of itself that it is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

/// What a kubelet writes once a pod runs.
pub(crate) fn ready_status(address: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    let kinds = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let conditions: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": at}))
        .collect();
    let container = json!({
        "name": "main", "image": make::PAUSE, "imageID": make::PAUSE, "containerID": "containerd://bench",
        "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": at}},
    });
    json!({
        "phase": "Running", "conditions": conditions, "containerStatuses": [container], "startTime": at,
        "hostIP": "192.0.2.1", "podIP": address, "podIPs": [{"ip": address}],
    })
}
