//! What is remembered of a tenant's objects: identities, versions and fingerprints, never the objects themselves.
//!
//! The objects of events that wait to be worked are kept beside it, the newest only, and dropped when their key is
//! worked ([`crate::pending`]); a retry reads live.

use crate::{
    ceiling::{Ceiling, Share},
    pending::{Pending, Room},
};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tenancy::{arrival::KnownPart, meta, object::Object, tenant::Key};
use tokio::time::Instant;

/// What is known of one object on both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The tenant's object.
    pub(crate) tenant: Option<TenantSide>,
    /// The super object.
    pub(crate) twin: Option<SuperSide>,
    /// Something of it was refused, and wasn't put right since: it is tried again when facts change.
    pub(crate) refused: bool,
    /// Bytes of the super object as it was last seen whole; 0 while there is none.
    pub(crate) bytes: u32,
    /// When the tokens in the pod's token Secret are renewed.
    pub(crate) renew_at: Option<Instant>,
    /// Hash of what was last written to the tenant (published kinds), or of what it was seen to hold.
    pub(crate) published: u128,
}

impl Entry {
    /// The super object of this version, whole, takes so many bytes; an older one says nothing.
    pub(crate) fn weigh(&mut self, version: u64, bytes: u32) {
        if self
            .twin
            .as_ref()
            .is_some_and(|twin| twin.version == version)
        {
            self.bytes = bytes;
        }
    }

    /// It is a pod that the tenant sees bound to this node, whoever did that.
    pub(crate) fn is_on(&self, node: &str) -> bool {
        let side = self.tenant.as_ref();
        side.is_some_and(|side| side.node.as_deref() == Some(node))
    }

    /// The node to which the super cluster bound its super pod. Of what the tenant's pod says nothing is taken: it may name
    /// any node.
    pub(crate) fn runs_on(&self) -> Option<&Arc<str>> {
        self.twin.as_ref()?.node.as_ref()
    }

    /// This name of a node, held once for both sides.
    pub(crate) fn node(&self, name: Option<&str>) -> Option<Arc<str>> {
        let name = name?;
        let side = self.tenant.as_ref().and_then(|side| side.node.as_ref());
        let mut known = side.into_iter().chain(self.runs_on());
        let held = known.find(|node| ***node == *name);
        Some(held.map_or_else(|| name.into(), Arc::clone))
    }

    /// The twin belongs to an older incarnation of the tenant's object.
    pub(crate) fn is_outlived(&self) -> bool {
        match (&self.tenant, &self.twin) {
            (Some(side), Some(twin)) => side.uid != twin.owner_uid,
            _ => false,
        }
    }
}

/// Greater than all versions: a write of the status is under way, and whatever is told until it is answered came before it.
pub(crate) const UNDER_WAY: u64 = u64::MAX;

/// The tenant's object.
#[derive(Clone, Debug)]
pub(crate) struct TenantSide {
    pub(crate) uid: Arc<str>,
    pub(crate) version: u64,
    /// Version that the last write of its status left behind, or [`UNDER_WAY`]. What the object shows then is known from the
    /// write.
    pub(crate) answered: u64,
    /// Fingerprint of what flows down.
    pub(crate) intent: u128,
    /// As long as its metadata tell of this edition, the intent is the same; 0 if they don't tell.
    pub(crate) edition: u128,
    /// Fingerprint of what flows up, as the tenant holds it.
    pub(crate) projection: u128,
    /// Node that the pod is bound to, as the tenant's object says: by us, or by whoever writes pods there.
    pub(crate) node: Option<Arc<str>>,
}

impl TenantSide {
    /// An object that was published to the tenant: nothing of it flows down, and its state is all there is to know.
    pub(crate) fn published(object: &Object, state: u128) -> Self {
        Self {
            uid: object.uid().into(),
            version: object.resource_version(),
            answered: 0,
            intent: state,
            edition: 0,
            projection: 0,
            node: None,
        }
    }
}

/// The super object.
#[derive(Clone, Debug)]
pub(crate) struct SuperSide {
    pub(crate) uid: Arc<str>,
    pub(crate) version: u64,
    /// UID of the tenant's object that it was made for.
    pub(crate) owner_uid: Arc<str>,
    /// Hash of what was applied, as recorded on it.
    pub(crate) applied: u128,
    /// Fingerprint of all that only Sublet should write, as last seen.
    pub(crate) state: u128,
    /// As long as its metadata tell of this edition, that is the same; 0 if they don't tell.
    pub(crate) edition: u128,
    /// Fingerprint of all that only Sublet should write; 0 until it has been compared with the tenant's intent.
    pub(crate) baseline: u128,
    /// The seconds that it has to end since its deletion was asked for; none while it wasn't.
    pub(crate) ending: Option<u32>,
    /// Version whose state last went up (R5).
    pub(crate) mirrored: u64,
    /// The restore counter under which it was made.
    pub(crate) counter: i64,
    /// Node that the super cluster bound the pod to.
    pub(crate) node: Option<Arc<str>>,
}

impl SuperSide {
    /// Whether its deletion was asked for.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }
}

/// What is known of an object with these metadata, if `known` is UID and edition of what is known by its name.
pub(crate) fn known_by(known: (&str, u128), uid: &str, metadata: &Value) -> KnownPart {
    let (known_uid, edition) = known;
    // Most kinds have none.
    if edition != 0 && known_uid == uid && edition == meta::edition(metadata) {
        KnownPart::Spec(edition)
    } else {
        KnownPart::Nothing
    }
}

/// Bytes of an entry's texts. Of one that several share each bears its part.
fn texts(key: &Key, entry: &Entry) -> usize {
    // Two counters stand before an Arc's text, and allocators give multiples of 16 bytes.
    let of = |text: &Arc<str>| (text.len() + 16).next_multiple_of(16) / Arc::strong_count(text);
    let tenant = entry.tenant.as_ref();
    let tenant = tenant.map_or(0, |side| of(&side.uid) + side.node.as_ref().map_or(0, of));
    let twin = entry.twin.as_ref();
    let twin = twin.map_or(0, |side| {
        of(&side.uid) + of(&side.owner_uid) + side.node.as_ref().map_or(0, of)
    });
    of(&key.namespace) + of(&key.name) + tenant + twin
}

/// Bytes that an entry counts for where what is remembered of a tenant is limited; none if it knows nothing. A map that has just
/// grown has two places for each of its entries.
fn weight(key: &Key, entry: &Entry) -> usize {
    let of = |text: &Arc<str>| text.len() + 16;
    let tenant = entry.tenant.as_ref();
    let tenant = tenant.map(|side| of(&side.uid) + side.node.as_ref().map_or(0, of));
    let twin = entry.twin.as_ref();
    let twin =
        twin.map(|side| of(&side.uid) + of(&side.owner_uid) + side.node.as_ref().map_or(0, of));
    if tenant.is_none() && twin.is_none() {
        return 0;
    }
    let place = 2 * size_of::<(Key, Entry)>();
    place + of(&key.namespace) + of(&key.name) + tenant.unwrap_or(0) + twin.unwrap_or(0)
}

/// One tenant's entries.
pub(crate) struct Table {
    entries: Mutex<HashMap<Key, Entry>>,
    /// The [`weight`] of them all, changed while they are held.
    share: Share,
    /// Bytes of all super objects: the sum of what the entries say, changed with them.
    super_bytes: AtomicU64,
    /// Super objects as the first list told them, until each has been compared with what its tenant asks for: else a
    /// start would read every one of them again.
    unjudged: Pending,
    /// Keys with a write under way.
    writing: Mutex<HashMap<Key, Writing>>,
}

/// A key whose twin is being written: the answer may come later than the event that the twin is gone again.
#[derive(Default)]
struct Writing {
    writers: usize,
    /// Something told meanwhile that the twin, or what is beside it, isn't what it must be.
    is_suspected: bool,
    /// UIDs of what ended meanwhile: the twin, or a policy beside it.
    ended: Vec<Arc<str>>,
}

/// While it lives, the ends of what belongs to the key are remembered.
pub(crate) struct UnderWay<'a> {
    table: &'a Table,
    key: &'a Key,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut writing = self.table.writing.lock();
        if let Some(entry) = writing.get_mut(self.key) {
            entry.writers -= 1;
            if entry.writers == 0 {
                writing.remove(self.key);
            }
        }
    }
}

impl Table {
    /// Nothing yet; what is kept until it is compared has its place in `room`, and what is remembered below `ceiling`.
    pub(crate) fn within(room: &Arc<Room>, ceiling: &Arc<Ceiling>) -> Self {
        Self {
            entries: Mutex::default(),
            share: Share::of(ceiling),
            super_bytes: AtomicU64::new(0),
            unjudged: Pending::within(room),
            writing: Mutex::default(),
        }
    }

    /// What is known of an object.
    pub(crate) fn get(&self, key: &Key) -> Entry {
        self.entries.lock().get(key).cloned().unwrap_or_default()
    }

    /// Changes what is known of an object; an entry that knows nothing any more is dropped.
    pub(crate) fn update<R>(&self, key: &Key, change: impl FnOnce(&mut Entry) -> R) -> R {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        let (before, weighed) = (u64::from(entry.bytes), weight(key, entry));
        let result = change(entry);
        if entry.twin.is_none() {
            entry.bytes = 0;
        }
        let grown = u64::from(entry.bytes).wrapping_sub(before);
        let weighs = weight(key, entry);
        self.share.changed(weighed, weighs);
        if weighs == 0 {
            entries.remove(key);
        }
        // It wraps: what shrank is taken off.
        self.super_bytes.fetch_add(grown, Ordering::Relaxed);
        result
    }

    /// Whether an object of the tenant may be remembered: it is known already, or there is room for one more.
    pub(crate) fn takes_in(&self, key: &Key) -> bool {
        self.has(key) || self.share.has_room(key.kind())
    }

    /// Whether anything is known of an object.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.entries.lock().contains_key(key)
    }

    /// What the tenant has of what all may have.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// Bytes of the tenant's super objects.
    pub(crate) fn super_bytes(&self) -> u64 {
        self.super_bytes.load(Ordering::Relaxed)
    }

    /// A write for the key begins.
    pub(crate) fn write<'a>(&'a self, key: &'a Key) -> UnderWay<'a> {
        self.writing.lock().entry(key.clone()).or_default().writers += 1;
        UnderWay { table: self, key }
    }

    /// The watch told that an object with this UID, which belongs to the key, is gone.
    pub(crate) fn ended(&self, key: &Key, uid: &str) {
        if let Some(writing) = self.writing.lock().get_mut(key) {
            writing.ended.push(uid.into());
        }
    }

    /// The super object is gone. True if it was the one that is known.
    pub(crate) fn super_gone(&self, key: &Key, uid: &str) -> bool {
        // Before the entry is looked at: `downward` asks while it holds the entries.
        self.ended(key, uid);
        self.update(key, |entry| {
            let known = entry.twin.as_ref().is_some_and(|twin| *twin.uid == *uid);
            if known {
                entry.twin = None;
                entry.renew_at = None;
            }
            known
        })
    }

    /// The twins of a kind that a complete list at `version` lacks, by key, and whether each is gone: one that was made
    /// since isn't on the list either.
    pub(crate) fn unlisted(
        &self,
        kind: u8,
        version: u64,
        is_listed: impl Fn(&Key) -> bool,
    ) -> Vec<(Key, Arc<str>, bool)> {
        let entries = self.entries.lock();
        let of_kind = entries.iter().filter(|(key, _)| key.kind == kind);
        let twins = of_kind.filter_map(|(key, entry)| Some((key, entry.twin.as_ref()?)));
        twins
            .filter(|(key, _)| !is_listed(key))
            .map(|(key, twin)| (key.clone(), twin.uid.clone(), twin.version <= version))
            .collect()
    }

    /// The twin, or what is beside it, may not be what it must be: it isn't right until it has been compared again, and a
    /// write that is under way doesn't make it so.
    pub(crate) fn suspect(&self, key: &Key) {
        if let Some(writing) = self.writing.lock().get_mut(key) {
            writing.is_suspected = true;
        }
        self.update(key, |entry| {
            if let Some(twin) = &mut entry.twin {
                twin.baseline = 0;
            }
        });
    }

    /// Whether it was suspected since the write that is under way began.
    pub(crate) fn is_suspected(&self, key: &Key) -> bool {
        let writing = self.writing.lock();
        writing.get(key).is_some_and(|writing| writing.is_suspected)
    }

    /// Whether the object that a write just answered with is gone already.
    pub(crate) fn has_ended(&self, key: &Key, uid: &str) -> bool {
        let writing = self.writing.lock();
        let ended = writing.get(key).map(|writing| &writing.ended);
        ended.is_some_and(|ended| ended.iter().any(|ended| **ended == *uid))
    }

    /// Whether the tenant's object is what was published to it.
    pub(crate) fn is_published(&self, key: &Key) -> bool {
        let entries = self.entries.lock();
        entries.get(key).is_some_and(|entry| entry.published != 0)
    }

    /// Keys of a kind that satisfy a condition.
    pub(crate) fn keys(&self, kind: u8, condition: impl Fn(&Entry) -> bool) -> Vec<Key> {
        let entries = self.entries.lock();
        entries
            .iter()
            .filter(|(key, entry)| key.kind == kind && condition(entry))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Whether the super cluster bound a pod of the tenant to a node.
    pub(crate) fn has_pod_on(&self, node: &str) -> bool {
        let entries = self.entries.lock();
        let mut used = entries.values().filter_map(Entry::runs_on);
        used.any(|used| **used == *node)
    }

    /// Keys whose entry satisfies a condition, whatever the kind.
    pub(crate) fn all_keys(&self, condition: impl Fn(&Key, &Entry) -> bool) -> Vec<Key> {
        let entries = self.entries.lock();
        entries
            .iter()
            .filter(|(key, entry)| condition(key, entry))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// How many entries satisfy a condition.
    pub(crate) fn count(&self, condition: impl Fn(&Key, &Entry) -> bool) -> usize {
        let entries = self.entries.lock();
        entries
            .iter()
            .filter(|(key, entry)| condition(key, entry))
            .count()
    }

    /// How many bytes the entries take, by the sizes of what they consist of.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.entries.lock();
        // A byte of control for each place of the map.
        let places = entries.capacity() * (size_of::<(Key, Entry)>() + 1);
        places
            + entries
                .iter()
                .map(|(key, entry)| texts(key, entry))
                .sum::<usize>()
    }

    /// Whatever is there now is news: the store may be older than what was seen of it.
    pub(crate) fn doubt_twins(&self) {
        for entry in self.entries.lock().values_mut() {
            if let Some(twin) = &mut entry.twin {
                (twin.version, twin.mirrored) = (0, 0);
                (twin.edition, twin.baseline) = (0, 0);
            }
        }
    }

    /// Forgets the tenant's side of everything: the tenant is no longer watched. What was found right on the other side
    /// is compared again too, since another syncer may write there meanwhile.
    pub(crate) fn forget_tenant_side(&self) {
        let mut entries = self.entries.lock();
        let mut bytes = 0;
        entries.retain(|key, entry| {
            entry.tenant = None;
            entry.published = 0;
            entry.renew_at = None;
            if let Some(twin) = &mut entry.twin {
                twin.baseline = 0;
                twin.mirrored = 0;
            }
            bytes += weight(key, entry);
            entry.twin.is_some()
        });
        self.share.set(bytes);
        // Most of what there was may have been the tenant's side.
        entries.shrink_to_fit();
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Keeps a super object that nobody compared yet.
    pub(crate) fn keep_unjudged(&self, key: &Key, object: &Arc<Object>) {
        self.unjudged.put(key.clone(), object.clone());
    }

    /// The super object that was listed, if nothing newer of it is known.
    pub(crate) fn unjudged(&self, key: &Key) -> Option<Arc<Object>> {
        let object = self.unjudged.look(key)?;
        self.is_newest(key, &object).then_some(object)
    }

    /// Takes it out.
    pub(crate) fn take_unjudged(&self, key: &Key) -> Option<Arc<Object>> {
        let object = self.unjudged.take(key)?;
        self.is_newest(key, &object).then_some(object)
    }

    fn is_newest(&self, key: &Key, object: &Object) -> bool {
        let twin = self.get(key).twin;
        twin.is_some_and(|twin| {
            *twin.uid == *object.uid() && twin.version == object.resource_version()
        })
    }

    /// Drops what was kept: whoever comes so late reads.
    pub(crate) fn drop_unjudged(&self) {
        self.unjudged.clear();
    }
}

/// What was told of while a list goes on, so that its end shows what is gone.
pub(crate) struct Roll<K = Key> {
    seen: Mutex<Option<HashSet<K>>>,
    passed: Mutex<Passed<K>>,
}

impl<K> Default for Roll<K> {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            passed: Mutex::default(),
        }
    }
}

/// What a list told of and nobody marked, since it isn't taken in.
pub(crate) struct Passed<K = Key> {
    pub(crate) count: usize,
    /// What had a twin when the first of them was told of. A twin that is younger may be that of an object that was passed over.
    twins: HashSet<K>,
}

impl<K> Default for Passed<K> {
    fn default() -> Self {
        Self {
            count: 0,
            twins: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash> Passed<K> {
    /// Whether a twin's object can't be one of those that were passed over.
    pub(crate) fn lacks(&self, key: &K) -> bool {
        self.count == 0 || self.twins.contains(key)
    }
}

impl<K: Clone + Eq + Hash> Roll<K> {
    /// A list begins.
    pub(crate) fn begin(&self) {
        *self.seen.lock() = Some(HashSet::new());
        *self.passed.lock() = Passed::default();
    }

    /// Whether a list goes on.
    pub(crate) fn is_open(&self) -> bool {
        self.seen.lock().is_some()
    }

    /// It was told of.
    pub(crate) fn mark(&self, key: &K) {
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.insert(key.clone());
        }
    }

    /// It told of something that isn't taken in; what has a twin is asked for at the first of them.
    pub(crate) fn pass_over(&self, twins: impl FnOnce() -> HashSet<K>) {
        if !self.is_open() {
            return;
        }
        let mut passed = self.passed.lock();
        if passed.count == 0 {
            passed.twins = twins();
        }
        passed.count += 1;
    }

    /// What the list passed over, to be asked for at its end.
    pub(crate) fn passed(&self) -> Passed<K> {
        std::mem::take(&mut *self.passed.lock())
    }

    /// The list ended: all that it told of, but what it passed over.
    pub(crate) fn end(&self) -> HashSet<K> {
        self.seen.lock().take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use tenancy::kind;

    #[test]
    fn t40_what_is_forgotten_gives_its_room_back() {
        let table = fake::table_below(usize::MAX);
        let keys: Vec<Key> = (0..10)
            .map(|number| Key::new(kind::index("Pod"), "work", &format!("p{number}")))
            .collect();
        let object = serde_json::json!({"metadata": {"name": "p", "uid": "u"}});
        let object = Object::from_value(object).unwrap();
        for key in &keys {
            table.update(key, |entry| {
                entry.tenant = Some(TenantSide::published(&object, 1));
                entry.twin = Some(fake::super_side("s", "u"));
            });
        }
        let both = table.share().bytes();
        table.update(&keys[0], |entry| entry.refused = true);
        assert_eq!(table.share().bytes(), both, "the same again");
        table.forget_tenant_side();
        let twins = table.share().bytes();
        assert!(0 < twins && twins < both, "{twins} of {both}");
        for key in &keys {
            assert!(table.super_gone(key, "s"));
        }
        assert_eq!((table.len(), table.share().bytes()), (0, 0));
    }
}
