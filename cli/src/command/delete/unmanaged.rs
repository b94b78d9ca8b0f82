//! Tenants that no manager looks after: what the syncer made for them nobody else removes.

use super::exactly;
use crate::{cluster::Cluster, error, leader, progress::Progress, tenant};
use anyhow::Result;
use api::{VirtualControlPlane, keys};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams};
use std::time::Duration;

/// How often it is looked what is left.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a syncer may take to let go of a tenant that is gone.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether nobody but who deletes the tenant removes its super namespaces: its API server isn't Sublet's, and no manager
/// holds on to it.
pub(super) fn is_unmanaged(vcp: &VirtualControlPlane) -> bool {
    vcp.spec.external.is_some() && !vcp.finalizers().iter().any(|name| name == keys::FINALIZER)
}

/// Why the command doesn't delete a tenant whose namespaces it would have to remove itself.
///
/// # Errors
///
/// The VirtualControlPlanes can't be listed.
pub(super) async fn refusal(
    cluster: &Cluster,
    tenants: &[VirtualControlPlane],
    no_wait: bool,
) -> Result<Option<String>> {
    if !tenants.iter().any(is_unmanaged) {
        return Ok(None);
    }
    let all = tenant::all(cluster).await?;
    let mut unmanaged = tenants.iter().filter(|vcp| is_unmanaged(vcp));
    Ok(unmanaged.find_map(|vcp| why_not(vcp, &all, no_wait, cluster)))
}

fn why_not(
    vcp: &VirtualControlPlane,
    all: &[VirtualControlPlane],
    no_wait: bool,
    cluster: &Cluster,
) -> Option<String> {
    let (name, namespace) = (vcp.name_any(), vcp.namespace().unwrap_or_default());
    if let Some(other) = another(vcp, all) {
        let delete = format!("delete virtualcontrolplane {name}");
        return Some(format!(
            "the identity of {name} is also that of {other}, whose namespaces would go as well: take away the object alone with `{}`",
            cluster.kubectl(&namespace, &delete)
        ));
    }
    if vcp.spec.paused {
        let resume = cluster.hint_in(&namespace, &format!("resume {name}"));
        return Some(format!(
            "{name} is paused, so nothing of it is removed: end the pause with `{resume}` first"
        ));
    }
    no_wait.then(|| {
        format!(
            "no manager looks after {name}, so this command removes its namespaces, once the syncer has let go of it: delete it \
             without --no-wait"
        )
    })
}

/// Another VirtualControlPlane with the same identity, which has the same super namespaces.
fn another(vcp: &VirtualControlPlane, all: &[VirtualControlPlane]) -> Option<String> {
    let identity = vcp.spec.identity.as_ref()?;
    let mut others = all.iter().filter(|other| {
        other.metadata.uid != vcp.metadata.uid && other.spec.identity.as_ref() == Some(identity)
    });
    others.next().map(|other| {
        format!(
            "{}/{}",
            other.namespace().unwrap_or_default(),
            other.name_any()
        )
    })
}

/// Deletes the super namespaces of a tenant that is gone, and waits until none is left. What can't be asked is asked again, as
/// long as the caller waits.
///
/// # Errors
///
/// A syncer doesn't let go of the tenant, another VirtualControlPlane has its identity, or a right is missing.
pub(super) async fn remove(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    progress: &mut Progress,
) -> Result<()> {
    let Some(identity) = &vcp.spec.identity else {
        // Nothing was ever made for it.
        return Ok(());
    };
    let name = vcp.name_any();
    let let_go = tokio::time::timeout(PATIENCE, let_go(cluster, identity, &name, progress)).await;
    let Ok(let_go) = let_go else {
        return Err(error::fail(format!(
            "a syncer still leads {name}, so its namespaces stay; once none does, remove them with `{}`",
            tenant::remove_namespaces(cluster, identity)
        )));
    };
    let_go?;
    loop {
        match pass(cluster, vcp, identity).await {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) => {
                let names: Vec<&str> = left.iter().take(3).map(String::as_str).collect();
                progress.state(&format!(
                    "{name}: waiting for {} of its namespaces to end: {}",
                    left.len(),
                    names.join(", ")
                ));
            }
            Err(err) => again(err, progress)?,
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Waits until no syncer that lives leads the tenant.
async fn let_go(
    cluster: &Cluster,
    identity: &str,
    name: &str,
    progress: &mut Progress,
) -> Result<()> {
    loop {
        match leader::all(cluster).await {
            Ok(leaders) if !leaders.has(identity) => return Ok(()),
            Ok(_) => progress.state(&format!("{name}: waiting for the syncer to let go of it")),
            Err(err) => again(err.into(), progress)?,
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Asks all to go that stays; what is left.
async fn pass(cluster: &Cluster, vcp: &VirtualControlPlane, identity: &str) -> Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let theirs = ListParams::default().labels(&tenant::namespaces_of(identity));
    let listed = api.list_metadata(&theirs).await?.items;
    // Looked at after them: whoever came to have the identity since has them.
    if let Some(other) = another(vcp, &tenant::all(cluster).await?) {
        return Err(error::fail(format!(
            "the identity of {} is that of {other} now: nothing more is removed",
            vcp.name_any()
        )));
    }
    for namespace in &listed {
        if namespace.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match api.delete(&namespace.name_any(), &exactly(namespace)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            deleted => drop(deleted?),
        }
    }
    Ok(listed.iter().map(ResourceExt::name_any).collect())
}

/// What can pass is tried again; a missing right, and what somebody must decide, can't.
fn again(err: anyhow::Error, progress: &mut Progress) -> Result<()> {
    match err.downcast_ref::<kube::Error>() {
        Some(asked) if !error::is_forbidden(asked) => {
            progress.interlude(&format!("{}; trying again", error::reason(asked)));
            Ok(())
        }
        _ => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn vcp(name: &str, spec: Value, finalizers: Value) -> VirtualControlPlane {
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": name, "namespace": "n", "uid": name, "finalizers": finalizers}, "spec": spec,
        }))
        .unwrap()
    }

    fn external() -> Value {
        json!({"identity": "one", "external": {"kubeconfigSecretRef": {"name": "a"}}})
    }

    #[test]
    fn who_has_no_manager_has_its_namespaces_removed_by_the_command() {
        for (spec, finalizers, expected) in [
            (external(), json!([]), true),
            (external(), json!(["example.com/other"]), true),
            (external(), json!([keys::FINALIZER]), false),
            (json!({"identity": "one"}), json!([]), false),
        ] {
            assert_eq!(is_unmanaged(&vcp("a", spec, finalizers)), expected);
        }
    }

    /// A second VirtualControlPlane of that identity may be a thief's, or the tenant's own elsewhere: which is which the
    /// command can't know.
    #[test]
    fn t46_namespaces_of_an_identity_that_another_has_are_never_removed() {
        let own = vcp("a", external(), json!([]));
        let other = vcp("b", json!({"identity": "one"}), json!([]));
        let stranger = vcp("c", json!({"identity": "two"}), json!([]));
        assert_eq!(another(&own, &[own.clone(), stranger.clone()]), None);
        let found = another(&own, &[own.clone(), stranger, other]);
        assert_eq!(found.as_deref(), Some("n/b"));
        // Made anew under the same name.
        let mut anew = own.clone();
        anew.metadata.uid = Some("later".into());
        assert_eq!(another(&own, &[anew]).as_deref(), Some("n/a"));
    }

    #[test]
    fn only_what_sublet_made_is_looked_for() {
        assert_eq!(
            tenant::namespaces_of("one"),
            "sublet.dev/tenant=one,sublet.dev/managed=true"
        );
    }
}
