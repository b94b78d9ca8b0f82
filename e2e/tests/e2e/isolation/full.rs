//! T41: a tenant whose etcd is full degrades alone, costs few requests, and recovers by itself.

use anyhow::ensure;
use e2e::{
    kind::POD,
    make, oracle,
    read::text,
    rig::{Rig, Wish, on_rig, room::Ballast},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes that a tenant's etcd holds.
const ROOM: u64 = 24 << 20;
/// How long requests are counted while the tenant is full.
const WATCHED: Duration = Duration::from_secs(15);
/// Writes that may fail meanwhile: each key of the few that there are is tried again ever more seldom.
const MOST_FAILED: usize = 150;

async fn pod(rig: &Rig, tenant: usize, name: &str) -> anyhow::Result<()> {
    let metadata = json!({"name": name, "namespace": "default"});
    let pod = json!({"metadata": metadata, "spec": make::pod_spec(make::idle())});
    rig.tenants[tenant].side.create(POD, pod).await?;
    Ok(())
}

async fn phase(
    rig: &Rig,
    tenant: usize,
    name: &str,
    wanted: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    eventually(
        limit,
        &format!("{name} of t{tenant} is {wanted}"),
        async || {
            let pod = rig.tenants[tenant].side.get(POD, "default", name).await?;
            ensure!(text(&pod, "/status/phase") == wanted, "{}", pod["status"]);
            Ok(())
        },
    )
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t41_a_tenant_whose_etcd_is_full_degrades_alone_and_recovers() {
    let wish = Wish {
        tenants: 2,
        controllers: false,
        etcd_flags: vec![format!("--quota-backend-bytes={ROOM}")],
        ..Wish::default()
    };
    on_rig(wish, async |rig| {
        for guest in &rig.tenants {
            guest.account().await?;
        }
        for number in 0..5 {
            pod(rig, 0, &format!("p{number}")).await?;
        }
        for number in 0..5 {
            phase(rig, 0, &format!("p{number}"), "Running", SOON).await?;
        }
        let ballast = Ballast::fill(&rig.tenants[0].side).await?;
        ensure!(rig.tenants[0].server.is_full().await?, "no alarm");

        // Status that must go up and can't.
        let twin = rig.tenants[0].twin("default");
        for number in 0..5 {
            let status = json!({"phase": "Succeeded"});
            rig.side
                .merge_status(POD, &twin, &format!("p{number}"), status)
                .await?;
        }
        drop(rig.tenants[0].proxy.take_trace());
        // The other tenant doesn't notice.
        for number in 0..5 {
            let name = format!("p{number}");
            pod(rig, 1, &name).await?;
            phase(rig, 1, &name, "Running", SOON).await?;
        }
        tokio::time::sleep(WATCHED).await;
        let failed: Vec<Value> = rig.tenants[0]
            .proxy
            .take_trace()
            .iter()
            .filter(|record| record.asked.is_write() && record.code >= 400)
            .map(|record| json!([record.asked.verb, record.asked.resource, record.code]))
            .collect();
        ensure!(!failed.is_empty(), "nothing was tried");
        ensure!(
            failed.len() <= MOST_FAILED,
            "a hot loop: {} writes",
            failed.len()
        );
        for number in 0..5 {
            let pod = rig.side.get(POD, &twin, &format!("p{number}")).await?;
            ensure!(!e2e::read::is_terminating(&pod), "a super pod was deleted");
        }

        // Its owner deletes something, an operator disarms; the syncer needs nobody.
        ballast.delete().await?;
        rig.tenants[0].server.make_room().await?;
        for number in 0..5 {
            phase(rig, 0, &format!("p{number}"), "Succeeded", PODS).await?;
        }
        pod(rig, 0, "late").await?;
        phase(rig, 0, "late", "Running", PODS).await?;
        oracle::deeds::are_lawful(rig).await
    });
}
