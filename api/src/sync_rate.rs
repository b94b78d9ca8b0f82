//! How fast the super cluster is written to for one tenant.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a class allows that says nothing: a burst takes 1,500 pods with their tokens, and replaces most of them.
const WRITES_PER_SECOND: u16 = 100;
const BURST: u32 = 5_000;

/// Writes to the super cluster's API server for one tenant: creates, patches and deletions of what is synced down.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRate {
    /// Over a longer time. When left out, 100 in a class, and what its class allows in a VirtualControlPlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000), extend("format" = "int32"))]
    pub writes_per_second: Option<u16>,
    /// At once, after a rest. When left out, 5000 in a class, and what its class allows in a VirtualControlPlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), extend("format" = "int32"))]
    pub burst: Option<u32>,
}

impl SyncRate {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes a second, and at once, that a class with this rate allows.
    pub fn ceiling(&self) -> (u32, u32) {
        let writes = self.writes_per_second.unwrap_or(WRITES_PER_SECOND);
        (writes.into(), self.burst.unwrap_or(BURST))
    }

    /// The same of a tenant that asks for `own`: never more of either.
    pub fn allowed(&self, own: &Self) -> (u32, u32) {
        let (writes, burst) = self.ceiling();
        let own_writes = own.writes_per_second.map_or(writes, u32::from);
        (
            writes.min(own_writes),
            burst.min(own.burst.unwrap_or(burst)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(writes_per_second: impl Into<Option<u16>>, burst: impl Into<Option<u32>>) -> SyncRate {
        SyncRate {
            writes_per_second: writes_per_second.into(),
            burst: burst.into(),
        }
    }

    #[test]
    fn a_tenant_may_ask_for_less_than_its_class_allows_and_for_no_more() {
        let silent = SyncRate::default();
        assert_eq!(silent.allowed(&silent), (100, 5_000));
        assert_eq!(silent.allowed(&rate(200, 9_000)), (100, 5_000));
        assert_eq!(silent.allowed(&rate(5, None)), (5, 5_000));
        let class = rate(20, 40);
        assert_eq!(class.allowed(&silent), (20, 40));
        assert_eq!(class.allowed(&rate(None, 10)), (20, 10));
        assert_eq!(rate(500, 20_000).allowed(&silent), (500, 20_000));
    }
}
