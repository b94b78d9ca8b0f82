//! Who was visited at the front door, as the proxy tells it in one ConfigMap for all tenants.
//!
//! Marks are compared for being equal and for nothing else; times are this process's own. A manager that starts anew begins
//! to count what is quiet from then on, so a tenant falls asleep later and never sooner. Silence counts only while somebody
//! listens: the proxy says so in each of its rounds, and when that wasn't heard for a while, since the proxy, this process or
//! the way between them was down, what is quiet is counted anew for all. Else who came meanwhile would have come unseen.
//!
//! The proxy doesn't read the ConfigMap, and forgets a tenant with its route; so the manager removes the marks of tenants
//! that are gone, and makes the ConfigMap anew where it was lost. Marks that were lost with it are no news: nobody came, and
//! nobody knows since when.

use crate::{known::Known, sleep::Visit};
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
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

/// How long after the proxy's last word it counts as listening: it speaks every half minute.
const LISTENS: Duration = Duration::from_secs(100);

/// What was heard.
pub(crate) struct Visits {
    began: Instant,
    known: Mutex<Option<Heard>>,
}

/// What the ConfigMap said.
#[derive(Default)]
struct Heard {
    /// The mark of each identity, and since when it is this one.
    marks: HashMap<String, (String, Instant)>,
    /// The proxy's last word of a round.
    word: Option<String>,
    /// Since when there has been another one again and again, and when the last one came.
    listens: Option<[Instant; 2]>,
}

impl Heard {
    /// Takes up the word of a round. The first one that is seen may be an old one.
    fn listen(&mut self, word: Option<&String>, is_first: bool) {
        if word == self.word.as_ref() {
            return;
        }
        self.word = word.cloned();
        if word.is_some() && !is_first {
            let now = Instant::now();
            self.listens = Some([self.listens_since().unwrap_or(now), now]);
        }
    }

    /// Since when whoever came was told of; `None`: that isn't so now.
    fn listens_since(&self) -> Option<Instant> {
        let [since, last] = self.listens?;
        (last.elapsed() <= LISTENS).then_some(since)
    }
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
        let heard = known.get_or_insert_default();
        let annotations = map.metadata.annotations.as_ref();
        let word = annotations.and_then(|annotations| annotations.get(keys::LISTENING));
        heard.listen(word, is_first);
        let seen = &mut heard.marks;
        let now = if is_first { self.began } else { Instant::now() };
        let is_lost = |(id, (mark, _)): &(&String, &mut (String, _))| {
            !mark.is_empty() && !data.contains_key(*id)
        };
        for (_, known) in seen.iter_mut().filter(is_lost) {
            *known = (String::new(), now);
        }
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
        let heard = known.as_ref()?;
        let (mark, at) = match heard.marks.get(id.as_str()) {
            Some((mark, at)) => (mark.clone(), *at),
            None => (String::new(), self.began),
        };
        let quiet = match heard.listens_since() {
            Some(since) => since.max(at).elapsed(),
            None => Duration::ZERO,
        };
        Some(Visit { mark, quiet })
    }

    /// Identities with a mark that nobody of `known` has. Those whose mark is removed are forgotten.
    fn strangers(&self, known: &HashSet<String>) -> Vec<String> {
        let mut heard = self.known.lock();
        let Some(Heard { marks, .. }) = heard.as_mut() else {
            return vec![];
        };
        marks.retain(|id, (mark, _)| !mark.is_empty() || known.contains(id));
        let ids = marks.keys().filter(|id| !known.contains(*id));
        ids.cloned().collect()
    }
}

/// Removes marks of tenants that are gone, and sees to it that there is something for marks to be written into, until the
/// task is dropped.
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
        if let Err(error) = make(&api).await {
            tracing::warn!(%error, "ConfigMap {} is missing and can't be made", keys::VISITS);
        }
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

/// Makes the ConfigMap if it isn't there: the proxy may only change it.
async fn make(api: &Api<ConfigMap>) -> kube::Result<()> {
    if api.get_metadata_opt(keys::VISITS).await?.is_some() {
        return Ok(());
    }
    tracing::warn!("ConfigMap {} was lost, and is made anew", keys::VISITS);
    let mut empty = ConfigMap::default();
    empty.metadata.name = Some(keys::VISITS.into());
    api.create(&PostParams::default(), &empty).await.map(drop)
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

    /// The same with the word of a round.
    fn round(word: &str, marks: &[(&str, &str)]) -> ConfigMap {
        let mut map = map(marks);
        map.metadata.annotations = Some(BTreeMap::from([(keys::LISTENING.into(), word.into())]));
        map
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_quiet_is_told_by_marks_that_stay_and_by_this_clock() {
        let id = TenantId::from_bits([7; 16]);
        let visits = Visits::default();
        assert_eq!(visits.of(&id), None, "nothing was heard");
        tokio::time::advance(Duration::from_secs(5)).await;
        let first = round("1", &[(id.as_str(), "a")]);
        assert_eq!(visits.heard(&first), [id.as_str()]);
        let quiet = |visits: &Visits| visits.of(&id).unwrap().quiet.as_secs();
        assert_eq!(quiet(&visits), 0, "nobody knows whether that is old");
        let second = round("2", &[(id.as_str(), "a")]);
        assert!(visits.heard(&second).is_empty());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(visits.heard(&second).is_empty());
        assert_eq!(quiet(&visits), 5);
        let news = round("3", &[(id.as_str(), "b")]);
        assert_eq!(visits.heard(&news).len(), 1);
        assert_eq!(quiet(&visits), 0);
        assert_eq!(visits.heard(&map(&[])).len(), 0);
        assert_eq!(visits.of(&id).unwrap().mark, "");
    }

    /// Else an outage as long as `afterIdle` would put all to sleep at once, in use or not.
    #[tokio::test(start_paused = true)]
    async fn silence_counts_only_while_somebody_listens() {
        let id = TenantId::from_bits([7; 16]);
        let visits = Visits::default();
        let marks = [(id.as_str(), "a")];
        let quiet = |visits: &Visits| visits.of(&id).unwrap().quiet.as_secs();
        let mut words = 0;
        let mut rounds = async |number: usize| {
            for _ in 0..number {
                words += 1;
                visits.heard(&round(&words.to_string(), &marks));
                tokio::time::advance(Duration::from_secs(30)).await;
            }
        };
        rounds(21).await;
        assert_eq!(quiet(&visits), 600, "the first may have been an old one");
        // The proxy is down, or what it writes doesn't come here.
        tokio::time::advance(Duration::from_secs(80)).await;
        assert_eq!(quiet(&visits), 0);
        tokio::time::advance(Duration::from_secs(3600)).await;
        visits.heard(&round("20", &marks));
        rounds(2).await;
        assert_eq!(quiet(&visits), 60, "who came meanwhile was told by nobody");
        // One that knows nothing of rounds puts nobody to sleep.
        let visits = Visits::default();
        visits.heard(&map(&marks));
        tokio::time::advance(Duration::from_secs(3600)).await;
        visits.heard(&map(&marks));
        assert_eq!(quiet(&visits), 0);
    }

    /// Else all whose marks were lost would be put to sleep at once, in use or not.
    #[tokio::test(start_paused = true)]
    async fn what_is_quiet_is_counted_anew_where_marks_were_lost() {
        let [id, other] = [7, 8].map(|bits| TenantId::from_bits([bits; 16]));
        let visits = Visits::default();
        let both = [(id.as_str(), "a"), (other.as_str(), "b")];
        visits.heard(&round("0", &both));
        for word in 1..=20 {
            visits.heard(&round(&word.to_string(), &both));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        let left = round("21", &[(other.as_str(), "b")]);
        assert!(visits.heard(&left).is_empty());
        let quiet = |id| visits.of(id).unwrap().quiet.as_secs();
        assert_eq!((quiet(&id), quiet(&other)), (0, 600));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(visits.heard(&left).is_empty());
        assert_eq!(quiet(&id), 5);
        let news = round("22", &[(id.as_str(), "c")]);
        assert_eq!(visits.heard(&news), [id.as_str()]);
    }

    #[tokio::test]
    async fn a_lost_config_map_is_made_anew_and_one_that_is_there_is_left() {
        let cluster = crate::played::Played::default();
        let api = Api::namespaced(cluster.client(), "s");
        make(&api).await.unwrap();
        let at = "/api/v1/namespaces/s/configmaps/sublet-visits";
        let made = cluster.change(at, |map| map["data"] = json!({"a": "1"}));
        make(&api).await.unwrap();
        assert_eq!(cluster.get(at), Some(made));
    }

    #[test]
    fn marks_of_tenants_that_are_gone_are_removed() {
        let visits = Visits::default();
        let known = HashSet::from(["a".to_owned(), "c".to_owned()]);
        assert!(visits.strangers(&known).is_empty(), "nothing was heard");
        visits.heard(&map(&[("a", "1"), ("b", "2")]));
        let gone = visits.strangers(&known);
        assert_eq!(without(&gone), json!({"data": {"b": null}}));
        visits.heard(&map(&[("a", "1")]));
        assert!(visits.strangers(&known).is_empty(), "it was removed");
    }
}
