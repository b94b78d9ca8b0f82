//! What a tenant's API server writes of requests into its log, where its class asks for it.
//!
//! Writes, and the ways into a pod, which are no writes over WebSocket. Left out is what says nothing of what anybody did:
//! reads, events, leases, what is asked of rights, and the API server's and the syncer's own work, which the syncer tells
//! of itself. Bodies are never written: they may hold keys.

use super::keys;
use api::Audit;
use serde_json::{Value, json};

/// File that says so.
pub(super) const POLICY: &str = "audit.json";

/// The policy; `None` when nothing is written.
pub(super) fn policy(audit: Audit) -> Option<Value> {
    let level = match audit {
        Audit::None => return None,
        Audit::Metadata => "Metadata",
    };
    let ways_in = ["exec", "attach", "portforward", "proxy"].map(|way| format!("pods/{way}"));
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    Some(json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        // One line for each request: when it was answered.
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": ["system:apiserver", keys::SYNCER]},
            {"level": "None", "resources": [
                {"group": "", "resources": ["events"]},
                {"group": "events.k8s.io", "resources": ["events"]},
                {"group": "coordination.k8s.io", "resources": ["leases"]},
                {"group": "authentication.k8s.io"},
                {"group": "authorization.k8s.io"},
            ]},
            {"level": level, "resources": [{"group": "", "resources": ways_in}]},
            {"level": level, "verbs": writes},
            {"level": "None"},
        ],
    }))
}
