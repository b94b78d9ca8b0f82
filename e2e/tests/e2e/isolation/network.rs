//! T45, with real packets: a tenant's pods meet themselves, their DNS and their API server, and nobody else.

use super::{
    in_both,
    platform::{self, METADATA, Platform},
};
use anyhow::{Context, ensure};
use e2e::{
    kind::{DEPLOYMENT, NAMESPACE, NETWORK_POLICY, NODE, POD, SERVICE},
    make,
    program::{Folder, Program},
    read::{items, name, text},
    space::{Space, within},
    tenant::{A, NAMESPACE_OF_TESTS},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long a connection is tried.
const PATIENCE: &str = "--connect-timeout 3 --max-time 6";

/// What a pod tries to reach: what it is called, and its URL. Beside those that curl knows there are `dns://HOST:PORT`
/// and `udp://HOST:PORT`. Pods have no raw sockets to ping with.
pub(super) type Targets = BTreeMap<String, String>;

/// A shell command that succeeds if something answers there: a connection that isn't closed, an answer of whatever status, or
/// for what has no connections, a datagram that comes back.
fn tried(url: &str) -> String {
    let (scheme, place) = url.split_once("://").unwrap_or_default();
    let (host, port) = place.split_once(':').unwrap_or_default();
    match scheme {
        "dns" => format!(
            "dig +tries=1 +time=5 -p {port} @{host} kubernetes.default.svc.cluster.local A > /dev/null 2>&1"
        ),
        // agnhost tells its host name to whoever asks.
        "udp" => {
            format!("echo hostname | timeout 8 nc -u -w 5 {host} {port} 2> /dev/null | grep -q .")
        }
        // 28 is a time limit, 7 a refused connection, 6 a name that isn't known.
        _ => format!(
            "(curl -sk -o /dev/null {PATIENCE} '{url}'; case $? in 28|7|6) exit 1;; esac; exit 0)"
        ),
    }
}

/// Which targets a pod reaches, asked all at once.
async fn reached(kubectl: &Program, pod: &str, targets: &Targets) -> anyhow::Result<Vec<String>> {
    let mut script = String::new();
    for (target, url) in targets {
        script += &format!("( {} && echo \"{target}\") &\n", tried(url));
    }
    script += "wait\n";
    let said = kubectl
        .feed(&format!("exec -i {pod} -- sh"), &script)
        .await?
        .ok()?;
    let mut reached: Vec<String> = said.lines().map(str::to_owned).collect();
    reached.sort_unstable();
    Ok(reached)
}

pub(super) async fn expect(
    kubectl: &Program,
    pod: &str,
    targets: &Targets,
    expected: &[&str],
) -> anyhow::Result<()> {
    let mut expected: Vec<&str> = expected.to_vec();
    expected.sort_unstable();
    // CoreDNS believes for half a minute that a name isn't there.
    eventually(
        PODS,
        &format!("{pod} reaches {expected:?} only"),
        async || {
            let reached = reached(kubectl, pod, targets).await?;
            ensure!(reached == expected, "it reaches {reached:?}");
            Ok(())
        },
    )
    .await
}

/// A pod with curl that waits.
fn client() -> Value {
    make::pod_spec(make::container(make::AGNHOST, &["/agnhost", "pause"]))
}

/// Runs `web` behind the Service `web`, and `client`; returns the address of a pod of `web`.
pub(super) async fn populate(space: &Space) -> anyhow::Result<String> {
    let web = make::deployment("web", 1, make::pod_spec(make::server()));
    space.create(DEPLOYMENT, web).await?;
    space.create(SERVICE, make::service("web")).await?;
    let mut pod = json!({"metadata": {"name": "client", "labels": {"app": "client"}}});
    pod["spec"] = client();
    space.create(POD, pod).await?;
    space.rolled_out(DEPLOYMENT, "web", 1).await?;
    space.ready("client").await?;
    let pods = space.pods("app=web").await?;
    let pod = pods.first().context("a pod of web")?;
    Ok(text(pod, "/status/podIP").to_owned())
}

pub(super) fn kubectl_of(
    folder: &Folder,
    kubeconfig: &str,
    space: &str,
) -> anyhow::Result<Program> {
    let mut config: Value = serde_saphyr::from_str(kubeconfig)?;
    config["contexts"][0]["context"]["namespace"] = space.into();
    Program::kubectl(folder.path(), &config.to_string())
}

/// Where etcd of a tenant runs, and its URL.
pub(super) async fn etcd(space: &Space) -> anyhow::Result<(String, String)> {
    let place = space.tenant.control_plane_namespace();
    let pods = space
        .above()
        .list(POD, &place, "app.kubernetes.io/name=etcd")
        .await?;
    let pod = pods.first().context("a pod of etcd")?;
    let url = format!("https://{}:2379/", text(pod, "/status/podIP"));
    Ok((text(pod, "/spec/nodeName").to_owned(), url))
}

/// What stands outside of tenant A: in tenant B, in the super cluster and on its nodes.
pub(super) async fn foreign(a: &Space, b: &Space, web_of_b: &str) -> anyhow::Result<Targets> {
    let above = a.above();
    let mut targets = Targets::new();
    let mut add = |name: &str, url: String| drop(targets.insert(name.to_owned(), url));
    let service = b.get(SERVICE, "web").await?;
    add("b's pod", format!("http://{web_of_b}:8080/"));
    add(
        "b's service",
        format!("http://{}/", text(&service, "/spec/clusterIP")),
    );
    let api = b.side().get(SERVICE, "default", "kubernetes").await?;
    add(
        "b's api",
        format!("https://{}/", text(&api, "/spec/clusterIP")),
    );
    add("a's etcd", etcd(a).await?.1);
    add("b's etcd", etcd(b).await?.1);
    let place = b.tenant.control_plane_namespace();
    let servers = above
        .list(POD, &place, "app.kubernetes.io/name=kube-apiserver")
        .await?;
    let server = servers.first().context("a pod of b's API server")?;
    let address = text(server, "/status/podIP");
    add("b's api server", format!("https://{address}:6443/"));
    let api = above.get(SERVICE, "default", "kubernetes").await?;
    add(
        "super api",
        format!("https://{}/", text(&api, "/spec/clusterIP")),
    );
    let dns = above.get(SERVICE, "kube-system", "kube-dns").await?;
    add(
        "super dns",
        format!("http://{}:53/", text(&dns, "/spec/clusterIP")),
    );
    for node in above.list(NODE, "", "").await? {
        let internal = items(&node, "/status/addresses")
            .iter()
            .find(|address| address["type"] == "InternalIP")
            .context("a node has an address")?;
        let address = text(internal, "/address");
        add(
            &format!("kubelet of {}", name(&node)),
            format!("https://{address}:10250/"),
        );
        if name(&node) == "node1" {
            add("super api server", format!("https://{address}:6443/"));
        }
    }
    add(
        "metadata",
        format!("http://{METADATA}:{}/", platform::PORTS[0]),
    );
    Ok(targets)
}

/// What answers without a connection: tenant B's pod and DNS server, and the one of the super cluster.
pub(super) async fn datagrams(b: &Space, web_of_b: &str) -> anyhow::Result<Targets> {
    let (namespace, service) = ("kube-system", "kube-dns");
    let servers = b.side().list(POD, namespace, "k8s-app=kube-dns").await?;
    let server = servers.first().context("a DNS server of b's")?;
    let own = b.side().get(SERVICE, namespace, service).await?;
    let above = b.above().get(SERVICE, namespace, service).await?;
    let dns = |service: &Value| format!("dns://{}:53", text(service, "/spec/clusterIP"));
    let port = &server["spec"]["containers"][0]["ports"][0]["containerPort"];
    Ok(Targets::from([
        ("b's pod by UDP".into(), format!("udp://{web_of_b}:8081")),
        (
            "b's dns pod".into(),
            format!("dns://{}:{port}", text(server, "/status/podIP")),
        ),
        ("b's dns service".into(), dns(&own)),
        ("super dns by UDP".into(), dns(&above)),
    ]))
}

/// What of that tenant B reaches.
const DATAGRAMS_OF_B: [&str; 3] = ["b's dns pod", "b's dns service", "b's pod by UDP"];

/// What of it tenant B reaches.
pub(super) const OF_B: [&str; 4] = ["b's api", "b's api server", "b's pod", "b's service"];

/// What of it the platform reaches: all that is no tenant's.
pub(super) fn of_nobody(targets: &Targets) -> Vec<&str> {
    let names = targets.keys().map(String::as_str);
    names.filter(|target| !target.contains("'s ")).collect()
}

#[test]
fn t45_pods_reach_their_own_tenant_by_name_and_nothing_else() {
    in_both("packets", async |a, b| {
        populate(a).await?;
        let web_of_b = populate(b).await?;
        let folders = [Folder::make()?, Folder::make()?, Folder::make()?];
        let of_a = kubectl_of(&folders[0], &a.tenant.kubeconfig, &a.name)?;
        let of_b = kubectl_of(&folders[1], &b.tenant.kubeconfig, &b.name)?;
        let above = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        let above = kubectl_of(&folders[2], &above, NAMESPACE_OF_TESTS)?;
        let own = Targets::from([
            ("own service".into(), "http://web/hostname".into()),
            (
                "own service in full".into(),
                format!("http://web.{}.svc.cluster.local/hostname", a.name),
            ),
            (
                "own api".into(),
                "https://kubernetes.default.svc/version".into(),
            ),
            (
                "own dns".into(),
                "http://kube-dns.kube-system.svc:9153/metrics".into(),
            ),
        ]);
        let all_own: Vec<&str> = own.keys().map(String::as_str).collect();
        expect(&of_a, "client", &own, &all_own).await?;
        let token = "exec -i client -- sh";
        let script = "cd /var/run/secrets/kubernetes.io/serviceaccount; curl -s --max-time 10 --cacert ca.crt -H \"Authorization: Bearer $(cat token)\" https://kubernetes.default.svc/version";
        of_a.feed(token, script).await?.says(&["gitVersion"])?;

        let node = text(&a.get(POD, "client").await?, "/spec/nodeName").to_owned();
        let (etcd_of_a, etcd_of_b) = (etcd(a).await?.0, etcd(b).await?.0);
        let nodes = [node.as_str(), &etcd_of_a, &etcd_of_b];
        Platform::beside(a.above(), &nodes, &a.name, async |platform| {
            let mut foreign = foreign(a, b, &web_of_b).await?;
            foreign.extend(datagrams(b, &web_of_b).await?);
            let of_own = [&OF_B[..], &DATAGRAMS_OF_B].concat();
            // That something answers at all is shown by whoever may ask it, and etcd whom no policy holds back: its own node.
            expect(&of_b, "client", &foreign, &of_own).await?;
            expect(&above, &platform.free(), &foreign, &of_nobody(&foreign)).await?;
            for (etcd, node) in [("a's etcd", &etcd_of_a), ("b's etcd", &etcd_of_b)] {
                let only = Targets::from([(etcd.to_owned(), foreign[etcd].clone())]);
                expect(&above, &platform.on(node), &only, &[etcd]).await?;
            }
            expect(&of_a, "client", &foreign, &[]).await
        })
        .await
    });
}

#[test]
fn policies_of_a_tenant_hold_inside_it() {
    within(A, "policies", async |space| {
        let web = populate(space).await?;
        let folder = Folder::make()?;
        let kubectl = kubectl_of(&folder, &space.tenant.kubeconfig, &space.name)?;
        let neighbour = Space::open(space.tenant.clone(), &format!("{}-n", space.name)).await?;
        neighbour.pod("client", client()).await?;
        neighbour.ready("client").await?;
        let beside = Folder::make()?;
        let beside = kubectl_of(&beside, &space.tenant.kubeconfig, &neighbour.name)?;
        let targets = Targets::from([
            ("pod".into(), format!("http://{web}:8080/")),
            (
                "service".into(),
                format!("http://web.{}.svc.cluster.local/", space.name),
            ),
        ]);
        let (all, none): (&[&str], &[&str]) = (&["pod", "service"], &[]);
        expect(&kubectl, "client", &targets, all).await?;
        expect(&beside, "client", &targets, all).await?;

        let policy = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let deny =
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]});
        space.create(NETWORK_POLICY, policy("deny", deny)).await?;
        expect(&kubectl, "client", &targets, none).await?;
        expect(&beside, "client", &targets, none).await?;

        let one = json!({
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}],
        });
        space.create(NETWORK_POLICY, policy("client", one)).await?;
        expect(&kubectl, "client", &targets, all).await?;
        expect(&beside, "client", &targets, none).await?;

        // An empty selector of namespaces means the tenant's.
        let every = json!({
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {}}]}],
        });
        space.create(NETWORK_POLICY, policy("every", every)).await?;
        expect(&beside, "client", &targets, all).await?;

        let silent =
            json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]});
        space
            .create(NETWORK_POLICY, policy("silent", silent))
            .await?;
        expect(&kubectl, "client", &targets, none).await?;
        for name in ["deny", "client", "every", "silent"] {
            space.delete(NETWORK_POLICY, name).await?;
        }
        expect(&kubectl, "client", &targets, all).await?;
        neighbour
            .side()
            .delete(NAMESPACE, "", &neighbour.name)
            .await?;
        Ok(())
    });
}

#[test]
fn a_port_outside_is_open_for_as_long_as_the_service_has_one() {
    within(A, "outside", async |space| {
        populate(space).await?;
        let patch = json!({"spec": {"type": "NodePort"}});
        space.merge(SERVICE, "web", patch).await?;
        let port = eventually(SOON, "the Service has a node port", async || {
            let service = space.twin(SERVICE, "web").await?;
            let port = service["spec"]["ports"][0]["nodePort"].as_u64();
            port.context("no node port yet")
        })
        .await?;
        let mut reached = vec![];
        for node in space.above().list(NODE, "", "").await? {
            let address = text(&node, "/status/addresses/0/address").to_owned();
            eventually(SOON, &format!("{address}:{port} answers"), async || {
                let url: std::net::SocketAddr = format!("{address}:{port}").parse()?;
                let limit = std::time::Duration::from_secs(2);
                let connected = tokio::time::timeout(limit, tokio::net::TcpStream::connect(url));
                connected.await.context("no answer")??;
                Ok(())
            })
            .await?;
            reached.push(address);
        }
        ensure!(!reached.is_empty(), "no node was asked");
        space
            .merge(SERVICE, "web", json!({"spec": {"type": "ClusterIP"}}))
            .await?;
        eventually(SOON, "the port's NetworkPolicy is gone", async || {
            let policy = space
                .find_twin(NETWORK_POLICY, "sublet-service-web")
                .await?;
            ensure!(policy.is_none());
            Ok(())
        })
        .await
    });
}
