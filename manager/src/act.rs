//! Carrying out actions, one after the other; the first failure ends the pass.

use crate::{
    clients::{
        cluster::{self, Cluster},
        kubeconfig,
        remotes::{self, Asking, SLOW},
    },
    decide::{Action, Deed},
    lifecycle::{
        backup,
        starts::{self, Turn},
    },
    object::{Object, VIRTUAL_CONTROL_PLANE},
    observe::{self, Observer, Seen},
    pki::{self, Material, Order},
    status,
    store::room::{self, Made, Space},
    tenant::{self, Tenant},
    watching::{answers::Whose, news},
};
use api::{Phase, keys};
use rand::TryRngCore;
use serde_json::{Value, json};
use std::time::Duration;
use tenancy::tenant::TenantId;
use tokio::time::{Instant, timeout_at};

/// All that is written into a tenant in one go takes no longer: one that has just started takes its time.
const WRITES: Duration = Duration::from_secs(10);

/// An action failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An API server refused or didn't answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The tenant's API server refused or didn't answer.
    #[error("in the tenant: {0}")]
    Tenant(#[source] cluster::Error),
    /// The tenant's API server is too slow to be written to now; how so.
    #[error("{0}")]
    Slow(String),
    /// The other super cluster's API server refused or didn't answer.
    #[error("in the super cluster: {0}")]
    Beyond(#[source] cluster::Error),
    /// The way into the tenant.
    #[error(transparent)]
    Access(#[from] tenant::Error),
    /// The way into the tenant.
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::NoClient),
    /// Keys could not be made.
    #[error(transparent)]
    Keys(#[from] pki::Error),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] rand::rand_core::OsError),
    /// What was written came back in a form that this version doesn't know.
    #[error(transparent)]
    Decode(#[from] observe::Error),
}

impl Error {
    /// Someone else wrote first: look again at once.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Cluster(error) | Self::Beyond(error) if error.is_conflict())
    }

    /// The tenant didn't take what was written into it: all that is done outside of it was done.
    pub(crate) fn is_of_tenant(&self) -> bool {
        matches!(self, Self::Tenant(_) | Self::Slow(_))
    }
}

/// Whether what was seen still holds after the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What was written has been put into it: the next decision can be taken from it.
    Current,
    /// More may have changed than was written.
    Stale,
}

/// Carries out all actions of a decision and puts what was written into `seen`.
pub(crate) async fn act(
    observer: &Observer,
    seen: &mut Seen,
    actions: Vec<Action>,
) -> Result<View, Error> {
    let mut actor = Actor {
        whose: seen.whose(),
        observer,
        seen,
        inside: None,
        view: View::Current,
    };
    for action in actions {
        actor.carry_out(action).await?;
    }
    if let Some(tenant) = actor.inside {
        tenant.leave(None);
    }
    Ok(actor.view)
}

/// Who carries out one decision.
struct Actor<'a> {
    observer: &'a Observer,
    whose: Whose,
    seen: &'a mut Seen,
    /// The way into the tenant, once something was written there.
    inside: Option<Inside>,
    view: View,
}

impl Actor<'_> {
    async fn carry_out(&mut self, action: Action) -> Result<(), Error> {
        let cluster = &self.observer.cluster;
        match action {
            Action::Adopt => self.merge(adoption(self.seen)?).await,
            Action::Patch(patch) => self.merge(patch).await,
            Action::Release => self.release().await,
            Action::Create(object) => self.create(&object).await,
            Action::Replace(object) => self.learn(cluster.replace(&object).await?),
            Action::Apply(object) => self.learn(cluster.apply(&object).await?),
            Action::Delete(object) => self.delete(&object, None).await,
            Action::EndPod(pod) => self.delete(&pod, Some(1)).await,
            Action::Remind(pod, patch) => self.remind(&pod, patch).await,
            Action::Note(claim, patch) => self.learn(cluster.merge(&claim, "", patch).await?),
            Action::Tell(patch) => say(self.observer, self.seen, patch).await,
            Action::TakePlace => take_place(self.observer, self.seen).await,
            Action::MakeRoom(space) => self.make_room(space).await,
            Action::Beyond(deed) => self.act_beyond(deed).await,
            Action::Issue(order) => self.issue(&order).await,
            Action::ApplyInTenant(object) => self.apply_in_tenant(&object).await,
        }
    }

    /// Takes up what was written, so that the next decision goes by it.
    fn learn(&mut self, written: Object) -> Result<(), Error> {
        self.observer.answers.learn(&self.whose, &written);
        if written.kind == VIRTUAL_CONTROL_PLANE {
            // The pass goes on from it.
            self.observer.own.note(&written);
        }
        if !self.seen.learn(written)? {
            self.view = View::Stale;
        }
        Ok(())
    }

    async fn create(&mut self, object: &Object) -> Result<(), Error> {
        match self.observer.cluster.create(object).await {
            Ok(made) => self.learn(made),
            // The control plane works as well without: it is told.
            Err(error) if backup::KINDS.contains(&object.kind) && !error.is_conflict() => {
                self.seen.unmade = Some(error.to_string());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn merge(&mut self, patch: Value) -> Result<(), Error> {
        let merged = merge(&self.observer.cluster, &self.seen.object, "", patch).await?;
        self.learn(merged)
    }

    async fn release(&mut self) -> Result<(), Error> {
        let patch = without_finalizer(&self.seen.object);
        let cluster = &self.observer.cluster;
        self.seen.object = merge(cluster, &self.seen.object, "", patch).await?;
        self.view = View::Stale;
        Ok(())
    }

    async fn delete(&mut self, object: &Object, grace: Option<u32>) -> Result<(), Error> {
        self.observer.cluster.delete(object, grace).await?;
        self.observer.forget(&self.whose);
        self.view = View::Stale;
        Ok(())
    }

    async fn remind(&mut self, pod: &Object, patch: Value) -> Result<(), Error> {
        match self.observer.cluster.merge(pod, "", patch).await {
            Ok(pod) => self.learn(pod),
            Err(error) if error.is_conflict() => Err(error.into()),
            // It learns of the file anyhow, a minute or two later; and one that is gone needn't.
            Err(error) => {
                tracing::debug!(%error, "an API server can't be reminded");
                self.view = View::Stale;
                Ok(())
            }
        }
    }

    async fn make_room(&mut self, space: Space) -> Result<(), Error> {
        if make_room(self.observer, self.seen, space).await? == Made::Room {
            // All that was counted and refused is counted and tried anew.
            self.view = View::Stale;
        }
        Ok(())
    }

    async fn act_beyond(&mut self, deed: Deed) -> Result<(), Error> {
        let acted = act_beyond(self.seen, deed).await;
        acted.map_err(Error::Beyond)?;
        self.view = View::Stale;
        Ok(())
    }

    async fn issue(&mut self, order: &Order) -> Result<(), Error> {
        let secret = self.seen.issue(order)?;
        let cluster = &self.observer.cluster;
        let written = match order.material {
            Material::Leaf(_) => cluster.apply(&secret).await?,
            // Made once: if a Secret of the name turns up, it is kept.
            _ => cluster.create(&secret).await?,
        };
        self.learn(written)
    }

    /// Once the tenant refused something for want of room, no more is asked of it in this pass.
    async fn apply_in_tenant(&mut self, object: &Object) -> Result<(), Error> {
        if self.inside.is_none() {
            self.inside = enter(self.observer, self.seen).await?;
        }
        let Some(tenant) = &self.inside else {
            return Ok(());
        };
        if self.seen.refused.is_some() {
            return Ok(());
        }
        match (tenant.apply(object).await, &mut self.seen.tenant) {
            (Ok(written), Tenant::Answers { objects, .. }) => {
                self.observer.inside.learn(&self.whose, &written);
                objects.insert(written);
            }
            (Ok(_), _) => {}
            // What the tenant filled up is a fact about the tenant: all else goes on, and it is told.
            (Err(Error::Tenant(error)), _) if error.is_full() => {
                self.seen.refused = Some(error.to_string());
                if let Some(owner) = &self.seen.owner {
                    self.observer.stores.hurry(&owner.id);
                }
            }
            (Err(error), _) => {
                if let Some(tenant) = self.inside.take() {
                    tenant.leave(Some(&error.to_string()));
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A tenant that is written to.
struct Inside {
    cluster: Cluster,
    asking: Asking,
    began: Instant,
}

impl Inside {
    async fn apply(&self, object: &Object) -> Result<Object, Error> {
        let applied = timeout_at(self.began + WRITES, self.cluster.apply(object)).await;
        let late = || {
            format!(
                "in the tenant: not all was written within {} s",
                WRITES.as_secs()
            )
        };
        applied
            .map_err(|_| Error::Slow(late()))?
            .map_err(Error::Tenant)
    }

    /// No more is written to it now, because of a failure if there was one.
    fn leave(self, failure: Option<&str>) {
        let took = self.began.elapsed();
        match failure {
            Some(why) if took >= SLOW => self.asking.was_silent(why, Instant::now()),
            _ => self.asking.answered(took, Instant::now()),
        }
    }
}

/// Makes room in the tenant's etcd. That it doesn't go is a fact to be told.
async fn make_room(observer: &Observer, seen: &mut Seen, space: Space) -> Result<Made, Error> {
    let Some(owner) = &seen.owner else {
        return Ok(Made::Nothing);
    };
    // The next pass sees what became of it.
    observer.stores.hurry(&owner.id);
    let way = room::way(&seen.objects, &owner.control_plane_namespace())?;
    let Some(way) = way else {
        return Ok(Made::Nothing);
    };
    match room::make(&way, space).await {
        Ok(Made::Nothing) => Ok(Made::Nothing),
        Ok(Made::Room) => {
            tracing::info!(
                namespace = owner.namespace,
                name = owner.name,
                "a full etcd has room again"
            );
            seen.refused = None;
            seen.store = None;
            Ok(Made::Room)
        }
        Err(error) => {
            seen.store = Some(Err(error.to_string()));
            Ok(Made::Nothing)
        }
    }
}

/// Asks whether it may start now, and takes a place if so.
async fn take_place(observer: &Observer, seen: &mut Seen) -> Result<(), Error> {
    let _one_at_a_time = observer.places.lock().await;
    let others = observer.starts().await?;
    // That tells how many may.
    observer.nodes().await?;
    let limit = observer.starts_at_once.now();
    let turn = starts::turn(&others, &seen.vcp, limit, seen.now);
    if turn == Turn::Now {
        let conditions = status::conditions(&seen.vcp, &starts::begun(), seen.now);
        let mut status = json!({"conditions": conditions});
        if starts::is_hidden(&seen.vcp) {
            status["phase"] = json!(Phase::Provisioning);
        }
        say(observer, seen, json!({"status": status})).await?;
    }
    seen.turn = Some(turn);
    Ok(())
}

/// Writes into the status of what was seen, and goes on from what came of it.
pub(crate) async fn say(observer: &Observer, seen: &mut Seen, patch: Value) -> Result<(), Error> {
    let merged = merge(&observer.cluster, &seen.object, "/status", patch).await?;
    observer.own.note(&merged);
    observer.answers.learn(&seen.whose(), &merged);
    seen.take(merged)?;
    Ok(())
}

/// Merges `patch` into the VirtualControlPlane that was seen. Counts that the syncer wrote meanwhile don't stand against it.
async fn merge(
    cluster: &Cluster,
    seen: &Object,
    subresource: &str,
    patch: Value,
) -> Result<Object, cluster::Error> {
    let conflict = match cluster.merge(seen, subresource, patch.clone()).await {
        Err(error) if error.is_conflict() => error,
        other => return other,
    };
    let now = cluster
        .get(seen.kind, seen.namespace(), seen.name())
        .await?;
    match now.filter(|now| news::differ_in_counts(seen, now)) {
        Some(now) => cluster.merge(&now, subresource, patch).await,
        None => Err(conflict),
    }
}

/// What is to be done in the other super cluster; nothing when there is no way there any more.
async fn act_beyond(seen: &Seen, deed: Deed) -> Result<(), cluster::Error> {
    let Some(there) = &seen.way else {
        return Ok(());
    };
    match deed {
        Deed::Apply(twin) => there.apply(&twin).await.map(drop),
        Deed::Merge(twin, patch) => there.merge(&twin, "", patch).await.map(drop),
        Deed::Delete(twin) => there.delete(&twin, None).await,
    }
}

/// Into the tenant, as its bootstrapper.
async fn enter(observer: &Observer, seen: &Seen) -> Result<Option<Inside>, Error> {
    let Some(access) = tenant::access(&seen.objects)? else {
        return Ok(None);
    };
    let began = Instant::now();
    let asking = match observer.writes.turn(&access, began) {
        remotes::Turn::Now(asking) => asking,
        remotes::Turn::Silent(why) => return Err(Error::Slow(why)),
        remotes::Turn::Later => {
            return Err(Error::Slow("in the tenant: others are as slow".into()));
        }
    };
    Ok(Some(Inside {
        cluster: Cluster::of_anybody((observer.enter)(access).await?),
        asking,
        began,
    }))
}

fn adoption(seen: &Seen) -> Result<Value, Error> {
    let mut finalizers = seen
        .object
        .body
        .pointer("/metadata/finalizers")
        .cloned()
        .unwrap_or_else(|| json!([]));
    if let Value::Array(list) = &mut finalizers
        && !list.iter().any(|finalizer| finalizer == keys::FINALIZER)
    {
        list.push(json!(keys::FINALIZER));
    }
    let mut patch = json!({"metadata": {"finalizers": finalizers}});
    if let (Some(here), None) = (&seen.here, seen.object.annotation(keys::SUPER_CLUSTER)) {
        patch["metadata"]["annotations"][keys::SUPER_CLUSTER] = json!(here);
    }
    if seen.vcp.spec.identity.is_none() {
        patch["spec"]["identity"] = json!(new_identity()?.as_str());
    }
    Ok(patch)
}

/// An identity that nobody else has.
pub(crate) fn new_identity() -> Result<TenantId, rand::rand_core::OsError> {
    let mut bits = [0u8; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut bits)?;
    Ok(TenantId::from_bits(bits))
}

fn without_finalizer(vcp: &Object) -> Value {
    let mut finalizers = vcp.items("/metadata/finalizers").to_vec();
    finalizers.retain(|finalizer| finalizer != keys::FINALIZER);
    json!({"metadata": {"finalizers": finalizers}})
}
