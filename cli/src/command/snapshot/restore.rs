//! `sublet snapshot restore`: sets a tenant's etcd back, and says how far that is.
//!
//! The command writes the wish into `spec.restore`; the manager does the rest, and undoes it when it doesn't go.

use super::{all, cannot, unknown};
use crate::{
    age,
    ask::{self, Confirmation},
    cluster::Cluster,
    condition, error, output,
    progress::Progress,
    tenant,
    waiting::Waiting,
    watch::{self, Limit},
};
use anyhow::Result;
use api::{Restore, RestoreState, Restored, Snapshot, SnapshotState, VirtualControlPlane};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;

pub(super) const EXAMPLES: &str = "\
Examples:
  sublet snapshot restore team-a before-upgrade        asks
  sublet snapshot restore team-a before-upgrade --yes";

/// Flags of `sublet snapshot restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the tenant
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Name of the snapshot
    snapshot: String,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting<15>,
}

/// Restores it.
pub(super) async fn run(args: &Args, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    tenant::refuse_paused(cluster, &vcp)?;
    let Args { name, snapshot, .. } = args;
    if let Some(why) = cannot(&vcp) {
        return Err(error::fail(format!("{name} can't be restored: {why}")));
    }
    let found = complete(all(&vcp), snapshot);
    let found = found.map_err(|why| why.unwrap_or_else(|| unknown(name, snapshot, all(&vcp))));
    let found = found.map_err(error::fail)?;
    if let Some(busy) = under_way(&vcp) {
        return Err(error::fail(format!(
            "the snapshot {} of {name} is being restored: {}; look with `{}`",
            busy.snapshot,
            busy.message,
            cluster.hint(&format!("describe {name}"))
        )));
    }
    let question = question(name, found, Timestamp::now());
    ask::confirm(&question, Confirmation::Word(name), args.yes).await?;
    let wish = Restore {
        snapshot: snapshot.clone(),
        request: Timestamp::now().strftime("%Y%m%d-%H%M%S-%3f").to_string(),
    };
    let patch = json!({"metadata": {"uid": vcp.metadata.uid}, "spec": {"restore": wish}});
    tenant::api(cluster)
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let look = cluster.hint(&format!("describe {name}"));
    if args.waiting.no_wait {
        return output::print_line(&format!(
            "restore of {snapshot} requested; look with `{look}`"
        ));
    }
    let mut progress = Progress::start(&format!("restoring {name}"));
    let left = |_: &str| watch::goes_on(cluster, name);
    let limit = Limit {
        time: args.waiting.timeout,
        late: "isn't restored",
        left: &left,
    };
    let restored = watch::until(cluster, &vcp, &mut progress, limit, |now, progress| {
        let Some(told) = told(&now, &wish) else {
            return Ok(None);
        };
        match told.state {
            RestoreState::Complete => Ok(Some(())),
            RestoreState::Failed => Err(error::fail(format!(
                "{name} isn't restored: {}; look with `{look}`",
                told.message
            ))),
            _ => {
                let waits =
                    condition::blocker(&now).filter(|_| told.state == RestoreState::Starting);
                progress.state(&waits.map_or_else(
                    || told.message.clone(),
                    |waits| format!("{}: {waits}", told.message),
                ));
                Ok(None)
            }
        }
    });
    restored.await?;
    let total = age::elapsed(progress.elapsed());
    drop(progress);
    output::print_line(&format!(
        "{name} has the data of {snapshot}, after {total}; what was made since and runs still is kept: `{}` says what, `{}` lets \
         it go",
        cluster.hint(&format!("breaker show {name}")),
        cluster.hint(&format!("breaker release {name}"))
    ))
}

/// The snapshot; else why it can't be restored, if there is one.
fn complete<'a>(all: &'a [Snapshot], snapshot: &str) -> Result<&'a Snapshot, Option<String>> {
    let found = all.iter().find(|one| one.name == snapshot).ok_or(None)?;
    match found.state {
        SnapshotState::Complete => Ok(found),
        SnapshotState::Running => Err(Some(format!(
            "the snapshot {snapshot} isn't complete yet: {}",
            found.message.as_deref().unwrap_or_default()
        ))),
        SnapshotState::Failed => Err(Some(format!(
            "the snapshot {snapshot} failed, nothing is in it: choose another one"
        ))),
    }
}

/// One that goes on already.
fn under_way(vcp: &VirtualControlPlane) -> Option<&Restored> {
    let told = vcp.status.as_ref()?.restore.as_ref()?;
    let is_over = matches!(told.state, RestoreState::Complete | RestoreState::Failed);
    (!is_over).then_some(told)
}

/// Whether a snapshot is read just now, and so can't be deleted.
pub(super) fn reads(vcp: &VirtualControlPlane, snapshot: &str) -> bool {
    let is_read =
        |busy: &Restored| busy.state == RestoreState::Writing && busy.snapshot == snapshot;
    under_way(vcp).is_some_and(is_read)
}

/// What came of a wish so far.
fn told<'a>(vcp: &'a VirtualControlPlane, wish: &Restore) -> Option<&'a Restored> {
    let told = vcp.status.as_ref()?.restore.as_ref();
    told.filter(|told| (&told.snapshot, &told.request) == (&wish.snapshot, &wish.request))
}

fn question(name: &str, snapshot: &Snapshot, now: Timestamp) -> String {
    let age = snapshot.time.as_deref().map_or_else(String::new, |time| {
        format!(", {} ago", age::since_text(time, now))
    });
    format!(
        "All objects of {name} become what they were in the snapshot {}{age}; what was written since is lost. What its pods \
         store isn't touched, and what runs goes on; its API is away for a moment.",
        snapshot.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Trigger;

    fn snapshot(name: &str, state: SnapshotState) -> Snapshot {
        Snapshot {
            name: name.into(),
            time: Some("2026-01-01T00:00:00Z".into()),
            state,
            message: None,
            trigger: Trigger::Manual,
        }
    }

    fn vcp(restore: &serde_json::Value) -> VirtualControlPlane {
        serde_json::from_value(json!({
            "apiVersion": "sublet.dev/v1alpha1", "kind": "VirtualControlPlane", "metadata": {"name": "a"}, "spec": {},
            "status": {"restore": restore},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_complete_snapshot_is_restored() {
        let all = [
            snapshot("a", SnapshotState::Complete),
            snapshot("b", SnapshotState::Running),
            snapshot("c", SnapshotState::Failed),
        ];
        assert_eq!(complete(&all, "a").unwrap().name, "a");
        assert!(complete(&all, "b").unwrap_err().unwrap().contains("yet"));
        assert!(complete(&all, "c").unwrap_err().unwrap().contains("failed"));
        assert_eq!(complete(&all, "d"), Err(None));
    }

    #[test]
    fn the_question_says_what_is_lost_and_how_old_the_snapshot_is() {
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        let text = question("team-a", &snapshot("a", SnapshotState::Complete), now);
        assert!(text.contains("snapshot a, 120m ago"), "{text}");
        assert!(text.contains("is lost"));
    }

    #[test]
    fn what_came_of_another_wish_says_nothing_of_this_one() {
        let wish = |request: &str| Restore {
            snapshot: "a".into(),
            request: request.into(),
        };
        let time = "2026-01-01T00:00:00Z";
        let told_of = |state: &str| {
            let restore = json!({"snapshot": "a", "request": "1", "state": state, "message": "m", "time": time});
            vcp(&restore)
        };
        let failed = told_of("Failed");
        assert!(told(&failed, &wish("1")).is_some());
        assert!(told(&failed, &wish("2")).is_none());
        assert!(under_way(&failed).is_none());
        assert_eq!(under_way(&told_of("Writing")).unwrap().message, "m");
        assert!(reads(&told_of("Writing"), "a") && !reads(&told_of("Writing"), "b"));
        assert!(!reads(&told_of("Starting"), "a"), "it was read");
    }
}
