//! What the syncer takes for what it knows.

use super::{Fill, fill};
use anyhow::{Context, ensure};
use e2e::{
    kind::CONTROL_PLANE,
    oracle,
    rig::{Rig, Wish, memory, on_rig},
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, eventually},
};

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
