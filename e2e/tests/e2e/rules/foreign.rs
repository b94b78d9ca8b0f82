//! R3: a super object of somebody else under the name that an object needs is never adopted, written to or deleted.

use anyhow::ensure;
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, EVENT, NAMESPACE, POD, SECRET, SERVICE},
    make,
    read::{condition, event, text, uid},
    space::{Space, run, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::json;

#[test]
fn foreign_objects_under_the_needed_name_are_left_alone() {
    within(A, "foreign", async |space| {
        space
            .twin(e2e::kind::SERVICE_ACCOUNT, keys::POD_SERVICE_ACCOUNT)
            .await?;
        let spec = make::pod_spec(make::idle());
        let foreign = [
            (CONFIG_MAP, make::config_map("taken", "whose", "platform")),
            (
                SECRET,
                json!({"metadata": {"name": "taken"}, "stringData": {"whose": "platform"}}),
            ),
            (SERVICE, make::service("taken")),
            (POD, json!({"metadata": {"name": "taken"}, "spec": spec})),
        ];
        let mut before = vec![];
        for (kind, mut object) in foreign.clone() {
            object["metadata"]["namespace"] = space.twin.clone().into();
            let made = space.above().create(kind, object).await?;
            before.push((kind, uid(&made).to_owned()));
        }
        for (kind, object) in foreign {
            let own = space.create(kind, object).await?;
            if kind == SERVICE || kind == POD {
                let told = event(space.side(), kind, &own, "NameTaken").await?;
                let scrubbed = !told.to_string().contains(&space.twin);
                ensure!(!text(&told, "/message").is_empty() && scrubbed, "{told}");
            }
        }
        // A pod that refers to them would read what isn't its tenant's.
        for (name, reference) in [("configmap", "configMapRef"), ("secret", "secretRef")] {
            let mut container = make::idle();
            container["envFrom"] = json!([{reference: {"name": "taken"}}]);
            let thief = space.pod(name, make::pod_spec(container)).await?;
            let told = space.refused(POD, &thief, "ReferenceTaken").await?;
            ensure!(text(&told, "/message").contains("taken"), "{told}");
        }
        for (kind, uid_before) in &before {
            let now = space.twin(*kind, "taken").await?;
            ensure!(
                uid(&now) == uid_before,
                "the foreign {} was made anew",
                kind.name
            );
            ensure!(
                !now["metadata"].to_string().contains(keys::PREFIX),
                "the foreign {} was adopted: {now}",
                kind.name
            );
        }
        // What happens to the foreign pod isn't told as if it happened to the tenant's.
        ready_above(space, "taken").await?;
        let own = space.get(POD, "taken").await?;
        let events = space.side().list(EVENT, &space.name, "").await?;
        let reasons: Vec<&str> = events
            .iter()
            .filter(|event| text(event, "/involvedObject/uid") == uid(&own))
            .map(|event| text(event, "/reason"))
            .collect();
        ensure!(
            reasons.iter().all(|reason| *reason == "NameTaken"),
            "{reasons:?}"
        );
        ensure!(
            text(&own, "/status/phase") == "Pending",
            "{}",
            own["status"]
        );
        // Deleting the tenant's objects deletes nothing foreign; the next object shows that it was worked.
        for (kind, _) in &before {
            space.delete(*kind, "taken").await?;
        }
        space.pod("later", make::pod_spec(make::idle())).await?;
        space.ready("later").await?;
        for (kind, uid_before) in before {
            let now = space.twin(kind, "taken").await?;
            ensure!(
                uid(&now) == uid_before && !e2e::read::is_terminating(&now),
                "the foreign {} was deleted",
                kind.name
            );
        }
        Ok(())
    });
}

/// Waits until a foreign pod in the twin is Ready.
async fn ready_above(space: &Space, pod: &str) -> anyhow::Result<()> {
    eventually(PODS, "the foreign pod is Ready", async || {
        let pod = space.above().get(POD, &space.twin, pod).await?;
        ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
        Ok(())
    })
    .await
}

#[test]
fn a_foreign_namespace_under_the_needed_name_is_left_alone() {
    run(async || {
        let tenant = A.get().await?;
        let name = make::unique("squatted");
        let twin = tenant.twin(&name);
        let foreign = tenant
            .above
            .create(NAMESPACE, json!({"metadata": {"name": twin}}))
            .await?;
        let result = async {
            let own = tenant
                .side
                .create(NAMESPACE, json!({"metadata": {"name": name}}))
                .await?;
            event(&tenant.side, NAMESPACE, &own, "NameTaken").await?;
            let now = tenant.above.get(NAMESPACE, "", &twin).await?;
            ensure!(
                uid(&now) == uid(&foreign),
                "the foreign namespace was made anew"
            );
            ensure!(
                !now["metadata"].to_string().contains(keys::PREFIX),
                "the foreign namespace was adopted: {now}"
            );
            // What is made in the tenant's namespace doesn't enter the foreign one either.
            eventually(SOON, "the ServiceAccount is there", async || {
                Ok(tenant
                    .side
                    .get(e2e::kind::SERVICE_ACCOUNT, &name, "default")
                    .await
                    .map(drop)?)
            })
            .await?;
            let pod = json!({"metadata": {"name": "web", "namespace": name}, "spec": make::pod_spec(make::idle())});
            tenant.side.create(POD, pod).await?;
            tenant.side.delete(NAMESPACE, "", &name).await?;
            eventually(PODS, "the tenant's namespace is gone", async || {
                ensure!(
                    tenant.side.find(NAMESPACE, "", &name).await?.is_none(),
                    "it is still there"
                );
                Ok(())
            })
            .await?;
            ensure!(
                tenant.above.list(POD, &twin, "").await?.is_empty(),
                "a pod has entered the foreign namespace"
            );
            let now = tenant.above.get(NAMESPACE, "", &twin).await?;
            ensure!(
                uid(&now) == uid(&foreign) && !e2e::read::is_terminating(&now),
                "the foreign namespace was deleted"
            );
            Ok(())
        };
        let result = result.await;
        tenant.above.delete(NAMESPACE, "", &twin).await?;
        tenant.side.delete(NAMESPACE, "", &name).await?;
        result
    });
}

#[test]
fn once_the_name_is_free_the_tenants_object_gets_it() {
    within(A, "freed", async |space| {
        space
            .twin(e2e::kind::SERVICE_ACCOUNT, keys::POD_SERVICE_ACCOUNT)
            .await?;
        let pod = json!({"metadata": {"name": "web", "namespace": space.twin}, "spec": make::pod_spec(make::idle())});
        space.above().create(POD, pod).await?;
        let own = space.pod("web", make::pod_spec(make::idle())).await?;
        event(space.side(), POD, &own, "NameTaken").await?;
        space.above().delete(POD, &space.twin, "web").await?;
        eventually(SOON, "the name is free", async || {
            let now = space.find_twin(POD, "web").await?;
            ensure!(
                now.is_none_or(|pod| e2e::read::annotation(&pod, keys::UID).is_some()),
                "it is still taken"
            );
            Ok(())
        })
        .await?;
        // Any edit makes the syncer look again; without one the patrol does, within its period.
        space
            .merge(POD, "web", json!({"metadata": {"labels": {"again": "1"}}}))
            .await?;
        let ready = space.ready("web").await?;
        ensure!(uid(&ready) == uid(&own) && condition(&ready, "Ready") == "True");
        Ok(())
    });
}
