//! Volume claims: bound by the super cluster, seen in the tenant as on any cluster.

use anyhow::{bail, ensure};
use api::keys;
use e2e::{
    kind::{CLAIM, EVENT, PERSISTENT_VOLUME, POD, STATEFUL_SET, STORAGE_CLASS},
    make,
    read::{annotation, items, label, text, uid},
    side::PatchType,
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

fn claim(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    })
}

fn with_volume(script: &str, claim: &str) -> Value {
    let mut container = make::shell(script);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let mut spec = make::once(container);
    spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
    spec
}

async fn bound(space: &Space, name: &str) -> anyhow::Result<Value> {
    // What it is bound to and that it is are written one after the other.
    space
        .like(CLAIM, name, "is bound", PODS, |claim| {
            text(claim, "/status/phase") == "Bound"
                && !text(claim, "/spec/volumeName").is_empty()
                && annotation(claim, "pv.kubernetes.io/bind-completed") == Some("yes")
        })
        .await
}

#[test]
fn a_claim_binds_a_pod_writes_to_it_and_both_sides_are_freed() {
    within(A, "claim", async |space| {
        eventually(SOON, "the tenant has the default class", async || {
            Ok(space.side().get(STORAGE_CLASS, "", "local").await?)
        })
        .await?;
        let made = space.create(CLAIM, claim("data")).await?;
        ensure!(text(&made, "/spec/storageClassName") == "local", "{made}");
        space
            .pod("writer", with_volume("echo kept > /data/file", "data"))
            .await?;
        space.outcome("writer").await?;

        let claim = bound(space, "data").await?;
        ensure!(
            claim["status"]["capacity"]["storage"] == "16Mi"
                && claim["status"]["accessModes"] == json!(["ReadWriteOnce"]),
            "{claim}"
        );
        ensure!(
            items(&claim, "/metadata/finalizers").contains(&json!("kubernetes.io/pvc-protection")),
            "{claim}"
        );
        let name = text(&claim, "/spec/volumeName").to_owned();
        let volume = eventually(SOON, "the tenant sees the volume", async || {
            let volume = space.side().get(PERSISTENT_VOLUME, "", &name).await?;
            ensure!(text(&volume, "/status/phase") == "Bound", "{volume}");
            Ok(volume)
        })
        .await?;
        let reference = &volume["spec"]["claimRef"];
        ensure!(
            reference["namespace"] == space.name.as_str()
                && reference["name"] == "data"
                && reference["uid"] == uid(&claim),
            "{reference}"
        );
        let real = space.above().get(PERSISTENT_VOLUME, "", &name).await?;
        let path = text(&real, "/spec/local/path");
        ensure!(
            !path.is_empty() && !volume.to_string().contains(path),
            "where the data is isn't told: {volume}"
        );
        ensure!(!volume.to_string().contains(&space.twin), "{volume}");

        let read = "cat /data/file > /dev/termination-log";
        space.pod("reader", with_volume(read, "data")).await?;
        ensure!(space.outcome("reader").await? == "kept");

        for pod in ["writer", "reader"] {
            space.delete(POD, pod).await?;
        }
        space.delete(CLAIM, "data").await?;
        space.gone(CLAIM, "data").await?;
        for side in [space.side(), space.above()] {
            eventually(PODS, "the volume is gone", async || {
                match side.find(PERSISTENT_VOLUME, "", &name).await? {
                    Some(volume) => bail!("{} has {volume}", side.name()),
                    None => Ok(()),
                }
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn what_a_tenant_does_to_its_volume_is_undone() {
    within(A, "volume", async |space| {
        space.create(CLAIM, claim("data")).await?;
        space
            .pod("writer", with_volume("touch /data/file", "data"))
            .await?;
        space.outcome("writer").await?;
        let claim = bound(space, "data").await?;
        let name = text(&claim, "/spec/volumeName").to_owned();
        eventually(SOON, "the tenant sees the volume", async || {
            Ok(space.side().get(PERSISTENT_VOLUME, "", &name).await?)
        })
        .await?;
        let edit = json!({"metadata": {"labels": {"mine": "1"}}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        space
            .side()
            .merge(PERSISTENT_VOLUME, "", &name, edit)
            .await?;
        eventually(SOON, "the volume is as it was", async || {
            let volume = space.side().get(PERSISTENT_VOLUME, "", &name).await?;
            ensure!(
                label(&volume, "mine").is_none()
                    && volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete",
                "{volume}"
            );
            Ok(())
        })
        .await?;
        let lie = json!({"phase": "Lost", "capacity": {"storage": "1Ti"}});
        space
            .side()
            .merge_status(CLAIM, &space.name, "data", lie)
            .await?;
        space
            .like(CLAIM, "data", "tells the truth again", SOON, |claim| {
                text(claim, "/status/phase") == "Bound"
                    && claim["status"]["capacity"]["storage"] == "16Mi"
            })
            .await?;
        let real = space.above().get(PERSISTENT_VOLUME, "", &name).await?;
        ensure!(label(&real, keys::PUBLISHED).is_none(), "{real}");
        Ok(())
    });
}

/// R5: an empty volume in the place of the one that holds the data would pass for it.
#[test]
fn a_claim_whose_super_claim_is_deleted_is_lost_until_an_admin_gives_its_volume_back() {
    within(A, "lost", async |space| {
        space.create(CLAIM, claim("data")).await?;
        space
            .pod("writer", with_volume("echo kept > /data/file", "data"))
            .await?;
        space.outcome("writer").await?;
        let before = bound(space, "data").await?;
        space.delete(POD, "writer").await?;
        space.gone(POD, "writer").await?;
        let volume = text(&before, "/spec/volumeName").to_owned();
        let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
        space
            .above()
            .merge(PERSISTENT_VOLUME, "", &volume, policy("Retain"))
            .await?;

        let twin = space.twin(CLAIM, "data").await?;
        space.above().delete(CLAIM, &space.twin, "data").await?;
        let lost = space
            .like(CLAIM, "data", "is lost", PODS, |claim| {
                text(claim, "/status/phase") == "Lost"
            })
            .await?;
        ensure!(
            uid(&lost) == uid(&before) && lost["spec"] == before["spec"],
            "{lost}"
        );
        let told = space.refused(CLAIM, &lost, "VolumeLost").await?;
        ensure!(text(&told, "/message").contains(&volume), "{told}");
        // It waits for the claim, in the super cluster as on any.
        let read = "cat /data/file > /dev/termination-log";
        space.pod("reader", with_volume(read, "data")).await?;
        space.twin(POD, "reader").await?;
        ensure!(
            space.find_twin(CLAIM, "data").await?.is_none(),
            "a pod that uses it made it anew"
        );

        // What docs/operations.md tells an admin.
        let anybodys = json!([{"op": "remove", "path": "/spec/claimRef/uid"}]);
        let path = PERSISTENT_VOLUME.path("", &volume);
        space
            .above()
            .patch(&path, PatchType::Json, anybodys)
            .await?;
        let spec = &twin["spec"];
        let given_back = json!({
            "metadata": {
                "name": "data", "namespace": space.twin,
                "labels": {keys::TENANT: label(&twin, keys::TENANT)},
                "annotations": {keys::NAMESPACE: space.name, keys::NAME: "data", keys::UID: uid(&before)},
            },
            "spec": {
                "accessModes": spec["accessModes"], "resources": spec["resources"],
                "storageClassName": spec["storageClassName"], "volumeName": volume,
            },
        });
        space.above().create(CLAIM, given_back).await?;
        let back = bound(space, "data").await?;
        ensure!(
            uid(&back) == uid(&before) && back["spec"] == before["spec"],
            "{back}"
        );
        ensure!(space.outcome("reader").await? == "kept");
        space
            .twin_like(CLAIM, "data", "has all marks", |twin| {
                label(twin, keys::SHARD).is_some() && annotation(twin, keys::APPLIED).is_some()
            })
            .await?;
        space
            .above()
            .merge(PERSISTENT_VOLUME, "", &volume, policy("Delete"))
            .await?;
        Ok(())
    });
}

#[test]
fn stateful_sets_get_a_claim_for_each_pod() {
    within(A, "stateful", async |space| {
        let mut container = make::idle();
        container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        let template = claim("data");
        space
            .create(
                STATEFUL_SET,
                json!({
                    "metadata": {"name": "db"},
                    "spec": {
                        "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                        "template": {"metadata": {"labels": {"app": "db"}}, "spec": make::pod_spec(container)},
                        "volumeClaimTemplates": [template],
                    },
                }),
            )
            .await?;
        space.rolled_out(STATEFUL_SET, "db", 2).await?;
        for name in ["data-db-0", "data-db-1"] {
            bound(space, name).await?;
        }
        Ok(())
    });
}

#[test]
fn a_generic_ephemeral_volume_is_the_claim_that_the_tenants_controller_makes() {
    within(A, "ephemeral", async |space| {
        let mut spec = with_volume("touch /data/file && echo ok > /dev/termination-log", "");
        spec["volumes"] = json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim("")["spec"]}}}]);
        space.pod("scratch", spec).await?;
        ensure!(space.outcome("scratch").await? == "ok");
        bound(space, "scratch-data").await?;
        space.delete(POD, "scratch").await?;
        space.gone(CLAIM, "scratch-data").await
    });
}

#[test]
fn claims_that_reach_for_other_volumes_are_refused() {
    within(A, "refused", async |space| {
        let cases = [
            ("volumeName", json!("somebodys"), "VolumeNameSet"),
            (
                "selector",
                json!({"matchLabels": {"app": "db"}}),
                "VolumeSelector",
            ),
            ("storageClassName", json!("own"), "StorageClassNotOffered"),
            ("storageClassName", json!(""), "NoStorageClass"),
        ];
        for (field, value, reason) in cases {
            let mut claim = claim(&format!("c-{}", reason.to_lowercase()));
            claim["spec"]["storageClassName"] = "local".into();
            claim["spec"][field] = value;
            let claim = space.create(CLAIM, claim).await?;
            space.refused(CLAIM, &claim, reason).await?;
        }
        let told = space.side().list(EVENT, &space.name, "").await?;
        ensure!(
            !told
                .iter()
                .any(|event| event.to_string().contains(&space.twin))
        );
        Ok(())
    });
}
