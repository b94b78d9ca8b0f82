//! T28 and T45, with real packets, where a pod has more open than others: in the place of the tenant's DNS server, and in the
//! places of a control plane's parts.

use super::{
    in_both,
    network::{Targets, datagrams, etcd, expect, foreign, kubectl_of, of_nobody, populate},
    platform::{METADATA, Platform},
};
use anyhow::{Context, ensure};
use api::keys;
use e2e::{
    kind::{NAMESPACE, POD, SERVICE},
    make,
    program::Folder,
    read::{brief, text},
    side::Side,
    space::{Space, run},
    tenant::{B, NAMESPACE_OF_TESTS, Tenant},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

/// Namespace of the DNS server, in tenants and in the super cluster.
const SYSTEM: &str = "kube-system";

/// A pod with curl that waits and is never ready: no Service leads to it.
fn unready() -> Value {
    let mut container = make::container(make::AGNHOST, &["/agnhost", "pause"]);
    container["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    make::pod_spec(container)
}

async fn running(side: &Side, namespace: &str, name: &str) -> anyhow::Result<Value> {
    eventually(PODS, &format!("{name} runs"), async || {
        let pod = side.get(POD, namespace, name).await?;
        let is_running = text(&pod, "/status/phase") == "Running";
        ensure!(is_running, "{}", brief(&pod));
        Ok(pod)
    })
    .await
}

/// What stands outside of tenant A, and what asks for no connection.
async fn everything(a: &Space, b: &Space, web_of_b: &str) -> anyhow::Result<Targets> {
    let mut targets = foreign(a, b, web_of_b).await?;
    targets.extend(datagrams(b, web_of_b).await?);
    // The port by which names are asked for, at a place that may know other things.
    let metadata = format!("http://{METADATA}:53/");
    targets.insert("metadata at the port of DNS".into(), metadata);
    Ok(targets)
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t45_a_pod_in_the_place_of_the_dns_server_reaches_that_of_the_platform_and_nothing_else() {
    in_both("asker", async |a, b| {
        let labels = json!({"k8s-app": "kube-dns"});
        let metadata = json!({"name": a.name, "namespace": SYSTEM, "labels": labels});
        let pod = json!({"metadata": metadata, "spec": unready()});
        a.side().create(POD, pod).await?;
        let result = asks(a, b).await;
        a.side().delete(POD, SYSTEM, &a.name).await?;
        result
    });
}

async fn asks(a: &Space, b: &Space) -> anyhow::Result<()> {
    let web_of_b = populate(b).await?;
    let pod = running(a.side(), SYSTEM, &a.name).await?;
    let folders = [Folder::make()?, Folder::make()?];
    let own = kubectl_of(&folders[0], &a.tenant.kubeconfig, SYSTEM)?;
    let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    let above = kubectl_of(&folders[1], &above, NAMESPACE_OF_TESTS)?;
    let nodes = [text(&pod, "/spec/nodeName")];
    Platform::beside(a.above(), &nodes, &a.name, async |platform| {
        let mut targets = everything(a, b, &web_of_b).await?;
        let dns = a.above().get(SERVICE, SYSTEM, "kube-dns").await?;
        let figures = format!("http://{}:9153/metrics", text(&dns, "/spec/clusterIP"));
        targets.insert("super dns at another port".into(), figures);
        // That all of it answers is shown by whom no policy holds back.
        expect(&above, &platform.free(), &targets, &of_nobody(&targets)).await?;
        let opened = ["super dns", "super dns by UDP"];
        expect(&own, &a.name, &targets, &opened).await
    })
    .await
}

/// In a tenant of its own: to whatever goes by labels, the pods are parts of its control plane.
#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t28_t45_a_pod_of_a_control_plane_reaches_what_its_part_needs_and_nothing_else() {
    run(async || {
        let called = make::unique("parts");
        Tenant::within(&called, json!({}), async |tenant| {
            let a = Space::open(tenant.clone(), &called).await?;
            let b = Space::open(B.get().await?.clone(), &called).await?;
            let result = parts(&a, &b).await;
            b.side().delete(NAMESPACE, "", &b.name).await?;
            result
        })
        .await
    });
}

async fn parts(a: &Space, b: &Space) -> anyhow::Result<()> {
    let web_of_b = populate(b).await?;
    let place = a.tenant.control_plane_namespace();
    let folders = [Folder::make()?, Folder::make()?];
    let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    let inside = kubectl_of(&folders[0], &above, &place)?;
    let above = kubectl_of(&folders[1], &above, NAMESPACE_OF_TESTS)?;
    let (node, _) = etcd(a).await?;
    Platform::beside(a.above(), &[node.as_str()], &a.name, async |platform| {
        let mut targets = everything(a, b, &web_of_b).await?;
        expect(&above, &platform.free(), &targets, &of_nobody(&targets)).await?;
        let proxy = a
            .above()
            .get(SERVICE, api::SYSTEM_NAMESPACE, keys::PROXY)
            .await?;
        let port = tenancy::naming::WAY_OUT_PORT;
        let way_out = format!("https://{}:{port}/", text(&proxy, "/spec/clusterIP"));
        targets.insert("the way out".into(), way_out);
        let selector = "app.kubernetes.io/name=kube-apiserver";
        let servers = a.above().list(POD, &place, selector).await?;
        let server = servers.first().context("a pod of a's API server")?;
        let server = format!("https://{}:6443/", text(server, "/status/podIP"));
        targets.insert("a's api server".into(), server);
        // The one like etcd comes last: it stands behind etcd's Service, ready or not.
        for (part, needed) in [
            ("kube-apiserver", &["a's etcd", "the way out"][..]),
            ("kube-controller-manager", &["a's api server"]),
            ("etcd", &["a's etcd"]),
        ] {
            let pod = pretend(a.above(), &place, part, &node).await?;
            expect(&inside, &pod, &targets, needed).await?;
        }
        Ok(())
    })
    .await
}

/// Runs a pod with the label of a control plane's part; returns its name.
async fn pretend(above: &Side, place: &str, part: &str, node: &str) -> anyhow::Result<String> {
    let name = format!("{part}-like");
    let mut spec = unready();
    spec["nodeName"] = node.into();
    spec["automountServiceAccountToken"] = false.into();
    spec["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    spec["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let labels = json!({"app.kubernetes.io/name": part});
    let metadata = json!({"name": name, "namespace": place, "labels": labels});
    above
        .create(POD, json!({"metadata": metadata, "spec": spec}))
        .await?;
    running(above, place, &name).await?;
    Ok(name)
}
