//! Pods that controllers make, generated names, and pull secrets.

use anyhow::{Context, ensure};
use e2e::{
    kind::{CRON_JOB, JOB, POD, SECRET},
    make,
    read::{condition, last_words, name, text},
    space::within,
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

#[test]
fn an_indexed_job_tells_each_pod_its_index() {
    within(A, "indexed", async |space| {
        let mut container =
            make::shell("echo $JOB_COMPLETION_INDEX $(hostname) > /dev/termination-log");
        container["name"] = "main".into();
        let job = json!({
            "metadata": {"name": "sum"},
            "spec": {
                "completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 0,
                "template": {"spec": make::once(container)},
            },
        });
        space.create(JOB, job).await?;
        space
            .like(JOB, "sum", "is complete", PODS, |job| {
                condition(job, "Complete") == "True"
            })
            .await?;
        let pods = space.pods("batch.kubernetes.io/job-name=sum").await?;
        let mut words: Vec<&str> = pods.iter().map(last_words).collect();
        words.sort_unstable();
        ensure!(words == ["0 sum-0", "1 sum-1", "2 sum-2"], "{words:?}");
        Ok(())
    });
}

#[test]
fn a_job_retries_by_its_policy_and_ends() {
    within(A, "retries", async |space| {
        let job = json!({
            "metadata": {"name": "sum"},
            "spec": {
                "backoffLimit": 6, "template": {"spec": make::once(make::shell("exit 42"))},
                "podFailurePolicy": {"rules": [{
                    "action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]},
                }]},
            },
        });
        space.create(JOB, job).await?;
        let failed = space
            .like(JOB, "sum", "has failed", PODS, |job| {
                condition(job, "Failed") == "True"
            })
            .await?;
        ensure!(failed["status"]["failed"] == 1, "{}", failed["status"]);
        Ok(())
    });
}

#[test]
fn a_cron_job_that_is_due_runs() {
    within(A, "cron", async |space| {
        let cron = json!({
            "metadata": {"name": "tick"},
            "spec": {
                "schedule": "* * * * *",
                "jobTemplate": {"spec": {"template": {"spec": make::once(make::shell("echo done > /dev/termination-log"))}}},
            },
        });
        let cron = space.create(CRON_JOB, cron).await?;
        // A minute was missed, so that nobody waits for the next.
        let made: k8s_openapi::jiff::Timestamp =
            text(&cron, "/metadata/creationTimestamp").parse()?;
        let before = made - k8s_openapi::jiff::SignedDuration::from_mins(5);
        let last = json!({"lastScheduleTime": before.to_string()});
        space
            .side()
            .merge_status(CRON_JOB, &space.name, "tick", last)
            .await?;
        eventually(PODS, "a job of the CronJob has succeeded", async || {
            let pods = space.pods("batch.kubernetes.io/job-name").await?;
            let words: Vec<&str> = pods.iter().map(last_words).collect();
            ensure!(words.contains(&"done"), "{words:?}");
            let cron = space.get(CRON_JOB, "tick").await?;
            ensure!(
                !text(&cron, "/status/lastSuccessfulTime").is_empty(),
                "{}",
                cron["status"]
            );
            Ok(())
        })
        .await
    });
}

#[test]
fn a_generated_name_is_the_same_on_both_sides() {
    within(A, "generated", async |space| {
        let pod =
            json!({"metadata": {"generateName": "web-"}, "spec": make::pod_spec(make::idle())});
        let pod = space.create(POD, pod).await?;
        ensure!(
            name(&pod).starts_with("web-") && name(&pod).len() > 4,
            "{pod}"
        );
        space.ready(name(&pod)).await?;
        let twin = space.twin(POD, name(&pod)).await?;
        ensure!(
            twin["metadata"].get("generateName").is_none(),
            "{}",
            twin["metadata"]
        );
        Ok(())
    });
}

#[test]
fn pull_secrets_are_there_before_the_pod() {
    within(A, "pull", async |space| {
        let config =
            json!({"auths": {"registry.example.com": {"auth": "dXNlcjpwYXNz"}}}).to_string();
        let secret = json!({
            "metadata": {"name": "registry"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config},
        });
        let secret = space.create(SECRET, secret).await?;
        let mut spec = make::pod_spec(make::idle());
        spec["imagePullSecrets"] = json!([{"name": "registry"}]);
        space.pod("web", spec).await?;
        space.ready("web").await?;
        let (twin, copy): (Value, Value) = (
            space.twin(POD, "web").await?,
            space.twin(SECRET, "registry").await?,
        );
        ensure!(
            twin["spec"]["imagePullSecrets"] == json!([{"name": "registry"}]),
            "{}",
            twin["spec"]
        );
        ensure!(
            copy["data"] == secret["data"] && copy["type"] == secret["type"],
            "it isn't the tenant's"
        );
        let made = |object: &Value| text(object, "/metadata/creationTimestamp").to_owned();
        ensure!(
            made(&copy) <= made(&twin),
            "{} is later than {}",
            made(&copy),
            made(&twin)
        );
        space.delete(POD, "web").await?;
        space.gone(POD, "web").await?;
        space
            .find(SECRET, "registry")
            .await?
            .context("the tenant's Secret stays")
            .map(drop)
    });
}
