//! The pod of a tenant's syncer goes, and the other one takes over (R7).

use anyhow::ensure;
use e2e::{
    daemon::{Daemon, SYNCER, alone},
    kind::{CONFIG_MAP, LEASE, POD},
    make,
    read::text,
    space::{Space, within},
    tenant::A,
    wait::{PODS, eventually},
};
use std::time::Instant;
use tenancy::fleet::Replica;

/// Name of the pod that leads the tenant, and the epoch.
async fn leader(space: &Space) -> anyhow::Result<(String, u64)> {
    let identity = &space.tenant.id;
    let lease = format!("tenant-{identity}");
    let lease = space
        .above()
        .get(LEASE, api::SYSTEM_NAMESPACE, &lease)
        .await?;
    let holder = Replica::parse(text(&lease, "/spec/holderIdentity"));
    let epoch = lease["spec"]["leaseTransitions"].as_u64();
    Ok((
        holder.map(|replica| replica.name).unwrap_or_default(),
        epoch.unwrap_or_default(),
    ))
}

#[test]
fn r7_another_syncer_takes_over_when_the_pod_of_the_first_is_deleted() {
    within(A, "handover", async |space| {
        space.pod("web", make::pod_spec(make::idle())).await?;
        space.ready("web").await?;
        let before = space.twin(POD, "web").await?;
        alone(async || {
            let (pod, epoch) = leader(space).await?;
            let began = Instant::now();
            space
                .above()
                .delete(POD, api::SYSTEM_NAMESPACE, &pod)
                .await?;
            space
                .create(CONFIG_MAP, make::config_map("meanwhile", "k", "v"))
                .await?;
            let mut container = make::idle();
            container["envFrom"] = serde_json::json!([{"configMapRef": {"name": "meanwhile"}}]);
            space.pod("next", make::pod_spec(container)).await?;
            let next = eventually(PODS, "another syncer leads the tenant", async || {
                let (next, raised) = leader(space).await?;
                ensure!(
                    next != pod && !next.is_empty() && raised > epoch,
                    "{next:?} leads with epoch {raised} after {pod} with {epoch}"
                );
                Ok(next)
            })
            .await?;
            let took = began.elapsed();
            space.ready("next").await?;
            e2e::told!(
                "R7: {next} led after {:.1} s, and the next pod ran after {:.1} s",
                took.as_secs_f64(),
                began.elapsed().as_secs_f64()
            );
            // Both are there again before another test stops them.
            Daemon::of_sublet(SYNCER).start(space.above()).await
        })
        .await?;
        let after = space.twin(POD, "web").await?;
        ensure!(
            before["metadata"]["uid"] == after["metadata"]["uid"],
            "the running pod was replaced"
        );
        Ok(())
    });
}
