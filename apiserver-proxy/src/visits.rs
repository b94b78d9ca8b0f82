//! Telling the manager who was visited at the front door: a mark for each tenant in one ConfigMap, another one whenever
//! somebody came.
//!
//! Where tenants fall asleep when nobody comes, each round is told, whoever came: to be silent because nobody came isn't to be
//! silent because one can't speak. Each replica has a word of its own, since none knows who comes to another, and takes its leave
//! when it ends.
//!
//! That ConfigMap is all that the proxy may write, so the worst that a proxy in the wrong hands could tell is that tenants
//! were visited. Marks mean nothing but that they differ: no clock of another host has to agree.

use crate::index::Index;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// How long telling may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How often visits are told of tenants that are awake.
const ROUND: Duration = Duration::from_secs(30);

/// Nobody was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server doesn't take it.
    #[error(transparent)]
    Refused(#[from] kube::Error),
    /// It didn't answer.
    #[error("no answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

/// Tells of visits.
#[derive(Clone)]
pub(crate) struct Visits {
    api: Api<ConfigMap>,
    /// Of this process.
    replica: u64,
    count: Arc<AtomicU64>,
}

impl Visits {
    /// `system` is Sublet's own namespace.
    pub(crate) fn new(client: Client, system: &str) -> Self {
        Self {
            api: Api::namespaced(client, system),
            replica: rand::random(),
            count: Arc::default(),
        }
    }

    /// Tells that somebody came to these tenants.
    pub(crate) async fn tell(&self, tenants: &[&str]) -> Result<(), Error> {
        self.write(json!({"data": by(tenants, &self.mark())})).await
    }

    /// Tells that somebody came to these tenants since the last round, and to no other one.
    async fn tell_round(&self, tenants: &[&str]) -> Result<(), Error> {
        let mark = self.mark();
        let patch = json!({"metadata": self.listening(Some(&mark)), "data": by(tenants, &mark)});
        self.write(patch).await
    }

    /// Takes leave: nobody comes here any more, and these came since the last round.
    pub(crate) async fn leave(&self, index: &Index) {
        let visited = index.visited();
        if !index.has_sleepers() {
            return;
        }
        let ids: Vec<&str> = visited.iter().map(|tenant| tenant.id.as_str()).collect();
        let patch = json!({"metadata": self.listening(None), "data": by(&ids, &self.mark())});
        if let Err(error) = self.write(patch).await {
            tracing::warn!(%error, "that nobody comes here any more can't be told: tenants fall asleep later");
        }
    }

    /// The word of this process among those of all.
    fn listening(&self, mark: Option<&str>) -> Value {
        let key = format!("{}-{:016x}", api::keys::LISTENING, self.replica);
        json!({"annotations": {key: mark}})
    }

    /// Another one each time.
    fn mark(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{count}", self.replica)
    }

    async fn write(&self, patch: Value) -> Result<(), Error> {
        let patch = Patch::Merge(patch);
        let name = api::keys::VISITS;
        let parameters = PatchParams::default();
        timeout(LIMIT, self.api.patch(name, &parameters, &patch)).await??;
        Ok(())
    }

    /// Tells of tenants that are awake, and fall asleep when nobody comes, until the task is dropped.
    pub(crate) async fn keep(self, index: Arc<Index>) {
        let mut rounds = tokio::time::interval(ROUND);
        let mut failing = false;
        loop {
            rounds.tick().await;
            let visited = index.visited();
            if !index.has_sleepers() {
                continue;
            }
            let ids: Vec<&str> = visited.iter().map(|tenant| tenant.id.as_str()).collect();
            match self.tell_round(&ids).await {
                Ok(()) => failing = false,
                Err(error) => {
                    // Told in the next round, so that a tenant in use isn't put to sleep.
                    visited.iter().for_each(|tenant| tenant.visit());
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "visits at the front door can't be told");
                    }
                }
            }
        }
    }
}

/// The mark for each of these tenants.
fn by(tenants: &[&str], mark: &str) -> Map<String, Value> {
    let marks = tenants.iter();
    marks
        .map(|tenant| ((*tenant).to_owned(), json!(mark)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::index::{
        Tenant,
        tests::{PEM_AUTHORITY, route},
    };
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use std::convert::Infallible;
    use tokio::sync::{Mutex, mpsc};

    /// The visits that were told.
    pub(crate) struct ToldVisits(Mutex<mpsc::UnboundedReceiver<Vec<String>>>);

    impl ToldVisits {
        /// Whose were told next.
        pub(crate) async fn next(&self) -> Vec<String> {
            self.0.lock().await.recv().await.unwrap()
        }

        /// Whether nothing was told.
        pub(crate) fn is_silent(&self) -> bool {
            self.0.try_lock().unwrap().try_recv().is_err()
        }
    }

    /// Visits that an API server takes.
    pub(crate) fn told() -> (Visits, ToldVisits) {
        told_by(|| (Duration::ZERO, 200))
    }

    /// Visits that an API server answers after so long by this status.
    pub(crate) fn told_by(
        answer: impl Fn() -> (Duration, u16) + Clone + Send + 'static,
    ) -> (Visits, ToldVisits) {
        let (send, receive) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (send, (after, status)) = (send.clone(), answer());
            async move {
                assert_eq!(
                    request.uri().path(),
                    "/api/v1/namespaces/s/configmaps/sublet-visits"
                );
                assert_eq!(request.method(), "PATCH");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let ids = body["data"].as_object().unwrap().keys().cloned();
                let annotations = body["metadata"]["annotations"].as_object();
                let words = annotations.into_iter().flatten();
                let ours = |key: &str| key.starts_with("sublet.dev/listening-");
                let says = words.filter(|(key, _)| ours(key)).count();
                assert!(ids.len() > 0 || says == 1, "nothing is told");
                tokio::time::sleep(after).await;
                if status == 200 {
                    let _ = send.send(ids.collect());
                }
                let map = json!({"metadata": {"name": "sublet-visits"}}).to_string();
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Body::from(map.into_bytes())).unwrap())
            }
        });
        let visits = Visits::new(Client::new(service, "s"), "s");
        (visits, ToldVisits(Mutex::new(receive)))
    }

    /// Visits that an API server never answers.
    pub(crate) fn deaf() -> Visits {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        Visits::new(Client::new(service, "s"), "s")
    }

    /// The route of a tenant that is awake, and falls asleep when nobody comes.
    fn sleeper() -> ConfigMap {
        let mut map = route(1, "acme", &PEM_AUTHORITY);
        let data = map.data.as_mut().unwrap();
        data.insert(tenancy::route::SLEEP.into(), "awake".into());
        map
    }

    /// The manager takes silence for quiet only while it hears that.
    #[tokio::test(start_paused = true)]
    async fn that_nobody_came_is_told_while_there_are_some_who_would_fall_asleep() {
        let index = Arc::new(Index::default());
        let (visits, told) = told();
        let keeping = tokio::spawn(visits.keep(index.clone()));
        tokio::time::sleep(ROUND * 3).await;
        assert!(told.is_silent(), "nobody would");
        let tenant = Tenant::read(&sleeper()).unwrap();
        let name = tenancy::naming::tenant_host(&tenant.id);
        index.set_tenant(("s".into(), "route".into()), tenant);
        assert!(told.next().await.is_empty());
        assert!(told.next().await.is_empty());
        let tenant = index.tenant_by_server_name(&name).unwrap();
        tenant.visit();
        assert_eq!(told.next().await, [tenant.id.as_str()]);
        assert!(told.next().await.is_empty());
        keeping.abort();
    }

    /// Else the manager would wait for its next word, as for that of one that can't speak.
    #[tokio::test(start_paused = true)]
    async fn who_ends_takes_its_word_along_and_tells_who_came() {
        let (send, mut receive) = mpsc::unbounded_channel();
        let cluster = tower::service_fn(move |request: Request<Body>| {
            let send = send.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let _ = send.send(serde_json::from_slice::<Value>(&body).unwrap());
                let map = json!({"metadata": {"name": "sublet-visits"}}).to_string();
                let answer = Response::builder().status(200);
                Ok::<_, Infallible>(answer.body(Body::from(map.into_bytes())).unwrap())
            }
        });
        let visits = Visits::new(Client::new(cluster, "s"), "s");
        let index = Index::default();
        visits.leave(&index).await;
        let tenant = Tenant::read(&sleeper()).unwrap();
        let name = tenancy::naming::tenant_host(&tenant.id);
        index.set_tenant(("s".into(), "route".into()), tenant);
        index.tenant_by_server_name(&name).unwrap().visit();
        visits.tell_round(&[]).await.unwrap();
        visits.leave(&index).await;
        let [round, leave] = [receive.recv().await, receive.recv().await].map(Option::unwrap);
        assert!(
            receive.try_recv().is_err(),
            "nobody falls asleep by it before"
        );
        let words = |patch: &Value| {
            patch["metadata"]["annotations"]
                .as_object()
                .unwrap()
                .clone()
        };
        let (key, word) = words(&round).into_iter().next().unwrap();
        assert!(key.starts_with("sublet.dev/listening-") && word.is_string());
        let left: Vec<_> = words(&leave).into_iter().collect();
        assert_eq!(left, [(key, Value::Null)]);
        assert_eq!(leave["data"].as_object().unwrap().len(), 1, "{leave}");
    }

    #[tokio::test]
    async fn each_mark_is_another_one() {
        let (visits, told) = told();
        visits.tell(&["a", "b"]).await.unwrap();
        assert_eq!(told.next().await, ["a", "b"]);
        assert_eq!(visits.count.load(Ordering::Relaxed), 1);
        let (other, _) = self::told();
        assert_ne!(visits.replica, other.replica);
    }
}
