//! Waiting until all VirtualControlPlanes are known.
//!
//! A store wakes one of those who wait for its first list, whoever asked it last; so one waits on behalf of all.

use api::VirtualControlPlane;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use kube::runtime::reflector::Store;

/// The VirtualControlPlanes, once all are known.
#[derive(Clone)]
pub(crate) struct Known {
    store: Store<VirtualControlPlane>,
    ready: Shared<BoxFuture<'static, bool>>,
}

/// The watch of VirtualControlPlanes has ended for good.
#[derive(Debug, thiserror::Error)]
#[error("nobody tells of VirtualControlPlanes any more")]
pub(crate) struct Gone;

impl Known {
    /// Those of a store.
    pub(crate) fn of(store: &Store<VirtualControlPlane>) -> Self {
        let waits = store.clone();
        let ready = async move { waits.wait_until_ready().await.is_ok() };
        Self {
            store: store.clone(),
            ready: ready.boxed().shared(),
        }
    }

    /// Waits for the first list.
    ///
    /// # Errors
    /// It won't come.
    pub(crate) async fn all(self) -> Result<Store<VirtualControlPlane>, Gone> {
        match self.ready.await {
            true => Ok(self.store),
            false => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::{reflector, watcher::Event};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told_when_the_list_is_there_or_never_will_be() {
        let (store, mut writer) = reflector::store();
        let known = Known::of(&store);
        let wait = || tokio::spawn(known.clone().all());
        let waiting = [wait(), wait(), wait()];
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        for one in waiting {
            let end = tokio::time::timeout(Duration::from_secs(60), one).await;
            assert!(end.unwrap().unwrap().is_ok());
        }

        let (store, writer) = reflector::store();
        let known = Known::of(&store);
        drop(writer);
        assert!(known.all().await.is_err());
    }
}
