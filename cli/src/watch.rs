//! Watching one tenant while something is waited for.

use crate::{age, cluster::Cluster, error, progress::Progress};
use anyhow::Result;
use api::VirtualControlPlane;
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use std::{pin::pin, time::Duration};

/// How long is waited, and what is said when that isn't enough.
pub(crate) struct Limit<'a> {
    /// The most.
    pub(crate) time: Duration,
    /// What the tenant doesn't do then, such as `doesn't work`.
    pub(crate) late: &'a str,
    /// What there is then, and how to go on from it; of the state that was told last.
    pub(crate) left: &'a dyn Fn(&str) -> String,
}

/// What is left of most that is waited for, and how to look at it.
pub(crate) fn goes_on(cluster: &Cluster, name: &str) -> String {
    let look = cluster.hint(&format!("describe {name}"));
    format!("it goes on by itself; look with `{look}`")
}

/// How a watch ended.
#[derive(Debug)]
pub(crate) enum End<T> {
    /// `step` had what it wanted.
    Found(T),
    /// The object is gone, or another has its name now.
    Gone,
}

/// Calls `step` with every state of `vcp` until it returns something. When the time is over, Ctrl-C comes or the tenant
/// goes, the error says what is left.
pub(crate) async fn until<T>(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    progress: &mut Progress,
    limit: Limit<'_>,
    step: impl FnMut(VirtualControlPlane, &mut Progress) -> Result<Option<T>>,
) -> Result<T> {
    let Limit { time, late, left } = limit;
    let outcome = {
        let follow = tokio::time::timeout(time, follow(cluster, vcp, progress, step));
        tokio::select! {
            ended = follow => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        }
    };
    let (name, last) = (vcp.name_any(), progress.last());
    match outcome {
        Some(Ok(Ok(End::Found(found)))) => Ok(found),
        Some(Ok(Ok(End::Gone))) => Err(error::fail(format!(
            "{name} was deleted while it was waited for"
        ))),
        Some(Ok(Err(err))) => Err(err),
        Some(Err(_)) => Err(error::fail(format!(
            "{name} {late} after {}: {last}; {}",
            age::elapsed(time),
            left(last)
        ))),
        None => Err(error::interrupted(format!("interrupted: {}", left(last)))),
    }
}

/// Calls `step` with every state of `vcp` until it returns something.
///
/// A lost connection is told and waited out; a missing right ends the wait.
pub(crate) async fn follow<T>(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    progress: &mut Progress,
    mut step: impl FnMut(VirtualControlPlane, &mut Progress) -> Result<Option<T>>,
) -> Result<End<T>> {
    let namespace = vcp.namespace().unwrap_or_default();
    let api: Api<VirtualControlPlane> = Api::namespaced(cluster.watching.clone(), &namespace);
    let mut stream = pin!(watch_object(api, &vcp.name_any()).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Some(now)) if now.metadata.uid == vcp.metadata.uid => {
                if let Some(found) = step(now, progress)? {
                    return Ok(End::Found(found));
                }
            }
            Ok(_) => return Ok(End::Gone),
            Err(err) => lost(err, progress)?,
        }
    }
    Err(ended(&vcp.name_any()))
}

/// Waits until there is a tenant of that name, as [`follow`] does.
pub(crate) async fn appears(
    cluster: &Cluster,
    name: &str,
    progress: &mut Progress,
) -> Result<VirtualControlPlane> {
    let api: Api<VirtualControlPlane> =
        Api::namespaced(cluster.watching.clone(), &cluster.namespace);
    let mut stream = pin!(watch_object(api, name).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Some(vcp)) => return Ok(vcp),
            Ok(None) => {}
            Err(err) => lost(err, progress)?,
        }
    }
    Err(ended(name))
}

fn lost(err: watcher::Error, progress: &mut Progress) -> Result<()> {
    let why = lost_sight(err)?;
    progress.interlude(&format!("lost sight of it ({why}); trying again"));
    Ok(())
}

fn ended(name: &str) -> anyhow::Error {
    error::fail(format!("the watch of {name} ended"))
}

/// Why the connection is lost; a missing right comes back as an error.
pub(crate) fn lost_sight(err: watcher::Error) -> Result<String> {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match err {
        InitialListFailed(err) | WatchStartFailed(err) | WatchFailed(err) => {
            if error::is_forbidden(&err) {
                Err(err.into())
            } else {
                Ok(error::reason(&err))
            }
        }
        other => Ok(error::one_line(&other.to_string())),
    }
}
