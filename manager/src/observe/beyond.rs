//! Looking into another super cluster: the twin of a VirtualControlPlane, and what was made for it there.

use super::{Error, Observer, Seen};
use crate::{
    clients::{
        cluster::{self, Cluster},
        kubeconfig::Access,
        remotes::{Asking, LIMIT, Turn},
    },
    elsewhere::twin,
    object::{Object, Objects, SECRET, VIRTUAL_CONTROL_PLANE},
    pki,
    spec::control_plane::Owner,
};
use api::SuperCluster;
use tokio::time::{Instant, timeout_at};

/// What is known of the twin.
#[derive(Clone, Debug)]
pub(crate) enum Beyond {
    /// It wasn't looked for.
    NotAsked,
    /// The kubeconfig can't be used; why.
    Refused(String),
    /// The super cluster gave no good answer; why.
    Unreachable(String),
    /// It was asked.
    Reached {
        /// What is there under the twin's name, whoever it belongs to.
        twin: Option<Object>,
        /// The Secrets that are there for the twin.
        secrets: Objects,
    },
}

impl Observer {
    /// A super cluster that doesn't answer is a fact, not an error.
    pub(super) async fn look_beyond(
        &self,
        seen: &mut Seen,
        owner: &Owner,
        super_cluster: &SuperCluster,
    ) -> Result<(), Error> {
        let reference = &super_cluster.kubeconfig_secret_ref;
        let namespace = owner.namespace.as_str();
        let secret = match seen.access_beside {
            Some(_) => {
                let read = self.cluster.get(SECRET, Some(namespace), &reference.name);
                read.await?
            }
            None => None,
        };
        let path = format!("{namespace}/{}", reference.name);
        let given = match &secret {
            None => Err(format!(
                "Secret {path} doesn't exist: create it with a kubeconfig for the super cluster"
            )),
            Some(secret) => read(secret, &reference.key)
                .map_err(|why| format!("Secret {path}, key {}: {why}", reference.key)),
        };
        let kept = twin::kept::name(&owner.id);
        let kept = self.cluster.get(SECRET, Some(&self.system), &kept);
        seen.kept = kept.await?;
        seen.given = given.as_ref().ok().cloned();
        let is_going = seen.vcp.metadata.deletion_timestamp.is_some();
        let kept = seen.kept.as_ref().filter(|_| is_going);
        // What it was is good enough to take the twin away by.
        let access = given.or_else(|why| {
            let kept = kept.and_then(|kept| read(kept, twin::kept::KEY).ok());
            kept.ok_or(why)
        });
        seen.beyond = match access {
            Err(why) => Beyond::Refused(why),
            Ok(access) => match self.remotes.turn(&access, Instant::now()) {
                Turn::Later => return Err(Error::Busy),
                Turn::Silent(why) => Beyond::Unreachable(why),
                Turn::Now(asking) => self.ask(seen, owner, super_cluster, access, asking).await,
            },
        };
        Ok(())
    }

    async fn ask(
        &self,
        seen: &mut Seen,
        owner: &Owner,
        super_cluster: &SuperCluster,
        access: Access,
        asking: Asking,
    ) -> Beyond {
        let server = access.server.clone();
        let there = match (self.enter)(access).await {
            Ok(client) => Cluster::of_anybody(client),
            Err(error) => {
                let path = format!(
                    "{}/{}",
                    owner.namespace, super_cluster.kubeconfig_secret_ref.name
                );
                return Beyond::Refused(format!("Secret {path}: {error}"));
            }
        };
        let brought = twin::brought::names(owner, &seen.cluster_secrets);
        let began = Instant::now();
        let looked = look(&there, owner, super_cluster, brought);
        let looked = timeout_at(began + LIMIT, looked).await;
        seen.way = Some(there);
        let (error, code) = match looked {
            Ok(Ok(beyond)) => {
                asking.answered(began.elapsed(), Instant::now());
                return beyond;
            }
            Ok(Err(error)) => (error.to_string(), error.code()),
            Err(_) => (format!("not all of it within {} s", LIMIT.as_secs()), None),
        };
        let why = format!("the super cluster at {server} doesn't answer as it should: {error}");
        match code {
            // That is an answer, and concerns this tenant alone.
            Some(code) if code < 500 => asking.answered(began.elapsed(), Instant::now()),
            _ => asking.was_silent(&why, Instant::now()),
        }
        Beyond::Unreachable(why)
    }
}

async fn look(
    there: &Cluster,
    owner: &Owner,
    super_cluster: &SuperCluster,
    brought: Vec<String>,
) -> Result<Beyond, cluster::Error> {
    let namespace = Some(twin::namespace(owner, super_cluster));
    let twin = there
        .get(VIRTUAL_CONTROL_PLANE, namespace, &owner.name)
        .await?;
    let mut secrets = Objects::default();
    // Until a kubeconfig is told of, there is nothing to read but what was handed on.
    let told = "/status/kubeconfigSecretRef";
    let is_told = twin
        .as_ref()
        .is_some_and(|twin| twin.body.pointer(told).is_some());
    let names = match is_told {
        true => twin::secrets(owner),
        false => brought,
    };
    for name in names {
        let found = there.get(SECRET, namespace, &name).await?;
        found.into_iter().for_each(|secret| secrets.insert(secret));
    }
    Ok(Beyond::Reached { twin, secrets })
}

fn read(secret: &Object, key: &str) -> Result<Access, String> {
    let text = pki::text_of(secret, key).ok_or("there is no text under this key")?;
    Access::parse(&text).map_err(|error| error.to_string())
}
