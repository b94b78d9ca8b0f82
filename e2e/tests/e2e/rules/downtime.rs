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

/// Of these each is deleted on one side or the other, or made anew.
const DELETED: [&str; 4] = ["stays", "goes", "lost", "again"];
/// These are edited by the tenant, by somebody else, or by both.
const EDITED: [&str; 3] = ["own", "foreign", "both"];
/// Nobody touches this one.
const RIGHT: &str = "right";

/// What there was before the syncer stopped.
struct Before {
    /// A namespace that goes meanwhile.
    doomed: Space,
    stays: Value,
    again: Value,
    /// UIDs of what nobody touches, and what shows that it was written to.
    right: Vec<String>,
}

#[test]
fn what_happens_on_either_side_while_the_syncer_is_down_converges_and_all_else_stays() {
    within(A, "down", async |space| {
        let before = begin(space).await?;
        alone(async || {
            without(space.above(), &Daemon::of_sublet(SYNCER), async || {
                edit(space).await?;
                delete(space, &before.doomed).await
            })
            .await
        })
        .await?;
        deletions_converged(space, &before).await?;
        edits_converged(space).await?;
        let right = right(space).await?;
        ensure!(
            right == before.right,
            "objects were written to: {:#?} {right:#?}",
            before.right
        );
        Ok(())
    });
}

async fn begin(space: &Space) -> anyhow::Result<Before> {
    let all = DELETED.iter().chain(&EDITED).chain([&RIGHT]);
    for name in all.clone() {
        pod_with_config(space, name).await?;
    }
    let doomed = Space::open(space.tenant.clone(), &format!("{}-x", space.name)).await?;
    doomed.pod("web", make::pod_spec(make::idle())).await?;
    doomed.ready("web").await?;
    for name in all {
        space.ready(name).await?;
        space.twin(SERVICE, name).await?;
    }
    Ok(Before {
        doomed,
        stays: space.twin(POD, "stays").await?,
        again: space.twin(POD, "again").await?,
        right: right(space).await?,
    })
}

/// UIDs on both sides of what nobody touches, with what shows that it was written to: the version, or of a pod, of which
/// kubelets tell news at any time, its generation and its metadata.
async fn right(space: &Space) -> anyhow::Result<Vec<String>> {
    let mut all = vec![];
    for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
        for object in [
            space.get(kind, RIGHT).await?,
            space.twin(kind, RIGHT).await?,
        ] {
            let version = match kind {
                POD => {
                    let metadata = &object["metadata"];
                    let [labels, annotations] = ["labels", "annotations"].map(|key| &metadata[key]);
                    format!("{} {labels} {annotations}", metadata["generation"])
                }
                _ => text(&object, "/metadata/resourceVersion").to_owned(),
            };
            all.push(format!("{} {version}", uid(&object)));
        }
    }
    Ok(all)
}

async fn delete(space: &Space, doomed: &Space) -> anyhow::Result<()> {
    // In the tenant: all of `goes`; `again` is another pod now; a whole namespace.
    for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
        force(space, kind, "goes").await?;
    }
    force(space, POD, "again").await?;
    space.pod("again", make::pod_spec(make::idle())).await?;
    // The pod would hold the namespace, since nobody ends it.
    force(doomed, POD, "web").await?;
    doomed.side().delete(NAMESPACE, "", &doomed.name).await?;
    // In the super cluster: all of `lost`.
    for kind in [POD, SERVICE, CONFIG_MAP, SECRET] {
        space.above().delete(kind, &space.twin, "lost").await?;
    }
    eventually(PODS, "the namespace is gone in the tenant", async || {
        let left = doomed.side().find(NAMESPACE, "", &doomed.name).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
        Ok(())
    })
    .await?;
    eventually(PODS, "the super pod is gone", async || {
        let left = space.find_twin(POD, "lost").await?;
        ensure!(left.is_none(), "it is still there");
        Ok(())
    })
    .await
}

async fn deletions_converged(space: &Space, before: &Before) -> anyhow::Result<()> {
    for kind in [POD, SERVICE] {
        space.gone(kind, "goes").await?;
    }
    eventually(PODS, "the deleted namespace's twin is gone", async || {
        let twin = &before.doomed.twin;
        let left = space.above().find(NAMESPACE, "", twin).await?;
        ensure!(left.is_none(), "{}", left.unwrap_or_default()["status"]);
        Ok(())
    })
    .await?;
    // A bound pod whose super pod was deleted has ended; what the tenant wrote is made again.
    space.gone(POD, "lost").await?;
    space.twin(SERVICE, "lost").await?;
    let new = space.ready("again").await?;
    let twin = space.twin(POD, "again").await?;
    ensure!(
        uid(&twin) != uid(&before.again),
        "the old super pod serves the new pod"
    );
    ensure!(
        e2e::read::annotation(&twin, api::keys::UID) == Some(uid(&new)),
        "{twin}"
    );
    ensure!(
        uid(&space.twin(POD, "stays").await?) == uid(&before.stays),
        "a pod that nobody touched was made anew"
    );
    ensure!(condition(&space.get(POD, "stays").await?, "Ready") == "True");
    Ok(())
}

async fn edit(space: &Space) -> anyhow::Result<()> {
    let by_tenant = [
        (CONFIG_MAP, json!({"data": {"k": "tenant"}})),
        (SECRET, json!({"stringData": {"k": "tenant"}})),
        (SERVICE, json!({"spec": {"selector": {"tier": "tenant"}}})),
        (POD, json!({"metadata": {"labels": {"tier": "tenant"}}})),
    ];
    for (kind, patch) in by_tenant {
        for name in ["own", "both"] {
            space.merge(kind, name, patch.clone()).await?;
        }
    }
    let by_others = [
        (CONFIG_MAP, json!({"data": {"k": "super", "x": "super"}})),
        (SECRET, json!({"stringData": {"k": "super"}})),
        (SERVICE, json!({"spec": {"selector": {"app": "super"}}})),
        (POD, json!({"metadata": {"labels": {"app": "super"}}})),
    ];
    for (kind, patch) in by_others {
        for name in ["foreign", "both"] {
            let above = space.above();
            above.merge(kind, &space.twin, name, patch.clone()).await?;
        }
    }
    // Made and gone, and made, while nobody looked.
    let passing = make::config_map("passing", "k", "v");
    space.create(CONFIG_MAP, passing).await?;
    space.delete(CONFIG_MAP, "passing").await?;
    space.create(SERVICE, make::service("new")).await?;
    Ok(())
}

async fn edits_converged(space: &Space) -> anyhow::Result<()> {
    space.twin(SERVICE, "new").await?;
    eventually(PODS, "both sides say the same", async || {
        for name in EDITED {
            for kind in [CONFIG_MAP, SECRET, SERVICE, POD] {
                same(space, kind, name).await?;
            }
        }
        Ok(())
    })
    .await
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
