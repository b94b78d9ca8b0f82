//! One quota over all of a tenant's namespaces: what may be used, what is, and what waits for room.
//!
//! The amounts are those of the *super* objects, so nothing that a tenant can write changes them. Whoever wants to make an
//! object reserves its amounts first, in one step with the decision; the reservation becomes use when the object is seen.
//!
//! Beside its own quota a tenant may be under the [`budget`]s of groups, which it shares with other tenants. Of those it
//! may use its *share*, which is never more than it takes: what needs more of it waits until the groups were asked.

pub mod amount;
pub mod budget;
pub mod bytes;
pub mod demand;
pub mod namespace;

use crate::tenant::Key;
use amount::{Amounts, raise, shown, stricter};
use budget::{Refusal, Want};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a tenant may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its own quota.
    pub own: Amounts,
    /// Budgets that it shares with others, by group.
    pub budgets: BTreeMap<String, Amounts>,
}

/// What of a tenant's quota is taken, and by whom.
#[derive(Debug, Default)]
pub struct Ledger {
    limits: Limits,
    /// Everything that is limited by the quota or a budget, with the strictest limit.
    tracked: Amounts,
    entries: HashMap<Key, Entry>,
    used: Amounts,
    /// Objects that were refused, in the order in which they get room.
    waiting: BTreeSet<Key>,
    /// Of the count that is under way: UIDs of objects that ended meanwhile; `None` when what exists has been counted.
    ended: Option<HashSet<String>>,
    /// How often what exists had to be counted anew.
    counts: u64,
    /// What the tenant has of each group's budget.
    shares: BTreeMap<String, Amounts>,
    /// Objects for which the groups must be asked, or were in vain.
    asks: BTreeMap<Key, Ask>,
}

#[derive(Debug)]
struct Entry {
    /// UID of the super object; empty while it is only reserved.
    uid: String,
    amounts: Amounts,
    /// It is a pod that ended, and runs no more.
    is_over: bool,
}

/// A count of what exists. It is worth something only under the limits that it was begun under: when they change, what was
/// counted is forgotten, and so is what had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

#[derive(Debug)]
struct Ask {
    demand: Amounts,
    refused: Option<Refusal>,
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// What exists hasn't been counted yet.
    Uncounted,
    /// The groups have yet to be asked.
    Unasked,
    /// These limits of its own are exceeded.
    Exceeded(Vec<Excess>),
    /// These limits of a budget that it shares with others are.
    Shared(Vec<Excess>),
}

/// A limit that is exceeded: name, what was asked, and the limit.
pub type Excess = (String, i128, i128);

/// What a tenant tells the groups and asks of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it takes now.
    pub held: Amounts,
    /// What it wants beside that.
    pub wants: Vec<Want>,
}

impl Ledger {
    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Everything that is limited, with the strictest limit; empty when nothing is.
    pub fn tracked(&self) -> &Amounts {
        &self.tracked
    }

    /// Each limit of the tenant's own quota with what is used of it.
    pub fn state(&self) -> BTreeMap<String, (i128, i128)> {
        let own = self.limits.own.iter();
        own.map(|(name, hard)| (name.clone(), (of(&self.used, name), *hard)))
            .collect()
    }

    /// Each limit of the budgets with what this tenant uses of it; the lowest, where several limit the same.
    pub fn shared_state(&self) -> BTreeMap<String, (i128, i128)> {
        let budgets = self.limits.budgets.values();
        let lowest = budgets.fold(Amounts::new(), |all, hard| stricter(&all, hard));
        lowest
            .into_iter()
            .map(|(name, hard)| (name.clone(), (of(&self.used, &name), hard)))
            .collect()
    }

    /// Takes up limits; if others are limited than before, what exists must be counted anew, and nothing is granted
    /// meanwhile.
    ///
    /// Returns what waited when there is no limit any more.
    pub fn limit(&mut self, limits: Limits) -> Vec<Key> {
        let budgets = limits.budgets.values();
        let tracked = budgets.fold(limits.own.clone(), |all, hard| stricter(&all, hard));
        let is_same = self.limits.own == limits.own && tracked.keys().eq(self.tracked.keys());
        self.limits = limits;
        self.tracked = tracked;
        self.shares
            .retain(|group, _| self.limits.budgets.contains_key(group));
        for ask in self.asks.values_mut() {
            ask.refused = None;
        }
        if is_same && !self.limits.budgets.is_empty() {
            return vec![];
        }
        let asked = std::mem::take(&mut self.asks).into_keys();
        if is_same {
            // There is nobody left to ask.
            return asked.collect();
        }
        self.waiting.extend(asked);
        self.entries.clear();
        self.used.clear();
        if self.tracked.is_empty() {
            self.ended = None;
            return self.wake();
        }
        self.ended = Some(HashSet::new());
        self.counts += 1;
        vec![]
    }

    /// Whether somebody waits for room.
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether what exists has yet to be counted.
    pub fn is_counting(&self) -> bool {
        self.ended.is_some()
    }

    /// The count that is to be made; `None` when what exists has been counted.
    pub fn counting(&self) -> Option<Count> {
        self.is_counting().then_some(Count(self.counts))
    }

    /// A count came upon a super object. What was told of it since the count began is newer and stays, and a count that was
    /// begun under other limits says nothing.
    pub fn came_upon(&mut self, count: Count, key: &Key, uid: &str, demand: &Amounts) {
        if self.counting() == Some(count) && !self.entries.contains_key(key) {
            self.exists(key, uid, demand);
        }
    }

    /// A count came upon everything that exists; returns what waited, or `None` when the limits are others than those that
    /// it was begun under.
    pub fn counted(&mut self, count: Count) -> Option<Vec<Key>> {
        if self.counting() != Some(count) {
            return None;
        }
        self.ended = None;
        Some(self.wake())
    }

    /// Reserves what an object asks for, or notes that it waits; less than it has already is always granted, and gives
    /// nothing back before [`Ledger::exists`] tells that it was stored.
    pub fn reserve(&mut self, key: &Key, demand: &Amounts) -> Result<(), NoRoom> {
        if self.tracked.is_empty() {
            return Ok(());
        }
        let demand = self.limited(demand);
        if self.is_counting() {
            self.waiting.insert(key.clone());
            return Err(NoRoom::Uncounted);
        }
        let exceeded = self.exceeded(key, &demand);
        if !exceeded.is_empty() {
            self.asks.remove(key);
            self.waiting.insert(key.clone());
            return Err(NoRoom::Exceeded(exceeded));
        }
        if self.needs_more(key, &demand) {
            if let Some(ask) = self.asks.get(key)
                && ask.demand == demand
                && let Some(refusal) = &ask.refused
            {
                return Err(NoRoom::Shared(refusal.exceeded.clone()));
            }
            let refused = None;
            self.asks.insert(key.clone(), Ask { demand, refused });
            return Err(NoRoom::Unasked);
        }
        self.grant(key, demand);
        Ok(())
    }

    /// Whether the groups must be asked, or told that the tenant takes less than its share.
    pub fn must_claim(&self) -> bool {
        let is_ready = !self.is_counting() && !self.limits.budgets.is_empty();
        is_ready && (self.is_asking() || self.holds_too_much())
    }

    /// Whether somebody waits for an answer of the groups.
    pub fn is_asking(&self) -> bool {
        self.asks.values().any(|ask| ask.refused.is_none())
    }

    fn holds_too_much(&self) -> bool {
        let mut budgets = self.limits.budgets.iter();
        budgets.any(|(group, hard)| {
            let share = self.shares.get(group);
            hard.keys()
                .any(|name| share.is_none_or(|share| of(share, name) != of(&self.used, name)))
        })
    }

    /// What the groups are to be told and asked. Until they answered, nothing more is made out of what is given back.
    pub fn claim(&mut self) -> Claim {
        for share in self.shares.values_mut() {
            for (name, amount) in share {
                *amount = (*amount).min(of(&self.used, name));
            }
        }
        let wants = self.asks.iter().map(|(key, ask)| Want {
            key: key.clone(),
            demand: ask.demand.clone(),
            growth: self.growth(key, &ask.demand),
        });
        Claim {
            held: self.used.clone(),
            wants: wants.collect(),
        }
    }

    /// Takes up what the groups answered; returns what can be worked, or told.
    pub fn settle(
        &mut self,
        claim: &Claim,
        shares: BTreeMap<String, Amounts>,
        mut refusals: BTreeMap<Key, Refusal>,
    ) -> Vec<Key> {
        for (group, share) in shares {
            if self.limits.budgets.contains_key(&group) {
                self.shares.insert(group, share);
            }
        }
        let mut woken = vec![];
        for want in &claim.wants {
            let Some(ask) = self.asks.get_mut(&want.key) else {
                continue;
            };
            if ask.demand != want.demand {
                continue;
            }
            if let Some(refusal) = refusals.remove(&want.key) {
                let told = ask.refused.replace(refusal);
                if told != ask.refused {
                    woken.push(want.key.clone());
                }
                continue;
            }
            let fits = self.exceeded(&want.key, &want.demand).is_empty()
                && !self.needs_more(&want.key, &want.demand);
            if fits {
                self.grant(&want.key, want.demand.clone());
            }
            self.asks.remove(&want.key);
            woken.push(want.key.clone());
        }
        woken
    }

    /// So much is left of a group's budget; returns whether somebody that it refused should be asked for again.
    pub fn reconsider(&mut self, group: &str, left: &Amounts) -> bool {
        let growths: Vec<(Key, Amounts)> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.refused.as_ref().is_some_and(|by| by.group == group))
            .map(|(key, ask)| (key.clone(), self.growth(key, &ask.demand)))
            .collect();
        let mut is_any = false;
        for (key, growth) in growths {
            let fits = left
                .iter()
                .all(|(name, left)| of(&growth, name) == 0 || of(&growth, name) <= *left);
            if fits && let Some(ask) = self.asks.get_mut(&key) {
                ask.refused = None;
                is_any = true;
            }
        }
        is_any
    }

    /// A super object exists, within the limits or not; returns what waited when it takes less than before.
    pub fn exists(&mut self, key: &Key, uid: &str, demand: &Amounts) -> Vec<Key> {
        if self.tracked.is_empty() || self.ended.as_ref().is_some_and(|ended| ended.contains(uid)) {
            return vec![];
        }
        let is_over = key.kind().resource().kind == "Pod" && !demand.contains_key(demand::RUNNING);
        let demand = self.limited(demand);
        let before = self.entries.get(key).map(|entry| entry.amounts.clone());
        let shrinks = before
            .into_iter()
            .flatten()
            .any(|(name, amount)| of(&demand, &name) < amount);
        self.put(key, uid.to_owned(), demand, is_over);
        if shrinks { self.wake() } else { vec![] }
    }

    /// Whether the super object of a key is a pod that ended: what its spec asks for, it takes no more.
    pub fn is_over(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.is_over)
    }

    /// A super object ended; returns what waited for room.
    pub fn ended(&mut self, key: &Key, uid: &str) -> Vec<Key> {
        if let Some(ended) = &mut self.ended {
            ended.insert(uid.to_owned());
        }
        if self.entries.get(key).is_some_and(|entry| entry.uid == uid) {
            self.remove(key)
        } else {
            vec![]
        }
    }

    /// Nothing of an object is wanted any more; returns what waited for room.
    pub fn abandon(&mut self, key: &Key) -> Vec<Key> {
        self.waiting.remove(key);
        self.asks.remove(key);
        self.unmade(key)
    }

    /// What was reserved won't be made now; returns what waited for room.
    pub fn unmade(&mut self, key: &Key) -> Vec<Key> {
        if self
            .entries
            .get(key)
            .is_some_and(|entry| entry.uid.is_empty())
        {
            self.remove(key)
        } else {
            vec![]
        }
    }

    fn limited(&self, demand: &Amounts) -> Amounts {
        let limited = demand
            .iter()
            .filter(|(name, _)| self.tracked.contains_key(*name));
        limited
            .map(|(name, amount)| (name.clone(), *amount))
            .collect()
    }

    fn had(&self, key: &Key, name: &str) -> i128 {
        self.entries
            .get(key)
            .map_or(0, |entry| of(&entry.amounts, name))
    }

    /// What an object wants beside what it has.
    fn growth(&self, key: &Key, demand: &Amounts) -> Amounts {
        let more = demand
            .iter()
            .map(|(name, asked)| (name.clone(), asked - self.had(key, name)));
        more.filter(|(_, more)| *more > 0).collect()
    }

    /// The tenant's own limits that an object would exceed.
    fn exceeded(&self, key: &Key, demand: &Amounts) -> Vec<Excess> {
        let growth = self.growth(key, demand);
        let limits = growth
            .iter()
            .filter_map(|(name, more)| Some((name, more, self.limits.own.get(name)?)));
        limits
            .filter(|(name, more, hard)| of(&self.used, name) + **more > **hard)
            .map(|(name, _, hard)| (name.clone(), of(demand, name), *hard))
            .collect()
    }

    /// Whether an object needs more than the tenant has of the groups' budgets.
    fn needs_more(&self, key: &Key, demand: &Amounts) -> bool {
        let growth = self.growth(key, demand);
        self.limits.budgets.iter().any(|(group, hard)| {
            let share = |name: &str| self.shares.get(group).map_or(0, |share| of(share, name));
            let limited = growth.iter().filter(|(name, _)| hard.contains_key(*name));
            limited
                .into_iter()
                .any(|(name, more)| of(&self.used, name) + more > share(name))
        })
    }

    fn grant(&mut self, key: &Key, mut demand: Amounts) {
        self.waiting.remove(key);
        self.asks.remove(key);
        let entry = self.entries.get(key);
        let uid = entry.map(|entry| entry.uid.clone()).unwrap_or_default();
        if let Some(exists) = entry.filter(|entry| !entry.uid.is_empty()) {
            // The super cluster may refuse what would shrink it.
            raise(&mut demand, &exists.amounts);
        }
        self.put(key, uid, demand, false);
    }

    fn put(&mut self, key: &Key, uid: String, amounts: Amounts, is_over: bool) {
        self.take_out(key);
        for (name, amount) in &amounts {
            *self.used.entry(name.clone()).or_default() += amount;
        }
        let entry = Entry {
            uid,
            amounts,
            is_over,
        };
        self.entries.insert(key.clone(), entry);
    }

    fn remove(&mut self, key: &Key) -> Vec<Key> {
        self.take_out(key);
        self.wake()
    }

    fn take_out(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        for (name, amount) in entry.amounts {
            *self.used.entry(name).or_default() -= amount;
        }
    }

    fn wake(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }
}

fn of(amounts: &Amounts, name: &str) -> i128 {
    amounts.get(name).copied().unwrap_or_default()
}

/// What a tenant is told of what it exceeds; the same text for as long as the limits are the same.
pub fn explain(exceeded: &[Excess]) -> String {
    format!(
        "no room in the quota of this control plane ({}): it is made once something else is deleted or the platform \
         raises the quota; the ConfigMap {} in kube-system shows what is used",
        listed(exceeded),
        api::QUOTA_NAME,
    )
}

/// The same of a budget that it shares with others; what those use isn't told.
pub fn explain_shared(exceeded: &[Excess]) -> String {
    format!(
        "no room in the budget that this control plane shares with others ({}): it is made once one of them deletes \
         something or the platform raises the budget",
        listed(exceeded),
    )
}

/// The same of limits that the super cluster holds in one namespace.
pub fn explain_either(own: &Amounts, exceeded: &[Excess]) -> String {
    let is_own = |(name, _, hard): &Excess| own.get(name) == Some(hard);
    if exceeded.iter().all(is_own) {
        explain(exceeded)
    } else {
        explain_shared(exceeded)
    }
}

/// What a tenant is told of a pod whose containers say nothing of what is limited.
pub fn explain_unsaid<S: AsRef<str>>(unsaid: &[S]) -> String {
    let names: Vec<&str> = unsaid.iter().map(AsRef::as_ref).collect();
    format!(
        "the quota of this control plane limits {0}: every container must say its {0}, or a LimitRange of the namespace must",
        names.join(" and ")
    )
}

fn listed(exceeded: &[Excess]) -> String {
    let parts = exceeded.iter().map(|(name, asked, hard)| {
        let (asked, hard) = (shown(name, *asked), shown(name, *hard));
        format!("{name}: {asked} more of at most {hard}")
    });
    parts.collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests;
