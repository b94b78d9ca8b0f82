//! Who was visited at the front door, as the proxy tells it in one ConfigMap for all tenants.
//!
//! Marks are compared for being equal and for nothing else; times are this process's own. A manager that starts anew begins
//! to count what is quiet from then on, so a tenant falls asleep later and never sooner. Silence counts only while somebody
//! listens: each replica of the proxy says so in each of its rounds, and takes its leave when it ends. When one wasn't heard for a
//! while, since it, this process or the way between them was down, nobody falls asleep, and what is quiet is counted anew for
//! all when it is heard again: who comes to it comes unseen, and nobody else would tell. One that was ended without a word looks
//! the same; after a long while it counts as gone. Not promised: that a replica which can tell nothing for longer than that, and
//! serves all the while, keeps its tenants awake.
//!
//! The proxy doesn't read the ConfigMap, and forgets a tenant with its route; so the manager removes the marks of tenants
//! that are gone, and makes the ConfigMap anew where it was lost. Marks that were lost with it are no news: nobody came, and
//! nobody knows since when.

use crate::{lifecycle::sleep::Visit, watching::cache::Cache};
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tenancy::tenant::TenantId;
use tokio::time::Instant;

/// How often marks of tenants that are gone are removed.
const ROUND: Duration = Duration::from_secs(60);

/// How long after its last word a replica of the proxy counts as listening: it speaks every half minute.
const LISTENS: Duration = Duration::from_secs(100);

/// How long after its last word a replica counts as gone that didn't take its leave.
const GONE: Duration = Duration::from_secs(3600);

/// What was heard.
pub(crate) struct Visits {
    began: Instant,
    known: Mutex<Option<LastMap>>,
}

/// What the ConfigMap said.
#[derive(Default)]
struct LastMap {
    /// The mark of each identity, and since when it is this one.
    marks: HashMap<String, (String, Instant)>,
    /// The replicas of the proxy, by the annotations in which they speak.
    replicas: HashMap<String, Replica>,
    /// Before that some weren't told of by one that went since.
    missed: Option<Instant>,
}

/// A replica of the proxy.
struct Replica {
    /// Its last word of a round.
    word: String,
    /// When that was heard.
    last: Instant,
    /// Since when there has been another one again and again; `None` while only one was heard, which may be old.
    since: Option<Instant>,
}

impl Replica {
    fn is_silent(&self) -> bool {
        self.last.elapsed() > LISTENS
    }
}

impl LastMap {
    /// Takes up the words of a round. Those that are seen first may be old ones; one that comes later is of a replica that has
    /// just begun.
    fn listen(&mut self, words: &BTreeMap<String, String>, is_first: bool, began: Instant) {
        let now = Instant::now();
        let words = words
            .iter()
            .filter(|(key, _)| key.starts_with(keys::LISTENING));
        let words: HashMap<&String, &String> = words.collect();
        let (known, missed) = (&mut self.replicas, &mut self.missed);
        known.retain(|key, replica| {
            let is_there = words.contains_key(key);
            if !is_there {
                // Whom it couldn't tell of before it went is missed still.
                let since = replica.since.filter(|_| !replica.is_silent());
                *missed = (*missed).max(since.or(Some(now)));
            }
            is_there
        });
        for (key, word) in words {
            let Some(replica) = known.get_mut(key) else {
                let since = (!is_first).then_some(began);
                let word = word.clone();
                known.insert(
                    key.clone(),
                    Replica {
                        word,
                        last: now,
                        since,
                    },
                );
                continue;
            };
            if replica.word == *word {
                continue;
            }
            replica.word.clone_from(word);
            replica.since = replica.since.filter(|_| !replica.is_silent()).or(Some(now));
            replica.last = now;
        }
    }

    /// Since when whoever came was told of; `None`: that isn't so now.
    fn listens_since(&self) -> Option<Instant> {
        let all = self.replicas.values();
        let all = all.map(|replica| replica.since.filter(|_| !replica.is_silent()));
        let all: Vec<Instant> = all.collect::<Option<_>>()?;
        let last = all.into_iter().max()?;
        Some(self.missed.map_or(last, |missed| missed.max(last)))
    }

    /// The annotations of replicas that must be gone.
    fn gone(&self) -> Vec<String> {
        let gone = self.replicas.iter();
        let gone = gone.filter(|(_, replica)| replica.last.elapsed() > GONE);
        gone.map(|(key, _)| key.clone()).collect()
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
        let words = map.metadata.annotations.clone().unwrap_or_default();
        heard.listen(&words, is_first, self.began);
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

    /// The annotations of replicas that were silent for so long that they must be gone.
    fn gone(&self) -> Vec<String> {
        let known = self.known.lock();
        known.as_ref().map(LastMap::gone).unwrap_or_default()
    }

    /// Identities with a mark that nobody of `known` has. Those whose mark is removed are forgotten.
    fn strangers(&self, known: &HashSet<String>) -> Vec<String> {
        let mut heard = self.known.lock();
        let Some(LastMap { marks, .. }) = heard.as_mut() else {
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
    tenants: Cache<VirtualControlPlane>,
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
        let (marks, words) = (visits.strangers(&known.collect()), visits.gone());
        if marks.is_empty() && words.is_empty() {
            continue;
        }
        for replica in &words {
            tracing::warn!(
                %replica,
                "a replica of the proxy has long been silent, and no tenant fell asleep meanwhile: it counts as gone"
            );
        }
        let patch = Patch::Merge(without(&marks, &words));
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

/// A merge patch that removes these marks, and the words of these replicas.
fn without(marks: &[String], words: &[String]) -> Value {
    let nothing = |keys: &[String]| -> Map<String, Value> {
        keys.iter().map(|key| (key.clone(), Value::Null)).collect()
    };
    json!({"data": nothing(marks), "metadata": {"annotations": nothing(words)}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(marks: &[(&str, &str)]) -> ConfigMap {
        let data = marks
            .iter()
            .map(|(id, mark)| ((*id).into(), (*mark).into()));
        ConfigMap {
            data: Some(data.collect::<BTreeMap<_, _>>()),
            ..ConfigMap::default()
        }
    }

    /// The same with the word of a round of each replica.
    fn rounds_of(words: &[(&str, &str)], marks: &[(&str, &str)]) -> ConfigMap {
        let mut map = map(marks);
        let words = words.iter().map(|(replica, word)| {
            let key = format!("{}-{replica}", keys::LISTENING);
            (key, (*word).to_owned())
        });
        map.metadata.annotations = Some(words.collect());
        map
    }

    /// The same of a single replica.
    fn round(word: &str, marks: &[(&str, &str)]) -> ConfigMap {
        rounds_of(&[("a", word)], marks)
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

    /// Else who comes to one that can't tell would be put to sleep in use, while another one speaks.
    #[tokio::test(start_paused = true)]
    async fn nobody_falls_asleep_while_one_of_several_is_silent() {
        let id = TenantId::from_bits([7; 16]);
        let visits = Visits::default();
        let marks = [(id.as_str(), "a")];
        let quiet = |visits: &Visits| visits.of(&id).unwrap().quiet.as_secs();
        let mut words = 0;
        let mut rounds = async |number: usize, speaking: [Option<bool>; 2]| {
            for _ in 0..number {
                words += 1;
                let word = words.to_string();
                let both = ["a", "b"].into_iter().zip(speaking);
                let said: Vec<(&str, &str)> = both
                    .filter_map(|(replica, speaks)| {
                        Some((replica, if speaks? { &*word } else { "old" }))
                    })
                    .collect();
                visits.heard(&rounds_of(&said, &marks));
                tokio::time::advance(Duration::from_secs(30)).await;
            }
        };
        let (speaks, silent, left) = (Some(true), Some(false), None);
        rounds(21, [speaks, speaks]).await;
        assert_eq!(quiet(&visits), 600);
        // The last word counts as one for a while.
        rounds(3, [speaks, silent]).await;
        assert_eq!(quiet(&visits), 690);
        rounds(20, [speaks, silent]).await;
        assert_eq!(
            quiet(&visits),
            0,
            "who came to the other one was told by nobody"
        );
        rounds(3, [speaks, speaks]).await;
        assert_eq!(quiet(&visits), 90);
        // One that takes its leave is missed by nobody, nor is one that begins.
        rounds(10, [speaks, left]).await;
        assert_eq!(quiet(&visits), 390);
        rounds(10, [speaks, speaks]).await;
        assert_eq!(quiet(&visits), 690);
        // One that was ended without a word is, until it must be gone.
        rounds(60, [speaks, silent]).await;
        assert_eq!((quiet(&visits), visits.gone()), (0, vec![]));
        rounds(61, [speaks, silent]).await;
        let gone = visits.gone();
        assert_eq!(gone, ["sublet.dev/listening-b"]);
        let patch = without(&[], &gone);
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({"sublet.dev/listening-b": null})
        );
        rounds(4, [speaks, left]).await;
        assert_eq!(quiet(&visits), 120);
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
        assert_eq!(without(&gone, &[])["data"], json!({"b": null}));
        visits.heard(&map(&[("a", "1")]));
        assert!(visits.strangers(&known).is_empty(), "it was removed");
    }
}
