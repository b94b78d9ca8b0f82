//! Flags, and the only place where things are wired together.

use crate::{
    answers::{self, Answers},
    bell::Bell,
    capi, classes,
    cluster::Cluster,
    groups::Groups,
    heard::{self, Ears},
    known::Known,
    metrics::{Metrics, Shown},
    news::{self, OwnWords, Told},
    object::{Kind, NAMESPACE, Object, POD, SERVICE},
    observe::{Observer, Provider},
    parts, patient, proxy,
    readable::listen,
    sleep,
    starts::{self, Limit, Start},
    twin::kept,
    virtual_control_plane::{Context, Error, Fails, reconcile, retry},
    visits::{self, Visits},
};
use anyhow::Context as _;
use api::{ControlPlaneClass, ControlPlaneGroup, VirtualControlPlane, keys};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ObjectMeta},
    core::PartialObjectMeta,
    runtime::{
        Controller, WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use serde_json::Value;
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
        let provider = if cluster_api {
            Provider::On
        } else {
            Provider::Off
        };
        let limit = Limit::new(starts_at_once);
        let visits = Arc::new(Visits::default());
        let (heard, ears) = heard::begin();
        let (known, of_classes) = (heard.tenants.clone(), heard.classes.clone());
        let observer = Observer::new(
            cluster.clone(),
            namespace.clone(),
            service_cidr,
            provider,
            limit.clone(),
            visits.clone(),
            heard.clone(),
        );
        let (of_clusters, ears_of_clusters) = capi::Told::begin(heard);
        let of_clusters = Arc::new(of_clusters);
        let told = Wake {
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
        let controller = controller(&client, told, &known, ears);
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
            match provider {
                Provider::On => {
                    capi::run(client, watch_filter, of_clusters, ears_of_clusters).await;
                }
                Provider::Off => {}
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

/// What tells which passes are due.
struct Wake {
    system: String,
    visits: Arc<Visits>,
    provider: Provider,
    limit: Limit,
    own_words: OwnWords,
    answers: Answers,
    of_clusters: Arc<capi::Told>,
}

/// Watches all that may change what a VirtualControlPlane needs.
fn controller(
    client: &Client,
    wake: Wake,
    known: &Known<VirtualControlPlane>,
    ears: Ears,
) -> Controller<VirtualControlPlane> {
    let Wake {
        system,
        visits,
        provider,
        limit,
        own_words,
        answers,
        of_clusters,
    } = wake;
    let config = patient::config();
    let of_tenants = of_clusters.clone();
    let told = listen(client, config.clone(), ears.tenants);
    let told = kept::tidied(told, Cluster::new(client.clone()), system.clone());
    let told = news::telling(told, news::but_counts, move |vcp| of_tenants.tenant(vcp));
    // A place that was given back is news to those who wait for one.
    let (line, of_line) = (Bell::default(), known.store().clone());
    let in_line = line.clone();
    let told = news::telling(
        told,
        |_: &VirtualControlPlane| Told::Always,
        move |vcp| {
            line.ring(next_in_line(&of_line, vcp, limit.now()));
        },
    );
    let told = news::of_virtual_control_planes(told, own_words);
    let controller = patient::controller(told, known.store().clone());
    let (of_class, of_group) = (controller.store(), controller.store());
    let (of_cluster, of_visits) = (controller.store(), controller.store());
    let at_the_door = patient::config().fields(&format!("metadata.name={}", keys::VISITS));
    let groups = Groups::default();
    let own = config
        .clone()
        .labels(&format!("{}={}", keys::ROLE, keys::ROLE_CONTROL_PLANE));
    let managed = config.clone().labels(&format!("{}=true", keys::MANAGED));
    let controller = controller
        .watches_stream(
            listen(client, config.clone(), ears.classes).touched_objects(),
            move |class: ControlPlaneClass| naming(&of_class, &class.name_any()),
        )
        .watches_stream(
            listen(client, config.clone(), ears.groups).touched_objects(),
            move |group: ControlPlaneGroup| {
                if !groups.is_news(&group) {
                    return vec![];
                }
                of_group
                    .state()
                    .into_iter()
                    .map(|vcp| ObjectRef::from_obj(vcp.as_ref()))
                    .collect::<Vec<_>>()
            },
        )
        .reconcile_on(in_line.rung())
        // Who sleeps and was visited may have to wake.
        .watches_stream(
            watcher(
                Api::<ConfigMap>::namespaced(client.clone(), &system),
                at_the_door,
            )
            .default_backoff()
            .touched_objects(),
            move |map| asleep(&of_visits, &visits.heard(&map)),
        )
        .watches_stream(
            watcher(metadata::<Service>(client), own.clone())
                .default_backoff()
                .touched_objects(),
            concerning(SERVICE, known.store(), answers.clone()),
        )
        .watches_stream(
            news::of_namespaces(watcher(metadata::<Namespace>(client), managed).default_backoff()),
            concerning(NAMESPACE, known.store(), answers.clone()),
        )
        .shutdown_on_signal();
    let controller = news::PARTS
        .into_iter()
        .fold(controller, |controller, kind| {
            let told = news::of_parts(client, kind, own.clone(), essence(kind));
            let owner = concerning(kind, known.store(), answers.clone());
            controller.watches_stream_with(told, owner, news::resource(kind))
        });
    match provider {
        Provider::Off => controller,
        // A Cluster that is no longer paused.
        Provider::On => {
            let clusters = capi::clusters();
            let told = ears
                .clusters
                .hears(patient::events(client, &clusters, config));
            let told = news::telling(told, news::but_status, move |cluster| {
                of_clusters.cluster(cluster);
            });
            controller.watches_stream_with(
                news::beside_status(told),
                move |cluster| of_a_cluster(&of_cluster, &cluster),
                clusters,
            )
        }
    }
}

/// What of a part's object is gone by.
fn essence(kind: Kind) -> fn(&Object) -> Value {
    match kind {
        POD => parts::essence_of_pod,
        _ => parts::essence_of_workload,
    }
}

/// The control plane that an object of a kind belongs to, when it isn't known there already.
fn concerning<K: Resource>(
    kind: Kind,
    tenants: &Store<VirtualControlPlane>,
    answers: Answers,
) -> impl Fn(K) -> Option<ObjectRef<VirtualControlPlane>> + use<K> {
    let tenants = tenants.clone();
    move |object| {
        let metadata = object.meta();
        let owner = owner_of(metadata, &tenants)?;
        let whose = (owner.namespace.clone()?, owner.name.clone());
        let told = answers::Told {
            kind,
            name: metadata.name.as_deref()?,
            version: metadata.resource_version.as_deref().unwrap_or_default(),
        };
        answers.heard(&whose, &told).then_some(owner)
    }
}

/// Only metadata is watched: what an object holds is read when it is needed.
fn metadata<K>(client: &Client) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    Api::all(client.clone())
}

/// The annotation on each object of a control plane leads back to it. One that was moved has another name or namespace by
/// now than what wasn't written since says; its identity it keeps.
fn owner_of(
    metadata: &ObjectMeta,
    tenants: &Store<VirtualControlPlane>,
) -> Option<ObjectRef<VirtualControlPlane>> {
    let (namespace, name) = metadata
        .annotations
        .as_ref()?
        .get(keys::CONTROL_PLANE)?
        .split_once('/')?;
    let named = ObjectRef::new(name).within(namespace);
    if tenants.get(&named).is_some() {
        return Some(named);
    }
    let identity = metadata
        .labels
        .as_ref()
        .and_then(|own| own.get(keys::TENANT));
    let moved = identity.and_then(|identity| {
        let has_it = |vcp: &VirtualControlPlane| vcp.spec.identity.as_ref() == Some(identity);
        tenants.find(has_it)
    });
    Some(moved.map_or(named, |vcp| ObjectRef::from_obj(vcp.as_ref())))
}

/// The VirtualControlPlanes that name the class.
fn naming(store: &Store<VirtualControlPlane>, class: &str) -> Vec<ObjectRef<VirtualControlPlane>> {
    let named = store
        .state()
        .into_iter()
        .filter(|vcp| vcp.spec.class_name == class);
    named.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
}

/// Those who may start now that one has changed. Of that one the store may not have heard yet.
fn next_in_line(
    store: &Store<VirtualControlPlane>,
    changed: &VirtualControlPlane,
    starts_at_once: usize,
) -> Vec<ObjectRef<VirtualControlPlane>> {
    let is_other = |vcp: &Arc<VirtualControlPlane>| vcp.metadata.uid != changed.metadata.uid;
    let others = store.state().into_iter().filter(is_other);
    let known: Vec<Start> = others
        .filter_map(|vcp| Start::of(&vcp))
        .chain(Start::of(changed))
        .collect();
    let next = starts::next(&known, starts_at_once, jiff::Timestamp::now());
    let places = next.into_iter().filter_map(|who| who.split_once('/'));
    places
        .map(|(namespace, name)| ObjectRef::new(name).within(namespace))
        .collect()
}

/// Of these identities the VirtualControlPlanes that sleep.
fn asleep(
    store: &Store<VirtualControlPlane>,
    identities: &[String],
) -> Vec<ObjectRef<VirtualControlPlane>> {
    if identities.is_empty() {
        return vec![];
    }
    let is_meant = |vcp: &Arc<VirtualControlPlane>| {
        let identity = vcp.spec.identity.as_ref();
        sleep::is_sleeping(vcp).is_some() && identity.is_some_and(|id| identities.contains(id))
    };
    let found = store.state().into_iter().filter(is_meant);
    found.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
}

/// The VirtualControlPlane that is the control plane of a Cluster of Cluster API.
fn of_a_cluster(
    store: &Store<VirtualControlPlane>,
    cluster: &DynamicObject,
) -> Vec<ObjectRef<VirtualControlPlane>> {
    let belongs = |vcp: &Arc<VirtualControlPlane>| {
        vcp.namespace() == cluster.namespace()
            && vcp.labels().get(api::capi::CLUSTER_NAME) == cluster.metadata.name.as_ref()
    };
    let found = store.state().into_iter().filter(belongs);
    found.map(|vcp| ObjectRef::from_obj(vcp.as_ref())).collect()
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
    use super::{Args, owner_of};
    use crate::control_plane::tests::vcp;
    use api::keys;
    use clap::{CommandFactory, Parser};
    use kube::{
        api::ObjectMeta,
        runtime::{reflector::store::Writer, watcher::Event},
    };
    use serde_json::json;
    use std::{collections::BTreeMap, time::Duration};
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

    /// Pods of an etcd that keeps nothing are never made anew, so they bear the name that was theirs at the start.
    #[test]
    fn what_belongs_to_a_tenant_that_moved_is_found_by_its_identity() {
        let mut tenants = Writer::default();
        tenants.apply_watcher_event(&Event::Apply(vcp()));
        let pod = |named: &str, identity: Option<String>| ObjectMeta {
            annotations: Some(BTreeMap::from([(
                keys::CONTROL_PLANE.to_owned(),
                named.to_owned(),
            )])),
            labels: identity.map(|id| BTreeMap::from([(keys::TENANT.to_owned(), id)])),
            ..ObjectMeta::default()
        };
        let owner = |pod: &ObjectMeta| {
            let found = owner_of(pod, &tenants.as_reader()).unwrap();
            format!("{}/{}", found.namespace.unwrap(), found.name)
        };
        let identity = vcp().spec.identity;
        assert_eq!(owner(&pod("tenants/acme", None)), "tenants/acme");
        assert_eq!(owner(&pod("before/acme", identity)), "tenants/acme");
        // One that is gone is told of, too: its deletion may wait for that.
        assert_eq!(owner(&pod("gone/beta", Some("other".into()))), "gone/beta");
        assert!(owner_of(&ObjectMeta::default(), &tenants.as_reader()).is_none());
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
