//! Plays scheduler and kubelet in the super cluster: binds each pod of a run, then says that it is ready.
//!
//! Each is one request, as the real ones do it; no container is started.

use crate::{
    pod,
    times::{Seen, Times},
    world::NODE,
};
use e2e::{
    kind::{POD, SECRET},
    read::{is_terminating, name, text},
    side::{PatchType, Problem, Side},
};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};

/// Requests of the player that are under way at once.
const AT_ONCE: usize = 32;

/// What goes on in the super cluster, until it is dropped.
pub(crate) struct Player {
    _tasks: JoinSet<()>,
}

impl Player {
    /// Begins, for the pods of one run.
    pub(crate) async fn start(above: &Side, run: &str, times: &Arc<Times>) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let selector = pod::selector(run);
        let path = format!(
            "{}?watch=true&timeoutSeconds=3600&labelSelector={selector}",
            POD.path("", "")
        );
        // The watch is there before the first pod is made.
        let mut events = above.watch(&path).await?.boxed();
        let (side, seen) = (above.clone(), times.clone());
        tasks.spawn(async move {
            let places = Arc::new(Semaphore::new(AT_ONCE));
            let mut deeds = JoinSet::new();
            loop {
                while let Some(event) = events.next().await {
                    if let Some(deed) = next(&event["object"], &seen) {
                        let (side, places) = (side.clone(), places.clone());
                        deeds.spawn(async move {
                            // The semaphore is never closed.
                            let _place = places.acquire_owned().await;
                            deed.carry_out(&side).await;
                        });
                    }
                    while deeds.try_join_next().is_some() {}
                }
                // An API server ends a watch that falls behind. A new one begins with all that there is.
                events = pod::watch_again(&side, &path).await;
            }
        });
        let marked = format!("{}%3D{}", api::keys::ROLE, api::keys::ROLE_TOKEN);
        let path = format!(
            "{}?watch=true&timeoutSeconds=3600&labelSelector={marked}",
            SECRET.path("", "")
        );
        let mut events = above.watch(&path).await?.boxed();
        let (side, run, seen) = (above.clone(), run.to_owned(), times.clone());
        tasks.spawn(async move {
            loop {
                while let Some(event) = events.next().await {
                    if let Some(number) = pod::number_of_owner(&event["object"], &run) {
                        seen.note(number, Seen::Token);
                    }
                }
                events = pod::watch_again(&side, &path).await;
            }
        });
        Ok(Self { _tasks: tasks })
    }
}

/// A request of the player.
struct Deed {
    verb: Verb,
    path: String,
    body: Value,
}

enum Verb {
    Bind,
    ShowReady,
}

/// Notes what a super pod shows; the answer is what happens to it next.
fn next(pod: &Value, times: &Times) -> Option<Deed> {
    let number = pod::number(pod)?;
    if is_terminating(pod) {
        return None;
    }
    let is_new = times.note(number, Seen::SuperPod);
    let path = POD.path(text(pod, "/metadata/namespace"), name(pod));
    if text(pod, "/spec/nodeName").is_empty() {
        return is_new.then(|| Deed {
            verb: Verb::Bind,
            path: path + "/binding",
            body: json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name(pod)},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }),
        });
    }
    if pod::is_ready(pod) {
        times.note(number, Seen::SuperReady);
        return None;
    }
    times.note(number, Seen::SuperBound).then(|| {
        let offset = u32::try_from(number).unwrap_or_default();
        let address = Ipv4Addr::from(0x0a80_0001 + offset).to_string();
        Deed {
            verb: Verb::ShowReady,
            path: path + "/status",
            body: json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": pod::ready_status(&address)}),
        }
    })
}

impl Deed {
    async fn carry_out(self, side: &Side) {
        let done = match self.verb {
            Verb::Bind => {
                side.request(Method::POST, &self.path, Some(self.body))
                    .await
            }
            Verb::ShowReady => side.patch(&self.path, PatchType::Merge, self.body).await,
        };
        match done {
            // A real scheduler may have been faster.
            Ok(_)
            | Err(Problem {
                code: 404 | 409, ..
            }) => {}
            Err(problem) => eprintln!("the player fails: {problem}"),
        }
    }
}
