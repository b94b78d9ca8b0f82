//! R2: while a tenant can't be asked, nothing of it is deleted.

use anyhow::ensure;
use e2e::{
    daemon::{Daemon, MANAGER, SYNCER, alone, without},
    kind::{CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, NAMESPACE, SERVICE},
    make,
    read::{condition, items, text, uid},
    space::{Space, run},
    tenant::{B, NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How long it is looked whether something is done for want of knowledge; a syncer that would, does so in moments.
const WATCHED: Duration = Duration::from_secs(10);

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_syncer_that_starts_while_the_tenants_api_is_down_deletes_nothing() {
    run(async || {
        let name = format!("e2e-down-{:04x}", rand::random::<u16>());
        Tenant::within(&name, json!({}), restarted_while_down).await
    });
}

async fn restarted_while_down(tenant: &Tenant) -> anyhow::Result<()> {
    let above = &tenant.above;
    let space = Space::open(tenant.clone(), "work").await?;
    space.run_web(2).await?;
    let other = Space::open(B.get().await?.clone(), &make::unique("beside")).await?;
    let service = space.twin(SERVICE, "web").await?;
    let before = super_objects(&space).await?;
    ensure!(
        before.len() >= 4,
        "two pods, a Service and a ConfigMap are expected: {before:?}"
    );

    let place = tenant.control_plane_namespace();
    let api_server = Daemon {
        namespace: &place,
        name: "kube-apiserver",
        replicas: 1,
    };
    alone(async || {
        // The manager would start the API server again.
        without(above, &Daemon::of_sublet(MANAGER), async || {
            without(above, &api_server, async || {
                Daemon::of_sublet(SYNCER).restart(above).await?;
                eventually(
                    PODS,
                    "the syncer says that it can't watch the tenant",
                    async || {
                        let vcp = above
                            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
                            .await?;
                        let synced = items(&vcp, "/status/conditions")
                            .iter()
                            .find(|c| c["type"] == "Synced");
                        let reason = synced
                            .map(|condition| text(condition, "/reason"))
                            .unwrap_or_default();
                        ensure!(
                            condition(&vcp, "Synced") == "False" && reason == "NotWatching",
                            "{}",
                            conditions(&vcp)
                        );
                        Ok(())
                    },
                )
                .await?;
                // It has to do with one of the twins, and can't ask what it must be; what another tenant asks for is done.
                let edit = json!({"spec": {"selector": {"app": "other"}}});
                let edited = above.merge(SERVICE, &space.twin, "web", edit).await?;
                other.create(SERVICE, make::service("web")).await?;
                other.twin(SERVICE, "web").await?;
                tokio::time::sleep(WATCHED).await;
                let now = above.get(SERVICE, &space.twin, "web").await?;
                ensure!(
                    super_objects(&space).await? == before && now == edited,
                    "objects of an unreachable tenant were touched: {now}"
                );
                Ok(())
            })
            .await
        })
        .await
    })
    .await?;

    eventually(PODS, "the tenant is synced again", async || {
        let vcp = above
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
            .await?;
        ensure!(condition(&vcp, "Ready") == "True", "{}", conditions(&vcp));
        Ok(())
    })
    .await?;
    let is_undone = |twin: &Value| twin["spec"] == service["spec"];
    space
        .twin_like(SERVICE, "web", "the edit is undone", is_undone)
        .await?;
    space.rolled_out(DEPLOYMENT, "web", 2).await?;
    ensure!(
        super_objects(&space).await? == before,
        "objects were made anew once the tenant was back"
    );
    other.side().delete(NAMESPACE, "", &other.name).await?;
    // And it works as before.
    space.delete(SERVICE, "web").await?;
    space.gone(SERVICE, "web").await
}

/// Kind, name and UID of what the super cluster holds for a namespace.
async fn super_objects(space: &Space) -> anyhow::Result<Vec<[String; 3]>> {
    let mut found = vec![];
    for kind in [e2e::kind::POD, SERVICE, CONFIG_MAP] {
        let list: Vec<Value> = space.above().list(kind, &space.twin, "").await?;
        found.extend(list.iter().map(|object| {
            [
                kind.name.into(),
                e2e::read::name(object).into(),
                uid(object).into(),
            ]
        }));
    }
    Ok(found)
}
