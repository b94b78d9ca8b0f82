//! How far the sync of a tenant lags behind, as its status tells.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How far the sync lags behind. It is written again only when what stands here would mislead: a change that waits for less
/// than ten seconds is on its way, and of one that waits for longer it is said since when.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// When this was observed; it holds about as it is said here while a syncer serves the tenant, however long ago that was.
    #[schemars(extend("format" = "date-time"))]
    pub observed_time: String,
    /// Since when the tenant isn't in step with the super cluster, the earliest of the times below; left out while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub behind_since: Option<String>,
    /// Since when not all kinds of the tenant could be watched: what changed in it since then isn't known, and isn't among
    /// what waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub unwatched_since: Option<String>,
    /// Changes in the tenant that the super cluster hasn't yet, deletions that are held among them.
    #[serde(default)]
    pub to_super: SyncBacklog,
    /// Changes in the super cluster that the tenant isn't shown yet.
    #[serde(default)]
    pub from_super: SyncBacklog,
}

/// What waits in one direction.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncBacklog {
    /// Objects with a change that waits for ten seconds or longer, however often it was tried; 0 when the direction is in
    /// step.
    #[serde(default)]
    pub waiting: i64,
    /// Since when the first of them does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub oldest_since: Option<String>,
}
