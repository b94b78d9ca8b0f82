//! What the super cluster answered to the passes over one control plane, for those that follow at once.
//!
//! A control plane that starts is looked at some twenty times within seconds, and of the thirty requests of a whole look all
//! but a few would be answered as before. So an answer counts for [`FRESH`], unless something tells that it is an old one:
//! a watch that has news of the kind, or the manager's own write, whose answer takes its place. Of what no watch tells,
//! a change by somebody else is seen when the answer is too old, as it is seen by the next look when nothing is awaited.
//!
//! Nothing is kept of a control plane for which nothing is awaited, that is deleted, or whose pass failed: it is looked at
//! anew. What is kept holds keys; it is wiped when it goes ([`Object`]), which the next pass over any control plane sees to.
//!
//! Not promised: that an answer still holds. What is done by it is tied to what was seen, as always, or says nothing
//! else than what must be there.

use crate::{
    clients::cluster::{self, Cluster},
    object::{Kind, Object},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long an answer counts that nothing contradicts.
pub(crate) const FRESH: Duration = Duration::from_secs(30);

/// Namespace and name of a VirtualControlPlane.
pub(crate) type Whose = (String, String);

/// The answers of all control planes that are on their way.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<HashMap<Whose, Shelf>>>);

/// Those of one.
struct Shelf {
    answers: HashMap<Question, Answer>,
    /// How often there were news of a kind.
    news: BTreeMap<Kind, u64>,
    used: Instant,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    kind: Kind,
    namespace: Option<String>,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum What {
    /// The object of a name.
    One(String),
    /// All that a label selector matches.
    All(String),
}

struct Answer {
    found: Vec<Object>,
    since: Instant,
    /// The news of the kind that there had been when it was asked.
    news: u64,
}

impl Answers {
    /// What is asked for one control plane, and remembered.
    pub(crate) fn reader(&self, cluster: &Cluster, whose: Whose) -> Reader {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|_, shelf| now.duration_since(shelf.used) < FRESH);
        all.entry(whose.clone())
            .or_insert_with(|| Shelf::new(now))
            .used = now;
        Reader {
            cluster: cluster.clone(),
            shelf: Some((self.clone(), whose)),
        }
    }

    /// Lets go of what is known of one.
    pub(crate) fn forget(&self, whose: &Whose) {
        self.0.lock().remove(whose);
    }

    /// A watch tells of an object of one of them. Whether that is news: it isn't what was read or written here already.
    pub(crate) fn heard(&self, whose: &Whose, told: &ObjectVersion) -> bool {
        let mut all = self.0.lock();
        let Some(shelf) = all.get_mut(whose) else {
            return true;
        };
        if shelf.knows(told) {
            return false;
        }
        *shelf.news.entry(told.kind).or_default() += 1;
        true
    }

    /// Takes up what was written for one.
    pub(crate) fn learn(&self, whose: &Whose, written: &Object) {
        if let Some(shelf) = self.0.lock().get_mut(whose) {
            shelf.learn(written);
        }
    }

    /// What was answered when an object was asked for or written, if it has this version.
    pub(crate) fn in_version(
        &self,
        whose: &Whose,
        kind: Kind,
        version: Option<&str>,
    ) -> Option<Object> {
        let question = Question::one(kind, Some(&whose.0), &whose.1);
        let all = self.0.lock();
        let known = all.get(whose)?.recall(&question, Instant::now())?;
        let known = known.first()?;
        (Some(version_of(known)) == version).then(|| known.clone())
    }
}

/// What a watch tells of an object.
pub(crate) struct ObjectVersion<'a> {
    /// Of which kind it is.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its version.
    pub(crate) version: &'a str,
}

impl Shelf {
    fn new(now: Instant) -> Self {
        Self {
            answers: HashMap::new(),
            news: BTreeMap::new(),
            used: now,
        }
    }

    fn news_of(&self, kind: Kind) -> u64 {
        self.news.get(&kind).copied().unwrap_or_default()
    }

    fn recall(&self, question: &Question, now: Instant) -> Option<&[Object]> {
        let answer = self.answers.get(question)?;
        let holds =
            answer.news == self.news_of(question.kind) && now.duration_since(answer.since) < FRESH;
        holds.then_some(answer.found.as_slice())
    }

    fn knows(&self, told: &ObjectVersion) -> bool {
        let of_kind = self.answers.iter().filter(|(q, _)| q.kind == told.kind);
        let found = of_kind.flat_map(|(_, answer)| &answer.found);
        let mut same = found.filter(|object| object.name() == told.name);
        same.any(|object| !told.version.is_empty() && version_of(object) == told.version)
    }

    fn learn(&mut self, written: &Object) {
        let (kind, namespace) = (written.kind, written.namespace());
        for (question, answer) in &mut self.answers {
            let What::All(selector) = &question.what else {
                continue;
            };
            if question.kind != kind || question.namespace.as_deref() != namespace {
                continue;
            }
            answer.found.retain(|known| known.name() != written.name());
            if matches(written, selector) {
                answer.found.push(written.clone());
            }
        }
        let answer = Answer {
            found: vec![written.clone()],
            since: Instant::now(),
            news: self.news_of(kind),
        };
        let question = Question::one(kind, namespace, written.name());
        // Of what is listed nothing is asked for by name.
        let is_listed = |question: &Question| {
            question.kind == kind
                && question.namespace.as_deref() == namespace
                && question.what == What::All(String::new())
        };
        if !self.answers.keys().any(is_listed) {
            self.answers.insert(question, answer);
        }
    }
}

impl Question {
    fn one(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.map(str::to_owned),
            what: What::One(name.to_owned()),
        }
    }

    fn all(kind: Kind, namespace: Option<&str>, selector: &str) -> Self {
        Self {
            kind,
            namespace: namespace.map(str::to_owned),
            what: What::All(selector.to_owned()),
        }
    }
}

/// Whether the labels of an object are what a selector of equalities asks for.
fn matches(object: &Object, selector: &str) -> bool {
    let mut terms = selector.split(',').filter(|term| !term.is_empty());
    terms.all(|term| {
        let (key, value) = term.split_once('=').unwrap_or((term, ""));
        object.label(key) == Some(value)
    })
}

fn version_of(object: &Object) -> &str {
    object.text("/metadata/resourceVersion")
}

/// Asks for what isn't known yet.
pub(crate) struct Reader {
    cluster: Cluster,
    shelf: Option<(Answers, Whose)>,
}

impl Reader {
    /// One that asks always.
    pub(crate) fn asking(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            shelf: None,
        }
    }

    /// The object, or `None` when there is none.
    pub(crate) async fn get(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Object>, cluster::Error> {
        let question = Question::one(kind, namespace, name);
        if let Some(known) = self.recall(&question) {
            return Ok(known.into_iter().next());
        }
        let news = self.news_of(kind);
        let found = self.cluster.get(kind, namespace, name).await?;
        // That there is none isn't remembered: somebody may put one there, and it isn't to be written over.
        if let Some(found) = &found {
            self.remember(question, news, || vec![found.clone()]);
        }
        Ok(found)
    }

    /// All objects that match the label selector.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Object>, cluster::Error> {
        let question = Question::all(kind, namespace, selector);
        if let Some(known) = self.recall(&question) {
            return Ok(known);
        }
        let news = self.news_of(kind);
        let found = self.cluster.list(kind, namespace, selector).await?;
        self.remember(question, news, || found.clone());
        Ok(found)
    }

    fn recall(&self, question: &Question) -> Option<Vec<Object>> {
        let (answers, whose) = self.shelf.as_ref()?;
        let all = answers.0.lock();
        let known = all.get(whose)?.recall(question, Instant::now())?;
        Some(known.to_vec())
    }

    /// To be asked before the question is: what a watch tells meanwhile may not be in the answer.
    fn news_of(&self, kind: Kind) -> u64 {
        let of_shelf = |(answers, whose): &(Answers, Whose)| {
            let all = answers.0.lock();
            all.get(whose).map(|shelf| shelf.news_of(kind))
        };
        let news = self.shelf.as_ref().and_then(of_shelf);
        news.unwrap_or_default()
    }

    fn remember(&self, question: Question, news: u64, found: impl FnOnce() -> Vec<Object>) {
        let Some((answers, whose)) = &self.shelf else {
            return;
        };
        if let Some(shelf) = answers.0.lock().get_mut(whose) {
            let answer = Answer {
                found: found(),
                since: Instant::now(),
                news,
            };
            shelf.answers.insert(question, answer);
        }
    }
}

#[cfg(test)]
mod tests;
