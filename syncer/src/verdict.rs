//! The `Synced` condition of a VirtualControlPlane: what the syncer says of a tenant.

use crate::{
    apply::{self, Failure},
    client::Error,
    downward::read,
    engine::Engine,
    tenants::{Health, Tenant},
};
use api::{Condition, set_condition};
use std::{sync::Arc, time::Duration};
use tenancy::tenant::TenantId;

/// Tries to write a condition, since the manager writes to the same object.
const TRIES: usize = 8;

/// The VirtualControlPlane that a condition is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlPlane {
    pub(crate) id: TenantId,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ControlPlane {
    pub(crate) fn of(tenant: &Tenant) -> Self {
        let rules = tenant.rules();
        Self {
            id: tenant.id.clone(),
            namespace: rules.vcp_namespace.clone(),
            name: rules.vcp_name.clone(),
        }
    }
}

/// Writes the condition whenever it changes, until the tenant is no longer served.
pub(crate) async fn report(engine: Arc<Engine>, tenant: Arc<Tenant>) {
    let mut health = tenant.gate.health();
    loop {
        let now = health.borrow_and_update().clone();
        say(&engine, &ControlPlane::of(&tenant), &condition(&now)).await;
        tokio::select! {
            () = tenant.cancel.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
        }
    }
}

/// Says that nothing is written for this tenant any more; the manager waits for it before it deletes.
pub(crate) async fn stopped(engine: &Engine, control_plane: &ControlPlane) {
    let condition = Condition {
        type_: "Synced".into(),
        status: "False".into(),
        reason: "Stopped".into(),
        message: "the syncer doesn't serve this tenant".into(),
        ..Condition::default()
    };
    say(engine, control_plane, &condition).await;
}

fn condition(health: &Health) -> Condition {
    let (status, reason, message) = match (&health.synced, &health.blocker) {
        (true, _) => ("True", "Watching", "all kinds are watched".to_owned()),
        (false, Some(blocker)) => ("False", "NotWatching", blocker.clone()),
        (false, None) => (
            "False",
            "Starting",
            "the syncer is starting its watches".to_owned(),
        ),
    };
    Condition {
        type_: "Synced".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.chars().take(500).collect(),
        ..Condition::default()
    }
}

async fn say(engine: &Engine, control_plane: &ControlPlane, condition: &Condition) {
    for attempt in 0..TRIES {
        match write(engine, control_plane, condition).await {
            Ok(()) => return,
            Err(Failure::Api(Error::Conflict(_) | Error::Invalid(_))) if attempt + 1 < TRIES => {
                // Another writer was first; what it wrote is read again.
                tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
            }
            Err(err) => {
                tracing::warn!(tenant = %control_plane.id, %err, "the Synced condition can't be written");
                return;
            }
        }
    }
}

async fn write(
    engine: &Engine,
    control_plane: &ControlPlane,
    condition: &Condition,
) -> Result<(), Failure> {
    let ControlPlane {
        id,
        namespace,
        name,
    } = control_plane;
    let path =
        format!("/apis/sublet.dev/v1alpha1/namespaces/{namespace}/virtualcontrolplanes/{name}");
    let Some(vcp) = read(&engine.cluster, &path).await? else {
        return Ok(());
    };
    if vcp.text("/spec/identity") != Some(id.as_str()) {
        return Ok(());
    }
    let mut conditions: Vec<Condition> = vcp
        .at("/status/conditions")
        .cloned()
        .and_then(|list| serde_json::from_value(list).ok())
        .unwrap_or_default();
    let mut condition = condition.clone();
    condition.last_transition_time = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    condition.observed_generation = vcp
        .at("/metadata/generation")
        .and_then(serde_json::Value::as_i64);
    if !set_condition(&mut conditions, condition) {
        return Ok(());
    }
    let list =
        serde_json::to_value(&conditions).map_err(|err| Error::Malformed(err.to_string()))?;
    apply::conditions(&engine.cluster, &vcp, &list).await
}
