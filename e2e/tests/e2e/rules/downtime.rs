//! What is done on either side while the syncer is down converges once it is back.

use anyhow::{bail, ensure};
use e2e::{
    daemon::{Daemon, SYNCER, alone, without},
    kind::{CONFIG_MAP, Kind, NAMESPACE, POD, SECRET, SERVICE},
    make,
    read::{condition, label, name, text, uid},
    space::{Space, within},
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

/// A pod that refers to a ConfigMap and a Secret of its own.
async fn pod_with_config(space: &Space, name: &str) -> anyhow::Result<()> {
    space
        .create(CONFIG_MAP, make::config_map(name, "k", "v"))
        .await?;
    space
        .create(
            SECRET,
            json!({"metadata": {"name": name}, "stringData": {"k": "v"}}),
        )
        .await?;
    let mut container = make::idle();
    container["envFrom"] = json!([{"configMapRef": {"name": name}}, {"secretRef": {"name": name}}]);
    let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": make::pod_spec(container)});
    space.create(POD, pod).await?;
    space.create(SERVICE, make::service(name)).await?;
    Ok(())
}

#[test]
fn what_was_deleted_while_the_syncer_was_down_converges() {
    within(A, "down-delete", async |space| {
        for name in ["stays", "goes", "lost", "again"] {
            pod_with_config(space, name).await?;
        }
        let doomed = Space::open(space.tenant.clone(), &format!("{}-x", space.name)).await?;
        doomed.pod("web", make::pod_spec(make::idle())).await?;
        doomed.ready("web").await?;
        for name in ["stays", "goes", "lost", "again"] {
            space.ready(name).await?;
            space.twin(SERVICE, name).await?;
        }
        let stays = space.twin(POD, "stays").await?;
        let again = space.twin(POD, "again").await?;

        alone(async || {
            without(space.above(), &Daemon::of_sublet(SYNCER), async || {
                // In the tenant: all of `goes`; `again` is another pod now; a whole namespace.
                for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
                    force(space, kind, "goes").await?;
                }
                force(space, POD, "again").await?;
                let spec = make::pod_spec(make::idle());
                space.pod("again", spec).await?;
                // The pod would hold the namespace, since nobody ends it.
                force(&doomed, POD, "web").await?;
                doomed.side().delete(NAMESPACE, "", &doomed.name).await?;
                eventually(PODS, "the namespace is gone in the tenant", async || {
                    let left = doomed.side().find(NAMESPACE, "", &doomed.name).await?;
                    ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
                    Ok(())
                })
                .await?;
                // In the super cluster: all of `lost`.
                for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
                    space.above().delete(kind, &space.twin, "lost").await?;
                }
                eventually(PODS, "the super pod is gone", async || {
                    ensure!(
                        space.find_twin(POD, "lost").await?.is_none(),
                        "it is still there"
                    );
                    Ok(())
                })
                .await
            })
            .await
        })
        .await?;

        for kind in [POD, SERVICE] {
            space.gone(kind, "goes").await?;
        }
        eventually(PODS, "the deleted namespace's twin is gone", async || {
            let twin = space.above().find(NAMESPACE, "", &doomed.twin).await?;
            ensure!(twin.is_none(), "{}", twin.unwrap_or_default()["status"]);
            Ok(())
        })
        .await?;
        // A bound pod whose super pod was deleted has ended; what the tenant wrote is made again.
        space.gone(POD, "lost").await?;
        space.twin(SERVICE, "lost").await?;
        let new = space.ready("again").await?;
        let twin = space.twin(POD, "again").await?;
        ensure!(
            uid(&twin) != uid(&again),
            "the old super pod serves the new pod"
        );
        ensure!(
            e2e::read::annotation(&twin, api::keys::UID) == Some(uid(&new)),
            "{twin}"
        );
        ensure!(
            uid(&space.twin(POD, "stays").await?) == uid(&stays),
            "a pod that nobody touched was made anew"
        );
        ensure!(condition(&space.get(POD, "stays").await?, "Ready") == "True");
        Ok(())
    });
}

#[test]
fn what_was_edited_on_both_sides_while_the_syncer_was_down_converges() {
    within(A, "down-edit", async |space| {
        for name in ["own", "foreign", "both"] {
            pod_with_config(space, name).await?;
        }
        for name in ["own", "foreign", "both"] {
            space.ready(name).await?;
            space.twin(SERVICE, name).await?;
        }
        alone(async || {
            without(space.above(), &Daemon::of_sublet(SYNCER), async || {
                for name in ["own", "both"] {
                    space
                        .merge(CONFIG_MAP, name, json!({"data": {"k": "tenant"}}))
                        .await?;
                    space
                        .merge(SECRET, name, json!({"stringData": {"k": "tenant"}}))
                        .await?;
                    space
                        .merge(
                            SERVICE,
                            name,
                            json!({"spec": {"selector": {"tier": "tenant"}}}),
                        )
                        .await?;
                    space
                        .merge(
                            POD,
                            name,
                            json!({"metadata": {"labels": {"tier": "tenant"}}}),
                        )
                        .await?;
                }
                for name in ["foreign", "both"] {
                    let above = space.above();
                    above
                        .merge(
                            CONFIG_MAP,
                            &space.twin,
                            name,
                            json!({"data": {"k": "super", "x": "super"}}),
                        )
                        .await?;
                    above
                        .merge(
                            SECRET,
                            &space.twin,
                            name,
                            json!({"stringData": {"k": "super"}}),
                        )
                        .await?;
                    above
                        .merge(
                            SERVICE,
                            &space.twin,
                            name,
                            json!({"spec": {"selector": {"app": "super"}}}),
                        )
                        .await?;
                    above
                        .merge(
                            POD,
                            &space.twin,
                            name,
                            json!({"metadata": {"labels": {"app": "super"}}}),
                        )
                        .await?;
                }
                // Made and gone, and made, while nobody looked.
                space
                    .create(CONFIG_MAP, make::config_map("passing", "k", "v"))
                    .await?;
                space.delete(CONFIG_MAP, "passing").await?;
                space.create(SERVICE, make::service("new")).await?;
                Ok(())
            })
            .await
        })
        .await?;
        space.twin(SERVICE, "new").await?;
        eventually(PODS, "both sides say the same", async || {
            for name in ["own", "foreign", "both"] {
                for kind in [CONFIG_MAP, SECRET, SERVICE, POD] {
                    same(space, kind, name).await?;
                }
            }
            Ok(())
        })
        .await
    });
}

/// What the tenant wrote is what the super cluster has.
async fn same(space: &Space, kind: Kind, object: &str) -> anyhow::Result<()> {
    let (own, twin) = (
        space.get(kind, object).await?,
        space.above().get(kind, &space.twin, object).await?,
    );
    for pointer in ["/data", "/spec/selector", "/spec/ports/0/port"] {
        ensure!(
            own.pointer(pointer) == twin.pointer(pointer),
            "{pointer} of {} {}",
            kind.name,
            name(&own)
        );
    }
    for key in ["app", "tier"] {
        ensure!(
            label(&own, key) == label(&twin, key),
            "label {key} of {} {}",
            kind.name,
            name(&own)
        );
    }
    Ok(())
}

/// Deletes in the tenant without waiting for anybody.
async fn force(space: &Space, kind: Kind, name: &str) -> anyhow::Result<()> {
    let now = json!({"gracePeriodSeconds": 0});
    let path = kind.path(&space.name, name);
    match space
        .side()
        .request(http::Method::DELETE, &path, Some(now))
        .await
    {
        Err(problem) if problem.code != 404 => bail!("{problem}"),
        _ => Ok(()),
    }
}

#[test]
fn a_restart_of_the_syncer_changes_nothing_that_is_right() {
    within(A, "restart", async |space| {
        pod_with_config(space, "web").await?;
        space.ready("web").await?;
        space.twin(SERVICE, "web").await?;
        let state = async || {
            let mut all: Vec<Value> = vec![];
            for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
                all.push(space.get(kind, "web").await?);
                all.push(space.twin(kind, "web").await?);
            }
            let version = |object: &Value| {
                format!(
                    "{} {}",
                    uid(object),
                    text(object, "/metadata/resourceVersion")
                )
            };
            anyhow::Ok(all.iter().map(version).collect::<Vec<_>>())
        };
        let before = state().await?;
        alone(async || Daemon::of_sublet(SYNCER).restart(space.above()).await).await?;
        // It works again, so it has listed everything.
        space.create(SERVICE, make::service("later")).await?;
        space.twin(SERVICE, "later").await?;
        let after = state().await?;
        ensure!(
            after == before,
            "objects were written to: {before:#?} {after:#?}"
        );
        Ok(())
    });
}
