//! Tenants that an admin trusts with the node: what they see and reach of it, and that others see and reach nothing.

use super::network::{expect, kubectl_of, populate};
use anyhow::{Context, ensure};
use e2e::{
    kind::{CLASS, CONFIG_MAP, CONTROL_PLANE, NODE, POD, SERVICE},
    make,
    program::Folder,
    read::{items, name, text},
    side::Side,
    space::{Space, run},
    tenant::{A, NAMESPACE_OF_TESTS, Tenant, request, super_cluster},
    wait::{SOON, eventually},
};
use serde_json::{Value, json};

/// Name of the class and of the tenant.
const NAME: &str = "e2e-trusted";
/// Where the dev super cluster's nodes are.
const NODES: &str = "10.210.0.0/24";

/// Addresses of nodes of one type, by node.
async fn addresses(side: &Side, kind: &str) -> anyhow::Result<Vec<(String, String)>> {
    let nodes = side.list(NODE, "", "").await?;
    let of = |node: &Value| {
        let mut all = items(node, "/status/addresses").iter();
        let found = all.find(|address| address["type"] == kind)?;
        Some((name(node).to_owned(), text(found, "/address").to_owned()))
    };
    Ok(nodes.iter().filter_map(of).collect())
}

/// A pod with curl that waits on a node.
fn waiting_on(node: &str) -> Value {
    let mut pod = make::pod_spec(make::container(make::AGNHOST, &["/agnhost", "pause"]));
    pod["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn pods_of_a_trusted_tenant_and_nodes_reach_each_other_and_node_ports_have_an_address() {
    run(async || {
        let above = super_cluster().await?;
        let default = above.get(CLASS, "", "default").await?;
        let mut spec = default["spec"].clone();
        spec["podSecurity"] = "privileged".into();
        spec["podNetwork"]["nodeRanges"] = json!([NODES]);
        above
            .create(CLASS, json!({"metadata": {"name": NAME}, "spec": spec}))
            .await?;
        let class = json!({"className": NAME});
        request(&above, NAME, class.clone()).await?;
        let identity = eventually(SOON, "the tenant has an identity", async || {
            let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, NAME).await?;
            let identity = text(&vcp, "/spec/identity").to_owned();
            ensure!(!identity.is_empty(), "{vcp}");
            Ok(identity)
        })
        .await?;
        let trust = async |why: Value| {
            let trust = json!({"data": {&identity: why}});
            let map = api::TRUSTED_TENANTS;
            above
                .merge(CONFIG_MAP, api::SYSTEM_NAMESPACE, map, trust)
                .await
        };
        // No namespace of it is made before.
        trust(format!("{NAMESPACE_OF_TESTS}/{NAME}").into()).await?;
        let result = Tenant::within(NAME, class, trusted).await;
        trust(Value::Null).await?;
        above.delete(CLASS, "", NAME).await?;
        result
    });
}

async fn trusted(tenant: &Tenant) -> anyhow::Result<()> {
    let real = addresses(&tenant.above, "InternalIP").await?;
    let seen = eventually(SOON, "the tenant sees addresses of nodes", async || {
        let seen = addresses(&tenant.side, "InternalIP").await?;
        ensure!(seen == real && seen.len() > 1, "{seen:?} isn't {real:?}");
        Ok(seen)
    })
    .await?;
    let others = addresses(&A.get().await?.side, "InternalIP").await?;
    ensure!(others.is_empty(), "another tenant sees {others:?}");

    let space = Space::open(tenant.clone(), "work").await?;
    let web = populate(&space).await?;
    let twin = space.pods("app=web").await?;
    let beside = text(twin.first().context("a pod of web")?, "/spec/nodeName").to_owned();
    let (elsewhere, _) = seen
        .iter()
        .find(|(node, _)| *node != beside)
        .context("another node")?;
    let mut host = waiting_on(elsewhere);
    host["hostNetwork"] = true.into();
    space.pod("host", host).await?;
    space.ready("host").await?;
    let folder = Folder::make()?;
    let kubectl = kubectl_of(&folder, &tenant.kubeconfig, &space.name)?;
    let pods = [("web".to_owned(), format!("http://{web}:8080/hostname"))].into();
    // It comes from the address of its node.
    expect(&kubectl, "host", &pods, &["web"]).await?;

    let mut service = make::service("outside");
    service["spec"]["type"] = "NodePort".into();
    service["spec"]["selector"] = json!({"app": "web"});
    let service = space.create(SERVICE, service).await?;
    let port = &service["spec"]["ports"][0]["nodePort"];
    let url = |address: &String| format!("http://{address}:{port}/hostname");
    let ports: super::network::Targets = seen
        .iter()
        .map(|(node, address)| (node.clone(), url(address)))
        .collect();
    let all: Vec<&str> = ports.keys().map(String::as_str).collect();
    // By the node of the Service's pod and by another one, from each of them.
    for (node, _) in &seen {
        let client = format!("on-{node}");
        space.pod(&client, waiting_on(node)).await?;
        space.ready(&client).await?;
        expect(&kubectl, &client, &ports, &all).await?;
    }
    space.side().delete(POD, &space.name, "host").await?;
    Ok(())
}
