//! What of a tenant isn't taken in, since as much of it is remembered as may be (T40), and what is said of that.
//!
//! Such an object has no entry: nothing of it is worked, and nothing is inferred from its absence. Whatever lists its kind the
//! next time, a patrol's round above all, takes it in if there is room by then.

use crate::tenants::Tenant;
use parking_lot::Mutex;
use std::{cmp::Reverse, collections::BTreeMap};
use tenancy::kind;

/// Kinds that a message names.
const NAMED: usize = 4;

/// How many objects of a tenant aren't taken in, by kind: of each as many as the last list or round found, and at least one if
/// an event told of one since.
#[derive(Default)]
pub(crate) struct Untaken {
    by_kind: Mutex<BTreeMap<u8, usize>>,
}

impl Untaken {
    /// Whether there is one of a kind.
    pub(crate) fn has(&self, kind: u8) -> bool {
        self.by_kind.lock().contains_key(&kind)
    }

    /// How many there are that would be synced, with their kinds, the most first. What the tenant has of its own beside what is
    /// shown to it isn't among them.
    fn unsynced(&self) -> Vec<(usize, &'static str)> {
        let by_kind = self.by_kind.lock();
        let unsynced = by_kind
            .iter()
            .map(|(kind, count)| (kind::rule(*kind), *count));
        let unsynced = unsynced.filter(|(rule, _)| rule.goes_down());
        let mut unsynced: Vec<_> = unsynced
            .map(|(rule, count)| (count, rule.resource().plural))
            .collect();
        unsynced.sort_by_key(|(count, plural)| (Reverse(*count), *plural));
        unsynced
    }

    /// How many there are that would be synced.
    pub(crate) fn count(&self) -> usize {
        self.unsynced().iter().map(|(count, _)| count).sum()
    }

    /// There is one at least; returns whether that is news.
    fn meet(&self, kind: u8) -> bool {
        let mut by_kind = self.by_kind.lock();
        let count = by_kind.entry(kind).or_default();
        let is_news = *count == 0;
        *count = (*count).max(1);
        is_news
    }

    /// There are so many; returns whether that is news.
    fn set(&self, kind: u8, count: usize) -> bool {
        let mut by_kind = self.by_kind.lock();
        let before = if count == 0 {
            by_kind.remove(&kind)
        } else {
            by_kind.insert(kind, count)
        };
        before.unwrap_or(0) != count
    }
}

/// An object of the tenant isn't taken in.
pub(crate) fn met(tenant: &Tenant, kind: u8) {
    if tenant.untaken.meet(kind) {
        let plural = kind::rule(kind).resource().plural;
        tracing::warn!(tenant = %tenant.id, plural, "too many objects: what isn't known yet isn't taken in");
        tenant.unsaid.notify_one();
    }
}

/// A complete list of a kind told of so many that aren't taken in.
pub(crate) fn counted(tenant: &Tenant, kind: u8, count: usize) {
    if tenant.untaken.set(kind, count) {
        tenant.unsaid.notify_one();
    }
}

/// What is said of it on the VirtualControlPlane; nothing if all is taken in.
pub(crate) fn words(tenant: &Tenant) -> Option<String> {
    let unsynced = tenant.untaken.unsynced();
    if unsynced.is_empty() {
        return None;
    }
    let all: usize = unsynced.iter().map(|(count, _)| count).sum();
    let named = unsynced.iter().take(NAMED);
    let named = named.map(|(count, plural)| format!("{plural} {count}"));
    let named = named.collect::<Vec<_>>().join(", ");
    let (known, share) = (tenant.table.len(), tenant.table.share());
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    Some(format!(
        "{all} objects or more aren't synced ({named}): the {known} that are known take {} of the {} MiB that the syncer keeps \
         for one tenant, or other tenants take what is left; delete what isn't needed, or let the syncer keep more \
         (--tenant-memory); what is known is synced on",
        mib(share.bytes()),
        mib(share.most()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fake, tenant};

    #[test]
    fn what_is_not_taken_in_is_named_with_its_numbers_until_a_list_finds_nothing_of_it() {
        let (cluster, _server) = fake();
        let tenant = tenant(&cluster);
        let (config_maps, pods) = (kind::index("ConfigMap"), kind::index("Pod"));
        assert_eq!(words(&tenant), None);
        met(&tenant, config_maps);
        met(&tenant, pods);
        counted(&tenant, config_maps, 700);
        // One that was met is among those that were counted.
        met(&tenant, config_maps);
        assert_eq!(tenant.untaken.count(), 701);
        let said = words(&tenant).unwrap();
        assert!(said.starts_with("701 objects"), "{said}");
        assert!(said.contains("(configmaps 700, pods 1)"), "{said}");
        assert!(said.len() < 500, "conditions are cut: {said}");
        counted(&tenant, config_maps, 0);
        counted(&tenant, pods, 0);
        // Nobody would sync the tenant's own.
        met(&tenant, kind::index("StorageClass"));
        assert!(!tenant.untaken.has(pods));
        assert_eq!(words(&tenant), None);
    }
}
