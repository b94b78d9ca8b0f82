//! The budget of a group: what several tenants may use together, and what each of them has of it.
//!
//! It is kept in the status of the ControlPlaneGroup, where every syncer that leads one of the tenants reads it and changes
//! its tenants' shares, one write after the other. A share is raised before an object is made and lowered after one has
//! ended, so at no moment do all tenants together use more than all shares, and never are more shares given out than there
//! is: not while syncers take over from each other either.

use super::{
    Excess,
    amount::{Amounts, canonical, limits, parse, shown},
    of,
};
use crate::tenant::{Key, TenantId};
use api::{ControlPlaneGroup, ControlPlaneGroupStatus, Quantities, QuotaStatus, Share};
use std::collections::BTreeMap;

/// VirtualControlPlanes of a group by identity, each as `NAMESPACE/NAME`.
pub type Members = BTreeMap<TenantId, String>;

/// A budget as a group's spec and status say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    hard: Amounts,
    /// By identity.
    shares: BTreeMap<String, Held>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    place: String,
    amounts: Amounts,
}

/// An object that wants more than its tenant has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub key: Key,
    /// All that it asks for.
    pub demand: Amounts,
    /// What of it it doesn't have yet.
    pub growth: Amounts,
}

/// Which group has no room, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the group.
    pub group: String,
    /// What is exceeded.
    pub exceeded: Vec<Excess>,
}

/// The limits of a group's spec; nothing of what it names if that can't be read.
pub fn hard(quota: &Quantities) -> Amounts {
    limits(&quota.0).unwrap_or_else(|_| {
        let names = quota.0.keys();
        names.map(|name| (canonical(name), 0)).collect()
    })
}

impl Budget {
    /// As it stands; a share that can't be read counts as none.
    pub fn of(group: &ControlPlaneGroup) -> Self {
        let shares = group.status.iter().flat_map(|status| &status.shares);
        let read = |(identity, share): (&String, &Share)| {
            let amounts = share.used.0.iter();
            let amounts = amounts.map(|(name, text)| Some((name.clone(), parse(text)?)));
            let held = Held {
                place: share.control_plane.clone(),
                amounts: amounts.collect::<Option<Amounts>>()?,
            };
            Some((identity.clone(), held))
        };
        Self {
            hard: hard(&group.spec.quota),
            shares: shares.filter_map(read).collect(),
        }
    }

    /// The limits.
    pub fn hard(&self) -> &Amounts {
        &self.hard
    }

    /// Members of which it isn't known what they use; nothing can be granted before that.
    pub fn uncounted<'a>(&self, members: &'a Members) -> Vec<&'a TenantId> {
        let is_known = |id: &TenantId| {
            self.shares.get(id.as_str()).is_some_and(|held| {
                let mut names = self.hard.keys();
                names.all(|name| held.amounts.contains_key(name))
            })
        };
        members.keys().filter(|id| !is_known(id)).collect()
    }

    /// Shares of tenants that aren't members: identity, and where the VirtualControlPlane was.
    pub fn strangers(&self, members: &Members) -> Vec<(String, String)> {
        let is_member =
            |identity: &str| TenantId::parse(identity).is_ok_and(|id| members.contains_key(&id));
        let strange = self
            .shares
            .iter()
            .filter(|(identity, _)| !is_member(identity));
        strange
            .map(|(identity, held)| (identity.clone(), held.place.clone()))
            .collect()
    }

    /// Takes a share out.
    pub fn forget(&mut self, identity: &str) {
        self.shares.remove(identity);
    }

    /// Notes what a tenant takes, whether there is room for it or not.
    pub fn count(&mut self, identity: &str, place: &str, takes: &Amounts) {
        let names = self.hard.keys();
        let held = Held {
            place: place.to_owned(),
            amounts: names.map(|name| (name.clone(), of(takes, name))).collect(),
        };
        self.shares.insert(identity.to_owned(), held);
    }

    /// What a tenant has.
    pub fn share(&self, identity: &str) -> Amounts {
        let held = self.shares.get(identity);
        held.map(|held| held.amounts.clone()).unwrap_or_default()
    }

    /// What is left of each limit; below zero where what exists is more than that.
    pub fn left(&self) -> Amounts {
        let left = |(name, hard): (&String, &i128)| (name.clone(), hard - self.taken(name));
        self.hard.iter().map(left).collect()
    }

    fn taken(&self, name: &str) -> i128 {
        let shares = self.shares.values();
        shares.map(|held| of(&held.amounts, name)).sum()
    }

    /// What of a growth is too much.
    fn exceeded(&self, growth: &Amounts) -> Vec<Excess> {
        let limits = growth
            .iter()
            .filter_map(|(name, more)| Some((name, *more, *self.hard.get(name)?)));
        limits
            .filter(|(name, more, hard)| self.taken(name) + more > *hard)
            .map(|(name, more, hard)| (name.clone(), more, hard))
            .collect()
    }

    /// The status that says all this.
    pub fn status(&self) -> ControlPlaneGroupStatus {
        let written = |amounts: &Amounts| -> BTreeMap<String, String> {
            let written = amounts
                .iter()
                .map(|(name, amount)| (name.clone(), shown(name, *amount)));
            written.collect()
        };
        let used: Amounts = self
            .hard
            .keys()
            .map(|name| (name.clone(), self.taken(name)))
            .collect();
        let quota = (!self.hard.is_empty()).then(|| QuotaStatus {
            hard: written(&self.hard),
            used: written(&used),
        });
        let shares = self.shares.iter().map(|(identity, held)| {
            let share = Share {
                control_plane: held.place.clone(),
                used: Quantities(written(&held.amounts)),
            };
            (identity.clone(), share)
        });
        ControlPlaneGroupStatus {
            quota,
            shares: shares.collect(),
        }
    }
}

/// Gives a tenant what it takes and what it wants, as far as every budget has room for it; the answer is what found none.
///
/// What it takes counts whether there is room or not: it exists.
pub fn grant(
    budgets: &mut BTreeMap<String, Budget>,
    identity: &str,
    place: &str,
    held: &Amounts,
    wants: &[Want],
) -> BTreeMap<Key, Refusal> {
    let mut now = held.clone();
    for budget in budgets.values_mut() {
        budget.count(identity, place, &now);
    }
    let mut refused = BTreeMap::new();
    for want in wants {
        let full = budgets.iter().find_map(|(group, budget)| {
            let exceeded = budget.exceeded(&want.growth);
            (!exceeded.is_empty()).then(|| Refusal {
                group: group.clone(),
                exceeded,
            })
        });
        if let Some(refusal) = full {
            refused.insert(want.key.clone(), refusal);
            continue;
        }
        for (name, more) in &want.growth {
            *now.entry(name.clone()).or_default() += more;
        }
        for budget in budgets.values_mut() {
            budget.count(identity, place, &now);
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ControlPlaneGroupSpec;
    use serde_json::json;

    fn amounts(pairs: &[(&str, i128)]) -> Amounts {
        let pairs = pairs.iter();
        pairs
            .map(|(name, amount)| ((*name).to_owned(), *amount))
            .collect()
    }

    fn budget(quota: &[(&str, &str)]) -> BTreeMap<String, Budget> {
        let quota = quota.iter();
        let quota = quota.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let spec = ControlPlaneGroupSpec {
            quota: Quantities(quota.collect()),
            ..ControlPlaneGroupSpec::default()
        };
        let group = ControlPlaneGroup::new("acme", spec);
        BTreeMap::from([("acme".to_owned(), Budget::of(&group))])
    }

    fn want(number: usize, pairs: &[(&str, i128)]) -> Want {
        Want {
            key: Key::new(crate::kind::index("Pod"), "n", &format!("p{number}")),
            demand: amounts(pairs),
            growth: amounts(pairs),
        }
    }

    fn id(number: u8) -> TenantId {
        TenantId::from_bits([number; 16])
    }

    /// What the status says is what the next syncer reads.
    fn reread(budget: &Budget, quota: &[(&str, &str)]) -> Budget {
        let text = serde_json::to_string(&budget.status()).unwrap();
        let quota = quota.iter();
        let quota = quota.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let mut group = ControlPlaneGroup::new(
            "acme",
            ControlPlaneGroupSpec {
                quota: Quantities(quota.collect()),
                ..ControlPlaneGroupSpec::default()
            },
        );
        group.status = Some(serde_json::from_str(&text).unwrap());
        Budget::of(&group)
    }

    #[test]
    fn tenants_together_get_exactly_the_budget() {
        let mut budgets = budget(&[("pods", "20")]);
        let mut granted = 0;
        for tenant in 0..5u8 {
            let wants: Vec<Want> = (0..10).map(|pod| want(pod, &[("pods", 1000)])).collect();
            let refused = grant(
                &mut budgets,
                id(tenant).as_str(),
                "n/t",
                &Amounts::new(),
                &wants,
            );
            granted += wants.len() - refused.len();
        }
        assert_eq!(granted, 20);
        assert_eq!(budgets["acme"].left(), amounts(&[("pods", 0)]));
    }

    #[test]
    fn what_exists_counts_beyond_the_limit_and_what_is_given_back_is_free() {
        let mut budgets = budget(&[("requests.cpu", "1")]);
        let mut take = |tenant: u8, held: i128, wants: &[Want]| {
            let held = amounts(&[("requests.cpu", held)]);
            grant(&mut budgets, id(tenant).as_str(), "n/t", &held, wants)
        };
        let more = [want(1, &[("requests.cpu", 100)])];
        assert!(take(1, 1500, &[]).is_empty());
        assert_eq!(
            take(2, 0, &more)[&more[0].key].exceeded,
            [("requests.cpu".to_owned(), 100, 1000)]
        );
        take(1, 900, &[]);
        assert!(take(2, 0, &more).is_empty());
        assert_eq!(budgets["acme"].left(), amounts(&[("requests.cpu", 0)]));
    }

    #[test]
    fn of_several_groups_each_must_have_room() {
        let mut budgets = budget(&[("pods", "1")]);
        budgets.insert(
            "wide".into(),
            budget(&[("pods", "9")]).remove("acme").unwrap(),
        );
        let wants = [want(1, &[("pods", 1000)]), want(2, &[("pods", 1000)])];
        let refused = grant(&mut budgets, id(1).as_str(), "n/t", &Amounts::new(), &wants);
        assert_eq!(refused[&wants[1].key].group, "acme");
        // The one that had room gives out nothing for what another refuses.
        assert_eq!(budgets["wide"].left(), amounts(&[("pods", 8000)]));
    }

    #[test]
    fn the_status_tells_all_that_the_next_must_know() {
        let quota = [("pods", "20"), ("requests.memory", "4Gi")];
        let mut budgets = budget(&quota);
        let wants = [want(1, &[("pods", 1000), ("requests.memory", 1000 << 29)])];
        grant(&mut budgets, id(1).as_str(), "n/a", &Amounts::new(), &wants);
        let budget = &budgets["acme"];
        assert_eq!(reread(budget, &quota), *budget);
        assert_eq!(
            serde_json::to_value(budget.status()).unwrap(),
            json!({
                "quota": {
                    "hard": {"pods": "20", "requests.memory": "4Gi"},
                    "used": {"pods": "1", "requests.memory": "512Mi"},
                },
                "shares": {id(1).as_str(): {"controlPlane": "n/a", "used": {"pods": "1", "requests.memory": "512Mi"}}},
            })
        );
    }

    #[test]
    fn who_is_not_counted_and_who_does_not_belong_is_known() {
        let quota = [("pods", "20")];
        let members = Members::from([(id(1), "n/a".into()), (id(2), "n/b".into())]);
        let mut budgets = budget(&quota);
        for (tenant, place) in [(1, "n/a"), (3, "n/gone")] {
            grant(
                &mut budgets,
                id(tenant).as_str(),
                place,
                &Amounts::new(),
                &[],
            );
        }
        let mut acme = budgets.remove("acme").unwrap();
        assert_eq!(acme.uncounted(&members), [&id(2)]);
        assert_eq!(
            acme.strangers(&members),
            [(id(3).as_str().to_owned(), "n/gone".to_owned())]
        );
        acme.forget(id(3).as_str());
        assert!(acme.strangers(&members).is_empty());
        // Another name is limited: nobody is counted for it.
        let wider = reread(&acme, &[("pods", "20"), ("services", "3")]);
        assert_eq!(wider.uncounted(&members), [&id(1), &id(2)]);
    }
}
