//! O5: what a tenant is shown never goes back, and no pod is shown what was another's.
//!
//! Each status that the rig's player writes carries a number that only grows, and names the tenant's pod for which it is; a
//! watch on the tenant's pods sees every status that the tenant is shown.

use crate::{
    kind::POD,
    read::{name, text, uid},
    rig::player::container_id,
    side::Side,
};
use anyhow::ensure;
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
    wrong: Vec<String>,
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

    /// How many statuses were shown; an error when one was older than the one before, or another pod's.
    pub fn never_went_back(&self) -> anyhow::Result<u64> {
        let seen = self.seen.lock();
        ensure!(
            seen.wrong.is_empty(),
            "status went back, or is another pod's (O5): {}",
            seen.wrong.join("; ")
        );
        ensure!(seen.statuses > 0, "the oracle O5 saw no status at all");
        Ok(seen.statuses)
    }
}

impl Seen {
    fn look(&mut self, pod: &Value) {
        let Some(status) = pod.pointer("/status/containerStatuses/0") else {
            return;
        };
        self.statuses += 1;
        let (own, shown) = (container_id(uid(pod)), text(status, "/containerID"));
        if shown != own {
            self.wrong
                .push(format!("{}: {shown} instead of {own}", name(pod)));
        }
        let number = status["restartCount"].as_u64().unwrap_or_default();
        let before = self.numbers.insert(uid(pod).to_owned(), number);
        if let Some(before) = before.filter(|before| *before > number) {
            self.wrong
                .push(format!("{}: {before} before {number}", name(pod)));
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is wrong with such statuses, one after the other: the pod, the pod for which it was written, its number.
    fn wrong(shown: &[(&str, &str, u64)]) -> Vec<String> {
        let mut seen = Seen::default();
        seen.look(
            &json!({"metadata": {"name": "web", "uid": "1"}, "status": {"phase": "Pending"}}),
        );
        for (pod, of, number) in shown {
            let container = json!({"containerID": container_id(of), "restartCount": number});
            seen.look(&json!({
                "metadata": {"name": "web", "uid": pod}, "status": {"containerStatuses": [container]},
            }));
        }
        assert_eq!(seen.statuses, shown.len() as u64);
        seen.wrong
    }

    #[test]
    fn an_older_status_and_the_first_of_another_pod_are_found_out() {
        assert!(wrong(&[("1", "1", 3), ("1", "1", 3), ("1", "1", 5), ("2", "2", 4)]).is_empty());
        assert_eq!(wrong(&[("1", "1", 3), ("1", "1", 2)]), ["web: 3 before 2"]);
        let first = wrong(&[("1", "1", 3), ("2", "1", 4)]);
        assert_eq!(first, ["web: rig://1 instead of rig://2"]);
    }
}
