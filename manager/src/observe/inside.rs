//! Looking into a tenant: what it holds, what it stores, and how full its etcd is.

use super::{Error, Observer, Seen};
use crate::{
    clients::{
        cluster::{self, Cluster},
        kubeconfig::Access,
        remotes::{LIMIT, SLOW, Turn},
    },
    network::service_cidr,
    object::{DEPLOYMENT, NAMESPACE, Object, Objects, SERVICE_CIDR},
    provision,
    spec::control_plane::Owner,
    store::{
        room,
        stored::{self, Limits, Used},
    },
    tenant::{self, Tenant},
    watching::answers::Whose,
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

/// How long it may take to count one resource.
const ONE: Duration = Duration::from_secs(2);

impl Observer {
    /// A tenant that doesn't answer is a fact, not an error. One that took long not to answer hangs, and rests; so does one
    /// that takes too long for all of its answers.
    pub(super) async fn look_at_tenant(
        &self,
        whose: Whose,
        access: &Access,
        wanted: &[Object],
        limits: &Limits,
    ) -> Result<Tenant, Error> {
        let asking = match self.tenants.turn(access, Instant::now()) {
            Turn::Now(asking) => asking,
            Turn::Silent(why) => return Ok(Tenant::Silent(why)),
            Turn::Later => return Err(Error::Busy),
        };
        let began = Instant::now();
        let until = began + LIMIT;
        let say = |error: cluster::Error| error.to_string();
        let ready = async || {
            let entered = (self.enter)(access.clone()).await;
            let tenant = Cluster::of_anybody(entered.map_err(|error| error.to_string())?);
            tenant.ready().await.map_err(say)?;
            Ok::<_, String>(tenant)
        };
        let look = async {
            // While its API servers are replaced, a connection may lead to a pod that is gone: one that isn't known to be
            // silent is asked once more, by another.
            let first = match asking.is_first() {
                true => timeout(SLOW, ready()).await.ok().and_then(Result::ok),
                false => None,
            };
            let tenant = match first {
                Some(tenant) => tenant,
                None => ready().await?,
            };
            let kube_system = tenant
                .get(NAMESPACE, None, provision::coredns::NAMESPACE)
                .await
                .map_err(say)?;
            let kube_system = kube_system.ok_or("its kube-system namespace isn't there yet")?;
            let mut objects = Objects::default();
            let from = self.inside.reader(&tenant, whose);
            for want in wanted {
                let (namespace, name) = (want.namespace(), want.name());
                let have = match want.kind {
                    // What becomes of it is awaited.
                    DEPLOYMENT => tenant.get(want.kind, namespace, name).await,
                    _ => from.get(want.kind, namespace, name).await,
                };
                objects.extend(have.map_err(say)?);
            }
            // They are awaited, too.
            let default = tenant
                .get_if_served(SERVICE_CIDR, None, service_cidr::DEFAULT)
                .await;
            let some = tenant.some(SERVICE_CIDR, service_cidr::OWN).await;
            objects.extend(some.map_err(say)?);
            objects.extend(default.map_err(say)?);
            Ok((tenant, kube_system, objects))
        };
        let looked: Result<_, String> = timeout_at(until, look)
            .await
            .unwrap_or_else(|_| Err(format!("it didn't answer all within {} s", LIMIT.as_secs())));
        let tenant = match looked {
            Err(why) => {
                match began.elapsed() {
                    long if long >= SLOW => asking.was_silent(&why, Instant::now()),
                    short => asking.answered(short, Instant::now()),
                }
                return Ok(Tenant::Silent(why));
            }
            Ok((tenant, kube_system, objects)) => Tenant::Answers {
                kube_system_uid: kube_system.uid().to_owned(),
                objects,
                // Which may take what is left of the time.
                stored: Some(count(&tenant, limits, until).await),
            },
        };
        asking.answered(began.elapsed(), Instant::now());
        Ok(tenant)
    }

    /// An etcd that doesn't answer is a fact, not an error.
    pub(super) async fn look_at_store(
        &self,
        seen: &mut Seen,
        owner: &Owner,
        limits: &Limits,
    ) -> Result<(), Error> {
        let Tenant::Answers { stored, .. } = &seen.tenant else {
            return Ok(());
        };
        let is_known_full = stored.as_ref().is_some_and(|used| !limits.has_room(used));
        if !is_known_full && !self.stores.is_due(&owner.id, Instant::now()) {
            return Ok(());
        }
        let inside = owner.control_plane_namespace();
        let way = room::way(&seen.objects, &inside).map_err(tenant::Error::from)?;
        if let Some(way) = way {
            self.stores.note(&owner.id, Instant::now());
            let looked = timeout_at(Instant::now() + LIMIT, room::look(&way)).await;
            let looked = looked.map(|looked| looked.map_err(|error| error.to_string()));
            let late = |_| Err(format!("etcd didn't answer within {} s", LIMIT.as_secs()));
            seen.store = Some(looked.unwrap_or_else(late));
        }
        Ok(())
    }
}

/// What a tenant stores of what is limited, as far as it can be counted. What takes long, or can't be told, keeps nothing else
/// from being counted: a tenant may see to that.
async fn count(tenant: &Cluster, limits: &Limits, until: Instant) -> Used {
    let mut used = Used::new();
    let soon = || until.min(Instant::now() + ONE);
    let (of_core, of_groups): (Vec<&str>, Vec<&str>) =
        limits.counted().partition(|name| !name.contains('.'));
    if !of_core.is_empty() {
        let counting = async {
            let mut used = Used::new();
            for name in of_core {
                let path = format!("/api/v1/{name}");
                let one = async { tenant.count(&path).await.map(Some) };
                let number = told(name, timeout_at(soon(), one).await);
                used.extend(number.map(|number| (name.to_owned(), number)));
            }
            Ok(used)
        };
        let counted = timeout_at(until, by_itself(tenant, ["", "v1"], counting));
        used.extend(told("the core group", counted.await).into_iter().flatten());
    }
    for name in of_groups {
        let number = told(
            name,
            timeout_at(soon(), count_one(tenant, limits, name)).await,
        );
        used.extend(number.map(|number| (name.to_owned(), number)));
    }
    if limits.bytes().is_some() {
        let mut told = stored::SizeInMetrics::default();
        let heard = tenant.lines("/metrics", "text/plain", |line| told.hear(line));
        if let Ok(Ok(())) = timeout_at(until, heard).await {
            used.extend(told.bytes().map(|bytes| (stored::SIZE.to_owned(), bytes)));
        }
    }
    used
}

/// What was counted. Why it wasn't is said to who looks into it.
fn told<T>(name: &str, counted: Result<Result<Option<T>, cluster::Error>, Elapsed>) -> Option<T> {
    match counted {
        Ok(Ok(Some(counted))) => return Some(counted),
        Ok(Ok(None)) => tracing::debug!(
            name,
            "something else than the tenant's API server serves it, or did for a moment"
        ),
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "what a tenant stores can't be counted");
        }
        Err(_) => tracing::debug!(name, "what a tenant stores can't be counted in time"),
    }
    None
}

/// How many objects of a resource there are; `None` where something else than the tenant's API server serves one of its
/// versions, which hides what the API server would list there.
///
/// In which version a group is preferred is the tenant's to say, and versions of the API server's own may stand beside those
/// of a CustomResourceDefinition of the same name. So all are asked, and the one that has most counts.
async fn count_one(
    tenant: &Cluster,
    limits: &Limits,
    name: &str,
) -> Result<Option<u64>, cluster::Error> {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let Some(versions) = versions(tenant, group).await? else {
        // What isn't served isn't stored.
        return Ok(Some(0));
    };
    let (mut most, mut unknown) = (0, None);
    for version in versions {
        let path = format!("/apis/{group}/{version}/{plural}");
        match by_itself(tenant, [group, &version], tenant.count(&path)).await {
            Ok(Some(number)) if limits.is_reached(name, number) => return Ok(Some(number)),
            Ok(Some(number)) => most = most.max(number),
            other => unknown = Some(other),
        }
    }
    unknown.unwrap_or(Ok(Some(most)))
}

/// What is counted in a version of a group, if the API server serves that itself and did so all the time.
async fn by_itself<T>(
    tenant: &Cluster,
    [group, version]: [&str; 2],
    counting: impl Future<Output = Result<T, cluster::Error>>,
) -> Result<Option<T>, cluster::Error> {
    let name = format!("{version}.{group}");
    let served = async || match timeout(ONE, served_locally(tenant, &name)).await {
        Ok(served) => served,
        Err(_) => Ok(None),
    };
    let before = served().await?;
    if before.is_none() {
        return Ok(None);
    }
    let counted = counting.await?;
    Ok((served().await? == before).then_some(counted))
}

/// UID and resource version of an APIService by which the API server serves a version of a group itself, empty where there is
/// no APIService; `None` where it passes that on to where a tenant says.
async fn served_locally(
    tenant: &Cluster,
    name: &str,
) -> Result<Option<[String; 2]>, cluster::Error> {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
    let about = match tenant.text(&path, "application/json").await {
        Err(error) if error.code() == Some(404) => return Ok(Some(Default::default())),
        other => other?,
    };
    let about: Value = serde_json::from_str(&about).unwrap_or_default();
    let is_local = about["kind"] == "APIService" && !about["spec"]["service"].is_object();
    let metadata = &about["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    Ok(is_local.then(|| ["uid", "resourceVersion"].map(text)))
}

/// The versions in which a tenant's API server serves a group; `None`: it doesn't know the group. A version is named only while it
/// has an APIService, which a tenant may delete, and is served without it: of Kubernetes' own groups that may be `v1`.
async fn versions(
    tenant: &Cluster,
    group: &str,
) -> Result<Option<BTreeSet<String>>, cluster::Error> {
    let about = match tenant
        .text(&format!("/apis/{group}"), "application/json")
        .await
    {
        Err(error) if error.code() == Some(404) => return Ok(None),
        other => other?,
    };
    let about: Value = serde_json::from_str(&about).unwrap_or_default();
    let versions = about["versions"].as_array().into_iter().flatten();
    let names = versions.filter_map(|version| version["version"].as_str());
    // They become part of paths.
    let is_plain = |name: &&str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let all = names.filter(is_plain).chain(["v1"]).map(str::to_owned);
    Ok(Some(all.collect()))
}

#[cfg(test)]
mod tests;
