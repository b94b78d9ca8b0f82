//! `sublet delete`: asks, deletes, and names what holds the deletion up.

mod unmanaged;

use crate::{
    age,
    ask::{self, Confirmation},
    cluster::Cluster,
    condition, error, interrupt, output,
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch,
};
use anyhow::Result;
use api::{Phase, VirtualControlPlane};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use std::time::Duration;

/// Flags of `sublet delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names of the tenants, or their identities
    #[arg(required = true, value_name = "NAME", value_parser = crate::name::known_tenant)]
    pub(super) names: Vec<String>,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
}

const EXAMPLES: &str = "\
Examples:
  sublet delete team-a               asks, then waits until nothing is left
  sublet delete team-a team-b --yes
  sublet delete team-a --yes --no-wait";

/// Deletes the tenants.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let mut names = args.names.clone();
    names.sort();
    names.dedup();
    // All are looked up before one is touched.
    let mut found = vec![];
    for name in &names {
        found.push(tenant::find(cluster, name).await?);
    }
    not_of_clusters(cluster, &found)?;
    if let Some(why) = unmanaged::refusal(cluster, &found, args.waiting.no_wait).await? {
        return Err(error::fail(why));
    }
    confirm(&found, &cluster.namespace, args.yes).await?;
    let look = || {
        format!(
            "some may be going already: look with `{}`",
            cluster.hint("list")
        )
    };
    interrupt::or_ctrl_c(delete(cluster, &found), look).await?;
    if args.waiting.no_wait {
        return said(&names, "is being deleted");
    }
    gone(cluster, &found, args.waiting.timeout).await?;
    said(&names, "deleted")
}

async fn confirm(tenants: &[VirtualControlPlane], namespace: &str, yes: bool) -> Result<()> {
    let names: Vec<String> = tenants.iter().map(ResourceExt::name_any).collect();
    ask::confirm(&question(tenants, namespace), answer(&names), yes).await
}

/// What the deletion destroys: of an attached tenant not its API server, which isn't Sublet's.
fn question(tenants: &[VirtualControlPlane], namespace: &str) -> String {
    let (attached, own): (Vec<_>, Vec<_>) =
        tenants.iter().partition(|vcp| vcp.spec.external.is_some());
    let list = |tenants: &[&VirtualControlPlane]| {
        let names: Vec<String> = tenants.iter().map(|vcp| vcp.name_any()).collect();
        names.join(", ")
    };
    let own = match own.as_slice() {
        [] => None,
        [one] => Some(format!(
            "This deletes the tenant {} of namespace {namespace} with its API server, all its objects and all its data.",
            one.name_any()
        )),
        more => Some(format!(
            "This deletes the tenants {} of namespace {namespace} with their API servers, all their objects and all their \
             data.",
            list(more)
        )),
    };
    let attached = match attached.as_slice() {
        [] => None,
        [one] => Some(format!(
            "This ends the tenant {} of namespace {namespace}: what it runs in the super cluster is deleted; its own API \
             server and its data stay.",
            one.name_any()
        )),
        more => Some(format!(
            "This ends the tenants {} of namespace {namespace}: what they run in the super cluster is deleted; their own \
             API servers and their data stay.",
            list(more)
        )),
    };
    let lines: Vec<String> = own.into_iter().chain(attached).collect();
    lines.join("\n")
}

/// What must be typed before these tenants are deleted: more for what destroys more.
pub(super) fn answer(names: &[String]) -> Confirmation<'_> {
    match names {
        [name] => Confirmation::Word(name),
        names => Confirmation::Count(names.len()),
    }
}

/// Asks for the deletion of exactly these objects, not of others that took their names meanwhile.
pub(super) async fn delete(cluster: &Cluster, tenants: &[VirtualControlPlane]) -> Result<()> {
    for vcp in tenants {
        match namespaced(cluster, vcp)
            .delete(&vcp.name_any(), &exactly(vcp))
            .await
        {
            Ok(_) => {}
            Err(err) if error::is_missing(&err) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Deletes exactly this object, and no other that took its name meanwhile.
fn exactly(object: &impl ResourceExt) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid: object.uid(),
        resource_version: None,
    })
}

/// Refuses tenants that Cluster API made, before anybody is asked about them.
///
/// # Errors
///
/// One of them is such a tenant; the error says what to do instead.
pub(super) fn not_of_clusters(cluster: &Cluster, tenants: &[VirtualControlPlane]) -> Result<()> {
    match tenants.iter().find_map(|vcp| is_a_cluster(cluster, vcp)) {
        Some(refusal) => Err(error::fail(refusal)),
        None => Ok(()),
    }
}

/// What to do instead with a tenant that Cluster API made: its Cluster would miss it, and holds on to a part of it.
fn is_a_cluster(cluster: &Cluster, vcp: &VirtualControlPlane) -> Option<String> {
    let owner = tenant::cluster_of(vcp)?;
    let namespace = vcp.namespace().unwrap_or_default();
    let instead = cluster.kubectl(&namespace, &format!("delete cluster {owner}"));
    Some(format!(
        "the tenant {} of namespace {namespace} belongs to Cluster {owner} of Cluster API: delete that with `{instead}`",
        vcp.name_any()
    ))
}

/// Waits until the tenants are gone, for at most `limit` together.
pub(super) async fn gone(
    cluster: &Cluster,
    tenants: &[VirtualControlPlane],
    limit: Duration,
) -> Result<()> {
    let mut progress = Progress::start("deleting");
    let left = || {
        let mut unmanaged = tenants.iter().filter(|vcp| unmanaged::is_unmanaged(vcp));
        if let Some(identity) = unmanaged.find_map(|vcp| vcp.spec.identity.as_deref()) {
            let remove = tenant::remove_namespaces(cluster, identity);
            return format!("go on with `{remove}`, since no manager does");
        }
        let wait = tenants.first().map(|vcp| {
            let wait = format!("wait vcp/{} --for=delete --timeout=5m", vcp.name_any());
            cluster.kubectl(&vcp.namespace().unwrap_or_default(), &wait)
        });
        format!(
            "the deletion goes on by itself; wait on with `{}`",
            wait.unwrap_or_default()
        )
    };
    let all = async {
        for vcp in tenants {
            one_gone(cluster, vcp, &mut progress).await?;
            if unmanaged::is_unmanaged(vcp) {
                unmanaged::remove(cluster, vcp, &mut progress).await?;
            }
            progress.done(&format!("{} is gone", vcp.name_any()));
        }
        Ok(())
    };
    let outcome =
        interrupt::or_ctrl_c(async { Ok(tokio::time::timeout(limit, all).await) }, left).await?;
    match outcome {
        Ok(result) => result,
        Err(_) => Err(error::fail(format!(
            "not all is gone after {}: {}; {}; see `{}`",
            age::elapsed(limit),
            progress.last(),
            left(),
            cluster.hint("doctor")
        ))),
    }
}

async fn one_gone(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    progress: &mut Progress,
) -> Result<()> {
    let name = vcp.name_any();
    let told = watch::follow(cluster, vcp, progress, |now, progress| {
        if let Some(why) = is_paused(&now, |namespace, rest| cluster.hint_in(namespace, rest)) {
            return Err(error::fail(why));
        }
        progress.state(&format!("{name}: {}", condition::brief(&holds_up(&now))));
        Ok(None::<()>)
    });
    told.await.map(|_| ())
}

/// What to do about a tenant that is paused: nothing of it is removed before somebody says so.
fn is_paused(vcp: &VirtualControlPlane, hint: impl Fn(&str, &str) -> String) -> Option<String> {
    let (name, namespace) = (vcp.name_any(), vcp.namespace().unwrap_or_default());
    vcp.spec.paused.then(|| {
        format!(
            "{name} is to be deleted and is paused, so nothing of it is removed: end the pause with `{}`, then the \
             deletion goes on by itself",
            hint(&namespace, &format!("resume {name}"))
        )
    })
}

/// What a deletion waits for, in the manager's words.
fn holds_up(vcp: &VirtualControlPlane) -> String {
    let told = condition::conditions(vcp)
        .iter()
        .filter(|condition| condition.type_.contains("Delet") && condition.status == "True")
        .find(|condition| !condition.message.is_empty());
    let message = || {
        // A message of an earlier phase says what was waited for before the deletion.
        let status = vcp
            .status
            .as_ref()
            .filter(|status| status.phase == Some(Phase::Deleting));
        status
            .and_then(|status| status.message.clone())
            .filter(|message| !message.is_empty())
    };
    let finalizers = || match vcp.finalizers() {
        [] => "being removed".to_owned(),
        list => format!("waiting for {}", list.join(", ")),
    };
    told.map(|condition| error::one_line(&condition.message))
        .or_else(message)
        .unwrap_or_else(finalizers)
}

fn namespaced(cluster: &Cluster, vcp: &VirtualControlPlane) -> Api<VirtualControlPlane> {
    Api::namespaced(cluster.client.clone(), &vcp.namespace().unwrap_or_default())
}

fn said(names: &[String], what: &str) -> Result<()> {
    names.iter().try_for_each(|name| {
        output::print_line(&format!("virtualcontrolplane.sublet.dev/{name} {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn vcp(status: serde_json::Value) -> VirtualControlPlane {
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "finalizers": ["sublet.dev/tenant"]}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_holder_is_named() {
        assert_eq!(holds_up(&vcp(json!({}))), "waiting for sublet.dev/tenant");
        assert_eq!(
            holds_up(&vcp(
                json!({"phase": "Deleting", "message": "2 namespaces are left"})
            )),
            "2 namespaces are left"
        );
        assert_eq!(
            holds_up(&vcp(json!({"phase": "Ready", "message": "x"}))),
            "waiting for sublet.dev/tenant"
        );
        let condition = json!([{"type": "Deleting", "status": "True", "reason": "R", "message": "pod web\nhas a finalizer",
                                "lastTransitionTime": "2025-01-01T00:00:00Z"}]);
        assert_eq!(
            holds_up(&vcp(json!({"message": "x", "conditions": condition}))),
            "pod web has a finalizer"
        );
    }

    #[test]
    fn a_pause_is_named_with_what_unsets_it() {
        let told = |vcp: &VirtualControlPlane| {
            is_paused(vcp, |namespace, rest| {
                format!("sublet {rest} -n {namespace}")
            })
        };
        let mut vcp = vcp(json!({}));
        assert_eq!(told(&vcp), None);
        vcp.spec.paused = true;
        vcp.metadata.namespace = Some("teams".into());
        let told = told(&vcp).unwrap();
        assert!(told.contains("`sublet resume a -n teams`"), "{told}");
    }

    #[tokio::test]
    async fn without_a_terminal_yes_is_needed() {
        let two = [vcp(json!({})), vcp(json!({}))];
        let err = confirm(&two, "default", false).await.unwrap_err();
        let err = err.to_string();
        assert!(
            err.contains("tenants a, a") && err.ends_with("add --yes"),
            "{err}"
        );
        assert!(confirm(&two[..1], "default", true).await.is_ok());
    }

    #[test]
    fn an_attached_tenants_own_data_are_not_said_to_go() {
        let own = vcp(json!({}));
        let mut attached = vcp(json!({}));
        attached.metadata.name = Some("b".into());
        attached.spec.external =
            serde_json::from_value(json!({"kubeconfigSecretRef": {"name": "b"}})).unwrap();
        let told = question(&[attached.clone()], "teams");
        assert_eq!(
            told,
            "This ends the tenant b of namespace teams: what it runs in the super cluster is deleted; its own API server \
             and its data stay."
        );
        let told = question(&[attached, own], "teams");
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(
            lines[0]
                .starts_with("This deletes the tenant a of namespace teams with its API server")
        );
        assert!(lines[1].starts_with("This ends the tenant b of namespace teams:"));
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_is_not_asked_about() {
        use clap::Parser;
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let cluster = crate::cluster::fake::answering(|path| {
            let mut vcp = vcp(json!({}));
            vcp.metadata.labels =
                Some([(api::capi::CLUSTER_NAME.to_owned(), "blue".to_owned())].into());
            path.ends_with("/virtualcontrolplanes/a")
                .then(|| json!(vcp))
        });
        let args = Cli::try_parse_from(["delete", "a"]).unwrap().args;
        let err = run(&args, &cluster).await.unwrap_err().to_string();
        assert!(err.contains("belongs to Cluster blue"), "{err}");
    }
}
