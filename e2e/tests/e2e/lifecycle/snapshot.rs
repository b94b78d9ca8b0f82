//! Snapshots of a tenant's etcd, on demand and by schedule.

use anyhow::{Context, ensure};
use e2e::{
    account,
    kind::{CLAIM, CONTROL_PLANE, JOB, NETWORK_POLICY, STATEFUL_SET},
    make,
    program::Program,
    read::{condition, is_terminating, items, name, text},
    rig::{
        Rig, Wish,
        manager::{self, Manager},
        on_rig,
    },
    side::Side,
    space::run,
    tenant::{NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

const N: &str = NAMESPACE_OF_TESTS;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn snapshots_are_made_on_demand_and_by_schedule_and_go_when_they_are_told_to() {
    run(async || {
        let tenant = make::unique("e2e-snapshot");
        let spec = json!({"etcd": {"storage": {"ephemeral": false, "size": "1Gi"}}});
        Tenant::within(&tenant, spec, async |tenant| {
            let (sublet, which) = (Program::sublet()?, format!("{} -n {N}", tenant.name));
            let snapshots = async || -> anyhow::Result<Vec<Value>> {
                let line = format!("snapshot list {which} -o json");
                let list: Value = serde_json::from_str(&sublet.run(&line).await?.ok()?)?;
                Ok(items(&list, "/snapshots").to_vec())
            };
            let claims = async || -> anyhow::Result<Vec<String>> {
                let inside = tenant.control_plane_namespace();
                let all = tenant.above.list(CLAIM, &inside, "").await?;
                let all = all.iter().map(|claim| name(claim).to_owned());
                Ok(all.filter(|name| name.starts_with("snapshot-")).collect())
            };
            let create = format!("snapshot create {which} --name first --timeout 5m");
            sublet.run(&create).await?.says(&["first", "is complete"])?;
            sublet.run(&create).await?.fails(1, &["already"])?;
            let list = snapshots().await?;
            ensure!(
                list.len() == 1 && list[0]["state"] == "Complete" && list[0]["trigger"] == "Manual",
                "{list:?}"
            );
            ensure!(claims().await? == ["snapshot-first"]);

            // The first one is made at once.
            let hourly = json!({"spec": {"backup": {"schedule": "@hourly"}}});
            tenant
                .above
                .merge(CONTROL_PLANE, N, &tenant.name, hourly)
                .await?;
            eventually(PODS, "one is made by schedule", async || {
                let list = snapshots().await?;
                let made = list.iter().find(|one| one["trigger"] == "Schedule");
                let made = made.with_context(|| format!("{list:?}"))?;
                ensure!(made["state"] == "Complete", "{made}");
                Ok(())
            })
            .await?;

            let delete = format!("snapshot delete {which} first");
            sublet.run(&delete).await?.fails(2, &["--yes"])?;
            sublet
                .run(&format!("{delete} --yes"))
                .await?
                .says(&["is deleted"])?;
            eventually(PODS, "its claim goes, and no other", async || {
                let left = claims().await?;
                ensure!(
                    left.len() == 1 && left[0].starts_with("snapshot-scheduled-"),
                    "{left:?}"
                );
                Ok(())
            })
            .await?;
            let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
            ensure!(text(&vcp, "/status/phase") == "Ready", "{}", vcp["status"]);
            Ok(())
        })
        .await
    });
}

/// The rig's tenant.
pub(super) const MADE: &str = "backed-up";

/// With no more than the manager's own rights, and the policies that hold it; what Jobs do is played.
#[test]
fn snapshots_are_asked_for_told_of_and_deleted_with_the_managers_own_rights() {
    on_rig(Wish::default(), async |rig| {
        let (mut manager, inside) = with_an_etcd(rig).await?;
        let result = asked_for_and_deleted(rig, &mut manager, &inside).await;
        result.with_context(|| manager.tail())
    });
}

async fn asked_for_and_deleted(
    rig: &Rig,
    manager: &mut Manager,
    inside: &str,
) -> anyhow::Result<()> {
    let side = &rig.side;
    let file = rig.folder().join("admin.kubeconfig");
    std::fs::write(&file, rig.above.admin_kubeconfig())?;
    let sublet = Program::sublet_at(&file)?;
    let line = |what: &str, more: &str| format!("snapshot {what} {MADE} {more} -n {N}");
    sublet
        .run(&line("create", "--name first --no-wait"))
        .await?
        .says(&["first", "requested"])?;
    complete(side, inside, "snapshot-first").await?;
    told(side, "first", "Complete").await?;
    let policies = side.list(NETWORK_POLICY, inside, "").await?;
    ensure!(
        policies
            .iter()
            .any(|policy| name(policy) == "etcd-snapshot"),
        "{policies:?}"
    );

    // A manager that is killed in between goes on.
    let create = line("create", "--name second --no-wait");
    sublet.run(&create).await?.ok()?;
    manager.kill();
    manager.start().await?;
    complete(side, inside, "snapshot-second").await?;
    told(side, "second", "Complete").await?;

    let wrong = json!({"spec": {"backup": {"schedule": "whenever"}}});
    side.merge(CONTROL_PLANE, N, MADE, wrong).await?;
    eventually(PODS, "a wrong schedule is told", async || {
        let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
        let said = conditions(&vcp);
        ensure!(condition(&vcp, "BackupFailing") == "True", "{said}");
        ensure!(said.contains("whenever"), "{said}");
        Ok(())
    })
    .await?;
    let hourly = json!({"spec": {"backup": {"schedule": "@hourly"}}});
    side.merge(CONTROL_PLANE, N, MADE, hourly).await?;
    let scheduled = eventually(
        PODS,
        "the first one by schedule is made at once",
        async || {
            let jobs = side.list(JOB, inside, "").await?;
            let mut names = jobs.iter().map(|job| name(job).to_owned());
            let made = names.find(|name| name.starts_with("snapshot-scheduled-"));
            made.context("there is no Job of it")
        },
    )
    .await?;
    complete(side, inside, &scheduled).await?;
    told(side, scheduled.trim_start_matches("snapshot-"), "Complete").await?;

    sublet
        .run(&line("delete", "first --yes --timeout 1m"))
        .await?
        .says(&["is deleted"])?;
    let claim = side.find(CLAIM, inside, "snapshot-first").await?;
    // Nobody lets it go here.
    ensure!(claim.is_none_or(|claim| is_terminating(&claim)));
    let list = sublet.run(&line("list", "-o json")).await?.ok()?;
    let list: Value = serde_json::from_str(&list)?;
    ensure!(items(&list, "/snapshots").len() == 2, "{list:#}");

    // What the schema lets nobody ask for.
    for wrong in ["scheduled-mine", "A", "a.b"] {
        let patch = json!({"spec": {"backup": {"snapshots": [wrong]}}});
        let refused = side.merge(CONTROL_PLANE, N, MADE, patch).await;
        ensure!(refused.is_err_and(|problem| problem.code == 422), "{wrong}");
    }
    Ok(())
}

/// A manager under its own account, and the namespace of a control plane whose etcd is ready.
pub(super) async fn with_an_etcd(rig: &Rig) -> anyhow::Result<(Manager, String)> {
    let side = &rig.side;
    manager::stand_in_for_the_proxy(side).await?;
    let admin = rig.above.admin_kubeconfig();
    let own = account::kubeconfig(side, &admin, api::SYSTEM_NAMESPACE, "sublet-manager").await?;
    let mut manager = Manager::new(rig.folder(), &own, &[])?;
    manager.start().await?;
    let vcp = json!({
        "metadata": {"name": MADE, "namespace": N},
        "spec": {"className": "default"},
    });
    side.create(CONTROL_PLANE, vcp).await?;
    let made = eventually(PODS, "there is an etcd", async || {
        let sets = side.list(STATEFUL_SET, "", "").await?;
        let etcd = sets.first().context("there is no StatefulSet")?;
        Ok(text(etcd, "/metadata/namespace").to_owned())
    });
    let inside = made.await.with_context(|| manager.tail())?;
    let ready = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
    side.merge_status(STATEFUL_SET, &inside, "etcd", ready)
        .await?;
    Ok((manager, inside))
}

/// A Job comes, and does what it is for.
pub(super) async fn complete(side: &Side, inside: &str, job: &str) -> anyhow::Result<()> {
    eventually(PODS, "its Job comes", async || {
        side.get(JOB, inside, job).await?;
        Ok(())
    })
    .await?;
    let time = "2026-01-01T00:00:00Z";
    let holds = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": time,
            "lastProbeTime": time,
        })
    };
    let status = json!({
        "startTime": time, "completionTime": time, "succeeded": 1, "active": 0, "ready": 0,
        "conditions": [holds("SuccessCriteriaMet"), holds("Complete")],
        "uncountedTerminatedPods": {},
    });
    side.merge_status(JOB, inside, job, status).await?;
    Ok(())
}

pub(super) async fn told(side: &Side, snapshot: &str, state: &str) -> anyhow::Result<()> {
    eventually(PODS, "the status tells of it", async || {
        let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
        let all = items(&vcp, "/status/snapshots");
        let found = all.iter().find(|one| one["name"] == snapshot);
        let found = found.with_context(|| format!("{all:?}; {}", conditions(&vcp)))?;
        ensure!(found["state"] == state, "{found}");
        Ok(())
    })
    .await
}
