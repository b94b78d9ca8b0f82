//! What a simulated API server was asked, counted in the words of a real one's metrics.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A write as it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Method and path.
    pub(crate) what: String,
    pub(crate) code: u16,
}

/// Verb, resource and subresource.
type What = (String, &'static str, String);

/// All that is counted.
#[derive(Default)]
pub(crate) struct Counts {
    requests: Mutex<BTreeMap<What, usize>>,
    /// What isn't served though it was asked for.
    gaps: Mutex<BTreeSet<String>>,
    /// Writes since somebody began to ask for them.
    journal: Mutex<Option<Vec<Done>>>,
    connections: AtomicUsize,
    watches: AtomicUsize,
}

impl Counts {
    /// Notes a request.
    pub(crate) fn asked(&self, verb: &str, resource: &'static str, subresource: &str) {
        let what = (verb.to_owned(), resource, subresource.to_owned());
        *self.requests.lock().entry(what).or_default() += 1;
    }

    /// Notes the answer to a write.
    pub(crate) fn wrote(&self, done: impl FnOnce() -> Done) {
        if let Some(journal) = self.journal.lock().as_mut() {
            journal.push(done());
        }
    }

    /// Begins a new journal of writes; the answer is the one before.
    pub(crate) fn journal(&self) -> Vec<Done> {
        self.journal.lock().replace(vec![]).unwrap_or_default()
    }

    /// Notes that something was asked for that isn't served.
    pub(crate) fn gap(&self, what: String) {
        self.gaps.lock().insert(what);
    }

    /// All that was asked for and isn't served.
    pub(crate) fn gaps(&self) -> Vec<String> {
        self.gaps.lock().iter().cloned().collect()
    }

    /// All requests but watches.
    pub(crate) fn requests(&self) -> usize {
        let requests = self.requests.lock();
        let counted = requests.iter().filter(|((verb, ..), _)| verb != "WATCH");
        counted.map(|(_, count)| count).sum()
    }

    /// Requests of one kind.
    pub(crate) fn count(&self, verb: &str, resource: &str, subresource: &str) -> usize {
        let requests = self.requests.lock();
        let alike = requests.iter().filter(|((known, of, part), _)| {
            known == verb && *of == resource && part == subresource
        });
        alike.map(|(_, count)| count).sum()
    }

    /// Notes an open connection, as long as the answer lives.
    pub(crate) fn connection(self: &std::sync::Arc<Self>) -> Open {
        Open::new(self, |counts| &counts.connections)
    }

    /// Notes an open watch, as long as the answer lives.
    pub(crate) fn watch(self: &std::sync::Arc<Self>) -> Open {
        Open::new(self, |counts| &counts.watches)
    }

    /// How many connections and watches are open.
    pub(crate) fn open(&self) -> (usize, usize) {
        let now = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        (now(&self.connections), now(&self.watches))
    }

    /// The page that a real API server has at `/metrics`, as far as it is read.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        for ((verb, resource, subresource), count) in &*self.requests.lock() {
            // A text takes all that is written to it.
            let _ = writeln!(
                page,
                "apiserver_request_total{{resource=\"{resource}\",subresource=\"{subresource}\",verb=\"{verb}\"}} {count}"
            );
        }
        page
    }
}

/// Something that is open.
pub(crate) struct Open {
    counts: std::sync::Arc<Counts>,
    which: fn(&Counts) -> &AtomicUsize,
}

impl Open {
    fn new(counts: &std::sync::Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(counts).fetch_add(1, Ordering::Relaxed);
        Self {
            counts: counts.clone(),
            which,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.which)(&self.counts).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_asked_is_on_the_page_and_what_is_open_is_known() {
        let counts = Arc::new(Counts::default());
        counts.asked("GET", "pods", "");
        counts.asked("WATCH", "pods", "");
        counts.asked("PATCH", "pods", "status");
        assert_eq!(counts.requests(), 2);
        let line =
            "apiserver_request_total{resource=\"pods\",subresource=\"status\",verb=\"PATCH\"} 1";
        assert!(counts.page().contains(line), "{}", counts.page());
        let one = (counts.connection(), counts.watch());
        let _other = counts.watch();
        assert_eq!(counts.open(), (1, 2));
        drop(one);
        assert_eq!(counts.open(), (0, 1));
    }
}
