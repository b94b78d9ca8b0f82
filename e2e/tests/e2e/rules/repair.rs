//! R1, R4: what happens to a super object is repaired from the tenant and never deletes or edits what the tenant wrote.

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{CONFIG_MAP, DEPLOYMENT, Kind, NAMESPACE, SERVICE, SERVICE_ACCOUNT},
    read::{annotation, label, text, uid},
    side::PatchType,
    space::{Space, within},
    tenant::A,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};

/// A ConfigMap that a pod refers to, and a Service, both in the super cluster.
async fn settled(space: &Space) -> anyhow::Result<()> {
    space.run_web(1).await?;
    space.twin(SERVICE, "web").await?;
    space.twin(CONFIG_MAP, "settings").await?;
    Ok(())
}

/// What must not change in the tenant.
async fn written(space: &Space) -> anyhow::Result<Vec<Value>> {
    let mut objects = vec![];
    for (kind, name) in [(CONFIG_MAP, "settings"), (SERVICE, "web")] {
        objects.push(space.get(kind, name).await?);
    }
    Ok(objects)
}

#[test]
fn deleted_super_objects_are_made_again_and_the_tenants_are_not_touched() {
    within(A, "remade", async |space| {
        settled(space).await?;
        let before = written(space).await?;
        for (kind, name) in [(CONFIG_MAP, "settings"), (SERVICE, "web")] {
            let old = space.twin(kind, name).await?;
            space.above().delete(kind, &space.twin, name).await?;
            let new = space
                .twin_like(kind, name, "is made again", |twin| uid(twin) != uid(&old))
                .await?;
            for part in ["data", "spec"] {
                ensure!(new.get(part) == old.get(part), "{new}");
            }
            ensure!(
                annotation(&new, keys::UID) == annotation(&old, keys::UID),
                "{new}"
            );
        }
        ensure!(
            written(space).await? == before,
            "a tenant's object was written to"
        );
        Ok(())
    });
}

#[test]
fn edits_of_super_objects_are_undone() {
    within(A, "undone", async |space| {
        settled(space).await?;
        let before = written(space).await?;
        let edits: [(Kind, &str, Value); 6] = [
            (CONFIG_MAP, "settings", json!({"data": {"k": "edited"}})),
            (CONFIG_MAP, "settings", json!({"data": {"more": "x"}})),
            (CONFIG_MAP, "settings", json!({"data": null})),
            (CONFIG_MAP, "settings", json!({"binaryData": {"b": "AA=="}})),
            (
                SERVICE,
                "web",
                json!({"spec": {"selector": {"app": "other"}}}),
            ),
            (
                SERVICE,
                "web",
                json!({"spec": {"ports": [{"port": 99, "targetPort": 9999}]}}),
            ),
        ];
        for (kind, name, edit) in edits {
            let was = space.twin(kind, name).await?;
            let edited = space
                .above()
                .merge(kind, &space.twin, name, edit.clone())
                .await?;
            ensure!(
                edited["metadata"]["resourceVersion"] != was["metadata"]["resourceVersion"],
                "{edit} changes nothing"
            );
            let same = |twin: &Value| {
                ["data", "binaryData", "spec"]
                    .iter()
                    .all(|part| twin.get(part) == was.get(part))
            };
            let now = space
                .twin_like(kind, name, &format!("{edit} is undone"), same)
                .await?;
            ensure!(uid(&now) == uid(&was), "it was made anew");
        }
        // Without its marks it would be nobody's.
        let marks = json!([{"op": "remove", "path": "/metadata/labels/sublet.dev~1shard"}]);
        space
            .above()
            .patch(&SERVICE.path(&space.twin, "web"), PatchType::Json, marks)
            .await?;
        space
            .twin_like(SERVICE, "web", "has its mark again", |twin| {
                label(twin, keys::SHARD).is_some()
            })
            .await?;
        ensure!(
            written(space).await? == before,
            "a tenant's object was written to"
        );
        Ok(())
    });
}

#[test]
fn what_others_added_to_a_super_object_stays() {
    within(A, "added", async |space| {
        settled(space).await?;
        let added = json!({"metadata": {"labels": {"platform": "x"}, "annotations": {"platform.example/seen": "yes"}}});
        for (kind, name) in [(CONFIG_MAP, "settings"), (SERVICE, "web")] {
            space
                .above()
                .merge(kind, &space.twin, name, added.clone())
                .await?;
        }
        space
            .merge(
                CONFIG_MAP,
                "settings",
                json!({"data": {"k": "new"}, "metadata": {"labels": {"own": "1"}}}),
            )
            .await?;
        space
            .merge(
                SERVICE,
                "web",
                json!({"metadata": {"labels": {"own": "1"}}}),
            )
            .await?;
        for (kind, name) in [(CONFIG_MAP, "settings"), (SERVICE, "web")] {
            let twin = space
                .twin_like(kind, name, "is edited", |twin| {
                    twin["data"]["k"] == "new" || label(twin, "own") == Some("1")
                })
                .await?;
            ensure!(label(&twin, "platform") == Some("x"), "{twin}");
            ensure!(
                annotation(&twin, "platform.example/seen") == Some("yes"),
                "{twin}"
            );
        }
        space
            .merge(
                SERVICE,
                "web",
                json!({"metadata": {"labels": {"own": null}}}),
            )
            .await?;
        let twin = space
            .twin_like(SERVICE, "web", "has lost the label", |twin| {
                label(twin, "own").is_none()
            })
            .await?;
        ensure!(label(&twin, "platform") == Some("x"), "{twin}");
        // Labels of ConfigMaps, which sidecars of the platform gather by, stay in the tenant.
        let twin = space.twin(CONFIG_MAP, "settings").await?;
        ensure!(
            label(&twin, "platform") == Some("x") && label(&twin, "own").is_none(),
            "{twin}"
        );
        Ok(())
    });
}

#[test]
fn when_both_sides_are_edited_at_once_the_tenants_word_stands() {
    within(A, "storm", async |space| {
        settled(space).await?;
        let twin = space.twin(CONFIG_MAP, "settings").await?;
        let rounds = 30;
        let tenant = async {
            for round in 0..rounds {
                let edit = json!({"data": {"k": format!("own-{round}")}});
                space.merge(CONFIG_MAP, "settings", edit).await?;
            }
            anyhow::Ok(())
        };
        let above = async {
            for round in 0..rounds {
                let edit =
                    json!({"data": {"k": format!("foreign-{round}"), "x": round.to_string()}});
                let above = space.above();
                match above.merge(CONFIG_MAP, &space.twin, "settings", edit).await {
                    // An API server gives up on a patch that met too many other writes.
                    Err(problem) if problem.code == 409 => {}
                    other => drop(other?),
                }
            }
            anyhow::Ok(())
        };
        tokio::try_join!(tenant, above)?;
        let last = json!({"k": format!("own-{}", rounds - 1)});
        let agreed = |now: &Value| now["data"] == last;
        let now = space
            .twin_like(
                CONFIG_MAP,
                "settings",
                "holds the tenant's last word",
                agreed,
            )
            .await?;
        ensure!(uid(&now) == uid(&twin), "it was made anew");
        ensure!(
            space.get(CONFIG_MAP, "settings").await?["data"] == last,
            "the tenant's object was written to"
        );
        Ok(())
    });
}

#[test]
fn a_deleted_super_namespace_comes_back_with_all_that_was_in_it() {
    within(A, "whole", async |space| {
        settled(space).await?;
        let before = written(space).await?;
        let old = space.above().get(NAMESPACE, "", &space.twin).await?;
        let pod = space.pods("app=web").await?.pop().context("one pod")?;
        space.above().delete(NAMESPACE, "", &space.twin).await?;
        eventually(2 * PODS, "the super namespace is there again", async || {
            let now = space.above().get(NAMESPACE, "", &space.twin).await?;
            ensure!(
                uid(&now) != uid(&old),
                "it is still the old one: {}",
                now["status"]
            );
            Ok(())
        })
        .await?;
        // What was tried while the old one ended is tried again within a minute.
        eventually(PODS, "all that was in it is there again", async || {
            let above = space.above();
            let account = keys::POD_SERVICE_ACCOUNT;
            above.get(SERVICE_ACCOUNT, &space.twin, account).await?;
            above.get(CONFIG_MAP, &space.twin, "settings").await?;
            let service = above.get(SERVICE, &space.twin, "web").await?;
            ensure!(
                service["spec"]["clusterIP"] == before[1]["spec"]["clusterIP"],
                "{service}"
            );
            Ok(())
        })
        .await?;
        // The pod has ended, as any pod does that is deleted; its Deployment makes another.
        eventually(PODS, "the Deployment has another pod", async || {
            let pods = space.pods("app=web").await?;
            ensure!(
                pods.len() == 1 && uid(&pods[0]) != uid(&pod),
                "{} pods",
                pods.len()
            );
            Ok(())
        })
        .await?;
        space.rolled_out(DEPLOYMENT, "web", 1).await?;
        ensure!(
            written(space).await? == before,
            "a tenant's object was written to"
        );
        Ok(())
    });
}

#[test]
fn a_restored_copy_of_a_super_object_is_nobodys_twin() {
    within(A, "copy", async |space| {
        settled(space).await?;
        // What a backup tool does: the object, marks included, under another name.
        let mut copy = space.twin(CONFIG_MAP, "settings").await?;
        let metadata = json!({
            "name": "settings-restored", "namespace": space.twin,
            "labels": copy["metadata"]["labels"], "annotations": copy["metadata"]["annotations"],
        });
        copy["metadata"] = metadata;
        let copy = space.above().create(CONFIG_MAP, copy).await?;
        space
            .merge(CONFIG_MAP, "settings", json!({"data": {"k": "newer"}}))
            .await?;
        space
            .twin_like(CONFIG_MAP, "settings", "is edited", |twin| {
                twin["data"]["k"] == "newer"
            })
            .await?;
        let untouched = space.twin(CONFIG_MAP, "settings-restored").await?;
        ensure!(
            untouched["metadata"]["resourceVersion"] == copy["metadata"]["resourceVersion"],
            "it was written to"
        );
        let own = space.get(CONFIG_MAP, "settings").await?;
        ensure!(text(&own, "/data/k") == "newer");
        eventually(SOON, "the tenant has no such object", async || {
            ensure!(space.find(CONFIG_MAP, "settings-restored").await?.is_none());
            Ok(())
        })
        .await
    });
}

/// The ConfigMap by which containers with `envFrom` find the API server.
const ENVIRONMENT: &str = "sublet-environment";

#[test]
fn variables_that_name_the_api_server_are_put_right_when_their_namespace_is_worked() {
    within(A, "variables", async |space| {
        settled(space).await?;
        let was = space.twin(CONFIG_MAP, ENVIRONMENT).await?;
        let same = |now: &Value| now["data"] == was["data"];
        // Nobody watches it, and the patrol comes every five minutes only. This has the namespace worked at once.
        let worked = json!({"metadata": {"annotations": {keys::ISOLATION: "edited"}}});
        let (above, twin) = (space.above(), &space.twin);
        let edit = json!({"data": {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}});
        above.merge(CONFIG_MAP, twin, ENVIRONMENT, edit).await?;
        above.merge(NAMESPACE, "", twin, worked.clone()).await?;
        let now = space
            .twin_like(CONFIG_MAP, ENVIRONMENT, "is as it was", same)
            .await?;
        ensure!(uid(&now) == uid(&was), "it was made anew");
        above.delete(CONFIG_MAP, twin, ENVIRONMENT).await?;
        above.merge(NAMESPACE, "", twin, worked).await?;
        space
            .twin_like(CONFIG_MAP, ENVIRONMENT, "is made again", same)
            .await?;
        Ok(())
    });
}
