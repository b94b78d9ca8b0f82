//! A control plane that sleeps: what the tenant runs goes on, and kubectl wakes it, where that was asked for.

use anyhow::ensure;
use e2e::{
    kind::{CONFIG_MAP, CONTROL_PLANE, POD},
    make,
    program::{Folder, Program},
    read::{condition, is_terminating, name, text, uid},
    side::Side,
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Instant;

/// Names of the pods of its control plane that run; one that has ended stays for a moment.
async fn pods(tenant: &Tenant) -> anyhow::Result<Vec<String>> {
    let namespace = tenant.control_plane_namespace();
    let pods = tenant.above.list(POD, &namespace, "").await?;
    let runs = |pod: &&Value| !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
    let running = pods.iter().filter(runs);
    Ok(running.map(|pod| name(pod).to_owned()).collect())
}

/// What the tenant runs is as it was, and nobody is alarmed.
async fn goes_on(space: &Space, before: &str) -> anyhow::Result<()> {
    let tenant = &space.tenant;
    let twin = space.above().get(POD, &space.twin, "web").await?;
    ensure!(uid(&twin) == before && !is_terminating(&twin), "{twin}");
    let vcp = tenant
        .above
        .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &tenant.name)
        .await?;
    ensure!(
        condition(&vcp, "DeletionsHeld") != "True",
        "{}",
        conditions(&vcp)
    );
    Ok(())
}

async fn works_again(space: &Space, before: &str) -> anyhow::Result<()> {
    let tenant = &space.tenant;
    Tenant::ready(tenant.above.clone(), &tenant.name).await?;
    eventually(SOON, "its objects are there", async || {
        let kept = space.get(CONFIG_MAP, "kept").await?;
        ensure!(kept["data"]["a"] == "b", "{kept}");
        Ok(())
    })
    .await?;
    space.ready("web").await?;
    goes_on(space, before).await
}

/// T40: connections wake a tenant only where that was asked for; nothing of what it runs is touched meanwhile.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t40_a_tenant_sleeps_with_its_pods_running_and_is_woken_by_whom_it_may() {
    run(async || {
        let name = make::unique("e2e-sleep");
        // What sleeps must keep its data.
        let spec = json!({"etcd": {"storage": {"ephemeral": false, "size": "1Gi"}}});
        Tenant::within(&name, spec, async |tenant| {
            let sublet = Program::sublet()?;
            let sublet = async |words: &str| {
                let line = format!("-n {NAMESPACE_OF_TESTS} {words}");
                sublet.run(&line).await?.ok()
            };
            let folder = Folder::make()?;
            let kubectl = Program::kubectl(folder.path(), &tenant.kubeconfig)?;
            let space = Space::open(tenant.clone(), "work").await?;
            space.pod("web", make::pod_spec(make::idle())).await?;
            space.ready("web").await?;
            space
                .create(CONFIG_MAP, make::config_map("kept", "a", "b"))
                .await?;
            let before = uid(&space.twin(POD, "web").await?).to_owned();

            // Shut: nobody wakes it but an admin.
            let began = Instant::now();
            sublet(&format!("sleep {name}")).await?;
            e2e::told!("asleep after {:.1} s", began.elapsed().as_secs_f64());
            let left = pods(tenant).await?;
            ensure!(left.is_empty(), "{left:?}");
            ensure!(sublet("list").await?.contains("Sleeping"));
            goes_on(&space, &before).await?;
            let client = Side::connect("a client", &tenant.kubeconfig).await?;
            ensure!(client.text("/readyz").await.is_err());
            kubectl.run("get ns").await?.fails(1, &["access denied"])?;
            let woken = pods(tenant).await?;
            ensure!(woken.is_empty(), "a connection woke it: {woken:?}");
            let began = Instant::now();
            sublet(&format!("wake {name}")).await?;
            e2e::told!(
                "woken by sublet after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            works_again(&space, &before).await?;

            // Wakeable: the command that finds it asleep waits, and then has its answer.
            sublet(&format!("sleep {name} --wake-on-connection")).await?;
            goes_on(&space, &before).await?;
            let stranger = Side::knock(&tenant.kubeconfig, "kubernetes").await?;
            ensure!(stranger.text("/readyz").await.is_err());
            let woken = pods(tenant).await?;
            ensure!(woken.is_empty(), "a stranger woke it: {woken:?}");
            let began = Instant::now();
            kubectl.run("get ns").await?.says(&["work", "Active"])?;
            e2e::told!(
                "woken by `kubectl get ns`, which took {:.1} s",
                began.elapsed().as_secs_f64()
            );
            works_again(&space, &before).await?;
            space.pod("new", make::pod_spec(make::idle())).await?;
            space.ready("new").await?;
            eventually(PODS, "it is awake by all accounts", async || {
                let vcp = tenant
                    .above
                    .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name)
                    .await?;
                ensure!(
                    condition(&vcp, "Sleeping") != "True",
                    "{}",
                    conditions(&vcp)
                );
                Ok(())
            })
            .await
        })
        .await
    });
}
