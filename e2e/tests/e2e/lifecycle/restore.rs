//! A tenant's etcd that is set back to a snapshot.

use super::snapshot::{MADE, complete, told, with_an_etcd};
use crate::control_plane::members_go_and_come;
use anyhow::{Context, ensure};
use e2e::{
    kind::{CLAIM, CONFIG_MAP, CONTROL_PLANE, JOB, POD, STATEFUL_SET},
    make,
    program::Program,
    read::{condition, is_terminating, items, name, text, uid},
    rig::{Rig, Wish, manager::Manager, on_rig},
    side::Side,
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

const N: &str = NAMESPACE_OF_TESTS;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_restored_tenant_has_what_the_snapshot_has_and_what_runs_goes_on() {
    run(async || {
        let tenant = make::unique("e2e-restore");
        let spec = json!({"etcd": {"storage": {"ephemeral": false, "size": "1Gi"}}});
        Tenant::within(&tenant, spec, async |tenant| {
            let space = Space::open(tenant.clone(), "work").await?;
            restored(&space).await
        })
        .await
    });
}

async fn restored(space: &Space) -> anyhow::Result<()> {
    let tenant = &space.tenant;
    let (sublet, which) = (Program::sublet()?, &tenant.name);
    let snapshot = async |line: &str| sublet.run(&format!("snapshot {line} -n {N}")).await;
    for (name, value) in [("altered", "old"), ("deleted", "old")] {
        space
            .create(CONFIG_MAP, make::config_map(name, "k", value))
            .await?;
    }
    for name in ["runs", "gone"] {
        space.pod(name, make::pod_spec(make::idle())).await?;
    }
    let runs = space.ready("runs").await?;
    space.ready("gone").await?;
    let twin = space.twin(POD, "runs").await?;
    snapshot(&format!("create {which} --name first --timeout 5m"))
        .await?
        .says(&["first", "is complete"])?;

    let new = json!({"data": {"k": "new"}});
    space.merge(CONFIG_MAP, "altered", new).await?;
    space.delete(CONFIG_MAP, "deleted").await?;
    space.delete(POD, "gone").await?;
    space.gone(POD, "gone").await?;
    space
        .create(CONFIG_MAP, make::config_map("late", "k", "new"))
        .await?;
    space.pod("late", make::pod_spec(make::idle())).await?;
    space.ready("late").await?;
    let late = space.twin(POD, "late").await?;

    let line = format!("restore {which} first");
    snapshot(&line).await?.fails(2, &["--yes", "is lost"])?;
    snapshot(&format!("restore {which} firts --yes"))
        .await?
        .fails(1, &["did you mean first?"])?;
    snapshot(&format!("{line} --yes --timeout 10m"))
        .await?
        .says(&["has the data of first", "breaker release"])?;

    let altered = eventually(PODS, "its API answers", async || {
        Ok(space.get(CONFIG_MAP, "altered").await?)
    });
    ensure!(text(&altered.await?, "/data/k") == "old");
    space.get(CONFIG_MAP, "deleted").await?;
    for (kind, name) in [(CONFIG_MAP, "late"), (POD, "late")] {
        let found = space.find(kind, name).await?;
        ensure!(found.is_none(), "{found:?}");
    }
    let vcp = eventually(PODS, "what the snapshot lacks is held", async || {
        let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
        let held = items(&vcp, "/status/conditions").iter().find(|condition| {
            condition["type"] == "DeletionsHeld" && condition["status"] == "True"
        });
        let held = held.with_context(|| conditions(&vcp))?;
        ensure!(held["reason"] == "Quarantined", "{held}");
        Ok(vcp)
    })
    .await?;
    ensure!(
        vcp["status"]["proof"]["restoreCounter"] == 1,
        "{}",
        vcp["status"]
    );
    ensure!(
        vcp["status"]["restore"]["state"] == "Complete",
        "{}",
        vcp["status"]
    );

    // What runs goes on, whether the snapshot has it or not.
    for (twin, name) in [(&twin, "runs"), (&late, "late")] {
        let now = space.twin(POD, name).await?;
        ensure!(uid(&now) == uid(twin) && text(&now, "/status/phase") == "Running");
    }
    let now = space.get(POD, "runs").await?;
    ensure!(uid(&now) == uid(&runs) && text(&now, "/status/phase") == "Running");
    // A bound pod whose super pod is gone has ended, and is never placed a second time.
    eventually(PODS, "a pod that had ended ends", async || {
        let gone = space.find(POD, "gone").await?;
        let phase = gone.as_ref().map(|pod| text(pod, "/status/phase"));
        ensure!(phase.is_none_or(|phase| phase == "Failed"), "{gone:?}");
        Ok(())
    })
    .await?;
    ensure!(space.find_twin(POD, "gone").await?.is_none());
    space.pod("new", make::pod_spec(make::idle())).await?;
    space.ready("new").await?;

    let release = format!("breaker release {which} --yes -n {N}");
    sublet.run(&release).await?.ok()?;
    eventually(PODS, "what was let go of goes", async || {
        let late = space.find_twin(POD, "late").await?;
        ensure!(late.is_none(), "{late:?}");
        Ok(())
    })
    .await?;
    let inside = tenant.control_plane_namespace();
    eventually(PODS, "the volumes that it had go", async || {
        let claims = tenant.above.list(CLAIM, &inside, "").await?;
        let mut names: Vec<&str> = claims.iter().map(name).collect();
        names.sort_unstable();
        ensure!(names == ["data-r1-etcd-0", "snapshot-first"], "{names:?}");
        Ok(())
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn an_etcd_of_three_is_set_back_with_all_of_its_members_of_which_any_two_go_on() {
    run(async || {
        let tenant = make::unique("e2e-restore-three");
        let etcd = json!({"replicas": 3, "storage": {"ephemeral": false, "size": "1Gi"}});
        Tenant::within(&tenant, json!({"etcd": etcd}), three_restored).await
    });
}

async fn three_restored(tenant: &Tenant) -> anyhow::Result<()> {
    let (sublet, which) = (Program::sublet()?, &tenant.name);
    let snapshot = async |line: &str| sublet.run(&format!("snapshot {line} -n {N}")).await;
    let create = async |name: &str, value: &str| {
        let mut map = make::config_map(name, "k", value);
        map["metadata"]["namespace"] = "default".into();
        tenant.side.create(CONFIG_MAP, map).await
    };
    create("altered", "old").await?;
    snapshot(&format!("create {which} --name first --timeout 5m"))
        .await?
        .says(&["first", "is complete"])?;
    let new = json!({"data": {"k": "new"}});
    tenant
        .side
        .merge(CONFIG_MAP, "default", "altered", new)
        .await?;
    create("late", "new").await?;
    snapshot(&format!("restore {which} first --yes --timeout 20m"))
        .await?
        .says(&["has the data of first"])?;

    let altered = eventually(PODS, "its API answers", async || {
        Ok(tenant.side.get(CONFIG_MAP, "default", "altered").await?)
    });
    ensure!(text(&altered.await?, "/data/k") == "old");
    let late = tenant.side.find(CONFIG_MAP, "default", "late").await?;
    ensure!(late.is_none(), "{late:?}");
    let inside = tenant.control_plane_namespace();
    eventually(PODS, "each member has a new volume", async || {
        let claims = tenant.above.list(CLAIM, &inside, "").await?;
        let mut names: Vec<&str> = claims.iter().map(name).collect();
        names.sort_unstable();
        let expected = [
            "data-r1-etcd-0",
            "data-r1-etcd-1",
            "data-r1-etcd-2",
            "snapshot-first",
        ];
        ensure!(names == expected, "{names:?}");
        Ok(())
    })
    .await?;
    let made = create("made", "new").await?;
    let version = text(&made, "/metadata/resourceVersion");
    ensure!(
        version.parse::<u64>()? > 1_000_000_000,
        "clients wait for what they knew: {version}"
    );
    members_go_and_come(tenant).await
}

/// With no more than the manager's own rights, and the policies that hold it; what Jobs and other controllers do is played.
#[test]
fn a_restore_is_brought_on_and_taken_back_by_managers_that_are_killed_at_each_step() {
    on_rig(Wish::default(), async |rig| {
        let (mut manager, inside) = with_an_etcd(rig).await?;
        let result = brought_on(rig, &mut manager, &inside).await;
        result.with_context(|| manager.tail())
    });
}

async fn brought_on(rig: &Rig, manager: &mut Manager, inside: &str) -> anyhow::Result<()> {
    let side = &rig.side;
    let file = rig.folder().join("admin.kubeconfig");
    std::fs::write(&file, rig.above.admin_kubeconfig())?;
    let sublet = Program::sublet_at(&file)?;
    let line = |what: &str, more: &str| format!("snapshot {what} {MADE} {more} -n {N}");
    let create = line("create", "--name first --no-wait");
    sublet.run(&create).await?.ok()?;
    complete(side, inside, "snapshot-first").await?;
    told(side, "first", "Complete").await?;
    let proof = json!({"proof": {"kubeSystemUID": "u", "restoreCounter": 4}});
    side.merge_status(CONTROL_PLANE, N, MADE, proof).await?;
    let before = side.get(STATEFUL_SET, inside, "etcd").await?;

    let restore = line("restore", "first --no-wait");
    sublet.run(&restore).await?.fails(2, &["--yes"])?;
    let restore = format!("{restore} --yes");
    sublet.run(&restore).await?.says(&["first", "requested"])?;
    manager.kill();
    manager.start().await?;
    eventually(PODS, "there is a Job", async || {
        Ok(side.get(JOB, inside, "restore-1-0").await?)
    })
    .await?;
    is_at(side, "Writing").await?;
    sublet.run(&restore).await?.fails(1, &["being restored"])?;
    let now = side.get(STATEFUL_SET, inside, "etcd").await?;
    ensure!(now["spec"]["replicas"] == 1, "it works meanwhile");
    manager.kill();
    complete(side, inside, "restore-1-0").await?;
    manager.start().await?;

    eventually(PODS, "etcd is scaled to nothing", async || {
        let set = side.get(STATEFUL_SET, inside, "etcd").await?;
        ensure!(set["spec"]["replicas"] == 0, "{}", set["spec"]["replicas"]);
        Ok(())
    })
    .await?;
    is_at(side, "Stopping").await?;
    let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
    ensure!(
        condition(&vcp, "Sleeping") == "True",
        "{}",
        conditions(&vcp)
    );
    ensure!(vcp["status"]["proof"]["restoreCounter"] == 4);
    manager.kill();
    let none = json!({"replicas": 0, "readyReplicas": 0, "availableReplicas": 0});
    side.merge_status(STATEFUL_SET, inside, "etcd", none)
        .await?;
    manager.start().await?;
    let set = has_volumes(side, inside, "data-r1").await?;
    ensure!(uid(&set) != uid(&before));
    ensure!(set["spec"]["replicas"] == 1, "{}", set["spec"]);
    let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
    ensure!(
        vcp["status"]["proof"]["restoreCounter"] == 5,
        "{}",
        vcp["status"]
    );

    manager.kill();
    let back = json!({"spec": {"restore": null}});
    side.merge(CONTROL_PLANE, N, MADE, back).await?;
    manager.start().await?;
    has_volumes(side, inside, "data").await?;
    is_at(side, "Failed").await?;
    let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
    ensure!(
        vcp["status"]["proof"]["restoreCounter"] == 6,
        "going back is a restore, too: {}",
        vcp["status"]
    );
    eventually(PODS, "the new volumes go", async || {
        let claim = side.find(CLAIM, inside, "data-r1-etcd-0").await?;
        // Nobody lets it go here.
        ensure!(claim.is_none_or(|claim| is_terminating(&claim)));
        Ok(())
    })
    .await?;
    let snapshot = side.get(CLAIM, inside, "snapshot-first").await?;
    ensure!(!is_terminating(&snapshot));
    let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
    ensure!(
        condition(&vcp, "Restoring") != "True",
        "{}",
        conditions(&vcp)
    );
    Ok(())
}

async fn is_at(side: &Side, state: &str) -> anyhow::Result<()> {
    eventually(PODS, &format!("the restore is {state}"), async || {
        let vcp = side.get(CONTROL_PLANE, N, MADE).await?;
        let told = &vcp["status"]["restore"];
        ensure!(told["state"] == state, "{told}; {}", conditions(&vcp));
        Ok(())
    })
    .await
}

/// Waits until etcd's StatefulSet asks for such volumes.
async fn has_volumes(side: &Side, inside: &str, volumes: &str) -> anyhow::Result<Value> {
    eventually(
        PODS,
        &format!("etcd has the volumes {volumes}"),
        async || {
            let set = side.get(STATEFUL_SET, inside, "etcd").await?;
            let template = "/spec/volumeClaimTemplates/0/metadata/name";
            ensure!(text(&set, template) == volumes, "{}", text(&set, template));
            Ok(set)
        },
    )
    .await
}
