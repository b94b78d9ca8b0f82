//! When what was first seen.

use crate::now;
use anyhow::{Context, ensure};
use e2e::{
    side::Side,
    wait::{PODS, eventually},
};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::Instant};

/// What can be seen of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// The request that makes it is sent.
    Sent,
    /// The tenant has it.
    Pod,
    /// The super cluster has it.
    SuperPod,
    /// Its token Secret is there.
    Token,
    /// It is bound in the super cluster.
    SuperBound,
    /// It is bound in the tenant.
    Bound,
    /// It runs, says the super cluster.
    SuperRunning,
    /// It runs, says the tenant.
    Running,
}

/// Finds in an object whose it is and what it shows.
pub(crate) type Read = fn(&Value) -> Option<(String, Vec<Seen>)>;

/// First times by pod.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<Times>);

#[derive(Default)]
struct Times {
    first: Mutex<HashMap<(String, Seen), Instant>>,
}

impl Clock {
    /// Notes that something is seen now, unless it was before.
    pub(crate) fn note(&self, pod: &str, seen: Seen) {
        self.note_at(pod, seen, now());
    }

    fn note_at(&self, pod: &str, seen: Seen, at: Instant) {
        self.0
            .first
            .lock()
            .entry((pod.to_owned(), seen))
            .or_insert(at);
    }

    fn at(&self, pod: &str, seen: Seen) -> Option<Instant> {
        self.0.first.lock().get(&(pod.to_owned(), seen)).copied()
    }

    /// Watches a collection and notes what `read` finds in each object.
    pub(crate) async fn watch(
        &self,
        side: &Side,
        collection: &str,
        read: Read,
    ) -> anyhow::Result<JoinHandle<()>> {
        let events = side
            .watch(&format!("{collection}?watch=true&timeoutSeconds=3600"))
            .await?;
        let (clock, name) = (self.clone(), side.name().to_owned());
        Ok(tokio::spawn(async move {
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                let at = now();
                let Some((pod, seen)) = read(&event["object"]) else {
                    continue;
                };
                seen.into_iter()
                    .for_each(|seen| clock.note_at(&pod, seen, at));
            }
            eprintln!("a watch of {name} has ended: what comes after it isn't seen");
        }))
    }

    /// Waits until something was seen of all pods.
    pub(crate) async fn all(&self, pods: &[String], seen: Seen) -> anyhow::Result<()> {
        eventually(PODS, &format!("{seen:?} is seen of all pods"), async || {
            let missing = pods
                .iter()
                .filter(|pod| self.at(pod, seen).is_none())
                .count();
            ensure!(missing == 0, "{missing} are missing");
            Ok(())
        })
        .await
    }

    /// How long each pod took from one sight to another; 0 where the second came first.
    pub(crate) fn between(
        &self,
        pods: &[String],
        from: Seen,
        to: Seen,
    ) -> anyhow::Result<Vec<Duration>> {
        let took = |pod: &String| {
            let missing = || format!("{from:?} or {to:?} of {pod} wasn't seen");
            let (from, to) = (
                self.at(pod, from).with_context(missing)?,
                self.at(pod, to).with_context(missing)?,
            );
            Ok(to.saturating_duration_since(from))
        };
        pods.iter().map(took).collect()
    }
}
