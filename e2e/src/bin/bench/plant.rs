//! A super cluster and tenants that are simulated, and real syncers between them.

use crate::{
    sim::{Realm, Simulated},
    world::raw,
};
use anyhow::{Context, ensure};
use e2e::bench::process::Processes;
use e2e::{
    faultproxy::link::Link,
    kind::CONTROL_PLANE,
    program::Folder,
    read::condition,
    rig::{
        self,
        syncer::{Periods, Syncer},
    },
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::eventually,
};
use futures::{StreamExt, TryStreamExt, stream};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;
use tenancy::{naming, tenant::TenantId};

/// Requests under way at once while tenants are announced.
const AT_ONCE: usize = 16;
/// Until so many tenants are synced that fill a machine.
const START: Duration = Duration::from_secs(600);

/// All of it; it ends with its handle.
pub(crate) struct Plant {
    /// The super cluster.
    pub(crate) above: Simulated,
    /// Its admin.
    pub(crate) side: Side,
    /// The tenants.
    pub(crate) guests: Vec<Guest>,
    realm: Realm,
    // Last, so that it goes when nobody writes into it any more.
    folder: Folder,
}

/// A simulated tenant.
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) id: TenantId,
    pub(crate) server: Simulated,
    /// What stands between it and the syncers, if it is to be cut off.
    pub(crate) link: Option<Link>,
}

impl Guest {
    /// The super namespace of one of its namespaces.
    pub(crate) fn twin(&self, namespace: &str) -> String {
        naming::super_namespace(&self.id, &self.name, namespace)
    }
}

impl Plant {
    /// Starts all API servers; the first tenant is the one that can be cut off.
    pub(crate) async fn start(tenants: usize) -> anyhow::Result<Self> {
        allow_files()?;
        let folder = Folder::make()?;
        let realm = Realm::make()?;
        let above = Simulated::start(&realm).await?;
        let side = above.side(&realm, "the simulated super cluster").await?;
        rig::install(&side).await?;
        let mut guests = vec![];
        for number in 0..tenants {
            let server = Simulated::start(&realm).await?;
            let link = match number {
                0 => Some(Link::start(server.port()).await?),
                _ => None,
            };
            guests.push(Guest {
                name: format!("t{number}"),
                id: TenantId::from_bits(rand::random()),
                server,
                link,
            });
        }
        Ok(Self {
            above,
            side,
            guests,
            realm,
            folder,
        })
    }

    /// A syncer that isn't started yet; its token is its name.
    pub(crate) fn syncer(&self, name: &str, patrol_period: u64) -> anyhow::Result<Syncer> {
        let kubeconfig = self.realm.kubeconfig(self.above.port(), name);
        let periods = Periods {
            patrol: patrol_period,
            ..Periods::default()
        };
        Syncer::new(self.folder.path().to_owned(), name, &kubeconfig, periods)
    }

    /// Tells the syncers of all tenants.
    pub(crate) async fn announce(&self) -> anyhow::Result<()> {
        stream::iter(self.guests.iter().enumerate())
            .map(async |(number, guest)| {
                let link = guest.link.as_ref().map(Link::port);
                let port = link.unwrap_or_else(|| guest.server.port());
                let kubeconfig = self.realm.kubeconfig(port, "syncer");
                rig::announce(&self.side, (&guest.name, &guest.id), &kubeconfig, number).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Waits until the syncers say of all tenants that they watch them.
    pub(crate) async fn synced(&self) -> anyhow::Result<()> {
        eventually(START, "all simulated tenants are synced", async || {
            let all = self.above.all(CONTROL_PLANE.name);
            let missing = all
                .iter()
                .filter(|vcp| condition(vcp, "Synced") != "True")
                .count();
            ensure!(
                missing == 0,
                "{missing} of {} aren't; not served was {:?}",
                all.len(),
                self.gaps()
            );
            Ok(())
        })
        .await
    }

    /// What the syncer says of a tenant: the status of the condition `Synced`.
    pub(crate) fn is_synced(&self, guest: &Guest) -> bool {
        let vcp = self
            .above
            .find(CONTROL_PLANE.name, NAMESPACE_OF_TESTS, &guest.name);
        vcp.is_some_and(|vcp| condition(&vcp, "Synced") == "True")
    }

    /// What was asked for and isn't simulated.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let guests = self.guests.iter().map(|guest| &guest.server);
        let mut gaps: Vec<String> = guests
            .chain([&self.above])
            .flat_map(|server| server.counts().gaps())
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        gaps
    }
}

/// The process of a syncer that runs.
pub(crate) fn processes(syncer: &Syncer) -> anyhow::Result<Processes> {
    let pid = syncer.pid().context("the syncer runs")?;
    Ok(Processes::new([raw(pid)]))
}

/// Takes all file handles that it may: each tenant is a listener and a few connections. The syncer inherits it.
fn allow_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
