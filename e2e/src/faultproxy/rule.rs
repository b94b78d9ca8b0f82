//! Rules: what is to be met, for the how manieth time, and what happens then.

use super::Step;
use http::{Method, Uri};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A request as the API understands it, or an event of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; of an event its type.
    pub verb: String,
    /// Plural, with `/SUBRESOURCE` if there is one.
    pub resource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// The query.
    pub query: String,
}

impl Asked {
    /// Reads a request line.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default().to_owned();
        let mut path = uri.path().trim_matches('/').split('/');
        // `api/VERSION` or `apis/GROUP/VERSION`.
        let root = path.next().unwrap_or_default();
        path.nth(if root == "apis" { 1 } else { 0 });
        let mut words: Vec<&str> = path.collect();
        let mut namespace = "";
        if words.first() == Some(&"namespaces") && words.len() > 2 {
            namespace = words[1];
            words.drain(..2);
        }
        let name = words.get(1).copied().unwrap_or_default();
        let mut resource = words.first().copied().unwrap_or_default().to_owned();
        if let Some(subresource) = words.get(2) {
            resource = format!("{resource}/{subresource}");
        }
        let watches = query.split('&').any(|part| part == "watch=true");
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if watches => "watch",
            _ if name.is_empty() => "list",
            _ => "get",
        };
        Self {
            verb: verb.into(),
            resource,
            namespace: namespace.into(),
            name: name.into(),
            query,
        }
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        ["create", "update", "patch", "delete"].contains(&self.verb.as_str())
    }
}

/// What a rule is for.
pub type Test = Arc<dyn Fn(&Asked) -> bool + Send + Sync>;

/// Kills a process and returns when it is dead.
pub type Kill = Arc<dyn Fn() + Send + Sync>;

/// What happens to what a rule is for.
#[derive(Clone)]
pub enum Action {
    /// A process is killed; the request is never passed on.
    KillBefore(Kill),
    /// A process is killed after the API server answered; the answer is never given.
    KillAfter(Kill),
    /// This status is answered; the request is never passed on.
    Answer(u16),
    /// The request or event is passed on later.
    Delay(Duration),
    /// Something else is done before the request is passed on.
    First(Step),
    /// The event is lost.
    Drop,
}

/// Which of all that match.
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// All of them.
    All,
    /// One of them, counted from 1.
    Only(u64),
    /// Every so manieth.
    Every(u64),
}

/// A rule; its clones count together, so that one counter can span several proxies.
#[derive(Clone)]
pub struct Rule {
    test: Test,
    times: Times,
    action: Action,
    met: Arc<AtomicU64>,
}

impl Rule {
    /// A rule for requests or events.
    pub fn new(
        test: impl Fn(&Asked) -> bool + Send + Sync + 'static,
        times: Times,
        action: Action,
    ) -> Self {
        Self {
            test: Arc::new(test),
            times,
            action,
            met: Arc::default(),
        }
    }

    /// How often it was met.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::SeqCst)
    }

    fn applies(&self, asked: &Asked) -> bool {
        if !(self.test)(asked) {
            return false;
        }
        let met = self.met.fetch_add(1, Ordering::SeqCst) + 1;
        match self.times {
            Times::All => true,
            Times::Only(wanted) => met == wanted,
            Times::Every(step) => met.is_multiple_of(step),
        }
    }
}

/// The action of the first rule that applies. All rules count.
pub(super) fn decide(rules: &[Rule], asked: &Asked) -> Option<Action> {
    let applying: Vec<&Rule> = rules.iter().filter(|rule| rule.applies(asked)).collect();
    applying.first().map(|rule| rule.action.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, uri: &str) -> [String; 4] {
        let asked = Asked::of(&method, &uri.parse().unwrap());
        [asked.verb, asked.resource, asked.namespace, asked.name]
    }

    #[test]
    fn requests_are_read_as_the_api_reads_them() {
        let is = |have: [String; 4], want: [&str; 4]| assert_eq!(have, want);
        is(
            asked(Method::POST, "/api/v1/namespaces/a/pods"),
            ["create", "pods", "a", ""],
        );
        is(
            asked(Method::PATCH, "/api/v1/namespaces/a/pods/p/status?x=y"),
            ["patch", "pods/status", "a", "p"],
        );
        is(
            asked(Method::GET, "/api/v1/pods?watch=true&resourceVersion=1"),
            ["watch", "pods", "", ""],
        );
        is(
            asked(
                Method::GET,
                "/apis/apps/v1/namespaces/a/deployments?limit=5",
            ),
            ["list", "deployments", "a", ""],
        );
        is(
            asked(Method::DELETE, "/api/v1/namespaces/a"),
            ["delete", "namespaces", "", "a"],
        );
    }

    #[test]
    fn a_rule_counts_what_it_is_for() {
        let rule = Rule::new(Asked::is_write, Times::Only(2), Action::Drop);
        let write = Asked::of(&Method::POST, &"/api/v1/namespaces".parse().unwrap());
        let read = Asked::of(&Method::GET, &"/api/v1/namespaces".parse().unwrap());
        let hits: Vec<bool> = [&write, &read, &write, &write]
            .into_iter()
            .map(|asked| decide(std::slice::from_ref(&rule), asked).is_some())
            .collect();
        assert_eq!(hits, [false, false, true, false]);
        assert_eq!(rule.met(), 3);
    }
}
