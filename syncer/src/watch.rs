//! One watch of one resource on one API server: list in pages, then follow; start over when told to.
//!
//! Lists ask for the most recent state, never for "whatever the cache has" (R8). A silent connection is noticed by
//! HTTP/2 pings and by the absence of bookmarks (R9). An object that can't be read is set aside with a warning and
//! stops nothing.
//!
//! A server that can't be reached fails all of its watches at once. They don't each try for themselves: one asks, ever
//! less often, and when it is answered all go on ([`tenancy::circuit`]).

use crate::{
    answer,
    client::{Cluster, Lister},
    error::Error,
    pace::Interruption,
    pages::Pages,
};
use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use tenancy::{
    arrival::{self, Event, KnownPart},
    kind::Kind,
    object::{Object, at},
    pause::Pauses,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The server sends a bookmark about once a minute; without any event for so long the connection is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// Delays after failures that are this watch's own, and until a doubtful list is taken again.
const DELAYS: Pauses = Pauses {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(15),
};
/// How often a kind that isn't served is asked for, when no definition changes.
const ABSENCES: Pauses = Pauses {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(300),
};

/// What a watch tells its owner.
pub(crate) trait Sink: Send + Sync {
    /// A list begins: what is not told of until [`Sink::listed`] doesn't exist any more.
    fn listing(&self) {}
    /// How much of a change (`ADDED`, `MODIFIED`) of an object with this metadata is known, so that it needn't be read:
    /// for all of it nothing is told, for its spec [`Sink::went_on`] instead of [`Sink::applied`]. Never asked while a
    /// list goes on.
    fn knows(&self, _change: &str, _metadata: &Value) -> KnownPart {
        KnownPart::Nothing
    }
    /// An object exists in this state.
    fn applied(&self, object: Object);
    /// An object exists in this state; its spec was known by this edition, and nothing but the plain fields of that was
    /// read.
    fn went_on(&self, _object: Object, _edition: u128) {}
    /// An object was seen to end. A hint: decisions read live.
    fn deleted(&self, object: Object);
    /// All objects of a complete list were told; the store was at this version.
    fn listed(&self, version: u64);
    /// Whether the list that has just ended is to be taken again soon, since what else is known speaks against it.
    fn is_doubtful(&self) -> bool {
        false
    }
    /// Ends when another look shows that such a list is wrong: it is taken again at once.
    fn contradiction(&self) -> BoxFuture<'_, ()> {
        future::pending().boxed()
    }
    /// The watch can't go on for now; deletions must not be inferred.
    fn interrupted(&self, _error: &Error) {}
    /// The API server doesn't serve the kind, or not yet.
    fn absent(&self) {}
}

/// What to watch.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Path of the collection.
    pub(crate) path: String,
    /// Label selector, if any.
    pub(crate) selector: Option<String>,
    /// Name of the only object that is wanted, if any.
    pub(crate) name: Option<String>,
    /// Taken from the list's kind: items of a list don't repeat it.
    pub(crate) api_version: String,
    /// Likewise.
    pub(crate) kind: String,
    /// Whether an API server may lack the kind.
    pub(crate) presence: Presence,
}

/// Whether an API server may lack a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It serves it; if not, something is wrong.
    Certain,
    /// It is waited for.
    Optional,
}

impl Target {
    /// All objects of a kind that its rule wants of a tenant.
    pub(crate) fn of(rule: &dyn Kind) -> Self {
        let resource = rule.resource();
        Self {
            path: resource.path("", ""),
            selector: rule.tenant_selector().map(str::to_owned),
            name: None,
            api_version: resource.api_version(),
            kind: resource.kind.to_owned(),
            presence: if rule.is_optional() {
                Presence::Optional
            } else {
                Presence::Certain
            },
        }
    }
}

/// Watches until cancelled.
///
/// There are dozens of these for each tenant, and nearly all of them only follow: a future is as large as its largest step
/// that isn't boxed, and holds once more what is moved into a step. So the other steps are boxed, and nothing is moved.
pub(crate) async fn run(
    cluster: &Cluster,
    target: &Target,
    sink: &dyn Sink,
    cancel: &CancellationToken,
) {
    let mut failures = 0u32;
    let mut absences = 0u32;
    let mut doubts = 0u32;
    let mut is_contradicted = false;
    let mut interruption: Option<Interruption<'_>> = None;
    // When the list was begun.
    let mut began = Instant::now();
    let mut kinds = cluster.kinds();
    loop {
        let turn = Box::pin(cancel.run_until_cancelled(async {
            let version = Box::pin(async {
                let lister = cluster.patient_lister().await;
                began = Instant::now();
                pages(&lister, target, sink).await
            })
            .await?;
            absences = 0;
            if interruption.take().is_some_and(Interruption::end) {
                tracing::info!(server = cluster.pace().name(), "all watches go on");
            }
            if !sink.is_doubtful() {
                doubts = 0;
                is_contradicted = false;
                return follow(cluster, target, version, sink).await;
            }
            doubts += 1;
            let delay = DELAYS.after(doubts, &target.path);
            Box::pin(async {
                tokio::select! {
                    // What the watch tells may be all that was in doubt.
                    biased;
                    followed = follow(cluster, target, version, sink) => followed,
                    () = tokio::time::sleep(delay) => Ok(()),
                    // One that is wrong again is no sooner right than the others.
                    () = sink.contradiction(), if !is_contradicted => {
                        is_contradicted = true;
                        Ok(())
                    }
                }
            })
            .await
        }));
        let Some(turn) = turn.await else {
            return;
        };
        let Err(error) = turn else { continue };
        if matches!(error, Error::NotServed) && target.presence == Presence::Optional {
            if absences == 0 {
                let server = cluster.pace().name();
                tracing::info!(server, path = %target.path, "not served; it is waited for");
                sink.absent();
            }
            absences += 1;
            let delay = ABSENCES.after(absences, &target.path);
            failures = 0;
            let wait = Box::pin(async {
                tokio::select! {
                    // A definition is served a moment after it was made.
                    Ok(()) = kinds.changed() => absences = 1,
                    () = tokio::time::sleep(delay) => {}
                }
            });
            if cancel.run_until_cancelled(wait).await.is_none() {
                return;
            }
            continue;
        }
        let is_expired = matches!(error, Error::Expired);
        if !is_expired {
            sink.interrupted(&error);
            // That it isn't served must be told again: the sink knows only of the interruption.
            absences = 0;
            interruption.get_or_insert_with(|| interrupt(cluster, target, &error));
        }
        // A list alone proves little: a server that fails right after each is asked ever less often.
        if began.elapsed() >= DELAYS.after(failures, &target.path) {
            failures = 0;
        }
        // What all watches of the server suffer from, they wait for together.
        failures = if cluster.pace().is_open() {
            1
        } else {
            failures + 1
        };
        if is_expired && failures == 1 {
            continue;
        }
        let wait = Box::pin(tokio::time::sleep(DELAYS.after(failures, &target.path)));
        if cancel.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// A watch is interrupted. A server that goes away interrupts dozens: the first is told, the others to who asks.
fn interrupt<'a>(cluster: &'a Cluster, target: &Target, err: &Error) -> Interruption<'a> {
    let (interruption, is_alone) = cluster.pace().interrupted();
    let (server, path) = (cluster.pace().name(), target.path.as_str());
    if is_alone {
        tracing::warn!(server, path, %err, "watch interrupted");
    } else {
        tracing::debug!(server, path, %err, "watch interrupted");
    }
    interruption
}

/// Tells every object of a complete list; the answer is the list's resource version.
pub(crate) async fn list(
    cluster: &Cluster,
    target: &Target,
    sink: &dyn Sink,
) -> Result<String, Error> {
    pages(&cluster.lister().await, target, sink).await
}

async fn pages(lister: &Lister<'_>, target: &Target, sink: &dyn Sink) -> Result<String, Error> {
    sink.listing();
    let mut pages = Pages::of(&target.path, selector(target));
    let mut version = String::new();
    while let Some(page) = pages.next(lister).await? {
        version = page.version;
        for mut item in page.items {
            if !is_of_kind(&item, target) {
                tracing::warn!(path = %target.path, "an object of another kind is set aside");
                continue;
            }
            item["apiVersion"] = target.api_version.as_str().into();
            item["kind"] = target.kind.as_str().into();
            match Object::from_value(item) {
                Ok(object) => sink.applied(object.sized(page.size)),
                Err(err) => tracing::warn!(path = %target.path, %err, "an object is set aside"),
            }
        }
    }
    let Some(number) = number(&version) else {
        return Err(Error::Malformed("a list without a version".into()));
    };
    sink.listed(number);
    Ok(version)
}

/// Whether an object is of the kind that was asked for; those of most lists don't say.
fn is_of_kind(object: &Value, target: &Target) -> bool {
    let kind = object.get("kind");
    kind.is_none_or(|kind| kind == target.kind.as_str())
}

/// A resource version that a store may be at; no store is at 0, and a watch from there tells whatever a cache holds (R8).
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number| *number != 0)
}

/// Tells every object of a complete list, and nothing else.
pub(crate) async fn each(
    cluster: &Cluster,
    target: &Target,
    tell: impl Fn(Object) + Send + Sync,
) -> Result<(), Error> {
    struct Each<T>(T);
    impl<T: Fn(Object) + Send + Sync> Sink for Each<T> {
        fn applied(&self, object: Object) {
            (self.0)(object);
        }
        fn deleted(&self, _object: Object) {}
        fn listed(&self, _version: u64) {}
    }
    list(cluster, target, &Each(tell)).await.map(drop)
}

/// Seconds after which the server is to end a watch: 5 to 10 minutes, spread so that they don't all come back at once.
///
/// Events have no watch cache, and so no bookmarks: where there are none for a while, a watch that ends in time shows that
/// the server lives.
fn lifetime(target: &Target, version: &str) -> u64 {
    if target.kind == "Event" {
        return SILENCE_LIMIT.as_secs() * 2 / 3;
    }
    let bytes = version.bytes().chain(target.path.bytes());
    300 + bytes.map(u64::from).sum::<u64>() % 300
}

/// Follows from `version` until the resource version is too old or something breaks.
async fn follow(
    cluster: &Cluster,
    target: &Target,
    mut version: String,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let mut endings = 0;
    loop {
        let began = Instant::now();
        let limit = lifetime(target, &version);
        let mut body = {
            // Not kept while the watch goes on.
            let path = format!(
                "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={limit}&resourceVersion={version}{}",
                target.path,
                selector(target)
            );
            Box::pin(cluster.watch(&path)).await?
        };
        let (mut lines, mut begun) = (Lines::default(), cluster.pace().begin());
        // Bytes alone are no sign of life: they may come one by one, for ever.
        let mut silent_until = began + SILENCE_LIMIT;
        loop {
            let frame = tokio::time::timeout_at(silent_until, body.frame())
                .await
                .map_err(|_| {
                    Error::Unavailable(format!("no event or bookmark for {SILENCE_LIMIT:?}"))
                })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|err| Error::Unavailable(err.to_string()))?;
            if let Ok(data) = frame.into_data() {
                let mut events = 0;
                lines.each(&data, |line| {
                    events += 1;
                    silent_until = Instant::now() + SILENCE_LIMIT;
                    tell(line, target, &mut version, sink)
                })?;
                begun.are(lines.begun.len())?;
                silent_until += cluster.pace().read(data.len(), events).await;
            }
        }
        drop(body);
        // So does no watch end that lasted as long as it was asked for.
        let delay = DELAYS.after(endings + 1, &target.path);
        if began.elapsed() < delay {
            endings += 1;
            tokio::time::sleep(delay).await;
        } else {
            endings = 0;
        }
    }
}

/// The lines of a watch, put together from what arrives. An event mostly arrives whole, and is read where it is; between
/// events nothing is kept.
#[derive(Default)]
struct Lines {
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Lines {
    /// Gives each line that is complete with `data`.
    fn each(
        &mut self,
        data: &[u8],
        mut tell: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.begun.is_empty() {
                tell(line)?;
            } else {
                self.begun.extend_from_slice(line);
                tell(&std::mem::take(&mut self.begun))?;
            }
        }
        self.begun.extend_from_slice(rest);
        if self.begun.len() > answer::MOST_BYTES {
            return Err(Error::Malformed(format!(
                "an event of more than {} bytes",
                answer::MOST_BYTES
            )));
        }
        Ok(())
    }
}

/// Tells one event.
fn tell(line: &[u8], target: &Target, version: &mut String, sink: &dyn Sink) -> Result<(), Error> {
    answer::check(line)?;
    let known = |change: &str, metadata: &Value| match change {
        "ADDED" | "MODIFIED" => sink.knows(change, metadata),
        _ => KnownPart::Nothing,
    };
    let Event {
        value: mut event,
        known,
    } = arrival::event(line, &known).map_err(|err| Error::Malformed(err.to_string()))?;
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    let kind = event["type"].as_str().unwrap_or_default();
    if kind == "ERROR" {
        let message = answer::said(&text(&object, "/message"));
        return Err(if object["code"] == 410 {
            Error::Expired
        } else {
            Error::Unavailable(message)
        });
    }
    let seen = text(&object, "/metadata/resourceVersion");
    if !is_of_kind(&object, target) {
        tracing::warn!(path = %target.path, "an object of another kind is set aside");
    } else if kind != "BOOKMARK" && known != KnownPart::All {
        let object = Object::from_value(object).map(|object| object.sized(line.len()));
        match (object, known) {
            (Ok(object), _) if kind == "DELETED" => sink.deleted(object),
            (Ok(object), KnownPart::Spec(edition)) => sink.went_on(object, edition),
            (Ok(object), _) => sink.applied(object),
            (Err(err), _) => tracing::warn!(path = %target.path, %err, "an object is set aside"),
        }
    }
    if number(&seen).is_some() {
        *version = seen;
    }
    Ok(())
}

fn selector(target: &Target) -> String {
    let labels = target.selector.as_deref();
    let labels = labels.map(|selector| format!("&labelSelector={}", encode(selector)));
    let name = target.name.as_deref();
    let name = name.map(|name| {
        format!(
            "&fieldSelector={}",
            encode(&format!("metadata.name={name}"))
        )
    });
    labels.unwrap_or_default() + &name.unwrap_or_default()
}

/// Percent-encodes what a query value can't hold.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn text(value: &Value, pointer: &str) -> String {
    at(value, pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Server, fake};
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Sink for Recorder {
        fn applied(&self, object: Object) {
            self.0.lock().push(format!("+{}", object.name()));
        }
        fn deleted(&self, object: Object) {
            self.0.lock().push(format!("-{}", object.name()));
        }
        fn listed(&self, _version: u64) {}
        fn interrupted(&self, _error: &Error) {
            self.0.lock().push("interrupted".into());
        }
        fn absent(&self) {
            self.0.lock().push("absent".into());
        }
    }

    #[test]
    fn a_watch_without_bookmarks_ends_before_it_would_be_given_up() {
        let events = Target {
            kind: "Event".into(),
            ..target()
        };
        assert!(lifetime(&events, "7") < SILENCE_LIMIT.as_secs());
        assert!((300..600).contains(&lifetime(&target(), "7")));
    }

    async fn keep(cluster: Cluster, target: Target, sink: &dyn Sink, cancel: CancellationToken) {
        run(&cluster, &target, sink, &cancel).await;
    }

    /// Hundreds of tenants have dozens each.
    #[tokio::test]
    async fn a_watch_that_follows_takes_little_room() {
        let ((cluster, _server), told) = (fake(), Recorder::default());
        let (target, cancel) = (target(), CancellationToken::new());
        let task = size_of_val(&run(&cluster, &target, &told, &cancel));
        let step = size_of_val(&follow(&cluster, &target, String::new(), &told));
        assert!(task <= 384 && step <= 640, "{task} and {step} bytes");
    }

    fn target() -> Target {
        Target {
            path: "/api/v1/pods".into(),
            selector: None,
            name: None,
            api_version: "v1".into(),
            kind: "Pod".into(),
            presence: Presence::Certain,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_served_is_told_again_after_an_interruption() {
        let (cluster, mut server) = fake();
        let told = Recorder::default();
        let target = Target {
            presence: Presence::Optional,
            ..target()
        };
        let cancel = CancellationToken::new();
        let answers = async {
            server.answer_plainly("GET", 404).await;
            server.answer_plainly("GET", 404).await;
            server.answer_plainly("GET", 503).await;
            server.answer_plainly("GET", 404).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            cancel.cancel();
        };
        tokio::join!(run(&cluster, &target, &told, &cancel), answers);
        assert_eq!(*told.0.lock(), ["absent", "interrupted", "absent"]);
    }

    /// Notes its lists, of which it doubts the first ones.
    #[derive(Default)]
    struct Doubting {
        doubted: usize,
        /// Whether what it doubts is contradicted at once.
        is_contradicted: bool,
        listed: Mutex<Vec<tokio::time::Instant>>,
    }

    impl Sink for Doubting {
        fn applied(&self, _object: Object) {}
        fn deleted(&self, _object: Object) {}
        fn listed(&self, _version: u64) {
            self.listed.lock().push(tokio::time::Instant::now());
        }
        fn is_doubtful(&self) -> bool {
            self.listed.lock().len() <= self.doubted
        }
        fn contradiction(&self) -> BoxFuture<'_, ()> {
            let told = async {
                if !self.is_contradicted {
                    future::pending::<()>().await;
                }
            };
            told.boxed()
        }
    }

    /// How long it took from each of its first four lists to the next.
    async fn waits(sink: Doubting) -> Vec<Duration> {
        let (cluster, mut server) = fake();
        let cancel = CancellationToken::new();
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let answers = async {
            for _ in 0..4 {
                let list = server.answer("GET", 200, &page).await;
                assert!(list.query.starts_with("limit="), "{}", list.query);
                // Nobody answers the watch that follows: it is given up for the next list, or goes on.
                let watch = server.leave("GET").await;
                assert!(watch.query.starts_with("watch=true"), "{}", watch.query);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(server.is_silent());
            cancel.cancel();
        };
        tokio::join!(keep(cluster, target(), &sink, cancel.clone()), answers);
        let times = sink.listed.into_inner();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn r2_a_doubtful_list_is_followed_and_taken_again_ever_less_often_until_it_is_not() {
        let waits = waits(Doubting {
            doubted: 3,
            ..Doubting::default()
        });
        let waits = waits.await;
        assert_eq!(waits.len(), 3);
        for (wait, least) in waits.iter().zip([1, 2, 4]) {
            assert!(*wait >= DELAYS.first * least * 3 / 4, "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r2_a_list_that_is_contradicted_is_taken_again_at_once_and_those_after_it_ever_less_often()
     {
        let waits = waits(Doubting {
            doubted: 3,
            is_contradicted: true,
            ..Doubting::default()
        });
        let waits = waits.await;
        assert_eq!(waits.len(), 3);
        assert!(waits[0] < Duration::from_millis(10), "{waits:?}");
        for (wait, least) in waits[1..].iter().zip([2, 4]) {
            assert!(*wait >= DELAYS.first * least * 3 / 4, "{waits:?}");
        }
    }

    /// F18: each for itself, they would try a hundred times in twenty seconds.
    #[tokio::test(start_paused = true)]
    async fn all_watches_of_a_server_that_cannot_be_reached_wait_together_and_come_back_together() {
        const WATCHES: usize = 30;
        const AWAY: Duration = Duration::from_secs(20);
        let (cluster, mut server) = fake();
        let cancel = CancellationToken::new();
        let sinks: Vec<_> = (0..WATCHES).map(|_| Doubting::default()).collect();
        let watches = sinks.iter().enumerate().map(|(number, sink)| {
            let path = format!("/api/v1/kind{number}");
            let target = Target { path, ..target() };
            keep(cluster.clone(), target, sink, cancel.clone())
        });
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let answers = async {
            let (mut tries, back) = (0, tokio::time::Instant::now() + AWAY);
            while tokio::time::timeout_at(back, server.wait()).await.is_ok() {
                server.answer("GET", 503, &serde_json::json!({})).await;
                tries += 1;
            }
            // Each once as it began, and from then on one for all.
            assert!(tries <= WATCHES + 7, "{tries}");
            let mut listed = 0;
            while listed < WATCHES {
                server.wait().await;
                if server.awaited().contains("watch=true") {
                    server.leave("GET").await;
                } else {
                    server.answer("GET", 200, &page).await;
                    listed += 1;
                }
            }
            // No longer than the longest pause between two tries.
            let took = back.elapsed();
            assert!(took <= Duration::from_secs(10), "{took:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
            cancel.cancel();
        };
        tokio::join!(futures::future::join_all(watches), answers);
        let times: Vec<_> = sinks
            .iter()
            .flat_map(|sink| sink.listed.lock().clone())
            .collect();
        assert_eq!(times.len(), WATCHES);
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*last - *first < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_kind_alone_suffers_from_it_waits_for_alone() {
        let (cluster, mut server) = fake();
        let (told, cancel) = (Recorder::default(), CancellationToken::new());
        let began = tokio::time::Instant::now();
        let answers = async {
            for _ in 0..6 {
                server.wait().await;
                server.answer("GET", 403, &serde_json::json!({})).await;
            }
            cancel.cancel();
        };
        tokio::join!(
            keep(cluster.clone(), target(), &told, cancel.clone()),
            answers
        );
        let least = DELAYS.first * 31 * 3 / 4;
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
        assert!(!cluster.pace().is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn r8_a_list_asks_for_the_most_recent_state_and_for_no_cache() {
        let (cluster, mut server) = fake();
        let page = |token: &str| serde_json::json!({"metadata": {"resourceVersion": "5", "continue": token}, "items": []});
        let (target, told) = (target(), Recorder::default());
        let answers = async {
            for token in ["more", ""] {
                let asked = server.answer("GET", 200, &page(token)).await;
                assert!(!asked.query.contains("resourceVersion"), "{}", asked.query);
            }
        };
        let (listed, ()) = tokio::join!(list(&cluster, &target, &told), answers);
        assert_eq!(listed.unwrap(), "5");
    }

    #[tokio::test(start_paused = true)]
    async fn r9_a_watch_that_says_nothing_or_is_never_answered_is_given_up_and_begun_anew() {
        let (cluster, mut server) = fake();
        let (told, cancel) = (Recorder::default(), CancellationToken::new());
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let began = tokio::time::Instant::now();
        let mut noticed = vec![];
        let answers = async {
            server.answer("GET", 200, &page).await;
            server.leave("GET").await;
            server.wait().await;
            noticed.push(began.elapsed());
            server.answer("GET", 200, &page).await;
            server.say_nothing("GET").await;
            server.wait().await;
            noticed.push(began.elapsed());
            cancel.cancel();
        };
        tokio::join!(keep(cluster, target(), &told, cancel.clone()), answers);
        let limits = [REQUEST, REQUEST + SILENCE_LIMIT + DELAYS.longest];
        assert!(noticed[0] <= limits[0], "{noticed:?}");
        assert!(noticed[1] <= limits[1], "{noticed:?}");
        assert_eq!(*told.0.lock(), ["interrupted", "interrupted"]);
    }

    /// A request that nobody answers is given up after 30 seconds, and tried again a moment later.
    const REQUEST: Duration = Duration::from_secs(31);

    /// What a watch told while a server answered as it likes, and after how long it asked for more.
    struct Played {
        told: Vec<String>,
        took: Duration,
    }

    async fn played<F: Future<Output = Server>>(answers: impl FnOnce(Server) -> F) -> Played {
        let (cluster, server) = fake();
        let (told, cancel) = (Recorder::default(), CancellationToken::new());
        let began = Instant::now();
        let answers = async {
            let mut server = answers(server).await;
            server.wait().await;
            cancel.cancel();
            Played {
                told: told.0.lock().clone(),
                took: began.elapsed(),
            }
        };
        let ((), played) = tokio::join!(keep(cluster, target(), &told, cancel.clone()), answers);
        played
    }

    #[tokio::test(start_paused = true)]
    async fn t42_a_list_without_a_right_version_is_no_list() {
        for metadata in [
            serde_json::json!({}),
            serde_json::json!({"resourceVersion": ""}),
            serde_json::json!({"resourceVersion": "0"}),
            serde_json::json!({"resourceVersion": "5&watch=false"}),
            serde_json::json!({"resourceVersion": 5}),
        ] {
            let (cluster, mut server) = fake();
            let sink = Doubting::default();
            let page = serde_json::json!({"metadata": metadata, "items": []});
            let (target, answer) = (target(), server.answer("GET", 200, &page));
            let (listed, _) = tokio::join!(list(&cluster, &target, &sink), answer);
            assert!(matches!(listed, Err(Error::Malformed(_))), "{metadata}");
            assert!(sink.listed.lock().is_empty());
        }
    }

    #[test]
    fn t42_no_event_moves_a_watch_to_a_wrong_version() {
        let (told, mut version) = (Recorder::default(), String::from("7"));
        for wrong in ["0", "", "x", "9&limit=1", "-1"] {
            let object = serde_json::json!({"metadata": {"name": "a", "resourceVersion": wrong}});
            let line = serde_json::json!({"type": "BOOKMARK", "object": object}).to_string();
            tell(line.as_bytes(), &target(), &mut version, &told).unwrap();
            assert_eq!(version, "7", "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t42_what_is_no_object_or_of_another_kind_is_set_aside() {
        let (cluster, mut server) = fake();
        let (target, told) = (target(), Recorder::default());
        let items = serde_json::json!([
            1, null, [], {}, {"metadata": 2},
            {"kind": "Secret", "metadata": {"name": "secret"}},
            {"kind": "Pod", "metadata": {"name": "pod"}},
            {"metadata": {"name": "plain"}},
        ]);
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": items});
        let answer = server.answer("GET", 200, &page);
        let (listed, _) = tokio::join!(list(&cluster, &target, &told), answer);
        assert_eq!(listed.unwrap(), "5");
        let event = br#"{"type":"ADDED","object":{"kind":"Node","metadata":{"name":"n","resourceVersion":"6"}}}"#;
        tell(event, &target, &mut String::new(), &told).unwrap();
        for object in ["1", "null", "[]", "{}"] {
            let event = format!(r#"{{"type":"ADDED","object":{object}}}"#);
            tell(event.as_bytes(), &target, &mut String::new(), &told).unwrap();
        }
        assert_eq!(*told.0.lock(), ["+pod", "+plain"]);
    }

    #[tokio::test(start_paused = true)]
    async fn t42_a_malformed_list_stops_nothing_but_itself() {
        let malformed = [
            b"{\"items\":[".to_vec(),
            b"[]".to_vec(),
            b"\xff".to_vec(),
            b"[".repeat(10_000),
        ];
        let played = played(|mut server| async move {
            for bytes in malformed {
                server.answer_bytes("GET", 200, bytes).await;
            }
            server
        });
        assert_eq!(played.await.told, ["interrupted"; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn t42_a_redirect_is_not_followed() {
        let (cluster, mut server) = fake();
        let answers = async {
            server
                .redirect("GET", "https://169.254.169.254/latest")
                .await;
            server
                .redirect("GET", "https://169.254.169.254/latest")
                .await;
            assert!(server.is_silent());
        };
        let asked = async {
            let listed = cluster.list("/api/v1/pods").await;
            let watched = cluster.watch("/api/v1/pods?watch=true").await;
            (listed.err(), watched.err())
        };
        let (failed, ()) = tokio::join!(asked, answers);
        assert!(matches!(
            failed,
            (Some(Error::Internal(_)), Some(Error::Internal(_)))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn t42_bytes_that_come_one_by_one_end_at_the_time_limit() {
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        // A list, what a watch fails by, and a watch.
        for (lists, status, most) in [
            (0, 200, REQUEST),
            (1, 500, REQUEST),
            (1, 200, SILENCE_LIMIT + Duration::from_secs(1)),
        ] {
            let page = page.clone();
            let played = played(|mut server| async move {
                for _ in 0..lists {
                    server.answer("GET", 200, &page).await;
                }
                server.trickle("GET", status).await;
                server
            });
            let played = played.await;
            assert!(played.took <= most, "{:?}", played.took);
            assert_eq!(played.told, ["interrupted"]);
        }
    }

    /// How long a server whose watches end in this way was asked a hundred times.
    async fn hundredfold(watch: impl Fn() -> (u16, &'static str) + Send) -> Duration {
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let played = played(|mut server| async move {
            for _ in 0..100 {
                server.wait().await;
                if server.awaited().contains("watch=true") {
                    let (status, body) = watch();
                    server.answer_bytes("GET", status, body.into()).await;
                } else {
                    server.answer("GET", 200, &page).await;
                }
            }
            server
        });
        played.await.took
    }

    #[tokio::test(start_paused = true)]
    async fn t42_a_server_whose_watches_end_at_once_is_asked_ever_less_often() {
        for (status, body) in [
            (200, ""),
            (200, "{}\n{\n"),
            (410, "{}"),
            (500, "{}"),
            (200, "{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n"),
        ] {
            let took = hundredfold(move || (status, body)).await;
            assert!(took > 20 * DELAYS.longest, "{status} {body}: {took:?}");
        }
        // As is one that calls every list too old.
        let played = played(|mut server| async move {
            for _ in 0..100 {
                server.wait().await;
                server.answer("GET", 410, &serde_json::json!({})).await;
            }
            server
        });
        assert!(played.await.took > 20 * DELAYS.longest);
    }

    #[test]
    fn events_move_the_version_and_one_bad_object_stops_nothing() {
        let (told, mut version) = (Recorder::default(), String::from("1"));
        let lines = [
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"2"}}}"#,
            r#"{"type":"MODIFIED","object":{"metadata":"broken"}}"#,
            r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"3"}}}"#,
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
        ];
        for line in lines {
            tell(line.as_bytes(), &target(), &mut version, &told).unwrap();
        }
        assert_eq!(*told.0.lock(), ["+a", "-a"]);
        assert_eq!(version, "9");
    }

    #[test]
    fn lines_are_put_together_however_they_arrive() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\"";
        for size in 1..=text.len() {
            let (mut lines, mut told) = (Lines::default(), vec![]);
            for data in text.chunks(size) {
                let tell = |line: &[u8]| {
                    told.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok(())
                };
                lines.each(data, tell).unwrap();
            }
            assert_eq!(told, ["{\"a\":1}\n", "\n", "{\"b\":2}\n"], "{size}");
            assert_eq!(lines.begun, b"{\"c\"");
        }
        let mut lines = Lines::default();
        assert!(
            lines
                .each(&vec![0; answer::MOST_BYTES + 1], |_| Ok(()))
                .is_err()
        );
    }

    #[test]
    fn an_old_version_is_told_from_other_errors() {
        let (told, mut version) = (Recorder::default(), String::new());
        let expired = br#"{"type":"ERROR","object":{"code":410,"message":"too old"}}"#;
        assert!(matches!(
            tell(expired, &target(), &mut version, &told),
            Err(Error::Expired)
        ));
        let broken = br#"{"type":"ERROR","object":{"code":500,"message":"etcd"}}"#;
        assert!(matches!(
            tell(broken, &target(), &mut version, &told),
            Err(Error::Unavailable(_))
        ));
    }

    #[test]
    fn selectors_are_encoded() {
        assert_eq!(encode("a!=b,c in (d)"), "a%21%3Db%2Cc%20in%20%28d%29");
    }

    #[derive(Default)]
    struct Ended(Recorder, tokio::sync::Notify);

    impl Sink for Ended {
        fn applied(&self, object: Object) {
            self.0.applied(object);
        }
        fn deleted(&self, object: Object) {
            self.0.deleted(object);
        }
        fn listed(&self, _version: u64) {
            self.0.0.lock().push("listed".into());
            self.1.notify_one();
        }
    }

    /// F4 and F5: a version that is too old starts the list over, from its first page, and nothing is taken for gone.
    #[tokio::test]
    async fn an_expired_watch_lists_again_from_the_first_page() {
        use serde_json::json;
        let (cluster, mut server) = crate::fake::fake();
        let sink = std::sync::Arc::new(Ended::default());
        let cancel = CancellationToken::new();
        let watching = tokio::spawn({
            let (sink, cancel) = (sink.clone(), cancel.clone());
            async move { run(&cluster, &target(), &*sink, &cancel).await }
        });
        let page = |name: &str, token: &str| json!({"metadata": {"resourceVersion": "5", "continue": token}, "items": [{"metadata": {"name": name}}]});
        let first = server.answer("GET", 200, &page("a", "more")).await;
        let second = server.answer("GET", 200, &page("b", "")).await;
        let follow = server.answer("GET", 410, &json!({})).await;
        server.answer("GET", 200, &page("c", "")).await;
        sink.1.notified().await;
        sink.1.notified().await;
        cancel.cancel();
        watching.await.unwrap();
        assert_eq!(first.query, "limit=500");
        assert_eq!(second.query, "limit=500&continue=more");
        assert!(follow.query.contains("watch=true") && follow.query.contains("resourceVersion=5"));
        assert_eq!(*sink.0.0.lock(), ["+a", "+b", "listed", "+c", "listed"]);
    }

    #[derive(Default)]
    struct Absent(Ended, tokio::sync::Notify);

    impl Sink for Absent {
        fn applied(&self, object: Object) {
            self.0.applied(object);
        }
        fn deleted(&self, object: Object) {
            self.0.deleted(object);
        }
        fn listed(&self, _version: u64) {
            self.0.listed(0);
        }
        fn absent(&self) {
            self.0.0.0.lock().push("absent".into());
            self.1.notify_one();
        }
    }

    /// A kind that isn't served is told of once, and taken up when a definition changes, without being asked for
    /// meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_kind_that_comes_later_is_taken_up() {
        use serde_json::json;
        let (cluster, mut server) = crate::fake::fake();
        let sink = std::sync::Arc::new(Absent::default());
        let cancel = CancellationToken::new();
        let wanted = Target {
            presence: Presence::Optional,
            ..target()
        };
        let watching = tokio::spawn({
            let (sink, cancel, cluster) = (sink.clone(), cancel.clone(), cluster.clone());
            async move { run(&cluster, &wanted, &*sink, &cancel).await }
        });
        for _ in 0..5 {
            server.answer_plainly("GET", 404).await;
        }
        cluster.kinds_changed();
        let page = json!({"metadata": {"resourceVersion": "5"}, "items": []});
        server.answer("GET", 200, &page).await;
        sink.0.1.notified().await;
        cancel.cancel();
        watching.await.unwrap();
        assert_eq!(*sink.0.0.0.lock(), ["absent", "listed"]);
    }
}
