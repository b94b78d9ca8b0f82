//! What the manager tells about itself: log lines, `/livez`, `/readyz` and `/metrics`.

use crate::object::Object;
use api::Phase;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tracing_subscriber::EnvFilter;

/// Connections served at once: probes and a scraper or two.
const CONNECTIONS: usize = 32;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object per line.
    Json,
}

/// Starts logging; `filter` is such as `info` or `info,manager=debug`.
pub(crate) fn start_logging(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    match format {
        LogFormat::Plain => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

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
        Phase::Deleting => "deleting",
        Phase::Failed => "failed",
    }
}

/// Answers probes and scrapes until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, registry: Arc<Registry>, ready: Arc<AtomicBool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return; // Never closed.
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the metrics port could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, ready) = (registry.clone(), ready.clone());
        // Its end is of no interest: a probe that failed asks again.
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &registry, &ready);
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30));
            drop(server.serve_connection(TokioIo::new(stream), service).await);
            drop(slot);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    registry: &Registry,
    ready: &AtomicBool,
) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if ready.load(Ordering::Relaxed) => (StatusCode::OK, "ok".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "VirtualControlPlanes aren't listed yet".to_owned(),
        ),
        "/metrics" => {
            let mut text = String::new();
            match encode(&mut text, registry) {
                Ok(()) => (StatusCode::OK, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            }
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
