//! This process among other syncers: it keeps its own Lease, watches those of others, and holds the titles of the
//! tenants that it leads.
//!
//! The reasons why two never write for one tenant are told in [`tenancy::fleet`].

mod lease;
mod lock;

use crate::{
    client::Cluster,
    error::Error,
    term::{Standing, Term},
};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tenancy::{
    fleet::{Claim, LeaseSighting, RENEWAL_PERIOD, Replica, Sightings, Title, WRITE_LIMIT, owner},
    tenant::TenantId,
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

pub(crate) use lease::{LEASES, Stored, name, spec, title, titles};
pub(crate) use lock::Lock;

/// How often others' Leases are looked at.
const BEAT: Duration = Duration::from_secs(1);
/// How long a request about Leases may take: several fit into the time for which a renewal counts.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Titles that are claimed or given back at once.
const AT_ONCE: usize = 16;
/// A dead syncer's Lease is deleted after it was seen dead so many times: till then it tells people what happened, and
/// lets others take over at once what names it.
const BEATS_OF_THE_DEAD: u32 = 600;
/// The same for one that is known to be replaced.
const BEATS_OF_THE_REPLACED: u32 = 30;

/// What this process knows of the fleet, and its part in it.
pub(crate) struct Fleet {
    me: Replica,
    own: lease::Own,
    /// A connection of its own: a renewal waits for nothing else.
    cluster: Cluster,
    /// Whether this process may write.
    pub(crate) standing: Arc<Standing>,
    sightings: Mutex<Sightings>,
    alive: Mutex<BTreeSet<Replica>>,
    terms: Mutex<HashMap<TenantId, Arc<Term>>>,
    /// Who is named by tenants' Leases.
    holders: Mutex<BTreeSet<String>>,
    /// Something is left to be settled, though nothing tells of it.
    unsettled: AtomicBool,
    /// Somebody came, went, or something may be settled now.
    pub(crate) changed: Notify,
    /// UID of the own Lease.
    uid: Mutex<Option<String>>,
}

impl Fleet {
    /// One that hasn't joined the others yet.
    pub(crate) fn new(
        name: &str,
        lock: Option<&Lock>,
        cluster: Cluster,
    ) -> std::io::Result<Arc<Self>> {
        let me = Replica {
            name: name.to_owned(),
            instance: lock::random::<5>()?,
        };
        Ok(Arc::new(Self {
            own: lease::Own::new(&me, lock.map(|lock| lock.mark().to_owned())),
            standing: Standing::new(&me),
            me,
            cluster,
            sightings: Mutex::default(),
            alive: Mutex::default(),
            terms: Mutex::default(),
            holders: Mutex::default(),
            unsettled: AtomicBool::new(false),
            changed: Notify::new(),
            uid: Mutex::default(),
        }))
    }

    /// One whose right to write doesn't end.
    #[cfg(test)]
    pub(crate) fn of_test(cluster: &Cluster) -> Arc<Self> {
        let fleet = Self::new("test", None, cluster.clone()).unwrap();
        fleet
            .standing
            .renewed(Instant::now() + Duration::from_secs(100_000));
        fleet
    }

    /// Takes the lock in `folder`, if there is to be one.
    pub(crate) fn lock(folder: Option<&Path>) -> std::io::Result<Option<Lock>> {
        let Some(folder) = folder else {
            return Ok(None);
        };
        let lock = Lock::take(folder)?;
        if lock.is_none() {
            tracing::warn!(folder = %folder.display(), "another syncer uses this folder: give each its own");
        }
        Ok(lock)
    }

    /// Joins the others and keeps the Lease until cancelled.
    pub(crate) async fn keep(self: Arc<Self>, cancel: CancellationToken) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed: Option<Instant> = None;
        let mut buried = HashMap::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = beats.tick() => {}
            }
            // The beat before the period ends, not the one after it.
            let is_due = renewed.is_none_or(|at| at.elapsed() + BEAT / 2 >= RENEWAL_PERIOD);
            if is_due {
                match self.renew().await {
                    Ok(sent) => renewed = Some(sent),
                    Err(err) => {
                        if renewed.take().is_some() {
                            tracing::warn!(%err, limit = ?WRITE_LIMIT, "the syncer's own Lease can't be renewed");
                        }
                        continue;
                    }
                }
            }
            if let Err(err) = self.look(&mut buried).await {
                tracing::debug!(%err, "the other syncers can't be seen");
            }
        }
    }

    /// Renews the own Lease; the answer is when that was asked for.
    async fn renew(&self) -> Result<Instant, Error> {
        let sent = Instant::now();
        let known = self.uid.lock().clone();
        let request = async {
            match known {
                Some(uid) => self.own.renew(&self.cluster, &uid).await.map(|()| uid),
                None => self.own.create(&self.cluster).await,
            }
        };
        match soon(request).await {
            Ok(uid) => {
                *self.uid.lock() = Some(uid);
                if !self.standing.renewed(sent) {
                    self.sightings.lock().forgive(Instant::now().into_std());
                    tracing::info!(
                        identity = self.standing.me(),
                        "the syncer keeps its Lease and may write"
                    );
                    self.changed.notify_one();
                }
                Ok(sent)
            }
            Err(err) => {
                if matches!(err, Error::NotFound | Error::Conflict(_)) {
                    // Somebody deleted it, and may have given the tenants to others.
                    self.standing.lost();
                    *self.uid.lock() = None;
                }
                Err(err)
            }
        }
    }

    /// Looks who else lives.
    async fn look(&self, buried: &mut HashMap<String, u32>) -> Result<(), Error> {
        let asked = Instant::now();
        let listed = soon(self.own.list(&self.cluster)).await?;
        let told: BTreeMap<String, LeaseSighting> = listed
            .iter()
            .map(|(identity, lease)| (identity.clone(), lease.told.clone()))
            .collect();
        let holders = self.holders.lock().clone();
        let (alive, dead): (BTreeSet<Replica>, Vec<String>) = {
            let mut sightings = self.sightings.lock();
            sightings.look(&told, &holders, asked.into_std(), Instant::now().into_std());
            let dead = told.keys().filter(|identity| sightings.is_dead(identity));
            (sightings.alive(), dead.cloned().collect())
        };
        let before = std::mem::replace(&mut *self.alive.lock(), alive.clone());
        for replica in alive.difference(&before) {
            tracing::info!(syncer = %replica.identity(), "a syncer is there");
        }
        for replica in before.difference(&alive) {
            tracing::info!(syncer = %replica.identity(), "a syncer is gone");
        }
        if before != alive || self.unsettled.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
        buried.retain(|identity, _| dead.contains(identity));
        for identity in dead {
            let beats = buried.entry(identity.clone()).or_insert(0);
            *beats += 1;
            let Some(lease) = listed.get(&identity) else {
                continue;
            };
            let limit = if lease.told.has_ended {
                BEATS_OF_THE_REPLACED
            } else {
                BEATS_OF_THE_DEAD
            };
            if *beats >= limit && !holders.contains(&identity) {
                lease.delete(&self.cluster).await?;
            }
        }
        Ok(())
    }

    /// Who should lead a tenant, as far as this process can see.
    fn is_mine(&self, tenant: &TenantId) -> bool {
        owner(tenant, &*self.alive.lock()) == Some(&self.me)
    }

    /// Claims the titles of the tenants that this process should lead, as far as they are free, and gives up those that
    /// others took. The answer is all tenants that it leads and should lead.
    pub(crate) async fn settle(
        &self,
        tenants: &HashSet<TenantId>,
        titles: &HashMap<TenantId, Stored>,
    ) -> HashMap<TenantId, Arc<Term>> {
        *self.holders.lock() = titles
            .values()
            .map(|stored| stored.title.holder.clone())
            .filter(|holder| !holder.is_empty())
            .collect();
        self.unsettled.store(false, Ordering::SeqCst);
        self.terms.lock().retain(|id, term| {
            let superseded = titles
                .get(id)
                .is_some_and(|stored| stored.title.supersedes(term.me(), term.epoch()));
            if superseded {
                tracing::warn!(tenant = %id, "another syncer leads the tenant");
                term.revoke();
            }
            !superseded
        });
        let Some(generation) = self.standing.generation() else {
            self.unsettled.store(true, Ordering::SeqCst);
            return self.led();
        };
        let claims = self.claims(tenants, titles, generation);
        stream::iter(claims)
            .for_each_concurrent(AT_ONCE, |(id, seen, epoch)| async move {
                self.claim(&id, seen, epoch, generation).await;
            })
            .await;
        self.led()
    }

    /// The titles that may be claimed.
    fn claims(
        &self,
        tenants: &HashSet<TenantId>,
        titles: &HashMap<TenantId, Stored>,
        generation: u64,
    ) -> Vec<(TenantId, Option<Stored>, u64)> {
        let (terms, sightings) = (self.terms.lock(), self.sightings.lock());
        let mut claims = vec![];
        for id in tenants {
            let is_held = terms
                .get(id)
                .is_some_and(|term| term.is_of(generation) && !term.is_revoked());
            if is_held || !self.is_mine(id) {
                continue;
            }
            let seen = titles.get(id).cloned();
            let title = seen
                .as_ref()
                .map(|seen| seen.title.clone())
                .unwrap_or_default();
            match title.claim(self.standing.me(), &sightings) {
                Claim::Take { epoch } => claims.push((id.clone(), seen, epoch)),
                Claim::Wait => self.unsettled.store(true, Ordering::SeqCst),
            }
        }
        claims
    }

    async fn claim(&self, id: &TenantId, seen: Option<Stored>, epoch: u64, generation: u64) {
        let new = Title {
            holder: self.standing.me().to_owned(),
            epoch,
        };
        // One that was taken all the same is found so by the watch, and taken anew.
        match soon(lease::take(&self.cluster, id, seen.as_ref(), &new)).await {
            Ok(()) => {
                tracing::info!(tenant = %id, epoch, "leading");
                let mut terms = self.terms.lock();
                match terms.get(id).filter(|term| !term.is_revoked()) {
                    Some(term) => term.renew(epoch, generation),
                    None => {
                        terms.insert(id.clone(), Term::new(&self.standing, epoch, generation));
                    }
                }
            }
            Err(err) => {
                // Another one was faster, or the watch hasn't told of the newest state yet: it is looked at again.
                tracing::debug!(tenant = %id, %err, "the title can't be taken");
                self.unsettled.store(true, Ordering::SeqCst);
            }
        }
    }

    /// The tenants that this process leads and should lead.
    fn led(&self) -> HashMap<TenantId, Arc<Term>> {
        let terms = self.terms.lock();
        let led = terms.iter().filter(|(id, _)| self.is_mine(id));
        led.map(|(id, term)| (id.clone(), term.clone())).collect()
    }

    /// Whether this process leads a tenant and should go on leading it.
    pub(crate) fn leads(&self, id: &TenantId) -> bool {
        self.is_mine(id) && self.terms.lock().get(id).is_some_and(|term| term.holds())
    }

    /// Its leadership of a tenant that it leads and should go on leading.
    pub(crate) fn term(&self, id: &TenantId) -> Option<Arc<Term>> {
        let term = self.terms.lock().get(id).cloned()?;
        (self.is_mine(id) && term.holds()).then_some(term)
    }

    /// Leads a tenant, and is the only one that could.
    #[cfg(test)]
    pub(crate) fn lead(&self, id: &TenantId) {
        self.alive.lock().insert(self.me.clone());
        let generation = self.standing.generation().unwrap();
        let term = Term::new(&self.standing, 1, generation);
        self.terms.lock().insert(id.clone(), term);
    }

    /// Gives back the titles of tenants that another one should lead; `is_quiet` tells those for which nothing is under
    /// way here any more.
    pub(crate) async fn give_away(&self, is_quiet: impl Fn(&TenantId) -> bool) {
        let surplus: Vec<TenantId> = {
            let terms = self.terms.lock();
            let surplus = terms.keys().filter(|id| !self.is_mine(id) && is_quiet(id));
            surplus.cloned().collect()
        };
        stream::iter(surplus)
            .for_each_concurrent(AT_ONCE, |id| async move { self.give(&id).await })
            .await;
    }

    async fn give(&self, id: &TenantId) {
        let Some(term) = self.terms.lock().remove(id) else {
            return;
        };
        term.revoke();
        let held = Title {
            holder: self.standing.me().to_owned(),
            epoch: term.epoch(),
        };
        match soon(lease::give(&self.cluster, id, &held)).await {
            Ok(()) => tracing::info!(tenant = %id, "given back"),
            Err(err) => {
                tracing::warn!(tenant = %id, %err, "the title can't be given back yet");
                // A term that holds nothing any more, so that it is tried again.
                self.terms.lock().insert(id.clone(), term);
                self.unsettled.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Whether this process should clean up after a tenant that is gone.
    pub(crate) fn cleans_up(&self, id: &TenantId) -> bool {
        self.standing.generation().is_some() && self.is_mine(id)
    }

    /// A tenant is gone for good, and its Lease too.
    pub(crate) fn forget(&self, id: &TenantId) {
        if let Some(term) = self.terms.lock().remove(id) {
            term.revoke();
        }
    }

    /// Leaves the others at once; nothing may be under way any more.
    pub(crate) async fn resign(&self) {
        self.standing.lost();
        let Some(uid) = self.uid.lock().take() else {
            return;
        };
        // First, so that others know whose the tenants are from now on when they hear that they are free.
        if let Err(err) = soon(self.own.delete(&self.cluster, &uid)).await {
            tracing::warn!(%err, "the syncer's own Lease can't be deleted");
        }
        let held: Vec<TenantId> = self.terms.lock().keys().cloned().collect();
        stream::iter(held)
            .for_each_concurrent(AT_ONCE, |id| async move { self.give(&id).await })
            .await;
    }

    /// Numbers of tenants that this process leads, and of syncers that are alive.
    pub(crate) fn count(&self) -> (usize, usize) {
        let led = self
            .terms
            .lock()
            .values()
            .filter(|term| term.holds())
            .count();
        (led, self.alive.lock().len())
    }
}

/// A request that all tenants wait for.
async fn soon<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| {
        Err(Error::Unavailable(format!(
            "no answer within {REQUEST_LIMIT:?}"
        )))
    };
    tokio::time::timeout(REQUEST_LIMIT, request)
        .await
        .unwrap_or_else(late)
}
