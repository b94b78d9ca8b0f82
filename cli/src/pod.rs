//! A pod's state in few words, as kubectl's table has it.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

/// Phase, or what keeps a container or the scheduler from getting further.
pub(crate) fn state(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".to_owned();
    }
    if let Some(reason) = status.reason.clone().filter(|reason| !reason.is_empty()) {
        return reason;
    }
    let trouble = all(&status).find_map(trouble);
    let phase = status.phase.unwrap_or_else(|| "Pending".to_owned());
    match (trouble, phase.as_str()) {
        (Some(trouble), _) => trouble,
        (None, "Succeeded") => "Completed".to_owned(),
        (None, _) => phase,
    }
}

fn trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        return waiting
            .reason
            .clone()
            .filter(|reason| reason != "PodInitializing");
    }
    let ended = state
        .terminated
        .as_ref()
        .filter(|ended| ended.exit_code != 0)?;
    Some(
        ended
            .reason
            .clone()
            .unwrap_or_else(|| format!("ExitCode:{}", ended.exit_code)),
    )
}

/// Why the pod isn't further, in a sentence, when anything says so.
pub(crate) fn why(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = all(status)
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .filter_map(|waiting| waiting.message.clone())
        // The counting of a back-off repeats the state.
        .find(|message| !message.is_empty() && !message.starts_with("back-off"));
    let scheduling = || {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions
            .iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False")
            .and_then(|c| c.message.clone())
    };
    waiting
        .or_else(scheduling)
        .or_else(|| status.message.clone())
        .map(|text| crate::error::one_line(&text))
}

/// Ready containers of all, as `1/2`.
pub(crate) fn ready(pod: &Pod) -> String {
    let all = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    format!(
        "{}/{all}",
        statuses.iter().filter(|container| container.ready).count()
    )
}

/// Restarts of all its containers.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    pod.status
        .iter()
        .flat_map(all)
        .map(|container| container.restart_count)
        .sum()
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses]
        .into_iter()
        .flatten()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}, "status": status})).unwrap()
    }

    #[test]
    fn the_state_names_the_trouble() {
        let container = |state: serde_json::Value| json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 2, "state": state});
        assert_eq!(state(&pod(json!({"phase": "Running"}))), "Running");
        assert_eq!(state(&pod(json!({"phase": "Succeeded"}))), "Completed");
        assert_eq!(
            state(&pod(json!({"phase": "Failed", "reason": "Evicted"}))),
            "Evicted"
        );
        let pulling = pod(json!({"phase": "Pending", "containerStatuses": [
            container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such\nimage"}}))]}));
        assert_eq!(
            (
                state(&pulling).as_str(),
                restarts(&pulling),
                ready(&pulling).as_str()
            ),
            ("ImagePullBackOff", 2, "0/1")
        );
        assert_eq!(why(&pulling), Some("no such image".into()));
        let failed = pod(
            json!({"phase": "Running", "containerStatuses": [container(json!({"terminated": {"exitCode": 3}}))]}),
        );
        assert_eq!(state(&failed), "ExitCode:3");
    }

    #[test]
    fn an_unscheduled_pod_says_why() {
        let pending = pod(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]}));
        assert_eq!(
            (state(&pending).as_str(), why(&pending).as_deref()),
            ("Pending", Some("0/2 nodes are available"))
        );
    }
}
