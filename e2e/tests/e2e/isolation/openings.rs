//! T45 where a class opens something, with real packets: that is reached, and nothing beside it.

use super::{
    network::{OF_B, Targets, expect, foreign, kubectl_of, of_nobody, populate},
    platform::{self, PORTS, PRIVATE, PUBLIC, Platform},
};
use e2e::{
    kind::{CLASS, CONTROL_PLANE, NAMESPACE, NETWORK_POLICY, POD},
    make,
    program::{Folder, Program},
    read::text,
    space::{Space, run},
    tenant::{B, NAMESPACE_OF_TESTS, Tenant, super_cluster},
};
use serde_json::{Value, json};

/// Name of the class, of the tenant and of the platform's namespace that is opened to it.
const NAME: &str = "e2e-openings";
/// Networks of the dev super cluster's Services, nodes and pods.
const CLUSTER: [&str; 3] = ["10.96.0.0/12", "10.210.0.0/24", "10.211.0.0/16"];

/// All public addresses but one that is the cluster's, one port of a private one, and a namespace both ways.
fn pod_network() -> Value {
    let one = |address: &str| format!("{address}/32");
    let cluster = one(PUBLIC[1]);
    let cluster: Vec<&str> = CLUSTER.into_iter().chain([cluster.as_str()]).collect();
    json!({
        "ingressNamespaces": [NAME],
        "egressNamespaces": [NAME],
        "egress": [{"cidr": "0.0.0.0/0"}, {"cidr": one(PRIVATE[0]), "port": PORTS[0]}],
        "clusterRanges": cluster,
        "upstreamDNS": [one(PRIVATE[1])],
    })
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn t45_what_a_class_opens_is_reached_and_nothing_beside_it() {
    run(async || {
        let above = super_cluster().await?;
        let default = above.get(CLASS, "", "default").await?;
        let mut spec = default["spec"].clone();
        spec["podNetwork"] = pod_network();
        let class = json!({"metadata": {"name": NAME}, "spec": spec});
        let place = json!({"metadata": {"name": NAME}});
        above.create(CLASS, class).await?;
        let result = async {
            above.create(NAMESPACE, place).await?;
            Tenant::within(NAME, json!({"className": NAME}), opened).await
        }
        .await;
        above.delete(NAMESPACE, "", NAME).await?;
        above.delete(CLASS, "", NAME).await?;
        result
    });
}

async fn opened(tenant: &Tenant) -> anyhow::Result<()> {
    let own = Space::open(tenant.clone(), "work").await?;
    let other = Space::open(B.get().await?.clone(), &make::unique("openings")).await?;
    let spec = make::pod_spec(make::server());
    let result = async {
        platform::start(own.above(), NAME, "opened", spec).await?;
        let opened = platform::ready(own.above(), NAME, "opened").await?;
        let web = populate(&own).await?;
        let web_of_b = populate(&other).await?;
        let client = own.get(POD, "client").await?;
        let node = text(&client, "/spec/nodeName");
        Platform::beside(own.above(), &[node], &other.name, async |platform| {
            let mut targets = foreign(&own, &other, &web_of_b).await?;
            targets.extend(outside());
            let url = |address: &str| format!("http://{address}:8080/");
            targets.insert("opened pod".into(), url(&opened));
            targets.insert("closed pod".into(), url(&platform.address));
            out(&own, &other, &platform.free(), &targets).await?;
            let inside = [("own pod", url(&web)), ("b's pod", url(&web_of_b))];
            let inside = inside.map(|(name, url)| (name.to_owned(), url)).into();
            come_in(&platform.free(), &inside).await
        })
        .await
    }
    .await;
    other.side().delete(NAMESPACE, "", &other.name).await?;
    result
}

/// What stands for the world outside: each address at both ports.
fn outside() -> Targets {
    let names = [
        ("outside", PUBLIC[0]),
        ("cluster", PUBLIC[1]),
        ("private", PRIVATE[0]),
        ("dns outside", PRIVATE[1]),
    ];
    let each = |(name, address): (&str, &str)| {
        PORTS.map(|port| {
            let url = format!("http://{address}:{port}/");
            (format!("{name} {port}"), url)
        })
    };
    names.into_iter().flat_map(each).collect()
}

/// The platform's own kubectl, in a namespace.
fn of_platform(folder: &Folder, namespace: &str) -> anyhow::Result<Program> {
    let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
    kubectl_of(folder, &above, namespace)
}

/// What pods of the tenant reach.
async fn out(own: &Space, other: &Space, free: &str, targets: &Targets) -> anyhow::Result<()> {
    let folders = [Folder::make()?, Folder::make()?, Folder::make()?];
    let kubectl = kubectl_of(&folders[0], &own.tenant.kubeconfig, &own.name)?;
    let of_b = kubectl_of(&folders[1], &other.tenant.kubeconfig, &other.name)?;
    let above = of_platform(&folders[2], NAMESPACE_OF_TESTS)?;
    let reaches = async |expected: &[&str]| expect(&kubectl, "client", targets, expected).await;
    reaches(&["opened pod", "outside 18080", "outside 53", "private 18080"]).await?;
    // That the others answer is shown by those who may ask them.
    expect(&above, free, targets, &of_nobody(targets)).await?;
    expect(&of_b, "client", targets, &OF_B).await?;
    name_server(own, targets).await?;

    // A policy of the tenant's opens no more, whatever it names.
    let everywhere = json!({
        "podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}],
    });
    let policy = json!({"metadata": {"name": "everywhere"}, "spec": everywhere});
    own.create(NETWORK_POLICY, policy).await?;
    reaches(&["outside 18080", "outside 53", "private 18080"]).await?;
    own.delete(NETWORK_POLICY, "everywhere").await?;

    for (asked, reached) in [
        (
            json!([{"cidr": "203.0.113.0/24", "port": 53}]),
            &["opened pod", "outside 53"][..],
        ),
        (json!([]), &["opened pod"][..]),
    ] {
        let patch = json!({"spec": {"policy": {"egress": asked}}});
        own.above()
            .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, NAME, patch)
            .await?;
        reaches(reached).await?;
    }
    Ok(())
}

/// The tenant's CoreDNS, or who has its labels, asks the servers that the class names, and no longer the super cluster's.
async fn name_server(own: &Space, targets: &Targets) -> anyhow::Result<()> {
    const HOME: &str = "kube-system";
    let mut container = make::server();
    // Nobody must be sent to it.
    container["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    let labels = json!({"k8s-app": "kube-dns"});
    let metadata = json!({"name": "asker", "namespace": HOME, "labels": labels});
    let pod = json!({"metadata": metadata, "spec": make::pod_spec(container)});
    own.side().create(POD, pod).await?;
    let folder = Folder::make()?;
    let kubectl = kubectl_of(&folder, &own.tenant.kubeconfig, HOME)?;
    let expected = [
        "dns outside 53",
        "opened pod",
        "outside 18080",
        "outside 53",
        "private 18080",
    ];
    expect(&kubectl, "asker", targets, &expected).await?;
    own.side().delete(POD, HOME, "asker").await?;
    Ok(())
}

/// Who of the platform reaches the tenant's pods.
async fn come_in(free: &str, targets: &Targets) -> anyhow::Result<()> {
    let folders = [Folder::make()?, Folder::make()?];
    let opened = of_platform(&folders[0], NAME)?;
    expect(&opened, "opened", targets, &["own pod"]).await?;
    let above = of_platform(&folders[1], NAMESPACE_OF_TESTS)?;
    expect(&above, free, targets, &[]).await
}
