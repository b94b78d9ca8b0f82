//! Tenants as Clusters, on Cluster API's real core: from the first object to the last, and what users get wrong.

mod beyond;
mod class;
mod filtered;
mod init;
mod keys;
mod kills;
mod life;
mod many;
mod moved;
mod tools;
mod trouble;
mod version;
mod zones;

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    core::Core,
    kind::{CLUSTER, CONTROL_PLANE, Kind, NAMESPACE, SECRET, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE},
    read::{condition, text},
    side::{Problem, Side},
    tenant::{Tenant, conditions},
    wait::{PODS, SOON, eventually},
};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
    time::Duration,
};
use tenancy::tenant::TenantId;
use tokio::time::Instant;

/// The version that tests ask for first.
const VERSION: &str = "v1.36.3";

/// A namespace of the super cluster with Clusters in it.
struct Place {
    core: &'static Core,
    above: Side,
    namespace: String,
}

/// Runs a test in a namespace of its own; Clusters that it leaves there are deleted.
fn with_clusters(body: impl AsyncFnOnce(&Place) -> anyhow::Result<()>) {
    e2e::space::run(async || in_a_place(body).await);
}

/// The same, with no other test beside it.
fn alone_with_clusters(body: impl AsyncFnOnce(&Place) -> anyhow::Result<()>) {
    e2e::space::alone(async || in_a_place(body).await);
}

async fn in_a_place(body: impl AsyncFnOnce(&Place) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let core = Core::get().await?;
    let place = Place {
        core,
        above: core.above.clone(),
        namespace: e2e::make::unique("sublet-e2e-capi"),
    };
    let namespace = json!({"metadata": {"name": place.namespace}});
    place.above.create(NAMESPACE, namespace).await?;
    let result = AssertUnwindSafe(body(&place)).catch_unwind().await;
    if !matches!(result, Ok(Ok(()))) {
        eprintln!("{}\n{}", place.dump().await, core.tail());
    }
    let cleared = place.clear().await;
    match result {
        Ok(Ok(())) => {
            cleared?;
            core.check_rights()
        }
        Ok(Err(error)) => Err(error),
        Err(panic) => resume_unwind(panic),
    }
}

impl Place {
    /// Creates an object here.
    async fn create(&self, kind: Kind, name: &str, spec: Value) -> anyhow::Result<Value> {
        let metadata = json!({"name": name, "namespace": self.namespace});
        let object = json!({"metadata": metadata, "spec": spec});
        Ok(self.above.create(kind, object).await?)
    }

    async fn get(&self, kind: Kind, name: &str) -> anyhow::Result<Value> {
        Ok(self.above.get(kind, &self.namespace, name).await?)
    }

    async fn find(&self, kind: Kind, name: &str) -> anyhow::Result<Option<Value>> {
        Ok(self.above.find(kind, &self.namespace, name).await?)
    }

    async fn merge(&self, kind: Kind, name: &str, patch: Value) -> anyhow::Result<Value> {
        Ok(self.above.merge(kind, &self.namespace, name, patch).await?)
    }

    async fn delete(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        Ok(self.above.delete(kind, &self.namespace, name).await?)
    }

    /// A Cluster of that name with a control plane and a place of other names, as a platform would write them.
    async fn cluster(&self, name: &str) -> anyhow::Result<()> {
        let (control_plane, place) = (control_plane_of(name), place_of(name));
        self.create(SUBLET_CLUSTER, &place, json!({})).await?;
        self.create(SUBLET_CONTROL_PLANE, &control_plane, control_plane_spec())
            .await?;
        // It comes last: what core doesn't find when it sees a Cluster it looks for half a minute later again.
        self.create(CLUSTER, name, cluster(&control_plane, &place))
            .await?;
        Ok(())
    }

    /// Waits until an object is as `check` wants it.
    async fn like(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        limit: Duration,
        check: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        eventually(
            limit,
            &format!("{} {name}: {what}", kind.name),
            async || {
                let object = self.get(kind, name).await?;
                ensure!(check(&object), "{} {}", object["spec"], conditions(&object));
                Ok(object)
            },
        )
        .await
    }

    /// Waits until an object has a condition with that status and reason, and returns its message.
    async fn told(&self, kind: Kind, name: &str, told: [&str; 3]) -> anyhow::Result<String> {
        let find = |object: &Value| {
            let [wanted, status, reason] = told;
            let list = e2e::read::items(object, "/status/conditions").to_vec();
            list.into_iter().find(|condition| {
                condition["type"] == wanted
                    && condition["status"] == status
                    && condition["reason"] == reason
            })
        };
        let object = self
            .like(kind, name, &format!("says {told:?}"), PODS, |object| {
                find(object).is_some()
            })
            .await?;
        Ok(text(&find(&object).unwrap_or_default(), "/message").to_owned())
    }

    /// Waits until a Cluster is Provisioned and Available; how long that took from now on.
    async fn available(&self, name: &str, limit: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.like(
            CLUSTER,
            name,
            "is Provisioned and Available",
            limit,
            |cluster| {
                text(cluster, "/status/phase") == "Provisioned"
                    && condition(cluster, "Available") == "True"
            },
        )
        .await?;
        Ok(began.elapsed())
    }

    /// The tenant that a Cluster is, by the kubeconfig that Cluster API uses.
    async fn tenant(&self, cluster: &str) -> anyhow::Result<Tenant> {
        let vcp = self.get(CONTROL_PLANE, cluster).await?;
        let secret = self.get(SECRET, &format!("{cluster}-kubeconfig")).await?;
        let data = secret["data"]["value"].as_str().context("no kubeconfig")?;
        let kubeconfig = String::from_utf8(BASE64_STANDARD.decode(data)?)?;
        Ok(Tenant {
            name: cluster.to_owned(),
            id: TenantId::parse(text(&vcp, "/spec/identity"))?,
            side: Side::connect(&format!("Cluster {cluster}"), &kubeconfig).await?,
            kubeconfig,
            above: self.above.clone(),
        })
    }

    /// Waits until an object is gone.
    async fn gone(&self, kind: Kind, name: &str, limit: Duration) -> anyhow::Result<()> {
        eventually(
            limit,
            &format!("{} {name} is gone", kind.name),
            async || match self.find(kind, name).await? {
                None => Ok(()),
                Some(object) => anyhow::bail!("{}", conditions(&object)),
            },
        )
        .await
    }

    /// Waits until a deleted Cluster, its objects and all of its tenant are gone.
    async fn nothing_is_left(&self, cluster: &str, id: &TenantId) -> anyhow::Result<()> {
        self.gone(CLUSTER, cluster, LONG).await?;
        eventually(PODS, "nothing of the tenant is left", async || {
            let left = crate::lifecycle::left_of(&self.above, id, cluster).await?;
            ensure!(left.is_empty(), "{left:?}");
            for kind in [SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, CONTROL_PLANE] {
                let left = self.above.list(kind, &self.namespace, "").await?;
                ensure!(left.is_empty(), "{} {}", kind.name, conditions(&left[0]));
            }
            let secrets = self.above.list(SECRET, &self.namespace, "").await?;
            ensure!(secrets.is_empty(), "{}", e2e::read::name(&secrets[0]));
            Ok(())
        })
        .await
    }

    /// Deletes all Clusters, then what never had one, then the namespace.
    async fn clear(&self) -> anyhow::Result<()> {
        for kind in [CLUSTER, SUBLET_CONTROL_PLANE, SUBLET_CLUSTER] {
            for object in self.above.list(kind, &self.namespace, "").await? {
                let name = e2e::read::name(&object).to_owned();
                let unpaused = json!({"spec": {"paused": null}});
                if kind == CLUSTER {
                    self.merge(kind, &name, unpaused).await?;
                }
                self.delete(kind, &name).await?;
            }
            eventually(PODS, &format!("no {} is left", kind.name), async || {
                let left = self.above.list(kind, &self.namespace, "").await?;
                ensure!(
                    left.is_empty(),
                    "{}",
                    left.iter().map(conditions).collect::<Vec<_>>().join("\n")
                );
                Ok(())
            })
            .await?;
        }
        Ok(self.above.delete(NAMESPACE, "", &self.namespace).await?)
    }

    async fn dump(&self) -> String {
        let mut dump = String::new();
        for kind in [CLUSTER, SUBLET_CLUSTER, SUBLET_CONTROL_PLANE, CONTROL_PLANE] {
            for object in self
                .above
                .list(kind, &self.namespace, "")
                .await
                .unwrap_or_default()
            {
                dump += &format!(
                    "\n-- {} {}: {} {}\n",
                    kind.name,
                    e2e::read::name(&object),
                    object["spec"],
                    conditions(&object)
                );
            }
        }
        dump
    }
}

/// Does something while the tenant is asked all the time: one question without an answer is an error.
pub(crate) async fn without_a_lost_answer<T>(
    tenant: &Tenant,
    body: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let asking = async {
        loop {
            let mut answer = tenant.side.text("/").await;
            if answer.as_ref().is_err_and(is_asked_anew) {
                answer = tenant.side.text("/").await;
            }
            if let Err(error) = answer {
                return error;
            }
            tokio::time::sleep(OFTEN).await;
        }
    };
    tokio::select! {
        error = asking => anyhow::bail!("a question was lost: {error}"),
        done = body => done,
    }
}

/// Does something while a Cluster has these conditions all the time: once core says that one isn't True, that is an error. Of its
/// probe core says so after 50 s without an answer.
async fn while_true<T>(
    place: &Place,
    cluster: &str,
    kinds: &[&str],
    body: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let path = CLUSTER.path(&place.namespace, "")
        + &format!("?watch=true&fieldSelector=metadata.name%3D{cluster}");
    let watching = async {
        loop {
            let mut events = pin!(place.above.watch(&path).await?);
            while let Some(event) = events.next().await {
                let seen = &event["object"];
                let lost = kinds.iter().any(|kind| condition(seen, kind) != "True");
                if seen["kind"] == "Cluster" && lost {
                    anyhow::bail!("core lost the tenant: {}", conditions(seen));
                }
            }
        }
    };
    tokio::select! {
        lost = watching => lost,
        done = body => done,
    }
}

/// Every client asks once more: the server closed a connection that was idle while a question was sent on it (RFC 9112,
/// section 9.5), or asked for that by `Retry-After` since it is going, as API servers do and client-go heeds.
fn is_asked_anew(problem: &Problem) -> bool {
    [
        "connection closed before message completed",
        "apiserver is shutting down",
    ]
    .iter()
    .any(|words| problem.message.contains(words))
}

/// The super namespace of a control plane.
fn inside(vcp: &Value) -> anyhow::Result<String> {
    let id = TenantId::parse(text(vcp, "/spec/identity"))?;
    Ok(tenancy::naming::control_plane_namespace(
        &id,
        e2e::read::name(vcp),
    ))
}

fn control_plane_of(cluster: &str) -> String {
    format!("{cluster}-control-plane")
}

fn place_of(cluster: &str) -> String {
    format!("{cluster}-place")
}

fn control_plane_spec() -> Value {
    json!({"version": VERSION, "etcd": {"storage": {"ephemeral": true}}})
}

/// The spec of a Cluster without workers.
fn cluster(control_plane: &str, place: &str) -> Value {
    json!({
        "controlPlaneRef": {
            "apiGroup": "controlplane.cluster.x-k8s.io", "kind": "SubletControlPlane", "name": control_plane,
        },
        "infrastructureRef": {
            "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "SubletCluster", "name": place,
        },
    })
}

/// Whether the paused condition tells of this generation of the object.
fn is_paused(object: &Value, paused: &str) -> bool {
    let told = e2e::read::items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Paused");
    told.is_some_and(|told| {
        told["status"] == paused && told["observedGeneration"] == object["metadata"]["generation"]
    })
}

const LONG: Duration = SOON.saturating_mul(10);
/// Between two questions of one who asks all the time.
const OFTEN: Duration = Duration::from_millis(100);
