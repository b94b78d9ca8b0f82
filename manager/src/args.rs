//! Flags, and the only place where things are wired together.

use crate::{
    capi,
    clients::cluster::Cluster,
    lifecycle::{
        starts::Limit,
        visits::{self, Visits},
    },
    metrics::{Metrics, Shown},
    network::proxy,
    observe::{Observer, Provider},
    spec::classes,
    virtual_control_plane::{Context, Error, Fails, reconcile, retry},
    watching::{caches, patient, triggers::Triggers},
};
use anyhow::Context as _;
use futures::StreamExt;
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use telemetry::LogArgs;
use tenancy::slice::Slice;
use tracing::{Instrument, info_span};

/// Provisions control planes of tenants and looks after them.
#[derive(Debug, clap::Parser)]
#[command(
    name = "sublet-manager",
    version,
    after_help = "Examples:\n  sublet-manager                          inside the super cluster\n  \
                  sublet-manager --kubeconfig super.conf  outside it"
)]
pub struct Args {
    /// Kubeconfig of the super cluster; the pod's own account is used when left out
    #[arg(long, env = "SUBLET_KUBECONFIG", value_name = "PATH")]
    kubeconfig: Option<PathBuf>,

    /// Understood as Cluster API's tools pass it: empty. Sublet's own objects are in sublet-system
    #[arg(long, value_name = "NAMESPACE", default_value = api::SYSTEM_NAMESPACE, value_parser = own_namespace)]
    namespace: String,

    /// Service range of the super cluster that tenants get their slices from; read from its ServiceCIDR object
    /// `kubernetes` when left out
    #[arg(long, value_name = "CIDR")]
    service_cidr: Option<Slice>,

    /// How many control planes may start at the same time, or start anew with another version or certificate; the others
    /// wait for their turn. Half of the cores of all ready nodes when left out, from 2 to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    starts_at_once: Option<u16>,

    /// Look after Clusters of Cluster API too: `sublet install --cluster-api` puts in what that needs
    #[arg(long, env = "SUBLET_CLUSTER_API")]
    cluster_api: bool,

    /// With --cluster-api, look after objects with this value of the label cluster.x-k8s.io/watch-filter alone
    #[arg(long, value_name = "VALUE", requires = "cluster_api")]
    watch_filter: Option<String>,

    /// Address of /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    #[command(flatten)]
    log: LogArgs,
}

/// How long passes under way may take to end after a signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

impl Args {
    /// Runs until the process is asked to end.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            kubeconfig,
            namespace,
            service_cidr,
            starts_at_once,
            cluster_api,
            watch_filter,
            listen,
            log,
        } = self;
        log.start().context("--log")?;
        let client = connect(kubeconfig).await?;
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("--listen {listen}"))?;

        let mut registry = Registry::with_prefix("sublet_manager");
        let metrics = Metrics::register(&mut registry);
        let shown = Arc::new(Shown {
            registry,
            ready: AtomicBool::new(false),
        });
        let telemetry = telemetry::serve(listener, shown.clone());
        let telemetry = tokio::spawn(telemetry.instrument(info_span!("telemetry")));

        let cluster = Cluster::new(client.clone());
        let provider = match cluster_api {
            true => Provider::On,
            false => Provider::Off,
        };
        let limit = Limit::new(starts_at_once);
        let visits = Arc::new(Visits::default());
        let (caches, writers) = caches::begin();
        let (known, of_classes) = (caches.tenants.clone(), caches.classes.clone());
        let observer = Observer::new(
            cluster.clone(),
            namespace.clone(),
            service_cidr,
            provider,
            limit.clone(),
            visits.clone(),
            caches.clone(),
        );
        let (of_clusters, writers_of_clusters) = capi::ProviderCaches::begin(caches);
        let of_clusters = Arc::new(of_clusters);
        let triggers = Triggers {
            system: namespace.clone(),
            visits: visits.clone(),
            provider,
            limit,
            own_words: observer.own.clone(),
            answers: observer.answers.clone(),
            of_clusters: of_clusters.clone(),
        };
        let context = Arc::new(Context {
            observer,
            slices: tokio::sync::Mutex::new(()),
            metrics,
            fails: Fails::default(),
        });
        let marks = Api::namespaced(client.clone(), &namespace);
        let controller = triggers.controller(&client, &known, writers);
        let tidying = visits::tidy(visits, known.clone(), marks);
        let tidying = tokio::spawn(tidying.instrument(info_span!("visits")));
        let holding = classes::hold(cluster.clone(), known.clone(), of_classes);
        let holding = tokio::spawn(holding.instrument(info_span!("classes")));
        let certificate = proxy::keep(cluster, namespace.clone(), known.clone());
        let certificate = tokio::spawn(certificate.instrument(info_span!("certificate")));
        let listed = async move {
            if let Ok(store) = known.all().await {
                tracing::info!(count = store.state().len(), "VirtualControlPlanes listed");
                shown.ready.store(true, Ordering::Relaxed);
            }
        };
        let passes = controller
            .run(reconcile, retry, context)
            .for_each(patient::telling("VirtualControlPlane", |error: &Error| {
                error.is_conflict() || error.is_busy()
            }))
            .instrument(info_span!("passes"));
        let clusters = async move {
            if cluster_api {
                capi::run(client, watch_filter, of_clusters, writers_of_clusters).await;
            }
        };
        let clusters = clusters.instrument(info_span!("cluster-api"));
        let mut work = std::pin::pin!(async { tokio::join!(passes, listed, clusters) });
        tokio::select! {
            // The controllers end by themselves at a signal, but not before they have listed what they watch.
            asked = telemetry::asked_to_end() => {
                let _ = tokio::time::timeout(SHUTDOWN_LIMIT, work).await;
                Ok(asked?)
            }
            _ = &mut work => Ok(()),
            end = tidying => anyhow::bail!("the task that forgets old visits ended: {end:?}"),
            end = holding => anyhow::bail!("the task that holds classes in use ended: {end:?}"),
            end = telemetry => anyhow::bail!("the task that serves metrics ended: {end:?}"),
            end = certificate => anyhow::bail!("the task that keeps the proxy's certificate ended: {end:?}"),
        }
    }
}

async fn connect(kubeconfig: Option<PathBuf>) -> anyhow::Result<Client> {
    let mut config = telemetry::config(kubeconfig).await?;
    // A pass is tried again as a whole; a write repeated behind its back would hide that it was answered.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

/// Cluster API's tools pass an empty one to all providers, and mean by it that nothing is left out. Of any other than Sublet's own
/// the syncer, the CLI and the admission policies know nothing.
fn own_namespace(name: &str) -> Result<String, String> {
    match name {
        "" | api::SYSTEM_NAMESPACE => Ok(api::SYSTEM_NAMESPACE.to_owned()),
        _ => Err(format!(
            "Sublet's own objects are in {} and nowhere else: leave the flag out",
            api::SYSTEM_NAMESPACE
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::{CommandFactory, Parser};
    use serde_json::json;
    use std::time::Duration;
    use tokio::signal::unix::{SignalKind, signal};

    /// Every list fails, and so no watch ever begins: kube's runner alone would wait for them for ever.
    #[tokio::test]
    async fn it_ends_when_it_is_asked_to_though_the_super_cluster_never_answered() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // From here on the signal ends no process by itself, whoever is asked first.
        let _heard = signal(SignalKind::terminate()).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let kubeconfig =
            std::env::temp_dir().join(format!("sublet-sigterm-{}", std::process::id()));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let flags = [
            "manager",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "off",
            "--kubeconfig",
        ];
        let flags = flags.map(std::ffi::OsString::from).into_iter();
        let args =
            Args::try_parse_from(flags.chain([kubeconfig.clone().into_os_string()])).unwrap();
        let asks = async {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
            }
        };
        let ended = tokio::time::timeout(super::SHUTDOWN_LIMIT * 4, async {
            tokio::select! {
                ended = args.run() => ended,
                () = asks => unreachable!(),
            }
        });
        let ended = ended.await;
        std::fs::remove_file(&kubeconfig).unwrap();
        assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
    }

    #[test]
    fn flags_are_consistent_and_wrong_ones_are_refused() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["sublet-manager", "--service-cidr", "10.96.0.0/12"]).is_ok());
        for wrong in [
            ["--service-cidr", "10.96.0.1/12"],
            ["--listen", "nowhere"],
            ["--no", "x"],
            ["--namespace", "own"],
            // Without --cluster-api there is nothing to be filtered.
            ["--watch-filter", "mine"],
        ] {
            assert!(
                Args::try_parse_from(["sublet-manager", wrong[0], wrong[1]]).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn what_cluster_apis_tools_pass_is_understood() {
        let parsed = |arguments: &[&str]| {
            Args::try_parse_from([&["sublet-manager", "--cluster-api"], arguments].concat())
                .unwrap()
        };
        assert_eq!(parsed(&["--namespace="]).namespace, api::SYSTEM_NAMESPACE);
        let filtered = parsed(&["--watch-filter", "mine"]);
        assert_eq!(filtered.watch_filter.as_deref(), Some("mine"));
    }
}
