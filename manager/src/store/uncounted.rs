//! What of a tenant's limits can't be counted, and for how long already.
//!
//! A request may fail once, so more may be made of it for a moment. That is counted for each resource by itself, by this
//! process's own clock: how long something else has been wrong says nothing of it. A manager that starts anew begins anew;
//! what is closed by then stays closed.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use tenancy::tenant::TenantId;
use tokio::time::Instant;

/// How long more may be made of what can't be counted: some tries.
const PATIENCE: Duration = Duration::from_secs(30);
/// A tenant of which nothing was heard for so long, as it slept, begins anew. Twice as long as one is left alone that is asked.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// Resources of which nobody could tell the number for too long.
pub(crate) type Lasting = BTreeSet<String>;

/// Since when what tenants store couldn't be counted.
#[derive(Default)]
pub(crate) struct Uncounted(Mutex<HashMap<TenantId, Since>>);

/// Of one tenant: when it was counted last, and since when what couldn't be counted.
struct Since {
    last: Instant,
    names: BTreeMap<String, Instant>,
}

impl Uncounted {
    /// Takes up a count that told nothing of these resources.
    pub(crate) fn take<'a>(
        &self,
        tenant: &TenantId,
        names: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Lasting {
        let mut all = self.0.lock();
        // Those of tenants that are gone go with time.
        all.retain(|_, since| now.duration_since(since.last) < FORGOTTEN);
        let before = all.remove(tenant).map(|since| since.names);
        let before = before.unwrap_or_default();
        let names = names.map(|name| (name.to_owned(), before.get(name).copied().unwrap_or(now)));
        let names: BTreeMap<String, Instant> = names.collect();
        let is_long = |since: &Instant| now.duration_since(*since) > PATIENCE;
        let lasting = names.iter().filter(|(_, since)| is_long(since));
        let lasting = lasting.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            all.insert(tenant.clone(), Since { last: now, names });
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resources that are closed when these can't be counted, so many seconds after the last count.
    fn closed(uncounted: &Uncounted, now: &mut Instant, after: u64, names: &[&str]) -> Vec<String> {
        *now += Duration::from_secs(after);
        let tenant = TenantId::from_bits([7; 16]);
        let lasting = uncounted.take(&tenant, names.iter().copied(), *now);
        lasting.into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_resource_has_its_own_time_until_it_is_closed() {
        let (uncounted, mut now) = (Uncounted::default(), Instant::now());
        let mut closed = |after, names: &[&str]| closed(&uncounted, &mut now, after, names);
        assert!(closed(0, &["secrets"]).is_empty());
        assert!(closed(20, &["secrets", "pods"]).is_empty());
        assert_eq!(closed(20, &["secrets", "pods"]), ["secrets"]);
        assert_eq!(closed(20, &["secrets", "pods"]), ["pods", "secrets"]);
        assert_eq!(closed(1, &["pods"]), ["pods"]);
        // It was counted meanwhile.
        assert_eq!(closed(1, &["secrets", "pods"]), ["pods"]);
        assert!(closed(1, &[]).is_empty());
        assert!(closed(1, &["pods"]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_slept_begins_anew() {
        let (uncounted, mut now) = (Uncounted::default(), Instant::now());
        let mut closed = |after, names: &[&str]| closed(&uncounted, &mut now, after, names);
        assert!(closed(0, &["secrets"]).is_empty());
        assert_eq!(closed(60, &["secrets"]), ["secrets"]);
        assert!(closed(120, &["secrets"]).is_empty());
        // Another's is its own.
        let other = TenantId::from_bits([8; 16]);
        let later = now + Duration::from_secs(31);
        assert!(
            uncounted
                .take(&other, ["secrets"].into_iter(), later)
                .is_empty()
        );
    }
}
