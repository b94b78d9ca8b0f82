//! What a class prescribes for pods holds on every path, and is told.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CLASS, CONTROL_PLANE, EVENT, NAMESPACE, POD, PRIORITY_CLASS},
    make, oracle,
    read::{annotation, event, label, name, text, uid},
    rig::{Rig, Wish, on_rig},
    side::PatchType,
    tenant::NAMESPACE_OF_TESTS,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;

const EGRESS: &str = "kubernetes.io/egress-bandwidth";

async fn pod(rig: &Rig, name: &str, change: impl FnOnce(&mut Value)) -> anyhow::Result<Value> {
    let metadata = json!({"name": name, "namespace": "default"});
    let mut pod = json!({"metadata": metadata, "spec": make::pod_spec(make::idle())});
    change(&mut pod);
    Ok(rig.tenants[0].side.create(POD, pod).await?)
}

async fn twin(rig: &Rig, name: &str) -> anyhow::Result<Value> {
    let namespace = rig.tenants[0].twin("default");
    eventually(SOON, &format!("{name} is made"), async || {
        Ok(rig.side.get(POD, &namespace, name).await?)
    })
    .await
}

/// Makes pods, `PREFIX0` and on, until one is made as it should be: a changed class is taken up within moments.
async fn made(
    rig: &Rig,
    prefix: &str,
    change: impl Fn(&mut Value),
    is_right: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    for number in 0..30 {
        let name = format!("{prefix}{number}");
        pod(rig, &name, &change).await?;
        last = twin(rig, &name).await?;
        if is_right(&last) {
            return Ok(last);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("{prefix} isn't made as it should be: {}", last["spec"])
}

/// Waits until the super namespace says this of raw sockets.
async fn says(rig: &Rig, word: &str) -> anyhow::Result<()> {
    let namespace = rig.tenants[0].twin("default");
    eventually(SOON, &format!("raw sockets are {word}"), async || {
        let found = rig.side.get(NAMESPACE, "", &namespace).await?;
        let said = label(&found, keys::RAW_SOCKETS);
        ensure!(said == Some(word), "{}", found["metadata"]);
        Ok(())
    })
    .await
}

async fn rules(rig: &Rig, pods: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"pods": pods}});
    rig.side.merge(CLASS, "", "default", patch).await?;
    Ok(())
}

#[test]
fn t24_a_class_prescribes_images_priority_tolerations_bandwidth_and_resources() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        let tier = json!({"metadata": {"name": "paid"}, "value": 100, "description": "paid"});
        rig.side.create(PRIORITY_CLASS, tier).await?;
        // One that was made before anything was prescribed.
        pod(rig, "old", |_| ()).await?;
        let before = twin(rig, "old").await?;
        // T45: whatever registries a class leaves open, no node asks what is inside.
        let inside = pod(rig, "inside", |pod| {
            pod["spec"]["containers"][0]["image"] = "169.254.169.254/latest/meta-data".into();
        })
        .await?;
        event(&guest.side, POD, &inside, "ImageNotAllowed").await?;
        rules(
            rig,
            json!({
                "images": {"registries": ["registry.k8s.io", "docker.io/library"], "alwaysPull": true},
                "priorityClassName": "paid",
                "tolerations": [{"key": "customer", "value": "acme", "effect": "NoSchedule"}],
                "bandwidth": {"egress": "10M"},
                "containers": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}, "max": {"memory": "1Gi"}},
            }),
        )
        .await?;
        let bandwidth = |pod: &mut Value| pod["metadata"]["annotations"] = json!({EGRESS: "1G"});
        let is_paid = |twin: &Value| text(twin, "/spec/priorityClassName") == "paid";
        let made_anew = made(rig, "new", bandwidth, is_paid).await?;
        let new = name(&made_anew);
        let container = &made_anew["spec"]["containers"][0];
        ensure!(container["imagePullPolicy"] == "Always", "{container}");
        ensure!(
            container["resources"]
                == json!({"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}),
            "{container}"
        );
        let dropped = &container["securityContext"]["capabilities"]["drop"];
        ensure!(*dropped == json!(["NET_RAW"]), "{container}");
        ensure!(
            made_anew["spec"]["priority"] == 100,
            "{}",
            made_anew["spec"]
        );
        let tolerates = made_anew["spec"]["tolerations"].to_string();
        ensure!(tolerates.contains("\"acme\""), "{tolerates}");
        ensure!(
            annotation(&made_anew, EGRESS) == Some("10000000"),
            "{}",
            made_anew["metadata"]
        );

        // Every path by which an image or a size could come.
        let foreign = pod(rig, "foreign", |pod| {
            pod["spec"]["initContainers"] = json!([{"name": "i", "image": "quay.io/x/y"}]);
        })
        .await?;
        event(&guest.side, POD, &foreign, "ImageNotAllowed").await?;
        let large = pod(rig, "large", |pod| {
            pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "2Gi"}});
        })
        .await?;
        event(&guest.side, POD, &large, "ContainerTooLarge").await?;
        let tenants = guest.side.get(POD, "default", new).await?;
        let image =
            json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "quay.io/x/y"}]);
        guest
            .side
            .patch(&POD.path("default", new), PatchType::Json, image)
            .await?;
        event(&guest.side, POD, &tenants, "ImageNotAllowed").await?;
        ensure!(twin(rig, new).await?["spec"]["containers"][0]["image"] == make::PAUSE);

        // What ran before runs on as it was made, and a new default resizes nothing.
        rules(rig, json!({"containers": {"limits": {"memory": "128Mi"}}})).await?;
        let limit =
            |twin: &Value| text(twin, "/spec/containers/0/resources/limits/memory").to_owned();
        made(rig, "newer", |_| (), |twin| limit(twin) == "128Mi").await?;
        let after = twin(rig, "old").await?;
        ensure!(
            after["spec"]["containers"] == before["spec"]["containers"],
            "{}",
            after["spec"]
        );
        let limit = limit(&twin(rig, new).await?);
        ensure!(limit == "64Mi", "{limit}");
        // Admission policies go by what the namespace says.
        let keeps = |twin: &Value| {
            twin["spec"]["containers"][0]
                .get("securityContext")
                .is_none()
        };
        rules(rig, json!({"rawSockets": "Allowed"})).await?;
        says(rig, keys::RAW_SOCKETS_ALLOWED).await?;
        made(rig, "raw", |_| (), keeps).await?;
        rules(rig, json!({"rawSockets": "Refused"})).await?;
        says(rig, keys::RAW_SOCKETS_REFUSED).await?;
        made(rig, "dropping", |_| (), |twin| !keeps(twin)).await?;

        // A control plane can only be stricter than its class.
        let own = json!({"spec": {"policy": {"pods": {"images": {"registries": ["docker.io/library", "quay.io"]}}}}});
        rig.side
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &guest.name, own)
            .await?;
        let namespace = guest.twin("default");
        for number in 0.. {
            ensure!(number < 30, "the stricter rule never holds");
            let strict = pod(rig, &format!("strict{number}"), |_| ()).await?;
            let judged = eventually(SOON, "a pod is made or refused", async || {
                let twin = rig.side.find(POD, &namespace, name(&strict)).await?;
                let events = guest.side.list(EVENT, "default", "").await?;
                let is_told = events.iter().any(|event| {
                    text(event, "/involvedObject/uid") == uid(&strict)
                        && text(event, "/reason") == "ImageNotAllowed"
                });
                ensure!(twin.is_some() || is_told, "neither");
                Ok(twin)
            });
            if judged.await?.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        oracle::deeds::are_lawful(rig).await
    });
}
