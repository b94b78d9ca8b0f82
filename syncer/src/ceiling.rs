//! How much memory what is remembered of tenants' objects may take (T40): of one tenant, and of all that have very many.
//!
//! Beyond it nothing more of the tenant is taken in ([`crate::untaken`]). What is known is never forgotten for it: what has a
//! twin is known from the super cluster, and goes on being synced and deleted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tenancy::kind::Kind;

/// MiB of one tenant if nobody says otherwise: more than 50,000 objects with names of usual length.
pub(crate) const MOST_MIB: u32 = 64;
/// Bytes of each tenant that count for it alone, some 1,500 objects: tenants with very many take no room from small ones.
const ALWAYS: usize = 1 << 20;
/// So many tenants find room for all that one may have; others beside them only for what small ones have. A syncer that may
/// have 512 MiB lives on.
const LARGE: usize = 2;

/// The limits, and what all tenants together have above what each always may.
pub(crate) struct Ceiling {
    of_one: usize,
    above: AtomicUsize,
}

impl Ceiling {
    /// So many bytes of one tenant.
    pub(crate) fn of(of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            of_one,
            above: AtomicUsize::new(0),
        })
    }
}

/// What one tenant has of it.
pub(crate) struct Share {
    ceiling: Arc<Ceiling>,
    bytes: AtomicUsize,
}

impl Share {
    /// Nothing yet.
    pub(crate) fn of(ceiling: &Arc<Ceiling>) -> Self {
        Self {
            ceiling: ceiling.clone(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Bytes that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that it may have, as long as not too many others have as much.
    pub(crate) fn most(&self) -> usize {
        self.ceiling.of_one
    }

    /// Whether another object of a kind may be remembered.
    ///
    /// ConfigMaps and Secrets leave some of it to all else: most of them stay in the tenant, and one that something refers to
    /// is read and goes down whether it is remembered or not.
    pub(crate) fn has_room(&self, rule: &dyn Kind) -> bool {
        let of_one = self.most();
        let most = match rule.resource().kind {
            "ConfigMap" | "Secret" => of_one / 4 * 3,
            _ => of_one,
        };
        let bytes = self.bytes();
        let of_all = of_one.saturating_mul(LARGE);
        bytes < most && (bytes < ALWAYS || self.ceiling.above.load(Ordering::Relaxed) < of_all)
    }

    /// An entry of `before` bytes has `after`; called by one at a time.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        if before != after {
            self.set((self.bytes() + after).saturating_sub(before));
        }
    }

    /// It has so many bytes; called by one at a time.
    pub(crate) fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        let above = |bytes: usize| bytes.saturating_sub(ALWAYS);
        let (before, now) = (above(before), above(bytes));
        if now >= before {
            self.ceiling
                .above
                .fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.ceiling
                .above
                .fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenancy::kind;

    const MIB: usize = 1 << 20;

    fn has_room(share: &Share, name: &str) -> bool {
        share.has_room(kind::rule(kind::index(name)))
    }

    #[test]
    fn t40_a_flood_of_config_maps_leaves_room_for_pods_and_both_end() {
        let share = Share::of(&Ceiling::of(64 * MIB));
        for (mib, config_map, pod) in [
            (0, true, true),
            (47, true, true),
            (48, false, true),
            (63, false, true),
            (64, false, false),
        ] {
            share.set(mib * MIB);
            let rooms = ["ConfigMap", "Secret", "Pod"].map(|name| has_room(&share, name));
            assert_eq!(rooms, [config_map, config_map, pod], "{mib}");
        }
    }

    #[test]
    fn t40_many_tenants_with_very_many_objects_take_no_room_from_small_ones() {
        let ceiling = Ceiling::of(64 * MIB);
        let mut shares: Vec<Share> = (0..100).map(|_| Share::of(&ceiling)).collect();
        // Each as much as it can.
        for share in &shares {
            while has_room(share, "Pod") {
                share.changed(0, MIB / 2);
            }
            assert!(share.bytes() >= ALWAYS);
        }
        let all: usize = shares.iter().map(Share::bytes).sum();
        assert!(all <= (LARGE * 64 + 101) * MIB, "{all}");
        let small = Share::of(&ceiling);
        small.set(MIB / 2);
        assert!(has_room(&small, "Pod"));
        small.set(2 * MIB);
        assert!(!has_room(&small, "Pod"));
        // What is gone gives its room back.
        shares.remove(0);
        assert!(has_room(&small, "Pod"));
        shares.clear();
        small.set(0);
        assert_eq!(ceiling.above.load(Ordering::Relaxed), 0);
    }
}
