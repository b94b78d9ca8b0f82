//! The life of a Cluster: up, in use, paused, scaled, deleted in order.

use super::{
    Place, alone_with_clusters, control_plane_of, is_paused, place_of, with_clusters,
    without_a_lost_answer,
};
use anyhow::ensure;
use e2e::{
    figure,
    kind::{
        CLUSTER, CONTROL_PLANE, DEPLOYMENT, NAMESPACE, POD, SECRET, STATEFUL_SET, SUBLET_CLUSTER,
        SUBLET_CONTROL_PLANE,
    },
    make,
    program::Outcome,
    read::{condition, is_terminating, items, label, text, uid},
    space::Space,
    tenant::{Tenant, conditions},
    wait::{PODS, eventually},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// A Cluster is Available so soon where another one has run before.
const UP: Duration = Duration::from_secs(20);
/// So soon after its deletion nothing of it is left.
const DOWN: Duration = Duration::from_secs(30);

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_cluster_comes_up_runs_a_workload_and_leaves_nothing_behind() {
    // It is measured, so nothing else runs meanwhile.
    alone_with_clusters(async |place| {
        // Images are on the node then, and core knows the kinds.
        place.cluster("warm").await?;
        place.available("warm", 2 * PODS).await?;
        let tenant = place.tenant("warm").await?;
        place.delete(CLUSTER, "warm").await?;
        place.nothing_is_left("warm", &tenant.id).await?;

        let began = Instant::now();
        place.cluster("blue").await?;
        place.available("blue", 2 * PODS).await?;
        figure::keep("a Cluster, until it is Available", began.elapsed(), UP)?;
        what_core_reads_is_there(place).await?;
        let tenant = place.tenant("blue").await?;
        kubeconfigs_work(place, &tenant).await?;
        let space = Space::open(tenant.clone(), "work").await?;
        space.run_web(1).await?;

        let began = Instant::now();
        place.delete(CLUSTER, "blue").await?;
        place.nothing_is_left("blue", &tenant.id).await?;
        let took = began.elapsed();
        figure::keep(
            "a Cluster with a workload, until nothing of it is left",
            took,
            DOWN,
        )
    });
}

/// Every field and condition of the contract, as core took them over.
async fn what_core_reads_is_there(place: &Place) -> anyhow::Result<()> {
    let cluster = place.get(CLUSTER, "blue").await?;
    for kind in [
        "Available",
        "InfrastructureReady",
        "ControlPlaneInitialized",
        "ControlPlaneAvailable",
        "RemoteConnectionProbe",
        "WorkersAvailable",
    ] {
        ensure!(
            condition(&cluster, kind) == "True",
            "{kind}: {}",
            conditions(&cluster)
        );
    }
    let initialization = &cluster["status"]["initialization"];
    ensure!(
        initialization["infrastructureProvisioned"] == true
            && initialization["controlPlaneInitialized"] == true,
        "{initialization}"
    );
    let control_plane = place
        .get(SUBLET_CONTROL_PLANE, &control_plane_of("blue"))
        .await?;
    let endpoint = &control_plane["spec"]["controlPlaneEndpoint"];
    ensure!(
        endpoint["port"].as_u64() > Some(0) && cluster["spec"]["controlPlaneEndpoint"] == *endpoint,
        "{endpoint} {}",
        cluster["spec"]
    );
    let status = &control_plane["status"];
    ensure!(
        status["version"] == super::VERSION
            && status["versions"][0]["version"] == super::VERSION
            && status["replicas"] == 1
            && status["readyReplicas"] == 1
            && status["availableReplicas"] == 1
            && status["upToDateReplicas"] == 1
            && status["externalManagedControlPlane"] == true,
        "{status}"
    );
    for (kind, wanted) in [
        ("Available", "True"),
        ("CertificatesAvailable", "True"),
        ("EtcdClusterAvailable", "True"),
        ("RollingOut", "False"),
        ("ScalingUp", "False"),
        ("ScalingDown", "False"),
        ("Deleting", "False"),
        ("Paused", "False"),
    ] {
        ensure!(
            condition(&control_plane, kind) == wanted,
            "{kind}: {}",
            conditions(&control_plane)
        );
    }
    let infrastructure = place.get(SUBLET_CLUSTER, &place_of("blue")).await?;
    ensure!(
        infrastructure["status"]["initialization"]["provisioned"] == true
            && condition(&infrastructure, "Ready") == "True",
        "{}",
        conditions(&infrastructure)
    );
    // What must survive a move is in a spec.
    let vcp = place.get(CONTROL_PLANE, "blue").await?;
    ensure!(
        infrastructure["spec"]["identity"] == vcp["spec"]["identity"]
            && infrastructure["spec"]["serviceCIDR"] == vcp["spec"]["network"]["serviceCIDR"],
        "{} {}",
        infrastructure["spec"],
        vcp["spec"]
    );
    // Ours is no controller reference: with a ClusterClass that is core's to set.
    for object in [&control_plane, &infrastructure] {
        let owners = items(object, "/metadata/ownerReferences");
        ensure!(
            owners.len() == 1 && owners[0]["kind"] == "Cluster",
            "{owners:?}"
        );
    }
    Ok(())
}

async fn kubeconfigs_work(place: &Place, tenant: &Tenant) -> anyhow::Result<()> {
    let secret = place.get(SECRET, "blue-kubeconfig").await?;
    ensure!(
        text(&secret, "/type") == "cluster.x-k8s.io/secret"
            && label(&secret, "cluster.x-k8s.io/cluster-name") == Some("blue"),
        "{}",
        secret["metadata"]
    );
    let owner = &items(&secret, "/metadata/ownerReferences")[0];
    ensure!(owner["kind"] == "SubletControlPlane", "{owner}");
    tenant.side.text("/").await?;
    let line = format!("get kubeconfig blue -n {}", place.namespace);
    let printed = place.core.clusterctl.run(&line).await?.ok()?;
    ensure!(
        printed.trim() == tenant.kubeconfig.trim(),
        "clusterctl prints another kubeconfig"
    );
    let line = format!(
        "describe cluster blue -n {} --show-conditions=all",
        place.namespace
    );
    let described = place
        .core
        .clusterctl
        .run(&line)
        .await
        .and_then(Outcome::ok)?;
    ensure!(
        described.contains("SubletControlPlane/blue-control-plane")
            && described.contains("SubletCluster/blue-place"),
        "{described}"
    );
    // Tenants have one of their own.
    let own = place.get(SECRET, "blue-user-kubeconfig").await?;
    ensure!(own["data"]["value"].is_string() && own["data"] != secret["data"]);
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_pause_of_a_control_plane_or_its_cluster_holds_a_deletion_until_it_is_unset() {
    with_clusters(async |place| {
        let control_plane = control_plane_of("amber");
        place.cluster("amber").await?;
        place.available("amber", 2 * PODS).await?;
        let tenant = place.tenant("amber").await?;
        let space = Space::open(tenant.clone(), "work").await?;
        space.pod("held", make::pod_spec(make::idle())).await?;
        space.ready("held").await?;
        let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
        let held = finalizers(json!(["example.com/audit"]));
        place.above.merge(POD, &space.twin, "held", held).await?;
        let aside =
            |value: Value| json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": value}}});
        place
            .merge(SUBLET_CONTROL_PLANE, &control_plane, aside(json!("")))
            .await?;
        place
            .like(CONTROL_PLANE, "amber", "is paused, too", PODS, |vcp| {
                text(vcp, "/status/phase") == "Paused"
            })
            .await?;
        place.delete(CLUSTER, "amber").await?;
        let held = "is to be deleted and is paused";
        place
            .like(SUBLET_CONTROL_PLANE, &control_plane, held, PODS, |own| {
                is_terminating(own) && condition(own, "Paused") == "True"
            })
            .await?;
        let vcp = place.get(CONTROL_PLANE, "amber").await?;
        ensure!(!is_terminating(&vcp), "{}", conditions(&vcp));
        tenant.side.get(NAMESPACE, "", "kube-system").await?;
        place
            .merge(SUBLET_CONTROL_PLANE, &control_plane, aside(Value::Null))
            .await?;

        // A deletion that is under way stops where it is, too.
        eventually(PODS, "the deletion waits for the pod", async || {
            let pod = place.above.get(POD, &space.twin, "held").await?;
            ensure!(is_terminating(&pod), "it isn't to be deleted");
            Ok(())
        })
        .await?;
        let paused = |paused: Value| json!({"spec": {"paused": paused}});
        place.merge(CLUSTER, "amber", paused(json!(true))).await?;
        place
            .like(
                CONTROL_PLANE,
                "amber",
                "is paused with its Cluster",
                PODS,
                |vcp| text(vcp, "/status/phase") == "Paused",
            )
            .await?;
        let free = finalizers(Value::Null);
        place.above.merge(POD, &space.twin, "held", free).await?;
        eventually(PODS, "the pod that held it up is gone", async || {
            let left = space.find_twin(POD, "held").await?;
            ensure!(left.is_none(), "it is there");
            Ok(())
        })
        .await?;
        tenant.side.text("/").await?;
        for (kind, name) in [
            (CONTROL_PLANE, "amber"),
            (SUBLET_CONTROL_PLANE, &control_plane),
        ] {
            let object = place.get(kind, name).await?;
            ensure!(is_terminating(&object), "{}", conditions(&object));
        }
        place.merge(CLUSTER, "amber", paused(Value::Null)).await?;
        place.gone(CLUSTER, "amber", PODS).await
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_pause_holds_while_scaling_and_deleting_and_the_place_outlives_the_control_plane() {
    with_clusters(async |place| {
        let (control_plane, own) = (control_plane_of("green"), place_of("green"));
        place.cluster("green").await?;
        place.available("green", 2 * PODS).await?;
        let tenant = place.tenant("green").await?;
        let inside = tenant.control_plane_namespace();

        let paused = |paused: Value| json!({"spec": {"paused": paused}});
        place.merge(CLUSTER, "green", paused(json!(true))).await?;
        let two = json!({"spec": {"replicas": 2}});
        place
            .merge(SUBLET_CONTROL_PLANE, &control_plane, two)
            .await?;
        for (kind, name) in [
            (SUBLET_CONTROL_PLANE, &control_plane),
            (SUBLET_CLUSTER, &own),
        ] {
            place
                .like(kind, name, "is paused", PODS, |object| {
                    is_paused(object, "True")
                })
                .await?;
        }
        // The new number was seen, by the generation that the condition tells, and not acted upon.
        let vcp = place.get(CONTROL_PLANE, "green").await?;
        ensure!(vcp["spec"]["replicas"] != 2, "{}", vcp["spec"]);
        // The tenant goes on.
        tenant.side.get(NAMESPACE, "", "kube-system").await?;

        place.merge(CLUSTER, "green", paused(Value::Null)).await?;
        place
            .like(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                "has two API servers",
                2 * PODS,
                |object| {
                    object["status"]["readyReplicas"] == 2
                        && condition(object, "ScalingUp") == "False"
                        && condition(object, "RollingOut") == "False"
                },
            )
            .await?;
        let line = format!(
            "scale subletcontrolplane {control_plane} -n {} --replicas=1",
            place.namespace
        );
        place.core.kubectl.run(&line).await?.ok()?;
        place
            .like(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                "has one API server",
                PODS,
                |object| {
                    object["status"]["replicas"] == 1 && object["status"]["readyReplicas"] == 1
                },
            )
            .await?;

        // All of it is started anew when that is asked for.
        let server = the_one_server(place, &inside).await?;
        let now = Timestamp::now().to_string();
        let anew = json!({"spec": {"rollout": {"after": now}}});
        place
            .merge(SUBLET_CONTROL_PLANE, &control_plane, anew)
            .await?;
        let replaced = eventually(2 * PODS, "the API server is another one", async || {
            let now = the_one_server(place, &inside).await?;
            ensure!(now != server, "it is the same");
            Ok(())
        });
        without_a_lost_answer(&tenant, replaced).await?;
        place
            .like(
                SUBLET_CONTROL_PLANE,
                &control_plane,
                "has rolled out",
                PODS,
                |object| condition(object, "RollingOut") == "False",
            )
            .await?;

        // The place is set aside, so that what the control plane leaves can be looked at.
        let aside =
            |value: Value| json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": value}}});
        place.merge(SUBLET_CLUSTER, &own, aside(json!(""))).await?;
        place
            .like(SUBLET_CLUSTER, &own, "is paused", PODS, |object| {
                is_paused(object, "True")
            })
            .await?;
        place.delete(CLUSTER, "green").await?;
        place
            .gone(SUBLET_CONTROL_PLANE, &control_plane, PODS)
            .await?;
        place
            .like(
                SUBLET_CLUSTER,
                &own,
                "is to be deleted",
                PODS,
                is_terminating,
            )
            .await?;
        ensure!(place.find(CLUSTER, "green").await?.is_some());
        for kind in [POD, DEPLOYMENT, STATEFUL_SET] {
            let left = place.above.list(kind, &inside, "").await?;
            ensure!(
                left.is_empty(),
                "{} {}",
                kind.name,
                e2e::read::name(&left[0])
            );
        }
        let authority = place.above.get(SECRET, &inside, "ca").await?;
        ensure!(
            !is_terminating(&authority),
            "the authority outlives the control plane"
        );
        let vcp = place.get(CONTROL_PLANE, "green").await?;
        ensure!(
            condition(&vcp, "ControlPlaneReady") == "False",
            "{}",
            conditions(&vcp)
        );

        place
            .merge(SUBLET_CLUSTER, &own, aside(Value::Null))
            .await?;
        place.gone(CLUSTER, "green", PODS).await?;
        ensure!(place.above.find(NAMESPACE, "", &inside).await?.is_none());
        Ok(())
    });
}

/// UID of the pod of a control plane's API server, while it is the only one that isn't ending.
async fn the_one_server(place: &Place, inside: &str) -> anyhow::Result<String> {
    let selector = "app.kubernetes.io/name=kube-apiserver";
    let mut pods = place.above.list(POD, inside, selector).await?;
    pods.retain(|pod| !is_terminating(pod));
    ensure!(pods.len() == 1, "{} API servers", pods.len());
    Ok(uid(&pods[0]).to_owned())
}
