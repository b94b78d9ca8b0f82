//! What the syncer counts.

use crate::queue::Direction;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::atomic::AtomicU64,
    time::Duration,
};
use telemetry::Gauges;
use tenancy::tenant::TenantId;

pub(crate) const PREFIX: &str = "sublet_syncer";

/// The syncer's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    queue_seconds: Family<ByDirection, Histogram, fn() -> Histogram>,
    work: Family<ByOutcome, Counter>,
    refused: Family<ByReason, Counter>,
    deleted: Family<ByKind, Counter>,
    repaired: Family<ByTenant, Counter>,
    patrol: Family<ByTenant, Counter>,
    drifted: Family<ByTenant, Counter>,
    mended: Family<ByTenant, Counter>,
    unsaid: Family<ByTenant, Counter>,
    writes: Family<ByTenant, Counter>,
    limited: Family<ByTenant, Counter<f64, AtomicU64>>,
    /// Reasons and kinds that were counted, by tenant: of the other labels there are few.
    counted: Mutex<HashMap<TenantId, HashSet<&'static str>>>,
}

/// A tenant as a label: two are looked up for every key that is worked.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Named(TenantId);

impl EncodeLabelValue for Named {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByDirection {
    tenant: Named,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    tenant: Named,
    direction: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    tenant: Named,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    tenant: Named,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTenant {
    tenant: Named,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        fn seconds() -> Histogram {
            Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
        }
        let mut registry = Registry::with_prefix(PREFIX);
        let queue_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "queue_seconds",
            "Time from ready to taken",
            queue_seconds.clone(),
        );
        let work = Family::default();
        registry.register("work", "Keys worked", work.clone());
        let refused = Family::default();
        registry.register(
            "refused",
            "Objects that don't cross, by reason",
            refused.clone(),
        );
        let deleted = Family::default();
        registry.register("deleted", "Super objects deleted", deleted.clone());
        let repaired = Family::default();
        registry.register(
            "patched",
            "Super objects patched to what the tenant asks for",
            repaired.clone(),
        );
        let patrol = Family::default();
        registry.register(
            "patrol_checked",
            "Objects that the patrol looked at",
            patrol.clone(),
        );
        let mended = Family::default();
        registry.register(
            "patrol_repaired",
            "Objects that the patrol queued and that had to be written",
            mended.clone(),
        );
        let unsaid = Family::default();
        registry.register(
            "events_dropped",
            "Events that weren't written, since there were too many",
            unsaid.clone(),
        );
        let writes = Family::default();
        registry.register(
            "super_writes",
            "Writes to the super API server, which the tenant's rate counts",
            writes.clone(),
        );
        let limited = Family::default();
        registry.register(
            "rate_limited_seconds",
            "Time in which keys waited for nothing but the tenant's rate",
            limited.clone(),
        );
        let drifted = Family::default();
        registry.register(
            "patrol_drifted",
            "Objects that the patrol queued",
            drifted.clone(),
        );
        Self {
            registry,
            queue_seconds,
            work,
            refused,
            deleted,
            repaired,
            patrol,
            drifted,
            mended,
            unsaid,
            writes,
            limited,
            counted: Mutex::default(),
        }
    }

    pub(crate) fn waited(&self, tenant: &TenantId, direction: Direction, waited: Duration) {
        self.queue_seconds
            .get_or_create(&by_direction(tenant, direction))
            .observe(waited.as_secs_f64());
    }

    pub(crate) fn worked(&self, tenant: &TenantId, direction: Direction, done: bool) {
        let outcome = if done { DONE } else { RETRIED };
        self.work
            .get_or_create(&by_outcome(tenant, direction, outcome))
            .inc();
    }

    /// What was written to the super API server.
    pub(crate) fn wrote(&self, tenant: &TenantId, writes: u32) {
        if writes > 0 {
            let counter = self.writes.get_or_create(&by_tenant(tenant));
            counter.inc_by(writes.into());
        }
    }

    /// Its rate alone kept the tenant waiting so long.
    pub(crate) fn limited(&self, tenant: &TenantId, time: Duration) {
        if !time.is_zero() {
            let counter = self.limited.get_or_create(&by_tenant(tenant));
            counter.inc_by(time.as_secs_f64());
        }
    }

    pub(crate) fn refused(&self, tenant: &TenantId, reason: &'static str) {
        self.note(tenant, reason);
        self.refused.get_or_create(&by_reason(tenant, reason)).inc();
    }

    /// All of them, and `now`, in the text format of OpenMetrics.
    pub(crate) fn text(&self, now: &Gauges) -> Result<String, fmt::Error> {
        telemetry::text(&self.registry, now)
    }

    pub(crate) fn deleted(&self, tenant: &TenantId, kind: &'static str) {
        self.note(tenant, kind);
        self.deleted.get_or_create(&by_kind(tenant, kind)).inc();
    }

    pub(crate) fn repaired(&self, tenant: &TenantId) {
        self.repaired.get_or_create(&by_tenant(tenant)).inc();
    }

    /// What the patrol suspected was true.
    pub(crate) fn patrol_repaired(&self, tenant: &TenantId) {
        self.mended.get_or_create(&by_tenant(tenant)).inc();
    }

    pub(crate) fn event_dropped(&self, tenant: &TenantId) {
        self.unsaid.get_or_create(&by_tenant(tenant)).inc();
    }

    pub(crate) fn patrolled(&self, tenant: &TenantId, checked: u64, drifted: u64) {
        let labels = by_tenant(tenant);
        self.patrol.get_or_create(&labels).inc_by(checked);
        self.drifted.get_or_create(&labels).inc_by(drifted);
    }
}

impl Metrics {
    /// Removes the series of a tenant that this process doesn't serve any more.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        for direction in [Direction::Down, Direction::Up] {
            self.queue_seconds.remove(&by_direction(tenant, direction));
            for outcome in [DONE, RETRIED] {
                self.work.remove(&by_outcome(tenant, direction, outcome));
            }
        }
        let by_tenants = [
            &self.repaired,
            &self.patrol,
            &self.drifted,
            &self.mended,
            &self.unsaid,
            &self.writes,
        ];
        for family in by_tenants {
            family.remove(&by_tenant(tenant));
        }
        self.limited.remove(&by_tenant(tenant));
        for word in self.counted.lock().remove(tenant).unwrap_or_default() {
            self.refused.remove(&by_reason(tenant, word));
            self.deleted.remove(&by_kind(tenant, word));
        }
    }

    fn note(&self, tenant: &TenantId, word: &'static str) {
        let mut counted = self.counted.lock();
        counted.entry(tenant.clone()).or_default().insert(word);
    }
}

const DONE: &str = "done";
const RETRIED: &str = "retried";

fn by_direction(tenant: &TenantId, direction: Direction) -> ByDirection {
    ByDirection {
        tenant: Named(tenant.clone()),
        direction: name(direction),
    }
}

fn by_outcome(tenant: &TenantId, direction: Direction, outcome: &'static str) -> ByOutcome {
    ByOutcome {
        tenant: Named(tenant.clone()),
        direction: name(direction),
        outcome,
    }
}

fn by_reason(tenant: &TenantId, reason: &'static str) -> ByReason {
    ByReason {
        tenant: Named(tenant.clone()),
        reason,
    }
}

fn by_kind(tenant: &TenantId, kind: &'static str) -> ByKind {
    ByKind {
        tenant: Named(tenant.clone()),
        kind,
    }
}

fn by_tenant(tenant: &TenantId) -> ByTenant {
    ByTenant {
        tenant: Named(tenant.clone()),
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "down",
        Direction::Up => "up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_tenant_go_with_it_and_those_of_others_stay() {
        let metrics = Metrics::new();
        let (gone, stays) = (TenantId::from_bits([1; 16]), TenantId::from_bits([2; 16]));
        let names = |text: &str, id: &TenantId| {
            let lines = text.lines().filter(|line| line.contains(id.as_str()));
            let names = lines.filter_map(|line| Some(line.split_once('{')?.0.to_owned()));
            names.collect::<HashSet<_>>()
        };
        for tenant in [&gone, &stays] {
            for direction in [Direction::Down, Direction::Up] {
                metrics.waited(tenant, direction, Duration::ZERO);
                metrics.worked(tenant, direction, true);
                metrics.worked(tenant, direction, false);
            }
            metrics.refused(tenant, "HostPath");
            metrics.deleted(tenant, "Pod");
            metrics.deleted(tenant, "Secret");
            metrics.repaired(tenant);
            metrics.patrol_repaired(tenant);
            metrics.event_dropped(tenant);
            metrics.wrote(tenant, 1);
            metrics.limited(tenant, Duration::from_secs(1));
            metrics.patrolled(tenant, 1, 1);
        }
        let before = metrics.text(&Gauges::default()).unwrap();
        // A family that nothing counts here isn't proven to be forgotten.
        for line in before.lines() {
            if let Some(family) = line
                .strip_prefix("# HELP ")
                .and_then(|help| help.split(' ').next())
            {
                let is_counted = |name: &String| name.starts_with(family);
                assert!(names(&before, &gone).iter().any(is_counted), "{family}");
            }
        }
        metrics.forget(&gone);
        let after = metrics.text(&Gauges::default()).unwrap();
        assert!(!after.contains(gone.as_str()), "{after}");
        assert_eq!(names(&after, &stays), names(&before, &stays));
    }
}
