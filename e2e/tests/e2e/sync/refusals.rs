//! What doesn't cross, and how the tenant is told.

use anyhow::ensure;
use e2e::{
    kind::{NODE, POD},
    make,
    read::{name, text},
    space::within,
    tenant::A,
};
use serde_json::{Value, json};

/// A pod spec with one thing changed in it.
fn with(pointer: &str, field: &str, value: Value) -> Value {
    let mut spec = make::pod_spec(make::idle());
    if let Some(part) = spec.pointer_mut(pointer) {
        part[field] = value;
    }
    spec
}

#[test]
fn pods_that_reach_for_the_host_are_refused_with_an_event() {
    within(A, "host", async |space| {
        let first = "/containers/0";
        let context = |context: Value| with(first, "securityContext", context);
        let host_path = json!([{"name": "host", "hostPath": {"path": "/"}}]);
        // T5 to T8.
        let cases = [
            (
                "host-network",
                with("", "hostNetwork", true.into()),
                "host namespaces",
            ),
            (
                "host-pid",
                with("", "hostPID", true.into()),
                "host namespaces",
            ),
            (
                "host-ipc",
                with("", "hostIPC", true.into()),
                "host namespaces",
            ),
            (
                "host-path",
                with("", "volumes", host_path),
                "hostPath volumes",
            ),
            (
                "host-port",
                with(
                    first,
                    "ports",
                    json!([{"containerPort": 80, "hostPort": 8088}]),
                ),
                "hostPort",
            ),
            (
                "privileged",
                context(json!({"privileged": true})),
                "privileged",
            ),
            (
                "capability",
                context(json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
                "SYS_ADMIN",
            ),
            (
                "unconfined",
                context(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile",
            ),
            (
                "sysctl",
                with(
                    "",
                    "securityContext",
                    json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
                ),
                "kernel.msgmax",
            ),
        ];
        let mut pods = vec![];
        for (name, spec, word) in cases {
            pods.push((space.pod(name, spec).await?, word));
        }
        for (pod, word) in pods {
            let event = space.refused(POD, &pod, "PodSecurity").await?;
            ensure!(
                text(&event, "/message").contains(word) && text(&event, "/type") == "Warning",
                "{word}: {event}"
            );
            ensure!(
                !event.to_string().contains(&space.twin),
                "the super namespace's name leaks: {event}"
            );
        }
        Ok(())
    });
}

#[test]
fn pods_that_go_around_the_platform_are_refused_with_an_event() {
    within(A, "around", async |space| {
        let nodes = space.side().list(NODE, "", "").await?;
        let node = nodes.first().map(name).unwrap_or_default();
        // T9, T13, T23.
        let pinned = space
            .pod("pinned", with("", "nodeName", node.into()))
            .await?;
        let event = space.refused(POD, &pinned, "NodeNameSet").await?;
        ensure!(text(&event, "/message").contains("nodeSelector"), "{event}");
        let scheduler = space
            .pod("scheduler", with("", "schedulerName", "other".into()))
            .await?;
        space
            .refused(POD, &scheduler, "SchedulerNotOffered")
            .await?;
        let secret = json!([{"secretRef": {"name": "sublet-token-x"}}]);
        let thief = space
            .pod("thief", with("/containers/0", "envFrom", secret))
            .await?;
        space.refused(POD, &thief, "ReservedName").await?;
        Ok(())
    });
}

#[test]
fn a_pod_that_was_refused_runs_when_it_is_made_as_the_event_says() {
    within(A, "mended", async |space| {
        let pod = space
            .pod("web", with("", "hostNetwork", true.into()))
            .await?;
        space.refused(POD, &pod, "PodSecurity").await?;
        space.delete(POD, "web").await?;
        space.gone(POD, "web").await?;
        space
            .pod("web", with("", "hostNetwork", false.into()))
            .await?;
        space.ready("web").await?;
        Ok(())
    });
}
