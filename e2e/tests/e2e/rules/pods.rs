//! R5: a pod whose super pod was deleted has ended; a new pod never shows an old one's status.

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{DEPLOYMENT, POD},
    make,
    read::{annotation, brief, condition, text, uid},
    space::within,
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

#[test]
fn a_pod_whose_super_pod_was_deleted_ends_and_is_replaced() {
    within(A, "ended", async |space| {
        space
            .create(
                DEPLOYMENT,
                make::deployment("web", 1, make::pod_spec(make::idle())),
            )
            .await?;
        space.pod("alone", make::pod_spec(make::idle())).await?;
        space.rolled_out(DEPLOYMENT, "web", 1).await?;
        let alone = space.ready("alone").await?;
        let old = space.pods("app=web").await?.pop().context("one pod")?;

        for pod in [&old, &alone] {
            space
                .above()
                .delete(POD, &space.twin, e2e::read::name(pod))
                .await?;
        }
        eventually(
            PODS,
            "the Deployment has a new pod that is Ready",
            async || {
                let pods = space.pods("app=web").await?;
                let new = pods
                    .iter()
                    .find(|pod| uid(pod) != uid(&old) && condition(pod, "Ready") == "True");
                let all: Vec<String> = pods.iter().map(brief).collect();
                ensure!(new.is_some() && pods.len() == 1, "{all:?}");
                Ok(())
            },
        )
        .await?;
        // One that nobody controls ends all the same, and isn't made again.
        eventually(PODS, "the pod that nobody controls has ended", async || {
            let pod = space.find(POD, "alone").await?;
            ensure!(pod.is_none(), "{}", brief(&pod.unwrap_or_default()));
            Ok(())
        })
        .await?;
        ensure!(
            space.find_twin(POD, "alone").await?.is_none(),
            "it was made again"
        );
        Ok(())
    });
}

#[test]
fn a_super_pod_that_is_deleted_before_it_was_bound_is_made_again() {
    within(A, "unbound", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["nodeSelector"] = json!({"example.com/no-such": "node"});
        let own = space.pod("web", spec).await?;
        let old = space.twin(POD, "web").await?;
        space.above().delete(POD, &space.twin, "web").await?;
        let new = space
            .twin_like(POD, "web", "is made again", |twin| uid(twin) != uid(&old))
            .await?;
        ensure!(annotation(&new, keys::UID) == Some(uid(&own)), "{new}");
        ensure!(
            uid(&space.get(POD, "web").await?) == uid(&own),
            "the tenant's pod was made anew"
        );
        Ok(())
    });
}

#[test]
fn a_status_that_the_tenant_forges_is_put_right() {
    within(A, "forge", async |space| {
        space.pod("web", make::pod_spec(make::idle())).await?;
        let ready = space.ready("web").await?;
        let forged = json!({"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}], "phase": "Failed", "reason": "Forged"});
        space
            .side()
            .merge_status(POD, &space.name, "web", forged)
            .await?;
        let right = |pod: &Value| {
            text(pod, "/status/podIP") == text(&ready, "/status/podIP")
                && text(pod, "/status/phase") == "Running"
                && pod["status"].get("reason").is_none()
        };
        let pod = space
            .like(POD, "web", "shows what the super cluster says", SOON, right)
            .await?;
        ensure!(uid(&pod) == uid(&ready));
        let twin = space.twin(POD, "web").await?;
        ensure!(
            text(&twin, "/status/podIP") == text(&ready, "/status/podIP"),
            "the tenant's status went down"
        );
        Ok(())
    });
}

#[test]
fn an_edit_of_a_super_pod_is_undone_or_the_pod_stays_what_the_tenant_wrote() {
    within(A, "edited", async |space| {
        let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": make::pod_spec(make::idle())});
        space.create(POD, pod).await?;
        let own = space.ready("web").await?;
        let edit = json!({"metadata": {"labels": {"app": "other"}}, "spec": {"activeDeadlineSeconds": 77777}});
        space.above().merge(POD, &space.twin, "web", edit).await?;
        let undone = |twin: &Value| e2e::read::label(twin, "app") == Some("web");
        space
            .twin_like(POD, "web", "has its label again", undone)
            .await?;
        let now = space.get(POD, "web").await?;
        ensure!(
            now["spec"] == own["spec"] && now["metadata"]["labels"] == own["metadata"]["labels"],
            "{now}"
        );
        Ok(())
    });
}
