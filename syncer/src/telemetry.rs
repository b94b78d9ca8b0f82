//! Logs, metrics, and the small HTTP server that shows them.

use crate::engine::{Direction, Engine};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tenancy::{circuit::Advice, tenant::TenantId};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Sets up logging; the level comes from `RUST_LOG`, `info` when it isn't set.
pub(crate) fn init_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

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
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByDirection {
    tenant: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    tenant: String,
    direction: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    tenant: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    tenant: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTenant {
    tenant: String,
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
        }
    }

    pub(crate) fn waited(&self, tenant: &TenantId, direction: Direction, waited: Duration) {
        let labels = ByDirection {
            tenant: tenant.to_string(),
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
                tenant: tenant.to_string(),
                direction: name(direction),
                outcome,
            })
            .inc();
    }

    pub(crate) fn refused(&self, tenant: &TenantId, reason: &'static str) {
        self.refused
            .get_or_create(&ByReason {
                tenant: tenant.to_string(),
                reason,
            })
            .inc();
    }

    pub(crate) fn deleted(&self, tenant: &TenantId, kind: &'static str) {
        self.deleted
            .get_or_create(&ByKind {
                tenant: tenant.to_string(),
                kind,
            })
            .inc();
    }

    pub(crate) fn repaired(&self, tenant: &TenantId) {
        self.repaired
            .get_or_create(&ByTenant {
                tenant: tenant.to_string(),
            })
            .inc();
    }

    pub(crate) fn patrolled(&self, tenant: &TenantId, checked: u64, drifted: u64) {
        let labels = ByTenant {
            tenant: tenant.to_string(),
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

/// Serves `/livez`, `/readyz` and `/metrics` until cancelled.
///
/// Ready means that the super cluster's objects are known.
pub(crate) async fn serve(
    address: SocketAddr,
    engine: Arc<Engine>,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        let engine = engine.clone();
        let service = service_fn(move |request| {
            let response = answer(&request, &engine);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A probe's connection ends with its answer; its failure concerns nobody else.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(30), connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, engine: &Engine) -> Response<Full<bytes::Bytes>> {
    let (status, body) = match request.uri().path() {
        "/livez" => (200, "ok".to_owned()),
        "/readyz" if engine.is_ready() => (200, "ok".to_owned()),
        "/readyz" => (
            503,
            "the super cluster's objects aren't listed yet".to_owned(),
        ),
        "/metrics" => {
            let mut text = String::new();
            let encoded = encode(&mut text, &engine.metrics.registry);
            (
                if encoded.is_ok() { 200 } else { 500 },
                text + &state(engine),
            )
        }
        _ => (404, "not found".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// Gauges that are read when they are asked for.
fn state(engine: &Engine) -> String {
    let mut text = String::new();
    if let Some(places) = engine.cluster.pace().places() {
        text += &format!("sublet_syncer_super_request_limit {places}\n");
    }
    for tenant in engine.served() {
        let id = &tenant.id;
        let (down, up, known) = (
            engine.down.depth(id),
            engine.up.depth(id),
            tenant.table.len(),
        );
        text +=
            &format!("sublet_syncer_queue_depth{{tenant=\"{id}\",direction=\"down\"}} {down}\n");
        text += &format!("sublet_syncer_queue_depth{{tenant=\"{id}\",direction=\"up\"}} {up}\n");
        text += &format!("sublet_syncer_objects{{tenant=\"{id}\"}} {known}\n");
        let reachable = u8::from(tenant.cluster.pace().advice() == Advice::Ask);
        text += &format!("sublet_syncer_tenant_reachable{{tenant=\"{id}\"}} {reachable}\n");
    }
    text
}
