//! Stopping Sublet's daemons, and starting them again whatever happens in between.

use crate::{
    kind::{DEPLOYMENT, POD},
    read::{brief, label},
    side::Side,
    wait::{PODS, Stopped, eventually},
};
use anyhow::{Context, ensure};
use futures::FutureExt;
use http::Method;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, resume_unwind};
use tokio::sync::Mutex;

/// Name of the syncer's Deployment.
pub const SYNCER: &str = "sublet-syncer";
/// Name of the manager's Deployment.
pub const MANAGER: &str = "sublet-manager";

/// Tests that stop a daemon do so one at a time; all others only see it as slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A Deployment that can be scaled to nothing.
#[derive(Clone, Debug)]
pub struct Daemon<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// How many pods it has.
    pub replicas: u8,
}

impl<'a> Daemon<'a> {
    /// One of Sublet's own.
    pub fn of_sublet(name: &'a str) -> Self {
        Self {
            namespace: api::SYSTEM_NAMESPACE,
            name,
            replicas: if name == SYNCER { 2 } else { 1 },
        }
    }

    /// Scales it to nothing and waits until its pods are gone.
    pub async fn stop(&self, above: &Side) -> anyhow::Result<()> {
        self.scale(above, 0).await?;
        eventually(PODS, &format!("{} has stopped", self.name), async || {
            let pods = self.pods(above).await?;
            ensure!(
                pods.is_empty(),
                "{}",
                pods.iter().map(brief).collect::<Vec<_>>().join("; ")
            );
            Ok(())
        })
        .await
    }

    /// Scales it up again and waits until all its pods are ready.
    pub async fn start(&self, above: &Side) -> anyhow::Result<()> {
        self.scale(above, self.replicas).await?;
        eventually(PODS, &format!("{} is ready again", self.name), async || {
            let deployment = above.get(DEPLOYMENT, self.namespace, self.name).await?;
            let pods = self.pods(above).await?;
            ensure!(
                deployment["status"]["readyReplicas"] == self.replicas
                    && pods.len() == usize::from(self.replicas),
                "{}; {}",
                brief(&deployment),
                pods.iter().map(brief).collect::<Vec<_>>().join("; ")
            );
            Ok(())
        })
        .await
    }

    /// Stops it and starts another one.
    pub async fn restart(&self, above: &Side) -> anyhow::Result<()> {
        self.stop(above).await?;
        self.start(above).await
    }

    /// Ends its pods as a machine that loses power does; others come in their place by themselves.
    pub async fn kill(&self, above: &Side) -> anyhow::Result<()> {
        for pod in self.pods(above).await? {
            let path = POD.path(self.namespace, crate::read::name(&pod));
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": crate::read::uid(&pod)},
            });
            match above.request(Method::DELETE, &path, Some(options)).await {
                Err(problem) if ![404, 409].contains(&problem.code) => return Err(problem.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn scale(&self, above: &Side, replicas: u8) -> anyhow::Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        let scaled = above
            .merge(DEPLOYMENT, self.namespace, self.name, patch)
            .await;
        scaled.context("is Sublet installed in the super cluster? run `cargo xtask test`")?;
        Ok(())
    }

    async fn pods(&self, above: &Side) -> anyhow::Result<Vec<Value>> {
        let deployment = above.get(DEPLOYMENT, self.namespace, self.name).await?;
        let wanted = &deployment["spec"]["selector"]["matchLabels"];
        let wanted = wanted
            .as_object()
            .context("the Deployment selects by labels")?;
        let pods = above.list(POD, self.namespace, "").await?;
        let is_own = |pod: &Value| {
            wanted
                .iter()
                .all(|(key, value)| label(pod, key) == value.as_str())
        };
        Ok(pods.into_iter().filter(is_own).collect())
    }
}

/// Runs `body` while no other test stops a daemon.
pub async fn alone<T>(body: impl AsyncFnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let _one = ONE_AT_A_TIME.lock().await;
    body().await
}

/// Runs `body` while a daemon is stopped, and starts it again also when `body` fails.
pub async fn without<T>(
    above: &Side,
    daemon: &Daemon<'_>,
    body: impl AsyncFnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let stopped = Stopped::begin();
    let result = match daemon.stop(above).await {
        Ok(()) => AssertUnwindSafe(body()).catch_unwind().await,
        Err(err) => Ok(Err(err)),
    };
    let started = daemon.start(above).await;
    drop(stopped);
    match result {
        Ok(Ok(value)) => started.map(|()| value),
        Ok(Err(err)) => Err(err),
        Err(panic) => resume_unwind(panic),
    }
}

/// The process ID of a program on this machine, when exactly one process runs it.
pub fn process(program: &str) -> anyhow::Result<u32> {
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // The link of a process of another user, or of one that is ending, can't be read.
        let Ok(executable) = std::fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        if executable.file_name().is_some_and(|name| name == program) {
            found.push(pid);
        }
    }
    match found[..] {
        [pid] => Ok(pid),
        _ => anyhow::bail!(
            "{} processes run {program} on this machine: {found:?}",
            found.len()
        ),
    }
}
