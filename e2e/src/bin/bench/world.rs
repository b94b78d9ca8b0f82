//! What is measured: a super cluster, tenants and a syncer, started here as plain processes or given by kubeconfigs.

use crate::{node, pod::Tokens};
use anyhow::{Context, ensure};
use e2e::bench::process::Processes;
use e2e::{
    kind::CONTROL_PLANE,
    program::Folder,
    read::condition,
    rig::{
        self,
        keys::Authority,
        server::{Audit, Plan, Server},
        syncer::{Periods, Syncer},
    },
    side::Side,
    tenant::NAMESPACE_OF_TESTS,
    wait::eventually,
};
use std::{path::PathBuf, time::Duration};
use tenancy::tenant::TenantId;

/// The node that the player binds pods to; it exists for the API only.
pub(crate) const NODE: &str = "bench-node";
/// A dozen API servers that start at once on two processors take a while.
const START: Duration = Duration::from_secs(300);

/// A super cluster and its tenants.
pub(crate) struct World {
    /// Admin of the super cluster.
    pub(crate) above: Side,
    /// Admins of the tenants.
    pub(crate) tenants: Vec<Side>,
    /// The syncer's process, if it is on this machine.
    pub(crate) syncer: Option<Processes>,
    /// What was started here.
    pub(crate) rig: Option<Rig>,
    node: node::Fake,
}

/// API servers and a syncer that this program started.
pub(crate) struct Rig {
    pub(crate) above: Server,
    pub(crate) tenants: Vec<Server>,
    pub(crate) ids: Vec<TenantId>,
    pub(crate) syncer: Syncer,
    /// How many of the tenants the syncer was told of.
    pub(crate) announced: usize,
    // Last, so that it goes when nobody writes into it any more.
    _folder: Folder,
}

/// Clusters that are there already.
pub(crate) struct Given {
    /// Kubeconfig of the super cluster's admin.
    pub(crate) above: PathBuf,
    /// Kubeconfigs of the tenants' admins.
    pub(crate) tenants: Vec<PathBuf>,
    /// The syncer's process.
    pub(crate) syncer: Option<u32>,
}

impl World {
    /// Starts API servers, and the syncer with the first `announced` of the tenants.
    pub(crate) async fn start(
        tenants: usize,
        announced: usize,
        tokens: Tokens,
    ) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let authority = Authority::make()?;
        let plan = |name: String, services: String, syncer_groups| Plan {
            name,
            services,
            syncer_groups,
            controllers: tokens == Tokens::On,
            version: None,
            etcd_flags: vec![],
            flags: match tokens {
                // What a control plane of Sublet's own is started with: tokens live as long as they say.
                Tokens::On => vec!["--service-account-extend-token-expiration=false".into()],
                Tokens::Off => vec!["--disable-admission-plugins=ServiceAccount".into()],
            },
            audit: Audit::Nothing,
        };
        let plan_above = plan(
            "super".into(),
            rig::SERVICES.into(),
            "system:serviceaccounts",
        );
        let mut above = Server::start(folder.path(), &authority, plan_above)?;
        // The tenants wait, so that all are ready sooner than by a race of a dozen.
        above.ready().await?;
        let side = above.side().await?;
        rig::install(&side).await?;
        let syncer = Syncer::new(
            folder.path().to_owned(),
            "bench",
            &above.syncer_kubeconfig(above.port),
            Periods {
                patrol: 3600,
                ..Periods::default()
            },
        )?;
        let (mut servers, mut sides, mut ids) = (vec![], vec![], vec![]);
        for number in 0..tenants {
            let plan = plan(
                format!("t{number}"),
                rig::slice(number),
                // An external tenant's owner gives the syncer what rights there are.
                "system:masters",
            );
            servers.push(Server::start(folder.path(), &authority, plan)?);
        }
        for server in &mut servers {
            server.ready().await?;
            sides.push(server.side().await?);
            ids.push(TenantId::from_bits(rand::random()));
        }
        let node = node::Fake::make(&side).await?;
        let mut world = Self {
            above: side,
            tenants: sides,
            syncer: None,
            rig: Some(Rig {
                above,
                tenants: servers,
                ids,
                syncer,
                announced: 0,
                _folder: folder,
            }),
            node,
        };
        world.start_syncer().await?;
        world.announce(announced).await?;
        Ok(world)
    }

    /// Connects to clusters that are there.
    pub(crate) async fn connect(given: &Given) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let above = Side::connect("the super cluster", &read(&given.above)?).await?;
        let mut tenants = vec![];
        for path in &given.tenants {
            let name = path.display().to_string();
            tenants.push(Side::connect(&name, &read(path)?).await?);
        }
        let node = node::Fake::make(&above).await?;
        Ok(Self {
            above,
            tenants,
            syncer: given.syncer.map(|pid| Processes::new([pid])),
            rig: None,
            node,
        })
    }

    /// Starts the syncer, for the first time or again.
    pub(crate) async fn start_syncer(&mut self) -> anyhow::Result<()> {
        let rig = self.rig()?;
        rig.syncer.launch()?;
        let pid = rig.syncer.pid().context("the syncer was just started")?;
        self.syncer = Some(Processes::new([raw(pid)]));
        self.rig()?.syncer.ready().await
    }

    /// Tells the syncer of tenants, up to so many in all, and waits until it says that it watches them.
    pub(crate) async fn announce(&mut self, count: usize) -> anyhow::Result<()> {
        let side = self.above.clone();
        let rig = self.rig.as_mut().context(NEEDS_RIG)?;
        for number in rig.announced..count {
            let server = &rig.tenants[number];
            let kubeconfig = server.syncer_kubeconfig(server.port);
            rig::announce(
                &side,
                (server.name(), &rig.ids[number]),
                &kubeconfig,
                number,
            )
            .await?;
        }
        for number in rig.announced..count {
            let name = rig.tenants[number].name();
            eventually(START, &format!("tenant {name} is synced"), async || {
                let vcp = side.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, name).await?;
                ensure!(condition(&vcp, "Synced") == "True", "{}", vcp["status"]);
                Ok(())
            })
            .await
            .with_context(|| rig.syncer.tail())?;
        }
        rig.announced = count;
        Ok(())
    }

    /// What was started here, which some scenarios need.
    pub(crate) fn rig(&self) -> anyhow::Result<&Rig> {
        self.rig.as_ref().context(NEEDS_RIG)
    }

    /// Groups of processes of which the CPU time is told.
    pub(crate) fn parts(&self) -> Vec<(&'static str, Processes)> {
        let mut parts = vec![("load", Processes::own())];
        parts.extend(self.syncer.clone().map(|syncer| ("syncer", syncer)));
        if let Some(rig) = &self.rig {
            parts.push(("superServer", rig.above.processes()));
            let tenants = rig.tenants.iter().flat_map(Server::pids).map(raw);
            parts.push(("tenantServers", Processes::new(tenants)));
        }
        parts
    }

    /// Removes what was put into given clusters.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.node.remove(&self.above).await
    }
}

const NEEDS_RIG: &str =
    "this scenario starts and stops what it measures: leave out --super-kubeconfig";

/// The processes of one server.
pub(crate) trait Parts {
    fn processes(&self) -> Processes;
}

impl Parts for Server {
    fn processes(&self) -> Processes {
        Processes::new(self.pids().into_iter().map(raw))
    }
}

/// A process ID as the kernel's files name it.
pub(crate) fn raw(pid: rustix::process::Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
