//! What the syncer counts.

use crate::queue::Direction;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{fmt, time::Duration};
use tenancy::tenant::TenantId;

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
        let mut registry = Registry::with_prefix("sublet_syncer");
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
        }
    }

    pub(crate) fn waited(&self, tenant: &TenantId, direction: Direction, waited: Duration) {
        let labels = ByDirection {
            tenant: Named(tenant.clone()),
            direction: name(direction),
        };
        self.queue_seconds
            .get_or_create(&labels)
            .observe(waited.as_secs_f64());
    }

    pub(crate) fn worked(&self, tenant: &TenantId, direction: Direction, done: bool) {
        let outcome = if done { "done" } else { "retried" };
        self.work
            .get_or_create(&ByOutcome {
                tenant: Named(tenant.clone()),
                direction: name(direction),
                outcome,
            })
            .inc();
    }

    pub(crate) fn refused(&self, tenant: &TenantId, reason: &'static str) {
        self.refused
            .get_or_create(&ByReason {
                tenant: Named(tenant.clone()),
                reason,
            })
            .inc();
    }

    /// All of them in the text format.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn deleted(&self, tenant: &TenantId, kind: &'static str) {
        self.deleted
            .get_or_create(&ByKind {
                tenant: Named(tenant.clone()),
                kind,
            })
            .inc();
    }

    pub(crate) fn repaired(&self, tenant: &TenantId) {
        self.repaired
            .get_or_create(&ByTenant {
                tenant: Named(tenant.clone()),
            })
            .inc();
    }

    /// What the patrol suspected was true.
    pub(crate) fn patrol_repaired(&self, tenant: &TenantId) {
        self.mended
            .get_or_create(&ByTenant {
                tenant: Named(tenant.clone()),
            })
            .inc();
    }

    pub(crate) fn patrolled(&self, tenant: &TenantId, checked: u64, drifted: u64) {
        let labels = ByTenant {
            tenant: Named(tenant.clone()),
        };
        self.patrol.get_or_create(&labels).inc_by(checked);
        self.drifted.get_or_create(&labels).inc_by(drifted);
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "down",
        Direction::Up => "up",
    }
}
