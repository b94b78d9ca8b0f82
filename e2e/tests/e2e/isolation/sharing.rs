//! Services that two tenants share when both name each other, and Services of the platform: exactly those are reached.

use super::{
    in_both,
    network::{Targets, expect, kubectl_of, populate},
};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CLASS, CONTROL_PLANE, DEPLOYMENT, NETWORK_POLICY, POD, SERVICE},
    make,
    program::Folder,
    read::{condition, name, text},
    space::{Space, within},
    tenant::{A, NAMESPACE_OF_TESTS},
    wait::{PODS, SOON, eventually},
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

/// Shows the tenants of the class `default` these Services of the platform, or none.
async fn publish(space: &Space, services: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"services": services}});
    space.above().merge(CLASS, "", "default", patch).await?;
    Ok(())
}

/// A container that answers HTTP on port 8081.
fn second_server() -> Value {
    let command = ["/agnhost", "netexec", "--http-port=8081", "--udp-port=8082"];
    let mut container = make::container(make::AGNHOST, &command);
    container["name"] = "second".into();
    container
}

/// Names of two pods of the platform; that of the first is its Service's, too.
fn platforms(space: &Space) -> [String; 2] {
    ["platforms", "other"].map(|name| format!("{name}-{}", space.name))
}

/// Runs the platform's pods, each with two ports, and a Service for one port of the first; returns their addresses.
async fn run_platforms(space: &Space) -> anyhow::Result<[String; 2]> {
    let (above, names) = (space.above(), platforms(space));
    for name in &names {
        let mut spec = make::pod_spec(make::server());
        spec["containers"] = json!([make::server(), second_server()]);
        let metadata =
            json!({"name": name, "namespace": NAMESPACE_OF_TESTS, "labels": {"app": name}});
        above
            .create(POD, json!({"metadata": metadata, "spec": spec}))
            .await?;
    }
    let mut service = make::service(&names[0]);
    service["metadata"]["namespace"] = NAMESPACE_OF_TESTS.into();
    above.create(SERVICE, service).await?;
    let address = async |name: &str| {
        eventually(PODS, &format!("{name} is Ready"), async || {
            let pod = above.get(POD, NAMESPACE_OF_TESTS, name).await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
            Ok(text(&pod, "/status/podIP").to_owned())
        })
        .await
    };
    Ok([address(&names[0]).await?, address(&names[1]).await?])
}

async fn published(space: &Space) -> anyhow::Result<()> {
    populate(space).await?;
    let [web, other] = run_platforms(space).await?;
    let folders = [Folder::make()?, Folder::make()?];
    let own = kubectl_of(&folders[0], &space.tenant.kubeconfig, &space.name)?;
    let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    let above = kubectl_of(&folders[1], &above, NAMESPACE_OF_TESTS)?;
    let beside = Targets::from([
        ("another port".into(), format!("http://{web}:8081/hostname")),
        (
            "another pod".into(),
            format!("http://{other}:8080/hostname"),
        ),
    ]);
    let [service, client] = platforms(space);
    // They answer whoever isn't held back.
    expect(&above, &client, &beside, &["another pod", "another port"]).await?;

    let mut targets = beside;
    targets.extend([
        ("own".into(), "http://web/hostname".into()),
        ("a pod of it".into(), format!("http://{web}:8080/hostname")),
    ]);
    expect(&own, "client", &targets, &["own"]).await?;
    let shown_as = json!({"namespace": space.name, "name": "platforms"});
    let offered = json!({"namespace": NAMESPACE_OF_TESTS, "name": service, "shownAs": shown_as});
    publish(space, json!([offered])).await?;
    targets.insert("by name".into(), "http://platforms/hostname".into());
    let all = ["a pod of it", "by name", "own"];
    expect(&own, "client", &targets, &all).await?;

    publish(space, Value::Null).await?;
    expect(&own, "client", &targets, &["own"]).await?;
    eventually(SOON, "it is shown no longer", async || {
        ensure!(space.find(SERVICE, "platforms").await?.is_none());
        Ok(())
    })
    .await
}

#[test]
fn a_service_that_a_class_shows_is_reached_and_nothing_beside_it() {
    within(A, "published", async |space| {
        let result = published(space).await;
        publish(space, Value::Null).await?;
        let [service, other] = platforms(space);
        let above = space.above();
        for (kind, name) in [(SERVICE, &service), (POD, &service), (POD, &other)] {
            above.delete(kind, NAMESPACE_OF_TESTS, name).await?;
        }
        result
    });
}
