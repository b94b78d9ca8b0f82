//! The PROXY protocol, by a program that speaks it of itself: curl in the place of a load balancer.

use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{DEPLOYMENT, NETWORK_POLICY, POD},
    make,
    program::{Folder, Program},
    read::{brief, condition, items, text},
    side::Side,
    space::run,
    tenant::{A, NAMESPACE_OF_TESTS, Tenant},
    wait::{PODS, SOON, eventually},
};
use serde_json::json;

const SYSTEM: &str = api::SYSTEM_NAMESPACE;
/// The network of all pods of the dev super cluster.
const PODS_OF_ALL: &str = "10.211.0.0/16";

/// Waits until a pod is Ready; returns its address.
async fn ready(above: &Side, namespace: &str, name: &str) -> anyhow::Result<String> {
    eventually(PODS, &format!("{name} is Ready"), async || {
        let pod = above.get(POD, namespace, name).await?;
        ensure!(condition(&pod, "Ready") == "True", "{}", brief(&pod));
        Ok(text(&pod, "/status/podIP").to_owned())
    })
    .await
}

/// By a proxy of its own, beside those that serve.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_header_of_the_proxy_protocol_is_needed_where_it_is_believed_and_refused_elsewhere() {
    run(async || {
        let tenant = A.get().await?;
        let name = make::unique("balanced");
        let result = balances(tenant, &name).await;
        for (kind, namespace) in [
            (POD, SYSTEM),
            (NETWORK_POLICY, SYSTEM),
            (POD, NAMESPACE_OF_TESTS),
        ] {
            tenant.above.delete(kind, namespace, &name).await?;
        }
        result
    });
}

async fn balances(tenant: &Tenant, name: &str) -> anyhow::Result<()> {
    let above = &tenant.above;
    let deployment = above.get(DEPLOYMENT, SYSTEM, keys::PROXY).await?;
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    let mut args = items(&spec, "/containers/0/args").to_vec();
    args.push(format!("--proxy-protocol-from={PODS_OF_ALL}").into());
    spec["containers"][0]["args"] = args.into();
    let labels = json!({"app": name});
    let metadata = json!({"name": name, "namespace": SYSTEM, "labels": labels});
    let open = json!({
        "podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}], "egress": [{}],
    });
    above
        .create(NETWORK_POLICY, json!({"metadata": metadata, "spec": open}))
        .await?;
    above
        .create(POD, json!({"metadata": metadata, "spec": spec}))
        .await?;
    let client = make::pod_spec(make::container(make::AGNHOST, &["/agnhost", "pause"]));
    let metadata = json!({"name": name, "namespace": NAMESPACE_OF_TESTS});
    above
        .create(POD, json!({"metadata": metadata, "spec": client}))
        .await?;
    let believing = ready(above, SYSTEM, name).await?;
    ready(above, NAMESPACE_OF_TESTS, name).await?;
    let selector = format!("app.kubernetes.io/name={}", keys::PROXY);
    let usual = above.list(POD, SYSTEM, &selector).await?;
    let usual = usual.first().context("a pod of the proxy")?;
    let usual = text(usual, "/status/podIP").to_owned();

    let folder = Folder::make()?;
    let kubeconfig = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    let kubectl = Program::kubectl(folder.path(), &kubeconfig)?;
    let host = tenancy::naming::tenant_host(&tenant.id);
    let curl = format!("-n {NAMESPACE_OF_TESTS} exec {name} -- curl -sk --max-time 20");
    for (proxy, good, bad) in [
        (&believing, "--haproxy-protocol", ""),
        (&usual, "", "--haproxy-protocol"),
    ] {
        let to = format!("--connect-to ::{proxy}:6443 https://{host}/readyz");
        eventually(SOON, "the API server answers", async || {
            let line = format!("{curl} {good} {to}");
            kubectl.run(&line).await?.says(&["ok"]).map(drop)
        })
        .await?;
        let refused = kubectl.run(&format!("{curl} {bad} {to}")).await?;
        ensure!(refused.code != 0 && refused.out.is_empty(), "{refused:#?}");
    }
    Ok(())
}
