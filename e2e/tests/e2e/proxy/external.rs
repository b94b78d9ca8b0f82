//! A tenant whose API server Sublet doesn't run: kubectl's verbs on pods, once that API server knows the way out.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    core::seen_from,
    kind::{
        CONFIG_MAP, CONTROL_PLANE, NAMESPACE, NETWORK_POLICY, POD, SECRET, SERVICE, SERVICE_ACCOUNT,
    },
    make,
    program::{Folder, Program},
    read::{condition, text},
    rig::{
        keys::Authority,
        server::{Audit, Plan, Server},
    },
    settings,
    side::Side,
    space::run,
    tenant::{self, A, NAMESPACE_OF_TESTS, conditions, super_cluster},
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::path::Path;
use tenancy::{route, tenant::TenantId};

/// Name of the tenant.
const NAME: &str = "e2e-external";
/// The Service and the NetworkPolicy by which the way out is reached from outside, as the docs have them.
const DOOR: &str = "sublet-way-out";
/// Where the flags say that the files are.
const FOLDER: &str = "/etc/kubernetes/pki/sublet";

#[test]
fn pods_of_a_tenant_that_was_attached_are_reached_once_its_api_server_knows_the_way() {
    run(async || {
        let above = super_cluster().await?;
        let folder = Folder::make()?;
        let result = attached(&above, folder.path()).await;
        tenant::delete(&above, NAME).await?;
        let own = api::SYSTEM_NAMESPACE;
        above.delete(SERVICE, own, DOOR).await?;
        above.delete(NETWORK_POLICY, own, DOOR).await?;
        result
    });
}

async fn attached(above: &Side, folder: &Path) -> anyhow::Result<()> {
    let mut server = start(folder).await?;
    let sublet = Program::sublet()?;
    let way = open_the_way(above).await?;
    let file = folder.join("tenant.conf").display().to_string();
    let attach = async |more: &str| {
        let line =
            format!("attach {NAME} -n {NAMESPACE_OF_TESTS} --tenant-kubeconfig {file} {more}");
        sublet.run(&line).await
    };
    attach("").await?.says(&["is attached and synced"])?;
    let theirs = server.side().await?;
    pod(&theirs).await?;

    // So far there is no way, and everybody is told.
    let kubectl = Program::kubectl(folder, &server.admin_kubeconfig())?;
    let logs = "-n work logs web";
    ensure!(kubectl.run(logs).await?.code != 0, "there is no way yet");
    let vcp = offer(above, "False").await?;
    ensure!(
        conditions(&vcp).contains("NotAskedFor"),
        "{}",
        conditions(&vcp)
    );
    let describe = format!("describe {NAME} -n {NAMESPACE_OF_TESTS}");
    sublet.run(&describe).await?.says(&["Way out", "exec"])?;

    attach(&format!("--way-out {way}")).await?.ok()?;
    let vcp = offer(above, "True").await?;
    let secret = format!("{NAME}-way-out");
    ensure!(conditions(&vcp).contains(&secret), "{}", conditions(&vcp));
    let secret = above.get(SECRET, NAMESPACE_OF_TESTS, &secret).await?;
    let flags = unpack(&secret, folder)?;
    server.start_anew_with(flags).await?;

    // The proxy's certificate has the host within a minute.
    eventually(2 * PODS, "the pod's logs arrive", async || {
        kubectl.run(logs).await?.says(&["started"])
    })
    .await?;
    let exec = "-n work exec web -- cat /proc/1/comm";
    kubectl.run(exec).await?.says(&["sh"])?;
    let metrics = format!("apply -f {}", folder.join("metrics.json").display());
    kubectl.run(&metrics).await?.ok()?;
    eventually(2 * PODS, "what the pod uses is told", async || {
        kubectl
            .run("-n work top pod web")
            .await?
            .says(&["web", "CPU(cores)"])
    })
    .await?;

    // Taken back: the way is shut, though the API server still has its files.
    let none = json!({"spec": {"external": {"wayOut": null}}});
    above
        .merge(CONTROL_PLANE, NAMESPACE_OF_TESTS, NAME, none)
        .await?;
    let vcp = offer(above, "False").await?;
    let id = TenantId::parse(text(&vcp, "/spec/identity"))?;
    eventually(SOON, "nobody is let in any more", async || {
        let left = above
            .find(CONFIG_MAP, api::SYSTEM_NAMESPACE, &route::name(&id))
            .await?;
        ensure!(left.is_none(), "the route is still there");
        ensure!(kubectl.run(exec).await?.code != 0, "exec still works");
        Ok(())
    })
    .await
}

/// An API server on this machine that the super cluster's pods reach, and a kubeconfig for the syncer.
async fn start(folder: &Path) -> anyhow::Result<Server> {
    let plan = Plan {
        name: "abroad".into(),
        // Not of the super cluster: Services aren't what this is about.
        services: "10.99.0.0/24".into(),
        syncer_groups: "system:masters",
        controllers: true,
        version: None,
        etcd_flags: vec![],
        flags: vec!["--bind-address=0.0.0.0".into()],
        audit: Audit::Nothing,
    };
    let mut server = Server::start(folder, &Authority::make()?, plan)?;
    server.ready().await?;
    let admin = std::fs::read_to_string(settings::kubeconfig()?)?;
    let admin: Value = serde_saphyr::from_str(&admin)?;
    let here = seen_from(text(&admin, "/clusters/0/cluster/server"))?;
    let mut config: Value = serde_json::from_str(&server.syncer_kubeconfig(server.port))?;
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster["server"] = format!("https://{here}:{}", server.port).into();
    cluster["tls-server-name"] = "localhost".into();
    std::fs::write(folder.join("tenant.conf"), config.to_string())?;
    Ok(server)
}

/// Lets the way out be reached from this machine; returns where.
async fn open_the_way(above: &Side) -> anyhow::Result<String> {
    let proxy = json!({"app.kubernetes.io/name": api::keys::PROXY});
    let metadata = json!({"name": DOOR, "namespace": api::SYSTEM_NAMESPACE});
    let ports = json!([{"name": "way-out", "port": 8131, "targetPort": "way-out"}]);
    let service = json!({"metadata": metadata, "spec": {"type": "NodePort", "selector": proxy, "ports": ports}});
    let service = above.create(SERVICE, service).await?;
    let policy = json!({"metadata": metadata, "spec": {
        "podSelector": {"matchLabels": proxy}, "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": 8131}]}],
    }});
    above.create(NETWORK_POLICY, policy).await?;
    let port = &service["spec"]["ports"][0]["nodePort"];
    // Clients reach the front door at a node, too.
    let config: Value = serde_saphyr::from_str(&A.get().await?.kubeconfig)?;
    let door = text(&config, "/clusters/0/cluster/server").strip_prefix("https://");
    let (node, _) = door
        .and_then(|door| door.rsplit_once(':'))
        .context("the front door is at a host and a port")?;
    Ok(format!("{node}:{port}"))
}

/// A pod in a namespace of the tenant, which runs.
async fn pod(theirs: &Side) -> anyhow::Result<()> {
    let work = json!({"metadata": {"name": "work"}});
    theirs.create(NAMESPACE, work).await?;
    eventually(SOON, "the default ServiceAccount is there", async || {
        theirs.get(SERVICE_ACCOUNT, "work", "default").await?;
        Ok(())
    })
    .await?;
    let container = make::shell("echo started; while :; do sleep 1; done");
    let metadata = json!({"name": "web", "namespace": "work"});
    let pod = json!({"metadata": metadata, "spec": make::pod_spec(container)});
    theirs.create(POD, pod).await?;
    eventually(PODS, "the pod runs", async || {
        let pod = theirs.get(POD, "work", "web").await?;
        ensure!(condition(&pod, "Ready") == "True", "{}", pod["status"]);
        Ok(())
    })
    .await
}

/// Waits until the VirtualControlPlane says whether a way is offered.
async fn offer(above: &Side, status: &str) -> anyhow::Result<Value> {
    eventually(SOON, "it is told whether a way is offered", async || {
        let vcp = above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, NAME).await?;
        let said = condition(&vcp, "WayOutOffered");
        ensure!(said == status, "{}", conditions(&vcp));
        Ok(vcp)
    })
    .await
}

/// Writes the files where this machine's API server finds them; returns its flags.
fn unpack(secret: &Value, folder: &Path) -> anyhow::Result<Vec<String>> {
    let here = folder.display().to_string();
    let mut flags = vec![];
    let data = secret["data"].as_object().context("the Secret has data")?;
    for (name, encoded) in data {
        let encoded = encoded.as_str().context("data are text")?;
        let text = String::from_utf8(BASE64_STANDARD.decode(encoded)?)?;
        let text = text.replace(FOLDER, &here);
        if name == "flags" {
            flags = text.lines().map(str::to_owned).collect();
        }
        std::fs::write(folder.join(name), text)?;
    }
    ensure!(!flags.is_empty(), "the Secret has no flags");
    Ok(flags)
}
