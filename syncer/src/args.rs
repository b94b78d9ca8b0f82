//! Flags, and the only wiring.

use crate::{
    ceiling::{self, Ceiling},
    client::{Cluster, Traffic},
    engine::Engine,
    fleet::Fleet,
    lag, lasting,
    live::read,
    metrics::Metrics,
    pace::Pace,
    patrol,
    registry::{self, Registry},
    rounds::Rounds,
    slices, work,
};
use anyhow::Context;
use clap::Parser;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use telemetry::LogArgs;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span};

/// How long work in progress may take to end after a signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to leave the others after that; a pod is killed 30 seconds after it was asked to end.
const RESIGN_LIMIT: Duration = Duration::from_secs(8);
/// How long until the super cluster is asked again at the start.
const AGAIN: Duration = Duration::from_secs(2);

/// Copies what must run into the super cluster and mirrors status back.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  sublet-syncer                          inside the super cluster\n  \
                  sublet-syncer --kubeconfig super.conf  outside it"
)]
pub struct Args {
    /// Kubeconfig of the super cluster; inside a pod its service account is used
    #[arg(long, env = "SUBLET_KUBECONFIG", value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Seconds in which the patrol visits every object of both sides, a day at most
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patrol_period: u64,
    /// Seconds for which a ConfigMap or Secret that nothing refers to any more stays in the super cluster, a day at most: the
    /// next pod of a Job needs it again
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    unneeded_period: u64,
    /// MiB of memory that what is remembered of one tenant's objects may take; beyond it no object is synced that isn't known yet
    #[arg(long, default_value_t = ceiling::MOST_MIB, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    tenant_memory: u32,
    /// Name of this syncer among others on the same super cluster: each has its own, and keeps it over a restart
    #[arg(long, env = "SUBLET_NAME", default_value = "sublet-syncer", value_name = "NAME", value_parser = name)]
    name: String,
    /// A folder of this machine and of this syncer alone: one that was killed and starts again needn't wait then until
    /// its own Lease has run out
    #[arg(long, env = "SUBLET_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            kubeconfig,
            listen,
            patrol_period,
            unneeded_period,
            tenant_memory,
            name,
            state,
            log,
        } = self;
        log.start().context("--log")?;
        telemetry::raise_file_limit();
        let config = telemetry::config(kubeconfig).await?;
        // Held until this process ends.
        let lock = Fleet::lock(state.as_deref()).context("taking the lock of --state")?;
        let fleet = Fleet::new(
            &name,
            lock.as_ref(),
            Cluster::new(&config, Pace::own("super cluster, Leases"), Traffic::Rare)?,
        )?;
        let engine = Arc::new(Engine::new(
            Cluster::new(&config, Pace::shared("super cluster"), Traffic::Steady)?,
            fleet.clone(),
            Metrics::new(),
            Rounds::every(Duration::from_secs(patrol_period)),
            Duration::from_secs(unneeded_period),
            Ceiling::of(usize::try_from(tenant_memory)? << 20),
        ));
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        let telemetry = telemetry::serve(listener, engine.clone());
        let mut telemetry = tokio::spawn(telemetry.instrument(info_span!("telemetry")));
        let mut asked = std::pin::pin!(telemetry::asked_to_end());
        let proof = tokio::select! {
            asked = &mut asked => return Ok(asked?),
            end = &mut telemetry => anyhow::bail!("the task that serves metrics ended: {end:?}"),
            proof = super_proof(&engine) => proof,
        };
        // Set once, here.
        let _ = engine.super_proof.set(proof);

        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let registry = Arc::new(Registry::default());
        work::start(&engine, &tasks, &cancel);
        let serving = registry.clone();
        let serving = serving.run(engine.clone(), tasks.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("registry"), &cancel, serving);
        let renewing = patrol::renew_tokens(engine.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("tokens"), &cancel, renewing);
        let patrolling = patrol::published::keep(engine.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("patrol"), &cancel, patrolling);
        let clearing = slices::keep(engine.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("slices"), &cancel, clearing);
        let telling = lag::keep(engine.clone(), cancel.clone());
        lasting::spawn(&tasks, info_span!("lag"), &cancel, telling);
        let forgetting = housekeeping(engine.clone(), registry, cancel.clone());
        lasting::spawn(&tasks, info_span!("housekeeping"), &cancel, forgetting);
        // Not among the tasks that are waited for: what is under way then needs the Lease, and probes are answered until
        // the end.
        let leave = CancellationToken::new();
        let keeping = join(engine, leave.clone());
        let keeping = tokio::spawn(keeping.instrument(info_span!("lease")));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), server = %config.cluster_url, "started");

        tokio::select! {
            asked = asked => asked?,
            end = telemetry => anyhow::bail!("the task that serves metrics ended: {end:?}"),
            end = keeping => anyhow::bail!("the task that keeps the Lease ended: {end:?}"),
        }
        cancel.cancel();
        tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, tasks.wait())
            .await
            .is_ok()
        {
            leave.cancel();
            if tokio::time::timeout(RESIGN_LIMIT, fleet.resign())
                .await
                .is_err()
            {
                tracing::warn!("not all titles could be given back in time");
            }
        } else {
            // Others take over once its Lease has run out.
            tracing::warn!("work in progress didn't end in time");
        }
        Ok(())
    }
}

/// The UID of the super cluster's kube-system. It is waited for: an outage may be why this process starts.
async fn super_proof(engine: &Engine) -> String {
    let mut is_told = false;
    loop {
        let why = match read(&engine.cluster, "/api/v1/namespaces/kube-system").await {
            Ok(Some(kube_system)) => return kube_system.uid().to_owned(),
            Ok(None) => "it has no namespace kube-system".to_owned(),
            Err(err) => err.to_string(),
        };
        if !is_told {
            tracing::warn!(
                why,
                "the super cluster can't be read yet, and is asked again"
            );
        }
        is_told = true;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Joins the other syncers, once this one can work: who can't takes nothing from others.
async fn join(engine: Arc<Engine>, leave: CancellationToken) {
    engine.super_known().await;
    engine.fleet.clone().keep(leave).await;
}

/// A name that can be part of an object's.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_valid = !text.is_empty()
        && text.len() <= 200
        && text.bytes().all(is_plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("only a-z, 0-9 and, between them, - are taken".into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake};
    use serde_json::json;

    #[test]
    fn a_period_that_no_clock_can_tell_the_end_of_is_refused() {
        use clap::Parser;
        #[derive(Debug, Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        for flag in ["--patrol-period", "--unneeded-period"] {
            let parse = |text: &str| Command::try_parse_from(["sublet-syncer", flag, text]);
            assert!(parse("86400").is_ok());
            assert!(parse("18446744073709551615").is_err());
            assert!(parse("0").is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_super_cluster_that_is_away_at_the_start_is_waited_for() {
        let (cluster, mut above) = fake();
        let engine = fake::engine(&cluster);
        let answers = async {
            let gone = json!({"kind": "Status", "code": 404});
            above.answer("GET", 404, &gone).await;
            let failed = json!({"kind": "Status", "code": 500, "message": "etcd has no leader"});
            above.answer("GET", 500, &failed).await;
            let there = json!({"metadata": {"name": "kube-system", "uid": "k"}});
            above.answer("GET", 200, &there).await;
        };
        let (proof, ()) = tokio::join!(super_proof(&engine), answers);
        assert_eq!(proof, "k");
    }
}
