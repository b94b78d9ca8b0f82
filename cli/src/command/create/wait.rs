//! Waiting for a new tenant: each change of its conditions is told, and the end says what holds it up.

use crate::{
    age,
    cluster::Cluster,
    condition::{self, State},
    error, interrupt,
    progress::Progress,
    watch::{self, End},
};
use anyhow::Result;
use api::VirtualControlPlane;
use kube::ResourceExt;
use std::time::Duration;

/// A tenant that works.
pub(super) struct Ready {
    /// As it was last seen.
    pub(super) vcp: VirtualControlPlane,
    /// Time until its API answered.
    pub(super) api: Option<Duration>,
    /// Time until it worked.
    pub(super) total: Duration,
}

/// Waits until `made` works, for at most `limit`.
pub(super) async fn ready(
    cluster: &Cluster,
    made: &VirtualControlPlane,
    limit: Duration,
) -> Result<Ready> {
    let name = made.name_any();
    let mut progress = Progress::start(&format!("tenant {name} is made"));
    let outcome = interrupt::or_ctrl_c(
        async { Ok(tokio::time::timeout(limit, follow(cluster, made, &mut progress)).await) },
        || left_behind(cluster, &name, ""),
    )
    .await?;
    match outcome {
        Ok(ready) => ready,
        Err(_) => Err(error::fail(format!(
            "{name} doesn't work after {}: {}; {}",
            age::elapsed(limit),
            progress.last(),
            left_behind(cluster, &name, progress.last())
        ))),
    }
}

async fn follow(
    cluster: &Cluster,
    made: &VirtualControlPlane,
    progress: &mut Progress,
) -> Result<Ready> {
    let name = made.name_any();
    let mut api = None;
    let end = watch::follow(cluster, made, progress, |vcp, progress| {
        for step in condition::done_steps(&vcp) {
            progress.done(step);
        }
        if condition::is_true(&vcp, "APIServerReady") {
            api = api.or(Some(progress.elapsed()));
        }
        match condition::state(&vcp) {
            State::Working => Ok(Some(Ready {
                vcp,
                api,
                total: progress.elapsed(),
            })),
            State::Waiting(text) | State::Asleep(text) => {
                let text = condition::brief(&text);
                progress.state(&format!("{}: {text}", condition::phase_word(&vcp)));
                Ok(None)
            }
            State::Stuck(text) => {
                let delete = cluster.hint(&format!("delete {name}"));
                Err(error::fail(format!(
                    "{name} can't go on: {text}; it stays as it is: remove it with `{delete}`"
                )))
            }
        }
    });
    match end.await? {
        End::Found(ready) => Ok(ready),
        End::Gone => Err(error::fail(format!(
            "{name} was deleted while it was waited for"
        ))),
    }
}

/// What there is now, and how to go on from it.
fn left_behind(cluster: &Cluster, name: &str, state: &str) -> String {
    let wait = cluster.kubectl(
        &cluster.namespace,
        &format!("wait vcp/{name} --for=condition=Ready --timeout=5m"),
    );
    let look = if state.contains(condition::UNSEEN) {
        "doctor".to_owned()
    } else {
        format!("describe {name}")
    };
    format!(
        "the tenant stays and goes on by itself; wait on with `{wait}`, look with `{}`, remove it with `{}`",
        cluster.hint(&look),
        cluster.hint(&format!("delete {name}"))
    )
}
