//! Waiting for a new tenant: each change of its conditions is told, and the end says what holds it up.

use crate::{
    age,
    cluster::Cluster,
    condition::{self, State},
    error, interrupt,
    progress::Progress,
    tenant,
};
use anyhow::Result;
use api::VirtualControlPlane;
use futures::StreamExt;
use kube::{
    ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use std::{pin::pin, time::Duration};

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
        || left_behind(cluster, &name),
    )
    .await?;
    match outcome {
        Ok(ready) => ready,
        Err(_) => Err(error::fail(format!(
            "{name} doesn't work after {}: {}; {}",
            age::elapsed(limit),
            progress.last(),
            left_behind(cluster, &name)
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
    let mut stream = pin!(watch_object(tenant::api(cluster), &name).default_backoff());
    while let Some(event) = stream.next().await {
        let vcp = match event {
            Ok(Some(vcp)) if vcp.metadata.uid == made.metadata.uid => vcp,
            Ok(_) => {
                return Err(error::fail(format!(
                    "{name} was deleted while it was waited for"
                )));
            }
            Err(err) => {
                progress.state(&lost_sight(err)?);
                continue;
            }
        };
        for step in condition::done_steps(&vcp) {
            progress.done(step);
        }
        if condition::is_true(&vcp, "ControlPlaneReady") {
            api = api.or(Some(progress.elapsed()));
        }
        match condition::state(&vcp) {
            State::Working => {
                return Ok(Ready {
                    vcp,
                    api,
                    total: progress.elapsed(),
                });
            }
            State::Waiting(text) => {
                let text = condition::brief(&text);
                progress.state(&format!("{}: {text}", condition::phase_word(&vcp)));
            }
            State::Stuck(text) => {
                return Err(error::fail(format!(
                    "{name} can't go on: {text}; {}",
                    left_behind(cluster, &name)
                )));
            }
        }
    }
    Err(error::fail(format!("the watch of {name} ended")))
}

/// A missing right ends the wait; anything else may pass.
fn lost_sight(err: watcher::Error) -> Result<String> {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match err {
        InitialListFailed(err) | WatchStartFailed(err) | WatchFailed(err)
            if error::is_forbidden(&err) =>
        {
            Err(err.into())
        }
        err => Ok(format!(
            "can't see it at the moment ({}); trying again",
            error::one_line(&err.to_string())
        )),
    }
}

fn left_behind(cluster: &Cluster, name: &str) -> String {
    let wait = cluster.kubectl(
        &cluster.namespace,
        &format!("wait vcp/{name} --for=condition=Ready --timeout=5m"),
    );
    format!(
        "the tenant stays and goes on by itself; wait on with `{wait}`, look with `{}`, remove it with `{}`",
        cluster.hint(&format!("describe {name}")),
        cluster.hint(&format!("delete {name}"))
    )
}
