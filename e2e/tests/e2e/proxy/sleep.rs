//! A control plane that sleeps: what the tenant runs goes on, or ends first, and kubectl wakes it, where that was asked for.

use anyhow::ensure;
use e2e::{
    kind::{CLAIM, CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, POD, SERVICE, STORAGE_CLASS},
    make,
    program::{Folder, Outcome, Program},
    read::{condition, has_ended, is_terminating, name, text, uid},
    side::Side,
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::time::Instant;

/// Runs `sublet` with these words, for VirtualControlPlanes of the tests.
async fn sublet(words: &str) -> anyhow::Result<Outcome> {
    let line = format!("-n {NAMESPACE_OF_TESTS} {words}");
    Program::sublet()?.run(&line).await
}

/// Names of those pods that run; one that has ended stays for a moment.
fn running(pods: &[Value]) -> Vec<String> {
    let running = pods.iter().filter(|pod| !has_ended(pod));
    running.map(|pod| name(pod).to_owned()).collect()
}

/// Names of the pods of its control plane that run.
async fn pods(tenant: &Tenant) -> anyhow::Result<Vec<String>> {
    let namespace = tenant.control_plane_namespace();
    Ok(running(&tenant.above.list(POD, &namespace, "").await?))
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
            sublet(&format!("sleep {name}")).await?.ok()?;
            e2e::told!("asleep after {:.1} s", began.elapsed().as_secs_f64());
            let left = pods(tenant).await?;
            ensure!(left.is_empty(), "{left:?}");
            ensure!(sublet("list").await?.ok()?.contains("Sleeping"));
            goes_on(&space, &before).await?;
            let client = Side::connect("a client", &tenant.kubeconfig).await?;
            ensure!(client.text("/readyz").await.is_err());
            kubectl.run("get ns").await?.fails(1, &["access denied"])?;
            let woken = pods(tenant).await?;
            ensure!(woken.is_empty(), "a connection woke it: {woken:?}");
            let began = Instant::now();
            sublet(&format!("wake {name}")).await?.ok()?;
            e2e::told!(
                "woken by sublet after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            works_again(&space, &before).await?;

            // Wakeable: the command that finds it asleep waits, and then has its answer.
            sublet(&format!("sleep {name} --wake-on-connection"))
                .await?
                .ok()?;
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

/// Names of the tenant's super pods that run, its DNS server's among them.
async fn workload(tenant: &Tenant) -> anyhow::Result<Vec<String>> {
    let inside = tenant.control_plane_namespace();
    let selector = format!("{}={}", api::keys::TENANT, tenant.id);
    let mut pods = tenant.above.list(POD, "", &selector).await?;
    pods.retain(|pod| text(pod, "/metadata/namespace") != inside);
    Ok(running(&pods))
}

/// A pod that belongs to no controller and holds the claim `data`.
fn bare() -> Value {
    let mut spec = make::pod_spec(make::idle());
    spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    spec
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_sleeps_without_its_pods_and_all_else_of_it_stays() {
    run(async || {
        let name = make::unique("e2e-stop");
        let spec = json!({"etcd": {"storage": {"ephemeral": false, "size": "1Gi"}}});
        Tenant::within(&name, spec, async |tenant| {
            let space = Space::open(tenant.clone(), "work").await?;
            space.run_web(2).await?;
            let claim = json!({
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
            });
            eventually(SOON, "the tenant has the default class", async || {
                Ok(space.side().get(STORAGE_CLASS, "", "local").await?)
            })
            .await?;
            space.create(CLAIM, claim).await?;
            space.pod("bare", bare()).await?;
            space.ready("bare").await?;
            space
                .pod("done", make::once(make::shell("echo said > /dev/termination-log")))
                .await?;
            space.outcome("done").await?;
            let kept = async || -> anyhow::Result<Vec<String>> {
                let mut uids = vec![];
                for (kind, name) in [
                    (SERVICE, "web"),
                    (CLAIM, "data"),
                    (CONFIG_MAP, "settings"),
                    (POD, "done"),
                ] {
                    let twin = space.above().get(kind, &space.twin, name).await?;
                    ensure!(!is_terminating(&twin), "{twin}");
                    uids.push(uid(&twin).to_owned());
                }
                Ok(uids)
            };
            let before = kept().await?;
            let old = space.pods("app=web").await?;
            let bare = uid(&space.get(POD, "bare").await?).to_owned();

            let began = Instant::now();
            sublet(&format!("sleep {name} --stop-workload")).await?.ok()?;
            e2e::told!(
                "asleep without its pods after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            let left = workload(tenant).await?;
            ensure!(left.is_empty(), "they run on: {left:?}");
            let left = pods(tenant).await?;
            ensure!(left.is_empty(), "its control plane runs on: {left:?}");
            ensure!(kept().await? == before, "something else went as well");
            let vcp = tenant
                .above
                .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, &name)
                .await?;
            ensure!(
                condition(&vcp, "StoppingWorkload") != "True"
                    && condition(&vcp, "DeletionsHeld") != "True",
                "{}",
                conditions(&vcp)
            );

            sublet(&format!("wake {name}")).await?.ok()?;
            space.rolled_out(DEPLOYMENT, "web", 2).await?;
            let new = space.pods("app=web").await?;
            let is_new = |pod: &Value| !old.iter().any(|before| uid(before) == uid(pod));
            ensure!(
                new.iter().all(is_new),
                "a pod that was ended is there again"
            );
            let found = space.find(POD, "bare").await?;
            ensure!(
                found.is_none(),
                "nobody makes {bare} again: {}",
                found.unwrap_or_default()
            );
            ensure!(kept().await? == before, "something was made anew");
            space.pod("bare", self::bare()).await?;
            space.ready("bare").await?;

            // What runs when it sleeps with its pods is out of reach until it is awake.
            sublet(&format!("sleep {name}")).await?.ok()?;
            let running = workload(tenant).await?;
            ensure!(running.len() >= 3, "{running:?}");
            sublet(&format!("sleep {name} --stop-workload"))
                .await?
                .fails(1, &["sleeps already, with its pods running"])?;
            ensure!(workload(tenant).await? == running);
            Ok(())
        })
        .await
    });
}
