//! Plays scheduler and kubelet for the pods of the rig's super cluster: binds them, says that they run, ends them.
//!
//! No container is ever started. Each status that it writes carries a number that only grows, and names the tenant's pod
//! for which it is, so that a tenant that is shown an older status, or another pod's, is found out.

use crate::{
    kind::{NODE, POD},
    read::{annotation, is_terminating, items, name, text},
    side::{Problem, Side},
};
use anyhow::Context;
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::task::JoinHandle;

/// Name of the node that is always there.
pub const THE_NODE: &str = "rig-node";
/// What a pod's `nodeSelector` names a node by.
const HOST_NAME: &str = "kubernetes.io/hostname";

/// A player at work; it stops with its handle.
pub struct Player(JoinHandle<()>);

impl Player {
    /// Makes the node and begins.
    pub async fn start(side: Side) -> anyhow::Result<Self> {
        add_node(&side, THE_NODE).await?;
        Ok(Self(tokio::spawn(async move {
            loop {
                if let Err(err) = play(&side).await {
                    // The API server is restarted under its feet; it goes on where it was.
                    eprintln!("the player starts over: {err:#}");
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        })))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes a node that is Ready. Pods that select it by its host name are bound to it, all others to [`THE_NODE`].
pub async fn add_node(side: &Side, name: &str) -> Result<(), Problem> {
    let node = json!({"metadata": {"name": name, "labels": {HOST_NAME: name}}});
    side.create(NODE, node).await?;
    let status = json!({
        "capacity": {"cpu": "64", "memory": "256Gi", "pods": "20000"},
        "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "20000"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "plays"}],
        "addresses": [{"type": "InternalIP", "address": "10.250.0.1"}],
    });
    side.merge_status(NODE, "", name, status).await.map(drop)
}

/// Has a pod bound to a node that [`add_node`] made.
pub fn select_node(spec: &mut Value, name: &str) {
    spec["nodeSelector"] = json!({HOST_NAME: name});
}

async fn play(side: &Side) -> anyhow::Result<()> {
    let path = POD.path("", "");
    let mut list = side.request(Method::GET, &path, None).await?;
    let version = text(&list, "/metadata/resourceVersion").to_owned();
    for mut pod in list["items"]
        .as_array_mut()
        .context("a list has items")?
        .drain(..)
    {
        pod["kind"] = "Pod".into();
        step(side, &pod).await?;
    }
    let events = side
        .watch(&format!(
            "{path}?watch=true&resourceVersion={version}&timeoutSeconds=300"
        ))
        .await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => step(side, &event["object"]).await?,
            Some("ERROR") => anyhow::bail!("{}", event["object"]),
            _ => {}
        }
    }
    Ok(())
}

/// The next thing that happens to a pod.
async fn step(side: &Side, pod: &Value) -> Result<(), Problem> {
    let (namespace, own) = (text(pod, "/metadata/namespace"), name(pod));
    let done = if is_terminating(pod) {
        if items(pod, "/metadata/finalizers").is_empty()
            || text(pod, "/status/phase") != "Succeeded"
        {
            end(side, pod).await
        } else {
            Ok(())
        }
    } else if !items(pod, "/spec/schedulingGates").is_empty() {
        Ok(())
    } else if text(pod, "/spec/nodeName").is_empty() {
        let node = pod["spec"]["nodeSelector"][HOST_NAME].as_str();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": own, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node.unwrap_or(THE_NODE)},
        });
        let path = POD.path(namespace, own) + "/binding";
        side.request(Method::POST, &path, Some(binding))
            .await
            .map(drop)
    } else if text(pod, "/status/podIP").is_empty() {
        show_running(side, pod).await
    } else {
        Ok(())
    };
    match done {
        // It changed or went; its next event tells.
        Err(problem) if matches!(problem.code, 404 | 409 | 422) => Ok(()),
        other => other,
    }
}

/// A pod that was asked to go is gone as soon as its containers are.
async fn end(side: &Side, pod: &Value) -> Result<(), Problem> {
    let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
    let path = POD.path(text(pod, "/metadata/namespace"), name(pod));
    side.request(Method::DELETE, &path, Some(now))
        .await
        .map(drop)
}

/// The ID of the containers of a tenant's pod of this UID; a tenant is never told its super pod's.
pub fn container_id(uid: &str) -> String {
    format!("rig://{uid}")
}

/// Says that a pod runs, with a higher number than any status before.
pub async fn show_running(side: &Side, pod: &Value) -> Result<(), Problem> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    static ADDRESS: AtomicU32 = AtomicU32::new(0x0a80_0001);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let address = match text(pod, "/status/podIP") {
        "" => std::net::Ipv4Addr::from(ADDRESS.fetch_add(1, Ordering::Relaxed)).to_string(),
        known => known.to_owned(),
    };
    let container_id = container_id(annotation(pod, api::keys::UID).unwrap_or_default());
    let containers: Vec<Value> = items(pod, "/spec/containers")
        .iter()
        .map(|container| {
            // Of a kubelet that says nothing of resources the API server takes no resize.
            let resources = container.get("resources").cloned().unwrap_or_else(|| json!({}));
            json!({"name": container["name"], "image": container["image"], "imageID": "", "ready": true,
                "containerID": container_id, "restartCount": number, "started": true, "state": {"running": {}},
                "resources": resources})
        })
        .collect();
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.250.0.1",
        "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True"},
        ],
        "containerStatuses": containers,
    });
    let path = POD.path(text(pod, "/metadata/namespace"), name(pod)) + "/status";
    let body = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": status});
    side.patch(&path, crate::side::PatchType::Merge, body)
        .await
        .map(drop)
}
