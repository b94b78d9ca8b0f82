//! The objects of events, kept until their key is worked. What finds no room is read when its turn comes.

use crate::apply::Failure;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tenancy::{object::Object, tenant::Key};

/// Objects of one tenant that are kept at most: several times what a burst of pods is.
const MOST: usize = 5_000;
/// Bytes of text, before it was parsed, that one tenant's objects have at most.
const MOST_BYTES: usize = 24 << 20;
/// Bytes that a tenant may have however much others have: nobody's flood makes the objects of a quiet tenant be read.
const ALWAYS: usize = 256 << 10;

/// How much room all tenants have together.
pub(crate) struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: AtomicUsize::new(0),
        })
    }

    fn has(&self, bytes: usize) -> bool {
        self.taken.load(Ordering::Relaxed) + bytes <= self.most
    }

    fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One tenant's objects of events that wait for their key to be worked.
pub(crate) struct Pending {
    room: Arc<Room>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<Key, (Arc<Object>, usize)>,
    bytes: usize,
    /// Keys whose object is with a worker, and of which nothing was told since.
    lent: HashSet<Key>,
}

impl Kept {
    fn remove(&mut self, key: &Key, room: &Room) -> Option<Arc<Object>> {
        self.lent.remove(key);
        let (object, bytes) = self.objects.remove(key)?;
        self.bytes -= bytes;
        room.give_back(bytes);
        Some(object)
    }

    fn put(&mut self, key: Key, object: Arc<Object>, room: &Room) {
        self.remove(&key, room);
        let bytes = object.size();
        let own = self.bytes + bytes;
        if self.objects.len() < MOST && own <= MOST_BYTES && (own <= ALWAYS || room.has(bytes)) {
            self.bytes = own;
            room.take(bytes);
            self.objects.insert(key, (object, bytes));
        }
    }
}

impl Pending {
    /// Nothing yet, in a room that is shared with others.
    pub(crate) fn within(room: &Arc<Room>) -> Self {
        Self {
            room: room.clone(),
            kept: Mutex::default(),
        }
    }

    /// Keeps the newest object of a key, if there is room; an older one goes in any case.
    pub(crate) fn put(&self, key: Key, object: Arc<Object>) {
        self.kept.lock().put(key, object, &self.room);
    }

    /// Keeps the newest object of a key that is kept once for all tenants, and so takes no room.
    pub(crate) fn share(&self, key: Key, object: Arc<Object>) {
        let mut kept = self.kept.lock();
        kept.remove(&key, &self.room);
        kept.objects.insert(key, (object, 0));
    }

    /// Keeps an object that has its room elsewhere, unless there is one already, which is newer.
    pub(crate) fn offer(&self, key: Key, object: Arc<Object>) {
        let mut kept = self.kept.lock();
        kept.objects.entry(key).or_insert((object, 0));
    }

    /// The object, which stays for whoever works its key.
    pub(crate) fn look(&self, key: &Key) -> Option<Arc<Object>> {
        let kept = self.kept.lock();
        let (object, _) = kept.objects.get(key)?;
        Some(object.clone())
    }

    /// Takes the object out, if there is one.
    pub(crate) fn take(&self, key: &Key) -> Option<Arc<Object>> {
        self.kept.lock().remove(key, &self.room)
    }

    /// Works a key with its object, if there is one. It is kept again if an API server couldn't be asked.
    pub(crate) async fn working<W: Future<Output = Result<(), Failure>>>(
        &self,
        key: &Key,
        work: impl FnOnce(Option<Arc<Object>>) -> W,
    ) -> Result<(), Failure> {
        let lent = self.lend(key);
        let worked = work(lent.clone()).await;
        self.settle(key, lent, &worked);
        worked
    }

    /// Takes the object out for a worker, until [`Pending::settle`].
    fn lend(&self, key: &Key) -> Option<Arc<Object>> {
        let mut kept = self.kept.lock();
        let object = kept.remove(key, &self.room)?;
        kept.lent.insert(key.clone());
        Some(object)
    }

    /// What became of an object that was lent: it is kept again if an API server couldn't be asked, so that whoever works
    /// its key anew doesn't ask for more; unless something was told of the key since.
    fn settle(&self, key: &Key, lent: Option<Arc<Object>>, result: &Result<(), Failure>) {
        let is_unused = result.as_ref().is_err_and(Failure::is_unreachable);
        let mut kept = self.kept.lock();
        if kept.lent.remove(key)
            && let Some(object) = lent.filter(|_| is_unused)
        {
            kept.put(key.clone(), object, &self.room);
        }
    }

    /// Drops all, and gives back the memory.
    pub(crate) fn clear(&self) {
        let mut kept = self.kept.lock();
        self.room.give_back(kept.bytes);
        *kept = Kept::default();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use serde_json::json;
    use tenancy::kind::index;

    fn key(number: usize) -> Key {
        Key::new(index("Pod"), "work", &format!("p{number}"))
    }

    fn object(version: usize, bytes: usize) -> Arc<Object> {
        let value = json!({"metadata": {"name": "p", "resourceVersion": version.to_string()}});
        Arc::new(Object::from_value(value).unwrap().sized(bytes))
    }

    fn kept(pending: &Pending) -> usize {
        pending.kept.lock().objects.len()
    }

    #[test]
    fn what_was_lent_comes_back_if_a_server_was_silent_and_its_key_was_not_told_of_since() {
        let pending = Pending::within(&Room::of(1 << 20));
        let lend = || {
            pending.put(key(1), object(1, 100));
            pending.lend(&key(1))
        };
        let silent = || Err(Failure::Api(Error::Unavailable("silent".into())));
        let lent = lend();
        pending.settle(&key(1), lent, &silent());
        assert!(pending.take(&key(1)).is_some());
        for other in [Ok(()), Err(Failure::Waiting("for more"))] {
            let lent = lend();
            pending.settle(&key(1), lent, &other);
            assert!(pending.take(&key(1)).is_none(), "{other:?}");
        }
        let lent = lend();
        // Its end was told.
        assert!(pending.take(&key(1)).is_none());
        pending.settle(&key(1), lent, &silent());
        assert!(pending.look(&key(1)).is_none());
        let lent = lend();
        pending.put(key(1), object(2, 100));
        pending.settle(&key(1), lent, &silent());
        let newest = pending.take(&key(1)).unwrap();
        assert_eq!(newest.resource_version(), 2);
    }

    #[test]
    fn t40_a_burst_of_pods_is_kept_whole_and_a_flood_isnt() {
        let room = Room::of(64 << 20);
        let pending = Pending::within(&room);
        for number in 0..1_500 {
            pending.put(key(number), object(1, 10_000));
        }
        assert_eq!(kept(&pending), 1_500);
        for number in 0..2 * MOST {
            pending.put(key(number), object(2, 100));
        }
        assert_eq!(kept(&pending), MOST);
        let large = Pending::within(&room);
        for number in 0..1_000 {
            large.put(key(number), object(1, 1 << 20));
        }
        assert_eq!(kept(&large), MOST_BYTES >> 20);
    }

    #[test]
    fn t40_one_tenants_flood_leaves_room_for_the_others() {
        let room = Room::of(4 << 20);
        let (flooding, quiet) = (Pending::within(&room), Pending::within(&room));
        for number in 0..100 {
            flooding.put(key(number), object(1, 1 << 20));
        }
        assert_eq!(kept(&flooding), 4);
        quiet.put(key(1), object(1, 10_000));
        assert_eq!(kept(&quiet), 1);
        quiet.put(key(2), object(1, 1 << 20));
        assert_eq!(kept(&quiet), 1, "beyond what each may always have");
        drop(flooding);
        quiet.put(key(2), object(1, 1 << 20));
        assert_eq!(kept(&quiet), 2);
    }

    /// Else an older state would be taken for the newest.
    #[test]
    fn an_object_that_finds_no_room_takes_the_older_one_away() {
        let room = Room::of(0);
        let pending = Pending::within(&room);
        pending.put(key(1), object(1, 100));
        pending.put(key(1), object(2, 1 << 20));
        assert!(pending.take(&key(1)).is_none());
    }

    #[test]
    fn what_is_lent_takes_the_place_of_nothing_newer() {
        let pending = Pending::within(&Room::of(64 << 20));
        pending.put(key(1), object(2, 1_000));
        for number in [1, 2] {
            pending.offer(key(number), object(1, 1_000));
        }
        let version = |number| pending.take(&key(number)).unwrap().resource_version();
        assert_eq!([version(1), version(2)], [2, 1]);
    }

    #[test]
    fn what_was_taken_out_or_dropped_gives_its_room_back() {
        let room = Room::of(64 << 20);
        let pending = Pending::within(&room);
        let taken = || room.taken.load(Ordering::Relaxed);
        for version in 0..3 {
            pending.put(key(1), object(version, 1_000));
            pending.put(key(2), object(version, 1_000));
        }
        pending.share(key(3), object(1, 1_000));
        pending.offer(key(4), object(1, 1_000));
        assert_eq!(taken(), 2_000);
        let newest = pending.take(&key(1)).unwrap();
        assert_eq!((newest.resource_version(), taken()), (2, 1_000));
        pending.clear();
        assert_eq!(taken(), 0);
        pending.put(key(1), object(1, 1_000));
        drop(pending);
        assert_eq!(taken(), 0);
    }
}
