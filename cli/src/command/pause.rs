//! `sublet pause` and `sublet resume`: nothing is changed for a tenant meanwhile; its API and its pods go on running.

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
use api::{Phase, VirtualControlPlane};
use kube::ResourceExt;
use serde_json::json;

/// Flags of `sublet pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(crate) struct Pause {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<1>,
}

const PAUSE_EXAMPLES: &str = "\
Examples:
  sublet pause team-a     nothing is changed for it until it is resumed";

/// Flags of `sublet resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(crate) struct Resume {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
}

const RESUME_EXAMPLES: &str = "\
Examples:
  sublet resume team-a            what changed meanwhile crosses now
  sublet resume team-a --no-wait";

/// Pauses a tenant.
pub(crate) async fn pause(args: &Pause, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    ask(cluster, &vcp, Wish::Pause).await?;
    let resume = cluster.hint(&format!("resume {}", args.name));
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "pause of {} requested; end it with `{resume}`",
            args.name
        ));
    }
    let state = format!("waiting for the manager to pause {}", args.name);
    let mut progress = Progress::start(&state);
    let left = |_: &str| {
        format!(
            "its spec says so, and the manager may not run: see `{}`",
            cluster.hint("doctor")
        )
    };
    let limit = Limit {
        time: args.waiting.timeout,
        late: "isn't paused",
        left: &left,
    };
    let paused = watch::until(cluster, &vcp, &mut progress, limit, |now, _| {
        Ok(is_paused(&now).then_some(()))
    });
    paused.await?;
    drop(progress);
    output::print_line(&format!(
        "{} is paused: its API and its pods go on running, and nothing is changed until `{resume}`",
        args.name
    ))
}

/// Ends a pause.
pub(crate) async fn resume(args: &Resume, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    ask(cluster, &vcp, Wish::GoOn).await?;
    if args.waiting.no_wait {
        return output::print_line(&format!("resumption of {} requested", args.name));
    }
    let mut progress = Progress::start(&format!("resuming {}", args.name));
    let left = |_: &str| watch::goes_on(cluster, &args.name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "doesn't work again",
        left: &left,
    };
    let works = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        match condition::state(&now) {
            // A pause that is still told of is an old word: nothing else is asked for any more.
            _ if now.spec.paused => Ok(None),
            // What was held is the deletion.
            _ if now.metadata.deletion_timestamp.is_some() => Ok(Some(())),
            State::Working | State::Asleep(_) => Ok(Some(())),
            State::Stuck(text) => Err(error::fail(format!(
                "{} is paused no more and can't go on: {text}",
                args.name
            ))),
            State::Waiting(text) => {
                progress.state(&condition::brief(&text));
                Ok(None)
            }
        }
    });
    works.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    output::print_line(&format!("{} goes on, after {total}", args.name))
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Pause,
    GoOn,
}

async fn ask(cluster: &Cluster, vcp: &VirtualControlPlane, wish: Wish) -> Result<()> {
    let paused = matches!(wish, Wish::Pause);
    if let Some(owner) = tenant::cluster_of(vcp) {
        let patch = format!(
            r#"patch cluster {owner} --type merge -p '{{"spec": {{"paused": {paused}}}}}'"#
        );
        let namespace = vcp.namespace().unwrap_or_default();
        return Err(error::fail(format!(
            "the tenant {} belongs to Cluster {owner} of Cluster API, which has a pause of its own: use `{}`",
            vcp.name_any(),
            cluster.kubectl(&namespace, &patch)
        )));
    }
    tenant::change(cluster, vcp, &json!({"paused": paused})).await
}

/// Whether the manager has heard of it.
fn is_paused(vcp: &VirtualControlPlane) -> bool {
    condition::phase(vcp) == Some(Phase::Paused) && condition::is_seen(vcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_once_the_manager_has_seen_it() {
        let vcp = |phase: &str, seen: i64| -> VirtualControlPlane {
            serde_json::from_value(json!({
                "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane",
                "metadata": {"name": "a", "generation": 4}, "spec": {"paused": true},
                "status": {"phase": phase, "observedGeneration": seen},
            }))
            .unwrap()
        };
        assert!(is_paused(&vcp("Paused", 4)));
        assert!(!is_paused(&vcp("Paused", 3)), "an earlier one");
        assert!(!is_paused(&vcp("Ready", 4)));
    }
}
