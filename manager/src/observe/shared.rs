//! What passes share: nodes, the proxy, and who starts; and what few of them need.

use super::{Error, Observer, Seen, decode};
use crate::{
    clients::cluster,
    lifecycle::{backup, restore, starts::Start},
    network::{
        endpoint,
        proxy::{self, Proxy},
    },
    object::{NODE, Object, VIRTUAL_CONTROL_PLANE},
    watching::answers::FRESH,
};
use tokio::time::Instant;

impl Observer {
    /// Claims of etcd and of snapshots, and the Jobs that fill them, where somebody waits for what becomes of them.
    pub(super) async fn look_at_volumes(
        &self,
        seen: &mut Seen,
        inside: Option<&str>,
    ) -> Result<(), Error> {
        if backup::concerns(&seen.vcp) || restore::concerns(seen) {
            for kind in backup::KINDS {
                let there = self.cluster.list(kind, inside, "").await?;
                seen.objects.extend(there);
            }
        }
        Ok(())
    }

    /// All that start, or wait for it.
    pub(crate) async fn starts(&self) -> Result<Vec<Start>, cluster::Error> {
        // One that this version can't read isn't looked after, so it doesn't start.
        let start = |vcp: Object| Start::of(&decode(&vcp).ok()?);
        let all = self.cluster.list_of(VIRTUAL_CONTROL_PLANE, None, "", start);
        all.await
    }

    /// The proxy; it is looked for anew until it is there.
    pub(super) async fn proxy(&self) -> Result<Option<Proxy>, Error> {
        let mut known = self.proxy.lock().await;
        if let Some((read, proxy)) = &*known
            && read.elapsed() < FRESH
        {
            return Ok(Some(proxy.clone()));
        }
        let proxy = proxy::look(&self.cluster, &self.system).await?;
        *known = proxy.clone().map(|proxy| (Instant::now(), proxy));
        Ok(proxy)
    }

    /// What matters of the nodes: addresses change rarely and the list may be long.
    pub(crate) async fn nodes(&self) -> Result<Vec<Object>, cluster::Error> {
        let mut known = self.nodes.lock().await;
        if let Some((read, nodes)) = &*known
            && read.elapsed() < FRESH
        {
            return Ok(nodes.clone());
        }
        let essence = |node: Object| Some(endpoint::essence(&node));
        let nodes = self.cluster.list_of(NODE, None, "", essence).await?;
        self.starts_at_once.learn(&nodes);
        *known = Some((Instant::now(), nodes.clone()));
        Ok(nodes)
    }
}
