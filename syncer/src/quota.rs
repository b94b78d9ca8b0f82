//! A tenant's quota: room is reserved before a super object is made, and given back when the object has ended.
//!
//! One ledger for each tenant, in the process that serves it; what exists is counted from the super cluster when the
//! tenant is first served and when the limits change, and nothing is granted before that. The tenant is shown its quota
//! as a ConfigMap, the platform on the VirtualControlPlane. Of the budgets of groups a tenant uses its share
//! ([`crate::budget`]).

use crate::{
    apply::{self, Failure},
    budget::Shared,
    engine::Engine,
    error::Error,
    live::read,
    super_bytes::{self, SuperBytes},
    tenants::Tenant,
    verdict::ControlPlane,
    watch::{self, Presence, Target},
};
use api::keys;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};
use tenancy::{
    kind::{self, Refused, SuperWatch},
    meta,
    object::Object,
    quota::{
        self, Claim, Ledger, Limits, NoRoom,
        amount::{Amounts, shown},
        budget::Refusal,
        bytes, demand,
    },
    tenant::{Key, TenantId},
};
use tokio::{sync::Notify, time::Instant};

mod report;

use report::{LastReport, UsageReport};

/// Changes of what is used come in bursts; they are shown together.
const SETTLE: Duration = Duration::from_millis(300);
/// Until a count or a showing that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Reason of a refusal for want of room.
pub(crate) const EXCEEDED: &str = "QuotaExceeded";
/// Reason of a refusal for want of a word about what is limited.
pub(crate) const UNSAID: &str = "QuotaNeedsResources";

/// A tenant's ledger.
#[derive(Default)]
pub(crate) struct Quota {
    ledger: Mutex<Ledger>,
    /// The limit that is no number of objects' and no sum of what they ask for.
    pub(crate) bytes: SuperBytes,
    /// Budgets of groups that the tenant is under.
    shared: Mutex<BTreeMap<String, Shared>>,
    news: Notify,
    /// For the groups' budgets: something is to be asked, or given back.
    claims: Notify,
}

impl Quota {
    /// Takes up limits and who shares them, if they are news.
    pub(crate) fn limit(&self, own: &Amounts, shared: BTreeMap<String, Shared>) -> Vec<Key> {
        let mut own = own.clone();
        let woken = self.bytes.limit(bytes::limit(&own));
        own.remove(bytes::NAME);
        if woken.is_some() {
            self.news.notify_one();
        }
        let mut woken = woken.unwrap_or_default();
        let budgets = shared.iter();
        let limits = Limits {
            own,
            budgets: budgets
                .map(|(group, shared)| (group.clone(), shared.hard.clone()))
                .collect(),
        };
        let before = std::mem::replace(&mut *self.shared.lock(), shared.clone());
        let mut ledger = self.ledger.lock();
        let is_news = *ledger.limits() != limits;
        if before == shared && !is_news {
            return woken;
        }
        // Somebody who left a group gives room to all others.
        if is_news {
            woken.extend(ledger.limit(limits));
        } else {
            for group in shared.keys() {
                ledger.reconsider(group, &Amounts::new());
            }
        }
        drop(ledger);
        self.news.notify_one();
        self.claims.notify_one();
        woken
    }

    /// What the tenant shows of it may have been edited.
    pub(crate) fn look_again(&self) {
        self.news.notify_one();
    }

    fn change<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut ledger = self.ledger.lock();
        let result = change(&mut ledger);
        let must_claim = ledger.must_claim();
        drop(ledger);
        self.news.notify_one();
        if must_claim {
            self.claims.notify_one();
        }
        result
    }

    /// The budgets of groups that the tenant is under.
    pub(crate) fn budgets(&self) -> BTreeMap<String, Shared> {
        self.shared.lock().clone()
    }

    /// Whether there are any, and the tenant's use is known.
    pub(crate) fn has_budgets(&self) -> bool {
        let ledger = self.ledger.lock();
        !ledger.limits().budgets.is_empty() && !ledger.is_counting()
    }

    /// Whether the groups must be asked, or told.
    pub(crate) fn must_claim(&self) -> bool {
        self.ledger.lock().must_claim()
    }

    /// Whether somebody waits for an answer of theirs.
    pub(crate) fn is_asking(&self) -> bool {
        self.ledger.lock().is_asking()
    }

    /// Something is to be asked or told.
    pub(crate) async fn budget_news(&self) {
        self.claims.notified().await;
    }

    /// What the groups are to be told and asked.
    pub(crate) fn claim(&self) -> Claim {
        self.ledger.lock().claim()
    }

    /// Takes up what the groups answered.
    pub(crate) fn settle(
        &self,
        claim: &Claim,
        shares: BTreeMap<String, Amounts>,
        refusals: BTreeMap<Key, Refusal>,
    ) -> Vec<Key> {
        self.change(|ledger| ledger.settle(claim, shares, refusals))
    }

    /// Nothing exists yet.
    #[cfg(test)]
    pub(crate) fn counted(&self) {
        self.change(|ledger| {
            let count = ledger.counting();
            count.and_then(|count| ledger.counted(count))
        });
    }

    /// So much is left of a group's budget.
    pub(crate) fn reconsider(&self, group: &str, left: &Amounts) {
        if self.ledger.lock().reconsider(group, left) {
            self.claims.notify_one();
        }
    }
}

/// Reserves what a super object asks for; the refusal says what is exceeded.
pub(crate) fn reserve(
    tenant: &Tenant,
    key: &Key,
    want: &Object,
) -> Result<Option<Refused>, Failure> {
    let resource = key.kind().resource();
    if !is_counted(tenant, key) {
        return Ok(None);
    }
    if resource.kind == "Pod" {
        let is_new = tenant.table.get(key).twin.is_none();
        if !is_new && tenant.quota.ledger.lock().is_over(key) {
            // It is worked once more when its end is told, and mustn't take its room again.
            return Ok(None);
        }
        let unsaid = if is_new {
            demand::unsaid
        } else {
            // One that was made before the quota needn't say anything, and may lift no limit.
            demand::lifted
        };
        let unsaid = unsaid(want, tenant.quota.ledger.lock().tracked());
        if !unsaid.is_empty() {
            let message = quota::explain_unsaid(&unsaid);
            return Ok(Some(Refused::new(UNSAID, message)));
        }
    }
    let asked = demand::of(resource, &with_overhead(tenant, want));
    match tenant.quota.change(|ledger| ledger.reserve(key, &asked)) {
        Ok(()) => Ok(None),
        Err(NoRoom::Uncounted) => Err(Failure::Waiting("what the tenant uses is being counted")),
        Err(NoRoom::Unasked) => Err(Failure::Waiting("the budget of the group is being asked")),
        Err(NoRoom::Exceeded(exceeded)) => {
            Ok(Some(Refused::new(EXCEEDED, quota::explain(&exceeded))))
        }
        Err(NoRoom::Shared(exceeded)) => Ok(Some(Refused::new(
            EXCEEDED,
            quota::explain_shared(&exceeded),
        ))),
    }
}

/// What is asked for, with the overhead that the super cluster will write into a pod of its runtime class.
fn with_overhead<'a>(tenant: &Tenant, want: &'a Object) -> Cow<'a, Object> {
    let class = want.text("/spec/runtimeClassName");
    let Some(overhead) = class.and_then(|class| tenant.offered.overhead(class)) else {
        return Cow::Borrowed(want);
    };
    let mut whole = want.clone();
    whole.value_mut()["spec"]["overhead"] = overhead;
    Cow::Owned(whole)
}

/// A super object of the tenant exists in this state.
pub(crate) fn exists(engine: &Engine, tenant: &Tenant, key: &Key, object: &Object) {
    if !is_counted(tenant, key) {
        return;
    }
    let takes = demand::of(key.kind().resource(), object);
    let woken = tenant
        .quota
        .change(|ledger| ledger.exists(key, object.uid(), &takes));
    wake(engine, tenant, woken);
}

/// A super object of the tenant is gone.
pub(crate) fn ended(engine: &Engine, tenant: &Tenant, key: &Key, uid: &str) {
    if is_counted(tenant, key) {
        let woken = tenant.quota.change(|ledger| ledger.ended(key, uid));
        wake(engine, tenant, woken);
    }
}

/// No super object will be made for the key now; nothing is given up for one that exists.
pub(crate) fn abandon(engine: &Engine, tenant: &Tenant, key: &Key) {
    if is_counted(tenant, key) && tenant.table.get(key).twin.is_none() {
        let woken = tenant.quota.change(|ledger| ledger.abandon(key));
        wake(engine, tenant, woken);
    }
}

/// The key has been worked; what was reserved for it and wasn't made is free again.
pub(crate) fn unmade(engine: &Engine, tenant: &Tenant, key: &Key) {
    if is_counted(tenant, key) && tenant.table.get(key).twin.is_none() {
        let woken = tenant.quota.change(|ledger| ledger.unmade(key));
        wake(engine, tenant, woken);
    }
}

/// What waited for room is worked again.
pub(crate) fn wake(engine: &Engine, tenant: &Tenant, woken: Vec<Key>) {
    for key in woken {
        engine.down.add(&tenant.id, key);
    }
}

/// Whether the tenant's quota says anything of the kind.
pub(crate) fn is_counted(tenant: &Tenant, key: &Key) -> bool {
    counts(key.kind, tenant.quota.ledger.lock().tracked())
}

/// Whether limits say anything of a kind; of kinds that aren't watched nothing can be counted.
pub(crate) fn counts(kind: u8, limits: &Amounts) -> bool {
    let rule = kind::rule(kind);
    !kind::UNGUARDED
        && rule.super_watch() == SuperWatch::Owned
        && demand::concerns(rule.resource(), limits)
}

/// Counts what exists when that is needed, and shows what is used when that changes, until the tenant isn't served.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let mut told = LastReport::default();
    tokio::select! {
        () = tenant.cancel.cancelled() => return,
        () = Box::pin(count_bytes(&engine, &tenant)) => {}
    }
    loop {
        let is_counting = tenant.quota.ledger.lock().is_counting();
        let worked = if is_counting {
            Box::pin(count(&engine, &tenant)).await.map(|()| None)
        } else {
            Box::pin(show(&engine, &tenant, &mut told)).await
        };
        let again = async {
            match worked {
                Ok(None) => tenant.quota.news.notified().await,
                // What is to be told later is told with what is news till then.
                Ok(Some(later)) => tokio::select! {
                    () = tenant.quota.news.notified() => {}
                    () = tokio::time::sleep(later) => {}
                },
                Err(err) => {
                    tracing::debug!(tenant = %tenant.id, %err, "the quota will be looked at again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            tokio::time::sleep(SETTLE).await;
        };
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            () = again => {}
        }
    }
}

/// Learns how many bytes there are already, before any more are granted.
async fn count_bytes(engine: &Engine, tenant: &Tenant) {
    while tenant.quota.bytes.is_counting() {
        if let Err(err) = super_bytes::count(engine, tenant).await {
            tracing::debug!(tenant = %tenant.id, %err, "the bytes of its objects will be counted again");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Counts what the tenant has in the super cluster of every kind that its quota is about.
///
/// A count that other limits overtook ends without effect; those limits are news, and so it is begun anew.
async fn count(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let Some(count) = tenant.quota.ledger.lock().counting() else {
        return Ok(());
    };
    for kind in tenant.kinds() {
        if is_counted(tenant, &Key::new(kind, "", "")) {
            let tell = |key: Key, object: &Object| {
                let takes = demand::of(key.kind().resource(), object);
                let uid = object.uid();
                let mut ledger = tenant.quota.ledger.lock();
                ledger.came_upon(count, &key, uid, &takes);
            };
            each(engine, kind, &tenant.id, tell).await?;
        }
    }
    match tenant.quota.change(|ledger| ledger.counted(count)) {
        Some(woken) => {
            tracing::info!(tenant = %tenant.id, waiting = woken.len(), "counted what the tenant uses");
            wake(engine, tenant, woken);
        }
        None => tracing::info!(
            tenant = %tenant.id, "the limits changed while what the tenant uses was counted"
        ),
    }
    Ok(())
}

/// Lists what a tenant has in the super cluster of one kind; nothing where the kind isn't served.
pub(crate) async fn each(
    engine: &Engine,
    kind: u8,
    id: &TenantId,
    tell: impl Fn(Key, &Object) + Send + Sync,
) -> Result<(), Failure> {
    let target = Target {
        selector: Some(format!("{}={id}", keys::TENANT)),
        ..Target::of(kind::rule(kind))
    };
    let told = |object: Object| {
        let owner = meta::owner(&object).filter(|owner| meta::is_in_place(&object, owner));
        if let Some(owner) = owner {
            tell(Key::new(kind, &owner.namespace, &owner.name), &object);
        }
    };
    match watch::each(&engine.cluster, &target, told).await {
        Err(Error::NotServed) if target.presence == Presence::Optional => Ok(()),
        other => Ok(other?),
    }
}

/// Shows the quota and what is used of it, to the tenant and on the VirtualControlPlane; in how long that is to be told
/// something that it isn't yet.
async fn show(
    engine: &Engine,
    tenant: &Tenant,
    told: &mut LastReport,
) -> Result<Option<Duration>, Failure> {
    let (mut hard, mut used, mut data) = (Map::new(), Map::new(), Map::new());
    let mut said = UsageReport::default();
    let (mut state, shared) = {
        let ledger = tenant.quota.ledger.lock();
        said.is_waited_for = ledger.is_waited_for();
        (ledger.state(), ledger.shared_state())
    };
    if let Some(taken) = super_bytes::state(tenant) {
        state.insert(bytes::NAME.to_owned(), taken);
    }
    let is_limited = !state.is_empty();
    for (name, (taken, limit)) in state {
        if taken >= limit {
            said.reached.insert(name.clone());
        }
        let (taken, limit) = (shown(&name, taken), shown(&name, limit));
        // A key of a ConfigMap has no slashes.
        data.insert(name.replace('/', "_"), format!("{taken} of {limit}").into());
        used.insert(name.clone(), taken.into());
        hard.insert(name, limit.into());
    }
    let is_shown = is_limited || !shared.is_empty();
    for (name, (taken, limit)) in shared {
        let (taken, limit) = (shown(&name, taken), shown(&name, limit));
        let text = format!("{taken} here, of {limit} for all who share it");
        data.insert(format!("shared_{}", name.replace('/', "_")), text.into());
    }
    if is_limited {
        said.status = json!({"hard": hard, "used": used});
    }
    // First, since the tenant may refuse what it is shown.
    let mut later = told.due(&said, Instant::now());
    if later == Some(Duration::ZERO) {
        if let Some(vcp) = ControlPlane::of(tenant).read(engine).await? {
            let permit = tenant.permit();
            let quota = [("quota", said.status.clone())];
            apply::status(&engine.cluster, &vcp, &quota, &permit).await?;
        }
        told.note(said, Instant::now());
        later = None;
    }
    match show_tenant(tenant, is_shown, data).await {
        // Tried again when something changes.
        Err(failure @ Failure::Api(_)) if !failure.is_unreachable() && !failure.is_race() => {
            tracing::debug!(tenant = %tenant.id, err = %failure, "the tenant refuses what it is shown of its quota");
            Ok(later)
        }
        other => other.map(|()| later),
    }
}

async fn show_tenant(
    tenant: &Tenant,
    is_limited: bool,
    data: Map<String, Value>,
) -> Result<(), Failure> {
    const PLACE: &str = "kube-system";
    let resource = kind::rule(kind::index("ConfigMap")).resource();
    let path = resource.path(PLACE, api::QUOTA_NAME);
    let stored = read(&tenant.cluster, &path).await?;
    let mut data = data;
    if is_limited {
        data.insert(
            "about".into(),
            "Kept by Sublet: what this control plane uses in the super cluster, and the most that it may. Edits are undone."
                .into(),
        );
    } else if stored.is_some() {
        data.insert("about".into(), "This control plane has no quota.".into());
    } else {
        return Ok(());
    }
    let data = Value::Object(data);
    if stored.as_ref().and_then(|stored| stored.at("/data")) == Some(&data) {
        return Ok(());
    }
    let new = json!({"metadata": {"name": api::QUOTA_NAME, "namespace": PLACE}, "data": data});
    let fields = [("/data", data)];
    apply::put(
        &tenant.cluster,
        tenant,
        resource,
        stored.as_ref(),
        new,
        &fields,
    )
    .await
}

#[cfg(test)]
mod tests;
