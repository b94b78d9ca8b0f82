//! Services that two tenants share when both name each other, and Services of the platform: exactly those are reached.

use super::{
    in_both,
    network::{Targets, expect, kubectl_of, populate},
};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CONTROL_PLANE, DEPLOYMENT, NETWORK_POLICY, SERVICE},
    make,
    program::Folder,
    read::{name, text},
    space::Space,
    tenant::NAMESPACE_OF_TESTS,
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

async fn share(space: &Space, sharing: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"sharing": sharing}});
    space
        .above()
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, &space.tenant.name, patch)
        .await?;
    Ok(())
}

async fn shared(a: &Space, b: &Space) -> anyhow::Result<()> {
    let web_of_a = populate(a).await?;
    populate(b).await?;
    // Beside the shared one, in the same namespace and on the same port.
    let mut other = make::deployment("other", 1, make::pod_spec(make::server()));
    other["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    a.create(DEPLOYMENT, other).await?;
    a.rolled_out(DEPLOYMENT, "other", 1).await?;
    let others = a.pods("app=other").await?;
    let other = text(others.first().context("a pod of other")?, "/status/podIP").to_owned();

    let folder = Folder::make()?;
    let of_b = kubectl_of(&folder, &b.tenant.kubeconfig, &b.name)?;
    let targets = Targets::from([
        ("by name".into(), "http://web-of-a/hostname".into()),
        ("own".into(), "http://web/hostname".into()),
        (
            "a pod of it".into(),
            format!("http://{web_of_a}:8080/hostname"),
        ),
        (
            "another pod".into(),
            format!("http://{other}:8080/hostname"),
        ),
    ]);
    let place = |space: &Space| json!({"namespace": NAMESPACE_OF_TESTS, "name": space.tenant.name});
    let service = json!({"namespace": a.name, "name": "web"});
    let shown_as = json!({"namespace": b.name, "name": "web-of-a"});
    let imports = json!({"imports": [{"from": place(a), "service": service, "shownAs": shown_as}]});
    share(b, imports).await?;
    // One of the two isn't enough. Who asks for the name now is told for half a minute that it isn't there.
    let mut by_address = targets.clone();
    by_address.remove("by name");
    expect(&of_b, "client", &by_address, &["own"]).await?;
    ensure!(
        b.find(SERVICE, "web-of-a").await?.is_none(),
        "it is shown too early"
    );
    share(
        a,
        json!({"exports": [{"service": service, "to": [place(b)]}]}),
    )
    .await?;
    expect(
        &of_b,
        "client",
        &targets,
        &["a pod of it", "by name", "own"],
    )
    .await?;

    // What the tenant makes of what it is shown is put right.
    b.merge(
        SERVICE,
        "web-of-a",
        json!({"spec": {"ports": [{"name": "x", "port": 99}]}}),
    )
    .await?;
    eventually(SOON, "the Service is as it was", async || {
        let shown = b.get(SERVICE, "web-of-a").await?;
        ensure!(shown["spec"]["ports"][0]["port"] == 80, "{}", shown["spec"]);
        Ok(())
    })
    .await?;

    share(a, Value::Null).await?;
    expect(&of_b, "client", &targets, &["own"]).await?;
    eventually(SOON, "nothing of it is left", async || {
        ensure!(b.find(SERVICE, "web-of-a").await?.is_none(), "the Service");
        let policies = a.above().list(NETWORK_POLICY, &a.twin, "").await?;
        let left: Vec<&str> = policies
            .iter()
            .map(name)
            .filter(|name| name.starts_with("sublet-shared-"))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_service_that_two_tenants_share_is_reached_and_nothing_beside_it() {
    in_both("shared", async |a, b| {
        let result = shared(a, b).await;
        for space in [a, b] {
            share(space, Value::Null).await?;
        }
        result
    });
}
