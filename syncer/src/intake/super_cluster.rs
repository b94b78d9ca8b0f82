//! Events of the super cluster.

use super::{DEFINITION, Source, gone_in_super, identity, is_twin, note_addresses};
use crate::{
    engine::Engine,
    hosts, isolation, nodes,
    offered::News,
    quota, super_bytes,
    table::{Entry, Roll, SuperSide, known_by},
    tenants::Tenant,
    watch::Sink,
};
use serde_json::Value;
use std::{collections::HashSet, sync::Arc};
use tenancy::{
    arrival::KnownPart,
    kind::{self, SuperWatch},
    meta,
    object::Object,
    quota::bytes,
    tenant::{Key, TenantId},
};

/// Takes the events of one kind of the super cluster.
pub(crate) struct SuperSink {
    pub(crate) engine: Arc<Engine>,
    pub(crate) kind: u8,
    /// Where each object stands.
    pub(crate) roll: Roll,
    /// Whose twins they are, of tenants that others lead, too.
    pub(crate) owners: Roll<(TenantId, Key)>,
}

impl Sink for SuperSink {
    fn listing(&self) {
        self.roll.begin();
        self.owners.begin();
        if self.is("Pod") {
            // The pods that are listed dispel it.
            self.engine.slices.doubt_all(|_, _| false);
        }
    }

    /// A pod that the syncer has just made, as the answer to its request said already, or one of which only the status
    /// changed.
    fn knows(&self, change: &str, metadata: &Value) -> KnownPart {
        if !self.is("Pod") {
            return KnownPart::Nothing;
        }
        let (Some(owner), Some((_, uid, version))) = (meta::owner_in(metadata), identity(metadata))
        else {
            return KnownPart::Nothing;
        };
        let Some(tenant) = self.engine.tenant(&owner.tenant) else {
            return KnownPart::Nothing;
        };
        let key = Key::new(self.kind, &owner.namespace, &owner.name);
        let Some(twin) = tenant.table.get(&key).twin else {
            return KnownPart::Nothing;
        };
        if change == "MODIFIED" {
            // What it takes of a quota follows from its spec.
            if quota::is_counted(&tenant, &key) {
                return KnownPart::Nothing;
            }
            return known_by((&twin.uid, twin.edition), uid, metadata);
        }
        if *twin.uid != *uid || twin.version != version || twin.mirrored != version {
            return KnownPart::Nothing;
        }
        self.engine.super_seen(version);
        tenant.breakers.is_in_super(&key, &tenant.gate);
        KnownPart::All
    }

    fn applied(&self, object: Object) {
        match kind::rule(self.kind).super_watch() {
            SuperWatch::Owned => self.owned(object),
            SuperWatch::Published => self.published(object),
            SuperWatch::ByNamespace | SuperWatch::Placed => self.by_namespace(object),
            SuperWatch::Never => {}
        }
    }

    /// Only pods do.
    fn went_on(&self, object: Object, edition: u128) {
        let Some(owner) = meta::owner(&object) else {
            return;
        };
        self.addresses(&owner, &object);
        let Some(tenant) = self.engine.tenant(&owner.tenant) else {
            return;
        };
        let key = Key::new(self.kind, &owner.namespace, &owner.name);
        self.engine.super_seen(object.resource_version());
        if !is_twin(&tenant, &key, &object) {
            return;
        }
        let went_on = |entry: &mut Entry| went_on_in_super(entry, &key, &object, edition);
        if nodes::update(&self.engine, &tenant, &key, went_on) {
            self.tell(&tenant, key, Arc::new(object));
        } else {
            // Somebody took up another state meanwhile: both directions read.
            tenant.up.take(&key);
            self.engine.down.add(&tenant.id, key.clone());
            self.engine.up.add(&tenant.id, key);
        }
    }

    fn deleted(&self, object: Object) {
        match kind::rule(self.kind).super_watch() {
            SuperWatch::Owned => {
                hosts::gone(&self.engine, self.kind, &object);
                if self.is("Pod") {
                    let slices = &self.engine.slices;
                    slices.seen(None, &kind::own_addresses(&object));
                } else if self.is("EndpointSlice") {
                    self.engine.slices.forget(&self.place(&object));
                }
                let Some(owner) = meta::owner(&object) else {
                    isolation::gone(&self.engine, &object);
                    return;
                };
                let key = Key::new(self.kind, &owner.namespace, &owner.name);
                if self.ended(&owner.tenant, &key, object.uid()) {
                    self.work_again(&owner.tenant, key, &owner.uid);
                }
                if self.is("Namespace") {
                    self.engine.twins.remove(object.name());
                }
            }
            SuperWatch::Published => {
                self.withdrawn(&self.published_key(&object));
            }
            SuperWatch::Placed => {
                if let Some((id, key)) = self.placed_key(&object)
                    && let Some(tenant) = self.engine.tenant(&id)
                {
                    tenant.up.take(&key);
                    self.engine.up.add(&id, key);
                }
            }
            SuperWatch::ByNamespace | SuperWatch::Never => {}
        }
    }

    fn listed(&self, version: u64) {
        let (seen, owners) = (self.roll.end(), self.owners.end());
        if self.is("Pod") {
            self.engine.super_pods_listed(version);
        }
        isolation::listed(&self.engine, self.kind, &seen);
        hosts::listed(&self.engine, self.kind, &seen);
        if self.is("EndpointSlice") {
            self.engine.slices.listed(&seen);
        }
        if kind::rule(self.kind).super_watch() == SuperWatch::Owned {
            for id in self.engine.known() {
                self.unlisted(&id, version, &owners);
            }
        }
        for key in self.engine.offered.missing(self.kind, &seen) {
            self.withdrawn(&key);
        }
        for tenant in self.engine.served() {
            // What was refused since the super cluster didn't serve the kind.
            for key in tenant.table.keys(self.kind, |entry| entry.refused) {
                self.engine.down.add(&tenant.id, key);
            }
        }
        self.engine.super_listed(self.kind);
    }

    fn absent(&self) {
        self.roll.end();
        self.owners.end();
        if self.is("EndpointSlice") {
            self.engine.slices.listed(&HashSet::new());
        }
        for key in self.engine.offered.of(self.kind) {
            self.withdrawn(&key);
        }
        for id in self.engine.known() {
            let table = self.engine.table(&id);
            for (key, uid, _) in table.unlisted(self.kind, u64::MAX, |_| false) {
                self.ended(&id, &key, &uid);
                if self.engine.tenant(&id).is_some() {
                    self.engine.down.add(&id, key);
                }
            }
        }
        self.engine.super_listed(self.kind);
    }
}

impl SuperSink {
    fn is(&self, name: &str) -> bool {
        kind::rule(self.kind).resource().kind == name
    }

    /// The super object with this UID is gone; true if it was the twin that is known.
    fn ended(&self, id: &TenantId, key: &Key, uid: &str) -> bool {
        match self.engine.tenant(id) {
            Some(tenant) => gone_in_super(&self.engine, &tenant, key, uid),
            None => self.engine.table(id).super_gone(key, uid),
        }
    }

    /// A tenant's twins that a complete list lacks, whoever leads it: those that were there before are gone.
    fn unlisted(&self, id: &TenantId, version: u64, owners: &HashSet<(TenantId, Key)>) {
        let (table, tenant) = (self.engine.table(id), self.engine.tenant(id));
        let is_listed = |key: &Key| owners.contains(&(id.clone(), key.clone()));
        let missing = table.unlisted(self.kind, version, is_listed);
        if let Some(tenant) = tenant.as_ref().filter(|_| self.is("Pod")) {
            let keys = missing.iter().map(|(key, _, _)| key.clone());
            tenant.breakers.missing_in_super(keys.collect());
        }
        for (key, uid, is_gone) in missing {
            if is_gone {
                self.ended(id, &key, &uid);
            }
            if is_gone && self.is("Namespace") {
                let is_its = |(owner, namespace): &(TenantId, Arc<str>)| {
                    owner == id && *namespace == key.name
                };
                self.engine.twins.retain(|_, whose| !is_its(whose));
            }
            if let Some(tenant) = &tenant {
                if is_gone && self.is("Pod") {
                    note_addresses(&self.engine, tenant, &key, None);
                }
                // Gone while nobody watched, or made since: both directions read live.
                table.suspect(&key);
                tenant.up.take(&key);
                self.engine.down.add(id, key.clone());
                self.engine.up.add(id, key);
            }
        }
    }

    /// An object that carries a tenant's marks.
    fn owned(&self, object: Object) {
        let place = self.place(&object);
        self.roll.mark(&place);
        let Some(owner) = meta::owner(&object) else {
            isolation::seen(&self.engine, &object);
            return;
        };
        self.addresses(&owner, &object);
        if !meta::is_in_place(&object, &owner) {
            // A copy that somebody made of a super object, marks included, is nobody's twin, and takes no hosts.
            return;
        }
        hosts::seen(&self.engine, &place, &owner, &object);
        let key = Key::new(self.kind, &owner.namespace, &owner.name);
        if self.is("Pod") {
            // Whoever leads its tenant: by this the next leader knows that the super cluster didn't go back.
            self.engine.super_seen(object.resource_version());
        }
        let tenant = self.engine.tenant(&owner.tenant);
        if tenant
            .as_ref()
            .is_some_and(|tenant| !is_twin(tenant, &key, &object))
        {
            // Nor is one of another name.
            return;
        }
        if self.is("Namespace") {
            self.engine.twins.insert(
                object.name().to_owned(),
                (owner.tenant.clone(), owner.name.as_str().into()),
            );
        }
        self.owners.mark(&(owner.tenant.clone(), key.clone()));
        let table = self.engine.table(&owner.tenant);
        let state = (meta::state(&object), key.kind().edition(&object));
        let source = Source::of(&self.roll);
        let (version, bytes) = (object.resource_version(), bytes::of(&object));
        let note = |entry: &mut Entry| {
            let news = note(entry, &key, &object, &owner.uid, state, source);
            entry.weigh(version, bytes);
            news
        };
        let seen = match &tenant {
            Some(tenant) => nodes::update(&self.engine, tenant, &key, note),
            None => table.update(&key, note),
        };
        let object = Arc::new(object);
        if self.roll.is_open() && !self.engine.is_ready() {
            table.keep_unjudged(&key, &object);
        }
        let Some(tenant) = tenant else { return };
        quota::exists(&self.engine, &tenant, &key, &object);
        super_bytes::freed(&self.engine, &tenant);
        if seen.is_drifted {
            self.engine.down.add(&tenant.id, key.clone());
        }
        self.tell(&tenant, key.clone(), object);
        if seen.is_older {
            // Both directions read live.
            tenant.up.take(&key);
        }
    }

    /// Where an object stands in the super cluster.
    fn place(&self, object: &Object) -> Key {
        Key::new(self.kind, object.namespace(), object.name())
    }

    /// A pod that has addresses, or a slice that leads to some, whoever leads its tenant (T17).
    fn addresses(&self, owner: &meta::Owner, object: &Object) {
        let slices = &self.engine.slices;
        // A copy out of its place is nobody's.
        let is_in_place = meta::is_in_place(object, owner);
        if self.is("Pod") {
            let runs = is_in_place && !kind::is_finished(object);
            let whose = runs.then_some(&owner.tenant);
            slices.seen(whose, &kind::own_addresses(object));
        } else if self.is("EndpointSlice") && is_in_place {
            let tenant = self.engine.tenant(&owner.tenant);
            let is_known = |address| {
                let index = tenant.as_ref().map(|tenant| &tenant.index);
                index.is_some_and(|index| index.is_pod_address(address))
            };
            let addresses = kind::endpoint_addresses(object);
            slices.name(&self.place(object), &owner.tenant, addresses, is_known);
        }
    }

    /// The twin's state goes up.
    fn tell(&self, tenant: &Tenant, key: Key, object: Arc<Object>) {
        if self.is("Pod") {
            tenant.breakers.is_in_super(&key, &tenant.gate);
            note_addresses(&self.engine, tenant, &key, Some(&object));
        }
        if kind::rule(self.kind).mirrors() {
            tenant.up.put(key.clone(), object);
            self.engine.up.add(&tenant.id, key);
        }
    }

    fn published_key(&self, object: &Object) -> Key {
        published_key(self.kind, object)
    }

    /// A published object is gone.
    fn withdrawn(&self, key: &Key) {
        self.engine.offered.gone(key);
        withdraw(&self.engine, key);
    }

    fn published(&self, object: Object) {
        let key = self.published_key(&object);
        self.roll.mark(&key);
        let news = self.engine.offered.note(&key, &object);
        publish(&self.engine, &key, object, news);
    }

    /// Whose an object is by the namespace that it is in or names, and under which key.
    fn placed_key(&self, object: &Object) -> Option<(TenantId, Key)> {
        let rule = kind::rule(self.kind);
        let (id, namespace) = self
            .engine
            .twins
            .get(rule.placed_in(object))?
            .value()
            .clone();
        let namespace = if rule.resource().namespaced {
            &*namespace
        } else {
            ""
        };
        Some((id, Key::new(self.kind, namespace, object.name())))
    }

    fn by_namespace(&self, object: Object) {
        let Some((id, key)) = self.placed_key(&object) else {
            return;
        };
        let Some(tenant) = self.engine.tenant(&id) else {
            return;
        };
        tenant.up.put(key.clone(), Arc::new(object));
        self.engine.up.add(&id, key);
    }

    /// The twin of the tenant's object with this UID is gone.
    fn work_again(&self, id: &TenantId, key: Key, owner_uid: &str) {
        let Some(tenant) = self.engine.tenant(id) else {
            return;
        };
        tenant.up.take(&key);
        if self.is("Pod") {
            let now = tenant.table.get(&key).tenant;
            // Of a pod that was made anew under that name it tells nothing.
            if now.is_none_or(|side| *side.uid == *owner_uid) {
                tenant.breakers.deleted_in_super(key.clone(), &tenant.gate);
            }
            note_addresses(&self.engine, &tenant, &key, None);
            self.engine.up.add(id, key.clone());
        }
        self.engine.down.add(id, key);
    }
}

/// The key of a published object.
pub(crate) fn published_key(kind: u8, object: &Object) -> Key {
    let namespace = kind::rule(kind).published_namespace();
    Key::new(kind, namespace, object.name())
}

/// A published object is there, and each tenant is shown it as its rules say.
pub(crate) fn publish(engine: &Engine, key: &Key, object: Object, news: News) {
    if news == News::None {
        return;
    }
    kinds_changed(engine, key);
    if news == News::Offer {
        for tenant in engine.served() {
            engine.reconsider(&tenant);
        }
    }
    let object = Arc::new(object);
    for tenant in engine.served() {
        tenant.up.share(key.clone(), object.clone());
        engine.up.add(&tenant.id, key.clone());
    }
}

/// A published object is gone, and each tenant loses its copy.
pub(crate) fn withdraw(engine: &Engine, key: &Key) {
    kinds_changed(engine, key);
    for tenant in engine.served() {
        tenant.up.take(key);
        engine.up.add(&tenant.id, key.clone());
    }
}

/// A definition makes a kind, or takes one away.
fn kinds_changed(engine: &Engine, key: &Key) {
    if key.kind().resource().kind == DEFINITION {
        engine.cluster.kinds_changed();
    }
}

/// The super object exists in this state; returns whether somebody else edited it.
pub(crate) fn seen_in_super(
    engine: &Engine,
    tenant: &Tenant,
    key: &Key,
    object: &Object,
    owner_uid: &str,
) -> bool {
    let state = (meta::state(object), key.kind().edition(object));
    let (version, bytes) = (object.resource_version(), bytes::of(object));
    let seen = |entry: &mut Entry| {
        let news = note(entry, key, object, owner_uid, state, Source::Event);
        entry.weigh(version, bytes);
        news
    };
    nodes::update(engine, tenant, key, seen).is_drifted
}

/// The super object exists in this state, of which only the status is new; returns whether it is still known.
fn went_on_in_super(entry: &mut Entry, key: &Key, object: &Object, edition: u128) -> bool {
    let is_known = |twin: &&SuperSide| *twin.uid == *object.uid() && twin.edition == edition;
    let Some(twin) = entry.twin.as_ref().filter(is_known) else {
        return false;
    };
    let (owner_uid, state) = (twin.owner_uid.clone(), (twin.state, edition));
    note(entry, key, object, &owner_uid, state, Source::Event);
    true
}

/// What a state of a super object means.
#[derive(Default)]
struct SuperNews {
    /// Somebody else edited it.
    is_drifted: bool,
    /// A later state was known, or went up.
    is_older: bool,
}

/// Notes a super object with its fingerprint and edition.
fn note(
    entry: &mut Entry,
    key: &Key,
    object: &Object,
    owner_uid: &str,
    (state, edition): (u128, u128),
    source: Source,
) -> SuperNews {
    let node = entry.node(nodes::of(key, object));
    let known = entry.twin.take().filter(|twin| *twin.uid == *object.uid());
    let version = object.resource_version();
    let is_known = |twin: &SuperSide| twin.version > version;
    if source == Source::Event && known.as_ref().is_some_and(is_known) {
        entry.twin = known;
        return SuperNews::default();
    }
    let is_later = |twin: &SuperSide| twin.version.max(twin.mirrored) > version;
    let is_older = source == Source::List && known.as_ref().is_some_and(is_later);
    let baseline = known.as_ref().map_or(0, |twin| twin.baseline);
    let is_drifted = baseline != 0 && baseline != state && !object.is_terminating();
    entry.twin = Some(SuperSide {
        uid: object.uid().into(),
        version,
        owner_uid: owner_uid.into(),
        applied: meta::applied(object),
        state,
        edition,
        baseline: if is_drifted { 0 } else { baseline },
        ending: object.ending(),
        mirrored: known.map_or(0, |twin| twin.mirrored),
        counter: meta::restore_counter(object),
        node,
    });
    SuperNews {
        is_drifted,
        is_older,
    }
}
