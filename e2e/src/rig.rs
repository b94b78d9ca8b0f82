//! A rig of plain API servers: a super cluster without nodes, tenants that Sublet didn't make, and a syncer, all of them
//! processes of this machine and none of them in a cluster.
//!
//! It stands beside the shared real cluster and is each test's own while it lasts, so that a test may restart, stop, wipe
//! and cut off what it likes; what it left whole serves the next one ([`stock`]). No manager runs in it unless a test
//! starts one: the tenants are `external` ones. What needs containers is tested elsewhere.

pub mod audit;
pub mod ending;
pub mod http;
mod inventory;
pub mod keys;
pub mod manager;
pub mod memory;
pub mod player;
pub mod process;
pub mod proxy;
pub mod room;
pub mod server;
mod stock;
pub mod syncer;

use crate::{
    faultproxy::Faultproxy,
    kind::{
        CLASS, CONTROL_PLANE, CRD, Kind, LEASE, NAMESPACE, ROLE, ROLE_BINDING, SECRET,
        SERVICE_ACCOUNT,
    },
    program::{Folder, Program},
    read::{condition, text},
    side::Side,
    space,
    tenant::{NAMESPACE_OF_TESTS, conditions},
    wait::{PODS, SOON, eventually},
};
use anyhow::{Context, ensure};
use futures::FutureExt;
use inventory::Inventory;
use keys::Authority;
use player::Player;
use serde_json::{Value, json};
use server::Server;
use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::Arc,
};
use stock::{Member, Servers};
use syncer::{Periods, Syncer};
use tenancy::{fleet::Replica, naming, tenant::TenantId};
use tokio::sync::Semaphore;

pub use stock::SERVICES;

/// Rigs at once. Each is several API servers, which take all of a small machine while they start; the shared cluster and
/// the tests on it must not starve beside them.
static RIGS: Semaphore = Semaphore::const_new(2);

/// What a rig is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Number of tenants.
    pub tenants: usize,
    /// Whether namespaces end and ServiceAccounts are made, by real controllers.
    pub controllers: bool,
    /// How long the syncer takes its time.
    pub periods: Periods,
    /// Further flags of the tenants' API servers.
    pub flags: Vec<String>,
    /// Further flags of the tenants' etcd.
    pub etcd_flags: Vec<String>,
    /// Further flags of the super cluster's API server.
    pub super_flags: Vec<String>,
    /// Further flags of its etcd.
    pub super_etcd_flags: Vec<String>,
    /// The tenants' minor version, such as `1.34`; the super cluster's when left out.
    pub version: Option<&'static str>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            tenants: 1,
            controllers: true,
            periods: Periods::default(),
            flags: vec![],
            etcd_flags: vec![],
            super_flags: vec![],
            super_etcd_flags: vec![],
            version: None,
        }
    }
}

impl Wish {
    /// Whether the API servers are such as most tests want.
    fn is_plain(&self) -> bool {
        self.controllers
            && self.flags.is_empty()
            && self.etcd_flags.is_empty()
            && self.super_flags.is_empty()
            && self.super_etcd_flags.is_empty()
            && self.version.is_none()
    }
}

/// A rig at work.
pub struct Rig {
    /// The super cluster's API server.
    pub above: Server,
    /// Its admin.
    pub side: Side,
    /// Between the syncer and the super cluster.
    pub proxy: Arc<Faultproxy>,
    /// The tenants.
    pub tenants: Vec<Guest>,
    /// The syncer.
    pub syncer: Syncer,
    before: Inventory,
    /// API servers of more tenants than this test wants.
    spare: Vec<Member>,
    run: PathBuf,
    player: Player,
    authority: Authority,
    // Last, so that it goes when nobody writes into it any more.
    folder: Folder,
}

/// A tenant of the rig.
pub struct Guest {
    /// Its API server.
    pub server: Server,
    /// Its admin.
    pub side: Side,
    /// Between the syncer and its API server.
    pub proxy: Arc<Faultproxy>,
    /// Name of its VirtualControlPlane.
    pub name: String,
    /// Identity.
    pub id: TenantId,
    before: Inventory,
}

impl Guest {
    /// The super namespace of one of its namespaces.
    pub fn twin(&self, namespace: &str) -> String {
        naming::super_namespace(&self.id, &self.name, namespace)
    }

    /// Makes the ServiceAccount that pods in `default` need, where no controller does.
    pub async fn account(&self) -> anyhow::Result<()> {
        let account = json!({"metadata": {"name": "default", "namespace": "default"}});
        self.side.create(SERVICE_ACCOUNT, account).await?;
        Ok(())
    }

    /// Makes a namespace with the ServiceAccount that pods need.
    pub async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let object = json!({"metadata": {"name": name}});
        self.side.create(NAMESPACE, object).await?;
        eventually(SOON, "the default ServiceAccount is there", async || {
            self.side.get(SERVICE_ACCOUNT, name, "default").await?;
            Ok(())
        })
        .await
    }
}

impl Rig {
    /// Makes a namespace in a tenant, waits for its super namespace, and gives the name of that.
    pub async fn twin_of(&self, tenant: usize, namespace: &str) -> anyhow::Result<String> {
        let guest = &self.tenants[tenant];
        guest.namespace(namespace).await?;
        let twin = guest.twin(namespace);
        eventually(SOON, "the namespace crosses", async || {
            Ok(self.side.get(NAMESPACE, "", &twin).await?)
        })
        .await?;
        Ok(twin)
    }
}

/// Runs a test on a rig of its own; on failure it prints what the syncer logged last.
///
/// # Panics
/// When the test fails; that is how a test fails.
pub fn on_rig(wish: Wish, body: impl AsyncFnOnce(&mut Rig) -> anyhow::Result<()>) {
    space::run(async || {
        let _place = RIGS.acquire().await?;
        let mut rig = Rig::start(&wish).await.context("no rig for the test")?;
        let result = AssertUnwindSafe(body(&mut rig)).catch_unwind().await;
        if !matches!(result, Ok(Ok(()))) {
            eprintln!("{}", rig.dump().await);
            if std::env::var_os("SUBLET_KEEP_RIG").is_some() {
                eprintln!("kept: {}", rig.folder.keep()?.display());
            }
        }
        match result {
            Ok(Ok(())) => {
                rig.undress().put_back(&wish);
                Ok(())
            }
            Ok(failed) => failed,
            Err(panic) => resume_unwind(panic),
        }
    });
}

impl Rig {
    /// Starts API servers and syncer, and waits until all tenants are synced.
    pub async fn start(wish: &Wish) -> anyhow::Result<Self> {
        let rig = Self::without_syncer(wish).await?;
        rig.syncer.start().await?;
        for tenant in 0..rig.tenants.len() {
            rig.synced(tenant).await?;
        }
        Ok(rig)
    }

    /// All but the syncer, which a test starts itself.
    pub async fn without_syncer(wish: &Wish) -> anyhow::Result<Self> {
        Self::dress(Servers::take(wish).await?, wish).await
    }

    /// Puts proxies before API servers, and makes tenants of them.
    async fn dress(servers: Servers, wish: &Wish) -> anyhow::Result<Self> {
        let Servers {
            above,
            tenants: mut members,
            player,
            authority,
            folder,
        } = servers;
        let run = folder.path().join("run");
        std::fs::create_dir(&run)?;
        let proxy = Arc::new(Faultproxy::start(&authority, above.server.port).await?);
        let syncer = Syncer::new(
            run.clone(),
            "a",
            &above.server.syncer_kubeconfig(proxy.port()),
            wish.periods,
        )?;
        let spare = members.split_off(wish.tenants);
        let mut tenants = vec![];
        for (number, member) in members.into_iter().enumerate() {
            let guest = Guest {
                proxy: Arc::new(Faultproxy::start(&authority, member.server.port).await?),
                name: member.server.name().to_owned(),
                id: TenantId::from_bits(rand::random()),
                side: member.side,
                server: member.server,
                before: member.before,
            };
            let kubeconfig = guest.server.syncer_kubeconfig(guest.proxy.port());
            announce(&above.side, (&guest.name, &guest.id), &kubeconfig, number).await?;
            tenants.push(guest);
        }
        Ok(Self {
            above: above.server,
            side: above.side,
            before: above.before,
            proxy,
            tenants,
            syncer,
            spare,
            run,
            player,
            authority,
            folder,
        })
    }

    /// The API servers without what was put before and into them by [`Rig::dress`].
    fn undress(self) -> Servers {
        self.syncer.kill();
        let _ = std::fs::remove_dir_all(&self.run);
        let guests = self.tenants.into_iter().map(|guest| Member {
            server: guest.server,
            side: guest.side,
            before: guest.before,
        });
        Servers {
            above: Member {
                server: self.above,
                side: self.side,
                before: self.before,
            },
            tenants: guests.chain(self.spare).collect(),
            player: self.player,
            authority: self.authority,
            folder: self.folder,
        }
    }

    /// Waits until the syncer says that it watches all of a tenant.
    pub async fn synced(&self, tenant: usize) -> anyhow::Result<()> {
        let name = &self.tenants[tenant].name;
        eventually(PODS, &format!("tenant {name} is synced"), async || {
            let vcp = self.vcp(tenant).await?;
            ensure!(condition(&vcp, "Synced") == "True", "{}", conditions(&vcp));
            Ok(())
        })
        .await
        .with_context(|| self.syncer.tail())
    }

    /// The VirtualControlPlane of a tenant.
    pub async fn vcp(&self, tenant: usize) -> anyhow::Result<Value> {
        let name = &self.tenants[tenant].name;
        Ok(self
            .side
            .get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name)
            .await?)
    }

    /// Another proxy, before any port of this machine.
    pub async fn another_proxy(&self, port: u16) -> anyhow::Result<Faultproxy> {
        Faultproxy::start(&self.authority, port).await
    }

    /// Another syncer beside the first, as yet not started.
    pub fn another_syncer(&self, name: &str) -> anyhow::Result<Syncer> {
        let kubeconfig = self.above.other_syncer_kubeconfig(self.proxy.port());
        Syncer::new(self.run.clone(), name, &kubeconfig, Periods::default())
    }

    /// Puts a syncer of another build in the place of the first; `kubeconfig` says by whose rights it works.
    pub async fn replace_syncer(
        &mut self,
        name: &str,
        program: PathBuf,
        kubeconfig: &str,
    ) -> anyhow::Result<()> {
        let other = Syncer::new(self.run.clone(), name, kubeconfig, Periods::default())?;
        self.put_in_place(other.built_as(program)).await
    }

    /// Puts another syncer in the place of the first.
    pub async fn put_in_place(&mut self, other: Syncer) -> anyhow::Result<()> {
        self.syncer.stop()?;
        self.syncer = other;
        self.syncer.start().await?;
        let name = &self.syncer.name;
        for tenant in 0..self.tenants.len() {
            eventually(PODS, "the other syncer leads", async || {
                let leader = self.leader(tenant).await?;
                ensure!(leader == *name, "{leader} leads");
                Ok(())
            })
            .await?;
            self.synced(tenant).await?;
        }
        Ok(())
    }

    /// Name of the syncer that leads a tenant, by the tenant's Lease; empty if none does.
    pub async fn leader(&self, tenant: usize) -> anyhow::Result<String> {
        let name = format!("tenant-{}", self.tenants[tenant].id);
        let lease = self.side.get(LEASE, api::SYSTEM_NAMESPACE, &name).await?;
        let holder = Replica::parse(text(&lease, "/spec/holderIdentity"));
        Ok(holder.map(|replica| replica.name).unwrap_or_default())
    }

    /// Who signs the certificates of the rig's servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// `sublet` with the kubeconfig of the super cluster's admin.
    pub fn sublet(&self) -> anyhow::Result<Program> {
        let file = self.run.join("admin.conf");
        std::fs::write(&file, self.above.admin_kubeconfig())?;
        Program::sublet_at(&file)
    }

    /// Where the rig's files are.
    pub fn folder(&self) -> &std::path::Path {
        &self.run
    }

    async fn dump(&self) -> String {
        let mut text = self.syncer.tail();
        for tenant in 0..self.tenants.len() {
            let vcp = self.vcp(tenant).await.unwrap_or_default();
            text += &format!("\n-- {}: {}", self.tenants[tenant].name, conditions(&vcp));
        }
        text
    }
}

/// The slice of a tenant's Services: past the 63rd in `10.201.0.0/16`, and so on.
pub fn slice(number: usize) -> String {
    let place = number + 1;
    format!("10.{}.{}.0/22", 200 + place / 64, 4 * (place % 64))
}

/// CRDs, and of the manifest all but the daemons, which run here as processes.
pub async fn install(side: &Side) -> anyhow::Result<()> {
    apply(side, include_str!("../../manifests/crds.yaml")).await?;
    apply(side, include_str!("../../manifests/install.yaml")).await?;
    eventually(SOON, "the CRDs are served", async || {
        side.list(CONTROL_PLANE, "", "").await?;
        side.list(CLASS, "", "").await?;
        Ok(())
    })
    .await?;
    apply(side, include_str!("../../manifests/class.yaml")).await?;
    // Tests say themselves what is limited.
    let unlimited = json!({"spec": {"quota": null, "stored": null}});
    side.merge(CLASS, "", "default", unlimited).await?;
    side.create(NAMESPACE, json!({"metadata": {"name": NAMESPACE_OF_TESTS}}))
        .await?;
    Ok(())
}

async fn apply(side: &Side, manifest: &str) -> anyhow::Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    for document in documents {
        let Some(kind) = installed(&document) else {
            continue;
        };
        let created = side.create(kind, document.clone()).await;
        created
            .with_context(|| format!("{} {}", document["kind"], document["metadata"]["name"]))?;
    }
    Ok(())
}

/// Kinds of the manifest that have a meaning without nodes.
fn installed(document: &Value) -> Option<Kind> {
    let kinds = [
        CRD,
        CLASS,
        NAMESPACE,
        SERVICE_ACCOUNT,
        ROLE,
        ROLE_BINDING,
        crate::kind::CLUSTER_ROLE,
        crate::kind::CLUSTER_ROLE_BINDING,
        crate::kind::PRIORITY_CLASS,
        crate::kind::CONFIG_MAP,
        crate::kind::ADMISSION_POLICY,
        crate::kind::ADMISSION_BINDING,
        crate::kind::PRIORITY_LEVEL,
        crate::kind::FLOW_SCHEMA,
    ];
    let is_kind =
        |kind: &Kind| document["kind"] == kind.name && document["apiVersion"] == kind.api_version;
    kinds.into_iter().find(is_kind)
}

/// Makes the Secret and the VirtualControlPlane of an external tenant, as `sublet attach` does.
pub async fn announce(
    side: &Side,
    (name, id): (&str, &TenantId),
    kubeconfig: &str,
    number: usize,
) -> anyhow::Result<()> {
    let secret = secret_name(name);
    side.create(SECRET, kubeconfig_secret(name, kubeconfig))
        .await?;
    let role = json!({
        "metadata": {"name": secret, "namespace": NAMESPACE_OF_TESTS},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret],
            "verbs": ["get", "list", "watch"]}],
    });
    side.create(ROLE, role).await?;
    let binding = json!({
        "metadata": {"name": secret, "namespace": NAMESPACE_OF_TESTS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": secret},
        "subjects": [{"kind": "ServiceAccount", "name": "sublet-syncer", "namespace": api::SYSTEM_NAMESPACE}],
    });
    side.create(ROLE_BINDING, binding).await?;
    let vcp = json!({
        "metadata": {"name": name, "namespace": NAMESPACE_OF_TESTS},
        "spec": {
            "identity": id.as_str(), "className": "default",
            "external": {"kubeconfigSecretRef": {"name": secret, "key": "value"}},
            "network": {"serviceCIDR": slice(number)},
            "sync": {"toSuper": [{"resource": "configmaps", "objects": "All"}, {"resource": "secrets", "objects": "All"}]},
        },
    });
    side.create(CONTROL_PLANE, vcp).await?;
    Ok(())
}

/// Name of the Secret with a tenant's kubeconfig.
pub fn secret_name(tenant: &str) -> String {
    format!("{tenant}-kubeconfig")
}

/// The Secret with a tenant's kubeconfig.
pub fn kubeconfig_secret(tenant: &str, kubeconfig: &str) -> Value {
    json!({
        "metadata": {"name": secret_name(tenant), "namespace": NAMESPACE_OF_TESTS},
        "stringData": {"value": kubeconfig},
    })
}

/// Whether an object belongs to a tenant by its label.
pub fn belongs(object: &Value, guest: &Guest) -> bool {
    text(object, "/metadata/labels/sublet.dev~1tenant") == guest.id.as_str()
}
