//! Events of a tenant's API server.

use super::{DEFINITION, Source, identity, is_twin, note_addresses};
use crate::{
    engine::Engine,
    error::Error,
    gate::Hold,
    nodes,
    table::{Entry, Roll, TenantSide, UNDER_WAY, known_by},
    tenants::Tenant,
    unserved, untaken,
    watch::Sink,
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use std::sync::Arc;
use tenancy::{
    arrival::KnownPart,
    kind::{self, Kind},
    meta,
    object::Object,
    tenant::Key,
};

/// Takes the events of one kind of one tenant.
pub(crate) struct TenantSink {
    pub(crate) engine: Arc<Engine>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) kind: u8,
    pub(crate) roll: Roll,
}

impl Sink for TenantSink {
    fn listing(&self) {
        self.roll.begin();
    }

    /// The state that the syncer's own write of a status left behind, or one in which the tenant asks for the same.
    fn knows(&self, change: &str, metadata: &Value) -> KnownPart {
        let Some(((namespace, name), uid, version)) = identity(metadata) else {
            return KnownPart::Nothing;
        };
        if change != "MODIFIED" {
            return KnownPart::Nothing;
        }
        let key = Key::new(self.kind, namespace, name);
        let known = self.tenant.table.update(&key, |entry| {
            let Some(side) = &mut entry.tenant else {
                return KnownPart::Nothing;
            };
            if *side.uid == *uid && side.answered == version {
                side.version = side.version.max(version);
                return KnownPart::All;
            }
            known_by((&side.uid, side.edition), uid, metadata)
        });
        if known == KnownPart::All {
            let resource = key.kind().resource();
            self.tenant.marks.seen(resource.plural, version);
        }
        known
    }

    fn applied(&self, object: Object) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        let source = Source::of(&self.roll);
        let (engine, tenant) = (&self.engine, &self.tenant);
        let known = KnownPart::Nothing;
        if seen_in_tenant(engine, tenant, key.clone(), object, source, known) {
            self.roll.mark(&key);
        } else {
            self.pass_over();
        }
    }

    fn went_on(&self, object: Object, edition: u128) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        let (engine, tenant, known) = (&self.engine, &self.tenant, KnownPart::Spec(edition));
        seen_in_tenant(engine, tenant, key, object, Source::Event, known);
    }

    fn deleted(&self, object: Object) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        self.tenant.down.take(&key);
        if key.kind().resource().kind == DEFINITION {
            self.tenant.cluster.kinds_changed();
            unserved::undefined(&self.engine, &self.tenant, object.name());
        }
        self.tenant
            .marks
            .seen(key.kind().resource().plural, object.resource_version());
        if is_mark(&object) {
            self.tenant.marks.look_again();
        }
        if self.is_unknown(&key) {
            // It was never taken in. Of very many that go at once no key waits.
            return;
        }
        if self.tenant.table.get(&key).twin.is_some() {
            self.tenant
                .breakers
                .deleted_in_tenant(key.clone(), &self.tenant.gate);
        }
        self.engine.down.add(&self.tenant.id, key.clone());
        if !key.kind().goes_down() {
            self.tenant.table.update(&key, |entry| entry.tenant = None);
            self.engine.up.add(&self.tenant.id, key);
        }
    }

    fn listed(&self, version: u64) {
        let (seen, passed) = (self.roll.end(), self.roll.passed());
        untaken::counted(&self.tenant, self.kind, passed.count);
        let plural = kind::rule(self.kind).resource().plural;
        // A list that is older than what was seen before freezes deletions before any is decided by it.
        let judged = self.tenant.marks.listed(plural, version);
        if let Err(why) = &judged {
            self.tenant.gate.hold(Hold::WentBack, Some(why.to_string()));
        }
        let known = self.tenant.table.keys(self.kind, |entry| {
            entry.tenant.is_some() || entry.twin.is_some()
        });
        // What is newer than the list, such as a node that was just published, says nothing about it; unless the store
        // went back.
        let was_there = |key: &Key| {
            let side = self.tenant.table.get(key).tenant;
            side.is_some_and(|side| side.version <= version || judged.is_err())
        };
        let is_empty = seen.is_empty() && passed.count == 0;
        let emptied = is_empty && known.iter().any(was_there);
        let missing: Vec<Key> = known
            .into_iter()
            .filter(|key| !seen.contains(key))
            .collect();
        let twins = missing
            .iter()
            .filter(|key| passed.lacks(key) && self.tenant.table.get(key).twin.is_some());
        self.tenant
            .breakers
            .missing_in_tenant(twins.cloned().collect());
        let is_known = self.tenant.gate.listed(self.kind, emptied);
        for key in missing {
            // A suspicion only: the worker reads live.
            self.doubt(key);
        }
        if !kind::rule(self.kind).goes_down() {
            // The tenant may have come to serve the kind only now.
            for key in self.engine.offered.of(self.kind) {
                self.engine.up.add(&self.tenant.id, key);
            }
        }
        if is_known {
            self.engine.work_missing(&self.tenant);
        }
    }

    fn is_doubtful(&self) -> bool {
        self.tenant.gate.is_emptied(self.kind)
    }

    fn contradiction(&self) -> BoxFuture<'_, ()> {
        self.tenant.gate.contradiction(self.kind).boxed()
    }

    fn absent(&self) {
        let twins = self
            .tenant
            .table
            .keys(self.kind, |entry| entry.twin.is_some());
        self.tenant.breakers.missing_in_tenant(twins);
        untaken::counted(&self.tenant, self.kind, 0);
        let is_known = self.tenant.gate.absent(self.kind);
        for key in self.tenant.table.keys(self.kind, |_| true) {
            self.doubt(key);
        }
        if is_known {
            self.engine.work_missing(&self.tenant);
        }
    }

    fn interrupted(&self, error: &Error) {
        self.tenant.gate.interrupted(self.kind, &error.to_string());
    }
}

impl TenantSink {
    /// An object that a list told of isn't taken in, and isn't missing either.
    fn pass_over(&self) {
        let table = &self.tenant.table;
        let twins = || table.keys(self.kind, |entry| entry.twin.is_some());
        self.roll.pass_over(|| twins().into_iter().collect());
    }

    /// Whether nothing is known of an object where not all is taken in, and nobody is about to work it: then there is nothing of
    /// it in the super cluster, and nothing comes to be there.
    fn is_unknown(&self, key: &Key) -> bool {
        let (engine, tenant) = (&self.engine, &self.tenant);
        tenant.untaken.has(self.kind)
            && !engine.down.has(&tenant.id, key)
            && !engine.up.has(&tenant.id, key)
            && engine.offered.version(key).is_none()
            && !tenant.table.has(key)
    }

    /// The object may be gone: the worker reads live.
    fn doubt(&self, key: Key) {
        if key.kind().goes_down() {
            self.tenant.down.take(&key);
            self.engine.down.add(&self.tenant.id, key);
        } else {
            self.engine.up.add(&self.tenant.id, key);
        }
    }
}

/// Whether it is the tenant's own mark ([`crate::marks`]).
fn is_mark(object: &Object) -> bool {
    (object.namespace(), object.name()) == ("kube-system", api::MARK_NAME)
}

/// What a state of a tenant's object means.
#[derive(Default)]
struct TenantNews {
    downward: bool,
    upward: bool,
    /// A later state was known: either an answer came before the list that it is newer than, or the store went back. It is
    /// read live before it is worked.
    is_older: bool,
    /// Node that the pod was bound to before and isn't now.
    left: Option<Arc<str>>,
}

/// The tenant's object exists in this state, of which the spec was read unless it is known. Returns whether it is taken in.
fn seen_in_tenant(
    engine: &Engine,
    tenant: &Tenant,
    key: Key,
    object: Object,
    source: Source,
    known: KnownPart,
) -> bool {
    let rule = key.kind();
    if (object.namespace(), object.name()) == ("kube-system", api::QUOTA_NAME) {
        tenant.quota.look_again();
    }
    if !is_mark(&object) {
        // The mark itself would be news for ever.
        tenant
            .marks
            .seen(rule.resource().plural, object.resource_version());
    }
    if !rule.goes_down() {
        return seen_published(engine, tenant, key, &object);
    }
    if !tenant.table.takes_in(&key) {
        untaken::met(tenant, key.kind);
        if tenant.index.is_referenced(&key) {
            // It is read and goes down all the same, and is known then.
            engine.down.add(&tenant.id, key);
        }
        return false;
    }
    if object.is_terminating() {
        tenant.breakers.deleted_in_tenant(key.clone(), &tenant.gate);
    }
    let projection = meta::fingerprint(&rule.up_projection(&object));
    let (intent, edition) = match known {
        KnownPart::Spec(edition) => (0, edition),
        _ => (rule.intent(&object), rule.edition(&object)),
    };
    let mut side = TenantSide {
        uid: object.uid().into(),
        version: object.resource_version(),
        answered: 0,
        intent,
        edition,
        projection,
        node: None,
    };
    let node = nodes::of(&key, &object);
    let noted = tenant.table.update(&key, |entry| {
        side.node = entry.node(node);
        take_up(entry, side, rule, source, known)
    });
    let Some(seen) = noted else {
        // Somebody took up another state meanwhile: the worker reads.
        tenant.down.take(&key);
        engine.down.add(&tenant.id, key);
        return true;
    };
    nodes::moved(engine, tenant, seen.left.as_deref(), None);
    let entry = tenant.table.get(&key);
    if !entry.is_outlived() && !object.is_terminating() {
        tenant.breakers.is_in_tenant(&key, &tenant.gate);
    }
    if rule.resource().kind == "Pod"
        && entry.twin.is_none()
        && kind::was_bound(&object)
        && !object.is_terminating()
        && !kind::is_finished(&object)
    {
        tenant.breakers.missing_in_super(vec![key.clone()]);
    }
    if seen.downward || seen.is_older {
        index(engine, tenant, &key, Some(&object));
        if seen.is_older {
            tenant.down.take(&key);
        } else {
            tenant.down.put(key.clone(), Arc::new(object));
        }
        engine.down.add(&tenant.id, key.clone());
    }
    if seen.upward {
        show(engine, tenant, key);
    }
    true
}

/// Puts a state into the table and says what it means; `None` if its spec wasn't read and isn't the one that is known.
fn take_up(
    entry: &mut Entry,
    mut side: TenantSide,
    rule: &dyn Kind,
    source: Source,
    known: KnownPart,
) -> Option<TenantNews> {
    let before = entry
        .tenant
        .as_ref()
        .filter(|before| before.uid == side.uid);
    let is_older = before.is_some_and(|before| before.version > side.version);
    if is_older && source == Source::Event {
        return Some(TenantNews::default());
    }
    if matches!(known, KnownPart::Spec(_)) {
        side.intent = before
            .filter(|before| before.edition == side.edition)?
            .intent;
    }
    let downward = before.is_none_or(|before| before.intent != side.intent);
    let is_written = |before: &&TenantSide| match source {
        Source::Event => before.answered > side.version,
        Source::List => before.answered == UNDER_WAY,
    };
    if let Some(before) = before.filter(is_written) {
        // What it shows was written since.
        (side.answered, side.projection) = (before.answered, before.projection);
    }
    // What goes up was written by the tenant itself, or not yet by us.
    let upward = rule.mirrors()
        && entry.twin.is_some()
        && before.is_none_or(|before| before.projection != side.projection);
    let node = side.node.clone();
    let left = entry.tenant.replace(side).and_then(|side| side.node);
    Some(TenantNews {
        downward,
        upward,
        is_older,
        left: left.filter(|left| node.as_ref() != Some(left)),
    })
}

/// A patrol found a state of the tenant's object that no event told. It is read live before it is worked (R10). Returns whether
/// it is taken in.
pub(crate) fn found_in_tenant(engine: &Engine, tenant: &Tenant, key: &Key, object: Object) -> bool {
    let (source, known) = (Source::Event, KnownPart::Nothing);
    let is_taken_in = seen_in_tenant(engine, tenant, key.clone(), object, source, known);
    tenant.down.take(key);
    is_taken_in
}

/// The object was read, and has a twin by now: if it wasn't taken in before, since there was no room, it is known from now on.
pub(crate) fn take_in_late(engine: &Engine, tenant: &Tenant, key: &Key, object: &Object) {
    let is_new = || {
        let entry = tenant.table.get(key);
        entry.tenant.is_none() && entry.twin.is_some()
    };
    if tenant.untaken.has(key.kind) && is_new() {
        found_in_tenant(engine, tenant, key, object.clone());
    }
}

/// What the super object says goes up. At a start that was listed before anybody knew of the tenant.
fn show(engine: &Engine, tenant: &Tenant, key: Key) {
    let listed = tenant.table.unjudged(&key);
    if let Some(twin) = listed.filter(|twin| is_twin(tenant, &key, twin)) {
        if key.kind().resource().kind == "Pod" {
            note_addresses(engine, tenant, &key, Some(&twin));
        }
        tenant.up.offer(key.clone(), twin);
    }
    engine.up.add(&tenant.id, key);
}

/// The tenant's object is gone, as a live read said; `known` is the UID that was known before the read.
///
/// An object that was created again meanwhile has told its own event, and stays.
pub(crate) fn gone_in_tenant(engine: &Engine, tenant: &Tenant, key: &Key, known: Option<&str>) {
    let gone = tenant.table.update(key, |entry| {
        let same = entry
            .tenant
            .as_ref()
            .is_some_and(|side| Some(&*side.uid) == known);
        if !same {
            return None;
        }
        entry.renew_at = None;
        entry.tenant.take()
    });
    if let Some(side) = gone {
        nodes::moved(engine, tenant, side.node.as_deref(), None);
        index(engine, tenant, key, None);
    }
    tenant.breakers.is_in_super(key, &tenant.gate);
}

/// Keeps the indexes, and works again what a change in them affects.
fn index(engine: &Engine, tenant: &Tenant, key: &Key, object: Option<&Object>) {
    let rule = key.kind();
    match rule.resource().kind {
        "Namespace" if tenant.index.namespace(&key.name, object) => {
            let follows = |key: &Key, _: &Entry| key.kind().follows_namespaces();
            for follower in tenant.table.all_keys(follows) {
                engine.down.add(&tenant.id, follower);
            }
        }
        "NetworkPolicy" if tenant.index.policy(key, object) => {
            // Which policies rule a pod stands on its twin.
            work_beside(engine, tenant, key, "Pod");
        }
        "Service" if tenant.index.service(key, object) => {
            work_beside(engine, tenant, key, "EndpointSlice");
        }
        _ => {}
    }
    let references = object
        .map(|object| rule.references(object, &tenant.rules().custom))
        .unwrap_or_default();
    let change = tenant.index.refer(key, &references);
    for needed in change.needed {
        engine.down.add(&tenant.id, needed);
    }
    for unneeded in change.unneeded {
        engine
            .down
            .add_after(&tenant.id, unneeded, engine.unneeded_period);
    }
}

/// Works again all objects of a kind that are in the namespace of `key`.
fn work_beside(engine: &Engine, tenant: &Tenant, key: &Key, kind: &str) {
    let kind = kind::index(kind);
    let is_beside = |other: &Key, _: &Entry| other.kind == kind && other.namespace == key.namespace;
    for other in tenant.table.all_keys(is_beside) {
        engine.down.add(&tenant.id, other);
    }
}

/// A published object in the tenant: repaired when it isn't as it was written. Returns whether it is taken in.
fn seen_published(engine: &Engine, tenant: &Tenant, key: Key, object: &Object) -> bool {
    if key.kind().resource().kind == DEFINITION {
        tenant.cluster.kinds_changed();
        if !key.kind().is_published_copy(object) && !tenant.table.is_published(&key) {
            // The tenant's own; there may be many.
            return true;
        }
    }
    // What the super cluster has is brought to the tenant whether its copy is known or not.
    if !tenant.table.takes_in(&key) && engine.offered.version(&key).is_none() {
        untaken::met(tenant, key.kind);
        return false;
    }
    let state = meta::fingerprint(&key.kind().published_state(object));
    let differs = tenant.table.update(&key, |entry| {
        let differs = entry.published != state;
        entry.tenant = Some(TenantSide::published(object, state));
        differs
    });
    if differs {
        engine.up.add(&tenant.id, key);
    }
    true
}
