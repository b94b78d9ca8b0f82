//! T13: which handler of the container runtime ran a container, as told from inside of it.
//!
//! The nodes of the dev super cluster have a second handler, `marked`, which leaves its name in the container's environment.

use anyhow::ensure;
use e2e::{
    kind::{POD, RUNTIME_CLASS},
    make,
    read::{event, text},
    side::Side,
    space::{Space, run, within},
    tenant::{A, Tenant, super_cluster},
};
use serde_json::{Value, json};

/// Says which handler ran it: the container's first process has the environment that the runtime gave it.
const WHO: &str = "tr '\\0' '\\n' < /proc/1/environ | grep ^SUBLET_HANDLER= > /dev/termination-log; \
                   echo . >> /dev/termination-log";
const MARKED: &str = "SUBLET_HANDLER=marked\n.";
const PLAIN: &str = ".";

/// Makes a runtime class for the second handler.
async fn offer(above: &Side, name: &str, labels: Value) -> anyhow::Result<()> {
    let class = json!({"metadata": {"name": name, "labels": labels}, "handler": "marked"});
    above.delete(RUNTIME_CLASS, "", name).await?;
    above.create(RUNTIME_CLASS, class).await?;
    Ok(())
}

fn asking(class: Option<&str>) -> Value {
    let mut spec = make::once(make::shell(WHO));
    if let Some(class) = class {
        spec["runtimeClassName"] = class.into();
    }
    spec
}

#[test]
fn t13_a_runtime_that_is_offered_runs_what_asks_for_it() {
    within(A, "runtime", async |space| {
        let class = format!("e2e-{}", space.name);
        offer(space.above(), &class, json!({api::keys::PUBLISHED: "true"})).await?;
        let told = told(space, &class).await;
        space.above().delete(RUNTIME_CLASS, "", &class).await?;
        told
    });
}

async fn told(space: &Space, class: &str) -> anyhow::Result<()> {
    e2e::wait::eventually(
        e2e::wait::SOON,
        "the tenant is shown the class",
        async || Ok(space.side().get(RUNTIME_CLASS, "", class).await?),
    )
    .await?;
    space.pod("marked", asking(Some(class))).await?;
    space.pod("plain", asking(None)).await?;
    let (marked, plain) = (
        space.outcome("marked").await?,
        space.outcome("plain").await?,
    );
    ensure!(marked == MARKED && plain == PLAIN, "{marked:?}, {plain:?}");
    let twin = space.twin(POD, "marked").await?;
    ensure!(
        text(&twin, "/spec/runtimeClassName") == class,
        "{}",
        twin["spec"]
    );
    Ok(())
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t13_a_runtime_that_is_prescribed_runs_everything() {
    run(async || {
        // Nobody is shown it: what is prescribed needn't be offered.
        let class = "e2e-prescribed";
        let above = super_cluster().await?;
        offer(&above, class, json!({})).await?;
        let spec = json!({"policy": {"pods": {"runtimeClassName": class}}});
        let result = Tenant::within("e2e-runtime", spec, async |tenant| {
            let space = Space::open(tenant.clone(), "work").await?;
            space.pod("silent", asking(None)).await?;
            let said = space.outcome("silent").await?;
            ensure!(said == MARKED, "{said:?}");
            // Containers of every kind.
            let mut pod = asking(None);
            pod["initContainers"] = json!([make::shell(
                "grep -qa SUBLET_HANDLER=marked /proc/1/environ"
            )]);
            pod["initContainers"][0]["name"] = "first".into();
            space.pod("whole", pod).await?;
            let said = space.outcome("whole").await?;
            ensure!(said == MARKED, "{said:?}");
            // Another one can't be chosen, and the tenant is told what to do.
            let other = json!({"metadata": {"name": "other"}, "handler": "runc"});
            space.side().create(RUNTIME_CLASS, other).await?;
            let chosen = space.pod("chosen", asking(Some("other"))).await?;
            event(space.side(), POD, &chosen, "RuntimeClassPrescribed").await?;
            ensure!(space.find_twin(POD, "chosen").await?.is_none());
            Ok(())
        })
        .await;
        above.delete(RUNTIME_CLASS, "", class).await?;
        result
    });
}
