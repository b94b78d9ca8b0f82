//! `sublet breaker`: what deletions are held for a tenant, why, and letting go of them.

use crate::{
    age,
    ask::{self, Answer},
    cluster::Cluster,
    condition, error, output,
    progress::Progress,
    tenant, watch,
};
use anyhow::Result;
use api::{Condition, VirtualControlPlane, keys};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{fmt::Write, time::Duration};

/// The condition that says that deletions are held.
const HELD: &str = "DeletionsHeld";

/// What to do with a tenant's breaker.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say whether deletions are held for a tenant, and why
    #[command(after_help = "Examples:\n  sublet breaker show team-a")]
    Show(Show),
    /// Let go of the deletions that are held: what the tenant lacks is deleted in the super cluster
    #[command(
        after_help = "Examples:\n  sublet breaker release team-a        says what is held, and asks\n  \
                      sublet breaker release team-a --yes"
    )]
    Release(Release),
}

/// Flags of `sublet breaker show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Name of the tenant
    name: String,
}

/// Flags of `sublet breaker release`.
#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    /// Name of the tenant
    name: String,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// How long to wait until the syncer has taken it up
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = age::parse)]
    timeout: Duration,
}

/// Runs one of them.
pub(crate) async fn run(command: &Command, cluster: &Cluster) -> Result<()> {
    match command {
        Command::Show(args) => {
            let vcp = tenant::find(cluster, &args.name).await?;
            output::print(&page(
                &vcp,
                &cluster.hint(&format!("breaker release {}", args.name)),
            ))
        }
        Command::Release(args) => release(args, cluster).await,
    }
}

async fn release(args: &Release, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    let Some(held) = held(&vcp) else {
        return output::print_line(&format!("nothing is held for {}", args.name));
    };
    let question = format!(
        "Deletions are held for {}: {}.\nLetting go deletes in the super cluster all that the tenant lacks now, running \
         pods included.",
        args.name, held.message
    );
    ask::confirm(&question, Answer::Word(&args.name), args.yes)?;
    let api: Api<VirtualControlPlane> = tenant::api(cluster);
    // Any new text is a new wish.
    let patch = json!({"metadata": {
        "uid": vcp.metadata.uid,
        "annotations": {keys::RELEASE: Timestamp::now().to_string()},
    }});
    api.patch(&args.name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let mut progress = Progress::start("waiting for the syncer to take it up");
    let follow = watch::follow(cluster, &vcp, &mut progress, |now, _| {
        Ok(self::held(&now).is_none().then_some(()))
    });
    match tokio::time::timeout(args.timeout, follow).await {
        Ok(ended) => {
            ended?;
            output::print_line(&format!("{}: deletions are carried out again", args.name))
        }
        Err(_) => Err(error::fail(format!(
            "the syncer still holds deletions after {}: see `{}`; does the syncer run?",
            age::elapsed(args.timeout),
            cluster.hint(&format!("breaker show {}", args.name))
        ))),
    }
}

/// The condition, while deletions are held.
fn held(vcp: &VirtualControlPlane) -> Option<&Condition> {
    condition::find(vcp, HELD).filter(|condition| condition.status == "True")
}

/// What `show` prints.
fn page(vcp: &VirtualControlPlane, release: &str) -> String {
    let name = vcp.name_any();
    let Some(held) = held(vcp) else {
        return match condition::find(vcp, HELD) {
            Some(_) => format!("{name}: nothing is held; deletions are carried out\n"),
            None => format!("{name}: not known yet; the syncer hasn't said\n"),
        };
    };
    let mut text = format!(
        "{name}: deletions are held since {}\n",
        held.last_transition_time
    );
    let _ = writeln!(text, "Reason:  {}", held.reason);
    for why in held.message.split("; ") {
        let _ = writeln!(text, "         {why}");
    }
    let _ = write!(
        text,
        "\nNothing that the tenant lacks is deleted; creates, updates and status go on. Bring back what is missing in the \
         tenant, and this ends by itself where it can; or, if it is meant to be gone:\n  {release}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{VirtualControlPlaneSpec, VirtualControlPlaneStatus};
    use expect_test::expect;

    fn vcp(status: &str) -> VirtualControlPlane {
        let mut vcp = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        vcp.status = Some(VirtualControlPlaneStatus {
            conditions: vec![Condition {
                type_: HELD.into(),
                status: status.into(),
                reason: "BreakerOpen".into(),
                message: "50 of 50 objects are missing at once in the tenant, among them Pod a/b"
                    .into(),
                last_transition_time: "2026-01-01T00:00:00Z".into(),
                ..Condition::default()
            }],
            ..VirtualControlPlaneStatus::default()
        });
        vcp
    }

    #[test]
    fn what_is_held_is_said_with_what_to_do() {
        expect![[r#"
            a: deletions are held since 2026-01-01T00:00:00Z
            Reason:  BreakerOpen
                     50 of 50 objects are missing at once in the tenant, among them Pod a/b

            Nothing that the tenant lacks is deleted; creates, updates and status go on. Bring back what is missing in the tenant, and this ends by itself where it can; or, if it is meant to be gone:
              sublet breaker release a
        "#]]
        .assert_eq(&page(&vcp("True"), "sublet breaker release a"));
    }

    #[test]
    fn nothing_held_is_said_too() {
        assert!(page(&vcp("False"), "").contains("nothing is held"));
        let new = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        assert!(page(&new, "").contains("not known yet"));
    }
}
