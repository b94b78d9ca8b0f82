//! What is seen of a control plane's parts, whatever is asked for; pure.

use super::Fact;
use crate::{
    observe::Seen,
    parts::{self, Parts},
    tenant::Tenant,
};
use serde_json::{Value, json};

/// What there is to say of the parts.
pub(super) struct Observed {
    /// `ControlPlaneReady`, `EtcdReady` and `APIServerReady`.
    pub(super) facts: [Fact; 3],
    /// Fields of the status.
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Observed {
    /// Of parts that shall run the version `wanted`.
    pub(super) fn of(seen: &Seen, parts: &Parts, wanted: &str) -> Self {
        let mut fields = vec![(
            "apiServers",
            json!(parts::api_servers(&seen.objects, wanted)),
        )];
        if parts.rolled_out
            && let Some(version) = parts::asked_version(&seen.objects)
        {
            // What is asked for may still wait for its turn.
            fields.push(("version", json!(version)));
        }
        Self {
            facts: [control_plane(seen, parts), etcd(parts), api(seen)],
            fields,
        }
    }
}

fn control_plane(seen: &Seen, parts: &Parts) -> Fact {
    let no = |reason, message: &str| Fact::no("ControlPlaneReady", reason, message);
    match (&seen.tenant, parts.blockers.first()) {
        // Each part waits for those before it: the first blocker is the cause of the others.
        (_, Some(blocker)) => no("PodsNotReady", blocker),
        (Tenant::Answers { .. }, None) => Fact::yes("ControlPlaneReady", "Answers"),
        (Tenant::Silent(why), None) => {
            let message = format!("the API server doesn't answer yet: {why}");
            no("NoAnswer", &message)
        }
        (Tenant::NotAsked, None) => no("NotAsked", "no API server pod was asked yet"),
    }
}

fn etcd(parts: &Parts) -> Fact {
    match &parts.etcd {
        None => Fact::yes("EtcdReady", "MembersReady"),
        Some(blocker) => Fact::no("EtcdReady", "PodsNotReady", blocker.as_str()),
    }
}

fn api(seen: &Seen) -> Fact {
    match &seen.tenant {
        Tenant::Answers { .. } => Fact::yes("APIServerReady", "Answers"),
        _ => Fact::no("APIServerReady", "NoAnswer", "no API server answers yet"),
    }
}
