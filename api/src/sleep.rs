//! When a control plane sleeps.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a control plane sleeps, and what wakes it. It never does when nothing is said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.afterIdle) || (has(self.wakeOnConnection) && self.wakeOnConnection)")
    .message("spec.sleep.afterIdle needs wakeOnConnection: nothing else would wake the tenant; set it to true"))]
pub struct Sleep {
    /// It sleeps, unless a connection woke it.
    #[serde(default)]
    pub asleep: bool,
    /// A connection to its front door, by the name that holds its identity, wakes it.
    #[serde(default)]
    pub wake_on_connection: bool,
    /// It falls asleep after so long without a connection to its front door, such as `30m`: two minutes at least. With
    /// `asleep`, 15m when left out; else it doesn't fall asleep by itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"))]
    pub after_idle: Option<String>,
    /// What becomes of the tenant's pods whenever it falls asleep. Of one that is asleep already it says what becomes of them
    /// the next time.
    #[serde(default)]
    pub workload: SleepingWorkload,
}

/// What becomes of pods when their control plane falls asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SleepingWorkload {
    /// They run on.
    #[default]
    Keep,
    /// They are ended first, with their grace, as by `kubectl delete pod`. What their controllers make in their place
    /// waits until it wakes.
    Stop,
}

impl Sleep {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
