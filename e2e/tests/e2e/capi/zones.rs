//! Zones of the super cluster's nodes are a Cluster's failure domains.

use super::{LONG, place_of, with_clusters};
use e2e::{
    kind::{CLUSTER, NODE, SUBLET_CLUSTER},
    read::name,
    side::Side,
};
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";

/// Gives a node a zone, or takes it away.
async fn label(above: &Side, node: &str, zone: Option<&str>) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"labels": {ZONE: zone}}});
    above.merge(NODE, "", node, patch).await?;
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn zones_of_nodes_become_failure_domains_of_a_cluster() {
    with_clusters(async |place| {
        let nodes = place.above.list(NODE, "", "").await?;
        let zones: Vec<String> = (0..nodes.len()).map(|n| format!("e2e-{n:02}")).collect();
        let expected: Vec<Value> = zones
            .iter()
            .map(|zone| json!({"name": zone, "controlPlane": true}))
            .collect();
        for (node, zone) in nodes.iter().zip(&zones) {
            label(&place.above, name(node), Some(zone)).await?;
        }
        let shown = async {
            place.cluster("zoned").await?;
            let own = place_of("zoned");
            let has = |object: &Value| object["status"]["failureDomains"] == json!(expected);
            place
                .like(SUBLET_CLUSTER, &own, "has zones", LONG, has)
                .await?;
            place
                .like(CLUSTER, "zoned", "has failure domains", LONG, has)
                .await?;
            place.available("zoned", LONG).await
        };
        let shown = shown.await;
        for node in &nodes {
            label(&place.above, name(node), None).await?;
        }
        shown?;
        // Where no node names a zone any more there is no field, since an empty list isn't allowed.
        let none = |object: &Value| object["status"]["failureDomains"].is_null();
        place
            .like(SUBLET_CLUSTER, &place_of("zoned"), "has none", LONG, none)
            .await?;
        Ok(())
    });
}
