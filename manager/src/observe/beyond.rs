//! Looking into another super cluster: the twin of a VirtualControlPlane, and what was made for it there.

use super::{Error, Observer, Seen};
use crate::{
    cluster::{self, Cluster},
    control_plane::Owner,
    kubeconfig::{self, Access},
    object::{Object, Objects, SECRET, VIRTUAL_CONTROL_PLANE},
    pki, twin,
};
use api::SuperCluster;

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
        let path = format!("{}/{}", owner.namespace, reference.name);
        let secret = self
            .cluster
            .get(SECRET, Some(&owner.namespace), &reference.name)
            .await?;
        let access = match &secret {
            None => Err(format!(
                "Secret {path} doesn't exist: create it with a kubeconfig for the super cluster"
            )),
            Some(secret) => read(secret, &reference.key)
                .map_err(|why| format!("Secret {path}, key {}: {why}", reference.key)),
        };
        seen.beyond = match access {
            Err(why) => Beyond::Refused(why),
            Ok(access) => match kubeconfig::client(&access).await {
                Err(error) => Beyond::Refused(format!("Secret {path}: {error}")),
                Ok(client) => {
                    let there = Cluster::new(client);
                    let brought = twin::brought::names(owner, &seen.cluster_secrets);
                    let look = look(&there, owner, super_cluster, brought).await;
                    seen.way = Some(there);
                    look.unwrap_or_else(|error| {
                        Beyond::Unreachable(format!(
                            "the super cluster at {} doesn't answer as it should: {error}",
                            access.server
                        ))
                    })
                }
            },
        };
        Ok(())
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
