//! What the syncer takes for what it knows.

use super::{Fill, crosses, each, fill};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE},
    oracle,
    read::{items, text},
    rig::{Rig, Wish, memory, on_rig, syncer::Periods},
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, eventually},
};
use serde_json::json;

/// Bytes of the process's own, and those that it tells of.
async fn taken(rig: &Rig) -> anyhow::Result<(f64, f64)> {
    let own = memory::taken(rig.syncer.pid().context("the syncer runs")?)?;
    let told = rig.syncer.metric("sublet_syncer_object_bytes", &[]).await?;
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    Ok((own as f64, told))
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn what_objects_take_is_told_and_goes_with_their_tenant() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        // Connections and what else there is without many objects.
        fill(rig, 0, "first", 200, Fill::ConfigMaps).await?;
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let before = taken(rig).await?;
        for part in 0..5 {
            fill(rig, 0, &format!("work{part}"), 1000, Fill::ConfigMaps).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let after = eventually(PODS, "what waited to be worked is given back", async || {
            let after = taken(rig).await?;
            let (grown, told) = (after.0 - before.0, after.1 - before.1);
            let words = format!("5,000 objects: {grown} bytes, of which {told} are told");
            ensure!(
                told > 0.0 && (0.5..3.0).contains(&(grown / told)),
                "{words}"
            );
            e2e::told!("{words}");
            Ok(after)
        })
        .await?;

        let vcp = &rig.tenants[0].name;
        rig.side
            .delete(CONTROL_PLANE, NAMESPACE_OF_TESTS, vcp)
            .await?;
        eventually(2 * PODS, "memory goes with the tenant", async || {
            let now = taken(rig).await?;
            let left = now.0 - before.0;
            ensure!(now.1 < before.1, "{} bytes are told of", now.1);
            ensure!(left < (after.0 - before.0) / 2.0, "{left} bytes are left");
            e2e::told!("{left} bytes more than before");
            Ok(())
        })
        .await
    });
}

/// Waits until a tenant's `Synced` has this reason.
async fn synced_is(rig: &Rig, tenant: usize, reason: &str) -> anyhow::Result<()> {
    let what = format!("Synced of tenant {tenant} says {reason}");
    eventually(PODS, &what, async || {
        let vcp = rig.vcp(tenant).await?;
        let synced = items(&vcp, "/status/conditions")
            .iter()
            .find(|condition| condition["type"] == "Synced");
        let told = synced.is_some_and(|condition| text(condition, "/reason") == reason);
        ensure!(told, "{}", conditions(&vcp));
        Ok(())
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t40_of_a_tenant_with_too_many_objects_what_is_known_is_synced_on_and_the_rest_once_there_is_room()
 {
    /// Of a MiB three quarters are for ConfigMaps, of which each takes more than half a kilobyte.
    const MANY: usize = 2000;
    let wish = Wish {
        tenants: 2,
        periods: Periods {
            patrol: 3,
            tenant_memory: Some(1),
            ..Periods::default()
        },
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        fill(rig, 1, "work", 1, Fill::ConfigMaps).await?;
        fill(rig, 0, "work", MANY, Fill::ConfigMaps).await?;
        synced_is(rig, 0, "TooManyObjects").await?;
        let (guest, other) = (&rig.tenants[0], &rig.tenants[1]);
        let untaken = async |id: &str| {
            rig.syncer
                .metric("sublet_syncer_objects_untaken", &[id])
                .await
        };
        let (own, others) = (
            untaken(guest.id.as_str()).await?,
            untaken(other.id.as_str()).await?,
        );
        ensure!(own >= 1.0 && others == 0.0, "{own} and {others}");
        // Neither a restart nor a round of the patrol takes what is missing there for gone.
        rig.syncer.start().await?;
        synced_is(rig, 0, "TooManyObjects").await?;
        crosses(rig, 1, ("work", "later"), PODS).await?;
        synced_is(rig, 1, "Watching").await?;
        // The first is known.
        let edit = json!({"data": {"k": "new"}});
        guest.side.merge(CONFIG_MAP, "work", "o0", edit).await?;
        eventually(PODS, "an edit of what is known crosses", async || {
            let twin = guest.twin("work");
            let twin = rig.side.get(CONFIG_MAP, &twin, "o0").await?;
            ensure!(twin["data"]["k"] == "new", "{}", twin["data"]);
            Ok(())
        })
        .await?;
        // What is left is of those that nobody knew.
        each(0..MANY - 100, async |number| {
            let name = format!("o{number}");
            Ok(guest.side.delete(CONFIG_MAP, "work", &name).await?)
        })
        .await?;
        synced_is(rig, 0, "Watching").await?;
        oracle::all(rig).await
    });
}
