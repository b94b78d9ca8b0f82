//! Cluster API's core controllers, run on this machine against the super cluster as a platform would run them.
//!
//! They have the rights that their own manifests give them, not an admin's, and their webhooks are registered. One core
//! serves all tests of the process and ends with it.

use crate::{
    account,
    kind::{CLUSTER_ROLE_BINDING, NAMESPACE, SERVICE_ACCOUNT},
    program::{Folder, Outcome, Program},
    read::text,
    rig::{keys::Authority, process::Process, server::free_ports},
    settings,
    side::Side,
    tenant::super_cluster,
    wait::{PODS, eventually},
};
use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{fs, net::IpAddr, net::UdpSocket, path::PathBuf};
use tokio::sync::OnceCell;

/// Namespace of core's account.
const NAMESPACE_OF_CORE: &str = "capi-system";
/// Account that core runs under.
const ACCOUNT: &str = "capi-manager";

/// Cluster API at work.
pub struct Core {
    /// The super cluster, as admin.
    pub above: Side,
    /// kubectl with the admin's kubeconfig.
    pub kubectl: Program,
    /// clusterctl with the admin's kubeconfig.
    pub clusterctl: Program,
    process: Process,
    log: PathBuf,
    _folder: Folder,
}

impl Core {
    /// The core that all tests share; the first caller starts it.
    pub async fn get() -> anyhow::Result<&'static Self> {
        static CORE: OnceCell<Core> = OnceCell::const_new();
        CORE.get_or_try_init(Self::start).await
    }

    async fn start() -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let above = super_cluster().await?;
        let admin = fs::read_to_string(settings::kubeconfig()?)?;
        let kubectl = Program::kubectl(folder.path(), &admin)?;
        let source = settings::cluster_api_source()?;
        let path = |file: &str| source.join(file).display().to_string();
        let apply = async |what: &str| {
            let line = format!("apply --server-side --force-conflicts -f {what}");
            kubectl.run(&line).await.and_then(Outcome::ok)
        };
        apply(&path("config/crd/bases")).await?;
        // As clusterctl does with what it installs: it moves objects of such kinds alone.
        let line = format!(
            "label --overwrite -f {} clusterctl.cluster.x-k8s.io=",
            path("config/crd/bases")
        );
        kubectl.run(&line).await?.ok()?;
        apply(&path("config/rbac/aggregated_role.yaml")).await?;
        apply(&path("config/rbac/role.yaml")).await?;
        let line =
            "label --overwrite clusterrole manager-role cluster.x-k8s.io/aggregate-to-manager=true";
        kubectl.run(line).await?.ok()?;
        account(&above).await?;

        let server: Value = serde_saphyr::from_str(&admin)?;
        let server = text(&server, "/clusters/0/cluster/server");
        let own = account::kubeconfig(&above, &admin, NAMESPACE_OF_CORE, ACCOUNT).await?;
        let file = folder.path().join("core.kubeconfig");
        fs::write(&file, own)?;

        let authority = Authority::make()?;
        let address = seen_from(server)?;
        let pair = authority.server_at(address)?;
        fs::write(folder.path().join("tls.crt"), pair.certificate)?;
        fs::write(folder.path().join("tls.key"), pair.key)?;
        let [health, webhooks] = free_ports()?;
        let flags = [
            format!("--kubeconfig={}", file.display()),
            format!("--webhook-port={webhooks}"),
            format!("--webhook-cert-dir={}", folder.path().display()),
            format!("--health-addr=127.0.0.1:{health}"),
            "--diagnostics-address=0".into(),
            "--feature-gates=ClusterTopology=true,MachinePool=false".into(),
            "-v=2".into(),
        ];
        let program = settings::part("cluster-api")?;
        let mut process = Process::start(folder.path(), "cluster-api", &program, &flags)?;
        eventually(PODS, "Cluster API's core is ready", async || {
            process.check()?;
            crate::rig::http::get(health, "/readyz").await?;
            Ok(())
        })
        .await
        .with_context(|| process.tail())?;

        let manifests = fs::read_to_string(source.join("config/webhook/manifests.yaml"))?;
        let place = format!("https://{}", std::net::SocketAddr::new(address, webhooks));
        let registered = registrations(&manifests, &place, &authority.certificate)?;
        let file = folder.path().join("webhooks.json");
        fs::write(&file, registered.to_string())?;
        apply(&file.display().to_string()).await?;
        Ok(Self {
            above,
            clusterctl: kubectl.like(settings::part("clusterctl")?),
            kubectl,
            log: folder.path().join("cluster-api.log"),
            process,
            _folder: folder,
        })
    }

    /// Fails if core was refused something: then rights are missing that a platform would miss as well.
    pub fn check_rights(&self) -> anyhow::Result<()> {
        let log = fs::read_to_string(&self.log)?;
        let refused: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("is forbidden"))
            .take(3)
            .collect();
        ensure!(
            refused.is_empty(),
            "core was refused:\n{}",
            refused.join("\n")
        );
        Ok(())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

async fn account(above: &Side) -> anyhow::Result<()> {
    let namespace = json!({"metadata": {"name": NAMESPACE_OF_CORE}});
    account::present(above.create(NAMESPACE, namespace).await)?;
    let account = json!({"metadata": {"name": ACCOUNT, "namespace": NAMESPACE_OF_CORE}});
    account::present(above.create(SERVICE_ACCOUNT, account).await)?;
    let binding = json!({
        "metadata": {"name": "capi-manager"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "aggregated-manager-role"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE_OF_CORE}],
    });
    account::present(above.create(CLUSTER_ROLE_BINDING, binding).await)?;
    Ok(())
}

/// The address of this machine by which the API server at `server` reaches it: the one that packets to it leave from.
///
/// # Errors
/// When `server` isn't an `https` URL, or no packet would find a way there.
pub fn seen_from(server: &str) -> anyhow::Result<IpAddr> {
    let host = server.strip_prefix("https://").context("it speaks TLS")?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(host)?;
    Ok(socket.local_addr()?.ip())
}

/// Core's webhook configurations, led to a place on this machine instead of to a Service.
fn registrations(manifests: &str, place: &str, authority: &str) -> anyhow::Result<Value> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
    let authority = BASE64_STANDARD.encode(authority);
    for document in &mut documents {
        for webhook in document["webhooks"].as_array_mut().into_iter().flatten() {
            let path = webhook["clientConfig"]["service"]["path"]
                .as_str()
                .context("each webhook has a path")?;
            webhook["clientConfig"] =
                json!({"url": format!("{place}{path}"), "caBundle": authority});
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": documents}))
}
