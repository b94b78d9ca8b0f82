//! Waiting until definitions are served and daemons run.

use crate::{manifest::Daemon, pod, progress::Progress};
use anyhow::Result;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    core::PartialObjectMeta,
};
use std::time::Duration;
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_millis(300);
/// Annotation on ReplicaSets of a Deployment that counts its versions.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Label on pods by which their ReplicaSet knows them.
const HASH: &str = "pod-template-hash";

/// Waits until all definitions are established.
pub(crate) async fn established(
    client: &Client,
    definitions: &[DynamicObject],
    progress: &mut Progress,
) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let name = definition.name_any();
        while !api
            .get_opt(&name)
            .await?
            .as_ref()
            .is_some_and(is_established)
        {
            progress.state(&format!("waiting for the definition {name}"));
            tokio::time::sleep(PERIOD).await;
        }
    }
    Ok(())
}

/// Whether the API server serves the resource.
pub(crate) fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// How the waiting for daemons ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// All run in their applied version.
    Runs,
    /// Nodes can't get an image: what is lacking, and it doesn't come by waiting.
    NoImage(String),
}

/// How long nodes may say that they can't get an image before it is believed: a registry may be away for a moment.
const DOUBT: Duration = Duration::from_secs(20);

/// Kubelets' words for an image that they can't get.
const ABOUT_IMAGES: [&str; 3] = ["ImagePull", "ImageNeverPull", "InvalidImageName"];

/// Whether this is about an image that a node can't get.
pub(crate) fn is_about_images(lacking: &str) -> bool {
    ABOUT_IMAGES.iter().any(|word| lacking.contains(word))
}

/// Waits until all daemons run in their applied version, or can't for want of images.
pub(crate) async fn available(
    client: &Client,
    daemons: &[Daemon],
    progress: &mut Progress,
) -> Result<Rollout> {
    for daemon in daemons {
        let api: Api<Deployment> = Api::namespaced(client.clone(), &daemon.namespace);
        let mut without_image: Option<Instant> = None;
        loop {
            let lacking = match api.get_opt(&daemon.name).await? {
                Some(deployment) => match missing(&deployment) {
                    None => break,
                    Some(text) => match trouble(client, &deployment).await {
                        Some(why) => format!("{text}: {why}"),
                        None => text,
                    },
                },
                None => "it is gone".to_owned(),
            };
            progress.state(&format!("waiting for {}: {lacking}", daemon.name));
            if !is_about_images(&lacking) {
                without_image = None;
            } else if without_image.get_or_insert_with(Instant::now).elapsed() >= DOUBT {
                return Ok(Rollout::NoImage(format!("{}: {lacking}", daemon.name)));
            }
            tokio::time::sleep(PERIOD).await;
        }
        progress.done(&format!("{} runs", daemon.name));
    }
    Ok(Rollout::Runs)
}

/// What a Deployment lacks before all its pods run in its current version; `None` when nothing does.
pub(crate) fn missing(deployment: &Deployment) -> Option<String> {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let count = |value: Option<i32>| value.unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("not taken up yet".to_owned());
    }
    let failure = status
        .conditions
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
    if let Some(failure) = failure {
        return Some(crate::error::one_line(
            failure
                .message
                .as_deref()
                .unwrap_or("its pods can't be made"),
        ));
    }
    let updated = count(status.updated_replicas);
    let available = count(status.available_replicas).min(updated);
    let old = count(status.replicas) - updated;
    match (available < wanted, old > 0) {
        (true, _) => Some(format!("{available} of {wanted} pods available")),
        (false, true) => Some("old pods are ending".to_owned()),
        (false, false) => None,
    }
}

/// What keeps the Deployment's pods from running, if they say.
///
/// Pods of its earlier versions don't count: some of them stay until new ones are available, whatever they lack themselves.
pub(crate) async fn trouble(client: &Client, deployment: &Deployment) -> Option<String> {
    let labels = deployment.spec.as_ref()?.selector.match_labels.clone()?;
    let selector: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let of_it = ListParams::default().labels(&selector.join(","));
    let namespace = deployment.namespace()?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pods = pods.list(&of_it).await.ok()?.items;
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &namespace);
    // Whoever may not list them is told of all pods.
    let sets = sets.list_metadata(&of_it).await;
    let sets = sets.map(|list| list.items).unwrap_or_default();
    said(&pods, newest(&sets))
}

/// What pods of the newest version carry; `None` when that isn't known.
fn newest(sets: &[PartialObjectMeta<ReplicaSet>]) -> Option<&str> {
    let revision = |set: &PartialObjectMeta<ReplicaSet>| -> Option<u64> {
        set.annotations().get(REVISION)?.parse().ok()
    };
    let newest = sets
        .iter()
        .filter_map(|set| Some((revision(set)?, set)))
        .max_by_key(|(revision, _)| *revision);
    newest?.1.labels().get(HASH).map(String::as_str)
}

fn said(pods: &[Pod], newest: Option<&str>) -> Option<String> {
    let is_newest = |pod: &&Pod| {
        let of = pod.labels().get(HASH).map(String::as_str);
        newest.is_none() || of == newest
    };
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(is_newest)
        .find_map(words)
}

fn words(pod: &Pod) -> Option<String> {
    let state = pod::state(pod);
    match pod::why(pod) {
        Some(why) => Some(format!("{state} ({why})")),
        None if state == "Running" => None,
        None => Some(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_is_done_when_only_new_pods_run() {
        let missing = |status| missing(&deployment(status));
        assert_eq!(
            missing(json!({"observedGeneration": 1})).as_deref(),
            Some("not taken up yet")
        );
        let half = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 3});
        assert_eq!(missing(half).as_deref(), Some("1 of 2 pods available"));
        let old = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3});
        assert_eq!(missing(old).as_deref(), Some("old pods are ending"));
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(missing(done), None);
        let refused = json!({"observedGeneration": 2, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}]});
        assert_eq!(missing(refused).as_deref(), Some("violates PodSecurity"));
    }

    #[test]
    fn an_old_pod_that_waits_for_its_image_says_nothing_of_the_new_version() {
        let pod = |hash: &str, waiting: serde_json::Value| -> Pod {
            let container = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": waiting}});
            serde_json::from_value(json!({
                "metadata": {"name": hash, "labels": {HASH: hash}}, "spec": {"containers": []},
                "status": {"phase": "Pending", "containerStatuses": [container]},
            }))
            .unwrap()
        };
        let set = |revision: &str, hash: &str| -> PartialObjectMeta<ReplicaSet> {
            let metadata = json!({"annotations": {REVISION: revision}, "labels": {HASH: hash}});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let old = pod("old", json!({"reason": "ImagePullBackOff"}));
        let pulling = pod("new", json!({"reason": "ContainerCreating"}));
        // As numbers: "9" is the greater text.
        let sets = [set("9", "old"), set("10", "new")];
        let pods = [old.clone(), pulling];
        let told = said(&pods, newest(&sets));
        assert_eq!(told.as_deref(), Some("ContainerCreating"));
        let failing = pod("new", json!({"reason": "ErrImagePull"}));
        let told = said(&[old, failing], newest(&sets));
        assert_eq!(told.as_deref(), Some("ErrImagePull"));
        assert_eq!(said(&pods, None).as_deref(), Some("ImagePullBackOff"));
    }
}
