//! The ResourceQuotas of a tenant's super namespaces in one list, for a syncer that starts: it works all namespaces, and hundreds
//! of reads would come at once.
//!
//! What was listed counts for a minute and once for each namespace; from then on it is read live. A write by what was
//! listed names the UID and the spec that it replaces, or needs the name to be free, so one that is late changes nothing.

use super::RESOURCE;
use crate::{
    apply::Failure, client::Cluster, error::Error, pages::Pages, tenants::Tenant, watch::encode,
};
use parking_lot::Mutex;
use std::{collections::HashMap, time::Duration};
use tenancy::object::Object;
use tokio::{sync::OnceCell, time::Instant};

/// How long a list counts.
const FRESH: Duration = Duration::from_secs(60);

/// What was listed for a tenant, by super namespace; it is listed once.
#[derive(Default)]
pub(crate) struct Listed(OnceCell<List>);

#[derive(Default)]
struct List {
    /// When it was asked for; none if it may not be.
    since: Option<Instant>,
    by_namespace: Mutex<HashMap<String, ListedQuota>>,
}

/// What is known of a namespace.
#[derive(Debug)]
pub(super) enum ListedQuota {
    /// It had this one, or none.
    Have(Option<Box<Object>>),
    /// Nothing that counts: it must be read.
    Nothing,
}

impl Listed {
    /// That of a tenant whose start is long over.
    #[cfg(test)]
    pub(crate) fn spent() -> Self {
        Self(OnceCell::new_with(Some(List::default())))
    }

    /// What the list says of a super namespace, the first time that it is asked for.
    ///
    /// # Errors
    ///
    /// It can't be listed now.
    pub(super) async fn take(
        &self,
        cluster: &Cluster,
        tenant: &Tenant,
        namespace: &str,
    ) -> Result<ListedQuota, Failure> {
        let list = self.0.get_or_try_init(|| list(cluster, tenant)).await?;
        let mut all = list.by_namespace.lock();
        if list.since.is_none_or(|since| since.elapsed() >= FRESH) {
            *all = HashMap::new();
            return Ok(ListedQuota::Nothing);
        }
        let told = all.insert(namespace.to_owned(), ListedQuota::Nothing);
        Ok(told.unwrap_or(ListedQuota::Have(None)))
    }
}

async fn list(cluster: &Cluster, tenant: &Tenant) -> Result<List, Failure> {
    let since = Instant::now();
    let selector = format!("{}={}", api::keys::TENANT, tenant.id);
    let fields = format!("metadata.name={}", api::QUOTA_NAME);
    let query = format!(
        "&labelSelector={}&fieldSelector={}",
        encode(&selector),
        encode(&fields)
    );
    let mut pages = Pages::of(&RESOURCE.path("", ""), query);
    let lister = cluster.lister().await;
    let mut by_namespace = HashMap::new();
    loop {
        match pages.next(&lister).await {
            Ok(Some(page)) => {
                let objects = page.items.into_iter().flat_map(Object::from_value);
                let told = |object: Object| {
                    let namespace = object.namespace().to_owned();
                    (namespace, ListedQuota::Have(Some(Box::new(object))))
                };
                by_namespace.extend(objects.map(told));
            }
            Ok(None) => break,
            // Its rights are of a version that read each.
            Err(Error::Forbidden(_)) => return Ok(List::default()),
            Err(err) => return Err(err.into()),
        }
    }
    Ok(List {
        since: Some(since),
        by_namespace: Mutex::new(by_namespace),
    })
}
