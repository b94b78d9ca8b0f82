//! One of several providers: it looks after what bears its label, and touches nothing else.

use super::beyond;
use anyhow::{Context, ensure};
use e2e::{
    account,
    kind::{CONTROL_PLANE, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::items,
    rig::{Wish, manager::Manager, on_rig},
    tenant::NAMESPACE_OF_TESTS,
    wait::{PODS, eventually},
};
use serde_json::json;

/// Label of what one of several providers looks after.
const FILTER: &str = "cluster.x-k8s.io/watch-filter";

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_manager_with_a_watch_filter_touches_what_bears_its_label_alone() {
    on_rig(Wish::default(), async |rig| {
        let side = &rig.side;
        beyond::definitions(side).await?;
        let admin = rig.above.admin_kubeconfig();
        let own =
            account::kubeconfig(side, &admin, api::SYSTEM_NAMESPACE, "sublet-manager").await?;
        let flags = ["--cluster-api", "--watch-filter=east"];
        let mut manager = Manager::new(rig.folder(), &own, &flags)?;
        manager.start().await?;
        // Its own comes last.
        for (name, labels) in [
            ("wests", json!({FILTER: "west"})),
            ("nobodys", json!({})),
            ("easts", json!({FILTER: "east"})),
        ] {
            beyond::create(side, name, labels, json!({})).await?;
        }
        eventually(PODS, "its own Cluster becomes a tenant", async || {
            side.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, "easts").await?;
            Ok(())
        })
        .await
        .with_context(|| manager.tail())?;
        for name in ["wests", "nobodys"] {
            for kind in [SUBLET_CLUSTER, SUBLET_CONTROL_PLANE] {
                let object = side.get(kind, NAMESPACE_OF_TESTS, name).await?;
                ensure!(
                    items(&object, "/metadata/finalizers").is_empty() && object["status"].is_null(),
                    "{object}"
                );
            }
            let made = side.find(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
            ensure!(made.is_none(), "{name} became a tenant");
        }
        Ok(())
    });
}
