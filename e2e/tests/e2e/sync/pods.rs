//! A pod that runs: what it finds around it, and what the tenant sees of it.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, EVENT, POD, SECRET, SERVICE},
    make,
    read::{annotation, condition, event, items, label, text, uid},
    side::PatchType,
    space::within,
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

#[test]
fn a_pod_runs_and_its_status_comes_back() {
    within(A, "runs", async |space| {
        let made = space.pod("web", make::pod_spec(make::idle())).await?;
        let pod = space.ready("web").await?;
        let twin = space.twin(POD, "web").await?;
        ensure!(annotation(&twin, keys::UID) == Some(uid(&made)), "{twin}");
        for pointer in [
            "/spec/nodeName",
            "/status/podIP",
            "/status/hostIP",
            "/status/startTime",
            "/status/phase",
        ] {
            ensure!(!text(&pod, pointer).is_empty(), "{pointer} is empty");
            ensure!(
                text(&pod, pointer) == text(&twin, pointer),
                "{pointer} differs"
            );
        }
        ensure!(items(&pod, "/status/podIPs") == items(&twin, "/status/podIPs"));
        let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        ensure!(container(&pod) == container(&twin) && container(&pod).is_string());
        for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
            ensure!(
                condition(&pod, kind) == "True",
                "{kind}: {}",
                pod["status"]["conditions"]
            );
        }
        ensure!(
            pod["status"]["observedGeneration"] == pod["metadata"]["generation"],
            "{}",
            pod["status"]
        );
        Ok(())
    });
}

#[test]
fn a_pod_finds_its_config_its_secret_its_services_and_itself() {
    within(A, "finds", async |space| {
        space
            .create(CONFIG_MAP, make::config_map("settings", "mode", "fast"))
            .await?;
        space
            .create(
                SECRET,
                json!({"metadata": {"name": "key"}, "stringData": {"key": "s3cret"}}),
            )
            .await?;
        let service = space.create(SERVICE, make::service("db")).await?;
        space.twin(SERVICE, "db").await?;
        let script = "{ echo $MODE; cat /key/key; echo; echo $DB_SERVICE_HOST:$DB_SERVICE_PORT; \
                      echo $POD_NAME/$POD_NAMESPACE/$POD_UID; echo $KUBERNETES_SERVICE_HOST; \
                      test \"$NODE\" && echo on-node; sed 's/\"//g' /info/labels; echo; hostname; } > /dev/termination-log";
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut container = make::shell(script);
        container["env"] = json!([
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
            field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"), field("NODE", "spec.nodeName"),
        ]);
        container["volumeMounts"] =
            json!([{"name": "key", "mountPath": "/key"}, {"name": "info", "mountPath": "/info"}]);
        let mut spec = make::once(container);
        spec["volumes"] = json!([
            {"name": "key", "secret": {"secretName": "key"}},
            {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]);
        let pod = json!({"metadata": {"name": "job", "labels": {"app": "finder"}}, "spec": spec});
        let pod = space.create(POD, pod).await?;
        let said = space.outcome("job").await?;
        let lines: Vec<&str> = said.lines().collect();
        let itself = format!("job/{}/{}", space.name, uid(&pod));
        let kubernetes = space.side().get(SERVICE, "default", "kubernetes").await?;
        let expected = [
            "fast",
            "s3cret",
            &format!("{}:80", text(&service, "/spec/clusterIP")),
            &itself,
            text(&kubernetes, "/spec/clusterIP"),
            "on-node",
            "app=finder",
            "job",
        ];
        ensure!(lines == expected, "{lines:#?} instead of {expected:#?}");
        Ok(())
    });
}

#[test]
fn events_about_a_pod_speak_of_the_tenants_pod() {
    within(A, "events", async |space| {
        let pod = space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        for reason in ["Scheduled", "Pulled", "Created", "Started"] {
            let event = event(space.side(), POD, &pod, reason).await?;
            ensure!(
                text(&event, "/involvedObject/namespace") == space.name,
                "{event}"
            );
        }
        let scheduled = event(space.side(), POD, &pod, "Scheduled").await?;
        let message = format!("Successfully assigned {}/web to ", space.name);
        ensure!(
            text(&scheduled, "/message").starts_with(&message),
            "{scheduled}"
        );
        let all = space.side().list(EVENT, &space.name, "").await?;
        let text = Value::from(all).to_string();
        ensure!(
            !text.contains(&space.twin),
            "the super namespace's name leaks: {text}"
        );
        Ok(())
    });
}

#[test]
fn edits_that_a_running_pod_takes_cross() {
    within(A, "edits", async |space| {
        space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        let twin = space.twin(POD, "web").await?;
        let patch = json!({
            "metadata": {"labels": {"tier": "front"}, "annotations": {"note": "x"}}, "spec": {"activeDeadlineSeconds": 9000},
        });
        space.merge(POD, "web", patch).await?;
        let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "registry.k8s.io/pause:3.10"}]);
        space
            .side()
            .patch(&POD.path(&space.name, "web"), PatchType::Json, image)
            .await?;
        let edited = space
            .twin_like(POD, "web", "is edited", |twin| {
                label(twin, "tier") == Some("front")
                    && annotation(twin, "note") == Some("x")
                    && twin["spec"]["activeDeadlineSeconds"] == 9000
                    && text(twin, "/spec/containers/0/image") == "registry.k8s.io/pause:3.10"
            })
            .await?;
        ensure!(uid(&edited) == uid(&twin), "it was made anew");
        space
            .merge(
                POD,
                "web",
                json!({"metadata": {"labels": {"tier": null}, "annotations": {"note": null}}}),
            )
            .await?;
        let without =
            |twin: &Value| label(twin, "tier").is_none() && annotation(twin, "note").is_none();
        space
            .twin_like(POD, "web", "has lost label and annotation", without)
            .await?;
        Ok(())
    });
}

#[test]
fn reserved_labels_and_annotations_do_not_cross() {
    within(A, "reserved", async |space| {
        let metadata = json!({
            "name": "web",
            "labels": {
                "app": "web", "app.kubernetes.io/name": "web", "example.com/team": "x",
                keys::TENANT: "forged", keys::ROLE: "control-plane", "evil.sublet.dev/x": "y",
                "pod-security.kubernetes.io/enforce": "privileged", "node.k8s.io/x": "y", "istio.io/rev": "x", "aadpodidbinding": "y",
            },
            "annotations": {
                "note": "x", "prometheus.io/scrape": "true", keys::UID: "forged", "sublet.dev/made-up": "x",
                "sidecar.istio.io/inject": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
        });
        let pod = space
            .create(
                POD,
                json!({"metadata": metadata, "spec": make::pod_spec(make::idle())}),
            )
            .await?;
        let twin = space.twin(POD, "web").await?;
        let keys_of = |part: &Value| {
            part.as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        // Those that steer are there for selectors, under keys that nothing goes by: four, and none of Sublet's.
        let (carried, labels): (Vec<_>, Vec<_>) = keys_of(&twin["metadata"]["labels"])
            .into_iter()
            .partition(|key| key.starts_with("label.sublet.dev/"));
        ensure!(carried.len() == 4, "{carried:?}");
        ensure!(
            labels
                == [
                    "app",
                    "app.kubernetes.io/name",
                    "example.com/team",
                    "sublet.dev/egress",
                    "sublet.dev/ingress",
                    keys::SHARD,
                    keys::TENANT
                ],
            "{labels:?}"
        );
        ensure!(label(&twin, keys::TENANT) == Some(space.tenant.id.as_str()));
        ensure!(annotation(&twin, keys::UID) == Some(uid(&pod)));
        for absent in [
            "sublet.dev/made-up",
            "sidecar.istio.io/inject",
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
            "prometheus.io/scrape",
        ] {
            ensure!(annotation(&twin, absent).is_none(), "{absent} has crossed");
        }
        ensure!(annotation(&twin, "note") == Some("x"));
        for absent in ["ownerReferences", "finalizers"] {
            ensure!(
                twin["metadata"].get(absent).is_none(),
                "{absent} has crossed"
            );
        }
        Ok(())
    });
}

#[test]
fn a_readiness_gate_is_the_tenants_to_open() {
    within(A, "gate", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["readinessGates"] = json!([{"conditionType": "example.com/open"}]);
        space.pod("web", spec).await?;
        let gated = |pod: &Value| {
            condition(pod, "ContainersReady") == "True" && condition(pod, "Ready") == "False"
        };
        space
            .like(POD, "web", "is ready but for its gate", PODS, gated)
            .await?;
        let open =
            json!({"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}});
        let path = POD.path(&space.name, "web") + "/status";
        let pod = space.get(POD, "web").await?;
        let mut conditions = items(&pod, "/status/conditions").to_vec();
        conditions.extend(items(&open, "/status/conditions").to_vec());
        space
            .side()
            .patch(
                &path,
                PatchType::Merge,
                json!({"status": {"conditions": conditions}}),
            )
            .await?;
        let pod = space.ready("web").await?;
        ensure!(
            condition(&pod, "example.com/open") == "True",
            "the tenant's own condition is gone: {}",
            pod["status"]
        );
        Ok(())
    });
}

#[test]
fn a_scheduling_gate_holds_the_pod_until_the_tenant_lifts_it() {
    within(A, "held", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["schedulingGates"] = json!([{"name": "example.com/wait"}]);
        space.pod("web", spec).await?;
        let held = |pod: &Value| {
            let reasons = items(pod, "/status/conditions")
                .iter()
                .map(|condition| text(condition, "/reason"));
            reasons
                .into_iter()
                .any(|reason| reason == "SchedulingGated")
        };
        space
            .twin_like(POD, "web", "is held by its gate", held)
            .await?;
        space
            .like(POD, "web", "is held by its gate", SOON, held)
            .await?;
        space
            .merge(POD, "web", json!({"spec": {"schedulingGates": null}}))
            .await?;
        space.ready("web").await?;
        Ok(())
    });
}

#[test]
fn why_a_pod_is_not_scheduled_is_told_without_the_size_of_the_cluster() {
    within(A, "nowhere", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["nodeSelector"] = json!({"example.com/no-such": "node"});
        let pod = space.pod("web", spec).await?;
        let unscheduled = |pod: &Value| condition(pod, "PodScheduled") == "False";
        let pending = space
            .like(POD, "web", "isn't scheduled", SOON, unscheduled)
            .await?;
        let failed = event(space.side(), POD, &pod, "FailedScheduling").await?;
        let hidden = event(space.side(), POD, &pod, "NodeLabelNotShown").await?;
        ensure!(
            text(&hidden, "/message").contains("example.com/no-such"),
            "{hidden}"
        );
        for text in [
            pending["status"].to_string(),
            text(&failed, "/message").to_owned(),
        ] {
            ensure!(
                text.contains("node") && !text.contains("0/"),
                "it tells how many nodes there are: {text}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_failed_pod_fails_once_and_is_not_made_again() {
    within(A, "fails", async |space| {
        let pod = space
            .pod(
                "job",
                make::once(make::shell("echo sorry > /dev/termination-log; exit 3")),
            )
            .await?;
        let failed = |pod: &Value| text(pod, "/status/phase") == "Failed";
        let ended = space.like(POD, "job", "has failed", PODS, failed).await?;
        ensure!(
            ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3,
            "{}",
            ended["status"]
        );
        // The super pod may be cleaned up; what has ended stays ended.
        let twin = space.twin(POD, "job").await?;
        space.above().delete(POD, &space.twin, "job").await?;
        eventually(SOON, "the super pod is gone", async || {
            let now = space.find_twin(POD, "job").await?;
            ensure!(
                now.is_none(),
                "super pod {} was {}",
                uid(&now.unwrap_or_default()),
                uid(&twin)
            );
            Ok(())
        })
        .await?;
        // A later pod shows that the syncer has seen the deletion.
        space.pod("later", make::pod_spec(make::idle())).await?;
        space.ready("later").await?;
        let still = space.get(POD, "job").await?;
        ensure!(
            uid(&still) == uid(&pod) && failed(&still),
            "{}",
            still["status"]
        );
        ensure!(
            space.find_twin(POD, "job").await?.is_none(),
            "it was made again"
        );
        Ok(())
    });
}
