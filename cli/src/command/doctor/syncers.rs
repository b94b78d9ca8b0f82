//! Whether each tenant that works is led by a syncer, and how the syncers share them.

use super::{Check, checks::Outcome};
use crate::{
    cluster::Cluster,
    condition::{self, State},
    leader::{self, Leaders},
    tenant,
};
use api::VirtualControlPlane;
use kube::ResourceExt;

const SUBJECT: &str = "syncers";

/// Looks at the Leases and the tenants.
pub(super) async fn check(cluster: &Cluster) -> Outcome {
    let leaders = leader::all(cluster).await.map_err(|err| (SUBJECT, err))?;
    let tenants = tenant::all(cluster).await.map_err(|err| (SUBJECT, err))?;
    let logs = cluster.kubectl(api::SYSTEM_NAMESPACE, "logs deploy/sublet-syncer");
    Ok(judge(&leaders, &tenants, &logs))
}

fn judge(leaders: &Leaders, tenants: &[VirtualControlPlane], logs: &str) -> Vec<Check> {
    let shares = leaders.shares();
    let led: usize = shares.iter().map(|(_, count)| count).sum();
    let names: Vec<String> = shares
        .iter()
        .map(|(name, count)| format!("{name} leads {count}"))
        .collect();
    let mut checks = match shares.len() {
        0 if tenants.is_empty() => vec![],
        0 => vec![Check::fail(
            SUBJECT,
            "none has a Lease: nothing is synced",
            format!("see `{logs}`"),
        )],
        1 => vec![Check::ok(
            SUBJECT,
            format!("one, of {led} tenants: {}", names.join(", ")),
        )],
        count => vec![Check::ok(
            SUBJECT,
            format!("{count} share {led} tenants: {}", names.join(", ")),
        )],
    };
    let is_unled = |vcp: &&VirtualControlPlane| {
        let id = vcp.spec.identity.as_deref().unwrap_or_default();
        matches!(condition::state(vcp), State::Working) && !leaders.has(id)
    };
    for vcp in tenants.iter().filter(is_unled) {
        let place = format!("{}/{}", vcp.namespace().unwrap_or_default(), vcp.name_any());
        checks.push(Check::warn(
            SUBJECT,
            format!("{place} is led by none"),
            format!("a syncer takes it up within seconds; if it doesn't, see `{logs}`"),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;

    #[test]
    fn tenants_without_a_syncer_are_told() {
        let vcp: VirtualControlPlane = serde_json::from_value(serde_json::json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "namespace": "n"}, "spec": {"identity": "abc"},
            "status": {"phase": "Ready"},
        }))
        .unwrap();
        assert_eq!(judge(&Leaders::default(), &[], "logs"), []);
        let found = judge(&Leaders::default(), &[vcp], "logs");
        assert_eq!(found[0].level, Level::Fail);
    }
}
