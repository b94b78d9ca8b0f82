//! F20: what waits for somebody else delays, and wedges nothing.

use super::{crosses, pod};
use anyhow::ensure;
use e2e::{
    kind::{CLAIM, NAMESPACE, POD, STORAGE_CLASS},
    oracle,
    read::{event, text},
    rig::{Rig, Wish, ending::hasten, on_rig},
    wait::{PODS, SOON, eventually},
};
use serde_json::json;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f20_finalizers_on_either_side_delay_and_wedge_nothing() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let mut kept = pod("work", "kept");
        kept["metadata"]["finalizers"] = json!(["example.com/wait"]);
        guest.side.create(POD, kept).await?;
        guest.side.create(POD, pod("work", "plain")).await?;
        oracle::pairs::agree(rig, guest).await?;
        let twin = guest.twin("work");
        let patch = json!({"metadata": {"finalizers": ["example.com/audit"]}});
        rig.side.merge(POD, &twin, "plain", patch).await?;
        guest.side.delete(POD, "work", "kept").await?;
        guest.side.delete(POD, "work", "plain").await?;
        eventually(
            SOON,
            "the super pod of the first is gone, the second waits",
            async || {
                ensure!(
                    rig.side.find(POD, &twin, "kept").await?.is_none(),
                    "it is there"
                );
                let waits = rig.side.get(POD, &twin, "plain").await?;
                ensure!(e2e::read::is_terminating(&waits), "{waits}");
                Ok(())
            },
        )
        .await?;
        ensure!(
            guest.side.find(POD, "work", "kept").await?.is_some(),
            "a foreign finalizer was ignored"
        );
        let waiting = guest.side.get(POD, "work", "plain").await?;
        let told = event(&guest.side, POD, &waiting, "DeletionHeldUp").await?;
        ensure!(
            text(&told, "/message").contains("example.com/audit"),
            "{told}"
        );
        // Whoever holds them lets go.
        let none = json!({"metadata": {"finalizers": null}});
        guest.side.merge(POD, "work", "kept", none.clone()).await?;
        rig.side.merge(POD, &twin, "plain", none).await?;
        eventually(SOON, "all are gone on both sides", async || {
            let left = guest.side.list(POD, "work", "").await?;
            let above = rig.side.list(POD, &twin, "").await?;
            ensure!(left.is_empty() && above.is_empty(), "{left:?} {above:?}");
            Ok(())
        })
        .await?;
        guest.side.delete(NAMESPACE, "", "work").await?;
        ended(rig, "work").await?;
        oracle::all(rig).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f20_a_claim_in_use_waits_for_its_pod_and_goes_with_the_namespace() {
    on_rig(Wish::default(), async |rig| {
        let guest = &rig.tenants[0];
        guest.namespace("work").await?;
        let offered = json!({
            "metadata": {"name": "fast", "labels": {api::keys::PUBLISHED: "true"}},
            "provisioner": "example.com/none",
        });
        rig.side.create(STORAGE_CLASS, offered).await?;
        eventually(SOON, "the tenant is offered a class", async || {
            Ok(guest.side.get(STORAGE_CLASS, "", "fast").await?)
        })
        .await?;
        let claim = json!({
            "metadata": {"name": "data", "namespace": "work"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "16Mi"}},
            },
        });
        guest.side.create(CLAIM, claim).await?;
        let mut user = pod("work", "user");
        user["metadata"]["finalizers"] = json!(["example.com/wait"]);
        user["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        guest.side.create(POD, user).await?;
        oracle::pairs::agree(rig, guest).await?;
        let twin = guest.twin("work");
        rig.side.get(CLAIM, &twin, "data").await?;
        guest.side.delete(CLAIM, "work", "data").await?;
        crosses(rig, 0, ("work", "later"), SOON).await?;
        let waits = guest.side.get(CLAIM, "work", "data").await?;
        ensure!(e2e::read::is_terminating(&waits), "{waits}");
        let used = rig.side.get(CLAIM, &twin, "data").await?;
        ensure!(!e2e::read::is_terminating(&used), "{used}");

        // All at once, and one finalizer that holds the tenant's pod.
        guest.side.delete(NAMESPACE, "", "work").await?;
        eventually(PODS, "the super pod is gone", async || {
            ensure!(
                rig.side.list(POD, &twin, "").await?.is_empty(),
                "its pod is there"
            );
            Ok(())
        })
        .await?;
        let held = guest.side.get(POD, "work", "user").await?;
        ensure!(e2e::read::is_terminating(&held), "{held}");
        let none = json!({"metadata": {"finalizers": null}});
        guest.side.merge(POD, "work", "user", none).await?;
        ended(rig, "work").await?;
        oracle::all(rig).await
    });
}

/// Waits until a namespace and its twin are gone.
async fn ended(rig: &Rig, namespace: &str) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    let twin = guest.twin(namespace);
    let places = [(&guest.side, namespace), (&rig.side, &*twin)];
    eventually(PODS, "the namespace is gone on both sides", async || {
        for (side, namespace) in places {
            hasten(side, namespace).await?;
            let left = side.find(NAMESPACE, "", namespace).await?;
            ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
        }
        Ok(())
    })
    .await
}
