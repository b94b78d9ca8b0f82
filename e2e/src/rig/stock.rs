//! API servers that a test left as it found them serve the next one.
//!
//! Starting them is most of what a test on a rig costs. What a test made in them is removed, and they are compared with
//! what they held at first; whatever doesn't agree is thrown away, and so is all that a test stopped, wiped or failed on.

use super::{
    Wish, install,
    inventory::Inventory,
    keys::Authority,
    player::Player,
    server::{Audit, Plan, Server},
    slice,
};
use crate::{program::Folder, side::Side};
use futures::future::try_join_all;
use parking_lot::Mutex;

/// The super cluster's Service range; tenant `n` has the slice `10.200.4n.0/22`.
pub const SERVICES: &str = "10.200.0.0/16";

/// What waits for the next test.
static STOCK: Mutex<Vec<Servers>> = Mutex::new(vec![]);
/// So many wait at most.
const MOST: usize = 2;

/// The API servers of a rig, without proxies, without tenants and without a syncer.
pub(super) struct Servers {
    /// The super cluster's.
    pub(super) above: Member,
    /// Those of tenants to come.
    pub(super) tenants: Vec<Member>,
    pub(super) player: Player,
    pub(super) authority: Authority,
    // Last, so that it goes when nobody writes into it any more.
    pub(super) folder: Folder,
}

/// An API server and its admin.
pub(super) struct Member {
    pub(super) server: Server,
    pub(super) side: Side,
    /// What it held before the first test.
    pub(super) before: Inventory,
}

impl Member {
    async fn ready(mut server: Server) -> anyhow::Result<Self> {
        server.ready().await?;
        Ok(Self {
            side: server.side().await?,
            server,
            before: Inventory::default(),
        })
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        self.before.restore(&self.side).await?;
        self.server.forget_audit();
        Ok(())
    }
}

impl Servers {
    /// Those of an earlier test, or new ones.
    ///
    /// # Errors
    /// An API server doesn't start.
    pub(super) async fn take(wish: &Wish) -> anyhow::Result<Self> {
        while wish.is_plain()
            && let Some(mut servers) = next()
        {
            match servers.restore().await {
                Ok(()) => {
                    servers.grow(wish).await?;
                    return Ok(servers);
                }
                Err(err) => eprintln!("a used rig is thrown away: {err:#}"),
            }
        }
        Self::start(wish).await
    }

    /// Keeps them for another test, if they are as they were started.
    pub(super) fn put_back(mut self, wish: &Wish) {
        let was_stopped = self
            .tenants
            .iter_mut()
            .chain([&mut self.above])
            .any(|member| member.server.was_stopped());
        if was_stopped || !wish.is_plain() {
            return;
        }
        let mut stock = STOCK.lock();
        if stock.len() < MOST {
            stock.push(self);
        }
    }

    async fn start(wish: &Wish) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let authority = Authority::make()?;
        let plan = Plan {
            name: "super".into(),
            services: SERVICES.into(),
            syncer_groups: "system:serviceaccounts",
            controllers: true,
            version: None,
            etcd_flags: wish.super_etcd_flags.clone(),
            flags: wish.super_flags.clone(),
            audit: Audit::Writes,
        };
        let above = Server::start(folder.path(), &authority, plan)?;
        let tenants = begin(wish, 0, &folder, &authority)?;
        let mut above = Member::ready(above).await?;
        install(&above.side).await?;
        let player = Player::start(above.side.clone()).await?;
        above.before = Inventory::once_served(&above.side).await?;
        let mut servers = Self {
            above,
            tenants: vec![],
            player,
            authority,
            folder,
        };
        servers.join(tenants).await?;
        Ok(servers)
    }

    /// Starts the tenants' API servers that are missing.
    async fn grow(&mut self, wish: &Wish) -> anyhow::Result<()> {
        let started = begin(wish, self.tenants.len(), &self.folder, &self.authority)?;
        self.join(started).await
    }

    async fn join(&mut self, started: Vec<Server>) -> anyhow::Result<()> {
        for server in started {
            let mut member = Member::ready(server).await?;
            member.before = Inventory::once_served(&member.side).await?;
            self.tenants.push(member);
        }
        Ok(())
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        let members = self.tenants.iter_mut().chain([&mut self.above]);
        try_join_all(members.map(Member::restore)).await.map(drop)
    }
}

fn next() -> Option<Servers> {
    STOCK.lock().pop()
}

/// Starts the tenants' API servers from a number on.
fn begin(
    wish: &Wish,
    first: usize,
    folder: &Folder,
    authority: &Authority,
) -> anyhow::Result<Vec<Server>> {
    let plans = (first..wish.tenants).map(|number| Plan {
        name: format!("t{number}"),
        services: slice(number),
        // An external tenant's owner gives the syncer what rights there are.
        syncer_groups: "system:masters",
        controllers: wish.controllers,
        version: wish.version,
        etcd_flags: wish.etcd_flags.clone(),
        flags: wish.flags.clone(),
        audit: Audit::Writes,
    });
    plans
        .map(|plan| Server::start(folder.path(), authority, plan))
        .collect()
}
