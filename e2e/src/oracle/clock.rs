//! O5: what a tenant is shown never goes back.
//!
//! Each status that the rig's player writes carries a number that only grows; a watch on the tenant's pods sees every
//! status that the tenant is shown.

use crate::{
    kind::POD,
    read::{name, text, uid},
    side::Side,
};
use anyhow::{Context, ensure};
use futures::StreamExt;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};
use tokio::task::JoinHandle;

/// A watch at work.
pub struct Clock {
    seen: Arc<Mutex<Seen>>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    numbers: HashMap<String, u64>,
    statuses: u64,
    backwards: Vec<String>,
}

impl Clock {
    /// Watches a tenant's pods from now on.
    pub async fn start(side: &Side) -> anyhow::Result<Self> {
        let path = POD.path("", "");
        let list = side.request(Method::GET, &path, None).await?;
        let version = text(&list, "/metadata/resourceVersion").to_owned();
        let seen = Arc::<Mutex<Seen>>::default();
        let (side, told) = (side.clone(), seen.clone());
        let watching = tokio::spawn(async move {
            let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3000");
            if let Ok(events) = side.watch(&path).await {
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.next().await {
                    told.lock().look(&event["object"]);
                }
            }
        });
        Ok(Self { seen, watching })
    }

    /// How many statuses were shown; an error when one was older than the one before.
    pub fn never_went_back(&self) -> anyhow::Result<u64> {
        let seen = self.seen.lock();
        ensure!(
            seen.backwards.is_empty(),
            "status went back (O5): {}",
            seen.backwards.join("; ")
        );
        ensure!(seen.statuses > 0, "the oracle O5 saw no status at all");
        Ok(seen.statuses)
    }
}

impl Seen {
    fn look(&mut self, pod: &Value) {
        let Some(number) = pod
            .pointer("/status/containerStatuses/0/restartCount")
            .and_then(Value::as_u64)
            .context("no status yet")
            .ok()
        else {
            return;
        };
        self.statuses += 1;
        let before = self.numbers.insert(uid(pod).to_owned(), number);
        if before.is_some_and(|before| before > number) {
            self.backwards
                .push(format!("{}: {before:?} before {number}", name(pod)));
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
