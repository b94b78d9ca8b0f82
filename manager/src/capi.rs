//! The Cluster API provider: a SubletControlPlane becomes a VirtualControlPlane, a SubletCluster keeps its place.
//!
//! ```text
//! Cluster ──▶ SubletControlPlane ──makes──▶ VirtualControlPlane ◀──holds── SubletCluster ◀── Cluster
//!                    ▲                              │                             ▲
//!                    └────── status, endpoint ──────┴────── identity, slice ──────┘
//! ```
//!
//! Both kinds are reconciled alike: [`facts`] observes, [`control_plane`] and [`infrastructure`] decide purely, and what
//! they decide is done here. All that must outlast a move to another management cluster is in a spec: identity and slice
//! in the SubletCluster's, the endpoint in the SubletControlPlane's. Status is worked out anew at any time.
//!
//! Nothing is polled: Clusters, VirtualControlPlanes and each other's objects are watched. Certificates, the kubeconfig
//! Secret among them, are the VirtualControlPlane's business.

mod owner;

mod facts;

mod report;

mod stage;

mod control_plane;

mod infrastructure;

mod network;

use crate::{
    act,
    cluster::{self, Cluster},
    news,
    object::{Kind, Object, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    patient,
};
use api::{
    VirtualControlPlane,
    capi::{FINALIZER, SubletCluster, SubletControlPlane, WATCH_FILTER},
};
use facts::Facts;
use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, GroupVersionKind, PartialObjectMeta},
    runtime::{
        Controller, WatchStreamExt, controller,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use report::{Blocker, Fact, Report};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, sync::Arc, time::Duration};

/// Passes of one kind that run at once.
const CONCURRENCY: u16 = 16;
/// Events of one object that come together make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Objects per page of a watch's first list.
const PAGE: u32 = 200;
/// Rounds within a pass: more than a new object needs.
const ROUNDS: usize = 8;
/// Looked at again so often without being told; all that is waited for is watched.
const AGAIN: Duration = Duration::from_secs(600);

/// Something to be done.
#[derive(Clone, Debug)]
enum Action {
    /// Change the object itself, if it still is what was seen.
    Patch(Value),
    /// Give the SubletCluster an identity.
    Identify,
    /// Make the VirtualControlPlane hold what it must.
    Apply(Object),
    /// Change the VirtualControlPlane, if it still is what was seen.
    PatchTenant(Object, Value),
    /// Delete the VirtualControlPlane that was seen.
    Delete(Object),
    /// Take the finalizer away: the last action of all.
    Release,
}

/// The outcome of deciding.
#[derive(Debug, Default)]
struct Decision {
    /// What to do now.
    actions: Vec<Action>,
    /// What to say when there is nothing to do; `None`: nothing, since the object isn't ours to touch.
    report: Option<Report>,
}

impl Decision {
    fn act(action: Action) -> Self {
        Self {
            actions: vec![action],
            report: None,
        }
    }

    /// The merge patch of the status; `None` when there is nothing new to say.
    fn patch(&self, seen: &Facts) -> Option<Value> {
        self.report.as_ref()?.patch(seen)
    }

    /// Whether there is nothing to do and nothing new to say.
    fn is_settled(&self, seen: &Facts) -> bool {
        self.actions.is_empty() && self.patch(seen).is_none()
    }

    fn say(report: Report) -> Self {
        Self {
            actions: vec![],
            report: Some(report),
        }
    }
}

/// A pass ended early; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// An API server refused or didn't answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An object has a form that this version doesn't know.
    #[error(transparent)]
    Facts(#[from] facts::Error),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] rand::rand_core::OsError),
}

impl Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_conflict())
    }
}

/// One of the provider's two kinds.
trait Role:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// How it is addressed.
    const KIND: Kind;
    /// What comes next for it.
    fn decide(seen: &Facts) -> Decision;
}

impl Role for SubletControlPlane {
    const KIND: Kind = SUBLET_CONTROL_PLANE;
    fn decide(seen: &Facts) -> Decision {
        control_plane::decide(seen)
    }
}

impl Role for SubletCluster {
    const KIND: Kind = SUBLET_CLUSTER;
    fn decide(seen: &Facts) -> Decision {
        infrastructure::decide(seen)
    }
}

/// Looks after all Clusters, or those with this value of the watch filter's label, until the process is asked to end.
pub(crate) async fn run(client: Client, filter: Option<String>) {
    tokio::join!(
        look_after::<SubletControlPlane, SubletCluster>(&client, filter.as_deref()),
        look_after::<SubletCluster, SubletControlPlane>(&client, filter.as_deref()),
    );
}

/// Cluster API's Cluster.
pub(crate) fn clusters() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        api::capi::GROUP,
        "v1beta2",
        "Cluster",
    ))
}

async fn look_after<K: Role, Other: Role>(client: &Client, filter: Option<&str>) {
    let all = watcher::Config::default().page_size(PAGE);
    let own = those_of(filter, all.clone());
    let (reader, writer) = reflector::store();
    let own = watcher(Api::<K>::all(client.clone()), own).default_backoff();
    let controller = Controller::for_stream(news::beside_status(own.reflect(writer)), reader);
    let (of_cluster, of_other) = (controller.store(), controller.store());
    let clusters = clusters();
    let passes = controller
        .with_config(
            controller::Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        // Pause and unpause, and references between the objects of a Cluster.
        .watches_stream_with(
            patient::watch(client, &clusters, all.clone()),
            move |cluster| {
                let (namespace, name) = (cluster.namespace(), cluster.name_any());
                belonging(&of_cluster, namespace.as_deref(), &[&name])
            },
            clusters,
        )
        .watches_stream(
            news::of_tenants(every::<VirtualControlPlane>(client, &all)),
            |vcp| {
                let namespace = vcp.namespace().unwrap_or_default();
                owner::names(&vcp.metadata, &K::group(&()), K::KIND.kind)
                    .into_iter()
                    .map(|name| ObjectRef::new(name).within(&namespace))
                    .collect::<Vec<_>>()
            },
        )
        .watches_stream(
            news::beside_status(every::<PartialObjectMeta<Other>>(client, &all)),
            move |other| {
                let clusters = owner::clusters(&other.metadata);
                belonging(&of_other, other.namespace().as_deref(), &clusters)
            },
        )
        .shutdown_on_signal()
        .run(
            reconcile::<K>,
            retry::<K>,
            Arc::new(Cluster::new(client.clone())),
        );
    passes
        .for_each(|outcome| {
            match outcome {
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(controller::Error::ReconcilerFailed(error, _)) if error.is_conflict() => {}
                Err(error) => {
                    let error = crate::args::whole(&error);
                    tracing::warn!(kind = K::KIND.kind, error, "a pass ended early");
                }
            }
            std::future::ready(())
        })
        .await;
}

/// All objects of a kind, as they come, change and go.
fn every<K>(
    client: &Client,
    all: &watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(Api::<K>::all(client.clone()), all.clone()).default_backoff()
}

/// Objects that are this provider's: all, or those with that value of the watch filter's label.
fn those_of(filter: Option<&str>, all: watcher::Config) -> watcher::Config {
    match filter {
        Some(filter) => all.labels(&format!("{WATCH_FILTER}={filter}")),
        None => all,
    }
}

/// Objects of a namespace that belong to one of these Clusters.
fn belonging<K: Role>(
    store: &Store<K>,
    namespace: Option<&str>,
    clusters: &[&str],
) -> Vec<ObjectRef<K>> {
    let is_near = |object: &Arc<K>| object.namespace().as_deref() == namespace;
    let belongs = |object: &Arc<K>| {
        owner::clusters(object.meta())
            .iter()
            .any(|cluster| clusters.contains(cluster))
    };
    let found = store.state().into_iter().filter(is_near).filter(belongs);
    found
        .map(|object| ObjectRef::from_obj(object.as_ref()))
        .collect()
}

async fn reconcile<K: Role>(
    object: Arc<K>,
    cluster: Arc<Cluster>,
) -> Result<controller::Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    for _ in 0..ROUNDS {
        let Some(mut seen) = facts::look(&cluster, K::KIND, &namespace, &name).await? else {
            return Ok(controller::Action::await_change());
        };
        let mut decision = K::decide(&seen);
        if decision.actions.is_empty()
            && let Some(patch) = decision.patch(&seen)
        {
            seen.object = cluster.merge(&seen.object, "/status", patch).await?;
            // Nobody tells of that write: it is asked here what follows from it.
            decision = K::decide(&seen);
        }
        if decision.is_settled(&seen) {
            return Ok(controller::Action::requeue(AGAIN));
        }
        for action in decision.actions {
            tracing::debug!(kind = K::KIND.kind, namespace, name, ?action, "acting");
            if let Err(error) = act(&cluster, &seen.object, action).await {
                if let Some(patch) = failed(&error).and_then(|report| report.patch(&seen)) {
                    cluster.merge(&seen.object, "/status", patch).await?;
                }
                return Err(error);
            }
        }
    }
    // What was applied doesn't stay: somebody else writes it too.
    Ok(controller::Action::requeue(Duration::from_secs(1)))
}

fn retry<K: Role>(_: Arc<K>, error: &Error, _: Arc<Cluster>) -> controller::Action {
    let wait = if error.is_conflict() { 50 } else { 3000 };
    controller::Action::requeue(Duration::from_millis(wait))
}

async fn act(cluster: &Cluster, own: &Object, action: Action) -> Result<(), Error> {
    match action {
        Action::Patch(patch) => drop(cluster.merge(own, "", patch).await?),
        Action::Identify => {
            let patch = json!({"spec": {"identity": act::new_identity()?.as_str()}});
            cluster.merge(own, "", patch).await?;
        }
        Action::Apply(object) => drop(cluster.apply(&object).await?),
        Action::PatchTenant(object, patch) => drop(cluster.merge(&object, "", patch).await?),
        Action::Delete(object) => cluster.delete(&object, None).await?,
        Action::Release => {
            cluster.merge(own, "", without(own, FINALIZER)).await?;
        }
    }
    Ok(())
}

/// What is said when an action failed, unless somebody else just wrote first: an API server may refuse what is asked for, as
/// a change of what can't change.
fn failed(error: &Error) -> Option<Report> {
    let refused = match error {
        Error::Cluster(error) => error.code().is_some_and(|code| code == 403 || code == 422),
        _ => false,
    };
    let reason = if refused { "Refused" } else { "Error" };
    let blocker = Blocker::new(reason, error.to_string());
    (!error.is_conflict()).then(|| Report::of(vec![Fact::no("Ready", blocker)]))
}

/// The patch that takes a finalizer away.
fn without(object: &Object, finalizer: &str) -> Value {
    let mut finalizers = object.items("/metadata/finalizers").to_vec();
    finalizers.retain(|other| other != finalizer);
    json!({"metadata": {"finalizers": finalizers}})
}

/// The patch that adds our finalizer; `None` when it is there.
fn with_finalizer(object: &Object) -> Option<Value> {
    let mut finalizers = object.items("/metadata/finalizers").to_vec();
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return None;
    }
    finalizers.push(json!(FINALIZER));
    Some(json!({"metadata": {"finalizers": finalizers}}))
}

#[cfg(test)]
mod contract;

#[cfg(test)]
mod tests;
