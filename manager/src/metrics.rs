//! What the manager counts, and what it shows to probes.

use crate::object::Object;
use api::Phase;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use telemetry::{Gauges, Page};
use tokio::time::Instant;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InPhase {
    phase: &'static str,
}

/// What is counted.
#[derive(Clone)]
pub(crate) struct Metrics {
    passes: Family<Outcome, Counter>,
    pass_seconds: Histogram,
    phases: Family<InPhase, Gauge>,
    known: Arc<Mutex<BTreeMap<(String, String), Phase>>>,
}

/// Observes the time from its making to its end.
pub(crate) struct Timer {
    began: Instant,
    seconds: Histogram,
}

impl Metrics {
    /// Makes the metrics known to `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            passes: Family::default(),
            pass_seconds: Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
            phases: Family::default(),
            known: Arc::default(),
        };
        registry.register(
            "passes",
            "Passes over VirtualControlPlanes by outcome",
            metrics.passes.clone(),
        );
        registry.register(
            "pass_seconds",
            "Time of a pass",
            metrics.pass_seconds.clone(),
        );
        registry.register(
            "control_planes",
            "VirtualControlPlanes by phase",
            metrics.phases.clone(),
        );
        metrics
    }

    pub(crate) fn time_pass(&self) -> Timer {
        Timer {
            began: Instant::now(),
            seconds: self.pass_seconds.clone(),
        }
    }

    pub(crate) fn count_pass(&self, outcome: &'static str) {
        self.passes.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn set_phase(&self, vcp: &Object, phase: Phase) {
        let key = (
            vcp.namespace().unwrap_or_default().to_owned(),
            vcp.name().to_owned(),
        );
        let before = self.known.lock().insert(key, phase);
        if before != Some(phase) {
            self.gauge(phase).inc();
            before.map(|before| self.gauge(before).dec());
        }
    }

    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        if let Some(before) = self
            .known
            .lock()
            .remove(&(namespace.to_owned(), name.to_owned()))
        {
            self.gauge(before).dec();
        }
    }

    fn gauge(&self, phase: Phase) -> Gauge {
        self.phases
            .get_or_create(&InPhase { phase: word(phase) })
            .clone()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Provisioning => "provisioning",
        Phase::Ready => "ready",
        Phase::Degraded => "degraded",
        Phase::Paused => "paused",
        Phase::Sleeping => "sleeping",
        Phase::Deleting => "deleting",
        Phase::Failed => "failed",
    }
}

/// What probes and scrapers are shown.
pub(crate) struct Shown {
    /// All metrics.
    pub(crate) registry: Registry,
    /// Whether VirtualControlPlanes are listed.
    pub(crate) ready: AtomicBool,
}

impl Page for Shown {
    fn ready(&self) -> Result<(), &'static str> {
        if self.ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("VirtualControlPlanes aren't listed yet")
        }
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        telemetry::text(&self.registry, &Gauges::default())
    }
}
