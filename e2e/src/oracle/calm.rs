//! O6: when there is nothing to do, nothing is done.

use crate::rig::Rig;
use anyhow::ensure;
use std::time::Duration;

/// How long it must be quiet: longer than any backoff of a key that has just been worked.
const QUIET: Duration = Duration::from_secs(2);
/// How often it is looked at.
const TRIES: usize = 15;

/// The syncer sends no write for a while, but for the marks that it advances by a clock.
pub async fn nothing_is_written(rig: &Rig) -> anyhow::Result<()> {
    let mut written = vec![];
    for _ in 0..TRIES {
        let proxies: Vec<_> = std::iter::once(&rig.proxy)
            .chain(rig.tenants.iter().map(|tenant| &tenant.proxy))
            .collect();
        for proxy in &proxies {
            drop(proxy.take_trace());
        }
        tokio::time::sleep(QUIET).await;
        written = proxies
            .iter()
            .flat_map(|proxy| proxy.take_trace())
            .filter(|record| record.asked.is_write() && !is_mark(&record.asked))
            .collect();
        if written.is_empty() {
            return Ok(());
        }
    }
    ensure!(
        written.is_empty(),
        "the syncer writes though nothing changes (O6): {written:?}"
    );
    Ok(())
}

/// Whether a request advances a tenant's mark.
pub fn is_mark(asked: &crate::faultproxy::rule::Asked) -> bool {
    asked.resource == "leases" || asked.resource == "configmaps" && asked.name == api::MARK_NAME
}
