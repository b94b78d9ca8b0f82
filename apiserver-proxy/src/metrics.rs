//! What the proxy counts, and what it shows to probes.

use crate::{
    index::{Index, Tenant},
    limit::Noise,
    node_certificate::Signer,
    serving::Serving,
    watch::Listed,
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use telemetry::{Gauges, Page};

const PREFIX: &str = "sublet_apiserver_proxy";
/// The tenant of a connection whose tenant can't be told.
pub(crate) const NOBODY: &str = "";

/// A part of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Plane {
    /// The front door.
    Door,
    /// The kubelet of the virtual nodes.
    Kubelet,
    /// The way out.
    Out,
    /// The metrics API of tenants.
    Figures,
    /// DNS of tenants' pods.
    Dns,
}

impl Plane {
    const ALL: [Self; 5] = [
        Self::Door,
        Self::Kubelet,
        Self::Out,
        Self::Figures,
        Self::Dns,
    ];

    /// For logs and labels.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Door => "front-door",
            Self::Kubelet => "kubelet",
            Self::Out => "way-out",
            Self::Figures => "metrics-api",
            Self::Dns => "dns",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    tenant: String,
    plane: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByPlane {
    tenant: String,
    plane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVerb {
    plane: &'static str,
    verb: &'static str,
}

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<ByOutcome, Counter>,
    open: Family<ByPlane, Gauge>,
    bytes: Family<ByPlane, Counter>,
    start: Family<ByVerb, Histogram, fn() -> Histogram>,
    /// The same by tenant, in fewer steps: there are hundreds of tenants.
    start_of: Family<ByPlane, Histogram, fn() -> Histogram>,
    /// Which series there are, so that a tenant's can be removed.
    series: Mutex<HashSet<ByOutcome>>,
    /// On log lines about callers that are no tenant's, by what they did.
    strangers: Noise,
}

/// Counts as open until it is dropped.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        fn seconds() -> Histogram {
            Histogram::new([
                0.0003, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0,
            ])
        }
        fn few_seconds() -> Histogram {
            Histogram::new([0.001, 0.01, 0.05, 0.3, 1.0, 10.0])
        }
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Self {
            requests: Family::default(),
            open: Family::default(),
            bytes: Family::default(),
            start: Family::new_with_constructor(seconds as fn() -> Histogram),
            start_of: Family::new_with_constructor(few_seconds as fn() -> Histogram),
            series: Mutex::default(),
            strangers: Noise::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Connections and requests by outcome",
            metrics.requests.clone(),
        );
        registry.register(
            "open_connections",
            "Connections and streams that are open",
            metrics.open.clone(),
        );
        registry.register(
            "bytes",
            "Bytes moved, both ways together",
            metrics.bytes.clone(),
        );
        registry.register(
            "start_seconds",
            "Time until the other side answered",
            metrics.start.clone(),
        );
        registry.register(
            "tenant_start_seconds",
            "The same by tenant, without waking",
            metrics.start_of.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    /// A connection or request had that outcome.
    pub(crate) fn count(&self, tenant: &str, plane: Plane, outcome: &'static str) {
        let labels = ByOutcome {
            tenant: tenant.to_owned(),
            plane: plane.word(),
            outcome,
        };
        self.requests.get_or_create(&labels).inc();
        self.series.lock().insert(labels);
    }

    /// A caller that is no tenant's was let go: counted, and told of in the log at most twice a minute.
    pub(crate) fn turned_away(&self, plane: Plane, why: &'static str) {
        self.count(NOBODY, plane, why);
        // Balancers that look whether the port is open say nothing.
        let is_probe = why == "closed";
        if !is_probe && self.strangers.may_speak(plane, why) {
            let plane = plane.word();
            tracing::warn!(plane, why, "let go of a caller that is no tenant's");
        }
    }

    /// A tenant was refused something: counted, and told of in the same way.
    pub(crate) fn turned_down(
        &self,
        tenant: &Tenant,
        plane: Plane,
        why: &'static str,
        source: Option<IpAddr>,
    ) {
        let id = tenant.id.as_str();
        self.count(id, plane, why);
        if tenant.limits.noise.may_speak(plane, why) {
            let (plane, source) = (plane.word(), source.map(tracing::field::display));
            tracing::warn!(
                tenant = id,
                plane,
                why,
                source,
                "refused what a tenant asks for"
            );
        }
    }

    /// A tenant's API server sent what is no request that is taken here.
    pub(crate) fn malformed(&self, tenant: &Tenant, plane: Plane) {
        self.turned_down(tenant, plane, "malformed", None);
    }

    /// A connection or stream is open as long as the answer lives.
    pub(crate) fn open(&self, tenant: &str, plane: Plane) -> Open {
        let gauge = self.open.get_or_create(&by_plane(tenant, plane)).clone();
        gauge.inc();
        Open(gauge)
    }

    /// Bytes were moved.
    pub(crate) fn moved(&self, tenant: &str, plane: Plane, bytes: u64) {
        self.bytes
            .get_or_create(&by_plane(tenant, plane))
            .inc_by(bytes);
    }

    /// The other side answered a tenant after so long.
    pub(crate) fn started(&self, tenant: &str, plane: Plane, verb: &'static str, after: Duration) {
        self.answered(plane, verb, after);
        let histogram = self.start_of.get_or_create(&by_plane(tenant, plane));
        histogram.observe(after.as_secs_f64());
    }

    /// A control plane woke after so long, which says nothing of how it answers.
    pub(crate) fn woke(&self, after: Duration) {
        self.answered(Plane::Door, "wake", after);
    }

    fn answered(&self, plane: Plane, verb: &'static str, after: Duration) {
        let labels = ByVerb {
            plane: plane.word(),
            verb,
        };
        let histogram = self.start.get_or_create(&labels);
        histogram.observe(after.as_secs_f64());
    }

    /// How often that outcome was counted.
    #[cfg(test)]
    pub(crate) fn counted(&self, tenant: &str, plane: Plane, outcome: &'static str) -> u64 {
        let labels = ByOutcome {
            tenant: tenant.to_owned(),
            plane: plane.word(),
            outcome,
        };
        self.requests.get_or_create(&labels).get()
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn opened(&self, tenant: &str, plane: Plane) -> i64 {
        self.open.get_or_create(&by_plane(tenant, plane)).get()
    }

    /// Removes the series of tenants that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        let mut series = self.series.lock();
        series.retain(|labels| {
            if labels.tenant == NOBODY || is_there(&labels.tenant) {
                return true;
            }
            self.requests.remove(labels);
            for plane in Plane::ALL {
                self.open.remove(&by_plane(&labels.tenant, plane));
                self.bytes.remove(&by_plane(&labels.tenant, plane));
                self.start_of.remove(&by_plane(&labels.tenant, plane));
            }
            false
        });
    }
}

fn by_plane(tenant: &str, plane: Plane) -> ByPlane {
    ByPlane {
        tenant: tenant.to_owned(),
        plane: plane.word(),
    }
}

/// What probes and scrapers are shown.
pub(crate) struct Shown {
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What is known.
    pub(crate) index: Arc<Index>,
    /// Which lists are complete, and what was heard since.
    pub(crate) listed: Arc<Listed>,
    /// The certificate for tenants' API servers.
    pub(crate) serving: Arc<Serving>,
    /// Signs for the addresses of virtual nodes.
    pub(crate) signer: Arc<Signer>,
    /// Set once the process is asked to end: no new connections, please.
    pub(crate) ending: AtomicBool,
}

impl Page for Shown {
    fn ready(&self) -> Result<(), &'static str> {
        if self.ending.load(Ordering::Relaxed) {
            return Err("it is ending");
        }
        if !self.listed.all() {
            return Err("tenants, their pods and their names aren't listed yet");
        }
        if !self.serving.is_there() {
            return Err("there is no serving certificate yet: the manager makes it");
        }
        if !self.signer.is_there() {
            return Err("there is no authority of nodes yet: the manager makes it");
        }
        Ok(())
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut now = Gauges::new(PREFIX);
        let what = |what: &str| vec![("what", what.to_owned())];
        let known = ["tenants", "pods", "services"].map(what);
        now.register(
            "known",
            "Objects in the index",
            known.into_iter().zip(self.index.counts()),
        );
        let silences = self.listed.silences().map(|(name, silence)| {
            let seconds = usize::try_from(silence.as_secs()).unwrap_or(usize::MAX);
            (what(name), seconds)
        });
        now.register(
            "watch_silent_seconds",
            "Since the last word of a watch of the super cluster",
            silences,
        );
        now.register(
            "certificate_refused",
            "Whether the newest can't be used",
            [
                ("certificate", self.serving.is_refused()),
                ("node_authority", self.signer.is_refused()),
            ]
            .map(|(name, refused)| (what(name), usize::from(refused))),
        );
        telemetry::text(&self.metrics.registry, &now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_tenant_waits_is_told_by_plane_in_few_series_that_go_with_it() {
        let metrics = Metrics::new();
        let text = || telemetry::text(&metrics.registry, &Gauges::new(PREFIX)).unwrap();
        let of = |tenant: &str| {
            let text = text();
            let lines = text
                .lines()
                .filter(|line| line.contains("tenant_start_seconds") && line.contains(tenant));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        for tenant in ["alpha", "beta"] {
            let after = Duration::from_millis(20);
            metrics.started(tenant, Plane::Kubelet, "exec", after);
            metrics.started(tenant, Plane::Kubelet, "logs", after);
            metrics.count(tenant, Plane::Kubelet, "done");
        }
        metrics.woke(Duration::from_secs(9));
        let lines = of("alpha");
        assert_eq!(lines.len(), 9, "whatever the verbs: {lines:?}");
        let at_most = |limit: &str| {
            let bucket = format!("le=\"{limit}\"");
            let line = lines.iter().find(|line| line.contains(&bucket));
            line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
        };
        assert_eq!(at_most("0.01").as_deref(), Some("0"), "{lines:?}");
        assert_eq!(at_most("0.05").as_deref(), Some("2"), "{lines:?}");
        metrics.keep(|tenant| tenant == "beta");
        assert_eq!((of("alpha").len(), of("beta").len()), (0, 9));
    }

    /// All replicas are mostly cut off at once: not ready, they would take the front door along.
    #[tokio::test(start_paused = true)]
    async fn t29_a_replica_that_hears_nothing_says_of_which_watch_and_stays_as_ready_as_it_was() {
        let shown = Shown {
            metrics: Arc::new(Metrics::new()),
            index: Arc::default(),
            listed: Arc::default(),
            serving: Arc::default(),
            signer: Arc::default(),
            ending: AtomicBool::new(false),
        };
        let says = |word: &str| shown.ready().unwrap_err().contains(word);
        let seconds = "sublet_apiserver_proxy_watch_silent_seconds{";
        assert!(says("aren't listed yet"));
        assert!(!shown.metrics().unwrap().contains(seconds));
        shown.listed.complete();
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(says("certificate"));
        tokio::time::advance(Duration::from_secs(180)).await;
        assert!(says("certificate"));
        let text = shown.metrics().unwrap();
        for what in ["routes", "pods", "node_authority"] {
            let line = format!("{seconds}what=\"{what}\"}} 300");
            assert!(text.contains(&line), "{text}");
        }
    }
}
