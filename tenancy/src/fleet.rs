//! Several syncers on one super cluster: which of them leads a tenant, whether the others live, and until when one may
//! write.
//!
//! - [`owner`] shares tenants by rendezvous hashing: every syncer comes to the same answer from the same set of names.
//! - [`Sightings`] judges the others by how long this process saw their Leases unchanged; no two clocks are compared.
//! - [`Tenure`] says until when this process may write; that ends well before another can judge it dead.
//! - [`Title`] is who leads a tenant, with an epoch that each new leader raises.
//!
//! # Why two never write for one tenant
//!
//! A renewal that was *sent* at `s` allows writes until `s + WRITE_LIMIT`, and only if its answer came before the limit
//! of the one before; else the [`generation`](Tenure::generation) grows and every title has to be claimed anew. Another
//! syncer calls this one dead only if it received a list with that renewal, and asked for another at least
//! `LEASE_DURATION` later that shows no newer one. The first list was received after `s`, so its writes had ended.

use crate::{naming::digest, tenant::TenantId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How often a syncer renews its Lease.
pub const RENEWAL_PERIOD: Duration = Duration::from_secs(2);
/// For how long a renewal allows writes, counted from when it was sent.
pub const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// For how long others must see a Lease unchanged before its syncer counts as dead. What it exceeds [`WRITE_LIMIT`] by
/// is for requests that are under way, and for monotonic clocks that don't run alike.
pub const LEASE_DURATION: Duration = Duration::from_secs(8);

/// A syncer process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Its name, a pod's for instance: stays the same over restarts, so that tenants stay where they are.
    pub name: String,
    /// This process, told from all before it.
    pub instance: String,
}

impl Replica {
    /// As Leases name it.
    pub fn identity(&self) -> String {
        format!("{}_{}", self.name, self.instance)
    }

    /// From [`Replica::identity`].
    pub fn parse(identity: &str) -> Option<Self> {
        let (name, instance) = identity.rsplit_once('_')?;
        (!name.is_empty() && !instance.is_empty()).then(|| Self {
            name: name.to_owned(),
            instance: instance.to_owned(),
        })
    }
}

/// Who of these leads the tenant: the one whose name has the highest hash with it.
///
/// When one joins, only tenants that it leads from now on move; when one leaves, only those that it led. Of `n` tenants
/// each of `r` replicas has `n/r` on average, and more than `n/r + 5·√(n/r)` in less than one of a million cases.
pub fn owner<'a>(
    tenant: &TenantId,
    replicas: impl IntoIterator<Item = &'a Replica>,
) -> Option<&'a Replica> {
    let score = |replica: &Replica| {
        digest(&[
            b"leader",
            replica.name.as_bytes(),
            tenant.as_str().as_bytes(),
        ])
    };
    replicas
        .into_iter()
        .max_by_key(|replica| (score(replica), &replica.instance))
}

/// What one list told of a syncer's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSighting {
    /// Resource version of the Lease: another one is a sign of life.
    pub version: String,
    /// It is known by other means that this process has ended.
    pub has_ended: bool,
}

/// What this process knows of the life of others.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    seen: BTreeMap<String, Sighting>,
}

#[derive(Clone, Debug)]
struct Sighting {
    /// The Lease's version, or nothing if there is no Lease.
    version: Option<String>,
    since: Instant,
    is_dead: bool,
}

impl Sightings {
    /// Takes up a complete list of the syncers' Leases, by identity, that was asked for and answered at these times.
    /// `holders` are identities that are named elsewhere: one without a Lease is dead after the same time.
    pub fn look(
        &mut self,
        told: &BTreeMap<String, LeaseSighting>,
        holders: &BTreeSet<String>,
        asked: Instant,
        answered: Instant,
    ) {
        let before = std::mem::take(&mut self.seen);
        for identity in told.keys().chain(holders) {
            let told = told.get(identity);
            let version = told.map(|told| told.version.clone());
            let unchanged = before
                .get(identity)
                .filter(|sighting| sighting.version == version);
            let mut sighting = unchanged.cloned().unwrap_or(Sighting {
                version,
                since: answered,
                is_dead: false,
            });
            sighting.is_dead |= told.is_some_and(|told| told.has_ended)
                || asked.saturating_duration_since(sighting.since) >= LEASE_DURATION;
            self.seen.insert(identity.clone(), sighting);
        }
    }

    /// This process itself couldn't reach the Leases for a while: nobody is blamed for that time.
    pub fn forgive(&mut self, now: Instant) {
        for sighting in self.seen.values_mut() {
            sighting.since = now;
        }
    }

    /// Whether a syncer was seen to be dead.
    pub fn is_dead(&self, identity: &str) -> bool {
        self.seen
            .get(identity)
            .is_some_and(|sighting| sighting.is_dead)
    }

    /// Those that have a Lease and weren't seen to be dead.
    pub fn alive(&self) -> BTreeSet<Replica> {
        self.seen
            .iter()
            .filter(|(_, sighting)| sighting.version.is_some() && !sighting.is_dead)
            .filter_map(|(identity, _)| Replica::parse(identity))
            .collect()
    }
}

/// Until when this process may write.
#[derive(Clone, Debug, Default)]
pub struct Tenure {
    until: Option<Instant>,
    generation: u64,
}

impl Tenure {
    /// The Lease was renewed by a request that was sent and answered at these times. Returns whether the tenure went on;
    /// if not, all titles are to be claimed anew.
    pub fn renewed(&mut self, sent: Instant, answered: Instant) -> bool {
        let goes_on = self.until.is_some_and(|until| answered < until);
        if !goes_on {
            self.generation += 1;
        }
        self.until = Some(sent + WRITE_LIMIT);
        goes_on
    }

    /// The Lease is another's, or given up: nothing may be written from now on.
    pub fn lost(&mut self) {
        self.until = None;
    }

    /// Whether writes are allowed by titles of this generation.
    pub fn allows(&self, generation: u64, now: Instant) -> bool {
        generation == self.generation && self.until.is_some_and(|until| now < until)
    }

    /// Counts the times at which this process had to begin anew.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Who leads a tenant, as its Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title {
    /// Identity of the leader; empty when it was given back.
    pub holder: String,
    /// Grows with each leader.
    pub epoch: u64,
}

/// What a syncer that should lead a tenant may do about its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Write itself into it, with this epoch, if it is still as it was.
    Take {
        /// The new epoch.
        epoch: u64,
    },
    /// Another one holds it and may be alive.
    Wait,
}

impl Title {
    /// What `me` may do about it.
    pub fn claim(&self, me: &str, others: &Sightings) -> Claim {
        let is_free = self.holder.is_empty() || self.holder == me || others.is_dead(&self.holder);
        if is_free {
            Claim::Take {
                epoch: self.epoch + 1,
            }
        } else {
            Claim::Wait
        }
    }

    /// Whether it says that somebody else came after `me`, who took it at `epoch`.
    pub fn supersedes(&self, me: &str, epoch: u64) -> bool {
        self.epoch > epoch || self.epoch == epoch && self.holder != me
    }
}

#[cfg(test)]
mod tests;
