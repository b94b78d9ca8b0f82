//! Snapshots of a tenant's etcd: which are wanted, which there are, and which one it shall be set back to.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every snapshot that is made by schedule is called before its time; no other name begins with it.
pub const SCHEDULED: &str = "scheduled-";

/// Snapshots of the tenant's etcd, each in a claim of its own beside etcd's: of etcd's StorageClass and as large as a
/// member's volume. They end with the VirtualControlPlane.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.snapshots) || !self.snapshots.exists(s, s.startsWith('scheduled-'))")
    .message("spec.backup.snapshots: names that begin with `scheduled-` are of those made by schedule; choose another"))]
pub struct Backup {
    /// When one is made by itself, in UTC: five fields of cron (minute, hour, day of the month, month, day of the week), or
    /// `@hourly`, `@daily`, `@weekly` or `@monthly`. Never when left out. A time that was missed is made up for once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schedule: Option<String>,
    /// How many of those made by schedule are kept, 1 to 16; the oldest goes first.
    #[serde(default = "default_retain")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 16").message("spec.backup.retain is 1 to 16"))]
    #[schemars(extend("format" = "int32"))]
    pub retain: u8,
    /// Names of those that there shall be beside those made by schedule: one whose name is added is made, one whose name is
    /// taken away is deleted. `sublet snapshot create` and `delete` do so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(
        length(max = 16),
        inner(length(max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub snapshots: Vec<String>,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            schedule: None,
            retain: default_retain(),
            snapshots: vec![],
        }
    }
}

fn default_retain() -> u8 {
    7
}

/// A snapshot of the tenant's etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name; its claim in the control plane's namespace is `snapshot-NAME`.
    pub name: String,
    /// When it was complete, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How far it is.
    pub state: SnapshotState,
    /// Why it failed, or what is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it was made.
    pub trigger: Trigger,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotState {
    /// It is being made.
    Running,
    /// It was written, and read once.
    Complete,
    /// It couldn't be made; delete it.
    Failed,
}

/// Why a snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// Somebody asked for it; it is kept until somebody deletes it.
    Manual,
    /// It was time.
    Schedule,
}

/// The tenant's etcd is set back to a snapshot, once for each wish: what was stored since is lost, and what runs goes on.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Name of a snapshot that is complete, as `status.snapshots` has it.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub snapshot: String,
    /// Any text; with another one the same snapshot is restored again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub request: String,
}

/// What came of the last wish to restore a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Name of the snapshot.
    pub snapshot: String,
    /// `spec.restore.request` of that wish.
    #[serde(default)]
    pub request: String,
    /// How far it is.
    pub state: RestoreState,
    /// What is done, or why it failed.
    #[serde(default)]
    pub message: String,
    /// When it got there, RFC 3339.
    pub time: String,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreState {
    /// The data are written while the tenant works on.
    Writing,
    /// The control plane goes, to start anew with them.
    Stopping,
    /// It starts with them.
    Starting,
    /// It didn't start with them: it goes, to start anew with those that it had.
    Returning,
    /// It works with them; those that it had are gone.
    Complete,
    /// It has the data that it had.
    Failed,
}
