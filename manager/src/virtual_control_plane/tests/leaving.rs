//! A tenant of another super cluster whose namespace is deleted, with all that leads there.

use super::*;
use crate::{
    elsewhere::twin::{kept, tests::kubeconfig},
    object::{ROLE_BINDING, SECRET},
};
use base64::{Engine, prelude::BASE64_STANDARD};

const WEST: &str = "/api/v1/namespaces/tenants/secrets/west";

#[tokio::test]
async fn a_namespace_that_takes_the_kubeconfig_along_leaves_nothing_in_the_super_cluster() {
    let mut world = World::new().await;
    let text = BASE64_STANDARD.encode(kubeconfig("https://west:1"));
    world.cluster.put(WEST, json!({"data": {"value": text}}));
    world.cluster.change(OWN, |vcp| {
        let leads = json!({"name": "west", "key": "value"});
        vcp["spec"]["superCluster"] = json!({"kubeconfigSecretRef": leads});
    });
    world.tell();
    // The one in the super cluster has the same path.
    while world.tenant.get(OWN).is_none() {
        world.pass().await;
        world.tell();
    }
    let name = kept::name(&owner().id);
    let kept = format!("/api/v1/namespaces/{SYSTEM}/secrets/{name}");
    assert!(world.cluster.get(&kept).is_some());

    let home = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    world.cluster.put("/api/v1/namespaces/tenants", home);
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/tenants/rolebindings";
    let binding = format!("{bindings}/sublet-manager-acme");
    for (kind, path) in [(SECRET, WEST), (ROLE_BINDING, &*binding)] {
        let gone = Object::observed(kind, world.cluster.get(path).unwrap());
        let api = world.cluster.cluster();
        let known = Object::new(kind, Some("tenants"), gone.name(), gone.body.clone());
        api.delete(&known, None).await.unwrap();
        assert!(world.cluster.get(path).is_none());
    }
    world.cluster.change(OWN, |vcp| {
        vcp["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    for _ in 0..10 {
        world.tell();
        world.pass().await;
    }
    assert!(world.tenant.get(OWN).is_none(), "the twin is gone");
    assert!(world.cluster.get(&kept).is_none());
    let finalizers = world.vcp().metadata.finalizers.unwrap_or_default();
    assert!(finalizers.is_empty(), "{finalizers:?}");
}

/// Pods of a Job stay when they have ended, and the control plane of a Cluster hasn't ended while it has a pod.
#[tokio::test]
async fn a_job_that_is_left_goes_with_the_control_plane_of_a_cluster() {
    let mut world = World::new().await;
    world.start().await;
    let inside = owner().control_plane_namespace();
    let job = format!("/apis/batch/v1/namespaces/{inside}/jobs/snapshot-a");
    world.cluster.put(&job, json!({}));
    let pod = format!("/api/v1/namespaces/{inside}/pods/snapshot-a-x");
    let labels = json!({"batch.kubernetes.io/job-name": "snapshot-a"});
    let ended = json!({"metadata": {"labels": labels}, "status": {"phase": "Succeeded"}});
    world.cluster.put(&pod, ended);
    world.cluster.change(OWN, |vcp| {
        vcp["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        vcp["metadata"]["finalizers"] = json!([keys::INFRASTRUCTURE_FINALIZER, keys::FINALIZER]);
    });
    for _ in 0..5 {
        world.tell();
        world.pass().await;
    }
    assert!(world.cluster.get(&job).is_none());
}
