//! What a tenant's control plane outlives: a lost member of its etcd, another Kubernetes, and an upgrade that comes to
//! nothing.

use crate::capi::without_a_lost_answer;
use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{CLASS, CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, Kind, POD, STATEFUL_SET},
    make,
    program::Program,
    read::{annotation, brief, condition, items, name, text, uid},
    space::{Space, run},
    tenant::{NAMESPACE_OF_TESTS, Tenant, conditions, super_cluster},
    wait::{PODS, SOON, eventually},
};
use http::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Where the VirtualControlPlanes are.
const N: &str = NAMESPACE_OF_TESTS;
/// What the default class offers.
const OLD: &str = "1.36.3";
/// The next minor version; `cargo xtask test --all` loads its images.
const NEW: &str = "1.37.2";
/// One of which there is no image.
const BROKEN: &str = "1.36.9";

/// The pods of a part of the control plane.
async fn pods_of(tenant: &Tenant, part: &str) -> anyhow::Result<Vec<Value>> {
    let place = tenant.control_plane_namespace();
    let selector = format!("app.kubernetes.io/name={part}");
    Ok(tenant.above.list(POD, &place, &selector).await?)
}

/// Waits until etcd has three members that are ready.
async fn three_members(tenant: &Tenant) -> anyhow::Result<Vec<Value>> {
    eventually(PODS, "three members are ready", async || {
        let members = pods_of(tenant, "etcd").await?;
        let ready = members
            .iter()
            .filter(|pod| condition(pod, "Ready") == "True");
        let all: Vec<String> = members.iter().map(brief).collect();
        ensure!(ready.count() == 3 && members.len() == 3, "{all:?}");
        Ok(members)
    })
    .await
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn an_etcd_of_three_goes_on_without_any_one_of_its_members_which_comes_back() {
    run(async || {
        let name = make::unique("e2e-three");
        let etcd = json!({"replicas": 3, "storage": {"ephemeral": false, "size": "64Mi"}});
        Tenant::within(&name, json!({"etcd": etcd}), members_go_and_come).await
    });
}

/// Each of three members is lost once, and back before the next one is: any two of them are an etcd with all that there is.
pub(crate) async fn members_go_and_come(tenant: &Tenant) -> anyhow::Result<()> {
    let create = async |name: String| {
        let mut object = make::config_map(&name, "k", "v");
        object["metadata"]["namespace"] = "default".into();
        tenant.side.create(CONFIG_MAP, object).await
    };
    create("before".into()).await?;
    let servers = pods_of(tenant, "kube-apiserver").await?;
    // One of them leads.
    for member in three_members(tenant).await? {
        let (victim, place) = (name(&member), tenant.control_plane_namespace());
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid(&member)},
        });
        let path = POD.path(&place, victim);
        tenant
            .above
            .request(Method::DELETE, &path, Some(options))
            .await?;
        let what = format!("writes are taken without {victim}");
        eventually(SOON, &what, async || {
            match create(format!("without-{victim}")).await {
                // One whose answer got lost.
                Err(problem) if problem.code != 409 => Err(problem.into()),
                _ => Ok(()),
            }
        })
        .await?;
        eventually(PODS, &format!("{victim} is back"), async || {
            let now = tenant.above.get(POD, &place, victim).await?;
            ensure!(uid(&now) != uid(&member), "{}", brief(&now));
            Ok(())
        })
        .await?;
        three_members(tenant).await?;
    }
    for object in [
        "before",
        "without-etcd-0",
        "without-etcd-1",
        "without-etcd-2",
    ] {
        tenant.side.get(CONFIG_MAP, "default", object).await?;
    }
    let now = pods_of(tenant, "kube-apiserver").await?;
    ensure!(
        now.iter().map(uid).eq(servers.iter().map(uid)),
        "the API server was made anew"
    );
    Tenant::ready(tenant.above.clone(), &tenant.name)
        .await
        .map(drop)
}

/// Runs a test in a tenant whose class offers another version too, with an image of its own for these parts.
async fn with_version(
    prefix: &str,
    version: &str,
    parts: &[(&str, &str)],
    body: impl AsyncFnOnce(&Tenant) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let above = super_cluster().await?;
    let name = make::unique(prefix);
    let mut class = above.get(CLASS, "", "default").await?["spec"].take();
    let mut offer = class["versions"][0].clone();
    ensure!(offer["version"] == OLD, "the class offers {offer}");
    offer["version"] = version.into();
    for (field, image) in parts {
        offer["images"][field] = format!("registry.k8s.io/{image}:v{version}").into();
    }
    let versions = class["versions"].as_array_mut();
    versions.context("the class has versions")?.push(offer);
    let class = json!({"metadata": {"name": name}, "spec": class});
    above.create(CLASS, class).await?;
    let spec = json!({"className": name, "version": OLD});
    let result = Tenant::within(&name, spec, body).await;
    above.delete(CLASS, "", &name).await?;
    result
}

async fn upgrade(
    tenant: &Tenant,
    version: &str,
    more: &str,
) -> anyhow::Result<e2e::program::Outcome> {
    let line = format!("upgrade {} --version {version} -n {N} {more}", tenant.name);
    Program::sublet()?.run(&line).await
}

/// Both sides' pods of the workload, with the containers that run in them.
async fn workload(space: &Space) -> anyhow::Result<Vec<String>> {
    let mut all = space.pods("app=web").await?;
    all.extend(space.above().list(POD, &space.twin, "app=web").await?);
    let line = |pod: &Value| {
        let containers = items(pod, "/status/containerStatuses").iter();
        let containers =
            containers.map(|one| format!("{} {}", one["containerID"], one["restartCount"]));
        format!("{} {:?}", uid(pod), containers.collect::<Vec<_>>())
    };
    let mut lines: Vec<String> = all.iter().map(line).collect();
    lines.sort_unstable();
    Ok(lines)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_gets_the_next_minor_version_while_its_pods_run_on_and_its_api_answers() {
    let parts = [
        ("kubeApiserver", "kube-apiserver"),
        ("kubeControllerManager", "kube-controller-manager"),
    ];
    run(async || with_version("e2e-next", NEW, &parts, gets_the_next).await);
}

async fn gets_the_next(tenant: &Tenant) -> anyhow::Result<()> {
    let space = Space::open(tenant.clone(), "work").await?;
    space.run_web(2).await?;
    let before = workload(&space).await?;
    without_a_lost_answer(tenant, async {
        upgrade(tenant, NEW, "--no-wait")
            .await?
            .says(&["requested"])?;
        eventually(2 * PODS, "the new version runs", async || {
            let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
            ensure!(
                text(&vcp, "/status/version") == NEW && condition(&vcp, "Ready") == "True",
                "{} {}",
                vcp["status"]["version"],
                conditions(&vcp)
            );
            Ok(())
        })
        .await
    })
    .await?;
    // No other pods, and no container that was started again.
    let after = workload(&space).await?;
    ensure!(after == before, "{before:#?} became {after:#?}");
    let told: Value = serde_json::from_str(&tenant.side.text("/version").await?)?;
    ensure!(text(&told, "/gitVersion") == format!("v{NEW}"), "{told}");
    // It works as before, down and up.
    space.rolled_out(DEPLOYMENT, "web", 2).await?;
    space
        .merge(DEPLOYMENT, "web", json!({"spec": {"replicas": 3}}))
        .await?;
    space.rolled_out(DEPLOYMENT, "web", 3).await?;
    // There is no way back.
    let back = upgrade(tenant, OLD, "").await?;
    back.fails(1, &["keeps the version"])?;
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn an_upgrade_that_never_becomes_ready_is_taken_back_and_the_api_answers_all_the_time() {
    let parts = [("kubeApiserver", "kube-apiserver")];
    run(async || with_version("e2e-back", BROKEN, &parts, is_taken_back).await);
}

async fn is_taken_back(tenant: &Tenant) -> anyhow::Result<()> {
    let place = tenant.control_plane_namespace();
    let image = async || -> anyhow::Result<String> {
        let server = tenant
            .above
            .get(DEPLOYMENT, &place, "kube-apiserver")
            .await?;
        Ok(text(&server, "/spec/template/spec/containers/0/image").to_owned())
    };
    let before = image().await?;
    without_a_lost_answer(tenant, async {
        upgrade(tenant, BROKEN, "--no-wait")
            .await?
            .says(&["requested"])?;
        eventually(PODS, "the new API server can't start", async || {
            let servers = pods_of(tenant, "kube-apiserver").await?;
            let waits = |pod: &Value| {
                text(pod, "/status/containerStatuses/0/state/waiting/reason").contains("Image")
            };
            let all: Vec<String> = servers.iter().map(brief).collect();
            ensure!(servers.iter().any(waits), "{all:?}");
            Ok(())
        })
        .await?;
        began_long_ago(tenant).await?;
        eventually(PODS, "the upgrade is taken back", async || {
            let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
            let told = conditions(&vcp);
            ensure!(
                told.contains("UpgradeRolledBack") && told.contains(BROKEN),
                "{told}"
            );
            let now = image().await?;
            ensure!(now == before, "{now}");
            let servers = pods_of(tenant, "kube-apiserver").await?;
            ensure!(servers.len() == 1, "{} API servers", servers.len());
            Ok(())
        })
        .await
    })
    .await?;
    // What asks for what runs is content again.
    upgrade(tenant, OLD, "")
        .await?
        .says(&["runs Kubernetes", OLD])?;
    Tenant::ready(tenant.above.clone(), &tenant.name)
        .await
        .map(drop)
}

/// Makes the upgrade under way look older than the time that its parts have. Each bears when it was changed last.
async fn began_long_ago(tenant: &Tenant) -> anyhow::Result<()> {
    let ago = |minutes| (Timestamp::now() - SignedDuration::from_mins(minutes)).to_string();
    let note = async |kind: Kind, place: &str, name: &str, key: &str, value: String| {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        tenant.above.merge(kind, place, name, patch).await
    };
    let place = tenant.control_plane_namespace();
    for (kind, part, minutes) in [
        (STATEFUL_SET, "etcd", 120),
        (DEPLOYMENT, "kube-controller-manager", 120),
        (DEPLOYMENT, "kube-apiserver", 60),
    ] {
        note(kind, &place, part, keys::CHANGED, ago(minutes)).await?;
    }
    let vcp = tenant.above.get(CONTROL_PLANE, N, &tenant.name).await?;
    let record = annotation(&vcp, keys::UPGRADE).context("the upgrade is written down")?;
    let mut record: Value = serde_json::from_str(record)?;
    record["since"] = ago(90).into();
    note(
        CONTROL_PLANE,
        N,
        &tenant.name,
        keys::UPGRADE,
        record.to_string(),
    )
    .await?;
    Ok(())
}
