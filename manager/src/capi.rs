//! The Cluster API provider: a SubletControlPlane becomes a VirtualControlPlane, a SubletCluster keeps its place.
//!
//! ```text
//! Cluster ──▶ SubletControlPlane ──makes──▶ VirtualControlPlane ◀──holds── SubletCluster ◀── Cluster
//!                    ▲                              │                             ▲
//!                    └────── status, endpoint ──────┴────── identity, slice ──────┘
//! ```
//!
//! Both kinds are reconciled alike: [`facts`] observes, [`control_plane`] and [`infrastructure`] decide purely, and what
//! they decide is done here. As long as only something is to be said, they go by what was told ([`caches`]). All that must
//! outlast a move to another management cluster is in a spec: identity and slice in the SubletCluster's, the endpoint in
//! the SubletControlPlane's. Status is worked out anew at any time.
//!
//! Nothing is polled: Clusters, VirtualControlPlanes and each other's objects are watched. Certificates, the kubeconfig
//! Secret among them, are the VirtualControlPlane's business.

mod owner;

mod facts;

mod caches;

mod report;

mod stage;

mod control_plane;

mod infrastructure;

mod network;

pub(crate) use caches::{ProviderCaches, ProviderWriters};
pub(crate) use facts::referred;

use crate::{
    act,
    clients::cluster::{self, Cluster},
    object::{Kind, Object, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    watching::{
        bell::Bell,
        cache::{Cache, CacheWriter},
        news, patient,
        readable::listen,
    },
};
use api::capi::{FINALIZER, SubletCluster, SubletControlPlane, WATCH_FILTER};
use facts::Facts;
use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, GroupVersionKind, PartialObjectMeta},
    runtime::{
        WatchStreamExt, controller,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use report::{Blocker, Fact, Report};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, sync::Arc, time::Duration};

/// Rounds within a pass: more than a new object needs.
const ROUNDS: usize = 8;
/// Looked at again so often without being told; all that is waited for is watched.
const AGAIN: Duration = Duration::from_secs(600);

/// The same of one that goes: that what it waits for is gone isn't told when a watch begins anew.
const GOING: Duration = Duration::from_secs(10);

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

/// What passes share.
struct Context {
    cluster: Cluster,
    caches: Arc<ProviderCaches>,
}

/// One of the provider's two kinds.
trait Role:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// How it is addressed.
    const KIND: Kind;
    /// What comes next for it.
    fn decide(seen: &Facts) -> Decision;
    /// All of the kind.
    fn known(caches: &ProviderCaches) -> &Cache<Self>;
    /// What rings for them.
    fn bell(caches: &ProviderCaches) -> &Bell<Self>;
}

impl Role for SubletControlPlane {
    const KIND: Kind = SUBLET_CONTROL_PLANE;
    fn decide(seen: &Facts) -> Decision {
        control_plane::decide(seen)
    }
    fn known(caches: &ProviderCaches) -> &Cache<Self> {
        &caches.control_planes
    }
    fn bell(caches: &ProviderCaches) -> &Bell<Self> {
        &caches.of_control_planes
    }
}

impl Role for SubletCluster {
    const KIND: Kind = SUBLET_CLUSTER;
    fn decide(seen: &Facts) -> Decision {
        infrastructure::decide(seen)
    }
    fn known(caches: &ProviderCaches) -> &Cache<Self> {
        &caches.places
    }
    fn bell(caches: &ProviderCaches) -> &Bell<Self> {
        &caches.of_places
    }
}

/// Looks after all Clusters, or those with this value of the watch filter's label, until the process is asked to end.
pub(crate) async fn run(
    client: Client,
    filter: Option<String>,
    caches: Arc<ProviderCaches>,
    writers: ProviderWriters,
) {
    let filter = filter.as_deref();
    tokio::join!(
        look_after::<SubletControlPlane, SubletCluster>(
            &client,
            filter,
            &caches,
            writers.control_planes
        ),
        look_after::<SubletCluster, SubletControlPlane>(&client, filter, &caches, writers.places),
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

async fn look_after<K: Role, Other: Role>(
    client: &Client,
    filter: Option<&str>,
    caches: &Arc<ProviderCaches>,
    writer: CacheWriter<K>,
) {
    let all = patient::config();
    let own = those_of(filter, all.clone());
    let ended = caches.clone();
    let own = listen(client, own, writer).inspect(move |event| {
        if let Ok(watcher::Event::Delete(own)) = event {
            let namespace = own.namespace().unwrap_or_default();
            ended.forget(K::KIND, &namespace, &own.name_any());
        }
    });
    let (of_other, others) = (
        Other::bell(caches).clone(),
        Other::known(caches).store().clone(),
    );
    let own = news::telling(own, news::but_status, move |own: &K| {
        let clusters = owner::clusters(own.meta());
        of_other.ring(belonging(&others, own.namespace().as_deref(), &clusters));
    });
    let known = K::known(caches).store().clone();
    let controller = patient::controller(news::beside_status(own), known.clone())
        // Pause and unpause, what becomes of the tenant, and references between the objects of a Cluster.
        .reconcile_on(K::bell(caches).rung());
    let controller = match filter {
        None => controller,
        // Those without the label are seen here alone.
        Some(_) => controller.watches_stream(
            news::beside_status(metadata::<Other>(client, all)),
            move |other| {
                let clusters = owner::clusters(&other.metadata);
                belonging(&known, other.namespace().as_deref(), &clusters)
            },
        ),
    };
    let context = Context {
        cluster: Cluster::new(client.clone()),
        caches: caches.clone(),
    };
    let passes = controller
        .shutdown_on_signal()
        .run(reconcile::<K>, retry::<K>, Arc::new(context));
    passes
        .for_each(patient::telling(K::KIND.kind, Error::is_conflict))
        .await;
}

/// The metadata of all objects of a kind, as they come, change and go.
fn metadata<K: Role>(
    client: &Client,
    all: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<K>>>> + use<K> {
    watcher(Api::all(client.clone()), all).default_backoff()
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

async fn reconcile<K: Role>(object: Arc<K>, cx: Arc<Context>) -> Result<controller::Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let (cluster, caches) = (&cx.cluster, &cx.caches);
    let heard = caches.recall(K::KIND, &namespace, &name)?;
    if let Some(mut seen) = heard
        && say_as_told::<K>(&cx, &mut seen).await? == Said::All
    {
        return Ok(controller::Action::requeue(AGAIN));
    }
    let mut at_hand = None;
    for _ in 0..ROUNDS {
        let mut seen = match at_hand.take() {
            Some(seen) => seen,
            None => match facts::look(cluster, K::KIND, &namespace, &name).await? {
                Some(seen) => seen,
                None => return Ok(controller::Action::await_change()),
            },
        };
        caches.note(&seen.object);
        let mut decision = K::decide(&seen);
        if decision.actions.is_empty()
            && let Some(patch) = decision.patch(&seen)
        {
            let said = cluster.merge(&seen.object, "/status", patch).await?;
            caches.note(&said);
            seen.learn(said)?;
            // Nobody tells of that write: it is asked here what follows from it.
            decision = K::decide(&seen);
        }
        if decision.is_settled(&seen) {
            let again = if seen.is_going() { GOING } else { AGAIN };
            return Ok(controller::Action::requeue(again));
        }
        let mut is_known = true;
        for action in decision.actions {
            tracing::debug!(kind = K::KIND.kind, namespace, name, ?action, "acting");
            match act(cluster, &seen.object, action).await {
                Ok(Some(written)) => is_known &= seen.learn(written)?,
                Ok(None) => is_known = false,
                Err(error) => {
                    if let Some(patch) = failed(&error).and_then(|report| report.patch(&seen)) {
                        let said = cluster.merge(&seen.object, "/status", patch).await?;
                        caches.note(&said);
                    }
                    return Err(error);
                }
            }
        }
        at_hand = is_known.then_some(seen);
    }
    // What was applied doesn't stay: somebody else writes it too.
    Ok(controller::Action::requeue(Duration::from_secs(1)))
}

/// How far one gets by what was told.
#[derive(PartialEq, Eq)]
enum Said {
    /// There is nothing else to do.
    All,
    /// More must be known.
    NotAll,
}

/// Says what there is to say by what was told, if nothing else is to be done. Where that is an older state, the API server
/// refuses it, or it is said anew when the newer one is told.
async fn say_as_told<K: Role>(cx: &Context, seen: &mut Facts) -> Result<Said, Error> {
    let decision = K::decide(seen);
    if !decision.actions.is_empty() {
        return Ok(Said::NotAll);
    }
    let Some(patch) = decision.patch(seen) else {
        return Ok(Said::All);
    };
    let said = match cx.cluster.merge(&seen.object, "/status", patch).await {
        Ok(said) => said,
        Err(error) if error.is_conflict() || error.is_not_found() => return Ok(Said::NotAll),
        Err(error) => return Err(error.into()),
    };
    cx.caches.note(&said);
    seen.learn(said)?;
    match K::decide(seen).is_settled(seen) {
        true => Ok(Said::All),
        false => Ok(Said::NotAll),
    }
}

fn retry<K: Role>(_: Arc<K>, error: &Error, _: Arc<Context>) -> controller::Action {
    let wait = if error.is_conflict() { 50 } else { 3000 };
    controller::Action::requeue(Duration::from_millis(wait))
}

/// Carries out an action; returns the object that came of it, where there is one.
async fn act(cluster: &Cluster, own: &Object, action: Action) -> Result<Option<Object>, Error> {
    Ok(match action {
        Action::Patch(patch) => Some(cluster.merge(own, "", patch).await?),
        Action::Identify => {
            let patch = json!({"spec": {"identity": act::new_identity()?.as_str()}});
            Some(cluster.merge(own, "", patch).await?)
        }
        Action::Apply(object) => Some(cluster.apply(&object).await?),
        Action::PatchTenant(object, patch) => {
            cluster.merge(&object, "", patch).await?;
            None
        }
        Action::Delete(object) => {
            cluster.delete(&object, None).await?;
            None
        }
        Action::Release => {
            cluster.merge(own, "", without(own, FINALIZER)).await?;
            None
        }
    })
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
    // Whether it is paused was said before.
    (!error.is_conflict()).then(|| Report {
        conditions: vec![Fact::no("Ready", blocker)],
        fields: vec![],
    })
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
