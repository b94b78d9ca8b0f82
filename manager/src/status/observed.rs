//! What is seen of a control plane's parts, whatever is asked for; pure.

use super::Fact;
use crate::{
    object::STATEFUL_SET,
    observe::Seen,
    provision::etcd,
    running::parts::{self, Parts},
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
        let etcds = seen.objects.get(STATEFUL_SET, etcd::NAME);
        if let Some(image) = etcds.and_then(parts::image_of_all) {
            fields.push(("etcdImage", json!(image)));
        }
        Self {
            facts: [control_plane(seen, parts), store(parts), api(seen)],
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

fn store(parts: &Parts) -> Fact {
    let missing = |message: String| Fact {
        message,
        ..Fact::yes("EtcdReady", "MemberMissing")
    };
    let held = parts.held.as_ref();
    match (&parts.etcd, &parts.missing) {
        (None, None) => match held {
            Some(held) => missing(held.clone()),
            None => Fact::yes("EtcdReady", "MembersReady"),
        },
        (None, Some(lacking)) => {
            let held = held.map(|held| format!(". {held}"));
            missing(format!(
                "{lacking}; it works, and stops when one more is lost. Where a member's volume is lost, replace the member as \
                 docs/operations.md says{}",
                held.unwrap_or_default()
            ))
        }
        (Some(blocker), _) => Fact::no("EtcdReady", "PodsNotReady", blocker.as_str()),
    }
}

fn api(seen: &Seen) -> Fact {
    match &seen.tenant {
        Tenant::Answers { .. } => Fact::yes("APIServerReady", "Answers"),
        _ => Fact::no("APIServerReady", "NoAnswer", "no API server answers yet"),
    }
}
