//! `clusterctl` with the provider's own files: it reads them, and moves a tenant without a break.

use super::{LONG, Place, control_plane_of, place_of, with_clusters, without_a_lost_answer};
use anyhow::ensure;
use e2e::{
    kind::{CLUSTER, CONTROL_PLANE, NAMESPACE, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    program::{Folder, Program},
    read::{condition, text, uid},
    space::Space,
    tenant::conditions,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};
use std::path::Path;

/// The repository's own folder of providers.
pub(super) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/capi");
/// Name, type and file of each.
pub(super) const PROVIDERS: [(&str, &str, &str); 2] = [
    (
        "sublet",
        "ControlPlaneProvider",
        "control-plane-sublet/v0.1.0/control-plane-components.yaml",
    ),
    (
        "sublet",
        "InfrastructureProvider",
        "infrastructure-sublet/v0.1.0/infrastructure-components.yaml",
    ),
];

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn clusterctl_reads_the_providers_files() {
    with_clusters(async |place| {
        let folder = Folder::make()?;
        let config = configuration(folder.path())?;
        for (flag, kind) in [
            ("control-plane", "subletcontrolplanes"),
            ("infrastructure", "subletclusters"),
        ] {
            let line = format!("generate provider --{flag} sublet:v0.1.0 --config {config}");
            let printed = place.core.clusterctl.run(&line).await?.ok()?;
            ensure!(printed.contains(&format!("name: {kind}.")), "{printed}");
            ensure!(
                printed.contains("cluster.x-k8s.io/v1beta2: v1alpha1"),
                "{printed}"
            );
            // All of it is what this API server takes; what is there is Sublet as its own command installed it.
            let file = folder.path().join("components.yaml");
            std::fs::write(&file, &printed)?;
            let line = format!(
                "apply --server-side --force-conflicts --dry-run=server -f {}",
                file.display()
            );
            let applied = place.core.kubectl.run(&line).await?.ok()?;
            let mut objects: Vec<Value> = serde_saphyr::from_multiple(&printed)?;
            objects.retain(Value::is_object);
            ensure!(
                objects.len() > 2 && applied.lines().count() == objects.len(),
                "{} objects:\n{applied}",
                objects.len()
            );
        }
        for flavor in ["", " --flavor topology"] {
            let line = format!(
                "generate cluster made --infrastructure sublet:v0.1.0 --kubernetes-version {} -n {} --config {config}{flavor}",
                super::VERSION,
                place.namespace
            );
            let printed = place.core.clusterctl.run(&line).await?.ok()?;
            let file = folder.path().join("made.yaml");
            std::fs::write(&file, &printed)?;
            let line = format!("apply --dry-run=server -f {}", file.display());
            place
                .core
                .kubectl
                .run(&line)
                .await?
                .says(&["cluster.cluster.x-k8s.io/made"])?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn sublet_makes_a_tenant_as_a_cluster_whose_version_is_the_clusters_to_say() {
    with_clusters(async |place| {
        let sublet = Program::sublet()?;
        let n = format!("-n {}", place.namespace);
        let version = super::VERSION.trim_start_matches('v');
        let create = format!("create made {n} --cluster-api --ephemeral-etcd --version {version}");
        let printed = sublet.run(&format!("{create} --dry-run")).await?.ok()?;
        ensure!(printed.contains("kind: SubletControlPlane"), "{printed}");
        ensure!(place.find(CLUSTER, "made").await?.is_none());
        sublet.run(&format!("{create} --no-wait")).await?.ok()?;
        place.available("made", 2 * PODS).await?;
        sublet
            .run(&format!("{create} --no-wait"))
            .await?
            .fails(1, &["made", "exists already"])?;
        // Its API is available before its DNS.
        eventually(PODS, "the list shows that it is Ready", async || {
            let listed = sublet.run(&format!("list {n}")).await?;
            listed.says(&["made", "Ready"]).map(drop)
        })
        .await?;
        let tenant = place.tenant("made").await?;
        tenant.side.list(NAMESPACE, "", "").await?;
        // What it is, its Cluster says.
        sublet
            .run(&format!("upgrade made {n} --version {version}"))
            .await?
            .fails(1, &["belongs to Cluster made"])?;
        Ok(())
    });
}

/// clusterctl's configuration, which leads it to the repository's own folder.
fn configuration(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("clusterctl.yaml");
    std::fs::write(&file, json!({"providers": providers()?}).to_string())?;
    Ok(file.display().to_string())
}

/// The providers as a configuration names them.
pub(super) fn providers() -> anyhow::Result<Vec<Value>> {
    let root = std::fs::canonicalize(ROOT)?;
    let each = PROVIDERS.iter().map(|(name, kind, file)| {
        json!({"name": name, "type": kind, "url": format!("{}/{file}", root.display())})
    });
    Ok(each.collect())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_move_keeps_the_tenant_and_its_workload_under_new_uids() {
    with_clusters(async |place| {
        place.cluster("moved").await?;
        place.available("moved", 2 * PODS).await?;
        let tenant = place.tenant("moved").await?;
        let space = Space::open(tenant.clone(), "work").await?;
        space.run_web(1).await?;
        let before = Seen::of(place).await?;
        let pods = space.pods("app=web").await?;

        let folder = Folder::make()?;
        let path = folder.path().display().to_string();
        without_a_lost_answer(&tenant, async {
            let line = format!("move --to-directory {path} -n {}", place.namespace);
            place.core.clusterctl.run(&line).await?.ok()?;
            forget(place).await?;
            let line = format!("move --from-directory {path} -n {}", place.namespace);
            place.core.clusterctl.run(&line).await?.ok()?;
            place.available("moved", LONG).await
        })
        .await?;
        let after = Seen::of(place).await?;
        ensure!(before.identity == after.identity && before.slice == after.slice);
        ensure!(before.uid != after.uid, "nothing was moved");
        place
            .like(CONTROL_PLANE, "moved", "is Ready again", PODS, |vcp| {
                condition(vcp, "Ready") == "True"
            })
            .await?;
        // The workload never noticed: the same pods, on both sides.
        let now = space.pods("app=web").await?;
        ensure!(
            uid(&pods[0]) == uid(&now[0]),
            "the tenant's pod is another one"
        );
        let twins = place.above.list(e2e::kind::POD, &space.twin, "").await?;
        ensure!(twins.len() == 1, "{} super pods", twins.len());
        space
            .pod("later", e2e::make::pod_spec(e2e::make::idle()))
            .await?;
        space.ready("later").await?;
        Ok(())
    });
}

/// What a move must keep, and what it can't.
struct Seen {
    identity: String,
    slice: String,
    uid: String,
}

impl Seen {
    async fn of(place: &Place) -> anyhow::Result<Self> {
        let own = place.get(SUBLET_CLUSTER, &place_of("moved")).await?;
        let vcp = place.get(CONTROL_PLANE, "moved").await?;
        ensure!(
            own["spec"]["identity"] == vcp["spec"]["identity"],
            "{} {}",
            own["spec"],
            conditions(&vcp)
        );
        Ok(Self {
            identity: text(&own, "/spec/identity").to_owned(),
            slice: text(&vcp, "/spec/network/serviceCIDR").to_owned(),
            uid: uid(&vcp).to_owned(),
        })
    }
}

/// The management cluster that the Cluster moved away from is gone: what clusterctl took along isn't there any more, and
/// nothing was torn down for it.
async fn forget(place: &Place) -> anyhow::Result<()> {
    place
        .merge(CLUSTER, "moved", json!({"spec": {"paused": true}}))
        .await?;
    for (kind, name) in [
        (SUBLET_CONTROL_PLANE, control_plane_of("moved")),
        (SUBLET_CLUSTER, place_of("moved")),
    ] {
        place
            .like(kind, &name, "is paused", PODS, |object| {
                super::is_paused(object, "True")
            })
            .await?;
    }
    for (kind, name) in [
        (CONTROL_PLANE, "moved".to_owned()),
        (SUBLET_CONTROL_PLANE, control_plane_of("moved")),
        (SUBLET_CLUSTER, place_of("moved")),
        (CLUSTER, "moved".to_owned()),
    ] {
        let free = json!({"metadata": {"finalizers": null}});
        place.delete(kind, &name).await?;
        if place.find(kind, &name).await?.is_some() {
            place.merge(kind, &name, free).await?;
        }
        place.gone(kind, &name, PODS).await?;
    }
    Ok(())
}
