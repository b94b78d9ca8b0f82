//! Volumes: a provisioner that makes folders on the nodes, and the default StorageClass that names it.

use anyhow::Result;
use serde_json::json;

use super::layout::{pki, text};
use super::process::{Identity, Program};
use crate::kube_api::KubeApi;
use crate::{binaries, paths};

/// The name by which the StorageClass calls the provisioner.
const PROVISIONER: &str = "sublet.dev/local";

/// The provisioner. Volumes are in the nodes' folders, so they go with the cluster.
pub(crate) fn provisioner(home: Identity) -> Result<Program> {
    let command = vec![
        text(binaries::path("provisioner")?),
        format!("--kubeconfig={}", text(pki("admin.kubeconfig"))),
        format!("--root={}", text(paths::state().join("{node}/volumes"))),
        format!("--name={PROVISIONER}"),
    ];
    Ok(Program {
        name: "provisioner".to_owned(),
        command,
        home: Some(home),
    })
}

/// Creates or updates the StorageClass, which all tenants are shown.
pub(crate) fn apply(api: &KubeApi) -> Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": "local",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            "labels": {"sublet.dev/published": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        // A folder is on one node, so the scheduler must choose it first.
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    api.apply("/apis/storage.k8s.io/v1/storageclasses/local", &class)
}
