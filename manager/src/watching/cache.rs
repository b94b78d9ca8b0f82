//! All objects of a kind as a watch tells of them, and waiting until all are known.
//!
//! A store wakes one of those who wait for its first list, whoever asked it last; so one waits on behalf of all.

use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, Shared},
};
use kube::{
    Resource,
    runtime::{
        WatchStreamExt,
        reflector::{Store, store::Writer},
        watcher::{self, Event},
    },
};
use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The objects of a kind.
#[derive(Clone)]
pub(crate) struct Cache<K>
where
    K: Resource + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    ready: Shared<BoxFuture<'static, bool>>,
    /// From when a list begins until all of it has come, what is in the store may be older than what is told.
    is_listed: Arc<AtomicBool>,
}

/// Fills a [`Cache`] from a watch.
pub(crate) struct CacheWriter<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    writer: Writer<K>,
    is_listed: Arc<AtomicBool>,
}

/// The watch has ended for good.
#[derive(Debug, thiserror::Error)]
#[error("nobody tells of them any more")]
pub(crate) struct Gone;

impl<K> Cache<K>
where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// None so far.
    pub(crate) fn begin(kind: K::DynamicType) -> (Self, CacheWriter<K>) {
        let writer = Writer::new(kind);
        let store = writer.as_reader();
        let waits = store.clone();
        let ready = async move { waits.wait_until_ready().await.is_ok() };
        let is_listed = Arc::new(AtomicBool::new(false));
        let cache = Self {
            store,
            ready: ready.boxed().shared(),
            is_listed: is_listed.clone(),
        };
        (cache, CacheWriter { writer, is_listed })
    }

    /// Waits for the first list.
    ///
    /// # Errors
    /// It won't come.
    pub(crate) async fn all(self) -> Result<Store<K>, Gone> {
        match self.ready.await {
            true => Ok(self.store),
            false => Err(Gone),
        }
    }

    /// All as they were told of last; `None` while they are listed.
    pub(crate) fn now(&self) -> Option<&Store<K>> {
        let is_listed = self.is_listed.load(Ordering::Acquire);
        is_listed.then_some(&self.store)
    }

    /// Where they are.
    pub(crate) fn store(&self) -> &Store<K> {
        &self.store
    }
}

impl<K> CacheWriter<K>
where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// Where what it records will be.
    pub(crate) fn store(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// The same events; each is known before it is handed on.
    pub(crate) fn records(
        self,
        events: impl Stream<Item = watcher::Result<Event<K>>>,
    ) -> impl Stream<Item = watcher::Result<Event<K>>> {
        let (begins, ends) = (self.is_listed.clone(), self.is_listed);
        let begun = events.inspect(move |event| {
            if let Ok(Event::Init) = event {
                begins.store(false, Ordering::Release);
            }
        });
        begun.reflect(self.writer).inspect(move |event| {
            if let Ok(Event::InitDone) = event {
                ends.store(true, Ordering::Release);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::VirtualControlPlane;
    use futures::stream;
    use std::time::Duration;

    fn vcp(version: &str) -> VirtualControlPlane {
        let mut vcp = crate::spec::control_plane::tests::vcp();
        vcp.metadata.resource_version = Some(version.into());
        vcp
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told_when_the_list_is_there_or_never_will_be() {
        let (cache, writer) = Cache::<VirtualControlPlane>::begin(());
        let wait = || tokio::spawn(cache.clone().all());
        let waiting = [wait(), wait(), wait()];
        tokio::task::yield_now().await;
        let told = writer.records(stream::iter([Event::Init, Event::InitDone].map(Ok)));
        told.for_each(|_| std::future::ready(())).await;
        for one in waiting {
            let end = tokio::time::timeout(Duration::from_secs(60), one).await;
            assert!(end.unwrap().unwrap().is_ok());
        }

        let (cache, writer) = Cache::<VirtualControlPlane>::begin(());
        drop(writer);
        assert!(cache.all().await.is_err());
    }

    /// Else a pass that is made by what comes in a list would go by what was there before, and none would follow.
    #[tokio::test]
    async fn nothing_is_known_while_a_list_comes() {
        let (cache, writer) = Cache::begin(());
        let events = [
            Event::Init,
            Event::InitApply(vcp("1")),
            Event::InitDone,
            Event::Apply(vcp("2")),
            Event::Init,
            Event::InitApply(vcp("3")),
            Event::InitDone,
        ];
        let told = writer.records(stream::iter(events.map(Ok)));
        let version = |_| {
            let all = cache.now()?.state();
            all.first()?.metadata.resource_version.clone()
        };
        let versions: Vec<Option<String>> = told.map(version).collect().await;
        let versions: Vec<Option<&str>> = versions.iter().map(Option::as_deref).collect();
        let listing = None;
        assert_eq!(
            versions,
            [
                listing,
                listing,
                Some("1"),
                Some("2"),
                listing,
                listing,
                Some("3")
            ]
        );
    }
}
