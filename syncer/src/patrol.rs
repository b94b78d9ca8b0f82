//! The patrol: both sides again from the start, in pages, against the fingerprints.
//!
//! It finds what no event told. A difference is a suspicion that puts a key in the queue, nothing more (R10): the
//! worker reads both objects live before it changes anything.

pub(crate) mod published;

use crate::{
    apply::Failure,
    companions,
    engine::Engine,
    error::Error,
    intake::{self, twin_name},
    namespace_quota,
    rounds::{LONGEST, Lane, Waited},
    table::{Entry, SuperSide},
    tenants::Tenant,
    untaken,
    watch::{self, Presence, Sink, Target},
};
use api::keys;
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenancy::{
    kind::{self, Kind, SuperWatch},
    meta,
    object::Object,
    tenant::Key,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often due token renewals are looked for; tokens are renewed with at least two minutes of life left.
const RENEWAL_PERIOD: Duration = Duration::from_secs(20);

/// Patrols one tenant until it is no longer served: in every period, and once as soon as its state is known what no watch
/// of the super cluster has just listed.
///
/// A tenant that can't be reached waits for its own return, and for nobody else.
pub(crate) async fn keep(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let rounds = async {
        let mut health = tenant.gate.health();
        let (mut extent, mut lane) = (Extent::Unwatched, Lane::default());
        let from = AtomicUsize::new(0);
        // The sender lives as long as the tenant.
        while health.wait_for(|health| health.is_known).await.is_ok() {
            let place = engine.rounds.place(lane).await;
            let waited = Waited::default();
            let whole = limited(round(&engine, &tenant, extent, &waited, &from));
            let ended = tokio::select! {
                ended = whole => Some(ended),
                () = waited.too_long(lane) => None,
            };
            drop(place);
            if ended.is_none() && lane == Lane::Swift {
                // Once more, in a place where it may take longer.
                lane = Lane::Slow;
                continue;
            }
            if let Err(err) = ended.unwrap_or(Err(TOO_LONG)) {
                tracing::warn!(tenant = %tenant.id, %err, "the patrol didn't finish its round");
            }
            lane = waited.lane();
            extent = Extent::All;
            engine.rounds.rest().await;
        }
    };
    tokio::select! {
        // Once it isn't served nothing is counted of it.
        biased;
        () = tenant.cancel.cancelled() => {}
        () = rounds => {}
    }
}

/// One round, which ends in time.
async fn limited(round: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let ended = tokio::time::timeout(LONGEST, Box::pin(round)).await;
    ended.unwrap_or(Err(TOO_LONG))
}

const TOO_LONG: Failure = Failure::Waiting("the rest, since it took too long");

/// Looks for tokens to renew, of all tenants.
pub(crate) async fn renew_tokens(engine: Arc<Engine>, cancel: CancellationToken) {
    let mut renewals = tokio::time::interval(RENEWAL_PERIOD);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = renewals.tick() => renew(&engine),
        }
    }
}

/// Queues pods whose tokens are due.
fn renew(engine: &Engine) {
    let now = Instant::now();
    for tenant in engine.served() {
        for key in tenant.table.keys(kind::index("Pod"), |entry| {
            entry.renew_at.is_some_and(|due| due <= now)
        }) {
            engine.down.add(&tenant.id, key);
        }
    }
}

/// What a round looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Kinds that aren't watched in the super cluster: of all others the watches have just listed both sides, and to list
    /// them again would only keep API servers from answering those who work what was found.
    Unwatched,
    /// Every kind.
    All,
}

impl Extent {
    fn covers(self, rule: &dyn Kind) -> bool {
        rule.goes_down() && (self == Self::All || rule.super_watch() == SuperWatch::Never)
    }
}

/// Looks at the objects of one tenant on both sides. What can't be listed says nothing, and what can be is looked at all
/// the same; where a round is cut short, the next one goes on behind that (`from`).
async fn round(
    engine: &Engine,
    tenant: &Tenant,
    extent: Extent,
    waited: &Waited,
    from: &AtomicUsize,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    // A kind that can't be watched isn't listed either, and its own watch tries.
    let trusted = tenant.gate.trusted();
    let looks = |kind: &u8| trusted.contains(kind) && extent.covers(kind::rule(*kind));
    let mut kinds: Vec<u8> = tenant.kinds().into_iter().filter(looks).collect();
    let first = from.load(Ordering::Relaxed) % kinds.len().max(1);
    kinds.rotate_left(first);
    for (done, kind) in kinds.into_iter().enumerate() {
        from.store(first + done + 1, Ordering::Relaxed);
        let looked = look(engine, tenant, kind, &mut failures, waited).await;
        failures.note(looked)?;
    }
    from.store(0, Ordering::Relaxed);
    if extent == Extent::All {
        let copies = waited.during(published::copies(engine, tenant)).await;
        failures.note(copies)?;
        // At a start each namespace is compared, and what stands in it.
        failures.note(companions::patrol(engine, tenant).await)?;
    }
    failures.note(namespace_quota::patrol(engine, tenant).await)?;
    let placed = |key: &Key, _: &Entry| matches!(key.kind().super_watch(), SuperWatch::Placed);
    for key in tenant.table.all_keys(placed) {
        engine.up.add(&tenant.id, key);
    }
    failures.first.map_or(Ok(()), Err)
}

/// Looks at the objects of one kind.
async fn look(
    engine: &Engine,
    tenant: &Tenant,
    kind: u8,
    failures: &mut Failures,
    waited: &Waited,
) -> Result<(), Failure> {
    let rule = kind::rule(kind);
    let target = Target::of(rule);
    let there = Compared::new(engine, tenant, kind, Side::Tenant);
    let listed = waited
        .during(watch::list(&tenant.cluster, &target, &there))
        .await;
    served(listed, &target)?;
    let here = Compared::new(engine, tenant, kind, Side::Super);
    if rule.super_watch() == SuperWatch::Owned {
        let target = Target {
            selector: Some(format!("{}={}", keys::TENANT, tenant.id)),
            ..target
        };
        served(watch::list(&engine.cluster, &target, &here).await, &target)?;
    } else {
        for namespace in tenant
            .table
            .keys(kind::index("Namespace"), |entry| entry.twin.is_some())
        {
            let twin = twin_name(tenant, &namespace).name;
            let selector = format!("{}={},!{}", keys::TENANT, tenant.id, keys::ROLE);
            let target = Target {
                path: rule.resource().path(&twin, ""),
                selector: Some(selector),
                ..target.clone()
            };
            let is_ending = |twin: SuperSide| twin.is_ending();
            if tenant.table.get(&namespace).twin.is_some_and(is_ending) {
                // The right to list there may have ended already.
                here.knows_nothing_of(&namespace.name);
                continue;
            }
            if let Err(err) = watch::list(&engine.cluster, &target, &here).await {
                if let Error::Forbidden(words) = &err {
                    companions::refused(engine, tenant, &namespace.name, words);
                }
                here.knows_nothing_of(&namespace.name);
                failures.note(Err(err.into()))?;
            }
        }
    }
    conclude(engine, tenant, kind, &there, &here);
    Ok(())
}

/// What couldn't be listed in a round.
#[derive(Default)]
struct Failures {
    first: Option<Failure>,
}

impl Failures {
    /// The round goes on, unless an API server doesn't answer, or the tenant isn't served any more.
    fn note(&mut self, looked: Result<(), Failure>) -> Result<(), Failure> {
        match looked {
            Err(failure) if failure.is_unreachable() || matches!(failure, Failure::Stopped) => {
                Err(failure)
            }
            Err(failure) => {
                self.first.get_or_insert(failure);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// A kind that may be absent has no objects when it is.
fn served<T>(listed: Result<T, Error>, target: &Target) -> Result<(), Error> {
    match listed {
        Err(Error::NotServed) if target.presence == Presence::Optional => Ok(()),
        other => other.map(drop),
    }
}

/// Queues what differs from the fingerprints, and what one side has and the other lacks.
fn conclude(engine: &Engine, tenant: &Tenant, kind: u8, there: &Compared<'_>, here: &Compared<'_>) {
    let (there, here) = (there.found.lock(), here.found.lock());
    let mut suspects: HashSet<Key> = there
        .differing
        .iter()
        .chain(&here.differing)
        .cloned()
        .collect();
    suspects.extend(unshown(engine, tenant, &here));
    let missing = |key: &&Key| tenant.table.get(key).twin.is_some() && there.lacks(key);
    tenant
        .breakers
        .missing_in_tenant(there.known.iter().filter(missing).cloned().collect());
    for key in &tenant.table.keys(kind, |_| true) {
        let entry = tenant.table.get(key);
        let lost =
            entry.tenant.is_some() && there.lacks(key) || entry.twin.is_some() && here.lacks(key);
        if lost {
            tenant.table.suspect(key);
            suspects.insert(key.clone());
        }
        if entry.refused {
            // What stood in the way may be gone.
            suspects.insert(key.clone());
        }
    }
    untaken::counted(tenant, kind, there.untaken);
    let checked = there.seen.len() + there.untaken + here.seen.len();
    suspect(engine, tenant, kind, checked, &suspects);
    for key in suspects {
        // Both objects are read live, whatever was told of them (R10).
        tenant.down.take(&key);
        tenant.up.take(&key);
        engine.down.add(&tenant.id, key.clone());
        engine.up.add(&tenant.id, key);
    }
}

/// Counts what a round looked at, and what of a kind it suspects; the last round's suspicions end.
fn suspect(engine: &Engine, tenant: &Tenant, kind: u8, checked: usize, suspects: &HashSet<Key>) {
    let metrics = &engine.metrics;
    metrics.patrolled(&tenant.id, checked as u64, suspects.len() as u64);
    let mut suspected = tenant.suspected.lock();
    suspected.retain(|key| key.kind != kind);
    suspected.extend(suspects.iter().cloned());
}

/// Counts what the patrol found, once it was written.
pub(crate) fn mended(engine: &Engine, tenant: &Tenant, key: &Key) {
    if tenant.suspected.lock().remove(key) {
        engine.metrics.patrol_repaired(&tenant.id);
    }
}

/// Keys of super objects whose state didn't go up, and that nobody is about to work: what is only late is no difference.
fn unshown(engine: &Engine, tenant: &Tenant, here: &Found) -> Vec<Key> {
    let is_unshown = |(key, version): &&(Key, u64)| {
        let entry = tenant.table.get(key);
        let is_shown = |twin: SuperSide| twin.mirrored >= *version;
        !engine.up.has(&tenant.id, key)
            && entry.tenant.is_some()
            && !entry.is_outlived()
            && !entry.twin.is_none_or(is_shown)
    };
    let unshown = here.unshown.iter().filter(is_unshown);
    unshown.map(|(key, _)| key.clone()).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Tenant,
    Super,
}

/// Compares a list with the fingerprints.
struct Compared<'a> {
    engine: &'a Engine,
    tenant: &'a Tenant,
    kind: u8,
    side: Side,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// What was known when the list began: that what is younger isn't on it says nothing.
    known: HashSet<Key>,
    seen: HashSet<Key>,
    differing: Vec<Key>,
    /// Objects of the tenant that aren't taken in.
    untaken: usize,
    /// Super objects in states that hadn't gone up when they were seen, and their versions.
    unshown: Vec<(Key, u64)>,
}

impl Found {
    fn lacks(&self, key: &Key) -> bool {
        self.known.contains(key) && !self.seen.contains(key)
    }
}

impl<'a> Compared<'a> {
    /// To be made just before the list begins.
    fn new(engine: &'a Engine, tenant: &'a Tenant, kind: u8, side: Side) -> Self {
        let known = tenant.table.keys(kind, |_| true);
        Self {
            engine,
            tenant,
            kind,
            side,
            found: Mutex::new(Found {
                known: known.into_iter().collect(),
                ..Found::default()
            }),
        }
    }
}

impl Compared<'_> {
    /// What is in a namespace of the tenant couldn't be listed: nothing of it is missing.
    fn knows_nothing_of(&self, namespace: &str) {
        let is_elsewhere = |key: &Key| *key.namespace != *namespace;
        self.found.lock().known.retain(is_elsewhere);
    }

    /// The tenant's object isn't taken in: it is there all the same, whatever is known of it before or after.
    fn passes_over(&self, key: Key) {
        let mut found = self.found.lock();
        found.untaken += 1;
        // There may be very many of those that nobody asks about.
        if found.known.contains(&key) {
            found.seen.insert(key);
        }
    }

    /// Whether no event told of what the tenant's object asks for, or of what it shows.
    fn differs_in_tenant(&self, key: &Key, object: &Object) -> bool {
        let (rule, version) = (key.kind(), object.resource_version());
        let Some(known) = self.tenant.table.get(key).tenant else {
            return true;
        };
        if known.version >= version {
            return false;
        }
        // What a write of ours left behind is known by its answer.
        let shows_else = || {
            rule.mirrors()
                && known.answered < version
                && known.projection != meta::fingerprint(&rule.up_projection(object))
        };
        *known.uid != *object.uid() || known.intent != rule.intent(object) || shows_else()
    }
}

impl Sink for Compared<'_> {
    fn applied(&self, object: Object) {
        let (key, differs) = match self.side {
            Side::Tenant => {
                let key = Key::new(self.kind, object.namespace(), object.name());
                let differs = self.differs_in_tenant(&key, &object);
                let (engine, tenant) = (self.engine, self.tenant);
                if differs && !intake::found_in_tenant(engine, tenant, &key, object) {
                    self.passes_over(key);
                    return;
                }
                (key, differs)
            }
            Side::Super => {
                let owner = meta::owner(&object);
                let Some(owner) = owner.filter(|owner| meta::is_in_place(&object, owner)) else {
                    return;
                };
                let key = Key::new(self.kind, &owner.namespace, &owner.name);
                if !intake::is_twin(self.tenant, &key, &object) {
                    // A copy that somebody made, marks included, stands for nothing, as when the watch tells of it.
                    return;
                }
                let known = self.tenant.table.get(&key).twin;
                let version = object.resource_version();
                if key.kind().mirrors() && known.as_ref().is_some_and(|it| it.mirrored < version) {
                    self.found.lock().unshown.push((key.clone(), version));
                }
                let (engine, tenant) = (self.engine, self.tenant);
                let differs = intake::seen_in_super(engine, tenant, &key, &object, &owner.uid)
                    || known.is_none_or(|known| known.baseline == 0);
                (key, differs)
            }
        };
        let mut found = self.found.lock();
        if differs {
            found.differing.push(key.clone());
        }
        found.seen.insert(key);
    }

    fn deleted(&self, _object: Object) {}

    fn listed(&self, _version: u64) {}

    fn interrupted(&self, _error: &Error) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, fake, numbered_tenant, tenant};

    #[tokio::test(start_paused = true)]
    async fn t42_tenants_that_answer_ever_so_slowly_keep_no_place_from_another() {
        let (cluster, _super_server) = fake();
        let engine = Arc::new(fake::engine(&cluster));
        let known = |number| {
            let (cluster, server) = fake();
            let tenant = Arc::new(numbered_tenant(number, &cluster));
            for kind in tenant.kinds() {
                tenant.gate.listed(kind, false);
            }
            (tenant, server)
        };
        let mut rounds = vec![];
        for number in 0..8 {
            let (tenant, mut server) = known(number);
            rounds.push(tokio::spawn(keep(engine.clone(), tenant)));
            rounds.push(tokio::spawn(async move {
                for page in 0.. {
                    server.wait().await;
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    let metadata = serde_json::json!({"continue": page.to_string()});
                    let body = serde_json::json!({"metadata": metadata, "items": [{}]});
                    server.answer("GET", 200, &body).await;
                }
            }));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (quiet, mut server) = known(9);
        rounds.push(tokio::spawn(keep(engine.clone(), quiet)));
        let asked = tokio::time::timeout(Duration::from_secs(180), server.wait());
        assert!(asked.await.is_ok());
        // By now all others are known to take long.
        let (quiet, mut server) = known(10);
        let began = Instant::now();
        rounds.push(tokio::spawn(keep(engine.clone(), quiet)));
        server.wait().await;
        assert!(began.elapsed() < Duration::from_secs(1));
        rounds.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_round_lists_what_nobody_watches_and_the_next_one_everything() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let engine = Arc::new(fake::engine(&above));
        let tenant = Arc::new(tenant(&own));
        for kind in tenant.kinds() {
            tenant.gate.listed(kind, false);
        }
        let rounds = tokio::spawn(keep(engine, tenant));
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let first = tenant_server.answer("GET", 200, &page).await;
        assert_eq!(first.path, "/api/v1/secrets");
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(tenant_server.is_silent() && super_server.is_silent());
        tenant_server.wait().await;
        let next = tenant_server.answer("GET", 200, &page).await;
        assert_eq!(next.path, "/api/v1/namespaces");
        rounds.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_cannot_be_watched_keeps_no_other_from_being_patrolled() {
        let ((above, _super_server), (own, mut tenant_server)) = (fake(), fake());
        let engine = Arc::new(fake::engine(&above));
        let tenant = Arc::new(tenant(&own));
        fake::list_all(&tenant);
        tenant
            .gate
            .interrupted(kind::index("Gateway"), "conversion webhook failed");
        let rounds = tokio::spawn(keep(engine, tenant));
        let page = serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": []});
        let first = tenant_server.answer("GET", 200, &page).await;
        assert_eq!(first.path, "/api/v1/secrets");
        rounds.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_whose_list_never_comes_keeps_no_other_from_being_patrolled_in_later_rounds() {
        let ((above, _super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        let (waited, from) = (Waited::default(), AtomicUsize::new(0));
        let (silent, mut begun) = (serde_json::json!({"kind": "Status", "code": 504}), vec![]);
        for _ in 0..2 {
            let (ended, asked) = tokio::join!(
                round(&engine, &tenant, Extent::All, &waited, &from),
                tenant_server.answer("GET", 504, &silent),
            );
            assert!(ended.is_err());
            begun.push(asked.path);
        }
        assert_eq!(begun, ["/api/v1/namespaces", "/api/v1/configmaps"]);
    }

    #[test]
    fn r10_what_came_while_the_lists_were_taken_is_no_difference() {
        let (cluster, _server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        let kind = kind::index("ConfigMap");
        let (there, here) = (
            Compared::new(&engine, &tenant, kind, Side::Tenant),
            Compared::new(&engine, &tenant, kind, Side::Super),
        );
        let key = Key::new(kind, "work", "settings");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
        conclude(&engine, &tenant, kind, &there, &here);
        assert_eq!(engine.down.depth(&tenant.id), 0);
        assert_eq!(tenant.table.get(&key).twin.unwrap().baseline, 1);
    }

    #[test]
    fn r10_a_difference_is_a_suspicion_that_queues_its_key_and_changes_nothing() {
        let (cluster, mut server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        let kind = kind::index("ConfigMap");
        let key = Key::new(kind, "work", "settings");
        tenant.table.update(&key, |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
        let (there, here) = (
            Compared::new(&engine, &tenant, kind, Side::Tenant),
            Compared::new(&engine, &tenant, kind, Side::Super),
        );
        conclude(&engine, &tenant, kind, &there, &here);
        assert_eq!(engine.down.depth(&tenant.id), 1);
        assert!(server.is_silent());
        let twin = tenant.table.get(&key).twin.unwrap();
        assert_eq!(twin.baseline, 0, "it is compared before it counts as right");
    }

    #[tokio::test]
    async fn r10_what_is_not_taken_in_is_no_difference_until_there_is_room() {
        let (cluster, _server) = fake();
        let (engine, mut tenant) = (fake::engine(&cluster), tenant(&cluster));
        tenant.table = Arc::new(fake::table_below(1));
        tenant.table.update(&web(), |entry| {
            entry.twin = Some(fake::super_side("s", "u"));
        });
        let kind = kind::index("Service");
        let key = Key::new(kind, "work", "many");
        let service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "many", "namespace": "work", "uid": "v", "resourceVersion": "5"},
            "spec": {"selector": {"app": "x"}},
        });
        let service = Object::from_value(service).unwrap();
        for is_taken_in in [false, true] {
            if is_taken_in {
                tenant.table.update(&web(), |entry| entry.twin = None);
            }
            let (there, here) = (
                Compared::new(&engine, &tenant, kind, Side::Tenant),
                Compared::new(&engine, &tenant, kind, Side::Super),
            );
            there.applied(service.clone());
            conclude(&engine, &tenant, kind, &there, &here);
            assert_eq!(tenant.untaken.count(), usize::from(!is_taken_in));
            assert_eq!(engine.down.has(&tenant.id, &key), is_taken_in);
            assert_eq!(tenant.table.get(&key).tenant.is_some(), is_taken_in);
        }
    }

    /// One namespace that hangs, or in which a right is missing, keeps nothing else from being looked at.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_listed_says_nothing_and_everything_else_is_looked_at() {
        let ((above, mut super_server), (own, mut tenant_server)) = (fake(), fake());
        let (engine, tenant) = (fake::engine(&above), tenant(&own));
        fake::list_all(&tenant);
        let secret = |namespace: &str| Key::new(kind::index("Secret"), namespace, "a");
        for name in ["ending", "forbidden", "whole"] {
            let namespace = Key::new(kind::index("Namespace"), "", name);
            for key in [namespace, secret(name)] {
                tenant.table.update(&key, |entry| {
                    let mut twin = fake::super_side("s", "u");
                    let is_ending = key.kind == kind::index("Namespace") && name == "ending";
                    twin.ending = is_ending.then_some(0);
                    entry.twin = Some(twin);
                });
            }
        }
        let empty = serde_json::json!({"metadata": {"resourceVersion": "9"}, "items": []});
        let forbidden =
            serde_json::json!({"kind": "Status", "code": 403, "message": "is forbidden: User"});
        let at_forbidden = intake::twin_path(&tenant, &secret("forbidden"));
        let at_forbidden = at_forbidden.rsplit_once('/').unwrap().0.to_owned();
        let asked = Mutex::new(vec![]);
        let answering = async {
            loop {
                tokio::select! {
                    () = tenant_server.wait() => {
                        tenant_server.answer("GET", 200, &empty).await;
                    }
                    () = super_server.wait() => {
                        let is_forbidden = super_server.awaited_path() == at_forbidden;
                        let (status, answer) = if is_forbidden { (403, &forbidden) } else { (200, &empty) };
                        let path = super_server.answer("GET", status, answer).await.path;
                        asked.lock().push(path);
                    }
                }
            }
        };
        let (waited, from) = (Waited::default(), AtomicUsize::new(0));
        let patrolled = tokio::select! {
            patrolled = round(&engine, &tenant, Extent::All, &waited, &from) => patrolled,
            () = answering => unreachable!("it answers for ever"),
        };
        let asked = asked.into_inner();
        assert!(matches!(patrolled, Err(Failure::Api(Error::Forbidden(_)))));
        let secrets = asked.iter().filter(|path| path.ends_with("/secrets"));
        assert_eq!(secrets.count(), 2);
        assert!(
            asked.iter().any(|path| path.ends_with("/services")),
            "{asked:?}"
        );
        let suspects =
            ["ending", "forbidden", "whole"].map(|name| engine.down.has(&tenant.id, &secret(name)));
        assert_eq!(suspects, [false, false, true]);
    }

    /// A pod of the tenant and its super pod, as they are listed at these versions.
    fn pods(tenant: &Tenant, versions: [u64; 2], phases: [&str; 2]) -> [Object; 2] {
        let pod = |uid: &str, namespace: &str, version: u64, phase: &str| {
            let pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web", "namespace": namespace, "uid": uid, "resourceVersion": version.to_string(),
                    "labels": {keys::TENANT: tenant.id.as_str()},
                    "annotations": {keys::NAMESPACE: "work", keys::NAME: "web", keys::UID: "u"},
                },
                "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": phase},
            });
            Object::from_value(pod).unwrap()
        };
        let [there, here] = versions;
        let above = intake::twin_name(tenant, &web()).namespace;
        [
            pod("u", "work", there, phases[0]),
            pod("s", &above, here, phases[1]),
        ]
    }

    fn web() -> Key {
        Key::new(kind::index("Pod"), "work", "web")
    }

    /// An engine that knows such a pod: `Pending` in the tenant at version 5, and shown as the super pod was at version 9.
    fn with_a_pod() -> (Engine, Tenant) {
        let (cluster, _server) = fake();
        let (engine, tenant) = (fake::engine(&cluster), tenant(&cluster));
        let [there, here] = pods(&tenant, [5, 9], ["Pending"; 2]);
        intake::found_in_tenant(&engine, &tenant, &web(), there);
        intake::seen_in_super(&engine, &tenant, &web(), &here, "u");
        tenant.table.update(&web(), |entry| {
            let twin = entry.twin.as_mut().unwrap();
            (twin.mirrored, twin.baseline) = (9, twin.state);
        });
        (engine, tenant)
    }

    /// What a round finds of that pod when it is listed so.
    async fn patrolled(engine: &Engine, tenant: &Tenant, listed: [Object; 2]) -> usize {
        while engine.down.depth(&tenant.id) > 0 {
            engine.down.next().await;
            engine.down.done(&tenant.id, &web());
        }
        let kind = web().kind;
        let [there, here] =
            [Side::Tenant, Side::Super].map(|side| Compared::new(engine, tenant, kind, side));
        let [above, below] = listed;
        there.applied(above);
        here.applied(below);
        conclude(engine, tenant, kind, &there, &here);
        tenant.suspected.lock().len()
    }

    #[tokio::test]
    async fn f11_a_status_of_a_super_pod_that_no_event_told_goes_up() {
        let (engine, tenant) = with_a_pod();
        let same = pods(&tenant, [5, 9], ["Pending"; 2]);
        assert_eq!(patrolled(&engine, &tenant, same).await, 0);
        let failed = pods(&tenant, [5, 10], ["Pending", "Failed"]);
        assert_eq!(patrolled(&engine, &tenant, failed).await, 1);
        assert!(engine.up.has(&tenant.id, &web()));
    }

    #[tokio::test]
    async fn a_status_that_is_about_to_go_up_is_no_difference() {
        let (engine, tenant) = with_a_pod();
        engine.up.add(&tenant.id, web());
        let late = pods(&tenant, [5, 10], ["Pending", "Running"]);
        assert_eq!(patrolled(&engine, &tenant, late).await, 0);
    }

    #[tokio::test]
    async fn f11_a_status_that_a_tenant_made_up_and_no_event_told_is_overwritten() {
        let (engine, tenant) = with_a_pod();
        let known = |tenant: &Tenant| tenant.table.get(&web()).tenant.unwrap();
        let shown = known(&tenant).projection;
        let forged = pods(&tenant, [6, 9], ["Succeeded", "Pending"]);
        assert_eq!(patrolled(&engine, &tenant, forged).await, 1);
        assert!(engine.up.has(&tenant.id, &web()));
        // Else it would be taken for shown already.
        assert_ne!(known(&tenant).projection, shown);
        assert!(tenant.down.take(&web()).is_none(), "it is read");
    }

    /// Else a deletion would be tied to the UID of the copy, and the twin stay until the next round.
    #[tokio::test]
    async fn r1_a_copy_of_a_super_object_under_another_name_is_not_taken_for_the_twin() {
        let (engine, tenant) = with_a_pod();
        let [_, mut copy] = pods(&tenant, [5, 11], ["Pending"; 2]);
        copy.value_mut()["metadata"]["name"] = "copy".into();
        copy.value_mut()["metadata"]["uid"] = "c".into();
        let here = Compared::new(&engine, &tenant, web().kind, Side::Super);
        here.applied(copy);
        let twin = tenant.table.get(&web()).twin.unwrap();
        assert_eq!((&*twin.uid, twin.version), ("s", 9));
        let found = here.found.into_inner();
        assert!(found.differing.is_empty() && found.lacks(&web()));
    }

    #[tokio::test]
    async fn what_a_write_of_ours_left_in_a_tenant_is_no_difference() {
        let (engine, tenant) = with_a_pod();
        tenant.table.update(&web(), |entry| {
            let side = entry.tenant.as_mut().unwrap();
            (side.answered, side.projection) = (6, 1);
        });
        let written = pods(&tenant, [6, 9], ["Running", "Pending"]);
        assert_eq!(patrolled(&engine, &tenant, written).await, 0);
    }
}
