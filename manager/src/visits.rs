//! Who was visited at the front door, as the proxy tells it in one ConfigMap for all tenants.
//!
//! Marks are compared for being equal and for nothing else; times are this process's own. A manager that starts anew begins
//! to count what is quiet from then on, so a tenant falls asleep later and never sooner.
//!
//! The proxy doesn't read the ConfigMap, and forgets a tenant with its route; so the manager removes the marks of tenants
//! that are gone.

use crate::{known::Known, sleep::Visit};
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tenancy::tenant::TenantId;
use tokio::time::Instant;

/// How often marks of tenants that are gone are removed.
const ROUND: Duration = Duration::from_secs(60);

/// What was heard.
pub(crate) struct Visits {
    began: Instant,
    known: Mutex<Option<HashMap<String, (String, Instant)>>>,
}

impl Default for Visits {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            known: Mutex::default(),
        }
    }
}

impl Visits {
    /// Takes up what the ConfigMap says; returns the identities that somebody visited since.
    pub(crate) fn heard(&self, map: &ConfigMap) -> Vec<String> {
        let data = map.data.clone().unwrap_or_default();
        let mut known = self.known.lock();
        let is_first = known.is_none();
        let seen = known.get_or_insert_default();
        seen.retain(|id, _| data.contains_key(id));
        let now = if is_first { self.began } else { Instant::now() };
        let mut news = vec![];
        for (id, mark) in data {
            let same = seen.get(&id).is_some_and(|(before, _)| *before == mark);
            if !same {
                seen.insert(id.clone(), (mark, now));
                news.push(id);
            }
        }
        news
    }

    /// What is known of a tenant; `None` as long as nothing was heard at all.
    pub(crate) fn of(&self, id: &TenantId) -> Option<Visit> {
        let known = self.known.lock();
        let (mark, at) = match known.as_ref()?.get(id.as_str()) {
            Some((mark, at)) => (mark.clone(), *at),
            None => (String::new(), self.began),
        };
        Some(Visit {
            mark,
            quiet: at.elapsed(),
        })
    }

    /// Identities with a mark that nobody of `known` has.
    fn strangers(&self, known: &HashSet<String>) -> Vec<String> {
        let heard = self.known.lock();
        let ids = heard.iter().flat_map(HashMap::keys);
        ids.filter(|id| !known.contains(*id)).cloned().collect()
    }
}

/// Removes marks of tenants that are gone, until the task is dropped.
pub(crate) async fn tidy(
    visits: Arc<Visits>,
    tenants: Known<VirtualControlPlane>,
    api: Api<ConfigMap>,
) {
    // Before all tenants are known, each would be a stranger.
    let Ok(tenants) = tenants.all().await else {
        return;
    };
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        rounds.tick().await;
        let known = tenants.state();
        let known = known.iter().filter_map(|vcp| vcp.spec.identity.clone());
        let gone = visits.strangers(&known.collect());
        if gone.is_empty() {
            continue;
        }
        let patch = Patch::Merge(without(&gone));
        if let Err(error) = api
            .patch(keys::VISITS, &PatchParams::default(), &patch)
            .await
        {
            tracing::warn!(%error, "marks of visits to tenants that are gone can't be removed");
        }
    }
}

/// A merge patch that removes these marks.
fn without(gone: &[String]) -> Value {
    let data: Map<String, Value> = gone.iter().map(|id| (id.clone(), Value::Null)).collect();
    json!({"data": data})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn map(marks: &[(&str, &str)]) -> ConfigMap {
        let data = marks
            .iter()
            .map(|(id, mark)| ((*id).into(), (*mark).into()));
        ConfigMap {
            data: Some(data.collect::<BTreeMap<_, _>>()),
            ..ConfigMap::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_quiet_is_told_by_marks_that_stay_and_by_this_clock() {
        let id = TenantId::from_bits([7; 16]);
        let visits = Visits::default();
        assert_eq!(visits.of(&id), None, "nothing was heard");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(visits.heard(&map(&[(id.as_str(), "a")])), [id.as_str()]);
        let quiet = |visits: &Visits| visits.of(&id).unwrap().quiet.as_secs();
        assert_eq!(quiet(&visits), 5, "nobody knows when that was");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(visits.heard(&map(&[(id.as_str(), "a")])).is_empty());
        assert_eq!(quiet(&visits), 10);
        assert_eq!(visits.heard(&map(&[(id.as_str(), "b")])).len(), 1);
        assert_eq!(quiet(&visits), 0);
        assert_eq!(visits.heard(&map(&[])).len(), 0);
        assert_eq!(visits.of(&id).unwrap().mark, "");
    }

    #[test]
    fn marks_of_tenants_that_are_gone_are_removed() {
        let visits = Visits::default();
        let known = HashSet::from(["a".to_owned(), "c".to_owned()]);
        assert!(visits.strangers(&known).is_empty(), "nothing was heard");
        visits.heard(&map(&[("a", "1"), ("b", "2")]));
        let gone = visits.strangers(&known);
        assert_eq!(without(&gone), json!({"data": {"b": null}}));
    }
}
