//! Clusters of a ClusterClass: made from templates, scaled and upgraded by their topology.

use super::{Place, VERSION, while_true, with_clusters, without_a_lost_answer};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CLASS, CLUSTER, CONTROL_PLANE, SUBLET_CONTROL_PLANE},
    program::Folder,
    read::{condition, items, text},
    tenant::{Tenant, conditions},
    wait::PODS,
};
use serde_json::{Value, json};

/// The next minor version; `cargo xtask test --all` loads its images.
pub(super) const NEW: &str = "v1.37.2";
const CLASS_FILE: &str = include_str!(
    "../../../../manifests/capi/infrastructure-sublet/v0.1.0/clusterclass-sublet.yaml"
);

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_topology_makes_scales_and_upgrades_a_cluster() {
    with_clusters(async |place| {
        let class = format!("capi-{}", &place.namespace[place.namespace.len() - 6..]);
        two_versions(place, &class).await?;
        let result = topology(place, &class).await;
        place.above.delete(CLASS, "", &class).await?;
        result
    });
}

/// A ControlPlaneClass that offers the next version too.
pub(super) async fn two_versions(place: &Place, name: &str) -> anyhow::Result<()> {
    let default = place.above.get(CLASS, "", "default").await?;
    let mut spec = default["spec"].clone();
    let mut new = spec["versions"][0].clone();
    new["version"] = json!(NEW.trim_start_matches('v'));
    for (field, image) in [
        ("kubeApiserver", "kube-apiserver"),
        ("kubeControllerManager", "kube-controller-manager"),
    ] {
        new["images"][field] = json!(format!("registry.k8s.io/{image}:{NEW}"));
    }
    let versions = spec["versions"]
        .as_array_mut()
        .context("the class has versions")?;
    versions.push(new);
    let class = json!({"metadata": {"name": name}, "spec": spec});
    place.above.create(CLASS, class).await?;
    Ok(())
}

async fn topology(place: &Place, class: &str) -> anyhow::Result<()> {
    let folder = Folder::make()?;
    let file = folder.path().join("class.yaml");
    let text_of_class = CLASS_FILE.replace("className: default", &format!("className: {class}"));
    std::fs::write(&file, text_of_class)?;
    let line = format!(
        "-n {} apply --server-side -f {}",
        place.namespace,
        file.display()
    );
    place.core.kubectl.run(&line).await?.ok()?;

    let topology = json!({"topology": {
        "classRef": {"name": "sublet"}, "version": VERSION, "controlPlane": {"replicas": 1},
    }});
    place.create(CLUSTER, "classy", topology).await?;
    place.available("classy", 2 * PODS).await?;
    let own = control_plane(place).await?;
    let name = text(&own, "/metadata/name").to_owned();
    // Made from the template, under a name that core chose, with core as its controller.
    ensure!(
        name.starts_with("classy-")
            && own["spec"]["className"] == class
            && own["status"]["version"] == VERSION,
        "{name}: {} {}",
        own["spec"],
        own["status"]
    );
    let owner = &items(&own, "/metadata/ownerReferences")[0];
    ensure!(owner["controller"] == true, "{owner}");
    ensure!(place.find(CONTROL_PLANE, "classy").await?.is_some());

    let change = |topology: Value| json!({"spec": {"topology": topology}});
    let two = change(json!({"controlPlane": {"replicas": 2}}));
    place.merge(CLUSTER, "classy", two).await?;
    place
        .like(
            SUBLET_CONTROL_PLANE,
            &name,
            "has two API servers",
            2 * PODS,
            |object| object["status"]["readyReplicas"] == 2 && object["spec"]["replicas"] == 2,
        )
        .await?;

    let tenant = place.tenant("classy").await?;
    let ask = async {
        let new = change(json!({"version": NEW}));
        place.merge(CLUSTER, "classy", new).await.map(drop)
    };
    upgraded(place, ["classy", &name], &tenant, 2, ask).await?;
    place
        .like(CLUSTER, "classy", "is reconciled", PODS, |cluster| {
            condition(cluster, "TopologyReconciled") == "True"
                && condition(cluster, "Available") == "True"
        })
        .await?;
    // Back is refused, by core's webhook for a topology.
    let back = change(json!({"version": VERSION}));
    let refused = place
        .above
        .merge(CLUSTER, &place.namespace, "classy", back)
        .await;
    ensure!(refused.is_err(), "a Cluster went back to an older version");
    Ok(())
}

async fn control_plane(place: &Place) -> anyhow::Result<Value> {
    let own = place
        .above
        .list(SUBLET_CONTROL_PLANE, &place.namespace, "")
        .await?;
    ensure!(
        own.len() == 1,
        "{}",
        own.iter().map(conditions).collect::<Vec<_>>().join("\n")
    );
    Ok(own[0].clone())
}

/// Makes the change that asks for [`NEW`], and waits until a control plane has so many API servers of it alone; it answers and its
/// Cluster is available all the time.
pub(super) async fn upgraded(
    place: &Place,
    [cluster, control_plane]: [&str; 2],
    tenant: &Tenant,
    replicas: u32,
    change: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let wait = async |what, limit, check: fn(&Value) -> bool| {
        place
            .like(SUBLET_CONTROL_PLANE, control_plane, what, limit, check)
            .await
    };
    let upgraded = without_a_lost_answer(tenant, async {
        change.await?;
        wait("rolls out", PODS, |object| {
            condition(object, "RollingOut") == "True"
        })
        .await?;
        wait("runs the new version alone", 2 * PODS, |object| {
            object["status"]["version"] == NEW && condition(object, "RollingOut") == "False"
        })
        .await
    });
    let all_the_time = ["RemoteConnectionProbe", "ControlPlaneAvailable"];
    let upgraded = while_true(place, cluster, &all_the_time, upgraded).await?;
    ensure!(
        upgraded["status"]["versions"] == json!([{"version": NEW, "replicas": replicas}]),
        "{}",
        upgraded["status"]
    );
    let told: Value = serde_json::from_str(&tenant.side.text("/version").await?)?;
    ensure!(text(&told, "/gitVersion") == NEW, "{told}");
    Ok(())
}
