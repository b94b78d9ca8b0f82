//! Looking into a tenant: what it holds, what it stores, and how full its etcd is.

use super::{Error, Observer, Seen};
use crate::{
    answers::Whose,
    cluster::{self, Cluster},
    control_plane::Owner,
    kubeconfig::Access,
    object::{DEPLOYMENT, NAMESPACE, Object, Objects, SERVICE_CIDR},
    provision,
    remotes::{LIMIT, SLOW, Turn},
    room, service_cidr,
    stored::{self, Limits, Used},
    tenant::{self, Tenant},
};
use tokio::time::{Instant, timeout_at};

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
        let look = async {
            let entered = (self.enter)(access.clone()).await;
            let tenant = Cluster::of_anybody(entered.map_err(|error| error.to_string())?);
            let say = |error: cluster::Error| error.to_string();
            tenant.ready().await.map_err(say)?;
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
                stored: timeout_at(until, count(&tenant, limits))
                    .await
                    .ok()
                    .flatten(),
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

/// What a tenant stores of what is limited; `None` when it can't be counted now, which is no fault of the tenant.
async fn count(tenant: &Cluster, limits: &Limits) -> Option<Used> {
    let counted = try_count(tenant, limits).await;
    counted
        .inspect_err(|error| tracing::debug!(%error, "what a tenant stores can't be counted"))
        .ok()
}

async fn try_count(tenant: &Cluster, limits: &Limits) -> Result<Used, cluster::Error> {
    let mut used = Used::new();
    for name in limits.counted() {
        let path = match name.split_once('.') {
            None => format!("/api/v1/{name}"),
            Some((plural, group)) => match version(tenant, group).await? {
                Some(version) => format!("/apis/{version}/{plural}"),
                // What isn't served isn't stored.
                None => continue,
            },
        };
        used.insert(name.to_owned(), tenant.count(&path).await?);
    }
    if limits.bytes().is_some() {
        let mut told = stored::Told::default();
        let heard = tenant.lines("/metrics", "text/plain", |line| told.hear(line));
        heard.await?;
        used.extend(told.bytes().map(|bytes| (stored::SIZE.to_owned(), bytes)));
    }
    Ok(used)
}

/// The version in which a tenant's API server prefers to serve a group, as `GROUP/VERSION`.
async fn version(tenant: &Cluster, group: &str) -> Result<Option<String>, cluster::Error> {
    let about = match tenant
        .text(&format!("/apis/{group}"), "application/json")
        .await
    {
        Err(error) if error.code() == Some(404) => return Ok(None),
        other => other?,
    };
    let about: serde_json::Value = serde_json::from_str(&about).unwrap_or_default();
    let version = about["preferredVersion"]["groupVersion"].as_str();
    Ok(version.map(str::to_owned))
}
