//! Budgets of groups: what several tenants may use together, whoever leads them.
//!
//! The truth is the group's status in the super cluster ([`tenancy::quota::budget`]). The leader of a tenant raises the
//! tenant's share there before it makes anything, by a write that holds only for the version that was read, and lowers it
//! when something has ended. Members of which the status says nothing are counted by whoever wants something first.

use crate::{
    apply::{self, Failure},
    engine::Engine,
    error::Error,
    live::read,
    paths, quota,
    tenants::Tenant,
    verdict::ControlPlane,
};
use api::ControlPlaneGroup;
use dashmap::DashMap;
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenancy::{
    object::Object,
    quota::{
        Claim,
        amount::Amounts,
        budget::{self, Budget, Members, Refusal},
        demand,
    },
    tenant::{Key, TenantId},
};
use tokio::{sync::OwnedMutexGuard, time::Instant};

/// What is given back is written together with what ends soon after it.
const SETTLE: Duration = Duration::from_millis(300);
/// Until a claim that failed is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the shares are compared with the groups though nothing happened: somebody may have edited a status.
const CHECK: Duration = Duration::from_secs(60);
/// Tries of one claim, since other syncers write to the same groups.
const TRIES: u32 = 16;

/// What this process knows of the groups.
#[derive(Default)]
pub(crate) struct Budgets {
    /// One claim at a time of each group, with the group as it was last written or read.
    turns: DashMap<String, Turn>,
    /// What the watch told last: version, and what is left.
    heard: DashMap<String, (u64, Amounts)>,
}

type Turn = Arc<tokio::sync::Mutex<Option<Object>>>;

impl Budgets {
    fn turn(&self, group: &str) -> Turn {
        let turn = self.turns.entry(group.to_owned()).or_default();
        turn.value().clone()
    }

    /// What the watch told last.
    fn heard(&self, group: &str) -> Option<(u64, Amounts)> {
        self.heard.get(group).map(|heard| heard.value().clone())
    }
}

/// A budget that a tenant is under, and who shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) hard: Amounts,
    pub(crate) members: Arc<Members>,
}

/// The watch of groups told of one: there may be room for those that it refused.
pub(crate) fn heard(engine: &Engine, version: u64, group: &ControlPlaneGroup) {
    let Some(name) = &group.metadata.name else {
        return;
    };
    let left = Budget::of(group).left();
    engine
        .budgets
        .heard
        .insert(name.clone(), (version, left.clone()));
    for tenant in engine.served() {
        tenant.quota.reconsider(name, &left);
    }
}

/// Claims what the tenant wants of its groups' budgets, and gives back, until it isn't served.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let mut checked = Instant::now();
    loop {
        let is_due = checked.elapsed() >= CHECK;
        let mut rest = CHECK;
        if tenant.quota.must_claim() || (is_due && tenant.quota.has_budgets()) {
            checked = Instant::now();
            // Part of what must end before the tenant counts as stopped.
            let activity = tenant.activity.token();
            let claimed = Box::pin(claim(&engine, &tenant)).await;
            drop(activity);
            if let Err(err) = claimed {
                if err.is_race() {
                    tracing::debug!(tenant = %tenant.id, %err, "the groups' budgets will be asked again");
                } else {
                    tracing::warn!(tenant = %tenant.id, %err, "the groups' budgets can't be asked: what they limit waits");
                }
                rest = AGAIN;
            }
        }
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            () = news(&tenant), if rest == CHECK => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Waits until something is to be claimed: what is asked for at once, what is given back together with more of it.
async fn news(tenant: &Tenant) {
    tenant.quota.budget_news().await;
    let settled = tokio::time::sleep(SETTLE);
    tokio::pin!(settled);
    while !tenant.quota.is_asking() {
        tokio::select! {
            () = &mut settled => return,
            () = tenant.quota.budget_news() => {}
        }
    }
}

/// Tells the groups what the tenant takes and asks for what it wants.
async fn claim(engine: &Engine, tenant: &Tenant) -> Result<(), Failure> {
    let shared = tenant.quota.budgets();
    let mut turns = turns(engine, &shared).await;
    // Taken when it is this tenant's turn: what came meanwhile is part of it.
    let claim = tenant.quota.claim();
    for attempt in 0..TRIES {
        let is_live = attempt > 0 || turns.iter().all(|(_, turn)| turn.is_none());
        let mut stored = BTreeMap::new();
        for (group, turn) in &mut turns {
            if is_live || turn.is_none() {
                **turn = Some(read_group(engine, group).await?);
            }
            if let Some(object) = &**turn {
                stored.insert(group.clone(), object.clone());
            }
        }
        let (before, mut budgets) = parsed(&stored)?;
        if is_live && !claim.wants.is_empty() {
            complete(engine, tenant, &shared, &stored, &mut budgets).await?;
        }
        let is_counted = |(group, budget): (&String, &Budget)| {
            let members = shared.get(group).map(|shared| &shared.members);
            members.is_none_or(|members| {
                let unknown = budget.uncounted(members);
                unknown.iter().all(|id| **id == tenant.id) && budget.strangers(members).is_empty()
            })
        };
        let is_certain = is_live || claim.wants.is_empty() || budgets.iter().all(is_counted);
        let refusals = grant(tenant, &claim, &mut budgets);
        if !is_certain || (!is_live && (before == budgets || !refusals.is_empty())) {
            // Nothing would be written that could prove what is remembered to be old.
            continue;
        }
        match write(engine, tenant, &before, &budgets, &stored, &mut turns).await {
            Ok(()) => {
                settle(engine, tenant, &claim, &budgets, refusals, &turns);
                return Ok(());
            }
            Err(Failure::Api(Error::Conflict(_) | Error::Invalid(_))) => {
                // Another syncer was first.
                tokio::time::sleep(Duration::from_millis(u64::from(attempt))).await;
            }
            Err(err) => {
                for (_, turn) in &mut turns {
                    **turn = None;
                }
                return Err(err);
            }
        }
    }
    Err(Failure::Waiting("others write to the group all the time"))
}

type Turns = Vec<(String, OwnedMutexGuard<Option<Object>>)>;

/// Waits for this tenant's turn at each of its groups, in one order for all tenants.
async fn turns(engine: &Engine, shared: &BTreeMap<String, Shared>) -> Turns {
    let mut turns = vec![];
    for group in shared.keys() {
        let turn = engine.budgets.turn(group);
        turns.push((group.clone(), turn.lock_owned().await));
    }
    turns
}

async fn read_group(engine: &Engine, group: &str) -> Result<Object, Failure> {
    let found = read(&engine.cluster, &paths::group(group)).await?;
    found.ok_or(Failure::Waiting("the ControlPlaneGroup is gone"))
}

type Both = (BTreeMap<String, Budget>, BTreeMap<String, Budget>);

fn parsed(stored: &BTreeMap<String, Object>) -> Result<Both, Failure> {
    let mut budgets = BTreeMap::new();
    for (name, object) in stored {
        let group: ControlPlaneGroup = serde_json::from_value(object.value().clone())
            .map_err(|err| Error::Malformed(err.to_string()))?;
        budgets.insert(name.clone(), Budget::of(&group));
    }
    Ok((budgets.clone(), budgets))
}

fn place(tenant: &Tenant) -> String {
    let rules = tenant.rules();
    format!("{}/{}", rules.vcp_namespace, rules.vcp_name)
}

fn grant(
    tenant: &Tenant,
    claim: &Claim,
    budgets: &mut BTreeMap<String, Budget>,
) -> BTreeMap<Key, Refusal> {
    budget::grant(
        budgets,
        tenant.id.as_str(),
        &place(tenant),
        &claim.held,
        &claim.wants,
    )
}

/// Writes the budgets that changed; each holds only for the version that was read.
async fn write(
    engine: &Engine,
    tenant: &Tenant,
    before: &BTreeMap<String, Budget>,
    after: &BTreeMap<String, Budget>,
    stored: &BTreeMap<String, Object>,
    turns: &mut Turns,
) -> Result<(), Failure> {
    for (group, turn) in turns {
        let (Some(budget), Some(have)) = (after.get(group), stored.get(group)) else {
            continue;
        };
        if before.get(group) == Some(budget) {
            continue;
        }
        let status = serde_json::to_value(budget.status())
            .map_err(|err| Error::Malformed(err.to_string()))?;
        let written = apply::group_status(&engine.cluster, have, &status, &tenant.permit()).await?;
        **turn = Some(written);
    }
    Ok(())
}

fn settle(
    engine: &Engine,
    tenant: &Tenant,
    claim: &Claim,
    budgets: &BTreeMap<String, Budget>,
    refusals: BTreeMap<Key, Refusal>,
    turns: &Turns,
) {
    let shares = budgets
        .iter()
        .map(|(group, budget)| (group.clone(), budget.share(tenant.id.as_str())));
    let woken = tenant.quota.settle(claim, shares.collect(), refusals);
    quota::wake(engine, tenant, woken);
    for (group, turn) in turns {
        // The watch may have told of room before anybody was refused.
        let known = turn.as_ref().map_or(0, Object::resource_version);
        if let Some((version, left)) = engine.budgets.heard(group)
            && version > known
        {
            tenant.quota.reconsider(group, &left);
        }
    }
}

/// Counts members of which nothing is known, and takes those out that are gone.
async fn complete(
    engine: &Engine,
    tenant: &Tenant,
    shared: &BTreeMap<String, Shared>,
    stored: &BTreeMap<String, Object>,
    budgets: &mut BTreeMap<String, Budget>,
) -> Result<(), Failure> {
    for (group, budget) in budgets {
        let (Some(Shared { members, .. }), Some(spec)) = (shared.get(group), stored.get(group))
        else {
            continue;
        };
        for (identity, place) in budget.strangers(members) {
            if is_gone(engine, spec, &identity, &place).await? {
                tracing::info!(%group, control_plane = %place, "its share of the budget is free");
                budget.forget(&identity);
            }
        }
        let unknown: Vec<TenantId> = budget.uncounted(members).into_iter().cloned().collect();
        for id in unknown.iter().filter(|id| **id != tenant.id) {
            let takes = count(engine, tenant, id, budget.hard()).await?;
            budget.count(id.as_str(), &members[id], &takes);
        }
    }
    Ok(())
}

/// Whether there is no such VirtualControlPlane in the group any more; the registry may not have heard of a new one.
async fn is_gone(
    engine: &Engine,
    group: &Object,
    identity: &str,
    place: &str,
) -> Result<bool, Failure> {
    let (Ok(id), Some((namespace, name))) = (TenantId::parse(identity), place.split_once('/'))
    else {
        return Ok(true);
    };
    let mut members = group
        .at("/spec/namespaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    if !members.any(|member| member == namespace) {
        return Ok(true);
    }
    let control_plane = ControlPlane {
        id,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Ok(control_plane.read(engine).await?.is_none())
}

/// What a tenant that may be led by nobody takes of what is limited.
async fn count(
    engine: &Engine,
    tenant: &Tenant,
    id: &TenantId,
    hard: &Amounts,
) -> Result<Amounts, Failure> {
    let takes = Mutex::new(Amounts::new());
    for kind in tenant.kinds() {
        if quota::counts(kind, hard) {
            let tell = |key: Key, object: &Object| {
                let mut takes = takes.lock();
                for (name, amount) in demand::of(key.kind().resource(), object) {
                    *takes.entry(name).or_default() += amount;
                }
            };
            quota::each(engine, kind, id, tell).await?;
        }
    }
    Ok(takes.into_inner())
}

#[cfg(test)]
mod tests;
