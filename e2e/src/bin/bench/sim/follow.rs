//! A watch at a simulated API server: what changed since a version, and then what changes, line by line.
//!
//! It looks into the store whenever a kind has news, so that nothing waits in a queue of its own: who reads slowly gets
//! more at once, and who reads too slowly must list again.

use super::{
    Shared,
    counts::Open,
    kinds::SERVED,
    object::Stored,
    route::{Query, Route},
    select::Selector,
    store::{Event, Expired},
};
use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often a watch without news is told the version, as real API servers do it.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch that asks for no time ends after so long.
const LONGEST: Duration = Duration::from_secs(1_800);

/// One watch.
struct Follow {
    shared: Arc<Shared>,
    kind: usize,
    namespace: String,
    selector: Selector,
    /// All up to this version was told.
    told: u64,
    news: watch::Receiver<u64>,
    /// When the next bookmark is due, if any is wanted.
    bookmark: Option<Instant>,
    end: Instant,
    /// What there is at the beginning, if no version was named.
    first: Option<Bytes>,
    has_ended: bool,
    _open: Open,
}

/// The lines of a watch.
pub(crate) fn lines(
    shared: &Arc<Shared>,
    route: &Route,
    query: Query,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let now = Instant::now();
    // Before anything is read: what comes in between is news.
    let news = shared.news[route.kind].subscribe();
    let (told, first) = match query.version {
        Some(version) => (version, None),
        None => shared.all(route, &query.selector),
    };
    let follow = Follow {
        shared: shared.clone(),
        kind: route.kind,
        namespace: route.namespace.clone(),
        selector: query.selector,
        told,
        news,
        bookmark: query.bookmarks.then(|| now + BOOKMARKS),
        end: now + query.timeout.map_or(LONGEST, Duration::from_secs),
        first,
        has_ended: false,
        _open: shared.counts.watch(),
    };
    stream::unfold(follow, |mut follow| async move {
        let line = follow.next().await?;
        Some((line, follow))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if self.has_ended {
                return None;
            }
            self.news.borrow_and_update();
            match self.changes() {
                Ok(lines) if !lines.is_empty() => return Some(lines.into()),
                Ok(_) => {}
                Err(Expired) => {
                    self.has_ended = true;
                    return Some(expired());
                }
            }
            let wake = self.bookmark.map_or(self.end, |at| at.min(self.end));
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() { return None },
                () = sleep_until(wake) => {
                    self.has_ended = wake == self.end;
                    if self.bookmark.is_some() {
                        self.bookmark = Some(wake + BOOKMARKS);
                        return Some(self.bookmark_line());
                    }
                }
            }
        }
    }

    fn changes(&mut self) -> Result<Vec<u8>, Expired> {
        let store = self.shared.store.lock();
        let mut lines = vec![];
        for change in store.since(self.kind, self.told)? {
            if let Some((event, object)) = change.told(&self.namespace, &self.selector) {
                line(&mut lines, event, object);
            }
        }
        self.told = store.version();
        Ok(lines)
    }

    fn bookmark_line(&self) -> Bytes {
        let served = &SERVED[self.kind];
        let object = json!({
            "kind": served.kind, "apiVersion": served.api_version,
            "metadata": {"resourceVersion": self.told.to_string(), "creationTimestamp": null},
        });
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }
}

/// Appends the line of an event.
pub(crate) fn line(lines: &mut Vec<u8>, event: Event, object: &Stored) {
    let head: &[u8] = match event {
        Event::Added => br#"{"type":"ADDED","object":"#,
        Event::Modified => br#"{"type":"MODIFIED","object":"#,
        Event::Deleted => br#"{"type":"DELETED","object":"#,
    };
    lines.extend_from_slice(head);
    lines.extend_from_slice(&object.bytes);
    lines.extend_from_slice(b"}\n");
}

fn expired() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version",
    });
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}
