//! Readiness gates, in both directions.

use anyhow::ensure;
use e2e::{
    kind::POD,
    make,
    read::{condition, items},
    side::PatchType,
    space::{Space, within},
    tenant::A,
    wait::PODS,
};
use serde_json::{Value, json};

const GATE: &str = "example.com/open";

/// Sets the gate's condition as a controller of the tenant does.
async fn set_gate(space: &Space, status: &str) -> anyhow::Result<()> {
    let path = POD.path(&space.name, "web") + "/status";
    let pod = space.get(POD, "web").await?;
    let mut conditions = items(&pod, "/status/conditions").to_vec();
    conditions.retain(|condition| condition["type"] != GATE);
    conditions.push(json!({"type": GATE, "status": status}));
    let patch = json!({"status": {"conditions": conditions}});
    space.side().patch(&path, PatchType::Merge, patch).await?;
    Ok(())
}

#[test]
fn a_readiness_gate_opens_and_closes_as_the_tenant_says() {
    within(A, "gates", async |space| {
        let mut spec = make::pod_spec(make::idle());
        spec["readinessGates"] = json!([{"conditionType": GATE}]);
        space.pod("web", spec).await?;
        for (status, ready) in [("True", "True"), ("False", "False"), ("True", "True")] {
            set_gate(space, status).await?;
            let as_said = |pod: &Value| {
                condition(pod, "Ready") == ready
                    && condition(pod, "ContainersReady") == "True"
                    && condition(pod, GATE) == status
            };
            space
                .like(
                    POD,
                    "web",
                    &format!("has Ready={ready} by its gate"),
                    PODS,
                    as_said,
                )
                .await?;
        }
        let twin = space.twin(POD, "web").await?;
        ensure!(condition(&twin, GATE) == "True", "{}", twin["status"]);
        Ok(())
    });
}
