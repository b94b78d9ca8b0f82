//! What must hold at the end of every test, whatever was done in between (docs/faults.md names O1, O2, O5 and O6).
//!
//! O1 ([`pairs`]) compares the two sides object by object. O2 ([`deeds`]) holds the syncer's every write, from the super
//! cluster's audit log, against what the tenants asked for. O5 ([`clock`]) watches a status that only grows and is one pod's. O6
//! ([`calm`]) counts requests when there is nothing to do. R7 ([`terms`]) asks who led a tenant when something was written
//! for it.

pub mod calm;
pub mod clock;
pub mod deeds;
mod facts;
pub mod pairs;
pub mod terms;

use crate::rig::Rig;

/// O1, O2, O6 and R7 for all tenants, once the rig is quiet.
pub async fn all(rig: &Rig) -> anyhow::Result<()> {
    for tenant in &rig.tenants {
        pairs::agree(rig, tenant).await?;
    }
    calm::nothing_is_written(rig).await?;
    deeds::are_lawful(rig).await?;
    terms::are_kept(rig).await
}
