//! How far a tenant's sync lags behind, in words. Its status says since when, and the syncer writes it seldom.

use crate::age;
use api::{SyncBacklog, SyncStatus, VirtualControlPlane};
use k8s_openapi::jiff::Timestamp;

/// For a column: for how long it has been behind, `no` while it isn't. Nothing when nobody says, as of one that isn't served;
/// `unknown` when that is said by a syncer that is gone.
pub(crate) fn brief(vcp: &VirtualControlPlane, is_led: bool, now: Timestamp) -> Option<String> {
    let since = sync(vcp)?.behind_since.as_deref();
    if !is_led {
        return Some("unknown".to_owned());
    }
    Some(since.map_or_else(|| "no".to_owned(), |since| age::since_text(since, now)))
}

/// For a line: what it waits for as well.
pub(crate) fn line(vcp: &VirtualControlPlane, is_led: bool, now: Timestamp) -> Option<String> {
    let sync = sync(vcp)?;
    if !is_led {
        return Some("unknown: its syncer is gone".to_owned());
    }
    let Some(since) = &sync.behind_since else {
        return Some("in step".to_owned());
    };
    let ago = |since: &str| age::since_text(since, now);
    let unwatched = sync.unwatched_since.as_deref();
    let unwatched = unwatched.map(|since| {
        let ago = ago(since);
        format!(
            "not all of it could be watched for {ago}, and what changed there since isn't known"
        )
    });
    let waits = |of: &SyncBacklog, what: &str| {
        let since = of.oldest_since.as_deref()?;
        let count = of.waiting;
        let objects = if count == 1 {
            "object waits"
        } else {
            "objects wait"
        };
        Some(format!(
            "{count} {objects} {what}, the first for {}",
            ago(since)
        ))
    };
    let reasons = [
        unwatched,
        waits(&sync.to_super, "to go down"),
        waits(&sync.from_super, "to be shown in it"),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    Some(format!("{} behind: {}", ago(since), reasons.join("; ")))
}

fn sync(vcp: &VirtualControlPlane) -> Option<&SyncStatus> {
    vcp.status.as_ref()?.sync.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn told(status: Value) -> (Option<String>, Option<String>) {
        let vcp: VirtualControlPlane = serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"}, "spec": {},
            "status": status,
        }))
        .unwrap();
        let now = "2025-01-01T01:00:00Z".parse().unwrap();
        if vcp.status.is_some() {
            let gone = (brief(&vcp, false, now), line(&vcp, false, now));
            let unknown = sync(&vcp).map(|_| "unknown".to_owned());
            assert_eq!(gone.0, unknown);
            assert_eq!(gone.1.is_some(), unknown.is_some());
        }
        (brief(&vcp, true, now), line(&vcp, true, now))
    }

    #[test]
    fn what_waits_is_told_with_its_age() {
        let some = |brief: &str, line: &str| (Some(brief.to_owned()), Some(line.to_owned()));
        let observed = "2025-01-01T00:00:00Z";
        assert_eq!(told(json!({})), (None, None));
        assert_eq!(
            told(json!({"sync": {"observedTime": observed}})),
            some("no", "in step")
        );
        assert_eq!(
            told(json!({"sync": {
                "observedTime": observed, "behindSince": "2025-01-01T00:55:00Z",
                "toSuper": {"waiting": 12, "oldestSince": "2025-01-01T00:55:00Z"},
                "fromSuper": {"waiting": 1, "oldestSince": "2025-01-01T00:59:30Z"},
            }})),
            some(
                "5m",
                "5m behind: 12 objects wait to go down, the first for 5m; 1 object waits to be shown in it, the first for 30s"
            )
        );
        let unwatched = json!({"sync": {
            "observedTime": observed, "behindSince": observed, "unwatchedSince": observed,
        }});
        assert_eq!(
            told(unwatched),
            some(
                "60m",
                "60m behind: not all of it could be watched for 60m, and what changed there since isn't known"
            )
        );
    }
}
