//! Waiting for a new tenant: each change of its conditions is told, and the end says what holds it up.

use crate::{
    cluster::Cluster,
    condition::{self, State},
    error,
    progress::Progress,
    watch::{self, Limit},
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

/// Waits until `made` works, for at most `time`.
pub(super) async fn ready(
    cluster: &Cluster,
    made: &VirtualControlPlane,
    time: Duration,
) -> Result<Ready> {
    let name = made.name_any();
    let mut progress = Progress::start(&format!("creating tenant {name}"));
    let limit = Limit {
        time,
        late: "doesn't work",
        left: &|state| left_behind(cluster, &name, state),
    };
    let mut api = None;
    watch::until(cluster, made, &mut progress, limit, |vcp, progress| {
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
    })
    .await
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
