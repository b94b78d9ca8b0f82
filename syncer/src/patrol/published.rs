//! What the super cluster publishes: of each kind one list in the super cluster for all tenants, and in each tenant one of
//! the copies that it holds.

use super::{Failures, limited, suspect};
use crate::{
    apply::Failure,
    engine::{Engine, watched},
    error::Error,
    intake,
    live::read,
    offered::{News, Offered},
    publish,
    rounds::Lane,
    tenants::Tenant,
    watch::{self, Sink, Target},
};
use api::keys;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tenancy::{
    kind::{self, Kind, SuperWatch},
    meta,
    object::Object,
    tenant::Key,
};
use tokio_util::sync::CancellationToken;

/// Patrols what the super cluster publishes, until cancelled: one round in every period, for all tenants.
pub(crate) async fn keep(engine: Arc<Engine>, cancel: CancellationToken) {
    let rounds = async {
        engine.super_known().await;
        loop {
            engine.rounds.rest().await;
            let _place = engine.rounds.place(Lane::Swift).await;
            if let Err(err) = limited(round(&engine)).await {
                tracing::warn!(%err, "the patrol of what is published didn't finish its round");
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = rounds => {}
    }
}

/// Lists each published kind in the super cluster, and tells the tenants what no event told.
async fn round(engine: &Engine) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for kind in watched().filter(|kind| is_published(kind::rule(*kind))) {
        let listed = Listed::new(&engine.offered, kind);
        match watch::list(&engine.cluster, &Target::of(kind::rule(kind)), &listed).await {
            // It has none of them.
            Ok(_) | Err(Error::NotServed) => {}
            Err(err) => {
                failures.note(Err(err.into()))?;
                continue;
            }
        }
        let Found { unseen, later } = listed.suspects();
        for (key, (_, namespace)) in later {
            if let Some(object) = published(engine, &key, &namespace).await? {
                let news = engine.offered.found(&key, &object);
                if news != News::None {
                    suspected(engine, &key);
                    intake::publish(engine, &key, object, news);
                }
            }
        }
        for (key, version) in unseen {
            let namespace = engine.offered.namespace(&key);
            let found = published(engine, &key, &namespace).await?;
            if found.is_none() && engine.offered.lost(&key, version) {
                suspected(engine, &key);
                intake::withdraw(engine, &key);
            }
        }
    }
    failures.first.map_or(Ok(()), Err)
}

fn is_published(rule: &dyn Kind) -> bool {
    rule.super_watch() == SuperWatch::Published
}

/// The super object as it is now (R10).
async fn published(engine: &Engine, key: &Key, namespace: &str) -> Result<Option<Object>, Failure> {
    let path = key.kind().resource().path(namespace, &key.name);
    match read(&engine.cluster, &path).await {
        Err(Failure::Api(Error::NotServed)) => Ok(None),
        other => other,
    }
}

/// Counts a difference for each tenant that has a copy or may be shown one.
fn suspected(engine: &Engine, key: &Key) {
    let is_there = engine.offered.version(key).is_some();
    for tenant in engine.served() {
        let is_concerned = tenant.table.is_published(key)
            || is_there && !publish::is_withheld(engine, &tenant, key);
        if is_concerned {
            engine.metrics.patrolled(&tenant.id, 0, 1);
            tenant.suspected.lock().insert(key.clone());
        }
    }
}

/// Compares a list in the super cluster with the versions that are known.
struct Listed<'a> {
    offered: &'a Offered,
    kind: u8,
    found: Mutex<Found>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// What was known when the list began and hasn't come yet, and at which version.
    unseen: HashMap<Key, u64>,
    /// What is new, or newer than what is known: its version and its namespace.
    later: HashMap<Key, (u64, String)>,
}

impl<'a> Listed<'a> {
    /// To be made just before the list begins.
    fn new(offered: &'a Offered, kind: u8) -> Self {
        let known = offered.of(kind).into_iter();
        let unseen = known.filter_map(|key| Some((key.clone(), offered.version(&key)?)));
        let found = Found {
            unseen: unseen.collect(),
            ..Found::default()
        };
        Self {
            offered,
            kind,
            found: Mutex::new(found),
        }
    }

    /// What nothing told of until now.
    fn suspects(self) -> Found {
        let known = |key: &Key| self.offered.version(key);
        let mut found = self.found.into_inner();
        found
            .later
            .retain(|key, (version, _)| known(key) < Some(*version));
        found
            .unseen
            .retain(|key, version| known(key) == Some(*version));
        found
    }
}

impl Sink for Listed<'_> {
    fn applied(&self, object: Object) {
        let key = intake::published_key(self.kind, &object);
        let version = object.resource_version();
        let mut found = self.found.lock();
        found.unseen.remove(&key);
        if self.offered.version(&key) < Some(version) {
            found
                .later
                .insert(key, (version, object.namespace().to_owned()));
        }
    }

    fn deleted(&self, _object: Object) {}

    fn listed(&self, _version: u64) {}
}

/// Looks at the copies of published objects that a tenant holds; of a kind of which it holds none it isn't asked.
pub(super) async fn copies(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let trusted = tenant.gate.trusted();
    let mut failures = Failures::default();
    for kind in tenant.kinds() {
        let rule = kind::rule(kind);
        if !is_published(rule) || !trusted.contains(&kind) {
            continue;
        }
        let copies = Copies::new(tenant, kind);
        if copies.found.lock().unseen.is_empty() {
            continue;
        }
        let target = Target {
            // Other definitions, and other nodes, may be the tenant's own.
            selector: (!rule.takes_over()).then(|| keys::PUBLISHED.to_owned()),
            ..Target::of(rule)
        };
        match watch::list(&tenant.cluster, &target, &copies).await {
            // When it serves them again, the list that its watch begins with brings all keys back.
            Err(Error::NotServed) => continue,
            Err(err) => {
                failures.note(Err(err.into()))?;
                continue;
            }
            Ok(_) => {}
        }
        let (checked, suspects) = copies.suspects(engine);
        suspect(engine, tenant, kind, checked, &suspects);
        for key in suspects {
            // Both objects are read live, whatever was told of them (R10).
            tenant.up.take(&key);
            engine.up.add(&tenant.id, key);
        }
    }
    failures.first.map_or(Ok(()), Err)
}

/// Compares a list of copies with what was written.
struct Copies<'a> {
    tenant: &'a Tenant,
    kind: u8,
    found: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    checked: usize,
    /// Copies that were known when the list began and haven't come yet.
    unseen: HashSet<Key>,
    /// Objects that didn't hold what was written, and fingerprints of what they did hold.
    differing: Vec<(Key, u128)>,
}

impl<'a> Copies<'a> {
    /// To be made just before the list begins.
    fn new(tenant: &'a Tenant, kind: u8) -> Self {
        let unseen = tenant.table.keys(kind, |entry| entry.published != 0);
        let found = Held {
            unseen: unseen.into_iter().collect(),
            ..Held::default()
        };
        Self {
            tenant,
            kind,
            found: Mutex::new(found),
        }
    }

    /// How many were looked at, and which aren't what was written, unless somebody is about to work them.
    fn suspects(self, engine: &Engine) -> (usize, HashSet<Key>) {
        let Held {
            checked,
            unseen,
            differing,
        } = self.found.into_inner();
        let written = |key: &Key| self.tenant.table.get(key).published;
        let unseen = unseen.into_iter().filter(|key| written(key) != 0);
        let differing = differing.into_iter();
        let differing = differing.filter(|(key, state)| written(key) != *state);
        let all = unseen.chain(differing.map(|(key, _)| key));
        let suspects = all.filter(|key| !engine.up.has(&self.tenant.id, key));
        (checked, suspects.collect())
    }
}

impl Sink for Copies<'_> {
    fn applied(&self, object: Object) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        let entry = self.tenant.table.get(&key);
        let mut found = self.found.lock();
        found.checked += 1;
        found.unseen.remove(&key);
        let version = object.resource_version();
        if entry.tenant.is_some_and(|known| known.version >= version) {
            return;
        }
        let state = meta::fingerprint(&key.kind().published_state(&object));
        if entry.published != state {
            found.differing.push((key, state));
        }
    }

    fn deleted(&self, _object: Object) {}

    fn listed(&self, _version: u64) {}
}

#[cfg(test)]
mod tests;
