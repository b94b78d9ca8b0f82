//! `sublet upgrade`: another Kubernetes version for a tenant; one that is refused is put back.

use super::create::check;
use crate::{
    age,
    cluster::Cluster,
    condition::{self, State},
    error, output,
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::VirtualControlPlane;
use kube::ResourceExt;
use serde_json::json;

/// Flags of `sublet upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Kubernetes version that its class offers: at most one minor version up, and never down
    #[arg(long, value_name = "VERSION", value_parser = check::version)]
    version: String,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<10>,
}

const EXAMPLES: &str = "\
Examples:
  sublet upgrade team-a --version 1.36.3
  sublet upgrade team-a --version 1.36               the class's first 1.36 one, now and later
  sublet upgrade team-a --version 1.36.3 --no-wait
  sublet class list                                  which there are";

/// Reasons for which the manager refuses a version; what runs goes on.
const REFUSALS: [&str; 2] = ["VersionNotOffered", "VersionSkew"];

/// Asks for the version and waits until it runs.
pub(crate) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    may_change(&vcp, cluster)?;
    let mut wanted = vcp.clone();
    wanted.spec.version = Some(args.version.clone());
    check::class(cluster, &wanted).await?;
    tenant::change(cluster, &vcp, &json!({"version": args.version})).await?;
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "upgrade of {} to version {} requested",
            args.name, args.version
        ));
    }
    let mut progress = Progress::start(&format!(
        "upgrading {} to version {}",
        args.name, args.version
    ));
    let left = |_: &str| watch::goes_on(cluster, &args.name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "doesn't run it",
        left: &left,
    };
    let ended = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        let stage = stage(&now, &args.version);
        if let Stage::Under(text) = &stage {
            progress.state(text);
            return Ok(None);
        }
        Ok(Some(stage))
    });
    let ended = ended.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    match ended {
        Stage::Runs(version) => output::print_line(&format!(
            "{} runs Kubernetes {version}, after {total}",
            args.name
        )),
        Stage::Asleep => output::print_line(&format!(
            "{} sleeps, and gets version {} once it is awake",
            args.name, args.version
        )),
        Stage::Refused(why) => {
            let before = vcp.spec.version.as_deref();
            let is_ours =
                |now: &VirtualControlPlane| now.spec.version.as_ref() == Some(&args.version);
            let before = json!({"version": before});
            tenant::put_back(cluster, &vcp, is_ours, &before).await?;
            Err(error::fail(format!(
                "{} keeps the version that it runs: {why}",
                args.name
            )))
        }
        Stage::Under(text) | Stage::Stuck(text) => Err(error::fail(format!(
            "{} can't go on: {text}; see `{}`",
            args.name,
            cluster.hint(&format!("describe {}", args.name))
        ))),
    }
}

/// Says why a tenant's version isn't changed here, and where it is.
fn may_change(vcp: &VirtualControlPlane, cluster: &Cluster) -> Result<()> {
    let name = vcp.name_any();
    let why = if vcp.spec.external.is_some() {
        format!(
            "Sublet doesn't run the control plane of {name}: whoever does gives it another version"
        )
    } else if let Some(owner) = tenant::cluster_of(vcp) {
        format!(
            "the tenant {name} belongs to Cluster {owner} of Cluster API: set spec.topology.version of that, or where it \
             has no topology spec.version of its SubletControlPlane"
        )
    } else {
        return tenant::refuse_paused(cluster, vcp);
    };
    Err(error::fail(why))
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Not done; what is waited for.
    Under(String),
    /// This version runs, and all of it works.
    Runs(String),
    /// It waits until it is awake.
    Asleep,
    /// The manager won't; why.
    Refused(String),
    /// Something else is in the way.
    Stuck(String),
}

fn stage(vcp: &VirtualControlPlane, wanted: &str) -> Stage {
    if !condition::is_seen(vcp) {
        return Stage::Under(condition::UNSEEN.to_owned());
    }
    let ready = condition::find(vcp, "Ready");
    if let Some(refused) = ready.filter(|ready| REFUSALS.contains(&ready.reason.as_str())) {
        return Stage::Refused(error::one_line(&refused.message));
    }
    let status = vcp.status.as_ref();
    // `1.36` is what runs already, and what is on its way.
    let servers = status.and_then(|status| status.api_servers.as_ref());
    let is_rolled_out = servers.is_none_or(|servers| servers.rolled_out);
    let runs = status.and_then(|status| status.version.as_deref());
    let runs = runs.map(|runs| runs.trim_start_matches('v'));
    let runs = runs.filter(|runs| is_rolled_out && check::offers(runs, wanted));
    match (condition::state(vcp), runs) {
        (State::Stuck(text), _) => Stage::Stuck(text),
        (State::Asleep(_), _) => Stage::Asleep,
        (State::Waiting(text), _) => Stage::Under(condition::brief(&text)),
        (State::Working, Some(runs)) => Stage::Runs(runs.to_owned()),
        (State::Working, None) => Stage::Under(under_way(vcp)),
    }
}

/// Which versions run meanwhile.
fn under_way(vcp: &VirtualControlPlane) -> String {
    let servers = vcp
        .status
        .as_ref()
        .and_then(|status| status.api_servers.as_ref());
    let versions = servers.into_iter().flat_map(|servers| &servers.versions);
    let versions: Vec<String> = versions
        .map(|running| format!("{} of {}", running.replicas, running.version))
        .collect();
    if versions.is_empty() {
        "replacing its parts one after the other".to_owned()
    } else {
        format!("API servers: {}", versions.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vcp(seen: i64, reason: &str, status: &str, version: &str) -> VirtualControlPlane {
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": format!("{reason} it is"),
                   "lastTransitionTime": "2025-01-01T00:00:00Z", "observedGeneration": seen})
        };
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
            "metadata": {"name": "a", "generation": 4}, "spec": {"version": "1.37"},
            "status": {
                "phase": if status == "True" { "Ready" } else { "Failed" }, "observedGeneration": seen, "version": version,
                "apiServers": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "upToDateReplicas": 1,
                    "rolledOut": version == "1.37.0", "versions": [{"version": "1.36.3", "replicas": 1}, {"version": "1.37.0", "replicas": 1}]},
                "conditions": [condition("Ready", status, reason), condition("Synced", "True", "Synced"),
                    condition("DNSReady", "True", "Answers")],
            },
        }))
        .unwrap()
    }

    #[test]
    fn it_is_done_when_the_new_version_runs_and_all_works() {
        let under = |text: &str| Stage::Under(text.to_owned());
        let told = |vcp: &VirtualControlPlane| stage(vcp, "1.37");
        assert_eq!(
            told(&vcp(3, "Ready", "True", "1.36.3")),
            under("waiting for the manager to take it up")
        );
        assert_eq!(
            told(&vcp(4, "Ready", "True", "1.36.3")),
            under("API servers: 1 of 1.36.3, 1 of 1.37.0")
        );
        assert_eq!(
            told(&vcp(4, "Ready", "True", "1.37.0")),
            Stage::Runs("1.37.0".into())
        );
        // The class has another 1.36 by now.
        let patched = stage(&vcp(4, "Ready", "True", "1.36.3"), "1.36");
        assert_eq!(patched, under("API servers: 1 of 1.36.3, 1 of 1.37.0"));
    }

    #[test]
    fn a_refusal_is_told_apart_from_other_trouble() {
        assert_eq!(
            stage(&vcp(4, "VersionSkew", "False", "1.36.3"), "1.37"),
            Stage::Refused("VersionSkew it is".into())
        );
        assert_eq!(
            stage(&vcp(4, "ClassMissing", "False", "1.36.3"), "1.37"),
            Stage::Stuck("ClassMissing it is".into())
        );
        // Of the version that was asked for before.
        assert!(matches!(
            stage(&vcp(3, "VersionSkew", "False", "1.36.3"), "1.37"),
            Stage::Under(_)
        ));
    }
}
