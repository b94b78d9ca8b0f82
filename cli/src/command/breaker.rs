//! `sublet breaker`: what deletions are held for a tenant, why, and letting go of them.

use crate::{
    ask::{self, Confirmation},
    cluster::Cluster,
    condition,
    output::{self, Data},
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::{Condition, VirtualControlPlane, keys};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::fmt::Write;

/// The condition that says that deletions are held.
const HELD: &str = "DeletionsHeld";

/// Examples of both.
pub(super) const EXAMPLES: &str = "\
Examples:
  sublet breaker show team-a
  sublet breaker release team-a";

/// What to do with a tenant's breaker.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say whether deletions are held for a tenant, and why
    #[command(
        after_help = "Examples:\n  sublet breaker show team-a\n  sublet breaker show team-a -o json"
    )]
    Show(Show),
    /// Release the deletions that are held: what the tenant lacks is deleted in the super cluster
    #[command(
        after_help = "Examples:\n  sublet breaker release team-a        says what is held, and asks\n  \
                      sublet breaker release team-a --yes"
    )]
    Release(Release),
}

/// Flags of `sublet breaker show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

/// Flags of `sublet breaker release`.
#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<1>,
}

/// Runs one of them.
pub(crate) async fn run(command: &Command, cluster: &Cluster) -> Result<()> {
    match command {
        Command::Show(args) => {
            let vcp = tenant::find(cluster, &args.name).await?;
            let release = cluster.hint(&format!("breaker release {}", args.name));
            output::print(&match args.output {
                Some(format) => format.text(&data(&vcp))?,
                None => page(&vcp, &release),
            })
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
    ask::confirm(&question, Confirmation::Word(&args.name), args.yes).await?;
    let api: Api<VirtualControlPlane> = tenant::api(cluster);
    // Any new text is a new wish.
    let patch = json!({"metadata": {
        "uid": vcp.metadata.uid,
        "annotations": {keys::RELEASE: Timestamp::now().to_string()},
    }});
    api.patch(&args.name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "release of {} requested; look with `{}`",
            args.name,
            cluster.hint(&format!("breaker show {}", args.name))
        ));
    }
    let mut progress = Progress::start("waiting for the syncer to take it up");
    let left = |_: &str| {
        format!(
            "the syncer takes it up by itself, if it runs; look with `{}`",
            cluster.hint(&format!("breaker show {}", args.name))
        )
    };
    let limit = Limit {
        time: args.waiting.timeout,
        late: "still has deletions held",
        left: &left,
    };
    let let_go = watch::until(cluster, &vcp, &mut progress, limit, |now, _| {
        Ok(self::held(&now).is_none().then_some(()))
    });
    let_go.await?;
    drop(progress);
    output::print_line(&format!("{}: deletions are carried out again", args.name))
}

/// The condition, while deletions are held.
fn held(vcp: &VirtualControlPlane) -> Option<&Condition> {
    condition::find(vcp, HELD).filter(|condition| condition.status == "True")
}

/// What `show` prints for programs. `held` is null as long as the syncer hasn't said.
fn data(vcp: &VirtualControlPlane) -> serde_json::Value {
    let is_known = condition::find(vcp, HELD).is_some();
    let held = held(vcp);
    let why = held.map(|held| held.message.split("; ").collect::<Vec<_>>());
    json!({
        "held": is_known.then_some(held.is_some()),
        "since": held.map(|held| &held.last_transition_time),
        "reason": held.map(|held| &held.reason),
        "why": why.unwrap_or_default(),
    })
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
    fn programs_are_told_the_same() {
        let told = data(&vcp("True"));
        assert_eq!(
            (&told["held"], &told["reason"]),
            (&json!(true), &json!("BreakerOpen"))
        );
        assert_eq!(told["why"].as_array().map(Vec::len), Some(1), "{told}");
        assert_eq!(data(&vcp("False"))["held"], false);
        let new = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        assert_eq!(data(&new)["held"], serde_json::Value::Null);
    }

    #[test]
    fn nothing_held_is_said_too() {
        assert!(page(&vcp("False"), "").contains("nothing is held"));
        let new = VirtualControlPlane::new("a", VirtualControlPlaneSpec::default());
        assert!(page(&new, "").contains("not known yet"));
    }
}
