//! A node that exists for the API only, kept alive by its Lease.

use e2e::{
    kind::{Kind, NODE},
    read::{condition, items},
    side::Side,
    wait::{SOON, eventually},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Its name.
pub(crate) const NAME: &str = crate::world::NODE;

const LEASE: Kind = Kind {
    api_version: "coordination.k8s.io/v1",
    name: "Lease",
    plural: "leases",
};
const LEASES: &str = "kube-node-lease";

/// The node, as long as it is there.
pub(crate) struct Fake {
    heart: JoinHandle<()>,
}

impl Fake {
    /// Makes it. It is cordoned, so that only pods that say they don't mind are bound to it.
    pub(crate) async fn make(above: &Side) -> anyhow::Result<Self> {
        above.delete(NODE, "", NAME).await?;
        above.delete(LEASE, LEASES, NAME).await?;
        let labels = json!({"kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
        let node =
            json!({"metadata": {"name": NAME, "labels": labels}, "spec": {"unschedulable": true}});
        above.create(NODE, node).await?;
        let lease = json!({
            "metadata": {"name": NAME, "namespace": LEASES},
            "spec": {"holderIdentity": NAME, "leaseDurationSeconds": 40, "renewTime": micros()},
        });
        above.create(LEASE, lease).await?;
        let capacity = json!({"cpu": "10000", "memory": "10000Gi", "pods": "100000"});
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now, "lastTransitionTime": now,
        });
        let status = json!({"capacity": capacity, "allocatable": capacity, "conditions": [ready]});
        above.merge_status(NODE, "", NAME, status).await?;
        // The API server taints nodes at birth; where nobody watches nodes, nobody else takes that away again.
        let cordoned = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        above
            .merge(NODE, "", NAME, json!({"spec": {"taints": cordoned}}))
            .await?;
        let heart = tokio::spawn(beat(above.clone()));
        eventually(SOON, "the fake node takes pods", async || {
            let node = above.get(NODE, "", NAME).await?;
            let taints = items(&node, "/spec/taints");
            let only_cordoned = taints
                .iter()
                .all(|taint| taint["key"] == "node.kubernetes.io/unschedulable");
            anyhow::ensure!(
                only_cordoned && condition(&node, "Ready") == "True",
                "taints {taints:?}"
            );
            Ok(())
        })
        .await?;
        Ok(Self { heart })
    }

    /// Removes it.
    pub(crate) async fn remove(self, above: &Side) -> anyhow::Result<()> {
        self.heart.abort();
        above.delete(LEASE, LEASES, NAME).await?;
        Ok(above.delete(NODE, "", NAME).await?)
    }
}

async fn beat(above: Side) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let renewed = json!({"spec": {"renewTime": micros()}});
        if let Err(err) = above.merge(LEASE, LEASES, NAME, renewed).await {
            eprintln!("the fake node misses a heartbeat: {err}");
        }
    }
}

fn micros() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string()
}
