//! Who is to be looked at, told from where a watch is heard to a controller elsewhere.
//!
//! So one watch serves several controllers. Those that wait to be looked at are a set: there are never more of them than
//! there are objects, however long the controller rests.

use futures::{Stream, stream};
use kube::{Resource, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use std::{collections::HashSet, hash::Hash, sync::Arc};
use tokio::sync::Notify;

/// Rings for objects of a kind.
pub(crate) struct Bell<K>(Arc<Rope<K>>)
where
    K: Resource,
    K::DynamicType: Eq + Hash;

struct Rope<K>
where
    K: Resource,
    K::DynamicType: Eq + Hash,
{
    waiting: Mutex<HashSet<ObjectRef<K>>>,
    rung: Notify,
}

impl<K> Clone for Bell<K>
where
    K: Resource,
    K::DynamicType: Eq + Hash,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Bell<K>
where
    K: Resource,
    K::DynamicType: Eq + Hash,
{
    fn default() -> Self {
        Self(Arc::new(Rope {
            waiting: Mutex::default(),
            rung: Notify::new(),
        }))
    }
}

impl<K> Bell<K>
where
    K: Resource,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Asks that these be looked at.
    pub(crate) fn ring(&self, objects: impl IntoIterator<Item = ObjectRef<K>>) {
        let mut waiting = self.0.waiting.lock();
        waiting.extend(objects);
        if !waiting.is_empty() {
            self.0.rung.notify_one();
        }
    }

    /// Those to be looked at, without end; one may listen.
    pub(crate) fn rung(&self) -> impl Stream<Item = ObjectRef<K>> + use<K> {
        stream::unfold(self.clone(), |bell| async move {
            loop {
                if let Some(next) = bell.next() {
                    return Some((next, bell));
                }
                bell.0.rung.notified().await;
            }
        })
    }

    fn next(&self) -> Option<ObjectRef<K>> {
        let mut waiting = self.0.waiting.lock();
        let next = waiting.iter().next().cloned()?;
        waiting.take(&next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::VirtualControlPlane;
    use futures::{FutureExt, StreamExt};

    #[tokio::test]
    async fn each_is_told_once_however_often_it_was_asked_for() {
        let bell = Bell::<VirtualControlPlane>::default();
        let of = |name: &str| ObjectRef::new(name).within("n");
        bell.ring([of("a"), of("b")]);
        bell.ring([of("a")]);
        let mut rung = Box::pin(bell.rung());
        let mut names = vec![];
        while let Some(Some(next)) = rung.next().now_or_never() {
            names.push(next.name);
        }
        names.sort();
        assert_eq!(names, ["a", "b"]);
        let waits = tokio::spawn(async move { rung.next().await });
        tokio::task::yield_now().await;
        bell.ring([of("c")]);
        assert_eq!(waits.await.unwrap().unwrap().name, "c");
    }
}
