//! What changes while a pod lives, and containers beside the first one.

use anyhow::ensure;
use e2e::{
    kind::POD,
    make,
    program::{Folder, Program},
    read::{event, items, label, text},
    side::PatchType,
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// Changes a subresource of a pod by a JSON Patch.
async fn change(space: &Space, pod: &str, subresource: &str, patch: Value) -> anyhow::Result<()> {
    let path = format!("{}/{subresource}", POD.path(&space.name, pod));
    space.side().patch(&path, PatchType::Json, patch).await?;
    Ok(())
}

/// How an ephemeral container ended.
fn ended<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    items(pod, "/status/ephemeralContainerStatuses")
        .iter()
        .find(|status| status["name"] == name)?
        .pointer("/state/terminated")
}

#[test]
fn ephemeral_containers_join_a_running_pod() {
    within(A, "debug", async |space| {
        space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        let folder = Folder::make()?;
        let kubectl = Program::kubectl(folder.path(), &space.tenant.kubeconfig)?;
        let line = format!(
            "-n {} debug web --image={} --image-pull-policy=IfNotPresent --profile=baseline -c first --attach=false -- true",
            space.name,
            make::BUSYBOX
        );
        kubectl.run(&line).await?.ok()?;
        let first = |pod: &Value| ended(pod, "first").is_some_and(|end| end["exitCode"] == 0);
        space
            .like(POD, "web", "had its first visitor", PODS, first)
            .await?;

        // The second sees the processes of the container that it names.
        let mut second = make::shell("tr '\\0' ' ' < /proc/1/cmdline > /dev/termination-log");
        second["name"] = "second".into();
        second["targetContainerName"] = "main".into();
        change(
            space,
            "web",
            "ephemeralcontainers",
            json!([{"op": "add", "path": "/spec/ephemeralContainers/-", "value": second}]),
        )
        .await?;
        let both = |pod: &Value| first(pod) && ended(pod, "second").is_some();
        let pod = space
            .like(POD, "web", "had its second visitor", PODS, both)
            .await?;
        let said = ended(&pod, "second")
            .map(|end| text(end, "/message"))
            .unwrap_or_default();
        ensure!(said.contains("pause"), "it saw {said:?}");
        ensure!(
            text(&pod, "/status/phase") == "Running",
            "{}",
            pod["status"]
        );
        Ok(())
    });
}

#[test]
fn an_ephemeral_container_that_may_not_run_is_refused_with_an_event() {
    within(A, "intruder", async |space| {
        let pod = space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        let mut container = make::shell("true");
        container["name"] = "root".into();
        container["securityContext"] = json!({"privileged": true});
        change(
            space,
            "web",
            "ephemeralcontainers",
            json!([{"op": "add", "path": "/spec/ephemeralContainers", "value": [container]}]),
        )
        .await?;
        event(space.side(), POD, &pod, "PodSecurity").await?;
        // It stays in the tenant's pod for ever, and what is changed later crosses all the same.
        let patch = json!({"metadata": {"labels": {"tier": "front"}}});
        space.merge(POD, "web", patch).await?;
        let labelled = |twin: &Value| label(twin, "tier") == Some("front");
        let twin = space
            .twin_like(POD, "web", "has its new label", labelled)
            .await?;
        ensure!(
            items(&twin, "/spec/ephemeralContainers").is_empty(),
            "{}",
            twin["spec"]
        );
        space.ready("web").await?;
        Ok(())
    });
}

#[test]
fn a_running_pod_is_resized_in_place() {
    within(A, "resize", async |space| {
        let mut container = make::idle();
        container["resources"] = json!({
            "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"},
        });
        space.pod("web", make::pod_spec(container)).await?;
        let before = space.ready("web").await?;
        let limit = "/spec/containers/0/resources/limits/cpu";
        change(
            space,
            "web",
            "resize",
            json!([{"op": "replace", "path": limit, "value": "200m"}]),
        )
        .await?;
        let resized = |pod: &Value| {
            let status = &pod["status"]["containerStatuses"][0];
            status["resources"]["limits"]["cpu"] == "200m" && status["restartCount"] == 0
        };
        let after = space
            .like(POD, "web", "has its new limit", PODS, resized)
            .await?;
        let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        ensure!(
            container(&before) == container(&after),
            "the container was made anew"
        );

        // More than its node has is refused at once, as in any cluster, and what runs goes on.
        let path = format!("{}/resize", POD.path(&space.name, "web"));
        let request = json!([
            {"op": "replace", "path": limit, "value": "900"},
            {"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "900"},
        ]);
        let refused = space
            .side()
            .patch(&path, PatchType::Json, request)
            .await
            .err();
        ensure!(
            refused
                .as_ref()
                .is_some_and(|problem| problem.message.contains("allocatable")),
            "{refused:?}"
        );
        Ok(())
    });
}

#[test]
fn a_sidecar_runs_beside_and_ends_after_the_others() {
    within(A, "sidecar", async |space| {
        let mut sidecar = make::server();
        sidecar["name"] = "sidecar".into();
        sidecar["restartPolicy"] = "Always".into();
        sidecar["startupProbe"] = sidecar["readinessProbe"].take();
        // It is started again when its time is over, which must not be on a slow machine.
        sidecar["startupProbe"]["failureThreshold"] = 120.into();
        let mut spec = make::once(make::shell(
            "wget -qO /dev/termination-log http://localhost:8080/hostname",
        ));
        spec["initContainers"] = json!([sidecar]);
        space.pod("job", spec).await?;
        let said = space.outcome("job").await?;
        ensure!(said == "job", "{said:?}");
        let pod = space.get(POD, "job").await?;
        let status = &pod["status"]["initContainerStatuses"][0];
        ensure!(
            status["state"]["terminated"].is_object() && status["restartCount"] == 0,
            "{status}"
        );
        Ok(())
    });
}

#[test]
fn resources_of_a_whole_pod_cross() {
    within(A, "whole", async |space| {
        let mut spec = make::pod_spec(make::idle());
        let resources = json!({
            "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"},
        });
        spec["resources"] = resources.clone();
        space.pod("web", spec).await?;
        let pod = space.ready("web").await?;
        let twin = space.twin(POD, "web").await?;
        ensure!(
            pod["spec"]["resources"] == resources && twin["spec"]["resources"] == resources,
            "{}",
            twin["spec"]
        );
        ensure!(
            text(&pod, "/status/qosClass") == "Burstable",
            "{}",
            pod["status"]
        );
        // The kubelet may tell them some time after the pod is Ready.
        eventually(SOON, "the tenant is told what it has", async || {
            let (pod, twin) = (space.get(POD, "web").await?, space.twin(POD, "web").await?);
            ensure!(
                pod["status"]["resources"] == twin["status"]["resources"],
                "{} and {}",
                pod["status"],
                twin["status"]
            );
            Ok(())
        })
        .await
    });
}
