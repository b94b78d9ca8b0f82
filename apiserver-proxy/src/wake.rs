//! Waking a control plane that sleeps: a connection to the front door is held until its API server answers.
//!
//! The proxy doesn't end tenants' TLS, so it can't ask for a credential before it wakes a tenant. What it asks for is the
//! name: only the one that holds the tenant's identity, 128 random bits, wakes; a host name, which anybody may guess, does
//! not. Beyond that waking is rationed, for each tenant, for each source and in all ([`budget`]), and it must have been
//! asked for in the VirtualControlPlane. Who gets past all that makes a tenant run that would otherwise sleep: no more.

use crate::{
    index::{Index, Tenant},
    limit::Full,
    metrics::{Metrics, Plane},
    shares::{SharePermit, Shares},
    visits::Visits,
};
use parking_lot::Mutex;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tenancy::{bucket::Rate, naming, route::Sleep};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

mod budget;

use budget::{Budget, Knock};

/// How long a connection is held. Kubernetes' clients give a handshake ten seconds and then give up; of a connection that
/// was closed before they think that the network broke, and try again ten times, a second apart.
pub(crate) const HOLD: Duration = Duration::from_secs(8);
/// Connections held at once.
const HELD: usize = 1000;
/// Connections held at once for one tenant.
const HELD_OF_ONE: usize = 64;

/// Holds connections and wakes tenants.
pub(crate) struct Waker {
    index: Arc<Index>,
    visits: Visits,
    metrics: Arc<Metrics>,
    budget: Arc<Mutex<Budget>>,
    held: Places,
}

/// Connections that may be held, of which one source gets half.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    sources: Shares,
}

impl Places {
    /// Those of one tenant.
    pub(crate) fn of_one() -> Self {
        Self::new(HELD_OF_ONE)
    }

    fn new(most: usize) -> Self {
        // Who leaves at once and comes again takes as many a second.
        let half = most / 2;
        let rate = u32::try_from(half).unwrap_or(u32::MAX);
        Self {
            all: Arc::new(Semaphore::new(most)),
            sources: Shares::new(half, Rate::per_second(rate, rate)),
        }
    }

    fn take(&self, source: Option<IpAddr>) -> Result<(SharePermit, OwnedSemaphorePermit), Full> {
        let place = self.sources.take(source)?;
        let slot = self.all.clone().try_acquire_owned();
        Ok((place, slot.map_err(|_| Full)?))
    }

    /// How many are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all.available_permits()
    }

    /// Takes all of them.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(self.free()).unwrap();
        self.all.clone().try_acquire_many_owned(all).unwrap()
    }
}

/// A place that is held while a connection waits.
pub(crate) type Held = [(SharePermit, OwnedSemaphorePermit); 2];

/// Why a connection isn't led on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The tenant sleeps, and a connection like this one doesn't wake it.
    Asleep,
    /// Too much was woken.
    Limited,
    /// Too many are held, which passes within seconds.
    Full,
    /// It was held for as long as a client waits; another try may find the tenant awake.
    TryAgain,
    /// The client left, or nobody could be told to wake the tenant.
    Broken,
}

impl Refusal {
    /// For metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Limited => "wake_limited",
            Self::Full => "limited",
            Self::TryAgain => "held",
            Self::Broken => "broken",
        }
    }

    /// Whether the client is told that trying again is of no use now.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Asleep | Self::Limited)
    }

    /// Whether that is for the log.
    pub(crate) fn is_told(self) -> bool {
        self.is_final() || self == Self::Full
    }
}

impl Waker {
    pub(crate) fn new(index: Arc<Index>, visits: Visits, metrics: Arc<Metrics>) -> Self {
        Self {
            index,
            visits,
            metrics,
            budget: Arc::default(),
            held: Places::new(HELD),
        }
    }

    /// Wakes a tenant that sleeps, and waits until it is awake: the tenant as it is then, and until when it may be dialled
    /// again and again.
    pub(crate) async fn wake(
        &self,
        tenant: &Arc<Tenant>,
        name: &str,
        client: &TcpStream,
        source: Option<IpAddr>,
    ) -> Result<(Arc<Tenant>, Instant), Refusal> {
        let began = Instant::now();
        if tenant.sleep != Sleep::Wakeable || naming::tenant_of_host(name).is_none() {
            return Err(Refusal::Asleep);
        }
        let _held = self.hold(tenant, source)?;
        match self.knock(tenant, source) {
            Knock::Refused => return Err(Refusal::Limited),
            Knock::UnderWay => {}
            Knock::Wakes => {
                let told = tokio::select! {
                    () = left(client) => false,
                    told = self.tell(tenant.clone(), source) => told.unwrap_or_default(),
                };
                if !told {
                    return Err(Refusal::Broken);
                }
            }
        }
        let awake = tokio::select! {
            () = left(client) => return Err(Refusal::Broken),
            awake = timeout_at(began + HOLD, self.awake(name)) => awake,
        };
        let awake = awake.map_err(|_| Refusal::TryAgain)?;
        self.metrics.woke(began.elapsed());
        Ok((awake, began + HOLD))
    }

    /// Has the tenant woken, in a task of its own: what a connection was charged for goes on though its client leaves. Whether
    /// it was told; if not, nothing is charged and the next connection tells.
    fn tell(&self, tenant: Arc<Tenant>, source: Option<IpAddr>) -> JoinHandle<bool> {
        let (visits, budget) = (self.visits.clone(), self.budget.clone());
        tokio::spawn(async move {
            let id = tenant.id.as_str();
            let told = visits.tell(&[id]).await;
            match &told {
                Ok(()) => {
                    tracing::info!(tenant = id, source = ?source, "a connection wakes the tenant");
                }
                Err(error) => {
                    budget.lock().give_back(id, source);
                    *tenant.asked.lock() = None;
                    if tenant.limits.noise.may_speak(Plane::Door, "untold") {
                        tracing::warn!(tenant = id, %error, "nobody can be told to wake the tenant");
                    }
                }
            }
            told.is_ok()
        })
    }

    /// What the connection does to the tenant. A route lasts as long as its tenant sleeps, so what was asked for stands there.
    fn knock(&self, tenant: &Tenant, source: Option<IpAddr>) -> Knock {
        let (mut asked, now) = (tenant.asked.lock(), Instant::now());
        let knock = self
            .budget
            .lock()
            .knock(tenant.id.as_str(), source, *asked, now);
        if knock == Knock::Wakes {
            *asked = Some(now);
        }
        knock
    }

    /// A place among those that are held.
    pub(crate) fn hold(&self, tenant: &Tenant, source: Option<IpAddr>) -> Result<Held, Refusal> {
        let take = |places: &Places| places.take(source).map_err(|_| Refusal::Full);
        Ok([take(&tenant.limits.held)?, take(&self.held)?])
    }

    /// Waits until the route says that the tenant is awake.
    async fn awake(&self, name: &str) -> Arc<Tenant> {
        loop {
            let news = self.index.route_news();
            tokio::pin!(news);
            // From now on none is missed.
            news.as_mut().enable();
            if let Some(tenant) = self.index.tenant_by_server_name(name)
                && !is_asleep(&tenant)
            {
                return tenant;
            }
            news.await;
        }
    }
}

/// Whether its API servers don't run.
pub(crate) fn is_asleep(tenant: &Tenant) -> bool {
    matches!(tenant.sleep, Sleep::Wakeable | Sleep::Shut)
}

/// Ends when the client has closed its connection; what it sent already stays where it is.
pub(crate) async fn left(client: &TcpStream) {
    let mut byte = [0];
    match client.peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        // It speaks before it is spoken to: that it leaves is seen later.
        Ok(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
