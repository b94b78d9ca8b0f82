//! Flags, and the only wiring.

use crate::{
    client::Cluster,
    downward::read,
    engine::Engine,
    metrics::Metrics,
    pace::Pace,
    patrol,
    registry::{self, Registry},
};
use anyhow::Context;
use clap::Parser;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use telemetry::LogFormat;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long work in progress may take to end after a signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Copies what must run into the super cluster and mirrors status back.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  sublet-syncer                          inside the super cluster\n  \
                  sublet-syncer --kubeconfig super.conf  outside it"
)]
pub struct Args {
    /// Kubeconfig of the super cluster; inside a pod its service account is used.
    #[arg(long, env = "SUBLET_KUBECONFIG", value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Seconds in which the patrol visits every object of both sides.
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..))]
    patrol_period: u64,
}

impl Args {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            kubeconfig,
            listen,
            patrol_period,
        } = self;
        let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
        telemetry::start_logging(LogFormat::Plain, &filter)?;
        let config = config(kubeconfig).await?;
        let engine = Arc::new(Engine::new(
            Cluster::new(&config, Pace::shared("super cluster"))?,
            Metrics::new(),
        ));
        let kube_system = read(&engine.cluster, "/api/v1/namespaces/kube-system")
            .await
            .with_context(|| format!("reading the super cluster at {}", config.cluster_url))?
            .context("the super cluster has no kube-system namespace")?;
        // Set once, here.
        let _ = engine.super_proof.set(kube_system.uid().to_owned());

        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let registry = Arc::new(Registry::default());
        engine.start(&tasks, &cancel);
        tasks.spawn(
            registry
                .clone()
                .run(engine.clone(), tasks.clone(), cancel.clone()),
        );
        tasks.spawn(patrol::run(
            engine.clone(),
            Duration::from_secs(patrol_period),
            cancel.clone(),
        ));
        tasks.spawn(housekeeping(engine.clone(), registry, cancel.clone()));
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        // Not one of the tasks that are waited for: probes are answered until the end.
        let telemetry = tokio::spawn(telemetry::serve(listener, engine));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), server = %config.cluster_url, "started");

        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            end = telemetry => anyhow::bail!("the task that serves metrics ended: {end:?}"),
        }
        cancel.cancel();
        tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("work in progress didn't end in time");
        }
        Ok(())
    }
}

/// Forgets tenants that are gone.
async fn housekeeping(engine: Arc<Engine>, registry: Arc<Registry>, cancel: CancellationToken) {
    let mut rounds = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = rounds.tick() => registry::forget_gone(&engine, &registry).await,
        }
        engine.drop_unjudged();
    }
}

async fn config(path: Option<PathBuf>) -> anyhow::Result<Config> {
    let Some(path) = path else {
        return Config::infer()
            .await
            .context("no kubeconfig and no service account: use --kubeconfig PATH");
    };
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
