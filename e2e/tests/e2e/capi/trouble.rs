//! What users get wrong: each is told by a condition, and nothing of anyone else is touched.

use super::{LONG, cluster, control_plane_of, control_plane_spec, place_of, with_clusters};
use anyhow::ensure;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    kind::{CLUSTER, CONFIG_MAP, CONTROL_PLANE, SECRET, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{condition, is_terminating, text},
    tenant::conditions,
    wait::PODS,
};
use serde_json::json;
use tenancy::tenant::TenantId;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn wrong_objects_say_what_is_wrong() {
    with_clusters(async |place| {
        // A Cluster that names no infrastructure.
        let mut headless = cluster("alone-control-plane", "none");
        headless["infrastructureRef"] = json!(null);
        place.create(CLUSTER, "alone", headless).await?;
        place
            .create(
                SUBLET_CONTROL_PLANE,
                "alone-control-plane",
                control_plane_spec(),
            )
            .await?;
        let told = ["Available", "False", "InfrastructureMissing"];
        let message = place
            .told(SUBLET_CONTROL_PLANE, "alone-control-plane", told)
            .await?;
        ensure!(message.contains("names no SubletCluster"), "{message}");

        // Objects without a Cluster.
        place.create(SUBLET_CLUSTER, "orphan", json!({})).await?;
        place
            .create(SUBLET_CONTROL_PLANE, "orphan", control_plane_spec())
            .await?;
        place
            .told(
                SUBLET_CLUSTER,
                "orphan",
                ["Ready", "False", "WaitingForCluster"],
            )
            .await?;
        place
            .told(
                SUBLET_CONTROL_PLANE,
                "orphan",
                ["Available", "False", "WaitingForCluster"],
            )
            .await?;
        for kind in [SUBLET_CLUSTER, SUBLET_CONTROL_PLANE] {
            let orphan = place.get(kind, "orphan").await?;
            ensure!(
                orphan["metadata"]["finalizers"].is_null(),
                "{}",
                orphan["metadata"]
            );
        }

        // A place that somebody else looks after, and hasn't yet.
        let metadata = json!({
            "name": "outsourced-place", "namespace": place.namespace,
            "labels": {"cluster.x-k8s.io/managed-by": "somebody"},
        });
        let theirs = json!({"metadata": metadata, "spec": {}});
        let made = place.above.create(SUBLET_CLUSTER, theirs).await?;
        let control_plane = control_plane_of("outsourced");
        place
            .create(SUBLET_CONTROL_PLANE, &control_plane, control_plane_spec())
            .await?;
        let spec = cluster(&control_plane, "outsourced-place");
        place.create(CLUSTER, "outsourced", spec).await?;
        let told = ["Available", "False", "WaitingForInfrastructure"];
        let message = place
            .told(SUBLET_CONTROL_PLANE, &control_plane, told)
            .await?;
        ensure!(message.contains("is managed by somebody else"), "{message}");
        let theirs = place.get(SUBLET_CLUSTER, "outsourced-place").await?;
        ensure!(
            theirs["metadata"]["finalizers"].is_null()
                && theirs["spec"] == made["spec"]
                && theirs["status"].is_null(),
            "{theirs}"
        );

        // A version that the class doesn't offer.
        place
            .create(CLUSTER, "old", cluster("old-control-plane", "old-place"))
            .await?;
        place.create(SUBLET_CLUSTER, "old-place", json!({})).await?;
        let mut old = control_plane_spec();
        old["version"] = json!("v1.20.1");
        place
            .create(SUBLET_CONTROL_PLANE, "old-control-plane", old)
            .await?;
        let told = ["Ready", "False", "VersionNotOffered"];
        let message = place
            .told(SUBLET_CONTROL_PLANE, "old-control-plane", told)
            .await?;
        ensure!(
            message.contains("doesn't offer version v1.20.1"),
            "{message}"
        );

        // A tenant of the Cluster's name that isn't the Cluster's.
        place
            .create(
                CONTROL_PLANE,
                "taken",
                json!({"className": "no-such", "paused": true}),
            )
            .await?;
        let theirs = place
            .like(CONTROL_PLANE, "taken", "is paused", PODS, |vcp| {
                text(vcp, "/status/phase") == "Paused"
            })
            .await?;
        place.cluster("taken").await?;
        let told = ["Available", "False", "NameTaken"];
        place
            .told(SUBLET_CONTROL_PLANE, &control_plane_of("taken"), told)
            .await?;
        place.delete(CLUSTER, "taken").await?;
        place.gone(CLUSTER, "taken", PODS).await?;
        let after = place.get(CONTROL_PLANE, "taken").await?;
        for part in [
            "/spec",
            "/metadata/uid",
            "/metadata/ownerReferences",
            "/metadata/finalizers",
            "/metadata/labels",
            "/metadata/annotations",
            "/metadata/deletionTimestamp",
        ] {
            ensure!(
                theirs.pointer(part) == after.pointer(part),
                "{part} was changed: {}",
                after["metadata"]
            );
        }
        let unpaused = json!({"spec": {"paused": false}});
        place.merge(CONTROL_PLANE, "taken", unpaused).await?;
        place.delete(CONTROL_PLANE, "taken").await?;
        place.gone(CONTROL_PLANE, "taken", PODS).await?;
        // Nothing was made for any of them.
        for vcp in place
            .above
            .list(CONTROL_PLANE, &place.namespace, "")
            .await?
        {
            ensure!(
                text(&vcp, "/status/phase") == "Failed",
                "{}",
                conditions(&vcp)
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_super_cluster_that_can_not_be_reached_is_told_and_holds_nothing_up() {
    with_clusters(async |place| {
        let authority = place
            .like(CONFIG_MAP, "kube-root-ca.crt", "is there", PODS, |map| {
                map["data"]["ca.crt"].is_string()
            })
            .await?;
        let authority = BASE64_STANDARD.encode(text(&authority, "/data/ca.crt"));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {
                "server": "https://127.0.0.1:9", "certificate-authority-data": authority,
            }}],
            "users": [{"name": "x", "user": {"token": "none"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        });
        let secret = json!({
            "metadata": {"name": "dead", "namespace": place.namespace},
            "stringData": {"value": kubeconfig.to_string()},
        });
        place.above.create(SECRET, secret).await?;
        for (name, secret) in [("nowhere", "no-such"), ("dead", "dead")] {
            let (control_plane, own) = (control_plane_of(name), place_of(name));
            let spec =
                json!({"superCluster": {"kubeconfigSecretRef": {"name": secret, "key": "value"}}});
            place.create(SUBLET_CLUSTER, &own, spec).await?;
            place
                .create(SUBLET_CONTROL_PLANE, &control_plane, control_plane_spec())
                .await?;
            place
                .create(CLUSTER, name, cluster(&control_plane, &own))
                .await?;
        }
        let missing = ["Ready", "False", "KubeconfigRefused"];
        let message = place
            .told(SUBLET_CLUSTER, &place_of("nowhere"), missing)
            .await?;
        ensure!(message.contains("/no-such doesn't exist"), "{message}");
        let dead = ["Ready", "False", "SuperClusterUnreachable"];
        place.told(SUBLET_CLUSTER, &place_of("dead"), dead).await?;
        // Nothing was made anywhere, so that nothing is waited for.
        for name in ["nowhere", "dead"] {
            place.delete(CLUSTER, name).await?;
            place.gone(CLUSTER, name, PODS).await?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_foreign_kubeconfig_secret_is_kept_and_a_shared_control_plane_is_refused() {
    with_clusters(async |place| {
        let foreign = json!({
            "metadata": {"name": "red-kubeconfig", "namespace": place.namespace},
            "stringData": {"value": "mine"},
        });
        let before = place.above.create(SECRET, foreign).await?;
        place.cluster("red").await?;
        let control_plane = control_plane_of("red");
        let message = place
            .told(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                ["Ready", "False", "NameTaken"],
            )
            .await?;
        ensure!(
            message.contains("/red-kubeconfig exists and isn't this tenant's"),
            "{message}"
        );
        let after = place.get(SECRET, "red-kubeconfig").await?;
        ensure!(before["data"] == after["data"]);
        // Once it is gone, the Cluster comes up.
        place.delete(SECRET, "red-kubeconfig").await?;
        place.available("red", LONG).await?;

        // A second Cluster names the same objects.
        place
            .create(CLUSTER, "thief", cluster(&control_plane, &place_of("red")))
            .await?;
        let owned_twice = place
            .told(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                ["Ready", "False", "OwnedTwice"],
            )
            .await;
        let vcp = place.get(CONTROL_PLANE, "red").await?;
        ensure!(
            condition(&vcp, "ControlPlaneReady") == "True",
            "{}",
            conditions(&vcp)
        );
        ensure!(place.find(CONTROL_PLANE, "thief").await?.is_none());
        owned_twice?;

        // Its deletion, which deletes what it names, doesn't end the tenant of the first.
        place.delete(CLUSTER, "thief").await?;
        let held = ["Deleting", "True", "OwnedTwice"];
        place
            .told(SUBLET_CONTROL_PLANE, &control_plane, held)
            .await?;
        let vcp = place.get(CONTROL_PLANE, "red").await?;
        ensure!(
            !is_terminating(&vcp) && condition(&vcp, "ControlPlaneReady") == "True",
            "{}",
            conditions(&vcp)
        );
        place.tenant("red").await?.side.text("/").await?;
        // As the message says: the second one names something else, and the first ends with its own deletion.
        let elsewhere = json!({"spec": cluster("no-such", "no-such")});
        place.merge(CLUSTER, "thief", elsewhere).await?;
        place.gone(CLUSTER, "thief", LONG).await?;
        ensure!(place.find(CONTROL_PLANE, "red").await?.is_some());
        place.delete(CLUSTER, "red").await?;
        place.gone(CLUSTER, "red", LONG).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_cluster_can_be_deleted_while_it_is_provisioned() {
    with_clusters(async |place| {
        place.cluster("brief").await?;
        let made = place
            .like(CONTROL_PLANE, "brief", "is begun", PODS, |vcp| {
                vcp["status"]["phase"] == "Provisioning"
            })
            .await?;
        place.delete(CLUSTER, "brief").await?;
        let id = TenantId::parse(text(&made, "/spec/identity"))?;
        place.nothing_is_left("brief", &id).await
    });
}
