//! Turns events of both sides into fingerprints and keys.

use crate::{
    client::Error,
    engine::Engine,
    gate::Hold,
    hosts, isolation,
    offered::News,
    quota,
    table::{Entry, Roll, SuperSide, Table, TenantSide},
    tenants::Tenant,
    watch::Sink,
};
use std::{sync::Arc, time::Duration};
use tenancy::{
    kind::{self, SuperWatch},
    meta,
    object::Object,
    tenant::{Key, TenantId},
};

/// A ConfigMap or Secret that nothing refers to stays for so long: the next pod of a Job needs it again.
const UNNEEDED_STAYS: Duration = Duration::from_secs(60);

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

    fn applied(&self, object: Object) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        self.roll.mark(&key);
        seen_in_tenant(&self.engine, &self.tenant, key, object);
    }

    fn deleted(&self, object: Object) {
        let key = Key::new(self.kind, object.namespace(), object.name());
        self.tenant.down.take(&key);
        if key.kind().resource().kind == DEFINITION {
            self.tenant.cluster.kinds_changed();
        }
        self.tenant
            .marks
            .seen(key.kind().resource().plural, object.resource_version());
        if self.tenant.table.get(&key).twin.is_some() {
            self.tenant.breakers.deleted_in_tenant(key.clone());
        }
        self.engine.down.add(&self.tenant.id, key.clone());
        if !key.kind().goes_down() {
            self.tenant.table.update(&key, |entry| entry.tenant = None);
            self.engine.up.add(&self.tenant.id, key);
        }
    }

    fn listed(&self, version: u64) {
        let seen = self.roll.end();
        let plural = kind::rule(self.kind).resource().plural;
        // A list that is older than what was seen before freezes deletions before any is decided by it.
        if let Err(why) = self.tenant.marks.listed(plural, version) {
            self.tenant.gate.hold(Hold::WentBack, Some(why.to_string()));
        }
        let known = self.tenant.table.keys(self.kind, |entry| {
            entry.tenant.is_some() || entry.twin.is_some()
        });
        let emptied = seen.is_empty()
            && known
                .iter()
                .any(|key| self.tenant.table.get(key).tenant.is_some());
        let missing: Vec<Key> = known
            .into_iter()
            .filter(|key| !seen.contains(key))
            .collect();
        let twins = missing
            .iter()
            .filter(|key| self.tenant.table.get(key).twin.is_some());
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

    fn absent(&self) {
        let twins = self
            .tenant
            .table
            .keys(self.kind, |entry| entry.twin.is_some());
        self.tenant.breakers.missing_in_tenant(twins);
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
    /// The object may be gone: the worker reads live.
    fn doubt(&self, key: Key) {
        if key.kind().goes_down() {
            self.engine.down.add(&self.tenant.id, key);
        } else {
            self.engine.up.add(&self.tenant.id, key);
        }
    }
}

/// The tenant's object exists in this state.
pub(crate) fn seen_in_tenant(engine: &Engine, tenant: &Tenant, key: Key, object: Object) {
    let rule = key.kind();
    let is_mark = (object.namespace(), object.name()) == ("kube-system", api::MARK_NAME);
    if (object.namespace(), object.name()) == ("kube-system", api::QUOTA_NAME) {
        tenant.quota.look_again();
    }
    if !is_mark {
        // The mark itself would be news for ever.
        tenant
            .marks
            .seen(rule.resource().plural, object.resource_version());
    }
    if !rule.goes_down() {
        return seen_published(engine, tenant, key, &object);
    }
    if object.is_terminating() {
        tenant.breakers.deleted_in_tenant(key.clone());
    }
    let projection = meta::fingerprint(&rule.up_projection(&object));
    let side = TenantSide {
        uid: object.uid().into(),
        version: object.resource_version(),
        intent: rule.intent(&object),
        projection,
        node: object
            .text("/spec/nodeName")
            .filter(|node| !node.is_empty())
            .map(Arc::from),
    };
    let (downward, upward) = tenant.table.update(&key, |entry| {
        let older = entry
            .tenant
            .as_ref()
            .is_some_and(|known| *known.uid == *side.uid && known.version > side.version);
        if older {
            return (false, false);
        }
        let known = entry.tenant.as_ref().filter(|known| known.uid == side.uid);
        let downward = known.is_none_or(|known| known.intent != side.intent);
        // What goes up was written by the tenant itself, or not yet by us.
        let upward =
            entry.twin.is_some() && known.is_none_or(|known| known.projection != side.projection);
        entry.tenant = Some(side);
        (downward, upward)
    });
    let entry = tenant.table.get(&key);
    if !entry.is_outlived() && !object.is_terminating() {
        tenant.breakers.is_in_tenant(&key, &tenant.gate);
    }
    if rule.resource().kind == "Pod"
        && entry.twin.is_none()
        && kind::pins_node(&object)
        && !object.is_terminating()
        && !kind::is_finished(&object)
    {
        tenant.breakers.missing_in_super(vec![key.clone()]);
    }
    if downward {
        index(engine, tenant, &key, Some(&object));
        tenant.down.put(key.clone(), Arc::new(object));
        engine.down.add(&tenant.id, key.clone());
    }
    if upward {
        engine.up.add(&tenant.id, key);
    }
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
        if same {
            entry.tenant = None;
            entry.renew_at = None;
        }
        same
    });
    if gone {
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
            let pods = tenant.table.keys(kind::index("Pod"), |_| true);
            for pod in pods
                .into_iter()
                .filter(|pod| pod.namespace == key.namespace)
            {
                engine.down.add(&tenant.id, pod);
            }
        }
        "Service" if tenant.index.service(key, object) => {
            let slices = tenant.table.keys(kind::index("EndpointSlice"), |_| true);
            for slice in slices
                .into_iter()
                .filter(|slice| slice.namespace == key.namespace)
            {
                engine.down.add(&tenant.id, slice);
            }
        }
        _ => {}
    }
    let references = object
        .map(|object| tenant.with_cx(|cx| rule.references(object, cx)))
        .unwrap_or_default();
    let change = tenant.index.refer(key, &references);
    for needed in change.needed {
        engine.down.add(&tenant.id, needed);
    }
    for unneeded in change.unneeded {
        engine.down.add_after(&tenant.id, unneeded, UNNEEDED_STAYS);
    }
}

/// Definitions make kinds, so who waits for a kind looks again when one changes.
const DEFINITION: &str = "CustomResourceDefinition";

/// A published object in the tenant: repaired when it isn't as it was written.
fn seen_published(engine: &Engine, tenant: &Tenant, key: Key, object: &Object) {
    if key.kind().resource().kind == DEFINITION {
        tenant.cluster.kinds_changed();
        if !key.kind().is_published_copy(object) && !tenant.table.is_published(&key) {
            // The tenant's own; there may be many.
            return;
        }
    }
    let state = meta::fingerprint(&key.kind().published_state(object));
    let differs = tenant.table.update(&key, |entry| {
        let side = TenantSide {
            uid: object.uid().into(),
            version: object.resource_version(),
            intent: state,
            projection: 0,
            node: None,
        };
        let differs = entry.published != state;
        entry.tenant = Some(side);
        differs
    });
    if differs {
        engine.up.add(&tenant.id, key);
    }
}

impl Engine {
    /// What a tenant is offered changed: what was refused may cross now, and what follows from an offer is shown or not.
    pub(crate) fn reconsider(&self, tenant: &Tenant) {
        for key in tenant.table.all_keys(|_, entry| entry.refused) {
            self.down.add(&tenant.id, key);
        }
        for key in self.offered.keys() {
            self.up.add(&tenant.id, key);
        }
    }
}

/// Takes the events of one kind of the super cluster.
pub(crate) struct SuperSink {
    pub(crate) engine: Arc<Engine>,
    pub(crate) kind: u8,
    pub(crate) roll: Roll,
}

impl Sink for SuperSink {
    fn listing(&self) {
        self.roll.begin();
    }

    fn applied(&self, object: Object) {
        match kind::rule(self.kind).super_watch() {
            SuperWatch::Owned => self.owned(object),
            SuperWatch::Published => self.published(object),
            SuperWatch::ByNamespace | SuperWatch::Placed => self.by_namespace(object),
            SuperWatch::Never => {}
        }
    }

    fn deleted(&self, object: Object) {
        match kind::rule(self.kind).super_watch() {
            SuperWatch::Owned => {
                hosts::gone(&self.engine, self.kind, &object);
                let Some(owner) = meta::owner(&object) else {
                    isolation::gone(&self.engine, &object);
                    return;
                };
                let key = Key::new(self.kind, &owner.namespace, &owner.name);
                let table = self.engine.table(&owner.tenant);
                if let Some(tenant) = self.engine.tenant(&owner.tenant) {
                    quota::ended(&self.engine, &tenant, &key, object.uid());
                }
                if table.super_gone(&key, object.uid()) {
                    self.work_again(&owner.tenant, key);
                }
                if self.is("Namespace") {
                    self.engine.twins.remove(object.name());
                }
            }
            SuperWatch::Published => {
                if self.is(DEFINITION) {
                    self.engine.cluster.kinds_changed();
                }
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
        let seen = self.roll.end();
        if self.is("Pod") {
            self.engine.super_pods_listed(version);
        }
        isolation::listed(&self.engine, self.kind, &seen);
        hosts::listed(&self.engine, self.kind, &seen);
        if kind::rule(self.kind).super_watch() == SuperWatch::Owned {
            for tenant in self.engine.served() {
                let mut known = tenant.table.keys(self.kind, |entry| entry.twin.is_some());
                known.retain(|key| !seen.contains(&owned_roll_key(&tenant, key)));
                if self.is("Pod") {
                    tenant.breakers.missing_in_super(known.clone());
                }
                for key in known {
                    // Gone while nobody watched, or made since: both directions read live.
                    tenant.table.update(&key, |entry| {
                        if let Some(twin) = &mut entry.twin {
                            twin.baseline = 0;
                        }
                    });
                    self.engine.down.add(&tenant.id, key.clone());
                    self.engine.up.add(&tenant.id, key);
                }
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
        for key in self.engine.offered.of(self.kind) {
            self.withdrawn(&key);
        }
        for tenant in self.engine.served() {
            for key in tenant.table.keys(self.kind, |entry| entry.twin.is_some()) {
                tenant.table.update(&key, |entry| entry.twin = None);
                self.engine.down.add(&tenant.id, key);
            }
        }
        self.engine.super_listed(self.kind);
    }
}

impl SuperSink {
    fn is(&self, name: &str) -> bool {
        kind::rule(self.kind).resource().kind == name
    }

    /// An object that carries a tenant's marks.
    fn owned(&self, object: Object) {
        let place = Key::new(self.kind, object.namespace(), object.name());
        self.roll.mark(&place);
        let Some(owner) = meta::owner(&object) else {
            isolation::seen(&self.engine, &object);
            return;
        };
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
            // A copy that somebody made of a super object, marks included, is nobody's twin.
            return;
        }
        if self.is("Namespace") {
            self.engine.twins.insert(
                object.name().to_owned(),
                (owner.tenant.clone(), owner.name.as_str().into()),
            );
        }
        let table = self.engine.table(&owner.tenant);
        let drifted = seen_in_super(&table, &key, &object, &owner.uid);
        let object = Arc::new(object);
        if self.roll.is_open() && !self.engine.is_ready() {
            table.keep_unjudged(&key, &object);
        }
        let Some(tenant) = tenant else { return };
        quota::exists(&self.engine, &tenant, &key, &object);
        if drifted {
            self.engine.down.add(&tenant.id, key.clone());
        }
        if self.is("Pod") {
            tenant.breakers.is_in_super(&key, &tenant.gate);
            note_addresses(&self.engine, &tenant, &key, Some(&object));
        }
        if kind::rule(self.kind).mirrors() {
            tenant.up.put(key.clone(), object);
            self.engine.up.add(&tenant.id, key);
        }
    }

    fn published_key(&self, object: &Object) -> Key {
        let namespace = kind::rule(self.kind).published_namespace();
        Key::new(self.kind, namespace, object.name())
    }

    /// A published object is gone.
    fn withdrawn(&self, key: &Key) {
        self.engine.offered.gone(key);
        for tenant in self.engine.served() {
            tenant.up.take(key);
            self.engine.up.add(&tenant.id, key.clone());
        }
    }

    fn published(&self, object: Object) {
        let key = self.published_key(&object);
        self.roll.mark(&key);
        if self.is(DEFINITION) {
            self.engine.cluster.kinds_changed();
        }
        match self.engine.offered.note(&key, &object) {
            News::None => return,
            News::Content => {}
            News::Offer => {
                for tenant in self.engine.served() {
                    self.engine.reconsider(&tenant);
                }
            }
        }
        let object = Arc::new(object);
        for tenant in self.engine.served() {
            tenant.up.put(key.clone(), object.clone());
            self.engine.up.add(&tenant.id, key.clone());
        }
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

    fn work_again(&self, id: &TenantId, key: Key) {
        let Some(tenant) = self.engine.tenant(id) else {
            return;
        };
        tenant.up.take(&key);
        if self.is("Pod") {
            tenant.breakers.deleted_in_super(key.clone());
            note_addresses(&self.engine, &tenant, &key, None);
            self.engine.up.add(id, key.clone());
        }
        self.engine.down.add(id, key);
    }
}

/// Keeps the addresses of a pod; slices that name addresses are worked again when they change.
pub(crate) fn note_addresses(engine: &Engine, tenant: &Tenant, key: &Key, pod: Option<&Object>) {
    // The address of a pod that has ended is given to the next one.
    let running = pod.filter(|pod| !kind::is_finished(pod));
    if tenant.index.pod_addresses(key, running) && tenant.index.has_selectorless() {
        let affected = |entry: &Entry| entry.refused || entry.twin.is_some();
        for slice in tenant.table.keys(kind::index("EndpointSlice"), affected) {
            engine.down.add(&tenant.id, slice);
        }
    }
}

/// Whether the object stands where the tenant object's twin must stand.
fn is_twin(tenant: &Tenant, key: &Key, object: &Object) -> bool {
    (object.namespace(), object.name()) == twin_name(tenant, key).as_ref_pair()
}

/// Namespace and name of the twin.
pub(crate) struct TwinName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl TwinName {
    fn as_ref_pair(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

/// Where the twin of a tenant's object stands.
pub(crate) fn twin_name(tenant: &Tenant, key: &Key) -> TwinName {
    let rule = key.kind();
    tenant.with_cx(|cx| TwinName {
        namespace: if rule.resource().namespaced {
            meta::super_namespace(&key.namespace, cx)
        } else {
            String::new()
        },
        name: rule.super_name(&key.name, cx),
    })
}

fn owned_roll_key(tenant: &Tenant, key: &Key) -> Key {
    let twin = twin_name(tenant, key);
    Key::new(key.kind, &twin.namespace, &twin.name)
}

/// The super object exists in this state; returns whether somebody else edited it.
pub(crate) fn seen_in_super(table: &Table, key: &Key, object: &Object, owner_uid: &str) -> bool {
    let state = meta::intent(object);
    let terminating = object.is_terminating();
    table.update(key, |entry| {
        let known = entry.twin.take().filter(|twin| *twin.uid == *object.uid());
        let version = object.resource_version();
        if let Some(newer) = known.as_ref().filter(|twin| twin.version > version) {
            entry.twin = Some(newer.clone());
            return false;
        }
        let baseline = known.as_ref().map_or(0, |twin| twin.baseline);
        let drifted = baseline != 0 && baseline != state && !terminating;
        entry.twin = Some(SuperSide {
            uid: object.uid().into(),
            version,
            owner_uid: owner_uid.into(),
            applied: meta::applied(object),
            state,
            baseline: if drifted { 0 } else { baseline },
            terminating,
            mirrored: known.map_or(0, |twin| twin.mirrored),
            counter: meta::restore_counter(object),
        });
        drifted
    })
}
