//! What a VirtualControlPlane says of the sync lag, while there is one and when there is none.

use super::{Fill, crosses, fill};
use anyhow::ensure;
use e2e::{
    kind::POD,
    oracle,
    read::text,
    rig::{Rig, Wish, on_rig, player},
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, SOON, eventually},
};
use rustix::process::Signal;
use serde_json::Value;

/// Pods of each tenant. How many of them wait is told to a factor of four.
const COUNT: usize = 5;

/// Waits until the tenant's status says that it is in step.
pub(super) async fn in_step(rig: &Rig, tenant: usize) -> anyhow::Result<()> {
    says(rig, tenant, "it is in step", |sync| {
        sync["behindSince"].is_null() && sync["toSuper"]["waiting"] == 0
    })
    .await
    .map(drop)
}

/// Waits until the tenant's status tells of a lag like that.
pub(super) async fn says(
    rig: &Rig,
    tenant: usize,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let what = format!("the status of tenant {tenant} says: {what}");
    eventually(2 * PODS, &what, async || {
        let sync = rig.vcp(tenant).await?["status"]["sync"].take();
        ensure!(sync.is_object() && is_so(&sync), "{sync}");
        Ok(sync)
    })
    .await
}

#[test]
fn a_tenant_that_does_not_answer_is_behind_and_says_since_when_until_it_is_in_step_again() {
    let wish = Wish {
        tenants: 2,
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        for tenant in 0..2 {
            fill(rig, tenant, "work", COUNT, Fill::Pods).await?;
            oracle::pairs::agree(rig, &rig.tenants[tenant]).await?;
            in_step(rig, tenant).await?;
        }
        rig.tenants[0].server.end_api(Signal::KILL)?;
        let twin = rig.tenants[0].twin("work");
        for pod in rig.side.list(POD, &twin, "sublet.dev/tenant").await? {
            player::show_running(&rig.side, &pod).await?;
        }
        let sync = says(rig, 0, "it isn't watched, and pods wait", |sync| {
            sync["unwatchedSince"].is_string()
                && Some(COUNT as u64) < sync["fromSuper"]["waiting"].as_u64().map(|told| 4 * told)
        })
        .await?;
        let since = |pointer| text(&sync, pointer).to_owned();
        let (unwatched, oldest) = (since("/unwatchedSince"), since("/fromSuper/oldestSince"));
        ensure!(since("/behindSince") == unwatched.min(oldest), "{sync}");
        let sublet = rig.sublet()?;
        let name = rig.tenants[0].name.clone();
        let described = format!("describe {name} -n {NAMESPACE_OF_TESTS}");
        let described = sublet.run(&described).await?;
        described.says(&[
            "behind: not all of it could be watched",
            "objects wait to be shown in it",
        ])?;
        // Another one is in step all the same.
        crosses(rig, 1, ("work", "meanwhile"), SOON).await?;
        in_step(rig, 1).await?;

        rig.tenants[0].server.start_api()?;
        rig.tenants[0].server.ready().await?;
        in_step(rig, 0).await?;
        let described = format!("describe {name} -n {NAMESPACE_OF_TESTS} -o json");
        let described = sublet.run(&described).await?.ok()?;
        let described: Value = serde_json::from_str(&described)?;
        let sync = &described["virtualControlPlane"]["status"]["sync"];
        ensure!(
            sync["fromSuper"]["waiting"] == 0 && sync["unwatchedSince"].is_null(),
            "{sync}"
        );
        oracle::all(rig).await
    });
}
